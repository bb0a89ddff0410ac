//! Folded stacks: one line for each distinct stack, `comm;outermost;…;leaf COUNT`.
//!
//! In and out: text, COUNT in samples (ticks), comm that of the thread. Lines are sorted by bytes
//! and no two have the same stack. In names `;` becomes `:` and control characters and line
//! separators become spaces. With [`Options::annotate`], a name ends in `_[k]` for kernel code,
//! `_[i]` for an inlined function, `_[j]` for code that a JIT compiler may have made, as
//! flamegraph.pl and inferno colour them.
//!
//! # Reading
//! The first element of a line is taken as the thread's name. Time, pids, modules and lines are
//! not in the format; annotations become kinds again. Where counts
//! have fractions, as scripts that scale stacks write them, all are read in thousandths, and the profile says so.
//!
//! # Sources
//! brendangregg/FlameGraph, stackcollapse-perf.pl and flamegraph.pl @ v1.0.

mod read;
mod write;

pub(crate) use read::is_count;
pub use read::{read, read_within};
pub use write::{Options, write};

pub(crate) const NAME: &str = "folded";
