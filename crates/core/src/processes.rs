//! Processes: their mappings, names and incarnations, as far as `/proc/PID` has them.
//!
//! In: side-band events in order of time, and `/proc/PID/maps` of a process whose beginning was
//! not seen, read when its first sample comes. Out: for each process its executable mappings,
//! ready to become a blob.
//!
//! # How it works
//! An exec empties a process's mappings and makes them complete from then on; a fork copies the
//! parent's. A process that is never sampled costs what its events cost, and nothing is read of
//! it. A pc outside of the known mappings lets `/proc/PID/maps` be read again, at most once in a
//! time that doubles up to [`REREAD_MAX_NS`].

use crate::copied;
use crate::files::{FileId, Files, Identity, linked_path, root_device};
use crate::sideband::Event;
use crate::tables::Blob;
use hotframe_abi as abi;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufRead as _;
use std::rc::Rc;

/// First and last wait before `/proc/PID/maps` is read again for an unknown pc.
const REREAD_MIN_NS: u64 = 100_000_000;
const REREAD_MAX_NS: u64 = 25_600_000_000;
type Reread = crate::retry::Retry<REREAD_MIN_NS, REREAD_MAX_NS>;
/// First wait before text that may have been copied is compared again, and how often it is: who copies it first
/// maps the memory.
const COPIED_MIN_NS: u64 = 10_000_000;
const COPIED_TRIES: u32 = 8;
/// Such parts of a process's text that are waited for.
const COPIED_MAX: usize = 64;
/// How long the mappings of a process that ended are kept for samples still on their way.
const KEEP_EXITED_NS: u64 = 2_000_000_000;
/// Processes that ended, each forked by the next, that are gone through for one that is there.
const ANCESTORS_MAX: usize = 16;
/// Longest maps file that is read.
const MAPS_MAX_BYTES: u64 = 64 << 20;
/// Mappings kept of a process: what a blob holds.
const MAPPINGS_MAX: usize = abi::HF_MAX_MAPPINGS as usize;
/// Processes of which it is told that they map more.
const CROWDED_MAX: usize = 256;

/// One executable mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
    /// File offset of `start`.
    pub pgoff: u64,
    /// 0: anonymous.
    pub file: FileId,
}

/// A process, from one exec to the next.
#[derive(Debug, Clone)]
pub struct Process {
    /// Executable mappings, sorted.
    pub mappings: Rc<Vec<Mapping>>,
    /// They are complete: its beginning was seen, or its maps were read.
    pub is_complete: bool,
    /// The address space in the kernel half; 0: not known yet.
    pub space_id: u32,
    /// What was published last.
    pub blob: Option<Blob>,
    /// Mappings changed since.
    pub is_dirty: bool,
    /// Mappings that found no room beside those.
    pub without_room: u64,
    /// Blobs older than this may say something wrong of an address that was mapped anew.
    pub stale_before_blob: u32,
    /// Name of the main thread.
    pub comm: String,
    /// When it ended.
    pub exited_ns: Option<u64>,
    /// Number of its image: an exec makes a new one, a fork copies it. 0: its exec was not seen.
    pub(crate) image: u64,
    /// The file that was executed, as it is mapped before its loader; 0: not known.
    pub(crate) image_file: FileId,
    /// Where that was, by the process itself or by the one that it was forked from; zeros: the exec was
    /// not seen.
    pub(crate) cgroup: abi::hf_cgroup_ids,
    /// The process that forked it, if it has executed nothing since; 0: not known.
    pub(crate) parent: u32,
    reread: Reread,
    /// Text of files where anonymous code lies now: it may be, or become, a copy.
    copied: Vec<Mapping>,
    compare: crate::retry::Retry<COPIED_MIN_NS, REREAD_MAX_NS>,
    n_compared: u32,
}

impl Process {
    fn new() -> Process {
        Process {
            mappings: Rc::default(),
            is_complete: false,
            space_id: 0,
            blob: None,
            is_dirty: true,
            without_room: 0,
            stale_before_blob: 0,
            comm: String::new(),
            exited_ns: None,
            image: 0,
            image_file: 0,
            cgroup: NO_CGROUP,
            parent: 0,
            reread: Reread::NOW,
            copied: Vec::new(),
            compare: crate::retry::Retry::NOW,
            n_compared: 0,
        }
    }
}

impl Process {
    /// Text of files lies where anonymous code is now. True if there is any.
    fn may_be_copied(&mut self, text: Vec<Mapping>) -> bool {
        if text.is_empty() {
            return false;
        }
        let first = text.first().map_or(0, |text| text.start);
        let last = text.last().map_or(0, |text| text.end);
        self.copied.retain(|old| old.end <= first || last <= old.start);
        self.copied.extend(text);
        self.copied.truncate(COPIED_MAX);
        self.compare = crate::retry::Retry::NOW;
        self.n_compared = 0;
        true
    }
}

