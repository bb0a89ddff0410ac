//! Names in: questions about dynamic code and their answers, and the names of words of static code.
//!
//! In: frames by name, innermost first where some are inlined. Out: questions, and words that have no name yet. An
//! answer gives a reserved frame its value and every stack that waited for nothing else its path in the
//! tree. A frame that gets no name gets a note in its place that says why ([`Why`]).
//!
//! # Cost
//! An answer: its texts' look-ups, and one copy of each parked stack that waits for it.

use super::room::Cold;
use super::{Pending, PendingId, Question, StackId, Store, Why, parked_bytes, pending_bytes, take};
use crate::budget::Refused;
use crate::dynamic::{Incarnation, ProcessKey};
use crate::names::{FrameInfo, FunctionInfo, MAX_CHAIN, UNNAMED};
use crate::places::Of;
use crate::refs::Ref;
use crate::stacks::End;
use crate::wire::{self, Raw};

impl Store {
    /// Up to `max` questions about dynamic code that were not handed out before, oldest first.
    pub fn take_questions(&mut self, max: usize) -> Vec<Question> {
        let mut out = Vec::new();
        while out.len() < max {
            let Some(slot) = self.questions.pop_front() else {
                break;
            };
            if let Some(Some(pending)) = self.pending.get(slot as usize) {
                let process = self.dynamic.processes.get(&pending.incarnation.0);
                out.push(Question {
                    id: PendingId { slot, generation: pending.generation },
                    incarnation: pending.incarnation,
                    process: process.map_or_else(ProcessKey::default, |process| process.key),
                    words: pending.words.clone(),
                });
            }
        }
        if self.questions.is_empty() {
            self.questions.shrink_to(64);
        }
        out
    }

    /// Questions handed out or not that have no answer yet.
    pub fn n_pending(&self) -> usize {
        self.pending.len() - self.free_pending.len()
    }

