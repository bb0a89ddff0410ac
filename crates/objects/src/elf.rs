//! ELF headers: what a mapped file is, where its text lies, and how its addresses map.
//!
//! In: a [`ReadAt`]. Out: [`ElfFile`]. Only headers, notes and the section-name table are read,
//! by `pread`; nothing is mapped, so that a file truncated meanwhile is an error and not a SIGBUS.
//!
//! # Sources
//! gABI 4.3 chapters 4–5; `fs/binfmt_elf.c` @ Linux 6.12 (segments are mapped from the page that
//! holds their first byte, `ELF_PAGESTART`); `elf.h` @ glibc 2.40.
//!
//! # Not handled
//! 32-bit and big-endian files, refused by name.
//!
//! # Cost
//! Two reads plus one each for notes and section names; memory: 64 bytes per section header, at
//! most [`MAX_SECTIONS`] of them.

use std::io::Read;
use std::ops::Range;

use crate::Error;
use crate::read::{Cursor, ReadAt, fill};

/// Section headers kept per file. Linked files have under 100; the bound is for hostile ones.
pub const MAX_SECTIONS: usize = 4096;
/// Program headers kept per file: linked files have under 20.
pub const MAX_SEGMENTS: usize = 1024;
/// Bytes of section names and of notes that are read.
const MAX_NAMES_BYTES: usize = 256 << 10;
const MAX_NOTE_BYTES: usize = 64 << 10;

