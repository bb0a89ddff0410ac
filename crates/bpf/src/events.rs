//! Perf events: the sampling clock and the side-band, one of each per CPU.
//!
//! In: a frequency and the loaded program. Out: ticks that run the program, and side-band rings.
//! The clock is a period of the software CPU clock, so that its count divided by the period is
//! the number of ticks that were due: the first line of the books. Idle ticks are let through and
//! counted by the program; leaving them to the kernel (`exclude_idle`) would keep them in the
//! event's count and out of the books.
//!
//! A CPU that stands idle may not get its timer at all: a hypervisor that parks it lets the ticks pass
//! (each late one moves the timer over all that went by, hrtimer_forward_now in
//! perf_swevent_hrtimer). They are in the event's count, and no program ran. [`ticks_halted`]
//! finds them by the idle time that the kernel accounts to the CPU. That does not hold what the idle
//! task itself does, when an interrupt wakes it and on its way in and out: some microseconds each time,
//! a tenth of it where a CPU wakes thousands of times a second. So the program counts, at each late
//! tick, those passed over that were due before the task arrived that it hits, if the idle task has run
//! since the tick before. What a late tick hits tells nothing: of 757 that a halted CPU passed over,
//! none was made up for in the idle task.
//!
//! Sources: include/uapi/linux/perf_event.h, kernel/events/core.c, fs/proc/stat.c @ v6.12.

use crate::{Error, map::Mapped};
use perf_event_open_sys::{bindings as sys, ioctls, perf_event_open};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;
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

/// The CPUs that are online.
pub fn online_cpus() -> Result<Vec<u32>, Error> {
    OnlineCpus::open()?.read()
}

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// [`ONLINE`] (`0-3,8`), kept open: opening it takes longer than reading.
#[derive(Debug)]
pub struct OnlineCpus(File);

impl OnlineCpus {
    /// Opens it.
    pub fn open() -> Result<OnlineCpus, Error> {
        let what = "opening the list of CPUs that are online";
        Ok(OnlineCpus(File::open(ONLINE).map_err(|cause| Error::Os { what, cause })?))
    }

    /// The CPUs that are online now.
    pub fn read(&self) -> Result<Vec<u32>, Error> {
        // A page is the most that an attribute holds: fs/sysfs/file.c @ v6.12.
        let mut text = [0; 4096];
        let n = self
            .0
            .read_at(&mut text, 0)
            .map_err(|cause| Error::Os { what: "reading the CPUs that are online", cause })?;
        Ok(parse_cpus(&String::from_utf8_lossy(text.get(..n).unwrap_or_default())))
    }
}

/// The number of CPUs that may ever come online: so many parts the kernel's per-CPU maps have.
pub fn n_possible_cpus() -> Result<usize, Error> {
    libbpf_rs::num_possible_cpus().map_err(crate::kernel::bpf("counting the possible CPUs"))
}

/// Nanoseconds that each online CPU has been idle since boot, in steps of a clock tick (10 ms): the
/// fourth and fifth column of `/proc/stat`, idle and idle with a disk request under way.
pub fn idle_ns() -> Result<HashMap<u32, u64>, Error> {
    let text = std::fs::read_to_string("/proc/stat")
        .map_err(|cause| Error::Os { what: "reading /proc/stat", cause })?;
    Ok(parse_idle(&text, clock_tick_ns()))
}

/// The unit of `/proc/stat`, in nanoseconds.
pub fn clock_tick_ns() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(hz).unwrap_or(0).max(1)
}

fn parse_idle(text: &str, tick_ns: u64) -> HashMap<u32, u64> {
    let of_line = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu = fields.next()?.parse().ok()?;
        let mut fields = fields.skip(3).map(|field| field.parse::<u64>().unwrap_or(0));
        let idle = fields.next()?.saturating_add(fields.next().unwrap_or(0));
        Some((cpu, idle.saturating_mul(tick_ns)))
    };
    // The first line is the sum of all and has no number.
    text.lines().skip(1).map_while(of_line).collect()
}

