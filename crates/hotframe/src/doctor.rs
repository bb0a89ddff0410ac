//! `hotframe doctor`: will `record` work here, what is missing, and what would mend it.
//!
//! In: this machine. Out: findings as text or JSON, each problem with the command that mends it;
//! exit code 0 only when `record` will work.
//!
//! # How it works
//! Features are tried, not looked up: the kernel half is loaded with a small configuration, sampled
//! with for a moment and freed, in the form that this kernel gets and in the older one. What a
//! capability buys is checked the same way where that is possible. For the processes that use CPU
//! time meanwhile, their code files are opened and asked what they could be named from, and which
//! runtime they are, by the symbols that they define. A runtime whose frames are unwound is attached
//! to, as `record` would.
//!
//! # Sources
//! capabilities(7); kernel/capability.c, kernel/kallsyms.c, security/lockdown @ v6.12; proc(5) for
//! `stat`, `maps` and `hidepid`; debuginfod(8).
//!
//! # Cost
//! About a second, most of it the verifier, and what [`survey`] looks at.

mod survey;

use crate::cli::Doctor as Options;
use crate::prepared::TIME_CAP_NS;
use crate::this_process::{now_ns, own_pid_namespace};
use anyhow::Context as _;
use hotframe_abi as abi;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use survey::{CodeReport, Names, RuntimeReport, Survey, Unwound, Watch};
use zerocopy::FromZeros as _;

/// How long the trial recording may take until it has a sample.
const TRIAL: Duration = Duration::from_secs(1);
/// Unnamed files that the text lists; JSON lists all.
const FILES_SHOWN: usize = 10;
/// Width of the second column.
const TOPIC_WIDTH: usize = 24;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to mend.
    Note,
    /// `record` works but lacks something.
    Missing,
    /// `record` will not work.
    Fatal,
}

impl Level {
    fn mark(self) -> &'static str {
        match self {
            Level::Ok => "ok  ",
            Level::Note => "note",
            Level::Missing => "miss",
            Level::Fatal => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    topic: String,
    level: Level,
    text: String,
    /// A command, or the shortest words that say what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    works: bool,
    findings: Vec<Finding>,
    code: Vec<CodeReport>,
    runtimes: Vec<RuntimeReport>,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let watch = Watch::start();
    let mut doctor = Doctor { findings: Vec::new() };
    doctor.kernel();
    doctor.capabilities();
    doctor.trials();
    doctor.kernel_symbols();
    doctor.lockdown();
    doctor.namespaces();
    doctor.cgroups();
    doctor.visibility();
    let processes = watch.finish();
    let (code, runtimes) = Survey::of(&processes);
    doctor.code(&code);
    doctor.runtimes(&runtimes);
    let works = doctor.findings.iter().all(|finding| finding.level != Level::Fatal);
    let report = Report { works, findings: doctor.findings, code, runtimes };
    let mut out = std::io::stdout().lock();
    let said =
        if options.json { serde_json::to_string_pretty(&report)? + "\n" } else { text(&report) };
    out.write_all(said.as_bytes()).and_then(|()| out.flush()).context("writing to stdout")?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let indent = " ".repeat(5 + TOPIC_WIDTH);
    for (at, finding) in report.findings.iter().enumerate() {
        let mut lines = finding.text.lines();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(out, "{} {:TOPIC_WIDTH$}{first}", finding.level.mark(), finding.topic);
        for line in lines {
            let _ = writeln!(out, "{indent}{line}");
        }
        // What mends several in a row is said once, below the last.
        let next = report.findings.get(at + 1).and_then(|next| next.fix.as_ref());
        if let Some(fix) = finding.fix.as_ref().filter(|fix| Some(*fix) != next) {
            for line in fix.lines() {
                let _ = writeln!(out, "{indent}→ {line}");
            }
        }
    }
    let missing = report.findings.iter().filter(|one| one.level == Level::Missing).count();
    let _ = match (report.works, missing) {
        (true, 0) => writeln!(out, "\nhotframe record will work."),
        (true, _) => writeln!(out, "\nhotframe record will work, without what is marked \"miss\"."),
        (false, _) => writeln!(out, "\nhotframe record will not work: see FAIL above."),
    };
    out
}

// Numbers of include/uapi/linux/capability.h @ v6.12.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const CAP_CHECKPOINT_RESTORE: u32 = 40;
/// Those that were split off from CAP_SYS_ADMIN, which implies them (`bpf_capable` and its siblings in
/// include/linux/capability.h @ v6.12).
const SPLIT_OFF: [u32; 3] = [CAP_BPF, CAP_PERFMON, CAP_CHECKPOINT_RESTORE];

/// Capabilities: name, bit, whether nothing works without, what it buys.
pub const CAPABILITIES: [(&str, u32, bool, &str); 6] = [
    ("CAP_BPF", CAP_BPF, true, "loads the kernel half"),
    ("CAP_PERFMON", CAP_PERFMON, true, "opens perf events and reads stacks"),
    (
        "CAP_SYS_PTRACE",
        CAP_SYS_PTRACE,
        false,
        "other users' mappings and memory: their stacks, their names",
    ),
    (
        "CAP_SYSLOG",
        CAP_SYSLOG,
        false,
        "names of kernel functions, where a kernel refuses to be asked for them",
    ),
    (
        "CAP_CHECKPOINT_RESTORE",
        CAP_CHECKPOINT_RESTORE,
        false,
        "files that were deleted or replaced while they run",
    ),
    (
        "CAP_DAC_READ_SEARCH",
        CAP_DAC_READ_SEARCH,
        false,
        "binaries, debug files and perf maps that only their owner may read",
    ),
];

fn exe() -> String {
    std::env::current_exe().map_or_else(|_| "hotframe".into(), |path| path.display().to_string())
}

/// The command that gives the binary what it needs.
pub fn setcap() -> String {
    let names: Vec<String> =
        CAPABILITIES.iter().map(|(name, ..)| name.to_ascii_lowercase()).collect();
    format!("sudo setcap {}+ep {}", names.join(","), exe())
}

fn as_root() -> String {
    format!("sudo {} record …\nor, once: {}", exe(), setcap())
}

/// Our effective capabilities, a bit each. The kernel is asked: a container may have no `/proc`.
pub fn effective_capabilities() -> u64 {
    rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits())
}

