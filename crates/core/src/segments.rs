//! Parts of a recording that were put away on disk, so that its length does not cost memory.
//!
//! In: a [`Recording`] that has grown to its share. Out: the same recording, empty, and a segment in
//! an unlinked temporary file; at the end [`Segments::merge`] reads all of them back into one
//! recording, inside one budget.
//!
//! # How it works
//! A segment stands alone: its processes, threads, the names that runtimes gave, its tree of
//! stacks, and its samples. Static code is kept as words (file and offset): the files stay open
//! for the whole recording and name them at the end, once for all segments. Reading goes forwards
//! through one buffer; what grows are only the merged tables. Where these find no room, a stack
//! ends in a frame that says so and its sample counts as cut by the budget; samples of one thread
//! and stack are counted together in longer intervals; processes with the fewest samples fold
//! into one for each command name.
//!
//! Where this is not enough, reading begins anew with static code by function (`by_function`):
//! stacks that differ by the line only are one then, and no longer have lines. That is what an hour of
//! compilers consists of. Only then intervals grow to all of the time and all processes fold; and at
//! last the stacks that the fewest samples have give up frames between the outermost and the innermost
//! one, and become one with their neighbours: what is hot stays whole, and which function ran is known
//! of every sample.
//!
//! # Format
//! Little-endian, no padding, lengths before what they count; read back by the same program only.
//!
//! # Cost
//! 9 or 13 bytes a node, 8 a place, 19 a sample, on disk. The file lies in `/var/tmp`, which is not memory.

mod merge;

use crate::by_function::ByFunction;
use crate::recording::{Incarnation, Recording};
use hotframe_abi as abi;
use hotframe_frames::{Budget, Graft, naming_order};
use merge::{Merge, NAMING_WORD_BYTES};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

/// Bytes of one text at most: a store keeps 1 KiB of each, paths have at most 4.
const TEXT_MAX: u32 = 8 << 10;
/// A recording's segments on disk.
#[derive(Debug)]
pub struct Segments {
    file: Option<File>,
    ends: Vec<End>,
    /// Bytes that a recording may hold, beyond what stays when it begins anew, before it is put
    /// away.
    pub part_bytes: u64,
    /// Why nothing more can be put away.
    pub problem: Option<String>,
}

/// A segment in the file.
#[derive(Debug, Clone, Copy)]
struct End {
    n_samples: u64,
    /// Where it ends.
    end: u64,
    /// What its tree and the names of that take at most while a profile is built.
    tree_peak_bytes: u64,
}

/// What merging could not keep as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Whole stacks that were shortened for want of room: now cut by the budget.
    pub shortened_whole: u64,
    /// The same of stacks that were cut already, by the reason that they had.
    pub shortened_cut: [u64; abi::HF_CUT_COUNT as usize],
    /// Samples that could not be read back.
    pub unread: u64,
    /// Nanoseconds for which samples of equal stacks are counted together; 0: each stands alone.
    pub bucket_ns: u64,
    /// Processes that were folded.
    pub folded: u64,
    /// Static code is told apart by function, and has no lines.
    pub by_function: bool,
}

impl Default for Segments {
    fn default() -> Segments {
        Segments { file: None, ends: Vec::new(), part_bytes: u64::MAX, problem: None }
    }
}

