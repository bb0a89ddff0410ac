//! A recording that was named becomes a profile.
//!
//! In: a [`Recording`] with names in its store, and where its files lay. Out: a [`Profile`] in the one numbering that
//! `hotframe_formats::canonical` describes; what has no name is `module+0xoffset`.
//!
//! # Cost
//! The recording is taken apart on the way: its indexes are given back first, a node's number is
//! written over the node, a column of samples goes when it was copied. Beyond what the profile
//! holds, a node costs 8 bytes of the store and 5 in an index, a sample 12.

use super::Sources;
use crate::numbers::Numbers;
use crate::profile::{
    FRAME_UNNAMED, Frame, Function, Kind, Meta, Module, Process, Profile, Samples, StackNode,
    Thread,
};
use crate::recording::{Columns, Recording, comm_text};
use hotframe_abi as abi;
use hotframe_frames::{StackId, Why};
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash, RandomState};

/// Makes a profile of a recording that was named: what no sample has is left out. It has the one
/// numbering that `hotframe_formats::canonical` describes, so that nobody needs a copy to get it:
/// samples by time and CPU, everything else by its first use.
pub fn build(mut recording: Recording, files: &Sources, meta: Meta, start_ns: u64) -> Profile {
    let mut columns = recording.take_samples();
    for stack in &mut columns.stack {
        *stack = StackId(recording.leaf(*stack));
    }
    recording.store.seal();
    let mut builder = Builder::new(recording, files);
    builder.profile.meta = meta;
    builder.processes();
    builder.samples(columns, start_ns);
    builder.profile
}

struct Builder<'a> {
    recording: Recording,
    files: &'a Sources,
    profile: Profile,
    /// The profile's number of each of the store's functions and modules; `u32::MAX`: none yet.
    functions: Vec<u32>,
    modules: Vec<u32>,
    by_value: ByValue,
    way: Vec<u32>,
    at_node: Vec<hotframe_frames::StackFrame>,
}

/// Finds entries of the profile's tables by what they are.
#[derive(Default)]
struct ByValue {
    hasher: RandomState,
    modules: Numbers,
    functions: Numbers,
    frames: Numbers,
    stacks: Numbers,
    threads: Numbers,
}

/// The number of an entry, new or known.
fn intern<T: Eq + Hash>(
    table: &mut Vec<T>,
    numbers: &mut Numbers,
    hasher: &RandomState,
    value: T,
) -> u32 {
    let hash = hasher.hash_one(&value);
    if let Some(known) = numbers.find(hash, |at| table[at as usize] == value) {
        return known;
    }
    let new = table.len() as u32;
    table.push(value);
    numbers.insert(hash, new, |at| hasher.hash_one(&table[at as usize]));
    new
}

