//! The loop of which each instruction of Python's is a function, from 3.14 on
//! (`--with-tail-call-interp`, which uv's and other standalone builds have).
//!
//! In: a file whose evaluation loop dispatches nothing itself. Out: the calls by which Python code is
//! entered, and where the functions that leave it have unlinked its frame.
//!
//! # How it works
//! `_PyEval_EvalFrameDefault` links the frame and calls the first instruction's function out of a table;
//! each of these jumps to the next one's, and the last one returns. So the native frame that called is
//! the one that stands for the run of the loop: where its return address is behind such a call, or it is
//! between the link and the call itself, and nowhere else, since compilers inline the short function into
//! all who evaluate. The table is
//! found in the function itself, and the calls by going through all code for those that go through
//! the table or, where a compiler has guessed the target, straight to a function that the table
//! holds.
//!
//! # Sources
//! Python/ceval.c, Python/ceval_macros.h (`DISPATCH_TABLE_VAR`, `TAIL_CALL_ARGS`) and
//! Python/generated_cases.c.h @ v3.14.0; python-build-standalone's 3.14.6 as it comes.
//!
//! # Cost
//! One pass over the file's code, some 30 ms for 12 MB, once a file.

use crate::code::Listing;
use crate::recognise::merge;
use hotframe_objects::{ElfFile, ReadAt, RowSource};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// Instructions of Python's: an opcode is a byte.
const TABLE_ENTRIES: u64 = 256;
/// Code of a file that is searched in all.
const CODE_MAX_BYTES: u64 = 128 << 20;
/// Code of one instruction's function.
const HANDLER_MAX_BYTES: u64 = 64 << 10;
/// Instructions between the table's address and a call through it.
const LOAD_MAX_INSTRUCTIONS: usize = 48;
/// Calls that enter Python code; 9 and 13 were seen.
const CALLS_MAX: usize = 256;

const PF_X: u32 = 1;
const SHT_RELA: u32 = 4;
const RELA_BYTES: usize = 24;
const R_X86_64_RELATIVE: u64 = 8;
/// Largest table of relocations that is read.
const RELOCATIONS_MAX_BYTES: u64 = 16 << 20;

/// Where Python code is entered and left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handlers {
    /// The calls, and the code before them from which the frame is linked on, sorted.
    pub calls: Vec<Range<u64>>,
    /// Code of handlers in which the frame is unlinked.
    pub gaps: Vec<Range<u64>>,
}

/// Looks for them; `own` is the code of `_PyEval_EvalFrameDefault`, as bytes and listed.
pub(crate) fn find<R: ReadAt>(
    elf: &ElfFile<R>,
    rows: &mut RowSource<R>,
    own: &[(u64, Vec<u8>)],
    listing: &Listing,
    link_offset: u64,
) -> Option<Handlers> {
    let last = listing.last_calls();
    let table = own.iter().find_map(|(start, code)| table(*start, code))?;
    let handlers = entries(elf, table)?;
    let mut targets = handlers.clone();
    targets.extend(last.iter().filter_map(|(_, target)| *target));
    let mut calls: Vec<Range<u64>> = last.into_iter().map(|(call, _)| call).collect();
    let mut left = CODE_MAX_BYTES;
    for segment in elf.segments().iter().filter(|segment| segment.flags & PF_X != 0) {
        let size = segment.filesz.min(left);
        left -= size;
        let mut code = vec![0; size as usize];
        let n = elf.read_vaddr(&mut code, segment.vaddr).ok()?;
        code.truncate(n);
        find_calls(segment.vaddr, &code, table, &targets, &mut calls);
    }
    calls.sort_by_key(|call| (call.start, call.end));
    calls.dedup_by(|next, call| next.start < call.end);
    calls.truncate(CALLS_MAX);
    let mut entered = Vec::new();
    let mut seen = BTreeSet::new();
    for call in &calls {
        if let Some((start, code)) = function_at(elf, rows, call.start)
            && seen.insert(start)
        {
            let mut entry = Listing::default();
            entry.add(start, &code, link_offset);
            entered.extend(entry.entries(&calls));
        }
    }
    calls.extend(entered);
    merge(&mut calls);
    let mut exits = Listing::default();
    for &handler in &handlers {
        if let Some((start, code)) = function_at(elf, rows, handler) {
            exits.add(start, &code, link_offset);
        }
    }
    Some(Handlers { calls, gaps: exits.exits() })
}

