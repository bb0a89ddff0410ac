//! Perf maps and jitdumps: names of generated code, by the files that a JIT leaves for perf. What it
//! registers for GDB instead, in its memory, is in [`registered`].
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
//! A map may be written anew: made again as another file, or emptied and filled. What was open before is
//! still read if it is a file of its own; a text that was overwritten is lost, and what was sampled while
//! it stood has no name, nor has an address of which two texts say different things ([`Mark`] tells by
//! length, beginning and end). What a process did not leave at first is looked for again
//! ([`Sources::again`]).
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
//! A map that an earlier program of the same process left, before exec. Code that the JIT moved without
//! a new entry. Unwind information in a jitdump: generated code is walked by its frame pointers and
//! epilogues. A jitdump that its writer has not flushed (V8 keeps up to 2 MB back until it ends): what is
//! not there yet has no name. A map that is overwritten in the middle alone, or moved away under another
//! name.
//!
//! # Cost
//! Opening: some twelve system calls, and `/proc/PID/maps` is read. Naming 3,000 addresses from a
//! map of 100 MB and 1.2 million lines in the page cache: 0.11 s (median of five) and 2.6 MB of RSS
//! for the whole process, on one core of a 2-core VM.
#![forbid(unsafe_code)]

mod dump;
mod open;
mod parse;
pub mod registered;

pub use dump::DUMP_MAX_BYTES;

use open::Identity;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a map that are read; what lies behind is as if it were not there.
pub const MAP_MAX_BYTES: u64 = 256 << 20;
/// Texts of one process's map that are kept apart; of what stood between the last and the newest no
/// name is known.
pub const TEXTS_MAX: usize = 4;
/// Bytes of a line, or of a name in a dump, that are read: what is longer is cut there.
pub const LINE_MAX_BYTES: usize = 4096;

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
    #[error("opening {path}")]
    Open {
        /// Path as the process sees it.
        path: PathBuf,
        /// Cause.
        #[source]
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
    /// Which text of the process's perf map stood: it may be written anew. Of a first moment not a later
    /// one, of a last one not an earlier one.
    pub text: u32,
    /// Bytes that that text had: of a first moment not later than that, of a last one
    /// not earlier.
    pub map_bytes: u64,
}

/// How long a perf map is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MapLength {
    /// Which of its texts it is.
    pub text: u32,
    /// Which may stand by then: one more if it was removed, as another may have been made.
    pub last_text: u32,
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
    /// Of those, bytes beyond what is read at all: [`MAP_MAX_BYTES`], [`DUMP_MAX_BYTES`].
    pub beyond_bytes: u64,
    /// Addresses that were sampled while a text stood that was overwritten since.
    pub overwritten: u64,
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
        self.file.metadata().map_or(0, |meta| meta.len()).min(MAP_MAX_BYTES)
    }

    /// Names addresses. `wanted` must be sorted; a name comes at the index of its address.
    pub fn name(&self, wanted: &[Wanted], report: &mut Report) -> io::Result<Vec<Option<Named>>> {
        let found = self.find(wanted, report)?;
        Ok(found.into_iter().map(|found| found.into_named(report)).collect())
    }

    fn find(&self, wanted: &[Wanted], report: &mut Report) -> io::Result<Vec<parse::Found>> {
        let beyond_bytes = self.file.metadata()?.len().saturating_sub(MAP_MAX_BYTES);
        report.unread_bytes += beyond_bytes;
        report.beyond_bytes += beyond_bytes;
        parse::find(&mut |buffer, offset| self.file.read_at(buffer, offset), wanted, report)
    }

    /// Which file it is.
    fn identity(&self) -> Option<(u64, u64)> {
        self.file.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// No name leads to it any more: its process removed it, or made another.
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }
}

/// Bytes of a map's beginning and of its end that tell whether it is still the same.
const MARK_BYTES: usize = 256;

