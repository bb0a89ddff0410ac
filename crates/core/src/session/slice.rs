//! What a sample's walk reads that is finished here: the stack that was copied, text from files, and the process
//! itself, which has gone on.

use crate::files::{Files, Reader};
use crate::processes::{Mapping, Memory};
use crate::walk::ReadUser;
use hotframe_abi as abi;
use hotframe_objects::ReadAt as _;

/// What the kernel half copied of a stack.
pub(super) struct Stack {
    /// From the stack pointer up.
    pub(super) inner: Piece,
    /// The outer end, where the inner piece does not reach it.
    pub(super) outer: Option<Piece>,
}

pub(super) struct Piece {
    pub(super) addr: u64,
    bytes: Vec<u8>,
    /// Bit n: page n of it could not be read.
    holes: u16,
}

impl Stack {
    /// Bytes of all of it.
    pub(super) fn len(&self) -> usize {
        self.inner.bytes.len() + self.outer.as_ref().map_or(0, |outer| outer.bytes.len())
    }

    /// What stands at an address of the process.
    pub(super) fn at(&self, addr: u64, bytes: usize) -> Option<&[u8]> {
        self.inner.at(addr, bytes).or_else(|| self.outer.as_ref()?.at(addr, bytes))
    }
}

impl Piece {
    pub(super) fn of(addr: u64, bytes: &[u8]) -> Piece {
        Piece { addr, bytes: bytes.to_vec(), holes: 0 }
    }

    /// The same of whole pages, some of which could not be read.
    pub(super) fn with_holes(mut self, holes: u16) -> Piece {
        self.holes = holes;
        self
    }

    pub(super) fn at(&self, addr: u64, bytes: usize) -> Option<&[u8]> {
        let at = usize::try_from(addr.checked_sub(self.addr)?).ok()?;
        let found = self.bytes.get(at..)?.get(..bytes)?;
        let page = |at: usize| at >> abi::HF_STACK_PAGE_SHIFT;
        let mut pages = page(at)..=page(at + bytes.saturating_sub(1));
        let is_hole = |page: usize| page < u16::BITS as usize && self.holes >> page & 1 != 0;
        (self.holes == 0 || !pages.any(is_hole)).then_some(found)
    }

    /// What lies before the first page that could not be read.
    pub(super) fn unbroken(&self) -> &[u8] {
        if self.holes == 0 {
            return &self.bytes;
        }
        let end = (self.holes.trailing_zeros() as usize) << abi::HF_STACK_PAGE_SHIFT;
        &self.bytes[..end.min(self.bytes.len())]
    }
}

/// It may hold anything that the program had on its stack: nothing of it outlives the walk.
impl Drop for Piece {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&mut self.bytes);
    }
}

/// User memory of a sample whose process goes on meanwhile: the stack that was copied, text from
/// files, and, beyond the copy, the process itself.
///
/// What lies further out than the copy belongs to older frames, also where a program switches to
/// another stack (coroutines do). They stand still as long as a frame further in does. So the
/// process is read only while the outermost slot that the walk fetched from the copy (a return
/// address or a saved frame pointer: a fetch begins at the slot it is for) is still in its memory,
/// before and after; else the stack is cut there.
///
/// A signal's handler may have a stack of its own (`sigaltstack`), on which its frames stand long after it
/// returned: what lies further away than a signal's frame is not read by their leave.
///
/// Generated code is read whatever the stack does: it outlives its calls, and is read only to see
/// whether a call stands before an address. So is what a runtime's step says is lasting.
pub(super) struct SliceReader<'a> {
    pub(super) stack: &'a Stack,
    pub(super) mappings: &'a [Mapping],
    pub(super) files: &'a Files,
    pub(super) beyond: &'a mut Beyond,
}

/// What is known of the process's own memory: it outlasts the loading of tables, which interrupts a
/// walk.
pub(super) struct Beyond {
    pid: u32,
    memory: Option<Memory>,
    is_opened: bool,
    /// The slot that was fetched last from the copy.
    last: Option<u64>,
    /// Where a signal's frame was that the walk has just left.
    signal_at: Option<u64>,
}

/// How far above a signal's context the frame may be that it interrupted, if both are on one stack. The
/// context with all registers that AMX has takes 11 KiB (Intel SDM vol. 1, 13.4).
const SIGNAL_FRAME_MAX_BYTES: u64 = 64 << 10;

impl Beyond {
    /// Of a process of which nothing is read yet.
    pub(super) fn of(pid: u32) -> Beyond {
        Beyond { pid, memory: None, is_opened: false, last: None, signal_at: None }
    }
}