/// Where the function at an address begins, and its code, as far as it is looked at.
fn function_at<R: ReadAt>(
    elf: &ElfFile<R>,
    rows: &mut RowSource<R>,
    at: u64,
) -> Option<(u64, Vec<u8>)> {
    let extent = rows.extent_at(at)?;
    let mut code = vec![0; (extent.end - extent.start).min(HANDLER_MAX_BYTES) as usize];
    (elf.read_vaddr(&mut code, extent.start).ok()? == code.len()).then_some((extent.start, code))
}

/// The table through which code that begins at `start` calls.
fn table(start: u64, code: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut loaded = HashMap::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_ip_rel_memory_operand() && instruction.op0_kind() == OpKind::Register {
            loaded.insert(instruction.op0_register(), instruction.ip_rel_memory_address());
        }
        if is_table_call(&instruction) {
            return match instruction.memory_base() {
                Register::None => Some(instruction.memory_displacement64()),
                base => loaded.get(&base).copied(),
            };
        }
    }
    None
}

/// `call [base + index * 8]`.
fn is_table_call(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::IndirectCall
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_index() != Register::None
        && instruction.memory_index_scale() == 8
}

/// The functions that the table holds, as the file has them or as its relocations put them there.
fn entries<R: ReadAt>(elf: &ElfFile<R>, table: u64) -> Option<BTreeSet<u64>> {
    let mut bytes = vec![0; TABLE_ENTRIES as usize * 8];
    if elf.read_vaddr(&mut bytes, table).ok() != Some(bytes.len()) {
        return None;
    }
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let mut entries: Vec<u64> =
        (0..TABLE_ENTRIES as usize).map(|entry| word(&bytes, entry * 8)).collect();
    for section in elf.sections().iter().filter(|section| section.kind == SHT_RELA) {
        let Ok(bytes) = elf.section_bytes(section, RELOCATIONS_MAX_BYTES) else { continue };
        for relocation in bytes.chunks_exact(RELA_BYTES) {
            let entry = word(relocation, 0).wrapping_sub(table);
            if word(relocation, 8) == R_X86_64_RELATIVE
                && entry % 8 == 0
                && let Some(entry) = entries.get_mut((entry / 8) as usize)
            {
                *entry = word(relocation, 16);
            }
        }
    }
    let is_code = |address: u64| {
        elf.segments().iter().any(|segment| {
            segment.flags & PF_X != 0
                && address.checked_sub(segment.vaddr).is_some_and(|at| at < segment.filesz)
        })
    };
    entries.iter().all(|&entry| is_code(entry)).then(|| entries.into_iter().collect())
}

/// Appends the calls of `targets`, and those through the table, in code that begins at `start`.
fn find_calls(
    start: u64,
    code: &[u8],
    table: u64,
    targets: &BTreeSet<u64>,
    calls: &mut Vec<Range<u64>>,
) {
    let (first, last) = match (targets.first(), targets.last()) {
        (Some(&first), Some(&last)) => (first, last),
        _ => return,
    };
    let rel32 = |at: usize| {
        let bytes = code.get(at..at + 4)?.try_into().ok()?;
        Some(i64::from(i32::from_le_bytes(bytes)))
    };
    for (at, &byte) in code.iter().enumerate() {
        if calls.len() >= CALLS_MAX * 2 {
            return;
        }
        let here = start.wrapping_add(at as u64);
        match byte {
            // call rel32
            0xe8 => {
                let Some(rel) = rel32(at + 1) else { continue };
                let target = here.wrapping_add(5).wrapping_add_signed(rel);
                if (first..=last).contains(&target) && targets.contains(&target) {
                    calls.push(here..here + 5);
                }
            }
            // call [index * 8 + disp32], and with index of r8 to r15 a prefix before
            0xff if code.get(at + 1) == Some(&0x14)
                && code.get(at + 2).is_some_and(|sib| sib & 0xc7 == 0xc5)
                && rel32(at + 3) == Some(table as i64) =>
            {
                let prefix = at.checked_sub(1).and_then(|before| code.get(before));
                let prefixed = u64::from(prefix.is_some_and(|byte| byte & 0xf0 == 0x40));
                calls.push(here - prefixed..here + 7);
            }
            // lea register, [rip + disp32]
            0x8d if code.get(at + 1).is_some_and(|modrm| modrm & 0xc7 == 0x05) => {
                let Some(rel) = rel32(at + 2) else { continue };
                if here.wrapping_add(6).wrapping_add_signed(rel) == table && at > 0 {
                    let load = code.get(at - 1..).unwrap_or_default();
                    calls.extend(call_behind_load(here - 1, load));
                }
            }
            _ => {}
        }
    }
}

