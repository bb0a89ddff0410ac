//! Segments read back into one recording, inside one budget: what is given up where it is too small.
//!
//! In: segments, one after the other. Out: a [`Merge`], whose recording has all samples of all of them, and
//! whose losses say what it has of them no more. The order in which things are given up is that of
//! [`super`].

use super::{In, LISTED, Losses, NOTHING, OWN, VALUE, WORD};
use crate::by_function::ByFunction;
use crate::processes::Facts;
use crate::recording::{Columns, Incarnation, Process, Recording, Thread};
use hotframe_abi as abi;
use hotframe_frames::{Budget, FrameInfo, FunctionInfo, Graft, StackId, Store, Why};
use std::collections::HashMap;
use std::io::{self, Read};

/// The interval for which samples are first counted together.
const FIRST_BUCKET_NS: u64 = 100_000_000;
/// An interval in which what happened when can still be told: minutes keep a hundred points.
pub(super) const COARSE_BUCKET_NS: u64 = 2_000_000_000;
/// And the last, longer than any recording.
const LAST_BUCKET_NS: u64 = 1 << 60;
/// As many processes are told apart as long as time or places can be given up for it.
const PROCESSES_KEPT: usize = 256;
/// Bytes of a process in memory, texts included, and of a thread.
const PROCESS_BYTES: usize = size_of::<Process>() + 256;
/// Most is held while a profile is built (`resolve::build`), beyond what is charged to the store: a
/// node is charged 14.5 bytes, of which 8 stay, and takes 8 in the profile and 5 in its index.
const TREE_PEAK: (u64, u64) = (3, 2);
/// What the store is charged for a node, rounded up.
pub(super) const NODE_BYTES: u64 = 16;
/// Names stand in the store and in the profile: so many tenths of what they are charged.
const NAME_PEAK_TENTHS: u64 = 23;
/// A place in static code at that time, beyond a node's share, with its frame in the profile and
/// its name, of which it is charged 100 bytes. Measured: compilers take 80.
const PLACE_PEAK_BYTES: u64 = 245;
/// A sample: its row, its place in an order, and its widest column once more (`resolve::build`); or
/// while segments are read a quarter more rows, with a place in an order, a weight and a flag
/// ([`Columns::coarsen`]).
pub(super) const SAMPLE_PEAK_BYTES: u64 = {
    let (building, reading) =
        (Columns::ROW_BYTES + 4 + 8, (Columns::ROW_BYTES + 4 + 4 + 1) * 5 / 4);
    if building > reading { building as u64 } else { reading as u64 }
};
/// Bytes of room for each word that may be named at once: itself in four lists, and its chain.
pub(super) const NAMING_WORD_BYTES: u64 = 96;

/// What is left of a stack that gives up frames: so many outermost ones, and the innermost or not.
#[derive(Debug, Clone, Copy)]
struct Left {
    outermost: usize,
    innermost: bool,
}

/// What is left of stacks, one after the other; of those of one sample first, then of two, four, …, up
/// to so many. Where the innermost frames are as many as there are stacks, they go as well.
const GIVEN_UP: &[(&[Left], u32)] = &[
    (&[left(64), left(48), left(32), left(24), left(16), left(12), left(8)], 16),
    (
        &[left(6), left(4), left(3), left(2), left(1), Left { outermost: 1, innermost: false }],
        1 << 31,
    ),
];

const fn left(outermost: usize) -> Left {
    Left { outermost, innermost: true }
}

/// Samples of a process are counted under one of so many command names at most.
const FOLDED_MAX: usize = 1024;

/// What the tree of a recording and the names of that take at most while a profile is built.
pub(super) fn peak_bytes(store: &Store) -> u64 {
    let nodes = store.n_nodes() as u64 * NODE_BYTES * TREE_PEAK.0 / TREE_PEAK.1;
    nodes + store.n_places() as u64 * PLACE_PEAK_BYTES
}

/// Where a node of a segment went.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: u32,
    /// It stands for one that found no room.
    is_short: bool,
}

