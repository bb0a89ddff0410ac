//! An index from a value's hash to its dense id, where the value itself stands in a table.
//!
//! # Layout
//! A bucket is one cache line: sixteen bytes of tags, of which twelve are used, and twelve ids. A
//! bucket fills from its first slot up; what finds its bucket full goes to the next one that is
//! not. A look-up reads one line, compares all tags at once, and touches the table only where one
//! agrees: two cache misses for a value that is there, one for most that are not.
//!
//! # Growth
//! Loads are kept between 2/3 and 11/12: 6 to 8 bytes an entry, 6.8 on average. Growing needs the
//! hash of every entry again. Where the ids are those of all rows of a table, the index is laid out
//! anew from the rows in their order, which memory gives fast, in place of the old one: 10 to 20 ns
//! an entry, and never the index twice. Where they are not, the index is cut into shards that grow
//! one at a time and at different moments. A small index is one bucket.

use crate::budget::{Charge, Owner, Refused};
use crate::hash::{after, home, shard_of};

/// Slots of a bucket that are used.
const SLOTS: usize = 12;
const BUCKET_BYTES: usize = size_of::<Bucket>();
/// Shards: 2^0, 2^3 or 2^6, so that each has a few buckets at least.
const SHARD_STEP: u32 = 3;
const MAX_SHARD_BITS: u32 = 6;
/// Entries of a shard, on average, above which there are more shards.
const SHARD_ENTRIES: usize = 48;
const EMPTY: u8 = 0;

const _: () = assert!(BUCKET_BYTES == 64, "a bucket is a cache line");

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<Shard>,
    shard_bits: u32,
    len: usize,
    charge: Charge,
    /// The first id, where the ids are dense: all from this one on.
    dense_from: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; 16],
    ids: [u32; SLOTS],
}

#[derive(Debug, Default)]
struct Shard {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Index {
    pub(crate) fn new(owner: &Owner) -> Index {
        Index {
            shards: Vec::new(),
            shard_bits: 0,
            len: 0,
            charge: owner.charge(),
            dense_from: None,
        }
    }

    /// An index of ids that are given out one after the other from `first` on, and are taken out
    /// by a rebuild only.
    pub(crate) fn dense(owner: &Owner, first: u32) -> Index {
        Index { dense_from: Some(first), ..Index::new(owner) }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        shard_of(hash, self.shard_bits)
    }

    /// The id with this hash that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get(self.shard_of(hash))?;
        let tag = tag_of(hash);
        let mut at = home(hash, shard.buckets.len());
        // Loads stay below 1, so the probe ends; the bound is for the reader.
        for _ in 0..shard.buckets.len() {
            let bucket = shard.buckets.get(at)?;
            let mut agree = bucket.agree(tag);
            while agree != 0 {
                let id = bucket.ids[agree.trailing_zeros() as usize / 8 % SLOTS];
                if is(id) {
                    return Some(id);
                }
                agree &= agree - 1;
            }
            if !bucket.is_full() {
                return None;
            }
            at = after(at, shard.buckets.len());
        }
        None
    }

    /// Gives everything back: nothing is found any more.
    pub(crate) fn clear(&mut self) {
        self.shards = Vec::new();
        self.shard_bits = 0;
        self.len = 0;
        self.charge.shrink(self.charge.bytes() as usize);
    }

