//! `hotframe record`: from a command line to written files.
//!
//! In: options. Out: the files, the books, an exit code. Everything that can be wrong is found
//! before anything is recorded; what was recorded is written even when one of the files cannot be.

mod write;

use crate::cli::Record as Options;
use crate::command::{Handle, Target};
use crate::memory::{Counts, Ledger};
use crate::output::Place;
use crate::prepared::{Machine, Prepared, TIME_CAP_NS};
use crate::sampler::Sampler;
use crate::this_process::{Priority, now_ns, raise_descriptor_limit};
use crate::{Exit, audit, doctor, filter, output, signals};
use anyhow::Context as _;
use hotframe_bpf::memory::Memory;
use hotframe_bpf::ring::Ring;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use hotframe_core::processes::goes_on;
use hotframe_core::profile::Meta;
use hotframe_core::recording::Recording;
use hotframe_core::runtimes::Runtimes;
use hotframe_core::segments::Segments;
use hotframe_core::session::{PATIENCE, Session};
use hotframe_core::tables::Tables;
use hotframe_runtime::Kept;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Bound;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use write::{Places, Wanted};

/// How often CPUs coming and going are looked for.
pub(crate) const CPUS_NS: u64 = 1_000_000_000;
/// Targets that are looked at in a second.
const LOOK_AFTER: usize = 64;

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
    let Started { kernel, memory, ring, targets, expected } = match started {
        Ok(parts) => parts,
        Err(cause) => {
            if let Some(target) = &mut target {
                target.kill();
            }
            return Err(explain(cause));
        }
    };
    if !options.quiet {
        warn_of_limits(options.sampled.frequency);
    }
    let mut ledger = Ledger::new(budget, profile_bytes);
    ledger.writing_percent =
        outputs.iter().map(|output| output.format.writing_percent()).max().unwrap_or(0);
    let session = session(memory, &ledger, options);
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
    recorder.sampler.expect(&expected);
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

    let meta = meta(start_unix_ns, duration_ns, options.sampled.frequency, machine);
    let (exit_code, is_interrupted) = (recorder.exit_code, recorder.is_interrupted);
    let places = Places { outputs, stats, capture };
    let wanted = Wanted { places, meta, start_ns, began_ns, budget_bytes: budget };
    let failures = recorder.write(options, wanted)?;
    // Who reads our output has seen enough, as `| head` has.
    let failures: Vec<_> = failures.iter().filter(|cause| !crate::is_broken_pipe(cause)).collect();
    for failure in &failures {
        crate::messages::line(format_args!("hotframe: {failure:#}"));
    }
    // With -d the command may still run: its code is ours.
    let code = match (&mut target, exit_code) {
        (Some(target), None) => Some(end_of_command(target, options.quiet, is_interrupted)),
        (_, code) => code,
    };
    Ok(match code {
        _ if !failures.is_empty() => ExitCode::FAILURE,
        Some(code) => ExitCode::from(code),
        None => ExitCode::SUCCESS,
    })
}

/// Waits for the command, and says so: it may run for long after its recording, or be stopped.
fn end_of_command(target: &mut Target, is_quiet: bool, is_interrupted: bool) -> u8 {
    if let Some(code) = target.poll() {
        return code;
    }
    if !is_quiet {
        let signals = match is_interrupted {
            false => "Ctrl-C goes to it, and a second one ends hotframe",
            true => "Ctrl-C ends hotframe",
        };
        let pid = target.pid;
        crate::messages::line(format_args!("waiting for the command (pid {pid}): {signals}"));
    }
    target.wait()
}

/// Says what this process may not do, and whether the kernel may take fewer samples than are asked for.
fn warn_of_limits(frequency_hz: u32) {
    warn_of_missing_capabilities();
    let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
    let said = limit.ok().and_then(|limit| throttling(frequency_hz, limit.trim().parse().ok()?));
    if let Some(text) = said {
        crate::messages::line(format_args!("hotframe: {text}"));
    }
}

/// A session that owns the memory that it shares with the kernel half, and whose recording has its place in
/// the ledger.
fn session(memory: Memory, ledger: &Ledger, options: &Options) -> Session {
    let mut session = Session::new(
        Tables::new(Box::new(memory)),
        (options.audit > 0).then(|| audit::auditor(options.audit)).flatten(),
    );
    session.recording = Recording::new(&ledger.recording);
    session.segments = Some(Segments::default());
    session.runtimes = Runtimes::new(&hotframe_registry::RUNTIMES).naming(options.names.naming());
    session
}

/// What a recording says of itself.
fn meta(start_unix_ns: u64, duration_ns: u64, frequency_hz: u32, machine: Machine) -> Meta {
    Meta {
        start_unix_ns,
        duration_ns,
        period_ns: 1_000_000_000 / u64::from(frequency_hz),
        host: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
        kernel: uname(|name| name.release().to_string_lossy().into_owned()),
        arch: uname(|name| name.machine().to_string_lossy().into_owned()),
        command: command_line(),
        producer: format!("hotframe {}", env!("CARGO_PKG_VERSION")),
        n_cpus: machine.online_cpus as u32,
        ..Meta::default()
    }
}

fn uname(field: impl Fn(&nix::sys::utsname::UtsName) -> String) -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |name| field(&name))
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

struct Started {
    kernel: Kernel,
    memory: Memory,
    ring: Ring,
    /// The recording ends with the last of them.
    targets: BTreeSet<u32>,
    /// Processes that run already and are going to be sampled.
    expected: BTreeSet<u32>,
}

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
    let expected = filter::expected(&kernel, &options.sampled.pid, cgroups)?;
    // A command tells how long others are looked at: `-p SERVER -- LOAD`, `-p SERVER -- sleep 10`.
    if target.is_none() {
        targets.extend(&options.sampled.pid);
    }
    Ok(Started { kernel, memory, ring, targets, expected })
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
        // A command has the terminal to itself: it may draw on all of it.
        let shows_progress =
            !options.quiet && target.is_none() && crate::messages::shows_progress();
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
        self.sampler.session.files.cool(self.ledger.learnt_bytes());
        let kept = self.sampler.session.runtimes.cool(self.ledger.learnt_bytes() as u64);
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
        for (name, kept) in
            [("runtimes.told", session.runtimes.kept_told()), ("runtimes.kept", kept)]
        {
            let Kept { entries, bytes, evictions } = kept;
            ledger.measure(name, bytes, Counts { entries, evictions, refused: 0 });
        }
        ledger.settle(maps - rest, rest);
        if let Some(segments) = &mut self.sampler.session.segments {
            segments.part_bytes = ledger.part_bytes();
        }
        maps
    }
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
}
