//! Code that JITs registered with GDB's interface, as files of its process alone.
//!
//! In: processes in whose samples an address lies in no file. Out: files with unwind information and names
//! for the parts of their executable memory that registered images cover, laid over their mappings when
//! these are published; and whether an image still stood when a sample of it was taken.
//!
//! # How it works
//! Nobody is looked at before a frame in generated code was sampled in them. Then the symbols of the
//! process's files say whether one has the descriptor of GDB's interface; each file is asked once. Its list
//! is read again when what it says of its last change differs; and, since a change may be undone by another,
//! also while there is code that no image covers, ever more rarely. Each image becomes a file, and equal ones
//! (of processes that fork) one: the same bytes name and unwind alike. From there on rows, the kernel half
//! and names do what they do with any file. What was mapped meanwhile is looked at when it is published, so
//! that the first sample in new memory is walked already.
//!
//! Code may be freed, and its memory be other code's, at any time. So a sample with a frame in an image is
//! believed only if the image is found to stand after it was taken: looked at once a pass and image. Else
//! that frame has no name, the stack is cut there (`stale_map`), and the image is forgotten. Where a walk
//! that is finished late found an image that was first looked at after its sample, or the process ended
//! before anybody looked, the names are given up, and the stack stays as it is: images seldom change within a
//! pass, and rows that do not fit a stack do not lead to its end.
//!
//! # Bounds
//! [`KEPT_MAX_BYTES`] of all images together, [`IMAGES_MAX`] of one process, [`NEW_MAX`] new ones a look.
//! What is refused is counted by reason, and said of its process.
//!
//! # Cost
//! A file: a read of its symbols' names. A look: one read, and some 50 µs for each new image. A pass: three
//! reads for each image with a frame in it. Nothing for processes without such frames.

use crate::files::{FileId, Files, State as FileState};
use crate::processes::{Mapping, Process};
use crate::tables::Tables;
use hotframe_abi as abi;
use hotframe_jitmap::now_ns;
use hotframe_jitmap::registered::{DESCRIPTOR, Descriptor, Entry, Image, List, Refused, Standing};
use hotframe_objects::ElfFile;
use hotframe_runtime::{Memory, elf};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Bytes of rewritten images that are kept, also of those that are gone but were sampled.
pub const KEPT_MAX_BYTES: usize = 8 << 20;
/// Images of one process.
pub const IMAGES_MAX: usize = 2048;
/// New images that are read in one look: the rest in the next.
pub const NEW_MAX: usize = 64;
/// Descriptors of one process: libraries that each have LLVM in them.
const DESCRIPTORS_MAX: usize = 8;
/// Entries that were refused and are not read again.
const REFUSED_MAX: usize = 4096;
/// First and last wait before something is looked for again.
const RETRY_MIN_NS: u64 = 100_000_000;
const RETRY_MAX_NS: u64 = 12_800_000_000;
type Retry = crate::retry::Retry<RETRY_MIN_NS, RETRY_MAX_NS>;
/// Problems that are kept of processes that ended.
const PROBLEMS_MAX: usize = 100;

/// Whether an image stood when a sample of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stood,
    /// It was first looked at after that: what was there may have been freed in between.
    Early,
    /// Other code may have been there.
    Changed,
    /// The process cannot be asked any more.
    Gone,
}

/// An image of a process.
#[derive(Debug)]
struct Shown {
    standing: Standing,
    file: FileId,
    code: Vec<Range<u64>>,
    /// It was first looked at then.
    since_ns: u64,
    /// It stood then.
    verified_ns: u64,
}

/// A process that was looked at.
#[derive(Debug)]
struct State {
    /// `Process::image`: another one is another program.
    image: u64,
    /// Open while it has descriptors or images: of the many that have neither, no file is held.
    memory: Option<Memory>,
    /// Where descriptors are, and what they said last.
    descriptors: Vec<(u64, Option<Descriptor>)>,
    images: Vec<Shown>,
    refused: HashSet<Entry>,
    /// Frames and images by what is wrong with them.
    n_refused: BTreeMap<Refused, u64>,
    n_without_room: u64,
    n_cut: u64,
    n_changed: u64,
    n_gone: u64,
    n_early: u64,
    /// When the list is read although nothing says that it changed.
    retry: Retry,
    /// It was not read to its end.
    is_unfinished: bool,
}