/// The process in the store of those that have nothing of their own there.
const NOBODY: Incarnation = Incarnation { pid: 0, exec_id: 0, start_ns: 0 };

/// A recording that takes in one segment after the other.
pub(super) struct Merge {
    pub(super) recording: Recording,
    pub(super) losses: Losses,
    room_bytes: u64,
    processes_bytes: u64,
    samples_bytes: u64,
    /// Samples are fewer after a segment; for the time of one they may be a quarter more.
    samples_max: usize,
    /// So many samples are looked at again for what can be counted together.
    coarsen_at: usize,
    processes_max: usize,
    in_store: Budget,
    /// Bytes beside the store that are needed as long as segments are read.
    while_reading_bytes: u64,
    /// Bytes that names which are in the store take when they are in the profile too.
    twice_named_bytes: u64,
    processes: HashMap<Incarnation, u32>,
    threads: HashMap<Thread, u32>,
    /// The short end below each node.
    refused: HashMap<u32, u32>,
    /// Functions of static code; `None`: places are kept apart.
    by_function: Option<ByFunction>,
    /// Places cannot be kept apart: everything read so far is to be read again.
    pub(super) lacks_room: bool,
}

/// What hangs at a node of a segment.
enum What {
    One(Graft),
    Chain(u32),
    /// It found no room when the segment was made, or now.
    Nothing,
}

/// What a word of static code of a segment is.
#[derive(Debug, Clone, Copy)]
enum Static {
    Place(u64),
    Chain(u32),
}

impl From<Static> for What {
    fn from(of: Static) -> What {
        match of {
            Static::Place(word) => What::One(Graft::Word(word)),
            Static::Chain(number) => What::Chain(number),
        }
    }
}

impl Merge {
    pub(super) fn new(room: &Budget, by_function: Option<ByFunction>) -> Merge {
        let room_bytes = room.limit_bytes();
        let processes_bytes = room_bytes / 16;
        let in_store = room.carve(room_bytes);
        let mut merge = Merge {
            recording: Recording::new(&in_store),
            losses: Losses { by_function: by_function.is_some(), ..Losses::default() },
            room_bytes,
            processes_bytes,
            samples_bytes: 0,
            samples_max: 0,
            coarsen_at: 0,
            processes_max: processes_bytes as usize / PROCESS_BYTES,
            in_store,
            while_reading_bytes: 0,
            twice_named_bytes: 0,
            processes: HashMap::new(),
            threads: HashMap::new(),
            refused: HashMap::new(),
            by_function,
            lacks_room: false,
        };
        merge.recording.leaves_are_nodes = true;
        // From the first graft on nothing is forgotten: numbers of frames by value stay.
        merge.short_end(0);
        merge
    }

    pub(super) fn set_names(&mut self, names: ByFunction) {
        // Names that are there already are in the profile as well, as nodes are not.
        let more_tenths = NAME_PEAK_TENTHS - TREE_PEAK.0 * 10 / TREE_PEAK.1;
        self.twice_named_bytes = self.in_store.used_bytes() * more_tenths / 10;
        self.while_reading_bytes = names.heap_bytes() as u64;
        self.by_function = Some(names);
    }

    /// What names of static code may take that come before any stack of it: three eighths of the room,
    /// in the profile too.
    pub(super) fn names_limit_bytes(&self) -> u64 {
        self.room_bytes * 3 / 8 * 10 / NAME_PEAK_TENTHS
    }

    /// What stacks and their names take while the profile is built, or if that is more, now.
    pub(super) fn tree_peak_bytes(&self) -> u64 {
        let used = self.in_store.used_bytes();
        let building = used * TREE_PEAK.0 / TREE_PEAK.1 + self.names_to_come_bytes();
        building.max(used + self.while_reading_bytes)
    }

    fn names_to_come_bytes(&self) -> u64 {
        self.recording.store.n_places() as u64 * PLACE_PEAK_BYTES + self.twice_named_bytes
    }

