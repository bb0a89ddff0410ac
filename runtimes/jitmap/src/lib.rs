//! Perf maps and jitdumps: names of generated code, by the files that a JIT leaves for perf.
//!
//! In: a pid while its process lives; later, the addresses that were sampled, and when. Out: for
//! each address that an entry covers a name, and, of a jitdump, the file and line.
//!
//! # How it works
//! A JIT appends a line `START SIZE NAME` to `/tmp/perf-PID.map` for all code that it makes, in its
//! own mount and pid namespace; or a record to a file `jit-PID.dump`, of which it maps a page
//! executable so that profilers see it. [`Sources::open`] finds both through the process and keeps
//! them open, so that they can be read after the process ended and the files were removed. Nothing
//! is kept of their content: [`Sources::name`] reads each once, from beginning to end, and looks for
//! the wanted addresses only. Memory is O(addresses asked), however long the files are.
//!
//! A JIT uses addresses again. So each address comes with the times at which it was sampled first
//! and last, and the lengths that the map had then (its lines have no times): the last entry before
//! the first sample counts, and only if there is none, the first behind it. If different code came
//! to lie there before the last sample, the address stays without a name, and is counted. Samples
//! are looked at later than they were taken: what was appended in between may be older or younger
//! than the sample, and counts as both.
//!
//! Pids are used again, and maps are left behind: one that was last written before its process
//! started is none of it.
//!
//! # Sources
//! tools/perf/Documentation/{jit-interface,jitdump-specification}.txt @ v6.12 for the formats;
//! src/diagnostics/perf-jit.cc @ V8 11.3 and Objects/perf_trampoline.c @ CPython 3.12 for what is
//! written; openat2(2), proc_pid_root(5), proc_pid_map_files(5), pid_namespaces(7).
//!
//! # Not handled
//! A map that an earlier program of the same process left, before exec. Code that the JIT moved without a new entry. Unwind information in a jitdump: generated code is
//! walked by its frame pointers. A jitdump that its writer has not flushed (V8 keeps up to 2 MB
//! back until it ends): what is not there yet has no name.
//!
//! # Cost
//! Opening: some twelve system calls, and `/proc/PID/maps` is read. Naming 3,000 addresses from a
//! map of 100 MB and 1.2 million lines in the page cache: 0.11 s (median of five) and 2.6 MB of RSS
//! for the whole process, on one core of a 2-core VM.
#![forbid(unsafe_code)]

mod dump;
mod open;
mod parse;

pub use dump::MAX_DUMP_BYTES;

use open::Identity;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Bytes of a map that are read; what lies behind is as if it were not there.
pub const MAX_BYTES: u64 = 256 << 20;
/// Longest line that is understood, and so longest name, in bytes.
pub const MAX_LINE_BYTES: usize = 4096;

/// Why a process's files cannot be used.
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
    /// It leaves no such file, or not one that we may open.
    #[error("opening {path}: {cause}")]
    Open {
        /// Path as the process sees it.
        path: PathBuf,
        /// Cause.
        cause: io::Error,
    },
    /// A FIFO, a device or a directory that stands where the file should.
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
    /// A process that had this pid before left it.
    #[error("{path} was last written before the process started")]
    Stale {
        /// Path as the process sees it.
        path: PathBuf,
    },
}

impl Error {
    /// There is just no such file of this process, or no such process any more: nobody's fault.
    pub fn is_absence(&self) -> bool {
        match self {
            Error::Process { cause, .. } | Error::Open { cause, .. } => {
                cause.kind() == io::ErrorKind::NotFound
                    || cause.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
            }
            Error::Stale { .. } => true,
            _ => false,
        }
    }
}

/// A moment of a recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Bytes that the process's perf map had: of a first moment not later than that, of a last one
    /// not earlier.
    pub map_bytes: u64,
}

/// How long a perf map is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MapLength {
    /// Its bytes.
    pub bytes: u64,
    /// It was looked at before then, CLOCK_MONOTONIC.
    pub read_ns: u64,
    /// It has been so long since then at the latest, as its file system says.
    pub since_ns: u64,
}

/// CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// Since a file was last written, by a clock that may be set; 0 if it does not say.
fn age_of_ns(file: &File) -> u64 {
    let written = file.metadata().and_then(|meta| meta.modified()).ok();
    written
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|time| {
            clock_ns(ClockId::Realtime).checked_sub(u64::try_from(time.as_nanos()).ok()?)
        })
        .unwrap_or(0)
}

/// A map that was last written this long before its process started is not of that process: more
/// than both times' steps and small corrections of the clock, less than it takes to use all pids.
const STALE_NS: u64 = 1_000_000_000;

/// How late a file's time may say that it was written (`current_time`, fs/inode.c @ v6.12: a tick).
const TICK_NS: u64 = 10_000_000;

/// An address to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The address, inside of an instruction (one less than a return address).
    pub address: u64,
    /// When it was sampled first.
    pub first: Seen,
    /// When it was sampled last.
    pub last: Seen,
}

/// What an address is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Function, as the JIT calls it.
    pub name: String,
    /// Source file.
    pub file: Option<String>,
    /// Line in it; 0: not known.
    pub line: u32,
}

/// What went wrong while naming.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines and records that say nothing that can be understood.
    pub bad_records: u64,
    /// Bytes behind the last record that could be read: not complete yet, of a bad length, or
    /// beyond what is read at all.
    pub unread_bytes: u64,
    /// Addresses at which different code lay while they were sampled.
    pub ambiguous: u64,
    /// What is wrong with a whole file.
    pub problems: Vec<String>,
}

/// A process's map, kept open.
#[derive(Debug)]
pub struct PerfMap {
    file: File,
}

