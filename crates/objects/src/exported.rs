//! A function that a file exports, by its exact name.
//!
//! In: an [`ElfFile`] and a name. Out: the ELF address of the function.
//!
//! # How it works
//! As the dynamic linker does it: a Bloom filter says of nearly every file, after 24 bytes, that it has
//! no such name; else the chain of the name's bucket is followed and names are compared.
//!
//! # Sources
//! `DT_GNU_HASH`: binutils `bfd/elflink.c`, glibc `elf/dl-lookup.c` (`do_lookup_x`) @ glibc-2.42.
//!
//! # Not handled
//! Files that have a System V hash table alone: linkers have written GNU's since 2006.
//!
//! # Cost
//! Two reads; some five more where the name may be there.

use crate::Error;
use crate::elf::ElfFile;
use crate::functions::parse;
use crate::read::{ReadAt, fill};

const SHT_GNU_HASH: u32 = 0x6fff_fff6;
/// `sizeof(Elf64_Sym)`.
const SYMBOL_BYTES: u64 = 24;
/// Symbols of one bucket that are looked at: linkers make as many buckets as symbols, or half.
const CHAIN_MAX: u32 = 1024;

/// The function of this name, if the file exports it. What is damaged exports nothing.
pub(crate) fn function<R: ReadAt>(file: &ElfFile<R>, name: &str) -> Result<Option<u64>, Error> {
    let Some(table) = file.sections().iter().find(|section| section.kind == SHT_GNU_HASH) else {
        return Ok(None);
    };
    let Some(symbols) = file.sections().get(table.link as usize) else { return Ok(None) };
    let Some(names) = file.sections().get(symbols.link as usize) else { return Ok(None) };
    let read = |at: u64, into: &mut [u8]| -> Result<bool, Error> {
        Ok(fill(file.reader(), into, at)? == into.len())
    };
    let word = |at: u64| -> Result<Option<u32>, Error> {
        let mut bytes = [0; 4];
        Ok(read(table.offset.saturating_add(at), &mut bytes)?.then(|| u32::from_le_bytes(bytes)))
    };
    let hash =
        name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(byte.into()));
    let mut head = [0; 16];
    if !read(table.offset, &mut head)? {
        return Ok(None);
    }
    let (fields, _) = head.as_chunks::<4>();
    let [n_buckets, first, n_filter, shift] = *fields else { return Ok(None) };
    let [n_buckets, first, n_filter, shift] =
        [n_buckets, first, n_filter, shift].map(u32::from_le_bytes);
    if n_buckets == 0 || n_filter == 0 {
        return Ok(None);
    }
    let filter_at = 16 + u64::from(hash / 64 % n_filter) * 8;
    let mut filter = [0; 8];
    if !read(table.offset.saturating_add(filter_at), &mut filter)? {
        return Ok(None);
    }
    let bits = 1u64 << (hash % 64) | 1u64 << (hash.wrapping_shr(shift) % 64);
    if u64::from_le_bytes(filter) & bits != bits {
        return Ok(None);
    }
    let buckets_at = 16 + u64::from(n_filter) * 8;
    let Some(mut index) = word(buckets_at + u64::from(hash % n_buckets) * 4)? else {
        return Ok(None);
    };
    let chains_at = buckets_at + u64::from(n_buckets) * 4;
    let mut held = vec![0; name.len() + 1];
    for _ in 0..CHAIN_MAX {
        let Some(at) = index.checked_sub(first) else { break };
        let Some(hashed) = word(chains_at + u64::from(at) * 4)? else { break };
        if hashed | 1 == hash | 1 {
            let mut symbol = [0; SYMBOL_BYTES as usize];
            let symbol_at = symbols.offset.saturating_add(u64::from(index) * SYMBOL_BYTES);
            if !read(symbol_at, &mut symbol)? {
                break;
            }
            let [a, b, c, d, ..] = symbol;
            let name_at = names.offset.saturating_add(u32::from_le_bytes([a, b, c, d]).into());
            if read(name_at, &mut held)? && held.strip_suffix(&[0]) == Some(name.as_bytes()) {
                return Ok(parse(&symbol).map(|function| function.start));
            }
        }
        // The last one of a chain is marked so.
        if hashed & 1 == 1 {
            break;
        }
        let Some(next) = index.checked_add(1) else { break };
        index = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C library of this machine exports what every one does; damage is no function, and ends.
    #[test]
    fn finds_what_is_there() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        let path = paths.find(|path| path.contains("/libc.so") || path.contains("/libc-")).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let file = ElfFile::open(bytes.clone()).unwrap();
        for name in ["malloc", "getpid", "qsort", "write"] {
            let at = function(&file, name).unwrap().unwrap();
            assert!(file.text_range().contains(&(at - file.image_base())), "{name}: {at:#x}");
        }
        for name in ["", "mallo", "malloc_", "no such function"] {
            assert_eq!(function(&file, name).unwrap(), None, "{name}");
        }
        let table = file.sections().iter().find(|section| section.kind == SHT_GNU_HASH).unwrap();
        for at in 0..16 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[table.offset as usize + at] = value;
                let file = ElfFile::open(damaged).unwrap();
                function(&file, "malloc").unwrap();
            }
        }
    }
}