/// Is the capability of this number held, itself or by CAP_SYS_ADMIN?
pub fn is_held(held: u64, bit: u32) -> bool {
    let has = |bit: u32| held >> bit & 1 == 1;
    has(bit) || SPLIT_OFF.contains(&bit) && has(CAP_SYS_ADMIN)
}

struct Doctor {
    findings: Vec<Finding>,
}

impl Doctor {
    fn say(&mut self, topic: &str, level: Level, text: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding { topic: topic.into(), level, text: text.into(), fix: None });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn kernel(&mut self) {
        let (release, machine) = nix::sys::utsname::uname().map_or_else(
            |_| (String::new(), String::new()),
            |name| {
                (
                    name.release().to_string_lossy().into_owned(),
                    name.machine().to_string_lossy().into_owned(),
                )
            },
        );
        let is_old = version(&release).is_some_and(|version| version < (5, 15));
        let level = if is_old { Level::Missing } else { Level::Ok };
        let finding = self.say("kernel", level, format!("Linux {release}, {machine}"));
        if is_old {
            finding.fix = Some("hotframe is made for Linux 5.15 or later".into());
        }
        let btf = "/sys/kernel/btf/vmlinux";
        match fs::metadata(btf) {
            Ok(meta) => {
                self.say("BTF", Level::Ok, format!("{btf}, {} KiB", meta.len() >> 10));
            }
            Err(cause) => {
                let finding = self.say("BTF", Level::Fatal, format!("{btf}: {cause}"));
                finding.fix = Some(
                    "a kernel built with CONFIG_DEBUG_INFO_BTF=y; in a container, /sys mounted"
                        .into(),
                );
            }
        }
    }

    fn capabilities(&mut self) {
        let held = effective_capabilities();
        let mut lacks_any = false;
        for (name, bit, is_required, buys) in CAPABILITIES {
            if is_held(held, bit) {
                continue;
            }
            lacks_any = true;
            let level = if is_required { Level::Fatal } else { Level::Missing };
            let finding = self.say(name, level, format!("not held: {buys}"));
            finding.fix = Some(if is_required { as_root() } else { setcap() });
        }
        if !lacks_any {
            self.say("capabilities", Level::Ok, "all six that hotframe can use are held");
        }
        // Capabilities of another user namespace do not count for BPF and perf.
        if in_user_namespace() {
            let finding = self.say(
                "user namespace",
                Level::Fatal,
                "not the host's: its root has no rights on BPF and perf events",
            );
            finding.fix = Some("run it outside of the rootless container".into());
        }
    }

