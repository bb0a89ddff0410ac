//! One recording as it runs: side-band and samples in, a [`Recording`] and the books out.
//!
//! In: raw side-band records and ring records, in passes. A pass notes how far the ring reaches, hands
//! over all side-band records, then the ring's up to there, and ends; everything is gone through in
//! order of time. Out: samples with whole or honestly cut stacks; tables published so
//! that the next walk needs no help.
//!
//! # How it works
//! A sample whose walk lacked a table comes with its registers and stack. The walk is finished
//! here by the same C; each time a table is missing it is loaded, which also serves the kernel half
//! from then on. An exec is published as soon as its mappings are known, mostly before its first
//! tick.
//!
//! # Cost
//! A known stack: one look-up. A slice: the walk (microseconds) and the rows it was missing
//! (about 0.2 ms for 64 KiB of text, once).

use crate::files::{FileId, Files, Reader, State};
use crate::jit::Jit;
use crate::processes::{self, Mapping, Memory, NO_CGROUP, Processes};
use crate::profile::{FRAME_INLINED, Kind};
use crate::recording::{Exe, Incarnation, Question, Recording, Sample};
use crate::registered::{Registered, Verdict};
use crate::runtimes::{Asker, Runtimes};
use crate::segments::Segments;
use crate::sideband::{self, Event};
use crate::tables::{Tables, without_file};
use crate::walk::{ReadUser, Stop, Walk};
use hotframe_abi as abi;
use hotframe_frames::{FrameInfo, FunctionInfo};
use hotframe_objects::ReadAt as _;
use hotframe_runtime::{Frame, Why};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};
use zerocopy::FromBytes as _;

/// Tables loaded for one walk at most: each is 64 KiB of text or a reading of maps.
const MAX_LOADS_PER_WALK: usize = 512;
/// Questions to runtimes that are under way: the rest waits in the store.
const MAX_ASKED: usize = 4096;
/// Time that runtimes may take in one pass: the ring holds a quarter of a second.
const NAMING_PER_PASS: Duration = Duration::from_millis(50);
/// Time after which a pass leaves records to the next one: the ring has to be emptied in between, for
/// a full one gets smaller pieces of stacks.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes of stacks that may wait for the next pass: when there are more, the ring has to hold them.
const WAITING_MAX_BYTES: usize = 2 << 20;
/// Time that rows may take that are loaded before a walk misses them, in one pass, and how far from
/// a runtime's code they are: an interpreter's library has 2 to 4 MiB of text, some 10 ms of rows.
const AHEAD_PER_PASS: Duration = Duration::from_millis(2);
const AHEAD_BYTES: u64 = 2 << 20;
/// Frame words that there is room for from pass to pass.
const WORDS_KEPT: usize = 16 << 10;
/// Symbols of BPF programs and trampolines kept.
const MAX_KERNEL_SYMBOLS: usize = 16384;

/// A symbol that the kernel announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedSymbol {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// Name.
    pub name: String,
}

/// What the session counts itself; the kernel half counts the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that reached user space.
    pub samples: u64,
    /// Whole stacks.
    pub whole: u64,
    /// Cut stacks by `HF_CUT_*`.
    pub cut: [u64; abi::HF_CUT_COUNT as usize],
    /// Stacks with a frame found by a heuristic.
    pub heuristic: u64,
    /// Walks finished here.
    pub from_slice: u64,
    /// Walks compared with an independent unwinder, and those that agreed.
    pub audited: u64,
    /// See `audited`.
    pub agreed: u64,
    /// Records that could not be decoded.
    pub bad_records: u64,
    /// When the first sample with a whole user stack was taken, CLOCK_MONOTONIC; 0: not yet.
    pub first_user_stack_ns: u64,
}

/// A walk to be judged by an independent unwinder.
pub struct AuditCase<'a> {
    /// Registers at the tick.
    pub regs: &'a [u64; abi::HF_NREGS as usize],
    /// Address and bytes of the stack.
    pub stack: (u64, &'a [u8]),
    /// User frames as walked, leaf first.
    pub words: &'a [u64],
    /// The process's executable mappings.
    pub mappings: &'a [Mapping],
    /// All files.
    pub files: &'a Files,
    /// The stack was cut, and why.
    pub cut: u8,
}

/// What an independent unwinder says of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The same.
    Agrees,
    /// Something else.
    Differs,
    /// Nothing, and why.
    NotJudged(&'static str),
}

/// Judges walks: `None` once it judged all that it was to.
pub type Auditor = Box<dyn FnMut(&AuditCase<'_>) -> Option<Judgement>>;

/// Records of the ring that are gone through in order of time.
enum Taken {
    Sample(TakenSample),
    Space(abi::hf_space_record),
}

struct TakenSample {
    head: abi::hf_sample,
    /// Of the session's words.
    words: Range<usize>,
    slice: Option<Box<(abi::hf_slice, Stack)>>,
}

impl Taken {
    fn time_ns(&self) -> u64 {
        match self {
            Taken::Sample(sample) => sample.head.time_ns,
            Taken::Space(space) => space.time_ns,
        }
    }

    fn stack_bytes(&self) -> usize {
        match self {
            Taken::Sample(sample) => sample.slice.as_ref().map_or(0, |slice| slice.1.len()),
            Taken::Space(_) => 0,
        }
    }
}

/// What the kernel half copied of a stack.
struct Stack {
    /// From the stack pointer up.
    inner: Piece,
    /// The outer end, where the inner piece does not reach it.
    outer: Option<Piece>,
}

struct Piece {
    addr: u64,
    bytes: Vec<u8>,
}

impl Stack {
    /// Bytes of all of it.
    fn len(&self) -> usize {
        self.inner.bytes.len() + self.outer.as_ref().map_or(0, |outer| outer.bytes.len())
    }

    /// What stands at an address of the process.
    fn at(&self, addr: u64, bytes: usize) -> Option<&[u8]> {
        self.inner.at(addr, bytes).or_else(|| self.outer.as_ref()?.at(addr, bytes))
    }
}

impl Piece {
    fn of(addr: u64, bytes: &[u8]) -> Piece {
        Piece { addr, bytes: bytes.to_vec() }
    }

    fn at(&self, addr: u64, bytes: usize) -> Option<&[u8]> {
        let at = usize::try_from(addr.checked_sub(self.addr)?).ok()?;
        self.bytes.get(at..)?.get(..bytes)
    }
}

/// It may hold anything that the program had on its stack: nothing of it outlives the walk.
impl Drop for Piece {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&mut self.bytes);
    }
}

