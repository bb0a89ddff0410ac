//! The lookup cache of dynamic code: frames that only one process has.
//!
//! # Layout
//! An entry is 40 bytes and 6 to 7 in the index: head word, up to three data words, incarnation,
//! and a reference to what it is. A frame of more data words keeps the first and 128 bits of a
//! keyed hash (SipHash-1-3, random keys) of all of them.
//!
//! # Eviction
//! CLOCK over the entries: a hit sets one bit and moves nothing; the hand takes the first entry
//! whose bit is clear, and clears bits as it goes. Chosen by measurement:
//! `docs/decisions/0004-frame-store-policy.md`. Live processes' entries go before those of dead
//! ones, which nothing could read again; entries that wait for a resolver do not go.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::budget::{Budget, Charge, Refused};
use crate::column::Column;
use crate::hash::mix;
use crate::index::Index;
use crate::marks::Marks;
use crate::refs::Ref;

/// A process image, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub(crate) u32);

/// What tells one process image from another: a pid that is used again differs in its start, an
/// exec in its exec id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Thread group id.
    pub tgid: u32,
    /// Start of the process, nanoseconds of any clock.
    pub start_ns: u64,
    /// The kernel's or the caller's count of its execs.
    pub exec_id: u32,
}

/// Index bytes an entry takes at most, for a process's share.
const ENTRY_BYTES: u64 = size_of::<Entry>() as u64 + 8;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: Key,
    /// 0: the entry is free, and `value` is the next free one, plus 1.
    incarnation: u32,
    value: u32,
}

/// A frame's words, fixed in length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    words: [u64; 4],
}

#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) entries: u64,
    /// Bytes of identity that its frames and stacks brought, by growth of the tables.
    pub(crate) identity_bytes: u64,
    pub(crate) is_dead: bool,
    hand: u32,
}

