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

use crate::by_function::ByFunction;
use crate::processes::Facts;
use crate::recording::{Columns, Incarnation, Process, Recording, Thread};
use hotframe_abi as abi;
use hotframe_frames::{Budget, FrameInfo, FunctionInfo, Graft, StackId, Store, Why, naming_order};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

/// Bytes of one text at most: a store keeps 1 KiB of each, paths have at most 4.
const TEXT_MAX: u32 = 8 << 10;
/// The interval for which samples are first counted together.
const FIRST_BUCKET_NS: u64 = 100_000_000;
/// An interval in which what happened when can still be told: minutes keep a hundred points.
const COARSE_BUCKET_NS: u64 = 2_000_000_000;
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
const NODE_BYTES: u64 = 16;
/// Names stand in the store and in the profile: so many tenths of what they are charged.
const NAME_PEAK_TENTHS: u64 = 23;
/// A place in static code at that time, beyond a node's share, with its frame in the profile and
/// its name, of which it is charged 100 bytes. Measured: compilers take 80.
const PLACE_PEAK_BYTES: u64 = 245;
/// A sample: its row, its place in an order, and its widest column once more (`resolve::build`); or
/// while segments are read a quarter more rows, with a place in an order, a weight and a flag
/// ([`Columns::coarsen`]).
const SAMPLE_PEAK_BYTES: u64 = {
    let (building, reading) =
        (Columns::ROW_BYTES + 4 + 8, (Columns::ROW_BYTES + 4 + 4 + 1) * 5 / 4);
    if building > reading { building as u64 } else { reading as u64 }
};
/// Bytes of room for each word that may be named at once: itself in four lists, and its chain.
const NAMING_WORD_BYTES: u64 = 96;
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
        let store = &recording.store;
        let nodes = store.n_nodes() as u64 * NODE_BYTES * TREE_PEAK.0 / TREE_PEAK.1;
        let places = store.n_places() as u64 * PLACE_PEAK_BYTES;
        let n_samples = recording.samples.time_ns.len() as u64;
        self.ends.push(End { n_samples, end, tree_peak_bytes: nodes + places });
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
            // Three eighths of the room, in the profile too.
            let limit_bytes = by_function.room_bytes * 3 / 8 * 10 / NAME_PEAK_TENTHS;
            let names = name(&mut by_function.recording, words, limit_bytes);
            by_function.set_names(names);
            merge = self.merge_as(by_function);
        }
        // What the tree left is for names.
        let used = merge.in_store.used_bytes();
        let tree_bytes = merge.room_bytes - merge.processes_bytes - merge.samples_bytes;
        let peak = used * TREE_PEAK.0 / TREE_PEAK.1 + merge.twice_named_bytes;
        let left = tree_bytes.saturating_sub(peak);
        merge.in_store.set_limit_bytes(used + left * 10 / NAME_PEAK_TENTHS);
        (merge.recording, merge.losses)
    }

    fn merge_as(&mut self, mut merge: Merge) -> Merge {
        let n_samples: u64 = self.ends.iter().map(|end| end.n_samples).sum();
        let is_by_function = merge.by_function.is_some();
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
            merge.share(n_samples, to_come);
            merge.fold_processes(&mut []);
            if merge.recording.samples.time_ns.len() > merge.samples_max {
                merge.coarsen(&mut []);
                if merge.lacks_room {
                    break;
                }
            }
            if is_by_function && merge.give_up_frames(to_come) {
                merge.share(n_samples, to_come);
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

/// Where a node of a segment went.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: u32,
    /// It stands for one that found no room.
    is_short: bool,
}

/// The process in the store of those that have nothing of their own there.
const NOBODY: Incarnation = Incarnation { pid: 0, exec_id: 0, start_ns: 0 };

struct Merge {
    recording: Recording,
    losses: Losses,
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
    lacks_room: bool,
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
    fn new(room: &Budget, by_function: Option<ByFunction>) -> Merge {
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

    fn set_names(&mut self, names: ByFunction) {
        // Names that are there already are in the profile as well, as nodes are not.
        let more_tenths = NAME_PEAK_TENTHS - TREE_PEAK.0 * 10 / TREE_PEAK.1;
        self.twice_named_bytes = self.in_store.used_bytes() * more_tenths / 10;
        self.while_reading_bytes = names.heap_bytes() as u64;
        self.by_function = Some(names);
    }

    /// What stacks and their names take while the profile is built, or if that is more, now.
    fn tree_peak_bytes(&self) -> u64 {
        let used = self.in_store.used_bytes();
        let building = used * TREE_PEAK.0 / TREE_PEAK.1 + self.names_to_come_bytes();
        building.max(used + self.while_reading_bytes)
    }

    fn names_to_come_bytes(&self) -> u64 {
        self.recording.store.n_places() as u64 * PLACE_PEAK_BYTES + self.twice_named_bytes
    }

    /// Divides the room, where `n_samples` are expected in all, and stacks that take so many bytes
    /// more.
    fn share(&mut self, n_samples: u64, to_come_bytes: u64) {
        let room = self.room_bytes - self.processes_bytes;
        // An eighth on top: tables grow by steps.
        let taken = self.tree_peak_bytes() + to_come_bytes + self.room_bytes / 8;
        let left = room.saturating_sub(taken).max(self.room_bytes / 4);
        self.samples_bytes = left.min(n_samples * SAMPLE_PEAK_BYTES);
        self.samples_max = (self.samples_bytes / SAMPLE_PEAK_BYTES) as usize;
        self.coarsen_at = self.samples_max / 4 * 5;
        self.leave_room_for_names();
    }

    fn n_samples(&self) -> u64 {
        self.recording.samples.weight.iter().map(|&weight| u64::from(weight)).sum()
    }

    fn segment<R: Read>(&mut self, from: &mut In<R>) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Sample;
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
            head.cpu = (i % 2) as u32;
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
