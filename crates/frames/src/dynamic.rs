//! The lookup cache of dynamic code: frames that only one process has.
//!
//! # Layout
//! An open-addressed table of 18-byte entries: 80 bits of a keyed hash of the frame's words and
//! its process, the process's incarnation (30 bits), how often it was met lately (2 bits), and a
//! reference to what it is. At loads between 0.7 and 0.875 that is 23 bytes an entry on average. A
//! look-up reads one or two lines that lie side by side. Entries hold all that is needed to move
//! them, so that growing reads nothing else.
//!
//! Two frames of one process would be taken for one if 80 bits of their hashes agreed, whose keys
//! are random and the store's own: with a million entries and a thousand million new frames, a
//! chance of 2^-30.
//!
//! # Eviction
//! CLOCK with a count: a hit adds one, up to three; the hand takes the first entry whose count is
//! zero, and subtracts one from the others as it goes. Entries stand in the order of their hashes,
//! so the hand comes to a new one soon or late by chance; one that is not met again until then
//! goes, which keeps a scan from pushing others out. Chosen by measurement:
//! `docs/decisions/0004-frame-store-policy.md`. Entries of a process that ended are not favoured: no
//! sample of it comes any more, and the stacks that it left hold their names by themselves. Entries
//! that wait for a resolver do not go.

use std::collections::HashMap;

use crate::budget::{Budget, Charge, Owner, Refused};
use crate::hash::WideSeed;
use crate::refs::Ref;

/// A process image, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub(crate) u32);

/// What tells one process image from another: a pid that is used again differs in its start, an
/// exec in its exec id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Thread group id.
    pub tgid: u32,
    /// Start of the process, nanoseconds of any clock.
    pub start_ns: u64,
    /// The kernel's or the caller's count of its execs.
    pub exec_id: u32,
}

/// Bytes an entry takes, with its part of the empty slots, for a process's share.
const ENTRY_BYTES: u64 = SLOT_BYTES as u64 * 5 / 4;
const SLOT_BYTES: usize = size_of::<Slot>();

/// Incarnations are numbered below this; the bits above count how often an entry was met.
const MAX_INCARNATION: u32 = (1 << SEEN_SHIFT) - 1;
const SEEN_SHIFT: u32 = 30;
const MAX_SEEN: u32 = 3;

const SHARD_STEP: u32 = 3;
const MAX_SHARD_BITS: u32 = 6;
/// Entries of a shard, on average, above which there are more shards.
const SHARD_ENTRIES: usize = 64;

/// Two bytes are its alignment: as words it would take 20.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(2))]
struct Slot {
    print: [u32; 2],
    more_print: u16,
    /// Incarnation and count; 0: the slot is empty.
    who: u32,
    value: u32,
}

impl Slot {
    #[inline]
    fn incarnation(self) -> u32 {
        self.who & MAX_INCARNATION
    }

    #[inline]
    fn is(&self, key: &Key) -> bool {
        let ([a, b], [of_key_a, of_key_b]) = (self.print, key.print);
        // One part first: it tells nearly all others apart.
        a == of_key_a
            && b == of_key_b
            && self.more_print == key.more_print
            && self.incarnation() == key.incarnation
    }

    fn key(self) -> Key {
        let Slot { print, more_print, .. } = self;
        Key { print, more_print, incarnation: self.incarnation() }
    }
}

/// What stands for a frame of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    print: [u32; 2],
    more_print: u16,
    incarnation: u32,
}

impl Key {
    /// 64 bits of it, for tombstones.
    pub(crate) fn hash(&self) -> u64 {
        u64::from(self.print[0]) << 32 | u64::from(self.print[1])
    }

    #[inline]
    fn shard(&self, bits: u32) -> usize {
        // Two shifts: one by 32 is none.
        (self.print[0] >> 1 >> (31 - bits)) as usize
    }
}

#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) entries: u64,
    /// Bytes of identity that its frames and stacks brought, by growth of the tables.
    pub(crate) identity_bytes: u64,
    pub(crate) is_dead: bool,
    hand: Hand,
}

impl Process {
    pub(crate) fn bytes(&self) -> u64 {
        self.entries * ENTRY_BYTES + self.identity_bytes
    }
}

