//! OTLP Profiles: one bare `ProfilesData` message, byte for byte the body of an export request.
//!
//! In and out: `opentelemetry.proto.profiles.v1development` of proto 1.10 and 1.11, whose wire
//! forms are one. Lossless: time, threads, CPUs, books and heuristic marks are kept, and what is
//! read equals what was written up to the numbering of [`canonical`](crate::canonical::canonical).
//!
//! # How it works
//! A resource for each process incarnation (as the OpenTelemetry eBPF profiler has it), with one
//! Profile: `samples/count`, period `cpu/nanoseconds`, time stamps only, a stamp repeated for a
//! sample that stands for several ticks. A profile without times (from folded or pprof) has one
//! value a Sample instead. Samples of one identity are one Sample: stack, and the attributes
//! `thread.id`, `thread.name`, `cpu.logical_number` and, for a cut stack, `hotframe.stack.cut`.
//! Strings of resources and scopes are plain, not references, as Pyroscope ignores these.
//! The books of the whole recording are an attribute of the first Profile, those of a process
//! attributes of its own.
//!
//! A Location is a frame and those inlined into it. Code without a symbol has no lines, as the
//! convention is, whenever its name is the usual `file+0xaddress`. A Mapping must carry a build
//! id: code of a file that has none is a Location without a mapping and an attribute that names
//! the file. Mapping limits are 0, unknown: addresses are ELF virtual addresses. The encoding is
//! written by hand (see `wire.rs`) and checked with PyPI's opentelemetry-proto in
//! `testing/otlp`.
//!
//! # Reading
//! Any producer's message: references in attributes are resolved, values are divided by the
//! period where they are times, Profiles that are not of samples or CPU time (off-CPU, events)
//! are left out when there is one that is. Where a resource has samples and their time, as what was
//! converted from pprof, the samples count. Any other type may be asked for by name.
//!
//! # Tried with
//! opentelemetry-proto (`testing/otlp`); Grafana Pyroscope 1.21.0: a recording posted to
//! `/v1development/profiles`, and each service's sum that its query gives back.
//!
//! # Sources
//! open-telemetry/opentelemetry-proto @ v1.11.0 profiles.proto, common.proto, resource.proto;
//! semantic-conventions @ v1.44.0 docs/general/profiles.md.
//!
//! # Not handled
//! Links to spans, original payloads, attributes of others.

mod read;
mod write;

pub use read::{read, read_value, read_within};
pub use write::{Options, write};

pub(crate) const NAME: &str = "OTLP profiles";

/// Attribute keys. `thread.id` holds the OS thread, as every profiler has it, though the
/// conventions have no key for that.
pub(crate) mod key {
    pub(crate) const PID: &str = "process.pid";
    pub(crate) const EXE: &str = "process.executable.path";
    pub(crate) const EXE_NAME: &str = "process.executable.name";
    pub(crate) const CGROUP: &str = "process.linux.cgroup";
    pub(crate) const CONTAINER: &str = "container.id";
    pub(crate) const HOST: &str = "host.name";
    pub(crate) const ARCH: &str = "host.arch";
    pub(crate) const OS: &str = "os.type";
    pub(crate) const KERNEL: &str = "os.version";
    pub(crate) const TID: &str = "thread.id";
    pub(crate) const THREAD: &str = "thread.name";
    pub(crate) const CPU: &str = "cpu.logical_number";
    pub(crate) const FRAME_TYPE: &str = "profile.frame.type";
    pub(crate) const BUILD_ID_GNU: &str = "process.executable.build_id.gnu";
    pub(crate) const BUILD_ID_GO: &str = "process.executable.build_id.go";
    pub(crate) const COMM: &str = "hotframe.process.comm";
    pub(crate) const PROCESS_SAMPLES: &str = "hotframe.process.samples";
    pub(crate) const PROCESS_WHOLE: &str = "hotframe.process.stacks_whole";
    /// Followed by the reason.
    pub(crate) const PROCESS_CUT: &str = "hotframe.process.stacks_cut.";
    pub(crate) const CUT: &str = "hotframe.stack.cut";
    pub(crate) const HEURISTIC: &str = "hotframe.frame.heuristic";
    pub(crate) const INLINED: &str = "hotframe.frame.inlined";
    pub(crate) const UNNAMED: &str = "hotframe.frame.unnamed";
    pub(crate) const FILE: &str = "hotframe.frame.executable.path";
    pub(crate) const STATS: &str = "hotframe.stats";
    pub(crate) const COMMAND: &str = "hotframe.command";
    pub(crate) const CPUS: &str = "hotframe.cpus";
}

/// `uname -m`'s words and OpenTelemetry's for the same machine.
pub(crate) const ARCHS: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// The kernel's file by pprof's and by OpenTelemetry's name.
pub(crate) const KERNEL_FILE: (&str, &str) = ("[kernel.kallsyms]", "vmlinux");