/// All processes that events or samples named.
#[derive(Debug, Default)]
pub struct Processes {
    processes: HashMap<u32, Process>,
    next_image: u64,
    /// Side-band records that were lost.
    pub lost_events: u64,
    /// Blobs of processes that ended or changed, to be freed.
    pub dropped_blobs: Vec<Blob>,
    /// Of processes whose mappings did not all fit a blob, how many did not, at most.
    crowded: BTreeMap<u32, u64>,
    /// Processes with text that may have been copied.
    copying: BTreeSet<u32>,
    sweep_at_ns: u64,
}

impl Processes {
    /// The process of a pid, if any event or sample named it.
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// The process that forked this one, if it is there and both run the same image still.
    pub(crate) fn parent(&self, pid: u32) -> Option<u32> {
        let process = self.get(pid).filter(|process| process.parent != 0)?;
        let parent = self.get(process.parent)?;
        (parent.image == process.image && parent.exited_ns.is_none()).then_some(process.parent)
    }

    /// The nearest process that this one descends from by forks alone and that is there: what it runs,
    /// and where, is the same of both.
    pub(crate) fn ancestor(&self, pid: u32) -> Option<u32> {
        let process = self.get(pid)?;
        let mut at = process.parent;
        // A pid may have become another's, so that there might be no end.
        for _ in 0..ANCESTORS_MAX {
            let ancestor = self.get(at).filter(|it| at != 0 && it.image == process.image)?;
            if ancestor.exited_ns.is_none() {
                return Some(at);
            }
            at = ancestor.parent;
        }
        None
    }

    /// A process to change; made if there is none.
    pub fn entry(&mut self, pid: u32) -> &mut Process {
        self.processes.entry(pid).or_insert_with(Process::new)
    }

    /// Number of processes known.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// None is known.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Applies an event. Returns the pid whose mappings changed, if it is worth publishing.
    pub fn apply(&mut self, time_ns: u64, event: &Event, files: &mut Files) -> Option<u32> {
        match event {
            Event::Mmap { pid, start, bytes, pgoff, build_id, inode, path } => {
                let file = if path == "[vdso]" {
                    files.intern(Identity::Vdso, path, *pid)
                } else if !is_file(path) {
                    0
                } else if !build_id.is_empty() {
                    files.intern(Identity::BuildId(build_id.clone()), path, *pid)
                } else if let Some((major, minor, inode)) = *inode {
                    files.intern(Identity::Inode(major, minor, inode), path, *pid)
                } else {
                    0
                };
                let process = self.entry(*pid);
                let mapping = Mapping {
                    start: *start,
                    end: start.saturating_add(*bytes),
                    pgoff: *pgoff,
                    file,
                };
                if mapping.file == 0 {
                    let text = files_within(&process.mappings, mapping.start, mapping.end);
                    if process.may_be_copied(text) {
                        self.copying.insert(*pid);
                    }
                }
                let process = self.entry(*pid);
                let mappings = Rc::make_mut(&mut process.mappings);
                let replaced = insert(mappings, mapping);
                process.without_room += fit(mappings, |mapping| mapping.file == 0);
                if replaced {
                    process.stale_before_blob =
                        process.blob.map_or(process.stale_before_blob, |blob| blob.id + 1);
                }
                process.is_dirty = true;
                if process.image != 0 && process.image_file == 0 {
                    process.image_file = file;
                }
                Some(*pid)
            }
            Event::Comm { pid, tid, exec, comm } => {
                if *exec {
                    let mut fresh = Process::new();
                    fresh.is_complete = true;
                    self.next_image += 1;
                    fresh.image = self.next_image;
                    let old = self.processes.insert(*pid, fresh);
                    self.dropped_blobs.extend(old.and_then(|old| old.blob));
                }
                if pid == tid {
                    self.entry(*pid).comm.clone_from(comm);
                }
                None
            }
            Event::Fork { pid, parent_pid, .. } => {
                if pid != parent_pid {
                    let mut child = self.entry(*parent_pid).clone();
                    child.parent = *parent_pid;
                    child.space_id = 0;
                    child.blob = None;
                    child.exited_ns = None;
                    let old = self.processes.insert(*pid, child);
                    self.dropped_blobs.extend(old.and_then(|old| old.blob));
                }
                None
            }
            Event::Exit { pid, tid } => {
                if pid == tid
                    && let Some(process) = self.processes.get_mut(pid)
                {
                    process.exited_ns = Some(time_ns);
                }
                None
            }
            Event::Lost { n } => {
                self.lost_events += n;
                for process in self.processes.values_mut() {
                    process.is_complete = false;
                }
                None
            }
            Event::Ksymbol { .. } => None,
        }
    }

