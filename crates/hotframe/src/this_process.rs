//! hotframe as a process of its machine: its clock, cost, limits, priority and pid namespace.

use nix::time::{ClockId, clock_gettime};

pub(crate) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// User and system time of this process, in seconds.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    // Naming and writing happen in this process; the only child is the recorded command, which is
    // not ours.
    let own = getrusage(UsageWho::RUSAGE_SELF).ok();
    own.map_or((0.0, 0.0), |usage| {
        (
            usage.user_time().num_microseconds() as f64 / 1e6,
            usage.system_time().num_microseconds() as f64 / 1e6,
        )
    })
}

pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16), hard);
    }
}

/// Inode of our pid namespace; 0 for the initial one (PROC_PID_INIT_INO, proc_ns.h @ v6.12).
pub(crate) fn own_pid_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    const INITIAL: u64 = 0xEFFF_FFFC;
    std::fs::metadata("/proc/self/ns/pid")
        .ok()
        .map(|meta| meta.ino())
        .filter(|&inode| inode != INITIAL)
        .map_or(0, |inode| inode as u32)
}

/// A higher priority for as long as there is something to read: on a machine with a hundred
/// runnable tasks a reader that waits its turn loses samples. Naming and writing can wait.
pub(crate) struct Priority(bool);

impl Priority {
    const NICE: i32 = -10;

    /// Raises it, where that is allowed and nobody chose another.
    pub(crate) fn raise() -> Priority {
        use rustix::process::{getpriority_process, setpriority_process};
        let is_ours = getpriority_process(None) == Ok(0);
        Priority(is_ours && setpriority_process(None, Self::NICE).is_ok())
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if self.0 {
            let _ = rustix::process::setpriority_process(None, 0);
        }
    }
}
