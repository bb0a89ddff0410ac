//! When something that was in vain is tried again.

/// It is due at a time; the wait after a try doubles, from `MIN_NS` to `MAX_NS`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry<const MIN_NS: u64, const MAX_NS: u64> {
    at_ns: u64,
    wait_ns: u64,
}

impl<const MIN_NS: u64, const MAX_NS: u64> Retry<MIN_NS, MAX_NS> {
    /// Due at once.
    pub(crate) const NOW: Self = Self { at_ns: 0, wait_ns: MIN_NS };

    /// Due after the least wait.
    pub(crate) fn soon(now_ns: u64) -> Self {
        Self { at_ns: now_ns.saturating_add(MIN_NS), ..Self::NOW }
    }

    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.at_ns
    }

    /// It is tried, or was in vain: the next time after the wait, which doubles.
    pub(crate) fn later(&mut self, now_ns: u64) {
        self.at_ns = now_ns.saturating_add(self.wait_ns);
        self.wait_ns = (self.wait_ns * 2).min(MAX_NS);
    }

    /// It was not in vain: the wait after the next try is the least again.
    pub(crate) fn gained(&mut self) {
        self.wait_ns = MIN_NS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let mut retry = Retry::<10, 35>::NOW;
        assert!(retry.is_due(0));
        for (now_ns, wait_ns) in [(100, 10), (200, 20), (300, 35), (400, 35)] {
            retry.later(now_ns);
            assert!(!retry.is_due(now_ns + wait_ns - 1) && retry.is_due(now_ns + wait_ns));
        }
        retry.gained();
        assert!(!retry.is_due(434), "what was set stays");
        retry.later(500);
        assert!(retry.is_due(510));
        assert!(!Retry::<10, 35>::soon(600).is_due(609));
        retry.later(u64::MAX);
        assert!(!retry.is_due(u64::MAX - 1));
    }
}
