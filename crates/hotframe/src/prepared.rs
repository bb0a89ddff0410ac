//! What a recording begins with, checked: the filter, and `--memory` divided.
//!
//! In: options and what the machine has. Out: the kernel half's configuration, and who may take how many bytes.

use crate::this_process::own_pid_namespace;
use crate::{Exit, cli, filter};
use hotframe_abi as abi;
use hotframe_bpf::{Config, Fallbacks};
use zerocopy::FromZeros as _;

/// Bytes of stacks that one CPU may send in a second.
const SLICE_BYTES_PER_S: u64 = 16 << 20;

/// Longest walk. A thousand cold frames take a fifth of it.
pub(crate) const TIME_CAP_NS: u64 = 2_000_000;

/// What all that record begin with, checked.
pub(crate) struct Prepared {
    /// Bytes in all, and of these the profile's.
    pub(crate) budget: u64,
    pub(crate) profile_bytes: u64,
    pub(crate) cgroups: Vec<filter::Cgroup>,
    pub(crate) config: Config,
}

impl Prepared {
    pub(crate) fn of(
        sampled: &cli::Sampled,
        machine: Machine,
        force: Fallbacks,
    ) -> anyhow::Result<Prepared> {
        let (budget, shares) = memory_shares(&sampled.memory, machine, sampled.frequency)?;
        let mut settings = abi::hf_config::new_zeroed();
        settings.ns_inum = own_pid_namespace();
        (settings.comms, settings.n_comms) = filter::comms(&sampled.comm)?;
        filter::check_pids(&sampled.pid)?;
        settings.filter_pids = (!sampled.pid.is_empty()).into();
        let cgroups = filter::cgroups(&sampled.cgroup)?;
        filter::set_cgroups(&mut settings, &cgroups)?;
        settings.time_cap_ns = TIME_CAP_NS;
        settings.slice_bytes_per_s = SLICE_BYTES_PER_S;
        let config = Config {
            hz: sampled.frequency,
            memory_bytes: shares.tables,
            ring_bytes: shares.ring,
            sideband_pages: shares.sideband_pages,
            settings,
            force,
        };
        Ok(Prepared { budget, profile_bytes: shares.profile, cgroups, config })
    }
}

/// What of a machine decides how much is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) online_cpus: u64,
    possible_cpus: u64,
    /// What loading programs takes.
    loading_bytes: u64,
}

impl Machine {
    pub(crate) fn this() -> anyhow::Result<Machine> {
        use hotframe_bpf::{events, kernel};
        Ok(Machine {
            online_cpus: events::online_cpus()?.len() as u64,
            possible_cpus: events::n_possible_cpus()? as u64,
            loading_bytes: kernel::loading_bytes(),
        })
    }

    fn cpu_bytes(self, sideband_pages: usize) -> u64 {
        // What the kernel half keeps; a side-band ring.
        self.possible_cpus * u64::from(abi::HF_CPU_BYTES)
            + self.online_cpus * (1 + sideband_pages as u64) * 4096
    }
}

/// How `--memory` is divided. Every share is in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    tables: u32,
    ring: u32,
    sideband_pages: usize,
    profile: u64,
}

impl Shares {
    /// hotframe itself: code, open files, what heap is not charged to others. What a load of programs
    /// takes comes on top (`loading_bytes`), at any time, as a runtime may be met at any time.
    const BASE: u64 = 18 << 20;
    /// Maps whose size does not depend on anything.
    const MAPS: u64 = 2 << 20;
    const SIDEBAND_PAGES: usize = 64;
    const TABLES_MIN: u64 = 2 << 20;
    const PROFILE_MIN: u64 = 2 << 20;

    /// The least that works: 24.25 MiB, 56 KiB for each possible CPU and 68 KiB for each online one, and
    /// what a load takes, 8 MiB or more.
    fn minimum(machine: Machine) -> u64 {
        Self::BASE
            + machine.loading_bytes
            + Self::MAPS
            + Self::TABLES_MIN
            + Self::PROFILE_MIN
            + (256 << 10)
            + machine.cpu_bytes(16)
    }

