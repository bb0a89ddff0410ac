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
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let ptr =
            unsafe { libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, fd, offset) };
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