    /// Divides the room, where `n_samples` are expected in all, and stacks that take so many bytes
    /// more.
    pub(super) fn share(&mut self, n_samples: u64, to_come_bytes: u64) {
        let room = self.room_bytes - self.processes_bytes;
        // An eighth on top: tables grow by steps.
        let taken = self.tree_peak_bytes() + to_come_bytes + self.room_bytes / 8;
        let left = room.saturating_sub(taken).max(self.room_bytes / 4);
        self.samples_bytes = left.min(n_samples * SAMPLE_PEAK_BYTES);
        self.samples_max = (self.samples_bytes / SAMPLE_PEAK_BYTES) as usize;
        self.coarsen_at = self.samples_max / 4 * 5;
        self.leave_room_for_names();
    }

    pub(super) fn n_samples(&self) -> u64 {
        self.recording.samples.weight.iter().map(|&weight| u64::from(weight)).sum()
    }

    pub(super) fn segment<R: Read>(&mut self, from: &mut In<R>) -> io::Result<()> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let n_words = from.u32()?;
        let mut words = Vec::new();
        for _ in 0..n_words {
            words.push(self.what_is(from.u64()?));
        }
        let n_processes = from.u32()?;
        let mut processes = Vec::new();
        for _ in 0..n_processes {
            processes.push(self.process(from)?);
        }
        let n_threads = from.u32()?;
        let mut threads = Vec::new();
        for _ in 0..n_threads {
            let process = *processes.get(from.u32()? as usize).ok_or_else(bad)?;
            let thread = Thread { process, tid: from.u32()?, comm: from.bytes()? };
            threads.push(self.thread(thread));
        }
        let nodes = self.tree(from, &processes, &words)?;
        drop(words);
        let n_samples = from.u32()?;
        for _ in 0..n_samples {
            let time_ns = from.u64()?;
            let thread = *threads.get(from.u32()? as usize).ok_or_else(bad)?;
            let place = *nodes.get(from.u32()? as usize).ok_or_else(bad)?;
            let cpu = u16::from_le_bytes(from.bytes()?);
            let [mut cut] = from.bytes()?;
            if place.is_short && u32::from(cut) != abi::HF_CUT_BUDGET {
                self.book_short(thread, cut, 1);
                cut = abi::HF_CUT_BUDGET as u8;
            }
            let samples = &mut self.recording.samples;
            samples.push(time_ns, thread, StackId(place.node), cpu, cut);
            samples.weight.push(1);
            if samples.time_ns.len() > self.coarsen_at {
                self.coarsen(&mut threads);
                if self.lacks_room {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                // Where it did not help, frames are given up when the part is read.
                let n_rows = self.recording.samples.time_ns.len();
                self.coarsen_at = self.coarsen_at.max(n_rows / 4 * 5);
            }
        }
        Ok(())
    }

    /// Makes room after a segment, for stacks that take so many bytes more. Where that is not enough, it
    /// [lacks room](Merge::lacks_room), or gives up frames if places are told apart no more.
    pub(super) fn make_room(&mut self, n_samples: u64, to_come_bytes: u64) {
        self.share(n_samples, to_come_bytes);
        self.fold_processes(&mut []);
        if self.recording.samples.time_ns.len() > self.samples_max {
            self.coarsen(&mut []);
            if self.lacks_room {
                return;
            }
        }
        if self.by_function.is_some() && self.give_up_frames(to_come_bytes) {
            self.share(n_samples, to_come_bytes);
        }
    }

    /// There are no more segments: what the tree left is for names.
    pub(super) fn finish(self) -> (Recording, Losses) {
        let used = self.in_store.used_bytes();
        let tree_bytes = self.room_bytes - self.processes_bytes - self.samples_bytes;
        let peak = used * TREE_PEAK.0 / TREE_PEAK.1 + self.twice_named_bytes;
        let left = tree_bytes.saturating_sub(peak);
        self.in_store.set_limit_bytes(used + left * 10 / NAME_PEAK_TENTHS);
        (self.recording, self.losses)
    }

