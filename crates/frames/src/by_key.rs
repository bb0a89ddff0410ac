//! Stacks by the kernel's hash: an open table that holds the keys themselves.
//!
//! # Layout
//! A bucket is one cache line of five keys, their numbers, and a bit for each that was seen lately;
//! it fills from its first slot up. What finds its bucket full goes to the next one that is not. A
//! look-up reads one line, where an index beside a table of keys reads two, and a third for what
//! was seen. With the loads that growth leaves, 15 to 20 bytes a stack.
//!
//! # Growth
//! A shard at a time, by a quarter: memory is held twice for a 64th of the table only. Shards are
//! chosen by the highest bits of a mixed key, buckets by the lowest.
//!
//! # Not handled
//! Taking one key out by its own: numbers are taken out together, in one pass, and what is left is
//! laid out anew.

use crate::budget::{Charge, Owner, Refused};
use crate::hash::{after, home, mix, shard_of};

const SLOTS: usize = 5;
/// Entries a bucket of a full shard has on average, times [`FULL_OF`].
const FULL: usize = 25;
const FULL_OF: usize = 6;
/// Shards: 2^0, 2^3 or 2^6, so that each has a few buckets at least.
const SHARD_STEP: u32 = 3;
const MAX_SHARD_BITS: u32 = 6;
/// Entries of a shard, on average, above which there are more shards.
const SHARD_ENTRIES: usize = 48;
/// Seen bits are the lowest of a bucket's state, and the number of slots in use stands above them.
const USED_SHIFT: u32 = 8;

#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    keys: [u64; SLOTS],
    numbers: [u32; SLOTS],
    state: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is a cache line");

/// An entry outside of the table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    number: u32,
    seen: bool,
}

#[derive(Debug, Default)]
struct Shard {
    buckets: Box<[Bucket]>,
    len: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ByKey {
    shards: Vec<Shard>,
    shard_bits: u32,
    charge: Charge,
    seed: u64,
    /// Where the search for cold stacks goes on: a shard and a bucket.
    hand: (usize, usize),
}

impl ByKey {
    pub(crate) fn new(owner: &Owner, seed: u64) -> ByKey {
        let charge = owner.charge();
        ByKey { shards: Vec::new(), shard_bits: 0, charge, seed, hand: (0, 0) }
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        shard_of(hash, self.shard_bits)
    }

    /// The number of a key, which is seen now.
    #[inline]
    pub(crate) fn find(&mut self, key: u64) -> Option<u32> {
        let hash = mix(self.seed, key);
        let number = self.shard_of(hash);
        let shard = self.shards.get_mut(number)?;
        let mut at = home(hash, shard.buckets.len());
        // Loads stay below 1, so the probe ends; the bound is for the reader.
        for _ in 0..shard.buckets.len() {
            let bucket = shard.buckets.get_mut(at)?;
            if let Some(slot) = bucket.find(key) {
                let seen = 1 << slot;
                if bucket.state & seen == 0 {
                    bucket.state |= seen;
                }
                return bucket.numbers.get(slot).copied();
            }
            if bucket.n_used() < SLOTS {
                return None;
            }
            at = after(at, shard.buckets.len());
        }
        None
    }

    /// Makes sure that inserting this key cannot be refused.
    pub(crate) fn reserve(&mut self, key: u64) -> Result<(), Refused> {
        let number = self.shard_of(mix(self.seed, key));
        match self.shards.get(number) {
            Some(shard) if !shard.is_full() => Ok(()),
            _ => self.grow(key),
        }
    }

    #[cold]
    fn grow(&mut self, key: u64) -> Result<(), Refused> {
        if self.shards.is_empty() {
            self.charge.grow(size_of::<Shard>())?;
            self.shards.push(Shard::default());
        }
        let len: usize = self.shards.iter().map(|shard| shard.len).sum();
        if self.shard_bits < MAX_SHARD_BITS
            && len >= SHARD_ENTRIES << (self.shard_bits + SHARD_STEP)
        {
            return self.split();
        }
        let number = self.shard_of(mix(self.seed, key));
        if let Some(shard) = self.shards.get_mut(number)
            && shard.is_full()
        {
            let before = shard.buckets.len();
            let n_buckets = before + (before / 4).max(1);
            self.charge.grow(n_buckets * size_of::<Bucket>())?;
            *shard = Shard::laid_out(n_buckets, self.seed, shard.entries());
            self.charge.shrink(before * size_of::<Bucket>());
        }
        Ok(())
    }

