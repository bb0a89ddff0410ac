//! Texts: an arena of bytes in which a text is known by its position, and one with an index, which
//! keeps each text once.
//!
//! # Layout
//! Chunks of 16 KiB hold `length, bytes` one behind the other; the length is LEB128, one or two
//! bytes. The first chunk begins with 1 KiB and doubles, so that a few texts take little of a small
//! budget. A text's id is one more than the position of its length, so nothing is written down to
//! find it; ids grow in the order of pushing. An index takes 6 to 7.8 bytes a text more.
//!
//! Id 0 is the empty text and takes nothing.

use crate::budget::{Charge, Owner, Refused};
use crate::hash::Seed;
use crate::index::Index;

const CHUNK_BYTES: usize = 16 << 10;
const FIRST_BYTES: usize = 1 << 10;
/// A text and its length fit one chunk, and two LEB128 bytes say the length.
const MAX_BYTES: usize = CHUNK_BYTES - 2;
/// Ids stay below this: the bit is their holder's.
pub(crate) const ID_END: u32 = 1 << 31;

/// Texts by position.
#[derive(Debug)]
pub(crate) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Where the next text goes, in the last chunk.
    end: usize,
    /// Texts, the empty one not counted.
    n_texts: usize,
    /// Bytes of all texts, without lengths.
    text_bytes: u64,
    charge: Charge,
    owner: Owner,
}

/// Texts of which each is kept once.
#[derive(Debug)]
pub(crate) struct Strings {
    arena: Arena,
    index: Index,
}

impl Strings {
    pub(crate) fn new(owner: &Owner) -> Strings {
        Strings { arena: Arena::new(owner), index: Index::new(owner) }
    }

    /// Texts held, the empty one not counted.
    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }

    /// Bytes of the texts themselves.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.arena.text_bytes()
    }

    /// The id of a text, new or known, which the caller knows to be UTF-8 if it is shorter than
    /// 16,382 bytes; longer ones are cut.
    pub(crate) fn intern(&mut self, seed: &Seed, text: &[u8]) -> Result<u32, Refused> {
        let text = cut(text);
        if text.is_empty() {
            return Ok(0);
        }
        let arena = &self.arena;
        let vacant = match self.index.look_up(seed.text(text), |id| arena.bytes(id) == text) {
            Ok(id) => return Ok(id),
            Err(vacant) => vacant,
        };
        let vacant = self.index.reserve(vacant, entries(seed, arena))?;
        let id = self.arena.push(text)?;
        self.index.put(vacant, id);
        Ok(id)
    }

    pub(crate) fn get(&self, id: u32) -> &str {
        self.arena.get(id)
    }

    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.arena.bytes(id)
    }

    /// Gives back what only finds texts.
    pub(crate) fn seal(&mut self) {
        self.index.clear();
    }

    /// Keeps the texts of these ids, which are in order; the new id of each.
    pub(crate) fn compact(&mut self, seed: &Seed, ids: &[u32]) -> Vec<u32> {
        let mut moving = self.arena.begin_move();
        let new = ids.iter().map(|&id| self.arena.take_over(&mut moving, id)).collect();
        drop(moving);
        self.index.rebuild(self.arena.len(), entries(seed, &self.arena));
        new
    }
}

/// All texts, for their index.
fn entries<'a>(seed: &'a Seed, arena: &'a Arena) -> impl Iterator<Item = (u64, u32)> + 'a {
    arena.all().map(|(id, text)| (seed.text(text), id))
}

/// The beginning of a text that is too long, up to a character's end.
fn cut(text: &[u8]) -> &[u8] {
    if text.len() <= MAX_BYTES {
        return text;
    }
    match std::str::from_utf8(text) {
        Ok(text) => &text.as_bytes()[..text.floor_char_boundary(MAX_BYTES)],
        Err(_) => b"",
    }
}

const fn chunk_cost(n_bytes: usize) -> usize {
    n_bytes + size_of::<Box<[u8]>>()
}

impl Arena {
    pub(crate) fn new(owner: &Owner) -> Arena {
        Arena {
            chunks: Vec::new(),
            end: 0,
            n_texts: 0,
            text_bytes: 0,
            charge: owner.charge(),
            owner: owner.clone(),
        }
    }

