//! Code that a JIT registered with GDB's interface: its unwind information and its names.
//!
//! In: a reader of a live process's memory, and where its `__jit_debug_descriptor` is. Out: the list's
//! [`Entry`]s, and of each an [`Image`]: a small ELF file with the code's call frame information and
//! symbols at the addresses at which they were loaded, which is unwound by and named from like any other
//! file; and what tells later whether the entry is still the same ([`Standing`]).
//!
//! # How it works
//! A JIT keeps a doubly linked list of object files in its memory. What lies in memory is what its
//! compiler made, before it was linked: of an `ET_REL` file the section headers say where each section
//! was loaded, symbols count from their section, and `.eh_frame` is not relocated. The one that was
//! loaded is, and it is read instead. Of any other file all addresses are final. From these a new file is
//! written, with nothing in it but the code's extents, call frame information, and the symbols of functions:
//! no more of what the process says is believed than that, and no more is kept. Code is given out
//! ([`Image::code`]) that a frame description entry covers, and functions that none does: LLVM makes none
//! for what throws nothing, which numba's loops are. Then the code's bytes go with it, so that these can be
//! followed from their symbols. Where an image has no entries at all it is all of its code.
//!
//! A list is read while its process changes it, code is freed, and its address used again. So an image is
//! good for a sample only if it stood before and after it: the entry is still linked, names the same memory,
//! and that begins and ends with the same bytes, among which LLVM has the section headers with their
//! addresses.
//!
//! # Sources
//! "JIT Compilation Interface" (gdb/doc/gdb.texinfo @ gdb 13) for the descriptor and its entries.
//! `GDBRegistrationListener.cpp`, `RuntimeDyldELF.cpp` (`createELFDebugObject`: only `sh_addr` is
//! written) @ LLVM 14; tcg/tcg.c (`tcg_register_jit_int`: `ET_EXEC`, `.text` is `SHT_NOBITS`,
//! `.debug_frame`) @ QEMU 7.2; Elf64_Ehdr, Elf64_Shdr, Elf64_Sym (System V gABI 4.3, chapter 4).
//!
//! # Not handled
//! Lines and inlined functions: the images' DWARF is left out. `.debug_frame` of an `ET_REL` file,
//! which nobody relocates. Code of an image that has entries, but neither one nor a function's
//! symbol for it. An image that was freed and made again in the same place with the same bytes,
//! with another in between, for which a sample was taken. Images in a format of the JIT's own
//! (GDB's `jit-reader-load`).
//!
//! # Cost
//! Two reads an entry while the list is gone through; about five an image, once: 50 µs for one of 6 KB. To
//! look whether it stands: three reads.

use hotframe_objects::{ElfFile, Machine, ReadAt as _, RowSource, Section};
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;

/// The symbol of the descriptor.
pub const DESCRIPTOR: &str = "__jit_debug_descriptor";
/// Entries of a list that are gone through.
pub const ENTRIES_MAX: usize = 4096;
/// Bytes of an image; those of LLVM have some kilobytes a function.
pub const IMAGE_MAX_BYTES: u64 = 4 << 20;
/// Bytes of a section of call frame information.
const CFI_MAX_BYTES: u64 = 1 << 20;
/// Bytes of code that go with an image that has no call frame information.
const CODE_MAX_BYTES: u64 = 256 << 10;
/// Pieces of code of an image.
const PIECES_MAX: usize = 64;
/// Symbols kept of an image, and bytes of a name.
const SYMBOLS_MAX: usize = 16 << 10;
const NAME_MAX_BYTES: usize = 1024;
/// Entries of call frame information that are looked at for their extents.
const EXTENTS_MAX: usize = 16 << 10;
/// Extents that are told apart: one is a mapping in the kernel half, of which there are 8,192.
const RANGES_MAX: usize = 256;
/// Between two functions: alignment.
const PADDING_BYTES: u64 = 15;
/// Bytes at an image's beginning and its end that tell whether it is still the same.
const MARK_BYTES: u64 = 16 << 10;
/// Where user space ends (x86-64 and arm64 alike have 47 bits or more; higher ones are not used unless
/// asked for).
const ADDRESS_MAX: u64 = 1 << 47;

