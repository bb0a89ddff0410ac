//! The tables in shared memory: who lies where, publishing, and eviction.
//!
//! In: rows from `objects`, mappings from `processes`. Out: files' directories, blocks of rows,
//! and blobs of mappings, as `kernel/include/hf/abi.h` lays them out. Every byte taken is charged
//! here; when memory is full the block that was not used for longest goes first (CLOCK: a block
//! is marked when a sample has a frame in it), since rows can be built again from the file.
//!
//! Freeing: the id at the head is cleared, so that a stale offset is found out; then the bytes
//! rest until no walk that began before is running (`SharedMemory::wait_for_readers`), once for
//! many.

use hotframe_abi as abi;
use hotframe_abi::SharedMemory;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use zerocopy::IntoBytes as _;

/// Everything is aligned to this; smaller pieces would only be fragments.
const ALIGN_BYTES: u32 = 64;

/// First-fit of exact sizes with coalescing; nothing crosses a 1 MiB boundary.
#[derive(Debug, Default)]
struct Space {
    free: BTreeMap<u32, u32>,
    by_size: BTreeSet<(u32, u32)>,
}

impl Space {
    fn insert(&mut self, mut at: u32, mut bytes: u32) {
        // Neighbours join, but not across chunks.
        if let Some((&before, &len)) = self.free.range(..at).next_back()
            && before + len == at
            && !at.is_multiple_of(abi::HF_MEM_CHUNK_BYTES)
        {
            self.remove(before, len);
            at = before;
            bytes += len;
        }
        if let Some(&len) = self.free.get(&(at + bytes))
            && !(at + bytes).is_multiple_of(abi::HF_MEM_CHUNK_BYTES)
        {
            self.remove(at + bytes, len);
            bytes += len;
        }
        self.free.insert(at, bytes);
        self.by_size.insert((bytes, at));
    }

    fn remove(&mut self, at: u32, bytes: u32) {
        self.free.remove(&at);
        self.by_size.remove(&(bytes, at));
    }

    fn take(&mut self, bytes: u32) -> Option<u32> {
        let &(len, at) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(at, len);
        if len > bytes {
            self.insert(at + bytes, len - bytes);
        }
        Some(at)
    }
}

/// A file's directory in memory.
#[derive(Debug)]
struct File {
    off: u32,
    bytes: u32,
    /// Offset of each block's bytes, 0: not loaded.
    blocks: Vec<u32>,
}

#[derive(Debug)]
struct Block {
    off: u32,
    bytes: u32,
    file_id: u32,
    number: u32,
    used: bool,
}

/// A runtime's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Where it is: what a mapping's `runtime_off` says.
    pub off: u32,
    bytes: u32,
}

/// A blob that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Offset in memory.
    pub off: u32,
    /// Never reused.
    pub id: u32,
    bytes: u32,
}

/// A mapping without a file and without a runtime: what it has of these is filled in.
pub(crate) fn without_file(start: u64, end: u64) -> abi::hf_mapping {
    abi::hf_mapping {
        start,
        end,
        image: start,
        file_id: 0,
        file_off: 0,
        runtime_off: 0,
        reserved: 0,
    }
}

/// Counters of what memory holds and what happened to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that were ever touched: what an arena keeps.
    pub touched_bytes: u64,
    /// Blocks of rows held.
    pub blocks: u64,
    /// Rows in them.
    pub rows: u64,
    /// Blocks evicted to make room.
    pub evictions: u64,
    /// Requests that did not fit even so.
    pub refused: u64,
}

/// The owner of shared memory.
pub struct Tables {
    memory: Box<dyn SharedMemory>,
    space: Space,
    files: HashMap<u32, File>,
    blocks: Vec<Block>,
    hand: usize,
    /// Freed, but perhaps still read.
    resting: Vec<(u32, u32)>,
    touched: Vec<bool>,
    next_blob_id: u32,
    stats: TableStats,
}

