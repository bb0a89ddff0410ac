//! What a file could be named from, and whether it defines a symbol: without naming anything.
//!
//! In: an open ELF file. Out: [`Sources`], which a person can be told; [`defines`], by which a
//! runtime is known however its file is called.
//!
//! # How it works
//! `sources` reads headers and looks for a separate debug file as a batch would. `defines` streams
//! the string tables for the wanted names, then the symbol tables for definitions by those offsets:
//! a name in a string table alone may be an import.
//!
//! # Cost
//! `defines` on a binary with 75,000 dynamic symbols: 5 MB read.

use std::fs::File;
use std::path::PathBuf;

use hotframe_objects::Section;

use crate::bytes::{Bytes, u16_at, u32_at};
use crate::debugfile;
use crate::elf::{Elf, SHT_DYNSYM, SHT_SYMTAB};
use crate::{Context, Error, Report};

const SYMBOL_BYTES: usize = 24;
const CHUNK_BYTES: usize = SYMBOL_BYTES * 2730;
const SHN_UNDEF: u16 = 0;
/// Places of one name that are looked at: linkers keep a string once, or as the end of another.
const PLACES_MAX: usize = 64;

/// What a file could be named from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// GNU build id.
    pub build_id: Option<Vec<u8>>,
    /// Go's line table: every function, file and line.
    pub go: bool,
    /// DWARF, in the file or in `debug_file`: functions, inlined calls, files and lines.
    pub dwarf: bool,
    /// `.symtab`, in the file or in `debug_file`: every function.
    pub symtab: bool,
    /// `.gnu_debugdata`: functions that `.dynsym` lacks.
    pub minidebuginfo: bool,
    /// `.dynsym`: exported functions.
    pub dynsym: bool,
    /// The separate debug file.
    pub debug_file: Option<PathBuf>,
}

/// What `file` could be named from. Servers are asked only if `context` names some.
pub fn sources(file: &File, context: &Context) -> Result<Sources, Error> {
    let elf = Elf::new(Bytes::of_file(file.try_clone()?)?)?;
    let has = |elf: &Elf, kind| elf.sections().iter().any(|s| s.kind == kind && s.size > 24);
    let mut sources = Sources {
        build_id: elf.build_id().map(<[u8]>::to_vec),
        go: elf.is_go(),
        dwarf: debugfile::has_dwarf(&elf),
        symtab: debugfile::has_symtab(&elf),
        minidebuginfo: elf.section(".gnu_debugdata").is_some(),
        dynsym: has(&elf, SHT_DYNSYM),
        debug_file: None,
    };
    if !(sources.dwarf && sources.symtab)
        && let Some(found) = debugfile::find(&elf, context, &mut Report::default())
    {
        sources.dwarf |= debugfile::has_dwarf(&found.elf);
        sources.symtab |= debugfile::has_symtab(&found.elf);
        sources.debug_file = Some(found.path);
    }
    Ok(sources)
}

/// For each of `names`, whether the file defines that symbol, by `.dynsym` or `.symtab`. A version
/// that the linker put into `.symtab` names (`name@@VERSION`) is not part of the name.
pub fn defines(file: &File, names: &[&str]) -> Result<Vec<bool>, Error> {
    let elf = Elf::new(Bytes::of_file(file.try_clone()?)?)?;
    let mut defined = vec![false; names.len()];
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        for table in elf.sections().iter().filter(|section| section.kind == kind) {
            let Some(strings) = elf.sections().get(table.link as usize) else {
                continue;
            };
            defined_in(&elf, table, strings, names, &mut defined)?;
        }
    }
    Ok(defined)
}

fn defined_in(
    elf: &Elf,
    table: &Section,
    strings: &Section,
    names: &[&str],
    defined: &mut [bool],
) -> Result<(), Error> {
    let places = places(&elf.raw(strings), names)?;
    if places.is_empty() {
        return Ok(());
    }
    let symbols = elf.raw(table);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let n = symbols.read_at(at, &mut buffer)?;
        for symbol in buffer[..n].chunks_exact(SYMBOL_BYTES) {
            if u16_at(symbol, 6) == SHN_UNDEF {
                continue;
            }
            let name = u64::from(u32_at(symbol, 0));
            for &(_, which) in places.iter().filter(|(place, _)| *place == name) {
                defined[which] = true;
            }
        }
        if n < buffer.len() {
            return Ok(());
        }
        at += n as u64;
    }
}

/// Offsets at which a string that is one of `names` begins, with its index.
fn places(strings: &Bytes, names: &[&str]) -> Result<Vec<(u64, usize)>, Error> {
    let longest = names.iter().map(|name| name.len() + 1).max().unwrap_or(0);
    let mut places = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES.max(2 * longest)];
    let mut at = 0;
    loop {
        let n = strings.read_at(at, &mut buffer)?;
        let is_last = n < buffer.len();
        for (which, name) in names.iter().enumerate() {
            for start in memchr::memmem::find_iter(&buffer[..n], name.as_bytes()) {
                let ends = matches!(buffer[..n].get(start + name.len()), Some(0 | b'@'));
                // What begins in the overlap is found again in the next window.
                let is_ours = is_last || start < n - longest;
                let known = places.iter().filter(|(_, of)| *of == which).count();
                if ends && is_ours && known < PLACES_MAX {
                    places.push((at + start as u64, which));
                }
            }
        }
        if is_last {
            return Ok(places);
        }
        at += (n - longest) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own test binary defines `main` and imports `malloc`: an import is no definition.
    #[test]
    fn own_binary() {
        let file = File::open("/proc/self/exe").expect("our own file");
        let defined = defines(&file, &["main", "malloc", "no_such_symbol"]).expect("an ELF file");
        assert_eq!(defined, [true, false, false]);
        let sources = sources(&file, &Context::new("/proc/self/exe")).expect("an ELF file");
        assert!(sources.symtab && !sources.go);
    }

    /// Names are found across the border of two windows, versions are cut, longer names are others.
    #[test]
    fn windows() {
        for before in [CHUNK_BYTES - 8, CHUNK_BYTES - 4, CHUNK_BYTES - 3, CHUNK_BYTES, 7] {
            let mut bytes = vec![b'x'; before];
            bytes.extend_from_slice(b"\0abc\0abcd\0abc@@V\0");
            let at = before as u64 + 1;
            let found = places(&Bytes::of_memory(bytes), &["abc", "zzzzzz"]).expect("memory");
            assert_eq!(found, [(at, 0), (at + 9, 0)], "{before}");
        }
        assert_eq!(places(&Bytes::empty(), &["a"]).expect("memory"), []);
    }
}