/// A recording under way.
pub struct Session {
    /// Files of code.
    pub files: Files,
    /// Processes.
    pub processes: Processes,
    /// Tables in shared memory.
    pub tables: Tables,
    /// What was taken since the last part was put away.
    pub recording: Recording,
    /// What was put away on disk, if it may be: a recording that is read as it goes on must not.
    pub segments: Option<Segments>,
    /// Generated code that was sampled.
    pub jit: Jit,
    /// Code that JITs registered with GDB's interface.
    pub registered: Registered,
    /// Language runtimes and the processes they serve.
    pub runtimes: Runtimes,
    /// What was counted.
    pub counts: Counts,
    /// Kernel symbols announced while recording.
    pub kernel_symbols: BTreeMap<u64, AnnouncedSymbol>,
    /// Processes whose first thread, or one after that, ended since this was last emptied: most of
    /// them ended.
    pub exited: Vec<u32>,
    /// Mappings changed in the last pass: a process that begins maps its libraries within a
    /// millisecond or two, so the next pass should come soon.
    pub is_settling: bool,
    /// When the next pass should come for the sake of runtimes, CLOCK_MONOTONIC.
    pub look_at_ns: u64,
    /// Parent and child of forks since this was last emptied.
    pub forked: Vec<(u32, u32)>,
    auditor: Option<Auditor>,
    /// Walks that the auditor could say nothing of, by reason: as many as it has reasons.
    pub not_judged: BTreeMap<&'static str, u64>,
    /// Stacks that lack frames of a runtime, by that and its reason: bytes of samples, so that no more
    /// than 65,280 can be told apart.
    lost: BTreeMap<(u8, u8), u64>,
    stacks: HashMap<u64, Stack>,
    slices: HashMap<u16, abi::hf_slice>,
    /// By CPU, of the stack whose sample is yet to come.
    parts: HashMap<u16, (abi::hf_sample, Vec<u64>)>,
    unpublished: HashSet<u32>,
    used: HashSet<(FileId, u32)>,
    sideband: Vec<sideband::Record>,
    taken: Vec<Taken>,
    /// Frame words of the samples that were taken.
    words: Vec<u64>,
    /// Text whose rows are to be loaded before they are missed: of a process, from, to.
    ahead: VecDeque<(u32, u64, u64)>,
    /// Files of which that was done.
    was_ahead: HashSet<FileId>,
    /// Of the last pass.
    now_ns: u64,
}

impl Session {
    /// A session that owns the tables.
    pub fn new(tables: Tables, auditor: Option<Auditor>) -> Session {
        Session {
            files: Files::default(),
            processes: Processes::default(),
            tables,
            recording: Recording::default(),
            segments: None,
            jit: Jit::default(),
            registered: Registered::default(),
            runtimes: Runtimes::default(),
            counts: Counts::default(),
            kernel_symbols: BTreeMap::new(),
            exited: Vec::new(),
            is_settling: false,
            look_at_ns: u64::MAX,
            forked: Vec::new(),
            auditor,
            not_judged: BTreeMap::new(),
            lost: BTreeMap::new(),
            stacks: HashMap::new(),
            slices: HashMap::new(),
            parts: HashMap::new(),
            unpublished: HashSet::new(),
            used: HashSet::new(),
            sideband: Vec::new(),
            taken: Vec::new(),
            words: Vec::new(),
            ahead: VecDeque::new(),
            was_ahead: HashSet::new(),
            now_ns: 0,
        }
    }

    /// Takes a side-band record of this pass.
    pub fn sideband(&mut self, bytes: &[u8]) {
        self.sideband.extend(sideband::decode(bytes));
    }

    /// Takes a record of the ring of this pass.
    pub fn record(&mut self, bytes: &[u8]) {
        let known = match bytes.first().map(|&kind| u32::from(kind)) {
            Some(abi::HF_RECORD_SAMPLE) => self.take_sample(bytes),
            Some(abi::HF_RECORD_PART) => self.take_part(bytes),
            Some(abi::HF_RECORD_STACK) => self.take_stack(bytes),
            Some(abi::HF_RECORD_SLICE) => self.take_slice(bytes),
            Some(abi::HF_RECORD_SPACE) => self.take_space(bytes),
            Some(abi::HF_RECORD_TOLD) => self.take_told(bytes),
            _ => None,
        };
        if known.is_none() {
            self.counts.bad_records += 1;
        }
    }

    /// Goes through the pass in order of time: an exec that came after a sample must not take its
    /// mappings away. `now_ns` is CLOCK_MONOTONIC.
    fn apply(&mut self, now_ns: u64, until: Option<Instant>) {
        let mut events = std::mem::take(&mut self.sideband);
        let mut taken = std::mem::take(&mut self.taken);
        let mut words = std::mem::take(&mut self.words);
        events.sort_by_key(|event| event.time_ns);
        taken.sort_by_key(Taken::time_ns);
        let mut waiting_bytes: usize = taken.iter().map(Taken::stack_bytes).sum();
        let mut events = events.drain(..).peekable();
        let mut records = taken.drain(..);
        while let Some(record) = records.next() {
            while let Some(event) = events.next_if(|event| event.time_ns <= record.time_ns()) {
                self.event(event);
            }
            waiting_bytes -= record.stack_bytes();
            match record {
                Taken::Sample(sample) => {
                    let words = words.get(sample.words.clone()).unwrap_or_default();
                    self.sample(&sample, words, now_ns);
                }
                Taken::Space(space) => {
                    let process = self.processes.entry(space.tgid);
                    process.space_id = space.space_id;
                    process.cgroup = space.cgroup;
                    process.is_dirty = true;
                    self.unpublished.insert(space.tgid);
                }
            }
            if until.is_some_and(|until| Instant::now() >= until)
                && waiting_bytes <= WAITING_MAX_BYTES
                && records.len() > 0
            {
                // What happened after the next record waits with it.
                self.sideband = events.collect();
                for mut record in records {
                    if let Taken::Sample(sample) = &mut record {
                        let from = self.words.len();
                        let kept = words.get(sample.words.clone()).unwrap_or_default();
                        self.words.extend_from_slice(kept);
                        sample.words = from..self.words.len();
                    }
                    self.taken.push(record);
                }
                return;
            }
        }
        events.for_each(|event| self.event(event));
        drop(records);
        self.taken = taken;
        words.clear();
        // What a crowded pass took is given back.
        words.shrink_to(WORDS_KEPT);
        self.words = words;
    }

    /// Records wait for the next pass.
    pub fn is_behind(&self) -> bool {
        !self.taken.is_empty()
    }

    fn event(&mut self, record: sideband::Record) {
        match &record.event {
            Event::Ksymbol { start, bytes, gone, name } => {
                // A symbol that goes stays: samples of it may still come, and exports will.
                if !gone && self.kernel_symbols.len() < MAX_KERNEL_SYMBOLS {
                    let symbol =
                        AnnouncedSymbol { start: *start, bytes: *bytes, name: name.clone() };
                    self.kernel_symbols.insert(*start, symbol);
                }
                return;
            }
            Event::Fork { pid, parent_pid, .. } if pid != parent_pid => {
                self.forked.push((*parent_pid, *pid));
            }
            // Other threads may go on after the first one, and any of them may be the last.
            Event::Exit { pid, tid }
                if pid == tid
                    || self.processes.get(*pid).is_some_and(|it| it.exited_ns.is_some()) =>
            {
                self.recording.exited(*pid);
                self.exited.push(*pid);
            }
            _ => {}
        }
        if let Some(pid) = self.processes.apply(record.time_ns, &record.event, &mut self.files) {
            self.unpublished.insert(pid);
        }
    }

    /// Asks runtimes for the names of dynamic frames that were not met before, until there are no
    /// more or time is up: what is left is asked first the next time. Returns how many are left.
    pub fn answer_questions(&mut self, until: Instant) -> usize {
        let mut asked = std::mem::take(&mut self.recording.asked);
        asked.extend(self.recording.take_questions(MAX_ASKED.saturating_sub(asked.len())));
        let now_ns = self.now_ns;
        // By process: what is read of it once serves all.
        asked.sort_by_key(|question| question.incarnation.pid);
        let mut rest = asked.as_slice();
        while let Some(first) = rest.first() {
            let incarnation = first.incarnation;
            // A fork inherited its parent's regions; and the parent, which may have slept ever since
            // and so not been met, can be read when its children are gone.
            let parent = self.processes.parent(incarnation.pid);
            for pid in [Some(incarnation.pid), parent].into_iter().flatten() {
                if self.runtimes.serves(pid) {
                    continue;
                }
                if self.processes.get(pid).is_some_and(|process| !process.is_complete) {
                    self.processes.refresh(pid, now_ns, &mut self.files);
                }
                self.publish(pid, now_ns);
            }
            let n = rest.iter().take_while(|asked| asked.incarnation == incarnation).count();
            let batch = rest.get(..n).unwrap_or_default();
            let words: Vec<&[u64]> = batch.iter().map(|asked| &*asked.words).collect();
            let recording = &mut self.recording;
            let of = recording.store.incarnation(incarnation.into());
            let done = self.runtimes.resolve(
                incarnation,
                &words,
                self.processes.get(incarnation.pid),
                &self.files,
                until,
                &mut Asking { recording, of, batch },
            );
            rest = rest.get(done..).unwrap_or_default();
            if Instant::now() >= until {
                break;
            }
        }
        self.recording.asked = rest.to_vec();
        self.recording.store.n_pending()
    }