/// A place in the table where a search goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Hand {
    shard: usize,
    slot: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Dynamic {
    shards: Vec<Shard>,
    shard_bits: u32,
    len: usize,
    charge: Charge,
    hand: Hand,
    seed: WideSeed,
    by_key: HashMap<ProcessKey, u32, foldhash::fast::RandomState>,
    pub(crate) processes: HashMap<u32, Process, foldhash::fast::RandomState>,
    n_dead: usize,
    last_incarnation: u32,
    process_charge: Charge,
    pub(crate) evictions: u64,
    /// Of those, since the last sweep.
    pub(crate) evicted_lately: usize,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Box<[Slot]>,
    len: usize,
    hand: usize,
}

/// Real bytes of one process in both maps, their slack included.
const PROCESS_BYTES: usize = 2 * (size_of::<(ProcessKey, u32)>() + size_of::<(u32, Process)>() + 2);

impl Dynamic {
    pub(crate) fn new(budget: &Budget, seed: u64) -> Dynamic {
        let owner: Owner = budget.owner("lookup.dynamic");
        Dynamic {
            shards: Vec::new(),
            shard_bits: 0,
            len: 0,
            charge: owner.charge(),
            hand: Hand::default(),
            seed: WideSeed::new(seed),
            by_key: HashMap::default(),
            processes: HashMap::default(),
            n_dead: 0,
            last_incarnation: 0,
            process_charge: budget.owner("lookup.processes").charge(),
            evictions: 0,
            evicted_lately: 0,
        }
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn incarnation(&mut self, key: ProcessKey) -> Incarnation {
        if let Some(&number) = self.by_key.get(&key) {
            return Incarnation(number);
        }
        // 2^30 process images at a thousand a second are twelve days; 0 is never given out. A
        // number is skipped while an old process still has it.
        loop {
            self.last_incarnation = (self.last_incarnation + 1) & MAX_INCARNATION;
            if self.last_incarnation != 0 && !self.processes.contains_key(&self.last_incarnation) {
                break;
            }
        }
        self.process_charge.grow_anyway(PROCESS_BYTES);
        self.by_key.insert(key, self.last_incarnation);
        self.processes.insert(self.last_incarnation, Process { key, ..Process::default() });
        Incarnation(self.last_incarnation)
    }

    /// Whose a key is.
    pub(crate) fn process_of(&self, key: &Key) -> Option<&Process> {
        self.processes.get(&key.incarnation)
    }

    /// What stands for a frame.
    #[inline]
    pub(crate) fn key(&self, incarnation: Incarnation, words: &[u64]) -> Key {
        let [a, b] = self.seed.hash(incarnation.0.into(), words);
        let print = [(a >> 32) as u32, a as u32];
        Key { print, more_print: b as u16, incarnation: incarnation.0 }
    }

    /// What a frame is, if it is known.
    #[inline]
    pub(crate) fn find(&mut self, key: &Key) -> Option<Ref> {
        let number = key.shard(self.shard_bits);
        let slot = self.shards.get_mut(number)?.find(key)?;
        if slot.who >> SEEN_SHIFT < MAX_SEEN {
            slot.who += 1 << SEEN_SHIFT;
        }
        Some(Ref::unpack(slot.value))
    }

    /// Adds a frame, or changes what it is.
    pub(crate) fn put(&mut self, key: &Key, value: Ref) -> Result<(), Refused> {
        let new = Slot {
            print: key.print,
            more_print: key.more_print,
            who: key.incarnation,
            value: value.pack(),
        };
        let mut number = key.shard(self.shard_bits);
        let mut at = None;
        if let Some(shard) = self.shards.get_mut(number) {
            match shard.look_for(key) {
                (true, found) => {
                    if let Some(slot) = shard.slots.get_mut(found) {
                        slot.value = new.value;
                    }
                    return Ok(());
                }
                (false, free) if !shard.is_full() => at = Some(free),
                _ => {}
            }
        }
        if at.is_none() {
            self.reserve(key)?;
            number = key.shard(self.shard_bits);
        }
        if let Some(shard) = self.shards.get_mut(number) {
            match at {
                Some(free) => shard.put_at(free, new),
                None => {
                    shard.put(new);
                }
            }
            self.len += 1;
        }
        if let Some(process) = self.processes.get_mut(&key.incarnation) {
            process.entries += 1;
        }
        Ok(())
    }

    /// Changes what a frame is; whether it is there.
    pub(crate) fn set(&mut self, key: &Key, value: Ref) -> bool {
        let number = key.shard(self.shard_bits);
        match self.shards.get_mut(number).and_then(|shard| shard.find(key)) {
            Some(slot) => {
                slot.value = value.pack();
                true
            }
            None => false,
        }
    }

    /// Makes sure that a slot for this key is free.
    fn reserve(&mut self, key: &Key) -> Result<(), Refused> {
        if self.shards.is_empty() {
            self.charge.grow(size_of::<Shard>())?;
            self.shards.push(Shard::default());
        } else if self.shard_bits < MAX_SHARD_BITS
            && self.len >= SHARD_ENTRIES << (self.shard_bits + SHARD_STEP)
        {
            self.split()?;
        }
        let number = key.shard(self.shard_bits);
        if let Some(shard) = self.shards.get_mut(number)
            && shard.is_full()
        {
            let n_slots = shard.next_size(number);
            self.charge.grow(n_slots * SLOT_BYTES)?;
            let freed = shard.resize(n_slots);
            self.charge.shrink(freed * SLOT_BYTES);
        }
        Ok(())
    }

    /// Cuts the table into more shards, each of another load, so that they grow at different
    /// moments.
    fn split(&mut self) -> Result<(), Refused> {
        let bits = self.shard_bits + SHARD_STEP;
        let mut counts = vec![0usize; 1 << bits];
        for slot in self.used() {
            if let Some(count) = counts.get_mut(slot.key().shard(bits)) {
                *count += 1;
            }
        }
        let n_slots = |number: usize, count: usize| count * (8 + number % 3) / 7 + 8;
        let bytes = (counts.iter().enumerate())
            .map(|(number, &count)| n_slots(number, count) * SLOT_BYTES + size_of::<Shard>())
            .sum();
        self.charge.grow(bytes)?;
        let mut shards: Vec<Shard> = (counts.iter().enumerate())
            .map(|(number, &count)| Shard::with_slots(n_slots(number, count)))
            .collect();
        for slot in self.used() {
            if let Some(shard) = shards.get_mut(slot.key().shard(bits)) {
                shard.put(slot);
            }
        }
        self.shards = shards;
        self.shard_bits = bits;
        self.hand = Hand::default();
        self.charge.shrink(self.charge.bytes() as usize - bytes);
        Ok(())
    }

    fn used(&self) -> impl Iterator<Item = Slot> + '_ {
        self.shards.iter().flat_map(|shard| shard.slots.iter().copied()).filter(|s| s.who != 0)
    }

