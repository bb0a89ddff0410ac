#![forbid(unsafe_code)]
//! Every file format of a profile, written from and read into the one in-memory [`Profile`].
//!
//! In: a [`Profile`], or the bytes of a file. Out: the other one. One folder a format, with the
//! same file names in each: `write.rs` holds `write(profile, options, out)`, `read.rs` holds
//! `read(bytes)`; a format without the one or the other lacks the file. [`Format`] says which
//! format a path means and what it can do.
//!
//! # How it works
//! Writers walk the profile's tables and stream: none holds the file in memory. Readers look up
//! every index, and hand what they find to one [`Assembler`], which holds each string, function,
//! frame and stack once and enforces the [`Limits`]; an error says what is wrong and at which
//! byte or line. [`canonical()`] gives two profiles with the same content the same numbering.
//!
//! # Cost
//! Writers: time linear in samples and stack nodes. Readers: at most what [`Limits`] says.
//!
//! [`Profile`]: hotframe_core::profile::Profile

mod assemble;
mod error;
mod format;
mod gzip;
mod json;
mod limits;
mod tree;
mod wire;

pub mod canonical;
pub mod comparison;
pub mod firefox;
pub mod folded;
pub mod html;
pub mod otlp;
pub mod perfscript;
pub mod pprof;
pub mod speedscope;
pub mod svg;
pub mod synthetic;
pub mod units;

pub use assemble::{Assembler, Row};
pub use canonical::canonical;
pub use comparison::Comparison;
pub use error::{At, Error, Fault};
pub use format::{Format, Keeps};
pub use limits::Limits;
