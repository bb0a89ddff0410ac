//! What a recording has taken so far: stacks in the frame store, threads, processes, samples.
//!
//! In: finished samples, and the names of dynamic frames as runtimes answer for them. Out: read by
//! `resolve`, which names the rest. Stacks and names live in a [`Store`]; samples are columns.
//!
//! # Cost
//! 19 bytes a sample; a known stack costs one look-up by the hash that the kernel half computed,
//! and no allocation. What a stack and its names cost: see `hotframe_frames`.

use crate::processes::{Cgroups, Facts, NO_CGROUP, read_facts};
use crate::profile::Kind;
use hotframe_abi as abi;
use hotframe_frames::{
    Budget, Charge, Config, FrameInfo, PendingId, ProcessKey, StackId, Store, Why,
};
use std::collections::HashMap;

/// What tells processes apart: a reused pid or an exec is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Pid in hotframe's namespace.
    pub pid: u32,
    /// `self_exec_id` of the kernel.
    pub exec_id: u32,
    /// Start, CLOCK_BOOTTIME.
    pub start_ns: u64,
}

impl From<ProcessKey> for Incarnation {
    fn from(key: ProcessKey) -> Incarnation {
        Incarnation { pid: key.tgid, exec_id: key.exec_id, start_ns: key.start_ns }
    }
}

impl From<Incarnation> for ProcessKey {
    fn from(incarnation: Incarnation) -> ProcessKey {
        let Incarnation { pid, exec_id, start_ns } = incarnation;
        ProcessKey { tgid: pid, start_ns, exec_id }
    }
}

/// A dynamic frame whose name a runtime is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// To be given back with the answer.
    pub id: PendingId,
    /// Whose memory to read.
    pub incarnation: Incarnation,
    /// Head word and data words.
    pub words: Box<[u64]>,
}

/// A sampled process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who.
    pub incarnation: Incarnation,
    /// The same in the store.
    pub in_store: hotframe_frames::Incarnation,
    /// Where it belongs.
    pub facts: Facts,
    /// Samples emitted for it.
    pub samples: u64,
    /// Whole stacks.
    pub whole: u64,
    /// Cut stacks by `HF_CUT_*`.
    pub cut: [u64; abi::HF_CUT_COUNT as usize],
    /// Where stacks were cut: reason and frame word or pc, with how often.
    pub cut_at: HashMap<(u8, u64), u64>,
}

/// What a process executes, as far as its mappings tell, and where.
#[derive(Debug, Clone)]
pub struct Exe {
    /// Its path; "": not known.
    pub path: String,
    /// The process's exec was seen. Else it is the first file by address, a guess for who is gone.
    pub is_certain: bool,
    /// The cgroups in which that was executed; zeros: not known.
    pub cgroup: abi::hf_cgroup_ids,
    /// By a process that it was forked from, and not by itself.
    pub is_forked: bool,
    /// Such a process that is there, to be asked when this one is gone.
    pub ancestor: Option<u32>,
}

impl Default for Exe {
    fn default() -> Exe {
        Exe {
            path: String::new(),
            is_certain: false,
            cgroup: NO_CGROUP,
            is_forked: false,
            ancestor: None,
        }
    }
}

impl From<&str> for Exe {
    fn from(path: &str) -> Exe {
        Exe { path: path.to_owned(), ..Exe::default() }
    }
}

/// A sampled thread under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Index into the processes.
    pub process: u32,
    /// Tid in hotframe's namespace.
    pub tid: u32,
    /// Its name.
    pub comm: [u8; 16],
}

/// One sample, complete.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The record's head.
    pub head: &'a abi::hf_sample,
    /// Frame words, leaf first.
    pub words: &'a [u64],
    /// Hash of the words and the reason.
    pub hash: u64,
    /// Why the stack ends.
    pub cut: u8,
    /// The pc at which it was cut.
    pub cut_pc: u64,
}

/// The samples, a column each.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// CLOCK_MONOTONIC.
    pub time_ns: Vec<u64>,
    /// Index into the threads.
    pub thread: Vec<u32>,
    /// Its stack in the store.
    pub stack: Vec<StackId>,
    /// CPU.
    pub cpu: Vec<u16>,
    /// `HF_CUT_*`.
    pub cut: Vec<u8>,
    /// Ticks that each stands for; empty: one each.
    pub weight: Vec<u32>,
}

impl Columns {
    /// Bytes of a sample whose weight is kept.
    pub const ROW_BYTES: usize = 8 + 4 + 4 + 2 + 1 + 4;

