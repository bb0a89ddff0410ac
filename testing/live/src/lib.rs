//! Runs the built `hotframe` binary over real programs and reads back what it says.
//!
//! In: the binary (`HOTFRAME_BIN`, else the workspace's release build), workloads whose stacks are
//! known (`testing/workloads`). Out: [`Recording`], the parsed `.folded` and `--stats` of one run.
//!
//! # How it works
//! Nothing here depends on how fast the machine is: a workload runs until it is stopped, and
//! [`record_until`] records for longer and longer until a test has what it needs to look at, under
//! one generous deadline. Every recording's books are checked, whatever the test is about.
//! `HOTFRAME_FORCE` is handed on by the environment, so that the same suite runs once for each of
//! the kernel half's fallbacks.
//!
//! # Needs
//! Root: each test begins with [`live!`], which says SKIPPED and passes without it. gcc and make;
//! a test of another language's programs is skipped where its compiler is absent.
//!
//! # Cost
//! A recording of the whole machine sees what other tests run: such a test runs alone ([`live!`]).
//! Tests that look at processes of their own run two at a time (`live!(beside)`, `--test-threads=2`):
//! most of their time they wait.
#![forbid(unsafe_code)]

mod group;

pub use group::Group;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How long a test waits for what must come, however busy the machine is.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Returns from a test that cannot run here, having said why; else waits for its turn, to run alone
/// or, where nothing of another test can be in its recordings, beside one that says the same.
#[macro_export]
macro_rules! live {
    () => {
        $crate::live!(@ $crate::alone());
    };
    (beside) => {
        $crate::live!(@ $crate::beside());
    };
    (@ $turn:expr) => {
        if !$crate::is_root() {
            $crate::skipped("needs root");
            return;
        }
        let _turn = $turn;
    };
}

/// Held by a test while it runs.
static TURN: RwLock<()> = RwLock::new(());

/// Waits until no other test runs; none begins while this is held. A test that failed is of no matter.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other test runs that has to be alone.
pub fn beside() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// The built workload, or a return from the test where its compiler is absent.
#[macro_export]
macro_rules! program {
    ($name:expr) => {
        match $crate::build($name) {
            Some(path) => path,
            None => return,
        }
    };
}

/// Says on the real stderr, which the test harness does not capture, why a test did nothing.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(io::stderr(), "{test}: SKIPPED: {why}");
}

/// Does hotframe walk by tail calls, as on a kernel without `bpf_loop`? It keeps 512 frames then, and says
/// so of deeper stacks.
pub fn by_tail_calls() -> bool {
    std::env::var("HOTFRAME_FORCE").is_ok_and(|forced| forced.contains("tailcalls"))
}

/// Is the effective user root?
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .filter_map(|line| line.strip_prefix("Uid:"))
            .any(|ids| ids.split_whitespace().nth(1) == Some("0"))
    })
}

/// Is a program of this name on the PATH?
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().expect("the workspace is there")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The binary under test.
pub fn hotframe() -> PathBuf {
    let path = std::env::var_os("HOTFRAME_BIN")
        .map_or_else(|| target_dir().join("release/hotframe"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: cargo build --release -p hotframe, or set HOTFRAME_BIN",
        path.display()
    );
    path
}

/// Builds one of `testing/workloads`. `None` where the language's compiler is not installed.
pub fn build(name: &str) -> Option<PathBuf> {
    let compiler = match name {
        "gostacks" | "gocalls" | "gorace" => "go",
        "rusty" => "rustc",
        "overloads" => "g++",
        _ => "gcc",
    };
    if !has_program(compiler) {
        skipped(&format!("needs {compiler} for the workload {name}"));
        return None;
    }
    let out = target_dir().join("workloads");
    // Two tests may want the same program.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock();
    let made = Command::new("make")
        .args(["--silent", "-C"])
        .arg(workspace().join("testing/workloads"))
        .arg(format!("OUT={}", out.display()))
        .arg(name)
        .output()
        .expect("make runs");
    assert!(made.status.success(), "make {name}: {}", String::from_utf8_lossy(&made.stderr));
    Some(out.join(name))
}

/// A directory of its own, removed with all in it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that every user can reach.
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hotframe-live-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a scratch directory");
        run("chmod", ["755".as_ref(), path.as_os_str()]);
        Scratch(path)
    }

    /// A path inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a helper program that must succeed and returns its stdout.