    /// Ends a pass: everything taken is gone through, what changed is published, what ended is
    /// forgotten.
    ///
    /// Once `patience` is over, what is left of the records waits for the next pass, which should
    /// come at once ([`Session::is_behind`]); `None`: nothing waits.
    pub fn end_pass(&mut self, now_ns: u64, patience: Option<Duration>) {
        self.now_ns = now_ns;
        self.apply(now_ns, patience.map(|patience| Instant::now() + patience));
        self.look_for_registered();
        self.is_settling = !self.unpublished.is_empty();
        for pid in std::mem::take(&mut self.unpublished) {
            let Some(process) = self.processes.get(pid) else {
                continue;
            };
            // Of others nothing is published before a sample asks.
            if process.space_id != 0 && process.is_dirty && process.is_complete {
                self.publish(pid, now_ns);
            }
        }
        // Names wait for mappings: a new image's first tick comes within milliseconds.
        self.answer_questions(Instant::now() + NAMING_PER_PASS);
        self.processes.sweep(now_ns);
        for blob in std::mem::take(&mut self.processes.dropped_blobs) {
            self.tables.remove_blob(blob);
        }
        let processes = &self.processes;
        self.registered.sweep(
            |pid| processes.get(pid).is_some(),
            &mut self.files,
            &mut self.tables,
        );
        let changed =
            self.runtimes.tick(now_ns, |pid| processes.get(pid), &self.files, &mut self.tables);
        for pid in changed {
            self.processes.entry(pid).is_dirty = true;
            self.publish(pid, now_ns);
        }
        let processes = &self.processes;
        self.look_at_ns = self.runtimes.look_at_ns(now_ns, |pid| processes.get(pid));
        self.runtimes.sweep(&mut self.tables);
        self.load_ahead(Instant::now() + AHEAD_PER_PASS);
        if !self.used.is_empty() {
            let used = std::mem::take(&mut self.used);
            self.tables.mark_used(|file, block| used.contains(&(file, block)));
        }
        if let Some(segments) = &mut self.segments {
            let part = self.recording.part_bytes();
            let worth = self.recording.budget.limit_bytes() / 8;
            if part > segments.part_bytes || part > worth && self.recording.is_pressed() {
                segments.put_away(&mut self.recording);
            }
        }
        // A stack whose sample was lost never finds its slice.
        if self.stacks.len() > 64 {
            self.stacks.clear();
        }
    }

    /// Looks at processes in whose generated code a sample was taken that nothing covers.
    fn look_for_registered(&mut self) {
        for pid in self.registered.take_wanted() {
            let Some(process) = self.processes.get(pid) else { continue };
            if self.registered.look(pid, process, &mut self.files, &mut self.tables) {
                self.processes.entry(pid).is_dirty = true;
                self.unpublished.insert(pid);
            }
        }
    }

    /// What of a stack cannot be believed, since the image that a frame lies in did not stand when it was
    /// taken: the words without it, and why the stack is cut. `None`: nothing.
    fn disbelieved(&mut self, head: &abi::hf_sample, words: &[u64]) -> Option<(Vec<u64>, bool)> {
        if !self.registered.has_images() {
            return None;
        }
        let mut changed: Option<(Vec<u64>, bool)> = None;
        let mut at = usize::from(head.n_kernel);
        while let Some(&word) = words.get(at) {
            let word = abi::FrameWord(word);
            let here = at;
            at += 1 + if word.kind() == abi::HF_FRAME_DYNAMIC { word.n_data_words() } else { 0 };
            if word.kind() != abi::HF_FRAME_NATIVE || !self.registered.is_image(word.file_id()) {
                continue;
            }
            // A fork has its parent's code, and nothing was read of it yet.
            if !self.registered.knows(head.tgid) {
                self.registered.want(head.tgid);
                self.look_for_registered();
            }
            let verdict = self.registered.verdict(head.tgid, word.file_id(), head.time_ns);
            if verdict == Verdict::Stood {
                continue;
            }
            self.registered.count(head.tgid, verdict, head.weight);
            let (kept, is_cut) = changed.get_or_insert_with(|| (words.to_vec(), false));
            let elf = self.files.get(word.file_id()).and_then(|file| file.elf());
            let pc = match elf {
                Some(elf) => elf.image_base() + u64::from(word.image_offset()),
                // Freed before its samples were seen: of its address nothing is known but a part.
                None => u64::from(word.image_offset()),
            };
            let own = u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT
                | u64::from(word.flags()) << abi::HF_FRAME_FLAGS_SHIFT
                | pc & abi::HF_FRAME_PAYLOAD_MASK;
            if let Some(slot) = kept.get_mut(here) {
                *slot = own;
            }
            if verdict == Verdict::Changed {
                // Its caller was found by rows that are another's.
                kept.truncate(here + 1);
                *is_cut = true;
                break;
            }
        }
        changed
    }

    fn take_space(&mut self, bytes: &[u8]) -> Option<()> {
        self.taken.push(Taken::Space(abi::hf_space_record::read_from_bytes(bytes).ok()?));
        Some(())
    }