/// All processes with registered code.
#[derive(Debug, Default)]
pub struct Registered {
    processes: HashMap<u32, State>,
    /// Of files that were asked: the descriptor's address from the image's base on.
    descriptors: HashMap<FileId, Option<u64>>,
    /// Processes with frames in code that nothing covers, since the last pass.
    wanted: HashSet<u32>,
    /// Of all images' files, and how many processes show them.
    shown: HashMap<FileId, u32>,
    kept_bytes: usize,
    problems: Vec<(u32, String)>,
}

impl Registered {
    /// A sample has a frame in generated code that nothing covers.
    pub(crate) fn want(&mut self, pid: u32) {
        self.wanted.insert(pid);
    }

    /// Processes of which that was said since this was last asked.
    pub(crate) fn take_wanted(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.wanted)
    }

    /// Was a process looked at, with something found?
    pub(crate) fn serves(&self, pid: u32) -> bool {
        self.processes.get(&pid).is_some_and(|state| !state.descriptors.is_empty())
    }

    /// Was any image met?
    pub(crate) fn has_images(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Does this file stand for an image?
    pub(crate) fn is_image(&self, file: FileId) -> bool {
        self.shown.contains_key(&file)
    }

    /// Reads what changed of a process's lists. True if its mappings have to be published anew. Files that
    /// nothing shows any more are freed with their rows.
    pub(crate) fn look(
        &mut self,
        pid: u32,
        process: &Process,
        files: &mut Files,
        tables: &mut Tables,
    ) -> bool {
        let now_ns = now_ns();
        if self.processes.get(&pid).is_some_and(|state| state.image != process.image) {
            self.forget(pid, files, tables);
        }
        let state = self.processes.entry(pid).or_insert_with(|| State {
            image: process.image,
            memory: None,
            descriptors: Vec::new(),
            images: Vec::new(),
            refused: HashSet::new(),
            n_refused: BTreeMap::new(),
            n_without_room: 0,
            n_cut: 0,
            n_changed: 0,
            n_gone: 0,
            n_early: 0,
            retry: Retry::NOW,
            is_unfinished: false,
        });
        let is_due = state.retry.is_due(now_ns);
        if is_due {
            state.retry.later(now_ns);
            let found = locate(&mut self.descriptors, &process.mappings, files);
            state.descriptors.retain(|(at, _)| found.contains(at));
            for at in found {
                if !state.descriptors.iter().any(|(known, _)| *known == at) {
                    state.descriptors.push((at, None));
                }
            }
            if state.descriptors.is_empty() && state.images.is_empty() {
                state.memory = None;
            } else if state.memory.is_none() {
                state.memory = Some(Memory::of(pid));
            }
        }
        let mut is_changed = is_due || std::mem::take(&mut state.is_unfinished);
        let memory = state.memory.as_ref();
        let read =
            |at: u64, into: &mut [u8]| memory.is_some_and(|memory| memory.read_fresh(at, into));
        for (at, before) in &mut state.descriptors {
            match Descriptor::read(&read, *at) {
                Ok(now) if *before == Some(now) => {}
                Ok(now) => {
                    *before = Some(now);
                    is_changed = true;
                }
                Err(why) => {
                    *before = None;
                    // One that ended is told of by its end.
                    if why != Refused::Unreadable && is_due {
                        *state.n_refused.entry(why).or_default() += 1;
                    }
                }
            }
        }
        if !is_changed || state.descriptors.iter().all(|(_, now)| now.is_none()) {
            return false;
        }
        let changed = self.read_lists(pid, files, tables, now_ns);
        if changed && let Some(state) = self.processes.get_mut(&pid) {
            state.retry.gained();
        }
        changed
    }

    /// Reads a process's lists and takes in what is new.
    fn read_lists(
        &mut self,
        pid: u32,
        files: &mut Files,
        tables: &mut Tables,
        now_ns: u64,
    ) -> bool {
        let Some(state) = self.processes.get_mut(&pid) else { return false };
        let memory = state.memory.as_ref();
        let read =
            |at: u64, into: &mut [u8]| memory.is_some_and(|memory| memory.read_fresh(at, into));
        let mut old: HashMap<(u64, Entry), Shown> = std::mem::take(&mut state.images)
            .into_iter()
            .map(|shown| ((shown.standing.descriptor(), shown.standing.entry()), shown))
            .collect();
        let mut new = Vec::new();
        let mut n_new = 0;
        let mut changed = false;
        for &(at, descriptor) in &state.descriptors {
            let Some(descriptor) = descriptor else { continue };
            let list = List::read(&read, descriptor);
            state.is_unfinished |= list.is_cut;
            for entry in list.entries {
                if let Some(mut shown) = old.remove(&(at, entry)) {
                    if shown.verified_ns >= now_ns || shown.standing.stands(&read) {
                        shown.verified_ns = now_ns;
                        new.push(shown);
                        continue;
                    }
                    old.insert((at, entry), shown);
                } else if state.refused.contains(&entry) {
                    continue;
                }
                if n_new >= NEW_MAX {
                    state.is_unfinished = true;
                    continue;
                }
                n_new += 1;
                if new.len() >= IMAGES_MAX || self.kept_bytes >= KEPT_MAX_BYTES {
                    state.n_without_room += 1;
                    remember(&mut state.refused, entry);
                    continue;
                }
                match take_in(&read, at, entry) {
                    Ok((standing, image)) => {
                        state.n_cut += u64::from(image.is_cut);
                        let bytes = image.elf.len();
                        let (file, is_new) = files.add_image(image.elf.into(), pid);
                        if file == 0 {
                            state.n_without_room += 1;
                            continue;
                        }
                        self.kept_bytes += if is_new { bytes } else { 0 };
                        *self.shown.entry(file).or_default() += 1;
                        let (code, since_ns) = (image.code, hotframe_jitmap::now_ns());
                        new.push(Shown { standing, file, code, since_ns, verified_ns: now_ns });
                        changed = true;
                    }
                    // It is read again with the list.
                    Err(Refused::Changed | Refused::Unreadable) => state.is_unfinished = true,
                    // Data alone is no problem: numba registers modules of it.
                    Err(why) => {
                        if why != Refused::NoCode {
                            *state.n_refused.entry(why).or_default() += 1;
                        }
                        remember(&mut state.refused, entry);
                    }
                }
            }
        }
        changed |= !old.is_empty();
        state.images = new;
        tracing::debug!(
            pid,
            images = state.images.len(),
            new = n_new,
            gone = old.len(),
            "registered code"
        );
        for shown in old.into_values() {
            self.retire(shown.file, files, tables);
        }
        changed
    }

    /// One process shows a file no more.
    fn retire(&mut self, id: FileId, files: &mut Files, tables: &mut Tables) {
        let Some(n) = self.shown.get_mut(&id) else { return };
        *n = n.saturating_sub(1);
        if *n == 0 {
            // The number stays known: samples of it may be on their way.
            tables.remove_file(id);
            self.kept_bytes = self.kept_bytes.saturating_sub(files.drop_image(id));
        }
    }

    /// Lays a process's images over its mappings, which are sorted and stay so. Only what is in no file
    /// and no runtime's is covered.
    pub(crate) fn overlay(
        &self,
        pid: u32,
        entries: &mut Vec<abi::hf_mapping>,
        files: &Files,
        tables: &mut Tables,
    ) {
        let Some(state) = self.processes.get(&pid).filter(|state| !state.images.is_empty()) else {
            return;
        };
        let mut parts: Vec<abi::hf_mapping> = Vec::new();
        for shown in &state.images {
            let Some(FileState::Open(source)) = files.get(shown.file).map(|file| &file.state)
            else {
                continue;
            };
            let n_blocks = source.n_blocks();
            let image = source.file().image_base();
            let Some(file_off) = tables.add_file(shown.file, n_blocks) else { continue };
            parts.extend(shown.code.iter().map(|code| abi::hf_mapping {
                start: code.start,
                end: code.end,
                image,
                file_id: shown.file,
                file_off,
                runtime_off: 0,
                reserved: 0,
            }));
        }
        parts.sort_by_key(|part| part.start);
        *entries = laid_over(entries, &parts);
    }

    /// The file whose image covers an address of a process, and where that file's image begins.
    pub(crate) fn file_at(&self, pid: u32, pc: u64) -> Option<FileId> {
        let state = self.processes.get(&pid)?;
        let covers = |shown: &&Shown| shown.code.iter().any(|code| code.contains(&pc));
        state.images.iter().find(covers).map(|shown| shown.file)
    }

    /// Whether a file's image stood in a process at a time that is past.
    pub(crate) fn verdict(&mut self, pid: u32, file: FileId, time_ns: u64) -> Verdict {
        let Some(state) = self.processes.get_mut(&pid) else { return Verdict::Gone };
        let memory = state.memory.as_ref();
        let read =
            |at: u64, into: &mut [u8]| memory.is_some_and(|memory| memory.read_fresh(at, into));
        if let Some(shown) = state.images.iter_mut().find(|shown| shown.file == file) {
            if time_ns < shown.since_ns {
                return Verdict::Early;
            }
            if shown.verified_ns >= time_ns {
                return Verdict::Stood;
            }
            let looked_ns = now_ns();
            if shown.standing.stands(&read) {
                shown.verified_ns = looked_ns;
                return Verdict::Stood;
            }
        }
        // A list's head is there as long as its process is.
        let is_there = |(at, _): &(u64, _)| Descriptor::read(&read, *at).is_ok();
        if state.descriptors.iter().any(is_there) { Verdict::Changed } else { Verdict::Gone }
    }

    /// Was a process looked at?
    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// Counts a frame whose image did not stand, or could not be looked at; in the first case the lists are
    /// read again whatever they say.
    pub(crate) fn count(&mut self, pid: u32, verdict: Verdict, weight: u32) {
        if let Some(state) = self.processes.get_mut(&pid) {
            match verdict {
                Verdict::Stood => {}
                Verdict::Early => state.n_early += u64::from(weight),
                Verdict::Changed => {
                    state.n_changed += u64::from(weight);
                    state.retry = Retry::NOW;
                }
                Verdict::Gone => state.n_gone += u64::from(weight),
            }
        }
        if verdict == Verdict::Changed {
            self.want(pid);
        }
    }

    /// Forgets processes that are not there any more.
    pub(crate) fn sweep(
        &mut self,
        is_there: impl Fn(u32) -> bool,
        files: &mut Files,
        tables: &mut Tables,
    ) {
        let gone: Vec<u32> = self.processes.keys().copied().filter(|&pid| !is_there(pid)).collect();
        for pid in gone {
            self.forget(pid, files, tables);
        }
    }

    fn forget(&mut self, pid: u32, files: &mut Files, tables: &mut Tables) {
        let Some(state) = self.processes.remove(&pid) else { return };
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.extend(problems(pid, &state));
        }
        for shown in state.images {
            self.retire(shown.file, files, tables);
        }
    }

    /// What went wrong so far, by process.
    pub fn problems(&self) -> Vec<(u32, String)> {
        let mut all = self.problems.clone();
        all.extend(self.processes.iter().flat_map(|(&pid, state)| problems(pid, state)));
        all
    }

    /// Bytes of heap held, but for the files.
    pub fn heap_bytes(&self) -> usize {
        let of = |state: &State| {
            state.images.capacity() * size_of::<Shown>()
                + state.refused.capacity() * size_of::<Entry>()
        };
        self.descriptors.capacity() * size_of::<(FileId, Option<u64>)>()
            + self.shown.capacity() * size_of::<(FileId, u32)>()
            + self.processes.values().map(of).sum::<usize>()
    }
}

