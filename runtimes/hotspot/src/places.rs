//! Which pcs of compiled code have the same names.
//!
//! In: a frame that was named, and between which pcs the record of debug information lies that it was
//! named by. Out: that frame's head word, for each other pc between these. The names themselves stand
//! in the frame store; where they were evicted there, the frame is read again.
//!
//! # Cost
//! 16 bytes a record, and some 100 a compilation with room to grow, [`MAX`] records a process; where they
//! are more, or all processes keep too much, all are learnt anew, at a reading each.

use crate::resolve::table_bytes;
use hotframe_runtime::Kept;
use std::collections::HashMap;
use std::ops::Range;

/// Records of one process.
const MAX: usize = 8192;

/// A compilation: a frame's data word (where its blob is, and 20 bits of its number), and the rest of
/// the number. No other one has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Code {
    pub place: u64,
    pub id: u32,
}

/// Distances from the blob, and the head word of the frame that was named there.
#[derive(Debug, Clone, Copy)]
struct Record {
    from: u32,
    to: u32,
    head: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Each sorted, without overlaps.
    by_code: HashMap<Code, Vec<Record>>,
    n: usize,
    n_forgotten: u64,
}

impl Places {
    /// The head word of the frame that was named at the record that a distance belongs to.
    pub(crate) fn find(&self, code: Code, delta: u32) -> Option<u64> {
        let records = self.by_code.get(&code)?;
        let at = records.partition_point(|record| record.to <= delta);
        let record = records.get(at).filter(|record| record.from <= delta)?;
        Some(record.head)
    }

    /// Records, and what they take.
    pub(crate) fn kept(&self) -> Kept {
        let records: usize = self.by_code.values().map(Vec::capacity).sum();
        Kept {
            entries: self.n as u64,
            bytes: table_bytes(&self.by_code) + (records * size_of::<Record>()) as u64,
            evictions: self.n_forgotten,
        }
    }

    /// Gives them back.
    pub(crate) fn forget(&mut self) {
        self.by_code = HashMap::new();
        self.n_forgotten += self.n as u64;
        self.n = 0;
    }

    /// Learns of a record. One that overlaps another is of a damaged table: the first stays.
    pub(crate) fn add(&mut self, code: Code, deltas: Range<u32>, head: u64) {
        if deltas.is_empty() {
            return;
        }
        if self.n >= MAX {
            self.forget();
        }
        let records = self.by_code.entry(code).or_default();
        let at = records.partition_point(|record| record.to <= deltas.start);
        if records.get(at).is_some_and(|next| next.from < deltas.end) {
            return;
        }
        records.insert(at, Record { from: deltas.start, to: deltas.end, head });
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Code = Code { place: 0x1000, id: 1 };

    /// A pc is known by the record between whose ends it is, of the same compilation.
    #[test]
    fn a_pc_belongs_to_one_record() {
        let mut places = Places::default();
        places.add(CODE, 20..30, 2);
        places.add(CODE, 10..20, 1);
        places.add(CODE, 40..41, 4);
        let found = |delta| places.find(CODE, delta);
        assert_eq!([9, 10, 19, 20, 29].map(found), [None, Some(1), Some(1), Some(2), Some(2)]);
        assert_eq!([30, 39, 40, 41].map(found), [None, None, Some(4), None]);
        assert_eq!(places.find(Code { id: 2, ..CODE }, 10), None);
        assert_eq!(places.find(Code { place: 0x2000, ..CODE }, 10), None);
    }

    /// What overlaps, or is empty, is not learnt; beyond the bound all are learnt anew.
    #[test]
    fn damaged_and_many() {
        let mut places = Places::default();
        places.add(CODE, 10..20, 1);
        places.add(CODE, 15..25, 2);
        places.add(CODE, 0..11, 3);
        places.add(CODE, 0..40, 4);
        places.add(CODE, 30..30, 5);
        #[allow(clippy::reversed_empty_ranges)]
        places.add(CODE, 40..30, 6);
        assert_eq!(
            [5, 10, 19, 22, 30, 35].map(|delta| places.find(CODE, delta)),
            [None, Some(1), Some(1), None, None, None]
        );
        for n in 0..MAX as u32 {
            places.add(Code { place: 1, id: n }, 0..1, 7);
        }
        assert_eq!(places.by_code.values().map(Vec::len).sum::<usize>(), places.n);
        assert!(places.n <= MAX && places.find(CODE, 10).is_none());
        let kept = places.kept();
        assert_eq!((kept.entries, kept.evictions), (places.n as u64, MAX as u64));
        assert!((64..1024).contains(&kept.bytes), "{}", kept.bytes);
        (0..1000).for_each(|n| places.add(Code { place: 2, id: n }, 0..1, 7));
        let bytes = places.kept().bytes;
        assert!((40_000..200_000).contains(&bytes), "{bytes}");
        places.forget();
        let kept = places.kept();
        assert_eq!((kept.entries, kept.bytes, places.find(CODE, 10)), (0, 0, None));
    }
}
