//! Finds the number of a table's entry by what the entry is, while the entry stands in the table only.
//!
//! In: hashes, and a way to look at an entry. Out: numbers. Open addressing with linear probing; a
//! slot is the 4 bytes of a number, and at most three of four are taken, so that an entry costs 6
//! to 8 bytes. A `HashMap` holds each entry a second time.

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    slots: Vec<u32>,
    len: usize,
}

/// No number: tables hold fewer entries.
const EMPTY: u32 = u32::MAX;

impl Numbers {
    /// With room for so many.
    pub fn with_capacity(n: usize) -> Numbers {
        Numbers { slots: vec![EMPTY; n + n / 3 + 1], len: 0 }
    }

    /// The number with this hash that `is` accepts.
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash)?;
        // At least one slot is empty.
        loop {
            match self.slots.get(at) {
                Some(&EMPTY) | None => return None,
                Some(&number) if is(number) => return Some(number),
                Some(_) => at = self.after(at),
            }
        }
    }

    /// Adds a number that is not there. `hash_of` gives the hash of those that were added before.
    pub fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let n_slots = self.slots.len() + self.slots.len() / 2 + 16;
            let old = std::mem::replace(&mut self.slots, vec![EMPTY; n_slots]);
            for number in old.into_iter().filter(|&number| number != EMPTY) {
                self.put(hash_of(number), number);
            }
        }
        self.put(hash, number);
        self.len += 1;
    }

    fn put(&mut self, hash: u64, number: u32) {
        let Some(mut at) = self.home(hash) else { return };
        while self.slots.get(at).is_some_and(|&taken| taken != EMPTY) {
            at = self.after(at);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = number;
        }
    }

    /// Scales the hash to the number of slots: any number of them will do.
    fn home(&self, hash: u64) -> Option<usize> {
        let n_slots = self.slots.len();
        (n_slots > 0).then(|| ((u128::from(hash) * n_slots as u128) >> 64) as usize)
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry is found under its hash, of equal hashes too, and nothing else is.
    #[test]
    fn finds_what_was_added() {
        for same_hash in [false, true] {
            let hash = |n: u32| match same_hash {
                true => 7,
                false => u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            for mut numbers in [Numbers::default(), Numbers::with_capacity(1000)] {
                assert_eq!(numbers.find(7, |_| true), None);
                for n in 0..1000 {
                    numbers.insert(hash(n), n, hash);
                }
                for n in 0..1000 {
                    assert_eq!(numbers.find(hash(n), |it| it == n), Some(n));
                }
                assert_eq!(numbers.find(hash(1000), |it| it == 1000), None);
            }
        }
    }
}