    /// At once, not in order of time: it says whose it is.
    fn take_told(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, _) = abi::hf_told::read_from_prefix(bytes).ok()?;
        self.runtimes.told(&head, bytes);
        Some(())
    }

    fn take_stack(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, rest) = abi::hf_stack::read_from_prefix(bytes).ok()?;
        let bytes = rest.get(..head.n_bytes as usize)?;
        let piece = Piece::of(head.addr, bytes);
        match self.stacks.entry(head.seq) {
            Entry::Occupied(mut stack) => stack.get_mut().outer = Some(piece),
            Entry::Vacant(none) => {
                none.insert(Stack { inner: piece, outer: None });
            }
        }
        Some(())
    }

    fn take_slice(&mut self, bytes: &[u8]) -> Option<()> {
        let slice = abi::hf_slice::read_from_bytes(bytes).ok()?;
        self.slices.insert(slice.sample.cpu, slice);
        Some(())
    }

    fn take_part(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, words) = sample_words(bytes)?;
        let part = self.parts.entry(head.cpu).or_insert((head, Vec::new()));
        if !is_of(&part.0, &head) {
            // The sample of those before was lost.
            *part = (head, Vec::new());
        }
        if part.1.len() + words.len() > abi::HF_MAX_STACK_WORDS as usize {
            self.parts.remove(&head.cpu);
            return None;
        }
        part.1.extend(words);
        Some(())
    }

    fn take_sample(&mut self, bytes: &[u8]) -> Option<()> {
        let (mut head, words) = sample_words(bytes)?;
        let before = self.parts.remove(&head.cpu).filter(|(part, _)| is_of(part, &head));
        let before = before.map(|(_, words)| words).unwrap_or_default();
        head.n_words = u16::try_from(before.len() + words.len())
            .ok()
            .filter(|&n| u32::from(n) <= abi::HF_MAX_STACK_WORDS)?;
        if head.n_kernel > head.n_words || u32::from(head.cut) >= abi::HF_CUT_COUNT {
            return None;
        }
        let from = self.words.len();
        self.words.extend(before);
        self.words.extend(words);
        // A slice comes just before its sample, which is of the same CPU.
        let slice = self
            .slices
            .remove(&head.cpu)
            .filter(|slice| slice.sample.time_ns == head.time_ns && slice.sample.tid == head.tid);
        let stack = slice.as_ref().and_then(|slice| self.stacks.remove(&slice.stack_seq));
        let slice = slice.zip(stack).map(Box::new);
        let words = from..self.words.len();
        self.taken.push(Taken::Sample(TakenSample { head, words, slice }));
        Some(())
    }

    fn sample(&mut self, taken: &TakenSample, words: &[u64], now_ns: u64) {
        let TakenSample { head, slice, .. } = taken;
        let flags = u32::from(head.flags);
        self.learn_space(head);
        // What is finished late lacks frames whatever is known of the process: it says nothing.
        if head.lost_runtime != 0 {
            self.runtimes.lost(head.tgid);
        }
        if flags & abi::HF_SAMPLE_SLICED != 0 {
            match slice.as_deref() {
                Some((slice, stack)) => self.finish_slice(head, words, slice, stack, now_ns),
                None => self.finish(
                    head,
                    words,
                    head.stack_hash ^ u64::from(abi::HF_CUT_BUDGET) << 56,
                    abi::HF_CUT_BUDGET as u8,
                    0,
                    false,
                ),
            }
            return;
        }
        let mut cut = head.cut;
        let process = self.processes.get(head.tgid);
        if head.blob_id != 0
            && process.is_some_and(|process| head.blob_id < process.stale_before_blob)
        {
            cut = abi::HF_CUT_STALE_MAP as u8;
        }
        if u32::from(cut) == abi::HF_CUT_BUDGET && head.cut_pc != 0 {
            // No slice could be sent: load what was missing, so that the next walk needs none.
            if self.publish(head.tgid, now_ns) {
                self.load_rows(head.tgid, head.cut_pc);
            }
        }
        if flags & abi::HF_SAMPLE_AUDIT != 0
            && let Some((slice, stack)) = slice.as_deref()
            && self.audit(head, words, slice, stack) == Some(Judgement::Differs)
        {
            cut = abi::HF_CUT_BAD_UNWIND_INFO as u8;
        }
        let heuristic = flags & abi::HF_SAMPLE_HEURISTIC != 0;
        self.count_lost((head.lost_runtime, head.lost_why), head.weight);
        let hash = if cut == head.cut { head.stack_hash } else { head.stack_hash ^ u64::from(cut) };
        self.finish(head, words, hash, cut, head.cut_pc, heuristic);
    }

    /// Counts stacks that lack frames of a runtime, by that and the reason.
    fn count_lost(&mut self, lost: (u8, u8), weight: u32) {
        if lost.0 != 0 {
            *self.lost.entry(lost).or_default() += u64::from(weight);
        }
    }

    /// How many stacks lack frames of a runtime, by its name and the reason: see
    /// [`hotframe_runtime::Runtime::lost_names`].
    pub fn without_runtime(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut by_name = BTreeMap::<_, BTreeMap<_, u64>>::new();
        for (&(runtime, why), weight) in &self.lost {
            let (name, reasons) = self.runtimes.losses_of(runtime.into());
            let reason = reasons.get(usize::from(why)).copied().unwrap_or("unknown");
            *by_name.entry(name).or_default().entry(reason).or_default() += weight;
        }
        by_name
    }

    /// A sample says in which address space its process runs.
    fn learn_space(&mut self, head: &abi::hf_sample) {
        self.runtimes.saw(Incarnation {
            pid: head.tgid,
            exec_id: head.exec_id,
            start_ns: head.start_ns,
        });
        if head.space_id == 0 {
            return;
        }
        let process = self.processes.entry(head.tgid);
        if process.space_id != head.space_id {
            process.space_id = head.space_id;
            process.is_dirty = true;
        }
    }

    fn finish_slice(
        &mut self,
        head: &abi::hf_sample,
        words: &[u64],
        slice: &abi::hf_slice,
        stack: &Stack,
        now_ns: u64,
    ) {
        let pid = head.tgid;
        let mut walk = Walk::new(
            cfg!(target_arch = "aarch64"),
            &slice.regs,
            slice.regs_valid != 0,
            slice.pc_is_return != 0,
            words,
            usize::from(head.n_kernel),
        )
        .bare(slice.is_bare != 0)
        .left_at(slice.left_at)
        .after_heuristic(u32::from(head.flags) & abi::HF_SAMPLE_HEURISTIC != 0)
        .after_loss((head.lost_runtime, head.lost_why))
        .with_runtimes(slice.tp, &slice.runtime_state)
        .late();
        self.counts.from_slice += 1;
        tracing::trace!(
            pid,
            missing = abi::MISSING_NAMES[usize::from(slice.missing) % abi::MISSING_NAMES.len()],
            pc = format_args!("{:#x}", slice.missing_pc),
            age_ns = now_ns.saturating_sub(head.time_ns),
            stack_bytes = stack.len(),
            space = head.space_id,
            blob = head.blob_id,
            known = self.processes.get(pid).map_or(0, |process| process.space_id),
            is_dirty = self.processes.get(pid).map(|process| process.is_dirty),
            "a slice"
        );
        let mut cut = (abi::HF_CUT_BUDGET, slice.missing_pc);
        if self.processes.get(pid).is_none_or(|process| !process.is_complete) {
            self.processes.refresh(pid, now_ns, &mut self.files);
        }
        let mut beyond =
            Beyond { pid, memory: None, is_opened: false, last: None, signal_at: None };
        for _ in 0..MAX_LOADS_PER_WALK {
            if !self.publish(pid, now_ns) {
                let process = self.processes.get(pid);
                if process.is_none_or(|process| process.mappings.is_empty()) {
                    let has_ended = process.is_some_and(|process| process.exited_ns.is_some());
                    cut.0 = if has_ended || !processes::may_go_on(pid) {
                        abi::HF_CUT_PROCESS_GONE
                    } else {
                        abi::HF_CUT_UNKNOWN_MAPPING
                    };
                }
                break;
            }
            let Some(process) = self.processes.get(pid) else {
                break;
            };
            let Some(blob) = process.blob else { break };
            let mappings = process.mappings.clone();
            let mut reader =
                SliceReader { stack, mappings: &mappings, files: &self.files, beyond: &mut beyond };
            match walk.run(self.tables.memory(), blob.off, &mut reader) {
                Stop::Ended { cut: reason, cut_pc } => {
                    cut = (u32::from(reason), cut_pc);
                    break;
                }
                Stop::Missing { what, pc } if u32::from(what) == abi::HF_MISSING_ROWS => {
                    if !self.load_rows(pid, pc) {
                        cut = (abi::HF_CUT_BUDGET, pc);
                        break;
                    }
                }
                Stop::Missing { what, pc } => {
                    let cause = if u32::from(what) == abi::HF_MISSING_MAPPING {
                        abi::HF_CUT_UNKNOWN_MAPPING
                    } else {
                        abi::HF_CUT_PROCESS_GONE
                    };
                    cut = (cause, pc);
                    if !self.processes.refresh(pid, now_ns, &mut self.files) {
                        break;
                    }
                }
            }
        }
        self.count_lost(walk.lost(), head.weight);
        let heuristic = walk.is_heuristic();
        if cut.0 != abi::HF_CUT_NONE {
            tracing::debug!(
                pid,
                reason = abi::CUT_NAMES[cut.0 as usize],
                pc = format_args!("{:#x}", cut.1),
                sp = format_args!("{:#x}", slice.regs[abi::HF_X86_RSP as usize]),
                missing = abi::MISSING_NAMES[usize::from(slice.missing) % abi::MISSING_NAMES.len()],
                stack_bytes = stack.len(),
                mappings = self.processes.get(pid).map(|process| process.mappings.len()),
                "a walk ended here"
            );
        }
        let mut words = walk.words().to_vec();
        let n_kernel = usize::from(head.n_kernel);
        if u32::from(head.flags) & abi::HF_SAMPLE_IN_EXEC != 0
            && cut.0 != abi::HF_CUT_NONE
            && words.len() <= n_kernel + 1
        {
            // The new image has no frame yet and the old one none any more: the kernel's are all.
            words.truncate(n_kernel);
            let hash = hash_of(abi::HF_SAMPLE_IN_EXEC.into(), &words);
            self.finish(head, &words, hash, abi::HF_CUT_NONE as u8, 0, false);
            return;
        }
        // The kernel half hashes alike, so that the same stack is one, however it was walked. A
        // reason that was found here is mixed in.
        let hash =
            walk.stack_hash() ^ if cut.0 == abi::HF_CUT_NONE { 0 } else { u64::from(cut.0) << 56 };
        self.finish(head, &words, hash, cut.0 as u8, cut.1, heuristic);
    }

    fn finish(
        &mut self,
        head: &abi::hf_sample,
        words: &[u64],
        hash: u64,
        cut: u8,
        cut_pc: u64,
        heuristic: bool,
    ) {
        let disbelieved = self.disbelieved(head, words);
        let (words, hash, cut) = match &disbelieved {
            None => (words, hash, cut),
            Some((kept, is_cut)) => {
                let cut = if *is_cut { abi::HF_CUT_STALE_MAP as u8 } else { cut };
                (kept.as_slice(), hash_of(u64::from(cut) << 56 | 1, kept), cut)
            }
        };
        let weight = u64::from(head.weight);
        let pressed = self.tables.is_pressed();
        for frame in hotframe_frames::frames(words) {
            match frame {
                hotframe_frames::Raw::Own(word) => {
                    self.registered.want(head.tgid);
                    self.jit.saw(head, abi::FrameWord(word), self.now_ns);
                }
                hotframe_frames::Raw::Static(word) => {
                    let word = abi::FrameWord(word);
                    if word.kind() != abi::HF_FRAME_NATIVE {
                        continue;
                    }
                    if pressed {
                        let block = word.image_offset() >> abi::HF_BLOCK_SHIFT;
                        self.used.insert((word.file_id(), block));
                    }
                    if let Some(file) = self.files.get_mut(word.file_id()) {
                        file.is_sampled = true;
                    }
                }
                hotframe_frames::Raw::Dynamic(_) => {}
            }
        }
        let (processes, files) = (&self.processes, &self.files);
        // Without room the sample stays, and says why it has no stack.
        let cut = self.recording.add(&Sample { head, words, hash, cut, cut_pc }, || {
            let process = processes.get(head.tgid);
            let executed = process.map_or(0, |process| process.image_file);
            let first = || process?.mappings.iter().map(|mapping| mapping.file).find(|&id| id != 0);
            let file = if executed != 0 { Some(executed) } else { first() };
            let path = file.and_then(|id| files.get(id)).map(|file| file.path.clone());
            let is_certain = executed != 0 && path.is_some();
            let cgroup = process.map_or(NO_CGROUP, |process| process.cgroup);
            let is_forked = process.is_some_and(|process| process.parent != 0);
            let ancestor = processes.ancestor(head.tgid);
            Exe { path: path.unwrap_or_default(), is_certain, cgroup, is_forked, ancestor }
        });
        if u32::from(cut) != abi::HF_CUT_NONE {
            tracing::trace!(
                pid = head.tgid,
                reason = abi::CUT_NAMES[usize::from(cut) % abi::CUT_NAMES.len()],
                pc = format_args!("{cut_pc:#x}"),
                words = format_args!("{words:x?}"),
                "a cut stack"
            );
        }
        self.counts.samples += weight;
        if u32::from(cut) == abi::HF_CUT_NONE {
            self.counts.whole += weight;
            if words.len() > usize::from(head.n_kernel) && self.counts.first_user_stack_ns == 0 {
                self.counts.first_user_stack_ns = head.time_ns;
            }
        } else {
            self.counts.cut[usize::from(cut)] += weight;
        }
        if heuristic {
            self.counts.heuristic += weight;
        }
    }

    /// Publishes a process's mappings if they changed. False if there is nothing to publish or no
    /// room.
    fn publish(&mut self, pid: u32, now_ns: u64) -> bool {
        let Some(process) = self.processes.get(pid) else {
            return false;
        };
        if process.blob.is_some() && !process.is_dirty {
            return true;
        }
        if process.mappings.is_empty() {
            return false;
        }
        let mut without_room = process.without_room;
        let mappings = process.mappings.clone();
        if self.registered.serves(pid) {
            // New memory is where new code lies.
            self.registered.look(pid, process, &mut self.files, &mut self.tables);
        }
        let mut entries = Vec::with_capacity(mappings.len());
        for mapping in mappings.iter() {
            let mut entry = without_file(mapping.start, mapping.end);
            if mapping.file != 0 {
                let id = self.files.open(mapping.file, pid, mapping.start, mapping.end);
                if let Some(image) = self
                    .files
                    .get(id)
                    .and_then(|file| file.elf()?.map_bias(mapping.start, mapping.pgoff))
                {
                    let n_blocks = match &self.files.get(id).map(|file| &file.state) {
                        Some(State::Open(source)) => source.n_blocks(),
                        _ => 0,
                    };
                    if let Some(off) = self.tables.add_file(id, n_blocks) {
                        entry.image = image;
                        entry.file_id = id;
                        entry.file_off = off;
                    }
                }
            }
            entries.push(entry);
        }
        if let Some(process) = self.processes.get(pid) {
            self.runtimes.publish(pid, process, &self.files, &mut self.tables, now_ns);
            self.runtimes.overlay(pid, &mut entries);
        }
        self.registered.overlay(pid, &mut entries, &self.files, &mut self.tables);
        without_room +=
            processes::fit(&mut entries, |entry| entry.file_id == 0 && entry.runtime_off == 0);
        self.processes.note_crowded(pid, without_room);
        let Some(blob) = self.tables.add_blob(&entries, self.runtimes.moment(pid)) else {
            return false;
        };
        let process = self.processes.entry(pid);
        let old = process.blob.replace(blob);
        process.is_dirty = false;
        self.tables.post(process.space_id, blob);
        if let Some(old) = old {
            self.tables.remove_blob(old);
        }
        self.runtimes.published(pid, &mut self.tables);
        true
    }

    /// Loads the rows around a pc. False if there is no room or no such mapping.
    fn load_rows(&mut self, pid: u32, pc: u64) -> bool {
        let Some(process) = self.processes.get(pid) else {
            return false;
        };
        let Some(mapping) = process
            .mappings
            .iter()
            .find(|mapping| mapping.start <= pc && pc < mapping.end)
            .cloned()
        else {
            return false;
        };
        let registered = match mapping.file {
            0 => self.registered.file_at(pid, pc),
            _ => None,
        };
        let id = match registered {
            Some(id) => id,
            None => self.files.open(mapping.file, pid, mapping.start, mapping.end),
        };
        let Some(file) = self.files.get_mut(id) else {
            return false;
        };
        let State::Open(source) = &mut file.state else {
            return false;
        };
        let image = match registered {
            Some(_) => Some(source.file().image_base()),
            None => source.file().map_bias(mapping.start, mapping.pgoff),
        };
        let Some(image) = image else { return false };
        let offset = (pc - image) as u32;
        let number = offset >> abi::HF_BLOCK_SHIFT;
        if self.tables.has_block(id, offset) {
            return true;
        }
        file.is_warm = true;
        match source.block(number) {
            Ok(block) => {
                file.bad_fdes += u64::from(block.stats.bad_fdes);
                self.tables.add_block(id, number, &block.rows, &block.rules)
            }
            Err(why) => {
                tracing::debug!(path = file.path, "no rows: {}", crate::chain(&why));
                let bad = abi::hf_row { pc: 0, kind: abi::HF_RULE_BAD as u8, fp: 0, cfa: 0 };
                self.tables.add_block(id, number, &[bad], &[])
            }
        }
    }

    /// Loads the rows of what runs a runtime's code. A walk that misses rows is finished here, when
    /// the process has gone on, and so without the frames that a runtime keeps beside the stack: an
    /// interpreter's own text is where most of them would be missed.
    fn load_ahead(&mut self, until: Instant) {
        for (pid, regions) in self.runtimes.take_attached() {
            let Some(process) = self.processes.get(pid) else { continue };
            for region in regions {
                let holds = |mapping: &&Mapping| {
                    mapping.file != 0 && mapping.start <= region.start && region.start < mapping.end
                };
                let Some(mapping) = process.mappings.iter().find(holds) else { continue };
                if self.was_ahead.insert(mapping.file) {
                    let from = region.start.saturating_sub(AHEAD_BYTES).max(mapping.start);
                    let to = region.end.saturating_add(AHEAD_BYTES).min(mapping.end);
                    self.ahead.push_back((pid, from, to));
                }
            }
        }
        while let Some((pid, from, to)) = self.ahead.pop_front() {
            // Rows that nobody missed must not drive out those that somebody did.
            if self.tables.is_pressed() || !self.load_rows(pid, from) {
                continue;
            }
            let last = to.saturating_sub(1);
            let next = from.saturating_add(u64::from(abi::HF_BLOCK_BYTES)).min(last);
            if from < last {
                self.ahead.push_front((pid, next, to));
            }
            if Instant::now() >= until {
                break;
            }
        }
        self.is_settling |= !self.ahead.is_empty();
    }

    fn audit(
        &mut self,
        head: &abi::hf_sample,
        words: &[u64],
        slice: &abi::hf_slice,
        stack: &Stack,
    ) -> Option<Judgement> {
        let process = self.processes.get(head.tgid)?;
        let case = AuditCase {
            regs: &slice.regs,
            stack: (stack.inner.addr, &stack.inner.bytes),
            words: words.get(usize::from(head.n_kernel)..)?,
            mappings: &process.mappings,
            files: &self.files,
            cut: head.cut,
        };
        let verdict = self.auditor.as_mut()?(&case)?;
        match verdict {
            Judgement::NotJudged(why) => *self.not_judged.entry(why).or_default() += 1,
            Judgement::Agrees | Judgement::Differs => {
                self.counts.audited += 1;
                self.counts.agreed += u64::from(verdict == Judgement::Agrees);
            }
        }
        Some(verdict)
    }
}

