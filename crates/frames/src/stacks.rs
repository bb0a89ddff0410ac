//! Stacks: a hash-consed tree of frames, and the stacks that end in it, found by the kernel's hash.
//!
//! # Layout
//! A node is (parent:32, frame reference:32), 8 bytes and 6 to 8 in the index. Node 0 is the root,
//! and a parent's number is below its children's. A stack is 4 bytes, the node of its leaf, and 15
//! to 20 in the table of keys. Its number stays until it is forgotten; nodes move together in a
//! sweep.

use crate::budget::{Budget, Refused};
use crate::by_key::ByKey;
use crate::column::Column;
use crate::dynamic::Incarnation;
use crate::hash::mix;
use crate::index::Index;
use crate::marks::Marks;
use crate::recent::{Recent, Shared};

/// A stack's end is the number of a parked stack instead.
const PARKED: u32 = 2 << 30;
/// A stack's number is free; the rest of its end says which is free next.
const FREE: u32 = 3 << 30;
/// The two highest bits of an end say which it is: 0 and 1 are a node.
const TAG: u32 = 3 << 30;
/// No number is free next.
const NONE: u32 = !TAG;
/// A number was written over a node.
const NUMBERED: u32 = 1 << 31;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Stacks {
    nodes: Column<[u32; 2]>,
    node_index: Index,
    by_key: ByKey,
    ends: Column<u32>,
    recent: Recent,
    next_free: u32,
    n_free: usize,
    seed: u64,
}

/// Where a stack's frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In the tree, from this node to the root.
    Node(u32),
    /// With the parked stacks, under this number.
    Parked(u32),
    /// Nowhere: the number is free.
    Free,
}

impl Stacks {
    pub(crate) fn new(budget: &Budget, seed: u64) -> Stacks {
        let nodes = budget.owner("stacks.nodes");
        let stacks = budget.owner("stacks.by_hash");
        Stacks {
            nodes: Column::new(&nodes),
            node_index: Index::new(&nodes),
            by_key: ByKey::new(&stacks, seed),
            ends: Column::new(&stacks),
            recent: Recent::new(&budget.owner("lookup.recent"), seed),
            next_free: NONE,
            n_free: 0,
            seed,
        }
    }

    pub(crate) fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Stacks that are not free.
    pub(crate) fn n_stacks(&self) -> usize {
        self.ends.len() - self.n_free
    }

    /// One more than the highest number given out.
    pub(crate) fn n_numbers(&self) -> usize {
        self.ends.len()
    }

    /// The stack of a key.
    #[inline]
    pub(crate) fn find(&mut self, key: u64) -> Option<u32> {
        self.by_key.find(key)
    }

    /// Adds a stack; its number.
    pub(crate) fn insert(&mut self, key: u64, end: End) -> Result<u32, Refused> {
        self.by_key.reserve(key)?;
        self.ends.reserve_one()?;
        let id = match self.next_free {
            NONE if self.ends.len() >= NONE as usize => {
                return Err(Refused { owner: "stacks.by_hash", asked_bytes: 0, free_bytes: 0 });
            }
            NONE => self.ends.len() as u32,
            free => free,
        };
        self.by_key.insert(key, id)?;
        if self.next_free == NONE {
            self.ends.push(pack(end))?;
        } else {
            self.next_free = self.ends.at(id) & !TAG;
            self.n_free -= 1;
            self.ends.set(id, pack(end));
        }
        Ok(id)
    }

    pub(crate) fn end(&self, id: u32) -> End {
        unpack(self.ends.get(id).unwrap_or(FREE))
    }

    pub(crate) fn set_end(&mut self, id: u32, end: End) {
        self.ends.set(id, pack(end));
    }

    /// Frees numbers of stacks, which are in order; how many. Their nodes stay until a sweep.
    pub(crate) fn remove(&mut self, ids: &[u32]) -> usize {
        let n = self.by_key.remove(|id| ids.binary_search(&id).is_ok());
        for &id in ids {
            if !matches!(self.end(id), End::Free) {
                self.ends.set(id, FREE | self.next_free);
                self.next_free = id;
                self.n_free += 1;
            }
        }
        n
    }

    /// Up to `n` stacks that were not seen since the hand passed them last.
    pub(crate) fn cold(&mut self, n: usize) -> Vec<u32> {
        self.by_key.cold(n)
    }

    /// The node of a path, new or known.
    pub(crate) fn child(&mut self, parent: u32, frame: u32) -> Result<u32, Refused> {
        if self.nodes.len() == 0 {
            self.nodes.push([0, 0])?;
        }
        let row = [parent, frame];
        let seed = self.seed;
        let nodes = &self.nodes;
        let vacant = match self.node_index.look_up(hash_node(seed, row), |id| nodes.at(id) == row) {
            Ok(id) => return Ok(id),
            Err(vacant) => vacant,
        };
        let vacant = self.node_index.reserve(vacant, entries(seed, nodes))?;
        let id = self.nodes.push(row)?;
        self.node_index.put(vacant, id);
        Ok(id)
    }