    /// Forgets processes that ended a while ago. Looks for them a few times in that while.
    pub fn sweep(&mut self, now_ns: u64) {
        if now_ns < self.sweep_at_ns {
            return;
        }
        self.sweep_at_ns = now_ns + KEEP_EXITED_NS / 8;
        let dropped = &mut self.dropped_blobs;
        self.processes.retain(|&pid, process| {
            let ended =
                process.exited_ns.is_some_and(|at| now_ns.saturating_sub(at) > KEEP_EXITED_NS);
            // Other threads may go on after the first one ended. Of a process that was never
            // published nothing is lost: its next sample says that it is there.
            if ended
                && process.blob.is_some()
                && std::fs::exists(format!("/proc/{pid}/maps")).unwrap_or(false)
            {
                process.exited_ns = Some(now_ns);
                return true;
            }
            if ended {
                dropped.extend(process.blob.take());
            }
            !ended
        });
    }

    /// Reads `/proc/PID/maps` if the mappings may lack something: at first sight, after lost
    /// events, and, not too often, for a pc that nothing covers. True if they changed.
    pub fn refresh(&mut self, pid: u32, now_ns: u64, files: &mut Files) -> bool {
        let process = self.entry(pid);
        if process.is_complete {
            if !process.reread.is_due(now_ns) {
                return false;
            }
            process.reread.later(now_ns);
        }
        let Some(Maps { mut mappings, mut without_room, mut copied }) = read_maps(pid, files)
        else {
            return false;
        };
        without_room += give_back(&mut mappings, take_copies(pid, &mut copied, files));
        let process = self.entry(pid);
        process.copied.clear();
        if process.may_be_copied(copied) {
            self.copying.insert(pid);
        }
        let process = self.entry(pid);
        process.is_complete = true;
        process.without_room = process.without_room.max(without_room);
        if *process.mappings == mappings {
            return false;
        }
        process.reread.gained();
        process.mappings = Rc::new(mappings);
        process.is_dirty = true;
        true
    }

    /// Compares text that may have been copied to anonymous memory, if it is time to; what has been is of its file
    /// again.
    pub(crate) fn compare_copied(&mut self, pid: u32, now_ns: u64, files: &mut Files) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if process.copied.is_empty() || !process.compare.is_due(now_ns) {
            return;
        }
        process.compare.later(now_ns);
        process.n_compared += 1;
        let copies = take_copies(pid, &mut process.copied, files);
        if !copies.is_empty() {
            process.without_room += give_back(Rc::make_mut(&mut process.mappings), copies);
            process.is_dirty = true;
        }
        if process.n_compared >= COPIED_TRIES {
            process.copied.clear();
        }
    }

    /// Processes whose text it is time to compare.
    pub(crate) fn take_copied(&mut self, now_ns: u64) -> Vec<u32> {
        let processes = &self.processes;
        self.copying.retain(|pid| processes.get(pid).is_some_and(|it| !it.copied.is_empty()));
        // Of others nothing is known before a sample asks.
        let is_due = |process: &Process| process.space_id != 0 && process.compare.is_due(now_ns);
        let due = |pid: &&u32| processes.get(*pid).is_some_and(is_due);
        self.copying.iter().filter(due).copied().collect()
    }

    /// So many mappings of a process found no room in what was published of it.
    pub(crate) fn note_crowded(&mut self, pid: u32, without_room: u64) {
        if without_room == 0 {
            return;
        }
        if let Some(most) = self.crowded.get_mut(&pid) {
            *most = without_room.max(*most);
        } else if self.crowded.len() < CROWDED_MAX {
            self.crowded.insert(pid, without_room);
        }
    }

    /// What is wrong with processes, by pid.
    pub fn problems(&self) -> impl Iterator<Item = (u32, String)> {
        let text = |n| {
            format!(
                "it maps code in more than {MAPPINGS_MAX} places: {n} found no room, and stacks are cut there"
            )
        };
        self.crowded.iter().map(move |(&pid, n)| (pid, text(n)))
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.processes
            .values()
            .map(|process| {
                size_of::<(u32, Process)>()
                    + process.comm.capacity()
                    + process.copied.capacity() * size_of::<Mapping>()
                    + process.mappings.capacity() * size_of::<Mapping>()
                        / Rc::strong_count(&process.mappings)
            })
            .sum()
    }
}

