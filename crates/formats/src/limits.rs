//! How much a reader takes from a file before it says that the file is too large.

/// Bounds of one read. They hold memory below about three times `bytes` plus 64 bytes a stack
/// node and 32 a sample.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the file, decompressed.
    pub bytes: usize,
    /// Entries of each table of a file.
    pub table_entries: usize,
    /// Distinct stack nodes.
    pub stack_nodes: usize,
    /// Frames of all stacks together, counted at each mention: bounds the time.
    pub frame_mentions: u64,
    /// Rows of the sample table.
    pub samples: usize,
}

impl Default for Limits {
    /// Room for an hour of a busy 100-core machine, and for no zip bomb.
    fn default() -> Limits {
        Limits {
            bytes: 512 << 20,
            table_entries: 8 << 20,
            stack_nodes: 16 << 20,
            frame_mentions: 1 << 30,
            samples: 64 << 20,
        }
    }
}
