//! An index from a value's hash to its dense id, where the value itself stands in a table.
//!
//! Open addressing with linear probing over 5 bytes a slot: a tag of the hash and the id. A probe
//! reads tags, which lie side by side, and touches the table only where the tag agrees. Loads are
//! kept between 0.7 and 0.875 by growing by a quarter, and the index is cut into shards that grow
//! at different moments: together they hold 6 to 7 bytes an entry at every size, and growing
//! never needs more than a sixty-fourth of the index twice.

use crate::budget::{Charge, Owner, Refused};

const SHARD_BITS: u32 = 6;
const N_SHARDS: usize = 1 << SHARD_BITS;
const SLOT_BYTES: usize = 5;
const EMPTY: u8 = 0;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<Shard>,
    len: usize,
    charge: Charge,
}

#[derive(Debug, Default)]
struct Shard {
    tags: Box<[u8]>,
    ids: Box<[u32]>,
    len: usize,
}

impl Index {
    pub(crate) fn new(owner: &Owner) -> Index {
        Index { shards: Vec::new(), len: 0, charge: owner.charge() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// The id with this hash that `is` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get(shard_of(hash))?;
        let tag = tag_of(hash);
        let mut at = shard.home(hash);
        // A shard always has an empty slot, so the probe ends; the bound is for the reader.
        for _ in 0..shard.tags.len() {
            let found = *shard.tags.get(at)?;
            if found == EMPTY {
                return None;
            }
            if found == tag {
                let id = *shard.ids.get(at)?;
                if is(id) {
                    return Some(id);
                }
            }
            at = shard.after(at);
        }
        None
    }

    /// Gives everything back: nothing is found any more.
    pub(crate) fn clear(&mut self) {
        self.shards = Vec::new();
        self.len = 0;
        self.charge.shrink(self.charge.bytes() as usize);
    }

    /// Adds an id that is not there. `hash_of` gives the hash of ids that were added before.
    pub(crate) fn insert(
        &mut self,
        hash: u64,
        id: u32,
        hash_of: impl Fn(u32) -> u64,
    ) -> Result<(), Refused> {
        self.reserve(hash, &hash_of)?;
        self.put(hash, id);
        Ok(())
    }

    /// Makes sure that inserting this hash cannot be refused.
    pub(crate) fn reserve(
        &mut self,
        hash: u64,
        hash_of: impl Fn(u32) -> u64,
    ) -> Result<(), Refused> {
        self.make_shards(false)?;
        let number = shard_of(hash);
        let Some(shard) = self.shards.get_mut(number) else {
            return Ok(());
        };
        if shard.is_full() {
            let n_slots = shard.next_size(number);
            self.charge.grow(n_slots * SLOT_BYTES)?;
            let freed = shard.resize(n_slots, hash_of);
            self.charge.shrink(freed * SLOT_BYTES);
        }
        Ok(())
    }

    fn make_shards(&mut self, anyway: bool) -> Result<(), Refused> {
        if self.shards.is_empty() {
            let bytes = N_SHARDS * size_of::<Shard>();
            if anyway {
                self.charge.grow_anyway(bytes);
            } else {
                self.charge.grow(bytes)?;
            }
            self.shards.resize_with(N_SHARDS, Shard::default);
        }
        Ok(())
    }

    fn put(&mut self, hash: u64, id: u32) {
        if let Some(shard) = self.shards.get_mut(shard_of(hash)) {
            shard.put(hash, id);
            self.len += 1;
        }
    }

    /// Takes an id out; whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else {
            return false;
        };
        let removed = shard.remove(hash, id, hash_of);
        self.len -= usize::from(removed);
        removed
    }

    /// Builds the index anew over ids `0..n`, as tightly as its loads allow. Never refused: it
    /// takes no more than before, or replaces what a sweep freed.
    pub(crate) fn rebuild(
        &mut self,
        ids: impl Iterator<Item = u32> + Clone,
        hash_of: impl Fn(u32) -> u64,
    ) {
        let mut counts = vec![0usize; N_SHARDS];
        for id in ids.clone() {
            if let Some(count) = counts.get_mut(shard_of(hash_of(id))) {
                *count += 1;
            }
        }
        self.shards = Vec::new();
        self.len = 0;
        self.charge.shrink(self.charge.bytes() as usize);
        if counts.iter().all(|&count| count == 0) {
            return;
        }
        // Forced charges are not refused.
        let _ = self.make_shards(true);
        for (shard, count) in self.shards.iter_mut().zip(counts) {
            // The highest load that inserts leave: never more slots than there were.
            let n_slots = if count == 0 { 0 } else { (count * 8).div_ceil(7).max(count + 1) };
            self.charge.grow_anyway(n_slots * SLOT_BYTES);
            shard.resize(n_slots, &hash_of);
        }
        for id in ids {
            self.put(hash_of(id), id);
        }
    }
}

