//! A process's executable mappings as a sorted list: what a new one cuts away, what is given up where more are mapped
//! than fit, and which memory holds copies of files' text.
//!
//! In: mappings one by one. Out: a list that is sorted, does not overlap and has a bound, and how many found no
//! room in it.
//!
//! # Cost
//! One mapping: two searches of the list and a move of what lies behind.

use super::{Mapping, Memory};
use crate::copied;
use crate::files::Files;
use hotframe_abi as abi;

/// Mappings kept of a process: what a blob holds.
pub(super) const MAPPINGS_MAX: usize = abi::HF_MAX_MAPPINGS as usize;

/// Puts a mapping into a sorted list; what it covers is cut away. True if it covered anything that
/// said otherwise.
pub(super) fn insert(mappings: &mut Vec<Mapping>, new: Mapping) -> bool {
    let first = mappings.partition_point(|old| old.end <= new.start);
    let last = mappings.partition_point(|old| old.start < new.end);
    let mut between = Vec::with_capacity(3);
    let mut replaced = false;
    for old in mappings.get(first..last).unwrap_or_default() {
        // Of anonymous memory nothing is said but that it is there: a JIT's grows all the time.
        replaced |= old.file != new.file
            || (new.file != 0
                && old.start.wrapping_sub(old.pgoff) != new.start.wrapping_sub(new.pgoff));
        if old.start < new.start {
            between.push(Mapping { end: new.start, ..old.clone() });
        }
    }
    let tail = mappings.get(first..last).and_then(<[_]>::last).filter(|old| old.end > new.end).map(
        |old| Mapping { start: new.end, pgoff: old.pgoff + (new.end - old.start), ..old.clone() },
    );
    between.push(new);
    between.extend(tail);
    mappings.splice(first..last.max(first), between);
    replaced
}

/// Takes away what is missed least where more is mapped than fits: anonymous memory, which has no
/// tables to walk by, the highest first, since the kernel maps downwards and new code is hot. Returns
/// how many it took.
pub(crate) fn fit<T>(mappings: &mut Vec<T>, is_anonymous: impl Fn(&T) -> bool) -> u64 {
    let n = mappings.len().saturating_sub(MAPPINGS_MAX);
    for _ in 0..n {
        let least = mappings.iter().rposition(&is_anonymous);
        mappings.remove(least.unwrap_or(mappings.len() - 1));
    }
    n as u64
}

/// What is mapped of files between two addresses.
pub(super) fn files_within(mappings: &[Mapping], start: u64, end: u64) -> Vec<Mapping> {
    let first = mappings.partition_point(|mapping| mapping.end <= start);
    let within = mappings.get(first..).unwrap_or_default().iter();
    within
        .take_while(|mapping| mapping.start < end)
        .filter(|mapping| mapping.file != 0)
        .map(|mapping| {
            let from = mapping.start.max(start);
            let pgoff = mapping.pgoff + (from - mapping.start);
            Mapping { start: from, end: mapping.end.min(end), pgoff, file: mapping.file }
        })
        .collect()
}

/// The text that memory holds a copy of. What is none, or not yet, stays in `copied`.
pub(super) fn take_copies(pid: u32, copied: &mut Vec<Mapping>, files: &mut Files) -> Vec<Mapping> {
    if copied.is_empty() {
        return Vec::new();
    }
    let Some(memory) = Memory::open(pid) else { return Vec::new() };
    let is_copy = |text: &mut Mapping| {
        files.open(text.file, pid, text.start, text.end);
        copied::is_copy(&memory, files, text)
    };
    copied.extract_if(.., is_copy).collect()
}

/// Memory that holds a copy of text is its file's. Returns how many mappings found no room.
pub(super) fn give_back(mappings: &mut Vec<Mapping>, copies: Vec<Mapping>) -> u64 {
    for copy in copies {
        insert(mappings, copy);
    }
    fit(mappings, |mapping| mapping.file == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileId;

    fn mapping(start: u64, end: u64, file: FileId) -> Mapping {
        Mapping { start, end, pgoff: 0, file }
    }

    fn check(old: &[(u64, u64, u32)], new: (u64, u64, u32), expect: &[(u64, u64, u32)]) {
        let mut mappings: Vec<Mapping> =
            old.iter().map(|&(start, end, file)| mapping(start, end, file)).collect();
        insert(&mut mappings, mapping(new.0, new.1, new.2));
        let got: Vec<_> = mappings.iter().map(|m| (m.start, m.end, m.file)).collect();
        assert_eq!(got, expect);
    }

    /// A new mapping cuts away what it covers.
    #[test]
    fn overlaps() {
        check(&[], (10, 20, 1), &[(10, 20, 1)]);
        check(&[(10, 20, 1)], (20, 30, 2), &[(10, 20, 1), (20, 30, 2)]);
        check(&[(10, 40, 1)], (20, 30, 2), &[(10, 20, 1), (20, 30, 2), (30, 40, 1)]);
        check(&[(10, 20, 1), (20, 30, 2)], (15, 25, 3), &[(10, 15, 1), (15, 25, 3), (25, 30, 2)]);
        check(&[(10, 20, 1), (30, 40, 2)], (5, 50, 3), &[(5, 50, 3)]);
    }

    /// Of more mappings than fit, those of files stay: their stacks go on.
    #[test]
    fn more_mappings_than_fit() {
        let mut mappings = Vec::new();
        let n = abi::HF_MAX_MAPPINGS as u64;
        let mut put = |start, file| {
            insert(&mut mappings, mapping(start, start + 10, file));
            fit(&mut mappings, |mapping| mapping.file == 0)
        };
        let given_up: u64 = (0..n + 10).map(|at| put(at * 20, 0)).sum();
        assert_eq!(given_up, 10);
        assert_eq!(put(n * 40, 1) + put(n * 50, 2), 2);
        assert_eq!(mappings.len() as u64, n);
        let files: Vec<_> = mappings.iter().map(|m| m.file).filter(|&file| file != 0).collect();
        assert_eq!(files, [1, 2]);
        assert!(mappings.is_sorted_by_key(|m| m.start));
        let lowest = mappings.first().expect("one").start;
        assert_eq!(lowest, 0, "the highest anonymous ones went");
    }
}
