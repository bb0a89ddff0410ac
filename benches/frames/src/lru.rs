//! The least-recently-used cache of the peer, in its own layout.
//!
//! After elastic/go-freelru `lru.go` @ 097a628fbcb76e61dd470114392d6f2f4c4d14b9: an array of
//! elements and one of buckets, both allocated in full at once; an element is key, value, five
//! 32-bit links and an expiry. `grows` starts both at 64 and doubles them instead: policy (c).

use std::hash::Hash;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Element<K, V> {
    key: K,
    value: V,
    next_bucket: u32,
    prev_bucket: u32,
    bucket_pos: u32,
    next: u32,
    prev: u32,
    /// Unix milliseconds; the peer's lifetimes are off here: 0.
    expire: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Lru<K, V> {
    buckets: Vec<u32>,
    elements: Vec<Element<K, V>>,
    head: u32,
    len: u32,
    cap: u32,
    max: u32,
    hash: fn(&K) -> u32,
}

impl<K: Copy + Default + Eq + Hash, V: Copy + Default> Lru<K, V> {
    /// A cache of `cap` entries, allocated now.
    pub fn eager(cap: u32, hash: fn(&K) -> u32) -> Lru<K, V> {
        let mut lru = Lru {
            buckets: vec![NONE; cap as usize],
            elements: Vec::new(),
            head: 0,
            len: 0,
            cap,
            max: cap,
            hash,
        };
        lru.elements.resize(cap as usize, Element::default());
        lru
    }

    /// A cache of up to `max` entries that starts with room for 64.
    pub fn growing(max: u32, hash: fn(&K) -> u32) -> Lru<K, V> {
        Lru { max, ..Lru::eager(64.min(max), hash) }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len as usize
    }

    fn bucket(&self, key: &K) -> u32 {
        (self.hash)(key) % self.cap
    }

    fn find(&self, key: &K) -> Option<u32> {
        let start = self.buckets[self.bucket(key) as usize];
        if start == NONE {
            return None;
        }
        let mut at = start;
        loop {
            let element = &self.elements[at as usize];
            if element.key == *key && element.expire == 0 {
                return Some(at);
            }
            at = element.next_bucket;
            if at == start {
                return None;
            }
        }
    }

    /// The value of a key, which becomes the most recently used.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let at = self.find(key)?;
        if at != self.head {
            self.unlink(at);
            self.set_head(at);
        }
        Some(self.elements[at as usize].value)
    }

    /// Adds or replaces an entry; what was evicted for it.
    pub fn add(&mut self, key: K, value: V) -> Option<V> {
        if let Some(at) = self.find(&key) {
            let old = std::mem::replace(&mut self.elements[at as usize].value, value);
            if at != self.head {
                self.unlink(at);
                self.set_head(at);
            }
            return Some(old);
        }
        if self.len == self.cap && self.cap < self.max {
            self.grow();
        }
        let mut evicted = None;
        let at = if self.len == self.cap {
            let at = self.elements[self.head as usize].next;
            evicted = Some(self.evict(at));
            at
        } else {
            self.len
        };
        self.link(at, key, value);
        evicted
    }

    fn grow(&mut self) {
        let mut larger =
            Lru { max: self.max, ..Lru::eager((self.cap * 2).min(self.max), self.hash) };
        let mut at = self.elements[self.head as usize].next;
        for _ in 0..self.len {
            let Element { key, value, next, .. } = self.elements[at as usize];
            larger.link(larger.len, key, value);
            at = next;
        }
        *self = larger;
    }

    fn link(&mut self, at: u32, key: K, value: V) {
        let bucket = self.bucket(&key);
        let start = self.buckets[bucket as usize];
        let (next_bucket, prev_bucket) = if start == NONE {
            (at, at)
        } else {
            (start, self.elements[start as usize].prev_bucket)
        };
        let element = &mut self.elements[at as usize];
        *element = Element { key, value, bucket_pos: bucket, next_bucket, prev_bucket, ..*element };
        if start != NONE {
            self.elements[prev_bucket as usize].next_bucket = at;
            self.elements[start as usize].prev_bucket = at;
        }
        self.buckets[bucket as usize] = at;
        if self.len == 0 {
            self.elements[at as usize].prev = at;
            self.elements[at as usize].next = at;
            self.head = at;
        } else {
            self.set_head(at);
        }
        self.len += 1;
    }

    fn set_head(&mut self, at: u32) {
        let next = self.elements[self.head as usize].next;
        self.elements[at as usize].prev = self.head;
        self.elements[at as usize].next = next;
        self.elements[next as usize].prev = at;
        let head = self.head;
        self.elements[head as usize].next = at;
        self.head = at;
    }

    fn unlink(&mut self, at: u32) {
        let Element { next, prev, .. } = self.elements[at as usize];
        self.elements[prev as usize].next = next;
        self.elements[next as usize].prev = prev;
    }

    fn evict(&mut self, at: u32) -> V {
        if at == self.head {
            self.head = self.elements[at as usize].prev;
        }
        self.unlink(at);
        let Element { next_bucket, prev_bucket, bucket_pos, value, .. } =
            self.elements[at as usize];
        if next_bucket == at {
            self.buckets[bucket_pos as usize] = NONE;
        } else {
            self.elements[prev_bucket as usize].next_bucket = next_bucket;
            self.elements[next_bucket as usize].prev_bucket = prev_bucket;
            self.buckets[bucket_pos as usize] = next_bucket;
        }
        self.len -= 1;
        value
    }

    /// Bytes of an element and its bucket.
    pub const fn entry_bytes() -> usize {
        size_of::<Element<K, V>>() + 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain list ordered by use.
    #[test]
    fn evicts_the_least_recently_used() {
        for growing in [false, true] {
            let hash: fn(&u64) -> u32 = |key| (*key as u32).wrapping_mul(0x9e37_79b1) >> 7;
            let mut lru = if growing { Lru::growing(100, hash) } else { Lru::eager(100, hash) };
            let mut model: Vec<u64> = Vec::new();
            let mut state = 1u64;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = (state >> 33) % 170;
                let known = model.iter().position(|&k| k == key);
                assert_eq!(lru.get(&key).is_some(), known.is_some());
                match known {
                    Some(at) => {
                        model.remove(at);
                    }
                    None => {
                        let evicted = lru.add(key, key);
                        let expect = (model.len() == 100).then(|| model.remove(0));
                        assert_eq!(evicted, expect);
                    }
                }
                model.push(key);
                assert_eq!(lru.len(), model.len());
            }
        }
    }
}
