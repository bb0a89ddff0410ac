//! Waiting for the kernel half and taking what it has: the part of recording that `record` and `top` share.
//!
//! In: the loaded kernel half and its ring. Out: a [`Session`] that has gone through everything up to the last
//! pass. A pass takes all side-band records first, then the ring up to where it stood before them.

use crate::this_process::now_ns;
use hotframe_bpf::Kernel;
use hotframe_bpf::ring::Ring;
use hotframe_core::processes::goes_on;
use hotframe_core::session::Session;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Between two passes when nothing wakes the reader: side-band records and slices do.
pub const PASS: Duration = Duration::from_millis(100);
/// And when the last pass had nothing to do: a sample of known code can wait, and whatever else comes
/// wakes the reader.
const IDLE_PASS: Duration = Duration::from_millis(500);
/// The next pass after mappings changed.
const SETTLING: Duration = Duration::from_millis(2);
/// What sampling waits for at most while [`Sampler::expect`] attaches to what it will meet.
const EXPECTING: Duration = Duration::from_millis(200);
/// A pass that takes longer is worth a line for whoever looks: meanwhile the ring fills.
const LONG_PASS_NS: u64 = 50_000_000;

/// See the module's documentation.
pub struct Sampler {
    pub kernel: Kernel,
    pub ring: Ring,
    pub session: Session,
    /// The last pass found nothing.
    is_idle: bool,
}

impl Sampler {
    pub fn new(kernel: Kernel, ring: Ring, session: Session) -> Sampler {
        Sampler { kernel, ring, session, is_idle: false }
    }

    /// Before sampling begins: gets ready for processes that are to be sampled.
    pub fn expect(&mut self, pids: &BTreeSet<u32>) {
        self.session.expect(pids, now_ns(), Instant::now() + EXPECTING);
        enable_runtimes(&mut self.kernel, &mut self.session);
    }

    /// Time to the next pass, if nothing calls for it before.
    pub fn pause(&self) -> Duration {
        let most = if self.session.is_behind() {
            return Duration::ZERO;
        } else if self.session.is_settling {
            SETTLING
        } else if self.is_idle {
            IDLE_PASS
        } else {
            PASS
        };
        // What is due already was looked at just now, as far as it can be.
        let look = Duration::from_nanos(self.session.look_at_ns.saturating_sub(now_ns()));
        most.min(look.max(SETTLING))
    }

    /// Waits for records, for `other` to be readable, or the time. True: `other` is.
    pub fn wait(&mut self, time: Duration, other: Option<BorrowedFd<'_>>) -> nix::Result<bool> {
        let sidebands = self.kernel.sidebands().iter().map(|ring| ring.as_fd());
        let fds = other.into_iter().chain([self.ring.as_fd()]).chain(sidebands);
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Less than a millisecond is one, so that the last one before the end is not spun away.
        let wait_ms = if time.is_zero() { 0 } else { time.as_millis().max(1) };
        let timeout = PollTimeout::try_from(wait_ms).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(cause) => return Err(cause),
        }
        let is_readable =
            |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
        Ok(other.is_some() && fds.first().is_some_and(is_readable))
    }

    /// One pass. What is left when `patience` is over waits for the next one; `None`: nothing waits.
    pub fn pass(&mut self, patience: Option<Duration>) {
        let until = self.ring.producer();
        let began_ns = now_ns();
        let backlog_bytes = self.ring.backlog_bytes();
        let session = &mut self.session;
        self.is_idle = backlog_bytes == 0;
        for ring in self.kernel.sidebands() {
            ring.drain(|record| {
                self.is_idle = false;
                session.sideband(record);
            });
        }
        self.ring.drain(until, |record| session.record(record));
        session.end_pass(now_ns(), patience);
        // Names that are asked for do not wait for samples.
        self.is_idle &= session.recording.store.n_pending() == 0;
        enable_runtimes(&mut self.kernel, session);
        let took_ns = now_ns() - began_ns;
        if took_ns > LONG_PASS_NS {
            tracing::debug!(took_ns, backlog_bytes, "a long pass");
        }
    }

    /// Processes that ended since this was last asked, which the pid filter forgets. One that goes on without
    /// its first thread did not.
    pub fn take_ended(&mut self) -> Vec<u32> {
        let (kernel, session) = (&self.kernel, &mut self.session);
        let mut ended = std::mem::take(&mut session.exited);
        ended.retain(|&pid| {
            if !kernel.has_pid(pid) {
                return true;
            }
            let ends = !goes_on(pid);
            if ends {
                kernel.remove_pid(pid);
            }
            ends
        });
        ended
    }
}

/// Gives the kernel half the steps of runtimes that a process began to need. One that the kernel
/// refuses is said once; stacks go on natively.
fn enable_runtimes(kernel: &mut Kernel, session: &mut Session) {
    let wanted = session.runtimes.wanted() & !kernel.refused_runtimes();
    if wanted & !kernel.runtimes() != 0
        && let Err(why) = kernel.enable_runtimes(wanted)
    {
        crate::messages::line(format_args!(
            "hotframe: a runtime's frames are missing: {}",
            why.chain()
        ));
        session.runtimes.refuse(kernel.refused_runtimes());
    }
}
