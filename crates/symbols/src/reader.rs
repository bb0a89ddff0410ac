//! A `gimli::Reader` that holds a few chunks of a section instead of the section.
//!
//! In: [`Bytes`] of a DWARF section. Out: [`Reader`]s over it. All readers of a section share at
//! most [`CHUNKS`] chunks of [`CHUNK_BYTES`], replaced in turn; each keeps the chunk that it read
//! last. So the memory of DWARF is what a batch looks at, not what the file has.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use gimli::{Error, LittleEndian, ReaderOffsetId, Result};

use crate::bytes::Bytes;

const CHUNK_BYTES: u64 = 16 << 10;
const CHUNKS: usize = 32;

#[derive(Debug)]
struct Section {
    bytes: Bytes,
    id: u64,
    chunks: RefCell<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    loaded: Vec<Rc<Chunk>>,
    next: usize,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Vec<u8>,
}

impl Chunk {
    /// What it has from a position of the section on; empty: that is not in it.
    fn from(&self, at: u64) -> &[u8] {
        let offset = usize::try_from(at.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        self.data.get(offset..).unwrap_or_default()
    }
}

impl Section {
    fn chunk(&self, at: u64) -> Result<Rc<Chunk>> {
        let start = at - at % CHUNK_BYTES;
        let mut chunks = self.chunks.borrow_mut();
        if let Some(chunk) = chunks.loaded.iter().find(|c| c.start == start) {
            return Ok(Rc::clone(chunk));
        }
        let data =
            self.bytes.prefix(start, CHUNK_BYTES as usize).map_err(|_: io::Error| Error::Io)?;
        let chunk = Rc::new(Chunk { start, data });
        if chunks.loaded.len() < CHUNKS {
            chunks.loaded.push(Rc::clone(&chunk));
        } else {
            let victim = chunks.next % CHUNKS;
            chunks.next = victim + 1;
            if let Some(slot) = chunks.loaded.get_mut(victim) {
                *slot = Rc::clone(&chunk);
            }
        }
        Ok(chunk)
    }
}

/// A range of a section, read from its start.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    section: Rc<Section>,
    chunk: Rc<Chunk>,
    at: u64,
    end: u64,
}

impl Reader {
    /// The whole section. `id` tells sections of one file apart.
    pub(crate) fn new(bytes: Bytes, id: u64) -> Reader {
        let end = bytes.len();
        let section = Section { bytes, id, chunks: RefCell::default() };
        let chunk = Rc::new(Chunk { start: 0, data: Vec::new() });
        Reader { section: Rc::new(section), chunk, at: 0, end }
    }

    /// What the chunk at the reader's position has from there on; loads it when needed.
    fn window(&mut self) -> Result<&[u8]> {
        if self.chunk.from(self.at).is_empty() {
            self.chunk = self.section.chunk(self.at)?;
        }
        match self.chunk.from(self.at) {
            [] => Err(Error::UnexpectedEof(self.id())),
            window => Ok(window),
        }
    }

    fn id(&self) -> ReaderOffsetId {
        ReaderOffsetId((self.section.id << 56) | self.at)
    }
}

impl gimli::Reader for Reader {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        (self.end - self.at) as usize
    }

    fn empty(&mut self) {
        self.end = self.at;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(Error::UnexpectedEof(self.id()));
        }
        self.end = self.at + len as u64;
        Ok(())
    }

    fn offset_from(&self, base: &Reader) -> usize {
        self.at.saturating_sub(base.at) as usize
    }

    fn offset_id(&self) -> ReaderOffsetId {
        self.id()
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        let at = id.0 & (u64::MAX >> 8);
        let mine = id.0 >> 56 == self.section.id && (self.at..=self.end).contains(&at);
        mine.then(|| (at - self.at) as usize)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let mut scan = self.clone();
        while scan.at < scan.end {
            let left = scan.len();
            let window = scan.window()?;
            let window = window.get(..left).unwrap_or(window);
            let (found, len) = (memchr::memchr(byte, window), window.len() as u64);
            if let Some(offset) = found {
                return Ok((scan.at - self.at) as usize + offset);
            }
            scan.at += len;
        }
        Err(Error::UnexpectedEof(self.id()))
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(Error::UnexpectedEof(self.id()));
        }
        self.at += len as u64;
        Ok(())
    }

    fn split(&mut self, len: usize) -> Result<Reader> {
        let mut part = self.clone();
        part.truncate(len)?;
        self.at += len as u64;
        Ok(part)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        let mut bytes = vec![0; self.len()];
        self.clone().read_slice(&mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        match String::from_utf8(self.to_slice()?.into_owned()) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(Error::BadUtf8),
        }
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        Ok(Cow::Owned(String::from_utf8_lossy(&self.to_slice()?).into_owned()))
    }

    /// Every number is read by this, a byte at a time where its length varies: nearly all are in the chunk
    /// that is there.
    #[inline]
    fn read_u8_array<A: Sized + Default + AsMut<[u8]>>(&mut self) -> Result<A> {
        let mut value = A::default();
        let bytes = value.as_mut();
        match self.chunk.from(self.at).get(..bytes.len()) {
            Some(here) if bytes.len() <= self.len() => {
                bytes.copy_from_slice(here);
                self.at += bytes.len() as u64;
            }
            _ => self.read_slice(bytes)?,
        }
        Ok(value)
    }

    fn read_slice(&mut self, buffer: &mut [u8]) -> Result<()> {
        if buffer.len() > self.len() {
            return Err(Error::UnexpectedEof(self.id()));
        }
        let mut done = 0;
        while done < buffer.len() {
            let window = self.window()?;
            let n = window.len().min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&window[..n]);
            done += n;
            self.at += n as u64;
        }
        Ok(())
    }
}
