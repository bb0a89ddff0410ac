//! The few facts of an ELF file that naming needs: sections, build id, debug links.
//!
//! In: [`Bytes`] of a 64-bit little-endian ELF file. Out: [`Elf`], whose sections are read on
//! demand, decompressed when they are compressed (`SHF_COMPRESSED` with zlib or zstd, `.zdebug_`).
//!
//! Sources: System V gABI, chapters 4 and 5 (section headers, `Elf64_Chdr`); GDB manual, "Debugging
//! information in separate files".
//!
//! Not handled: files without section headers, 32-bit and big-endian files ([`Error::NotElf`]).

use std::io;
use std::path::Path;

use crate::Error;
use crate::bytes::{Bytes, u16_at, u32_at, u64_at};

pub(crate) const EM_X86_64: u16 = 62;
pub(crate) const EM_AARCH64: u16 = 183;
pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_RELA: u32 = 4;
pub(crate) const SHT_NOTE: u32 = 7;
pub(crate) const SHT_NOBITS: u32 = 8;
pub(crate) const SHT_DYNSYM: u32 = 11;
pub(crate) const SHF_EXECINSTR: u64 = 4;
const SHF_COMPRESSED: u64 = 0x800;

/// Section headers read of one file. Real executables have 30 to 40; relocatable files with a
/// section for each function tens of thousands.
const SECTIONS_MAX: u64 = 100_000;
/// Bytes read of the section name table.
const SECTION_NAMES_MAX_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) entry_size: u64,
}

impl Section {
    pub(crate) fn contains(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.size
    }
}

