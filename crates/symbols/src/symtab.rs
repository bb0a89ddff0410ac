//! Symbol tables, streamed: which symbol covers each wanted address.
//!
//! In: the `.symtab` and `.dynsym` of one or more files, sorted wanted addresses. Out: one
//! [`Winner`] per covered address; only winners' names are read. Memory is O(wanted addresses).
//!
//! # Which symbol
//! A symbol with a size covers `[value, value + size)`. Of several that cover an address the best
//! is: a function before an untyped symbol, then the one that starts last, then the smallest (the
//! tightest), then global before weak before local, then the name with the fewest leading
//! underscores (`malloc` before `__libc_malloc`), then the first of the first table.
//!
//! A symbol of size 0 is an assembly label. It covers up to the next symbol of its section, of
//! whatever type, or to the section's end, and only if no sized symbol covers the address. That is
//! what perf and gdb show; but it is true only where the next symbol is known. So labels of
//! `.dynsym`, of a minidebuginfo, or of a `.symtab` from which local symbols were stripped cover
//! nothing: after them may come functions whose names are gone.
//!
//! # Cost
//! One pass of 64 KiB reads and one binary search a symbol: about 20 ns each.

use std::io;
use std::time::Instant;

use hotframe_objects::Machine;

use crate::Error;
use crate::bytes::{Bytes, u16_at, u32_at, u64_at};
use crate::demangle::SYMBOL_MAX_BYTES;
use crate::elf::{Elf, SHF_EXECINSTR, SHT_DYNSYM, SHT_SYMTAB, holds};

const SYMBOL_BYTES: usize = 24;
const CHUNK_SYMBOLS: usize = 2730;

const STT_NOTYPE: u8 = 0;
const STT_OBJECT: u8 = 1;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;
const STB_GLOBAL: u8 = 1;
const SHN_UNDEF: u16 = 0;
const SHN_LORESERVE: u16 = 0xff00;
const SHN_XINDEX: u16 = 0xffff;

/// Whether the labels of a file's tables may be believed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// All symbols that the linker wrote, unless the table itself shows otherwise.
    Whole,
    /// A selection (minidebuginfo).
    Selection,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    table: usize,
    name: u32,
    value: u64,
    size: u64,
    function: bool,
    /// 0 global, 1 weak or unique, 2 local.
    binding: u8,
}

/// The last symbol start in the gap before a wanted address.
#[derive(Clone, Copy, Default)]
struct Gap {
    start: Option<u64>,
    label: Option<(Candidate, u64)>,
}

/// The symbol that names an address.
#[derive(Clone, Debug)]
pub(crate) struct Winner {
    /// As in the table, its version cut off.
    pub(crate) name: String,
}

/// A search in several tables.
pub(crate) struct Search<'a> {
    addresses: &'a [u64],
    deadline: Instant,
    best: Vec<Option<Candidate>>,
    gaps: Vec<Gap>,
    strings: Vec<Bytes>,
}

impl<'a> Search<'a> {
    /// `addresses`: sorted.
    pub(crate) fn new(addresses: &'a [u64], deadline: Instant) -> Search<'a> {
        Search {
            addresses,
            deadline,
            best: vec![None; addresses.len()],
            gaps: vec![Gap::default(); addresses.len()],
            strings: Vec::new(),
        }
    }

    /// Streams all symbol tables of `elf`; returns the number of tables.
    pub(crate) fn add(&mut self, elf: &Elf, completeness: Completeness) -> Result<usize, Error> {
        let mut n_tables = 0;
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            for section in elf.sections().iter().filter(|s| s.kind == kind) {
                let Some(strings) = elf.sections().get(section.link as usize) else {
                    continue;
                };
                let symbols = elf.raw(section);
                if symbols.len() == 0 {
                    continue;
                }
                self.strings.push(elf.raw(strings));
                n_tables += 1;
                let labels = kind == SHT_SYMTAB && completeness == Completeness::Whole;
                self.stream(elf, &symbols, labels)?;
            }
        }
        Ok(n_tables)
    }

    fn stream(&mut self, elf: &Elf, symbols: &Bytes, labels: bool) -> Result<(), Error> {
        let table = self.strings.len() - 1;
        let mut buffer = vec![0; CHUNK_SYMBOLS * SYMBOL_BYTES];
        let mut at = 0;
        let mut has_locals = false;
        loop {
            let n = symbols.read_at(at, &mut buffer)?;
            for record in buffer[..n].chunks_exact(SYMBOL_BYTES) {
                has_locals |= self.symbol(elf, record, table, labels)?;
            }
            at += n as u64;
            if n < buffer.len() {
                break;
            }
            if Instant::now() > self.deadline {
                return Err(Error::OutOfTime);
            }
        }
        if labels && !has_locals {
            for gap in &mut self.gaps {
                gap.label.take_if(|(label, _)| label.table == table);
            }
        }
        Ok(())
    }

