//! One recording as it runs: side-band and samples in, a [`Recording`] and the books out.
//!
//! In: raw side-band records and ring records, in passes. A pass notes how far the ring reaches, hands
//! over all side-band records, then the ring's up to there, and ends; everything is gone through in
//! order of time. Out: samples with whole or honestly cut stacks; tables published so
//! that the next walk needs no help.
//!
//! # How it works
//! A record is decoded when it comes (`taken.rs`) and has its turn in order of time (`sample.rs`). A
//! sample whose walk lacked a table comes with its registers and stack. The walk is finished
//! here by the same C (`finishing.rs`); each time a table is missing it is loaded (`publish.rs`), which also serves
//! the kernel half from then on. An exec is published as soon as its mappings are known, mostly before its first
//! tick. Frames of runtimes that were not met before are asked about at the end of the pass (`asking.rs`).
//!
//! # Cost
//! A known stack: one look-up. A slice: the walk (microseconds) and the rows it was missing
//! (about 0.2 ms for 64 KiB of text, once).

mod asking;
mod audit;
mod finishing;
mod publish;
mod sample;
mod slice;
mod taken;

pub use audit::{AuditCase, Auditor, Judgement};
pub use slice::read_text;

use crate::files::{FileId, Files};
use crate::jit::Jit;
use crate::processes::Processes;
use crate::recording::Recording;
use crate::registered::Registered;
use crate::runtimes::Runtimes;
use crate::segments::Segments;
use crate::sideband::{self, Event};
use crate::tables::Tables;
use hotframe_abi as abi;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};
use taken::{Taken, Taking};
use zerocopy::FromBytes as _;

/// Time that runtimes may take in one pass: the ring holds a quarter of a second.
const NAMING_PER_PASS: Duration = Duration::from_millis(50);
/// Time after which a pass leaves records to the next one: the ring has to be emptied in between, for
/// a full one gets smaller pieces of stacks.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes of stacks that may wait for the next pass: when there are more, the ring has to hold them.
const WAITING_MAX_BYTES: usize = 2 << 20;
/// Time that rows may take that are loaded before a walk misses them, in one pass.
const AHEAD_PER_PASS: Duration = Duration::from_millis(2);
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

    /// At once, not in order of time: it says whose it is.
    fn take_told(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, _) = abi::hf_told::read_from_prefix(bytes).ok()?;
        self.runtimes.told(&head, bytes);
        Some(())
    }
}

#[cfg(test)]
mod tests {
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
}