    /// What the last stacks of `of` tell of one whose last words, `outer`, are static frames.
    pub(crate) fn shared(&mut self, of: Incarnation, outer: &[u64]) -> Option<Shared> {
        self.recent.find(of, outer)
    }

    /// The node of a path, new or known. `frames`, leaf first, are those of it that `shared` does
    /// not cover; the last of them are of what else there is in `outer`, a word each.
    pub(crate) fn path(
        &mut self,
        shared: Shared,
        outer: &[u64],
        frames: &[u32],
    ) -> Result<u32, Refused> {
        self.recent.keep(shared);
        let mut words = outer.iter().rev().skip(shared.n);
        let mut at = shared.node;
        for &frame in frames.iter().rev() {
            at = self.child(at, frame)?;
            if let Some(&word) = words.next() {
                self.recent.add(shared, word, at);
            }
        }
        Ok(at)
    }

    /// Frame references from a node to the root.
    pub(crate) fn to_root(&self, mut at: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::from_fn(move || {
            let (parent, frame) = (at != 0).then(|| self.node(at))?;
            at = parent;
            Some(frame)
        })
    }

    /// Slots of recent stacks that are in use, and frames found by them.
    pub(crate) fn recent(&self) -> (usize, u64) {
        (self.recent.len(), self.recent.hits)
    }

    /// (parent, frame reference) of a node.
    pub(crate) fn node(&self, id: u32) -> (u32, u32) {
        let [parent, frame] = self.nodes.at(id);
        (parent, frame)
    }

    /// Gives back what only finds nodes and stacks, and the stacks themselves.
    pub(crate) fn seal(&mut self) {
        self.node_index.clear();
        self.by_key.clear();
        self.recent.seal();
        self.ends.truncate(0);
        self.next_free = NONE;
        self.n_free = 0;
    }

    /// Writes a number over a node.
    pub(crate) fn set_number(&mut self, id: u32, number: u32) {
        self.nodes.set(id, [NUMBERED | number, 0]);
    }

    /// The number that was written over a node.
    pub(crate) fn number(&self, id: u32) -> Option<u32> {
        let [parent, _] = self.nodes.at(id);
        (parent & NUMBERED != 0).then_some(parent & !NUMBERED)
    }

    /// The nodes that some stack needs.
    pub(crate) fn marks(&self) -> Marks {
        let mut marks = Marks::new(self.nodes.len());
        marks.mark(0);
        for end in self.ends.iter() {
            if let End::Node(at) = unpack(end) {
                self.mark_path(&mut marks, at);
            }
        }
        marks
    }

    /// Marks a node and those on the way to the root, as far as none of them is marked.
    pub(crate) fn mark_path(&self, marks: &mut Marks, mut at: u32) {
        while marks.mark(at) {
            at = self.nodes.at(at)[0];
        }
    }

    /// Keeps the marked nodes, their frame references changed by `map`.
    pub(crate) fn compact(&mut self, marks: &Marks, map: impl Fn(u32) -> u32) {
        self.recent.clear();
        let new = |id| marks.new_id(id).unwrap_or_default();
        let mut first = true;
        self.nodes.compact(marks, |[parent, frame]| {
            if std::mem::take(&mut first) {
                return [0, 0];
            }
            [new(parent), map(frame)]
        });
        for id in 0..self.ends.len() as u32 {
            if let End::Node(at) = unpack(self.ends.at(id)) {
                self.ends.set(id, pack(End::Node(new(at))));
            }
        }
        let (seed, nodes) = (self.seed, &self.nodes);
        self.node_index.rebuild(nodes.len().saturating_sub(1), entries(seed, nodes));
        // Numbers at the end that are free give their rows back.
        let mut len = self.ends.len();
        while len > 0 && unpack(self.ends.at(len as u32 - 1)) == End::Free {
            len -= 1;
        }
        self.ends.truncate(len);
        self.next_free = NONE;
        self.n_free = 0;
        for id in (0..len as u32).rev() {
            if unpack(self.ends.at(id)) == End::Free {
                self.ends.set(id, FREE | self.next_free);
                self.next_free = id;
                self.n_free += 1;
            }
        }
    }
}

fn hash_node(seed: u64, [parent, frame]: [u32; 2]) -> u64 {
    mix(seed, u64::from(parent) << 32 | u64::from(frame))
}

/// All nodes but the root, for their index.
fn entries(seed: u64, nodes: &Column<[u32; 2]>) -> impl Iterator<Item = (u64, u32)> + '_ {
    nodes.iter().zip(0..).skip(1).map(move |(row, id)| (hash_node(seed, row), id))
}

fn pack(end: End) -> u32 {
    match end {
        End::Node(id) => id & !PARKED,
        End::Parked(number) => PARKED | number & !TAG,
        End::Free => FREE | NONE,
    }
}

fn unpack(end: u32) -> End {
    match end & TAG {
        FREE => End::Free,
        PARKED => End::Parked(end & !TAG),
        _ => End::Node(end),
    }
}
