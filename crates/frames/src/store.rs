//! The store: stacks in, names filled in later, inside one budget. How all of it comes out again stands in
//! `read.rs`.

mod read;

pub use read::{Node, Report, StackFrame};

use std::collections::{HashMap, VecDeque};

use crate::budget::{Budget, Charge, Refused};
use crate::dynamic::{Dynamic, Incarnation, Key, Process, ProcessKey};
use crate::hash::{Seed, mix};
use crate::marks::Marks;
use crate::names::{Frame, FrameInfo, FunctionInfo, MAX_CHAIN, Names, UNNAMED};
use crate::places::{Of, Places};
use crate::refs::{MAX_ID, Ref};
use crate::stacks::{End, Stacks};
use crate::tombstones::Tombstones;
use crate::wire::{self, Raw};

/// A stack, by a number that stays until the stack is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

impl StackId {
    /// Stands for every stack that found no room: one frame that says so.
    pub const REFUSED: StackId = StackId(0);
}

/// Why a frame has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// The process ended before its memory was read.
    ProcessGone,
    /// What the frame points at is no longer what it was.
    StalePointer,
    /// What it belongs to was unloaded before it was read, or may have been.
    Unloaded,
    /// The runtime or its version is not known.
    Unsupported,
    /// The budget, or the process's share of it, has no room.
    NoRoom,
    /// No answer came in time; a later profile will have the name.
    Late,
    /// Frames were left out here, for the budget had no room for all of them.
    LeftOut,
}

impl Why {
    /// What the frame is called then.
    pub fn label(self) -> &'static str {
        match self {
            Why::ProcessGone => "[unnamed: process gone]",
            Why::StalePointer => "[unnamed: stale pointer]",
            Why::Unloaded => "[unnamed: unloaded before it was read]",
            Why::Unsupported => "[unnamed: unsupported]",
            Why::NoRoom => "[unnamed: no room in the memory budget]",
            Why::Late => "[unnamed: not resolved in time]",
            Why::LeftOut => "[left out: no room in the memory budget]",
        }
    }
}

/// A question to the resolver of dynamic code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// To be given back with the answer.
    pub id: PendingId,
    /// Whose memory to read.
    pub incarnation: Incarnation,
    /// The same as the caller knows it.
    pub process: ProcessKey,
    /// The frame's words, head first.
    pub words: Box<[u64]>,
}

/// A frame that was reserved and waits for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PendingId {
    slot: u32,
    generation: u32,
}

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Kind of the frames by which the store says something about a whole stack.
    pub note_kind: u8,
    /// Kind of a dynamic frame that has no name, by its words.
    pub kind_of: fn(&[u64]) -> u8,
    /// A process's share is at least this.
    pub min_share_bytes: u64,
    /// A process's share is the budget's limit divided by this. Beyond it a process's own entries
    /// go first, and its stacks are taken in only while an eighth of the budget is free.
    pub share_divisor: u64,
    /// Evicted dynamic frames whose names are remembered, 16 bytes each.
    pub tombstones: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            note_kind: 0,
            kind_of: |_| 0,
            min_share_bytes: 1 << 20,
            share_divisor: 4,
            tombstones: 4096,
        }
    }
}

/// What stands at a node, to be moved to another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Graft {
    /// A word of static code.
    Word(u64),
    /// An address in no file, of that process.
    Own(Incarnation, u64),
    /// A frame by value, by number.
    Frame(u32),
}

/// What the store did, beside what [`Report`] has by owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples whose stack was known.
    pub stack_hits: u64,
    /// Samples whose stack was not known.
    pub stack_misses: u64,
    /// Stacks refused for want of room.
    pub stacks_refused: u64,
    /// Static frames known, of new stacks, beside those that a recent stack had as well.
    pub static_hits: u64,
    /// Static frames not known.
    pub static_misses: u64,
    /// Dynamic frames known, of new stacks.
    pub dynamic_hits: u64,
    /// Dynamic frames met for the first time.
    pub dynamic_new: u64,
    /// Dynamic frames that were known once and had been evicted.
    pub dynamic_evicted: u64,
    /// Answers without a name.
    pub unnamed: u64,
    /// Of those, named after all by a tombstone.
    pub tombstone_names: u64,
    /// Names of static code forgotten to make room.
    pub names_forgotten: u64,
    /// Sweeps.
    pub sweeps: u64,
}