const ET_REL: u16 = 1;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHN_LORESERVE: u16 = 0xff00;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STB_LOCAL: u8 = 0;
const SYMBOL_BYTES: usize = 24;

/// Fills the buffer from an address of the process; false if any byte cannot be read.
pub type Read<'a> = dyn Fn(u64, &mut [u8]) -> bool + 'a;

/// Why a list or an image cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Gone, or not mapped.
    #[error("memory that could not be read")]
    Unreadable,
    /// A descriptor of another version.
    #[error("descriptors of an unknown version")]
    Version,
    /// Larger than its bound, or of no size.
    #[error("images that are too large")]
    TooLarge,
    /// No ELF file, or a damaged one.
    #[error("images that are no ELF file of this machine")]
    NotElf,
    /// It has no code that was loaded.
    #[error("images without code")]
    NoCode,
    /// The list was changed while the image was read.
    #[error("images that changed while they were read")]
    Changed,
}

/// What the descriptor says. Any change of the list changes it, but for one that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    action: u32,
    relevant: u64,
    first: u64,
}

impl Descriptor {
    /// Reads it.
    pub fn read(read: &Read<'_>, at: u64) -> Result<Descriptor, Refused> {
        let mut bytes = [0; 24];
        if !read(at, &mut bytes) {
            return Err(Refused::Unreadable);
        }
        match u32_at(&bytes, 0) {
            1 => Ok(Descriptor {
                action: u32_at(&bytes, 4),
                relevant: u64_at(&bytes, 8),
                first: u64_at(&bytes, 16),
            }),
            _ => Err(Refused::Version),
        }
    }

    /// Nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }
}

/// An image in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Where the entry is.
    pub at: u64,
    /// Where its image begins.
    pub image: u64,
    /// Bytes of that.
    pub image_bytes: u64,
}

/// A list as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// From the first on.
    pub entries: Vec<Entry>,
    /// It goes on behind the last one, where it is damaged, being changed, or too long.
    pub is_cut: bool,
}

impl List {
    /// Goes through the list of a descriptor. One that leads back into itself ends where an entry's
    /// predecessor is not the one that led to it.
    pub fn read(read: &Read<'_>, descriptor: Descriptor) -> List {
        let mut list = List::default();
        let (mut at, mut before) = (descriptor.first, 0);
        while at != 0 {
            let mut bytes = [0; 32];
            if list.entries.len() >= ENTRIES_MAX
                || !read(at, &mut bytes)
                || u64_at(&bytes, 8) != before
            {
                list.is_cut = true;
                break;
            }
            let (image, image_bytes) = (u64_at(&bytes, 16), u64_at(&bytes, 24));
            list.entries.push(Entry { at, image, image_bytes });
            before = at;
            at = u64_at(&bytes, 0);
        }
        list
    }
}

/// What tells whether an entry is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    descriptor: u64,
    entry: Entry,
    mark: u64,
}

impl Standing {
    /// Of an entry as it is now.
    pub fn of(read: &Read<'_>, descriptor: u64, entry: Entry) -> Option<Standing> {
        let mark = mark(read, entry)?;
        Some(Standing { descriptor, entry, mark })
    }

    /// The entry.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Where its list is.
    pub fn descriptor(&self) -> u64 {
        self.descriptor
    }

    /// Is it in the list, and its image the same?
    pub fn stands(&self, read: &Read<'_>) -> bool {
        let mut bytes = [0; 32];
        let mut link = [0; 8];
        if !read(self.entry.at, &mut bytes) {
            return false;
        }
        // Of the descriptor the last word, of an entry the first.
        let before = match u64_at(&bytes, 8) {
            0 => self.descriptor.wrapping_add(16),
            before => before,
        };
        u64_at(&bytes, 16) == self.entry.image
            && u64_at(&bytes, 24) == self.entry.image_bytes
            && read(before, &mut link)
            && u64_at(&link, 0) == self.entry.at
            && mark(read, self.entry) == Some(self.mark)
    }
}