pub fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(program).args(args).output().expect("a helper program runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a signal (`"INT"`) to a pid, or to a process group when negative.
pub fn send(signal: &str, pid: i64) {
    run("kill", ["-s", signal, "--", &pid.to_string()]);
}

/// Does a debugger hold a process?
pub fn is_held(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its state");
    status.contains("(tracing stop)")
}

/// Has a debugger hold a process for so long; it does when this returns.
pub fn hold(pid: u32, seconds: u32) -> Child {
    let debugger = Command::new("gdb")
        .args(["-q", "-nx", "-batch", "-iex", "set auto-solib-add off"])
        .args(["-iex", "set debuginfod enabled off", "-p", &pid.to_string()])
        .args(["-ex", &format!("shell sleep {seconds}"), "-ex", "detach"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("gdb starts");
    wait_for("gdb to hold it", || is_held(pid).then_some(()));
    debugger
}

/// Waits until `ready` gives something.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that runs until this is dropped.
pub struct Workload {
    child: Child,
}

impl Workload {
    /// Starts it in a process group of its own, so that its children end with it.
    pub fn start<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> Workload {
        Workload::spawn(Command::new(program).args(args).stdout(Stdio::null()))
    }

    /// Starts a prepared command.
    pub fn spawn(command: &mut Command) -> Workload {
        let child = command.process_group(0).spawn().expect("a workload starts");
        Workload { child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-s", "KILL", "--", &format!("-{}", self.child.id())])
            .stderr(Stdio::null())
            .status();
        let _ = self.child.wait();
    }
}

/// One stack of a `.folded` file.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The thread's name.
    pub comm: String,
    /// Functions, outermost first, without the kind's annotation.
    pub frames: Vec<String>,
    /// The same with annotations.
    pub annotated: Vec<String>,
    /// Samples.
    pub count: u64,
}

impl Stack {
    /// Do these functions stand side by side in it, in this order (outermost first)?
    pub fn has_path<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.frames
            .windows(path.len().max(1))
            .any(|window| window.iter().zip(path).all(|(frame, want)| frame == want.as_ref()))
    }

    /// Is this function in it?
    pub fn has(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| frame == function)
    }
}

/// A path in a failing test's message: its ends, when it is long.
fn abridged<S: AsRef<str>>(path: &[S]) -> String {
    let names: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [first @ .., _, _, _, _, _, _] if first.len() > 20 => format!(
            "{};…({} frames);{}",
            names[..8].join(";"),
            names.len() - 16,
            names[names.len() - 8..].join(";")
        ),
        _ => names.join(";"),
    }
}

/// A `.folded` file.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// Its lines.
    pub stacks: Vec<Stack>,
}

impl Folded {
    /// Reads `comm;outermost;…;leaf COUNT` lines; a line of another form fails the test.
    pub fn parse(text: &str) -> Folded {
        let stacks = text.lines().map(|line| {
            let (stack, count) =
                line.rsplit_once(' ').unwrap_or_else(|| panic!("no count: {line}"));
            let count = count.parse().unwrap_or_else(|_| panic!("no count: {line}"));
            let mut names = stack.split(';').map(str::to_owned);
            let comm = names.next().unwrap_or_default();
            let annotated: Vec<String> = names.collect();
            let plain = |name: &String| {
                ["_[k]", "_[j]", "_[i]"]
                    .iter()
                    .find_map(|mark| name.strip_suffix(mark))
                    .unwrap_or(name)
                    .to_owned()
            };
            Stack { comm, frames: annotated.iter().map(plain).collect(), annotated, count }
        });
        Folded { stacks: stacks.collect() }
    }

    /// Samples of the stacks that satisfy `wanted`.
    pub fn samples(&self, wanted: impl Fn(&Stack) -> bool) -> u64 {
        self.stacks.iter().filter(|stack| wanted(stack)).map(|stack| stack.count).sum()
    }

    /// Samples of threads of this name.
    pub fn of(&self, comm: &str) -> u64 {
        self.samples(|stack| stack.comm == comm)
    }