/// A record of a sample or of a part of it, and its words.
fn sample_words(bytes: &[u8]) -> Option<(abi::hf_sample, impl ExactSizeIterator<Item = u64> + '_)> {
    let (head, rest) = abi::hf_sample::read_from_prefix(bytes).ok()?;
    let words = rest.get(..usize::from(head.n_words) * size_of::<u64>())?;
    let (words, _) = words.as_chunks();
    Some((head, words.iter().map(|&word| u64::from_ne_bytes(word))))
}

/// Is a part of this sample's stack?
fn is_of(part: &abi::hf_sample, sample: &abi::hf_sample) -> bool {
    part.time_ns == sample.time_ns && part.tid == sample.tid
}

/// Questions of one process, and where the answers go.
struct Asking<'a> {
    recording: &'a mut Recording,
    of: hotframe_frames::Incarnation,
    batch: &'a [Question],
}

impl Asker for Asking<'_> {
    fn answer(&mut self, at: usize, named: Result<&[Frame], Why>) {
        let Some(question) = self.batch.get(at) else { return };
        match named {
            Ok(frames) => self.recording.answer(question.id, &infos(&question.words, frames)),
            Err(why) => self.recording.answer_unnamed(question.id, unnamed(why)),
        }
    }

    fn answer_alike(&mut self, at: usize, words: &[u64]) -> bool {
        let question = self.batch.get(at);
        question.is_some_and(|question| self.recording.store.answer_alike(question.id, words))
    }

    fn find(&mut self, words: &[u64]) -> Option<Frame> {
        let store = &mut self.recording.store;
        let known = store.known_frame(self.of, words)?;
        let function = store.function(known.function);
        Some(Frame {
            name: function.name.into(),
            file: function.file.into(),
            start_line: function.start_line,
            ..Frame::default()
        })
    }

    fn keep(&mut self, words: &[u64], frame: &Frame) {
        // Without room the names are read again.
        let frames = std::slice::from_ref(frame);
        let _ = self.recording.store.learn(self.of, words, &infos(words, frames));
    }
}