/// Of an image's beginning and end.
fn mark(read: &Read<'_>, entry: Entry) -> Option<u64> {
    let n = entry.image_bytes.min(MARK_BYTES);
    let mut bytes = vec![0; n as usize];
    let mut hasher = DefaultHasher::new();
    for at in [entry.image, entry.image.checked_add(entry.image_bytes - n)?] {
        if !read(at, &mut bytes) {
            return None;
        }
        hasher.write(&bytes);
        if n == entry.image_bytes {
            break;
        }
    }
    Some(hasher.finish())
}

/// A registered image, rewritten.
#[derive(Debug, Clone)]
pub struct Image {
    /// A file with call frame information and symbols at the process's addresses.
    pub elf: Vec<u8>,
    /// The process's addresses that it is for, sorted and apart from each other.
    pub code: Vec<Range<u64>>,
    /// Code or symbols had no room in it.
    pub is_cut: bool,
}

impl Image {
    /// Reads the image of an entry.
    pub fn read(read: &Read<'_>, entry: Entry) -> Result<Image, Refused> {
        if entry.image_bytes < 64 || entry.image_bytes > IMAGE_MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        let mut bytes = vec![0; entry.image_bytes as usize];
        if !read(entry.image, &mut bytes) {
            return Err(Refused::Unreadable);
        }
        Image::of(&bytes, read)
    }

    /// Of an image's bytes; `read` reads what was loaded.
    pub fn of(bytes: &[u8], read: &Read<'_>) -> Result<Image, Refused> {
        let elf = ElfFile::open(bytes).map_err(|_| Refused::NotElf)?;
        if elf.machine() != MACHINE {
            return Err(Refused::NotElf);
        }
        let is_relocatable = elf.file_type() == ET_REL;
        let (pieces, mut is_cut) = pieces(elf.sections());
        let mut new = Rewritten { pieces, ..Rewritten::default() };
        if new.pieces.is_empty() {
            return Err(Refused::NoCode);
        }
        new.eh_frame = eh_frame(&elf, bytes, is_relocatable, read)?;
        if !is_relocatable && let Some(section) = elf.section(".debug_frame") {
            new.debug_frame = elf.section_bytes(section, CFI_MAX_BYTES).unwrap_or_default();
        }
        is_cut |= new.add_symbols(&elf, bytes, is_relocatable);
        let has_cfi = new.eh_frame.is_some() || !new.debug_frame.is_empty();
        let mut code = if has_cfi { described(&new)? } else { Vec::new() };
        if code.is_empty() {
            // Without entries, or with none of any use.
            (new.eh_frame, new.debug_frame) = (None, Vec::new());
            is_cut |= new.add_code(read);
            // Without its bytes nothing is known of it.
            new.pieces.retain(|piece| !piece.bytes.is_empty());
            code = new.pieces.iter().map(|piece| piece.start..piece.end).collect();
        } else {
            is_cut |= new.add_functions(&mut code, read);
        }
        is_cut |= code.len() > RANGES_MAX;
        code.truncate(RANGES_MAX);
        if code.is_empty() {
            return Err(Refused::NoCode);
        }
        Ok(Image { elf: new.write(), code, is_cut })
    }
}

const MACHINE: Machine =
    if cfg!(target_arch = "aarch64") { Machine::Arm64 } else { Machine::X86_64 };

/// A piece of code.
#[derive(Debug, Clone, Default)]
struct Piece {
    start: u64,
    end: u64,
    /// Its bytes, or none.
    bytes: Vec<u8>,
}

/// The code of an image, sorted, and whether some of it was left out.
fn pieces(sections: &[Section]) -> (Vec<Piece>, bool) {
    let mut found: Vec<Range<u64>> = sections
        .iter()
        .filter(|section| {
            section.kind != 0
                && section.flags & (SHF_ALLOC | SHF_EXECINSTR) == SHF_ALLOC | SHF_EXECINSTR
                && section.addr != 0
                && section.size != 0
                && section.addr.saturating_add(section.size) <= ADDRESS_MAX
        })
        .map(|section| section.addr..section.addr + section.size)
        .collect();
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let first = found.first().map_or(0, |range| range.start);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut is_cut = false;
    for Range { start, end } in found {
        // Offsets in an image have 32 bits.
        if end - first > u64::from(u32::MAX) - 0x1_0000 {
            is_cut = true;
            continue;
        }
        if let Some(last) =
            pieces.last_mut().filter(|last| start <= last.end.saturating_add(PADDING_BYTES))
        {
            last.end = last.end.max(end);
        } else if pieces.len() >= PIECES_MAX {
            is_cut = true;
        } else {
            pieces.push(Piece { start, end, bytes: Vec::new() });
        }
    }
    (pieces, is_cut)
}