    /// Adds an id that is not there. `hash_of` gives the hash of ids that were added before.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        id: u32,
        hash_of: impl FnMut(u32) -> u64,
    ) -> Result<(), Refused> {
        self.reserve(hash, hash_of)?;
        self.put(hash, id);
        Ok(())
    }

    /// Makes sure that inserting this hash cannot be refused. A dense index asks `hash_of` for each
    /// id once, in order.
    #[inline]
    pub(crate) fn reserve(
        &mut self,
        hash: u64,
        hash_of: impl FnMut(u32) -> u64,
    ) -> Result<(), Refused> {
        match self.shards.get(self.shard_of(hash)) {
            Some(shard) if !shard.is_full() => Ok(()),
            _ => self.grow(hash, hash_of),
        }
    }

    #[cold]
    fn grow(&mut self, hash: u64, mut hash_of: impl FnMut(u32) -> u64) -> Result<(), Refused> {
        if self.shards.is_empty() {
            self.charge.grow(size_of::<Shard>())?;
            self.shards.push(Shard::default());
        }
        if let Some(first) = self.dense_from {
            return self.grow_dense(first, hash_of);
        }
        if self.shard_bits < MAX_SHARD_BITS
            && self.len >= SHARD_ENTRIES << (self.shard_bits + SHARD_STEP)
        {
            self.split(&mut hash_of)?;
        }
        let number = self.shard_of(hash);
        if let Some(shard) = self.shards.get_mut(number)
            && shard.is_full()
        {
            let n_buckets = shard.next_size();
            self.charge.grow(n_buckets * BUCKET_BYTES)?;
            let freed = shard.resize(n_buckets, hash_of);
            self.charge.shrink(freed * BUCKET_BYTES);
        }
        Ok(())
    }

    fn grow_dense(
        &mut self,
        first: u32,
        mut hash_of: impl FnMut(u32) -> u64,
    ) -> Result<(), Refused> {
        let Some(shard) = self.shards.first_mut() else { return Ok(()) };
        let before = shard.buckets.len();
        let more =
            |part: usize| (before / part + 1).max((shard.len / FULL + 1).saturating_sub(before));
        // A quarter more; where memory is short, little more.
        let mut n_more = more(4);
        if self.charge.grow(n_more * BUCKET_BYTES).is_err() {
            n_more = more(32);
            self.charge.grow(n_more * BUCKET_BYTES)?;
        }
        let n = shard.len as u32;
        *shard = Shard::default();
        shard.buckets = vec![Bucket::default(); before + n_more].into();
        // Hashes first, some at a time: reading rows and writing buckets wait for memory apart.
        let mut hashes = [0; 32];
        let mut ids = first..first + n;
        while !ids.is_empty() {
            let some = ids.start..ids.end.min(ids.start + hashes.len() as u32);
            for (hash, id) in hashes.iter_mut().zip(some.clone()) {
                *hash = hash_of(id);
            }
            for (&hash, id) in hashes.iter().zip(some.clone()) {
                shard.put(hash, id);
            }
            ids.start = some.end;
        }
        Ok(())
    }

    /// Cuts the index into more shards.
    fn split(&mut self, hash_of: impl FnMut(u32) -> u64) -> Result<(), Refused> {
        let shard_bits = self.shard_bits + SHARD_STEP;
        // Room for the most that the new shards may take beside the old ones.
        let bytes = (self.len * 3 / 2 / SLOTS + (2 << shard_bits)) * BUCKET_BYTES;
        self.charge.grow(bytes)?;
        self.charge.shrink(bytes);
        let ids: Vec<u32> = self.shards.iter().flat_map(Shard::ids).collect();
        self.lay_out(shard_bits, ids.iter().copied(), hash_of, true);
        Ok(())
    }

    fn put(&mut self, hash: u64, id: u32) {
        let number = self.shard_of(hash);
        if let Some(shard) = self.shards.get_mut(number) {
            shard.put(hash, id);
            self.len += 1;
        }
    }

    /// Builds the index anew over these ids, as tightly as its loads allow. Never refused: it
    /// takes no more than before, or replaces what a sweep freed.
    pub(crate) fn rebuild(
        &mut self,
        ids: impl Iterator<Item = u32> + Clone,
        hash_of: impl Fn(u32) -> u64,
    ) {
        let n = ids.clone().count();
        let mut shard_bits = if self.dense_from.is_some() { 0 } else { MAX_SHARD_BITS };
        while shard_bits > 0 && n < SHARD_ENTRIES << shard_bits {
            shard_bits -= SHARD_STEP;
        }
        self.lay_out(shard_bits, ids, hash_of, false);
    }

    /// Builds the index anew. `apart`: with shards of different loads, so that they grow at
    /// different moments.
    fn lay_out(
        &mut self,
        shard_bits: u32,
        ids: impl Iterator<Item = u32> + Clone,
        mut hash_of: impl FnMut(u32) -> u64,
        apart: bool,
    ) {
        self.shards = Vec::new();
        self.shard_bits = shard_bits;
        self.len = 0;
        self.charge.shrink(self.charge.bytes() as usize);
        let mut counts = vec![0usize; 1 << shard_bits];
        for id in ids.clone() {
            if let Some(count) = counts.get_mut(self.shard_of(hash_of(id))) {
                *count += 1;
            }
        }
        if counts.iter().all(|&count| count == 0) {
            self.shard_bits = 0;
            return;
        }
        self.charge.grow_anyway(counts.len() * size_of::<Shard>());
        self.shards.reserve_exact(counts.len());
        for (number, count) in counts.into_iter().enumerate() {
            let slots = if apart { count + count * (number % 8) / 24 } else { count };
            let n_buckets = slots.div_ceil(FULL);
            self.charge.grow_anyway(n_buckets * BUCKET_BYTES);
            let buckets = vec![Bucket::default(); n_buckets].into();
            self.shards.push(Shard { buckets, len: 0 });
        }
        for id in ids {
            self.put(hash_of(id), id);
        }
    }
}