    fn take_out(&mut self, at: Hand) -> Option<Slot> {
        let slot = self.shards.get_mut(at.shard)?.remove(at.slot)?;
        self.len -= 1;
        if let Some(process) = self.processes.get_mut(&slot.incarnation()) {
            process.entries = process.entries.saturating_sub(1);
        }
        Some(slot)
    }

    /// How often an entry was met lately; nothing where it may not go at all.
    fn count_to_go(slot: &Slot, of: Option<u32>) -> Option<u32> {
        let may = slot.who != 0
            && of.is_none_or(|incarnation| slot.incarnation() == incarnation)
            && !matches!(Ref::unpack(slot.value), Ref::Pending(_));
        may.then_some(slot.who >> SEEN_SHIFT)
    }

    /// Evicts up to `n` entries; `gone` sees each one's key hash and value.
    pub(crate) fn evict(&mut self, n: usize, mut gone: impl FnMut(u64, Ref)) -> usize {
        let mut hand = self.hand;
        let evicted = self.turn(&mut hand, n, None, &mut gone);
        self.hand = hand;
        evicted
    }

    /// Evicts up to `n` entries of one process.
    pub(crate) fn evict_own(
        &mut self,
        incarnation: Incarnation,
        n: usize,
        mut gone: impl FnMut(u64, Ref),
    ) -> usize {
        let Some(mut hand) = self.processes.get(&incarnation.0).map(|process| process.hand) else {
            return 0;
        };
        let evicted = self.turn(&mut hand, n, Some(incarnation.0), &mut gone);
        if let Some(process) = self.processes.get_mut(&incarnation.0) {
            process.hand = hand;
        }
        evicted
    }

