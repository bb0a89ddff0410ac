//! Stacks in: a sample's words become references, and those one path in the tree.
//!
//! In: a stack's hash and words, leaf first. Out: its number. A dynamic frame that is met for the first
//! time is reserved and becomes a question (`naming.rs`); its stack is parked beside the tree until the
//! last of its questions has an answer, so that the tree holds values only. What finds no room, after one attempt to
//! make some (`room.rs`), is the refused stack.
//!
//! # Cost
//! A known stack: one look-up by its hash, nothing allocated. A new one: a look-up a frame that no recent
//! stack of its process shares.

use super::naming::note_info;
use super::room::{Cold, EVICTED_PART};
use super::{Parked, Pending, StackId, Store, Why, parked_bytes, pending_bytes, put};
use crate::budget::Refused;
use crate::dynamic::{Incarnation, Key};
use crate::hash::mix;
use crate::places::Of;
use crate::refs::{MAX_ID, Ref};
use crate::stacks::End;
use crate::wire::{self, Raw};

impl Store {
    /// The stack of a kernel hash, if it is known. No allocation, no string touched.
    #[inline]
    pub fn known_stack(&mut self, incarnation: Incarnation, hash: u64) -> Option<StackId> {
        // A stack of static frames only is one for all processes. One with dynamic frames
        // belongs to an incarnation, which the kernel's hash may not cover.
        let found = match self.stacks.find(hash) {
            Some(id) => Some(id),
            None => self.stacks.find(own_key(incarnation, hash)),
        };
        match found {
            Some(id) => {
                self.counters.stack_hits += 1;
                Some(StackId(id))
            }
            None => None,
        }
    }

    /// The stack of a sample: known by its hash, or taken in from its words, leaf first.
    ///
    /// What finds no room becomes [`StackId::REFUSED`], and is counted.
    pub fn record(&mut self, incarnation: Incarnation, hash: u64, words: &[u64]) -> StackId {
        if let Some(id) = self.known_stack(incarnation, hash) {
            if let Some(seen) = self.forgetting.get_mut(&id.0) {
                *seen = true;
            }
            return id;
        }
        self.counters.stack_misses += 1;
        let before = self.budget.used_bytes();
        let id = match self.take_in(incarnation, hash, words) {
            Ok(id) => id,
            Err(_) if self.make_room(Cold::Names) => {
                self.take_in(incarnation, hash, words).unwrap_or(StackId::REFUSED)
            }
            Err(_) => StackId::REFUSED,
        };
        self.counters.stacks_refused += u64::from(id == StackId::REFUSED);
        self.book_growth(incarnation, before);
        id
    }

    fn take_in(
        &mut self,
        incarnation: Incarnation,
        hash: u64,
        words: &[u64],
    ) -> Result<StackId, Refused> {
        self.make_refused_stack()?;
        if self.stays_over_share(incarnation) {
            return Ok(StackId::REFUSED);
        }
        let mut frames = std::mem::take(&mut self.scratch);
        frames.clear();
        let outer = wire::outer(words);
        let shared = self.stacks.shared(incarnation, outer).unwrap_or_default();
        // What is shared is a word a frame.
        let inner = words.get(..words.len() - shared.n).unwrap_or(words);
        let result = match self.refer(incarnation, inner, &mut frames) {
            Ok((dynamic, missing)) => {
                let key = if dynamic { own_key(incarnation, hash) } else { hash };
                if missing == 0 {
                    self.stacks
                        .path(shared, outer, &frames)
                        .and_then(|node| self.stacks.insert(key, End::Node(node)))
                        .map(StackId)
                } else {
                    frames.extend(self.stacks.to_root(shared.node));
                    self.park(key, &frames, missing)
                }
            }
            Err(refused) => Err(refused),
        };
        self.scratch = frames;
        result
    }

    /// Number 0 is the refused stack: a note frame, made with the first sample.
    fn make_refused_stack(&mut self) -> Result<(), Refused> {
        if self.stacks.n_numbers() == 0 {
            let note = self.names.intern_frame(&note_info(Why::NoRoom, self.config.note_kind))?;
            let node = self.stacks.child(0, Ref::Frame(note).pack())?;
            self.stacks.insert(REFUSED_KEY, End::Node(node))?;
        }
        Ok(())
    }