impl Shard {
    /// The next insert would pass a load of 7/8.
    fn is_full(&self) -> bool {
        (self.len + 1) * 8 > self.tags.len() * 7
    }

    fn next_size(&self, number: usize) -> usize {
        match self.tags.len() {
            // Different first sizes put the shards at different points between two growths.
            0 => 8 + number % 8,
            // A shard that a rebuild left small must still grow.
            n => (n + n / 4).max(8),
        }
    }

    fn home(&self, hash: u64) -> usize {
        // Scales 32 bits of the hash to the number of slots: any size will do.
        (((hash & 0xffff_ffff) * self.tags.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.tags.len() { 0 } else { at + 1 }
    }

    /// Moves everything into `n_slots` slots; the slots it had before.
    fn resize(&mut self, n_slots: usize, hash_of: impl Fn(u32) -> u64) -> usize {
        let old = std::mem::replace(
            self,
            Shard { tags: vec![EMPTY; n_slots].into(), ids: vec![0; n_slots].into(), len: 0 },
        );
        for (&tag, &id) in old.tags.iter().zip(&old.ids) {
            if tag != EMPTY {
                self.put(hash_of(id), id);
            }
        }
        old.tags.len()
    }

    fn put(&mut self, hash: u64, id: u32) {
        let mut at = self.home(hash);
        while self.tags.get(at).is_some_and(|&tag| tag != EMPTY) {
            at = self.after(at);
        }
        if let (Some(tag), Some(slot)) = (self.tags.get_mut(at), self.ids.get_mut(at)) {
            *tag = tag_of(hash);
            *slot = id;
            self.len += 1;
        }
    }

    fn remove(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let n = self.tags.len();
        let mut at = self.home(hash);
        let mut left = n;
        loop {
            match (self.tags.get(at), self.ids.get(at)) {
                (Some(&tag), Some(&found)) if tag != EMPTY && left > 0 => {
                    if found == id && tag == tag_of(hash) {
                        break;
                    }
                }
                _ => return false,
            }
            at = self.after(at);
            left -= 1;
        }
        // Those behind move up, unless that would put one before its home.
        let mut hole = at;
        loop {
            at = self.after(at);
            let (Some(&tag), Some(&moved)) = (self.tags.get(at), self.ids.get(at)) else {
                break;
            };
            if tag == EMPTY {
                break;
            }
            let home = self.home(hash_of(moved));
            let from_home = (at + n - home) % n;
            let from_hole = (at + n - hole) % n;
            if from_home >= from_hole {
                self.set(hole, tag, moved);
                hole = at;
            }
        }
        self.set(hole, EMPTY, 0);
        self.len -= 1;
        true
    }

    fn set(&mut self, at: usize, tag: u8, id: u32) {
        if let (Some(t), Some(i)) = (self.tags.get_mut(at), self.ids.get_mut(at)) {
            *t = tag;
            *i = id;
        }
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> (64 - SHARD_BITS)) as usize
}

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
        for id in 0..100_000u32 {
            index.insert(hash_of(id), id, hash_of).unwrap();
            if id > 20_000 {
                let each = index.bytes() as f64 / f64::from(id + 1);
                assert!((5.0..7.1).contains(&each), "{each} bytes at {id}");
            }
        }
        for id in 0..100_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), Some(id));
        }
        for id in 100_000..200_000 {
            assert_eq!(index.find(hash_of(id), |found| found == id), None);
        }
        for id in (0..100_000).filter(|id| id % 3 != 0) {
            assert!(index.remove(hash_of(id), id, hash_of));
            assert!(!index.remove(hash_of(id), id, hash_of));
        }
        for id in 0..100_000 {
            let expect = (id % 3 == 0).then_some(id);
            assert_eq!(index.find(hash_of(id), |found| found == id), expect);
        }
        let before = index.bytes();
        index.rebuild((0..100_000).step_by(3), hash_of);
        assert!(index.bytes() < before / 2);
        assert_eq!(index.len(), 33_334);
        assert_eq!(budget.used_bytes(), index.bytes());
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
            assert!(index.remove(5, id, |_| 5));
            assert_eq!(index.find(5, |found| found == id), None);
        }
    }
}
