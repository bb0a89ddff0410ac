//! Trees moved from one store to another, node by node, and numbers of the reader's own written over them.
//!
//! In: what stands at a node of the other store ([`Graft`]), outermost first. Out: the node's number
//! here. No stack refers to a grafted node, so nothing is forgotten to make room from the first one on.
//!
//! # Cost
//! One look-up of the place and one of the node.

use super::{Graft, Store};
use crate::places::Of;
use crate::refs::Ref;

impl Store {
    /// The node of `graft` above `parent` (0: outermost), known or new. `None` without room: what
    /// was kept is not made less, and from then on nothing is forgotten to make room.
    pub fn graft(&mut self, parent: u32, graft: Graft) -> Option<u32> {
        self.has_grafts = true;
        let frame = match graft {
            Graft::Word(word) => Ref::Place(self.place(Of::ALL, word).ok()?),
            Graft::Own(incarnation, word) => {
                Ref::Place(self.place(Of::one(incarnation), word).ok()?)
            }
            Graft::Frame(number) => Ref::Frame(number),
        };
        self.stacks.child(parent, frame.pack()).ok()
    }

    /// Writes a number of the caller's over a node that was read out, below 2^31: see
    /// [`Store::number`]. [`Store::node`] knows it no more.
    pub fn set_number(&mut self, node: u32, number: u32) {
        self.stacks.set_number(node, number);
    }
}
