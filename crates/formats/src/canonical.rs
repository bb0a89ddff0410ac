//! One numbering for one content: two profiles that say the same become the same tables.
//!
//! In: a profile in any numbering. Out: samples in order of time, CPU, process, thread and
//! stack; samples alike added up; every string, module, function, frame, stack and thread
//! numbered by its first use and dropped when unused. Processes stay, in their order, as the
//! books count them; the duration covers the last sample.
//!
//! A lossless file, read, gives the profile that was written up to this numbering, so whoever
//! wants equal bytes from equal content (a page written by `record`, and by `convert`) calls it
//! before writing.

use std::cmp::Ordering;

use hotframe_core::profile::{Frame, Function, Module, Process, Profile};

use crate::assemble::{Assembler, Row};
use crate::{Error, Limits};

/// The same content in the one numbering.
///
/// # Errors
/// [`Error::TooLarge`], only for tables beyond 4 billion entries.
pub fn canonical(profile: &Profile) -> Result<Profile, Error> {
    let no_limits = Limits {
        bytes: usize::MAX,
        table_entries: usize::MAX,
        stack_nodes: u32::MAX as usize - 1,
        frame_mentions: u64::MAX,
        samples: usize::MAX,
    };
    let mut copy = Copy::new(profile, Assembler::new("profile", no_limits));
    copy.a.profile.meta = profile.meta.clone();
    copy.a.profile.stats = profile.stats.clone();
    for process in &profile.processes {
        let (comm, exe, cgroup) =
            (copy.string(process.comm), copy.string(process.exe), copy.string(process.cgroup));
        copy.a.process(Process { comm, exe, cgroup, ..process.clone() });
    }

    let samples = &profile.samples;
    let text = |id| profile.strings.get(id);
    let mut order: Vec<usize> =
        (0..samples.stack.len()).filter(|&i| samples.weight[i] > 0).collect();
    let thread_key = |i: usize| {
        let thread = &profile.threads[samples.thread[i] as usize];
        (thread.process, thread.tid, text(thread.comm))
    };
    order.sort_by(|&i, &j| {
        (samples.time_ns[i], samples.cpu[i])
            .cmp(&(samples.time_ns[j], samples.cpu[j]))
            .then_with(|| thread_key(i).cmp(&thread_key(j)))
            .then_with(|| samples.cut[i].cmp(&samples.cut[j]))
            .then_with(|| compare_stacks(profile, samples.stack[i], samples.stack[j]))
    });

    let mut pending: Option<Row> = None;
    for i in order {
        let row = Row {
            time_ns: samples.time_ns[i],
            thread: copy.thread(samples.thread[i]),
            stack: copy.stack(samples.stack[i])?,
            cpu: samples.cpu[i],
            cut: samples.cut[i],
            weight: u64::from(samples.weight[i]),
        };
        match &mut pending {
            Some(last) if (Row { weight: last.weight, ..row }) == *last => {
                last.weight += row.weight
            }
            _ => {
                if let Some(last) = pending.replace(row) {
                    copy.a.sample(last)?;
                }
            }
        }
    }
    if let Some(last) = pending {
        copy.a.sample(last)?;
        let meta = &mut copy.a.profile.meta;
        if last.time_ns > 0 {
            meta.duration_ns = meta.duration_ns.max(last.time_ns + 1);
        }
    }
    Ok(copy.a.profile)
}

/// Not copied yet.
const NEW: u32 = u32::MAX;

/// Copies entries of a profile's tables, each once and when it is first used: equal content gets
/// one number, whatever it had.
struct Copy<'a> {
    from: &'a Profile,
    a: Assembler,
    /// Their new numbers, or [`NEW`].
    strings: Vec<u32>,
    modules: Vec<u32>,
    functions: Vec<u32>,
    frames: Vec<u32>,
    stacks: Vec<u32>,
    threads: Vec<u32>,
    /// Nodes of one stack that are not copied yet, leaf first.
    path: Vec<u32>,
}

