//! Names of evicted dynamic frames, remembered a while: 16 bytes each in a ring.
//!
//! When a frame comes again and its process's memory can no longer be read, its name is still
//! here. The key is a 64-bit hash of the frame's whole key, cookie and incarnation included.

use crate::budget::{Charge, Owner};
use crate::refs::Ref;

/// See the module's documentation. The ring is direct mapped: a newer one overwrites an older one
/// of the same slot.
#[derive(Debug)]
pub(crate) struct Tombstones {
    slots: Vec<(u64, u32)>,
    n_slots: usize,
    len: usize,
    charge: Charge,
}

impl Tombstones {
    pub(crate) fn new(owner: &Owner, n_slots: usize) -> Tombstones {
        Tombstones { slots: Vec::new(), n_slots, len: 0, charge: owner.charge() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn add(&mut self, hash: u64, value: Ref) {
        if self.slots.is_empty() {
            // Taken when something was evicted, which is when memory is short: no room, no stone.
            if self.n_slots == 0
                || self.charge.grow(self.n_slots * size_of::<(u64, u32)>()).is_err()
            {
                return;
            }
            self.slots = vec![(0, Ref::None.pack()); self.n_slots];
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
