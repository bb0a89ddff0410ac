//! Which frame description entries describe a range of addresses.
//!
//! In: `.eh_frame` with its search table, or `.debug_frame`. Out: [`Entry`]s, sorted by address,
//! and their contents run as [`Fde`]s.
//!
//! # How it works
//! With a sorted search table (`.eh_frame_hdr`, written by every linker) nothing is held: the table
//! is searched by `pread`. The table is checked where it is used — sorted, and each entry starts
//! where the table says — and given up for a scan of the section if it lies. The scan keeps 8 bytes
//! per entry. `.debug_frame` has no table and is scanned; if it is compressed it is inflated and
//! kept.
//!
//! # Sources
//! LSB 5.0 core, "`.eh_frame_hdr`"; unwind-dw2-fde-dip.c @ gcc 14.
//!
//! # Cost
//! Search: about 20 reads of 8 bytes per block, then reads of 32 KiB. Scan: one pass over the
//! section and [`MAX_SCANNED`] × 8 bytes at most.

use std::rc::Rc;

use crate::Error;
use crate::cfi::{Arch, Cie, EntryHead, Fde, Flavour, Saved};
use crate::elf::{ElfFile, Section};
use crate::read::{Cursor, Milestones, ReadAt, Window, fill};

/// Bytes of one CIE or FDE. The largest seen is 60 KB; a larger one is bad.
const MAX_ENTRY_BYTES: u64 = 1 << 20;
/// Entries held by a scan: 16 MiB of index. Files with more have a search table.
const MAX_SCANNED: usize = 2 << 20;
/// CIEs kept parsed. Linkers merge equal ones; libcrypto has 3, libLLVM 7.
const MAX_CIES: usize = 32;
/// Entries of one block: each may start at its own byte, and a few at the same.
const MAX_FOUND: usize = 80_000;
/// Inflated size up to which a compressed section is used.
const MAX_INFLATED_BYTES: u64 = 64 << 20;

/// A frame description entry that is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// First address, ELF virtual.
    pub(crate) start: u64,
    /// Offset in its section.
    pub(crate) offset: u64,
}

#[derive(Debug)]
enum Bytes {
    File { offset: u64 },
    Held(Vec<u8>),
}

#[derive(Debug)]
enum Index {
    /// The search table, `n` pairs of i32 at `offset` of the file, relative to `base`.
    Table { offset: u64, n: u64, base: u64 },
    /// (start - image base, offset in section), sorted.
    Scanned(Vec<(u32, u32)>),
}

/// A section of call frame information.
#[derive(Debug)]
pub(crate) struct Entries {
    flavour: Flavour,
    arch: Arch,
    bytes: Bytes,
    /// ELF virtual address; 0 for `.debug_frame`.
    vaddr: u64,
    size: u64,
    index: Index,
    image_base: u64,
    table_window: Window,
    milestones: Milestones,
    window: Window,
    scratch: Vec<u8>,
    cies: Vec<(u64, Option<Rc<Cie>>)>,
    next_cie: usize,
}

impl Entries {
    /// `.eh_frame`, by its search table if there is one.
    pub(crate) fn eh_frame<R: ReadAt>(
        file: &ElfFile<R>,
        arch: Arch,
    ) -> Result<Option<Self>, Error> {
        let table = search_table(file)?;
        let by_section = file.section(".eh_frame").filter(|section| !section.is_compressed());
        let place = match (by_section, table) {
            (Some(section), _) => Some((section.addr, section.offset, section.size)),
            (None, Some(table)) => file
                .file_range(table.eh_frame)
                .map(|(offset, available)| (table.eh_frame, offset, available)),
            (None, None) => None,
        };
        let Some((vaddr, offset, size)) = place else {
            return Ok(None);
        };
        let index = match table {
            Some(Table { offset, n, base, .. }) if n > 0 => Some(Index::Table { offset, n, base }),
            _ => None,
        };
        let bytes = Bytes::File { offset };
        Self::new(file, arch, Flavour::Eh, bytes, vaddr, size, index).map(Some)
    }