/// Puts a mapping into a sorted list; what it covers is cut away. True if it covered anything that
/// said otherwise.
fn insert(mappings: &mut Vec<Mapping>, new: Mapping) -> bool {
    let first = mappings.partition_point(|old| old.end <= new.start);
    let last = mappings.partition_point(|old| old.start < new.end);
    let mut between = Vec::with_capacity(3);
    let mut replaced = false;
    for old in mappings.get(first..last).unwrap_or_default() {
        // Of anonymous memory nothing is said but that it is there: a JIT's grows all the time.
        replaced |= old.file != new.file
            || (new.file != 0
                && old.start.wrapping_sub(old.pgoff) != new.start.wrapping_sub(new.pgoff));
        if old.start < new.start {
            between.push(Mapping { end: new.start, ..old.clone() });
        }
    }
    let tail = mappings.get(first..last).and_then(<[_]>::last).filter(|old| old.end > new.end).map(
        |old| Mapping { start: new.end, pgoff: old.pgoff + (new.end - old.start), ..old.clone() },
    );
    between.push(new);
    between.extend(tail);
    mappings.splice(first..last.max(first), between);
    replaced
}

/// The text that memory holds a copy of. What is none, or not yet, stays in `copied`.
fn take_copies(pid: u32, copied: &mut Vec<Mapping>, files: &mut Files) -> Vec<Mapping> {
    if copied.is_empty() {
        return Vec::new();
    }
    let Some(memory) = Memory::open(pid) else { return Vec::new() };
    let is_copy = |text: &mut Mapping| {
        files.open(text.file, pid, text.start, text.end);
        copied::is_copy(&memory, files, text)
    };
    copied.extract_if(.., is_copy).collect()
}

/// Memory that holds a copy of text is its file's. Returns how many mappings found no room.
fn give_back(mappings: &mut Vec<Mapping>, copies: Vec<Mapping>) -> u64 {
    for copy in copies {
        insert(mappings, copy);
    }
    fit(mappings, |mapping| mapping.file == 0)
}

/// What is mapped of files between two addresses.
fn files_within(mappings: &[Mapping], start: u64, end: u64) -> Vec<Mapping> {
    let first = mappings.partition_point(|mapping| mapping.end <= start);
    let within = mappings.get(first..).unwrap_or_default().iter();
    within
        .take_while(|mapping| mapping.start < end)
        .filter(|mapping| mapping.file != 0)
        .map(|mapping| {
            let from = mapping.start.max(start);
            let pgoff = mapping.pgoff + (from - mapping.start);
            Mapping { start: from, end: mapping.end.min(end), pgoff, file: mapping.file }
        })
        .collect()
}

/// Takes away what is missed least where more is mapped than fits: anonymous memory, which has no
/// tables to walk by, the highest first, since the kernel maps downwards and new code is hot. Returns
/// how many it took.
pub(crate) fn fit<T>(mappings: &mut Vec<T>, is_anonymous: impl Fn(&T) -> bool) -> u64 {
    let n = mappings.len().saturating_sub(MAPPINGS_MAX);
    for _ in 0..n {
        let least = mappings.iter().rposition(&is_anonymous);
        mappings.remove(least.unwrap_or(mappings.len() - 1));
    }
    n as u64
}

/// A path that names a file, as opposed to `//anon`, `[heap]`, `anon_inode:…`.
fn is_file(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//anon")
        && !path.starts_with("/dev/")
        && !path.starts_with("/SYSV")
        && !path.starts_with("/anon_hugepage")
}

/// What `/proc/PID/maps` says.
struct Maps {
    /// Executable mappings, sorted.
    mappings: Vec<Mapping>,
    /// How many found no room among them.
    without_room: u64,
    /// Text of files where anonymous code lies.
    copied: Vec<Mapping>,
}

/// The executable mappings of a live process.
fn read_maps(pid: u32, files: &mut Files) -> Option<Maps> {
    let mut reader = std::io::BufReader::with_capacity(32 << 10, open_maps(pid)?);
    let root = LazyCell::new(|| root_device(pid));
    let (mut mappings, mut without_room, mut copied) = (Vec::new(), 0, Vec::new());
    let mut line = Vec::new();
    // The line of the last file whose first bytes, an ELF's header, are mapped, and what it says.
    let mut header = String::new();
    let mut of_header: Option<Mapping> = None;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line);
        let Some(mapping) = parse_maps_line(&line, pid, || *root, files) else {
            if line.contains(" 00000000 ") && line.contains('/') {
                header.clear();
                header.push_str(&line);
                of_header = None;
            }
            continue;
        };
        if mapping.file == 0 && copied.len() < COPIED_MAX {
            of_header = of_header.or_else(|| {
                let (_, of) = Executable::of_any(&header)?;
                let file = file_of(&of, pid, || *root, files);
                Some(Mapping { start: of.start, end: of.end, pgoff: of.pgoff, file })
            });
            if let Some(header) = &of_header {
                copied.extend(copied::parts(files, pid, header, mapping.start, mapping.end));
            }
        }
        // In the order of the file, so that a process of very many costs one pass.
        mappings.push(mapping);
        without_room += fit(&mut mappings, |mapping| mapping.file == 0);
    }
    (!mappings.is_empty()).then_some(Maps { mappings, without_room, copied })
}

