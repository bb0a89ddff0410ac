//! What steps told beside their frames: names of what may be gone before it can be read.
//!
//! In: records of the ring, `struct hf_told` and what follows, which come before the sample that
//! they belong to. Out: the record of a frame, when that is named. Which frames a record names is
//! the runtime's to say, by a key (`Attached::told_key`).
//!
//! A frame is asked for by the end of the pass that brought it, or of the next, so the oldest
//! records may go: [`MAX_BYTES`] are kept.

use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_runtime::Kept;
use std::collections::{HashMap, VecDeque};

/// Bytes kept, what a record takes besides its own counted in.
const MAX_BYTES: usize = 1 << 20;
/// Key, pointer and length in the table, which is half empty at worst, and the key in the order.
const RECORD_BYTES: usize = 2 * size_of::<(Key, Box<[u8]>)>() + size_of::<Key>();

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    who: Incarnation,
    runtime: u32,
    frame: [u64; 2],
}

/// Records by the frames that they name, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Told {
    by_frame: HashMap<Key, Box<[u8]>>,
    order: VecDeque<Key>,
    bytes: usize,
    evictions: u64,
}

impl Told {
    /// Records held, what they take, and how many went to make room: what was asked for by then went, too.
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            entries: self.by_frame.len() as u64,
            bytes: self.bytes as u64,
            evictions: self.evictions,
        }
    }

    /// Keeps a record; one with the same key is replaced.
    pub(crate) fn add(&mut self, head: &abi::hf_told, record: &[u8]) {
        let who = Incarnation { pid: head.tgid, exec_id: head.exec_id, start_ns: head.start_ns };
        let key = Key { who, runtime: head.runtime.into(), frame: head.key };
        self.bytes += record.len() + RECORD_BYTES;
        if let Some(before) = self.by_frame.insert(key, record.into()) {
            self.bytes -= before.len() + RECORD_BYTES;
            return;
        }
        self.order.push_back(key);
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.by_frame.remove(&oldest).unwrap_or_default();
            self.bytes -= gone.len() + RECORD_BYTES;
            self.evictions += 1;
        }
    }

    /// What was told of a frame.
    pub(crate) fn find(&self, who: Incarnation, runtime: u32, frame: [u64; 2]) -> Option<&[u8]> {
        self.by_frame.get(&Key { who, runtime, frame }).map(|record| &**record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    const WHO: Incarnation = Incarnation { pid: 7, exec_id: 1, start_ns: 5 };

    fn head(frame: [u64; 2]) -> abi::hf_told {
        let mut head = abi::hf_told::new_zeroed();
        (head.tgid, head.exec_id, head.start_ns) = (WHO.pid, WHO.exec_id, WHO.start_ns);
        (head.runtime, head.key) = (2, frame);
        head
    }

    /// A record is that of one frame of one program of one runtime, and the newest counts.
    #[test]
    fn a_record_is_one_frames() {
        let mut told = Told::default();
        told.add(&head([1, 2]), b"old");
        told.add(&head([1, 2]), b"new");
        assert_eq!(told.find(WHO, 2, [1, 2]), Some(&b"new"[..]));
        assert_eq!(told.find(WHO, 2, [1, 3]), None);
        assert_eq!(told.find(WHO, 1, [1, 2]), None);
        assert_eq!(told.find(Incarnation { exec_id: 2, ..WHO }, 2, [1, 2]), None);
        assert_eq!(told.order.len(), 1);
        assert_eq!(told.bytes, 3 + RECORD_BYTES);
    }

    /// Whatever is told, no more is kept than is meant to, and the newest stays.
    #[test]
    fn the_oldest_go() {
        let mut told = Told::default();
        for n in 0..20_000 {
            told.add(&head([n, 0]), &[1; 500]);
            assert!(told.bytes <= MAX_BYTES);
        }
        assert_eq!(told.find(WHO, 2, [0, 0]), None);
        assert!(told.find(WHO, 2, [19_999, 0]).is_some());
        assert_eq!(told.bytes, told.by_frame.len() * (500 + RECORD_BYTES));
        assert_eq!(told.by_frame.len(), told.order.len());
        let kept = told.kept();
        assert_eq!((kept.entries + kept.evictions, kept.bytes), (20_000, told.bytes as u64));
        // One that is larger than all together leaves nothing, and no trace.
        told.add(&head([1, 1]), &vec![1; MAX_BYTES + 1]);
        assert_eq!((told.bytes, told.by_frame.len(), told.order.len()), (0, 0, 0));
    }
}