    /// Frames without a name, by what stands there instead: `[unnamed: why]`.
    pub fn unnamed(&self) -> BTreeMap<&str, u64> {
        let mut unnamed = BTreeMap::new();
        for stack in &self.stacks {
            for name in stack.frames.iter().filter(|name| name.starts_with("[unnamed")) {
                *unnamed.entry(name.as_str()).or_default() += stack.count;
            }
        }
        unnamed
    }

    /// Fails unless every stack of threads named `comm` that satisfies `which` holds `path`.
    pub fn assert_path<S: AsRef<str>>(
        &self,
        comm: &str,
        which: impl Fn(&Stack) -> bool,
        path: &[S],
    ) {
        let mut seen = 0;
        for stack in self.stacks.iter().filter(|stack| stack.comm == comm && which(stack)) {
            seen += stack.count;
            assert!(
                stack.has_path(path),
                "a stack of {comm} ({} samples) lacks the path {}:\n{}",
                stack.count,
                abridged(path),
                abridged(&stack.frames)
            );
        }
        assert!(seen > 0, "no sample of {comm} to look at among:\n{}", self.summary());
    }

    /// The busiest stacks, for a failing test's message.
    pub fn summary(&self) -> String {
        let mut stacks: Vec<&Stack> = self.stacks.iter().collect();
        stacks.sort_by_key(|stack| std::cmp::Reverse(stack.count));
        let line =
            |stack: &&Stack| format!("{:6} {};{}", stack.count, stack.comm, stack.frames.join(";"));
        stacks.iter().take(12).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// What `--stats FILE` holds.
#[derive(Debug, Clone)]
pub struct Stats(pub serde_json::Value);

impl Stats {
    /// A number at a path of keys, such as `agent.budget_bytes`.
    pub fn number(&self, path: &str) -> f64 {
        let value = path.split('.').fold(&self.0, |value, key| &value[key]);
        value.as_f64().unwrap_or_else(|| panic!("--stats has no number {path}: {value}"))
    }

    /// A count at a path of keys.
    pub fn count(&self, path: &str) -> u64 {
        let value = path.split('.').fold(&self.0, |value, key| &value[key]);
        value.as_u64().unwrap_or_else(|| panic!("--stats has no count {path}: {value}"))
    }

    /// The sum of a table of counts by reason.
    pub fn sum(&self, key: &str) -> u64 {
        sum(&self.0[key], key)
    }

    /// The processes, one entry each.
    pub fn processes(&self) -> Vec<Process> {
        let list = self.0["processes"].as_array().expect("--stats lists processes");
        list.iter()
            .map(|entry| Process {
                pid: entry["pid"].as_u64().expect("a process has a pid") as u32,
                comm: entry["comm"].as_str().expect("a process has a comm").to_owned(),
                exe: entry["exe"].as_str().unwrap_or_default().to_owned(),
                samples: entry["samples"].as_u64().expect("a process has samples"),
                whole: entry["whole"].as_u64().expect("a process has a count of whole stacks"),
                cut: reasons(&entry["cut"]),
            })
            .collect()
    }

    /// All processes of one command name, added up.
    pub fn of(&self, comm: &str) -> Process {
        let mut total = Process { comm: comm.to_owned(), ..Process::default() };
        for process in self.processes().into_iter().filter(|process| process.comm == comm) {
            total.pid = process.pid;
            total.samples += process.samples;
            total.whole += process.whole;
            for (reason, count) in process.cut {
                *total.cut.entry(reason).or_default() += count;
            }
        }
        total
    }
}

fn sum(table: &serde_json::Value, key: &str) -> u64 {
    let table = table.as_object().unwrap_or_else(|| panic!("--stats has no table {key}"));
    table.values().map(|count| count.as_u64().expect("a count")).sum()
}

fn reasons(table: &serde_json::Value) -> BTreeMap<String, u64> {
    let table = table.as_object().expect("cut stacks are counted by reason");
    table.iter().map(|(key, count)| (key.clone(), count.as_u64().expect("a count"))).collect()
}

/// A process in `--stats`.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// Its executable.
    pub exe: String,
    /// Samples.
    pub samples: u64,
    /// Samples whose stacks are whole.
    pub whole: u64,
    /// Samples whose stacks are cut, by reason.
    pub cut: BTreeMap<String, u64>,
}

impl Process {
    /// Samples whose stacks are cut.
    pub fn cut_samples(&self) -> u64 {
        self.cut.values().sum()
    }

