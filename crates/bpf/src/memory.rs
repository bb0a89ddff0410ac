//! "Memory": the region shared with the kernel half, an arena or the values of an array map.
//!
//! In: bytes at offsets, from `core::tables`, which alone decides what lies where. Out: what the
//! kernel half and the native walk read. Both may read while user space writes: tables are
//! written whole before the word that publishes them, and that word is stored with release order.

use hotframe_abi as abi;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The region. It lives as long as the map that it belongs to.
#[derive(Debug)]
pub struct Memory {
    base: *mut u8,
    bytes: u64,
    /// Keeps an array's mapping; an arena is mapped by libbpf.
    _mapped: Option<crate::map::Mapped>,
    kind: &'static str,
}

// SAFETY: the region is plain shared memory without thread affinity; all writes go through
// `&mut self`, and readers (kernel half, native walk) check what they read.
unsafe impl Send for Memory {}

impl Memory {
    /// `base` must point to `bytes` bytes that stay mapped and writable while this value lives.
    pub(crate) fn new(
        base: *mut u8,
        bytes: u64,
        mapped: Option<crate::map::Mapped>,
        kind: &'static str,
    ) -> Memory {
        Memory { base, bytes, _mapped: mapped, kind }
    }

    /// `arena` or `array`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl abi::SharedMemory for Memory {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn as_raw(&self) -> (*const u8, u64) {
        (self.base, self.bytes)
    }

    /// # Panics
    /// If the range is not inside: offsets come from our own allocator.
    fn write(&mut self, offset: u32, bytes: &[u8]) {
        assert!(u64::from(offset) + bytes.len() as u64 <= self.bytes);
        // SAFETY: in range by the assertion; the source is a Rust slice outside of the region.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.base.add(offset as usize),
                bytes.len(),
            );
        }
    }

    /// # Panics
    /// If the word is not inside or not aligned.
    fn publish(&mut self, offset: u32, value: u32) {
        assert!(offset.is_multiple_of(4) && u64::from(offset) + 4 <= self.bytes);
        // SAFETY: aligned and in range by the assertion.
        unsafe { &*self.base.add(offset as usize).cast::<AtomicU32>() }
            .store(value, Ordering::Release);
    }

    fn post(&mut self, letter: abi::hf_letter) {
        let slot = letter.space_id & (abi::HF_MAILBOX_SLOTS - 1);
        let at = abi::HF_MAILBOX_OFF + slot * size_of::<abi::hf_letter>() as u32;
        self.publish(at, 0);
        fence(Ordering::SeqCst);
        self.publish(at + 4, letter.blob_off);
        self.publish(at + 8, letter.blob_id);
        self.publish(at, letter.space_id);
    }

    /// `membarrier(GLOBAL)` is an RCU grace period (kernel/sched/membarrier.c), and programs run
    /// inside of RCU's read side.
    fn wait_for_readers(&mut self) {
        // SAFETY: the call takes no pointers.
        let failed =
            unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
        if failed != 0 {
            // Only where CPUs run without ticks (nohz_full): no walk takes so long.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