    /// References for a stack's frames, leaf first. Whether some are dynamic, and how many
    /// different ones wait for a resolver.
    fn refer(
        &mut self,
        incarnation: Incarnation,
        words: &[u64],
        frames: &mut Vec<u32>,
    ) -> Result<(bool, u32), Refused> {
        let (mut dynamic, mut missing) = (false, 0);
        for raw in wire::frames(words) {
            match raw {
                Raw::Static(word) => frames.push(Ref::Place(self.place(Of::ALL, word)?).pack()),
                Raw::Own(word) => {
                    dynamic = true;
                    frames.push(Ref::Place(self.place(Of::one(incarnation), word)?).pack());
                }
                Raw::Dynamic(words) => {
                    dynamic = true;
                    match self.dynamic_frame(incarnation, words)? {
                        Ref::Chain(at) => {
                            frames.extend(self.names.chain(at).map(|id| Ref::Frame(id).pack()));
                        }
                        pending @ Ref::Pending(_) => {
                            let packed = pending.pack();
                            missing += u32::from(!frames.contains(&packed));
                            frames.push(packed);
                        }
                        other => frames.push(other.pack()),
                    }
                }
            }
        }
        Ok((dynamic, missing))
    }

    pub(super) fn place(&mut self, of: Of, word: u64) -> Result<u32, Refused> {
        if let Some(id) = self.places.find(of, word) {
            self.counters.static_hits += 1;
            return Ok(id);
        }
        self.counters.static_misses += 1;
        self.places.insert(of, word)
    }

    /// What a dynamic frame is: known, or asked for now.
    fn dynamic_frame(&mut self, incarnation: Incarnation, words: &[u64]) -> Result<Ref, Refused> {
        let key = self.dynamic.key(incarnation, words);
        if let Some(known) = self.dynamic.find(&key) {
            self.counters.dynamic_hits += 1;
            return Ok(known);
        }
        if self.tombstones.find(key.hash()).is_some() {
            self.counters.dynamic_evicted += 1;
        } else {
            self.counters.dynamic_new += 1;
        }
        let bytes = pending_bytes(words.len());
        self.waiting_charge.grow(bytes)?;
        let slot = self.free_pending.last().copied().unwrap_or(self.pending.len() as u32);
        if slot >= MAX_ID {
            self.waiting_charge.shrink(bytes);
            return Ok(Ref::Frame(self.note(Why::NoRoom, words)));
        }
        if let Err(refused) = self.put_dynamic(&key, Ref::Pending(slot)) {
            self.waiting_charge.shrink(bytes);
            return Err(refused);
        }
        self.generation = self.generation.wrapping_add(1);
        let pending = Pending {
            generation: self.generation,
            incarnation,
            words: words.into(),
            waiting: Vec::new(),
        };
        put(&mut self.pending, &mut self.free_pending, pending);
        self.questions.push_back(slot);
        Ok(Ref::Pending(slot))
    }

    /// Adds a dynamic frame or changes what it is. Where the table may not grow, a cold entry goes
    /// for it, one of the same process if that holds more than its share; after a twelfth of them
    /// that way it is time for a sweep, which the refusal then brings.
    pub(super) fn put_dynamic(&mut self, key: &Key, value: Ref) -> Result<(), Refused> {
        let Err(refused) = self.dynamic.put(key, value) else { return Ok(()) };
        if self.has_grafts || self.dynamic.evicted_lately > self.dynamic.len() / EVICTED_PART {
            return Err(refused);
        }
        let own = self.dynamic.process_of(key).is_some_and(|process| self.is_hog(process));
        let tombstones = &mut self.tombstones;
        let mut note = |hash, value| tombstones.add(hash, value);
        if self.dynamic.evict_beside(key, own, &mut note) {
            return self.dynamic.put(key, value);
        }
        Err(refused)
    }

    fn park(&mut self, key: u64, frames: &[u32], missing: u32) -> Result<StackId, Refused> {
        let bytes = parked_bytes(frames.len(), missing);
        self.waiting_charge.grow(bytes)?;
        let number = self.free_parked.last().copied().unwrap_or(self.parked.len() as u32);
        let stack = match self.stacks.insert(key, End::Parked(number)) {
            Ok(stack) => stack,
            Err(refused) => {
                self.waiting_charge.shrink(bytes);
                return Err(refused);
            }
        };
        for &frame in frames {
            if let Ref::Pending(slot) = Ref::unpack(frame)
                && let Some(Some(pending)) = self.pending.get_mut(slot as usize)
                && pending.waiting.last() != Some(&number)
            {
                pending.waiting.push(number);
            }
        }
        let parked = Parked { stack, frames: frames.into(), missing };
        put(&mut self.parked, &mut self.free_parked, parked);
        Ok(StackId(stack))
    }
}

/// The key of the refused stack; a kernel hash that equals it is a chance of 2^-64.
const REFUSED_KEY: u64 = 0x5fe1_f05e_d000_0001;

/// The key of a stack that belongs to one incarnation.
#[inline]
fn own_key(incarnation: Incarnation, hash: u64) -> u64 {
    mix(hash, u64::from(incarnation.0) | 1 << 40)
}
