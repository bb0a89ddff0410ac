//! Symbols of an ELF file by name: what recognising a runtime takes.
//!
//! In: an open file. Out: its symbols, one at a time, from `.dynsym` and `.symtab`. Tables are
//! read by pieces of 64 KiB, so that a file with a million symbols costs no memory.
//!
//! Formats: `Elf64_Sym`, `SHT_SYMTAB`, `SHT_DYNSYM` (System V ABI, chapter 4, "Symbol Table").

use hotframe_objects::{ElfFile, ReadAt};

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
/// `sizeof(Elf64_Sym)`.
const SYMBOL_BYTES: usize = 24;
const PIECE_BYTES: usize = 64 << 10;
/// Largest table of names that is read: the ones of the largest browsers' debug builds are below.
const NAMES_MAX_BYTES: u64 = 256 << 20;

/// `STT_TLS`.
pub const TLS: u8 = 6;

/// A defined symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// ELF address; for [`TLS`] the offset in the thread-local segment.
    pub address: u64,
    /// Length in bytes; 0: unknown.
    pub len_bytes: u64,
    /// `STT_*`.
    pub kind: u8,
    /// Index of its section; 0 never comes: only what is defined does.
    pub section: u16,
}

/// Which tables of symbols are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// `.dynsym` alone: small, and there after stripping.
    Dynamic,
    /// `.dynsym`, then `.symtab`.
    All,
}

/// Calls `visit` with each defined symbol's name, until it returns false. What cannot be read is
/// passed over.
pub fn symbols<R: ReadAt>(
    elf: &ElfFile<R>,
    tables: Tables,
    visit: &mut dyn FnMut(&[u8], Symbol) -> bool,
) {
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        if kind == SHT_SYMTAB && tables == Tables::Dynamic {
            return;
        }
        for section in elf.sections().iter().filter(|section| section.kind == kind) {
            let Some(names) = elf.sections().get(section.link as usize) else { continue };
            let Ok(names) = elf.section_bytes(names, NAMES_MAX_BYTES) else { continue };
            if !in_table(elf, section.offset, section.size, &names, visit) {
                return;
            }
        }
    }
}

fn in_table<R: ReadAt>(
    elf: &ElfFile<R>,
    offset: u64,
    size_bytes: u64,
    names: &[u8],
    visit: &mut dyn FnMut(&[u8], Symbol) -> bool,
) -> bool {
    let mut piece = vec![0; PIECE_BYTES / SYMBOL_BYTES * SYMBOL_BYTES];
    let mut at = 0;
    while at < size_bytes {
        let want = (size_bytes - at).min(piece.len() as u64) as usize;
        let Some(into) = piece.get_mut(..want) else { break };
        let got = match elf.reader().read_at(into, offset.saturating_add(at)) {
            Ok(got) if got >= SYMBOL_BYTES => got / SYMBOL_BYTES * SYMBOL_BYTES,
            _ => break,
        };
        for entry in piece.get(..got).unwrap_or_default().chunks_exact(SYMBOL_BYTES) {
            let word = |at: usize, n: usize| {
                entry
                    .get(at..at + n)
                    .unwrap_or_default()
                    .iter()
                    .rev()
                    .fold(0u64, |word, &byte| word << 8 | u64::from(byte))
            };
            let symbol = Symbol {
                kind: word(4, 1) as u8 & 0xf,
                section: word(6, 2) as u16,
                address: word(8, 8),
                len_bytes: word(16, 8),
            };
            if symbol.section == 0 {
                continue;
            }
            let name = names.get(word(0, 4) as usize..).unwrap_or_default();
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            if end > 0 && !visit(&name[..end], symbol) {
                return false;
            }
        }
        at += got as u64;
    }
    true
}

/// Looks up symbols by name: `None` for what is not there. The first of a name counts.
pub fn find<R: ReadAt, const N: usize>(
    elf: &ElfFile<R>,
    tables: Tables,
    wanted: [&str; N],
) -> [Option<Symbol>; N] {
    let mut found = [None; N];
    let mut missing = N;
    symbols(elf, tables, &mut |name, symbol| {
        for (slot, wanted) in found.iter_mut().zip(wanted) {
            if slot.is_none() && name == wanted.as_bytes() {
                *slot = Some(symbol);
                missing -= 1;
            }
        }
        missing > 0
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C library of this machine has what every one has.
    #[test]
    fn finds_what_is_there() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("our own maps");
        let path = maps
            .lines()
            .filter_map(|line| line.split_ascii_whitespace().nth(5))
            .find(|path| path.contains("/libc.so") || path.contains("/libc-"))
            .expect("a dynamically linked C library");
        let elf = ElfFile::open(std::fs::File::open(path).expect("readable")).expect("an ELF file");
        let [malloc, nothing] = find(&elf, Tables::Dynamic, ["malloc", "no such symbol"]);
        assert!(malloc.is_some_and(|symbol| symbol.address != 0 && symbol.len_bytes > 0));
        assert_eq!(nothing, None);
    }
}