    /// Fails unless every stack is whole, the first ones included, which are walked while the program's
    /// rows are being loaded.
    pub fn assert_whole(&self) {
        assert_eq!(self.cut_samples(), 0, "{} has cut stacks: {:?}", self.comm, self.cut);
        assert_eq!(self.whole, self.samples, "{}", self.comm);
    }
}

/// What a finished `hotframe record` left.
pub struct Recording {
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its messages.
    pub stderr: String,
    /// Its folded stacks; empty when the file was not written.
    pub folded: Folded,
    /// Its books; `None` when the file was not written.
    pub stats: Option<Stats>,
    /// Where its files are.
    pub scratch: Scratch,
}

impl Recording {
    /// The books of a recording that must have written them.
    pub fn stats(&self) -> &Stats {
        self.stats.as_ref().unwrap_or_else(|| panic!("no --stats file; it said:\n{}", self.stderr))
    }

    /// The exit code as a shell gives it: 128 + the signal's number when killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails unless the identities of the books hold to the last sample.
    pub fn assert_books(&self) {
        let stats = self.stats();
        let taken = stats.count("samples_taken");
        let emitted = stats.count("samples_emitted");
        assert_eq!(
            stats.count("ticks_expected"),
            stats.count("ticks_missed") + stats.sum("samples_filtered") + taken,
            "ticks: {}",
            stats.0
        );
        assert_eq!(taken, emitted + stats.sum("samples_lost"), "samples: {}", stats.0);
        assert_eq!(
            emitted,
            stats.count("stacks_whole") + stats.sum("stacks_cut"),
            "stacks: {}",
            stats.0
        );
        assert!(stats.count("stacks_heuristic") <= emitted);
        let mut of_processes = 0;
        for process in stats.processes() {
            assert_eq!(process.samples, process.whole + process.cut_samples(), "{process:?}");
            of_processes += process.samples;
        }
        assert_eq!(of_processes, emitted, "the processes' samples: {}", stats.0);
        assert_eq!(self.folded.samples(|_| true), emitted, "the folded file's samples");
        for (kind, frames) in stats.0["frames"].as_object().expect("frames by kind") {
            let (total, named) = (frames["total"].as_u64(), frames["named"].as_u64());
            assert!(named.is_some() && named <= total, "{kind}: {frames}");
        }
    }
}

/// A running `hotframe record`.
pub struct Recorder {
    child: Option<Child>,
    scratch: Scratch,
    timed_out_hint: String,
}

/// hotframe as a terminal starts it: in a script's background job, where these tests may run, Ctrl-C is
/// ignored, and whoever inherits that cannot trap it.
fn hotframe_with_signals() -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    const SIGINT: u64 = 1 << 1;
    if ignored & SIGINT == 0 {
        return Command::new(hotframe());
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,QUIT").arg(hotframe());
    command
}

impl Recorder {
    /// Starts `hotframe record --stats … -o ….folded ARGS`, in a process group of its own.
    pub fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Recorder {
        Recorder::with(args, |_| {})
    }

