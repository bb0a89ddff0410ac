//! Records of the ring, put together: a sample with the parts of a stack that came before it, its slice and
//! its stack.
//!
//! In: records in the ring's order, which is that of each CPU. Out: what waits to be gone through in order of
//! time. A record that never finds its sample, since that was lost, is forgotten.
//!
//! # Bounds
//! A stack of [`abi::HF_MAX_STACK_WORDS`] words; a slice and a stack in parts for each CPU; 64 stacks without
//! a sample from pass to pass. The samples of a pass are as many as the ring holds.

use super::slice::{Piece, Stack};
use hotframe_abi as abi;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use zerocopy::FromBytes as _;

/// Stacks that wait for their sample: when there are more after a pass, their samples were lost.
const STACKS_MAX: usize = 64;

/// Records of the ring that are gone through in order of time.
pub(super) enum Taken {
    Sample(TakenSample),
    Space(abi::hf_space_record),
}

/// A sample, and what is needed to finish its walk if it lacked a table.
pub(super) struct TakenSample {
    pub(super) head: abi::hf_sample,
    /// Of [`Taking::words`].
    pub(super) words: Range<usize>,
    pub(super) slice: Option<Box<(abi::hf_slice, Stack)>>,
}

impl Taken {
    /// CLOCK_MONOTONIC.
    pub(super) fn time_ns(&self) -> u64 {
        match self {
            Taken::Sample(sample) => sample.head.time_ns,
            Taken::Space(space) => space.time_ns,
        }
    }

    /// What it holds of a stack.
    pub(super) fn stack_bytes(&self) -> usize {
        match self {
            Taken::Sample(sample) => sample.slice.as_ref().map_or(0, |slice| slice.1.len()),
            Taken::Space(_) => 0,
        }
    }
}

/// What was taken of the ring and not gone through yet. `None` for a record that is none.
#[derive(Default)]
pub(super) struct Taking {
    /// Whole records, in the order in which they came.
    pub(super) taken: Vec<Taken>,
    /// Frame words of the samples among them.
    pub(super) words: Vec<u64>,
    stacks: HashMap<u64, Stack>,
    slices: HashMap<u16, abi::hf_slice>,
    /// By CPU, of the stack whose sample is yet to come.
    parts: HashMap<u16, (abi::hf_sample, Vec<u64>)>,
}

impl Taking {
    /// A process runs in an address space.
    pub(super) fn space(&mut self, bytes: &[u8]) -> Option<()> {
        self.taken.push(Taken::Space(abi::hf_space_record::read_from_bytes(bytes).ok()?));
        Some(())
    }

    /// What was copied of a stack, whose slice is yet to come: its inner piece first.
    pub(super) fn stack(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, rest) = abi::hf_stack::read_from_prefix(bytes).ok()?;
        let bytes = rest.get(..head.n_bytes as usize)?;
        let piece = Piece::of(head.addr, bytes).with_holes(head.holes);
        match self.stacks.entry(head.seq) {
            Entry::Occupied(mut stack) => stack.get_mut().outer = Some(piece),
            Entry::Vacant(none) => {
                none.insert(Stack { inner: piece, outer: None });
            }
        }
        Some(())
    }

    /// Where a walk stopped that lacked a table: its sample is the next one of this CPU.
    pub(super) fn slice(&mut self, bytes: &[u8]) -> Option<()> {
        let slice = abi::hf_slice::read_from_bytes(bytes).ok()?;
        self.slices.insert(slice.sample.cpu, slice);
        Some(())
    }

    /// Words of a stack that is longer than a record, leaf first.
    pub(super) fn part(&mut self, bytes: &[u8]) -> Option<()> {
        let (head, words) = sample_words(bytes)?;
        let part = self.parts.entry(head.cpu).or_insert((head, Vec::new()));
        if !is_of(&part.0, &head) {
            // The sample of those before was lost.
            *part = (head, Vec::new());
        }
        if part.1.len() + words.len() > abi::HF_MAX_STACK_WORDS as usize {
            self.parts.remove(&head.cpu);
            return None;
        }
        part.1.extend(words);
        Some(())
    }

    /// The last record of a sample: it is whole.
    pub(super) fn sample(&mut self, bytes: &[u8]) -> Option<()> {
        let (mut head, words) = sample_words(bytes)?;
        let before = self.parts.remove(&head.cpu).filter(|(part, _)| is_of(part, &head));
        let before = before.map(|(_, words)| words).unwrap_or_default();
        head.n_words = u16::try_from(before.len() + words.len())
            .ok()
            .filter(|&n| u32::from(n) <= abi::HF_MAX_STACK_WORDS)?;
        if head.n_kernel > head.n_words || u32::from(head.cut) >= abi::HF_CUT_COUNT {
            return None;
        }
        let from = self.words.len();
        self.words.extend(before);
        self.words.extend(words);
        // A slice comes just before its sample, which is of the same CPU.
        let slice = self
            .slices
            .remove(&head.cpu)
            .filter(|slice| slice.sample.time_ns == head.time_ns && slice.sample.tid == head.tid);
        let stack = slice.as_ref().and_then(|slice| self.stacks.remove(&slice.stack_seq));
        let slice = slice.zip(stack).map(Box::new);
        let words = from..self.words.len();
        self.taken.push(Taken::Sample(TakenSample { head, words, slice }));
        Some(())
    }

    /// Puts back what has to wait for the next pass, with its words out of those of this one.
    pub(super) fn wait(&mut self, records: impl Iterator<Item = Taken>, words: &[u64]) {
        for mut record in records {
            if let Taken::Sample(sample) = &mut record {
                let from = self.words.len();
                let kept = words.get(sample.words.clone()).unwrap_or_default();
                self.words.extend_from_slice(kept);
                sample.words = from..self.words.len();
            }
            self.taken.push(record);
        }
    }

    /// At the end of a pass: a stack whose sample was lost never finds its slice.
    pub(super) fn forget_lost(&mut self) {
        if self.stacks.len() > STACKS_MAX {
            self.stacks.clear();
        }
    }
}