    /// Moves a hand on until `n` entries went, or it passed each as often as a count can say.
    fn turn(
        &mut self,
        hand: &mut Hand,
        n: usize,
        of: Option<u32>,
        gone: &mut impl FnMut(u64, Ref),
    ) -> usize {
        let mut evicted = 0;
        for _ in 0..(MAX_SEEN as usize + 1) * self.shards.len() {
            while evicted < n {
                let Some(slot) = self.slot(*hand) else { break };
                match Self::count_to_go(&slot, of) {
                    // What stood behind it may have moved here: the hand stays.
                    Some(0) => {
                        if let Some(slot) = self.take_out(*hand) {
                            gone(slot.key().hash(), Ref::unpack(slot.value));
                            evicted += 1;
                        }
                    }
                    Some(_) => {
                        self.count_down(*hand);
                        hand.slot += 1;
                    }
                    None => hand.slot += 1,
                }
            }
            if evicted == n {
                break;
            }
            let next = hand.shard + 1;
            *hand = Hand { shard: if next < self.shards.len() { next } else { 0 }, slot: 0 };
        }
        self.evictions += evicted as u64;
        self.evicted_lately += evicted;
        evicted
    }

    fn slot(&self, at: Hand) -> Option<Slot> {
        self.shards.get(at.shard)?.slots.get(at.slot).copied()
    }

    fn count_down(&mut self, at: Hand) {
        if let Some(shard) = self.shards.get_mut(at.shard)
            && let Some(slot) = shard.slots.get_mut(at.slot)
        {
            slot.who -= 1 << SEEN_SHIFT;
        }
    }

    /// Evicts one entry so that `key` finds a slot where it belongs; `own`: one of the same
    /// process. Whether one went.
    pub(crate) fn evict_beside(
        &mut self,
        key: &Key,
        own: bool,
        gone: &mut impl FnMut(u64, Ref),
    ) -> bool {
        let number = key.shard(self.shard_bits);
        let Some((n_slots, start)) = self.shards.get(number).map(|s| (s.slots.len(), s.hand))
        else {
            return false;
        };
        let of = own.then_some(key.incarnation);
        let mut at = Hand { shard: number, slot: start };
        for _ in 0..(MAX_SEEN as usize + 1) * n_slots {
            at.slot = if at.slot >= n_slots { 0 } else { at.slot };
            let count = self.slot(at).and_then(|slot| Self::count_to_go(&slot, of));
            match count {
                Some(0) => {
                    let slot = self.take_out(at);
                    if let Some(shard) = self.shards.get_mut(number) {
                        shard.hand = at.slot;
                    }
                    if let Some(slot) = slot {
                        gone(slot.key().hash(), Ref::unpack(slot.value));
                    }
                    self.evictions += 1;
                    self.evicted_lately += 1;
                    return true;
                }
                Some(_) => self.count_down(at),
                None => {}
            }
            at.slot += 1;
        }
        false
    }

    /// The process image ended: its key may come again and is another one then.
    pub(crate) fn exited(&mut self, incarnation: Incarnation) {
        if let Some(process) = self.processes.get_mut(&incarnation.0)
            && !std::mem::replace(&mut process.is_dead, true)
        {
            self.by_key.remove(&process.key);
            if process.entries == 0 {
                self.processes.remove(&incarnation.0);
                self.process_charge.shrink(PROCESS_BYTES);
            } else {
                self.n_dead += 1;
            }
        }
    }

    /// Drops the entries of dead processes, and what is known of those; how many entries.
    pub(crate) fn drop_dead(&mut self) -> usize {
        if self.n_dead == 0 {
            return 0;
        }
        let n_before = self.len;
        for shard in 0..self.shards.len() {
            let mut at = Hand { shard, slot: 0 };
            while let Some(slot) = self.slot(at) {
                let incarnation = slot.incarnation();
                let goes = slot.who != 0
                    && self.processes.get(&incarnation).is_none_or(|process| process.is_dead);
                if goes {
                    self.take_out(at);
                } else {
                    at.slot += 1;
                }
            }
        }
        let before = self.processes.len();
        self.processes.retain(|_, process| !process.is_dead);
        self.process_charge.shrink((before - self.processes.len()) * PROCESS_BYTES);
        if self.processes.capacity() > 4 * self.processes.len() + 64 {
            self.processes.shrink_to_fit();
            self.by_key.shrink_to_fit();
        }
        self.n_dead = 0;
        n_before - self.len
    }

