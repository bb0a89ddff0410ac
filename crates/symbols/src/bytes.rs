//! Foreign bytes, read by position: a file by `pread`, or what was decompressed out of one.
//!
//! In: an open file, or a decompressor's output. Out: [`Bytes`], cheap to clone. A decompressed
//! section larger than [`MEMORY_MAX_BYTES`] goes to an unlinked temporary file, so that the memory
//! of a batch does not depend on the size of the debug information.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

/// Decompressed data up to this size stays in memory.
pub(crate) const MEMORY_MAX_BYTES: usize = 1 << 20;

/// Random access to immutable bytes.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    store: Store,
    start: u64,
    len: u64,
}

#[derive(Clone, Debug)]
enum Store {
    File(Rc<File>),
    Memory(Rc<[u8]>),
}

impl Bytes {
    /// The whole file. Its length is taken now; a file that shrinks later gives short reads.
    pub(crate) fn of_file(file: File) -> io::Result<Bytes> {
        let len = file.metadata()?.len();
        Ok(Bytes { store: Store::File(Rc::new(file)), start: 0, len })
    }

    /// Bytes in memory.
    pub(crate) fn of_memory(bytes: Vec<u8>) -> Bytes {
        let len = bytes.len() as u64;
        Bytes { store: Store::Memory(bytes.into()), start: 0, len }
    }

    /// No bytes.
    pub(crate) fn empty() -> Bytes {
        Bytes::of_memory(Vec::new())
    }

    /// All that `source` yields, at most `max_bytes` (else an error of kind `FileTooLarge`); what
    /// does not fit into memory goes to an unlinked file in `scratch`.
    pub(crate) fn of_stream(
        mut source: impl Read,
        scratch: &Path,
        max_bytes: u64,
    ) -> io::Result<Bytes> {
        let mut head = Vec::new();
        source.by_ref().take(MEMORY_MAX_BYTES as u64 + 1).read_to_end(&mut head)?;
        if head.len() as u64 > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if head.len() <= MEMORY_MAX_BYTES {
            return Ok(Bytes::of_memory(head));
        }
        let mut file = unlinked_file(scratch)?;
        file.write_all(&head)?;
        let room = max_bytes - head.len() as u64;
        drop(head);
        let copied = io::copy(&mut source.take(room.saturating_add(1)), &mut file)?;
        if copied > room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.rewind()?;
        Bytes::of_file(file)
    }

    /// The part at `offset`, cut to what exists.
    pub(crate) fn slice(&self, offset: u64, len: u64) -> Bytes {
        let offset = offset.min(self.len);
        Bytes {
            store: self.store.clone(),
            start: self.start.saturating_add(offset),
            len: len.min(self.len - offset),
        }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Fills as much of `buffer` as there is from `offset` on; returns how much.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.len.checked_sub(offset) else {
            return Ok(0);
        };
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..want];
        let from = self.start.saturating_add(offset);
        match &self.store {
            Store::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let Some(have) = bytes.get(from..).and_then(|rest| rest.get(..want)) else {
                    return Ok(0);
                };
                buffer.copy_from_slice(have);
                Ok(want)
            }
            Store::File(file) => {
                let mut done = 0;
                while done < want {
                    match file.read_at(&mut buffer[done..], from.saturating_add(done as u64)) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                        Err(cause) => return Err(cause),
                    }
                }
                Ok(done)
            }
        }
    }

    /// Exactly `N` bytes at `offset`; `None` where there are fewer.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok((self.read_at(offset, &mut bytes)? == N).then_some(bytes))
    }

    /// At most `max` bytes from `offset` on.
    pub(crate) fn prefix(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max)];
        let n = self.read_at(offset, &mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// The NUL-terminated string at `offset`, cut after `max` bytes.
    pub(crate) fn c_string(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut size = 128;
        loop {
            let mut bytes = self.prefix(offset, size.min(max))?;
            if let Some(end) = memchr::memchr(0, &bytes) {
                bytes.truncate(end);
                return Ok(bytes);
            }
            if bytes.len() < size {
                return Ok(bytes);
            }
            size *= 8;
        }
    }

    /// A sequential reader of all bytes.
    pub(crate) fn reader(&self) -> impl Read + use<> {
        Sequential { bytes: self.clone(), at: 0 }
    }
}

struct Sequential {
    bytes: Bytes,
    at: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read_at(self.at, buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A file in `directory` that nobody else can open and that goes with its last handle.
fn unlinked_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Little-endian field of a record; 0 where the record is too short.
pub(crate) fn u16_at(record: &[u8], at: usize) -> u16 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

/// As [`u16_at`].
pub(crate) fn u32_at(record: &[u8], at: usize) -> u32 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

/// As [`u16_at`].
pub(crate) fn u64_at(record: &[u8], at: usize) -> u64 {
    record.get(at..).and_then(|r| r.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}
