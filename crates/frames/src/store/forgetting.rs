//! Stacks out for good: those that were not seen lately, those that nobody uses, all of them, and what a store that
//! is read out for the last time no longer needs.
//!
//! In: numbers of stacks, or of nodes to keep. Out: how many went. Only stacks and nodes go here; what they alone
//! referred to goes with the next sweep (`room.rs`).
//!
//! # Cost
//! One pass over all stacks or nodes, however few go.

use super::{Parked, StackId, Store, parked_bytes, take};
use crate::dynamic::Dynamic;
use crate::marks::Marks;
use crate::refs::Ref;
use crate::stacks::End;
use crate::tombstones::Tombstones;
use std::collections::VecDeque;

impl Store {
    /// Begins to forget up to `n` stacks that were not seen lately: their numbers and kernel
    /// hashes. The caller then deletes the kernel's keys, waits for a grace period, handles every
    /// record up to the producer position that it reads after it, exports the profiles that use
    /// them, and calls [`Store::finish_forget`].
    pub fn begin_forget(&mut self, n: usize) -> Vec<StackId> {
        let cold: Vec<u32> =
            self.stacks.cold(n).into_iter().filter(|&id| id != StackId::REFUSED.0).collect();
        self.forgetting.extend(cold.iter().map(|&id| (id, false)));
        cold.into_iter().map(StackId).collect()
    }

    /// Forgets the stacks that [`Store::begin_forget`] gave, except those sent whole since then:
    /// the kernel knows them again. How many were forgotten.
    pub fn finish_forget(&mut self) -> usize {
        let forgetting = std::mem::take(&mut self.forgetting).into_iter();
        let gone = forgetting.filter(|&(_, sent_again)| !sent_again);
        self.forget(&gone.map(|(id, _)| StackId(id)).collect::<Vec<_>>())
    }

    /// Forgets stacks that nothing uses any more; how many there were. Their numbers may be given
    /// out again. One pass over all stacks, however few go.
    pub fn forget(&mut self, stacks: &[StackId]) -> usize {
        let mut gone: Vec<u32> = stacks.iter().map(|stack| stack.0).collect();
        gone.retain(|&id| id != StackId::REFUSED.0);
        gone.sort_unstable();
        gone.dedup();
        // Those that wait, also where they were made readable meanwhile.
        let waits = |parked: &Parked| gone.binary_search(&parked.stack).is_ok();
        let parked = self.parked.iter().zip(0..);
        let numbers: Vec<u32> = parked
            .filter(|(parked, _)| parked.as_ref().is_some_and(waits))
            .map(|(_, number)| number)
            .collect();
        for &number in &numbers {
            if let Some(parked) = take(&mut self.parked, &mut self.free_parked, number) {
                self.waiting_charge.shrink(parked_bytes(parked.frames.len(), parked.missing));
            }
        }
        if !numbers.is_empty() {
            for pending in self.pending.iter_mut().flatten() {
                pending.waiting.retain(|waiting| numbers.binary_search(waiting).is_err());
            }
        }
        self.stacks.remove(&gone)
    }

    /// Forgets every stack, as if no sample had been seen, and what only they needed. Names of
    /// dynamic code of processes that live stay known. Stacks' numbers are given out anew, except
    /// that of the refused one.
    pub fn forget_all(&mut self) {
        self.forget(&(1..self.stacks.n_numbers() as u32).map(StackId).collect::<Vec<_>>());
        self.sweep();
    }

    /// Forgets every node that is neither one of `leaves`, which are numbers of nodes, nor on the way
    /// from one of them to the root, and places that are at none. Nodes move together: `leaves` get
    /// their new numbers. For a store onto which all stacks were grafted; names stay.
    pub fn keep_nodes(&mut self, leaves: &mut [StackId]) {
        let mut marks = Marks::new(self.stacks.n_nodes());
        marks.mark(0);
        for leaf in leaves.iter() {
            self.stacks.mark_path(&mut marks, leaf.0);
        }
        if let End::Node(node) = self.stacks.end(StackId::REFUSED.0) {
            self.stacks.mark_path(&mut marks, node);
        }
        marks.rank();
        let mut places = Marks::new(self.places.len());
        for id in (1..self.stacks.n_nodes() as u32).filter(|&id| marks.has(id)) {
            if let Ref::Place(place) = Ref::unpack(self.stacks.node(id).1) {
                places.mark(place);
            }
        }
        places.rank();
        self.places.compact(&places, |names| names);
        self.stacks.compact(&marks, |frame| match Ref::unpack(frame) {
            Ref::Place(place) => places.new_id(place).map_or(Ref::None, Ref::Place).pack(),
            other => other.pack(),
        });
        for leaf in leaves {
            leaf.0 = marks.new_id(leaf.0).unwrap_or_default();
        }
    }

    /// For a store that is read out for the last time: gives back every index and lookup cache,
    /// what waits, and the stacks by their hashes. Nodes, frames and names stay, under their numbers.
    /// Whatever is taken in afterwards may stand there twice.
    pub fn seal(&mut self) {
        self.stacks.seal();
        self.names.seal();
        self.places.seal();
        self.dynamic = Dynamic::new(&self.budget, 0);
        self.tombstones = Tombstones::new(&self.budget, 0);
        self.parked = Vec::new();
        self.free_parked = Vec::new();
        self.pending = Vec::new();
        self.free_pending = Vec::new();
        self.questions = VecDeque::new();
        self.waiting_charge.shrink(self.waiting_charge.bytes() as usize);
        // A sweep would find no stack that needs a node.
        self.has_grafts = true;
    }
}
