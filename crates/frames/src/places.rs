//! The lookup cache of static code: (file, offset) words, shared by all processes, and addresses
//! in no file, which one process has for itself.
//!
//! A place is 16 bytes (its word, whose it is, how often it was met lately, and a reference to its
//! names or none) and 6 to 8 in the index. It begins as not met: names that a scan brings go before
//! those that are met again.
//! Its number stands in the tree of stacks, because exporters need the address; its names may go
//! at any time, since the file has them.

use crate::budget::{Budget, Refused};
use crate::column::Column;
use crate::dynamic::Incarnation;
use crate::hash::mix;
use crate::index::Index;
use crate::marks::Marks;
use crate::refs::Ref;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    word: u64,
    /// Number of the incarnation, 0: everybody's; and how often the place was met lately.
    owner: u32,
    named: u32,
}

/// A meeting; the bits of incarnations end below it.
const MET: u32 = 1 << 30;
/// A place was met this often, or more.
const MET_MOST: u32 = 3 * MET;

impl Place {
    #[inline]
    fn of(self) -> u32 {
        self.owner & (MET - 1)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Places {
    rows: Column<Place>,
    index: Index,
    /// Where the search for cold names goes on.
    hand: u32,
    seed: u64,
}

impl Places {
    pub(crate) fn new(budget: &Budget, seed: u64) -> Places {
        let owner = budget.owner("lookup.static");
        Places { rows: Column::new(&owner), index: Index::new(&owner), hand: 0, seed }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    #[inline]
    pub(crate) fn find(&mut self, of: Of, word: u64) -> Option<u32> {
        let rows = &self.rows;
        let is = |id| rows.get(id).is_some_and(|row| row.word == word && row.of() == of.0);
        let id = self.index.find(hash(self.seed, of.0, word), is)?;
        if let Some(row) = self.rows.get_mut(id)
            && row.owner < MET_MOST
        {
            row.owner += MET;
        }
        Some(id)
    }

    /// The names of a place that is known.
    #[inline]
    pub(crate) fn find_named(&mut self, of: Of, word: u64) -> Option<Ref> {
        let id = self.find(of, word)?;
        Some(self.named(id))
    }

    /// The number of a place, new or known.
    pub(crate) fn insert(&mut self, of: Of, word: u64) -> Result<u32, Refused> {
        let (seed, rows) = (self.seed, &self.rows);
        let is = |id| rows.get(id).is_some_and(|row| row.word == word && row.of() == of.0);
        let vacant = match self.index.look_up(hash(seed, of.0, word), is) {
            Ok(id) => return Ok(id),
            Err(vacant) => vacant,
        };
        let vacant = self.index.reserve(vacant, entries(seed, rows))?;
        let named = Ref::None.pack();
        let id = self.rows.push(Place { word, owner: of.0, named })?;
        self.index.put(vacant, id);
        Ok(id)
    }

    pub(crate) fn word(&self, id: u32) -> u64 {
        self.rows.at(id).word
    }

    pub(crate) fn of(&self, id: u32) -> Of {
        Of(self.rows.at(id).of())
    }

    #[inline]
    pub(crate) fn named(&self, id: u32) -> Ref {
        Ref::unpack(self.rows.get(id).map_or(u32::MAX, |row| row.named))
    }

    pub(crate) fn set_named(&mut self, id: u32, named: Ref) {
        if let Some(row) = self.rows.get_mut(id) {
            row.named = named.pack();
        }
    }

    /// Words without names, of those that all processes share or of the others with whose they are.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = (Of, u64)> + '_ {
        let none = Ref::None.pack();
        self.rows.iter().filter(move |row| row.named == none).map(|row| (Of(row.of()), row.word))
    }

    /// Forgets the names of up to `n` places that were met least since the hand passed them last;
    /// how many.
    pub(crate) fn forget_cold_names(&mut self, n: usize) -> u64 {
        let total = self.rows.len() as u32;
        let mut forgotten = 0;
        for _ in 0..4 * u64::from(total) {
            if forgotten == n {
                break;
            }
            let id = if self.hand < total { self.hand } else { 0 };
            self.hand = id + 1;
            if let Some(row) = self.rows.get_mut(id)
                && row.named != Ref::None.pack()
            {
                if row.owner >= MET {
                    row.owner -= MET;
                } else {
                    row.named = Ref::None.pack();
                    forgotten += 1;
                }
            }
        }
        forgotten as u64
    }

    /// Gives back what only finds places.
    pub(crate) fn seal(&mut self) {
        self.index.clear();
    }

    /// Keeps the marked places; `map` changes what their names refer to.
    pub(crate) fn compact(&mut self, marks: &Marks, map: impl Fn(Ref) -> Ref) {
        let renamed = |row: Place| Place { named: map(Ref::unpack(row.named)).pack(), ..row };
        let before = self.rows.len();
        self.rows.compact(marks, renamed);
        if self.rows.len() == before {
            // Nothing moved.
            return;
        }
        self.hand = 0;
        let (seed, rows) = (self.seed, &self.rows);
        self.index.rebuild(rows.len(), entries(seed, rows));
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

/// All places, for their index.
fn entries(seed: u64, rows: &Column<Place>) -> impl Iterator<Item = (u64, u32)> + '_ {
    rows.iter().zip(0..).map(move |(row, id)| (hash(seed, row.of(), row.word), id))
}
