//! Every text once: an arena of bytes and dense ids.
//!
//! # Layout
//! Chunks of 16 KiB hold `length, bytes` one behind the other; the length is LEB128, one or two
//! bytes. A length of 0 says that the rest of the chunk is empty and the next text begins the next
//! chunk. The first chunk begins with 1 KiB and doubles, so that a few texts take little of a small
//! budget. Only each fourth text has its position written down; one of the three behind it is found
//! by skipping. That costs 2 to 3 bytes a text, and 6 to 8 in the index.
//!
//! Id 0 is the empty text and takes nothing.

use crate::budget::{Charge, Owner, Refused};
use crate::column::Column;
use crate::hash::Seed;
use crate::index::Index;
use crate::marks::Marks;

const CHUNK_BYTES: usize = 16 << 10;
const FIRST_BYTES: usize = 1 << 10;
const GROUP: u32 = 4;
/// A text and its length fit one chunk, and two LEB128 bytes say the length.
const MAX_BYTES: usize = CHUNK_BYTES - 2;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Strings {
    arena: Arena,
    index: Index,
    owner: Owner,
}

#[derive(Debug)]
struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Where the next text goes, in the last chunk.
    end: usize,
    /// Positions of the texts 1, 5, 9, …
    groups: Column<u32>,
    /// Texts, the empty one not counted.
    n_texts: u32,
    /// Bytes of all texts, without lengths.
    text_bytes: u64,
    charge: Charge,
}

impl Strings {
    pub(crate) fn new(owner: &Owner) -> Strings {
        Strings { arena: Arena::new(owner), index: Index::dense(owner, 1), owner: owner.clone() }
    }

    /// Texts held, the empty one not counted.
    pub(crate) fn len(&self) -> usize {
        self.arena.n_texts as usize
    }

    /// Bytes of the texts themselves.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.arena.text_bytes
    }

    /// The id of a text, new or known. Texts longer than 16,382 bytes are cut.
    pub(crate) fn intern(&mut self, seed: &Seed, text: &str) -> Result<u32, Refused> {
        self.intern_utf8(seed, &text.as_bytes()[..text.floor_char_boundary(MAX_BYTES)])
    }

    /// The same for a text of at most 16,382 bytes that the caller knows to be UTF-8.
    pub(crate) fn intern_utf8(&mut self, seed: &Seed, text: &[u8]) -> Result<u32, Refused> {
        if text.is_empty() {
            return Ok(0);
        }
        let hash = seed.text(text);
        if let Some(id) = self.index.find(hash, |id| self.arena.bytes(id) == text) {
            return Ok(id);
        }
        {
            // Read in their order, texts need no search.
            let mut in_order = self.arena.all();
            self.index.reserve(hash, |_| in_order.next().map_or(0, |text| seed.text(text)))?;
        }
        let id = self.arena.push(text, false)?;
        let arena = &self.arena;
        self.index.insert(hash, id, |id| seed.text(arena.bytes(id)))?;
        Ok(id)
    }

    pub(crate) fn get(&self, id: u32) -> &str {
        self.arena.get(id)
    }

    /// Gives back what only finds texts.
    pub(crate) fn seal(&mut self) {
        self.index.clear();
    }

    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        self.arena.bytes(id)
    }

    pub(crate) fn marks(&self) -> Marks {
        let mut marks = Marks::new(self.len() + 1);
        marks.mark(0);
        marks
    }

    /// Keeps the marked texts; their ids become `marks.new_id`.
    pub(crate) fn compact(&mut self, seed: &Seed, marks: &Marks) {
        if marks.count() == self.len() + 1 {
            return;
        }
        let mut old = std::mem::replace(&mut self.arena, Arena::new(&self.owner));
        let mut id = 0;
        let mut chunks = std::mem::take(&mut old.chunks).into_iter();
        // One chunk at a time is freed as its texts have moved.
        for chunk in &mut chunks {
            for text in texts_of(&chunk) {
                id += 1;
                if id <= old.n_texts && marks.has(id) {
                    self.arena.push_anyway(text);
                }
            }
            old.charge.shrink(chunk_cost(chunk.len()));
        }
        drop(old);
        let arena = &self.arena;
        self.index.rebuild(1..arena.n_texts + 1, |id| seed.text(arena.bytes(id)));
    }
}

const fn chunk_cost(n_bytes: usize) -> usize {
    n_bytes + size_of::<Box<[u8]>>()
}

impl Arena {
    fn new(owner: &Owner) -> Arena {
        Arena {
            chunks: Vec::new(),
            end: 0,
            groups: Column::new(owner),
            n_texts: 0,
            text_bytes: 0,
            charge: owner.charge(),
        }
    }