    /// Texts held, the empty one not counted.
    pub(crate) fn len(&self) -> usize {
        self.n_texts
    }

    /// Bytes of the texts themselves.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Appends a text; its id, which is above all before it. Texts longer than 16,382 bytes are
    /// cut.
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<u32, Refused> {
        self.push_how(cut(text), false)
    }

    fn push_how(&mut self, text: &[u8], anyway: bool) -> Result<u32, Refused> {
        if text.is_empty() {
            return Ok(0);
        }
        let length_bytes = if text.len() < 0x80 { 1 } else { 2 };
        let needed = self.end + length_bytes + text.len();
        if self.chunks.last().is_none_or(|chunk| needed > chunk.len()) {
            self.make_room(needed, anyway)?;
        }
        let id = (self.chunks.len() - 1) * CHUNK_BYTES + self.end + 1;
        if let Some(to) = self.chunks.last_mut().and_then(|chunk| chunk.get_mut(self.end..)) {
            let (length, to) = to.split_at_mut(length_bytes);
            match length {
                [low, high] => {
                    *low = text.len() as u8 | 0x80;
                    *high = (text.len() >> 7) as u8;
                }
                _ => length.fill(text.len() as u8),
            }
            to[..text.len()].copy_from_slice(text);
            self.end += length_bytes + text.len();
        }
        self.n_texts += 1;
        self.text_bytes += text.len() as u64;
        Ok(id as u32)
    }

    /// A larger first chunk, where that will do, or another one.
    #[cold]
    fn make_room(&mut self, needed: usize, anyway: bool) -> Result<(), Refused> {
        let mut charge = |bytes: usize| {
            if anyway {
                self.charge.grow_anyway(bytes);
                return Ok(());
            }
            self.charge.grow(bytes)
        };
        match self.chunks.as_mut_slice() {
            [] | [_] if needed <= CHUNK_BYTES => {
                let n_bytes = needed.next_power_of_two().clamp(FIRST_BYTES, CHUNK_BYTES);
                let held = self.chunks.first().map_or(0, |first| chunk_cost(first.len()));
                charge(chunk_cost(n_bytes) - held)?;
                let mut bytes = Vec::with_capacity(n_bytes);
                bytes.extend_from_slice(self.chunks.first().map_or(&[][..], |first| first));
                bytes.resize(n_bytes, 0);
                self.chunks.clear();
                self.chunks.push(bytes.into_boxed_slice());
            }
            // 2 GiB of texts: ids end here.
            chunks if chunks.len() >= ID_END as usize / CHUNK_BYTES - 1 => {
                let owner = self.owner.held().owner;
                return Err(Refused { owner, asked_bytes: 0, free_bytes: 0 });
            }
            _ => {
                charge(chunk_cost(CHUNK_BYTES))?;
                self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
                self.end = 0;
            }
        }
        Ok(())
    }

    /// All texts from the first on, with their ids.
    fn all(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.chunks.iter().zip(0..).flat_map(|(chunk, number)| {
            let mut at = 0;
            std::iter::from_fn(move || {
                let text = text_at(chunk, at).filter(|text| !text.is_empty())?;
                let id = number * CHUNK_BYTES + at + 1;
                at += text.len() + if text.len() < 0x80 { 1 } else { 2 };
                Some((id as u32, text))
            })
        })
    }

    pub(crate) fn get(&self, id: u32) -> &str {
        // What was pushed was a str; checking costs less than a reason to trust it.
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        text_in(&self.chunks, id)
    }

    /// Begins to move what stays to a new arena.
    pub(crate) fn begin_move(&mut self) -> Moving {
        let old = std::mem::replace(self, Arena::new(&self.owner));
        Moving { old, n_left: 0 }
    }

    /// Moves a text; its new id. To be called with old ids that grow.
    pub(crate) fn take_over(&mut self, moving: &mut Moving, id: u32) -> u32 {
        let Moving { old, n_left } = moving;
        // One chunk at a time is freed as its texts have moved.
        let number = (id.saturating_sub(1) as usize / CHUNK_BYTES).min(old.chunks.len());
        while *n_left < number {
            if let Some(chunk) = old.chunks.get_mut(*n_left) {
                old.charge.shrink(chunk.len());
                *chunk = Box::default();
            }
            *n_left += 1;
        }
        // A forced push is never refused.
        self.push_how(old.bytes(id), true).unwrap_or_default()
    }
}

