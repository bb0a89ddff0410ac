//! A column of rows in chunks: grows without copying, is charged by the chunk.

use crate::budget::{Charge, Owner, Refused};

/// Rows of a chunk. 512 rows of 8 bytes are a page.
const CHUNK_ROWS: usize = 512;
/// Rows that the first chunk begins with; it doubles until it is a whole one, so that a small table
/// takes little of a small budget.
const FIRST_ROWS: usize = 16;

/// Rows of one type, dense ids from 0.
#[derive(Debug)]
pub(crate) struct Column<T> {
    chunks: Vec<Box<[T]>>,
    len: usize,
    charge: Charge,
}

impl<T: Copy + Default> Column<T> {
    pub(crate) fn new(owner: &Owner) -> Column<T> {
        Column { chunks: Vec::new(), len: 0, charge: owner.charge() }
    }

    const fn bytes_of(n_rows: usize) -> usize {
        n_rows * size_of::<T>() + size_of::<Box<[T]>>()
    }

    /// Rows that there is memory for.
    #[inline]
    fn capacity(&self) -> usize {
        match self.chunks.as_slice() {
            [first] => first.len(),
            chunks => chunks.len() * CHUNK_ROWS,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes sure that the next push cannot be refused.
    #[inline]
    pub(crate) fn reserve_one(&mut self) -> Result<(), Refused> {
        if self.len == self.capacity() { self.grow() } else { Ok(()) }
    }

    /// Appends a row; its id.
    #[inline]
    pub(crate) fn push(&mut self, row: T) -> Result<u32, Refused> {
        self.reserve_one()?;
        Ok(self.put(row))
    }

    #[cold]
    fn grow(&mut self) -> Result<(), Refused> {
        let rows_of_first = match self.chunks.as_slice() {
            [] => FIRST_ROWS,
            [first] if first.len() < CHUNK_ROWS => first.len() * 2,
            _ => CHUNK_ROWS,
        };
        let replaces = self.chunks.len() == 1 && self.capacity() < CHUNK_ROWS;
        let held = if replaces { Self::bytes_of(self.capacity()) } else { 0 };
        let bytes = Self::bytes_of(rows_of_first) - held;
        self.charge.grow(bytes)?;
        if replaces {
            self.resize_first(rows_of_first);
        } else {
            self.chunks.push(vec![T::default(); rows_of_first].into_boxed_slice());
        }
        Ok(())
    }

    /// Gives the first and only chunk that many rows.
    fn resize_first(&mut self, n_rows: usize) {
        if let Some(first) = self.chunks.first_mut() {
            let mut rows = std::mem::take(first).into_vec();
            rows.truncate(n_rows);
            let mut exact = Vec::with_capacity(n_rows);
            exact.append(&mut rows);
            exact.resize(n_rows, T::default());
            *first = exact.into_boxed_slice();
        }
    }

    fn put(&mut self, row: T) -> u32 {
        let id = self.len;
        if let Some(slot) =
            self.chunks.get_mut(id / CHUNK_ROWS).and_then(|c| c.get_mut(id % CHUNK_ROWS))
        {
            *slot = row;
        }
        self.len += 1;
        id as u32
    }

    /// The row of an id; the default row for an id that was never given out.
    #[inline]
    pub(crate) fn at(&self, id: u32) -> T {
        self.get(id).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<T> {
        let id = id as usize;
        if id >= self.len {
            return None;
        }
        self.chunks.get(id / CHUNK_ROWS)?.get(id % CHUNK_ROWS).copied()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let id = id as usize;
        if id >= self.len {
            return None;
        }
        self.chunks.get_mut(id / CHUNK_ROWS)?.get_mut(id % CHUNK_ROWS)
    }

    /// Sets the row of an id that exists.
    pub(crate) fn set(&mut self, id: u32, row: T) {
        if let Some(slot) = self.get_mut(id) {
            *slot = row;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied()).take(self.len)
    }

    /// Keeps the first `len` rows and frees the chunks behind them.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        let held = |chunks: &[Box<[T]>]| chunks.iter().map(|c| Self::bytes_of(c.len())).sum();
        let before: usize = held(&self.chunks);
        self.chunks.truncate(len.div_ceil(CHUNK_ROWS));
        self.chunks.shrink_to_fit();
        let n_rows = len.next_power_of_two().clamp(FIRST_ROWS, CHUNK_ROWS);
        if self.chunks.len() == 1 && self.capacity() > n_rows {
            self.resize_first(n_rows);
        }
        self.charge.shrink(before - held(&self.chunks));
    }

    /// Keeps the rows that are marked, moved together in their order. `map` sees each kept row.
    pub(crate) fn compact(&mut self, marks: &crate::marks::Marks, mut map: impl FnMut(T) -> T) {
        let mut to = 0;
        for from in 0..self.len as u32 {
            if marks.has(from) {
                let row = map(self.at(from));
                self.set(to, row);
                to += 1;
            }
        }
        self.truncate(to as usize);
    }
}