impl SliceReader<'_> {
    /// The process's own memory, opened at the first use.
    fn memory(&mut self) -> Option<&Memory> {
        if !self.beyond.is_opened {
            self.beyond.is_opened = true;
            self.beyond.memory = Memory::open(self.beyond.pid);
        }
        self.beyond.memory.as_ref()
    }

    /// Is this in executable memory that no file is behind?
    fn is_generated(&self, addr: u64) -> bool {
        let after = self.mappings.partition_point(|mapping| mapping.start <= addr);
        let before = after.checked_sub(1).and_then(|at| self.mappings.get(at));
        before.is_some_and(|mapping| mapping.file == 0 && addr < mapping.end)
    }

    /// Is the frame that led here still on the stack?
    fn stands_still(&self, memory: &Memory) -> bool {
        let mut now = [0; 8];
        self.beyond.last.is_some_and(|slot| {
            memory.read(slot, &mut now) && self.stack.at(slot, 8) == Some(now.as_slice())
        })
    }
}

impl ReadUser for SliceReader<'_> {
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
        if let Some(bytes) = self.stack.at(addr, into.len()) {
            into.copy_from_slice(bytes);
            if into.len() >= 8 {
                self.beyond.last = Some(addr);
                self.beyond.signal_at = None;
            }
            return true;
        }
        if read_text(self.mappings, self.files, addr, into) {
            return true;
        }
        self.memory();
        let Some(memory) = &self.beyond.memory else { return false };
        if self.is_generated(addr) {
            return memory.read(addr, into);
        }
        if let Some(at) = self.beyond.signal_at {
            if addr < at || addr - at >= SIGNAL_FRAME_MAX_BYTES {
                return false;
            }
            self.beyond.signal_at = None;
        }
        let memory = self.beyond.memory.as_ref();
        memory.is_some_and(|memory| {
            self.stands_still(memory) && memory.read(addr, into) && self.stands_still(memory)
        })
    }

    fn read_signal(&mut self, addr: u64, into: &mut [u8]) -> bool {
        let is_read = self.read(addr, into);
        self.beyond.signal_at = is_read.then_some(addr);
        is_read
    }

    fn read_lasting(&mut self, addr: u64, into: &mut [u8]) -> bool {
        if let Some(bytes) = self.stack.at(addr, into.len()) {
            into.copy_from_slice(bytes);
            return true;
        }
        read_text(self.mappings, self.files, addr, into)
            || self.memory().is_some_and(|memory| memory.read(addr, into))
    }
}

/// Reads bytes of text from the file that is mapped at `addr`.
pub fn read_text(mappings: &[Mapping], files: &Files, addr: u64, into: &mut [u8]) -> bool {
    let end = addr.saturating_add(into.len() as u64);
    let Some(mapping) = mappings.iter().find(|mapping| mapping.start <= addr && end <= mapping.end)
    else {
        return false;
    };
    let Some(reader) = files.get(mapping.file).and_then(|file| file.reader()) else {
        return false;
    };
    let offset = mapping.pgoff + (addr - mapping.start);
    match reader {
        // The vDSO's image begins where it is mapped.
        Reader::Bytes(_) => {
            matches!(reader.read_at(into, addr - mapping.start), Ok(n) if n == into.len())
        }
        Reader::File(_) => matches!(reader.read_at(into, offset), Ok(n) if n == into.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    /// The process's own memory is read while what was copied of the stack still stands there, but not
    /// where a signal's handler, on a stack of its own, is all that stands.
    #[test]
    fn a_handlers_stack_does_not_vouch_for_another() {
        let inner: Vec<u64> = (0..64).collect();
        let outer = vec![7u64; 1 << 18];
        let word = |of: &Vec<u64>, at: usize| &raw const of[at] as u64;
        let (copied, near, far) = (word(&inner, 0), word(&inner, 60), word(&outer, 1 << 17));
        let stack = Stack { inner: Piece::of(copied, inner[..32].as_bytes()), outer: None };
        let files = Files::default();
        let mut beyond = Beyond::of(std::process::id());
        let mut reader =
            SliceReader { stack: &stack, mappings: &[], files: &files, beyond: &mut beyond };
        let read = |reader: &mut SliceReader<'_>, addr: u64| {
            let mut value = [0; 8];
            reader.read(addr, &mut value).then(|| u64::from_le_bytes(value))
        };
        let interrupted =
            |reader: &mut SliceReader<'_>| assert!(reader.read_signal(copied, &mut [0; 17 * 8]));
        assert_eq!(read(&mut reader, copied), Some(0));
        assert_eq!(read(&mut reader, near), Some(60));
        assert_eq!(read(&mut reader, far), Some(7));
        interrupted(&mut reader);
        assert_eq!(read(&mut reader, far), None);
        assert_eq!(read(&mut reader, far), None);
        // On the same stack; whatever comes after it is called as ever.
        assert_eq!(read(&mut reader, near), Some(60));
        assert_eq!(read(&mut reader, far), Some(7));
        interrupted(&mut reader);
        assert_eq!(read(&mut reader, copied + 8), Some(1));
        assert_eq!(read(&mut reader, far), Some(7));
    }
}