fn remember(refused: &mut HashSet<Entry>, entry: Entry) {
    if refused.len() >= REFUSED_MAX {
        refused.clear();
    }
    refused.insert(entry);
}

/// Reads an entry's image, which has to be the same before and after.
fn take_in(
    read: &hotframe_jitmap::registered::Read<'_>,
    descriptor: u64,
    entry: Entry,
) -> Result<(Standing, Image), Refused> {
    if entry.image_bytes > hotframe_jitmap::registered::IMAGE_MAX_BYTES {
        return Err(Refused::TooLarge);
    }
    let standing = Standing::of(read, descriptor, entry).ok_or(Refused::Unreadable)?;
    let image = Image::read(read, entry)?;
    if standing.stands(read) { Ok((standing, image)) } else { Err(Refused::Changed) }
}

/// Where descriptors are in a process. Each of its files is asked once.
fn locate(
    known: &mut HashMap<FileId, Option<u64>>,
    mappings: &[Mapping],
    files: &Files,
) -> Vec<u64> {
    let mut found = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.file != 0) {
        let id = files.actual(mapping.file);
        let Some(file) = files.get(id) else { continue };
        let Some(elf) = file.elf() else { continue };
        let at = *known.entry(id).or_insert_with(|| {
            let elf = ElfFile::open(elf.reader()).ok()?;
            // Exported, or, where LLVM is linked statically, perhaps in the table that stripping takes.
            let [of_dynamic] = elf::find(&elf, elf::Tables::Dynamic, [DESCRIPTOR]);
            let symbol =
                of_dynamic.or_else(|| elf::find(&elf, elf::Tables::Static, [DESCRIPTOR])[0])?;
            Some(symbol.address.wrapping_sub(elf.image_base()))
        });
        if let (Some(at), Some(image)) = (at, elf.map_bias(mapping.start, mapping.pgoff)) {
            let at = image.wrapping_add(at);
            if !found.contains(&at) && found.len() < DESCRIPTORS_MAX {
                found.push(at);
            }
        }
    }
    found
}

