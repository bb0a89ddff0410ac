//! Reading foreign bytes: positioned reads, a read window, and a cursor that never panics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::Error;

/// Bytes that can be read at an offset: a file, or an image copied from memory (the vDSO).
pub trait ReadAt {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means that the end was reached.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Length in bytes. A length that cannot be learnt is `u64::MAX`: reads then say where it ends.
    fn len(&self) -> u64;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
    fn len(&self) -> u64 {
        self.metadata().map_or(u64::MAX, |meta| meta.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(<[u8]>::len(self));
        let rest = self.get(from..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }
    fn len(&self) -> u64 {
        (**self).len()
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }
    fn len(&self) -> u64 {
        (**self).len()
    }
}

/// Fills as much of `buf` as there are bytes at `offset`; returns how many.
pub(crate) fn fill(
    reader: &(impl ReadAt + ?Sized),
    buf: &mut [u8],
    offset: u64,
) -> Result<usize, Error> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match reader.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n.min(rest.len()),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Read { offset, source }),
        }
    }
    Ok(done)
}

/// The part of a file that was read last. A small one suffices: neighbouring functions have
/// neighbouring unwind information.
#[derive(Debug, Default)]
pub(crate) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Bytes of a refill. One page-cache copy of this costs about as much as the system call.
    const BYTES: usize = 32 << 10;

    /// Up to `len` bytes at `offset`, fewer at the end of the file. `len` must be bounded by the
    /// caller: the window grows to hold it.
    pub(crate) fn get(
        &mut self,
        reader: &(impl ReadAt + ?Sized),
        offset: u64,
        len: usize,
    ) -> Result<&[u8], Error> {
        let held = |w: &Self| {
            let from = usize::try_from(offset.checked_sub(w.start)?).ok()?;
            (from.checked_add(len)? <= w.bytes.len()).then_some(from)
        };
        let from = match held(self) {
            Some(from) => from,
            None => {
                self.start = offset;
                self.bytes.resize(len.max(Self::BYTES), 0);
                let got = fill(reader, &mut self.bytes, offset);
                self.bytes.truncate(*got.as_ref().unwrap_or(&0));
                got?;
                self.bytes.shrink_to(len.max(Self::BYTES));
                0
            }
        };
        let to = (from + len).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

/// What bisections of one sorted table read first: the same rows every time. A read of its own for
/// each of some ten would take as long as following the functions that are found.
#[derive(Debug, Default)]
pub(crate) struct Milestones {
    by_row: BTreeMap<u64, u64>,
}

impl Milestones {
    /// Ranges of at most a table's this part are not kept: so many rows are, at most.
    const MOST: u64 = 256;
    /// Rows of which it is quicker to have all at once than to bisect them.
    const FEW: u64 = 1024;

    /// Bisects a table of `total` rows: the last one whose value `is_before`, or the first of all. `None`
    /// where a row cannot be read, or where two that were met are not in order.
    ///
    /// `read(row, from)` gives a row's value; where `from` is given, all rows from that one to `row` are
    /// near enough to be read at once.
    pub(crate) fn bisect(
        &mut self,
        total: u64,
        is_before: impl Fn(u64) -> bool,
        mut read: impl FnMut(u64, Option<u64>) -> Result<Option<u64>, Error>,
    ) -> Result<Option<u64>, Error> {
        let (mut from, mut n) = (0, total);
        let mut bounds = 0..=u64::MAX;
        while n > 1 {
            let half = n / 2;
            let row = from + half;
            let value = if n > Self::FEW {
                self.get(row, (n, total), || read(row, None))?
            } else {
                read(row, Some(from))?
            };
            let Some(value) = value.filter(|value| bounds.contains(value)) else {
                return Ok(None);
            };
            if is_before(value) {
                from = row;
                bounds = value..=*bounds.end();
                n -= half;
            } else {
                bounds = *bounds.start()..=value;
                n = half;
            }
        }
        Ok(Some(from))
    }

    /// A row's value, with which a range of `n` of the table's `total` rows is halved.
    fn get(
        &mut self,
        row: u64,
        (n, total): (u64, u64),
        read: impl FnOnce() -> Result<Option<u64>, Error>,
    ) -> Result<Option<u64>, Error> {
        if let Some(&value) = self.by_row.get(&row) {
            return Ok(Some(value));
        }
        let value = read()?;
        if let Some(value) = value
            && n > total / Self::MOST
            && (self.by_row.len() as u64) < Self::MOST
        {
            self.by_row.insert(row, value);
        }
        Ok(value)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // Nodes of a B-tree are half empty at worst.
        self.by_row.len() * 2 * size_of::<(u64, u64)>()
    }

    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

/// Reads little-endian values from a slice; `None` at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }
    pub(crate) fn is_at_end(&self) -> bool {
        self.pos >= self.bytes.len()
    }
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let got = self.bytes.get(self.pos..self.pos.checked_add(n)?)?;
        self.pos += n;
        Some(got)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let got = *self.bytes.get(self.pos)?;
        self.pos += 1;
        Some(got)
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    /// Bits beyond the 64th are dropped; at most 10 bytes are accepted.
    #[inline]
    pub(crate) fn uleb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    #[inline]
    pub(crate) fn sleb(&mut self) -> Option<i64> {
        let mut value = 0i64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            value |= i64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0 && shift + 7 < 64 {
                    value |= -1i64 << (shift + 7);
                }
                return Some(value);
            }
        }
        None
    }
    /// The bytes up to a NUL, which is consumed.
    pub(crate) fn c_str(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        let n = rest.iter().position(|&byte| byte == 0)?;
        self.pos += n + 1;
        rest.get(..n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_at_its_limits() {
        assert_eq!(Cursor::new(&[0xe5, 0x8e, 0x26]).uleb(), Some(624_485));
        assert_eq!(Cursor::new(&[0xc0, 0xbb, 0x78]).sleb(), Some(-123_456));
        assert_eq!(Cursor::new(&[0x7f]).sleb(), Some(-1));
        assert_eq!(Cursor::new(&[0x80; 11]).uleb(), None);
        assert_eq!(Cursor::new(&[0x80]).sleb(), None);
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Cursor::new(&max).uleb(), Some(u64::MAX));
    }

    /// The last row before a value, in tables of all sizes up to those of which milestones are kept; a
    /// table that is out of order is found out where the search comes by.
    #[test]
    fn bisecting() {
        for total in [1, 2, 3, 1000, Milestones::FEW + 1, 100_000] {
            let mut milestones = Milestones::default();
            let mut row_before = |value, table: &dyn Fn(u64) -> u64| {
                let read = |row: u64, from: Option<u64>| {
                    assert!(from.is_none_or(|from| row - from < Milestones::FEW));
                    Ok((row < total).then(|| table(row)))
                };
                milestones.bisect(total, |start| start < value, read).unwrap()
            };
            let double = |row| 2 * row;
            for value in [0, 1, 2, total, 2 * total - 1, 2 * total, u64::MAX] {
                let expect = value.div_ceil(2).clamp(1, total) - 1;
                assert_eq!(row_before(value, &double), Some(expect), "{value} of {total}");
            }
        }
        let falls = |row: u64, _: Option<u64>| Ok(Some(u64::from(row != 6)));
        assert_eq!(Milestones::default().bisect(8, |start| start < 2, falls).unwrap(), None);
        let ends = |_: u64, _: Option<u64>| Ok(None);
        assert_eq!(Milestones::default().bisect(8, |start| start < 2, ends).unwrap(), None);
    }

    #[test]
    fn a_window_serves_what_it_holds_and_stops_at_the_end() {
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut window = Window::default();
        assert_eq!(window.get(&data, 10, 4).unwrap(), &[10, 11, 12, 13]);
        assert_eq!(window.get(&data, 99_998, 10).unwrap().len(), 2);
        assert_eq!(window.get(&data, u64::MAX - 1, 10).unwrap().len(), 0);
        assert_eq!(window.get(&data, 0, 60_000).unwrap().len(), 60_000);
    }
}
