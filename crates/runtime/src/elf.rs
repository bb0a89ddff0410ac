//! Symbols of an ELF file by name: what recognising a runtime takes.
//!
//! In: an open file, and the names that are looked for. Out: the symbols of these names, from
//! `.dynsym` and `.symtab`.
//!
//! # How it works
//! Nearly no file has any of the names, so the table of names is searched first, and the symbols are
//! gone through only if one was there: which symbol has it is then a matter of comparing offsets. Both
//! tables pass by in pieces of 64 KiB.
//!
//! Formats: `Elf64_Sym`, `SHT_SYMTAB`, `SHT_DYNSYM`, string tables (System V ABI, chapter 4, "Symbol
//! Table", "String Table"). A name may be the end of another one: linkers share them.
//!
//! # Cost
//! A read of the table of names, at some gigabytes a second; 64 KiB of memory.

use hotframe_objects::{ElfFile, ReadAt};
use memchr::memmem::Finder;
use std::collections::HashMap;

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
/// `sizeof(Elf64_Sym)`.
const SYMBOL_BYTES: usize = 24;
const PIECE_BYTES: usize = 64 << 10;
/// Largest table of names that is read: a cold disk gives it in half a second. Programs whose
/// tables are larger are debug builds of browsers.
const NAMES_MAX_BYTES: u64 = 64 << 20;
/// A found name's length at most; only prefixes find others than those that were asked for.
const NAME_MAX_BYTES: usize = 256;
/// Places in a table of names at which a wanted one may stand.
const PLACES_MAX: usize = 1 << 14;

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
    /// `.symtab` alone.
    Static,
    /// `.dynsym`, then `.symtab`.
    All,
}

/// Names that are looked for, ready to be searched by.
///
/// A finder each: one automaton of all looks for the rarest byte of the names, which is none that is
/// rare in a table of names (measured: six times slower).
#[derive(Debug)]
pub struct Names {
    finders: Vec<Finder<'static>>,
}

impl Names {
    /// Symbols of these names, and those that begin with one of the prefixes. None of them may be
    /// empty.
    pub fn new(exact: &[&str], prefixes: &[&str]) -> Names {
        let exact = exact.iter().map(|name| [name.as_bytes(), b"\0"].concat());
        let prefixes = prefixes.iter().map(|name| name.as_bytes().to_vec());
        let finders = exact.chain(prefixes).map(|name| Finder::new(&name).into_owned()).collect();
        Names { finders }
    }

    /// Every place at which a wanted name stands in a table of names, and that name.
    fn places<R: ReadAt>(&self, reader: &R, offset: u64, size_bytes: u64) -> HashMap<u32, Vec<u8>> {
        let mut places = HashMap::new();
        if size_bytes > NAMES_MAX_BYTES {
            return places;
        }
        // Pieces overlap by a longest name: one that is cut off by a piece's end is whole in the next.
        let mut piece = vec![0; PIECE_BYTES + NAME_MAX_BYTES];
        let mut at = 0;
        while at < size_bytes {
            let want = (size_bytes - at).min(piece.len() as u64) as usize;
            let Some(into) = piece.get_mut(..want) else { break };
            let got = match reader.read_at(into, offset.saturating_add(at)) {
                Ok(got) if got > 0 => got,
                _ => break,
            };
            let piece = piece.get(..got).unwrap_or_default();
            for start in self.finders.iter().flat_map(|finder| finder.find_iter(piece)) {
                if start >= PIECE_BYTES || places.len() >= PLACES_MAX {
                    continue;
                }
                let rest = piece.get(start..).unwrap_or_default();
                if let Some(end) = rest.iter().take(NAME_MAX_BYTES).position(|&byte| byte == 0) {
                    let name = rest.get(..end).unwrap_or_default().to_vec();
                    places.insert((at + start as u64) as u32, name);
                }
            }
            if got <= PIECE_BYTES {
                break;
            }
            at += PIECE_BYTES as u64;
        }
        places
    }
}

/// Calls `visit` with each defined symbol that has one of the names, until it returns false. What
/// cannot be read is passed over.
pub fn symbols<R: ReadAt>(
    elf: &ElfFile<R>,
    tables: Tables,
    names: &Names,
    visit: &mut dyn FnMut(&[u8], Symbol) -> bool,
) {
    let kinds: &[u32] = match tables {
        Tables::Dynamic => &[SHT_DYNSYM],
        Tables::Static => &[SHT_SYMTAB],
        Tables::All => &[SHT_DYNSYM, SHT_SYMTAB],
    };
    for &kind in kinds {
        for section in elf.sections().iter().filter(|section| section.kind == kind) {
            let Some(strings) = elf.sections().get(section.link as usize) else { continue };
            let places = names.places(elf.reader(), strings.offset, strings.size);
            if !places.is_empty() && !in_table(elf, section.offset, section.size, &places, visit) {
                return;
            }
        }
    }
}

fn in_table<R: ReadAt>(
    elf: &ElfFile<R>,
    offset: u64,
    size_bytes: u64,
    places: &HashMap<u32, Vec<u8>>,
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
            let Some(name) = places.get(&(word(0, 4) as u32)) else { continue };
            let symbol = Symbol {
                kind: word(4, 1) as u8 & 0xf,
                section: word(6, 2) as u16,
                address: word(8, 8),
                len_bytes: word(16, 8),
            };
            if symbol.section != 0 && !name.is_empty() && !visit(name, symbol) {
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
    symbols(elf, tables, &Names::new(&wanted, &[]), &mut |name, symbol| {
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

    /// A table of names as a linker writes it: pieces' borders, shared ends, prefixes.
    #[test]
    fn places_of_names() {
        let mut table = vec![0u8];
        table.extend(b"not_wanted\0my_wanted\0wanted.part.3\0wanted\0");
        // One that a piece's border cuts, and one that begins at it.
        table.resize(PIECE_BYTES - 3, b'x');
        table.extend(b"\0wanted\0");
        table.resize(2 * PIECE_BYTES - 1, b'y');
        table.extend(b"\0wanted\0unwanted_at_the_end");
        let names = Names::new(&["wanted"], &["wanted."]);
        let found = names.places(&table.as_slice(), 0, table.len() as u64);
        let mut found: Vec<(u32, String)> = found
            .into_iter()
            .map(|(at, name)| (at, String::from_utf8_lossy(&name).into_owned()))
            .collect();
        found.sort();
        let at = |at: usize, name: &str| (at as u32, name.to_owned());
        assert_eq!(
            found,
            [
                at(5, "wanted"),
                at(15, "wanted"),
                at(22, "wanted.part.3"),
                at(36, "wanted"),
                at(PIECE_BYTES - 2, "wanted"),
                at(2 * PIECE_BYTES, "wanted"),
            ]
        );
        // A file that ends early, and a size that is a lie.
        assert_eq!(names.places(&table.as_slice(), 0, 1 << 20).len(), 6);
        assert_eq!(names.places(&table.as_slice(), 1 << 40, 1 << 20).len(), 0);
        assert_eq!(names.places(&table.as_slice(), 0, u64::MAX).len(), 0);
    }

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