const PAGE: u64 = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const ET_EXEC: u16 = 2;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const SHF_EXECINSTR: u64 = 4;
const SHF_COMPRESSED: u64 = 0x800;
const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;
const NT_GNU_BUILD_ID: u32 = 3;
const NT_GO_BUILD_ID: u32 = 4;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// The instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Machine {
    /// `EM_X86_64`.
    X86_64,
    /// `EM_AARCH64`.
    Arm64,
    /// Any other `e_machine`.
    Other(u16),
}

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_flags`.
    pub flags: u32,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// ELF virtual address.
    pub vaddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
}

impl Segment {
    /// Loaded with execute permission.
    pub fn is_executable(&self) -> bool {
        self.kind == PT_LOAD && self.flags & PF_X != 0
    }
}

/// A section header with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name; empty where the name table does not hold it.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// ELF virtual address; 0 if not loaded.
    pub addr: u64,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Bytes in the file (before decompression).
    pub size: u64,
    /// `sh_link`: index of a related section.
    pub link: u32,
    /// Bytes of an entry.
    pub entsize: u64,
}

impl Section {
    /// Its bytes stand in the file (a section of a `.debug` file may have none).
    pub fn has_bytes(&self) -> bool {
        self.kind != SHT_NOBITS && self.kind != 0
    }
    /// It holds code.
    pub fn is_code(&self) -> bool {
        self.flags & SHF_EXECINSTR != 0 && self.has_bytes()
    }

    /// `SHF_COMPRESSED` is set.
    pub fn is_compressed(&self) -> bool {
        self.flags & SHF_COMPRESSED != 0
    }
}

/// The headers of an ELF file, and the file.
#[derive(Debug)]
pub struct ElfFile<R> {
    reader: R,
    machine: Machine,
    file_type: u16,
    entry: u64,
    image_base: u64,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    build_id: Option<Vec<u8>>,
    go_build_id: Option<String>,
}

impl<R: ReadAt> ElfFile<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`Error::NotElf`], [`Error::Class32`], [`Error::BigEndian`], [`Error::Read`], or
    /// [`Error::Malformed`] if a header cannot be read. Damaged section headers are not an error:
    /// the file then has no sections, as a stripped one.
    pub fn open(reader: R) -> Result<Self, Error> {
        let mut head = [0; 64];
        let got = fill(&reader, &mut head, 0)?;
        if got < 20 || !head.starts_with(b"\x7fELF") {
            return Err(Error::NotElf);
        }
        match head.get(4) {
            Some(2) => {}
            Some(1) => return Err(Error::Class32),
            _ => return Err(Error::Malformed("the ELF class")),
        }
        match head.get(5) {
            Some(1) => {}
            Some(2) => return Err(Error::BigEndian),
            _ => return Err(Error::Malformed("the byte order")),
        }
        if got < 64 {
            return Err(Error::Malformed("the ELF header"));
        }
        let header = Header::parse(&head).ok_or(Error::Malformed("the ELF header"))?;
        let segments = read_segments(&reader, &header)?;
        let sections = read_sections(&reader, &header).unwrap_or_default();
        let image_base = segments
            .iter()
            .filter(|segment| segment.kind == PT_LOAD)
            .map(|segment| segment.vaddr & !(PAGE - 1))
            .min()
            .unwrap_or(0);
        let mut file = Self {
            reader,
            machine: match header.machine {
                62 => Machine::X86_64,
                183 => Machine::Arm64,
                other => Machine::Other(other),
            },
            file_type: header.file_type,
            entry: header.entry,
            image_base,
            segments,
            sections,
            build_id: None,
            go_build_id: None,
        };
        file.read_build_ids();
        Ok(file)
    }

    /// The bytes.
    pub fn reader(&self) -> &R {
        &self.reader
    }
    /// The instruction set.
    pub fn machine(&self) -> Machine {
        self.machine
    }
    /// `e_type`: 2 executable, 3 shared object or position-independent executable.
    pub fn file_type(&self) -> u16 {
        self.file_type
    }
    /// ELF virtual address of the entry point; 0 if there is none.
    pub fn entry(&self) -> u64 {
        self.entry
    }
    /// The lowest `PT_LOAD` address rounded down to its page (4 KiB). Image offsets, as in frame
    /// words and rows, are ELF virtual addresses minus this.
    pub fn image_base(&self) -> u64 {
        self.image_base
    }
    /// All program headers.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// The loaded segments with execute permission.
    pub fn executable_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_executable())
    }
    /// All section headers, the null section included: `sh_link` indexes this slice.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }
    /// The first section of that name which has bytes in the file.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name && section.has_bytes())
    }
    /// The GNU build id.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }
    /// Go's own build id.
    pub fn go_build_id(&self) -> Option<&str> {
        self.go_build_id.as_deref()
    }
    /// Built by the Go linker, as its note or sections say; a stripped binary keeps these.
    pub fn is_go(&self) -> bool {
        self.go_build_id.is_some()
            || self.sections.iter().any(|section| {
                matches!(
                    section.name.as_str(),
                    ".gopclntab" | ".data.rel.ro.gopclntab" | ".go.buildinfo"
                )
            })
    }

    /// BOLT has rewritten it: what it replaced is kept under such names, also in a stripped file (`OrgSecPrefix` in
    /// bolt/include/bolt/Rewrite/RewriteInstance.h @ LLVM 14).
    pub fn is_rewritten(&self) -> bool {
        self.sections.iter().any(|section| section.name.starts_with(".bolt.org."))
    }

    /// A section's bytes, decompressed if need be. `cap_bytes` bounds the result.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above the cap, [`Error::Compression`] for a method that is neither
    /// zlib nor zstd, or for damaged data, [`Error::Read`].
    pub fn section_bytes(&self, section: &Section, cap_bytes: u64) -> Result<Vec<u8>, Error> {
        let too_large = |size| Error::TooLarge { what: "a section", size, cap: cap_bytes };
        if !section.has_bytes() {
            return Ok(Vec::new());
        }
        // What the header claims costs memory only as far as the file has it.
        let stored = section.size.min(self.reader.len().saturating_sub(section.offset));
        if stored > cap_bytes {
            return Err(too_large(stored));
        }
        let mut bytes = vec![0; usize::try_from(stored).map_err(|_| too_large(stored))?];
        let got = fill(&self.reader, &mut bytes, section.offset)?;
        bytes.truncate(got);
        if !section.is_compressed() {
            return Ok(bytes);
        }
        let mut cursor = Cursor::new(&bytes);
        let mut head = || Some((cursor.u32()?, cursor.u32()?, cursor.u64()?, cursor.u64()?));
        let (method, _, size, _) = head().ok_or(Error::Malformed("a compression header"))?;
        if size > cap_bytes {
            return Err(too_large(size));
        }
        let packed = cursor.rest();
        let mut out = Vec::new();
        let read = match method {
            ELFCOMPRESS_ZLIB => {
                flate2::read::ZlibDecoder::new(packed).take(size).read_to_end(&mut out)
            }
            ELFCOMPRESS_ZSTD => ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(std::io::Error::other)
                .and_then(|unpacked| unpacked.take(size).read_to_end(&mut out)),
            _ => return Err(Error::Compression { method }),
        };
        read.map_err(|_| Error::Compression { method })?;
        Ok(out)
    }

    /// Where the bytes of an ELF virtual address stand in the file, and how many follow there.
    pub fn file_range(&self, vaddr: u64) -> Option<(u64, u64)> {
        self.segments.iter().find_map(|segment| {
            let within = vaddr.checked_sub(segment.vaddr)?;
            if segment.kind != PT_LOAD || within >= segment.filesz {
                return None;
            }
            Some((segment.offset.checked_add(within)?, segment.filesz - within))
        })
    }

    /// Reads up to `buf.len()` bytes of the image at an ELF virtual address; returns how many the
    /// file has there.
    pub fn read_vaddr(&self, buf: &mut [u8], vaddr: u64) -> Result<usize, Error> {
        let Some((offset, available)) = self.file_range(vaddr) else {
            return Ok(0);
        };
        let n = buf.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        fill(&self.reader, buf.get_mut(..n).unwrap_or_default(), offset)
    }

    /// Process address of image offset 0, for an executable mapping of this file that starts at
    /// `mapping_start` and shows the file from byte `mapping_pgoff` on. `None` if no loaded
    /// segment has that byte. The result wraps: a process may map the middle of an image only.
    pub fn map_bias(&self, mapping_start: u64, mapping_pgoff: u64) -> Option<u64> {
        let fits = |segment: &&Segment| {
            let start = segment.offset & !(PAGE - 1);
            let end = segment.offset.saturating_add(segment.filesz).saturating_add(PAGE - 1);
            segment.kind == PT_LOAD
                && segment.filesz > 0
                && start <= mapping_pgoff
                && mapping_pgoff < end & !(PAGE - 1)
        };
        // Neighbouring segments may share a page of the file; the mapping is of the one whose
        // first page it shows, and executable. (A data segment made executable comes last.)
        let rank = |segment: &&Segment| {
            let starts = segment.offset & !(PAGE - 1) == mapping_pgoff;
            (segment.is_executable(), starts)
        };
        let segment = self.segments.iter().filter(fits).max_by_key(rank)?;
        let vaddr = mapping_pgoff.wrapping_sub(segment.offset).wrapping_add(segment.vaddr);
        Some(mapping_start.wrapping_sub(vaddr.wrapping_sub(self.image_base)))
    }

    /// Image offsets that may hold text: from the first executable byte to after the last one.
    pub(crate) fn text_range(&self) -> Range<u64> {
        let start = self.executable_segments().map(|segment| segment.vaddr).min();
        let end = self
            .executable_segments()
            .map(|segment| segment.vaddr.saturating_add(segment.memsz.min(segment.filesz)))
            .max();
        match (start, end) {
            (Some(start), Some(end)) => {
                start.saturating_sub(self.image_base)..end.saturating_sub(self.image_base)
            }
            _ => 0..0,
        }
    }

    /// `.eh_frame_hdr` by program header (it survives when section headers do not).
    pub(crate) fn eh_frame_hdr(&self) -> Option<Segment> {
        self.segments.iter().copied().find(|segment| segment.kind == PT_GNU_EH_FRAME)
    }

    /// Whether the headers say that the file is run, so that its entry point is one.
    pub(crate) fn is_program(&self) -> bool {
        self.file_type == ET_EXEC
            || self.segments.iter().any(|segment| segment.kind == PT_INTERP)
            || self.dynamic_flags_1() & DF_1_PIE != 0
    }

    fn dynamic_flags_1(&self) -> u64 {
        let Some(dynamic) = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
            return 0;
        };
        let mut bytes = vec![0; usize::try_from(dynamic.filesz.min(16 << 10)).unwrap_or(0)];
        let got = fill(&self.reader, &mut bytes, dynamic.offset).unwrap_or(0);
        let mut cursor = Cursor::new(bytes.get(..got).unwrap_or_default());
        while let (Some(tag), Some(value)) = (cursor.u64(), cursor.u64()) {
            match tag {
                DT_FLAGS_1 => return value,
                0 => break,
                _ => {}
            }
        }
        0
    }

    fn read_build_ids(&mut self) {
        let segments = self.segments.iter().filter(|s| s.kind == PT_NOTE);
        let sections = self.sections.iter().filter(|s| s.kind == SHT_NOTE);
        let places: Vec<(u64, u64)> = segments
            .map(|segment| (segment.offset, segment.filesz))
            .chain(sections.map(|section| (section.offset, section.size)))
            .take(64)
            .collect();
        for (offset, size) in places {
            let size = size.min(MAX_NOTE_BYTES as u64).min(self.reader.len());
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
            let got = fill(&self.reader, &mut bytes, offset).unwrap_or(0);
            bytes.truncate(got);
            each_note(&bytes, |kind, name, desc| match (kind, name) {
                (NT_GNU_BUILD_ID, b"GNU\0") if !desc.is_empty() => {
                    self.build_id.get_or_insert_with(|| desc.to_vec());
                }
                (NT_GO_BUILD_ID, b"Go\0\0") => {
                    let text = String::from_utf8_lossy(desc).into_owned();
                    self.go_build_id.get_or_insert(text);
                }
                _ => {}
            });
        }
    }
}

/// Calls `found(type, name with its NUL, descriptor)` for each whole note. Fields are padded to 4
/// bytes; in segments aligned to 8 only property notes stand, whose size is a multiple of 8.
fn each_note(bytes: &[u8], mut found: impl FnMut(u32, &[u8], &[u8])) {
    let mut cursor = Cursor::new(bytes);
    let mut next = || {
        let (name_len, desc_len, kind) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let name = cursor.take(name_len as usize)?;
        cursor.take(name.len().wrapping_neg() & 3)?;
        let desc = cursor.take(desc_len as usize)?;
        // The last note's padding may be missing.
        let _ = cursor.take(desc.len().wrapping_neg() & 3);
        Some((kind, name, desc))
    };
    while let Some((kind, name, desc)) = next() {
        found(kind, name, desc);
    }
}

struct Header {
    file_type: u16,
    machine: u16,
    entry: u64,
    phoff: u64,
    shoff: u64,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

impl Header {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(head.get(16..)?);
        let (file_type, machine, _version) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let (entry, phoff, shoff) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let (_flags, _ehsize) = (cursor.u32()?, cursor.u16()?);
        Some(Self {
            file_type,
            machine,
            entry,
            phoff,
            shoff,
            phentsize: cursor.u16()?,
            phnum: cursor.u16()?,
            shentsize: cursor.u16()?,
            shnum: cursor.u16()?,
            shstrndx: cursor.u16()?,
        })
    }
}

/// Bytes of a program header and of a section header (`Elf64_Phdr`, `Elf64_Shdr`). Longer ones are in no
/// file that runs: the kernel (load_elf_phdrs, fs/binfmt_elf.c @ v6.12), ld.so and BFD refuse them, and 4,096
/// of the longest would take 256 MiB.
const SEGMENT_BYTES: usize = 56;
const SECTION_BYTES: usize = 64;

fn read_segments(reader: &impl ReadAt, header: &Header) -> Result<Vec<Segment>, Error> {
    let n = usize::from(header.phnum).min(MAX_SEGMENTS);
    let size = usize::from(header.phentsize);
    if n == 0 || size != SEGMENT_BYTES {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; n * size];
    if fill(reader, &mut bytes, header.phoff)? < bytes.len() {
        return Err(Error::Malformed("the program headers"));
    }
    let parse = |entry: &[u8]| {
        let mut cursor = Cursor::new(entry);
        let (kind, flags, offset) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
        let (vaddr, _paddr, filesz) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        Some(Segment { kind, flags, offset, vaddr, filesz, memsz: cursor.u64()? })
    };
    Ok(bytes.chunks_exact(size).filter_map(parse).collect())
}

fn read_sections(reader: &impl ReadAt, header: &Header) -> Option<Vec<Section>> {
    let size = usize::from(header.shentsize);
    if header.shoff == 0 || size != SECTION_BYTES {
        return None;
    }
    let parse = |entry: &[u8]| {
        let mut cursor = Cursor::new(entry);
        let (name, kind, flags, addr) =
            (cursor.u32()?, cursor.u32()?, cursor.u64()?, cursor.u64()?);
        let (offset, size, link, _info) =
            (cursor.u64()?, cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let (_align, entsize) = (cursor.u64()?, cursor.u64()?);
        let name_off = name as usize;
        Some((
            name_off,
            Section { name: String::new(), kind, flags, addr, offset, size, link, entsize },
        ))
    };
    // Section 0 holds the counts that do not fit the header.
    let mut first = vec![0; size];
    (fill(reader, &mut first, header.shoff).ok()? == size).then_some(())?;
    let (_, null) = parse(&first)?;
    let n = if header.shnum == 0 { null.size } else { u64::from(header.shnum) };
    let n = usize::try_from(n).ok()?.min(MAX_SECTIONS);
    let names_index =
        if header.shstrndx == 0xffff { null.link as usize } else { usize::from(header.shstrndx) };
    let mut bytes = vec![0; n.checked_mul(size)?];
    let got = fill(reader, &mut bytes, header.shoff).ok()?;
    bytes.truncate(got);
    let mut sections: Vec<(usize, Section)> = bytes.chunks_exact(size).filter_map(parse).collect();
    let names = sections.get(names_index).map(|(_, section)| (section.offset, section.size));
    if let Some((offset, size)) = names {
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_NAMES_BYTES);
        let mut names = vec![0; size];
        let got = fill(reader, &mut names, offset).unwrap_or(0);
        for (name_off, section) in &mut sections {
            let name = names.get(*name_off..got).and_then(|rest| Cursor::new(rest).c_str());
            // Names are compared with short known ones; a huge shared tail is not worth copying.
            section.name =
                String::from_utf8_lossy(name.filter(|name| name.len() <= 256).unwrap_or_default())
                    .into_owned();
        }
    }
    Some(sections.into_iter().map(|(_, section)| section).collect())
}