/// What is remembered of a map, to tell whether something was appended to it or it was written anew.
#[derive(Debug, Clone, Default)]
pub struct Mark {
    bytes: u64,
    written: (i64, i64),
    /// It may have been written again within the same step of its file system's clock.
    is_fresh: bool,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Mark {
    fn of(file: &File) -> io::Result<Mark> {
        let meta = file.metadata()?;
        let mut mark = Mark {
            bytes: meta.len(),
            written: (meta.mtime(), meta.mtime_nsec()),
            is_fresh: age_of_ns(file) < 2 * TICK_NS,
            ..Mark::default()
        };
        mark.start = part(file, 0, mark.bytes)?;
        mark.end = part(file, mark.bytes.saturating_sub(MARK_BYTES as u64), mark.bytes)?;
        Ok(mark)
    }

    /// What it remembers still stands there.
    fn stands(&self, file: &File) -> io::Result<bool> {
        let meta = file.metadata()?;
        if meta.len() < self.bytes {
            return Ok(false);
        }
        Ok(part(file, 0, self.bytes)? == self.start
            && part(file, self.bytes.saturating_sub(MARK_BYTES as u64), self.bytes)? == self.end)
    }

    fn is_of(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|meta| {
            !self.is_fresh
                && meta.len() == self.bytes
                && (meta.mtime(), meta.mtime_nsec()) == self.written
        })
    }
}

/// At most [`MARK_BYTES`] of a file from `at` on, and not beyond `end`.
fn part(file: &File, at: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(MARK_BYTES).min(MARK_BYTES)];
    let n = file.read_at(&mut bytes, at)?;
    bytes.truncate(n);
    Ok(bytes)
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

/// One text of a map, and the file that it is in.
#[derive(Debug, Clone)]
struct Text {
    map: Arc<PerfMap>,
    /// It was overwritten: what the file says now is the next text.
    is_lost: bool,
}

