//! A process's memory, read from outside: the one reader that all runtimes share.
//!
//! In: addresses of a live process. Out: its bytes, in whole or not at all.
//!
//! # How it works
//! Objects of a runtime lie close together: a page that was read serves all further reads of it
//! until [`Memory::forget`]. Whoever resolves calls that before and after each group of frames that
//! are asked about together, so that no page from before their samples is believed. A batch of
//! reads is one system call. Where `process_vm_readv` is forbidden, `/proc/PID/mem` is tried; that
//! descriptor stays with the address space that it was opened for, and reads nothing after an exec.
//!
//! # Cost
//! One system call a page that is not cached, 2 µs where that page is cold; together with others,
//! half of that each. [`Memory::reads`] counts the calls.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt as _;

/// Bytes of a page of the cache. No matter the machine's own: it is what is read at once.
pub const PAGE_BYTES: u64 = 4096;
/// Pages kept until they are forgotten.
const PAGES_MAX: usize = 256;
/// Forgotten pages whose memory waits for the next ones, of all processes: 64 KiB.
const SPARE_MAX: usize = 16;
/// Longest single read that is served: what a runtime calls longer is not believed.
pub const READ_MAX_BYTES: usize = 1 << 24;
/// Regions of one call (`UIO_MAXIOV`, include/uapi/linux/uio.h @ v6.12).
const BATCH_MAX: usize = 1024;

type Page = Box<[u8; PAGE_BYTES as usize]>;
type Pages = HashMap<u64, Page, foldhash::fast::RandomState>;

thread_local! {
    /// Memory of forgotten pages: what is asked a few times a pass need not be zeroed each time.
    static SPARE: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) };
}

/// A page to read into; what is in it is of no meaning.
fn spare_page() -> Page {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new([0; PAGE_BYTES as usize]))
}

/// Keeps the memory of pages that are not needed any more.
fn spare(pages: impl Iterator<Item = Page>) {
    SPARE.with_borrow_mut(|spare| {
        let room = SPARE_MAX.saturating_sub(spare.len());
        spare.extend(pages.take(room));
    });
}

/// Reads a process's memory.
#[derive(Debug)]
pub struct Memory {
    pid: u32,
    file: Option<File>,
    pages: RefCell<Pages>,
    is_forbidden: Cell<bool>,
    reads: Cell<u64>,
    recorded: Option<Recorded>,
}

/// Bytes at addresses, instead of a process.
#[derive(Debug)]
struct Recorded {
    /// By address.
    pieces: Vec<(u64, Vec<u8>)>,
    /// What was read of them, in units of [`RECORDED_UNIT_BYTES`].
    touched: RefCell<BTreeSet<u64>>,
    /// Pages that a live process's cache would hold: they count as read once.
    cached: RefCell<BTreeSet<u64>>,
    /// The process is gone when so many system calls were made.
    ends_at: Cell<u64>,
}

/// Unit in which it is kept what was read of a recording.
pub const RECORDED_UNIT_BYTES: u64 = 64;

impl Recorded {
    /// Pieces that follow each other without a gap are read as one.
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(into.len() as u64) else { return false };
        let first = self
            .pieces
            .partition_point(|(start, bytes)| start.saturating_add(bytes.len() as u64) <= address);
        let mut at = address;
        for (start, bytes) in self.pieces.get(first..).unwrap_or_default() {
            if at >= end || *start > at {
                break;
            }
            let to = end.min(start.saturating_add(bytes.len() as u64));
            let source = bytes.get((at - start) as usize..(to - start) as usize);
            let target = into.get_mut((at - address) as usize..(to - address) as usize);
            let (Some(source), Some(target)) = (source, target) else { return false };
            target.copy_from_slice(source);
            at = to;
        }
        if at != end || into.is_empty() {
            return into.is_empty();
        }
        let units = address / RECORDED_UNIT_BYTES..=(end - 1) / RECORDED_UNIT_BYTES;
        self.touched.borrow_mut().extend(units);
        true
    }
}

impl Memory {
    /// Of a live process. Nothing is read.
    pub fn of(pid: u32) -> Memory {
        Memory {
            pid,
            file: File::open(format!("/proc/{pid}/mem")).ok(),
            pages: RefCell::default(),
            is_forbidden: Cell::new(false),
            reads: Cell::new(0),
            recorded: None,
        }
    }

    /// Of a recording: pieces by address. What they do not hold cannot be read.
    pub fn recorded(pieces: Vec<(u64, Vec<u8>)>) -> Memory {
        let mut pieces = pieces;
        pieces.sort_by_key(|(start, _)| *start);
        Memory {
            pid: 0,
            file: None,
            pages: RefCell::default(),
            is_forbidden: Cell::new(true),
            reads: Cell::new(0),
            recorded: Some(Recorded {
                pieces,
                touched: RefCell::default(),
                cached: RefCell::default(),
                ends_at: Cell::new(u64::MAX),
            }),
        }
    }