    /// Appends a sample, without its weight.
    pub fn push(&mut self, time_ns: u64, thread: u32, stack: StackId, cpu: u16, cut: u8) {
        // By a quarter: doubling would want three times the bytes for a moment.
        if self.time_ns.len() == self.time_ns.capacity() {
            let more = self.time_ns.len() / 4 + 1024;
            self.time_ns.reserve_exact(more);
            self.thread.reserve_exact(more);
            self.stack.reserve_exact(more);
            self.cpu.reserve_exact(more);
            self.cut.reserve_exact(more);
        }
        self.time_ns.push(time_ns);
        self.thread.push(thread);
        self.stack.push(stack);
        self.cpu.push(cpu);
        self.cut.push(cut);
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.time_ns.capacity() * 8
            + (self.thread.capacity() + self.stack.capacity() + self.weight.capacity()) * 4
            + self.cpu.capacity() * 2
            + self.cut.capacity()
    }

    /// Makes one sample of those of a thread and stack in each interval of `bucket_ns`: the first,
    /// with the weight of all.
    pub fn coarsen(&mut self, bucket_ns: u64) {
        self.weight.resize(self.time_ns.len(), 1);
        let key = |at: u32| {
            let at = at as usize;
            let bucket = self.time_ns[at] / bucket_ns.max(1);
            (self.thread[at], self.stack[at], self.cut[at], bucket)
        };
        let mut order: Vec<u32> = (0..self.time_ns.len() as u32).collect();
        order.sort_unstable_by_key(|&at| (key(at), self.time_ns[at as usize]));
        let mut is_first = vec![false; order.len()];
        let mut weight = vec![0u32; order.len()];
        for same in order.chunk_by(|&a, &b| key(a) == key(b)) {
            let Some(&first) = same.first() else { continue };
            is_first[first as usize] = true;
            weight[first as usize] =
                same.iter().fold(0, |sum: u32, &at| sum.saturating_add(self.weight[at as usize]));
        }
        self.weight = weight;
        fn keep<T>(column: &mut Vec<T>, is_kept: &[bool]) {
            let mut is_kept = is_kept.iter();
            column.retain(|_| is_kept.next().copied().unwrap_or(false));
        }
        keep(&mut self.time_ns, &is_first);
        keep(&mut self.thread, &is_first);
        keep(&mut self.stack, &is_first);
        keep(&mut self.cpu, &is_first);
        keep(&mut self.cut, &is_first);
        keep(&mut self.weight, &is_first);
    }
}

/// Bytes of a thread and of a process without its texts, in their tables and indexes, the slack of
/// these included.
const THREAD_BYTES: usize = size_of::<Thread>() * 2 + (size_of::<(Thread, u32)>() + 1) * 2;
const PROCESS_BYTES: usize = size_of::<Process>() * 3 / 2
    + (size_of::<(Incarnation, u32)>() + 1) * 2
    + size_of::<(u32, u32)>() * 2
    + 128;
/// Pids whose image is remembered when a recording begins anew.
const PIDS_MAX: usize = 1 << 16;

/// Samples taken so far.
#[derive(Debug)]
pub struct Recording {
    /// Processes.
    pub processes: Vec<Process>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Samples.
    pub samples: Columns,
    /// Stacks, and names as they come.
    pub store: Store,
    /// What all of it is charged to.
    pub budget: Budget,
    /// A sample's stack is the number of its leaf's node: see `segments`.
    pub leaves_are_nodes: bool,
    /// Questions that were taken and not answered so far: there was no time.
    pub asked: Vec<Question>,
    samples_charge: Charge,
    processes_charge: Charge,
    /// Bytes held right after the last time it began anew.
    floor_bytes: u64,
    by_incarnation: HashMap<Incarnation, u32>,
    by_thread: HashMap<Thread, u32>,
    /// The image that each pid has now.
    by_pid: HashMap<u32, hotframe_frames::Incarnation>,
    cgroups: Cgroups,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::new(&Budget::new(u64::MAX))
    }
}

impl Recording {
    /// An empty recording whose stacks and names are charged to `budget`.
    pub fn new(budget: &Budget) -> Recording {
        let config = Config {
            note_kind: Kind::Note as u8,
            kind_of: |words| {
                let head = abi::FrameWord(words.first().copied().unwrap_or_default());
                Kind::of_runtime(head.runtime()) as u8
            },
            ..Config::default()
        };
        Recording {
            processes: Vec::new(),
            threads: Vec::new(),
            samples: Columns::default(),
            store: Store::new(budget, config),
            leaves_are_nodes: false,
            samples_charge: budget.owner("recording.samples").charge(),
            processes_charge: budget.owner("recording.processes").charge(),
            floor_bytes: 0,
            budget: budget.clone(),
            asked: Vec::new(),
            by_incarnation: HashMap::new(),
            by_thread: HashMap::new(),
            by_pid: HashMap::new(),
            cgroups: Cgroups::default(),
        }
    }