/// An executable mapping, as a line of `/proc/PID/maps` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executable<'a> {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// Where `start` lies in the file.
    pub pgoff: u64,
    /// Device (major, minor).
    pub device: (u32, u32),
    /// 0: it is of no file.
    pub inode: u64,
    /// With ` (deleted)`, if it was; `[vdso]`, `[anon:…]` or nothing where there is no file.
    pub path: &'a str,
}

impl<'a> Executable<'a> {
    /// `start-end perms offset major:minor inode path` (Documentation/filesystems/proc.rst).
    pub fn parse(line: &'a str) -> Option<Executable<'a>> {
        Executable::of_any(line).filter(|(is_executable, _)| *is_executable).map(|(_, it)| it)
    }

    /// The same of any mapping, and whether it is executable.
    fn of_any(line: &'a str) -> Option<(bool, Executable<'a>)> {
        let line = line.trim_end_matches('\n');
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let is_executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let pgoff = fields.next()?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let inode = fields.next()?.parse().ok()?;
        let path = fields.next().unwrap_or_default().trim_start();
        let address = |text| u64::from_str_radix(text, 16).ok();
        let number = |text| u32::from_str_radix(text, 16).ok();
        let mapping = Executable {
            start: address(start)?,
            end: address(end)?,
            pgoff: address(pgoff)?,
            device: (number(major)?, number(minor)?),
            inode,
            path,
        };
        Some((is_executable, mapping))
    }

    /// What is known of its file before that is opened.
    pub fn identity(&self) -> Identity {
        Identity::Inode(self.device.0, self.device.1, self.inode)
    }
}

/// Does a process go on whose first thread ended? Others may, and one of them may have made it another
/// program: exec ends the rest and takes the first one's place.
pub fn goes_on(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| !is_over(&stat))
}

/// May it? Also one does of which nothing may be read (a /proc that hides others' processes).
pub(crate) fn may_go_on(pid: u32) -> bool {
    let there = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), None);
    there != Err(nix::errno::Errno::ESRCH)
        && !std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_over(&stat))
}

/// proc_pid_stat(5): the state is field 3, behind the name in parentheses, num_threads field 20.
fn is_over(stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let Some((_, rest)) = stat.rsplit_once(") ") else { return true };
    let n_threads = rest.split(' ').nth(20 - 3).and_then(|n| n.parse().ok()).unwrap_or(0);
    rest.starts_with(['Z', 'X']) && n_threads <= 1
}

fn open_maps(pid: u32) -> Option<std::io::Take<std::fs::File>> {
    let file = std::fs::File::open(format!("/proc/{pid}/maps")).ok()?;
    Some(std::io::Read::take(file, MAPS_MAX_BYTES))
}

/// What `/proc/PID/maps` says, up to a bound. Names are bytes: what of them is not UTF-8 is replaced.
pub fn maps_text(pid: u32) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open_maps(pid)?.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse_maps_line(
    line: &str,
    pid: u32,
    root: impl FnOnce() -> u64,
    files: &mut Files,
) -> Option<Mapping> {
    let mapping = Executable::parse(line)?;
    let Executable { start, end, pgoff, path, .. } = mapping;
    if path == "[vsyscall]" {
        return None;
    }
    Some(Mapping { start, end, pgoff, file: file_of(&mapping, pid, root, files) })
}

fn file_of(
    mapping: &Executable<'_>,
    pid: u32,
    root: impl FnOnce() -> u64,
    files: &mut Files,
) -> FileId {
    let path = mapping.path;
    if path == "[vdso]" {
        files.intern(Identity::Vdso, path, pid)
    } else if mapping.inode != 0 && is_file(path) {
        files.intern(mapping.identity().in_process(path, root), path, pid)
    } else {
        0
    }
}

/// The memory of a live process.
#[derive(Debug)]
pub struct Memory(std::fs::File);