    /// So many samples of a thread are now cut by the budget.
    fn book_short(&mut self, thread: u32, cut: u8, n: u64) {
        let reason = usize::from(cut).min(abi::HF_CUT_COUNT as usize - 1);
        let process = self.recording.threads.get(thread as usize).map_or(0, |it| it.process);
        let Some(process) = self.recording.processes.get_mut(process as usize) else { return };
        if u32::from(cut) == abi::HF_CUT_NONE {
            self.losses.shortened_whole += n;
            process.whole = process.whole.saturating_sub(n);
        } else {
            self.losses.shortened_cut[reason] += n;
            process.cut[reason] = process.cut[reason].saturating_sub(n);
        }
        process.cut[abi::HF_CUT_BUDGET as usize] += n;
    }

    fn leave_room_for_names(&mut self) {
        let room = self.room_bytes.saturating_sub(self.processes_bytes + self.samples_bytes);
        let building = room.saturating_sub(self.names_to_come_bytes()) * TREE_PEAK.1 / TREE_PEAK.0;
        let reading = room.saturating_sub(self.while_reading_bytes);
        self.in_store.set_limit_bytes(building.min(reading));
    }

    fn process<R: Read>(&mut self, from: &mut In<R>) -> io::Result<u32> {
        let (pid, exec_id) = (from.u32()?, from.u32()?);
        let incarnation = Incarnation { pid, exec_id, start_ns: from.u64()? };
        let mut facts = Facts::default();
        for text in [&mut facts.comm, &mut facts.exe, &mut facts.cgroup] {
            *text = from.text()?;
        }
        let (samples, whole) = (from.u64()?, from.u64()?);
        let mut cut = [0; abi::HF_CUT_COUNT as usize];
        for n in &mut cut {
            *n = from.u64()?;
        }
        let recording = &mut self.recording;
        if let Some(&known) = self.processes.get(&incarnation)
            && let Some(process) = recording.processes.get_mut(known as usize)
        {
            process.samples += samples;
            process.whole += whole;
            process.cut.iter_mut().zip(cut).for_each(|(sum, n)| *sum += n);
            return Ok(known);
        }
        let number = recording.processes.len() as u32;
        // Few have addresses of their own: only these take room in the store.
        let in_store = recording.store.incarnation(NOBODY.into());
        let cut_at = HashMap::new();
        recording.processes.push(Process {
            incarnation,
            in_store,
            facts,
            samples,
            whole,
            cut,
            cut_at,
        });
        self.processes.insert(incarnation, number);
        Ok(number)
    }

    fn thread(&mut self, thread: Thread) -> u32 {
        let threads = &mut self.recording.threads;
        *self.threads.entry(thread).or_insert_with(|| {
            threads.push(thread);
            threads.len() as u32 - 1
        })
    }

    fn what_is(&self, word: u64) -> Static {
        let chain = self.by_function.as_ref().and_then(|names| names.number(word));
        chain.map_or(Static::Place(word), Static::Chain)
    }