/// Frames of a runtime as the store takes them.
fn infos<'a>(words: &[u64], frames: &'a [Frame]) -> Vec<FrameInfo<'a>> {
    let head = abi::FrameWord(words.first().copied().unwrap_or_default());
    let kind = Kind::of_runtime(head.runtime()) as u8;
    frames
        .iter()
        .map(|frame| FrameInfo {
            function: FunctionInfo {
                name: &frame.name,
                system_name: &[],
                file: &frame.file,
                start_line: frame.start_line,
                kind,
                module_path: &frame.module,
                module_build_id: &[],
            },
            line: frame.line,
            flags: if frame.inlined { FRAME_INLINED } else { 0 },
        })
        .collect()
}

fn unnamed(why: Why) -> hotframe_frames::Why {
    match why {
        Why::ProcessGone => hotframe_frames::Why::ProcessGone,
        Why::StalePointer => hotframe_frames::Why::StalePointer,
        Why::Unloaded => hotframe_frames::Why::Unloaded,
        _ => hotframe_frames::Why::Unsupported,
    }
}

/// User memory of a sample whose process goes on meanwhile: the stack that was copied, text from
/// files, and, beyond the copy, the process itself.
///
/// What lies further out than the copy belongs to older frames, also where a program switches to
/// another stack (coroutines do). They stand still as long as a frame further in does. So the
/// process is read only while the outermost slot that the walk fetched from the copy (a return
/// address or a saved frame pointer: a fetch begins at the slot it is for) is still in its memory,
/// before and after; else the stack is cut there.
///
/// A signal's handler may have a stack of its own (`sigaltstack`), on which its frames stand long after it
/// returned: what lies further away than a signal's frame is not read by their leave.
///
/// Generated code is read whatever the stack does: it outlives its calls, and is read only to see
/// whether a call stands before an address. So is what a runtime's step says is lasting.
struct SliceReader<'a> {
    stack: &'a Stack,
    mappings: &'a [Mapping],
    files: &'a Files,
    beyond: &'a mut Beyond,
}

/// What is known of the process's own memory: it outlasts the loading of tables, which interrupts a
/// walk.
struct Beyond {
    pid: u32,
    memory: Option<Memory>,
    is_opened: bool,
    /// The slot that was fetched last from the copy.
    last: Option<u64>,
    /// Where a signal's frame was that the walk has just left.
    signal_at: Option<u64>,
}

