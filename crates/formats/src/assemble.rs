//! Builds a [`Profile`] from what a reader finds: each string, function, frame, stack, thread and
//! process once, within [`Limits`].

use std::collections::HashMap;

use foldhash::fast::RandomState;
use hotframe_core::profile::{Frame, Function, Module, Process, Profile, StackNode, Thread};

use crate::{Error, Limits, units};

/// A map of small keys. Its hash is cheap, and seeded so that no file can choose collisions.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// The most that all samples together weigh before a coarser unit is taken, and the heaviest one
/// where there is none: in 65,536 rows, as a file of a few bytes would take gigabytes else. As
/// nanoseconds it is 3 days, as bytes 256 TiB, and less than a server's delays and allocations
/// since its start; what rounding takes of them is 2^-38 a sample.
const WEIGHT_MAX: u64 = 1 << 48;

/// A profile in the making.
#[derive(Debug)]
pub struct Assembler {
    /// What there is so far; fields without a method here (`meta`, `stats`) are set directly.
    pub profile: Profile,
    format: &'static str,
    limits: Limits,
    mentions: u64,
    modules: Map<Module, u32>,
    functions: Map<Function, u32>,
    frames: Map<Frame, u32>,
    stacks: Map<(u32, u32), u32>,
    threads: Map<(u32, u32, u32), u32>,
    /// Weight of all rows.
    sum: u64,
    /// How many of the file's units are one of `profile.meta`'s.
    per_unit: u64,
    /// Frames and nodes of the stack that was put together last, outermost first.
    last_stack: Vec<(u32, u32)>,
}

/// One row of the sample table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Nanoseconds since the recording began.
    pub time_ns: u64,
    /// Index into `threads`.
    pub thread: u32,
    /// Index into `stacks` of the leaf.
    pub stack: u32,
    /// Logical CPU.
    pub cpu: u16,
    /// `hf_cut`.
    pub cut: u8,
    /// Ticks it stands for.
    pub weight: u64,
}

impl Assembler {
    /// An empty profile; `format` is the name that errors carry.
    pub fn new(format: &'static str, limits: Limits) -> Assembler {
        let none = Module { path: 0, build_id: 0 };
        let profile = Profile {
            modules: vec![none.clone()],
            stacks: vec![StackNode { parent: 0, frame: 0 }],
            ..Profile::default()
        };
        Assembler {
            profile,
            format,
            limits,
            mentions: 0,
            modules: Map::from_iter([(none, 0)]),
            functions: Map::default(),
            frames: Map::default(),
            stacks: Map::default(),
            threads: Map::default(),
            sum: 0,
            per_unit: 1,
            last_stack: Vec::new(),
        }
    }

    /// The index of a text.
    pub fn string(&mut self, text: &str) -> u32 {
        self.profile.strings.intern(text)
    }

    /// The index of a module.
    pub fn module(&mut self, path: &str, build_id: &str) -> u32 {
        let module = Module { path: self.string(path), build_id: self.string(build_id) };
        self.module_of(module)
    }

    /// The index of a module whose texts are known.
    pub fn module_of(&mut self, module: Module) -> u32 {
        intern(&mut self.modules, &mut self.profile.modules, module)
    }

    /// The index of a function.
    pub fn function(&mut self, mut function: Function) -> u32 {
        if function.system_name == function.name {
            function.system_name = 0;
        }
        intern(&mut self.functions, &mut self.profile.functions, function)
    }

    /// The index of a frame.
    pub fn frame(&mut self, frame: Frame) -> u32 {
        intern(&mut self.frames, &mut self.profile.frames, frame)
    }

    /// The node of `frame` called by `parent` (0: outermost).
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn node(&mut self, parent: u32, frame: u32) -> Result<u32, Error> {
        self.mention()?;
        if let Some(&at) = self.stacks.get(&(parent, frame)) {
            return Ok(at);
        }
        let at = self.profile.stacks.len();
        if at > self.limits.stack_nodes {
            return Err(self.too_large("stack nodes", self.limits.stack_nodes as u64));
        }
        self.profile.stacks.push(StackNode { parent, frame });
        self.stacks.insert((parent, frame), at as u32);
        Ok(at as u32)
    }