    /// Answers a question: the frame, or innermost first the frames inlined at its place and the
    /// physical one. An answer that comes twice is ignored.
    pub fn answer(&mut self, id: PendingId, frames: &[FrameInfo<'_>]) {
        let Some(incarnation) = self.asked(id).map(|pending| pending.incarnation) else {
            return;
        };
        if frames.is_empty() {
            return self.answer_unnamed(id, Why::Unsupported);
        }
        let before = self.budget.used_bytes();
        let over = self.stays_over_share(incarnation);
        let named = if over { None } else { self.named_with_room(Cold::Names, frames) };
        match named {
            Some(named) => self.fill(id.slot, named),
            None => {
                self.counters.unnamed += 1;
                let kind = self.kind_asked(id);
                let note = self.note_of(Why::NoRoom, kind);
                self.fill(id.slot, Ref::Frame(note));
            }
        }
        self.book_growth(incarnation, before);
    }

    /// Answers a question by another frame of the same process, if that has its names by now: whether
    /// it has.
    pub fn answer_alike(&mut self, id: PendingId, words: &[u64]) -> bool {
        let Some(incarnation) = self.asked(id).map(|pending| pending.incarnation) else {
            return true;
        };
        let key = self.dynamic.key(incarnation, words);
        match self.dynamic.find(&key) {
            Some(named @ (Ref::Frame(_) | Ref::Chain(_))) => {
                self.fill(id.slot, named);
                true
            }
            _ => false,
        }
    }

    /// Answers a question whose frame could not be read. Where the same frame was named before it
    /// was evicted, it has that name.
    pub fn answer_unnamed(&mut self, id: PendingId, why: Why) {
        let Some(pending) = self.asked(id) else {
            return;
        };
        let key = self.dynamic.key(pending.incarnation, &pending.words);
        let value = match self.tombstones.find(key.hash()) {
            Some(value) => {
                self.counters.tombstone_names += 1;
                value
            }
            None => {
                self.counters.unnamed += 1;
                let kind = self.kind_asked(id);
                Ref::Frame(self.note_of(why, kind))
            }
        };
        self.fill(id.slot, value);
    }

    fn asked(&self, id: PendingId) -> Option<&Pending> {
        let pending = self.pending.get(id.slot as usize)?.as_ref()?;
        (pending.generation == id.generation).then_some(pending)
    }

    fn kind_asked(&self, id: PendingId) -> u8 {
        self.asked(id)
            .map_or(self.config.note_kind, |pending| (self.config.kind_of)(&pending.words))
    }

    fn named_with_room(&mut self, cold: Cold, frames: &[FrameInfo<'_>]) -> Option<Ref> {
        match self.named(frames) {
            Ok(named) => Some(named),
            Err(_) if self.make_room(cold) => self.named(frames).ok(),
            Err(_) => None,
        }
    }

    fn named(&mut self, frames: &[FrameInfo<'_>]) -> Result<Ref, Refused> {
        if let [frame] = frames {
            return self.names.intern_frame(frame).map(Ref::Frame);
        }
        let mut ids = Vec::with_capacity(frames.len().min(MAX_CHAIN));
        // The innermost frames and the physical function are what a reader misses most.
        let cut = frames.len().saturating_sub(MAX_CHAIN);
        self.names.n_sanitised += u64::from(cut > 0);
        let (inner, rest) = frames.split_at(frames.len() - 1 - cut);
        for frame in inner.iter().chain(rest.last()) {
            ids.push(self.names.intern_frame(frame)?);
        }
        self.names.intern_chain(&ids).map(Ref::Chain)
    }

    /// Gives a pending frame its value, and every stack that waited for nothing else its path.
    fn fill(&mut self, slot: u32, value: Ref) {
        let Some(pending) = take(&mut self.pending, &mut self.free_pending, slot) else {
            return;
        };
        self.waiting_charge.shrink(pending_bytes(pending.words.len()));
        let key = self.dynamic.key(pending.incarnation, &pending.words);
        self.dynamic.set(&key, value);
        let from = Ref::Pending(slot).pack();
        let to: Vec<u32> = match value {
            Ref::Chain(at) => self.names.chain(at).map(|id| Ref::Frame(id).pack()).collect(),
            other => vec![other.pack()],
        };
        let mut complete = Vec::new();
        for number in pending.waiting {
            let Some(Some(parked)) = self.parked.get_mut(number as usize) else {
                continue;
            };
            let before = parked_bytes(parked.frames.len(), parked.missing);
            let mut frames = Vec::with_capacity(parked.frames.len() + to.len());
            for &frame in &parked.frames {
                if frame == from {
                    frames.extend_from_slice(&to);
                } else {
                    frames.push(frame);
                }
            }
            parked.frames = frames.into();
            parked.missing = parked.missing.saturating_sub(1);
            let after = parked_bytes(parked.frames.len(), parked.missing);
            self.waiting_charge.shrink(before);
            self.waiting_charge.grow_anyway(after);
            if parked.missing == 0 {
                complete.push(number);
            }
        }
        // Only now: making room for a path changes ids, those in `to` too.
        for number in complete {
            self.unpark(number);
        }
    }

    /// Moves a parked stack into the tree.
    fn unpark(&mut self, number: u32) {
        let path = |store: &mut Store| {
            let Some(Some(parked)) = store.parked.get(number as usize) else {
                return Ok(0);
            };
            let frames = &parked.frames;
            frames.iter().rev().try_fold(0, |at, &frame| store.stacks.child(at, frame))
        };
        let end = match path(self) {
            Ok(node) => End::Node(node),
            // A sweep keeps what parked stacks refer to, and tells them the new ids.
            Err(_) if self.make_room(Cold::Names) => path(self).map_or(End::Free, End::Node),
            Err(_) => End::Free,
        };
        let end = match end {
            End::Free => {
                self.counters.stacks_refused += 1;
                self.stacks.end(StackId::REFUSED.0)
            }
            other => other,
        };
        let Some(parked) = take(&mut self.parked, &mut self.free_parked, number) else {
            return;
        };
        self.waiting_charge.shrink(parked_bytes(parked.frames.len(), parked.missing));
        self.stacks.set_end(parked.stack, end);
    }

    /// Makes every stack that still waits readable now, with frames that say so. The questions
    /// stay open, and an answer still gives the stack its names, for what is exported later. How
    /// many questions are open.
    pub fn settle(&mut self) -> usize {
        // A note for each kind first: making one may need room, and what stands below borrows.
        let late: Vec<u32> = (0..self.pending.len())
            .map(|slot| match self.pending.get(slot) {
                Some(Some(pending)) => {
                    let kind = (self.config.kind_of)(&pending.words);
                    Ref::Frame(self.note_of(Why::Late, kind)).pack()
                }
                _ => Ref::None.pack(),
            })
            .collect();
        for number in 0..self.parked.len() {
            let Some(Some(parked)) = self.parked.get(number) else {
                continue;
            };
            let stack = parked.stack;
            let shown = |frame: u32| match Ref::unpack(frame) {
                Ref::Pending(slot) => late.get(slot as usize).copied().unwrap_or(frame),
                _ => frame,
            };
            let frames = parked.frames.iter().rev();
            let path = frames.map(|&frame| shown(frame));
            let node = path.clone().try_fold(0, |at, frame| self.stacks.child(at, frame));
            let end = node.map_or(self.stacks.end(StackId::REFUSED.0), End::Node);
            self.stacks.set_end(stack, end);
        }
        self.n_pending()
    }

    /// Up to `max` words of static code without names, ordered so that those of one file stand
    /// together; see [`naming_order`](crate::naming_order).
    pub fn unnamed_words(&self, max: usize) -> Vec<u64> {
        let shared = self.places.unnamed().filter(|(of, _)| *of == Of::ALL);
        let mut words: Vec<u64> = shared.map(|(_, word)| word).take(max).collect();
        words.sort_unstable_by_key(|&word| wire::naming_order(word));
        words
    }

    /// Words in no file that have no name, each with the process whose they are.
    pub fn unnamed_own_words(&self) -> Vec<(Incarnation, u64)> {
        let rows = self.places.unnamed();
        rows.filter_map(|(of, word)| Some((of.incarnation()?, word))).collect()
    }

    /// Takes in a word without a stack that has it, so that it can be named. Whether there was
    /// room.
    pub fn meet(&mut self, incarnation: Incarnation, word: u64) -> bool {
        let of = match wire::frames(&[word]).next() {
            Some(Raw::Static(_)) => Of::ALL,
            Some(Raw::Own(_)) => Of::one(incarnation),
            _ => return true,
        };
        self.place(of, word).is_ok()
    }

    /// Names a place in static code: innermost first the frames inlined there, and the physical
    /// one. Whether there was room; words that no stack has are ignored.
    pub fn name_word(&mut self, word: u64, frames: &[FrameInfo<'_>]) -> bool {
        self.name_place(Of::ALL, word, frames)
    }

    /// The same for an address in no file, of one process.
    pub fn name_own_word(
        &mut self,
        incarnation: Incarnation,
        word: u64,
        frames: &[FrameInfo<'_>],
    ) -> bool {
        self.name_place(Of::one(incarnation), word, frames)
    }

    fn name_place(&mut self, of: Of, word: u64, frames: &[FrameInfo<'_>]) -> bool {
        if frames.is_empty() || self.places.find(of, word).is_none() {
            return true;
        }
        // Names that a caller gives one after the other must not push each other out.
        match self.named_with_room(Cold::Nothing, frames) {
            Some(named) => {
                // Making room may have moved the place, or dropped it, if no stack has it.
                if let Some(id) = self.places.find(of, word) {
                    self.places.set_named(id, named);
                }
                true
            }
            None => false,
        }
    }

    /// Takes a frame in together with its names, before or without a stack that holds it: from a
    /// symbol map that lists them, for instance. Innermost first, as for [`Store::answer`].
    /// Whether there was room.
    pub fn learn(
        &mut self,
        incarnation: Incarnation,
        words: &[u64],
        frames: &[FrameInfo<'_>],
    ) -> bool {
        if frames.is_empty() {
            return true;
        }
        match wire::frames(words).next() {
            Some(Raw::Static(word)) => self.learn_place(Of::ALL, word, frames),
            Some(Raw::Own(word)) => self.learn_place(Of::one(incarnation), word, frames),
            Some(Raw::Dynamic(words)) => {
                let before = self.budget.used_bytes();
                let learn = |store: &mut Store| -> Result<(), Refused> {
                    let named = store.named(frames)?;
                    let key = store.dynamic.key(incarnation, words);
                    store.put_dynamic(&key, named)
                };
                let learnt =
                    learn(self).is_ok() || self.make_room(Cold::Names) && learn(self).is_ok();
                self.book_growth(incarnation, before);
                learnt
            }
            None => true,
        }
    }

    fn learn_place(&mut self, of: Of, word: u64, frames: &[FrameInfo<'_>]) -> bool {
        let learn = |store: &mut Store| -> Result<(), Refused> {
            let named = store.named(frames)?;
            let id = store.place(of, word)?;
            store.places.set_named(id, named);
            Ok(())
        };
        learn(self).is_ok() || self.make_room(Cold::Names) && learn(self).is_ok()
    }

    /// Takes in a frame by value that no stack has, innermost first if frames are inlined; the
    /// number of the innermost, until the next sweep. `None` without room.
    pub fn keep_frame(&mut self, frames: &[FrameInfo<'_>]) -> Option<u32> {
        match self.named(frames).ok()? {
            Ref::Frame(id) => Some(id),
            Ref::Chain(at) => self.names.chain(at).next(),
            _ => None,
        }
    }

    /// The number of the frame that says why something is missing, of this kind of code.
    pub fn note_number(&mut self, why: Why, kind: u8) -> u32 {
        self.note_of(why, kind)
    }

    /// The frame that says why a dynamic frame has no name.
    pub(super) fn note(&mut self, why: Why, words: &[u64]) -> u32 {
        self.note_of(why, (self.config.kind_of)(words))
    }

    pub(super) fn note_of(&mut self, why: Why, kind: u8) -> u32 {
        if let Some(&(_, _, id)) = self.notes.iter().find(|note| (note.0, note.1) == (why, kind)) {
            return id;
        }
        // Without room for a few short texts, the refused stack's stands in, which was made with
        // the first sample.
        let Ok(id) = self.names.intern_frame(&note_info(why, kind)) else {
            return match self.stacks.end(StackId::REFUSED.0) {
                End::Node(node) => match Ref::unpack(self.stacks.node(node).1) {
                    Ref::Frame(id) => id,
                    _ => 0,
                },
                _ => 0,
            };
        };
        self.notes.push((why, kind, id));
        id
    }
}

pub(super) fn note_info(why: Why, kind: u8) -> FrameInfo<'static> {
    FrameInfo {
        function: FunctionInfo { name: why.label().as_bytes(), kind, ..FunctionInfo::default() },
        line: 0,
        flags: UNNAMED,
    }
}
