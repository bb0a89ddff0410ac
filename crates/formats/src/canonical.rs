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

use hotframe_core::profile::{Frame, Function, Process, Profile};

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
    let mut a = Assembler::new("profile", no_limits);
    a.profile.meta = profile.meta.clone();
    a.profile.stats = profile.stats.clone();
    let text = |id| profile.strings.get(id);
    for process in &profile.processes {
        let (comm, exe, cgroup) = (
            a.string(text(process.comm)),
            a.string(text(process.exe)),
            a.string(text(process.cgroup)),
        );
        a.process(Process { comm, exe, cgroup, ..process.clone() });
    }

    let samples = &profile.samples;
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

    let mut stacks = vec![u32::MAX; profile.stacks.len()];
    if let Some(empty) = stacks.first_mut() {
        *empty = 0;
    }
    let mut path = Vec::new();
    let mut pending: Option<Row> = None;
    for i in order {
        let thread = &profile.threads[samples.thread[i] as usize];
        let comm = a.string(text(thread.comm));
        let thread = a.thread(thread.process, thread.tid, comm);
        path.clear();
        let mut at = samples.stack[i] as usize;
        while stacks[at] == u32::MAX {
            path.push(at);
            at = profile.stacks[at].parent as usize;
        }
        let mut stack = stacks[at];
        for &old in path.iter().rev() {
            let frame = copy_frame(&mut a, profile, profile.stacks[old].frame);
            stack = a.node(stack, frame)?;
            stacks[old] = stack;
        }
        let row = Row {
            time_ns: samples.time_ns[i],
            thread,
            stack,
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
                    a.sample(last)?;
                }
            }
        }
    }
    if let Some(last) = pending {
        a.sample(last)?;
        let meta = &mut a.profile.meta;
        if last.time_ns > 0 {
            meta.duration_ns = meta.duration_ns.max(last.time_ns + 1);
        }
    }
    Ok(a.profile)
}

/// A frame with all that it refers to; its index.
fn copy_frame(a: &mut Assembler, profile: &Profile, frame: u32) -> u32 {
    let text = |id| profile.strings.get(id);
    let frame = &profile.frames[frame as usize];
    let function = &profile.functions[frame.function as usize];
    let module = match function.module {
        0 => 0,
        module => {
            let module = &profile.modules[module as usize];
            a.module(text(module.path), text(module.build_id))
        }
    };
    let function = Function {
        name: a.string(text(function.name)),
        system_name: a.string(text(function.system_name)),
        file: a.string(text(function.file)),
        module,
        ..*function
    };
    let function = a.function(function);
    a.frame(Frame { function, ..*frame })
}

/// Orders stacks by their content, leaf first.
fn compare_stacks(profile: &Profile, left: u32, right: u32) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
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
    let (mut left, mut right) = (profile.walk(left), profile.walk(right));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(l), Some(r)) if l == r => {}
            (Some(l), Some(r)) => match key(l).cmp(&key(r)) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}
