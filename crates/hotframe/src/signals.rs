//! Signals that end a program from outside, read and not taken: what was recorded is written, and the
//! terminal is given back as it was. To be blocked before any thread starts, as each inherits it.

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks Ctrl-C, termination and hang-up, and these as well. A hang-up that is ignored stays so: that is
/// what nohup asks for. Shells let programs in the background ignore Ctrl-C, and there it is sent on
/// purpose.
pub fn block(more: &[Signal]) -> anyhow::Result<SigSet> {
    let ending = [Signal::SIGINT, Signal::SIGTERM];
    let hang_up = (!is_ignored(Signal::SIGHUP)).then_some(Signal::SIGHUP);
    let set = ending.iter().chain(&hang_up).chain(more).copied().collect::<SigSet>();
    set.thread_block().context("blocking signals")?;
    Ok(set)
}

/// A limit of the size of files is an error of whoever writes, and not the end of all: what else there is
/// is written, and nothing is left half. The signal stays blocked, which nothing that we start inherits.
pub fn outlast_file_limit() -> anyhow::Result<()> {
    SigSet::from(Signal::SIGXFSZ).thread_block().context("blocking a signal")
}

/// By `SigIgn` of proc_pid_status(5), a mask whose lowest bit is signal 1.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

/// The same; they come by this descriptor from here on, which waits for none.
pub fn descriptor(more: &[Signal]) -> anyhow::Result<SignalFd> {
    SignalFd::with_flags(&block(more)?, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("opening a signal descriptor")
}
