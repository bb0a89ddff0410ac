//! Recorded processes that are damaged: mutations by random numbers, and by a fuzzer.

use super::{Course, RecordedProcess, Walked, recorded_cases};
use hotframe_abi as abi;
use hotframe_runtime::Runtime;
use std::sync::{Mutex, PoisonError};

/// A walk of [`abi::HF_MAX_STEPS`] steps reads no more often: a step makes some tens of reads at most.
const WALK_READS_MAX: u64 = abi::HF_MAX_STEPS as u64 * 128;

/// Naming one frame reads no more often: 128 methods inlined into each other, each with a table of
/// lines of 64 pages that is read twice.
const FRAME_READS_MAX: u64 = 128 * 160;

/// Bytes of an edit: what, where (6), with what (8), and one to spare.
const EDIT_BYTES: usize = 16;

/// Every recorded process of `testing/recorded/<kind>`, damaged in many ways, still ends: no panic, no
/// walk and no name that takes more reads than the bounds allow. The same damage in every run;
/// `MUTATIONS=100000` for a long one.
///
/// # Panics
/// If a bound is passed, a case cannot be read, or there is none: for tests.
pub fn check_damaged(runtimes: &[&'static dyn Runtime], kind: &str) {
    let cases = recorded_cases(kind);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let damage_one = |(number, process): (u64, &RecordedProcess)| {
        let mut random = Random(4 + number);
        let whole = process.walk(runtimes);
        let (mut walks, mut named, mut differ) = (0, 0, 0);
        for _ in 0..n_mutations(30) {
            let edits: Vec<u8> = (0..random.below(8) * EDIT_BYTES + EDIT_BYTES)
                .map(|_| random.next() as u8)
                .collect();
            let walked = walk_damaged(runtimes, process, &edits);
            walks += 1;
            named += walked.named.iter().filter(|frames| frames.is_ok()).count();
            differ += usize::from(walked != whole);
        }
        (walks, named, differ)
    };
    let next = Mutex::new((0..).zip(cases.iter().map(|(_, process)| process)));
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (mut walks, mut named, mut differ) = (0, 0, 0);
    std::thread::scope(|scope| {
        let work = || std::iter::from_fn(take).map(damage_one).collect::<Vec<_>>();
        let workers: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            for of_case in worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                walks += of_case.0;
                named += of_case.1;
                differ += of_case.2;
            }
        }
    });
    // Damage that is nowhere looked at, and damage after which nothing is left, would prove nothing.
    assert!(differ * 8 > walks, "{differ} of {walks} walks were hit");
    assert!(runtimes.is_empty() || named > walks, "{named} frames named in {walks} walks");
}

/// Walks a recorded process that was damaged as `edits` say, and checks the bounds.
///
/// # Panics
/// If one is passed: for tests and fuzzing.
pub fn walk_damaged(
    runtimes: &[&'static dyn Runtime],
    process: &RecordedProcess,
    edits: &[u8],
) -> Walked {
    let mut damaged = process.clone();
    for edit in edits.chunks_exact(EDIT_BYTES) {
        damaged.damage(edit);
    }
    let run = damaged.run(runtimes, Course::Stopped);
    check_walked(&run.walked);
    assert!(run.walk_reads <= WALK_READS_MAX, "a walk made {} reads", run.walk_reads);
    let frame_reads = run.walked.reads.iter().max().copied().unwrap_or_default();
    assert!(frame_reads <= FRAME_READS_MAX, "a name took {frame_reads} reads");
    run.walked
}

pub(super) fn check_walked(walked: &Walked) {
    assert!(walked.words.len() <= abi::HF_MAX_STACK_WORDS as usize);
    assert!(u32::from(walked.cut) < abi::HF_CUT_COUNT);
    for frames in walked.named.iter().flatten() {
        assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.name.is_empty()));
    }
}

impl RecordedProcess {
    /// Damages one thing, mostly where it hurts.
    pub(super) fn damage(&mut self, edit: &[u8]) {
        let byte = |at: usize| edit.get(at).copied().unwrap_or_default();
        let word = |from: usize, n: usize| {
            (from..from + n).rev().fold(0u64, |word, at| word << 8 | u64::from(byte(at)))
        };
        let (what, place, value) = (byte(0), word(1, 6), word(7, 8));
        let pick = |n: usize| (place % n.max(1) as u64) as usize;
        // A value that a pointer, a length or a count may have, or any.
        let pieces = self.memory.len();
        let inside = |memory: &[(u64, Vec<u8>)]| {
            memory.get((value >> 32) as usize % pieces.max(1)).map_or(value, |(start, bytes)| {
                start.wrapping_add((value % (bytes.len() as u64 + 16)) & !7)
            })
        };
        let value = match byte(15) % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MAX as u64,
            3 => value & 0xff,
            4 => value & 0xffff_ffff,
            5 | 6 => inside(&self.memory),
            _ => value,
        };
        match what % 16 {
            0 => {
                let at = pick(self.regs.len());
                if let Some(reg) = self.regs.get_mut(at) {
                    *reg = value;
                }
            }
            1 => {
                let at = pick(self.regs.len());
                if let Some(reg) = self.regs.get_mut(at) {
                    *reg = reg.wrapping_add(value & 0xffff).wrapping_sub(0x8000);
                }
            }
            2 if pieces != 0 => {
                self.memory.remove(pick(pieces));
            }
            3 => {
                let at = pick(pieces);
                if let Some((_, bytes)) = self.memory.get_mut(at) {
                    bytes.truncate((value % (bytes.len() as u64 + 1)) as usize);
                }
            }
            4 => {
                let at = pick(self.mappings.len());
                if let Some(mapping) = self.mappings.get_mut(at) {
                    match value % 3 {
                        0 => mapping.file = value as u32 % (self.files.len() as u32 + 2),
                        1 => mapping.pgoff = value,
                        _ => mapping.end = mapping.start.saturating_add(value & 0xffff_ffff),
                    }
                }
            }
            5 => {
                let at = pick(self.files.len());
                if let Some(file) = self.files.get_mut(at) {
                    let ranges = file.ranges.len();
                    let range = file.ranges.get_mut((value >> 8) as usize % ranges.max(1));
                    if let Some((_, bytes)) = range
                        && !bytes.is_empty()
                    {
                        let at = (value >> 16) as usize % bytes.len();
                        bytes[at] = value as u8;
                    }
                }
            }
            6 => self.tp = value,
            what => {
                let at = pick(pieces);
                let Some((_, bytes)) = self.memory.get_mut(at) else { return };
                let at = (place >> 16) as usize % bytes.len().max(1);
                // Words stand at multiples of 8 mostly, halves at multiples of 4, and so on.
                let len = [8, 8, 8, 4, 4, 2, 1, 1, 1][usize::from(what - 7)];
                let at = at / len * len;
                if let Some(target) = bytes.get_mut(at..at + len) {
                    match what {
                        13 => target[0] ^= 1 << (value & 7),
                        _ => target.copy_from_slice(&value.to_le_bytes()[..len]),
                    }
                }
            }
        }
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014): the same mutations in every run.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nothing iterates it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// How many mutations of each case; `MUTATIONS=100000` for a long run.
pub(super) fn n_mutations(default: usize) -> usize {
    std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}