    fn tree<R: Read>(
        &mut self,
        from: &mut In<R>,
        processes: &[u32],
        words: &[Static],
    ) -> io::Result<Vec<Place>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let n_values = from.u32()?;
        // `None`: it found no room.
        let mut values: Vec<Option<u32>> = Vec::new();
        for _ in 0..n_values {
            let (line, start_line) = (from.u32()?, from.u32()?);
            let [flags, kind] = from.bytes()?;
            let mut texts: [String; 5] = Default::default();
            for text in &mut texts {
                *text = from.text()?;
            }
            let [name, system_name, file, path, build_id] = &texts;
            let function = FunctionInfo {
                name: name.as_bytes(),
                system_name: system_name.as_bytes(),
                file: file.as_bytes(),
                start_line,
                kind,
                module_path: path.as_bytes(),
                module_build_id: build_id.as_bytes(),
            };
            values.push(self.recording.store.keep_frame(&[FrameInfo { function, line, flags }]));
        }
        let n_nodes = from.u32()?;
        let mut nodes = vec![Place { node: 0, is_short: false }];
        for number in 1..n_nodes {
            if number % 1024 == 1 {
                self.leave_room_for_names();
            }
            let parent = *nodes.get(from.u32()? as usize).ok_or_else(bad)?;
            let [tag] = from.bytes()?;
            let what = match tag {
                LISTED => (*words.get(from.u32()? as usize).ok_or_else(bad)?).into(),
                WORD => self.what_is(from.u64()?).into(),
                OWN => {
                    let process = processes.get(from.u32()? as usize);
                    let word = from.u64()?;
                    let Recording { processes, store, .. } = &mut self.recording;
                    match process.and_then(|&at| processes.get_mut(at as usize)) {
                        Some(process) => {
                            process.in_store = store.incarnation(process.incarnation.into());
                            What::One(Graft::Own(process.in_store, word))
                        }
                        None => What::Nothing,
                    }
                }
                VALUE => values
                    .get(from.u32()? as usize)
                    .ok_or_else(bad)?
                    .map_or(What::Nothing, |number| What::One(Graft::Frame(number))),
                NOTHING => What::Nothing,
                _ => return Err(bad()),
            };
            // Below what found no room nothing is hung on.
            let node = match what {
                _ if parent.is_short => None,
                What::One(graft) => self.recording.store.graft(parent.node, graft),
                What::Chain(number) => self.hang_chain(parent.node, number),
                What::Nothing => None,
            };
            if node.is_none() && !parent.is_short && self.by_function.is_none() {
                self.lacks_room = true;
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            nodes.push(match node {
                Some(node) => Place { node, is_short: false },
                None if parent.is_short => parent,
                None => Place { node: self.short_end(parent.node), is_short: true },
            });
        }
        Ok(nodes)
    }

    fn hang_chain(&mut self, parent: u32, number: u32) -> Option<u32> {
        let chain = self.by_function.as_ref()?.chain(number);
        let store = &mut self.recording.store;
        chain.iter().try_fold(parent, |parent, &frame| store.graft(parent, Graft::Frame(frame)))
    }

    /// The node below `parent` that says what is missing; `parent` itself where not even that fits.
    fn short_end(&mut self, parent: u32) -> u32 {
        if let Some(&known) = self.refused.get(&parent) {
            return known;
        }
        let store: &mut Store = &mut self.recording.store;
        let note = store.note_number(Why::LeftOut, crate::profile::Kind::Note as u8);
        let node = store.graft(parent, Graft::Frame(note));
        if let Some(node) = node {
            self.refused.insert(parent, node);
        }
        node.unwrap_or(parent)
    }

    /// Counts samples of a thread and stack together, in intervals that double. Where two seconds
    /// are not enough, processes are told apart less, for on a machine that starts thousands each
    /// has samples of its own; then places become functions, which is for the caller to do; then
    /// intervals go on to double, and the rest of the processes is folded. `threads` are numbers of
    /// threads that are still needed.
    fn coarsen(&mut self, threads: &mut [u32]) {
        // What came since the last time is as the rest, also where that cannot be made coarser.
        if self.losses.bucket_ns > 0 {
            self.recording.samples.coarsen(self.losses.bucket_ns);
        }
        // The cheapest is done at once and leaves half of the room; the rest as far as is needed.
        self.coarsen_until(COARSE_BUCKET_NS, self.samples_max / 2);
        self.coarsen_processes(PROCESSES_KEPT, threads);
        if self.by_function.is_none() && self.recording.samples.time_ns.len() > self.samples_max {
            self.lacks_room = true;
            return;
        }
        self.coarsen_until(LAST_BUCKET_NS, self.enough());
        self.coarsen_processes(2, threads);
    }

    fn enough(&self) -> usize {
        self.samples_max / 8 * 7
    }

    fn coarsen_until(&mut self, last_ns: u64, enough: usize) {
        let mut bucket_ns = self.losses.bucket_ns.max(FIRST_BUCKET_NS / 2);
        while self.recording.samples.time_ns.len() > enough && bucket_ns * 2 <= last_ns {
            bucket_ns *= 2;
            self.recording.samples.coarsen(bucket_ns);
        }
        self.losses.bucket_ns = bucket_ns;
    }

