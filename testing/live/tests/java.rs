//! HotSpot: what a busy JVM says of its own calls, against what was recorded.
//!
//! `testing/workloads/java/Truth.java` prints each call between its methods, as the VM sees it, and
//! runs. Each recorded stack must be a path of that: one neighbour that was not said fails.
//!
//! JVMs are those below /usr/lib/jvm and in `HOTFRAME_JVMS` (homes, with colons between them); the
//! classes are compiled by the `javac` of the path. `HOTFRAME_ASYNC_PROFILER` is the library of
//! another profiler, whose shares are compared. `make test-runtimes` fetches JVMs and that.

use hotframe_live::{
    Folded, Frame, Recording, Scratch, firefox_stacks, has_program, live, record, run, skipped,
    wait_for,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Everything but what is unloaded on purpose.
const LASTING: [&str; 12] = [
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
const SOURCES: [&str; 4] = ["Truth.java", "Gen0000.java", "ManyMethods.java", "Compile.java"];

/// The JVMs of this machine: their homes.
fn homes() -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("HOTFRAME_JVMS")
        .map(|homes| std::env::split_paths(&homes).collect())
        .unwrap_or_default();
    if let Ok(entries) = fs::read_dir("/usr/lib/jvm") {
        homes.extend(entries.filter_map(|entry| entry.ok()?.path().canonicalize().ok()));
    }
    homes.retain(|home| {
        home.join("bin/java").is_file() && home.join("lib/server/libjvm.so").is_file()
    });
    homes.sort();
    homes.dedup();
    homes
}

/// The compiled workloads; `None` where there is no compiler or no JVM.
fn classes(scratch: &Scratch) -> Option<PathBuf> {
    if !has_program("javac") || homes().is_empty() {
        skipped("needs a JDK");
        return None;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java");
    let out = scratch.path("classes");
    let mut args = vec!["--release".into(), "11".into(), "-d".into(), out.clone().into_os_string()];
    for name in SOURCES {
        args.push(sources.join(name).into_os_string());
    }
    run("javac", args);
    Some(out)
}

/// A JVM at work.
struct Jvm {
    child: std::process::Child,
    /// What it said before `ready`.
    said: String,
}

impl Jvm {
    fn start(home: &Path, scratch: &Scratch, args: &[&str]) -> Jvm {
        let path = scratch.path("said.txt");
        let file = File::create(&path).expect("a file for its output");
        let child = Command::new(home.join("bin/java"))
            .args(["-Xmx256m", "-cp"])
            .arg(scratch.path("classes"))
            .args(args)
            .stdout(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        // From here on it is killed whatever happens.
        let mut jvm = Jvm { child, said: String::new() };
        jvm.said = wait_for("a JVM to be ready", || {
            let said = fs::read_to_string(&path).ok()?;
            said.ends_with("ready\n").then_some(said)
        });
        jvm
    }

    fn record(&self, seconds: u32) -> Recording {
        self.record_with(seconds, &[])
    }

    fn record_with(&self, seconds: u32, args: &[&str]) -> Recording {
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
struct Truth {
    calls: BTreeSet<(String, String)>,
    roots: BTreeSet<String>,
    /// Lines from which a caller calls a callee.
    lines: BTreeMap<(String, String), BTreeSet<u64>>,
}

/// How many lines of callers were looked at, and which were wrong; leaves, and those with a line.
#[derive(Debug, Default)]
struct Lines {
    callers: u64,
    wrong: Vec<String>,
    leaves: u64,
    leaves_with_line: u64,
}

impl Truth {
    fn parse(said: &str) -> Truth {
        let mut truth =
            Truth { calls: BTreeSet::new(), roots: BTreeSet::new(), lines: BTreeMap::new() };
        for line in said.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["call", caller, line, callee] => {
                    let call = ((*caller).to_owned(), (*callee).to_owned());
                    // -1: none, -2: a native method.
                    let line: i64 = line.parse().expect("a line");
                    truth.lines.entry(call.clone()).or_default().insert(line.max(0) as u64);
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
    fn allows(&self, caller: &str, callee: &str) -> bool {
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
    fn lines(&self, stacks: &[Vec<Frame>]) -> Lines {
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
    fn check(&self, folded: &Folded, what: &str) -> u64 {
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
            // Nothing of a recursion is left out.
            let depth = ours.iter().filter(|name| **name == "Truth$Recursion.down").count();
            if ours.contains(&"Truth$Recursion.bottom") {
                assert_eq!(depth, 601, "{what}: a recursion of 601");
            }
        }
        samples
    }
}

/// At least `permille` of `total`.
fn is_share(part: u64, total: u64, permille: u64) -> bool {
    part * 1000 >= total * permille
}

fn check_modes(modes: &[&[&str]], sections: &[&str], seconds: u32, named_permille: Option<u64>) {
    check_homes(&homes(), modes, sections, seconds, named_permille);
}

fn check_homes(
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
            assert!(
                is_share(whole, all, 990) || all - whole <= 2,
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

/// The interpreter alone: every stack a path, every frame named.
#[test]
fn interpreted() {
    live!();
    check_modes(&[&["-Xint"]], &LASTING, 8, Some(995));
}

/// Compiled by both compilers, by C1 alone, with one code heap: the same.
#[test]
fn compiled() {
    live!();
    let modes: [&[&str]; 3] = [&[], &["-XX:TieredStopAtLevel=1"], &["-XX:-SegmentedCodeCache"]];
    check_modes(&modes, &LASTING, 8, Some(995));
}

/// Collectors with barriers of their own at method entries, other class pointers.
#[test]
fn collectors() {
    live!();
    let modes: [&[&str]; 3] = [
        &["-XX:+UseSerialGC"],
        &["-XX:+UseParallelGC", "-XX:-UseCompressedClassPointers"],
        &["-XX:+UnlockExperimentalVMOptions", "-XX:+UseZGC"],
    ];
    check_modes(&modes, &["inline", "lambdas", "megamorphic", "exceptions"], 4, None);
}

/// Objects' headers as they are from 25 on, if one asks for it.
#[test]
fn compact_object_headers() {
    live!();
    let is_new = |home: &Path| {
        let release = fs::read_to_string(home.join("release")).unwrap_or_default();
        let version = release.split_once("JAVA_VERSION=\"").map_or("", |(_, rest)| rest);
        version.split(['.', '"']).next().and_then(|n| n.parse().ok()).unwrap_or(0) >= 25
    };
    if !homes().iter().any(|home| is_new(home)) {
        return skipped("needs JDK 25");
    }
    let modes: [&[&str]; 1] = [&["-XX:+UseCompactObjectHeaders"]];
    let homes: Vec<PathBuf> = homes().into_iter().filter(|home| is_new(home)).collect();
    check_homes(&homes, &modes, &LASTING, 6, Some(995));
}

/// Classes that are unloaded within milliseconds of their run: named before they go, as far as the
/// reader gets a CPU in time, and none wrongly.
#[test]
fn unloaded_classes_have_no_wrong_names() {
    live!();
    check_modes(&[&[], &["-Xint"]], &["churn", "lambdas"], 15, Some(930));
}

/// Real code that compiles while it is looked at, from its first second on: javac.
#[test]
fn javac() {
    live!();
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java");
    let sources = SOURCES.map(|name| sources.join(name).to_string_lossy().into_owned());
    let out = scratch.path("compiled").to_string_lossy().into_owned();
    let mut args = vec!["Compile", out.as_str()];
    args.extend(sources.iter().map(String::as_str));
    for home in homes().iter().filter(|home| home.join("bin/javac").is_file()) {
        let jvm = Jvm::start(home, &scratch, &args);
        let recording = jvm.record(10);
        let stats = recording.stats();
        let what = home.display();
        let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
        let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
        println!(
            "{what} javac: {all} samples, {whole} whole, {named} of {total} Java frames named"
        );
        let is_whole = is_share(whole, all, 990) || all - whole <= 2;
        assert!(is_whole, "{what}: {whole} of {all} are whole: {}", stats.0["stacks_cut"]);
        assert!(is_share(named, total, 995), "{what}: {named} of {total} are named");
        let javac =
            recording.folded.samples(|stack| stack.has("com.sun.tools.javac.main.Main.compile"));
        assert!(javac >= 20, "{what}: {javac} samples of javac:\n{}", recording.folded.summary());
    }
}

/// Another profiler, inside of the JVM, sees the same program: shares of the methods at work differ by
/// what chance and its own clock allow.
#[test]
fn agrees_with_async_profiler() {
    live!();
    let scratch = Scratch::new();
    let Some(library) = std::env::var_os("HOTFRAME_ASYNC_PROFILER") else {
        return skipped("needs HOTFRAME_ASYNC_PROFILER (make test-runtimes)");
    };
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        let theirs = scratch.path("theirs.folded");
        let sections =
            ["inline", "recursion", "lambdas", "megamorphic", "exceptions", "locks", "osr"];
        let jvm = Jvm::start(&home, &scratch, &[&["Truth"][..], &sections].concat());
        // It is loaded when the program has told, so that both see the same.
        let agent = |what: &str| {
            let pid = jvm.child.id().to_string();
            let library = library.to_string_lossy();
            // Quoted, or what is before the first "=" is taken for an option of the command.
            let arguments = format!("\"{what},collapsed,file={}\"", theirs.display());
            run("jcmd", [pid.as_str(), "JVMTI.agent_load", &library, &arguments]);
        };
        agent("start,event=itimer,interval=5ms");
        let recording = jvm.record_with(15, &["-F", "499"]);
        agent("stop");
        let text = fs::read_to_string(&theirs).expect("the other profile");
        let mut them: BTreeMap<String, u64> = BTreeMap::new();
        let mut all_theirs = 0;
        for line in text.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let count: u64 = count.parse().expect("a count");
            let names: BTreeSet<&str> =
                stack.split(';').filter(|name| name.starts_with("Truth")).collect();
            if names.is_empty() {
                continue;
            }
            all_theirs += count;
            for name in names {
                *them.entry(name.replace('/', ".")).or_default() += count;
            }
        }
        let ours = |wanted: &str| {
            recording
                .folded
                .samples(|stack| stack.frames.iter().any(|name| name.starts_with(wanted)))
        };
        let all_ours = ours("Truth");
        assert!(all_ours >= 100 && all_theirs >= 100, "{all_ours} and {all_theirs} samples");
        let mut compared = 0;
        let mut worst = (0.0, String::new());
        for (name, count) in &them {
            let (mine, their) =
                (ours(name) as f64 / all_ours as f64, *count as f64 / all_theirs as f64);
            // Where a leaf without debug information of its own may belong.
            if mine.max(their) < 0.02 || name.contains("Lambda") || name == "Truth.tell" {
                continue;
            }
            compared += 1;
            if (mine - their).abs() > worst.0 {
                worst = ((mine - their).abs(), format!("{name}: {mine:.3}, they {their:.3}"));
            }
        }
        println!(
            "{} async-profiler: {compared} methods compared, worst {}",
            home.display(),
            worst.1
        );
        assert!(compared >= 5, "{compared} methods");
        // Four standard deviations of a share of one half, and the ends of the recordings.
        let allowed = 0.03 + 4.0 * 0.5 * (1.0 / all_ours as f64 + 1.0 / all_theirs as f64).sqrt();
        assert!(worst.0 < allowed, "{}: {} (allowed {allowed:.3})", home.display(), worst.1);
    }
}

/// The founding defect: tens of thousands of hot methods keep their names, inside the budget.
#[test]
fn many_methods_inside_the_budget() {
    live!();
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().next() else { return };
    let jvm = Jvm::start(&home, &scratch, &["-Xint", "ManyMethods", "30000", "40"]);
    let pid = jvm.child.id().to_string();
    let recording = record(["-p", pid.as_str(), "-d", "60", "-F", "2000"]);
    let stats = recording.stats();
    let mut methods = BTreeSet::new();
    for stack in &recording.folded.stacks {
        let ours: Vec<&String> =
            stack.frames.iter().filter(|name| name.starts_with("many.C")).collect();
        methods.extend(ours.iter().map(|name| (*name).clone()));
        for two in ours.windows(2) {
            let class = |name: &str| name.rsplit_once('.').map(|(class, _)| class.to_owned());
            assert_eq!(class(two[0]), class(two[1]), "one class calls itself only: {two:?}");
        }
    }
    let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
    let held = stats.number("agent.rss_peak_bytes") + stats.number("agent.map_bytes");
    println!(
        "{} samples, {} methods, {named} of {total} frames named, {:.1} MiB",
        stats.count("samples_emitted"),
        methods.len(),
        held / f64::from(1 << 20)
    );
    assert!(methods.len() >= 5000, "only {} methods were met", methods.len());
    assert!(is_share(named, total, 990), "{named} of {total} frames are named");
    assert!(held <= stats.number("agent.budget_bytes"), "{held} bytes");
}
