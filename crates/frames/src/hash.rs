//! Hashes of ids and texts, seeded per store so that no profiled program can choose collisions.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Mixes one word into a hash: a folded 128-bit multiplication, as wyhash does.
#[inline]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from(word.rotate_left(32) ^ 0xd6e8_feb8_6659_fd93);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    // The product's middle decides; a second round spreads it over tag, home and shard.
    (folded ^ (folded >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (folded >> 32)
}

/// The shard of a hash, by so many of its highest bits.
#[inline]
pub(crate) fn shard_of(hash: u64, bits: u32) -> usize {
    // Two shifts: one by 64 is none.
    (hash >> 1 >> (63 - bits)) as usize
}

/// The bucket of a hash among `n`: its lowest 32 bits are scaled, so that any number will do.
#[inline]
pub(crate) fn home(hash: u64, n: usize) -> usize {
    (((hash & 0xffff_ffff) * n as u64) >> 32) as usize
}

/// The bucket after one of `n`, in a circle.
#[inline]
pub(crate) fn after(at: usize, n: usize) -> usize {
    if at + 1 >= n { 0 } else { at + 1 }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Keys of a hash of 128 bits over words: two lanes of folded multiplications, each keyed apart.
#[derive(Debug, Clone)]
pub(crate) struct WideSeed([u64; 4]);

impl WideSeed {
    pub(crate) fn new(seed: u64) -> WideSeed {
        let random = RandomState::new();
        WideSeed([0u64, 1, 2, 3].map(|i| mix(seed, random.hash_one(i))))
    }

    #[inline]
    pub(crate) fn hash(&self, first: u64, words: &[u64]) -> [u64; 2] {
        let [s, t, u, v] = self.0;
        let first = first | (words.len() as u64) << 32;
        let (mut a, mut b) = (fold(first ^ s, u), fold(first ^ t, v));
        let mut pairs = words.chunks_exact(2);
        let mut step = |x: u64, y: u64| {
            (a, b) = (fold(a ^ x, u ^ y), fold(b ^ y, v ^ x));
        };
        for pair in &mut pairs {
            if let &[x, y] = pair {
                step(x, y);
            }
        }
        if let &[x] = pairs.remainder() {
            step(x, 0);
        }
        [fold(a ^ t, b | 1) ^ a, fold(b ^ s, a | 1) ^ b]
    }
}

/// The seed of one store.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    pub(crate) words: u64,
    texts: foldhash::fast::SeedableRandomState,
}

impl Default for Seed {
    fn default() -> Seed {
        let seed = RandomState::new().hash_one(0u64);
        Seed {
            words: seed,
            texts: foldhash::fast::SeedableRandomState::with_seed(
                mix(seed, 1),
                foldhash::SharedSeed::global_random(),
            ),
        }
    }
}

impl Seed {
    pub(crate) fn text(&self, bytes: &[u8]) -> u64 {
        // Without the prefix that tells two texts in a row apart: there is one.
        let mut hasher = self.texts.build_hasher();
        hasher.write(bytes);
        mix(self.words ^ bytes.len() as u64, hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words that differ in one bit, or in length, have hashes whose every part differs.
    #[test]
    fn wide_hashes_spread() {
        let seed = WideSeed::new(1);
        let mut all = std::collections::HashSet::new();
        let mut parts = [const { Vec::<u32>::new() }; 3];
        let mut n = 0;
        for len in 0..6usize {
            for bit in 0..(64 * len).max(1) {
                for who in 1..20u64 {
                    let mut words = vec![0u64; len];
                    if let Some(word) = words.get_mut(bit / 64) {
                        *word = 1 << (bit % 64);
                    }
                    let [a, b] = seed.hash(who, &words);
                    n += usize::from(all.insert((a, b)));
                    parts[0].push((a >> 32) as u32);
                    parts[1].push(a as u32);
                    parts[2].push(b as u32);
                }
            }
        }
        assert!(n > 18_000 && all.len() == n);
        for part in parts {
            // Sixteen equal ranges get about as many each.
            let mut counts = [0u32; 16];
            part.iter().for_each(|&word| counts[(word >> 28) as usize] += 1);
            let mean = part.len() as f64 / 16.0;
            assert!(counts.iter().all(|&c| (f64::from(c) / mean - 1.0).abs() < 0.15), "{counts:?}");
        }
    }
}