#[derive(Debug)]
struct Pending {
    generation: u32,
    incarnation: Incarnation,
    words: Box<[u64]>,
    /// Numbers of the parked stacks that wait.
    waiting: Vec<u32>,
}

#[derive(Debug)]
struct Parked {
    stack: u32,
    /// References, leaf first.
    frames: Box<[u32]>,
    /// Questions still open.
    missing: u32,
}

/// Frames, stacks and names. See the crate's documentation.
#[derive(Debug)]
pub struct Store {
    config: Config,
    budget: Budget,
    names: Names,
    places: Places,
    dynamic: Dynamic,
    stacks: Stacks,
    tombstones: Tombstones,
    pending: Vec<Option<Pending>>,
    free_pending: Vec<u32>,
    questions: VecDeque<u32>,
    parked: Vec<Option<Parked>>,
    free_parked: Vec<u32>,
    /// Pending frames and parked stacks.
    waiting_charge: Charge,
    generation: u32,
    /// Stacks being forgotten, and whether each was sent whole since.
    forgetting: HashMap<u32, bool>,
    /// Frames of each `Why` and kind, made when first needed.
    notes: Vec<(Why, u8, u32)>,
    counters: Counters,
    /// Nodes were grafted: no stack refers to them, so that a sweep would take them.
    has_grafts: bool,
    /// Refusals to sit out before the next attempt to make room, and how many the last one set.
    patience: u64,
    last_patience: u64,
    scratch: Vec<u32>,
}

impl Store {
    /// An empty store that charges `budget`. Allocates nothing before a first sample needs it.
    pub fn new(budget: &Budget, config: Config) -> Store {
        let seed = Seed::default();
        let word_seed = seed.words;
        Store {
            names: Names::new(budget, seed),
            places: Places::new(budget, word_seed),
            dynamic: Dynamic::new(budget, word_seed),
            stacks: Stacks::new(budget, word_seed),
            tombstones: Tombstones::new(budget, config.tombstones),
            pending: Vec::new(),
            free_pending: Vec::new(),
            questions: VecDeque::new(),
            parked: Vec::new(),
            free_parked: Vec::new(),
            waiting_charge: budget.owner("frames.pending").charge(),
            generation: 0,
            forgetting: HashMap::new(),
            notes: Vec::new(),
            counters: Counters::default(),
            has_grafts: false,
            patience: 0,
            last_patience: 0,
            scratch: Vec::new(),
            budget: budget.clone(),
            config,
        }
    }

    /// The number of a process image, new or known.
    pub fn incarnation(&mut self, key: ProcessKey) -> Incarnation {
        self.dynamic.incarnation(key)
    }

    /// To be called when the samples up to a process's exit or exec were handled. What it left
    /// stays until the next [`Store::sweep`].
    pub fn exited(&mut self, incarnation: Incarnation) {
        self.dynamic.exited(incarnation);
    }

    // ------------------------------------------------------------------------------ recording

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