impl Memory {
    /// Opens it (needs CAP_SYS_PTRACE for others' processes).
    pub fn open(pid: u32) -> Option<Memory> {
        std::fs::File::open(format!("/proc/{pid}/mem")).ok().map(Memory)
    }

    /// Fills `into` from `addr`; false if any byte cannot be read.
    pub fn read(&self, addr: u64, into: &mut [u8]) -> bool {
        use std::os::unix::fs::FileExt as _;
        self.0.read_exact_at(into, addr).is_ok()
    }
}

/// Where a process belongs, read once when it is first sampled; empty where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name of its main thread.
    pub comm: String,
    /// Path of its executable.
    pub exe: String,
    /// Its cgroup: the unified one, else the first with a path.
    pub cgroup: String,
}

/// [`Facts`] of a live process; what is known already is not read. Of one that is gone the program is
/// that of its ancestor ([`Processes::ancestor`]).
pub fn read_facts(
    pid: u32,
    ancestor: Option<u32>,
    comm: Option<String>,
    exe: Option<String>,
    cgroup: String,
) -> Facts {
    let read_exe = || {
        let path = [Some(pid), ancestor]
            .into_iter()
            .flatten()
            .find_map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok())
            .unwrap_or_default();
        let path = path.to_string_lossy();
        linked_path(&path).to_owned()
    };
    let read_comm = || {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end_matches('\n').to_owned()
    };
    Facts { comm: comm.unwrap_or_else(read_comm), exe: exe.unwrap_or_else(read_exe), cgroup }
}

/// No cgroup is known.
pub(crate) const NO_CGROUP: abi::hf_cgroup_ids = abi::hf_cgroup_ids { unified: 0, memory: 0 };

/// Cgroups' paths by inode, so that not each process that is executed has to be asked.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: HashMap<(u64, u64), String>,
}

/// Paths that are kept: a program that starts containers all day makes new ones.
const CGROUPS_MAX: usize = 1024;

impl Cgroups {
    /// The cgroup of a process that was forked and has executed nothing since. It began where its parent
    /// was, which may have moved since that was executed, in `ids`; so the processes are asked first.
    pub fn of_forked(
        &mut self,
        pid: u32,
        ancestor: Option<u32>,
        ids: abi::hf_cgroup_ids,
    ) -> String {
        for pid in [Some(pid), ancestor].into_iter().flatten() {
            let path = self.of(pid, NO_CGROUP);
            if !path.is_empty() {
                return path;
            }
        }
        self.by_id.get(&(ids.unified, ids.memory)).cloned().unwrap_or_default()
    }

    /// The cgroup of a process that was executed in these (zeros: not known); empty: it has ended
    /// and nobody knows.
    pub fn of(&mut self, pid: u32, ids: abi::hf_cgroup_ids) -> String {
        if let Some(path) = self.by_id.get(&(ids.unified, ids.memory)) {
            return path.clone();
        }
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return String::new();
        };
        let (controllers, path) = parse_cgroup(&text);
        // It may have moved since, or the path is that of another hierarchy.
        use std::os::unix::fs::MetadataExt as _;
        let inode = |root: &str| std::fs::metadata(format!("{root}{path}")).map(|meta| meta.ino());
        let is = |id: u64, root: &str| id != 0 && inode(root).ok() == Some(id);
        let is_still = if controllers.is_empty() {
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|root| is(ids.unified, root))
        } else {
            controllers.split(',').any(|controller| controller == "memory")
                && is(ids.memory, "/sys/fs/cgroup/memory")
        };
        if is_still {
            if self.by_id.len() >= CGROUPS_MAX {
                self.by_id.clear();
            }
            self.by_id.insert((ids.unified, ids.memory), path.to_owned());
        }
        path.to_owned()
    }
}

/// Controllers of the hierarchy whose path counts, and that; "": the unified one.
fn parse_cgroup(text: &str) -> (&str, &str) {
    let paths = || {
        text.lines().filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (path != "/").then_some((number, controllers, path))
        })
    };
    let unified = paths().find(|(number, ..)| *number == "0");
    let found = unified.or_else(|| paths().next());
    found.map_or(("", "/"), |(_, controllers, path)| (controllers, path))
}

