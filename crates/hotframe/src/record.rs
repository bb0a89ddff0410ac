//! `hotframe record`: from a command line to written files.
//!
//! In: options. Out: the files, the books, an exit code. Everything that can be wrong is found
//! before anything is recorded; what was recorded is written even when one of the files cannot be.

use crate::cli::Record as Options;
use crate::command::{Handle, Target};
use crate::memory::{Counts, Ledger, Resident};
use crate::output::{Output, Place};
use crate::sampler::{PASS, Sampler};
use crate::stats::{Agent, Books, Document, Spilled};
use crate::{Exit, audit, cli, doctor, filter, output, signals, summary};
use anyhow::Context as _;
use hotframe_abi as abi;
use hotframe_bpf::memory::Memory;
use hotframe_bpf::ring::Ring;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use hotframe_core::by_function::ByFunction;
use hotframe_core::jit::Jit;
use hotframe_core::processes::goes_on;
use hotframe_core::profile::{Meta, Profile};
use hotframe_core::recording::Recording;
use hotframe_core::registered::Registered;
use hotframe_core::resolve::{self, Sources};
use hotframe_core::runtimes::Runtimes;
use hotframe_core::segments::{Losses, Segments};
use hotframe_core::session::{self, PATIENCE, Session};
use hotframe_core::tables::{OwnMemory, Tables};
use hotframe_runtime::Kept;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::ops::Bound;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zerocopy::FromZeros as _;

/// How long the last frames of runtimes may take to be named: the rest says that it was late.
const PENDING_NAMES: Duration = Duration::from_secs(10);
/// How often CPUs coming and going are looked for.
pub(crate) const CPUS_NS: u64 = 1_000_000_000;
/// Targets that are looked at in a second.
const LOOK_AFTER: usize = 64;
/// Bytes of stacks that one CPU may send in a second.
const SLICE_BYTES_PER_S: u64 = 16 << 20;
/// Longest walk. A thousand cold frames take a fifth of it.
pub(crate) const TIME_CAP_NS: u64 = 2_000_000;

/// How `--memory` is divided. Every share is in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    tables: u32,
    ring: u32,
    sideband_pages: usize,
    profile: u64,
}

/// What of a machine decides how much is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    online_cpus: u64,
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

/// What `HOTFRAME_FORCE` asks for: `tailcalls`, `no-arena`, `ring=BYTES`.
#[derive(Debug, Default)]
struct Force {
    fallbacks: Fallbacks,
    ring_bytes: Option<u32>,
}

impl Force {
    fn from_env() -> anyhow::Result<Force> {
        let mut force = Force::default();
        let text = std::env::var("HOTFRAME_FORCE").unwrap_or_default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word {
                "tailcalls" => force.fallbacks.tail_calls = true,
                "no-arena" => force.fallbacks.no_arena = true,
                _ => match word.strip_prefix("ring=").and_then(|n| n.parse().ok()) {
                    Some(bytes) => force.ring_bytes = Some(bytes),
                    None => {
                        return Err(Exit::usage(format!(
                            "HOTFRAME_FORCE: {word:?} is not tailcalls, no-arena or ring=BYTES"
                        )));
                    }
                },
            }
        }
        Ok(force)
    }
}