    /// The process of a recording ends when so many more system calls were made: those behind read
    /// nothing, as of a process that exits or runs another program.
    pub fn end_after(&self, reads: u64) {
        if let Some(recorded) = &self.recorded {
            recorded.ends_at.set(self.reads.get().saturating_add(reads));
        }
    }

    /// Is the process of a recording gone?
    fn has_ended(&self, recorded: &Recorded) -> bool {
        self.reads.get() > recorded.ends_at.get()
    }

    /// What was read of a recording so far: numbers of units of [`RECORDED_UNIT_BYTES`]. Nothing of
    /// a live process.
    pub fn touched(&self) -> BTreeSet<u64> {
        self.recorded.as_ref().map(|recorded| recorded.touched.borrow().clone()).unwrap_or_default()
    }

    /// System calls so far; of a recording, as many as a live process would have taken.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// What was read is read anew from here on.
    pub fn forget(&self) {
        spare(self.pages.borrow_mut().drain().map(|(_, page)| page));
        if let Some(recorded) = &self.recorded {
            recorded.cached.borrow_mut().clear();
        }
    }

    /// Fills `into` from `address`, by way of the cache. False if any byte cannot be read.
    #[must_use]
    pub fn read(&self, address: u64, into: &mut [u8]) -> bool {
        if into.len() as u64 > PAGE_BYTES {
            return into.len() <= READ_MAX_BYTES && self.read_fresh(address, into);
        }
        // A recording has no more than what was read, to the byte.
        if let Some(recorded) = &self.recorded {
            let last = address.saturating_add((into.len() as u64).saturating_sub(1));
            let mut cached = recorded.cached.borrow_mut();
            for page in address / PAGE_BYTES..=last / PAGE_BYTES {
                if cached.contains(&page) {
                    continue;
                }
                self.reads.set(self.reads.get() + 1);
                if self.has_ended(recorded) {
                    return false;
                }
                cached.insert(page);
            }
            return recorded.read(address, into);
        }
        let mut address = address;
        let mut rest = into;
        while !rest.is_empty() {
            let in_page = (address % PAGE_BYTES) as usize;
            let n = rest.len().min(PAGE_BYTES as usize - in_page);
            let (now, later) = rest.split_at_mut(n);
            if !self.read_in_page(address - in_page as u64, in_page, now) {
                return false;
            }
            rest = later;
            let Some(next) = address.checked_add(n as u64) else { return false };
            address = next;
        }
        true
    }