/// A process and all that descend from it, as `/proc` shows them now.
pub fn descendants(roots: &[u32]) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (comm) state ppid …; comm may hold anything, so the last parenthesis counts.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = roots.to_vec();
    let mut at = 0;
    while at < all.len() {
        for child in children.remove(&all[at]).unwrap_or_default() {
            if !all.contains(&child) {
                all.push(child);
            }
        }
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, file: FileId) -> Mapping {
        Mapping { start, end, pgoff: 0, file }
    }

    fn check(old: &[(u64, u64, u32)], new: (u64, u64, u32), expect: &[(u64, u64, u32)]) {
        let mut mappings: Vec<Mapping> =
            old.iter().map(|&(start, end, file)| mapping(start, end, file)).collect();
        insert(&mut mappings, mapping(new.0, new.1, new.2));
        let got: Vec<_> = mappings.iter().map(|m| (m.start, m.end, m.file)).collect();
        assert_eq!(got, expect);
    }

    /// A new mapping cuts away what it covers.
    #[test]
    fn overlaps() {
        check(&[], (10, 20, 1), &[(10, 20, 1)]);
        check(&[(10, 20, 1)], (20, 30, 2), &[(10, 20, 1), (20, 30, 2)]);
        check(&[(10, 40, 1)], (20, 30, 2), &[(10, 20, 1), (20, 30, 2), (30, 40, 1)]);
        check(&[(10, 20, 1), (20, 30, 2)], (15, 25, 3), &[(10, 15, 1), (15, 25, 3), (25, 30, 2)]);
        check(&[(10, 20, 1), (30, 40, 2)], (5, 50, 3), &[(5, 50, 3)]);
    }

    /// Anonymous code over text is asked for a copy of that alone, and what lies there anew afterwards is asked anew.
    #[test]
    fn anonymous_code_over_text() {
        let text = |start, end, pgoff, file| Mapping { start, end, pgoff, file };
        let old = [text(10, 40, 100, 1), text(40, 60, 0, 0), text(60, 90, 0, 2)];
        assert_eq!(files_within(&old, 20, 70), [text(20, 40, 110, 1), text(60, 70, 0, 2)]);
        assert_eq!(files_within(&old, 45, 55), []);
        let mut process = Process::new();
        assert!(!process.may_be_copied(Vec::new()));
        assert!(process.may_be_copied(vec![text(20, 40, 110, 1), text(60, 70, 0, 2)]));
        assert!(process.may_be_copied(vec![text(30, 40, 120, 1)]));
        assert_eq!(process.copied, [text(60, 70, 0, 2), text(30, 40, 120, 1)]);
    }

    /// Of more mappings than fit, those of files stay: their stacks go on.
    #[test]
    fn more_mappings_than_fit() {
        let mut mappings = Vec::new();
        let n = abi::HF_MAX_MAPPINGS as u64;
        let mut put = |start, file| {
            insert(&mut mappings, mapping(start, start + 10, file));
            fit(&mut mappings, |mapping| mapping.file == 0)
        };
        let given_up: u64 = (0..n + 10).map(|at| put(at * 20, 0)).sum();
        assert_eq!(given_up, 10);
        assert_eq!(put(n * 40, 1) + put(n * 50, 2), 2);
        assert_eq!(mappings.len() as u64, n);
        let files: Vec<_> = mappings.iter().map(|m| m.file).filter(|&file| file != 0).collect();
        assert_eq!(files, [1, 2]);
        assert!(mappings.is_sorted_by_key(|m| m.start));
        let lowest = mappings.first().expect("one").start;
        assert_eq!(lowest, 0, "the highest anonymous ones went");
    }

    /// Lines of maps as the kernel prints them.
    #[test]
    fn maps_lines() {
        let mut files = Files::default();
        let line = "7f0000001000-7f0000002000 r-xp 00001000 fe:00 1234   /usr/lib/a b.so\n";
        let mapping = parse_maps_line(line, 1, || 0, &mut files).expect("an executable mapping");
        assert_eq!((mapping.start, mapping.pgoff), (0x7f00_0000_1000, 0x1000));
        assert_eq!(files.get(mapping.file).expect("a file").path, "/usr/lib/a b.so");
        assert_eq!(parse_maps_line("00-10 rw-p 0 00:00 0 \n", 1, || 0, &mut files), None);
        let anon = parse_maps_line("1000-2000 rwxp 00000000 00:00 0 \n", 1, || 0, &mut files);
        assert_eq!(anon.expect("executable").file, 0);
        assert_eq!(parse_maps_line("garbage", 1, || 0, &mut files), None);
    }

    /// The path of a cgroup is known by its inode once a process was there, and by that alone; of
    /// who is gone and was elsewhere nothing is known.
    #[test]
    fn known_cgroups() {
        use std::os::unix::fs::MetadataExt as _;
        let mut cgroups = Cgroups::default();
        let own = std::process::id();
        let path = cgroups.of(own, NO_CGROUP);
        assert!(path.starts_with('/'));
        assert!(cgroups.by_id.is_empty());
        let elsewhere = abi::hf_cgroup_ids { unified: u64::MAX, memory: u64::MAX };
        assert_eq!(cgroups.of(own, elsewhere), path, "it moved");
        assert!(cgroups.by_id.is_empty());
        assert_eq!(cgroups.of(u32::MAX, elsewhere), "");
        let inode = |root: &str| std::fs::metadata(format!("{root}{path}")).map(|meta| meta.ino());
        let ids = abi::hf_cgroup_ids {
            unified: inode("/sys/fs/cgroup").unwrap_or(0),
            memory: inode("/sys/fs/cgroup/memory").unwrap_or(0),
        };
        assert_eq!(cgroups.of(own, ids), path);
        if cgroups.by_id.is_empty() {
            eprintln!("known_cgroups: SKIPPED: neither a unified hierarchy nor one for memory");
            return;
        }
        assert_eq!(cgroups.of(u32::MAX, ids), path);
    }

    /// A child that ended has the program and the cgroup of the process that forked it, also where
    /// another that ended stands in between; of one that executes something else nothing is taken.
    #[test]
    fn a_child_that_is_gone() {
        let own = std::process::id();
        let (mut files, mut processes) = (Files::default(), Processes::default());
        let mut apply = |event| processes.apply(1, &event, &mut files);
        let exec = |pid| Event::Comm { pid, tid: pid, exec: true, comm: "it".into() };
        let fork = |parent_pid, pid| Event::Fork { pid, tid: pid, parent_pid };
        // No process has these pids.
        let (child, grandchild) = (u32::MAX - 1, u32::MAX);
        for event in [exec(own), fork(own, child), fork(child, grandchild)] {
            apply(event);
        }
        apply(Event::Exit { pid: child, tid: child });
        assert_eq!(processes.ancestor(child), Some(own));
        assert_eq!(processes.ancestor(grandchild), Some(own));
        assert_eq!(processes.ancestor(own), None);
        let ancestor = processes.ancestor(grandchild);
        let mut cgroups = Cgroups::default();
        let cgroup = cgroups.of_forked(grandchild, ancestor, NO_CGROUP);
        assert_eq!(cgroup, cgroups.of(own, NO_CGROUP));
        assert!(cgroup.starts_with('/'));
        let facts = read_facts(grandchild, ancestor, None, None, cgroup);
        let exe = std::env::current_exe().expect("a path");
        assert_eq!(facts.exe, exe.to_string_lossy());
        // Its parent was executed there, and is gone.
        let ids = abi::hf_cgroup_ids { unified: 5, memory: 6 };
        cgroups.by_id.insert((5, 6), "/box".into());
        assert_eq!(cgroups.of_forked(grandchild, None, ids), "/box");
        assert_eq!(cgroups.of_forked(own, None, ids), cgroups.of(own, NO_CGROUP), "it moved");
        processes.apply(2, &exec(own), &mut files);
        assert_eq!(processes.ancestor(grandchild), None);
    }

    /// A fork takes over where its parent was executed.
    #[test]
    fn a_fork_inherits_the_cgroup() {
        let (mut files, mut processes) = (Files::default(), Processes::default());
        let ids = abi::hf_cgroup_ids { unified: 5, memory: 6 };
        processes.entry(1).cgroup = ids;
        processes.apply(1, &Event::Fork { pid: 2, tid: 2, parent_pid: 1 }, &mut files);
        let cgroup = processes.get(2).expect("a child").cgroup;
        assert_eq!((cgroup.unified, cgroup.memory), (5, 6));
    }

    /// The unified cgroup counts, unless only an older hierarchy says anything.
    #[test]
    fn cgroups() {
        assert_eq!(parse_cgroup("0::/system.slice/a\n"), ("", "/system.slice/a"));
        assert_eq!(parse_cgroup("4:cpu,memory:/box\n0::/\n"), ("cpu,memory", "/box"));
        assert_eq!(parse_cgroup(""), ("", "/"));
    }

    /// A process is over once its last thread is; a name may look like the rest of the line.
    #[test]
    fn what_is_over() {
        let line = |name: &str, state: char, n_threads: u32| {
            format!("7 ({name}) {state}{} {n_threads} 0 9", " 1".repeat(16)).into_bytes()
        };
        assert!(!is_over(&line("a", 'R', 1)) && !is_over(&line("a", 'Z', 2)));
        assert!(is_over(&line("a", 'Z', 1)) && is_over(&line("a) R 1", 'Z', 0)));
        assert!(!is_over(&line("a) Z 1", 'S', 1)) && is_over(b"7"));
        assert!(goes_on(std::process::id()) && may_go_on(std::process::id()));
    }
}
