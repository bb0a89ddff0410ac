//! The lookup cache of static code: (file, offset) words, shared by all processes, and addresses
//! in no file, which one process has for itself.
//!
//! A place is 16 bytes (its word, whose it is, and a reference to its names or none) and 6 to 7 in
//! the index.
//! Its number stands in the tree of stacks, because exporters need the address; its names may go
//! at any time, since the file has them.

use crate::budget::{Budget, Refused};
use crate::column::Column;
use crate::dynamic::Incarnation;
use crate::hash::mix;
use crate::index::Index;
use crate::marks::Marks;
use crate::refs::Ref;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Places {
    words: Column<u64>,
    /// Number of the incarnation; 0: everybody's.
    owners: Column<u32>,
    named: Column<u32>,
    seen: Column<u64>,
    index: Index,
    /// Where the search for cold names goes on.
    hand: u32,
    seed: u64,
}

impl Places {
    pub(crate) fn new(budget: &Budget, seed: u64) -> Places {
        let owner = budget.owner("lookup.static");
        Places {
            words: Column::new(&owner),
            owners: Column::new(&owner),
            named: Column::new(&owner),
            seen: Column::new(&owner),
            index: Index::new(&owner),
            hand: 0,
            seed,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    #[inline]
    pub(crate) fn find(&mut self, of: Of, word: u64) -> Option<u32> {
        let (words, owners) = (&self.words, &self.owners);
        let is = |id| words.at(id) == word && owners.at(id) == of.0;
        let id = self.index.find(hash(self.seed, of.0, word), is)?;
        if let Some(seen) = self.seen.get_mut(id / 64) {
            let bit = 1 << (id % 64);
            if *seen & bit == 0 {
                *seen |= bit;
            }
        }
        Some(id)
    }

    pub(crate) fn insert(&mut self, of: Of, word: u64) -> Result<u32, Refused> {
        let seed = self.seed;
        let hash_of =
            |words: &Column<u64>, owners: &Column<u32>, id| hash(seed, owners.at(id), words.at(id));
        let own = hash(seed, of.0, word);
        let (words, owners) = (&self.words, &self.owners);
        self.index.reserve(own, |id| hash_of(words, owners, id))?;
        self.words.reserve_one()?;
        self.owners.reserve_one()?;
        self.named.reserve_one()?;
        if self.words.len().is_multiple_of(64) {
            self.seen.push(0)?;
        }
        self.named.push(Ref::None.pack())?;
        self.owners.push(of.0)?;
        let id = self.words.push(word)?;
        if let Some(seen) = self.seen.get_mut(id / 64) {
            *seen |= 1 << (id % 64);
        }
        let (words, owners) = (&self.words, &self.owners);
        self.index.insert(own, id, |id| hash_of(words, owners, id))?;
        Ok(id)
    }

    pub(crate) fn word(&self, id: u32) -> u64 {
        self.words.at(id)
    }

    pub(crate) fn of(&self, id: u32) -> Of {
        Of(self.owners.at(id))
    }

    pub(crate) fn named(&self, id: u32) -> Ref {
        Ref::unpack(self.named.get(id).unwrap_or(u32::MAX))
    }

    pub(crate) fn set_named(&mut self, id: u32, named: Ref) {
        self.named.set(id, named.pack());
    }

    /// Words without names, of those that all processes share or of the others with whose they are.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = (Of, u64)> + '_ {
        let none = Ref::None.pack();
        let rows = self.words.iter().zip(self.owners.iter()).zip(self.named.iter());
        rows.filter(move |(_, named)| *named == none).map(|((word, owner), _)| (Of(owner), word))
    }

    /// Forgets the names of up to `n` places that were not seen since the hand passed them last;
    /// how many.
    pub(crate) fn forget_cold_names(&mut self, n: usize) -> u64 {
        let total = self.words.len() as u32;
        let mut forgotten = 0;
        for _ in 0..2 * u64::from(total) {
            if forgotten == n {
                break;
            }
            let id = if self.hand < total { self.hand } else { 0 };
            self.hand = id + 1;
            if self.named(id) == Ref::None {
                continue;
            }
            if self.is_seen(id) {
                self.set_seen(id, false);
            } else {
                self.set_named(id, Ref::None);
                forgotten += 1;
            }
        }
        forgotten as u64
    }

    /// Gives back what only finds places.
    pub(crate) fn seal(&mut self) {
        self.index.clear();
        self.seen.truncate(0);
    }

    fn is_seen(&self, id: u32) -> bool {
        self.seen.at(id / 64) >> (id % 64) & 1 == 1
    }

    fn set_seen(&mut self, id: u32, seen: bool) {
        if let Some(word) = self.seen.get_mut(id / 64) {
            *word = *word & !(1 << (id % 64)) | u64::from(seen) << (id % 64);
        }
    }

    /// Keeps the marked places; `map` changes what their names refer to.
    pub(crate) fn compact(&mut self, marks: &Marks, map: impl Fn(Ref) -> Ref) {
        let mut to = 0;
        for id in 0..self.words.len() as u32 {
            if marks.has(id) {
                let seen = self.is_seen(id);
                self.set_seen(to, seen);
                to += 1;
            }
        }
        self.words.compact(marks, |word| word);
        self.owners.compact(marks, |owner| owner);
        self.named.compact(marks, |named| map(Ref::unpack(named)).pack());
        self.seen.truncate(self.words.len().div_ceil(64));
        self.hand = 0;
        let (seed, words, owners) = (self.seed, &self.words, &self.owners);
        self.index.rebuild(0..words.len() as u32, |id| hash(seed, owners.at(id), words.at(id)));
    }
}

/// Whose a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of(u32);

impl Of {
    pub(crate) const ALL: Of = Of(0);

    pub(crate) fn one(incarnation: Incarnation) -> Of {
        Of(incarnation.0)
    }

    pub(crate) fn incarnation(self) -> Option<Incarnation> {
        (self != Of::ALL).then_some(Incarnation(self.0))
    }
}

#[inline]
fn hash(seed: u64, owner: u32, word: u64) -> u64 {
    mix(seed ^ u64::from(owner) << 20, word)
}