/// A record of a sample or of a part of it, and its words.
fn sample_words(bytes: &[u8]) -> Option<(abi::hf_sample, impl ExactSizeIterator<Item = u64> + '_)> {
    let (head, rest) = abi::hf_sample::read_from_prefix(bytes).ok()?;
    let words = rest.get(..usize::from(head.n_words) * size_of::<u64>())?;
    let (words, _) = words.as_chunks();
    Some((head, words.iter().map(|&word| u64::from_ne_bytes(word))))
}

/// Is a part of this sample's stack?
fn is_of(part: &abi::hf_sample, sample: &abi::hf_sample) -> bool {
    part.time_ns == sample.time_ns && part.tid == sample.tid
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    /// Two pieces of one number are one stack with a gap; another number is another stack.
    #[test]
    fn pieces_of_a_stack() {
        let mut taking = Taking::default();
        for (seq, addr, byte) in [(3, 0x1000, 1), (3, 0x9000, 2), (4, 0x1000, 3)] {
            let mut head = abi::hf_stack::new_zeroed();
            (head.type_, head.seq, head.addr) = (abi::HF_RECORD_STACK as u8, seq, addr);
            head.n_bytes = 16;
            // A record has room for whole pages, of which not all could be read.
            taking.stack(&[head.as_bytes(), &[byte; 16], &[9; 8]].concat()).expect("a stack");
        }
        assert_eq!(taking.stacks.len(), 2);
        let at = |seq: u64, addr| taking.stacks[&seq].at(addr, 8).map(|bytes| bytes[0]);
        assert_eq!((at(3, 0x1008), at(3, 0x9000), at(4, 0x1000)), (Some(1), Some(2), Some(3)));
        let none = [(3, 0x1010), (3, 0x100c), (3, 0xff8), (3, 0x9010), (4, 0x9000), (3, u64::MAX)];
        assert!(none.iter().all(|&(seq, addr)| at(seq, addr).is_none()));
        assert_eq!(taking.stacks[&3].len(), 32);
    }

    /// What could not be read of a piece is not there, nor what reaches into it; what lies beyond it is. Who wants
    /// it in one piece gets what lies before.
    #[test]
    fn holes_of_a_piece() {
        let mut taking = Taking::default();
        let page = abi::HF_STACK_PAGE_BYTES as usize;
        let mut head = abi::hf_stack::new_zeroed();
        (head.type_, head.seq, head.addr) = (abi::HF_RECORD_STACK as u8, 3, 0x10_0000);
        (head.n_bytes, head.holes) = (4 * page as u32, 0b0110);
        let bytes: Vec<u8> = [1, 0, 0, 4].iter().flat_map(|&byte| vec![byte; page]).collect();
        taking.stack(&[head.as_bytes(), &bytes].concat()).expect("a stack");
        let at = |off: usize, bytes| {
            taking.stacks[&3].at(head.addr + off as u64, bytes).map(|bytes| bytes[0])
        };
        assert_eq!((at(page - 8, 8), at(3 * page, page)), (Some(1), Some(4)));
        let none = [(page - 4, 8), (page, 8), (2 * page, 8), (3 * page - 8, 8), (0, 4 * page)];
        assert!(none.iter().all(|&(off, bytes)| at(off, bytes).is_none()));
        assert_eq!(taking.stacks[&3].inner.unbroken(), vec![1; page]);
    }

    /// No number of parts makes a stack longer than any that is walked.
    #[test]
    fn parts_are_bounded() {
        let mut taking = Taking::default();
        let mut part = abi::hf_sample::new_zeroed();
        (part.tid, part.time_ns, part.n_words) = (7, 10, abi::HF_MAX_WORDS as u16);
        let words = vec![1u64; abi::HF_MAX_WORDS as usize];
        let part = [part.as_bytes(), words.as_bytes()].concat();
        let max = abi::HF_MAX_STACK_WORDS / abi::HF_MAX_WORDS;
        assert!((0..max).all(|_| taking.part(&part).is_some()));
        assert!(taking.part(&part).is_none());
        assert!(taking.parts.is_empty());
    }
}