/// How far above a signal's context the frame may be that it interrupted, if both are on one stack. The
/// context with all registers that AMX has takes 11 KiB (Intel SDM vol. 1, 13.4).
const SIGNAL_FRAME_MAX_BYTES: u64 = 64 << 10;

impl SliceReader<'_> {
    /// The process's own memory, opened at the first use.
    fn memory(&mut self) -> Option<&Memory> {
        if !self.beyond.is_opened {
            self.beyond.is_opened = true;
            self.beyond.memory = Memory::open(self.beyond.pid);
        }
        self.beyond.memory.as_ref()
    }

    /// Is this in executable memory that no file is behind?
    fn is_generated(&self, addr: u64) -> bool {
        let after = self.mappings.partition_point(|mapping| mapping.start <= addr);
        let before = after.checked_sub(1).and_then(|at| self.mappings.get(at));
        before.is_some_and(|mapping| mapping.file == 0 && addr < mapping.end)
    }

    /// Is the frame that led here still on the stack?
    fn stands_still(&self, memory: &Memory) -> bool {
        let mut now = [0; 8];
        self.beyond.last.is_some_and(|slot| {
            memory.read(slot, &mut now) && self.stack.at(slot, 8) == Some(now.as_slice())
        })
    }
}

impl ReadUser for SliceReader<'_> {
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
        if let Some(bytes) = self.stack.at(addr, into.len()) {
            into.copy_from_slice(bytes);
            if into.len() >= 8 {
                self.beyond.last = Some(addr);
                self.beyond.signal_at = None;
            }
            return true;
        }
        if read_text(self.mappings, self.files, addr, into) {
            return true;
        }
        self.memory();
        let Some(memory) = &self.beyond.memory else { return false };
        if self.is_generated(addr) {
            return memory.read(addr, into);
        }
        if let Some(at) = self.beyond.signal_at {
            if addr < at || addr - at >= SIGNAL_FRAME_MAX_BYTES {
                return false;
            }
            self.beyond.signal_at = None;
        }
        let memory = self.beyond.memory.as_ref();
        memory.is_some_and(|memory| {
            self.stands_still(memory) && memory.read(addr, into) && self.stands_still(memory)
        })
    }

    fn read_signal(&mut self, addr: u64, into: &mut [u8]) -> bool {
        let is_read = self.read(addr, into);
        self.beyond.signal_at = is_read.then_some(addr);
        is_read
    }

    fn read_lasting(&mut self, addr: u64, into: &mut [u8]) -> bool {
        if let Some(bytes) = self.stack.at(addr, into.len()) {
            into.copy_from_slice(bytes);
            return true;
        }
        read_text(self.mappings, self.files, addr, into)
            || self.memory().is_some_and(|memory| memory.read(addr, into))
    }
}

/// Reads bytes of text from the file that is mapped at `addr`.
pub fn read_text(mappings: &[Mapping], files: &Files, addr: u64, into: &mut [u8]) -> bool {
    let end = addr.saturating_add(into.len() as u64);
    let Some(mapping) = mappings.iter().find(|mapping| mapping.start <= addr && end <= mapping.end)
    else {
        return false;
    };
    let Some(reader) = files.get(mapping.file).and_then(|file| file.reader()) else {
        return false;
    };
    let offset = mapping.pgoff + (addr - mapping.start);
    match reader {
        // The vDSO's image begins where it is mapped.
        Reader::Bytes(_) => {
            matches!(reader.read_at(into, addr - mapping.start), Ok(n) if n == into.len())
        }
        Reader::File(_) => matches!(reader.read_at(into, offset), Ok(n) if n == into.len()),
    }
}