    fn read_in_page(&self, page: u64, at: usize, into: &mut [u8]) -> bool {
        let mut pages = self.pages.borrow_mut();
        if !pages.contains_key(&page) {
            if pages.len() >= PAGES_MAX {
                spare(pages.drain().map(|(_, page)| page));
            }
            let mut bytes = spare_page();
            if !self.read_fresh(page, &mut bytes[..]) {
                spare([bytes].into_iter());
                return false;
            }
            pages.insert(page, bytes);
        }
        match pages.get(&page).and_then(|bytes| bytes.get(at..at + into.len())) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Fills `into` from `address`, past the cache.
    #[must_use]
    pub fn read_fresh(&self, address: u64, into: &mut [u8]) -> bool {
        self.reads.set(self.reads.get() + 1);
        if let Some(recorded) = &self.recorded {
            return !self.has_ended(recorded) && recorded.read(address, into);
        }
        if !self.is_forbidden.get() {
            let len = into.len();
            let remote = [nix::sys::uio::RemoteIoVec { base: address as usize, len }];
            let pid = nix::unistd::Pid::from_raw(self.pid as i32);
            match nix::sys::uio::process_vm_readv(pid, &mut [IoSliceMut::new(into)], &remote) {
                Ok(n) => return n == len,
                Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {
                    self.is_forbidden.set(true);
                }
                Err(_) => return false,
            }
        }
        self.file.as_ref().is_some_and(|file| file.read_exact_at(into, address).is_ok())
    }

    /// Reads the pages of several addresses into the cache, those that are not there yet, in one
    /// system call. What cannot be read now fails when it is asked for.
    pub fn prefetch(&self, addresses: &[u64]) {
        if self.missing(addresses).len() > 1 {
            self.read_with_pages(&mut [], addresses);
        }
    }

    /// Those of the pages of addresses that are not in the cache; none where they have no room there.
    fn missing(&self, addresses: &[u64]) -> BTreeSet<u64> {
        let pages = addresses.iter().map(|address| address & !(PAGE_BYTES - 1));
        if let Some(recorded) = &self.recorded {
            let cached = recorded.cached.borrow();
            return pages.filter(|page| !cached.contains(&(page / PAGE_BYTES))).collect();
        }
        let kept = self.pages.borrow();
        let missing: BTreeSet<u64> = pages.filter(|page| !kept.contains_key(page)).collect();
        if kept.len() + missing.len() > PAGES_MAX { BTreeSet::new() } else { missing }
    }

    /// Reads several places past the cache, and the pages of several addresses into it, in one system
    /// call: true for each place that was filled.
    pub fn read_with_pages(&self, places: &mut [(u64, &mut [u8])], addresses: &[u64]) -> Vec<bool> {
        if let Some(recorded) = &self.recorded {
            let missing = self.missing(addresses);
            let done = self.read_batch(places);
            if !self.has_ended(recorded) {
                recorded.cached.borrow_mut().extend(missing.iter().map(|page| page / PAGE_BYTES));
            }
            return done;
        }
        let mut pages: Vec<(u64, Page)> =
            self.missing(addresses).into_iter().map(|page| (page, spare_page())).collect();
        let n = places.len();
        let mut all: Vec<(u64, &mut [u8])> = Vec::with_capacity(n + pages.len());
        all.extend(places.iter_mut().map(|(address, into)| (*address, &mut **into)));
        all.extend(pages.iter_mut().map(|(page, bytes)| (*page, &mut bytes[..])));
        let mut done = self.read_batch(&mut all);
        let mut is_filled = done.drain(n..);
        let mut kept = self.pages.borrow_mut();
        for (page, bytes) in pages {
            if is_filled.next() == Some(true) {
                kept.insert(page, bytes);
            } else {
                spare([bytes].into_iter());
            }
        }
        drop(is_filled);
        done
    }

    /// Reads several places in one system call: true for each that was filled. The kernel stops at
    /// the first that faults; it goes on behind it.
    pub fn read_batch(&self, places: &mut [(u64, &mut [u8])]) -> Vec<bool> {
        let mut done = vec![false; places.len()];
        if let Some(recorded) = &self.recorded {
            self.reads.set(self.reads.get() + 1);
            for (done, (address, into)) in done.iter_mut().zip(places) {
                *done = !self.has_ended(recorded) && recorded.read(*address, into);
            }
            return done;
        }
        if self.is_forbidden.get() {
            for (done, (address, into)) in done.iter_mut().zip(places) {
                *done = self.read_fresh(*address, into);
            }
            return done;
        }
        let pid = nix::unistd::Pid::from_raw(self.pid as i32);
        let mut from = 0;
        while from < places.len() {
            let to = places.len().min(from + BATCH_MAX);
            let batch = &mut places[from..to];
            let remote: Vec<_> = batch
                .iter()
                .map(|(address, into)| nix::sys::uio::RemoteIoVec {
                    base: *address as usize,
                    len: into.len(),
                })
                .collect();
            let mut local: Vec<_> =
                batch.iter_mut().map(|(_, into)| IoSliceMut::new(into)).collect();
            self.reads.set(self.reads.get() + 1);
            let mut got = match nix::sys::uio::process_vm_readv(pid, &mut local, &remote) {
                Ok(got) => got,
                Err(nix::errno::Errno::EFAULT) => 0,
                Err(_) => return done,
            };
            let mut n = 0;
            for (place, done) in batch.iter().zip(&mut done[from..to]) {
                if got < place.1.len() {
                    break;
                }
                got -= place.1.len();
                *done = true;
                n += 1;
            }
            // The one behind them faulted.
            from += n + usize::from(n < to - from);
        }
        done
    }

    /// Reads a little-endian word of 8 bytes.
    pub fn u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Reads 4 bytes.
    pub fn u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    /// Reads 2 bytes.
    pub fn u16(&self, address: u64) -> Option<u16> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes).then(|| u16::from_le_bytes(bytes))
    }

    /// Reads a byte.
    pub fn u8(&self, address: u64) -> Option<u8> {
        let mut bytes = [0; 1];
        self.read(address, &mut bytes).then_some(bytes[0])
    }

    /// Reads `len_bytes` at `address`; `None` also if that is more than `max_bytes`.
    pub fn bytes(&self, address: u64, len_bytes: u64, max_bytes: usize) -> Option<Vec<u8>> {
        let len = usize::try_from(len_bytes).ok().filter(|&len| len <= max_bytes)?;
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes).then_some(bytes)
    }

    /// Reads a text that ends with a NUL, of at most `max_bytes`; `None` if it does not end there.
    pub fn c_string(&self, address: u64, max_bytes: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut address = address;
        while text.len() < max_bytes {
            let n = (PAGE_BYTES - address % PAGE_BYTES).min((max_bytes - text.len()) as u64);
            let mut piece = vec![0; n as usize];
            if !self.read(address, &mut piece) {
                return None;
            }
            if let Some(end) = piece.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Some(text);
            }
            text.extend_from_slice(&piece);
            address = address.checked_add(n)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own memory reads as it is; what is not mapped does not, and the rest of a batch does.
    #[test]
    fn reads_what_is_there() {
        let text = b"something to be read\0".to_vec();
        let at = text.as_ptr() as u64;
        let memory = Memory::of(std::process::id());
        assert_eq!(memory.c_string(at, 100).as_deref(), Some(&text[..text.len() - 1]));
        assert_eq!(memory.u8(at), Some(b's'));
        assert_eq!(memory.u64(8), None);
        assert_eq!(memory.bytes(at, u64::MAX, 1 << 20), None);
        let (mut a, mut b, mut c) = ([0; 4], [0; 4], [0; 4]);
        let mut places = [(at, &mut a[..]), (8, &mut b[..]), (at + 4, &mut c[..])];
        assert_eq!(memory.read_batch(&mut places), [true, false, true]);
        assert_eq!((&a, &c), (b"some", b"thin"));
    }

    /// Of a recording what is there reads, across neighbouring pieces too, and is noted.
    #[test]
    fn recordings_read_what_they_hold() {
        let pieces = vec![(0x2000, vec![3; 8]), (0x1000, vec![1; 8]), (0x1008, vec![2; 8])];
        let memory = Memory::recorded(pieces);
        assert_eq!(memory.u64(0x1004), Some(0x0202_0202_0101_0101));
        assert_eq!(memory.u64(0x100c), None, "it ends there");
        assert_eq!(memory.u64(0xffc), None, "it begins behind");
        assert_eq!(memory.u64(u64::MAX - 3), None);
        assert_eq!(memory.touched().into_iter().collect::<Vec<_>>(), [0x1000 / 64]);
        assert_eq!(memory.u8(0x2007), Some(3));
        assert_eq!(memory.touched().into_iter().collect::<Vec<_>>(), [0x1000 / 64, 0x2000 / 64]);
    }

    /// Pages that are read together are one call, of a process and of a recording; what cannot be read
    /// fails when it is asked for.
    #[test]
    fn pages_are_read_together() {
        let bytes = vec![7u8; 3 * PAGE_BYTES as usize];
        let at = bytes.as_ptr() as u64;
        let recorded = Memory::recorded(vec![(at, bytes.clone())]);
        for memory in [Memory::of(std::process::id()), recorded] {
            memory.prefetch(&[at, at + PAGE_BYTES, at + 8]);
            assert_eq!(memory.reads(), 1);
            assert_eq!((memory.u8(at), memory.u8(at + PAGE_BYTES)), (Some(7), Some(7)));
            assert_eq!(memory.reads(), 1);
            memory.prefetch(&[at, at + PAGE_BYTES, at + 2 * PAGE_BYTES]);
            assert_eq!(memory.reads(), 1, "one page is no less by itself");
            assert_eq!(memory.u8(at + 2 * PAGE_BYTES), Some(7));
            assert_eq!(memory.reads(), 2);
            memory.prefetch(&[8, 8 + PAGE_BYTES]);
            assert_eq!(memory.u8(8), None);
            memory.forget();
            assert_eq!(memory.u8(at), Some(7));
        }
        let ended = Memory::recorded(vec![(at, bytes)]);
        ended.end_after(0);
        ended.prefetch(&[at, at + PAGE_BYTES]);
        assert_eq!(ended.u8(at), None);
    }

    /// A page is read once, and anew after it was forgotten.
    #[test]
    fn pages_are_kept_until_forgotten() {
        let value = std::sync::atomic::AtomicU64::new(1);
        let at = value.as_ptr() as u64;
        let memory = Memory::of(std::process::id());
        assert_eq!(memory.u64(at), Some(1));
        value.store(2, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(memory.u64(at), Some(1));
        memory.forget();
        assert_eq!(memory.u64(at), Some(2));
    }

    /// The memory of a forgotten page is another's next, and nothing of it shows where that cannot be
    /// read; no more than the bound is kept.
    #[test]
    fn forgotten_pages_serve_again() {
        let bytes = vec![7u8; (SPARE_MAX + 2) * PAGE_BYTES as usize];
        let memory = Memory::of(std::process::id());
        for page in bytes.chunks_exact(PAGE_BYTES as usize) {
            assert_eq!(memory.u8(page.as_ptr() as u64), Some(7));
        }
        memory.forget();
        assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX);
        assert_eq!(memory.u8(8), None);
        assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX, "one that could not be filled waits on");
        assert_eq!(memory.u8(bytes.as_ptr() as u64), Some(7));
        assert_eq!(SPARE.with_borrow(Vec::len), SPARE_MAX - 1);
    }
}