/// The call through a table whose address the first instruction loads.
fn call_behind_load(start: u64, code: &[u8]) -> Option<Range<u64>> {
    let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut register = Register::None;
    for at in 0..LOAD_MAX_INSTRUCTIONS {
        if !decoder.can_decode() {
            return None;
        }
        decoder.decode_out(&mut instruction);
        if at == 0 {
            register = instruction.op0_register();
        } else if is_table_call(&instruction) && instruction.memory_base() == register {
            return Some(instruction.ip()..instruction.next_ip());
        } else if matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception
        ) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u64 = 0xfc_6860;

    fn calls(start: u64, code: &[u8], table: u64, targets: &[u64]) -> Vec<Range<u64>> {
        let mut calls = Vec::new();
        find_calls(start, code, table, &targets.iter().copied().collect(), &mut calls);
        calls
    }

    /// Calls through the table and straight to what it holds, in a program at a fixed address (the
    /// bytes of python-build-standalone's 3.14.6) and in a library.
    #[test]
    fn calls_of_handlers() {
        let fixed = [
            0xff, 0x14, 0xc5, 0x60, 0x68, 0xfc, 0x00, // call [rax*8 + table]
            0xe8, 0xf4, 0x00, 0x00, 0x00, // call 0x1100
            0x42, 0xff, 0x14, 0xcd, 0x60, 0x68, 0xfc, 0x00, // call [r9*8 + table]
            0xe8, 0x00, 0x00, 0x00, 0x00, // call of something else
            0xff, 0x14, 0xc5, 0x60, 0x68, 0xfc, 0x01, // call through another table
        ];
        let expect = [0x1000..0x1007, 0x1007..0x100c, 0x100c..0x1014];
        assert_eq!(calls(0x1000, &fixed, TABLE, &[0x1100, 0x1200]), expect);
        assert_eq!(table(0x1000, &fixed), Some(TABLE));
        let library = [
            0x48, 0x8d, 0x0d, 0xf9, 0x0f, 0x00, 0x00, // lea rcx, [rip + 0xff9]: 0x2000
            0x0f, 0xb6, 0xc0, // movzx eax, al
            0xff, 0x14, 0xc1, // call [rcx + rax*8]
            0xc3,
        ];
        let found = calls(0x1000, &library, 0x2000, &[0x1100]);
        assert_eq!(found, std::iter::once(0x100a..0x100d).collect::<Vec<_>>());
        assert_eq!(table(0x1000, &library), Some(0x2000));
    }

    /// Any bytes are gone through to their end.
    #[test]
    fn any_bytes() {
        let mut word = 1u64;
        let mut next = || {
            word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (word >> 56) as u8
        };
        let marks = [0xe8, 0xff, 0x14, 0xc5, 0x8d, 0x05, 0x48];
        let bytes: Vec<u8> = (0..40_000)
            .map(
                |_| if next() & 1 == 0 { marks[usize::from(next()) % marks.len()] } else { next() },
            )
            .collect();
        for start in [0, 0x40_0000, u64::MAX - 20_000] {
            let _ = table(start, &bytes);
            let targets: Vec<u64> = (0..4096).map(|at| start.wrapping_add(at * 3)).collect();
            assert!(calls(start, &bytes, start, &targets).len() <= CALLS_MAX * 2);
        }
    }
}