/// A stack's hash where the kernel half's is another stack's: words were left out or replaced here.
fn hash_of(seed: u64, words: &[u64]) -> u64 {
    let mix =
        |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    words.iter().fold(seed, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::OwnMemory;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    /// The process's own memory is read while what was copied of the stack still stands there, but not
    /// where a signal's handler, on a stack of its own, is all that stands.
    #[test]
    fn a_handlers_stack_does_not_vouch_for_another() {
        let inner: Vec<u64> = (0..64).collect();
        let outer = vec![7u64; 1 << 18];
        let word = |of: &Vec<u64>, at: usize| &raw const of[at] as u64;
        let (copied, near, far) = (word(&inner, 0), word(&inner, 60), word(&outer, 1 << 17));
        let stack = Stack { inner: Piece::of(copied, inner[..32].as_bytes()), outer: None };
        let files = Files::default();
        let mut beyond = Beyond {
            pid: std::process::id(),
            memory: None,
            is_opened: false,
            last: None,
            signal_at: None,
        };
        let mut reader =
            SliceReader { stack: &stack, mappings: &[], files: &files, beyond: &mut beyond };
        let read = |reader: &mut SliceReader<'_>, addr: u64| {
            let mut value = [0; 8];
            reader.read(addr, &mut value).then(|| u64::from_le_bytes(value))
        };
        let interrupted =
            |reader: &mut SliceReader<'_>| assert!(reader.read_signal(copied, &mut [0; 17 * 8]));
        assert_eq!(read(&mut reader, copied), Some(0));
        assert_eq!(read(&mut reader, near), Some(60));
        assert_eq!(read(&mut reader, far), Some(7));
        interrupted(&mut reader);
        assert_eq!(read(&mut reader, far), None);
        assert_eq!(read(&mut reader, far), None);
        // On the same stack; whatever comes after it is called as ever.
        assert_eq!(read(&mut reader, near), Some(60));
        assert_eq!(read(&mut reader, far), Some(7));
        interrupted(&mut reader);
        assert_eq!(read(&mut reader, copied + 8), Some(1));
        assert_eq!(read(&mut reader, far), Some(7));
    }

    fn record(kind: u32, cpu: u16, time_ns: u64, words: &[u64]) -> Vec<u8> {
        let mut head = abi::hf_sample::new_zeroed();
        (head.type_, head.cpu, head.time_ns) = (kind as u8, cpu, time_ns);
        (head.tid, head.weight, head.stack_hash) = (7, 1, time_ns);
        head.n_words = words.len() as u16;
        let mut bytes = head.as_bytes().to_vec();
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    /// A stack that came in parts is put together, whatever other CPUs send in between; parts
    /// whose sample never came are not put before another's.
    #[test]
    fn parts_of_a_stack() {
        let word = |pc: u64| u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc;
        let words: Vec<u64> = (1..=7).map(word).collect();
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        for (kind, cpu, time_ns, words) in [
            (abi::HF_RECORD_PART, 0, 10, &words[..2]),
            (abi::HF_RECORD_PART, 0, 20, &words[..3]),
            (abi::HF_RECORD_PART, 1, 21, &words[..1]),
            (abi::HF_RECORD_PART, 0, 20, &words[3..5]),
            (abi::HF_RECORD_SAMPLE, 1, 25, &words[6..]),
            (abi::HF_RECORD_SAMPLE, 0, 20, &words[5..]),
        ] {
            session.record(&record(kind, cpu, time_ns, words));
        }
        session.end_pass(100, None);
        assert_eq!((session.counts.samples, session.counts.bad_records), (2, 0));
        let recording = &session.recording;
        let mut depths: Vec<usize> = recording
            .samples
            .stack
            .iter()
            .map(|&stack| {
                let mut at = recording.leaf(stack);
                let mut depth = 0;
                while at != 0 {
                    at = recording.store.node(at).parent;
                    depth += 1;
                }
                depth
            })
            .collect();
        depths.sort_unstable();
        assert_eq!(depths, [1, 7]);
    }

    /// A stack from which the independent unwinder differs counts as cut in every figure: the books', its
    /// process's, and the profile, where it is another stack than the same one whole.
    #[test]
    fn a_stack_that_differs_is_cut() {
        let word = u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | 9;
        let verdicts = [
            Judgement::Agrees,
            Judgement::Differs,
            Judgement::NotJudged("a test"),
            Judgement::Differs,
        ];
        let mut rest = verdicts.into_iter();
        let auditor: Auditor = Box::new(move |_| rest.next());
        let tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
        let mut session = Session::new(tables, Some(auditor));
        let event = Event::Comm { pid: 7, tid: 7, exec: true, comm: "it".into() };
        session.event(sideband::Record { time_ns: 1, event });
        for time_ns in 10..10 + verdicts.len() as u64 {
            let mut head = abi::hf_sample::new_zeroed();
            head.type_ = abi::HF_RECORD_SAMPLE as u8;
            (head.tgid, head.tid, head.weight, head.time_ns) = (7, 7, 1, time_ns);
            (head.stack_hash, head.n_words, head.flags) = (5, 1, abi::HF_SAMPLE_AUDIT as u8);
            let mut stack = abi::hf_stack::new_zeroed();
            (stack.type_, stack.seq) = (abi::HF_RECORD_STACK as u8, time_ns);
            let mut slice = abi::hf_slice::new_zeroed();
            (slice.sample, slice.stack_seq) = (head, time_ns);
            slice.sample.type_ = abi::HF_RECORD_SLICE as u8;
            session.record(stack.as_bytes());
            session.record(slice.as_bytes());
            session.record(&[head.as_bytes(), word.as_bytes()].concat());
        }
        session.end_pass(100, None);
        let bad = abi::HF_CUT_BAD_UNWIND_INFO as usize;
        let counts = &session.counts;
        assert_eq!((counts.audited, counts.agreed), (3, 1));
        assert_eq!((counts.samples, counts.whole, counts.cut[bad]), (4, 2, 2));
        assert_eq!(session.not_judged, BTreeMap::from([("a test", 1)]));
        let process = &session.recording.processes[0];
        assert_eq!((process.samples, process.whole, process.cut[bad]), (4, 2, 2));
        let stacks = &session.recording.samples.stack;
        assert_eq!((stacks[0], stacks[1]), (stacks[2], stacks[3]));
        assert_ne!(stacks[0], stacks[1]);
    }

    /// Records that wait for the next pass come in order and are all taken; what happens to a
    /// process after them happens after them.
    #[test]
    fn records_wait() {
        let word = u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | 9;
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        for time_ns in [30, 10, 20] {
            session.record(&record(abi::HF_RECORD_SAMPLE, 0, time_ns, &[word]));
        }
        session
            .sideband
            .push(sideband::Record { time_ns: 15, event: Event::Exit { pid: 7, tid: 7 } });
        let mut exited = Vec::new();
        for n in 1..=3 {
            session.end_pass(100, Some(Duration::ZERO));
            assert_eq!((session.counts.samples, session.is_behind()), (n, n < 3));
            exited.push(session.exited.len());
        }
        assert_eq!(session.recording.samples.time_ns, [10, 20, 30]);
        assert_eq!(exited, [0, 1, 1]);
        session.end_pass(100, Some(Duration::ZERO));
        assert_eq!(session.counts.samples, 3);
    }

    /// A process whose first thread ended may end with any other; the end of a thread alone is none.
    #[test]
    fn last_threads() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        let events = [
            Event::Comm { pid: 7, tid: 7, exec: true, comm: "it".into() },
            Event::Exit { pid: 7, tid: 8 },
            Event::Exit { pid: 7, tid: 7 },
            Event::Exit { pid: 7, tid: 9 },
        ];
        for (event, exited) in events.into_iter().zip([0, 0, 1, 2]) {
            session.event(sideband::Record { time_ns: 1, event });
            assert_eq!(session.exited.len(), exited);
        }
    }

    /// Two pieces of one number are one stack with a gap; another number is another stack.
    #[test]
    fn pieces_of_a_stack() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        for (seq, addr, byte) in [(3, 0x1000, 1), (3, 0x9000, 2), (4, 0x1000, 3)] {
            let mut head = abi::hf_stack::new_zeroed();
            (head.type_, head.seq, head.addr) = (abi::HF_RECORD_STACK as u8, seq, addr);
            head.n_bytes = 16;
            // A record has room for whole pages, of which not all could be read.
            session.record(&[head.as_bytes(), &[byte; 16], &[9; 8]].concat());
        }
        assert_eq!((session.stacks.len(), session.counts.bad_records), (2, 0));
        let at = |seq: u64, addr| session.stacks[&seq].at(addr, 8).map(|bytes| bytes[0]);
        assert_eq!((at(3, 0x1008), at(3, 0x9000), at(4, 0x1000)), (Some(1), Some(2), Some(3)));
        let none = [(3, 0x1010), (3, 0x100c), (3, 0xff8), (3, 0x9010), (4, 0x9000), (3, u64::MAX)];
        assert!(none.iter().all(|&(seq, addr)| at(seq, addr).is_none()));
        assert_eq!(session.stacks[&3].len(), 32);
    }

    /// Of a process that maps more than fits it is said, once it is published.
    #[test]
    fn a_crowded_process() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        for number in 0..u64::from(abi::HF_MAX_MAPPINGS) + 3 {
            let event = Event::Mmap {
                pid: 7,
                start: number << 13,
                bytes: 4096,
                pgoff: 0,
                build_id: Vec::new(),
                inode: None,
                path: "//anon".into(),
            };
            session.event(sideband::Record { time_ns: 1, event });
        }
        assert_eq!(session.processes.problems().count(), 0);
        assert!(session.publish(7, 1));
        let told: Vec<(u32, String)> = session.processes.problems().collect();
        assert!(told.len() == 1 && told[0].0 == 7, "{told:?}");
        assert!(told[0].1.contains("8192 places: 3 found no room"), "{told:?}");
    }

    /// A stack that cannot be finished says why: its process ended, or shows no mappings, or there is no room
    /// for them.
    #[test]
    fn why_a_stack_is_not_finished() {
        let cut = |pid: u32, is_full: bool| {
            let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
            while is_full && tables.add_blob(&[abi::hf_mapping::new_zeroed()], 0).is_some() {}
            let mut session = Session::new(tables, None);
            let mut slice = abi::hf_slice::new_zeroed();
            (slice.sample.tgid, slice.sample.weight) = (pid, 1);
            let stack = Stack { inner: Piece::of(0, &[]), outer: None };
            let head = slice.sample;
            session.finish_slice(&head, &[], &slice, &stack, 1);
            let reason = session.counts.cut.iter().position(|&n| n > 0).expect("it is cut");
            reason as u32
        };
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        while processes::goes_on(child.id()) {
            std::thread::yield_now();
        }
        // It has no mappings any more, and is there until it is waited for.
        assert_eq!(cut(child.id(), false), abi::HF_CUT_PROCESS_GONE);
        child.wait().expect("it ends");
        assert_eq!(cut(child.id(), false), abi::HF_CUT_PROCESS_GONE);
        assert_eq!(cut(std::process::id(), true), abi::HF_CUT_BUDGET);
    }

    /// No number of parts makes a stack longer than any that is walked.
    #[test]
    fn parts_are_bounded() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        let words = vec![1; abi::HF_MAX_WORDS as usize];
        let part = record(abi::HF_RECORD_PART, 0, 10, &words);
        let max = abi::HF_MAX_STACK_WORDS / abi::HF_MAX_WORDS;
        (0..max).for_each(|_| session.record(&part));
        assert_eq!(session.counts.bad_records, 0);
        session.record(&part);
        assert_eq!(session.counts.bad_records, 1);
        assert!(session.parts.is_empty());
    }
}