    /// Cuts the table into more shards, when it is small still: none of them is full then.
    fn split(&mut self) -> Result<(), Refused> {
        let shard_bits = self.shard_bits + SHARD_STEP;
        let entries: Vec<Entry> = self.shards.iter().flat_map(Shard::entries).collect();
        let number = |entry: &Entry| shard_of(mix(self.seed, entry.key), shard_bits);
        let mut of_shard: Vec<Vec<Entry>> = vec![Vec::new(); 1 << shard_bits];
        for entry in entries {
            if let Some(entries) = of_shard.get_mut(number(&entry)) {
                entries.push(entry);
            }
        }
        // Some have more room than others, so that they grow at different moments.
        let n_buckets = |(number, n): (usize, usize)| buckets_for(n + n * (number % 8) / 24);
        let n_all: usize = of_shard.iter().map(Vec::len).enumerate().map(n_buckets).sum();
        let before = self.charge.bytes() as usize;
        self.charge.grow((1 << shard_bits) * size_of::<Shard>() + n_all * size_of::<Bucket>())?;
        self.shards = (of_shard.into_iter().enumerate())
            .map(|(number, entries)| {
                let n_buckets = n_buckets((number, entries.len()));
                Shard::laid_out(n_buckets, self.seed, entries.into_iter())
            })
            .collect();
        self.charge.shrink(before);
        self.shard_bits = shard_bits;
        self.hand = (0, 0);
        Ok(())
    }

    /// Adds a key that is not there, as seen.
    pub(crate) fn insert(&mut self, key: u64, number: u32) -> Result<(), Refused> {
        self.reserve(key)?;
        let shard = self.shard_of(mix(self.seed, key));
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.put(self.seed, Entry { key, number, seen: true });
        }
        Ok(())
    }

    /// Takes out all numbers that `is_gone` says, and lays out what is left as tightly as loads
    /// allow; how many were taken. Nothing is refused: it takes no more than before.
    pub(crate) fn remove(&mut self, is_gone: impl Fn(u32) -> bool) -> usize {
        let mut n_gone = 0;
        for shard in &mut self.shards {
            let n = shard.entries().filter(|entry| is_gone(entry.number)).count();
            if n == 0 {
                continue;
            }
            n_gone += n;
            let before = shard.buckets.len();
            let n_buckets = buckets_for(shard.len - n).min(before);
            let left = shard.entries().filter(|entry| !is_gone(entry.number));
            *shard = Shard::laid_out(n_buckets, self.seed, left);
            self.charge.shrink((before - n_buckets) * size_of::<Bucket>());
        }
        n_gone
    }

    /// Up to about `n` numbers that were not seen since the hand passed them last: those of a
    /// bucket stay together.
    pub(crate) fn cold(&mut self, n: usize) -> Vec<u32> {
        let mut cold = Vec::new();
        let n_buckets: usize = self.shards.iter().map(|shard| shard.buckets.len()).sum();
        for _ in 0..n_buckets {
            if cold.len() >= n {
                break;
            }
            let (number, at) = self.hand;
            let Some(shard) = self.shards.get_mut(number) else { break };
            if let Some(bucket) = shard.buckets.get_mut(at) {
                for slot in 0..bucket.n_used() {
                    if bucket.state >> slot & 1 == 0 {
                        cold.extend(bucket.numbers.get(slot));
                    }
                }
                bucket.state = bucket.state >> USED_SHIFT << USED_SHIFT;
            }
            self.hand = match at + 1 < shard.buckets.len() {
                true => (number, at + 1),
                false if number + 1 < self.shards.len() => (number + 1, 0),
                false => (0, 0),
            };
        }
        cold.truncate(n);
        cold
    }

    /// Gives everything back: nothing is found any more.
    pub(crate) fn clear(&mut self) {
        self.shards = Vec::new();
        self.shard_bits = 0;
        self.hand = (0, 0);
        self.charge.shrink(self.charge.bytes() as usize);
    }
}

/// Buckets for so many entries, and one more.
fn buckets_for(n: usize) -> usize {
    n * FULL_OF / FULL + 1
}

impl Bucket {
    #[inline]
    fn n_used(&self) -> usize {
        (self.state >> USED_SHIFT) as usize
    }

    /// The slot of a key.
    #[inline]
    fn find(&self, key: u64) -> Option<usize> {
        // All five at once: a branch for each would be guessed wrong.
        let mut agree = 0u32;
        for (slot, &it) in self.keys.iter().enumerate() {
            agree |= u32::from(it == key) << slot;
        }
        agree &= (1 << self.n_used()) - 1;
        (agree != 0).then(|| agree.trailing_zeros() as usize)
    }
}

impl Shard {
    fn laid_out(n_buckets: usize, seed: u64, entries: impl Iterator<Item = Entry>) -> Shard {
        let mut shard = Shard { buckets: vec![Bucket::default(); n_buckets].into(), len: 0 };
        entries.for_each(|entry| shard.put(seed, entry));
        shard
    }

    /// The next insert would pass the highest load.
    #[inline]
    fn is_full(&self) -> bool {
        self.len * FULL_OF >= self.buckets.len() * FULL
    }