impl Tables {
    /// Takes over all of memory.
    pub fn new(mut memory: Box<dyn SharedMemory>) -> Tables {
        let len = memory.len().min(u64::from(u32::MAX)) as u32;
        let mut space = Space::default();
        let mut at = abi::HF_HEAP_OFF;
        while at < len {
            let end = (at / abi::HF_MEM_CHUNK_BYTES + 1) * abi::HF_MEM_CHUNK_BYTES;
            space.insert(at, end.min(len) - at);
            at = end;
        }
        let mut touched = vec![false; (len as usize).div_ceil(4096)];
        // A page of an arena that nobody touched costs the kernel half a fault at each look.
        let mailbox = abi::HF_MAILBOX_SLOTS as usize * size_of::<abi::hf_letter>();
        memory.write(abi::HF_MAILBOX_OFF, &vec![0; mailbox]);
        let first = abi::HF_MAILBOX_OFF as usize / 4096;
        touched[first..first + mailbox.div_ceil(4096)].fill(true);
        Tables {
            memory,
            space,
            files: HashMap::new(),
            blocks: Vec::new(),
            hand: 0,
            resting: Vec::new(),
            touched,
            next_blob_id: 1,
            stats: TableStats::default(),
        }
    }

    /// The region, for the native walk.
    pub fn memory(&self) -> &dyn SharedMemory {
        &*self.memory
    }

    /// What is held now.
    pub fn stats(&self) -> TableStats {
        let mut stats = self.stats;
        stats.touched_bytes = self.touched.iter().filter(|&&page| page).count() as u64 * 4096;
        stats.blocks = self.blocks.len() as u64;
        stats
    }

    fn take(&mut self, bytes: u32) -> Option<u32> {
        let bytes = bytes.next_multiple_of(ALIGN_BYTES);
        if bytes > abi::HF_MEM_CHUNK_BYTES {
            self.stats.refused += 1;
            return None;
        }
        loop {
            if let Some(at) = self.space.take(bytes) {
                let pages = at as usize / 4096..(at + bytes).div_ceil(4096) as usize;
                self.touched[pages].fill(true);
                self.stats.used_bytes += u64::from(bytes);
                return Some(at);
            }
            if !self.resting.is_empty() {
                self.reclaim();
                continue;
            }
            // A batch at a time: each grace period takes milliseconds.
            let wanted = u64::from(bytes).max(self.memory.len() / 16);
            let mut freed = 0;
            while freed < wanted {
                let Some(block) = self.evict_one() else { break };
                freed += u64::from(block);
            }
            if freed == 0 {
                self.stats.refused += 1;
                return None;
            }
        }
    }

    /// The hand passes over blocks in use and takes the first that is not.
    fn evict_one(&mut self) -> Option<u32> {
        for _ in 0..=2 * self.blocks.len() {
            if self.blocks.is_empty() {
                return None;
            }
            self.hand %= self.blocks.len();
            let block = &mut self.blocks[self.hand];
            if block.used {
                block.used = false;
                self.hand += 1;
                continue;
            }
            let block = self.blocks.swap_remove(self.hand);
            self.stats.evictions += 1;
            if let Some(file) = self.files.get_mut(&block.file_id) {
                file.blocks[block.number as usize] = 0;
                let slot = file.off + size_of::<abi::hf_file>() as u32 + 4 * block.number;
                self.memory.publish(slot, 0);
            }
            self.memory.publish(block.off, 0);
            self.resting.push((block.off, block.bytes));
            return Some(block.bytes);
        }
        None
    }

    fn reclaim(&mut self) {
        self.memory.wait_for_readers();
        for (at, bytes) in self.resting.drain(..) {
            self.stats.used_bytes -= u64::from(bytes);
            self.space.insert(at, bytes);
        }
    }

    fn rest(&mut self, at: u32, bytes: u32) {
        self.memory.publish(at, 0);
        self.resting.push((at, bytes.next_multiple_of(ALIGN_BYTES)));
        if self.resting.len() >= 256 {
            self.reclaim();
        }
    }

    /// Makes the directory of a file with `n_blocks` blocks of 64 KiB; returns its offset, which
    /// is the same for a file that has one.
    pub fn add_file(&mut self, file_id: u32, n_blocks: u32) -> Option<u32> {
        if let Some(file) = self.files.get(&file_id) {
            return Some(file.off);
        }
        let n_blocks = n_blocks.min(abi::HF_MAX_BLOCKS);
        let head = size_of::<abi::hf_file>() as u32;
        let bytes = head + 4 * n_blocks;
        let off = self.take(bytes)?;
        self.memory.write(off + head, &vec![0; 4 * n_blocks as usize]);
        self.memory.publish(off + 4, n_blocks);
        self.memory.publish(off, file_id);
        self.files.insert(file_id, File { off, bytes, blocks: vec![0; n_blocks as usize] });
        Some(off)
    }

