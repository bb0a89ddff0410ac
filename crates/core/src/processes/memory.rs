//! Other processes' memory: all of it that this crate reads, it reads here.
//!
//! In: a pid and an address of that process. Out: all bytes that were asked for, or none.
//!
//! # Cost
//! Opening it: one system call, and another for each piece that is read.

/// The memory of a live process.
#[derive(Debug)]
pub struct Memory(std::fs::File);

impl Memory {
    /// Opens it (needs CAP_SYS_PTRACE for others' processes).
    pub fn open(pid: u32) -> Option<Memory> {
        std::fs::File::open(format!("/proc/{pid}/mem")).ok().map(Memory)
    }

    /// Fills `into` from `addr`; false if any byte cannot be read.
    pub fn read(&self, addr: u64, into: &mut [u8]) -> bool {
        use std::os::unix::fs::FileExt as _;
        self.0.read_exact_at(into, addr).is_ok()
    }
}
