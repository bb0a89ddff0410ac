//! HotSpot: what a busy JVM says of its own calls, against what was recorded.
//!
//! `testing/workloads/java/Truth.java` prints each call between its methods, as the VM sees it, and
//! runs. Each recorded stack must be a path of that: one neighbour that was not said fails.
//!
//! JVMs are those below /usr/lib/jvm and in `HOTFRAME_JVMS` (homes, with colons between them); the
//! classes are compiled by the `javac` of the path. `HOTFRAME_ASYNC_PROFILER` is the library of
//! another profiler, whose shares are compared. `make test-runtimes` fetches JVMs and that.

mod broken;
mod frames;
mod jvm;
mod modes;