    /// Frees a file's directory and blocks. Blobs that name it are found stale.
    pub fn remove_file(&mut self, file_id: u32) {
        let Some(file) = self.files.remove(&file_id) else {
            return;
        };
        let (gone, kept) = std::mem::take(&mut self.blocks)
            .into_iter()
            .partition(|block| block.file_id == file_id);
        self.blocks = kept;
        let gone: Vec<Block> = gone;
        for block in gone {
            self.rest(block.off, block.bytes);
        }
        self.rest(file.off, file.bytes);
    }

    /// Is the block of this image offset loaded?
    pub fn has_block(&self, file_id: u32, image_offset: u32) -> bool {
        self.files.get(&file_id).is_some_and(|file| {
            file.blocks.get((image_offset >> abi::HF_BLOCK_SHIFT) as usize).is_none_or(|&b| b != 0)
        })
    }

    /// Publishes a block's rows. False if memory has no room for them.
    pub fn add_block(
        &mut self,
        file_id: u32,
        number: u32,
        rows: &[abi::hf_row],
        rules: &[abi::hf_rule],
    ) -> bool {
        let rows = &rows[..rows.len().min(abi::HF_MAX_ROWS_PER_BLOCK as usize)];
        let head = size_of::<abi::hf_block>() as u32;
        let rows_bytes = size_of_val(rows) as u32;
        let rules_at = head + rows_bytes;
        let bytes = rules_at + size_of_val(rules) as u32;
        if self.files.get(&file_id).is_none_or(|file| number as usize >= file.blocks.len()) {
            return false;
        }
        let Some(off) = self.take(bytes) else {
            return false;
        };
        let mut block = abi::hf_block {
            file_id: 0,
            n_rows: rows.len() as u32,
            rules_off: if rules.is_empty() { 0 } else { off + rules_at },
            n_rules: rules.len() as u32,
            index: [0; abi::HF_BUCKETS_PER_BLOCK as usize],
        };
        let mut row = 0;
        for (bucket, index) in block.index.iter_mut().enumerate() {
            let start = (bucket << abi::HF_BUCKET_SHIFT) as u32;
            while row + 1 < rows.len() && u32::from(rows[row + 1].pc) <= start {
                row += 1;
            }
            *index = row as u16;
        }
        self.memory.write(off, block.as_bytes());
        self.memory.write(off + head, rows.as_bytes());
        self.memory.write(off + rules_at, rules.as_bytes());
        self.memory.publish(off, file_id);
        // `take` may have evicted, but files stay: the directory is still there.
        let Some(file) = self.files.get_mut(&file_id) else {
            return false;
        };
        let replaced = std::mem::replace(&mut file.blocks[number as usize], off);
        let slot = file.off + size_of::<abi::hf_file>() as u32 + 4 * number;
        self.memory.publish(slot, off);
        self.stats.rows += rows.len() as u64;
        if replaced != 0
            && let Some(at) = self.blocks.iter().position(|block| block.off == replaced)
        {
            let old = self.blocks.swap_remove(at);
            self.rest(old.off, old.bytes);
        }
        self.blocks.push(Block {
            off,
            bytes: bytes.next_multiple_of(ALIGN_BYTES),
            file_id,
            number,
            used: true,
        });
        true
    }

    /// Memory is so full that blocks may have to go: it is worth knowing which are in use.
    pub fn is_pressed(&self) -> bool {
        self.stats.used_bytes * 4 > self.memory.len() * 3
    }

    /// Notes that a sample has frames in these blocks.
    pub fn mark_used(&mut self, is_used: impl Fn(u32, u32) -> bool) {
        for block in &mut self.blocks {
            block.used |= is_used(block.file_id, block.number);
        }
    }

    /// Writes a blob of mappings, sorted by start, without telling anybody of it.
    /// `moment_off` is the table of the runtime that is asked before a slice is sent; 0: none.
    pub fn add_blob(&mut self, mappings: &[abi::hf_mapping], moment_off: u32) -> Option<Blob> {
        let mappings = &mappings[..mappings.len().min(abi::HF_MAX_MAPPINGS as usize)];
        debug_assert!(mappings.is_sorted_by_key(|mapping| mapping.start));
        let head = size_of::<abi::hf_blob>() as u32;
        let bytes = head + size_of_val(mappings) as u32;
        let off = self.take(bytes)?;
        let id = self.next_blob_id;
        self.next_blob_id += 1;
        self.memory.write(off + head, mappings.as_bytes());
        self.memory.publish(off + 4, mappings.len() as u32);
        self.memory.publish(off + 8, moment_off);
        self.memory.publish(off, id);
        Some(Blob { off, id, bytes })
    }