impl Segments {
    /// None was put away.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.ends.last().map_or(0, |last| last.end)
    }

    /// Puts a recording away and empties it. On failure it stays as it is, and
    /// [`Segments::problem`] says why.
    pub fn put_away(&mut self, recording: &mut Recording) -> bool {
        if self.problem.is_some() {
            return false;
        }
        recording.store.settle();
        match self.append(recording) {
            Ok(()) => {
                recording.begin_anew();
                true
            }
            Err(cause) => {
                self.problem = Some(format!("spilling to a temporary file: {cause}"));
                false
            }
        }
    }

    fn append(&mut self, recording: &Recording) -> io::Result<()> {
        let begin = self.bytes();
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unlinked_file()?),
        };
        // What a failed attempt left is written over.
        file.seek(SeekFrom::Start(begin))?;
        let mut out = Out(BufWriter::with_capacity(64 << 10, &mut *file));
        out.segment(recording)?;
        out.0.flush()?;
        drop(out);
        let end = file.stream_position()?;
        let n_samples = recording.samples.time_ns.len() as u64;
        let tree_peak_bytes = merge::peak_bytes(&recording.store);
        self.ends.push(End { n_samples, end, tree_peak_bytes });
        Ok(())
    }

    /// Reads all segments back into one recording, such that naming it, building a profile of it and
    /// writing that never hold more than `room`: a sixteenth of it is for processes, a quarter for
    /// samples, or more if the trees of stacks leave it, and the rest for these and their names.
    /// Names come later, and room for them is kept for each place that is met; `name` is asked
    /// for them before where places cannot be kept apart, with words in [`naming_order`] and
    /// the bytes that they may take.
    pub fn merge(
        &mut self,
        room: &Budget,
        name: &mut dyn FnMut(&mut Recording, Vec<u64>, u64) -> ByFunction,
    ) -> (Recording, Losses) {
        let mut merge = self.merge_as(Merge::new(room, None));
        if merge.lacks_room {
            drop(merge);
            let words = self.words((room.limit_bytes() / NAMING_WORD_BYTES) as usize);
            let mut by_function = Merge::new(room, Some(ByFunction::default()));
            let limit_bytes = by_function.names_limit_bytes();
            let names = name(&mut by_function.recording, words, limit_bytes);
            by_function.set_names(names);
            merge = self.merge_as(by_function);
        }
        merge.finish()
    }

    fn merge_as(&mut self, mut merge: Merge) -> Merge {
        let n_samples: u64 = self.ends.iter().map(|end| end.n_samples).sum();
        let is_by_function = merge.losses.by_function;
        let mut rest: u64 = self.ends.iter().map(|end| end.tree_peak_bytes).sum();
        merge.share(n_samples, rest);
        let mut begin = 0;
        for (number, &End { n_samples: n_here, end, tree_peak_bytes }) in
            self.ends.iter().enumerate()
        {
            let before = merge.n_samples();
            let tree_before = merge.tree_peak_bytes();
            let read = match &mut self.file {
                Some(file) => file.seek(SeekFrom::Start(begin)).and_then(|_| {
                    let part = (&*file).take(end - begin);
                    merge.segment(&mut In(BufReader::with_capacity(64 << 10, part)))
                }),
                None => Err(io::ErrorKind::NotFound.into()),
            };
            if merge.lacks_room {
                break;
            }
            if let Err(cause) = read {
                self.problem = Some(format!("reading back what was spilled: {cause}"));
                merge.losses.unread += n_here.saturating_sub(merge.n_samples() - before);
            }
            // Parts share the more the later they are: none of the rest adds more than this one did.
            rest = rest.saturating_sub(tree_peak_bytes);
            let added = merge.tree_peak_bytes().saturating_sub(tree_before).min(tree_peak_bytes);
            // By function, frames can be given up at any time: it is enough to think of the next part.
            let to_come = match self.ends.get(number + 1) {
                Some(next) if is_by_function => next.tree_peak_bytes.min(added),
                _ => (rest as f64 * added as f64 / tree_peak_bytes.max(1) as f64) as u64,
            };
            merge.make_room(n_samples, to_come);
            if merge.lacks_room {
                break;
            }
            begin = end;
        }
        merge
    }

    /// Distinct words of static code of all segments, `max` at most. What cannot be read is
    /// reported by [`Segments::merge`].
    fn words(&mut self, max: usize) -> Vec<u64> {
        let mut words = Vec::new();
        let mut begin = 0;
        for &End { end, .. } in &self.ends {
            let Some(file) = &mut self.file else { break };
            if file.seek(SeekFrom::Start(begin)).is_ok() {
                let part = (&*file).take(end - begin);
                let mut part = In(BufReader::with_capacity(64 << 10, part));
                let n = part.u32().unwrap_or_default();
                words.reserve_exact(u64::from(n).min((end - begin) / 8) as usize);
                words.extend((0..n).map_while(|_| part.u64().ok()));
                // Each comes sorted: what there was is one run, and this another.
                words.sort_by_key(|&word| naming_order(word));
                words.dedup();
                words.truncate(max);
            }
            begin = end;
        }
        words.shrink_to_fit();
        words
    }
}

