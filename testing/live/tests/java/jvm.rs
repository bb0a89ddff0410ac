//! JVMs at work, and their own word against a recording.

use hotframe_live::{
    Folded, Frame, Recording, Scratch, Stats, by_tail_calls, firefox_stacks, has_program, record,
    run, skipped, wait_for,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Everything but what is unloaded on purpose.
pub const LASTING: [&str; 12] = [
    "inline",
    "recursion",
    "intrinsics",
    "lambdas",
    "megamorphic",
    "exceptions",
    "reflection",
    "native",
    "locks",
    "osr",
    "deopt",
    "virtual",
];

/// The workloads.
pub const SOURCES: [&str; 15] = [
    "Truth.java",
    "Between.java",
    "Gen0000.java",
    "ManyMethods.java",
    "Leaf.java",
    "Redefined.java",
    "Compile.java",
    "Deoptimised.java",
    "Frameless.java",
    "Traps.java",
    "Brief.java",
    "Unsaved.java",
    "Waiting.java",
    "Searches.java",
    "Maths.java",
];

/// Where a JVM's library is; in 8 and before in a folder for the machine.
pub const LIBJVM: [&str; 3] =
    ["lib/server/libjvm.so", "jre/lib/amd64/server/libjvm.so", "jre/lib/aarch64/server/libjvm.so"];

/// The JVMs of this machine: their homes.
pub fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("HOTFRAME_JVMS")
        .map(|homes| std::env::split_paths(&homes).collect())
        .unwrap_or_default();
    if let Ok(entries) = fs::read_dir("/usr/lib/jvm") {
        homes.extend(entries.filter_map(|entry| entry.ok()?.path().canonicalize().ok()));
    }
    homes.retain(|home| {
        home.join("bin/java").is_file() && LIBJVM.iter().any(|at| home.join(at).is_file())
    });
    homes.sort();
    homes.dedup();
    homes
}

/// Those of which a copy runs as well: the launcher is a program, not a script that enters another
/// system's tree, and libjvm lies where it has been since 9.
pub fn copyable_homes() -> Vec<PathBuf> {
    let is_program = |path: PathBuf| fs::read(path).is_ok_and(|file| file.starts_with(b"\x7fELF"));
    let mut homes = homes();
    homes.retain(|home| {
        let is_copyable = home.join(LIBJVM[0]).is_file() && is_program(home.join("bin/java"));
        if !is_copyable {
            skipped(&format!("{}: a copy of it would not run", home.display()));
        }
        is_copyable
    });
    homes
}