impl Process {
    pub(crate) fn bytes(&self) -> u64 {
        self.entries * ENTRY_BYTES + self.identity_bytes
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Dynamic {
    entries: Column<Entry>,
    index: Index,
    seen: Column<u64>,
    /// The free entry to use next, plus 1; an entry's `value` continues the list.
    next_free: u32,
    hand: u32,
    seed: u64,
    sip: [RandomState; 2],
    by_key: HashMap<ProcessKey, u32>,
    pub(crate) processes: HashMap<u32, Process>,
    last_incarnation: u32,
    process_charge: Charge,
    pub(crate) evictions: u64,
}

/// Real bytes of one process in both maps, their slack included.
const PROCESS_BYTES: usize = 2 * (size_of::<(ProcessKey, u32)>() + size_of::<(u32, Process)>() + 2);

impl Dynamic {
    pub(crate) fn new(budget: &Budget, seed: u64) -> Dynamic {
        let owner = budget.owner("lookup.dynamic");
        Dynamic {
            entries: Column::new(&owner),
            index: Index::new(&owner),
            seen: Column::new(&owner),
            next_free: 0,
            hand: 0,
            seed,
            sip: [RandomState::new(), RandomState::new()],
            by_key: HashMap::new(),
            processes: HashMap::new(),
            last_incarnation: 0,
            process_charge: budget.owner("lookup.processes").charge(),
            evictions: 0,
        }
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn incarnation(&mut self, key: ProcessKey) -> Incarnation {
        if let Some(&number) = self.by_key.get(&key) {
            return Incarnation(number);
        }
        // 2^32 process images at a thousand a second are fifty days; 0 is never given out. A
        // number is skipped while an old process still has it.
        loop {
            self.last_incarnation = self.last_incarnation.wrapping_add(1);
            if self.last_incarnation != 0 && !self.processes.contains_key(&self.last_incarnation) {
                break;
            }
        }
        self.process_charge.grow_anyway(PROCESS_BYTES);
        self.by_key.insert(key, self.last_incarnation);
        self.processes.insert(self.last_incarnation, Process { key, ..Process::default() });
        Incarnation(self.last_incarnation)
    }

    fn key_of(&self, words: &[u64]) -> Key {
        let mut key = Key::default();
        if words.len() <= key.words.len() {
            for (slot, word) in key.words.iter_mut().zip(words) {
                *slot = *word;
            }
            return key;
        }
        let sip = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            for &word in words {
                hasher.write_u64(word);
            }
            hasher.finish()
        };
        let first = |n: usize| words.get(n).copied().unwrap_or_default();
        key.words = [first(0), first(1), sip(&self.sip[0]), sip(&self.sip[1])];
        key
    }

    #[inline]
    fn hash(seed: u64, incarnation: u32, key: &Key) -> u64 {
        let [head, a, b, c] = key.words;
        let hash = mix(mix(mix(seed, head ^ u64::from(incarnation) << 8), a), b);
        if c == 0 { hash } else { mix(hash, c) }
    }

    /// A hash of the whole key, for tombstones.
    pub(crate) fn key_hash(&self, incarnation: Incarnation, words: &[u64]) -> u64 {
        Self::hash(self.seed, incarnation.0, &self.key_of(words))
    }

    fn hash_at(seed: u64, entries: &Column<Entry>, id: u32) -> u64 {
        let entry = entries.at(id);
        Self::hash(seed, entry.incarnation, &entry.key)
    }

    #[inline]
    fn find_entry(&self, incarnation: u32, key: &Key) -> Option<u32> {
        let entries = &self.entries;
        self.index.find(Self::hash(self.seed, incarnation, key), |id| {
            entries.get(id).is_some_and(|e| e.incarnation == incarnation && e.key == *key)
        })
    }

    /// What a frame is, if it is known.
    #[inline]
    pub(crate) fn find(&mut self, incarnation: Incarnation, words: &[u64]) -> Option<Ref> {
        let id = self.find_entry(incarnation.0, &self.key_of(words))?;
        self.set_seen(id, true);
        self.entries.get(id).map(|entry| Ref::unpack(entry.value))
    }

    /// Adds a frame that is not known.
    pub(crate) fn insert(
        &mut self,
        incarnation: Incarnation,
        words: &[u64],
        value: Ref,
    ) -> Result<(), Refused> {
        let key = self.key_of(words);
        let (seed, entries) = (self.seed, &self.entries);
        let hash = Self::hash(seed, incarnation.0, &key);
        self.index.reserve(hash, |id| Self::hash_at(seed, entries, id))?;
        let entry = Entry { key, incarnation: incarnation.0, value: value.pack() };
        let id = match self.next_free.checked_sub(1) {
            Some(id) => {
                self.next_free = self.entries.at(id).value;
                self.entries.set(id, entry);
                id
            }
            None => {
                self.entries.reserve_one()?;
                if self.entries.len().is_multiple_of(64) {
                    self.seen.push(0)?;
                }
                self.entries.push(entry)?
            }
        };
        self.set_seen(id, false);
        let entries = &self.entries;
        self.index.insert(hash, id, |id| Self::hash_at(seed, entries, id))?;
        if let Some(process) = self.processes.get_mut(&incarnation.0) {
            process.entries += 1;
        }
        Ok(())
    }

    /// Changes what a frame is; whether it is there.
    pub(crate) fn set(&mut self, incarnation: Incarnation, words: &[u64], value: Ref) -> bool {
        let key = self.key_of(words);
        match self.find_entry(incarnation.0, &key).and_then(|id| self.entries.get_mut(id)) {
            Some(entry) => {
                entry.value = value.pack();
                true
            }
            None => false,
        }
    }

    #[inline]
    fn set_seen(&mut self, id: u32, seen: bool) {
        if let Some(word) = self.seen.get_mut(id / 64) {
            let bit = 1 << (id % 64);
            if (*word & bit != 0) != seen {
                *word ^= bit;
            }
        }
    }

    fn is_seen(&self, id: u32) -> bool {
        self.seen.at(id / 64) >> (id % 64) & 1 == 1
    }

    fn remove_entry(&mut self, id: u32) -> Option<(u64, Ref)> {
        let entry = self.entries.get(id).filter(|entry| entry.incarnation != 0)?;
        let (seed, entries) = (self.seed, &self.entries);
        let hash = Self::hash(seed, entry.incarnation, &entry.key);
        self.index.remove(hash, id, |id| Self::hash_at(seed, entries, id));
        self.entries.set(id, Entry { value: self.next_free, ..Entry::default() });
        self.next_free = id + 1;
        if let Some(process) = self.processes.get_mut(&entry.incarnation) {
            process.entries = process.entries.saturating_sub(1);
        }
        Some((hash, Ref::unpack(entry.value)))
    }

    /// Evicts up to `n` entries; `gone` sees each one's key hash and value. First those of live
    /// processes, and those of dead ones only where that was not enough.
    pub(crate) fn evict(&mut self, n: usize, mut gone: impl FnMut(u64, Ref)) -> usize {
        let total = self.entries.len();
        let mut evicted = 0;
        for dead_too in [false, true] {
            // Two rounds: one to clear the bits, one to take.
            for _ in 0..2 * total {
                if evicted == n {
                    break;
                }
                let id = self.hand;
                self.hand = if id as usize + 1 >= total { 0 } else { id + 1 };
                if self.may_go(id, None, dead_too) {
                    if self.is_seen(id) {
                        self.set_seen(id, false);
                    } else if let Some((hash, value)) = self.remove_entry(id) {
                        gone(hash, value);
                        evicted += 1;
                    }
                }
            }
        }
        self.evictions += evicted as u64;
        evicted
    }

    /// Evicts up to `n` entries of one process.
    pub(crate) fn evict_own(
        &mut self,
        incarnation: Incarnation,
        n: usize,
        mut gone: impl FnMut(u64, Ref),
    ) -> usize {
        let total = self.entries.len();
        let Some(mut hand) = self.processes.get(&incarnation.0).map(|p| p.hand) else {
            return 0;
        };
        let mut evicted = 0;
        for _ in 0..2 * total {
            if evicted == n {
                break;
            }
            let id = if hand as usize >= total { 0 } else { hand };
            hand = id + 1;
            if self.may_go(id, Some(incarnation.0), true) {
                if self.is_seen(id) {
                    self.set_seen(id, false);
                } else if let Some((hash, value)) = self.remove_entry(id) {
                    gone(hash, value);
                    evicted += 1;
                }
            }
        }
        if let Some(process) = self.processes.get_mut(&incarnation.0) {
            process.hand = hand;
        }
        self.evictions += evicted as u64;
        evicted
    }

    fn may_go(&self, id: u32, of: Option<u32>, dead_too: bool) -> bool {
        let Some(entry) = self.entries.get(id) else {
            return false;
        };
        if entry.incarnation == 0 || matches!(Ref::unpack(entry.value), Ref::Pending(_)) {
            return false;
        }
        match of {
            Some(incarnation) => entry.incarnation == incarnation,
            None => dead_too || !self.processes.get(&entry.incarnation).is_some_and(|p| p.is_dead),
        }
    }

    /// The process image ended: its key may come again and is another one then.
    pub(crate) fn exited(&mut self, incarnation: Incarnation) {
        if let Some(process) = self.processes.get_mut(&incarnation.0) {
            let was_dead = std::mem::replace(&mut process.is_dead, true);
            if !was_dead {
                self.by_key.remove(&process.key);
            }
        }
    }

    /// Drops the entries of dead processes, and what is known of those.
    pub(crate) fn drop_dead(&mut self) {
        for id in 0..self.entries.len() as u32 {
            let incarnation = self.entries.at(id).incarnation;
            if incarnation != 0 && self.processes.get(&incarnation).is_none_or(|p| p.is_dead) {
                self.remove_entry(id);
            }
        }
        let before = self.processes.len();
        self.processes.retain(|_, process| !process.is_dead);
        self.process_charge.shrink((before - self.processes.len()) * PROCESS_BYTES);
        if self.processes.capacity() > 4 * self.processes.len() + 64 {
            self.processes.shrink_to_fit();
            self.by_key.shrink_to_fit();
        }
    }

    /// What the entries refer to.
    pub(crate) fn values(&self) -> impl Iterator<Item = Ref> + '_ {
        self.entries.iter().filter(|e| e.incarnation != 0).map(|e| Ref::unpack(e.value))
    }

    /// Moves the entries together and changes what they refer to.
    pub(crate) fn compact(&mut self, map: impl Fn(Ref) -> Ref) {
        let mut marks = Marks::new(self.entries.len());
        let mut to = 0;
        for id in 0..self.entries.len() as u32 {
            if self.entries.at(id).incarnation != 0 {
                marks.mark(id);
                let seen = self.is_seen(id);
                self.set_seen(to, seen);
                to += 1;
            }
        }
        self.entries.compact(&marks, |entry| Entry {
            value: map(Ref::unpack(entry.value)).pack(),
            ..entry
        });
        self.seen.truncate(self.entries.len().div_ceil(64));
        self.next_free = 0;
        self.hand = 0;
        for process in self.processes.values_mut() {
            process.hand = 0;
        }
        let (seed, entries) = (self.seed, &self.entries);
        self.index.rebuild(0..entries.len() as u32, |id| Self::hash_at(seed, entries, id));
    }
}
