//! Perf events: the sampling clock and the side-band, one of each per CPU.
//!
//! In: a frequency and the loaded program. Out: ticks that run the program, and side-band rings.
//! The clock is a period of the software CPU clock, so that its count divided by the period is
//! the number of ticks that were due: the first line of the books. Idle ticks are let through and
//! counted by the program; leaving them to the kernel (`exclude_idle`) would keep them in the
//! event's count and out of the books.
//!
//! Sources: include/uapi/linux/perf_event.h, kernel/events/core.c @ v6.12.

use crate::{Error, map::Mapped};
use perf_event_open_sys::{bindings as sys, ioctls, perf_event_open};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

fn open(attr: &mut sys::perf_event_attr, cpu: u32) -> Result<OwnedFd, Error> {
    attr.size = size_of::<sys::perf_event_attr>() as u32;
    // SAFETY: attr is a whole structure of the size it states.
    let fd = unsafe { perf_event_open(attr, -1, cpu as i32, -1, sys::PERF_FLAG_FD_CLOEXEC as u64) };
    if fd < 0 {
        return Err(Error::PerfOpen { cpu, cause: std::io::Error::last_os_error() });
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The sampling clock of one CPU.
#[derive(Debug)]
pub struct Clock {
    /// Logical CPU.
    pub cpu: u32,
    fd: OwnedFd,
}

impl Clock {
    /// Opens the clock, stopped, with `program` to run at each tick.
    pub fn open(cpu: u32, period_ns: u64, program: RawFd) -> Result<Clock, Error> {
        let mut attr = sys::perf_event_attr {
            type_: sys::PERF_TYPE_SOFTWARE,
            config: u64::from(sys::PERF_COUNT_SW_CPU_CLOCK),
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_period = period_ns;
        attr.set_disabled(1);
        let fd = open(&mut attr, cpu)?;
        // SAFETY: both descriptors are open; the ioctl takes the program's by value.
        if unsafe { ioctls::SET_BPF(fd.as_raw_fd(), program as u32) } < 0 {
            return Err(Error::os("attaching the program to a perf event"));
        }
        Ok(Clock { cpu, fd })
    }

    /// Starts ticking.
    pub fn enable(&self) -> Result<(), Error> {
        // SAFETY: an open perf event; the ioctl takes no pointer.
        if unsafe { ioctls::ENABLE(self.fd.as_raw_fd(), 0) } < 0 {
            return Err(Error::os("starting a perf event"));
        }
        Ok(())
    }

    /// Stops ticking; the count stays.
    pub fn disable(&self) {
        // SAFETY: as above. A failure means that the event is gone with its CPU.
        unsafe { ioctls::DISABLE(self.fd.as_raw_fd(), 0) };
    }

    /// Nanoseconds of the CPU clock since it was started.
    pub fn count_ns(&self) -> u64 {
        let mut count = 0u64;
        // SAFETY: eight bytes of a live u64; read_format 0 gives exactly those.
        let n =
            unsafe { libc::read(self.fd.as_raw_fd(), std::ptr::from_mut(&mut count).cast(), 8) };
        if n == 8 { count } else { 0 }
    }
}

/// The side-band ring of one CPU: mappings, exec, fork, exit, kernel symbols.
#[derive(Debug)]
pub struct SidebandRing {
    fd: OwnedFd,
    mapped: Mapped,
    data_bytes: usize,
    page_bytes: usize,
    scratch: Vec<u8>,
}

impl SidebandRing {
    /// Opens the ring of a CPU with 2^n `pages`; it wakes a poller after `watermark_bytes`.
    pub fn open(cpu: u32, pages: usize, watermark_bytes: u32) -> Result<SidebandRing, Error> {
        let mut attr = sys::perf_event_attr {
            type_: sys::PERF_TYPE_SOFTWARE,
            config: u64::from(sys::PERF_COUNT_SW_DUMMY),
            sample_type: u64::from(
                sys::PERF_SAMPLE_TID | sys::PERF_SAMPLE_TIME | sys::PERF_SAMPLE_CPU,
            ),
            clockid: libc::CLOCK_MONOTONIC,
            ..Default::default()
        };
        attr.__bindgen_anon_2.wakeup_watermark = watermark_bytes;
        attr.set_watermark(1);
        attr.set_use_clockid(1);
        attr.set_sample_id_all(1);
        attr.set_mmap(1);
        attr.set_mmap2(1);
        attr.set_build_id(1);
        attr.set_comm(1);
        attr.set_comm_exec(1);
        attr.set_task(1);
        attr.set_ksymbol(1);
        attr.set_exclude_kernel(1);
        let fd = open(&mut attr, cpu)?;
        // SAFETY: sysconf has no preconditions.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mapped = Mapped::new(fd.as_raw_fd(), (1 + pages) * page_bytes, 0, true)?;
        Ok(SidebandRing {
            fd,
            mapped,
            data_bytes: pages * page_bytes,
            page_bytes,
            scratch: Vec::new(),
        })
    }

    /// The descriptor to poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of kernel memory the ring takes.
    pub fn bytes(&self) -> usize {
        self.mapped.len()
    }

    /// Hands each record written so far to `handle`, header included.
    pub fn drain(&mut self, mut handle: impl FnMut(&[u8])) {
        let page = self.mapped.ptr().cast::<sys::perf_event_mmap_page>();
        // SAFETY: the first page of the mapping is the control page; head is written by the
        // kernel, tail by us, both as whole words.
        let (head, tail) = unsafe {
            (
                &*std::ptr::addr_of!((*page).data_head).cast::<AtomicU64>(),
                &*std::ptr::addr_of!((*page).data_tail).cast::<AtomicU64>(),
            )
        };
        let until = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        while at < until {
            let size = usize::from(u16::from_ne_bytes(self.copy(at + 6)));
            if size < 8 || at + size as u64 > until {
                break; // cannot be: the kernel writes whole records
            }
            self.scratch.resize(size, 0);
            let from = (at % self.data_bytes as u64) as usize;
            let first = size.min(self.data_bytes - from);
            // SAFETY: both ranges are inside the data pages, which follow the control page; the
            // kernel leaves them alone until tail passes them.
            unsafe {
                let data = self.mapped.ptr().add(self.page_bytes);
                std::ptr::copy_nonoverlapping(data.add(from), self.scratch.as_mut_ptr(), first);
                std::ptr::copy_nonoverlapping(
                    data,
                    self.scratch.as_mut_ptr().add(first),
                    size - first,
                );
            }
            handle(&self.scratch);
            at += size as u64;
        }
        tail.store(at, Ordering::Release);
    }

    /// Two bytes at a position; records are 8-byte aligned, so they are never broken.
    fn copy(&self, at: u64) -> [u8; 2] {
        let from = (at % self.data_bytes as u64) as usize;
        // SAFETY: inside the data pages, and aligned as said.
        unsafe { *self.mapped.ptr().add(self.page_bytes + from).cast::<[u8; 2]>() }
    }
}

/// The CPUs that are online, from `/sys/devices/system/cpu/online` (`0-3,8`).
pub fn online_cpus() -> Result<Vec<u32>, Error> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")
        .map_err(|cause| Error::Os { what: "reading /sys/devices/system/cpu/online", cause })?;
    Ok(parse_cpus(&text))
}

fn parse_cpus(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
            cpus.extend(from..=to.min(from.saturating_add(65535)));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    /// CPU lists as the kernel prints them.
    #[test]
    fn cpu_lists() {
        assert_eq!(super::parse_cpus("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(super::parse_cpus("0\n"), [0]);
        assert_eq!(super::parse_cpus("\n"), [] as [u32; 0]);
    }
}
