//! Signals that end a program from outside, read and not taken: what was recorded is written, and the
//! terminal is given back as it was. To be blocked before any thread starts, as each inherits it.

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks Ctrl-C, termination and hang-up, and these as well.
pub fn block(more: &[Signal]) -> anyhow::Result<SigSet> {
    let ending = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let set = ending.iter().chain(more).copied().collect::<SigSet>();
    set.thread_block().context("blocking signals")?;
    Ok(set)
}

/// The same; they come by this descriptor from here on, which waits for none.
pub fn descriptor(more: &[Signal]) -> anyhow::Result<SignalFd> {
    SignalFd::with_flags(&block(more)?, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("opening a signal descriptor")
}
