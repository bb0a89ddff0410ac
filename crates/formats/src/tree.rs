//! What several writers ask of the tree of stacks: samples added up, frames of one address
//! gathered, outermost first.

use std::collections::HashMap;

use hotframe_core::profile::{FRAME_INLINED, Frame, Function, Profile};

/// The weights of the samples of one thread in one stack, added up; in order of stack, then
/// thread. Holds four bytes a sample.
pub(crate) fn aggregate(profile: &Profile) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
    let samples = &profile.samples;
    let key = |at: u32| (samples.stack[at as usize], samples.thread[at as usize]);
    let mut order: Vec<u32> =
        (0..samples.stack.len() as u32).filter(|&at| samples.weight[at as usize] > 0).collect();
    order.sort_unstable_by_key(|&at| key(at));
    let mut order = order.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = order.next()?;
        let (stack, thread) = key(first);
        let mut weight = u64::from(samples.weight[first as usize]);
        while let Some(same) = order.next_if(|&at| key(at) == (stack, thread)) {
            weight += u64::from(samples.weight[same as usize]);
        }
        Some((stack, thread, weight))
    })
}

/// The frames of a stack, outermost first, into `out`.
pub(crate) fn outermost_first(profile: &Profile, stack: u32, out: &mut Vec<u32>) {
    out.clear();
    out.extend(profile.walk(stack));
    out.reverse();
}

/// Numbers the locations of stacks: a location is a frame together with those inlined into it.
pub(crate) struct Locations<'p> {
    profile: &'p Profile,
    /// Says whether an inlined frame (first) and its caller can share a location.
    same: fn((&Frame, &Function), (&Frame, &Function)) -> bool,
    /// Location of a frame alone; 0: none yet.
    single: Vec<u32>,
    runs: HashMap<Box<[u32]>, u32>,
    next: u32,
}

impl<'p> Locations<'p> {
    pub(crate) fn new(
        profile: &'p Profile,
        same: fn((&Frame, &Function), (&Frame, &Function)) -> bool,
    ) -> Locations<'p> {
        Locations {
            profile,
            same,
            single: vec![0; profile.frames.len()],
            runs: HashMap::new(),
            next: 1,
        }
    }

    /// The locations of a stack, leaf first, into `out`; calls `new` with the number, from 1, and
    /// the frames, innermost first, of each one not met before.
    pub(crate) fn of_stack<E>(
        &mut self,
        stack: u32,
        out: &mut Vec<u32>,
        mut new: impl FnMut(u32, &[u32]) -> Result<(), E>,
    ) -> Result<(), E> {
        out.clear();
        let profile = self.profile;
        let of = |id: u32| {
            let frame = &profile.frames[id as usize];
            (frame, &profile.functions[frame.function as usize])
        };
        let mut walk = profile.walk(stack).peekable();
        let mut run = Vec::new();
        while let Some(frame) = walk.next() {
            run.clear();
            run.push(frame);
            let mut last = frame;
            while of(last).0.flags & FRAME_INLINED != 0 {
                match walk.next_if(|&caller| (self.same)(of(last), of(caller))) {
                    Some(caller) => last = caller,
                    None => break,
                }
                run.push(last);
            }
            let known = match run.as_slice() {
                [frame] => self.single[*frame as usize],
                run => self.runs.get(run).copied().unwrap_or(0),
            };
            if known != 0 {
                out.push(known);
                continue;
            }
            let id = self.next;
            self.next += 1;
            match run.as_slice() {
                [frame] => self.single[*frame as usize] = id,
                run => {
                    self.runs.insert(run.into(), id);
                }
            }
            new(id, &run)?;
            out.push(id);
        }
        Ok(())
    }
}

/// The last component of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// What a frame without a symbol is called.
pub(crate) fn unnamed(path: &str, address: u64) -> String {
    match base_name(path) {
        "" => format!("{address:#x}"),
        name => format!("{name}+{address:#x}"),
    }
}