    fn coarsen_processes(&mut self, least: usize, threads: &mut [u32]) {
        let enough = self.enough();
        while self.recording.samples.time_ns.len() > enough && self.processes_max > least {
            self.processes_max = (self.processes_max / 2).max(least);
            if self.fold_processes(threads) {
                self.recording.samples.coarsen(self.losses.bucket_ns);
            }
        }
    }

    /// Where stacks and samples together have no room beside what is to come, stacks of few samples
    /// give up frames between the outermost and the innermost one, and are counted with what is left of
    /// their neighbours, until a quarter of the room is free. Whether there was anything to give up.
    fn give_up_frames(&mut self, to_come_bytes: u64) -> bool {
        let room = self.room_bytes / 8 * 7;
        let room = room.saturating_sub(self.processes_bytes + to_come_bytes);
        if self.has_room(room, 1, 1) {
            return false;
        }
        // Who has few samples is known when all of the time is counted together.
        self.losses.bucket_ns = LAST_BUCKET_NS;
        self.recording.samples.coarsen(LAST_BUCKET_NS);
        if self.has_room(room, 1, 1) {
            return true;
        }
        for (steps, weight_max) in GIVEN_UP {
            for weight_max in (0..32).map(|power| 1 << power).take_while(|it| it <= weight_max) {
                for &left in *steps {
                    if self.has_room(room, 3, 4) {
                        return true;
                    }
                    if self.shorten(weight_max, left) {
                        self.recording.samples.coarsen(self.losses.bucket_ns);
                        self.recording.store.keep_nodes(&mut self.recording.samples.stack);
                        self.refused.clear();
                    }
                }
            }
        }
        true
    }

    /// Do samples, nodes and places take no more than this part of what is left of `room` beside names?
    /// These stay, however many frames are given up.
    fn has_room(&self, room: u64, part: u64, of: u64) -> bool {
        let n_rows = self.recording.samples.time_ns.len() as u64;
        let store = &self.recording.store;
        let nodes = store.n_nodes() as u64 * NODE_BYTES * TREE_PEAK.0 / TREE_PEAK.1;
        let tree = nodes + store.n_places() as u64 * PLACE_PEAK_BYTES;
        let names = self.tree_peak_bytes().saturating_sub(tree);
        let left = room.saturating_sub(names).max(self.room_bytes / 8);
        n_rows * SAMPLE_PEAK_BYTES + tree <= left / of * part
    }

    /// Leaves the stacks of at most `weight_max` samples what `left` says, with a frame between, or at
    /// the end, that says so. Whether there were longer ones.
    fn shorten(&mut self, weight_max: u32, left: Left) -> bool {
        let note = self.recording.store.note_number(Why::LeftOut, crate::profile::Kind::Note as u8);
        let mut changed = false;
        // From the leaf outwards.
        let mut nodes = Vec::new();
        for at in 0..self.recording.samples.time_ns.len() {
            let samples = &self.recording.samples;
            let (thread, cut, leaf) = (samples.thread[at], samples.cut[at], samples.stack[at].0);
            let weight = samples.weight.get(at).copied().unwrap_or(1);
            if weight > weight_max {
                continue;
            }
            let store = &self.recording.store;
            nodes.clear();
            nodes.extend(std::iter::successors(Some(leaf), |&node| {
                Some(store.node(node).parent).filter(|&parent| parent != 0)
            }));
            let graft = |node: u32| store.grafts_at(store.node(node)).next();
            let is_note = |node: Option<&u32>| {
                node.is_some_and(|&node| graft(node) == Some(Graft::Frame(note)))
            };
            // What was shortened before has that frame already, last or before the last.
            let (inner, n_ends) = match (is_note(nodes.first()), is_note(nodes.get(1))) {
                (true, _) => (None, 1),
                (false, true) => (graft(leaf), 2),
                (false, false) => (graft(leaf), 1),
            };
            let n_outer = nodes.len() - n_ends;
            // One frame that says what is missing in the place of one would not be less.
            let is_whole = n_ends == 1 && inner.is_some();
            let gives_up_inner = inner.is_some() && !left.innermost;
            let outermost = left.outermost.min(n_outer);
            if leaf == 0 || n_outer <= left.outermost + usize::from(is_whole) && !gives_up_inner {
                continue;
            }
            let Some(&outer) = nodes.get(nodes.len() - outermost) else { continue };
            let end = self.short_end(outer);
            let inner = inner.filter(|_| left.innermost);
            let inner = inner.and_then(|inner| self.recording.store.graft(end, inner));
            changed = true;
            self.recording.samples.stack[at] = StackId(inner.unwrap_or(end));
            if u32::from(cut) != abi::HF_CUT_BUDGET {
                self.book_short(thread, cut, u64::from(weight));
                self.recording.samples.cut[at] = abi::HF_CUT_BUDGET as u8;
            }
        }
        changed
    }

