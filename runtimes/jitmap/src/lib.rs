//! Perf maps: names of generated code, by the file that a JIT leaves for perf.
//!
//! In: a pid while its process lives; later, the addresses that were sampled. Out: a name for each
//! address that an entry covers.
//!
//! # How it works
//! A JIT appends a line `START SIZE NAME` to `/tmp/perf-PID.map` for all code that it makes, in its
//! own mount and pid namespace. [`PerfMap::open`] finds that file through the process and keeps it
//! open, so that it can be read after the process ended and the file was removed. Nothing is kept of
//! its content: [`PerfMap::name`] reads it once, from beginning to end, and looks for the wanted
//! addresses only. Memory is O(addresses asked), however long the map is.
//!
//! A JIT uses addresses again. So each address comes with the length that the file had when it was
//! sampled: the last entry before that place counts, and only if there is none, the first behind it.
//!
//! # Sources
//! tools/perf/Documentation/jit-interface.txt @ v6.12 for the format; src/diagnostics/perf-jit.cc
//! @ V8 11.3 and Objects/perf_trampoline.c @ CPython 3.12 for what is written; openat2(2),
//! proc_pid_root(5), pid_namespaces(7).
//!
//! # Not handled
//! jitdump (`jit-PID.dump`), which has lines as well. Code that the JIT moved without a new entry.
//!
//! # Cost
//! Opening: six system calls. Naming 3,000 addresses from a map of 100 MB and 1.2 million lines in the
//! page cache: 0.11 s (median of five) and 2.6 MB of RSS for the whole process, on one core of a
//! 2-core VM.
#![forbid(unsafe_code)]

mod parse;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

/// Bytes of a map that are read; what lies behind is as if it were not there.
pub const MAX_BYTES: u64 = 256 << 20;
/// Longest line that is understood, and so longest name, in bytes.
pub const MAX_LINE_BYTES: usize = 4096;

/// Why a process's map cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process ended, or its `/proc` directory cannot be read.
    #[error("reading {path}")]
    Process {
        /// What was read.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// It leaves no map, or not one that we may open.
    #[error("opening {path}")]
    Open {
        /// Path as the process sees it.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// A FIFO, a device or a directory that stands where the map should.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// Path as the process sees it.
        path: PathBuf,
    },
    /// Somebody else made it: names could be anything.
    #[error("{path} belongs to user {owner}, the process to {user}")]
    ForeignOwner {
        /// Path as the process sees it.
        path: PathBuf,
        /// User id of the file.
        owner: u32,
        /// Effective user id of the process.
        user: u32,
    },
}

/// A process's map, kept open.
#[derive(Debug)]
pub struct PerfMap {
    file: File,
}

/// An address to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The address, inside of an instruction (one less than a return address).
    pub address: u64,
    /// Bytes that the map had when the address was sampled.
    pub seen_bytes: u64,
}

impl PerfMap {
    /// Opens the map of a live process, by its pid in our pid namespace.
    pub fn open(pid: u32) -> Result<PerfMap, Error> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status_path = proc.join("status");
        let status = std::fs::read_to_string(&status_path)
            .map_err(|cause| Error::Process { path: status_path.clone(), cause })?;
        let (own_pid, user) = identity(&status).ok_or_else(|| Error::Process {
            path: status_path,
            cause: io::ErrorKind::InvalidData.into(),
        })?;
        let path = PathBuf::from(format!("/tmp/perf-{own_pid}.map"));
        let root = proc.join("root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&root, flags, Mode::empty())
            .map_err(|cause| Error::Process { path: root, cause: cause.into() })?;
        // Never through a link at the end, never out of the process's root, never waiting.
        let flags =
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file: File = rustix::fs::openat2(&root, &path, flags, Mode::empty(), resolve)
            .map_err(|cause| Error::Open { path: path.clone(), cause: cause.into() })?
            .into();
        let meta = file.metadata().map_err(|cause| Error::Open { path: path.clone(), cause })?;
        if !meta.is_file() {
            return Err(Error::NotRegular { path });
        }
        if meta.uid() != user && meta.uid() != 0 {
            return Err(Error::ForeignOwner { path, owner: meta.uid(), user });
        }
        Ok(PerfMap { file })
    }

    /// Bytes that it has now.
    pub fn len_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len()).min(MAX_BYTES)
    }

    /// Names addresses. `wanted` must be sorted; a name comes at the index of its address.
    pub fn name(&self, wanted: &[Wanted]) -> io::Result<Vec<Option<String>>> {
        parse::name(&mut |buffer, offset| self.file.read_at(buffer, offset), wanted)
    }
}

/// The pid in the innermost namespace, and the effective user id, of a status file.
fn identity(status: &str) -> Option<(u32, u32)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let own_pid =
        field("NSpid:").or_else(|| field("Pid:"))?.split_ascii_whitespace().last()?.parse().ok()?;
    let user = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((own_pid, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The innermost pid and the effective user count.
    #[test]
    fn identities() {
        let status = "Name:\tx\nPid:\t900\nUid:\t1\t2\t3\t4\nNSpid:\t900\t17\t3\n";
        assert_eq!(identity(status), Some((3, 2)));
        assert_eq!(identity("Pid:\t900\nUid:\t1\t2\t3\t4\n"), Some((900, 2)));
        assert_eq!(identity("garbage"), None);
    }
}