/// Address and bytes of `.eh_frame`, relocated.
fn eh_frame(
    elf: &ElfFile<&[u8]>,
    image: &[u8],
    is_relocatable: bool,
    read: &Read<'_>,
) -> Result<Option<(u64, Vec<u8>)>, Refused> {
    let Some(section) = elf.section(".eh_frame") else { return Ok(None) };
    if section.addr == 0 || section.size == 0 || section.is_compressed() {
        return Ok(None);
    }
    if section.size > CFI_MAX_BYTES || section.addr.saturating_add(section.size) > ADDRESS_MAX {
        return Err(Refused::TooLarge);
    }
    let mut bytes = vec![0; section.size as usize];
    if is_relocatable {
        // What was loaded and is not there any more: the image is on its way out.
        if !read(section.addr, &mut bytes) {
            return Err(Refused::Changed);
        }
    } else if !matches!(image.read_at(&mut bytes, section.offset), Ok(n) if n == bytes.len()) {
        return Err(Refused::NotElf);
    }
    Ok(Some((section.addr, bytes)))
}

/// The extents that the call frame information covers, as far as they are code; neighbours are one.
fn described(new: &Rewritten) -> Result<Vec<Range<u64>>, Refused> {
    let elf = new.write();
    let extents = ElfFile::open(elf.as_slice())
        .and_then(RowSource::new)
        .and_then(|mut rows| rows.described(EXTENTS_MAX))
        .map_err(|_| Refused::NotElf)?;
    let mut code: Vec<Range<u64>> = Vec::new();
    let mut pieces = new.pieces.iter().peekable();
    for extent in extents {
        while pieces.next_if(|piece| piece.end <= extent.start).is_some() {}
        let Some(piece) = pieces.peek() else { break };
        let (start, end) = (extent.start.max(piece.start), extent.end.min(piece.end));
        if start >= end {
            continue;
        }
        append(&mut code, start..end);
    }
    Ok(code)
}

/// Adds what begins behind the others' begins: a range of its own, or the last one goes on.
fn append(code: &mut Vec<Range<u64>>, next: Range<u64>) {
    match code.last_mut() {
        Some(last) if next.start <= last.end.saturating_add(PADDING_BYTES) => {
            last.end = last.end.max(next.end);
        }
        _ => code.push(next),
    }
}

/// A symbol of a function.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    name: u32,
    info: u8,
    start: u64,
    size: u64,
}

/// What the new file is made of.
#[derive(Debug, Default)]
struct Rewritten {
    pieces: Vec<Piece>,
    eh_frame: Option<(u64, Vec<u8>)>,
    debug_frame: Vec<u8>,
    symbols: Vec<Symbol>,
    names: Vec<u8>,
}

impl Rewritten {
    /// The symbols of functions in its code. True if some were left out.
    fn add_symbols(&mut self, elf: &ElfFile<&[u8]>, image: &[u8], is_relocatable: bool) -> bool {
        self.names.push(0);
        let Some(table) = elf.sections().iter().find(|section| section.kind == SHT_SYMTAB) else {
            return false;
        };
        let Some(names) = elf.sections().get(table.link as usize) else { return false };
        let (names, table) = (bytes_of(image, names), bytes_of(image, table));
        for entry in table.chunks_exact(SYMBOL_BYTES) {
            let info = entry.get(4).copied().unwrap_or_default();
            let section = u16_at(entry, 6);
            let is_function =
                info & 15 == STT_FUNC || info & 15 == STT_NOTYPE && info >> 4 != STB_LOCAL;
            if !is_function || section == 0 || section >= SHN_LORESERVE {
                continue;
            }
            let base = match (is_relocatable, elf.sections().get(usize::from(section))) {
                (true, Some(section)) if section.addr != 0 => section.addr,
                (false, _) => 0,
                _ => continue,
            };
            let (start, size) = (base.wrapping_add(u64_at(entry, 8)), u64_at(entry, 16));
            let Some(piece) =
                self.pieces.iter().find(|piece| piece.start <= start && start < piece.end)
            else {
                continue;
            };
            let name = names.get(u32_at(entry, 0) as usize..).unwrap_or_default();
            let name = name.get(..name.len().min(NAME_MAX_BYTES)).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            if self.symbols.len() >= SYMBOLS_MAX {
                return true;
            }
            let at = self.names.len() as u32;
            self.names.extend_from_slice(name);
            self.names.push(0);
            self.symbols.push(Symbol { name: at, info, start, size: size.min(piece.end - start) });
        }
        false
    }