pub(crate) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Runs the subcommand.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let began_ns = now_ns();
    let force = Force::from_env()?;
    let outputs = output::choose(&options.output, options.format.as_deref())?;
    let place = |path: &Option<PathBuf>| path.as_deref().map(Place::of).transpose();
    let (stats, capture) = (place(&options.stats)?, place(&options.capture)?);
    output::distinct(outputs.iter().map(|it| &it.place).chain(&stats).chain(&capture))?;
    let machine = Machine::this()?;
    let Prepared { budget, profile_bytes, cgroups, mut config } =
        Prepared::of(&options.sampled, machine, force.fallbacks)?;
    config.ring_bytes = force.ring_bytes.unwrap_or(config.ring_bytes);
    if options.user.is_some() && options.command.is_empty() {
        return Err(Exit::usage("--user needs a command"));
    }

    let signals = Arc::new(signals::descriptor(&[Signal::SIGCHLD])?);
    let mut target = match options.command.is_empty() {
        true => None,
        false => Some(Target::start(&options.command, options.user.as_deref())?),
    };
    // The command has its own.
    raise_descriptor_limit();
    config.settings.filter_pids |= u8::from(target.is_some());
    // On each CPU: a program may run on one alone. The auditor stops at so many in all.
    config.settings.audits = options.audit;
    let priority = Priority::raise();
    let started = start(&config, options, &cgroups, &mut target);
    let (kernel, memory, ring, targets) = match started {
        Ok(parts) => parts,
        Err(cause) => {
            if let Some(target) = &mut target {
                target.kill();
            }
            return Err(explain(cause));
        }
    };
    if !options.quiet {
        warn_of_missing_capabilities();
        let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
        let said = limit
            .ok()
            .and_then(|limit| throttling(options.sampled.frequency, limit.trim().parse().ok()?));
        if let Some(text) = said {
            crate::messages::line(format_args!("hotframe: {text}"));
        }
    }
    let mut session = Session::new(
        Tables::new(Box::new(memory)),
        (options.audit > 0).then(|| audit::auditor(options.audit)).flatten(),
    );
    let mut ledger = Ledger::new(budget, profile_bytes);
    ledger.writing_percent =
        outputs.iter().map(|output| output.format.writing_percent()).max().unwrap_or(0);
    session.recording = Recording::new(&ledger.recording);
    session.segments = Some(Segments::default());
    session.runtimes = Runtimes::new(&hotframe_registry::RUNTIMES).naming(options.names.naming());
    let mut recorder = Recorder {
        sampler: Sampler::new(kernel, ring, session),
        ledger,
        signals,
        targets,
        looked_after: 0,
        lost_events: 0,
        follows_children: target.is_some(),
        exit_code: None,
        is_interrupted: false,
    };
    let start_ns = now_ns();
    let start_unix_ns = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    hotframe_alloc::trim();
    recorder.measure();
    recorder.sampler.kernel.start(now_ns())?;
    if let Some(target) = &mut target {
        target.release()?;
    }
    recorder.run(options, start_ns, &mut target)?;
    abort_at_a_second_signal(
        Arc::clone(&recorder.signals),
        target.as_ref().map(|target| Arc::clone(&target.handle)),
        recorder.is_interrupted,
    );
    recorder.sampler.kernel.stop(now_ns());
    if recorder.exit_code.is_some()
        && let Some(failure) = target.as_mut().and_then(Target::failure)
    {
        return Err(failure.into());
    }
    let duration_ns = now_ns() - start_ns;
    recorder.drain_all();
    drop(priority);

    let meta = Meta {
        start_unix_ns,
        duration_ns,
        period_ns: 1_000_000_000 / u64::from(options.sampled.frequency),
        host: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
        kernel: uname(|name| name.release().to_string_lossy().into_owned()),
        arch: uname(|name| name.machine().to_string_lossy().into_owned()),
        command: command_line(),
        producer: format!("hotframe {}", env!("CARGO_PKG_VERSION")),
        n_cpus: machine.online_cpus as u32,
        ..Meta::default()
    };
    let exit_code = recorder.exit_code;
    let places = Places { outputs, stats, capture };
    let wanted = Wanted { places, meta, start_ns, began_ns, budget_bytes: budget };
    let failures = recorder.write(options, wanted)?;
    // With -d the command may still run: its code is ours.
    let code = match (&mut target, exit_code) {
        (Some(target), None) => Some(target.wait()),
        (_, code) => code,
    };
    // Who reads our output has seen enough, as `| head` has.
    let failures: Vec<_> = failures.iter().filter(|cause| !crate::is_broken_pipe(cause)).collect();
    for failure in &failures {
        crate::messages::line(format_args!("hotframe: {failure:#}"));
    }
    Ok(match code {
        _ if !failures.is_empty() => ExitCode::FAILURE,
        Some(code) => ExitCode::from(code),
        None => ExitCode::SUCCESS,
    })
}

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

