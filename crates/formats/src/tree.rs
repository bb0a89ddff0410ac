//! What several writers ask of the tree of stacks: samples added up, frames of one address
//! gathered, outermost first.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hotframe_core::numbers::Numbers;
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

/// Stacks merged by what their frames show: 16 bytes a node, 6 to 8 in an index, 4 for the order.
pub(crate) struct Merged {
    nodes: Vec<MergedNode>,
    numbers: Numbers,
    hasher: RandomState,
    /// All but the root, by parent; filled by [`Merged::sort`].
    order: Vec<u32>,
}

/// A node of [`Merged`]; 0 is the root.
#[derive(Clone, Copy)]
pub(crate) struct MergedNode {
    /// Always a lower number.
    pub(crate) parent: u32,
    /// What it shows, a number of the caller's.
    pub(crate) element: u32,
    /// A sum of the caller's.
    pub(crate) weight: u64,
}

impl Merged {
    /// Of about so many nodes: an index that grew would be held twice.
    pub(crate) fn with_capacity(n: usize) -> Merged {
        let mut nodes = Vec::with_capacity(n.max(1));
        nodes.push(MergedNode { parent: 0, element: 0, weight: 0 });
        Merged {
            nodes,
            numbers: Numbers::with_capacity(n),
            hasher: RandomState::default(),
            order: Vec::new(),
        }
    }

    /// The node of an element below another.
    pub(crate) fn child(&mut self, parent: u32, element: u32) -> u32 {
        let Merged { nodes, numbers, hasher, .. } = self;
        let hash_of = |parent: u32, element: u32| {
            hasher.hash_one(u64::from(parent) << 32 | u64::from(element))
        };
        let is = |at: u32| {
            let node = nodes[at as usize];
            (node.parent, node.element) == (parent, element)
        };
        let hash = hash_of(parent, element);
        if let Some(known) = numbers.find(hash, is) {
            return known;
        }
        let new = nodes.len() as u32;
        nodes.push(MergedNode { parent, element, weight: 0 });
        numbers.insert(hash, new, |at| {
            let node = nodes[at as usize];
            hash_of(node.parent, node.element)
        });
        new
    }

    pub(crate) fn add(&mut self, at: u32, weight: u64) {
        let sum = &mut self.nodes[at as usize].weight;
        *sum = sum.saturating_add(weight);
    }

    /// No node comes any more: children by the order of their elements.
    pub(crate) fn sort<K: Ord>(&mut self, key: impl Fn(u32) -> K) {
        self.numbers = Numbers::default();
        self.order = (1..self.nodes.len() as u32).collect();
        let nodes = &self.nodes;
        self.order.sort_unstable_by(|&left, &right| {
            let (left, right) = (nodes[left as usize], nodes[right as usize]);
            let by_parent = left.parent.cmp(&right.parent);
            by_parent.then_with(|| key(left.element).cmp(&key(right.element)))
        });
    }

    /// Adds the weights of all below to every node.
    pub(crate) fn sum_up(&mut self) {
        for at in (1..self.nodes.len()).rev() {
            let MergedNode { parent, weight, .. } = self.nodes[at];
            self.add(parent, weight);
        }
    }

    pub(crate) fn node(&self, at: u32) -> MergedNode {
        self.nodes[at as usize]
    }

    /// The children of a node, sorted.
    pub(crate) fn children(&self, parent: u32) -> &[u32] {
        let parent_of = |at: &u32| self.nodes[*at as usize].parent;
        let begin = self.order.partition_point(|at| parent_of(at) < parent);
        let end = self.order.partition_point(|at| parent_of(at) <= parent);
        &self.order[begin..end]
    }
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