    /// Loads the kernel half in both forms, and samples with the first.
    fn trials(&mut self) {
        let newest = self.trial("BPF", Fallbacks::default(), true);
        let oldest = Fallbacks { tail_calls: true, no_arena: true };
        if newest.is_some_and(|used| used != oldest) {
            self.trial("BPF, older form", oldest, false);
        }
    }

    fn trial(&mut self, topic: &str, force: Fallbacks, is_required: bool) -> Option<Fallbacks> {
        let mut settings = abi::hf_config::new_zeroed();
        settings.ns_inum = own_pid_namespace();
        settings.time_cap_ns = TIME_CAP_NS;
        let config = Config {
            hz: 199,
            memory_bytes: 2 << 20,
            ring_bytes: 256 << 10,
            sideband_pages: 16,
            settings,
            force,
        };
        let began = Instant::now();
        // The other form costs nothing when this one works.
        let bad = if is_required { Level::Fatal } else { Level::Note };
        let loaded = match Kernel::load(&config) {
            Ok(loaded) => loaded,
            Err(cause) => {
                let finding = self.say(topic, bad, cause.chain());
                finding.fix = if is_required { refusal(&cause) } else { None };
                return None;
            }
        };
        let load_ms = began.elapsed().as_millis();
        let (mut kernel, memory, ring) = loaded;
        let fallbacks = kernel.fallbacks;
        let form = format!(
            "{} and {}, loaded and verified in {load_ms} ms",
            if fallbacks.tail_calls { "tail calls" } else { "bpf_loop" },
            if fallbacks.no_arena { "an array" } else { "an arena" },
        );
        let sampled = kernel.start(now_ns()).and_then(|()| {
            let until = Instant::now() + TRIAL;
            while Instant::now() < until && kernel.counters()?.taken == 0 {
                // Something must run to be sampled, and not in a system call of BPF's.
                let tick = Instant::now() + Duration::from_millis(10);
                while Instant::now() < tick {
                    std::hint::spin_loop();
                }
            }
            kernel.stop(now_ns());
            kernel.counters()
        });
        match sampled {
            Ok(counters) if counters.taken > 0 => {
                self.say(topic, Level::Ok, form);
                if is_required {
                    let n = kernel.n_cpus();
                    let plural = if n == 1 { "" } else { "s" };
                    let text = format!("clock and side-band on {n} CPU{plural}, ticks arrive");
                    self.say("perf events", Level::Ok, text);
                }
            }
            Ok(_) => {
                let finding =
                    self.say(topic, bad, format!("{form}; no tick in {} s", TRIAL.as_secs()));
                finding.fix =
                    Some("please report this with the output of hotframe doctor --json".into());
            }
            Err(cause) => {
                let finding = self.say(topic, bad, cause.chain());
                finding.fix = refusal(&cause);
            }
        }
        // The ring and the memory are maps of the kernel half: they go first.
        drop((ring, memory));
        Some(fallbacks)
    }

    fn kernel_symbols(&mut self) {
        let topic = "kernel symbols";
        let restrict = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap_or_default();
        let restrict = restrict.trim();
        // Any address does: what counts is whether the program that asks is loaded and runs.
        if crate::record::ask_kernel(&[u64::MAX - 4095]).is_some() {
            self.say(topic, Level::Ok, "the kernel is asked for names");
            return;
        }
        match has_kernel_addresses() {
            Ok(true) => {
                let text = format!("/proc/kallsyms shows addresses (kptr_restrict {restrict})");
                self.say(topic, Level::Ok, text);
            }
            Ok(false) => {
                let text =
                    format!("addresses are hidden (kptr_restrict {restrict}): no kernel names");
                // 2 hides them from everybody (kallsyms_show_value).
                self.say(topic, Level::Missing, text).fix = Some(if restrict == "2" {
                    "sudo sysctl kernel.kptr_restrict=1".into()
                } else {
                    setcap()
                });
            }
            Err(cause) => {
                let text = format!("/proc/kallsyms: {cause}: kernel functions stay unnamed");
                self.say(topic, Level::Missing, text).fix = Some(
                    "a kernel built with CONFIG_KALLSYMS=y; in a container, /proc mounted whole"
                        .into(),
                );
            }
        }
    }

    fn lockdown(&mut self) {
        let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        match mode.map(|(mode, _)| mode) {
            Some("confidentiality") => {
                let finding = self.say(
                    "lockdown",
                    Level::Fatal,
                    "confidentiality: BPF may not read kernel memory, perf may not sample",
                );
                finding.fix = Some(
                    "boot with lockdown=integrity, or without lockdown= and Secure Boot".into(),
                );
            }
            Some(mode) => {
                self.say("lockdown", Level::Ok, mode);
            }
            None => {
                self.say("lockdown", Level::Ok, "not active");
            }
        }
    }