    /// Adds a sample. `exe` is asked for when a process is new and its own link cannot be read.
    /// Returns the reason by which the stack is booked: one that found no room is cut by that.
    pub fn add(&mut self, sample: &Sample<'_>, exe: impl FnOnce() -> Exe) -> u8 {
        let head = sample.head;
        let process = self.process(head, exe);
        let thread = Thread { process, tid: head.tid, comm: head.comm };
        let n_threads = self.threads.len() as u32;
        let thread = *self.by_thread.entry(thread).or_insert_with(|| {
            self.threads.push(thread);
            self.processes_charge.grow_anyway(THREAD_BYTES);
            n_threads
        });
        let process = &mut self.processes[process as usize];
        let stack = self.store.record(process.in_store, sample.hash, sample.words);
        let cut = if stack == StackId::REFUSED { abi::HF_CUT_BUDGET as u8 } else { sample.cut };
        let weight = u64::from(head.weight);
        process.samples += weight;
        if u32::from(cut) == abi::HF_CUT_NONE {
            process.whole += weight;
        } else {
            process.cut[usize::from(cut).min(abi::HF_CUT_COUNT as usize - 1)] += weight;
            let last = sample.words.last().copied().unwrap_or(sample.cut_pc);
            if process.cut_at.len() < 64 || process.cut_at.contains_key(&(cut, last)) {
                *process.cut_at.entry((cut, last)).or_default() += weight;
            }
        }
        let had_room = self.samples.time_ns.len() < self.samples.time_ns.capacity();
        self.samples.push(head.time_ns, thread, stack, head.cpu, cut);
        if !had_room {
            self.samples_charge.set(self.samples.heap_bytes());
        }
        cut
    }

    fn process(&mut self, head: &abi::hf_sample, exe: impl FnOnce() -> Exe) -> u32 {
        let incarnation =
            Incarnation { pid: head.tgid, exec_id: head.exec_id, start_ns: head.start_ns };
        if let Some(&process) = self.by_incarnation.get(&incarnation) {
            return process;
        }
        let exe = exe();
        let known_exe = exe.is_certain.then(|| exe.path.clone());
        let known_comm = (head.tgid == head.tid).then(|| comm_text(&head.comm));
        let cgroup = match exe.is_forked {
            true => self.cgroups.of_forked(head.tgid, exe.ancestor, exe.cgroup),
            false => self.cgroups.of(head.tgid, exe.cgroup),
        };
        let mut facts = read_facts(head.tgid, exe.ancestor, known_comm, known_exe, cgroup);
        if facts.exe.is_empty() {
            facts.exe = exe.path;
        }
        if facts.comm.is_empty() {
            facts.comm = comm_text(&head.comm);
        }
        let in_store = self.store.incarnation(incarnation.into());
        // The pid is another image's now: what it was before ended by exec, or before.
        if let Some(before) = self.by_pid.insert(head.tgid, in_store)
            && before != in_store
        {
            self.store.exited(before);
        }
        let process = self.processes.len() as u32;
        let texts = facts.comm.len() + facts.exe.len() + facts.cgroup.len();
        self.processes_charge.grow_anyway(PROCESS_BYTES + texts);
        self.processes.push(Process {
            incarnation,
            in_store,
            facts,
            samples: 0,
            whole: 0,
            cut: [0; abi::HF_CUT_COUNT as usize],
            cut_at: HashMap::new(),
        });
        self.by_incarnation.insert(incarnation, process);
        process
    }

    /// Forgets what was taken, but not the names of dynamic code of processes that live.
    pub fn begin_anew(&mut self) {
        self.store.forget_all();
        self.samples = Columns::default();
        self.processes = Vec::new();
        self.threads = Vec::new();
        self.by_incarnation = HashMap::new();
        self.by_thread = HashMap::new();
        // An exit that no record told of leaves its pid here.
        if self.by_pid.len() > PIDS_MAX {
            self.by_pid = HashMap::new();
        }
        self.samples_charge.set(0);
        self.processes_charge.set(0);
        self.floor_bytes = self.budget.used_bytes();
    }

    /// Bytes that beginning anew would free, about.
    pub fn part_bytes(&self) -> u64 {
        self.budget.used_bytes().saturating_sub(self.floor_bytes)
    }

    /// Three quarters of the budget are taken.
    pub fn is_pressed(&self) -> bool {
        self.budget.used_bytes() > self.budget.limit_bytes() / 4 * 3
    }

    /// Takes the samples, and leaves none.
    pub fn take_samples(&mut self) -> Columns {
        self.samples_charge.set(0);
        std::mem::take(&mut self.samples)
    }

    /// The node of a sample's leaf in the store's tree; 0: it has no frames.
    pub fn leaf(&self, stack: StackId) -> u32 {
        match self.leaves_are_nodes {
            true => stack.0,
            false => self.store.leaf(stack).unwrap_or_default(),
        }
    }

