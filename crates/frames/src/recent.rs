//! The outer frames of stacks that were taken in lately, with the nodes that they lead to.
//!
//! A stack differs from the one before it of the same process mostly near the leaf. What is equal
//! from the outermost frame on needs neither its places nor its nodes found again, which are
//! two cache misses or three a frame.
//!
//! # Layout
//! Direct-mapped slots, found by the process and the outermost words, so that threads that begin
//! differently do not drive each other out. A slot holds words and nodes, outermost first, of
//! static frames only: what a static word refers to does not change, short of a sweep, and a
//! sweep clears everything here.

use crate::budget::{Charge, Owner};
use crate::dynamic::Incarnation;
use crate::hash::mix;

/// Slots: some threads of a few processes.
const N_SLOTS: usize = 16;
/// Frames of a slot: the rest of a deeper stack is looked up.
const N_FRAMES: usize = 96;
/// Outermost words that find a slot: a thread's start-up code and a little of what it was started for.
const N_KEY_WORDS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Slot {
    n: usize,
    words: [u64; N_FRAMES],
    nodes: [u32; N_FRAMES],
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Recent {
    /// Empty before the first stack.
    slots: Box<[Slot]>,
    /// There was no room for them; not asked again before something was freed.
    is_refused: bool,
    charge: Charge,
    seed: u64,
    /// Frames that were found.
    pub(crate) hits: u64,
}

/// What a stack has in common with a recent one. The default: nothing, and it is not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared {
    /// `N_SLOTS`: none.
    slot: usize,
    /// Frames that are known, from the outermost on.
    pub(crate) n: usize,
    /// The node of the last one of these; 0: there is none.
    pub(crate) node: u32,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { slot: N_SLOTS, n: 0, node: 0 }
    }
}

impl Recent {
    pub(crate) fn new(owner: &Owner, seed: u64) -> Recent {
        Recent { slots: Box::default(), is_refused: false, charge: owner.charge(), seed, hits: 0 }
    }

    /// What is known of a stack whose last words, `outer`, are static frames. `None`: nothing can
    /// be known of it.
    pub(crate) fn find(&mut self, of: Incarnation, outer: &[u64]) -> Option<Shared> {
        let key = outer.last_chunk::<N_KEY_WORDS>()?;
        if self.slots.is_empty() {
            if self.is_refused || self.charge.grow(N_SLOTS * size_of::<Slot>()).is_err() {
                self.is_refused = true;
                return None;
            }
            let empty = Slot { n: 0, words: [0; N_FRAMES], nodes: [0; N_FRAMES] };
            self.slots = vec![empty; N_SLOTS].into();
        }
        let hash = key.iter().fold(u64::from(of.0), |hash, &word| mix(self.seed ^ hash, word));
        let slot = hash as usize % N_SLOTS;
        let Slot { n, words, nodes } = self.slots.get(slot)?;
        let n = words.iter().take(*n).zip(outer.iter().rev()).take_while(|(a, b)| a == b).count();
        let node = n.checked_sub(1).and_then(|last| nodes.get(last).copied()).unwrap_or_default();
        self.hits += n as u64;
        Some(Shared { slot, n, node })
    }

    /// Keeps what was found, for other frames to follow.
    pub(crate) fn keep(&mut self, shared: Shared) {
        if let Some(slot) = self.slots.get_mut(shared.slot) {
            slot.n = shared.n;
        }
    }

    /// Adds a frame below those that are kept, as far as there is room.
    pub(crate) fn add(&mut self, shared: Shared, word: u64, node: u32) {
        let Some(slot) = self.slots.get_mut(shared.slot) else { return };
        let (words, nodes) = (slot.words.get_mut(slot.n), slot.nodes.get_mut(slot.n));
        if let (Some(to_word), Some(to_node)) = (words, nodes) {
            (*to_word, *to_node) = (word, node);
            slot.n += 1;
        }
    }

    /// Forgets everything: nodes change their numbers.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.n = 0;
        }
        self.is_refused = false;
    }

    /// Slots that hold something.
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.n > 0).count()
    }

    /// Gives its memory back.
    pub(crate) fn seal(&mut self) {
        self.slots = Box::default();
        self.charge.set(0);
    }
}