    fn push(&mut self, text: &[u8], anyway: bool) -> Result<u32, Refused> {
        let length_bytes = if text.len() < 0x80 { 1 } else { 2 };
        if !anyway && self.n_texts.is_multiple_of(GROUP) {
            self.groups.reserve_one()?;
        }
        let needed = self.end + length_bytes + text.len();
        if self.chunks.last().is_none_or(|chunk| needed > chunk.len()) {
            self.make_room(needed, anyway)?;
        }
        let position = (self.chunks.len() - 1) * CHUNK_BYTES + self.end;
        if self.n_texts.is_multiple_of(GROUP) {
            if anyway {
                self.groups.push_anyway(position as u32);
            } else {
                self.groups.push(position as u32)?;
            }
        }
        let mut record = [0u8; 2];
        record[0] = text.len() as u8;
        if length_bytes == 2 {
            record = [text.len() as u8 | 0x80, (text.len() >> 7) as u8];
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let body = self.end + length_bytes;
            if let Some(slot) = chunk.get_mut(self.end..body) {
                slot.copy_from_slice(&record[..length_bytes]);
            }
            if let Some(slot) = chunk.get_mut(body..body + text.len()) {
                slot.copy_from_slice(text);
            }
            self.end = body + text.len();
        }
        self.n_texts += 1;
        self.text_bytes += text.len() as u64;
        Ok(self.n_texts)
    }

    /// A larger first chunk, where that will do, or another one.
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
            _ => {
                charge(chunk_cost(CHUNK_BYTES))?;
                self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
                self.end = 0;
            }
        }
        Ok(())
    }

    fn push_anyway(&mut self, text: &[u8]) {
        // A forced push is never refused.
        let _ = self.push(text, true);
    }

    /// All texts from the first on.
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().flat_map(|chunk| texts_of(chunk))
    }

    fn get(&self, id: u32) -> &str {
        // What was pushed was a str; checking costs less than a reason to trust it.
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }

    fn bytes(&self, id: u32) -> &[u8] {
        if id == 0 || id > self.n_texts {
            return b"";
        }
        let number = id - 1;
        let position = self.groups.at(number / GROUP) as usize;
        let mut chunk = position / CHUNK_BYTES;
        let mut texts =
            self.chunks.get(chunk).map(|c| Texts { rest: &c[position % CHUNK_BYTES..] });
        let mut left = number % GROUP;
        loop {
            match texts.as_mut().and_then(Texts::next) {
                Some(text) if left == 0 => return text,
                Some(_) => left -= 1,
                None => {
                    chunk += 1;
                    texts = match self.chunks.get(chunk) {
                        Some(c) => Some(Texts { rest: c }),
                        None => return b"",
                    };
                }
            }
        }
    }
}

fn texts_of(chunk: &[u8]) -> Texts<'_> {
    Texts { rest: chunk }
}

/// The texts from some point of a chunk on.
struct Texts<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&low, rest) = self.rest.split_first()?;
        let (len, rest) = match low {
            0 => return None,
            1..0x80 => (usize::from(low), rest),
            _ => {
                let (&high, rest) = rest.split_first()?;
                (usize::from(low & 0x7f) | usize::from(high) << 7, rest)
            }
        };
        let (text, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn name(i: u32) -> String {
        format!("com.example.Service{i}::{}", "x".repeat((i as usize * 37) % 200))
    }

    #[test]
    fn texts_are_kept_once_and_survive_compaction() {
        let budget = Budget::new(u64::MAX);
        let seed = Seed::default();
        let mut strings = Strings::new(&budget.owner("strings"));
        assert_eq!(budget.used_bytes(), 0, "nothing before the first text");
        for round in 0..2 {
            for i in 0..5_000 {
                assert_eq!(strings.intern(&seed, &name(i)).unwrap(), i + 1, "round {round}");
            }
        }
        assert_eq!(strings.intern(&seed, "").unwrap(), 0);
        for i in 0..5_000 {
            assert_eq!(strings.get(i + 1), name(i));
        }
        assert_eq!((strings.get(0), strings.get(5_001), strings.get(u32::MAX)), ("", "", ""));
        let overhead = budget.used_bytes() as f64 - strings.text_bytes() as f64;
        assert!(overhead / 5_000.0 < 13.0, "{} bytes a text", overhead / 5_000.0);

        let mut marks = strings.marks();
        for i in (0..5_000).step_by(7) {
            marks.mark(i + 1);
        }
        marks.rank();
        let before = budget.used_bytes();
        strings.compact(&seed, &marks);
        assert!(budget.used_bytes() < before / 5);
        for i in (0..5_000).step_by(7) {
            let id = marks.new_id(i + 1).unwrap();
            assert_eq!(strings.get(id), name(i));
            assert_eq!(strings.intern(&seed, &name(i)).unwrap(), id);
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
        let mut kept = 0;
        let refused = loop {
            match strings.intern(&seed, &name(kept)) {
                Ok(_) => kept += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.owner, "strings");
        assert!(kept > 500 && budget.used_bytes() <= 100_000);
        for i in 0..kept {
            assert_eq!(strings.intern(&seed, &name(i)).unwrap(), i + 1);
        }
    }

    #[test]
    fn the_longest_text_is_cut_at_a_character() {
        let budget = Budget::new(u64::MAX);
        let seed = Seed::default();
        let mut strings = Strings::new(&budget.owner("strings"));
        let id = strings.intern(&seed, &"€".repeat(10_000)).unwrap();
        assert_eq!(strings.get(id).len(), 16_380);
    }
}