    /// What the entries refer to.
    pub(crate) fn values(&self) -> impl Iterator<Item = Ref> + '_ {
        self.used().map(|slot| Ref::unpack(slot.value))
    }

    /// Changes what the entries refer to, and gives back what emptied.
    pub(crate) fn compact(&mut self, map: impl Fn(Ref) -> Ref) {
        self.evicted_lately = 0;
        if self.len == 0 {
            self.shards = Vec::new();
            self.shard_bits = 0;
            self.charge.shrink(self.charge.bytes() as usize);
        }
        for shard in &mut self.shards {
            for slot in shard.slots.iter_mut().filter(|slot| slot.who != 0) {
                slot.value = map(Ref::unpack(slot.value)).pack();
            }
            if shard.slots.len() > shard.len * 5 / 3 + 8 {
                let n_slots = shard.len * 5 / 4 + 4;
                self.charge.grow_anyway(n_slots * SLOT_BYTES);
                let freed = shard.resize(n_slots);
                self.charge.shrink(freed * SLOT_BYTES);
            }
        }
    }
}

impl Shard {
    fn with_slots(n_slots: usize) -> Shard {
        Shard { slots: vec![Slot::default(); n_slots].into(), len: 0, hand: 0 }
    }

    /// The next insert would pass a load of 7/8.
    fn is_full(&self) -> bool {
        (self.len + 1) * 8 > self.slots.len() * 7
    }

    fn next_size(&self, number: usize) -> usize {
        match self.slots.len() {
            0 => 8 + number % 8,
            // A shard that was shrunk must still grow.
            n => (n + n / 4).max(self.len * 5 / 4 + 8),
        }
    }

