//! The Firefox Profiler's "processed profile" JSON.
//!
//! Out: a thread for each thread under one name, with its samples in order of time, frames with
//! file, line, inline depth and module, and a category for each kind of code. A sample's weight
//! is its ticks, its CPU delta the time they stand for. A profile without times has its samples
//! one behind the other, as the viewer needs a time line.
//!
//! Written by hand as version 55 of the format, which the viewer upgrades: the crate
//! `fxprof-processed-profile` 0.8 has no source files, lines or inlined frames for resolved
//! stacks, copies every table and fills them a second time. The field names are that crate's.
//!
//! # Sources
//! mstange/samply fxprof-processed-profile @ 0.8.1; firefox-devtools/profiler
//! docs-developer/processed-profile-format.md. Breakpad ids: google/breakpad
//! src/common/linux/file_id.cc.
//!
//! # Cost
//! One thread's tables in memory at a time.

mod write;

pub use write::write;

pub(crate) const NAME: &str = "Firefox profile";
