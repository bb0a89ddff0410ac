//! A global allocator that counts live bytes by owner, code of other crates included.
//!
//! In: every allocation of the program, and the tag that its thread carries at that moment. Out:
//! bytes held by each tag, and in all, with the highest.
//!
//! # How it works
//! [`Counting`] hands each request to the system's allocator with one byte more, at its end, where
//! the tag stands. Freeing reads it, so that a block is booked off the tag that took it, whichever
//! thread frees it. Counted are the bytes asked for and the tag's byte, not the system allocator's
//! own overhead.
//!
//! ```
//! use hotframe_alloc::{Counting, Tag};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//! const SYMBOLS: Tag = Tag::new(1);
//!
//! let symbols = SYMBOLS.of(|| vec![0u8; 1000]);
//! assert_eq!(SYMBOLS.live_bytes(), 1001);
//! drop(symbols);
//! assert_eq!(SYMBOLS.live_bytes(), 0);
//! ```
//!
//! # Cost
//! Two relaxed atomic additions to allocate and to free, and one byte a block.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many tags there are; 0 is what carries no other.
pub const N_TAGS: usize = 32;

static LIVE: [AtomicU64; N_TAGS] = [const { AtomicU64::new(0) }; N_TAGS];
static TOTAL: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Const-initialised and without a destructor: usable inside an allocator at any time.
    static CURRENT: Cell<u8> = const { Cell::new(0) };
}

/// An owner of memory, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(u8);

impl Tag {
    /// The tag of a number below [`N_TAGS`]; higher ones share the last.
    pub const fn new(number: u8) -> Tag {
        Tag(if (number as usize) < N_TAGS { number } else { N_TAGS as u8 - 1 })
    }

    /// Runs `work` with this tag on the thread; what it allocates is this owner's until freed.
    pub fn of<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restore(u8);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self.0));
        work()
    }

    /// Bytes that this owner holds.
    pub fn live_bytes(self) -> u64 {
        LIVE[usize::from(self.0)].load(Relaxed)
    }
}

/// Bytes that all owners hold.
pub fn total_bytes() -> u64 {
    TOTAL.load(Relaxed)
}

/// The most bytes held at once since the program began or [`reset_peak`].
pub fn peak_bytes() -> u64 {
    PEAK.load(Relaxed)
}

/// Lets the peak begin anew at what is held now.
pub fn reset_peak() {
    PEAK.store(TOTAL.load(Relaxed), Relaxed);
}

/// Bytes of a block from which on the system's allocator maps it for itself, and of free heap at
/// its end that it gives back: its own first values.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 << 10;

/// Makes the system's allocator give memory back that is freed. By itself it raises both limits to
/// tens of megabytes as soon as one large block was freed (mallopt(3), `M_MMAP_THRESHOLD`), and
/// keeps an arena for each thread. To be called before there are threads.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: these calls take no pointers.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives back what is free of the heap: to be called after a stage of work that freed much.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the call takes no pointers.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// The allocator. See the crate's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

/// The layout to ask the system for: one byte more.
fn tagged(layout: Layout) -> Option<Layout> {
    Layout::from_size_align(layout.size().checked_add(1)?, layout.align()).ok()
}

fn book_on(tag: u8, bytes: usize) {
    LIVE[usize::from(tag) % N_TAGS].fetch_add(bytes as u64, Relaxed);
    let total = TOTAL.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    if total > PEAK.load(Relaxed) {
        PEAK.fetch_max(total, Relaxed);
    }
}

fn book_off(tag: u8, bytes: usize) {
    LIVE[usize::from(tag) % N_TAGS].fetch_sub(bytes as u64, Relaxed);
    TOTAL.fetch_sub(bytes as u64, Relaxed);
}

/// Takes a block and writes the thread's tag behind it.
///
/// # Safety
/// `allocate` returns null or a block that is valid for the layout that it is given.
unsafe fn take(layout: Layout, allocate: unsafe fn(&System, Layout) -> *mut u8) -> *mut u8 {
    let Some(larger) = tagged(layout) else { return std::ptr::null_mut() };
    // SAFETY: the size is at least 1.
    let block = unsafe { allocate(&System, larger) };
    if !block.is_null() {
        // A thread that is being torn down has no tag any more: what it takes is nobody's.
        let tag = CURRENT.try_with(Cell::get).unwrap_or(0);
        // SAFETY: the block has `size + 1` bytes.
        unsafe { block.add(layout.size()).write(tag) };
        book_on(tag, larger.size());
    }
    block
}

// SAFETY: every request goes to `System` with the same alignment and one byte more, consistently
// for taking, moving and freeing; that byte is behind what the caller may touch.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `System::alloc` is what `take` asks for.
        unsafe { take(layout, System::alloc) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `System::alloc_zeroed` is what `take` asks for.
        unsafe { take(layout, System::alloc_zeroed) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(larger) = tagged(layout) else { return };
        // SAFETY: `block` came from `take` with this layout: its tag is behind its last byte, and
        // `larger` is what the system was asked for.
        unsafe {
            book_off(block.add(layout.size()).read(), larger.size());
            System.dealloc(block, larger);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(larger), Some(new_larger)) = (tagged(layout), new_size.checked_add(1)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: as for `dealloc`; the caller vouches that `new_size`, rounded up to the
        // alignment, does not overflow, and one byte more is checked by the system's own limit of
        // isize::MAX on what it returns.
        unsafe {
            let tag = block.add(layout.size()).read();
            if Layout::from_size_align(new_larger, layout.align()).is_err() {
                return std::ptr::null_mut();
            }
            let moved = System.realloc(block, larger, new_larger);
            if !moved.is_null() {
                moved.add(new_size).write(tag);
                book_off(tag, larger.size());
                book_on(tag, new_larger);
            }
            moved
        }
    }
}