impl<'a> Copy<'a> {
    fn new(from: &'a Profile, a: Assembler) -> Copy<'a> {
        let table = |len: usize, first: u32| {
            let mut numbers = vec![NEW; len];
            if let Some(empty) = numbers.first_mut() {
                *empty = first;
            }
            numbers
        };
        Copy {
            from,
            a,
            strings: table(from.strings.len(), 0),
            modules: table(from.modules.len(), 0),
            functions: table(from.functions.len(), NEW),
            frames: table(from.frames.len(), NEW),
            stacks: table(from.stacks.len(), 0),
            threads: table(from.threads.len(), NEW),
            path: Vec::new(),
        }
    }

    fn string(&mut self, id: u32) -> u32 {
        let known = self.strings[id as usize];
        if known != NEW {
            return known;
        }
        let new = self.a.string(self.from.strings.get(id));
        self.strings[id as usize] = new;
        new
    }

    fn module(&mut self, id: u32) -> u32 {
        let known = self.modules[id as usize];
        if known != NEW {
            return known;
        }
        let module = &self.from.modules[id as usize];
        let path = self.string(module.path);
        let build_id = self.string(module.build_id);
        let new = self.a.module_of(Module { path, build_id });
        self.modules[id as usize] = new;
        new
    }

    fn function(&mut self, id: u32) -> u32 {
        let known = self.functions[id as usize];
        if known != NEW {
            return known;
        }
        let function = &self.from.functions[id as usize];
        let module = self.module(function.module);
        let new = Function {
            name: self.string(function.name),
            system_name: self.string(function.system_name),
            file: self.string(function.file),
            module,
            ..*function
        };
        let new = self.a.function(new);
        self.functions[id as usize] = new;
        new
    }

    fn frame(&mut self, id: u32) -> u32 {
        let known = self.frames[id as usize];
        if known != NEW {
            return known;
        }
        let frame = &self.from.frames[id as usize];
        let function = self.function(frame.function);
        let new = self.a.frame(Frame { function, ..*frame });
        self.frames[id as usize] = new;
        new
    }

    fn stack(&mut self, id: u32) -> Result<u32, Error> {
        let mut at = id;
        while self.stacks[at as usize] == NEW {
            self.path.push(at);
            at = self.from.stacks[at as usize].parent;
        }
        let mut new = self.stacks[at as usize];
        while let Some(old) = self.path.pop() {
            let frame = self.frame(self.from.stacks[old as usize].frame);
            new = self.a.node(new, frame)?;
            self.stacks[old as usize] = new;
        }
        Ok(new)
    }

    fn thread(&mut self, id: u32) -> u32 {
        let known = self.threads[id as usize];
        if known != NEW {
            return known;
        }
        let thread = &self.from.threads[id as usize];
        let comm = self.string(thread.comm);
        let new = self.a.thread(thread.process, thread.tid, comm);
        self.threads[id as usize] = new;
        new
    }
}

/// Orders stacks by their content, leaf first.
fn compare_stacks(profile: &Profile, left: u32, right: u32) -> Ordering {
    let text = |id| profile.strings.get(id);
    let key = |id: u32| {
        let frame = &profile.frames[id as usize];
        let function = &profile.functions[frame.function as usize];
        let module = &profile.modules[function.module as usize];
        (
            (text(function.name), text(function.system_name), text(function.file)),
            (text(module.path), text(module.build_id), function.kind, function.start_line),
            (frame.line, frame.address, frame.flags),
        )
    };
    let (mut left, mut right) = (left, right);
    // Nodes are shared: from where both stacks are one, there is nothing to compare.
    while left != right {
        if left == 0 || right == 0 {
            return left.cmp(&right);
        }
        let (l, r) = (profile.stacks[left as usize], profile.stacks[right as usize]);
        if l.frame != r.frame {
            match key(l.frame).cmp(&key(r.frame)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        (left, right) = (l.parent, r.parent);
    }
    Ordering::Equal
}
