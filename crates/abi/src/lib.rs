//! The Rust twin of `kernel/include/hf/abi.h`: what crosses the boundary between the kernel half
//! and user space.
//!
//! `abi.rs` is generated (`make generate`) and checked for freshness (`make check`); the methods
//! here only give its constants names that read well in Rust.
#![forbid(unsafe_code)]

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
#[allow(clippy::all)]
#[rustfmt::skip]
mod abi;
pub use abi::*;