/// Mappings with parts laid over those that are in no file and no runtime's. Both are sorted.
fn laid_over(entries: &[abi::hf_mapping], parts: &[abi::hf_mapping]) -> Vec<abi::hf_mapping> {
    let mut out = Vec::with_capacity(entries.len() + 2 * parts.len());
    for entry in entries {
        if entry.file_id != 0 || entry.runtime_off != 0 {
            out.push(*entry);
            continue;
        }
        let mut at = entry.start;
        let rest = |out: &mut Vec<abi::hf_mapping>, start: u64, end: u64| {
            if start < end {
                out.push(abi::hf_mapping { start, end, image: start, ..*entry });
            }
        };
        let first = parts.partition_point(|part| part.end <= entry.start);
        for part in parts.get(first..).unwrap_or_default() {
            if part.start >= entry.end {
                break;
            }
            // Of parts that overlap, as only hostile ones do, the first has it.
            let (start, end) = (part.start.max(at), part.end.min(entry.end));
            if start >= end {
                continue;
            }
            rest(&mut out, at, start);
            out.push(abi::hf_mapping { start, end, ..*part });
            at = end;
        }
        rest(&mut out, at, entry.end);
    }
    // Without room for all the mappings are as they were: what is laid over them is the lesser loss.
    if out.len() > abi::HF_MAX_MAPPINGS as usize { entries.to_vec() } else { out }
}