/// All that a process leaves.
#[derive(Debug, Clone)]
pub struct Sources {
    who: Identity,
    dump: Option<Arc<Dump>>,
    /// In the order of time, by [`Seen::text`].
    texts: Vec<Text>,
    refused: Vec<Arc<Error>>,
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
                Ok(Sources {
                    who,
                    dump: dump.map(Arc::new),
                    texts: map
                        .map(|map| Text { map: Arc::new(map), is_lost: false })
                        .into_iter()
                        .collect(),
                    refused: refused.into_iter().map(Arc::new).collect(),
                })
            }
        }
    }

    /// Something is not there, or was removed: it may come yet.
    pub fn is_incomplete(&self) -> bool {
        self.dump.is_none() || self.texts.is_empty() || self.is_map_removed()
    }

    /// The map that was there was removed: another may have been made.
    pub fn is_map_removed(&self) -> bool {
        self.current().is_some_and(|map| map.is_removed())
    }

    /// The same and what the process left since, if it did and still lives.
    pub fn again(&self, pid: u32) -> Option<Sources> {
        let who = Identity::of(pid).ok().filter(|who| who.start_ns == self.who.start_ns)?;
        let mut new = self.clone();
        let mut refused = Vec::new();
        if self.dump.is_none() {
            match Dump::of(pid, who) {
                Ok(dump) => new.dump = dump.map(Arc::new),
                Err(why) => refused.push(Arc::new(why)),
            }
        }
        match PerfMap::of(pid, who) {
            Ok(map) => {
                let last = self.texts.last().and_then(|last| last.map.identity());
                if last.is_none() || map.identity() != last {
                    new.push(Arc::new(map));
                }
            }
            Err(why) if why.is_absence() => {}
            Err(why) => refused.push(Arc::new(why)),
        }
        let has_more = new.dump.is_some() != self.dump.is_some()
            || new.current().map(Arc::as_ptr) != self.current().map(Arc::as_ptr)
            || refused.len() > self.refused.len();
        new.refused = refused;
        has_more.then_some(new)
    }

    /// The map was written anew in its file, says [`Sources::look`].
    pub fn rewritten(&self) -> Sources {
        let mut new = self.clone();
        if let Some(last) = new.texts.last_mut() {
            last.is_lost = true;
            let map = Arc::clone(&last.map);
            new.push(map);
        }
        new
    }

    fn push(&mut self, map: Arc<PerfMap>) {
        let text = Text { map, is_lost: false };
        let is_full = self.texts.len() >= TEXTS_MAX;
        match self.texts.last_mut() {
            Some(last) if is_full => *last = Text { is_lost: true, ..text },
            _ => self.texts.push(text),
        }
    }

    fn current(&self) -> Option<&Arc<PerfMap>> {
        self.texts.last().map(|text| &text.map)
    }

    /// What of it was refused.
    pub fn refused(&self) -> impl Iterator<Item = &Error> {
        self.refused.iter().map(|why| &**why)
    }

    /// Whether the newest text of the map is still the one that was marked, which is marked anew.
    pub fn look(&self, mark: &mut Mark) -> bool {
        let Some(map) = self.current().filter(|map| !mark.is_of(&map.file)) else { return true };
        let stands = mark.stands(&map.file);
        *mark = Mark::of(&map.file).unwrap_or_default();
        // What cannot be read says nothing.
        stands.unwrap_or(true)
    }

    /// How long the map is, and when that was.
    pub fn map_length(&self) -> MapLength {
        let map = self.current();
        let (bytes, read_ns) = (map.map_or(0, |map| map.len_bytes()), now_ns());
        let age_ns = map.map_or(0, |map| age_of_ns(&map.file)).saturating_sub(TICK_NS);
        let text = self.texts.len().saturating_sub(1) as u32;
        let last_text = text + u32::from(self.is_map_removed());
        MapLength { text, last_text, bytes, read_ns, since_ns: read_ns.saturating_sub(age_ns) }
    }

    /// Names addresses, by the dump if it knows them, else by the map. `wanted` must be sorted; a
    /// name comes at the index of its address.
    pub fn name(&self, wanted: &[Wanted]) -> (Vec<Option<Named>>, Report) {
        let mut report = Report::default();
        let mut names = vec![None; wanted.len()];
        match self.dump.as_ref().map(|dump| dump.name(wanted, &mut report)) {
            Some(Ok(found)) => names = found,
            Some(Err(why)) => report.problems.push(format!("jitdump: {why}")),
            None => {}
        }
        let n_ambiguous = std::mem::take(&mut report.ambiguous);
        let mut of_texts = vec![parse::Found::default(); wanted.len()];
        let mut is_lost = vec![false; wanted.len()];
        for (number, text) in (0..).zip(&self.texts) {
            let of_text = |one: &Wanted| (one.first.text..=one.last.text).contains(&number);
            let which: Vec<usize> = (0..wanted.len()).filter(|&at| of_text(&wanted[at])).collect();
            if text.is_lost {
                which.iter().for_each(|&at| is_lost[at] = true);
                continue;
            }
            let asked: Vec<Wanted> =
                which.iter().map(|&at| within_text(wanted[at], number)).collect();
            match text.map.find(&asked, &mut report) {
                Ok(found) => {
                    which.into_iter().zip(found).for_each(|(at, one)| of_texts[at].merge(one));
                }
                Err(why) => report.problems.push(format!("perf map: {why}")),
            }
        }
        for ((name, of_map), is_lost) in names.iter_mut().zip(of_texts).zip(is_lost) {
            if is_lost {
                report.overwritten += u64::from(name.is_none());
            } else {
                let of_map = of_map.into_named(&mut report);
                *name = name.take().or(of_map);
            }
        }
        report.ambiguous = report.ambiguous.max(n_ambiguous);
        (names, report)
    }
}

