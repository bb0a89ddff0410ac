//! The border to the kernel: loads the kernel half, opens perf events, and decodes what comes out.
//!
//! In: a [`Config`]. Out: records of the BPF ring ([`ring`]), side-band rings of perf
//! ([`events`]), counters, and [`memory::Memory`], the region that user space fills with tables.
//!
//! The only crate that knows libbpf and perf_event_open.

pub mod events;
pub mod kernel;
pub mod ksyms;
pub mod memory;
pub mod ring;

mod map;

pub use kernel::{Config, Fallbacks, Kernel};

/// What can go wrong at the border. The text of none has its source's: whoever prints one prints the
/// chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel offers no type information.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux): hotframe needs Linux 5.15 or later built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf,
    /// libbpf refused something; `log` has the line that matters.
    #[error("{what}{}", if .log.is_empty() { String::new() } else { format!(" ({})", .log) })]
    Bpf {
        /// What was being done.
        what: &'static str,
        /// libbpf's word.
        #[source]
        cause: libbpf_rs::Error,
        /// The last telling line of libbpf's log.
        log: String,
    },
    /// The object lacks a part: cannot happen in a binary that was built whole.
    #[error("the BPF object has no {0}")]
    Missing(&'static str),
    /// A map of a filter is full.
    #[error("the filter holds {max} {what}, and there are more")]
    FilterFull {
        /// What it holds.
        what: &'static str,
        /// How many.
        max: u32,
    },
    /// perf_event_open failed.
    #[error("opening a perf event on CPU {cpu}")]
    PerfOpen {
        /// Logical CPU.
        cpu: u32,
        /// errno.
        #[source]
        cause: std::io::Error,
    },
    /// A system call failed.
    #[error("{what}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// errno.
        #[source]
        cause: std::io::Error,
    },
}

impl Error {
    pub(crate) fn os(what: &'static str) -> Error {
        Error::Os { what, cause: std::io::Error::last_os_error() }
    }

    /// With its causes, as a person reads it.
    pub fn chain(&self) -> String {
        let first: &dyn std::error::Error = self;
        let all = std::iter::successors(Some(first), |error| error.source());
        all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// The kernel said that the caller may not do this.
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Bpf { cause, .. } => cause.kind() == libbpf_rs::ErrorKind::PermissionDenied,
            Error::PerfOpen { cause, .. } | Error::Os { cause, .. } => {
                cause.kind() == std::io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}
