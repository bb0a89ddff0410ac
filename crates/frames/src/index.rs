//! An index from a value's hash to its id, where the value itself stands in a table.
//!
//! # Layout
//! A bucket is one cache line: sixteen bytes of tags, of which twelve are used, and twelve ids. A
//! bucket fills from its first slot up; what finds its bucket full goes to the next one that is
//! not. A look-up reads one line, compares all tags at once, and touches the table only where one
//! agrees: two cache misses for a value that is there, one for most that are not. One that finds
//! nothing knows where the value will stand, so that adding it searches no more.
//!
//! # Growth
//! Loads are kept between 11/16 and 11/12: 6 to 7.8 bytes an entry. The index keeps no hashes: who
//! holds the table gives all entries again in the order of its rows, which memory gives fast, and
//! they are laid out in place of the old ones, never the index twice. 10 to 20 ns an entry, and each
//! is laid out three to four times in all. A small index is one bucket.

use crate::budget::{Charge, Owner, Refused};
use crate::hash::{after, home};

/// Slots of a bucket that are used.
const SLOTS: usize = 12;
const BUCKET_BYTES: usize = size_of::<Bucket>();
const EMPTY: u8 = 0;

const _: () = assert!(BUCKET_BYTES == 64, "a bucket is a cache line");

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    len: usize,
    charge: Charge,
}

/// Where a value that is not there would stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vacant {
    hash: u64,
    at: usize,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; 16],
    ids: [u32; SLOTS],
}

impl Index {
    pub(crate) fn new(owner: &Owner) -> Index {
        Index { buckets: Box::default(), len: 0, charge: owner.charge() }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// The id with this hash that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.look_up(hash, is).ok()
    }

    /// The same, or where to add it.
    #[inline]
    pub(crate) fn look_up(
        &self,
        hash: u64,
        mut is: impl FnMut(u32) -> bool,
    ) -> Result<u32, Vacant> {
        let tag = tag_of(hash);
        let mut at = home(hash, self.buckets.len());
        // Loads stay below 1, so the probe ends; the bound is for the reader.
        for _ in 0..self.buckets.len() {
            let Some(bucket) = self.buckets.get(at) else { break };
            let mut agree = bucket.agree(tag);
            while agree != 0 {
                let id = bucket.ids[agree.trailing_zeros() as usize / 8 % SLOTS];
                if is(id) {
                    return Ok(id);
                }
                agree &= agree - 1;
            }
            if !bucket.is_full() {
                break;
            }
            at = after(at, self.buckets.len());
        }
        Err(Vacant { hash, at })
    }

    /// Gives everything back: nothing is found any more.
    pub(crate) fn clear(&mut self) {
        self.buckets = Box::default();
        self.len = 0;
        self.charge.shrink(self.charge.bytes() as usize);
    }

    /// Makes sure that the value can be added. `entries`: all (hash, id) that were, asked for where
    /// the index grows.
    #[inline]
    pub(crate) fn reserve(
        &mut self,
        vacant: Vacant,
        entries: impl Iterator<Item = (u64, u32)>,
    ) -> Result<Vacant, Refused> {
        if self.len < self.buckets.len() * FULL {
            return Ok(vacant);
        }
        self.grow(entries)?;
        Ok(Vacant { at: self.vacant_at(vacant.hash), ..vacant })
    }

    /// Adds a value, for which there is room.
    #[inline]
    pub(crate) fn put(&mut self, vacant: Vacant, id: u32) {
        if let Some(bucket) = self.buckets.get_mut(vacant.at) {
            bucket.push(tag_of(vacant.hash), id);
            self.len += 1;
        }
    }

    #[inline]
    fn vacant_at(&self, hash: u64) -> usize {
        let mut at = home(hash, self.buckets.len());
        while self.buckets.get(at).is_some_and(Bucket::is_full) {
            at = after(at, self.buckets.len());
        }
        at
    }

    #[cold]
    fn grow(&mut self, entries: impl Iterator<Item = (u64, u32)>) -> Result<(), Refused> {
        let before = self.buckets.len();
        let more =
            |part: usize| (before / part + 1).max((self.len / FULL + 1).saturating_sub(before));
        // A third more; where memory is short, little more.
        let mut n_more = more(3);
        if self.charge.grow(n_more * BUCKET_BYTES).is_err() {
            n_more = more(32);
            self.charge.grow(n_more * BUCKET_BYTES)?;
        }
        self.lay_out(before + n_more, entries);
        Ok(())
    }

    /// Builds the index anew over `n` entries, as tightly as its loads allow. Never refused: it
    /// takes no more than before, or replaces what a sweep freed.
    pub(crate) fn rebuild(&mut self, n: usize, entries: impl Iterator<Item = (u64, u32)>) {
        let n_buckets = n.div_ceil(FULL);
        self.charge.shrink(self.charge.bytes() as usize);
        self.charge.grow_anyway(n_buckets * BUCKET_BYTES);
        self.lay_out(n_buckets, entries);
    }

    fn lay_out(&mut self, n_buckets: usize, mut entries: impl Iterator<Item = (u64, u32)>) {
        // The old ones go first.
        self.buckets = Box::default();
        self.buckets = vec![Bucket::default(); n_buckets].into();
        self.len = 0;
        // Some at a time: reading rows and writing buckets wait for memory apart.
        let mut some = [(0, 0); 32];
        loop {
            let mut n = 0;
            for (slot, entry) in some.iter_mut().zip(&mut entries) {
                *slot = entry;
                n += 1;
            }
            for &(hash, id) in &some[..n] {
                self.put(Vacant { hash, at: self.vacant_at(hash) }, id);
            }
            if n < some.len() {
                break;
            }
        }
    }
}