    #[inline]
    fn home(&self, print: [u32; 2]) -> usize {
        // Scales 32 bits of the hash to the number of slots: any size will do.
        ((u64::from(print[1]) * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 >= self.slots.len() { 0 } else { at + 1 }
    }

    /// Where a key stands, or the empty slot where it would; and which of the two.
    #[inline]
    fn look_for(&self, key: &Key) -> (bool, usize) {
        let home = self.home(key.print);
        // To the end of the slots, and from their beginning. There always is an empty one.
        let (before, from_home) = self.slots.split_at(home.min(self.slots.len()));
        for (slots, start) in [(from_home, home), (before, 0)] {
            for (at, slot) in slots.iter().enumerate() {
                if slot.is(key) {
                    return (true, start + at);
                }
                if slot.who == 0 {
                    return (false, start + at);
                }
            }
        }
        (false, usize::MAX)
    }

    #[inline]
    fn find(&mut self, key: &Key) -> Option<&mut Slot> {
        match self.look_for(key) {
            (true, at) => self.slots.get_mut(at),
            (false, _) => None,
        }
    }

    fn put_at(&mut self, at: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(at) {
            *place = slot;
            self.len += 1;
        }
    }

    /// Puts an entry in the first empty slot from its home on; which.
    fn put(&mut self, slot: Slot) -> usize {
        let mut at = self.home(slot.print);
        while self.slots.get(at).is_some_and(|slot| slot.who != 0) {
            at = self.after(at);
        }
        self.put_at(at, slot);
        at
    }

    /// Moves everything into `n_slots` slots; the slots it had before.
    ///
    /// Entries stand nearly in the order of their homes, before and after: most go behind the one
    /// before or to their home, without a search.
    fn resize(&mut self, n_slots: usize) -> usize {
        let old = std::mem::replace(self, Shard::with_slots(n_slots));
        // Those that found no room before the end of the slots stand at their beginning.
        let is_wrapped = |(at, slot): &(usize, &Slot)| slot.who != 0 && old.home(slot.print) > *at;
        let n_wrapped = old.slots.iter().enumerate().take_while(is_wrapped).count();
        let (wrapped, rest) = old.slots.split_at(n_wrapped);
        // All slots from `begin` to `end` are in use, and none from `end` on.
        let (mut begin, mut end) = (0, 0);
        for &slot in rest.iter().chain(wrapped).filter(|slot| slot.who != 0) {
            let home = self.home(slot.print);
            if home < begin || end >= n_slots {
                end += usize::from(self.put(slot) == end);
                continue;
            }
            let at = if home < end { end } else { home };
            begin = if home < end { begin } else { home };
            self.put_at(at, slot);
            end = at + 1;
        }
        old.slots.len()
    }

    /// Takes an entry out; those behind move up, unless that would put one before its home.
    fn remove(&mut self, at: usize) -> Option<Slot> {
        let removed = self.slots.get(at).copied().filter(|slot| slot.who != 0)?;
        let n = self.slots.len();
        let (mut hole, mut at) = (at, at);
        loop {
            at = self.after(at);
            let moved = self.slots.get(at).copied().filter(|slot| slot.who != 0);
            let Some(moved) = moved else { break };
            let from_home = (at + n - self.home(moved.print)) % n;
            let from_hole = (at + n - hole) % n;
            if from_home >= from_hole {
                self.slots[hole] = moved;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.len -= 1;
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn dynamic() -> (Budget, Dynamic) {
        let budget = Budget::new(u64::MAX);
        let dynamic = Dynamic::new(&budget, 5);
        (budget, dynamic)
    }

    /// Against a plain map: adds, changes, evictions of all sorts, exits and sweeps.
    #[test]
    fn the_table_is_a_map() {
        let (budget, mut table) = dynamic();
        let mut model: BTreeMap<(u32, u64), u32> = BTreeMap::new();
        let mut keys: HashMap<u64, (u32, u64)> = HashMap::new();
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            (state >> 33) % n
        };
        let mut living: Vec<Incarnation> = (0..5)
            .map(|i| table.incarnation(ProcessKey { tgid: i, ..Default::default() }))
            .collect();
        for step in 0..60_000u32 {
            let who = living[random(5) as usize];
            let word = random(3_000);
            let key = table.key(who, &[word, 7]);
            keys.insert(key.hash(), (who.0, word));
            match random(100) {
                0..60 => {
                    table.put(&key, Ref::Frame(step)).unwrap();
                    model.insert((who.0, word), step);
                }
                60..98 => {
                    let expect = model.get(&(who.0, word)).map(|&value| Ref::Frame(value));
                    assert_eq!(table.find(&key), expect);
                }
                98 => {
                    let n = random(40) as usize;
                    let mut gone = |hash: u64, _| assert!(model.remove(&keys[&hash]).is_some());
                    match random(3) {
                        0 => assert!(table.evict(n, gone) <= n),
                        1 => assert!(table.evict_own(who, n, gone) <= n),
                        _ => {
                            table.evict_beside(&key, random(2) == 0, &mut gone);
                        }
                    }
                }
                _ if step % 7 == 0 => {
                    let slot = random(5) as usize;
                    table.exited(living[slot]);
                    let dead = living[slot].0;
                    living[slot] =
                        table.incarnation(ProcessKey { tgid: step, ..Default::default() });
                    table.drop_dead();
                    model.retain(|&(who, _), _| who != dead);
                }
                _ => table.compact(|value| value),
            }
            assert_eq!(table.len(), model.len());
        }
        for (&(who, word), &value) in &model {
            let key = table.key(Incarnation(who), &[word, 7]);
            assert_eq!(table.find(&key), Some(Ref::Frame(value)));
        }
        assert_eq!(table.values().count(), model.len());
        let entries: u64 = table.processes.values().map(|process| process.entries).sum();
        assert_eq!(entries, model.len() as u64);
        drop(table);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn an_entry_takes_23_bytes_and_a_small_table_little() {
        let (_budget, mut table) = dynamic();
        let p = table.incarnation(ProcessKey::default());
        let (mut sum, mut n) = (0.0, 0.0);
        for i in 0..100_000u64 {
            let key = table.key(p, &[3 << 60, i]);
            table.put(&key, Ref::Frame(i as u32)).unwrap();
            let bytes = table.charge.bytes();
            assert!(bytes <= 34 * i + 2_800, "{bytes} at {i}");
            if i > 10_000 {
                sum += bytes as f64 / i as f64;
                n += 1.0;
            }
        }
        assert!(sum / n < 23.5, "{}", sum / n);
    }

    /// What is met again stays when as much passes by as there is room for.
    #[test]
    fn what_is_met_again_outlives_a_scan() {
        let (_budget, mut table) = dynamic();
        let p = table.incarnation(ProcessKey::default());
        let key = |table: &Dynamic, i: u64| table.key(p, &[i]);
        for i in 0..1_000 {
            table.put(&key(&table, i), Ref::Frame(0)).unwrap();
        }
        for hot in 0..100 {
            assert!(table.find(&key(&table, hot)).is_some());
        }
        let mut kept = 0;
        for i in 0..10_000u64 {
            for hot in [i % 100, (i * 7) % 100] {
                kept += u32::from(table.find(&key(&table, hot)).is_some());
            }
            let new = key(&table, 1_000_000 + i);
            assert!(table.evict_beside(&new, false, &mut |_, _| ()));
            table.put(&new, Ref::Frame(1)).unwrap();
        }
        assert_eq!(kept, 20_000);
    }
}