    /// Where there are too many processes, those with the fewest samples become one for each
    /// command name.
    ///
    /// Numbers of processes and threads change, those of samples and of `threads` with them. False if
    /// there are not too many.
    fn fold_processes(&mut self, threads: &mut [u32]) -> bool {
        let recording = &mut self.recording;
        if recording.processes.len() <= self.processes_max.max(2) {
            return false;
        }
        let mut by_samples: Vec<u32> = (0..recording.processes.len() as u32).collect();
        by_samples.sort_by_key(|&at| {
            let process = &recording.processes[at as usize];
            // What was folded before is folded again.
            (process.incarnation.pid == 0, std::cmp::Reverse(process.samples), at)
        });
        let mut is_kept = vec![false; by_samples.len()];
        for &at in by_samples.iter().take(self.processes_max / 2) {
            is_kept[at as usize] = true;
        }
        let mut folded: HashMap<String, u32> = HashMap::new();
        let mut kept: Vec<Process> = Vec::new();
        let mut new_number = Vec::with_capacity(is_kept.len());
        for (process, is_kept) in std::mem::take(&mut recording.processes).into_iter().zip(is_kept)
        {
            let next = kept.len() as u32;
            if is_kept && process.incarnation.pid != 0 {
                new_number.push(next);
                kept.push(process);
                continue;
            }
            self.losses.folded += u64::from(process.incarnation.pid != 0);
            let comm = match folded.len() < FOLDED_MAX {
                true => process.facts.comm.as_str(),
                false => "[others]",
            };
            match folded.get(comm) {
                Some(&into) => {
                    if let Some(sum) = kept.get_mut(into as usize) {
                        sum.samples += process.samples;
                        sum.whole += process.whole;
                        sum.cut.iter_mut().zip(process.cut).for_each(|(sum, n)| *sum += n);
                    }
                    new_number.push(into);
                }
                None => {
                    folded.insert(comm.to_owned(), next);
                    new_number.push(next);
                    let comm = comm.to_owned();
                    kept.push(Process {
                        incarnation: NOBODY,
                        facts: Facts { comm, exe: process.facts.exe, cgroup: String::new() },
                        ..process
                    });
                }
            }
        }
        recording.processes = kept;
        // Threads of what was folded are one each.
        let old = std::mem::take(&mut recording.threads);
        self.threads.clear();
        let mut new_thread = Vec::with_capacity(old.len());
        for thread in old {
            let process = new_number.get(thread.process as usize).copied().unwrap_or_default();
            let is_folded = self
                .recording
                .processes
                .get(process as usize)
                .is_some_and(|process| process.incarnation.pid == 0);
            let thread = match is_folded {
                true => Thread { process, tid: 0, comm: [0; 16] },
                false => Thread { process, ..thread },
            };
            new_thread.push(self.thread(thread));
        }
        for thread in self.recording.samples.thread.iter_mut().chain(threads) {
            *thread = new_thread.get(*thread as usize).copied().unwrap_or_default();
        }
        self.processes = self
            .recording
            .processes
            .iter()
            .zip(0..)
            .filter(|(process, _)| process.incarnation.pid != 0)
            .map(|(process, number)| (process.incarnation, number))
            .collect();
        true
    }
}
