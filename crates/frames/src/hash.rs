//! Hashes of ids and texts, seeded per store so that no profiled program can choose collisions.

use std::hash::{BuildHasher, RandomState};

/// Mixes one word into a hash: a folded 128-bit multiplication, as wyhash does.
#[inline]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from(word.rotate_left(32) ^ 0xd6e8_feb8_6659_fd93);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    // The product's middle decides; a second round spreads it over tag, home and shard.
    (folded ^ (folded >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (folded >> 32)
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
        mix(self.words, self.texts.hash_one(bytes))
    }
}