    /// The same, with changes to the command (environment, working directory) beforehand.
    pub fn with<S: AsRef<OsStr>>(
        args: impl IntoIterator<Item = S>,
        change: impl FnOnce(&mut Command),
    ) -> Recorder {
        let scratch = Scratch::new();
        let mut command = hotframe_with_signals();
        command.arg("record").arg("--stats").arg(scratch.path("stats.json"));
        command.arg("-o").arg(scratch.path("out.folded")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        change(&mut command);
        let child = command.spawn().expect("hotframe starts");
        Recorder { child: Some(child), scratch, timed_out_hint: format!("{command:?}") }
    }

    /// Its process id, which is its process group too.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Waits until it holds perf events and BPF programs, that is, until it samples.
    pub fn wait_until_sampling(&mut self) {
        let fds = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        let hint = self.timed_out_hint.clone();
        wait_for(&format!("{hint} to sample"), || {
            let links: Vec<String> = fs::read_dir(&fds)
                .ok()?
                .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
                .map(|link| link.to_string_lossy().into_owned())
                .collect();
            let holds = |what: &str| links.iter().any(|link| link.contains(what));
            (holds("perf_event") && holds("bpf")).then_some(())
        });
    }

    /// Waits for its end and reads what it wrote.
    pub fn finish(mut self) -> Recording {
        let mut child = self.child.take().expect("it is finished once");
        // Both pipes are drained while it runs, or a full one would stop it.
        let mut out = child.stdout.take().expect("piped");
        let mut err = child.stderr.take().expect("piped");
        let out = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = out.read_to_end(&mut bytes);
            bytes
        });
        let err = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = err.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if start.elapsed() > DEADLINE {
                let _ = child.kill();
                let _ = child.wait();
                let said = err.join().unwrap_or_default();
                panic!("{} did not end in {DEADLINE:?}:\n{said}", self.timed_out_hint);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let scratch = std::mem::take(&mut self.scratch);
        let folded = fs::read(scratch.path("out.folded"))
            .map(|bytes| Folded::parse(&String::from_utf8(bytes).expect("folded is UTF-8")))
            .unwrap_or_default();
        let stats = fs::read(scratch.path("stats.json"))
            .ok()
            .map(|bytes| Stats(serde_json::from_slice(&bytes).expect("--stats is JSON")));
        Recording {
            status,
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
            folded,
            stats,
            scratch,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One recording that must succeed, its books checked.
pub fn record<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Recording {
    let recording = Recorder::start(args).finish();
    assert_eq!(recording.code(), 0, "hotframe failed:\n{}", recording.stderr);
    recording.assert_books();
    recording
}

/// Records for 1, 2, 4, … seconds until there is enough to look at. What was seen is asserted by
/// the caller: `enough` must only ask whether there are samples, not whether they are right.
pub fn record_until<S: AsRef<OsStr>>(args: &[S], enough: impl Fn(&Recording) -> bool) -> Recording {
    let start = Instant::now();
    let mut seconds = 1;
    loop {
        let duration = seconds.to_string();
        let all = args.iter().map(AsRef::as_ref).chain(["-d".as_ref(), OsStr::new(&duration)]);
        let recording = record(all);
        if enough(&recording) {
            return recording;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "recorded for {seconds} s and did not see enough of it:\n{}\n{}",
            recording.folded.summary(),
            recording.stderr
        );
        seconds = (seconds * 2).min(16);
    }
}

/// Records one process until there are some 50 samples of it.
pub fn record_pid(pid: u32) -> Recording {
    record_until(&["-p", &pid.to_string()], |recording| recording.folded.samples(|_| true) >= 50)
}

/// The first line that a program prints.
pub fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut out = io::BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    line
}

/// A frame of a stored profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Function.
    pub name: String,
    /// Source file; empty: none is known.
    pub file: String,
    /// Line; 0: none is known.
    pub line: u64,
}

/// Stacks of a profile in Firefox Profiler's format, root first.
pub fn firefox_stacks(path: &Path) -> Vec<Vec<Frame>> {
    let text = fs::read(path).expect("the profile");
    let profile: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let mut all = Vec::new();
    for thread in profile["threads"].as_array().expect("threads") {
        let strings = match &thread["stringArray"] {
            serde_json::Value::Null => &profile["shared"]["stringArray"],
            strings => strings,
        };
        let at = |value: &serde_json::Value| value.as_u64().map(|at| at as usize);
        let string = |value: &serde_json::Value| {
            let text = at(value).and_then(|at| strings[at].as_str());
            text.unwrap_or_default().to_owned()
        };
        for stack in thread["samples"]["stack"].as_array().expect("samples") {
            let mut frames = Vec::new();
            let mut next = at(stack);
            while let Some(stack) = next {
                let table = &thread["stackTable"];
                let frame = at(&table["frame"][stack]).expect("a frame");
                let function = at(&thread["frameTable"]["func"][frame]).expect("a function");
                frames.push(Frame {
                    name: string(&thread["funcTable"]["name"][function]),
                    file: string(&thread["funcTable"]["fileName"][function]),
                    line: thread["frameTable"]["line"][frame].as_u64().unwrap_or_default(),
                });
                next = at(&table["prefix"][stack]);
            }
            frames.reverse();
            all.push(frames);
        }
    }
    all
}