/// The compiled workloads; `None` where there is no compiler or no JVM.
pub fn classes(scratch: &Scratch) -> Option<PathBuf> {
    if !has_program("javac") || homes().is_empty() {
        skipped("needs a JDK");
        return None;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java");
    let out = scratch.path("classes");
    let mut args = vec!["--release".into(), "8".into(), "-d".into(), out.clone().into_os_string()];
    for name in SOURCES {
        args.push(sources.join(name).into_os_string());
    }
    run("javac", args);
    Some(out)
}

/// A JVM at work.
pub struct Jvm {
    pub child: Child,
    /// What it said before `ready`.
    pub said: String,
}

impl Jvm {
    pub fn start(home: &Path, scratch: &Scratch, args: &[&str]) -> Jvm {
        Jvm::start_with(home, scratch, args, |_| {})
    }

    /// The same, with changes to the command beforehand.
    pub fn start_with(
        home: &Path,
        scratch: &Scratch,
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Jvm {
        let mut jvm = Jvm::spawn(home, scratch, args, change);
        let path = scratch.path("said.txt");
        jvm.said = wait_for("a JVM to be ready", || {
            let said = fs::read_to_string(&path).ok()?;
            said.ends_with("ready\n").then_some(said)
        });
        jvm
    }

    /// Starts one and does not wait for it. It is killed whatever happens.
    pub fn spawn(
        home: &Path,
        scratch: &Scratch,
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Jvm {
        let file = File::create(scratch.path("said.txt")).expect("a file for its output");
        let mut command = Command::new(home.join("bin/java"));
        // Without debug information for each instruction a leaf belongs to the next call. Where the
        // floor of the recursion is inlined, that may be one which the walk to it has not reached.
        let apart = "-XX:CompileCommand=dontinline,Truth$Recursion::bottom";
        command.args(["-XX:CompileCommand=quiet", apart]);
        // The truth has frames that stack traces leave out, and not every JVM has every mode.
        command.args(["-XX:+UnlockDiagnosticVMOptions", "-XX:+ShowHiddenFrames"]);
        command
            .args(["-XX:+IgnoreUnrecognizedVMOptions", "-Xmx256m", "-cp"])
            .arg(scratch.path("classes"))
            .args(args);
        command.stdout(file).stderr(Stdio::null());
        change(&mut command);
        Jvm { child: command.spawn().expect("java starts"), said: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn record(&self, seconds: u32) -> Recording {
        self.record_with(seconds, &[])
    }

    pub fn record_with(&self, seconds: u32, args: &[&str]) -> Recording {
        let (pid, seconds) = (self.child.id().to_string(), seconds.to_string());
        let own = ["-p", pid.as_str(), "-d", seconds.as_str()];
        record(own.iter().chain(args).copied())
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The calls that were said: caller and callee; and the outermost methods.
pub struct Truth {
    pub calls: BTreeSet<(String, String)>,
    pub roots: BTreeSet<String>,
    /// Lines from which a caller calls a callee.
    pub lines: BTreeMap<(String, String), BTreeSet<u64>>,
}

/// How many lines of callers were looked at, and which were wrong; leaves, and those with a line.
#[derive(Debug, Default)]
pub struct Lines {
    pub callers: u64,
    pub wrong: Vec<String>,
    pub leaves: u64,
    pub leaves_with_line: u64,
}

impl Truth {
    pub fn parse(said: &str) -> Truth {
        let mut truth =
            Truth { calls: BTreeSet::new(), roots: BTreeSet::new(), lines: BTreeMap::new() };
        for line in said.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["call", caller, line, callee] => {
                    let call = ((*caller).to_owned(), (*callee).to_owned());
                    // -1: none, -2: a native method; what has none shows a million and its index in
                    // the bytecode, and no line is above 65,535.
                    let line: i64 = line.parse().expect("a line");
                    let line = u64::from(u16::try_from(line).unwrap_or(0));
                    truth.lines.entry(call.clone()).or_default().insert(line);
                    truth.calls.insert(call);
                }
                ["root", method] => {
                    truth.roots.insert((*method).to_owned());
                }
                _ => {}
            }
        }
        assert!(truth.calls.len() > 20, "the workload said too little:\n{said}");
        truth
    }

    /// Is this a call that happens? An unnamed frame in between hides one.
    pub fn allows(&self, caller: &str, callee: &str) -> bool {
        let number = |name: &str| name.strip_prefix("Gen")?.get(..4)?.parse::<u32>().ok();
        let method = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        if caller.starts_with("[unnamed") || callee.starts_with("[unnamed") {
            return true;
        }
        // The branch that tells is compiled, too: without debug information for each instruction
        // a leaf belongs to the next call.
        if callee == "Truth.tell" || caller == "Truth.tell" {
            return true;
        }
        // What has no calls of its own and is called by many.
        if callee == "Truth.times" || callee == "Truth.has" || method(callee) == "<init>" {
            return true;
        }
        if caller == "Truth$Churn.rounds" && !callee.starts_with("Truth$Churn.round") {
            return callee.starts_with("Truth$Churn");
        }
        match (number(caller), number(callee)) {
            (None, Some(n)) => {
                caller == format!("Truth$Churn.round{}", n % 8) && method(callee) == "run"
            }
            (Some(a), Some(b)) => a == b && method(caller) == "run" && method(callee) == "inner",
            (Some(_), None) => method(caller) == "inner" && callee == "Truth.work",
            (None, None) => self.calls.contains(&(caller.to_owned(), callee.to_owned())),
        }
    }

    /// Looks at the lines from which the program's methods call each other.
    pub fn lines(&self, stacks: &[Vec<Frame>]) -> Lines {
        let mut all = Lines::default();
        for stack in stacks {
            for two in stack.windows(2) {
                let [caller, callee] = two else { continue };
                let call = (caller.name.clone(), callee.name.clone());
                // What is made by the VM (lambdas' classes, bridges) has no lines.
                let lines = self.lines.get(&call).filter(|lines| lines.iter().any(|&n| n > 0));
                let Some(lines) = lines else { continue };
                all.callers += 1;
                if !lines.contains(&caller.line) {
                    all.wrong.push(format!(
                        "{}:{} calls {}, said are {lines:?}",
                        call.0, caller.line, call.1
                    ));
                }
            }
            if let Some(leaf) = stack.last().filter(|leaf| leaf.name.starts_with("Truth")) {
                all.leaves += 1;
                all.leaves_with_line += u64::from(leaf.line > 0);
            }
        }
        all
    }

    /// Checks all stacks; returns how many samples had a method of the workload.
    pub fn check(&self, folded: &Folded, what: &str) -> u64 {
        let mut samples = 0;
        for stack in &folded.stacks {
            let ours: Vec<&str> = stack
                .frames
                .iter()
                .map(String::as_str)
                .filter(|name| {
                    name.starts_with("Truth")
                        || name.starts_with("[unnamed")
                        || name
                            .strip_prefix("Gen")
                            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                })
                .collect();
            for two in ours.windows(2) {
                let [caller, callee] = two else { continue };
                assert!(
                    self.allows(caller, callee),
                    "{what}: {caller} does not call {callee}:\n{}",
                    stack.frames.join("\n")
                );
            }
            samples += if ours.is_empty() { 0 } else { stack.count };
            // A thread's stack begins with its root. Virtual threads begin anywhere: their callers
            // may be in the heap.
            let is_whole = stack.frames.iter().take(4).any(|name| name.contains("clone"));
            if let Some(first) = ours.first().filter(|_| is_whole)
                && !first.starts_with("[unnamed")
                && !first.starts_with("Truth$Virtual")
            {
                assert!(
                    self.roots.contains(*first),
                    "{what}: {first} is no root:\n{}",
                    stack.frames.join("\n")
                );
            }
            // Nothing of a recursion is left out. (One that was cut ends somewhere in it.)
            let depth = ours.iter().filter(|name| **name == "Truth$Recursion.down").count();
            let unnamed = ours.iter().filter(|name| name.starts_with("[unnamed")).count();
            if is_whole && ours.contains(&"Truth$Recursion.bottom") {
                let range = 601_usize.saturating_sub(unnamed)..=601;
                assert!(range.contains(&depth), "{what}: {depth} of 601, {unnamed} unnamed");
            }
        }
        samples
    }
}

/// At least `permille` of `total`.
pub fn is_share(part: u64, total: u64, permille: u64) -> bool {
    part * 1000 >= total * permille
}

pub fn check_modes(
    modes: &[&[&str]],
    sections: &[&str],
    seconds: u32,
    named_permille: Option<u64>,
) {
    check_homes(&homes(), modes, sections, seconds, named_permille);
}

pub fn check_homes(
    homes: &[PathBuf],
    modes: &[&[&str]],
    sections: &[&str],
    seconds: u32,
    named_permille: Option<u64>,
) {
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes {
        for mode in modes {
            let what = format!("{} {}", home.display(), mode.join(" "));
            let args: Vec<&str> =
                mode.iter().copied().chain(["Truth"]).chain(sections.iter().copied()).collect();
            let jvm = Jvm::start(home, &scratch, &args);
            let truth = Truth::parse(&jvm.said);
            let profile = scratch.path("profile.firefox.json");
            let profile_arg = profile.to_string_lossy().into_owned();
            let recording = jvm.record_with(seconds, &["-o", &profile_arg]);
            let stats = recording.stats();
            let samples = truth.check(&recording.folded, &what);
            let lines = truth.lines(&firefox_stacks(&profile));
            assert!(
                samples >= 20,
                "{what}: {samples} samples of the workload\n{}",
                recording.stderr
            );
            let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
            // A host that takes its CPU away lets a walk run out of time, and a page that the kernel
            // moves at that moment cannot be read.
            let disturbed =
                stats.count("stacks_cut.time") + stats.count("stacks_cut.stack_unreadable");
            // By tail calls 512 frames are the limit, and the recursion has 600.
            let deep = if by_tail_calls() { stats.count("stacks_cut.too_deep") } else { 0 };
            let disturbed = disturbed.min(all / 50) + deep;
            assert!(
                is_share(whole + disturbed, all, 990) || all - whole <= 2,
                "{what}: {whole} of {all} stacks are whole: {}",
                stats.0["stacks_cut"]
            );
            let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
            if let Some(permille) = named_permille {
                assert!(is_share(named, total, permille), "{what}: {named} of {total} are named");
            }
            println!(
                "{what}: {all} samples, {whole} whole, {named} of {total} Java frames named, \
                 {} of {} lines of callers wrong, {} of {} leaves have a line",
                lines.wrong.len(),
                lines.callers,
                lines.leaves_with_line,
                lines.leaves,
            );
            assert!(
                lines.wrong.len() as u64 * 100 <= lines.callers,
                "{what}: {} of {} lines are wrong: {:#?}",
                lines.wrong.len(),
                lines.callers,
                &lines.wrong[..lines.wrong.len().min(10)]
            );
        }
    }
}

/// A JDK's feature release, as it says itself; 0: it does not.
pub fn feature_release(home: &Path) -> u32 {
    let release = fs::read_to_string(home.join("release")).unwrap_or_default();
    let version = release.split_once("JAVA_VERSION=\"").map_or("", |(_, rest)| rest);
    version.split(['.', '"']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Why a process has no Java frames, as the report says it; empty: it has.
pub fn problem(stats: &Stats, pid: u32) -> String {
    let reports = stats.0["runtimes"].as_array().expect("reports of runtimes");
    let report = reports
        .iter()
        .find(|report| report["pid"] == pid && report["runtime"] == "hotspot")
        .unwrap_or_else(|| panic!("no report of {pid}: {reports:?}"));
    report["problem"].as_str().expect("a problem").to_owned()
}

/// A process in the books.
pub fn process_of(stats: &Stats, pid: u32) -> hotframe_live::Process {
    let mut all = stats.processes().into_iter().filter(|process| process.pid == pid);
    let first = all.next().unwrap_or_else(|| panic!("no samples of {pid}"));
    all.fold(first, |mut sum, next| {
        sum.samples += next.samples;
        sum.whole += next.whole;
        for (reason, count) in next.cut {
            *sum.cut.entry(reason).or_default() += count;
        }
        sum
    })
}