    /// `.debug_frame`.
    pub(crate) fn debug_frame<R: ReadAt>(
        file: &ElfFile<R>,
        arch: Arch,
    ) -> Result<Option<Self>, Error> {
        let Some(section) = file.section(".debug_frame") else {
            return Ok(None);
        };
        let Section { offset, size, .. } = *section;
        let (bytes, size) = if section.is_compressed() {
            let bytes = file.section_bytes(section, MAX_INFLATED_BYTES)?;
            let size = bytes.len() as u64;
            (Bytes::Held(bytes), size)
        } else {
            (Bytes::File { offset }, size)
        };
        Self::new(file, arch, Flavour::Debug, bytes, 0, size, None).map(Some)
    }

    fn new<R: ReadAt>(
        file: &ElfFile<R>,
        arch: Arch,
        flavour: Flavour,
        bytes: Bytes,
        vaddr: u64,
        size: u64,
        index: Option<Index>,
    ) -> Result<Self, Error> {
        let scan = index.is_none();
        let mut entries = Self {
            flavour,
            arch,
            bytes,
            vaddr,
            size: size.min(u64::from(u32::MAX)),
            index: index.unwrap_or(Index::Scanned(Vec::new())),
            image_base: file.image_base(),
            table_window: Window::default(),
            milestones: Milestones::default(),
            window: Window::default(),
            scratch: Vec::new(),
            cies: Vec::new(),
            next_cie: 0,
        };
        if scan {
            entries.scan(file.reader())?;
        }
        Ok(entries)
    }

    /// Whether entries are found by the file's own search table.
    pub(crate) fn uses_table(&self) -> bool {
        matches!(self.index, Index::Table { .. })
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let held = match &self.bytes {
            Bytes::File { .. } => 0,
            Bytes::Held(bytes) => bytes.capacity(),
        };
        let index = match &self.index {
            Index::Table { .. } => 0,
            Index::Scanned(index) => index.capacity() * size_of::<(u32, u32)>(),
        };
        let cies = self.cies.len() * size_of::<Cie>()
            + self.cies.capacity() * size_of::<(u64, Option<Rc<Cie>>)>();
        let windows = self.window.heap_bytes()
            + self.table_window.heap_bytes()
            + self.milestones.heap_bytes();
        held + index + cies + windows + self.scratch.capacity()
    }

    /// Gives back what only serves speed.
    pub(crate) fn release(&mut self) {
        self.window.release();
        self.table_window.release();
        self.milestones.release();
        self.scratch = Vec::new();
    }

    /// Where the function at `start` saves `reg`, from its CFA: the one place that all of its rules
    /// name, prologue and epilogue apart.
    pub(crate) fn saved_at(
        &mut self,
        reader: &impl ReadAt,
        start: u64,
        reg: u8,
    ) -> Result<Option<i32>, Error> {
        let mut found = Vec::new();
        let Some(end) = start.checked_add(1) else { return Ok(None) };
        if !self.find(reader, start, end, &mut found)? {
            return Ok(None);
        }
        let Some(entry) = found.iter().rev().find(|entry| entry.start == start) else {
            return Ok(None);
        };
        // The column that is followed is the frame pointer's.
        let arch = Arch { fp: reg, ..self.arch };
        let mut places: Vec<Saved> = Vec::new();
        let ran = self.with_fde(reader, entry.offset, |fde, cie| {
            fde.run(cie, arch, &mut |_, _, unwind| {
                if !matches!(unwind.fp, Saved::Unspecified | Saved::Same)
                    && !places.contains(&unwind.fp)
                {
                    places.push(unwind.fp);
                }
            })
        })?;
        Ok(match (ran, places.as_slice()) {
            (Some(Some(())), [Saved::At(off)]) => Some(*off),
            _ => None,
        })
    }