    /// Returns whether the symbol is a local one of code or data.
    fn symbol(&mut self, elf: &Elf, record: &[u8], table: usize, labels: bool) -> io::Result<bool> {
        let info = record.get(4).copied().unwrap_or(0);
        let (kind, binding) = (info & 15, info >> 4);
        let section = u16_at(record, 6);
        if section == SHN_UNDEF || (section >= SHN_LORESERVE && section != SHN_XINDEX) {
            return Ok(false);
        }
        if !matches!(kind, STT_NOTYPE | STT_OBJECT | STT_FUNC | STT_GNU_IFUNC) {
            return Ok(false);
        }
        let candidate = Candidate {
            table,
            name: u32_at(record, 0),
            value: u64_at(record, 8),
            size: u64_at(record, 16),
            function: matches!(kind, STT_FUNC | STT_GNU_IFUNC),
            binding: match binding {
                STB_GLOBAL => 0,
                STB_LOCAL => 2,
                _ => 1,
            },
        };
        let local = binding == STB_LOCAL;
        let first = self.addresses.partition_point(|&a| a < candidate.value);
        let Some(&next) = self.addresses.get(first) else {
            return Ok(local);
        };
        if candidate.size > 0 {
            if kind != STT_OBJECT {
                let mut index = first;
                while let Some(&address) = self.addresses.get(index)
                    && address - candidate.value < candidate.size
                {
                    if self.prefer(&candidate, self.best[index].as_ref())? {
                        self.best[index] = Some(candidate);
                    }
                    index += 1;
                }
            }
        } else if elf.machine() == Machine::Arm64 && local && self.is_mapping_symbol(&candidate)? {
            return Ok(false);
        }
        let gap = self.gaps[first];
        if gap.start > Some(candidate.value) {
            return Ok(local);
        }
        let same = gap.start == Some(candidate.value);
        let extent = elf.sections().get(usize::from(section)).filter(|s| {
            s.flags & SHF_EXECINSTR != 0 && holds(s, candidate.value) && holds(s, next)
        });
        let label = match extent {
            // A sized symbol at the same place tells where this code ends.
            _ if candidate.size > 0 || (same && gap.label.is_none()) => None,
            Some(section) if labels && kind != STT_OBJECT && candidate.name != 0 => {
                let end = section.addr.saturating_add(section.size);
                match gap.label {
                    Some((old, _)) if same && !self.prefer(&candidate, Some(&old))? => gap.label,
                    _ => Some((candidate, end)),
                }
            }
            _ if same => gap.label,
            _ => None,
        };
        self.gaps[first] = Gap { start: Some(candidate.value), label };
        Ok(local)
    }

    /// `$x`, `$d`: where AArch64 code and data in text begin, not names.
    fn is_mapping_symbol(&self, candidate: &Candidate) -> io::Result<bool> {
        Ok(self.raw_name(candidate, 1)?.first() == Some(&b'$'))
    }

    fn prefer(&self, new: &Candidate, old: Option<&Candidate>) -> io::Result<bool> {
        let Some(old) = old else { return Ok(true) };
        let rank = |c: &Candidate| (!c.function, std::cmp::Reverse(c.value), c.size, c.binding);
        match rank(new).cmp(&rank(old)) {
            std::cmp::Ordering::Less => Ok(true),
            std::cmp::Ordering::Greater => Ok(false),
            std::cmp::Ordering::Equal => {
                let underscores = |c: &Candidate| -> io::Result<usize> {
                    let name = self.raw_name(c, 16)?;
                    Ok(name.iter().take_while(|&&b| b == b'_').count())
                };
                Ok(underscores(new)? < underscores(old)?)
            }
        }
    }

    fn raw_name(&self, candidate: &Candidate, max: usize) -> io::Result<Vec<u8>> {
        match self.strings.get(candidate.table) {
            Some(strings) => strings.c_string(u64::from(candidate.name), max),
            None => Ok(Vec::new()),
        }
    }

    /// One entry per address.
    pub(crate) fn finish(mut self) -> Result<Vec<Option<Winner>>, Error> {
        let mut last = Gap::default();
        for (index, &address) in self.addresses.iter().enumerate() {
            if let Some(gap) = self.gaps.get(index)
                && gap.start.is_some()
            {
                last = *gap;
            }
            if let (None, Some((label, end))) = (self.best[index], last.label)
                && address < end
            {
                self.best[index] = Some(label);
            }
        }
        self.gaps = Vec::new();
        let mut winners: Vec<Option<Winner>> = Vec::with_capacity(self.best.len());
        let mut last: Option<(usize, u32)> = None;
        for candidate in &self.best {
            let Some(candidate) = candidate else {
                winners.push(None);
                last = None;
                continue;
            };
            // Neighbours mostly lie in the same function.
            if last == Some((candidate.table, candidate.name)) {
                winners.push(winners.last().cloned().flatten());
                continue;
            }
            last = Some((candidate.table, candidate.name));
            let mut name = self.raw_name(candidate, SYMBOL_MAX_BYTES)?;
            if let Some(at) = memchr::memchr(b'@', &name).filter(|&at| at > 0) {
                name.truncate(at);
            }
            let name = String::from_utf8_lossy(&name).into_owned();
            winners.push((!name.is_empty()).then_some(Winner { name }));
        }
        Ok(winners)
    }
}
