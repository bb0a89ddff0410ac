//! Look-ups of one frame by its words, without a stack: what it is called, if that is known.
//!
//! In: words of one frame. Out: its frames by value or their numbers, innermost first. What is looked up
//! counts as used and stays longer.
//!
//! # Cost
//! One look-up; no string is read.

use super::Store;
use crate::dynamic::Incarnation;
use crate::names::Frame;
use crate::places::Of;
use crate::refs::Ref;
use crate::wire::{self, Raw};

impl Store {
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
}