    fn put(&mut self, seed: u64, entry: Entry) {
        let mut at = home(mix(seed, entry.key), self.buckets.len());
        while self.buckets.get(at).is_some_and(|bucket| bucket.n_used() >= SLOTS) {
            at = after(at, self.buckets.len());
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            let slot = bucket.n_used();
            if let (Some(key), Some(number)) =
                (bucket.keys.get_mut(slot), bucket.numbers.get_mut(slot))
            {
                (*key, *number) = (entry.key, entry.number);
                bucket.state += 1 << USED_SHIFT;
                bucket.state |= u32::from(entry.seen) << slot;
                self.len += 1;
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.buckets.iter().flat_map(|bucket| {
            let rows = bucket.keys.iter().zip(&bucket.numbers).zip(0..);
            rows.take(bucket.n_used()).map(|((&key, &number), slot)| Entry {
                key,
                number,
                seen: bucket.state >> slot & 1 == 1,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn table(budget: &Budget) -> ByKey {
        ByKey::new(&budget.owner("stacks"), 7)
    }

    #[test]
    fn finds_what_was_put_and_nothing_else() {
        let budget = Budget::new(u64::MAX);
        let mut table = table(&budget);
        let key = |i: u32| u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut sum, mut n) = (0.0, 0.0);
        for i in 0..200_000u32 {
            assert_eq!(table.find(key(i)), None);
            table.insert(key(i), i).expect("room");
            if i > 20_000 {
                let each = budget.used_bytes() as f64 / f64::from(i + 1);
                assert!((14.0..21.0).contains(&each), "{each} bytes at {i}");
                sum += each;
                n += 1.0;
            }
        }
        assert!(sum / n < 18.0, "{} bytes a stack on average", sum / n);
        assert!((0..200_000).all(|i| table.find(key(i)) == Some(i)));
        assert!((200_000..300_000).all(|i| table.find(key(i)).is_none()));
        let before = budget.used_bytes();
        assert_eq!(table.remove(|i| i % 3 != 0), 133_333);
        assert!(budget.used_bytes() < before / 2);
        assert!((0..200_000).all(|i| table.find(key(i)) == (i % 3 == 0).then_some(i)));
        for i in 200_000..300_000 {
            table.insert(key(i), i).expect("room");
        }
        assert!((200_000..300_000).all(|i| table.find(key(i)) == Some(i)));
        table.clear();
        assert_eq!((table.find(key(0)), budget.used_bytes()), (None, 0));
    }

    /// Key 0 is a key like any other, and not what an empty slot has.
    #[test]
    fn zero_is_a_key() {
        let budget = Budget::new(u64::MAX);
        let mut table = table(&budget);
        table.insert(5, 1).expect("room");
        assert_eq!(table.find(0), None);
        table.insert(0, 2).expect("room");
        assert_eq!((table.find(0), table.find(5)), (Some(2), Some(1)));
    }

    /// A small table takes little, and at every size each key is found.
    #[test]
    fn a_small_table_takes_a_few_cache_lines() {
        let budget = Budget::new(u64::MAX);
        let mut table = table(&budget);
        for i in 0..5_000u32 {
            table.insert(u64::from(i) << 20, i).expect("room");
            assert!(budget.used_bytes() <= 40 * u64::from(i) + 200, "{}", budget.used_bytes());
            assert!((0..=i).step_by(37).all(|i| table.find(u64::from(i) << 20) == Some(i)));
        }
    }

    /// What is refused changes nothing.
    #[test]
    fn without_room() {
        let budget = Budget::new(4096);
        let mut table = table(&budget);
        let n = (0..1000).take_while(|&i| table.insert(u64::from(i), i).is_ok()).count() as u32;
        assert!(n > 100 && n < 400, "{n}");
        assert!((0..n).all(|i| table.find(u64::from(i)) == Some(i)));
        assert_eq!(table.find(u64::from(n)), None);
        assert!(budget.used_bytes() <= 4096);
    }

    /// The hand goes round: a number is cold when it was not seen for a whole turn.
    #[test]
    fn cold_ones() {
        let budget = Budget::new(u64::MAX);
        let mut table = table(&budget);
        for i in 0..1000u32 {
            table.insert(u64::from(i), i).expect("room");
        }
        assert_eq!(table.cold(usize::MAX), []);
        for i in 0..500u64 {
            table.find(i * 2);
        }
        let mut cold = table.cold(usize::MAX);
        cold.sort_unstable();
        assert!(cold.iter().copied().eq((0..1000).filter(|i| i % 2 == 1)));
        assert_eq!(table.cold(10).len(), 10);
    }

    /// All keys in one bucket's way: slow, but right, and it ends.
    #[test]
    fn equal_homes_still_tell_apart() {
        let mut shard = Shard::laid_out(20, 7, std::iter::empty());
        // One bucket of one shard is everybody's home.
        for number in 0..80 {
            shard.put(7, Entry { key: 9, number, seen: false });
        }
        assert_eq!(shard.entries().count(), 80);
        assert_eq!(shard.len, 80);
    }
}