    /// Tells the kernel half that a space has this blob now.
    pub fn post(&mut self, space_id: u32, blob: Blob) {
        if space_id != 0 {
            self.memory.post(abi::hf_letter {
                space_id,
                blob_off: blob.off,
                blob_id: blob.id,
                reserved: 0,
            });
        }
    }

    /// Adds a runtime's table. The bytes begin with the runtime's id, which is published last.
    pub fn add_table(&mut self, runtime: u32, bytes: &[u8]) -> Option<Table> {
        if bytes.len() < 4 || bytes.len() > abi::HF_RUNTIME_TABLE_MAX_BYTES as usize {
            self.stats.refused += 1;
            return None;
        }
        let len = bytes.len() as u32;
        let off = self.take(len)?;
        self.memory.publish(off, 0);
        self.memory.write(off + 4, &bytes[4..]);
        self.memory.publish(off, runtime);
        Some(Table { off, bytes: len })
    }

    /// Takes a runtime's table out.
    pub fn remove_table(&mut self, table: Table) {
        self.rest(table.off, table.bytes);
    }

    /// Frees a blob. Spaces that still have it are found stale and ask anew.
    pub fn remove_blob(&mut self, blob: Blob) {
        self.rest(blob.off, blob.bytes);
    }
}

/// Memory of our own, for tests and for walking recorded processes.
#[derive(Debug)]
pub struct OwnMemory(Vec<u8>);

impl OwnMemory {
    /// `bytes` of zeros.
    pub fn new(bytes: usize) -> OwnMemory {
        OwnMemory(vec![0; bytes])
    }
}

impl SharedMemory for OwnMemory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn as_raw(&self) -> (*const u8, u64) {
        (self.0.as_ptr(), self.0.len() as u64)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        self.0[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn publish(&mut self, offset: u32, value: u32) {
        self.write(offset, &value.to_ne_bytes());
    }

    fn post(&mut self, letter: abi::hf_letter) {
        let slot = letter.space_id & (abi::HF_MAILBOX_SLOTS - 1);
        let at = abi::HF_MAILBOX_OFF + slot * size_of::<abi::hf_letter>() as u32;
        self.write(at, letter.as_bytes());
    }

    fn wait_for_readers(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pc: u16) -> abi::hf_row {
        abi::hf_row { pc, kind: abi::HF_RULE_SP as u8, fp: 0, cfa: 8 }
    }

    /// Pieces freed next to each other can be taken as one again.
    #[test]
    fn space_joins_neighbours() {
        let mut space = Space::default();
        space.insert(0, 1024);
        let pieces: Vec<u32> = (0..16).map(|_| space.take(64).expect("room")).collect();
        assert_eq!(space.take(64), None);
        for at in pieces.into_iter().rev() {
            space.insert(at, 64);
        }
        assert_eq!(space.take(1024), Some(0));
    }

    /// A storm of blocks in little memory: what is said to be loaded is there, what was evicted
    /// is cleared, and memory never overflows.
    #[test]
    fn eviction_clears_what_it_takes() {
        let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
        for file_id in 1..=4 {
            tables.add_file(file_id, 1000).expect("room for a directory");
        }
        let rows: Vec<abi::hf_row> = (0..1000).map(|i| row(i * 64)).collect();
        for number in 0..1000 {
            assert!(tables.add_block(1 + number % 4, number, &rows, &[]));
        }
        let stats = tables.stats();
        assert!(stats.evictions > 800, "{stats:?}");
        assert!(stats.used_bytes <= 1 << 20);
        let loaded = (0..1000u32).filter(|n| tables.has_block(1 + n % 4, n << 16)).count();
        assert_eq!(loaded as u64, stats.blocks);
    }

    /// A block too large for a chunk, and memory without room, are refused and counted.
    #[test]
    fn what_does_not_fit_is_refused() {
        let mut tables = Tables::new(Box::new(OwnMemory::new(256 << 10)));
        tables.add_file(1, 4).expect("room");
        let rows: Vec<abi::hf_row> = (0..60000).map(row).collect();
        assert!(!tables.add_block(1, 0, &rows, &[]));
        assert!(tables.stats().refused > 0);
        assert!(tables.add_block(1, 0, &rows[..100], &[]));
    }
}