    /// Forgets the search table and reads the section from its start instead.
    pub(crate) fn scan(&mut self, reader: &impl ReadAt) -> Result<(), Error> {
        let flavour = self.flavour;
        let mut index = Vec::new();
        let mut offset = 0;
        while offset < self.size && index.len() < MAX_SCANNED {
            let bytes = self.read(reader, offset, EntryHead::MAX_BYTES)?;
            let Some(head) = EntryHead::parse(bytes, offset, flavour) else {
                // A terminator stands at the end; crt files may leave one in the middle.
                if bytes.len() >= 4 && bytes.starts_with(&[0; 4]) {
                    offset += 4;
                    continue;
                }
                break;
            };
            if head.cie.is_some()
                && let Ok(Some(start)) = self.with_fde(reader, offset, |fde, _| fde.start)
                && let Some(image) = start.checked_sub(self.image_base)
                && let (Ok(image), Ok(at)) = (u32::try_from(image), u32::try_from(offset))
            {
                index.push((image, at));
            }
            offset = offset.saturating_add(head.total);
        }
        index.sort_unstable();
        index.shrink_to_fit();
        self.index = Index::Scanned(index);
        Ok(())
    }

    /// Calls `found` with the start of each entry, ascending if the table is.
    pub(crate) fn each_start(
        &mut self,
        reader: &impl ReadAt,
        mut found: impl FnMut(u64),
    ) -> Result<(), Error> {
        match &self.index {
            Index::Scanned(index) => {
                index.iter().for_each(|pair| found(self.image_base + u64::from(pair.0)));
            }
            &Index::Table { offset, n, base } => {
                let table = TableReader { reader, offset, n, base, vaddr: self.vaddr };
                for at in 0..n.min(MAX_SCANNED as u64) {
                    let Some((start, _)) = table.pair(&mut self.table_window, at)? else {
                        break;
                    };
                    found(start);
                }
            }
        }
        Ok(())
    }

    /// Appends the entries that start in `[low, high)`, and the last that starts before. Returns
    /// false if the search table is not to be trusted.
    pub(crate) fn find(
        &mut self,
        reader: &impl ReadAt,
        low: u64,
        high: u64,
        found: &mut Vec<Entry>,
    ) -> Result<bool, Error> {
        match &self.index {
            Index::Scanned(index) => {
                let start = |&(image, _): &(u32, u32)| self.image_base + u64::from(image);
                let at = index.partition_point(|pair| start(pair) < low).saturating_sub(1);
                // Entries that share the start of the last one before.
                let first = index.get(at).map_or(0, &start);
                let at = index.partition_point(|pair| start(pair) < first);
                let rest = index.get(at..).unwrap_or_default();
                let pairs = rest.iter().take_while(|pair| start(pair) < high).take(MAX_FOUND);
                found.extend(
                    pairs.map(|pair| Entry { start: start(pair), offset: u64::from(pair.1) }),
                );
                Ok(true)
            }
            &Index::Table { offset, n, base } => {
                let table = TableReader { reader, offset, n, base, vaddr: self.vaddr };
                table.find(&mut self.table_window, &mut self.milestones, low, high, found)
            }
        }
    }

    fn read(&mut self, reader: &impl ReadAt, offset: u64, len: usize) -> Result<&[u8], Error> {
        let available = self.size.saturating_sub(offset);
        let len = len.min(usize::try_from(available).unwrap_or(usize::MAX));
        match &self.bytes {
            Bytes::File { offset: file } => {
                self.window.get(reader, file.saturating_add(offset), len)
            }
            Bytes::Held(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                Ok(bytes.get(from..).and_then(|rest| rest.get(..len)).unwrap_or_default())
            }
        }
    }

    /// The contents of the entry at `offset` go to `scratch`.
    fn load(&mut self, reader: &impl ReadAt, offset: u64) -> Result<Option<EntryHead>, Error> {
        let flavour = self.flavour;
        let Some(head) =
            EntryHead::parse(self.read(reader, offset, EntryHead::MAX_BYTES)?, offset, flavour)
        else {
            return Ok(None);
        };
        if head.total > MAX_ENTRY_BYTES {
            return Ok(None);
        }
        let total = head.total as usize;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let bytes = self.read(reader, offset, total);
        let whole = bytes.as_ref().is_ok_and(|bytes| <[u8]>::len(bytes) == total);
        if let Ok(bytes) = &bytes {
            scratch.extend_from_slice(bytes.get(usize::from(head.head)..).unwrap_or_default());
        }
        bytes?;
        self.scratch = scratch;
        Ok(whole.then_some(head))
    }