fn problems(pid: u32, state: &State) -> Vec<(u32, String)> {
    let mut all: Vec<(u64, String)> =
        state.n_refused.iter().map(|(why, &n)| (n, why.to_string())).collect();
    all.push((state.n_without_room, "images: there is no room for them".to_owned()));
    all.push((state.n_cut, "images with parts that have no room".to_owned()));
    all.push((
        state.n_changed,
        "stacks are cut: the image that a frame lies in changed".to_owned(),
    ));
    all.push((
        state.n_gone,
        "frames have no name: the process ended before their images were looked at".to_owned(),
    ));
    all.push((
        state.n_early,
        "frames have no name: they were sampled before their images were looked at".to_owned(),
    ));
    let told = all.into_iter().filter(|(n, _)| *n > 0);
    told.map(|(n, what)| (pid, format!("registered code of {pid}: {n} {what}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::without_file;

    /// Parts cover what is in no file and no runtime's, each where it is; what overlaps comes once, and
    /// without room for all there are none.
    #[test]
    fn parts_over_mappings() {
        let file = |start, end, file_id| abi::hf_mapping {
            file_id,
            file_off: 64,
            image: 0,
            ..without_file(start, end)
        };
        let of_runtime = abi::hf_mapping { runtime_off: 8, ..without_file(700, 800) };
        let entries =
            [without_file(100, 200), without_file(300, 400), file(500, 600, 1), of_runtime];
        let parts = [file(50, 110, 2), file(150, 160, 3), file(155, 170, 4), file(350, 900, 5)];
        let out = laid_over(&entries, &parts);
        let seen: Vec<(u64, u64, u32)> =
            out.iter().map(|entry| (entry.start, entry.end, entry.file_id)).collect();
        assert_eq!(
            seen,
            [
                (100, 110, 2),
                (110, 150, 0),
                (150, 160, 3),
                (160, 170, 4),
                (170, 200, 0),
                (300, 350, 0),
                (350, 400, 5),
                (500, 600, 1),
                (700, 800, 0),
            ]
        );
        assert!(out.iter().all(|entry| entry.file_id != 0 || entry.image == entry.start));
        let many: Vec<abi::hf_mapping> = (0..u64::from(abi::HF_MAX_MAPPINGS))
            .map(|n| file(1000 + 4 * n, 1002 + 4 * n, 6))
            .collect();
        let entries = [without_file(0, 1 << 20)];
        let unlaid = laid_over(&entries, &many);
        assert_eq!((unlaid.len(), unlaid[0].file_id), (1, 0));
    }

    /// Of a process that registers nothing no file stays open, however many are looked at.
    #[test]
    fn without_a_descriptor_no_file_stays_open() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let mut files = Files::default();
        let mut tables = Tables::new(Box::new(crate::tables::OwnMemory::new(1 << 20)));
        let mut processes = crate::processes::Processes::default();
        let mut registered = Registered::default();
        let changed =
            registered.look(child.id(), processes.entry(child.id()), &mut files, &mut tables);
        let memory = std::path::PathBuf::from(format!("/proc/{}/mem", child.id()));
        let links = std::fs::read_dir("/proc/self/fd").expect("our own descriptors");
        let held = links
            .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
            .filter(|path| *path == memory)
            .count();
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        assert!(!changed && registered.processes.contains_key(&child.id()));
        assert_eq!(held, 0);
    }
}
