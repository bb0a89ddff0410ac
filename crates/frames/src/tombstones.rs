//! Names of evicted dynamic frames, remembered a while: 16 bytes each in a ring.
//!
//! When a frame comes again and its process's memory can no longer be read, its name is still
//! here. The key is a 64-bit hash of the frame's whole key, cookie and incarnation included.

use crate::budget::{Budget, Charge};
use crate::refs::Ref;

const SLOT_BYTES: usize = size_of::<(u64, u32)>();
/// The ring takes at most the budget divided by this.
const PART: u64 = 32;

/// See the module's documentation. The ring is direct mapped: a newer one overwrites an older one
/// of the same slot.
#[derive(Debug)]
pub(crate) struct Tombstones {
    slots: Vec<(u64, u32)>,
    n_slots: usize,
    len: usize,
    charge: Charge,
    budget: Budget,
}

impl Tombstones {
    pub(crate) fn new(budget: &Budget, n_slots: usize) -> Tombstones {
        let charge = budget.owner("lookup.tombstones").charge();
        Tombstones { slots: Vec::new(), n_slots, len: 0, charge, budget: budget.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn add(&mut self, hash: u64, value: Ref) {
        if self.slots.is_empty() {
            // Taken when something was evicted, which is when memory is short: no room, no stone.
            let most = self.budget.limit_bytes() / PART / SLOT_BYTES as u64;
            let n_slots = self.n_slots.min(usize::try_from(most).unwrap_or(usize::MAX));
            if n_slots == 0 || self.charge.grow(n_slots * SLOT_BYTES).is_err() {
                return;
            }
            self.slots = vec![(0, Ref::None.pack()); n_slots];
        }
        let n = self.slots.len() as u64;
        if let Some(slot) = self.slots.get_mut((hash % n) as usize) {
            self.len += usize::from(slot.1 == Ref::None.pack());
            *slot = (hash, value.pack());
        }
    }

    pub(crate) fn find(&self, hash: u64) -> Option<Ref> {
        let n = self.slots.len().max(1) as u64;
        let &(found, value) = self.slots.get((hash % n) as usize)?;
        let value = Ref::unpack(value);
        (found == hash && value != Ref::None).then_some(value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Ref> + '_ {
        self.slots.iter().map(|&(_, value)| Ref::unpack(value)).filter(|&value| value != Ref::None)
    }

    pub(crate) fn map(&mut self, map: impl Fn(Ref) -> Ref) {
        for (_, value) in &mut self.slots {
            *value = map(Ref::unpack(*value)).pack();
        }
    }
}