    fn cie(&mut self, reader: &impl ReadAt, offset: u64) -> Result<Option<Rc<Cie>>, Error> {
        if let Some((_, cie)) = self.cies.iter().find(|(at, _)| *at == offset) {
            return Ok(cie.clone());
        }
        let head = self.load(reader, offset)?;
        let cie = head
            .filter(|head| head.cie.is_none())
            .and_then(|_| Cie::parse(&self.scratch, self.flavour, self.arch))
            .map(Rc::new);
        let slot = (offset, cie.clone());
        if self.cies.len() < MAX_CIES {
            self.cies.push(slot);
        } else {
            if let Some(place) = self.cies.get_mut(self.next_cie) {
                *place = slot;
            }
            self.next_cie = (self.next_cie + 1) % MAX_CIES;
        }
        Ok(cie)
    }

    /// Calls `then` with the entry at `offset`, and gives its answer. `None` if the entry or its
    /// CIE cannot be read.
    pub(crate) fn with_fde<T>(
        &mut self,
        reader: &impl ReadAt,
        offset: u64,
        then: impl FnOnce(Fde<'_>, &Cie) -> T,
    ) -> Result<Option<T>, Error> {
        let flavour = self.flavour;
        let bytes = self.read(reader, offset, EntryHead::MAX_BYTES)?;
        let cie = EntryHead::parse(bytes, offset, flavour).and_then(|head| head.cie);
        let Some(cie) = cie else { return Ok(None) };
        let Some(cie) = self.cie(reader, cie)? else {
            return Ok(None);
        };
        let Some(head) = self.load(reader, offset)? else {
            return Ok(None);
        };
        let at = self.vaddr.wrapping_add(offset).wrapping_add(u64::from(head.head));
        Ok(Fde::parse(&self.scratch, at, &cie).map(|fde| then(fde, &cie)))
    }

    /// Bytes of the last entry that was read.
    pub(crate) fn last_entry_bytes(&self) -> usize {
        self.scratch.len()
    }
}

/// What `.eh_frame_hdr` says.
#[derive(Clone, Copy)]
struct Table {
    eh_frame: u64,
    offset: u64,
    n: u64,
    base: u64,
}

/// Reads the head of `.eh_frame_hdr`. Encodings other than those that linkers write (4-byte
/// relative ones) give a table without entries, so that the section is scanned.
fn search_table<R: ReadAt>(file: &ElfFile<R>) -> Result<Option<Table>, Error> {
    let place = match file.eh_frame_hdr() {
        Some(segment) => Some((segment.vaddr, segment.offset, segment.filesz)),
        None => file.section(".eh_frame_hdr").map(|s| (s.addr, s.offset, s.size)),
    };
    let Some((vaddr, offset, size)) = place else {
        return Ok(None);
    };
    let mut head = [0; 12];
    let got = fill(file.reader(), &mut head, offset)?;
    let mut cursor = Cursor::new(head.get(..got).unwrap_or_default());
    let mut parse = || {
        let encodings = cursor.take(4)?;
        let pointer = cursor.u32()?;
        let n = cursor.u32()?;
        // version 1; eh_frame: pcrel or datarel sdata4
        let eh_frame = match encodings {
            [1, 0x1b, ..] => vaddr.wrapping_add(4),
            [1, 0x3b, ..] => vaddr,
            _ => return None,
        };
        let eh_frame = eh_frame.wrapping_add_signed(i64::from(pointer.cast_signed()));
        let sorted = matches!(encodings, [_, _, 0x03, 0x3b]);
        let n = if sorted { u64::from(n).min(size.saturating_sub(12) / 8) } else { 0 };
        Some(Table { eh_frame, offset: offset.checked_add(12)?, n, base: vaddr })
    };
    Ok(parse())
}

/// For each of `addrs`, ascending ELF virtual addresses, where the last function begins that the
/// search table of `.eh_frame` has at or before it: in a file without symbols the next best to
/// knowing which addresses lie in one function. `None` where no table says; a table that is not
/// sorted is believed up to there.
///
/// # Cost
/// One pass over the table, 8 bytes a function, in pieces of 32 KiB.
pub fn function_starts<R: ReadAt>(
    file: &ElfFile<R>,
    addrs: &[u64],
) -> Result<Vec<Option<u64>>, Error> {
    let mut starts = vec![None; addrs.len()];
    let Some(Table { eh_frame: vaddr, offset, n, base }) = search_table(file)? else {
        return Ok(starts);
    };
    let table = TableReader { reader: file.reader(), offset, n, base, vaddr };
    let mut window = Window::default();
    let (mut at, mut before) = (0, None);
    for (&addr, slot) in addrs.iter().zip(&mut starts) {
        while let Some((start, _)) = table.pair(&mut window, at)? {
            if start > addr {
                break;
            }
            if before.is_some_and(|before| start < before) {
                at = n;
                break;
            }
            before = Some(start);
            at += 1;
        }
        *slot = before;
    }
    Ok(starts)
}

/// Entries before the one that is found that may share its start.
const BACK: u64 = 4;

struct TableReader<'a, R> {
    reader: &'a R,
    offset: u64,
    n: u64,
    base: u64,
    vaddr: u64,
}

