//! Names of stubs: the VM's own list of them, where its symbol table says where that is.
//!
//! In: libjvm's file and the process. Out: ranges of code and their names.
//!
//! `StubCodeDesc::_list` is published nowhere but in `.symtab`, which most builds keep. Without it
//! a stub has the name of the blob that holds it. The table of names is searched by pieces, so that
//! its 5 MB are never in memory.
//!
//! Source: share/runtime/stubCodeGenerator.hpp @ jdk-17+35, the same @ jdk-25+36: next, group, name,
//! begin, end.

use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::Memory;

const SYMBOL: &[u8] = b"\0_ZN12StubCodeDesc5_listE\0";
const PIECE_BYTES: usize = 64 << 10;
const SHT_SYMTAB: u32 = 2;
/// `sizeof(Elf64_Sym)`, and its fields: st_name, st_value.
const SYMBOL_BYTES: usize = 24;
const VALUE: usize = 8;
/// Some 300 are there; each is 56 bytes.
const STUBS_MAX: usize = 4096;
const DESC_BYTES: usize = 40;
const NAME_MAX_BYTES: usize = 128;

/// A stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stub {
    pub begin: u64,
    pub end: u64,
    pub name: Vec<u8>,
}

/// ELF address of the head of the list.
pub(crate) fn find_list<R: ReadAt>(elf: &ElfFile<R>) -> Option<u64> {
    let table = elf.sections().iter().find(|section| section.kind == SHT_SYMTAB)?;
    let names = elf.sections().get(table.link as usize)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut name = None;
    let mut at = 0;
    while at < names.size && name.is_none() {
        let n = read_at(elf, &mut piece, names.offset.checked_add(at)?, names.size - at)?;
        let bytes = piece.get(..n)?;
        name = bytes
            .windows(SYMBOL.len())
            .position(|text| text == SYMBOL)
            .map(|found| at + found as u64 + 1);
        // The next piece begins so that a name across the border is whole in it.
        at += (n - (SYMBOL.len() - 1).min(n - 1)) as u64;
        if n < SYMBOL.len() {
            break;
        }
    }
    let name = u32::try_from(name?).ok()?.to_le_bytes();
    let whole = PIECE_BYTES / SYMBOL_BYTES * SYMBOL_BYTES;
    let mut at = 0;
    while at < table.size {
        let n =
            read_at(elf, piece.get_mut(..whole)?, table.offset.checked_add(at)?, table.size - at)?;
        for symbol in piece.get(..n)?.chunks_exact(SYMBOL_BYTES) {
            if symbol.starts_with(&name) {
                let value = symbol.get(VALUE..VALUE + 8)?.try_into().ok()?;
                return Some(u64::from_le_bytes(value));
            }
        }
        at += n as u64;
    }
    None
}

fn read_at<R: ReadAt>(elf: &ElfFile<R>, into: &mut [u8], offset: u64, left: u64) -> Option<usize> {
    let want = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    let n = elf.reader().read_at(into.get_mut(..want)?, offset).ok()?;
    (n > 0).then_some(n)
}

/// Reads the list whose head is at a process address; sorted by begin.
pub(crate) fn read_list(memory: &Memory, head: u64) -> Vec<Stub> {
    let mut stubs = Vec::new();
    let mut next = memory.u64(head).unwrap_or(0);
    for _ in 0..STUBS_MAX {
        let mut desc = [0; DESC_BYTES];
        if next == 0 || !memory.read(next, &mut desc) {
            break;
        }
        let word = |n: usize| {
            desc.chunks_exact(8)
                .nth(n)
                .and_then(|word| word.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        let (begin, end) = (word(3), word(4));
        if begin != 0 && end > begin {
            let text = |at: u64| memory.c_string(at, NAME_MAX_BYTES).unwrap_or_default();
            let (group, own) = (text(word(1)), text(word(2)));
            let is_name = |text: &[u8]| {
                !text.is_empty() && text.iter().all(|byte| (b' '..0x7f).contains(byte))
            };
            if is_name(&own) {
                let mut name = if is_name(&group) { group } else { Vec::new() };
                if !name.is_empty() {
                    name.extend(b"::");
                }
                name.extend(own);
                stubs.push(Stub { begin, end, name });
            }
        }
        next = word(0);
    }
    stubs.sort_by_key(|stub| stub.begin);
    stubs
}

/// The stub of a pc: the innermost, if they are nested.
pub(crate) fn find(stubs: &[Stub], pc: u64) -> Option<&Stub> {
    let behind = stubs.partition_point(|stub| stub.begin <= pc);
    stubs.get(..behind)?.iter().rev().take(8).find(|stub| pc < stub.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of two, and one that leads in a circle.
    #[test]
    fn lists() {
        let mut bytes = vec![0; 0x400];
        let mut put = |at: usize, words: &[u64]| {
            for (n, word) in words.iter().enumerate() {
                bytes[at + n * 8..at + n * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0, &[0x1040]);
        put(0x40, &[0x1080, 0x1200, 0x1210, 0x5000, 0x5010]);
        put(0x80, &[0x1040, 0x1200, 0x1220, 0x4000, 0x4010]);
        bytes[0x200..0x20d].copy_from_slice(b"StubRoutines\0");
        bytes[0x210..0x214].copy_from_slice(b"one\0");
        bytes[0x220..0x224].copy_from_slice(b"two\0");
        let memory = Memory::recorded(vec![(0x1000, bytes)]);
        let stubs = read_list(&memory, 0x1000);
        assert_eq!(stubs.len(), STUBS_MAX, "a circle ends");
        assert_eq!(
            find(&stubs, 0x4008).map(|stub| stub.name.as_slice()),
            Some(&b"StubRoutines::two"[..])
        );
        assert_eq!(
            find(&stubs, 0x5000).map(|stub| stub.name.as_slice()),
            Some(&b"StubRoutines::one"[..])
        );
        assert_eq!(find(&stubs, 0x4010), None);
        assert_eq!(find(&stubs, 0x3fff), None);
    }
}