fn uname(field: impl Fn(&nix::sys::utsname::UtsName) -> String) -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |name| field(&name))
}

pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 16), hard);
    }
}

/// While hotframe names and writes, or waits for a command that does not end: the first signal of all,
/// if there was none yet, goes to the command alone, for the recording has ended; the second ends
/// hotframe at once. A thread waits for them, since a signal may have been ignored by whoever started us,
/// and its default action would then be nothing.
fn abort_at_a_second_signal(signals: Arc<SignalFd>, command: Option<Arc<Handle>>, had_one: bool) {
    let waiting = move || {
        let mut had_one = had_one;
        loop {
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut fds, PollTimeout::NONE);
            while let Ok(Some(info)) = signals.read_signal() {
                if info.ssi_signo == Signal::SIGCHLD as u32 {
                    continue;
                }
                if had_one {
                    crate::messages::line(format_args!("hotframe: aborted"));
                    std::process::exit(128 + info.ssi_signo as i32);
                }
                had_one = true;
                if let Some(command) = &command {
                    command.pass_on(&info);
                }
            }
        }
    };
    // `std::thread::spawn` panics where no thread can be had, and what was recorded is not yet written.
    if let Err(cause) = std::thread::Builder::new().spawn(waiting) {
        crate::messages::line(format_args!(
            "hotframe: Ctrl-C ends nothing until all is written, for want of a thread: {cause}"
        ));
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

type Started = (Kernel, Memory, Ring, BTreeSet<u32>);

fn start(
    config: &Config,
    options: &Options,
    cgroups: &[filter::Cgroup],
    target: &mut Option<Target>,
) -> Result<Started, hotframe_bpf::Error> {
    let (kernel, memory, ring) = Kernel::load(config)?;
    for cgroup in cgroups {
        kernel.add_cgroup(cgroup.inode)?;
    }
    let mut targets = BTreeSet::new();
    if let Some(target) = target {
        kernel.add_pid(target.pid)?;
        targets.insert(target.pid);
    }
    if !options.sampled.pid.is_empty() {
        filter::add_with_descendants(&kernel, &options.sampled.pid)?;
        // A command tells how long others are looked at: `-p SERVER -- LOAD`, `-p SERVER -- sleep 10`.
        if target.is_none() {
            targets.extend(&options.sampled.pid);
        }
    }
    Ok((kernel, memory, ring, targets))
}

/// What to do about a failure to start.
pub(crate) fn explain(cause: hotframe_bpf::Error) -> anyhow::Error {
    if !cause.is_permission() {
        return cause.into();
    }
    let held = doctor::effective_capabilities();
    let missing: Vec<&str> = doctor::CAPABILITIES
        .into_iter()
        .filter(|&(_, bit, is_required, _)| is_required && !doctor::is_held(held, bit))
        .map(|(name, ..)| name)
        .collect();
    if missing.is_empty() {
        return anyhow::Error::from(cause)
            .context("the kernel refused although CAP_BPF and CAP_PERFMON are held (lockdown?)");
    }
    let exe = std::env::current_exe()
        .map_or_else(|_| "hotframe".into(), |path| path.display().to_string());
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|it| quoted(&it)).collect();
    anyhow::anyhow!(
        "missing {}. Run it as root:\n  sudo {exe} {}\nor give it what it needs:\n  {}",
        missing.join(" and "),
        arguments.join(" "),
        doctor::setcap()
    )
}