/// Where the supplementary file that dwz made lies.
pub(crate) struct AltLink {
    pub(crate) name: Vec<u8>,
    pub(crate) build_id: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Elf {
    pub(crate) bytes: Bytes,
    pub(crate) machine: u16,
    pub(crate) sections: Vec<Section>,
}

impl Elf {
    pub(crate) fn new(bytes: Bytes) -> Result<Elf, Error> {
        let header: [u8; 64] = bytes.array(0)?.ok_or(Error::NotElf)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Err(Error::NotElf);
        }
        let table = u64_at(&header, 40);
        let entry_size = u64::from(u16_at(&header, 58));
        let mut elf = Elf { machine: u16_at(&header, 18), bytes, sections: Vec::new() };
        if table == 0 || entry_size < 64 {
            return Ok(elf);
        }
        let mut count = u64::from(u16_at(&header, 60));
        let mut names_index = u64::from(u16_at(&header, 62));
        if let Some(first) = elf.bytes.array::<64>(table)? {
            // Extended numbering: the real numbers stand in section 0.
            if count == 0 {
                count = u64_at(&first, 32);
            }
            if names_index == 0xffff {
                names_index = u64::from(u32_at(&first, 40));
            }
        }
        let mut name_offsets = Vec::new();
        for index in 0..count.min(SECTIONS_MAX) {
            let Some(at) = index.checked_mul(entry_size).and_then(|o| o.checked_add(table)) else {
                break;
            };
            let Some(header) = elf.bytes.array::<64>(at)? else {
                break;
            };
            name_offsets.push(u32_at(&header, 0) as usize);
            elf.sections.push(Section {
                name: String::new(),
                kind: u32_at(&header, 4),
                flags: u64_at(&header, 8),
                address: u64_at(&header, 16),
                offset: u64_at(&header, 24),
                size: u64_at(&header, 32),
                link: u32_at(&header, 40),
                entry_size: u64_at(&header, 56),
            });
        }
        let names = match usize::try_from(names_index).ok().and_then(|i| elf.sections.get(i)) {
            Some(section) => elf.bytes.prefix(
                section.offset,
                usize::try_from(section.size).unwrap_or(usize::MAX).min(SECTION_NAMES_MAX_BYTES),
            )?,
            None => Vec::new(),
        };
        for (section, at) in elf.sections.iter_mut().zip(name_offsets) {
            let name = names.get(at..).unwrap_or_default();
            let name = name.split(|&b| b == 0).next().unwrap_or_default();
            section.name = String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned();
        }
        Ok(elf)
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name && s.kind != SHT_NOBITS)
    }

    /// The bytes of a section as the file has them.
    pub(crate) fn raw(&self, section: &Section) -> Bytes {
        if section.kind == SHT_NOBITS {
            return Bytes::empty();
        }
        self.bytes.slice(section.offset, section.size)
    }

    /// The bytes of `.debug_…`, decompressed; empty where there is no such section.
    pub(crate) fn debug_section(
        &self,
        name: &str,
        scratch: &Path,
        max_bytes: u64,
    ) -> Result<Bytes, Error> {
        let too_large = |cause: io::Error| {
            if cause.kind() == io::ErrorKind::FileTooLarge {
                Error::TooLarge { what: name.to_owned(), max_bytes }
            } else {
                Error::Decompress { what: name.to_owned(), cause }
            }
        };
        if let Some(section) = self.section(name) {
            let raw = self.raw(section);
            if section.flags & SHF_COMPRESSED == 0 {
                return Ok(raw);
            }
            let Some(header) = raw.array::<24>(0)? else {
                return Ok(Bytes::empty());
            };
            let (method, size) = (u32_at(&header, 0), u64_at(&header, 8));
            let packed = raw.slice(24, u64::MAX).reader();
            let max_bytes = max_bytes.min(size);
            return match method {
                1 => Bytes::of_stream(flate2::read::ZlibDecoder::new(packed), scratch, max_bytes),
                2 => ruzstd::decoding::StreamingDecoder::new(packed)
                    .map_err(io::Error::other)
                    .and_then(|unpacked| Bytes::of_stream(unpacked, scratch, max_bytes)),
                _ => Err(io::Error::other(format!("compression method {method} is unknown"))),
            }
            .map_err(too_large);
        }
        let old_name = name.replacen(".debug_", ".zdebug_", 1);
        let Some(section) = self.section(&old_name) else {
            return Ok(Bytes::empty());
        };
        let raw = self.raw(section);
        match raw.array::<12>(0)? {
            Some([b'Z', b'L', b'I', b'B', size @ ..]) => {
                let max_bytes = max_bytes.min(u64::from_be_bytes(size));
                let packed = flate2::read::ZlibDecoder::new(raw.slice(12, u64::MAX).reader());
                Bytes::of_stream(packed, scratch, max_bytes).map_err(too_large)
            }
            _ => Ok(Bytes::empty()),
        }
    }

    /// The GNU build id (at most 64 bytes), from the notes.
    pub(crate) fn build_id(&self) -> Result<Option<Vec<u8>>, Error> {
        for section in self.sections.iter().filter(|s| s.kind == SHT_NOTE) {
            let notes = self.raw(section).prefix(0, 64 << 10)?;
            let mut rest = notes.as_slice();
            while rest.len() >= 12 {
                let (name_size, size) = (u32_at(rest, 0) as usize, u32_at(rest, 4) as usize);
                let kind = u32_at(rest, 8);
                let Some(body) = rest.get(12..) else { break };
                let (Some(name), Some(desc)) = (
                    body.get(..name_size),
                    body.get(name_size.saturating_add(3) & !3..).and_then(|d| d.get(..size)),
                ) else {
                    break;
                };
                if kind == 3 && name == b"GNU\0" && !desc.is_empty() && desc.len() <= 64 {
                    return Ok(Some(desc.to_vec()));
                }
                let step =
                    (name_size.saturating_add(3) & !3).saturating_add(size.saturating_add(3) & !3);
                rest = body.get(step..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    /// `.gnu_debuglink`: the file's name and the CRC-32 of its contents.
    pub(crate) fn debug_link(&self) -> Result<Option<(Vec<u8>, u32)>, Error> {
        let Some(section) = self.section(".gnu_debuglink") else {
            return Ok(None);
        };
        let bytes = self.raw(section).prefix(0, 4096)?;
        let Some(end) = memchr::memchr(0, &bytes) else {
            return Ok(None);
        };
        let Some(crc) = bytes.get((end + 4) & !3..).and_then(|rest| rest.first_chunk()) else {
            return Ok(None);
        };
        Ok(Some((bytes[..end].to_vec(), u32::from_le_bytes(*crc))))
    }

    /// `.gnu_debugaltlink`.
    pub(crate) fn debug_alt_link(&self) -> Result<Option<AltLink>, Error> {
        let Some(section) = self.section(".gnu_debugaltlink") else {
            return Ok(None);
        };
        let bytes = self.raw(section).prefix(0, 4096)?;
        let Some(end) = memchr::memchr(0, &bytes) else {
            return Ok(None);
        };
        Ok(Some(AltLink { name: bytes[..end].to_vec(), build_id: bytes[end + 1..].to_vec() }))
    }

    /// The section that holds `address` when loaded.
    pub(crate) fn section_at(&self, address: u64) -> Option<&Section> {
        const SHF_ALLOC: u64 = 2;
        self.sections.iter().find(|s| s.flags & SHF_ALLOC != 0 && s.contains(address))
    }

    /// Bytes at a virtual address, as far as the section there reaches.
    pub(crate) fn at_address(&self, address: u64) -> Bytes {
        match self.section_at(address) {
            Some(section) => self.raw(section).slice(address - section.address, u64::MAX),
            None => Bytes::empty(),
        }
    }
}
