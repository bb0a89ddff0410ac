//! Virtual threads: where their frames are that wait in the heap.
//!
//! In: libjvm's symbols and a process. Out: `struct hf_hotspot_chunks` of the table.
//!
//! # How it works
//! A virtual thread that goes on has the innermost of its frames on its carrier's stack. The others
//! stay in the heap, in its `Continuation`'s list of `StackChunk`s, until they are returned to.
//! Their fields are published nowhere: libjvm keeps each one's offset in a variable, which has a
//! name where it has symbols. Without symbols, frames in the heap cannot be read: the barrier
//! through which threads return to them stands for them. The same holds with ZGC and Shenandoah,
//! which move objects while threads run: the ContinuationEntry on the stack may say where the
//! Continuation was before, and a copy that is left there tells of other frames. (ZGC's references
//! say by their colours whether they are old, those on a stack have none.)
//!
//! # Sources
//! `jdk_internal_vm_Continuation`, `jdk_internal_vm_StackChunk` (share/classfile/javaClasses.hpp),
//! `ContinuationEntry` (share/runtime/continuationEntry.hpp), `InstanceStackChunkKlass`
//! (share/oops/instanceStackChunkKlass.hpp), `CompressedOops` (share/oops/compressedOops.hpp), all @
//! jdk-21+35 and jdk-25+36: `NarrowOopStruct` has the base and, behind it, the shift.

use crate::abi;
use crate::flags::Flags;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::Memory;
use hotframe_runtime::elf::{self, Tables};

/// An offset in an object; the stack is behind the fields.
const OFFSET_MAX: u32 = 512;

/// Variables of libjvm, relative to its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuations {
    /// A pointer: where in enterSpecial continuations return to.
    return_pc: u64,
    /// A pointer and a number of 32 bits.
    oops_base: u64,
    oops_shift: u64,
    /// Offsets, 32 bits each: tail, cont, parent, bottom, sp, pc, stack.
    offsets: [u64; 7],
}

impl Continuations {
    /// Those of a libjvm, if it has all of them (from JDK 21 on).
    pub(crate) fn find<R: ReadAt>(elf: &ElfFile<R>) -> Option<Continuations> {
        let found = elf::find(
            elf,
            Tables::Static,
            [
                "_ZN17ContinuationEntry10_return_pcE",
                "_ZN14CompressedOops11_narrow_oopE",
                "_ZN14CompressedOops5_baseE",
                "_ZN14CompressedOops6_shiftE",
                "_ZN28jdk_internal_vm_Continuation12_tail_offsetE",
                "_ZN26jdk_internal_vm_StackChunk12_cont_offsetE",
                "_ZN26jdk_internal_vm_StackChunk14_parent_offsetE",
                "_ZN26jdk_internal_vm_StackChunk14_bottom_offsetE",
                "_ZN26jdk_internal_vm_StackChunk10_sp_offsetE",
                "_ZN26jdk_internal_vm_StackChunk10_pc_offsetE",
                "_ZN23InstanceStackChunkKlass16_offset_of_stackE",
            ],
        )
        .map(|symbol| symbol.map(|symbol| symbol.address));
        let [return_pc, both, base, shift, offsets @ ..] = found;
        let mut all = [0; 7];
        for (to, from) in all.iter_mut().zip(offsets) {
            *to = from?;
        }
        Some(Continuations {
            return_pc: return_pc?,
            oops_base: base.or(both)?,
            oops_shift: shift.or_else(|| both?.checked_add(8))?,
            offsets: all,
        })
    }

    /// Has a process run a virtual thread?
    pub(crate) fn has_begun(&self, memory: &Memory, bias: u64) -> bool {
        memory.u64(self.return_pc.wrapping_add(bias)).is_some_and(|pc| pc != 0)
    }

    /// What a process says of them, if it runs virtual threads whose frames can be read; and whether
    /// its references are wide.
    pub(crate) fn read(
        &self,
        flags: Flags,
        memory: &Memory,
        bias: u64,
    ) -> Option<(abi::hf_hotspot_chunks, bool)> {
        let return_pc = memory.u64(self.return_pc.wrapping_add(bias)).filter(|&pc| pc != 0)?;
        let names = ["UseZGC", "UseShenandoahGC", "UseCompressedOops"];
        let [zgc, shenandoah, is_compressed] = flags.are_on(names, memory, bias);
        if [zgc, shenandoah].contains(&Some(true)) {
            return None;
        }
        let is_wide = !is_compressed?;
        let mut fields = [0; 7];
        for (to, at) in fields.iter_mut().zip(self.offsets) {
            let offset = memory.u32(at.wrapping_add(bias))?;
            *to = u16::try_from(offset).ok().filter(|_| (8..=OFFSET_MAX).contains(&offset))?;
        }
        let [tail, cont, parent, bottom, sp, pc, stack] = fields;
        let chunks = abi::hf_hotspot_chunks {
            return_pc,
            oops_base: memory.u64(self.oops_base.wrapping_add(bias))?,
            oops_shift: memory.u32(self.oops_shift.wrapping_add(bias))?,
            tail,
            cont,
            parent,
            bottom,
            sp,
            pc,
            stack,
            reserved: [0; 3],
        };
        (chunks.oops_shift < 32).then_some((chunks, is_wide))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables of a process: references of 32 bits with a base and a shift, or of 64; nothing with ZGC,
    /// before the first virtual thread, and by an offset that no object has.
    #[test]
    fn as_a_process_says() {
        let found = Continuations {
            return_pc: 0x00,
            oops_base: 0x08,
            oops_shift: 0x10,
            offsets: [0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38],
        };
        let flags = Flags { first: 0x40, n: 0x48, bytes: 16, name: 8, address: 0 };
        let read = |return_pc: u64, uses_zgc: u8, is_narrow: u8, stack: u32| {
            let mut bytes = vec![0; 0x200];
            let mut put = |at: usize, from: &[u8]| bytes[at..at + from.len()].copy_from_slice(from);
            put(0x00, &return_pc.to_le_bytes());
            put(0x08, &0x8_0000_0000_u64.to_le_bytes());
            put(0x10, &3_u32.to_le_bytes());
            for (at, offset) in (0x20..).step_by(4).zip([16_u32, 20, 24, 28, 32, 40]) {
                put(at, &offset.to_le_bytes());
            }
            put(0x38, &stack.to_le_bytes());
            put(0x40, &0x1050_u64.to_le_bytes());
            put(0x48, &2_u64.to_le_bytes());
            for (at, word) in [(0x50, 0x1100_u64), (0x58, 0x1120), (0x60, 0x1101), (0x68, 0x1140)] {
                put(at, &word.to_le_bytes());
            }
            put(0x100, &[uses_zgc, is_narrow]);
            put(0x120, b"UseZGC\0");
            put(0x140, b"UseCompressedOops\0");
            let memory = Memory::recorded(vec![(0x1000, bytes)]);
            let said = found.read(flags, &memory, 0x1000);
            said.map(|(chunks, is_wide)| {
                (chunks.oops_base, chunks.oops_shift, chunks.tail, chunks.stack, is_wide)
            })
        };
        assert_eq!(read(0x7000, 0, 1, 64), Some((0x8_0000_0000, 3, 16, 64, false)));
        assert_eq!(read(0x7000, 0, 0, 64), Some((0x8_0000_0000, 3, 16, 64, true)));
        assert_eq!(read(0, 0, 1, 64), None);
        assert_eq!(read(0x7000, 1, 1, 64), None);
        assert_eq!(read(0x7000, 0, 1, OFFSET_MAX + 8), None);
    }
}
