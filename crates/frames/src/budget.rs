//! Who holds how many bytes, under one limit.
//!
//! In: charges, taken before memory is. Out: refusals, and a report by owner. A [`Budget`] is a
//! limit; a budget carved out of another is charged to both, so a share never exceeds the whole.
//! An [`Owner`] is a name in the report. A [`Charge`] is what one structure holds; dropping it
//! gives everything back.
//!
//! # Cost
//! A charge is one compare-and-swap per budget on its path. Structures charge by the chunk, so a
//! known frame or stack charges nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A charge that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{owner} asked for {asked_bytes} bytes where {free_bytes} are free")]
pub struct Refused {
    /// Who asked.
    pub owner: &'static str,
    /// How much it asked for.
    pub asked_bytes: u64,
    /// What was free in the budget that refused.
    pub free_bytes: u64,
}

/// A limit in bytes and what is held under it. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Limit>);

#[derive(Debug)]
struct Limit {
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    parent: Option<Budget>,
    /// Every owner below this budget, those of carved budgets included.
    owners: Mutex<Vec<Arc<Books>>>,
}

#[derive(Debug)]
struct Books {
    name: &'static str,
    bytes: AtomicU64,
    peak: AtomicU64,
    refused: AtomicU64,
}

/// What an owner holds and held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The owner's name.
    pub owner: &'static str,
    /// Bytes held now.
    pub bytes: u64,
    /// The most bytes it held at once.
    pub peak_bytes: u64,
    /// Charges that were refused.
    pub refused: u64,
}

impl Budget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Budget {
        Budget::with_parent(limit_bytes, None)
    }

    fn with_parent(limit_bytes: u64, parent: Option<Budget>) -> Budget {
        Budget(Arc::new(Limit {
            limit: AtomicU64::new(limit_bytes),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            parent,
            owners: Mutex::new(Vec::new()),
        }))
    }

    /// A share of this budget: what is charged to it is charged to both.
    pub fn carve(&self, limit_bytes: u64) -> Budget {
        Budget::with_parent(limit_bytes, Some(self.clone()))
    }

    /// A name under which charges are reported. Names need not be unique; equal ones are listed
    /// apart.
    pub fn owner(&self, name: &'static str) -> Owner {
        let books = Arc::new(Books {
            name,
            bytes: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        for budget in self.path() {
            let mut owners = budget.0.owners.lock().unwrap_or_else(PoisonError::into_inner);
            owners.push(books.clone());
        }
        Owner { budget: self.clone(), books }
    }

    /// The limit, bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit.load(Relaxed)
    }

    /// Sets the limit. Below what is held, nothing is taken away, and every charge is refused
    /// until enough was released.
    pub fn set_limit_bytes(&self, limit_bytes: u64) {
        self.0.limit.store(limit_bytes, Relaxed);
    }

    /// Bytes held.
    pub fn used_bytes(&self) -> u64 {
        self.0.used.load(Relaxed)
    }

    /// The most bytes held at once.
    pub fn peak_bytes(&self) -> u64 {
        self.0.peak.load(Relaxed)
    }

    /// Bytes that a charge could still get, here and in every budget above; 0 when over.
    pub fn free_bytes(&self) -> u64 {
        self.path()
            .map(|budget| budget.limit_bytes().saturating_sub(budget.used_bytes()))
            .min()
            .unwrap_or(0)
    }

    /// What each owner holds, in the order in which they appeared.
    pub fn held(&self) -> Vec<Held> {
        let owners = self.0.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.iter().map(|books| books.held()).collect()
    }

    /// This budget and those it was carved from.
    fn path(&self) -> impl Iterator<Item = &Budget> {
        std::iter::successors(Some(self), |budget| budget.0.parent.as_ref())
    }

    fn take(&self, bytes: u64, forced: bool) -> Result<(), u64> {
        for (depth, budget) in self.path().enumerate() {
            if let Err(free) = budget.0.take(bytes, forced) {
                for taken in self.path().take(depth) {
                    taken.0.used.fetch_sub(bytes, Relaxed);
                }
                return Err(free);
            }
        }
        Ok(())
    }

    fn give(&self, bytes: u64) {
        for budget in self.path() {
            budget.0.used.fetch_sub(bytes, Relaxed);
        }
    }
}

impl Limit {
    fn take(&self, bytes: u64, forced: bool) -> Result<(), u64> {
        let mut used = self.used.load(Relaxed);
        loop {
            let wanted = used.saturating_add(bytes);
            let limit = self.limit.load(Relaxed);
            if wanted > limit && !forced {
                return Err(limit.saturating_sub(used));
            }
            match self.used.compare_exchange_weak(used, wanted, Relaxed, Relaxed) {
                Ok(_) => {
                    self.peak.fetch_max(wanted, Relaxed);
                    return Ok(());
                }
                Err(now) => used = now,
            }
        }
    }
}