impl<R: ReadAt> TableReader<'_, R> {
    fn parse(&self, pair: &[u8]) -> Option<(u64, u64)> {
        let mut cursor = Cursor::new(pair);
        let mut next =
            || Some(self.base.wrapping_add_signed(i64::from(cursor.u32()?.cast_signed())));
        Some((next()?, next()?))
    }

    fn find(
        &self,
        window: &mut Window,
        milestones: &mut Milestones,
        low: u64,
        high: u64,
        found: &mut Vec<Entry>,
    ) -> Result<bool, Error> {
        // The last entry that starts before `low`, or the first of all.
        let read = |row: u64, from: Option<u64>| {
            let pair = match from {
                None => {
                    let mut pair = [0; 8];
                    let at = self.offset.saturating_add(row * 8);
                    let got = fill(self.reader, &mut pair, at)?;
                    self.parse(pair.get(..got).unwrap_or_default())
                }
                Some(from) => {
                    // With those before them that may share a start.
                    self.pair(window, from.saturating_sub(BACK))?;
                    self.pair(window, row)?
                }
            };
            Ok(pair.map(|(start, _)| start))
        };
        let Some(from) = milestones.bisect(self.n, |start| start < low, read)? else {
            return Ok(false);
        };
        // Entries may share a start; the longest of them is wanted.
        let mut back = 0;
        let mut last = 0;
        let mut at = from.saturating_sub(BACK);
        let first = loop {
            let Some((start, offset)) = self.pair(window, at)? else {
                return Ok(true);
            };
            if at >= from {
                break start;
            }
            found.push(Entry { start, offset: offset.wrapping_sub(self.vaddr) });
            back += 1;
            at += 1;
        };
        let keep = found.len() - back;
        let mut i = 0;
        found.retain(|entry| {
            i += 1;
            i <= keep || entry.start == first
        });
        while found.len() < MAX_FOUND {
            let Some((start, offset)) = self.pair(window, at)? else {
                break;
            };
            if start < last {
                return Ok(false);
            }
            if start >= high {
                break;
            }
            found.push(Entry { start, offset: offset.wrapping_sub(self.vaddr) });
            last = start;
            at += 1;
        }
        Ok(true)
    }

    fn pair(&self, window: &mut Window, index: u64) -> Result<Option<(u64, u64)>, Error> {
        if index >= self.n {
            return Ok(None);
        }
        Ok(self.parse(window.get(self.reader, self.offset.saturating_add(index * 8), 8)?))
    }
}
