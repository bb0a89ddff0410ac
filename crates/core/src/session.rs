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

mod asking;
mod slice;
mod taken;

pub use slice::read_text;

use crate::files::{FileId, Files, State};
use crate::jit::Jit;
use crate::processes::{self, Mapping, NO_CGROUP, Processes};
use crate::recording::{Exe, Incarnation, Recording, Sample};
use crate::registered::{Registered, Verdict};
use crate::runtimes::Runtimes;
use crate::segments::Segments;
use crate::sideband::{self, Event};
use crate::tables::{Tables, without_file};
use crate::walk::{Stop, Walk};
use asking::Asking;
use hotframe_abi as abi;
use slice::{Beyond, SliceReader, Stack};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};
use taken::{Taken, TakenSample, Taking};
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
    /// A frame was found otherwise than by a table.
    pub is_heuristic: bool,
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
    unpublished: HashSet<u32>,
    used: HashSet<(FileId, u32)>,
    sideband: Vec<sideband::Record>,
    taking: Taking,
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
            unpublished: HashSet::new(),
            used: HashSet::new(),
            sideband: Vec::new(),
            taking: Taking::default(),
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
            Some(abi::HF_RECORD_SAMPLE) => self.taking.sample(bytes),
            Some(abi::HF_RECORD_PART) => self.taking.part(bytes),
            Some(abi::HF_RECORD_STACK) => self.taking.stack(bytes),
            Some(abi::HF_RECORD_SLICE) => self.taking.slice(bytes),
            Some(abi::HF_RECORD_SPACE) => self.taking.space(bytes),
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
        let mut taken = std::mem::take(&mut self.taking.taken);
        let mut words = std::mem::take(&mut self.taking.words);
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
                self.taking.wait(records, &words);
                return;
            }
        }
        events.for_each(|event| self.event(event));
        drop(records);
        self.taking.taken = taken;
        words.clear();
        // What a crowded pass took is given back.
        words.shrink_to(WORDS_KEPT);
        self.taking.words = words;
    }

    /// Records wait for the next pass.
    pub fn is_behind(&self) -> bool {
        !self.taking.taken.is_empty()
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
        self.unpublished.extend(self.processes.take_copied(now_ns));
        for pid in std::mem::take(&mut self.unpublished) {
            let Some(process) = self.processes.get(pid) else {
                continue;
            };
            // Of others nothing is published before a sample asks.
            if process.space_id != 0 && process.is_complete {
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
        self.taking.forget_lost();
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

    /// At once, not in order of time: it says whose it is.
    fn take_told(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, _) = abi::hf_told::read_from_prefix(bytes).ok()?;
        self.runtimes.told(&head, bytes);
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
        let mut beyond = Beyond::of(pid);
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

    /// Gets ready for processes that are going to be sampled, as many as there is time for: what runs in
    /// them is known, and runtimes are attached to, before their first sample. A walk that has to wait for
    /// that is finished late, when a class that ran may be gone.
    pub fn expect(&mut self, pids: &[u32], now_ns: u64, until: Instant) {
        for &pid in pids {
            if Instant::now() >= until {
                break;
            }
            self.processes.refresh(pid, now_ns, &mut self.files);
            self.publish(pid, now_ns);
        }
        self.load_ahead(until);
    }

    /// Publishes a process's mappings if they changed. False if there is nothing to publish or no
    /// room.
    fn publish(&mut self, pid: u32, now_ns: u64) -> bool {
        self.processes.compare_copied(pid, now_ns, &mut self.files);
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
            stack: (stack.inner.addr, stack.inner.unbroken()),
            words: words.get(usize::from(head.n_kernel)..)?,
            mappings: &process.mappings,
            files: &self.files,
            cut: head.cut,
            is_heuristic: u32::from(head.flags) & abi::HF_SAMPLE_HEURISTIC != 0,
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

/// A stack's hash where the kernel half's is another stack's: words were left out or replaced here.
fn hash_of(seed: u64, words: &[u64]) -> u64 {
    let mix =
        |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    words.iter().fold(seed, mix)
}

#[cfg(test)]
mod tests {
    use super::slice::Piece;
    use super::*;
    use crate::tables::OwnMemory;
    use zerocopy::{FromZeros as _, IntoBytes as _};

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

    /// What is no record is counted, and so is one that is shorter than it says.
    #[test]
    fn bad_records() {
        let mut session = Session::new(Tables::new(Box::new(OwnMemory::new(1 << 20))), None);
        (0..=u8::MAX).for_each(|kind| session.record(&[kind, 0, 0]));
        session.record(&[]);
        let sample = record(abi::HF_RECORD_SAMPLE, 0, 10, &[1]);
        session.record(&sample[..sample.len() - 1]);
        session.end_pass(100, None);
        assert_eq!((session.counts.samples, session.counts.bad_records), (0, 258));
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
}
