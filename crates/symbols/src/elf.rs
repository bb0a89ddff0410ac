//! What naming needs of an ELF file beside its headers: sections decompressed, debug links.
//!
//! In: [`Bytes`] of a file. Out: [`Elf`], which is `hotframe_objects::ElfFile` and sections that are
//! read on demand, decompressed when they are compressed (`SHF_COMPRESSED` with zlib or zstd,
//! `.zdebug_`).
//!
//! Sources: System V gABI, chapter 4 (`Elf64_Chdr`); GDB manual, "Debugging information in separate
//! files".

use std::io;
use std::ops::Deref;
use std::path::Path;

use hotframe_objects::{ElfFile, ReadAt, Section};

use crate::Error;
use crate::bytes::{Bytes, u32_at, u64_at};

pub(crate) const SHT_SYMTAB: u32 = 2;
pub(crate) const SHT_RELA: u32 = 4;
pub(crate) const SHT_DYNSYM: u32 = 11;
pub(crate) const SHF_ALLOC: u64 = 2;
pub(crate) const SHF_EXECINSTR: u64 = 4;

impl ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Bytes::read_at(self, offset, buffer)
    }

    fn len(&self) -> u64 {
        Bytes::len(self)
    }
}

/// Where the supplementary file that dwz made lies.
pub(crate) struct AltLink {
    pub(crate) name: Vec<u8>,
    pub(crate) build_id: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Elf(ElfFile<Bytes>);

impl Deref for Elf {
    type Target = ElfFile<Bytes>;

    fn deref(&self) -> &ElfFile<Bytes> {
        &self.0
    }
}

impl Elf {
    pub(crate) fn new(bytes: Bytes) -> Result<Elf, Error> {
        Ok(Elf(ElfFile::open(bytes)?))
    }

    /// The bytes of a section as the file has them.
    pub(crate) fn raw(&self, section: &Section) -> Bytes {
        if !section.has_bytes() {
            return Bytes::empty();
        }
        self.reader().slice(section.offset, section.size)
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
            if !section.is_compressed() {
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
        self.sections().iter().find(|s| s.flags & SHF_ALLOC != 0 && holds(s, address))
    }

    /// Bytes at a virtual address, as far as the file has them.
    pub(crate) fn at_address(&self, address: u64) -> Bytes {
        match self.file_range(address) {
            Some((offset, len)) => self.reader().slice(offset, len),
            None => Bytes::empty(),
        }
    }
}

/// `address` lies in the section.
pub(crate) fn holds(section: &Section, address: u64) -> bool {
    address >= section.addr && address - section.addr < section.size
}