    /// To be called when a process ended and its samples up to then were added.
    pub fn exited(&mut self, pid: u32) {
        if let Some(incarnation) = self.by_pid.remove(&pid) {
            self.store.exited(incarnation);
        }
    }

    /// Up to `max` dynamic frames that have no name and were not asked for before, oldest first.
    /// A stack with such a frame is exported only when it is answered, or [`Store::settle`]d.
    pub fn take_questions(&mut self, max: usize) -> Vec<Question> {
        let questions = self.store.take_questions(max).into_iter();
        questions
            .map(|asked| Question {
                id: asked.id,
                incarnation: asked.process.into(),
                words: asked.words,
            })
            .collect()
    }

    /// Names a dynamic frame: innermost first the frames inlined there, and the physical one.
    /// `FunctionInfo::kind` is a [`Kind`].
    pub fn answer(&mut self, id: PendingId, frames: &[FrameInfo<'_>]) {
        self.store.answer(id, frames);
    }

    /// Says that a dynamic frame has no name, and why: it shows as `[unnamed: why]`.
    pub fn answer_unnamed(&mut self, id: PendingId, why: Why) {
        self.store.answer_unnamed(id, why);
    }
}

/// A thread name as text.
pub fn comm_text(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn note(number: u64) -> u64 {
        u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT | number
    }

    fn add(recording: &mut Recording, head: &abi::hf_sample, words: &[u64], hash: u64) -> u8 {
        let sample = Sample { head, words, hash, cut: 0, cut_pc: 0 };
        recording.add(&sample, Exe::default)
    }

    /// Equal stacks are one, equal roots share their nodes, and a second exec is another process.
    #[test]
    fn sharing() {
        let mut recording = Recording::default();
        let mut head = abi::hf_sample::new_zeroed();
        head.weight = 1;
        add(&mut recording, &head, &[note(3), note(2), note(1)], 10);
        add(&mut recording, &head, &[note(3), note(2), note(1)], 10);
        add(&mut recording, &head, &[note(4), note(2), note(1)], 11);
        // The root, the refused stack's, and four.
        assert_eq!(recording.store.n_nodes(), 2 + 4);
        let stacks = &recording.samples.stack;
        assert_eq!(stacks[0], stacks[1]);
        assert_ne!(stacks[0], stacks[2]);
        head.exec_id = 1;
        add(&mut recording, &head, &[note(4), note(2), note(1)], 11);
        assert_eq!(recording.samples.stack[3], recording.samples.stack[2]);
        assert_eq!(recording.processes.len(), 2);
        assert_eq!(recording.samples.thread, [0, 0, 0, 1]);
    }

    /// A sample whose stack finds no room stays, and is booked as cut by that.
    #[test]
    fn no_room() {
        let mut recording = Recording::new(&Budget::new(256 << 10));
        let mut head = abi::hf_sample::new_zeroed();
        head.weight = 1;
        let n = 20_000;
        let whole = (0..n)
            .filter(|&number| u32::from(add(&mut recording, &head, &[note(number)], number)) == 0)
            .count() as u64;
        assert!(whole > 0 && whole < n, "{whole}");
        let process = &recording.processes[0];
        assert_eq!(process.whole, whole);
        assert_eq!(process.cut[abi::HF_CUT_BUDGET as usize], n - whole);
        assert_eq!(recording.samples.stack.len() as u64, n);
    }

    /// A dynamic frame is asked for with the process as it is known everywhere; the next image of
    /// the pid is asked for its own.
    #[test]
    fn questions_name_the_process() {
        let mut recording = Recording::default();
        let mut head = abi::hf_sample::new_zeroed();
        (head.weight, head.tgid, head.start_ns) = (1, 7, 99);
        let dynamic = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
            | u64::from(abi::HF_RUNTIME_CPYTHON) << abi::HF_FRAME_RUNTIME_SHIFT
            | 1 << abi::HF_FRAME_N_DATA_SHIFT;
        let words = [dynamic, 0x1234];
        add(&mut recording, &head, &words, 1);
        let asked = recording.take_questions(10);
        let incarnation = Incarnation { pid: 7, exec_id: 0, start_ns: 99 };
        assert_eq!((asked.len(), asked[0].incarnation), (1, incarnation));
        assert_eq!(*asked[0].words, words);
        recording.answer_unnamed(asked[0].id, Why::StalePointer);
        let frame = recording.store.stack(recording.samples.stack[0]).next().expect("a frame");
        let function = recording.store.function(frame.frame.expect("a note").function);
        assert_eq!(
            (function.name, function.kind),
            (Why::StalePointer.label(), Kind::Cpython as u8)
        );
        head.exec_id = 1;
        add(&mut recording, &head, &words, 1);
        let asked = recording.take_questions(10);
        assert_eq!(asked[0].incarnation, Incarnation { exec_id: 1, ..incarnation });
    }
}
