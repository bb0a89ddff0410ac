//! `process.bin` written and read.
//!
//! # Format
//! gzip of little-endian fields. All counts are `u32`, strings and byte ranges are preceded by
//! their length as `u32`.
//!
//! ```text
//! "hfproc02"  arm64: u32 (0, 1)  regs: [u64; 33], by DWARF number, pc last (abi.h)
//! tp: u64, where thread-local storage is ("hfproc01" has none)
//! n mappings: start u64, end u64, pgoff u64, file u32 (1 + index into files; 0: anonymous)
//! n files:    path, length u64, n ranges: offset u64, bytes
//! n memory:   address u64, bytes
//! ```

use super::{RecordedFile, RecordedProcess};
use crate::processes::Mapping;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::{self, Read as _, Write as _};

const MAGIC: &[u8; 8] = b"hfproc02";
/// Without `tp`.
const MAGIC_OLD: &[u8; 8] = b"hfproc01";
/// Bounds of what is read: a recording is foreign bytes like any other.
const MAX_BYTES: u64 = 64 << 20;
const MAX_ITEMS: usize = 65536;

/// Why a recorded process cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin like one.
    #[error("not a recorded process")]
    NotRecorded,
    /// It ends early, or a count is above its bound.
    #[error("damaged at byte {at} of a recorded process")]
    Damaged {
        /// Byte of the decompressed file.
        at: usize,
    },
    /// It could not be read or decompressed.
    #[error("reading a recorded process")]
    Io(#[from] io::Error),
}

impl RecordedProcess {
    /// Writes `process.bin`.
    ///
    /// # Errors
    /// What compressing into memory says, which is nothing in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        self.encode(&mut plain);
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(&plain)?;
        Ok(out.finish()?)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        out.extend(MAGIC);
        out.extend(u32::from(self.arm64).to_le_bytes());
        out.extend(self.regs.iter().flat_map(|reg| reg.to_le_bytes()));
        out.extend(self.tp.to_le_bytes());
        out.extend((self.mappings.len() as u32).to_le_bytes());
        for mapping in &self.mappings {
            for value in [mapping.start, mapping.end, mapping.pgoff] {
                out.extend(value.to_le_bytes());
            }
            out.extend(mapping.file.to_le_bytes());
        }
        out.extend((self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            bytes(out, file.path.as_bytes());
            out.extend(file.len.to_le_bytes());
            out.extend((file.ranges.len() as u32).to_le_bytes());
            for (at, range) in &file.ranges {
                out.extend(at.to_le_bytes());
                bytes(out, range);
            }
        }
        out.extend((self.memory.len() as u32).to_le_bytes());
        for (at, range) in &self.memory {
            out.extend(at.to_le_bytes());
            bytes(out, range);
        }
    }

    /// Reads `process.bin`.
    ///
    /// # Errors
    /// [`Error::NotRecorded`], [`Error::Damaged`], [`Error::Io`].
    pub fn from_bytes(bytes: &[u8]) -> Result<RecordedProcess, Error> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut plain)?;
        Self::decode(&plain)
    }

    pub(super) fn decode(plain: &[u8]) -> Result<RecordedProcess, Error> {
        let mut fields = Fields { bytes: plain, at: 0 };
        let magic = fields.take(8).ok();
        if magic != Some(MAGIC.as_slice()) && magic != Some(MAGIC_OLD.as_slice()) {
            return Err(Error::NotRecorded);
        }
        let mut process = RecordedProcess { arm64: fields.u32()? == 1, ..Default::default() };
        for reg in &mut process.regs {
            *reg = fields.u64()?;
        }
        if magic == Some(MAGIC.as_slice()) {
            process.tp = fields.u64()?;
        }
        for _ in 0..fields.count()? {
            process.mappings.push(Mapping {
                start: fields.u64()?,
                end: fields.u64()?,
                pgoff: fields.u64()?,
                file: fields.u32()?,
            });
        }
        for _ in 0..fields.count()? {
            let path = String::from_utf8_lossy(fields.bytes()?).into_owned();
            let len = fields.u64()?;
            process.files.push(RecordedFile { path, len, ranges: fields.ranges()? });
        }
        process.memory = fields.ranges()?;
        process.mappings.sort_by_key(|mapping| mapping.start);
        Ok(process)
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let damaged = Error::Damaged { at: self.at };
        let end = self.at.saturating_add(n);
        let taken = self.bytes.get(self.at..end).ok_or(damaged)?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
    }

    fn count(&mut self) -> Result<usize, Error> {
        let at = self.at;
        Some(self.u32()? as usize).filter(|&n| n <= MAX_ITEMS).ok_or(Error::Damaged { at })
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let n = self.u32()?;
        self.take(n as usize)
    }

    /// Ascending and disjoint, or it is damaged.
    fn ranges(&mut self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut ranges = Vec::new();
        let mut end = 0;
        for _ in 0..self.count()? {
            let at = self.at;
            let start = self.u64()?;
            let bytes = self.bytes()?.to_vec();
            let next = start.checked_add(bytes.len() as u64);
            end = next.filter(|_| start >= end).ok_or(Error::Damaged { at })?;
            ranges.push((start, bytes));
        }
        Ok(ranges)
    }
}
