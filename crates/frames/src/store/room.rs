//! Room: who holds more than a share, what goes when a charge is refused, and the sweep that frees what
//! nothing refers to.
//!
//! In: a refusal of the budget. Out: whether another try is worth it. Cold names of static code and dynamic
//! entries go in parts, those of processes over their share first; a sweep then marks from the stacks, the parked
//! ones, the look-up tables and the notes, and moves what is marked together. After an attempt that gained
//! little, refusals are passed on for a while.
//!
//! # Cost
//! A sweep: time in proportion to what is held, and a bit and a half a row while it lasts.

use super::Store;
use crate::dynamic::{Incarnation, Process};
use crate::marks::Marks;
use crate::refs::Ref;

impl Store {
    /// Whether a process holds more than its share while others have something to lose.
    pub(super) fn is_hog(&self, process: &Process) -> bool {
        let share = self.budget.limit_bytes() / self.config.share_divisor.max(1);
        process.bytes() > share.max(self.config.min_share_bytes) && self.dynamic.processes.len() > 1
    }

    /// A process over its share may grow only while an eighth of the budget is free for others.
    fn is_over_share(&self, incarnation: Incarnation) -> bool {
        self.dynamic.processes.get(&incarnation.0).is_some_and(|p| self.is_hog(p))
            && self.budget.free_bytes() < self.budget.limit_bytes() / 8
    }

    /// The same after an attempt to make room.
    pub(super) fn stays_over_share(&mut self, incarnation: Incarnation) -> bool {
        self.is_over_share(incarnation) && {
            self.make_room(Cold::Nothing);
            self.is_over_share(incarnation)
        }
    }

    /// Books what the tables grew by on a process.
    pub(super) fn book_growth(&mut self, incarnation: Incarnation, before_bytes: u64) {
        let grown = self.budget.used_bytes().saturating_sub(before_bytes);
        if grown > 0
            && let Some(process) = self.dynamic.processes.get_mut(&incarnation.0)
        {
            process.identity_bytes += grown;
        }
    }

    /// Something was refused: a part of the names of static code goes, the coldest, where
    /// `cold` allows it; and a part of the dynamic entries, those of processes over their share
    /// first. Whether that is worth another try.
    pub(super) fn make_room(&mut self, cold: Cold) -> bool {
        if self.has_grafts || self.be_patient() {
            return false;
        }
        let before = self.budget.used_bytes();
        // Nobody asks for what dead processes left.
        let dropped = self.dynamic.drop_dead();
        // A budget that was lowered is reached in one step as far as caches can give.
        let over = u128::from(before.saturating_sub(self.budget.limit_bytes()));
        let part = |len: usize| {
            let for_over = len as u128 * over / u128::from(before.max(1));
            (len.div_ceil(EVICTED_PART) + for_over as usize).min(len)
        };
        if cold == Cold::Names {
            let n = part(self.places.len());
            self.counters.names_forgotten += self.places.forget_cold_names(n);
        }
        // What went one by one since the last sweep counts.
        let lately = self.dynamic.evicted_lately + dropped;
        let mut n = part(self.dynamic.len()).saturating_sub(lately);
        let mut evicted = lately;
        let processes = &self.dynamic.processes;
        let hogs: Vec<u32> = processes
            .iter()
            .filter(|(_, process)| self.is_hog(process))
            .map(|(&incarnation, _)| incarnation)
            .collect();
        let tombstones = &mut self.tombstones;
        let mut note = |hash, value| tombstones.add(hash, value);
        for incarnation in hogs {
            let own = self.dynamic.evict_own(Incarnation(incarnation), n, &mut note);
            evicted += own;
            n -= own;
        }
        evicted += self.dynamic.evict(n, &mut note);
        self.sweep_now();
        // Slots of the look-up table that are free again are room as well.
        let slots = evicted > self.dynamic.len() / 64 && evicted > 0;
        let freed = self.budget.used_bytes() < before && self.budget.free_bytes() > 0;
        let gained = self.budget.free_bytes() >= self.budget.limit_bytes() / 64;
        self.end_patience(freed && gained || slots);
        freed || slots
    }