    fn namespaces(&mut self) {
        if own_pid_namespace() == 0 {
            self.say("pid namespace", Level::Ok, "the host's: every process is seen");
        } else {
            let finding = self.say(
                "pid namespace",
                Level::Missing,
                "not the host's: processes outside of it are not recorded",
            );
            finding.fix = Some("docker run --pid=host …, or hostPID: true".into());
        }
    }

    fn cgroups(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let types: Vec<&str> =
            mounts.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next()).collect();
        let (v2, v1) = (types.contains(&"cgroup2"), types.contains(&"cgroup"));
        let text = match (v2, v1) {
            (true, false) => "version 2",
            (true, true) => "versions 1 and 2: --cgroup finds both",
            (false, true) => "version 1",
            (false, false) => {
                let finding =
                    self.say("cgroups", Level::Missing, "not mounted: --cgroup finds nothing");
                finding.fix = Some("sudo mount -t cgroup2 none /sys/fs/cgroup".into());
                return;
            }
        };
        self.say("cgroups", Level::Ok, text);
    }

    /// `/proc` mounted with hidepid shows other users' processes only to CAP_SYS_PTRACE.
    fn visibility(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let hides = mounts.lines().any(|line| {
            let mut fields = line.split(' ');
            fields.nth(1) == Some("/proc")
                && fields.nth(1).is_some_and(|options| {
                    options
                        .split(',')
                        .filter_map(|option| option.strip_prefix("hidepid="))
                        .any(|mode| !["0", "off"].contains(&mode))
                })
        });
        let can_trace = is_held(effective_capabilities(), CAP_SYS_PTRACE);
        if hides && !can_trace {
            let text = "hidepid hides other users' processes: their code stays unknown";
            self.say("/proc", Level::Missing, text).fix = Some(setcap());
        }
    }

    fn code(&mut self, code: &[CodeReport]) {
        let topic = "debug information";
        if code.is_empty() {
            self.say(topic, Level::Note, "no process of which code can be seen used CPU time");
            return;
        }
        let n = |names: Names| code.iter().filter(|file| file.names == names).count();
        let mut text = format!(
            "of {} files of code that run now, {} can be named with lines,\n\
             {} with all functions, {} with exported functions only, {} not at all",
            code.len(),
            n(Names::Lines),
            n(Names::Functions),
            n(Names::Exported),
            n(Names::None),
        );
        let poor: Vec<&CodeReport> =
            code.iter().filter(|file| file.names < Names::Functions).collect();
        if poor.is_empty() {
            self.say(topic, Level::Ok, text);
            return;
        }
        text.push_str("\nCPU time of the processes that map each:");
        for file in poor.iter().take(FILES_SHOWN) {
            let _ = write!(
                text,
                "\n{:5.1} %  {}: {}",
                100.0 * file.cpu_share,
                file.path,
                match (&file.problem, file.names) {
                    (Some(problem), _) => problem,
                    (None, Names::None) => "no symbols",
                    (None, _) => "exported functions only",
                }
            );
        }
        if poor.len() > FILES_SHOWN {
            let _ = write!(text, "\nand {} more (--json lists them)", poor.len() - FILES_SHOWN);
        }
        let mut fixes = Vec::new();
        let held = effective_capabilities();
        if poor.iter().any(|file| file.problem.is_some())
            && !(is_held(held, CAP_DAC_READ_SEARCH) && is_held(held, CAP_CHECKPOINT_RESTORE))
        {
            fixes.push(setcap());
        }
        if poor.iter().any(|file| file.build_id.is_some()) {
            match std::env::var("DEBUGINFOD_URLS").ok().filter(|urls| !urls.is_empty()) {
                Some(urls) => {
                    let _ = write!(text, "\nrecord will ask {urls}");
                }
                None => fixes.push(format!("sudo {} {} record …", debuginfod_urls(), exe())),
            }
        }
        if poor.iter().any(|file| file.build_id.is_none() && file.problem.is_none()) {
            fixes.push("build your own programs with -g, and do not strip them".into());
        }
        let finding = self.say(topic, Level::Missing, text);
        finding.fix = (!fixes.is_empty()).then(|| fixes.join("\n"));
    }

    fn runtimes(&mut self, runtimes: &[RuntimeReport]) {
        for report in runtimes {
            let who = format!("{} ({})", report.comm, report.pid);
            let what = report.runtime.unwrap_or("unknown runtime");
            let size = report.generated_bytes >> 10;
            let topic = report.runtime.unwrap_or("JIT");
            match &report.unwound {
                Some(Unwound { version, problem: Some(problem) }) => {
                    let text = format!("{who}: {version}, not unwound: {problem}");
                    self.say(topic, Level::Missing, text);
                    continue;
                }
                Some(Unwound { version, problem: None }) => {
                    let text = format!("{who}: {version}, its frames are unwound and named");
                    self.say(topic, Level::Ok, text);
                    continue;
                }
                None => {}
            }
            if let Some(problem) = &report.problem {
                let text = format!("{who}: a perf map cannot be used: {problem}");
                self.say(topic, Level::Missing, text);
                continue;
            }
            match (report.has_perf_map, report.generated_bytes) {
                (true, _) => {
                    self.say(topic, Level::Ok, format!("{who}: its perf map names its code"));
                }
                (false, 0) => {
                    let text = format!(
                        "{who}: {what} interprets; its stacks show the interpreter's own functions"
                    );
                    self.say(topic, Level::Note, text);
                }
                (false, _) => {
                    let text = format!(
                        "{who}: {size} KiB of generated code and no perf map: that code has no names"
                    );
                    self.say(topic, Level::Missing, text).fix = report.perf_map.map(str::to_owned);
                }
            }
        }
    }
}