    fn place(&mut self, of: Of, word: u64) -> Result<u32, Refused> {
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
    fn put_dynamic(&mut self, key: &Key, value: Ref) -> Result<(), Refused> {
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

    // ------------------------------------------------------------------------------ resolving

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

    /// The frame that says why a dynamic frame has no name.
    fn note(&mut self, why: Why, words: &[u64]) -> u32 {
        self.note_of(why, (self.config.kind_of)(words))
    }

    fn note_of(&mut self, why: Why, kind: u8) -> u32 {
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

    // ------------------------------------------------------------------------------- the budget

    /// Whether a process holds more than its share while others have something to lose.
    fn is_hog(&self, process: &Process) -> bool {
        let share = self.budget.limit_bytes() / self.config.share_divisor.max(1);
        process.bytes() > share.max(self.config.min_share_bytes) && self.dynamic.processes.len() > 1
    }

    /// A process over its share may grow only while an eighth of the budget is free for others.
    fn is_over_share(&self, incarnation: Incarnation) -> bool {
        self.dynamic.processes.get(&incarnation.0).is_some_and(|p| self.is_hog(p))
            && self.budget.free_bytes() < self.budget.limit_bytes() / 8
    }

    /// The same after an attempt to make room.
    fn stays_over_share(&mut self, incarnation: Incarnation) -> bool {
        self.is_over_share(incarnation) && {
            self.make_room(Cold::Nothing);
            self.is_over_share(incarnation)
        }
    }

    /// Books what the tables grew by on a process.
    fn book_growth(&mut self, incarnation: Incarnation, before_bytes: u64) {
        let grown = self.budget.used_bytes().saturating_sub(before_bytes);
        if grown > 0
            && let Some(process) = self.dynamic.processes.get_mut(&incarnation.0)
        {
            process.identity_bytes += grown;
        }
    }

    /// Something was refused: a part of the names of static code goes, the coldest, where
    /// `cold` allows it; and a part of the dynamic entries, those of processes over their share
    /// first. Whether that is worth another try.
    fn make_room(&mut self, cold: Cold) -> bool {
        if self.has_grafts || self.be_patient() {
            return false;
        }
        let before = self.budget.used_bytes();
        // Nobody asks for what dead processes left.
        let dropped = self.dynamic.drop_dead();
        // A budget that was lowered is reached in one step as far as caches can give.
        let over = u128::from(before.saturating_sub(self.budget.limit_bytes()));
        let part = |len: usize| {
            let for_over = len as u128 * over / u128::from(before.max(1));
            (len.div_ceil(EVICTED_PART) + for_over as usize).min(len)
        };
        if cold == Cold::Names {
            let n = part(self.places.len());
            self.counters.names_forgotten += self.places.forget_cold_names(n);
        }
        // What went one by one since the last sweep counts.
        let lately = self.dynamic.evicted_lately + dropped;
        let mut n = part(self.dynamic.len()).saturating_sub(lately);
        let mut evicted = lately;
        let processes = &self.dynamic.processes;
        let hogs: Vec<u32> = processes
            .iter()
            .filter(|(_, process)| self.is_hog(process))
            .map(|(&incarnation, _)| incarnation)
            .collect();
        let tombstones = &mut self.tombstones;
        let mut note = |hash, value| tombstones.add(hash, value);
        for incarnation in hogs {
            let own = self.dynamic.evict_own(Incarnation(incarnation), n, &mut note);
            evicted += own;
            n -= own;
        }
        evicted += self.dynamic.evict(n, &mut note);
        self.sweep_now();
        // Slots of the look-up table that are free again are room as well.
        let slots = evicted > self.dynamic.len() / 64 && evicted > 0;
        let freed = self.budget.used_bytes() < before && self.budget.free_bytes() > 0;
        let gained = self.budget.free_bytes() >= self.budget.limit_bytes() / 64;
        self.end_patience(freed && gained || slots);
        freed || slots
    }

    /// After an attempt that gained little, refusals are passed on for a while: a sweep costs time
    /// in proportion to the store.
    fn be_patient(&mut self) -> bool {
        let wait = self.patience > 0;
        self.patience = self.patience.saturating_sub(1);
        wait
    }

    fn end_patience(&mut self, gained: bool) {
        self.last_patience = if gained { 0 } else { (self.last_patience * 2).clamp(64, 1 << 16) };
        self.patience = self.last_patience;
    }

    /// To be called between profiles, when the last one was exported and forgotten stacks are
    /// forgotten: frees what no stack and no lookup cache needs, and what dead processes left.
    /// Stacks keep their numbers; numbers of functions, modules and nodes change.
    /// Nothing happens to a store onto which stacks were grafted.
    pub fn sweep(&mut self) {
        if self.has_grafts {
            return;
        }
        self.dynamic.drop_dead();
        self.sweep_now();
        self.patience = 0;
        self.last_patience = 0;
    }

    fn sweep_now(&mut self) {
        self.counters.sweeps += 1;
        let before = self.budget.used_bytes();
        let mut names = self.names.new_marks();
        let node_marks = {
            let mut marks = self.stacks.marks();
            marks.rank();
            marks
        };
        let mut places = Marks::new(self.places.len());
        for id in 0..self.places.len() as u32 {
            if self.places.named(id) != Ref::None {
                places.mark(id);
            }
        }
        let mut mark = |names: &mut _, reference: Ref| match reference {
            Ref::Frame(id) => mark_frame(names, id),
            Ref::Chain(at) => self.names.mark_chain(names, at),
            Ref::Place(id) => {
                places.mark(id);
            }
            Ref::Pending(_) | Ref::None => {}
        };
        for id in 1..self.stacks.n_nodes() as u32 {
            if node_marks.has(id) {
                mark(&mut names, Ref::unpack(self.stacks.node(id).1));
            }
        }
        for parked in self.parked.iter().flatten() {
            for &frame in &parked.frames {
                mark(&mut names, Ref::unpack(frame));
            }
        }
        for value in self.dynamic.values() {
            mark(&mut names, value);
        }
        for value in self.tombstones.values() {
            mark(&mut names, value);
        }
        for &(_, _, id) in &self.notes {
            mark(&mut names, Ref::Frame(id));
        }
        for id in 0..self.places.len() as u32 {
            if places.has(id) {
                match self.places.named(id) {
                    Ref::Frame(id) => mark_frame(&mut names, id),
                    Ref::Chain(at) => self.names.mark_chain(&mut names, at),
                    _ => {}
                }
            }
        }
        places.rank();
        self.names.compact(&mut names);
        let map = |reference: Ref| match reference {
            Ref::Frame(id) => names.frames.new_id(id).map_or(Ref::None, Ref::Frame),
            Ref::Chain(at) => names.chains.new_id(at).map_or(Ref::None, Ref::Chain),
            Ref::Place(id) => places.new_id(id).map_or(Ref::None, Ref::Place),
            other => other,
        };
        self.places.compact(&places, map);
        self.dynamic.compact(map);
        self.tombstones.map(map);
        self.stacks.compact(&node_marks, |frame| map(Ref::unpack(frame)).pack());
        for frame in self.parked.iter_mut().flatten().flat_map(|parked| &mut parked.frames) {
            *frame = map(Ref::unpack(*frame)).pack();
        }
        for (_, _, id) in &mut self.notes {
            *id = names.frames.new_id(*id).unwrap_or_default();
        }
        // What a process brought shrinks with the whole.
        let after = self.budget.used_bytes();
        for process in self.dynamic.processes.values_mut() {
            let scaled = u128::from(process.identity_bytes) * u128::from(after.min(before));
            process.identity_bytes = (scaled / u128::from(before.max(1))) as u64;
        }
    }

    // ------------------------------------------------------------------------------- forgetting

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

    // ---------------------------------------------------------------- kept while it is read out

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

    /// The number of the frame that says why something is missing, of this kind of code.
    pub fn note_number(&mut self, why: Why, kind: u8) -> u32 {
        self.note_of(why, kind)
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

    /// Writes a number of the caller's over a node that was read out, below 2^31: see
    /// [`Store::number`]. [`Store::node`] knows it no more.
    pub fn set_number(&mut self, node: u32, number: u32) {
        self.stacks.set_number(node, number);
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

    /// The frame by value of a place in static code that has a name, innermost if frames are
    /// inlined there.
    #[inline]
    pub fn known_word(&mut self, word: u64) -> Option<Frame> {
        let id = self.places.find(Of::ALL, word)?;
        self.first(self.places.named(id))
    }

    /// The frame by value that one frame's words stand for, innermost if frames are inlined there.
    #[inline]
    pub fn known_frame(&mut self, incarnation: Incarnation, words: &[u64]) -> Option<Frame> {
        self.known(incarnation, words).map(|number| self.names.frame(number))
    }

    /// The number of the frame by value that one frame's words stand for, whatever code they are
    /// of; the innermost one where frames are inlined. No string and no row of a frame is read.
    #[inline]
    pub fn known(&mut self, incarnation: Incarnation, words: &[u64]) -> Option<u32> {
        let found = match wire::frames(words).next()? {
            Raw::Static(word) => self.places.find_named(Of::ALL, word)?,
            Raw::Own(word) => self.places.find_named(Of::one(incarnation), word)?,
            Raw::Dynamic(words) => {
                let key = self.dynamic.key(incarnation, words);
                self.dynamic.find(&key)?
            }
        };
        match found {
            Ref::Frame(id) => Some(id),
            Ref::Chain(at) => self.names.chain(at).next(),
            _ => None,
        }
    }

    #[inline]
    fn first(&self, named: Ref) -> Option<Frame> {
        match named {
            Ref::Frame(id) => Some(self.names.frame(id)),
            Ref::Chain(at) => self.names.chain(at).next().map(|id| self.names.frame(id)),
            _ => None,
        }
    }

    /// Numbers of the frames at a word of static code or, where `incarnation` has it for itself, of
    /// its own, innermost first; none where it has no name.
    pub fn numbers_at(
        &mut self,
        incarnation: Incarnation,
        word: u64,
    ) -> impl Iterator<Item = u32> + '_ {
        let of = match wire::frames(&[word]).next() {
            Some(Raw::Own(_)) => Of::one(incarnation),
            _ => Of::ALL,
        };
        let named = self.places.find(of, word).map_or(Ref::None, |id| self.places.named(id));
        self.numbers(named)
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
}

/// One entry of so many goes at once: a sweep's time is spread over that many inserts, and on
/// average half of them stand empty.
const EVICTED_PART: usize = 12;

/// What may be forgotten to make room, beside dynamic entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cold {
    /// Names of static code that no sample met since the last sweep.
    Names,
    Nothing,
}

/// The key of the refused stack; a kernel hash that equals it is a chance of 2^-64.
const REFUSED_KEY: u64 = 0x5fe1_f05e_d000_0001;

/// The key of a stack that belongs to one incarnation.
#[inline]
fn own_key(incarnation: Incarnation, hash: u64) -> u64 {
    mix(hash, u64::from(incarnation.0) | 1 << 40)
}

fn note_info(why: Why, kind: u8) -> FrameInfo<'static> {
    FrameInfo {
        function: FunctionInfo { name: why.label().as_bytes(), kind, ..FunctionInfo::default() },
        line: 0,
        flags: UNNAMED,
    }
}

fn mark_frame(names: &mut crate::names::NameMarks, id: u32) {
    names.frames.mark(id);
}

/// Real bytes of a pending frame: its slot, its words, its question.
fn pending_bytes(n_words: usize) -> usize {
    size_of::<Option<Pending>>() + n_words * 8 + 16
}

/// Real bytes of a parked stack: its slot, its frames, its number in each question it waits for.
fn parked_bytes(n_frames: usize, missing: u32) -> usize {
    size_of::<Option<Parked>>() + n_frames * 4 + missing as usize * 8
}

/// Puts an item where `free` says, or at the end.
fn put<T>(items: &mut Vec<Option<T>>, free: &mut Vec<u32>, item: T) {
    match free.pop().and_then(|at| items.get_mut(at as usize)) {
        Some(slot) => *slot = Some(item),
        None => items.push(Some(item)),
    }
}

/// Takes an item out and lists its place as free.
fn take<T>(items: &mut Vec<Option<T>>, free: &mut Vec<u32>, at: u32) -> Option<T> {
    let item = items.get_mut(at as usize)?.take()?;
    free.push(at);
    if free.len() == items.len() {
        *items = Vec::new();
        *free = Vec::new();
    }
    Some(item)
}