/// Entries a bucket has on average when its shard is full.
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

impl Shard {
    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.ids.iter().copied().take(bucket.n_used()))
    }

    /// The next insert would pass the highest load.
    #[inline]
    fn is_full(&self) -> bool {
        self.len >= self.buckets.len() * FULL
    }

    fn next_size(&self) -> usize {
        let n = self.buckets.len();
        // A third more, or what the entries need if a rebuild left less than that.
        (n + (n / 3).max(1)).max(self.len / FULL + 1)
    }

    /// Moves everything into `n_buckets` buckets; the buckets it had before.
    fn resize(&mut self, n_buckets: usize, mut hash_of: impl FnMut(u32) -> u64) -> usize {
        let buckets = vec![Bucket::default(); n_buckets].into();
        let old = std::mem::replace(self, Shard { buckets, len: 0 });
        for id in old.ids() {
            self.put(hash_of(id), id);
        }
        old.buckets.len()
    }

    fn put(&mut self, hash: u64, id: u32) {
        let mut at = home(hash, self.buckets.len());
        while self.buckets.get(at).is_some_and(Bucket::is_full) {
            at = after(at, self.buckets.len());
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.push(tag_of(hash), id);
            self.len += 1;
        }
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

    #[test]
    fn finds_what_was_put_and_nothing_else_at_seven_bytes_an_entry() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        let hash_of = |id: u32| mix(7, u64::from(id));
        let (mut sum, mut n) = (0.0, 0.0);
        let mut dense = Index::dense(&budget.owner("dense"), 0);
        for id in 0..200_000u32 {
            index.insert(hash_of(id), id, hash_of).unwrap();
            dense.insert(hash_of(id), id, hash_of).unwrap();
            assert!(id < 1_000 || dense.bytes() <= 15 * u64::from(id) / 2);
            if id > 20_000 {
                let each = index.bytes() as f64 / f64::from(id + 1);
                assert!((5.8..8.1).contains(&each), "{each} bytes at {id}");
                sum += each;
                n += 1.0;
            }
        }
        assert!(sum / n < 7.0, "{} bytes an entry on average", sum / n);
        for id in 0..200_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), Some(id));
            assert_eq!(dense.find(hash_of(id), |found| found == id), Some(id));
        }
        drop(dense);
        for id in 200_000..300_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), None);
        }
        let before = index.bytes();
        index.rebuild((0..200_000).step_by(3), hash_of);
        assert!(index.bytes() < before / 2);
        for id in 0..200_000 {
            let expect = (id % 3 == 0).then_some(id);
            assert_eq!(index.find(hash_of(id), |found| found == id), expect);
        }
        assert_eq!(index.len(), 66_667);
        assert_eq!(budget.used_bytes(), index.bytes());
    }

    /// A small index takes little: what a small budget has for it.
    #[test]
    fn a_small_index_takes_a_few_cache_lines() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        let hash_of = |id: u32| mix(3, u64::from(id));
        index.insert(hash_of(0), 0, hash_of).unwrap();
        assert!(index.bytes() <= 100, "{}", index.bytes());
        for id in 1..5_000u32 {
            index.insert(hash_of(id), id, hash_of).unwrap();
            assert!(index.bytes() <= 11 * u64::from(id) + 1_700, "{} at {id}", index.bytes());
            assert_eq!(index.find(hash_of(id / 2), |found| found == id / 2), Some(id / 2));
        }
    }

    /// A rebuilt shard of a few slots once never grew, and the next insert did not end.
    #[test]
    fn a_rebuilt_index_grows_again() {
        let budget = Budget::new(u64::MAX);
        let hash_of = |id: u32| mix(7, u64::from(id));
        for n in 0..300 {
            let mut index = Index::new(&budget.owner("index"));
            index.rebuild(0..n, hash_of);
            for id in n..n + 600 {
                index.insert(hash_of(id), id, hash_of).unwrap();
            }
            assert_eq!(index.len() as u32, n + 600);
            assert!((0..n + 600).all(|id| index.find(hash_of(id), |f| f == id) == Some(id)));
        }
    }

    /// All hashes equal: slow, but right, and it ends.
    #[test]
    fn equal_hashes_still_tell_apart() {
        let budget = Budget::new(u64::MAX);
        let mut index = Index::new(&budget.owner("index"));
        for id in 0..100 {
            index.insert(5, id, |_| 5).unwrap();
        }
        for id in (0..100).rev() {
            assert_eq!(index.find(5, |found| found == id), Some(id));
        }
    }
}