impl<'a> Builder<'a> {
    fn new(recording: Recording, files: &'a Sources) -> Builder<'a> {
        let store = &recording.store;
        let mut profile = Profile::default();
        profile.modules.push(Module { path: 0, build_id: 0 });
        profile.stacks.push(StackNode { parent: 0, frame: 0 });
        let mut modules = vec![u32::MAX; store.n_modules()];
        modules[0] = 0;
        // Where calls were inlined, one becomes several. An index that grew would be held twice.
        let n_nodes: usize = (1..store.n_nodes() as u32)
            .map(|at| store.numbers_of(store.node(at)).count().max(1))
            .sum();
        let stacks = Numbers::with_capacity(n_nodes);
        Builder {
            functions: vec![u32::MAX; store.n_functions()],
            recording,
            files,
            profile,
            modules,
            by_value: ByValue { stacks, ..ByValue::default() },
            way: Vec::new(),
            at_node: Vec::new(),
        }
    }

    /// They stay in their order, as the books count them.
    fn processes(&mut self) {
        let strings = &mut self.profile.strings;
        for process in std::mem::take(&mut self.recording.processes) {
            let process = Process {
                pid: process.incarnation.pid,
                comm: strings.intern(&process.facts.comm),
                exe: strings.intern(&process.facts.exe),
                cgroup: strings.intern(&process.facts.cgroup),
                samples: process.samples,
                whole: process.whole,
                cut: process.cut,
            };
            self.profile.processes.push(process);
        }
    }

    fn samples(&mut self, columns: Columns, start_ns: u64) {
        let Columns { time_ns, mut thread, mut stack, cpu, cut, weight } = columns;
        let weight_of = |at: u32| weight.get(at as usize).copied().unwrap_or(1);
        let key = |at: u32| (time_ns[at as usize].saturating_sub(start_ns), cpu[at as usize]);
        let mut order: Vec<u32> =
            (0..time_ns.len() as u32).filter(|&at| weight_of(at) > 0).collect();
        order.sort_unstable_by_key(|&at| (key(at), at));
        // What a clock never gives, two samples of a CPU at one time, needs an order by content.
        self.profile.is_canonical = order.windows(2).all(|pair| key(pair[0]) != key(pair[1]));
        let mut threads = vec![u32::MAX; self.recording.threads.len()];
        for &at in &order {
            let number = thread[at as usize];
            if threads[number as usize] == u32::MAX {
                threads[number as usize] = self.thread(number);
            }
            thread[at as usize] = threads[number as usize];
            stack[at as usize].0 = self.stack(stack[at as usize].0);
        }
        // One column after the other, each gone before the next is made.
        fn in_order<T: Copy, U>(column: Vec<T>, order: &[u32], of: impl Fn(T) -> U) -> Vec<U> {
            order.iter().map(|&at| of(column[at as usize])).collect()
        }
        self.profile.samples = Samples {
            weight: match weight.is_empty() {
                true => vec![1; order.len()],
                false => in_order(weight, &order, |weight| weight),
            },
            time_ns: in_order(time_ns, &order, |time_ns| time_ns.saturating_sub(start_ns)),
            cpu: in_order(cpu, &order, |cpu| cpu),
            cut: in_order(cut, &order, |cut| cut),
            thread: in_order(thread, &order, |thread| thread),
            stack: in_order(stack, &order, |stack| stack.0),
        };
        let last = self.profile.samples.time_ns.last().copied().unwrap_or(0);
        if last > 0 {
            let duration_ns = &mut self.profile.meta.duration_ns;
            *duration_ns = last.saturating_add(1).max(*duration_ns);
        }
    }

    fn thread(&mut self, number: u32) -> u32 {
        let thread = self.recording.threads[number as usize];
        let comm = self.profile.strings.intern(&comm_text(&thread.comm));
        let thread = Thread { tid: thread.tid, comm, process: thread.process };
        let ByValue { hasher, threads, .. } = &mut self.by_value;
        intern(&mut self.profile.threads, threads, hasher, thread)
    }

    /// The profile's node of a stack's leaf.
    fn stack(&mut self, leaf: u32) -> u32 {
        let mut at = leaf;
        let mut new = loop {
            if at == 0 {
                break 0;
            }
            if let Some(new) = self.recording.store.number(at) {
                break new;
            }
            self.way.push(at);
            at = self.recording.store.node(at).parent;
        };
        while let Some(at) = self.way.pop() {
            let node = self.recording.store.node(at);
            // One frame, or with inlining several: callers first.
            let mut frames = std::mem::take(&mut self.at_node);
            frames.extend(self.recording.store.frames_at(node));
            while let Some(frame) = frames.pop() {
                let frame = self.frame(frame);
                let ByValue { hasher, stacks, .. } = &mut self.by_value;
                let node = StackNode { parent: new, frame };
                new = intern(&mut self.profile.stacks, stacks, hasher, node);
            }
            self.at_node = frames;
            self.recording.store.set_number(at, new);
        }
        new
    }

    fn frame(&mut self, frame: hotframe_frames::StackFrame) -> u32 {
        let word = frame.word.map(abi::FrameWord);
        let address = word.map_or(0, |word| self.address(word));
        let frame = match frame.frame {
            Some(known) => Frame {
                function: self.function(known.function),
                line: known.line,
                address,
                flags: known.flags,
            },
            None => Frame {
                function: self.nameless(word.map_or(Kind::Note, kind_of)),
                line: 0,
                address,
                flags: FRAME_UNNAMED,
            },
        };
        let ByValue { hasher, frames, .. } = &mut self.by_value;
        intern(&mut self.profile.frames, frames, hasher, frame)
    }

    fn function(&mut self, number: u32) -> u32 {
        if let Some(&known) = self.functions.get(number as usize)
            && known != u32::MAX
        {
            return known;
        }
        let module = self.module(self.recording.store.function(number).module);
        let function = self.recording.store.function(number);
        let strings = &mut self.profile.strings;
        let name = strings.intern(function.name);
        let system_name = function.system_name.map_or(0, |name| strings.intern(name));
        let function = Function {
            name,
            system_name: if system_name == name { 0 } else { system_name },
            file: strings.intern(function.file),
            start_line: function.start_line,
            module,
            kind: Kind::of(function.kind),
        };
        let ByValue { hasher, functions, .. } = &mut self.by_value;
        let new = intern(&mut self.profile.functions, functions, hasher, function);
        if let Some(slot) = self.functions.get_mut(number as usize) {
            *slot = new;
        }
        new
    }

    fn module(&mut self, number: u32) -> u32 {
        match self.modules.get(number as usize) {
            Some(&u32::MAX) => {}
            Some(&known) => return known,
            None => return 0,
        }
        let module = self.recording.store.module(number);
        let strings = &mut self.profile.strings;
        let module =
            Module { path: strings.intern(module.path), build_id: strings.intern(module.build_id) };
        let ByValue { hasher, modules, .. } = &mut self.by_value;
        let new = intern(&mut self.profile.modules, modules, hasher, module);
        self.modules[number as usize] = new;
        new
    }

    /// What stands for a place whose name found no room.
    fn nameless(&mut self, kind: Kind) -> u32 {
        let name = self.profile.strings.intern(Why::NoRoom.label());
        let function = Function { name, system_name: 0, file: 0, start_line: 0, module: 0, kind };
        let ByValue { hasher, functions, .. } = &mut self.by_value;
        intern(&mut self.profile.functions, functions, hasher, function)
    }

    /// See [`Frame::address`].
    fn address(&self, word: abi::FrameWord) -> u64 {
        match word.kind() {
            abi::HF_FRAME_NATIVE => {
                let base = self.files.get(word.file_id()).map_or(0, |file| file.image_base);
                base + u64::from(word.image_offset()).saturating_sub(word.call_offset())
            }
            abi::HF_FRAME_KERNEL => word.kernel_addr() - word.call_offset(),
            abi::HF_FRAME_NOTE => 0,
            _ => word.payload().saturating_sub(word.call_offset()),
        }
    }
}

pub(super) fn kind_of(word: abi::FrameWord) -> Kind {
    match word.kind() {
        abi::HF_FRAME_KERNEL => Kind::Kernel,
        abi::HF_FRAME_NOTE => Kind::Note,
        abi::HF_FRAME_DYNAMIC => Kind::of_runtime(word.runtime()),
        _ => Kind::Native,
    }
}

/// Frames of samples by kind, all and named.
pub fn count(profile: &Profile) -> BTreeMap<&'static str, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for (&stack, &weight) in profile.samples.stack.iter().zip(&profile.samples.weight) {
        for frame in profile.walk(stack) {
            let frame = &profile.frames[frame as usize];
            let kind = profile.functions[frame.function as usize].kind;
            if kind == Kind::Note {
                continue;
            }
            let count: &mut (u64, u64) = counts.entry(kind.name()).or_default();
            count.0 += u64::from(weight);
            if frame.flags & FRAME_UNNAMED == 0 {
                count.1 += u64::from(weight);
            }
        }
    }
    counts
}