/// One CPU's part of the books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// Ticks that were due.
    pub expected: u64,
    /// Ticks that ran the program.
    pub ran: u64,
    /// Of those, the ones that hit the idle task.
    pub ran_idle: u64,
    /// Idle time while the clock ran, as [`idle_ns`] has it.
    pub idle_ns: u64,
    /// Ticks that late ones passed over while the CPU stood idle, as the program knows it.
    pub passed_over: u64,
}

/// Ticks that were due while a CPU stood idle and that never ran the program: as many idle ticks
/// as its idle time says and did not run, or as late ticks passed over, at most as many as are missing.
/// Idle time is known to one clock tick: a difference within it says nothing, and one beyond it takes
/// what lies within along.
pub fn ticks_halted(ticks: CpuTicks, period_ns: u64, clock_tick_ns: u64) -> u64 {
    let resolution = clock_tick_ns.div_ceil(period_ns.max(1));
    let missing = ticks.expected.saturating_sub(ticks.ran);
    let not_run = (ticks.idle_ns / period_ns.max(1)).saturating_sub(ticks.ran_idle);
    let by_time = if not_run > resolution { not_run + resolution } else { 0 };
    missing.min(by_time.max(ticks.passed_over))
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
    use super::{CpuTicks, parse_idle, ticks_halted};

    /// Idle time of each CPU, iowait included, as the kernel prints it; a CPU that is off has no line.
    #[test]
    fn idle_times() {
        let text = "cpu  30 0 9 1200 7 0 0 0 0 0\n\
                    cpu0 10 0 3 1000 5 0 0 0 0 0\n\
                    cpu2 20 0 6 200 2 0 0 0 0 0\n\
                    intr 77 0 0\n";
        let idle = parse_idle(text, 10_000_000);
        assert_eq!(idle.len(), 2);
        assert_eq!((idle[&0], idle[&2]), (10_050_000_000, 2_020_000_000));
        assert!(parse_idle("", 1).is_empty());
        assert!(parse_idle("cpu\ncpu0 1\ncpu1 x", 1).is_empty());
    }

    /// Ticks of a parked CPU are idle ones; a busy CPU's are missing, whatever the rounding of its
    /// idle time.
    #[test]
    fn halted_ticks() {
        let passing = |expected, ran, ran_idle, idle_ms: u64, passed_over| {
            let idle_ns = idle_ms * 1_000_000;
            let ticks = CpuTicks { expected, ran, ran_idle, idle_ns, passed_over };
            ticks_halted(ticks, 10_000_000, 10_000_000)
        };
        let halted =
            |expected, ran, ran_idle, idle_ms| passing(expected, ran, ran_idle, idle_ms, 0);
        assert_eq!(halted(300, 0, 0, 2990), 300);
        assert_eq!(halted(300, 300, 300, 3000), 0);
        assert_eq!(halted(300, 100, 0, 2000), 200);
        // Two thirds busy: those ticks are missed.
        assert_eq!(halted(300, 0, 0, 1000), 101);
        // Never idle: nothing of it is halted, within the resolution either.
        assert_eq!(halted(300, 200, 0, 0), 0);
        assert_eq!(halted(300, 200, 0, 10), 0);
        // What the idle task did on its way is no idle time: late ticks tell of it.
        assert_eq!(halted(1000, 780, 200, 4000), 201);
        assert_eq!(passing(1000, 780, 200, 4000, 215), 215);
        assert_eq!(passing(1000, 780, 200, 4000, 300), 220);
    }

    /// CPU lists as the kernel prints them.
    #[test]
    fn cpu_lists() {
        assert_eq!(super::parse_cpus("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(super::parse_cpus("0\n"), [0]);
        assert_eq!(super::parse_cpus("\n"), [] as [u32; 0]);
    }
}
