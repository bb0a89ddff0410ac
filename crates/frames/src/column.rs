//! A column of rows in chunks: grows without copying, is charged by the chunk.

use crate::budget::{Charge, Owner, Refused};

/// Rows of a chunk. 512 rows of 8 bytes are a page; a small table wastes little more.
const CHUNK_ROWS: usize = 512;

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

    const CHUNK_BYTES: usize = CHUNK_ROWS * size_of::<T>() + size_of::<Box<[T]>>();

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes sure that the next push cannot be refused.
    pub(crate) fn reserve_one(&mut self) -> Result<(), Refused> {
        if self.len == self.chunks.len() * CHUNK_ROWS {
            self.charge.grow(Self::CHUNK_BYTES)?;
            self.add_chunk();
        }
        Ok(())
    }

    /// Appends a row; its id.
    pub(crate) fn push(&mut self, row: T) -> Result<u32, Refused> {
        self.reserve_one()?;
        Ok(self.put(row))
    }

    /// Appends a row even where the budget has no room: for rows moved from one place to
    /// another.
    pub(crate) fn push_anyway(&mut self, row: T) -> u32 {
        if self.len == self.chunks.len() * CHUNK_ROWS {
            self.charge.grow_anyway(Self::CHUNK_BYTES);
            self.add_chunk();
        }
        self.put(row)
    }

    fn add_chunk(&mut self) {
        self.chunks.push(vec![T::default(); CHUNK_ROWS].into_boxed_slice());
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
        let keep = len.div_ceil(CHUNK_ROWS);
        let dropped = self.chunks.len() - keep;
        self.chunks.truncate(keep);
        self.chunks.shrink_to_fit();
        self.charge.shrink(dropped * Self::CHUNK_BYTES);
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
