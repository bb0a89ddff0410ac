//! Who holds how many bytes: one limit over everything that `--memory` bounds.
//!
//! In: charges of the frame store and the recording, what the counting allocator counts, what the
//! kernel says of this process and of the maps. Out: a limit for the recording's share that leaves
//! the rest its room, and the `memory` part of the books.
//!
//! # How it works
//! What grows with what is recorded charges its bytes before it takes them and can be refused; all
//! else is measured: maps by the kernel's own figures, heap by the counting allocator, code and what
//! the system allocator holds beyond that by `/proc/self/status`. Once a second what is left for the
//! recording is set anew.
//!
//! # Cost
//! A measurement takes about 30 microseconds.

use hotframe_frames::{Budget, Charge, Report};
use serde_json::{Map, Value, json};

/// The system allocator's own overhead, as a part of live bytes: one sixteenth.
const OVERHEAD_PART: u64 = 16;
/// What the system allocator may hold that nobody uses.
const SLACK_PART: u64 = 16;
/// Kept free: what is taken between two measurements.
const MARGIN_PART: u64 = 32;

/// Naming, building the profile and writing hold so many bytes for each that a recording's stacks,
/// samples and names take, these included, in quarters: 2.25. Most is held while the profile is built:
/// a node is charged 15 bytes, of which 8 stay, and takes 8 in the profile and 5 in its index;
/// a sample 23, then 50; a name about 2.3 times what it was charged. `testing/soak` watches it.
const WRITING_QUARTERS: u64 = 9;
/// What a recording holds without names is about a half of what it holds with them.
const NAMED_PART: u64 = 2;

/// What the kernel says this process holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// Heap and stacks.
    pub anonymous: u64,
    /// Code, and pages of maps and rings that are mapped.
    pub mapped: u64,
    /// The most that was resident at once.
    pub peak: u64,
}

impl Resident {
    /// Of this process, now.
    pub fn now() -> Resident {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Resident::parse(&text)
    }

    fn parse(status: &str) -> Resident {
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kib| kib << 10)
        };
        Resident {
            anonymous: field("RssAnon"),
            mapped: field("RssFile") + field("RssShmem"),
            peak: field("VmHWM"),
        }
    }
}

/// An owner whose bytes are measured.
#[derive(Debug)]
struct Measured {
    name: &'static str,
    charge: Charge,
    peak_bytes: u64,
    entries: u64,
    evictions: u64,
    refused: u64,
}

/// All of `--memory`.
#[derive(Debug)]
pub struct Ledger {
    whole: Budget,
    /// The share of the recording: stacks, names, samples, processes.
    pub recording: Budget,
    /// The most that this share may be.
    share_bytes: u64,
    /// What writing holds beside the profile, in percent of it.
    pub writing_percent: u64,
    measured: Vec<Measured>,
    stages: Vec<(&'static str, u64)>,
    peak_bytes: u64,
}

impl Ledger {
    /// For `limit_bytes` in all, of which the recording may have `share_bytes`.
    pub fn new(limit_bytes: u64, share_bytes: u64) -> Ledger {
        let whole = Budget::new(limit_bytes);
        let recording = whole.carve(share_bytes);
        let (measured, stages) = (Vec::new(), Vec::new());
        Ledger {
            whole,
            recording,
            share_bytes,
            writing_percent: 0,
            measured,
            stages,
            peak_bytes: 0,
        }
    }

    /// Notes what an owner holds now, and what it did so far.
    pub fn measure(&mut self, name: &'static str, bytes: u64, counts: Counts) {
        let at = match self.measured.iter().position(|one| one.name == name) {
            Some(at) => at,
            None => {
                let charge = self.whole.owner(name).charge();
                let new =
                    Measured { name, charge, peak_bytes: 0, entries: 0, evictions: 0, refused: 0 };
                self.measured.push(new);
                self.measured.len() - 1
            }
        };
        if let Some(one) = self.measured.get_mut(at) {
            one.charge.set(bytes as usize);
            one.peak_bytes = one.peak_bytes.max(bytes);
            one.entries = counts.entries;
            one.evictions = counts.evictions;
            one.refused = counts.refused;
        }
    }

