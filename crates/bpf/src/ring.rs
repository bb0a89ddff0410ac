//! The BPF ring buffer's consumer.
//!
//! In: the ring that the kernel half writes without waking anybody. Out: records, in the order in
//! which they were reserved. [`Ring::producer`] is noted before the side-band is drained, then
//! [`Ring::drain`] goes no further than that, so that side-band records older than a sample are
//! known before it.
//!
//! Layout (kernel/bpf/ringbuf.c @ v6.12): a page with the consumer's position, a page with the
//! producer's, then the data, mapped twice in a row so that no record is broken. A record has a
//! header of two u32: length with BUSY (bit 31) and DISCARD (bit 30), and a page offset.

use crate::{Error, map::Mapped};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER_BYTES: u64 = 8;

/// The consumer's end of one ring.
#[derive(Debug)]
pub struct Ring {
    consumer: Mapped,
    producer: Mapped,
    mask: u64,
    page_bytes: usize,
    fd: OwnedFd,
}

impl Ring {
    /// Maps the ring of `bytes` (a power of two, as the map was made).
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: u32) -> Result<Ring, Error> {
        // SAFETY: sysconf has no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let owned = fd
            .try_clone_to_owned()
            .map_err(|cause| Error::Os { what: "keeping the ring's descriptor", cause })?;
        let fd = fd.as_raw_fd();
        let consumer = Mapped::new(fd, page_bytes, 0, true)?;
        let producer = Mapped::new(fd, page_bytes + 2 * bytes as usize, page_bytes as i64, false)?;
        let fd = owned;
        Ok(Ring { consumer, producer, mask: u64::from(bytes) - 1, page_bytes, fd })
    }

    /// Bytes written by the kernel half since the ring was made.
    pub fn producer(&self) -> u64 {
        // SAFETY: the first word of the producer's page, which the kernel alone writes.
        unsafe { &*self.producer.ptr().cast::<AtomicU64>() }.load(Ordering::Acquire)
    }

    /// The descriptor to poll: readable when the kernel half asked for attention, or when records
    /// lie there as the polling begins.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of kernel memory the ring takes.
    pub fn bytes(&self) -> usize {
        (self.mask + 1) as usize
    }

    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: the first word of the consumer's page, mapped writable as long as `self` lives.
        unsafe { &*self.consumer.ptr().cast::<AtomicU64>() }
    }

    /// Bytes not consumed yet.
    pub fn backlog_bytes(&self) -> u64 {
        self.producer().saturating_sub(self.consumer().load(Ordering::Relaxed))
    }

    /// Hands each record up to position `until` to `handle`; returns how many there were. Stops
    /// early at a record that is still being written.
    pub fn drain(&mut self, until: u64, mut handle: impl FnMut(&[u8])) -> usize {
        let mut n = 0;
        let mut at = self.consumer().load(Ordering::Relaxed);
        while at < until {
            // SAFETY: positions are 8-byte aligned offsets below the data's size; the data
            // starts a page after the producer's and is mapped twice in a row.
            let header =
                unsafe { self.producer.ptr().add(self.page_bytes + (at & self.mask) as usize) };
            // SAFETY: the header's first word is written by the kernel with release order.
            let len = unsafe { &*header.cast::<AtomicU32>() }.load(Ordering::Acquire);
            if len & BUSY != 0 {
                break;
            }
            let bytes = (len & !DISCARD) as usize;
            if len & DISCARD == 0 {
                debug_assert!(bytes as u64 <= self.mask);
                // SAFETY: the kernel wrote `bytes` after the header and does not touch them until
                // the consumer's position passes the record, which it does below; the slice
                // borrows `self` no longer than the call.
                handle(unsafe {
                    std::slice::from_raw_parts(header.add(HEADER_BYTES as usize), bytes)
                });
                n += 1;
            }
            at += (HEADER_BYTES + bytes as u64).next_multiple_of(8);
            self.consumer().store(at, Ordering::Release);
        }
        n
    }
}
