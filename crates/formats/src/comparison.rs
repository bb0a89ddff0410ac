//! Two recordings side by side: the profile of a differential flame graph.
//!
//! In: two profiles. Out: one profile that holds the samples of both, told apart by their
//! processes: the first `before.processes` are those of the first recording. It is never a sum:
//! whoever reads it counts each side by itself, and the formats other than the page refuse it.
//!
//! # How it works
//! The tables of the second stand behind those of the first, and the one numbering then joins
//! what is equal. A function that one side knows without its source file (a stripped program, a
//! format without files) takes file and kind of the function of that name on the other side, so
//! that both are one.

use std::collections::HashMap;

use hotframe_core::profile::{Function, Kind, Meta, Process, Profile};

use crate::{Error, canonical};

/// One of the two recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// What it is called, for example its file.
    pub name: String,
    /// How many processes are its own.
    pub processes: usize,
    /// Its samples (ticks).
    pub samples: u64,
    /// How long it took; at least to its last sample.
    pub duration_ns: u64,
    /// Nanoseconds a tick stands for; 0: unknown.
    pub period_ns: u64,
    /// Whether its samples have times.
    pub times: bool,
}

/// Two recordings side by side.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The samples of both, in the one numbering.
    pub profile: Profile,
    /// The first.
    pub before: Side,
    /// The second; its processes come after those of the first.
    pub after: Side,
}

impl Comparison {
    /// Puts two profiles side by side.
    ///
    /// # Errors
    /// [`Error::TooLarge`], for tables that together are beyond 4 billion entries.
    pub fn new(before: (&str, &Profile), after: (&str, &Profile)) -> Result<Comparison, Error> {
        let mut joined = Profile::default();
        let (name, profile) = before;
        append(&mut joined, profile);
        let n_functions = joined.functions.len();
        let before = side(name, profile);
        let (name, profile) = after;
        append(&mut joined, profile);
        let after = side(name, profile);
        adopt_files(&mut joined, n_functions);
        joined.meta = Meta {
            duration_ns: before.duration_ns.max(after.duration_ns),
            period_ns: if before.period_ns == after.period_ns { after.period_ns } else { 0 },
            ..profile.meta.clone()
        };
        Ok(Comparison { profile: canonical(&joined)?, before, after })
    }

    /// Whether a sample is of the second recording.
    pub fn is_after(&self, sample: usize) -> bool {
        let samples = &self.profile.samples;
        (samples.thread.get(sample))
            .and_then(|&thread| self.profile.threads.get(thread as usize))
            .is_some_and(|thread| thread.process as usize >= self.before.processes)
    }
}

fn side(name: &str, profile: &Profile) -> Side {
    let samples = &profile.samples;
    let last = samples.time_ns.iter().copied().max().unwrap_or(0);
    Side {
        name: name.into(),
        processes: profile.processes.len(),
        samples: samples.weight.iter().map(|&weight| u64::from(weight)).sum(),
        duration_ns: profile.meta.duration_ns.max(last.saturating_add(1)),
        period_ns: profile.meta.period_ns,
        times: last > 0,
    }
}

/// Puts the tables of a profile behind those that are there.
fn append(to: &mut Profile, from: &Profile) {
    let strings: Vec<u32> = from.strings.iter().map(|text| to.strings.intern(text)).collect();
    let text = |id: u32| strings.get(id as usize).copied().unwrap_or(0);
    let modules = to.modules.len() as u32;
    let functions = to.functions.len() as u32;
    let frames = to.frames.len() as u32;
    let stacks = to.stacks.len() as u32;
    let processes = to.processes.len() as u32;
    let threads = to.threads.len() as u32;
    to.modules.extend(from.modules.iter().cloned().map(|mut module| {
        module.path = text(module.path);
        module.build_id = text(module.build_id);
        module
    }));
    to.functions.extend(from.functions.iter().cloned().map(|mut function| {
        function.name = text(function.name);
        function.system_name = text(function.system_name);
        function.file = text(function.file);
        function.module = if function.module == 0 { 0 } else { function.module + modules };
        function
    }));
    to.frames.extend(from.frames.iter().cloned().map(|mut frame| {
        frame.function += functions;
        frame
    }));
    to.stacks.extend(from.stacks.iter().copied().map(|mut node| {
        node.parent = if node.parent == 0 { 0 } else { node.parent + stacks };
        node.frame += frames;
        node
    }));
    to.processes.extend(from.processes.iter().map(|process| Process {
        comm: text(process.comm),
        exe: text(process.exe),
        cgroup: text(process.cgroup),
        ..process.clone()
    }));
    to.threads.extend(from.threads.iter().cloned().map(|mut thread| {
        thread.comm = text(thread.comm);
        thread.process += processes;
        thread
    }));
    let samples = &mut to.samples;
    samples.time_ns.extend(&from.samples.time_ns);
    samples.thread.extend(from.samples.thread.iter().map(|thread| thread + threads));
    let stack = |&stack: &u32| if stack == 0 { 0 } else { stack + stacks };
    samples.stack.extend(from.samples.stack.iter().map(stack));
    samples.cpu.extend(&from.samples.cpu);
    samples.cut.extend(&from.samples.cut);
    samples.weight.extend(&from.samples.weight);
}

