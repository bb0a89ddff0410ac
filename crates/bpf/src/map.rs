//! One owner for mapped memory.

use crate::Error;
use std::os::fd::RawFd;

/// A mapping that is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapped {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and has no thread affinity; shared access goes
// through raw pointers whose users state their own reasons.
unsafe impl Send for Mapped {}

impl Mapped {
    pub(crate) fn new(fd: RawFd, len: usize, offset: i64, writable: bool) -> Result<Mapped, Error> {
        let prot = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        Mapped::with(fd, len, offset, prot, libc::MAP_SHARED)
    }

    /// Of a file that may only be read and by us alone.
    pub(crate) fn private(fd: RawFd, len: usize) -> Result<Mapped, Error> {
        Mapped::with(fd, len, 0, libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn with(fd: RawFd, len: usize, offset: i64, prot: i32, flags: i32) -> Result<Mapped, Error> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let ptr = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) };
        if ptr == libc::MAP_FAILED {
            return Err(Error::os("mapping memory shared with the kernel"));
        }
        Ok(Mapped { ptr: ptr.cast(), len })
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: ptr and len are those that mmap returned; nobody uses them after the drop.
        unsafe { libc::munmap(self.ptr.cast(), self.len) };
    }
}
