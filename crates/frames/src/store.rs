//! The store: stacks in, names filled in later, inside one budget. Here is what it holds and is set up with; what
//! happens to it stands in a file each.
//!
//! In: samples' words with their hash, answers to questions. Out: numbers of stacks, and at the end all that stands
//! at them. How it works and what it costs is in the crate's documentation, and in each file:
//! stacks come in (`recording.rs`), names follow (`naming.rs`), single frames are looked up
//! (`known.rs`), what is refused makes room (`room.rs`), stacks go (`forgetting.rs`), trees come from
//! another store (`grafting.rs`), and all of it is read out (`read.rs`).

mod forgetting;
mod grafting;
mod known;
mod naming;
mod read;
mod recording;
mod room;

pub use read::{Node, Report, StackFrame};

use crate::budget::{Budget, Charge};
use crate::dynamic::{Dynamic, Incarnation, ProcessKey};
use crate::hash::Seed;
use crate::names::Names;
use crate::places::Places;
use crate::stacks::Stacks;
use crate::tombstones::Tombstones;
use std::collections::{HashMap, VecDeque};

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
