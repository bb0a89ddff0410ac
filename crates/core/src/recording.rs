//! What a recording has taken so far: raw stacks, threads, processes, samples.
//!
//! In: finished samples. Out: read by `resolve`, which names it. Nothing here is a string of a
//! function: stacks are trees of frame words, samples are columns.
//!
//! # Cost
//! 12 bytes a node and about 6 of index; 20 bytes a sample; a known stack costs one look-up by
//! the hash that the kernel half computed.

use crate::processes::{Facts, read_facts};
use hotframe_abi as abi;
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

/// A sampled process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who.
    pub incarnation: Incarnation,
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

/// A node of the tree of raw stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// The caller's node; 0: none.
    pub parent: u32,
    low: u32,
    high: u32,
}

impl Node {
    /// The frame word.
    pub fn word(self) -> abi::FrameWord {
        abi::FrameWord(u64::from(self.high) << 32 | u64::from(self.low))
    }
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
    /// Node of the leaf.
    pub stack: Vec<u32>,
    /// CPU.
    pub cpu: Vec<u16>,
    /// `HF_CUT_*`.
    pub cut: Vec<u8>,
}

/// Samples taken so far.
#[derive(Debug)]
pub struct Recording {
    /// Processes.
    pub processes: Vec<Process>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// Raw stacks; 0 is the empty one.
    pub nodes: Vec<Node>,
    /// Samples.
    pub samples: Columns,
    /// Bytes of heap beyond which no new stack is kept.
    pub limit_bytes: usize,
    /// The limit was reached.
    pub is_full: bool,
    by_incarnation: HashMap<Incarnation, u32>,
    by_thread: HashMap<Thread, u32>,
    by_node: HashMap<Node, u32>,
    by_hash: HashMap<u64, u32>,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording {
            processes: Vec::new(),
            threads: Vec::new(),
            nodes: vec![Node { parent: 0, low: 0, high: 0 }],
            samples: Columns::default(),
            limit_bytes: usize::MAX,
            is_full: false,
            by_incarnation: HashMap::new(),
            by_thread: HashMap::new(),
            by_node: HashMap::new(),
            by_hash: HashMap::new(),
        }
    }
}

impl Recording {
    /// Adds a sample. `exe` is asked for when a process is new and its own link cannot be read.
    pub fn add(&mut self, sample: &Sample<'_>, exe: impl FnOnce() -> String) {
        let head = sample.head;
        let incarnation =
            Incarnation { pid: head.tgid, exec_id: head.exec_id, start_ns: head.start_ns };
        let process = match self.by_incarnation.get(&incarnation) {
            Some(&process) => process,
            None => {
                let mut facts = read_facts(head.tgid);
                if facts.exe.is_empty() {
                    facts.exe = exe();
                }
                if facts.comm.is_empty() || head.tgid == head.tid {
                    facts.comm = comm_text(&head.comm);
                }
                let process = self.processes.len() as u32;
                self.processes.push(Process {
                    incarnation,
                    facts,
                    samples: 0,
                    whole: 0,
                    cut: [0; abi::HF_CUT_COUNT as usize],
                    cut_at: HashMap::new(),
                });
                self.by_incarnation.insert(incarnation, process);
                process
            }
        };
        let thread = Thread { process, tid: head.tid, comm: head.comm };
        let n_threads = self.threads.len() as u32;
        let thread = *self.by_thread.entry(thread).or_insert_with(|| {
            self.threads.push(thread);
            n_threads
        });
        let stack = match self.by_hash.get(&sample.hash) {
            Some(&stack) => stack,
            None => {
                let stack = self.stack(sample.words);
                self.by_hash.insert(sample.hash, stack);
                stack
            }
        };
        let process = &mut self.processes[process as usize];
        let weight = u64::from(head.weight);
        process.samples += weight;
        if u32::from(sample.cut) == abi::HF_CUT_NONE {
            process.whole += weight;
        } else {
            process.cut[usize::from(sample.cut).min(abi::HF_CUT_COUNT as usize - 1)] += weight;
            let last = sample.words.last().copied().unwrap_or(sample.cut_pc);
            if process.cut_at.len() < 64 || process.cut_at.contains_key(&(sample.cut, last)) {
                *process.cut_at.entry((sample.cut, last)).or_default() += weight;
            }
        }
        self.samples.time_ns.push(head.time_ns);
        self.samples.thread.push(thread);
        self.samples.stack.push(stack);
        self.samples.cpu.push(head.cpu as u16);
        self.samples.cut.push(sample.cut);
    }

    fn stack(&mut self, words: &[u64]) -> u32 {
        let mut parent = 0;
        for &word in words.iter().rev() {
            let node = Node { parent, low: word as u32, high: (word >> 32) as u32 };
            parent = match self.by_node.get(&node) {
                Some(&known) => known,
                None => {
                    let id = self.nodes.len() as u32;
                    self.nodes.push(node);
                    self.by_node.insert(node, id);
                    id
                }
            };
        }
        parent
    }

    /// Looks whether the limit is reached: once a pass, since adding up costs.
    pub fn check_limit(&mut self) {
        self.is_full = self.heap_bytes() > self.limit_bytes;
    }

    /// Is there room for this stack, or is it known?
    pub fn has_room(&self, hash: u64) -> bool {
        !self.is_full || self.by_hash.contains_key(&hash)
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.by_node.capacity() * (size_of::<(Node, u32)>() + 1)
            + self.by_hash.capacity() * (size_of::<(u64, u32)>() + 1)
            + self.samples.time_ns.capacity() * 19
            + self.threads.capacity() * size_of::<Thread>()
            + self.by_thread.capacity() * (size_of::<(Thread, u32)>() + 1)
            + self.processes.capacity() * size_of::<Process>()
            + self
                .processes
                .iter()
                .map(|process| {
                    process.facts.exe.capacity()
                        + process.facts.cgroup.capacity()
                        + process.cut_at.capacity() * 32
                })
                .sum::<usize>()
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

    /// Equal stacks share nodes, equal roots share theirs, and a second exec is another process.
    #[test]
    fn sharing() {
        let mut recording = Recording::default();
        let mut head = abi::hf_sample::new_zeroed();
        head.weight = 1;
        let add = |recording: &mut Recording, head: &abi::hf_sample, words: &[u64], hash| {
            let sample = Sample { head, words, hash, cut: 0, cut_pc: 0 };
            recording.add(&sample, String::new);
        };
        add(&mut recording, &head, &[3, 2, 1], 10);
        add(&mut recording, &head, &[3, 2, 1], 10);
        add(&mut recording, &head, &[4, 2, 1], 11);
        assert_eq!(recording.nodes.len(), 1 + 4);
        assert_eq!(recording.samples.stack, [3, 3, 4]);
        head.exec_id = 1;
        add(&mut recording, &head, &[4, 2, 1], 11);
        assert_eq!(recording.processes.len(), 2);
        assert_eq!(recording.samples.thread, [0, 0, 0, 1]);
    }
}