/// When an address was sampled while one text stood.
fn within_text(mut wanted: Wanted, text: u32) -> Wanted {
    if wanted.first.text < text {
        wanted.first.map_bytes = 0;
    }
    if wanted.last.text > text {
        wanted.last.map_bytes = u64::MAX;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const A: &str = "1000 10 a_function\n";

    /// A map of a process that lives until this is dropped.
    struct Live {
        child: std::process::Child,
        path: PathBuf,
    }

    impl Live {
        fn new() -> Live {
            let child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
            let path = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
            Live { child, path }
        }

        fn append(&self, text: &str) {
            let file = File::options().append(true).open(&self.path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        }
    }

    impl Drop for Live {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn wanted(address: u64, texts: std::ops::RangeInclusive<u32>) -> Wanted {
        let seen = |text| Seen { text, map_bytes: u64::MAX, ..Seen::default() };
        Wanted { address, first: seen(*texts.start()), last: seen(*texts.end()) }
    }

    fn names(sources: &Sources, wanted: &[Wanted]) -> (Vec<Option<String>>, Report) {
        let (names, report) = sources.name(wanted);
        (names.into_iter().map(|one| one.map(|one| one.name)).collect(), report)
    }

    /// What is appended is the same text; what is shorter, or says something else in the same place, is
    /// another, also if it is as long or longer.
    #[test]
    fn a_text_that_is_written_anew() {
        let live = Live::new();
        std::fs::write(&live.path, A).expect("written");
        let sources = Sources::open(live.child.id()).expect("a map");
        let mut mark = Mark::default();
        assert!(sources.look(&mut mark) && sources.look(&mut mark));
        live.append(A);
        assert!(sources.look(&mut mark));
        for other in [A.replace('a', "b"), A.replace('a', "c") + A + A, String::new()] {
            std::fs::write(&live.path, other).expect("written");
            assert!(!sources.look(&mut mark));
            assert!(sources.look(&mut mark));
        }
        std::fs::write(&live.path, A.replace('a', "z")).expect("written");
        let new = sources.rewritten();
        let (found, report) =
            names(&new, &[wanted(0x1000, 0..=0), wanted(0x1001, 0..=1), wanted(0x1002, 1..=1)]);
        assert_eq!(found, [None, None, Some("z_function".into())]);
        assert_eq!((report.overwritten, report.ambiguous), (2, 0));
    }

    /// A map that is made again as another file: what the two call alike has its name, and each alone.
    #[test]
    fn a_map_that_is_made_again() {
        let live = Live::new();
        std::fs::write(&live.path, format!("{A}2000 10 same\n3000 10 early\n")).expect("written");
        let sources = Sources::open(live.child.id()).expect("a map");
        assert!(sources.again(live.child.id()).is_none());
        std::fs::remove_file(&live.path).expect("removed");
        assert!(sources.is_map_removed() && sources.again(live.child.id()).is_none());
        assert_eq!((sources.map_length().text, sources.map_length().last_text), (0, 1));
        let text = "1000 10 b\n2000 10 same\n4000 10 late\n";
        std::fs::write(&live.path, text).expect("written");
        let new = sources.again(live.child.id()).expect("another");
        assert_eq!((new.map_length().text, new.map_length().last_text), (1, 1));
        let asked = [
            wanted(0x1000, 0..=0),
            wanted(0x1001, 0..=1),
            wanted(0x1002, 1..=1),
            wanted(0x2000, 0..=1),
            wanted(0x3000, 0..=1),
            wanted(0x4000, 0..=1),
        ];
        let (found, report) = names(&new, &asked);
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        let expect =
            [Some("a_function"), None, Some("b"), Some("same"), Some("early"), Some("late")];
        assert_eq!(found, expect);
        assert_eq!((report.overwritten, report.ambiguous), (0, 1));
        // So many texts and no more: of what came between nothing is said.
        let many = (0..2 * TEXTS_MAX).fold(new, |sources, _| sources.rewritten());
        assert_eq!(many.texts.len(), TEXTS_MAX);
        assert_eq!(names(&many, &[wanted(0x1000, 3..=3)]).1.overwritten, 1);
    }
}