    /// What is learnt of files to make their rows, and what runtimes keep of processes, may each take so much: a
    /// sixteenth.
    pub fn learnt_bytes(&self) -> usize {
        (self.whole.limit_bytes() / 16) as usize
    }

    /// Measures this process, after everything else was: what no owner accounts for is heap of its
    /// own kind. Then sets what the recording may have. Of the kernel's maps and rings `mapped_bytes` lie
    /// in our address space and are in what is resident as far as they were touched, `other_bytes` do not.
    pub fn settle(&mut self, mapped_bytes: u64, other_bytes: u64) {
        let mut resident = Resident::now();
        let live = hotframe_alloc::total_bytes();
        // What the system allocator holds between what is used is given back before it is much.
        if resident.anonymous.saturating_sub(live) > self.whole.limit_bytes() / SLACK_PART {
            hotframe_alloc::trim();
            resident = Resident::now();
        }
        let in_heap: u64 = self
            .measured
            .iter()
            .filter(|one| HEAP.contains(&one.name))
            .map(|one| one.charge.bytes())
            .sum();
        let other = live.saturating_sub(in_heap + self.recording.used_bytes());
        self.measure("heap.other", other, Counts::default());
        self.measure("heap.allocator", resident.anonymous.saturating_sub(live), Counts::default());
        self.measure("code", resident.mapped.saturating_sub(mapped_bytes), Counts::default());
        let now = resident.anonymous + resident.mapped.max(mapped_bytes) + other_bytes;
        self.peak_bytes = self.peak_bytes.max(now);
        self.recording.set_limit_bytes(self.room_bytes().min(self.share_bytes));
    }

    /// The most of resident memory and maps together, each page once.
    pub fn held_peak_bytes(&self) -> u64 {
        self.peak_bytes.max(Resident::now().peak)
    }

    /// What the recording may have when everything else keeps what it holds.
    pub fn room_bytes(&self) -> u64 {
        let limit = self.whole.limit_bytes();
        // What the system allocator holds and nobody uses is used again.
        let held: u64 = self
            .measured
            .iter()
            .filter(|one| one.name != "heap.allocator")
            .map(|one| one.charge.bytes())
            .sum();
        let overhead = hotframe_alloc::total_bytes() / OVERHEAD_PART;
        limit.saturating_sub(held + overhead + limit / MARGIN_PART)
    }

    /// What a recording may hold before names are added, so that these and what is written fit once
    /// the kernel's part was given back. No more than half of what is free now: a heap that has
    /// grown and shrunk holds more than is asked of it, and files come while it records.
    pub fn part_bytes(&self) -> u64 {
        let returned: u64 = self
            .measured
            .iter()
            .filter(|one| RETURNED.contains(&one.name))
            .map(|one| one.charge.bytes())
            .sum();
        let room = self.room_bytes();
        let written = self.building(room + returned) * 4 / WRITING_QUARTERS / NAMED_PART;
        written.min(room / 2)
    }

    /// Gives back what only recording needed. What naming, building the profile and writing may
    /// hold in all from now on; the recording's share is what it may hold with its names for that.
    pub fn room_for_writing(&mut self) -> u64 {
        for owner in RETURNED {
            self.release(owner);
        }
        let room = self.building(self.room_bytes());
        self.share_bytes = room * 4 / WRITING_QUARTERS;
        self.recording.set_limit_bytes(self.share_bytes);
        // The system allocator's own overhead on what is still to be taken.
        room - room / OVERHEAD_PART
    }

    /// Of what there is, what may be held while the profile is built: it is half of that then, so
    /// that a writer which holds more than the profile again needs the rest.
    fn building(&self, room_bytes: u64) -> u64 {
        room_bytes * 200 / (100 + self.writing_percent).max(200)
    }

    /// Nothing is held by this owner any more.
    fn release(&mut self, name: &'static str) {
        if let Some(one) = self.measured.iter_mut().find(|one| one.name == name) {
            one.charge.set(0);
        }
    }