    /// The code itself, as it was loaded. True if some has no room, or cannot be read.
    fn add_code(&mut self, read: &Read<'_>) -> bool {
        let mut room = CODE_MAX_BYTES;
        let mut is_cut = false;
        for piece in &mut self.pieces {
            let size = piece.end - piece.start;
            piece.bytes = vec![0; if size <= room { size as usize } else { 0 }];
            if piece.bytes.is_empty() || !read(piece.start, &mut piece.bytes) {
                piece.bytes = Vec::new();
                is_cut = true;
            }
            room -= piece.bytes.len() as u64;
        }
        is_cut
    }

    /// Adds functions that no entry covers to the sorted code, and all code's bytes, if there are such.
    /// True if some have no room, or cannot be read.
    fn add_functions(&mut self, code: &mut Vec<Range<u64>>, read: &Read<'_>) -> bool {
        let is_covered = |start: u64| {
            let next = code.partition_point(|range| range.start <= start);
            next.checked_sub(1).and_then(|at| code.get(at)).is_some_and(|range| start < range.end)
        };
        let mut others: Vec<Range<u64>> = self
            .symbols
            .iter()
            .filter(|symbol| symbol.info & 15 == STT_FUNC && symbol.size > 0)
            .filter(|symbol| !is_covered(symbol.start))
            .map(|symbol| symbol.start..symbol.start + symbol.size)
            .collect();
        if others.is_empty() {
            return false;
        }
        let is_cut = self.add_code(read);
        others.retain(|function| {
            self.pieces.iter().any(|piece| {
                !piece.bytes.is_empty()
                    && piece.start <= function.start
                    && function.end <= piece.end
            })
        });
        others.append(code);
        others.sort_unstable_by_key(|range| (range.start, range.end));
        others.into_iter().for_each(|range| append(code, range));
        is_cut
    }