impl PerfMap {
    /// Opens the map of a live process, by its pid in our pid namespace.
    pub fn open(pid: u32) -> Result<PerfMap, Error> {
        PerfMap::of(pid, Identity::of(pid)?)
    }

    fn of(pid: u32, who: Identity) -> Result<PerfMap, Error> {
        let path = PathBuf::from(format!("/tmp/perf-{}.map", who.own_pid));
        let file = open::by_path(pid, who, &path)?;
        let age_ns = clock_ns(ClockId::Boottime).saturating_sub(who.start_ns);
        if age_of_ns(&file) > age_ns.saturating_add(STALE_NS) {
            return Err(Error::Stale { path });
        }
        Ok(PerfMap { file })
    }

    /// Bytes that it has now.
    pub fn len_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len()).min(MAX_BYTES)
    }

    /// Names addresses. `wanted` must be sorted; a name comes at the index of its address.
    pub fn name(&self, wanted: &[Wanted], report: &mut Report) -> io::Result<Vec<Option<Named>>> {
        let all_bytes = self.file.metadata()?.len();
        report.unread_bytes += all_bytes.saturating_sub(MAX_BYTES);
        name_by_map(&mut |buffer, offset| self.file.read_at(buffer, offset), wanted, report)
    }
}

/// A process's jitdump, kept open.
#[derive(Debug)]
pub struct Dump {
    file: File,
    own_pid: u32,
}

impl Dump {
    /// Opens the dump that a live process has mapped; `None` if it has none.
    pub fn open(pid: u32) -> Result<Option<Dump>, Error> {
        Dump::of(pid, Identity::of(pid)?)
    }

    fn of(pid: u32, who: Identity) -> Result<Option<Dump>, Error> {
        let file = open::mapped_dump(pid, who)?;
        Ok(file.map(|file| Dump { file, own_pid: who.own_pid }))
    }

    /// As [`PerfMap::name`].
    pub fn name(&self, wanted: &[Wanted], report: &mut Report) -> io::Result<Vec<Option<Named>>> {
        let bytes = self.file.metadata()?.len();
        let read = &mut |buffer: &mut [u8], offset| self.file.read_at(buffer, offset);
        name_by_dump(read, bytes, self.own_pid, wanted, report)
    }
}

/// Names addresses by the text of a map that `read(buffer, offset)` gives; see [`PerfMap::name`].
pub fn name_by_map(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
    wanted: &[Wanted],
    report: &mut Report,
) -> io::Result<Vec<Option<Named>>> {
    parse::name(read, wanted, report)
}

/// Names addresses by a jitdump of `bytes` that `read(buffer, offset)` gives; `own_pid` is the pid
/// in the namespace of its process. See [`Dump::name`].
pub fn name_by_dump(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
    bytes: u64,
    own_pid: u32,
    wanted: &[Wanted],
    report: &mut Report,
) -> io::Result<Vec<Option<Named>>> {
    dump::name(read, bytes, own_pid, wanted, report)
}

/// All that a process leaves.
#[derive(Debug)]
pub struct Sources {
    dump: Option<Dump>,
    map: Option<PerfMap>,
    refused: Vec<Error>,
}

impl Sources {
    /// Opens what a live process leaves, by its pid in our pid namespace. An error says why there is
    /// nothing.
    pub fn open(pid: u32) -> Result<Sources, Error> {
        let who = Identity::of(pid)?;
        let mut refused = Vec::new();
        let dump = Dump::of(pid, who).unwrap_or_else(|why| {
            refused.push(why);
            None
        });
        let map = match PerfMap::of(pid, who) {
            Ok(map) => Some(map),
            Err(why) if why.is_absence() && (dump.is_some() || !refused.is_empty()) => None,
            Err(why) => {
                refused.push(why);
                None
            }
        };
        match refused.pop() {
            Some(why) if dump.is_none() && map.is_none() => Err(why),
            last => {
                refused.extend(last);
                Ok(Sources { dump, map, refused })
            }
        }
    }

    /// What of it was refused.
    pub fn refused(&self) -> &[Error] {
        &self.refused
    }

    /// Bytes that the map has now.
    pub fn map_bytes(&self) -> u64 {
        self.map.as_ref().map_or(0, PerfMap::len_bytes)
    }

    /// The same, and when that was.
    pub fn map_length(&self) -> MapLength {
        let (bytes, read_ns) = (self.map_bytes(), now_ns());
        let age_ns =
            self.map.as_ref().map_or(0, |map| age_of_ns(&map.file)).saturating_sub(TICK_NS);
        MapLength { bytes, read_ns, since_ns: read_ns.saturating_sub(age_ns) }
    }

    /// Names addresses, by the dump if it knows them, else by the map. `wanted` must be sorted; a
    /// name comes at the index of its address.
    pub fn name(&self, wanted: &[Wanted]) -> (Vec<Option<Named>>, Report) {
        let mut report = Report::default();
        let mut names = vec![None; wanted.len()];
        let by_dump = self.dump.as_ref().map(|dump| ("jitdump", dump.name(wanted, &mut report)));
        let n_ambiguous = std::mem::take(&mut report.ambiguous);
        let by_map = self.map.as_ref().map(|map| ("perf map", map.name(wanted, &mut report)));
        report.ambiguous = report.ambiguous.max(n_ambiguous);
        for (what, found) in [by_dump, by_map].into_iter().flatten() {
            match found {
                Ok(found) => {
                    for (name, found) in names.iter_mut().zip(found) {
                        *name = name.take().or(found);
                    }
                }
                Err(why) => report.problems.push(format!("{what}: {why}")),
            }
        }
        (names, report)
    }
}