    /// Ends a stage of the work: the most heap that it held at once.
    pub fn end_stage(&mut self, name: &'static str) {
        hotframe_alloc::trim();
        self.stages.push((name, hotframe_alloc::peak_bytes()));
        hotframe_alloc::reset_peak();
    }

    /// The `memory` part of the books, and that of the stages.
    pub fn json(&self, store: &[Report]) -> (Value, Value) {
        let mut owners = Map::new();
        for report in store {
            let misses: Map<String, Value> =
                report.misses.iter().map(|(cause, n)| ((*cause).to_owned(), json!(n))).collect();
            owners.insert(
                report.owner.to_owned(),
                json!({
                    "bytes": report.bytes,
                    "peak_bytes": report.peak_bytes,
                    "entries": report.entries,
                    "hits": report.hits,
                    "misses": misses,
                    "evictions": report.evictions,
                    "refused": report.refused,
                }),
            );
        }
        for held in self.recording.held() {
            if owners.contains_key(held.owner) {
                continue;
            }
            owners.insert(
                held.owner.to_owned(),
                json!({
                    "bytes": held.bytes,
                    "peak_bytes": held.peak_bytes,
                    "entries": 0,
                    "hits": 0,
                    "misses": {},
                    "evictions": 0,
                    "refused": held.refused,
                }),
            );
        }
        for one in &self.measured {
            owners.insert(
                one.name.to_owned(),
                json!({
                    "bytes": one.charge.bytes(),
                    "peak_bytes": one.peak_bytes,
                    "entries": one.entries,
                    "hits": 0,
                    "misses": {},
                    "evictions": one.evictions,
                    "refused": one.refused,
                }),
            );
        }
        let stages: Map<String, Value> =
            self.stages.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect();
        (owners.into(), stages.into())
    }
}

/// Measured owners whose bytes the counting allocator counts as well.
const HEAP: [&str; 5] = ["processes", "files", "perf_maps", "runtimes.told", "runtimes.kept"];

/// Measured owners that are given back when recording ends.
const RETURNED: [&str; 6] = ["tables", "ring", "sideband", "kernel.maps", "files", "processes"];

/// What an owner has and did, beside its bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries held.
    pub entries: u64,
    /// Entries taken out to make room.
    pub evictions: u64,
    /// Requests that found no room.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_figures() {
        let status = "Name:\thotframe\nVmHWM:\t   30000 kB\nRssAnon:\t    1024 kB\n\
                      RssFile:\t    2048 kB\nRssShmem:\t       4 kB\n";
        let resident = Resident::parse(status);
        assert_eq!(resident.anonymous, 1 << 20);
        assert_eq!(resident.mapped, (2 << 20) + (4 << 10));
        assert_eq!(resident.peak, 30_000 << 10);
        assert_eq!(Resident::parse("VmHWM: much kB\n"), Resident::default());
    }

    /// What others hold is not the recording's, and comes back when it is released.
    #[test]
    fn the_recording_has_what_is_left() {
        let mut ledger = Ledger::new(1 << 30, 512 << 20);
        ledger.measure("tables", 700 << 20, Counts::default());
        ledger.settle(0, 0);
        let left = ledger.recording.limit_bytes();
        assert!(left < 300 << 20, "{left}");
        let mut charge = ledger.recording.owner("stacks").charge();
        assert!(charge.grow(310 << 20).is_err());
        ledger.measure("tables", 100 << 20, Counts::default());
        ledger.settle(0, 0);
        assert_eq!(ledger.recording.limit_bytes(), 512 << 20);
        assert!(ledger.part_bytes() <= ledger.room_bytes() / 2);
        charge.grow(310 << 20).unwrap();
        let (memory, _) = ledger.json(&[]);
        assert_eq!(memory["tables"]["bytes"], 100 << 20);
        assert_eq!(memory["tables"]["peak_bytes"], 700 << 20);
        assert_eq!(memory["stacks"]["bytes"], 310 << 20);
        assert_eq!(memory["stacks"]["refused"], 1);
    }
}