/// An arena whose texts are being moved to another one.
#[derive(Debug)]
pub(crate) struct Moving {
    old: Arena,
    /// Chunks that all left.
    n_left: usize,
}

#[inline]
fn text_in(chunks: &[Box<[u8]>], id: u32) -> &[u8] {
    let Some(position) = id.checked_sub(1) else { return b"" };
    let position = position as usize;
    let chunk = chunks.get(position / CHUNK_BYTES);
    chunk.and_then(|chunk| text_at(chunk, position % CHUNK_BYTES)).unwrap_or_default()
}

/// The text whose length stands at some place of a chunk.
#[inline]
fn text_at(chunk: &[u8], at: usize) -> Option<&[u8]> {
    let (&low, rest) = chunk.get(at..)?.split_first()?;
    let (len, rest) = match low {
        0..0x80 => (usize::from(low), rest),
        _ => {
            let (&high, rest) = rest.split_first()?;
            (usize::from(low & 0x7f) | usize::from(high) << 7, rest)
        }
    };
    rest.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn name(i: u32) -> String {
        format!("com.example.Service{i}::{}", "x".repeat((i as usize * 37) % 200))
    }

    fn intern(strings: &mut Strings, seed: &Seed, text: &str) -> Result<u32, Refused> {
        strings.intern(seed, text.as_bytes())
    }

    #[test]
    fn texts_are_kept_once_and_survive_compaction() {
        let budget = Budget::new(u64::MAX);
        let seed = Seed::default();
        let mut strings = Strings::new(&budget.owner("strings"));
        assert_eq!(budget.used_bytes(), 0, "nothing before the first text");
        let add = |strings: &mut Strings| -> Vec<u32> {
            (0..5_000).map(|i| intern(strings, &seed, &name(i)).unwrap()).collect()
        };
        let ids = add(&mut strings);
        assert!(ids.is_sorted() && add(&mut strings) == ids);
        assert_eq!(strings.len(), 5_000);
        assert_eq!(intern(&mut strings, &seed, "").unwrap(), 0);
        for (i, &id) in (0..).zip(&ids) {
            assert_eq!(strings.get(id), name(i));
        }
        assert_eq!((strings.get(0), strings.get(u32::MAX)), ("", ""));
        let overhead = budget.used_bytes() as f64 - strings.text_bytes() as f64;
        assert!(overhead / 5_000.0 < 11.0, "{} bytes a text", overhead / 5_000.0);

        let kept: Vec<u32> = ids.iter().copied().step_by(7).collect();
        let before = budget.used_bytes();
        let new = strings.compact(&seed, &kept);
        assert!(budget.used_bytes() < before / 5);
        for (i, &id) in (0..5_000).step_by(7).zip(&new) {
            assert_eq!(strings.get(id), name(i));
            assert_eq!(intern(&mut strings, &seed, &name(i)).unwrap(), id);
        }
        assert_eq!(strings.len(), 5_000usize.div_ceil(7));
        drop(strings);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_full_budget_refuses_and_keeps_what_is_there() {
        let budget = Budget::new(100_000);
        let seed = Seed::default();
        let mut strings = Strings::new(&budget.owner("strings"));
        let mut kept = Vec::new();
        let refused = loop {
            match intern(&mut strings, &seed, &name(kept.len() as u32)) {
                Ok(id) => kept.push(id),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.owner, "strings");
        assert!(kept.len() > 500 && budget.used_bytes() <= 100_000);
        for (i, &id) in (0..).zip(&kept) {
            assert_eq!(intern(&mut strings, &seed, &name(i)).unwrap(), id);
        }
    }

    #[test]
    fn the_longest_text_is_cut_at_a_character() {
        let budget = Budget::new(u64::MAX);
        let seed = Seed::default();
        let mut strings = Strings::new(&budget.owner("strings"));
        let id = intern(&mut strings, &seed, &"€".repeat(10_000)).unwrap();
        assert_eq!(strings.get(id).len(), 16_380);
    }
}