    fn of(budget: u64, machine: Machine, hz: u32) -> Option<Shares> {
        let minimum = Self::minimum(machine);
        if budget < minimum {
            return None;
        }
        let roomy = budget >= minimum + machine.cpu_bytes(Self::SIDEBAND_PAGES);
        let sideband_pages = if roomy { Self::SIDEBAND_PAGES } else { 16 };
        // A quarter of a second of samples of 600 bytes, and six of the largest stacks.
        let wanted = u64::from(hz) * machine.online_cpus * 150 + (1536 << 10);
        let mut ring = wanted.next_power_of_two().clamp(256 << 10, 64 << 20);
        // What the least has for others is theirs.
        let ring_max = (budget / 16).min(budget - minimum + (256 << 10));
        while ring > 256 << 10 && ring > ring_max {
            ring /= 2;
        }
        let rest = budget
            - Self::BASE
            - machine.loading_bytes
            - Self::MAPS
            - machine.cpu_bytes(sideband_pages)
            - ring;
        let tables = (rest * 2 / 5).clamp(Self::TABLES_MIN, 1 << 30) >> 20 << 20;
        Some(Shares {
            tables: tables as u32,
            ring: ring as u32,
            sideband_pages,
            profile: rest.saturating_sub(tables),
        })
    }
}

fn memory_shares(text: &str, machine: Machine, hz: u32) -> anyhow::Result<(u64, Shares)> {
    let budget = cli::size(text).ok_or_else(|| {
        Exit::usage(format!("--memory {text}: expected bytes, or a number with K, M or G"))
    })?;
    let shares = Shares::of(budget, machine, hz).ok_or_else(|| {
        let least = Shares::minimum(machine).div_ceil(1 << 20);
        let n_cpus = machine.possible_cpus;
        Exit::usage(format!("--memory {text}: at least {least}M are needed with {n_cpus} CPUs"))
    })?;
    Ok((budget, shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stated minimum works, one byte less does not, and the shares never exceed the budget.
    #[test]
    fn shares() {
        // As the README states it, where the kernel's types are mapped and where 5.3 MiB of them are read.
        let stated = |machine: Machine| {
            (24 << 20)
                + (256 << 10)
                + machine.possible_cpus * (56 << 10)
                + machine.online_cpus * (68 << 10)
                + machine.loading_bytes
        };
        let machine = |possible_cpus, online_cpus, loading_bytes| Machine {
            possible_cpus,
            online_cpus,
            loading_bytes,
        };
        let cpus = [(1, 1), (2, 2), (16, 16), (128, 2), (128, 128), (512, 64)];
        let all = cpus.map(|(possible, online)| {
            [8 << 20, (8 << 20) + 2 * 5_520_359].map(|loading| machine(possible, online, loading))
        });
        for machine in all.into_iter().flatten() {
            let least = Shares::minimum(machine);
            assert_eq!(least, stated(machine));
            // The default is enough, but for hundreds of CPUs whose kernel's types are read.
            assert!(least <= 60 << 20 || machine.possible_cpus > 128, "{machine:?}: {least}");
            assert_eq!(Shares::of(least - 1, machine, 99), None);
            for budget in [least, least + (1 << 20), 60 << 20, 200 << 20, 4 << 30] {
                if budget < least {
                    continue;
                }
                let shares = Shares::of(budget, machine, 99).expect("enough");
                let sum = Shares::BASE
                    + machine.loading_bytes
                    + Shares::MAPS
                    + u64::from(shares.tables)
                    + u64::from(shares.ring)
                    + shares.profile
                    + machine.cpu_bytes(shares.sideband_pages);
                assert!(sum <= budget + (1 << 20), "{machine:?}, {budget}: {shares:?}");
                assert!(shares.ring.is_power_of_two());
            }
        }
    }
}