    /// The file: header, program headers, contents, section headers.
    fn write(&self) -> Vec<u8> {
        const HEADER_BYTES: u64 = 64;
        const SEGMENT_BYTES: u64 = 56;
        let mut out = vec![0; (HEADER_BYTES + SEGMENT_BYTES * self.pieces.len() as u64) as usize];
        let mut sections = Sections::default();
        sections.add("", SHT_NULL, 0, 0, 0..0);
        let mut segments = Vec::new();
        for piece in &self.pieces {
            // Of what is not here only the extent matters: it lies behind the file's end.
            let offset = if piece.bytes.is_empty() { BEYOND } else { out.len() as u64 };
            out.extend_from_slice(&piece.bytes);
            segments.push((offset, piece.start, piece.end - piece.start));
            let kind = if piece.bytes.is_empty() { SHT_NOBITS } else { SHT_PROGBITS };
            let size = offset..offset + (piece.end - piece.start);
            sections.add(".text", kind, SHF_ALLOC | SHF_EXECINSTR, piece.start, size);
        }
        let put = |out: &mut Vec<u8>, bytes: &[u8]| {
            let at = out.len() as u64;
            out.extend_from_slice(bytes);
            at..out.len() as u64
        };
        if let Some((address, bytes)) = &self.eh_frame {
            let place = put(&mut out, bytes);
            sections.add(".eh_frame", SHT_PROGBITS, SHF_ALLOC, *address, place);
        }
        if !self.debug_frame.is_empty() {
            let place = put(&mut out, &self.debug_frame);
            sections.add(".debug_frame", SHT_PROGBITS, 0, 0, place);
        }
        let mut table = vec![0; SYMBOL_BYTES];
        for symbol in &self.symbols {
            table.extend(symbol.name.to_le_bytes());
            // All are in a section: the first of the code.
            table.extend([symbol.info, 0, 1, 0]);
            table.extend(symbol.start.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
        }
        let place = put(&mut out, &table);
        sections.add(".symtab", SHT_SYMTAB, 0, 0, place);
        let place = put(&mut out, &self.names);
        sections.add(".strtab", SHT_STRTAB, 0, 0, place);
        let n = sections.add(".shstrtab", SHT_STRTAB, 0, 0, 0..0);
        let place = put(&mut out, &sections.names);
        sections.place(n, place);
        let table_at = out.len() as u64;
        sections.write(&mut out);

        let mut head = Vec::with_capacity(HEADER_BYTES as usize);
        head.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let machine: u16 = if MACHINE == Machine::Arm64 { 183 } else { 62 };
        head.extend(ET_DYN.to_le_bytes());
        head.extend(machine.to_le_bytes());
        head.extend(1_u32.to_le_bytes());
        for word in [0, HEADER_BYTES, table_at] {
            head.extend(word.to_le_bytes());
        }
        head.extend(0_u32.to_le_bytes());
        let (n_segments, n_sections) = (self.pieces.len() as u16, n + 1);
        for half in [HEADER_BYTES as u16, SEGMENT_BYTES as u16, n_segments, 64, n_sections, n] {
            head.extend(half.to_le_bytes());
        }
        for (offset, start, size) in segments {
            head.extend(PT_LOAD.to_le_bytes());
            head.extend(PF_R_X.to_le_bytes());
            for word in [offset, start, start, size, size, 1] {
                head.extend(word.to_le_bytes());
            }
        }
        if let Some(place) = out.get_mut(..head.len()) {
            place.copy_from_slice(&head);
        }
        out
    }
}

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PF_R_X: u32 = 5;
const SHT_NULL: u32 = 0;
/// An offset that no image reaches.
const BEYOND: u64 = 1 << 48;

/// Section headers under way.
#[derive(Debug, Default)]
struct Sections {
    headers: Vec<Header>,
    names: Vec<u8>,
}

#[derive(Debug)]
struct Header {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    place: Range<u64>,
}

impl Sections {
    /// Adds one; returns its number.
    fn add(&mut self, name: &str, kind: u32, flags: u64, address: u64, place: Range<u64>) -> u16 {
        let at = self.names.len() as u32;
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.headers.push(Header { name: at, kind, flags, address, place });
        (self.headers.len() - 1) as u16
    }

    fn place(&mut self, number: u16, place: Range<u64>) {
        if let Some(header) = self.headers.get_mut(usize::from(number)) {
            header.place = place;
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (number, header) in (0_u32..).zip(&self.headers) {
            let (link, entry) = match header.kind {
                // Its names come next.
                SHT_SYMTAB => (number + 1, SYMBOL_BYTES as u64),
                _ => (0, 0),
            };
            out.extend(header.name.to_le_bytes());
            out.extend(header.kind.to_le_bytes());
            let size = header.place.end - header.place.start;
            for word in [header.flags, header.address, header.place.start, size] {
                out.extend(word.to_le_bytes());
            }
            out.extend(link.to_le_bytes());
            out.extend(0_u32.to_le_bytes());
            for word in [1, entry] {
                out.extend(word.to_le_bytes());
            }
        }
    }
}

/// A section's bytes, as far as the image has them.
fn bytes_of<'a>(image: &'a [u8], section: &Section) -> &'a [u8] {
    if !section.has_bytes() || section.is_compressed() {
        return &[];
    }
    let from = usize::try_from(section.offset).unwrap_or(usize::MAX);
    let rest = image.get(from..).unwrap_or_default();
    let n = usize::try_from(section.size).unwrap_or(usize::MAX).min(rest.len());
    rest.get(..n).unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    word_at(bytes, at, 2) as u16
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    word_at(bytes, at, 4) as u32
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    word_at(bytes, at, 8)
}

fn word_at(bytes: &[u8], at: usize, n: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.get(..n)).unwrap_or_default();
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
#[path = "registered_tests.rs"]
mod tests;