/// Entries a bucket has on average when its index is full.
const FULL: usize = 11;

/// A one in each byte of the twelve slots.
const ONES: u128 = 0x0101_0101_0101_0101_0101_0101;

impl Bucket {
    /// Slots whose tag is this one, a bit at eight times the slot's number; now and then one more,
    /// which the table's row refutes.
    #[inline]
    fn agree(&self, tag: u8) -> u128 {
        let differ = u128::from_le_bytes(self.tags) ^ (u128::from(tag) * ONES);
        differ.wrapping_sub(ONES) & !differ & (ONES << 7)
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.tags[SLOTS - 1] != EMPTY
    }

    /// Slots in use, by the lowest byte that is zero: those above the twelve always are.
    #[inline]
    fn n_used(&self) -> usize {
        const ALL: u128 = ONES << 32 | ONES;
        let tags = u128::from_le_bytes(self.tags);
        (tags.wrapping_sub(ALL) & !tags & (ALL << 7)).trailing_zeros() as usize / 8
    }

    fn push(&mut self, tag: u8, id: u32) {
        let at = self.n_used().min(SLOTS - 1);
        self.tags[at] = tag;
        self.ids[at] = id;
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 40) as u8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::hash::mix;

    fn insert(index: &mut Index, ids: std::ops::RangeInclusive<u32>, hash_of: fn(u32) -> u64) {
        let id = *ids.end();
        let before = (*ids.start()..id).map(|id| (hash_of(id), id));
        let vacant = index.look_up(hash_of(id), |found| found == id).expect_err("a new one");
        let vacant = index.reserve(vacant, before).expect("room");
        index.put(vacant, id);
    }

    #[test]
    fn finds_what_was_put_and_nothing_else_at_seven_bytes_an_entry() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        let hash_of = |id: u32| mix(7, u64::from(id));
        let (mut sum, mut n) = (0.0, 0.0);
        for id in 0..200_000u32 {
            insert(&mut index, 0..=id, hash_of);
            if id > 20_000 {
                let each = index.bytes() as f64 / f64::from(id + 1);
                assert!((5.8..7.9).contains(&each), "{each} bytes at {id}");
                sum += each;
                n += 1.0;
            }
        }
        assert!(sum / n < 6.8, "{} bytes an entry on average", sum / n);
        for id in 0..200_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), Some(id));
        }
        for id in 200_000..300_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), None);
        }
        let before = index.bytes();
        let third = (0..200_000).step_by(3).map(|id| (hash_of(id), id));
        index.rebuild(third.len(), third);
        assert!(index.bytes() < before / 2);
        for id in 0..200_000 {
            let expect = (id % 3 == 0).then_some(id);
            assert_eq!(index.find(hash_of(id), |found| found == id), expect);
        }
        assert_eq!(index.len(), 66_667);
        assert_eq!(budget.used_bytes(), index.bytes());
        index.clear();
        assert_eq!((index.find(hash_of(0), |_| true), budget.used_bytes()), (None, 0));
    }

    /// A small index takes little: what a small budget has for it.
    #[test]
    fn a_small_index_takes_a_few_cache_lines() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        let hash_of = |id: u32| mix(3, u64::from(id));
        for id in 0..5_000u32 {
            insert(&mut index, 0..=id, hash_of);
            assert!(index.bytes() <= 8 * u64::from(id) + 130, "{} at {id}", index.bytes());
            assert_eq!(index.find(hash_of(id / 2), |found| found == id / 2), Some(id / 2));
        }
    }

    /// A rebuilt index of a few slots once never grew, and the next insert did not end.
    #[test]
    fn a_rebuilt_index_grows_again() {
        let budget = Budget::new(u64::MAX);
        let hash_of = |id: u32| mix(7, u64::from(id));
        for n in 0..300 {
            let mut index = Index::new(&budget.owner("index"));
            index.rebuild(n as usize, (0..n).map(|id| (hash_of(id), id)));
            for id in n..n + 600 {
                insert(&mut index, 0..=id, hash_of);
            }
            assert_eq!(index.len() as u32, n + 600);
            assert!((0..n + 600).all(|id| index.find(hash_of(id), |f| f == id) == Some(id)));
        }
    }

    /// What is refused changes nothing, and where a third more does not fit, a little may.
    #[test]
    fn without_room() {
        let budget = Budget::new(4096);
        let mut index = Index::new(&budget.owner("index"));
        let hash_of = |id: u32| mix(9, u64::from(id));
        let mut n = 0;
        let refused = loop {
            let vacant = index.look_up(hash_of(n), |found| found == n).expect_err("a new one");
            match index.reserve(vacant, (0..n).map(|id| (hash_of(id), id))) {
                Ok(vacant) => index.put(vacant, n),
                Err(refused) => break refused,
            }
            n += 1;
        };
        assert_eq!(refused.owner, "index");
        assert!(n as usize > (4096 / BUCKET_BYTES - 2) * FULL, "{n}");
        assert!((0..n).all(|id| index.find(hash_of(id), |found| found == id) == Some(id)));
        assert_eq!(index.find(hash_of(n), |found| found == n), None);
    }

    /// All hashes equal: slow, but right, and it ends.
    #[test]
    fn equal_hashes_still_tell_apart() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        for id in 0..100 {
            insert(&mut index, 0..=id, |_| 5);
        }
        for id in (0..100).rev() {
            assert_eq!(index.find(5, |found| found == id), Some(id));
        }
    }
}