impl Books {
    fn held(&self) -> Held {
        Held {
            owner: self.name,
            bytes: self.bytes.load(Relaxed),
            peak_bytes: self.peak.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

/// A name in the report, and the budget that its charges go to.
#[derive(Debug, Clone)]
pub struct Owner {
    budget: Budget,
    books: Arc<Books>,
}

impl Owner {
    /// A charge of nothing yet, to grow.
    pub fn charge(&self) -> Charge {
        Charge { owner: self.clone(), bytes: 0 }
    }

    /// What the owner holds.
    pub fn held(&self) -> Held {
        self.books.held()
    }
}

/// The bytes that one structure holds. Dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    owner: Owner,
    bytes: u64,
}

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`Refused`] when that does not fit; nothing is taken then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let asked_bytes = bytes as u64;
        match self.owner.budget.take(asked_bytes, false) {
            Ok(()) => {
                self.count(asked_bytes);
                Ok(())
            }
            Err(free_bytes) => {
                self.owner.books.refused.fetch_add(1, Relaxed);
                Err(Refused { owner: self.owner.books.name, asked_bytes, free_bytes })
            }
        }
    }

    /// Takes `bytes` more even where they do not fit: for memory that exists already.
    pub fn grow_anyway(&mut self, bytes: usize) {
        // A forced charge is never refused.
        let _ = self.owner.budget.take(bytes as u64, true);
        self.count(bytes as u64);
    }

    /// Holds `bytes` from now on, whether they fit or not: for memory that is measured, not asked
    /// for.
    pub fn set(&mut self, bytes: usize) {
        let held = self.bytes as usize;
        match bytes.checked_sub(held) {
            Some(more) => self.grow_anyway(more),
            None => self.shrink(held - bytes),
        }
    }

    /// Gives `bytes` back, at most what is held.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.bytes);
        self.bytes -= bytes;
        self.owner.books.bytes.fetch_sub(bytes, Relaxed);
        self.owner.budget.give(bytes);
    }

    /// Bytes held by this charge.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        let now = self.owner.books.bytes.fetch_add(bytes, Relaxed) + bytes;
        self.owner.books.peak.fetch_max(now, Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_never_exceeds_the_whole() {
        let whole = Budget::new(100);
        let share = whole.carve(80);
        let mut inside = share.owner("inside").charge();
        let mut beside = whole.owner("beside").charge();
        inside.grow(60).unwrap();
        assert_eq!(inside.grow(30).unwrap_err().free_bytes, 20);
        beside.grow(30).unwrap();
        let refused = inside.grow(20).unwrap_err();
        assert_eq!((refused.owner, refused.free_bytes), ("inside", 10));
        assert_eq!((share.used_bytes(), whole.used_bytes()), (60, 90));
        assert_eq!(share.free_bytes(), 10);
        drop(beside);
        inside.grow(20).unwrap();
        drop(inside);
        assert_eq!((share.used_bytes(), whole.used_bytes()), (0, 0));
        assert_eq!(whole.held()[0].peak_bytes, 80);
        assert_eq!(whole.held()[0].refused, 2);
    }

    #[test]
    fn a_lowered_limit_refuses_until_enough_was_released() {
        let budget = Budget::new(100);
        let mut charge = budget.owner("x").charge();
        charge.grow(90).unwrap();
        budget.set_limit_bytes(50);
        assert!(charge.grow(1).is_err());
        charge.shrink(60);
        charge.grow(20).unwrap();
        charge.grow_anyway(100);
        assert_eq!((budget.used_bytes(), budget.free_bytes()), (150, 0));
        charge.set(30);
        assert_eq!((budget.used_bytes(), budget.free_bytes()), (30, 20));
        charge.set(60);
        assert_eq!((budget.used_bytes(), budget.peak_bytes()), (60, 150));
    }

    /// Four threads charge and release against one limit: it never goes over, and nothing is
    /// lost.
    #[test]
    fn threads_share_one_limit() {
        let budget = Budget::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let share = budget.carve(600);
                scope.spawn(move || {
                    let mut charge = share.owner("thread").charge();
                    for step in 0..20_000 {
                        if charge.grow(step % 97).is_err() {
                            charge.shrink(charge.bytes() as usize);
                        }
                    }
                });
            }
        });
        assert!(budget.peak_bytes() <= 1_000);
        assert!(budget.peak_bytes() > 400);
        assert_eq!(budget.used_bytes(), 0);
    }
}