    /// After an attempt that gained little, refusals are passed on for a while: a sweep costs time
    /// in proportion to the store.
    fn be_patient(&mut self) -> bool {
        let wait = self.patience > 0;
        self.patience = self.patience.saturating_sub(1);
        wait
    }

    fn end_patience(&mut self, gained: bool) {
        self.last_patience = if gained { 0 } else { (self.last_patience * 2).clamp(64, 1 << 16) };
        self.patience = self.last_patience;
    }

    /// To be called between profiles, when the last one was exported and forgotten stacks are
    /// forgotten: frees what no stack and no lookup cache needs, and what dead processes left.
    /// Stacks keep their numbers; numbers of functions, modules and nodes change.
    /// Nothing happens to a store onto which stacks were grafted.
    pub fn sweep(&mut self) {
        if self.has_grafts {
            return;
        }
        self.dynamic.drop_dead();
        self.sweep_now();
        self.patience = 0;
        self.last_patience = 0;
    }

    fn sweep_now(&mut self) {
        self.counters.sweeps += 1;
        let before = self.budget.used_bytes();
        let mut names = self.names.new_marks();
        let node_marks = {
            let mut marks = self.stacks.marks();
            marks.rank();
            marks
        };
        let mut places = Marks::new(self.places.len());
        for id in 0..self.places.len() as u32 {
            if self.places.named(id) != Ref::None {
                places.mark(id);
            }
        }
        let mut mark = |names: &mut _, reference: Ref| match reference {
            Ref::Frame(id) => mark_frame(names, id),
            Ref::Chain(at) => self.names.mark_chain(names, at),
            Ref::Place(id) => {
                places.mark(id);
            }
            Ref::Pending(_) | Ref::None => {}
        };
        for id in 1..self.stacks.n_nodes() as u32 {
            if node_marks.has(id) {
                mark(&mut names, Ref::unpack(self.stacks.node(id).1));
            }
        }
        for parked in self.parked.iter().flatten() {
            for &frame in &parked.frames {
                mark(&mut names, Ref::unpack(frame));
            }
        }
        for value in self.dynamic.values() {
            mark(&mut names, value);
        }
        for value in self.tombstones.values() {
            mark(&mut names, value);
        }
        for &(_, _, id) in &self.notes {
            mark(&mut names, Ref::Frame(id));
        }
        for id in 0..self.places.len() as u32 {
            if places.has(id) {
                match self.places.named(id) {
                    Ref::Frame(id) => mark_frame(&mut names, id),
                    Ref::Chain(at) => self.names.mark_chain(&mut names, at),
                    _ => {}
                }
            }
        }
        places.rank();
        self.names.compact(&mut names);
        let map = |reference: Ref| match reference {
            Ref::Frame(id) => names.frames.new_id(id).map_or(Ref::None, Ref::Frame),
            Ref::Chain(at) => names.chains.new_id(at).map_or(Ref::None, Ref::Chain),
            Ref::Place(id) => places.new_id(id).map_or(Ref::None, Ref::Place),
            other => other,
        };
        self.places.compact(&places, map);
        self.dynamic.compact(map);
        self.tombstones.map(map);
        self.stacks.compact(&node_marks, |frame| map(Ref::unpack(frame)).pack());
        for frame in self.parked.iter_mut().flatten().flat_map(|parked| &mut parked.frames) {
            *frame = map(Ref::unpack(*frame)).pack();
        }
        for (_, _, id) in &mut self.notes {
            *id = names.frames.new_id(*id).unwrap_or_default();
        }
        // What a process brought shrinks with the whole.
        let after = self.budget.used_bytes();
        for process in self.dynamic.processes.values_mut() {
            let scaled = u128::from(process.identity_bytes) * u128::from(after.min(before));
            process.identity_bytes = (scaled / u128::from(before.max(1))) as u64;
        }
    }
}

/// One entry of so many goes at once: a sweep's time is spread over that many inserts, and on
/// average half of them stand empty.
pub(super) const EVICTED_PART: usize = 12;

/// What may be forgotten to make room, beside dynamic entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cold {
    /// Names of static code that no sample met since the last sweep.
    Names,
    Nothing,
}

fn mark_frame(names: &mut crate::names::NameMarks, id: u32) {
    names.frames.mark(id);
}