/// In a user namespace that is not the host's.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

/// `6.1.0-18-amd64` → (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What mends a refusal; `None` where another finding says it.
fn refusal(cause: &hotframe_bpf::Error) -> Option<String> {
    if matches!(cause, hotframe_bpf::Error::NoBtf) || in_user_namespace() {
        return None;
    }
    if !cause.is_permission() {
        return Some("please report this with the output of hotframe doctor --json".into());
    }
    let held = effective_capabilities();
    if is_held(held, CAP_BPF) && is_held(held, CAP_PERFMON) {
        let text = "a seccomp filter or lockdown forbids it: \
                    docker run --security-opt seccomp=unconfined …";
        return Some(text.into());
    }
    Some(as_root())
}

/// The first lines of kallsyms are enough: addresses are all there or all zero, but for per-CPU
/// symbols, which are small numbers on some kernels.
fn has_kernel_addresses() -> std::io::Result<bool> {
    use std::io::BufRead as _;
    let file = fs::File::open("/proc/kallsyms")?;
    for line in std::io::BufReader::new(file).lines().take(4096) {
        let line = line?;
        let address = line.split(' ').next().unwrap_or_default();
        if u64::from_str_radix(address, 16).is_ok_and(|address| address >> 63 == 1) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The distribution's own servers, if it installed a list; else the federation of elfutils.
fn debuginfod_urls() -> String {
    let mut urls = Vec::new();
    for entry in fs::read_dir("/etc/debuginfod").into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "urls") {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            urls.extend(text.split_ascii_whitespace().map(str::to_owned));
        }
    }
    if urls.is_empty() {
        urls.push("https://debuginfod.elfutils.org".into());
    }
    format!("DEBUGINFOD_URLS={:?}", urls.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases as distributions write them.
    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("x"), None);
    }

    /// CAP_SYS_ADMIN stands for those that were split off from it, and for no other.
    #[test]
    fn admin_implies() {
        let admin = 1 << CAP_SYS_ADMIN;
        assert!(SPLIT_OFF.iter().all(|&bit| is_held(admin, bit)));
        assert!(!is_held(admin, CAP_SYSLOG) && !is_held(admin, CAP_SYS_PTRACE));
        assert!(!is_held(1 << CAP_BPF, CAP_PERFMON));
    }

    /// They are what `/proc` says, where there is one.
    #[test]
    fn our_capabilities() {
        let status = fs::read_to_string("/proc/self/status").expect("our own status");
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let said = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        assert_eq!(Some(effective_capabilities()), said);
    }

    /// Only a fatal finding says that recording will not work; fixes stand below their finding.
    #[test]
    fn wording() {
        let finding = Finding {
            topic: "x".into(),
            level: Level::Missing,
            text: "a\nb".into(),
            fix: Some("c".into()),
        };
        let report =
            Report { works: true, findings: vec![finding], code: vec![], runtimes: vec![] };
        let text = text(&report);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[..3], ["miss x                       a", "b", "→ c"]);
        assert!(text.contains("will work, without"));
    }
}
