//! The text of `perf script`, as perf prints it without options or with `-F`.
//!
//! In: for each sample a head, `comm pid/tid [cpu] seconds: period event:`, of which `-F` may leave out
//! anything; then a line for each frame (its address must be there), leaf first, `address symbol+0xoffset (module)`,
//! where `(inlined)` stands for the module of inlined functions; a source line may follow each.
//! Out: time, CPU and threads are kept; a sample counts as one tick. The period is known when
//! all samples of a CPU clock say the same. Without pids a name is a process.
//!
//! # Sources
//! linux tools/perf/builtin-script.c and util/evsel_fprintf.c @ v6.12.
//!
//! # Not handled
//! Other events in the same file are counted alike; branch stacks; callchains on one line (`-G`);
//! the columns that `-F` adds (`phys_addr`, `brstack`, …).

mod read;

pub(crate) use read::is_beginning;
pub use read::{read, read_within};

pub(crate) const NAME: &str = "perf script text";