/// Gives functions without a file, and those whose format tells no kinds, what the other side says of its
/// function of the same name.
fn adopt_files(profile: &mut Profile, n_before: usize) {
    let (before, after) = profile.functions.split_at_mut(n_before);
    adopt(before, after);
    // What was adopted is known by now: two names for no kind do not change places.
    adopt(after, before);
}

fn adopt(functions: &mut [Function], others: &[Function]) {
    let mut known = HashMap::new();
    for has_file in [true, false] {
        for function in others.iter().filter(|function| (function.file != 0) == has_file) {
            let found = (function.file, function.kind);
            known.entry((function.name, Some(function.kind))).or_insert(found);
            known.entry((function.name, None)).or_insert(found);
        }
    }
    for function in functions.iter_mut().filter(|function| function.file == 0) {
        let exact = known.get(&(function.name, Some(function.kind)));
        // Formats without kinds call everything native, or made by some JIT compiler.
        let any = || {
            known.get(&(function.name, None)).filter(|&&(_, kind)| match function.kind {
                Kind::Native => true,
                Kind::Jit => kind != Kind::Native,
                _ => false,
            })
        };
        if let Some(&(file, kind)) = exact.or_else(any) {
            (function.file, function.kind) = (file, kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, synthetic};

    /// Each side keeps its samples; what is equal on both is held once.
    #[test]
    fn sides() {
        let one = synthetic::small();
        let both = Comparison::new(("a", &one), ("b", &one)).expect("fits");
        let total = both.before.samples;
        assert!(total > 0 && both.after.samples == total);
        let mut sums = [0, 0];
        for (i, &weight) in both.profile.samples.weight.iter().enumerate() {
            sums[usize::from(both.is_after(i))] += u64::from(weight);
        }
        assert_eq!(sums, [total, total]);
        let single = canonical(&one).expect("fits");
        assert_eq!(both.profile.functions.len(), single.functions.len());
        assert_eq!(both.profile.stacks.len(), single.stacks.len());
        assert_eq!(both.profile.processes.len(), 2 * one.processes.len());
    }

    /// A side without source files has the other's functions, not functions of its own.
    #[test]
    fn without_files() {
        let whole = synthetic::small();
        let mut bytes = Vec::new();
        Format::Folded.write(&whole, &mut bytes).expect("written");
        let folded = Format::Folded.read(&bytes).expect("read");
        let both = Comparison::new(("a", &folded), ("b", &whole)).expect("fits");
        let text = |id| both.profile.strings.get(id);
        let mut files: HashMap<&str, Vec<u32>> = HashMap::new();
        for function in &both.profile.functions {
            files.entry(text(function.name)).or_default().push(function.file);
        }
        for name in ["main", "a && b 'quoted' \\ back"] {
            assert!(files.contains_key(name), "{:?}", files.keys());
            assert!(!files[name].contains(&0), "{name}: {:?}", files[name]);
        }
    }

    /// A function that has no file on either side has the kind that one of them tells.
    #[test]
    fn without_kinds() {
        let mut whole = synthetic::small();
        whole.functions.iter_mut().for_each(|function| function.file = 0);
        let mut bytes = Vec::new();
        Format::Pprof.write(&whole, &mut bytes).expect("written");
        let other = Format::Pprof.read(&bytes).expect("read");
        for (one, two) in [(&whole, &other), (&other, &whole)] {
            let both = Comparison::new(("a", one), ("b", two)).expect("fits");
            let nodes = |profile: &Profile| {
                let functions = profile.functions.iter();
                let node = |f: &Function| (profile.strings.get(f.name).to_owned(), f.kind as u8);
                functions.map(node).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(nodes(&both.profile), nodes(&whole));
        }
    }
}
