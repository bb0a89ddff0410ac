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

mod cgroups;
mod facts;
mod mappings;
mod maps;
mod memory;

pub use cgroups::Cgroups;
pub(crate) use cgroups::NO_CGROUP;
pub(crate) use facts::may_go_on;
pub use facts::{Facts, descendants, goes_on, read_facts};
pub(crate) use mappings::fit;
pub use maps::{Executable, maps_text};
pub use memory::Memory;

use crate::files::{FileId, Files, Identity};
use crate::sideband::Event;
use crate::tables::Blob;
use hotframe_abi as abi;
use mappings::{MAPPINGS_MAX, files_within, give_back, insert, take_copies};
use maps::{Maps, is_file, read_maps};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
