//! speedscope's JSON: a sampled profile for each process and thread.
//!
//! Out: `profiles[]` of type `sampled`, frames shared by function, stacks outermost first. A
//! thread whose samples have times is in order of time, else heaviest first; weights are
//! nanoseconds when the period is known, else plain counts. The busiest thread comes first.
//!
//! # Sources
//! jlfwong/speedscope file-format-schema.json @ v1.25.0. Not readable: it has no modules, kinds
//! or books, and nothing that only it says.

mod write;

pub use write::write;

pub(crate) const NAME: &str = "speedscope";