    /// The node of a whole stack, its frames outermost first. What it shares with the stack before
    /// it, as neighbours in files do, is not looked up again.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn stack(&mut self, frames: impl Iterator<Item = u32>) -> Result<u32, Error> {
        let (mut node, mut depth, mut shared) = (0, 0, true);
        for frame in frames {
            match self.last_stack.get(depth) {
                Some(&(known, at)) if shared && known == frame => {
                    self.mention()?;
                    node = at;
                }
                _ => {
                    if shared {
                        self.last_stack.truncate(depth);
                        shared = false;
                    }
                    node = self.node(node, frame)?;
                    self.last_stack.push((frame, node));
                }
            }
            depth += 1;
        }
        Ok(node)
    }

    fn mention(&mut self) -> Result<(), Error> {
        self.mentions += 1;
        match self.mentions > self.limits.frame_mentions {
            true => Err(self.too_large("frames in stacks", self.limits.frame_mentions)),
            false => Ok(()),
        }
    }

    /// Adds a process; its index.
    pub fn process(&mut self, process: Process) -> u32 {
        self.profile.processes.push(process);
        (self.profile.processes.len() - 1) as u32
    }

    /// The index of a thread of a process under one name.
    pub fn thread(&mut self, process: u32, tid: u32, comm: u32) -> u32 {
        let threads = &mut self.profile.threads;
        *self.threads.entry((process, tid, comm)).or_insert_with(|| {
            threads.push(Thread { tid, comm, process });
            (threads.len() - 1) as u32
        })
    }

    /// Adds a sample; one heavier than a row can say becomes several rows. Where all together weigh
    /// more than [`WEIGHT_MAX`], the unit in `profile.meta` becomes the next coarser one.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn sample(&mut self, row: Row) -> Result<(), Error> {
        let mut left = units::rounded(row.weight, self.per_unit);
        while left > WEIGHT_MAX.saturating_sub(self.sum)
            && let Some(per_unit) = units::take_coarser(&mut self.profile)
        {
            self.per_unit *= per_unit;
            self.sum = self.profile.samples.weight.iter().map(|&weight| u64::from(weight)).sum();
            left = units::rounded(row.weight, self.per_unit);
        }
        if left > WEIGHT_MAX {
            return Err(self.too_large("of what is counted in one sample", WEIGHT_MAX));
        }
        self.sum = self.sum.saturating_add(left);
        loop {
            let weight = u32::try_from(left).unwrap_or(u32::MAX);
            let samples = &mut self.profile.samples;
            if samples.stack.len() >= self.limits.samples {
                return Err(self.too_large("samples", self.limits.samples as u64));
            }
            samples.time_ns.push(row.time_ns);
            samples.thread.push(row.thread);
            samples.stack.push(row.stack);
            samples.cpu.push(row.cpu);
            samples.cut.push(row.cut);
            samples.weight.push(weight);
            left -= u64::from(weight);
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Counts every process's samples, for files that do not say them.
    pub fn count_processes(&mut self) {
        count_processes(&mut self.profile);
    }

    fn too_large(&self, what: &'static str, limit: u64) -> Error {
        Error::TooLarge { format: self.format, what, limit }
    }
}

/// Counts every process's samples.
pub(crate) fn count_processes(profile: &mut Profile) {
    for process in &mut profile.processes {
        process.samples = 0;
        process.whole = 0;
        process.cut = Default::default();
    }
    let samples = &profile.samples;
    for (i, &thread) in samples.thread.iter().enumerate() {
        let Some(thread) = profile.threads.get(thread as usize) else {
            continue;
        };
        let Some(process) = profile.processes.get_mut(thread.process as usize) else {
            continue;
        };
        let weight = u64::from(samples.weight[i]);
        process.samples += weight;
        match samples.cut[i] {
            0 => process.whole += weight,
            cut => {
                if let Some(count) = process.cut.get_mut(cut as usize) {
                    *count += weight;
                }
            }
        }
    }
}

fn intern<T: Clone + Eq + std::hash::Hash>(
    index: &mut Map<T, u32>,
    table: &mut Vec<T>,
    value: T,
) -> u32 {
    if let Some(&at) = index.get(&value) {
        return at;
    }
    let at = table.len() as u32;
    table.push(value.clone());
    index.insert(value, at);
    at
}
