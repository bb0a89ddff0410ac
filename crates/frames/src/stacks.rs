//! Stacks: a hash-consed tree of frames, and the stacks that end in it, found by the kernel's hash.
//!
//! # Layout
//! A node is (parent:32, frame reference:32), 8 bytes and 6 to 7 in the index. Node 0 is the root,
//! and a parent's number is below its children's. A stack is (key:64, node:32), 12 bytes and 6 to
//! 7 in the index. Its number stays until it is forgotten; nodes move together in a sweep.

use crate::budget::{Budget, Refused};
use crate::column::Column;
use crate::hash::mix;
use crate::index::Index;
use crate::marks::Marks;

/// A stack's `node` is the number of a parked stack instead.
const PARKED: u32 = 1 << 31;
/// A stack's `node` for a number that is free; the key says which is free next.
const FREE: u32 = u32::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Stacks {
    nodes: Column<[u32; 2]>,
    node_index: Index,
    keys: Column<u64>,
    ends: Column<u32>,
    seen: Column<u64>,
    key_index: Index,
    next_free: u32,
    n_free: usize,
    /// Where the search for cold stacks goes on.
    hand: u32,
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
            node_index: Index::dense(&nodes, 1),
            keys: Column::new(&stacks),
            ends: Column::new(&stacks),
            seen: Column::new(&stacks),
            key_index: Index::new(&stacks),
            next_free: FREE,
            n_free: 0,
            hand: 0,
            seed,
        }
    }

    pub(crate) fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Stacks that are not free.
    pub(crate) fn n_stacks(&self) -> usize {
        self.keys.len() - self.n_free
    }

    /// One more than the highest number given out.
    pub(crate) fn n_numbers(&self) -> usize {
        self.keys.len()
    }

    #[inline]
    fn hash_key(&self, key: u64) -> u64 {
        mix(self.seed, key)
    }

    /// The stack of a key.
    #[inline]
    pub(crate) fn find(&mut self, key: u64) -> Option<u32> {
        let keys = &self.keys;
        let id = self.key_index.find(self.hash_key(key), |id| keys.at(id) == key)?;
        if let Some(word) = self.seen.get_mut(id / 64) {
            let bit = 1 << (id % 64);
            if *word & bit == 0 {
                *word |= bit;
            }
        }
        Some(id)
    }

    /// Adds a stack; its number.
    pub(crate) fn insert(&mut self, key: u64, end: End) -> Result<u32, Refused> {
        let hash = self.hash_key(key);
        let (seed, keys) = (self.seed, &self.keys);
        self.key_index.reserve(hash, |id| mix(seed, keys.at(id)))?;
        let id = if self.next_free == FREE {
            self.keys.reserve_one()?;
            self.ends.reserve_one()?;
            if self.keys.len().is_multiple_of(64) {
                self.seen.push(0)?;
            }
            self.ends.push(pack(end))?;
            self.keys.push(key)?
        } else {
            let id = self.next_free;
            self.next_free = self.keys.at(id) as u32;
            self.n_free -= 1;
            self.keys.set(id, key);
            self.ends.set(id, pack(end));
            id
        };
        self.set_seen(id, true);
        let keys = &self.keys;
        self.key_index.insert(hash, id, |id| mix(seed, keys.at(id)))?;
        Ok(id)
    }

    fn set_seen(&mut self, id: u32, seen: bool) {
        if let Some(word) = self.seen.get_mut(id / 64) {
            *word = *word & !(1 << (id % 64)) | u64::from(seen) << (id % 64);
        }
    }

    pub(crate) fn end(&self, id: u32) -> End {
        unpack(self.ends.get(id).unwrap_or(FREE))
    }

    pub(crate) fn key(&self, id: u32) -> u64 {
        self.keys.at(id)
    }

    pub(crate) fn set_end(&mut self, id: u32, end: End) {
        self.ends.set(id, pack(end));
    }

    /// Frees a stack's number. Its nodes stay until a sweep.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        if self.end(id) == End::Free {
            return false;
        }
        let key = self.keys.at(id);
        let (seed, keys) = (self.seed, &self.keys);
        self.key_index.remove(mix(seed, key), id, |id| mix(seed, keys.at(id)));
        self.keys.set(id, u64::from(self.next_free));
        self.ends.set(id, FREE);
        self.next_free = id;
        self.n_free += 1;
        true
    }

    /// Up to `n` stacks that were not seen since the hand passed them last.
    pub(crate) fn cold(&mut self, n: usize) -> Vec<u32> {
        let total = self.keys.len() as u32;
        let mut cold = Vec::new();
        for _ in 0..total {
            if cold.len() == n {
                break;
            }
            let id = self.hand;
            self.hand = if id + 1 >= total { 0 } else { id + 1 };
            if self.end(id) == End::Free {
                continue;
            }
            if self.seen.at(id / 64) >> (id % 64) & 1 == 1 {
                self.set_seen(id, false);
            } else {
                cold.push(id);
            }
        }
        cold
    }

    /// The node of a path, new or known.
    pub(crate) fn child(&mut self, parent: u32, frame: u32) -> Result<u32, Refused> {
        if self.nodes.len() == 0 {
            self.nodes.push([0, 0])?;
        }
        let row = [parent, frame];
        let seed = self.seed;
        let hash = hash_node(seed, row);
        let nodes = &self.nodes;
        if let Some(id) = self.node_index.find(hash, |id| nodes.at(id) == row) {
            return Ok(id);
        }
        self.node_index.reserve(hash, |id| hash_node(seed, nodes.at(id)))?;
        let id = self.nodes.push(row)?;
        let nodes = &self.nodes;
        self.node_index.insert(hash, id, |id| hash_node(seed, nodes.at(id)))?;
        Ok(id)
    }

    /// (parent, frame reference) of a node.
    pub(crate) fn node(&self, id: u32) -> (u32, u32) {
        let [parent, frame] = self.nodes.at(id);
        (parent, frame)
    }

    /// Gives back what only finds nodes and stacks, and the stacks themselves.
    pub(crate) fn seal(&mut self) {
        self.node_index.clear();
        self.key_index.clear();
        self.keys.truncate(0);
        self.ends.truncate(0);
        self.seen.truncate(0);
        self.next_free = FREE;
        self.n_free = 0;
    }

    /// Writes a number over a node.
    pub(crate) fn set_number(&mut self, id: u32, number: u32) {
        self.nodes.set(id, [PARKED | number, 0]);
    }

    /// The number that was written over a node.
    pub(crate) fn number(&self, id: u32) -> Option<u32> {
        let [parent, _] = self.nodes.at(id);
        (parent & PARKED != 0).then_some(parent & !PARKED)
    }

    /// The nodes that some stack needs.
    pub(crate) fn marks(&self) -> Marks {
        let mut marks = Marks::new(self.nodes.len());
        marks.mark(0);
        for end in self.ends.iter() {
            if let End::Node(mut at) = unpack(end) {
                while marks.mark(at) {
                    at = self.nodes.at(at)[0];
                }
            }
        }
        marks
    }

    /// Keeps the marked nodes, their frame references changed by `map`.
    pub(crate) fn compact(&mut self, marks: &Marks, map: impl Fn(u32) -> u32) {
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
        self.node_index.rebuild(1..nodes.len().max(1) as u32, |id| hash_node(seed, nodes.at(id)));
        // Numbers at the end that are free give their rows back.
        let mut len = self.ends.len();
        while len > 0 && unpack(self.ends.at(len as u32 - 1)) == End::Free {
            len -= 1;
        }
        self.keys.truncate(len);
        self.ends.truncate(len);
        self.seen.truncate(len.div_ceil(64));
        self.next_free = FREE;
        self.n_free = 0;
        for id in (0..len as u32).rev() {
            if unpack(self.ends.at(id)) == End::Free {
                self.keys.set(id, u64::from(self.next_free));
                self.next_free = id;
                self.n_free += 1;
            }
        }
        let (ends, keys) = (&self.ends, &self.keys);
        let used = (0..len as u32).filter(|&id| unpack(ends.at(id)) != End::Free);
        self.key_index.rebuild(used, |id| mix(seed, keys.at(id)));
    }
}

fn hash_node(seed: u64, [parent, frame]: [u32; 2]) -> u64 {
    mix(seed, u64::from(parent) << 32 | u64::from(frame))
}

fn pack(end: End) -> u32 {
    match end {
        End::Node(id) => id & !PARKED,
        End::Parked(id) => PARKED | id,
        End::Free => FREE,
    }
}

fn unpack(end: u32) -> End {
    match end {
        FREE => End::Free,
        _ if end & PARKED != 0 => End::Parked(end & !PARKED),
        _ => End::Node(end),
    }
}