/// How we were called, to be read: words of a command may be any bytes, as names of files are.
fn command_line() -> String {
    let words: Vec<_> = std::env::args_os().collect();
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// An argument as a shell takes it for one word.
fn quoted(argument: &OsStr) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match argument.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', "'\\''")),
        // No text can be shown for it: bash, zsh and ksh take these.
        None => {
            let escaped = argument.as_encoded_bytes().iter().map(|byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

/// Says what each capability that is not held would buy.
fn warn_of_missing_capabilities() {
    let held = doctor::effective_capabilities();
    for (name, bit, is_required, buys) in doctor::CAPABILITIES {
        if !is_required && !doctor::is_held(held, bit) {
            crate::messages::line(format_args!(
                "hotframe: without {name} these are missing: {buys}"
            ));
        }
    }
}

/// What becomes of a frequency above what the kernel lets an event have: in each of its own ticks it stops the
/// clock of a CPU that had its part, and counts nothing until the next (`__perf_event_account_interrupt`,
/// kernel/events/core.c @ v6.12), so no tick is missed and time is.
fn throttling(frequency_hz: u32, limit_hz: u32) -> Option<String> {
    (frequency_hz > limit_hz).then(|| {
        format!(
            "the kernel stops each CPU's clock at {limit_hz} samples a second: of -F {frequency_hz} the rest is \
             missing, and so is its time; sudo sysctl kernel.perf_event_max_sample_rate={frequency_hz}"
        )
    })
}

/// Up to `n` of these, those behind `last` first, then from the lowest on.
fn next_ones(pids: &BTreeSet<u32>, last: u32, n: usize) -> Vec<u32> {
    let behind = pids.range((Bound::Excluded(last), Bound::Unbounded));
    behind.chain(pids.range(..=last)).take(n).copied().collect()
}

/// Names of kernel addresses by the kernel's own word; `None`: /proc/kallsyms has to be read.
pub(crate) fn ask_kernel(addresses: &[u64]) -> Option<Vec<Option<(String, String)>>> {
    match hotframe_bpf::ksyms::name(addresses) {
        Ok(named) => {
            Some(named.into_iter().map(|name| name.map(|it| (it.name, it.module))).collect())
        }
        Err(why) => {
            tracing::debug!("kernel names: {}", why.chain());
            None
        }
    }
}

/// Where a recording goes.
struct Places {
    outputs: Vec<Output>,
    stats: Option<Place>,
    capture: Option<Place>,
}

/// A recording under way.
struct Recorder {
    sampler: Sampler,
    ledger: Ledger,
    signals: Arc<SignalFd>,
    /// Processes whose end ends the recording.
    targets: BTreeSet<u32>,
    /// The target that was looked at last, and how many events were lost by then.
    looked_after: u32,
    lost_events: u64,
    /// With a command its descendants count too.
    follows_children: bool,
    /// The command's, once it has ended.
    exit_code: Option<u8>,
    /// A signal ended the recording.
    is_interrupted: bool,
}

impl Recorder {
    fn run(
        &mut self,
        options: &Options,
        start_ns: u64,
        target: &mut Option<Target>,
    ) -> anyhow::Result<()> {
        let until_ns =
            options.duration.map_or(u64::MAX, |seconds| start_ns + (seconds * 1e9) as u64);
        let has_targets = !self.targets.is_empty();
        let shows_progress = !options.quiet && std::io::stderr().is_terminal();
        let mut cpus_ns = start_ns + CPUS_NS;
        let mut shown_ns = 0;
        loop {
            let now = now_ns();
            if now >= until_ns || (has_targets && self.targets.is_empty()) {
                break;
            }
            let wait = self.sampler.pause().min(Duration::from_nanos(until_ns - now));
            let signals = self.signals.as_fd();
            let has_signal =
                self.sampler.wait(wait, Some(signals)).context("waiting for events")?;
            if has_signal && self.take_signals(target)? {
                break;
            }
            self.pass(Some(PATIENCE));
            let now = now_ns();
            if now >= cpus_ns {
                cpus_ns = now + CPUS_NS;
                self.sampler.kernel.follow_cpus(true)?;
                self.look_after_targets();
                self.measure();
            }
            if shows_progress && now - shown_ns > 500_000_000 {
                shown_ns = now;
                crate::messages::progress(format_args!(
                    "{:.0} s, {} samples ",
                    (now - start_ns) as f64 / 1e9,
                    self.sampler.session.counts.samples
                ));
            }
        }
        if shows_progress {
            crate::messages::end_progress();
        }
        Ok(())
    }

    /// True: the recording ends.
    fn take_signals(&mut self, target: &mut Option<Target>) -> anyhow::Result<bool> {
        while let Some(info) = self.signals.read_signal().context("reading signals")? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                if let Some(target) = target
                    && self.exit_code.is_none()
                {
                    self.exit_code = target.poll();
                }
                continue;
            }
            self.is_interrupted = true;
            if let Some(target) = target {
                target.handle.pass_on(&info);
            }
        }
        Ok(self.is_interrupted)
    }

    fn pass(&mut self, patience: Option<Duration>) {
        self.sampler.pass(patience);
        for (parent, child) in std::mem::take(&mut self.sampler.session.forked) {
            if self.follows_children && self.targets.contains(&parent) {
                self.targets.insert(child);
            }
        }
        for pid in self.sampler.take_ended() {
            self.targets.remove(&pid);
        }
    }

    /// An end that no record told of: after lost ones, or one read before its fork. Of many targets a few
    /// at a time are looked at: the last ones decide, and when they are the last they are few.
    fn look_after_targets(&mut self) {
        let lost_events = self.sampler.session.processes.lost_events;
        if std::mem::replace(&mut self.lost_events, lost_events) != lost_events {
            self.targets.retain(|&pid| goes_on(pid));
            return;
        }
        let turn = next_ones(&self.targets, self.looked_after, LOOK_AFTER);
        self.looked_after = turn.last().copied().unwrap_or(0);
        for pid in turn.into_iter().filter(|&pid| !goes_on(pid)) {
            self.targets.remove(&pid);
        }
    }

    fn drain_all(&mut self) {
        // A walk that was running when its clock stopped is over within the time cap.
        std::thread::sleep(Duration::from_nanos(TIME_CAP_NS));
        for _ in 0..100 {
            self.pass(None);
            if self.sampler.ring.backlog_bytes() == 0 {
                break;
            }
        }
    }

    /// Measures who holds what. Returns the bytes of maps and rings.
    fn measure(&mut self) -> u64 {
        let tables = self.sampler.session.tables.stats();
        self.sampler.session.files.cool(self.ledger.files_bytes());
        let (ring, sideband) =
            (self.sampler.ring.bytes() as u64, self.sampler.kernel.sideband_bytes());
        let maps = self.sampler.kernel.map_bytes(tables.touched_bytes);
        let ledger = &mut self.ledger;
        let counts =
            Counts { entries: tables.blocks, evictions: tables.evictions, refused: tables.refused };
        ledger.measure("tables", tables.touched_bytes, counts);
        ledger.measure("ring", ring, Counts::default());
        ledger.measure("sideband", sideband, Counts::default());
        let rest = maps.saturating_sub(tables.touched_bytes + ring + sideband);
        ledger.measure("kernel.maps", rest, Counts::default());
        let of = |entries: usize| Counts { entries: entries as u64, ..Counts::default() };
        let session = &self.sampler.session;
        let processes = &session.processes;
        ledger.measure("processes", processes.heap_bytes() as u64, of(processes.len()));
        let files_bytes = session.files.heap_bytes() + session.runtimes.heap_bytes();
        ledger.measure("files", files_bytes as u64, of(session.files.len()));
        ledger.measure(
            "perf_maps",
            (session.jit.heap_bytes() + session.registered.heap_bytes()) as u64,
            Counts::default(),
        );
        for (name, kept) in [
            ("runtimes.told", session.runtimes.kept_told()),
            ("runtimes.kept", session.runtimes.kept()),
        ] {
            let Kept { entries, bytes, evictions } = kept;
            ledger.measure(name, bytes, Counts { entries, evictions, refused: 0 });
        }
        ledger.settle(maps - rest, rest);
        if let Some(segments) = &mut self.sampler.session.segments {
            segments.part_bytes = ledger.part_bytes();
        }
        maps
    }

    /// Names and writes everything; returns what failed. What recording needed is given back
    /// first: naming and writing have its memory.
    fn write(mut self, options: &Options, wanted: Wanted) -> anyhow::Result<Vec<anyhow::Error>> {
        let shows_progress = !options.quiet && std::io::stderr().is_terminal();
        self.name_last_frames(shows_progress);
        let (Ended { counted, mut session, files, of_processes }, mut ledger) = self.end()?;
        let mut progress = |done, all| {
            if shows_progress {
                crate::messages::progress(format_args!("naming: {done} of {all} files "));
                if done == all {
                    crate::messages::end_progress();
                }
            }
        };
        let mut named = name(&mut session, &files, of_processes, &mut ledger, &mut progress);
        let mut failures = Vec::new();
        if let Some(place) = &wanted.places.capture {
            let recording = &session.recording;
            let result = place.write(|out| {
                hotframe_core::capture::write(recording, &mut *out)?;
                Ok(())
            });
            failures.extend(result.err());
        }
        ledger.end_stage("naming");
        let recording = std::mem::take(&mut session.recording);
        let mut profile = resolve::build(recording, &files, wanted.meta, wanted.start_ns);
        named.outcome.frames = resolve::count(&profile);
        // What named the recording is not needed to write it.
        drop(files);
        session.jit = Jit::default();
        session.kernel_symbols = BTreeMap::new();
        ledger.end_stage("building");
        let first = session.counts.first_user_stack_ns;
        let agent = |ledger: &Ledger| {
            let (memory, stages) = ledger.json(&named.memory);
            Agent {
                cpu_seconds: cpu_seconds(),
                rss_peak_bytes: Resident::now().peak,
                map_bytes: counted.map_bytes,
                held_peak_bytes: ledger.held_peak_bytes(),
                budget_bytes: wanted.budget_bytes,
                first_sample_seconds: (first > 0)
                    .then(|| first.saturating_sub(wanted.began_ns) as f64 / 1e9),
                memory,
                stages,
            }
        };
        let runtimes = session.runtimes.report();
        let without_runtime = session.without_runtime();
        let stats = |agent: &Agent| {
            Books {
                ticks_expected: counted.ticks_expected,
                ticks_halted: counted.ticks_halted,
                sideband_lost: counted.sideband_lost,
                kernel: &counted.counters,
                counts: &session.counts,
                without_runtime: &without_runtime,
                not_judged: &session.not_judged,
                outcome: &named.outcome,
                agent,
                tables: counted.tables,
                runtimes: &runtimes,
                losses: named.losses,
                spilled: named.spilled.as_ref(),
            }
            .json()
        };
        let books = stats(&agent(&ledger));
        let document = Document { books: &books, profile: &profile, outcome: &named.outcome };
        let text = serde_json::to_string(&document).context("the books")?;
        profile.stats = text;
        let mut written = Vec::new();
        for output in &wanted.places.outputs {
            match output::write(output, &profile, options.address_only) {
                Ok(()) => written.push(output.place.said()),
                Err(cause) => failures.push(cause),
            }
        }
        ledger.end_stage("writing");
        // Once more, so that naming and writing are in it.
        profile.stats = String::new();
        let books = stats(&agent(&ledger));
        if let Some(place) = &wanted.places.stats {
            let document = Document { books: &books, profile: &profile, outcome: &named.outcome };
            let result = place.write(|out| {
                serde_json::to_writer_pretty(&mut *out, &document)?;
                Ok(writeln!(out)?)
            });
            failures.extend(result.err());
        }
        if !options.quiet {
            say(&profile, &books, &written);
        }
        Ok(failures)
    }

    /// Asks runtimes for the names of their frames that are still without, for [`PENDING_NAMES`].
    fn name_last_frames(&mut self, shows_progress: bool) {
        let until = Instant::now() + PENDING_NAMES;
        loop {
            let slice = Instant::now() + PASS;
            let n_left = self.sampler.session.answer_questions(until.min(slice));
            if n_left == 0 || Instant::now() >= until {
                break;
            }
            if shows_progress {
                crate::messages::progress(format_args!("naming: {n_left} frames of runtimes "));
            }
        }
    }

    /// Reads what was counted, and gives back the kernel half and what only unwinding needed.
    fn end(mut self) -> anyhow::Result<(Ended, Ledger)> {
        let kernel = &self.sampler.kernel;
        let mut counted = Counted {
            counters: kernel.counters()?,
            ticks_expected: kernel.ticks_expected(),
            ticks_halted: kernel.ticks_halted()?,
            tables: self.sampler.session.tables.stats(),
            sideband_lost: 0,
            map_bytes: self.measure(),
        };
        self.ledger.end_stage("recording");
        let Recorder { sampler, ledger, .. } = self;
        let Sampler { kernel, ring, mut session, .. } = sampler;
        session.tables = Tables::new(Box::new(OwnMemory::new(abi::HF_HEAP_OFF as usize)));
        drop(ring);
        drop(kernel);
        // Of files and processes naming needs little.
        let files = Sources::of(std::mem::take(&mut session.files));
        let processes = std::mem::take(&mut session.processes);
        counted.sideband_lost = processes.lost_events;
        let of_processes = processes.problems().collect();
        drop(processes);
        session.jit.tell(session.registered.problems());
        session.registered = Registered::default();
        hotframe_alloc::trim();
        Ok((Ended { counted, session, files, of_processes }, ledger))
    }
}

/// What is to be written, and what of it was known before it was recorded.
struct Wanted {
    places: Places,
    meta: Meta,
    start_ns: u64,
    /// When the program began.
    began_ns: u64,
    budget_bytes: u64,
}

/// What was counted while it was recorded.
struct Counted {
    counters: abi::hf_counters,
    ticks_expected: u64,
    ticks_halted: u64,
    tables: hotframe_core::tables::TableStats,
    sideband_lost: u64,
    map_bytes: u64,
}

/// A recording whose unwinding is over.
struct Ended {
    counted: Counted,
    session: Session,
    files: Sources,
    /// What went wrong with processes, by pid.
    of_processes: Vec<(u32, String)>,
}

/// What came of naming.
struct Named {
    outcome: resolve::Outcome,
    losses: Losses,
    spilled: Option<Spilled>,
    /// Who held how much of the recording when that was most.
    memory: Vec<hotframe_frames::Report>,
}

/// Names what was recorded, with what was put away on disk.
fn name(
    session: &mut Session,
    files: &Sources,
    of_processes: Vec<(u32, String)>,
    ledger: &mut Ledger,
    progress: &mut dyn FnMut(usize, usize),
) -> Named {
    let mut memory = session.recording.store.report();
    let Session { segments, recording, counts, kernel_symbols, jit, .. } = session;
    let input = resolve::Input {
        files,
        kernel_symbols,
        jit,
        debuginfod: hotframe_symbols::Debuginfod::from_environment(),
        ask_kernel,
    };
    let mut problems = Vec::new();
    let mut by_function = |recording: &mut Recording, words, limit_bytes| {
        let (names, of_names) =
            resolve::name_by_function(recording, words, limit_bytes, &input, &mut *progress);
        problems = of_names;
        names
    };
    let (losses, spilled) = gather(segments.take(), recording, counts, ledger, &mut by_function);
    let mut outcome = resolve::name(recording, &input, progress);
    for problem in problems {
        // A file may have been read twice.
        if !outcome.problems.contains(&problem) {
            outcome.problems.push(problem);
        }
    }
    if spilled.is_none() {
        memory = recording.store.report();
    }
    for (pid, problem) in of_processes {
        outcome.tell_of(pid, format!("process {pid}: {problem}"));
    }
    outcome.problems.extend(spilled.as_ref().and_then(|spilled| spilled.problem.clone()));
    Named { outcome, losses, spilled, memory }
}

/// Reads back what was put away, if anything was, and leaves naming and writing their room. `name` is
/// that of [`Segments::merge`].
fn gather(
    segments: Option<Segments>,
    recording: &mut Recording,
    counts: &mut session::Counts,
    ledger: &mut Ledger,
    name: &mut dyn FnMut(&mut Recording, Vec<u64>, u64) -> ByFunction,
) -> (Losses, Option<Spilled>) {
    let Some(mut segments) = segments.filter(|segments| !segments.is_empty()) else {
        ledger.room_for_writing();
        return (Losses::default(), None);
    };
    segments.put_away(recording);
    // What could not be put away is lost, and the books say so: it left the kernel and reached no file.
    let kept_back = std::mem::take(&mut recording.samples);
    for &cut in &kept_back.cut {
        counts.samples = counts.samples.saturating_sub(1);
        let booked = match u32::from(cut) {
            abi::HF_CUT_NONE => Some(&mut counts.whole),
            _ => counts.cut.get_mut(usize::from(cut)),
        };
        if let Some(booked) = booked {
            *booked = booked.saturating_sub(1);
        }
    }
    *recording = Recording::default();
    let merged = hotframe_frames::Budget::new(ledger.room_for_writing());
    let losses;
    (*recording, losses) = segments.merge(&merged, name);
    counts.whole = counts.whole.saturating_sub(losses.shortened_whole);
    let mut shortened = losses.shortened_whole;
    for (cut, n) in counts.cut.iter_mut().zip(losses.shortened_cut) {
        *cut = cut.saturating_sub(n);
        shortened += n;
    }
    counts.cut[abi::HF_CUT_BUDGET as usize] += shortened;
    ledger.measure(
        "merged",
        merged.used_bytes() + recording.samples.heap_bytes() as u64,
        Counts { entries: segments.len() as u64, ..Counts::default() },
    );
    ledger.end_stage("merging");
    let spilled = Spilled {
        segments: segments.len() as u64,
        bytes: segments.bytes(),
        problem: segments.problem.take().map(|why| match kept_back.cut.len() {
            0 => why,
            n => format!("{why}: {n} samples are lost"),
        }),
    };
    (losses, Some(spilled))
}

fn say(profile: &Profile, books: &serde_json::Value, written: &[String]) {
    if profile.samples.time_ns.is_empty() {
        crate::messages::line(format_args!("no samples: nothing that was to be recorded ran"));
    } else {
        crate::messages::part(format_args!("{}", summary::summary(profile, books)));
    }
    let files: Vec<&str> = written.iter().map(String::as_str).filter(|path| *path != "-").collect();
    if !files.is_empty() {
        crate::messages::line(format_args!("wrote {}", files.join(", ")));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Something is said where the kernel stops clocks, and only there.
    #[test]
    fn frequencies_above_the_kernel_s() {
        assert_eq!(throttling(99, 100_000), None);
        assert_eq!(throttling(20_000, 20_000), None);
        let text = throttling(20_000, 10_000).expect("a line");
        assert!(text.contains("at 10000 samples") && text.contains("-F 20000"), "{text}");
    }

    /// What is printed to be typed again is one word to a shell, whatever bytes it has.
    #[test]
    fn words_for_a_shell() {
        use std::os::unix::ffi::OsStrExt as _;
        let check = |bytes: &[u8], expect: &str| {
            assert_eq!(quoted(OsStr::from_bytes(bytes)), expect);
        };
        check(b"a.html", "a.html");
        check(b"", "''");
        check(b"it's", "'it'\\''s'");
        check(b"a b\xff'\\\n", "$'a b\\xff\\'\\\\\\x0a'");
    }

    /// Each has its turn, and few are all looked at each time.
    #[test]
    fn turns() {
        let pids = BTreeSet::from([3, 5, 8, 9]);
        assert_eq!(next_ones(&pids, 0, 3), [3, 5, 8]);
        assert_eq!(next_ones(&pids, 8, 3), [9, 3, 5]);
        assert_eq!(next_ones(&pids, 6, 64), [8, 9, 3, 5]);
        assert_eq!(next_ones(&BTreeSet::new(), 6, 64), [0; 0]);
    }

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