/// A file without a name, on disk rather than in memory.
pub(crate) fn unlinked_file() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = |directory: &Path| {
        let mut options = File::options();
        options.read(true).write(true).mode(0o600);
        options.clone().custom_flags(libc::O_TMPFILE).open(directory).or_else(|_| {
            // Not every file system can: then a name that is gone at once.
            let path = directory.join(format!("hotframe-{}.tmp", std::process::id()));
            let file = options.create_new(true).custom_flags(libc::O_NOFOLLOW).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        })
    };
    open(Path::new("/var/tmp")).or_else(|_| open(&std::env::temp_dir()))
}

struct Out<W: Write>(W);

impl<W: Write> Out<W> {
    fn u32(&mut self, value: u32) -> io::Result<()> {
        self.0.write_all(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> io::Result<()> {
        self.0.write_all(&value.to_le_bytes())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let end = text.floor_char_boundary(TEXT_MAX as usize);
        let text = text.get(..end).unwrap_or_default();
        self.u32(text.len() as u32)?;
        self.0.write_all(text.as_bytes())
    }

    fn segment(&mut self, recording: &Recording) -> io::Result<()> {
        let words = recording.store.unnamed_words(usize::MAX);
        self.u32(words.len() as u32)?;
        words.iter().try_for_each(|&word| self.u64(word))?;
        self.u32(recording.processes.len() as u32)?;
        for process in &recording.processes {
            let Incarnation { pid, exec_id, start_ns } = process.incarnation;
            self.u32(pid)?;
            self.u32(exec_id)?;
            self.u64(start_ns)?;
            for text in [&process.facts.comm, &process.facts.exe, &process.facts.cgroup] {
                self.text(text)?;
            }
            self.u64(process.samples)?;
            self.u64(process.whole)?;
            process.cut.iter().try_for_each(|&n| self.u64(n))?;
        }
        self.u32(recording.threads.len() as u32)?;
        for thread in &recording.threads {
            self.u32(thread.process)?;
            self.u32(thread.tid)?;
            self.0.write_all(&thread.comm)?;
        }
        self.tree(recording, &words)?;
        let samples = &recording.samples;
        self.u32(samples.time_ns.len() as u32)?;
        for at in 0..samples.time_ns.len() {
            self.u64(samples.time_ns[at])?;
            self.u32(samples.thread[at])?;
            self.u32(recording.leaf(samples.stack[at]))?;
            self.0.write_all(&samples.cpu[at].to_le_bytes())?;
            self.0.write_all(&[samples.cut[at]])?;
        }
        Ok(())
    }

    /// Frames by value that the tree has, then its nodes, parents first. `words` were written.
    fn tree(&mut self, recording: &Recording, words: &[u64]) -> io::Result<()> {
        let store = &recording.store;
        let n_nodes = store.n_nodes() as u32;
        let mut values: HashMap<u32, u32> = HashMap::new();
        let mut order = Vec::new();
        for node in 1..n_nodes {
            for graft in store.grafts_at(store.node(node)) {
                if let Graft::Frame(number) = graft {
                    values.entry(number).or_insert_with(|| {
                        order.push(number);
                        order.len() as u32 - 1
                    });
                }
            }
        }
        self.u32(order.len() as u32)?;
        for number in order {
            let frame = store.frame(number);
            let function = store.function(frame.function);
            let module = store.module(function.module);
            self.u32(frame.line)?;
            self.u32(function.start_line)?;
            self.0.write_all(&[frame.flags, function.kind])?;
            for text in [
                function.name,
                function.system_name.unwrap_or_default(),
                function.file,
                module.path,
                module.build_id,
            ] {
                self.text(text)?;
            }
        }
        let own: HashMap<hotframe_frames::Incarnation, u32> = recording
            .processes
            .iter()
            .zip(0..)
            .map(|(process, number)| (process.in_store, number))
            .collect();
        self.u32(n_nodes.max(1))?;
        for node in 1..n_nodes {
            let node = store.node(node);
            self.u32(node.parent)?;
            // The tree holds one thing a node.
            match store.grafts_at(node).next() {
                Some(Graft::Word(word)) => {
                    let order = naming_order(word);
                    match words.binary_search_by_key(&order, |&word| naming_order(word)) {
                        Ok(at) => {
                            self.0.write_all(&[LISTED])?;
                            self.u32(at as u32)?;
                        }
                        Err(_) => {
                            self.0.write_all(&[WORD])?;
                            self.u64(word)?;
                        }
                    }
                }
                Some(Graft::Own(incarnation, word)) => {
                    self.0.write_all(&[OWN])?;
                    self.u32(own.get(&incarnation).copied().unwrap_or(u32::MAX))?;
                    self.u64(word)?;
                }
                Some(Graft::Frame(number)) => {
                    self.0.write_all(&[VALUE])?;
                    self.u32(values.get(&number).copied().unwrap_or_default())?;
                }
                None => self.0.write_all(&[NOTHING])?,
            }
        }
        Ok(())
    }
}

const NOTHING: u8 = 0;
const WORD: u8 = 1;
const OWN: u8 = 2;
const VALUE: u8 = 3;
const LISTED: u8 = 4;

struct In<R: Read>(R);

impl<R: Read> In<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> io::Result<String> {
        let len = self.u32()?;
        if len > TEXT_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; len as usize];
        self.0.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::merge::{COARSE_BUCKET_NS, NODE_BYTES, SAMPLE_PEAK_BYTES};
    use super::*;
    use crate::recording::{Process, Sample};
    use hotframe_frames::{FrameInfo, FunctionInfo, Why};
    use zerocopy::FromZeros as _;

    fn note(number: u64) -> u64 {
        u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT | number
    }

    fn own(pc: u64) -> u64 {
        u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc
    }

    /// A machine where nothing has a name.
    fn nameless(_: &mut Recording, words: Vec<u64>, _: u64) -> ByFunction {
        ByFunction::new(words)
    }

    /// `n` samples of ever other stacks of processes 1 to 3 and threads of their own, all whole.
    fn fill(recording: &mut Recording, from: u64, n: u64) {
        for i in from..from + n {
            let mut head = abi::hf_sample::new_zeroed();
            (head.weight, head.time_ns) = (1, i * 10_000_000);
            head.tgid = 1 + (i % 3) as u32;
            head.tid = head.tgid;
            head.cpu = (i % 2) as u16;
            head.comm[..3].copy_from_slice(b"app");
            let words = [own(i % 7), note(i % 50), note(i % 5)];
            let hash = i % 1050;
            recording.add(&Sample { head: &head, words: &words, hash, cut: 0, cut_pc: 0 }, || {
                "/bin/app".into()
            });
        }
    }

    /// Frames of each sample as words, leaf first, with pid, time and weight.
    fn read(recording: &Recording) -> Vec<(u32, u64, u32, Vec<String>)> {
        let samples = &recording.samples;
        (0..samples.time_ns.len())
            .map(|at| {
                let mut frames = Vec::new();
                let mut node = recording.leaf(samples.stack[at]);
                while node != 0 {
                    let it = recording.store.node(node);
                    for graft in recording.store.grafts_at(it) {
                        frames.push(match graft {
                            Graft::Word(word) | Graft::Own(_, word) => format!("{word:x}"),
                            Graft::Frame(number) => {
                                let function = recording.store.frame(number).function;
                                recording.store.function(function).name.to_owned()
                            }
                        });
                    }
                    node = it.parent;
                }
                let process = recording.threads[samples.thread[at] as usize].process;
                let pid = recording.processes[process as usize].incarnation.pid;
                let weight = samples.weight.get(at).copied().unwrap_or(1);
                (pid, samples.time_ns[at], weight, frames)
            })
            .collect()
    }

    /// Put away in three parts, and read back: the same as if nothing had happened.
    #[test]
    fn parts_are_the_whole() {
        let mut whole = Recording::default();
        fill(&mut whole, 0, 3000);
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        for part in 0..3 {
            fill(&mut recording, part * 1000, 1000);
            assert!(segments.put_away(&mut recording));
            assert_eq!(recording.samples.time_ns.len(), 0);
            assert_eq!(recording.processes.len(), 0);
        }
        assert_eq!(segments.len(), 3);
        let (merged, losses) = segments.merge(&Budget::new(64 << 20), &mut nameless);
        assert_eq!(losses, Losses::default());
        assert_eq!(read(&merged), read(&whole));
        let of = |recording: &Recording| -> Vec<_> {
            let one = |it: &Process| (it.incarnation, it.facts.exe.clone(), it.samples, it.whole);
            recording.processes.iter().map(one).collect()
        };
        assert_eq!(of(&merged), of(&whole));
        assert!(segments.problem.is_none());
    }

    /// With too little room, every sample is still there, and what is missing is said and counted.
    #[test]
    fn nothing_vanishes_without_room() {
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        for part in 0..5 {
            fill(&mut recording, part * 4000, 4000);
            assert!(segments.put_away(&mut recording));
        }
        let (merged, losses) = segments.merge(&Budget::new(96 << 10), &mut nameless);
        let weight: u64 = merged.samples.weight.iter().map(|&weight| u64::from(weight)).sum();
        assert_eq!(weight, 20_000);
        // A quarter of the room, whatever came after the longest interval and shortest stacks.
        let n_rows = merged.samples.time_ns.len() as u64;
        assert!(n_rows <= (96 << 10) / 4 / SAMPLE_PEAK_BYTES, "{n_rows}");
        assert!(losses.shortened_whole > 0 && losses.bucket_ns > 0, "{losses:?}");
        let cut: u64 = read(&merged)
            .iter()
            .zip(&merged.samples.cut)
            .filter(|(_, cut)| u32::from(**cut) == abi::HF_CUT_BUDGET)
            .map(|((_, _, weight, frames), _)| {
                // The frame that says so, or nothing where even that found no room.
                let first = frames.first().map_or(Why::LeftOut.label(), String::as_str);
                assert!(first == Why::LeftOut.label() || first.starts_with('4'), "{frames:?}");
                u64::from(*weight)
            })
            .sum();
        assert_eq!(cut, losses.shortened_whole);
        let (samples, whole) = merged
            .processes
            .iter()
            .fold((0, 0), |sum, process| (sum.0 + process.samples, sum.1 + process.whole));
        assert_eq!((samples, samples - whole), (20_000, losses.shortened_whole));
    }

    /// Stacks that differ by the place in a function are one when there is no room for each, and
    /// none is shortened.
    #[test]
    fn places_go_before_stacks() {
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        for part in 0..6u64 {
            for i in 0..2000 {
                let mut head = abi::hf_sample::new_zeroed();
                (head.weight, head.time_ns) = (1, (part * 2000 + i) * 10_000_000);
                (head.tgid, head.tid) = (7, 7);
                let hash = part * 2000 + i;
                // Ever other places in functions of a hundred bytes, which call each other in forty ways.
                let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let place = |depth: u64| {
                    let function = ((hash % 40) >> (depth / 2)) % 10;
                    depth * 1000 + function * 100 + (mixed >> (depth * 5)) % 100
                };
                let words: Vec<u64> = (0..8).map(|depth| note(place(depth))).collect();
                recording
                    .add(&Sample { head: &head, words: &words, hash, cut: 0, cut_pc: 0 }, || {
                        "/bin/app".into()
                    });
            }
            assert!(segments.put_away(&mut recording));
        }
        let mut name = |recording: &mut Recording, words: Vec<u64>, _: u64| {
            let mut names = ByFunction::new(words.clone());
            for word in words {
                let name = format!("f{}", (word & 0xffff) / 100);
                let function = FunctionInfo { name: name.as_bytes(), ..FunctionInfo::default() };
                let frame = FrameInfo { function, line: 5, flags: 0 };
                assert!(names.put(&mut recording.store, word, &[frame]));
            }
            names
        };
        let room = 1 << 20;
        let (merged, losses) = segments.merge(&Budget::new(room), &mut name);
        assert!(losses.by_function, "{losses:?}");
        assert_eq!((losses.shortened_whole, losses.unread), (0, 0), "{losses:?}");
        let stacks = read(&merged);
        assert_eq!(stacks.iter().map(|(_, _, weight, _)| u64::from(*weight)).sum::<u64>(), 12_000);
        for (_, _, _, frames) in &stacks {
            let of: Vec<u64> =
                frames.iter().map(|name| name[1..].parse().expect("f and a number")).collect();
            assert_eq!(of.len(), 8, "{frames:?}");
            assert!(of.iter().zip(0..).all(|(of, depth)| of / 10 == depth), "{frames:?}");
        }
        // Without names the room is not enough.
        let (_, losses) = segments.merge(&Budget::new(room), &mut nameless);
        assert!(losses.shortened_whole > 0, "{losses:?}");
        // With enough of it places are kept.
        let (merged, losses) = segments.merge(&Budget::new(64 << 20), &mut name);
        assert!(!losses.by_function && merged.store.n_places() > 3000, "{losses:?}");
    }

    /// Where not even functions fit, stacks of one sample lose frames between the outermost and the innermost
    /// one, and the hot one none.
    #[test]
    fn what_is_hot_stays_whole() {
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        let (mut n, mut n_hot) = (0u64, 0u64);
        for part in 0..10 {
            for i in 0..2000u64 {
                let number = part * 2000 + i;
                let mut head = abi::hf_sample::new_zeroed();
                (head.weight, head.time_ns) = (1, number * 1_000_000);
                (head.tgid, head.tid) = (7, 7);
                let is_hot = i % 2 == 0;
                let words: Vec<u64> = match is_hot {
                    true => (0..20).map(note).collect(),
                    // One of fifty functions, called in a way of its own.
                    false => (0..20)
                        .map(|depth| match depth {
                            0 => note(1000 + number % 50),
                            1 | 2 => note(2000 + number * 2 + depth),
                            _ => note(depth),
                        })
                        .collect(),
                };
                let hash = if is_hot { 1 } else { 10 + number };
                recording
                    .add(&Sample { head: &head, words: &words, hash, cut: 0, cut_pc: 0 }, || {
                        "/bin/app".into()
                    });
                n += 1;
                n_hot += u64::from(is_hot);
            }
            assert!(segments.put_away(&mut recording));
        }
        let room = 2 << 20;
        let (merged, losses) = segments.merge(&Budget::new(room), &mut nameless);
        let stacks = read(&merged);
        let weight = |whole: bool| -> u64 {
            let is_whole = |cut: u8| (u32::from(cut) == 0) == whole;
            let rows = stacks.iter().zip(&merged.samples.cut).filter(|(_, cut)| is_whole(**cut));
            rows.map(|((_, _, weight, _), _)| u64::from(*weight)).sum()
        };
        assert_eq!(weight(true) + weight(false), n);
        assert_eq!(weight(false), losses.shortened_whole);
        assert!(losses.shortened_whole > 0, "{losses:?}");
        let hot = stacks.iter().filter(|(_, _, _, frames)| {
            frames.len() == 20 && frames[0] == format!("{:x}", note(0))
        });
        assert_eq!(hot.map(|(_, _, weight, _)| u64::from(*weight)).sum::<u64>(), n_hot);
        // What was cut says so, and has its outermost frames and its innermost one still.
        for ((_, _, _, frames), cut) in stacks.iter().zip(&merged.samples.cut) {
            if u32::from(*cut) == abi::HF_CUT_BUDGET {
                let at = frames.iter().position(|frame| frame == Why::LeftOut.label());
                let outermost = frames.last().map(String::as_str);
                assert_eq!(
                    (at, outermost),
                    (Some(1), Some(&*format!("{:x}", note(19)))),
                    "{frames:?}"
                );
                let own = u64::from_str_radix(&frames[0], 16).expect("a number") - note(0);
                assert!((1000..1050).contains(&own), "{frames:?}");
            }
        }
        let held = merged.store.n_nodes() as u64 * NODE_BYTES
            + merged.samples.time_ns.len() as u64 * SAMPLE_PEAK_BYTES;
        assert!(held < room, "{held}");
    }

    /// A hundred thousand short processes become few, and no sample of theirs is lost.
    #[test]
    fn processes_fold() {
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        for part in 0..10u32 {
            for i in 0..1000 {
                let mut head = abi::hf_sample::new_zeroed();
                (head.weight, head.tgid) = (1, 1_000_000 + part * 1000 + i);
                head.tid = head.tgid;
                head.comm[0] = b'a' + (i % 3) as u8;
                let words = [note(1)];
                recording.add(
                    &Sample { head: &head, words: &words, hash: 1, cut: 0, cut_pc: 0 },
                    || "/bin/short".into(),
                );
                recording.exited(head.tgid);
            }
            assert!(segments.put_away(&mut recording));
        }
        let (merged, losses) = segments.merge(&Budget::new(1 << 20), &mut nameless);
        assert!(merged.processes.len() < 1500, "{}", merged.processes.len());
        assert!(losses.folded > 8000, "{losses:?}");
        assert_eq!(merged.processes.iter().map(|it| it.samples).sum::<u64>(), 10_000);
        let of_b: u64 =
            merged.processes.iter().filter(|it| it.facts.comm == "b").map(|it| it.samples).sum();
        assert_eq!(of_b, 3330);
        assert!(merged.threads.iter().all(|it| (it.process as usize) < merged.processes.len()));
    }

    /// Thousands of short processes with samples of their own cost no stack, and no more time
    /// resolution than leaves a picture: they are told apart less.
    #[test]
    fn many_processes_cost_no_stack() {
        let mut recording = Recording::default();
        let mut segments = Segments::default();
        let n = 30_000;
        for i in 0..n {
            let mut head = abi::hf_sample::new_zeroed();
            (head.weight, head.time_ns) = (1, u64::from(i) * 1_000_000);
            head.tgid = 1_000_000 + i / 3;
            head.tid = head.tgid;
            head.comm[0] = b'a' + (i % 2) as u8;
            let kind = u64::from(i % 3);
            let words = [note(kind), note(9)];
            recording
                .add(&Sample { head: &head, words: &words, hash: kind, cut: 0, cut_pc: 0 }, || {
                    "/bin/short".into()
                });
            recording.exited(head.tgid);
            if i % 15_000 == 14_999 {
                assert!(segments.put_away(&mut recording));
            }
        }
        let (merged, losses) = segments.merge(&Budget::new(1 << 20), &mut nameless);
        assert_eq!((losses.shortened_whole, losses.unread), (0, 0), "{losses:?}");
        assert!(losses.bucket_ns <= COARSE_BUCKET_NS, "{losses:?}");
        assert!(losses.folded > 5000, "{losses:?}");
        let weight: u64 = merged.samples.weight.iter().map(|&weight| u64::from(weight)).sum();
        assert_eq!(weight, u64::from(n));
        // All but what processes and tables' steps have.
        assert!(merged.samples.time_ns.len() as u64 * SAMPLE_PEAK_BYTES <= (1 << 20) / 16 * 13);
        assert_eq!(merged.processes.iter().map(|it| it.samples).sum::<u64>(), u64::from(n));
        assert!(merged.samples.thread.iter().all(|&it| (it as usize) < merged.threads.len()));
    }

    /// A file that was cut or written over is an error that is said, and its samples are counted.
    #[test]
    fn damage_is_counted() {
        for at in [0, 4, 100, 3000, 20_000] {
            let mut recording = Recording::default();
            let mut segments = Segments::default();
            fill(&mut recording, 0, 1000);
            assert!(segments.put_away(&mut recording));
            let file = segments.file.as_mut().expect("a file");
            file.seek(SeekFrom::Start(at)).expect("a place");
            file.write_all(&[0xff; 64]).expect("written");
            let (merged, losses) = segments.merge(&Budget::new(64 << 20), &mut nameless);
            let n = merged.samples.time_ns.len() as u64;
            assert!(n + losses.unread == 1000, "{at}: {n} {losses:?}");
        }
    }
}
