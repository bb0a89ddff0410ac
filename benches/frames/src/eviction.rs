//! Which eviction policy: hit rates at equal numbers of entries, on ids alone.

use std::collections::{HashMap, VecDeque};

use crate::stream::{Step, Stream};

/// Hit rates of each policy at a quarter of the stream's distinct frames.
pub fn compare(stream: &Stream) -> Vec<(&'static str, f64)> {
    let capacity = (stream.frames.len() / 4).max(16);
    let ids = || {
        stream.steps.iter().filter_map(|step| match step {
            Step::Meet(frame) => Some(*frame),
            Step::Exit(_) => None,
        })
    };
    let rate = |mut hit: Box<dyn FnMut(u32) -> bool>| {
        let (mut hits, mut n) = (0u64, 0u64);
        for id in ids() {
            hits += u64::from(hit(id));
            n += 1;
        }
        100.0 * hits as f64 / n.max(1) as f64
    };
    let mut lru =
        crate::lru::Lru::<u32, u32>::eager(capacity as u32, |id| id.wrapping_mul(0x9e37_79b1) >> 3);
    let mut clock = Queue::new(capacity, true);
    // What SIEVE's two links take, CLOCK has for entries: 55 bytes against 47.
    let mut clock_more = Queue::new(capacity * 55 / 47, true);
    let mut sieve = Queue::new(capacity, false);
    let mut s3 = S3::new(capacity);
    let mut quick = quick_cache::unsync::Cache::<u32, ()>::new(capacity);
    let moka = moka::sync::Cache::<u32, ()>::new(capacity as u64);
    vec![
        (
            "LRU",
            rate(Box::new(move |id| {
                lru.get(&id).is_some() || {
                    lru.add(id, 0);
                    false
                }
            })),
        ),
        ("CLOCK", rate(Box::new(move |id| clock.hit(id)))),
        ("CLOCK at SIEVE's bytes", rate(Box::new(move |id| clock_more.hit(id)))),
        ("SIEVE", rate(Box::new(move |id| sieve.hit(id)))),
        ("S3-FIFO", rate(Box::new(move |id| s3.hit(id)))),
        (
            "quick_cache",
            rate(Box::new(move |id| {
                quick.get(&id).is_some() || {
                    quick.insert(id, ());
                    false
                }
            })),
        ),
        (
            "moka",
            rate(Box::new(move |id| {
                moka.get(&id).is_some() || {
                    moka.insert(id, ());
                    false
                }
            })),
        ),
    ]
}

/// CLOCK, where a new entry takes the victim's place behind the hand; or SIEVE, where the hand
/// stays among the old and new entries queue at the head.
struct Queue {
    capacity: usize,
    at: HashMap<u32, usize>,
    slots: Vec<Slot>,
    hand: usize,
    /// SIEVE: newest and oldest.
    head: usize,
    tail: usize,
    is_clock: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    id: u32,
    seen: bool,
    newer: usize,
    older: usize,
}

const END: usize = usize::MAX;

impl Queue {
    fn new(capacity: usize, is_clock: bool) -> Queue {
        let (at, slots) = (HashMap::new(), Vec::new());
        Queue {
            capacity,
            at,
            slots,
            hand: if is_clock { 0 } else { END },
            head: END,
            tail: END,
            is_clock,
        }
    }

    fn hit(&mut self, id: u32) -> bool {
        if let Some(&slot) = self.at.get(&id) {
            self.slots[slot].seen = true;
            return true;
        }
        let new = Slot { id, seen: false, newer: END, older: self.head };
        let slot = if self.slots.len() < self.capacity {
            self.slots.push(new);
            self.slots.len() - 1
        } else if self.is_clock {
            while std::mem::take(&mut self.slots[self.hand].seen) {
                self.hand = (self.hand + 1) % self.capacity;
            }
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.capacity;
            self.at.remove(&self.slots[slot].id);
            self.slots[slot] = new;
            slot
        } else {
            let slot = self.sieve_victim();
            self.at.remove(&self.slots[slot].id);
            self.slots[slot] = Slot { older: self.head, ..new };
            slot
        };
        if !self.is_clock {
            if self.head != END {
                self.slots[self.head].newer = slot;
            }
            self.head = slot;
            if self.tail == END {
                self.tail = slot;
            }
        }
        self.at.insert(id, slot);
        false
    }

    /// Takes the victim out of the queue.
    fn sieve_victim(&mut self) -> usize {
        let mut at = if self.hand == END { self.tail } else { self.hand };
        while std::mem::take(&mut self.slots[at].seen) {
            let newer = self.slots[at].newer;
            at = if newer == END { self.tail } else { newer };
        }
        let Slot { newer, older, .. } = self.slots[at];
        self.hand = newer;
        match newer {
            END => self.head = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            END => self.tail = newer,
            older => self.slots[older].newer = newer,
        }
        at
    }
}

/// S3-FIFO (Yang et al., SOSP 2023): a small queue of a tenth, a main one, and ghosts of main's
/// size.
struct S3 {
    capacity: usize,
    frequency: HashMap<u32, u8>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: VecDeque<u32>,
    is_ghost: HashMap<u32, u32>,
}

impl S3 {
    fn new(capacity: usize) -> S3 {
        S3 {
            capacity,
            frequency: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            is_ghost: HashMap::new(),
        }
    }

    fn hit(&mut self, id: u32) -> bool {
        if let Some(frequency) = self.frequency.get_mut(&id) {
            *frequency = (*frequency + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() >= self.capacity {
            if self.small.len() >= self.capacity / 10 {
                self.evict_small()
            } else {
                self.evict_main()
            }
        }
        if self.is_ghost.remove(&id).is_some() {
            self.main.push_back(id);
        } else {
            self.small.push_back(id);
        }
        self.frequency.insert(id, 0);
        false
    }

    fn evict_small(&mut self) {
        while let Some(id) = self.small.pop_front() {
            if self.frequency.get(&id).is_some_and(|&f| f > 1) {
                self.frequency.insert(id, 0);
                self.main.push_back(id);
                continue;
            }
            self.frequency.remove(&id);
            self.ghosts.push_back(id);
            *self.is_ghost.entry(id).or_default() += 1;
            if self.ghosts.len() > self.capacity * 9 / 10
                && let Some(old) = self.ghosts.pop_front()
            {
                self.is_ghost.remove(&old);
            }
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(id) = self.main.pop_front() {
            match self.frequency.get_mut(&id) {
                Some(frequency) if *frequency > 0 => {
                    *frequency -= 1;
                    self.main.push_back(id);
                }
                _ => {
                    self.frequency.remove(&id);
                    return;
                }
            }
        }
    }
}
