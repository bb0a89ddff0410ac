//! HotSpot: what a busy JVM says of its own calls, against what was recorded.
//!
//! `testing/workloads/java/Truth.java` prints each call between its methods, as the VM sees it, and
//! runs. Each recorded stack must be a path of that: one neighbour that was not said fails.
//!
//! JVMs are those below /usr/lib/jvm and in `HOTFRAME_JVMS` (homes, with colons between them); the
//! classes are compiled by the `javac` of the path. `HOTFRAME_ASYNC_PROFILER` is the library of
//! another profiler, whose shares are compared. `make test-runtimes` fetches JVMs and that.

use hotframe_live::{
    Folded, Frame, Recorder, Recording, Scratch, Stack, Stats, by_tail_calls, firefox_stacks,
    has_program, hotframe, live, program, record, run, send, skipped, wait_for,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
const SOURCES: [&str; 15] = [
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
const LIBJVM: [&str; 3] =
    ["lib/server/libjvm.so", "jre/lib/amd64/server/libjvm.so", "jre/lib/aarch64/server/libjvm.so"];

/// The JVMs of this machine: their homes.
fn homes() -> Vec<PathBuf> {
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
fn copyable_homes() -> Vec<PathBuf> {
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
fn classes(scratch: &Scratch) -> Option<PathBuf> {
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
struct Jvm {
    child: Child,
    /// What it said before `ready`.
    said: String,
}

impl Jvm {
    fn start(home: &Path, scratch: &Scratch, args: &[&str]) -> Jvm {
        Jvm::start_with(home, scratch, args, |_| {})
    }

    /// The same, with changes to the command beforehand.
    fn start_with(
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
    fn spawn(
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

    fn pid(&self) -> u32 {
        self.child.id()
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

/// The interpreter alone: every stack a path, every frame named.
#[test]
fn interpreted() {
    live!(beside);
    check_modes(&[&["-Xint"]], &LASTING, 6, Some(995));
}

/// Compiled by both compilers, by C1 alone, with one code heap: the same.
#[test]
fn compiled() {
    live!(beside);
    let modes: [&[&str]; 3] = [&[], &["-XX:TieredStopAtLevel=1"], &["-XX:-SegmentedCodeCache"]];
    check_modes(&modes, &LASTING, 6, Some(995));
}

/// A JVM that the recording itself starts is met while it is being loaded, when libjvm's tables may be
/// anything.
#[test]
fn started_by_record() {
    // A second must be enough for the JVM to start.
    live!();
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    for home in homes() {
        let java = home.join("bin/java");
        for n in 0..4 {
            let options = ["-d", "1", "-F", "397", "--"].map(OsStr::new);
            let command = [java.as_os_str(), "-cp".as_ref(), classes.as_os_str(), "Truth".as_ref()];
            let sections = ["inline", "lambdas", "megamorphic"].map(OsStr::new);
            let recorder = Recorder::start(options.iter().chain(&command).chain(&sections));
            std::thread::sleep(Duration::from_millis(1800));
            send("TERM", i64::from(recorder.pid()));
            let recording = recorder.finish();
            let stats = recording.stats();
            let total = stats.count("frames.jvm.total");
            let what = home.display();
            assert!(
                total >= 100,
                "{what}, start {n}: {total} Java frames: {}",
                stats.0["runtimes"]
            );
        }
    }
}

/// JVMs that live for a tenth of a second, one after the other: each is attached to while it starts, and
/// named before it ends.
#[test]
fn brief_lives() {
    // All that is recorded is this test's own.
    live!();
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    let (mut java, mut cut, mut frames, mut named) = (0, 0, 0, 0);
    for home in homes() {
        let script = "for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do \"$0\" -cp \"$1\" Brief 100; done";
        let options = ["-F", "999", "--", "sh", "-c", script].map(OsStr::new);
        let program = home.join("bin/java");
        let recording =
            Recorder::start(options.into_iter().chain([program.as_os_str(), classes.as_os_str()]))
                .finish();
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let stats = recording.stats();
        let met = recording.folded.samples(|stack| stack.has("StubRoutines::call_stub"));
        // Before the JVM is attached to, its own code is some without tables.
        let missed = stats.count("stacks_cut.no_unwind_info");
        let total = stats.count("frames.jvm.total");
        let of_them = stats.count("frames.jvm.named");
        println!(
            "{}: {met} stacks with Java, {missed} cut, {of_them} of {total} Java frames named",
            home.display()
        );
        (java, cut, frames, named) = (java + met, cut + missed, frames + total, named + of_them);
    }
    assert!(java >= 100, "{java} stacks with Java");
    assert!(is_share(java, java + cut, 930), "{cut} stacks are cut beside {java} with Java");
    // Before it was looked at by its age: 928. What it ran last may still go with it.
    assert!(is_share(named, frames, 970), "{named} of {frames} Java frames are named");
}

/// Collectors with barriers of their own at method entries, other class pointers.
#[test]
fn collectors() {
    live!(beside);
    let modes: [&[&str]; 3] = [
        &["-XX:+UseSerialGC"],
        &["-XX:+UseParallelGC", "-XX:-UseCompressedClassPointers"],
        &["-XX:+UnlockExperimentalVMOptions", "-XX:+UseZGC"],
    ];
    check_modes(&modes, &["inline", "lambdas", "megamorphic", "exceptions"], 4, None);
}

/// A JDK's feature release, as it says itself; 0: it does not.
fn feature_release(home: &Path) -> u32 {
    let release = fs::read_to_string(home.join("release")).unwrap_or_default();
    let version = release.split_once("JAVA_VERSION=\"").map_or("", |(_, rest)| rest);
    version.split(['.', '"']).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Where a virtual thread gives up its carrier.
const DO_YIELD: &str = "jdk.internal.vm.Continuation.doYield";

/// Callers of a virtual thread that wait in the heap: none is left out, however many are there and
/// whatever compiled them, and the carrier's frames follow.
#[test]
fn callers_in_the_heap() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let homes: Vec<PathBuf> =
        homes().into_iter().filter(|home| feature_release(home) >= 21).collect();
    if homes.is_empty() {
        return skipped("needs JDK 21");
    }
    let modes: [&[&str]; 4] = [
        &[],
        &["-Xint"],
        &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        &["-XX:-UseCompressedOops", "-XX:+UseParallelGC"],
    ];
    for home in homes {
        for mode in modes {
            let what = format!("{} {}", home.display(), mode.join(" "));
            let jvm = Jvm::start(&home, &scratch, &[mode, &["Waiting"]].concat());
            let recording = jvm.record(3);
            let (mut samples, mut floors) = (0, 0);
            for stack in &recording.folded.stacks {
                let names: Vec<&str> = stack.frames.iter().map(String::as_str).collect();
                let Some(first) = names.iter().position(|name| name.starts_with("Waiting.")) else {
                    continue;
                };
                // What is cut says so, and has nothing above. While a thread gives up its carrier, its
                // frames are on the stack and in the heap, which its last instructions do not tell, nor
                // the interpreter.
                let is_whole = names.iter().take(4).any(|name| name.contains("clone"));
                let is_in_both = match mode {
                    ["-Xint"] => names.contains(&DO_YIELD),
                    _ => names.last() == Some(&DO_YIELD),
                };
                if !is_whole || is_in_both {
                    continue;
                }
                samples += stack.count;
                let all = names.join("\n");
                assert_eq!(names[first], "Waiting.run", "{what}:\n{all}");
                assert!(names[..first].contains(&"java.lang.VirtualThread.run"), "{what}:\n{all}");
                assert!(names[..first].contains(&"jdk.internal.vm.Continuation.enterSpecial"));
                let down =
                    names[first + 1..].iter().take_while(|name| name.starts_with("Waiting."));
                for (n, name) in down.enumerate() {
                    let expected = if n % 2 == 0 { "Waiting.down" } else { "Waiting.hop" };
                    assert!(
                        *name == expected || *name == "Waiting.floor" || *name == "Waiting.spin",
                        "{what}: {name} where {expected} is:\n{all}"
                    );
                }
                if names.contains(&"Waiting.floor") {
                    floors += stack.count;
                    let n = names.iter().filter(|name| **name == "Waiting.down").count();
                    assert_eq!(n, 121, "{what}:\n{all}");
                }
            }
            assert!(floors >= 20, "{what}: {floors} at the floor, {samples} in all");
            let stats = recording.stats();
            let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
            assert!(is_share(whole, all, 950), "{what}: {whole} of {all} stacks are whole");
            println!(
                "{what}: {all} samples whole: {whole}, {samples} of the threads, {floors} at the floor"
            );
        }
    }
}

/// Where callers in the heap cannot be read a frame stands for them, and the carrier's follow.
#[test]
fn callers_that_are_not_known() {
    const BARRIER: &str = "StubRoutines::cont_returnBarrier";
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().find(|home| feature_release(home) >= 21) else {
        return skipped("needs JDK 21");
    };
    let jvm = Jvm::start(&home, &scratch, &["-XX:+UseZGC", "Waiting"]);
    let recording = jvm.record(3);
    let mut stands = 0;
    for stack in &recording.folded.stacks {
        let Some(first) = stack.frames.iter().position(|name| name.starts_with("Waiting.")) else {
            continue;
        };
        let (before, all) = (&stack.frames[..first], stack.frames.join("\n"));
        if !before.iter().any(|name| name == "java.lang.VirtualThread.runContinuation") {
            continue;
        }
        let is_known = stack.frames[first] == "Waiting.run";
        assert!(is_known || before.last().is_some_and(|name| name == BARRIER), "{all}");
        stands += if is_known { 0 } else { stack.count };
    }
    let stats = recording.stats();
    let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
    assert!(stands >= 20, "{stands} of {all}");
    assert!(is_share(whole, all, 950), "{whole} of {all} stacks are whole");
}

/// Objects' headers as they are from 25 on, if one asks for it.
#[test]
fn compact_object_headers() {
    live!(beside);
    let is_new = |home: &Path| feature_release(home) >= 25;
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
    live!(beside);
    check_modes(&[&[], &["-Xint"]], &["churn", "lambdas"], 10, Some(995));
}

/// Real code that compiles while it is looked at: javac.
#[test]
fn javac() {
    live!(beside);
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
    live!(beside);
    let scratch = Scratch::new();
    let Some(library) = std::env::var_os("HOTFRAME_ASYNC_PROFILER") else {
        return skipped("needs HOTFRAME_ASYNC_PROFILER (make test-runtimes)");
    };
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        if !home.join(LIBJVM[0]).is_file() {
            skipped(&format!("{}: 8 loads no agent on request", home.display()));
            continue;
        }
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
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().next() else { return };
    let jvm = Jvm::start(&home, &scratch, &["-Xint", "ManyMethods", "30000", "40"]);
    let pid = jvm.child.id().to_string();
    let recording = record(["-p", pid.as_str(), "-d", "40", "-F", "2000"]);
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
    // How many of the 30,000 are met is a matter of samples, and so of who else runs: 14,209 in 40 s on a machine
    // that builds, 28,221 in a minute on a quiet one (README.md).
    assert!(methods.len() >= 8_000, "only {} methods were met", methods.len());
    assert!(is_share(named, total, 995), "{named} of {total} frames are named");
    assert!(held <= stats.number("agent.budget_bytes"), "{held} bytes");
}

/// While compiled code's frame becomes one of the interpreter, the stack has its callers, however it
/// was aligned for the call that does it: half of these were cut.
#[test]
fn traps_at_any_alignment() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let args = [
        "-XX:+IgnoreUnrecognizedVMOptions",
        "-XX:+UnlockDiagnosticVMOptions",
        "-XX:-Inline",
        "-XX:-OmitStackTraceInFastThrow",
        "-XX:PerMethodRecompilationCutoff=0",
        "-XX:PerBytecodeRecompilationCutoff=0",
        "-XX:PerMethodTrapLimit=100000",
        "-XX:PerBytecodeTrapLimit=100000",
        "Traps",
    ];
    let mut n = 0;
    for home in homes() {
        let jvm = Jvm::start(&home, &scratch, &args);
        let profile = scratch.path("profile.firefox.json");
        jvm.record_with(5, &["-o", &profile.to_string_lossy()]);
        for stack in firefox_stacks(&profile) {
            if stack.iter().any(|frame| frame.name.contains("::unpack_frames")) {
                n += 1;
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                assert!(names.contains(&"Traps.main"), "{}: {names:?}", home.display());
            }
        }
        println!("{}: {n}", home.display());
    }
    assert!(n > 0, "no frame was met while it was laid out");
}

/// Stubs that have no frame, or whose frame does not stand, are behind the method that called them, or that
/// the exception is handed to: all Java frames up to the last that kept a frame pointer were left out, or
/// what had been called before stood in their place.
#[test]
fn stubs_without_a_frame() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "work"),
        ("work", "noise"),
        ("noise", "noise"),
        ("work", "casts"),
        ("work", "outer"),
        ("work", "passes"),
        ("passes", "interpreted"),
        ("work", "asks"),
        ("casts", "cast"),
        ("outer", "middle"),
        ("middle", "inner"),
    ];
    let exclude = "-XX:CompileCommand=exclude,Frameless::interpreted";
    let mut handed_on = 0;
    for home in homes() {
        for level in ["-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"] {
            let jvm = Jvm::start(&home, &scratch, &[level, "-XX:-Inline", exclude, "Frameless"]);
            let what = format!("{} {level}", home.display());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(4, &["-F", "499", "-o", &profile.to_string_lossy()]);
            let mut n = BTreeMap::new();
            for stack in firefox_stacks(&profile) {
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                for two in names.windows(2) {
                    let Some(caller) = two[0].strip_prefix("Frameless.") else { continue };
                    if let Some(callee) = two[1].strip_prefix("Frameless.") {
                        assert!(calls.contains(&(caller, callee)), "{what}: {names:?}");
                    }
                    // The interpreter hands it on to whom it goes to.
                    if two[1].contains("::exception_handler_for_return_address") {
                        assert_ne!(caller, "main", "{what}: {names:?}");
                        handed_on += u64::from(caller == "passes");
                    }
                }
                let stubs = [
                    "slow_subtype_check",
                    "unwind_exception",
                    "forward",
                    "rethrow",
                    "ExceptionBlob",
                ];
                for (at, name) in names.iter().enumerate() {
                    let Some(stub) = stubs.iter().find(|stub| name.contains(*stub)) else {
                        continue;
                    };
                    // libjvm's own functions, while 27 says "(C1 runtime)" of stubs; and a leaf in
                    // forward_exception, for which there is no rule.
                    let callee = names.get(at + 1).copied().unwrap_or_default();
                    if name.contains('(') && !name.contains(" (")
                        || *stub == "forward" && !callee.contains("handler_for_return_address")
                    {
                        continue;
                    }
                    *n.entry(*stub).or_insert(0) += 1;
                    let behind: &[&str] = match *stub {
                        "slow_subtype_check" => &["Frameless.cast"],
                        _ => &[
                            "Frameless.middle",
                            "Frameless.outer",
                            "Frameless.work",
                            "Frameless.passes",
                            "Frameless.asks",
                        ],
                    };
                    assert!(at > 0 && behind.contains(&names[at - 1]), "{what}: {names:?}");
                }
            }
            println!("{what}: {n:?}");
            assert!(!n.is_empty(), "{what}: no stub was met");
        }
    }
    println!("{handed_on} handed on by the interpreter");
    assert!(handed_on > 0, "nothing was handed on by the interpreter");
}

/// Where a frame does not stand where its size says, its callers are its own: behind the end of a native
/// method's, behind a stub's, in an adapter, and where the caller had pushed something. What had been
/// called before stood in their place.
#[test]
fn frames_that_do_not_stand() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "work"),
        ("work", "noise"),
        ("work", "natives"),
        ("work", "casts"),
        ("work", "outer"),
        ("work", "adapters"),
        ("noise", "noise"),
        ("casts", "cast"),
        ("outer", "middle"),
        ("middle", "inner"),
        ("adapters", "interpreted"),
    ];
    let callers = [
        ("java.lang.Runtime.totalMemory", "natives"),
        ("java.lang.reflect.Array.getLength", "natives"),
        ("slow_subtype_check", "cast"),
        ("I2C/C2I adapters", "adapters"),
    ];
    let exclude = "-XX:CompileCommand=exclude,Between::interpreted";
    for home in homes() {
        for level in ["-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"] {
            let jvm = Jvm::start(&home, &scratch, &[level, "-XX:-Inline", exclude, "Between"]);
            let what = format!("{} {level}", home.display());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(6, &["-o", &profile.to_string_lossy()]);
            let (mut n, mut wrong) = (0, Vec::new());
            for stack in firefox_stacks(&profile) {
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                let mut is_ours = names.iter().any(|name| name.starts_with("Between."));
                let mut is_wrong = false;
                let ours = names.iter().filter_map(|name| name.strip_prefix("Between."));
                let ours: Vec<&str> = ours.collect();
                for two in ours.windows(2) {
                    is_wrong |= !calls.contains(&(two[0], two[1]));
                }
                for two in names.windows(2) {
                    let of = callers.iter().find(|(callee, _)| {
                        two[1].contains(callee) && !two[1].contains(['(', '&'])
                    });
                    if let Some((_, caller)) = of {
                        is_ours = true;
                        is_wrong |= two[0].strip_prefix("Between.") != Some(caller);
                    }
                }
                n += u64::from(is_ours);
                if is_wrong {
                    wrong.push(names.join("\n"));
                }
            }
            println!("{what}: {} of {n} wrong", wrong.len());
            assert!(n >= 100, "{what}: {n} stacks");
            assert!(
                wrong.len() as u64 * 50 <= n,
                "{what}: {} of {n} stacks are wrong:\n{}",
                wrong.len(),
                wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
            );
        }
    }
}

/// While C2's code looks for a string in another, its method's callers are its own, although what it keeps
/// of its strings lies below the frame. What had been called before stood in their place, in half of these
/// samples.
#[test]
fn searches_for_strings() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let callees = ["finds", "constants", "shorts", "wide"];
    for home in homes() {
        let args = ["-XX:-TieredCompilation", "-XX:-Inline", "Searches"];
        let jvm = Jvm::start(&home, &scratch, &args);
        let what = home.display();
        let profile = scratch.path("profile.firefox.json");
        jvm.record_with(8, &["-o", &profile.to_string_lossy()]);
        let (mut n, mut wrong) = (0, Vec::new());
        for stack in firefox_stacks(&profile) {
            let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
            let Some(first) = names.iter().position(|name| name.starts_with("Searches.")) else {
                continue;
            };
            let ours: Vec<&str> =
                names[first..].iter().map_while(|name| name.strip_prefix("Searches.")).collect();
            let beyond = &names[first + ours.len()..];
            let has_more = beyond.iter().any(|name| name.starts_with("Searches."));
            let searches = beyond.iter().any(|name| name.starts_with("java.lang.String"));
            let is_right = match ours[..] {
                ["main", "round", callee] if callees.contains(&callee) => true,
                ["main"] => !searches,
                ["main", "round", ref deeper @ ..] => {
                    !searches && deeper.iter().all(|name| *name == "deep")
                }
                _ => false,
            };
            n += 1;
            if !is_right || has_more {
                wrong.push(names.join("\n"));
            }
        }
        println!("{what}: {} of {n} wrong", wrong.len());
        assert!(n >= 100, "{what}: {n} stacks");
        assert!(
            wrong.len() as u64 * 200 <= n,
            "{what}: {} of {n} stacks are wrong:\n{}",
            wrong.len(),
            wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
        );
    }
}

/// Where code computes on the x87 a method's callers are its own, although operands, and all registers
/// around a call, are pushed below its frame. What had been called before stood in their place, in one in
/// 25 of JDK 8's samples; one in two was guessed.
#[test]
fn pushed_operands() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let callees = ["pows", "exps", "logs", "sines", "tans", "fars", "rests", "shorts"];
    let compilers = ["-XX:-TieredCompilation", "-XX:TieredStopAtLevel=1"];
    for (home, compiler) in homes().iter().flat_map(|home| compilers.map(|c| (home, c))) {
        let jvm = Jvm::start(home, &scratch, &[compiler, "-XX:-Inline", "Maths"]);
        let what = format!("{} {compiler}", home.display());
        let profile = scratch.path("profile.firefox.json");
        let recording = jvm.record_with(8, &["-o", &profile.to_string_lossy()]);
        let (mut n, mut wrong) = (0, Vec::new());
        for stack in firefox_stacks(&profile) {
            let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
            let Some(first) = names.iter().position(|name| name.starts_with("Maths.")) else {
                continue;
            };
            let ours: Vec<&str> =
                names[first..].iter().map_while(|name| name.strip_prefix("Maths.")).collect();
            // C1 does not put them in place of a call without inlining: the interpreter's entry calls a
            // stub, from which the walk went on in `main`.
            let beyond = names.get(first + ours.len()).copied().unwrap_or_default();
            let is_right = match ours[..] {
                ["main", "round", callee] if callees.contains(&callee) => true,
                ["main", "round", ref deeper @ ..] => deeper.iter().all(|name| *name == "deep"),
                ["main"] => !beyond.starts_with("StubRoutines"),
                _ => false,
            };
            n += 1;
            if !is_right {
                wrong.push(names.join("\n"));
            }
        }
        let stats = recording.stats();
        let (heuristic, cut) = (stats.count("stacks_heuristic"), stats.sum("stacks_cut"));
        println!("{what}: {} of {n} wrong, {heuristic} guessed, {cut} cut", wrong.len());
        assert!(n >= 100, "{what}: {n} stacks");
        assert!(
            wrong.len() as u64 * 200 <= n,
            "{what}: {} of {n} stacks are wrong:\n{}",
            wrong.len(),
            wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
        );
        assert!(heuristic * 50 <= n, "{what}: {heuristic} of {n} stacks are guessed");
        assert!(cut * 20 <= n, "{what}: {cut} of {n} stacks are cut");
    }
}

/// A caller that is deoptimised while its callee runs is returned to by its handler: where it stands
/// is read of its frame.
#[test]
fn deoptimised_callers() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java/Deoptimised.java");
    let source = fs::read_to_string(path).expect("the source");
    let line_of = |text: &str| 1 + source.lines().take_while(|line| line.trim() != text).count();
    let expected = [
        ("Deoptimised.main", line_of("sink += caller(one, 200);")),
        ("Deoptimised.caller", line_of("callee();")),
        ("Deoptimised.callee", line_of("spin();")),
    ];
    for home in homes() {
        for mode in [&[][..], &["-XX:TieredStopAtLevel=1"]] {
            let quiet = "-XX:CompileCommand=quiet";
            let apart = "-XX:CompileCommand=dontinline,Deoptimised::callee";
            let jvm = Jvm::start(&home, &scratch, &[mode, &[quiet, apart, "Deoptimised"]].concat());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(3, &["-o", &profile.to_string_lossy()]);
            let mut n = 0;
            for stack in firefox_stacks(&profile) {
                let Some(at) = stack.iter().position(|it| it.name == "Deoptimised.spin") else {
                    continue;
                };
                n += 1;
                let callers: Vec<(&str, usize)> = stack[at.saturating_sub(3)..at]
                    .iter()
                    .map(|frame| (frame.name.as_str(), frame.line as usize))
                    .collect();
                assert_eq!(callers, expected, "{} {mode:?}", home.display());
            }
            assert!(n > 0, "{} {mode:?}: no sample of it", home.display());
        }
    }
}

/// A JDK that is another one but for its libjvm, a copy without `.symtab`, in which `change` changes
/// what is exported.
fn with_libjvm(
    home: &Path,
    scratch: &Scratch,
    name: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> PathBuf {
    let copy = scratch.path(name);
    fs::create_dir_all(copy.join("lib/server")).expect("a folder");
    fs::create_dir_all(copy.join("bin")).expect("a folder");
    // The launcher and libjvm look for the rest of the JDK around themselves.
    for name in ["bin/java", "lib/server/libjvm.so"] {
        fs::copy(home.join(name), copy.join(name)).expect("a copy");
    }
    for folder in ["", "lib", "lib/server"] {
        for entry in fs::read_dir(home.join(folder)).expect("a JDK").flatten() {
            let to = copy.join(folder).join(entry.file_name());
            if !to.exists() {
                symlink(entry.path(), to).expect("a link");
            }
        }
    }
    let libjvm = copy.join("lib/server/libjvm.so");
    run("strip", [&libjvm]);
    let mut bytes = fs::read(&libjvm).expect("libjvm");
    change(&mut bytes);
    fs::write(&libjvm, bytes).expect("libjvm is written");
    copy
}

/// Files with one build id are taken for one: makes it another one.
fn change_build_id(file: &mut [u8]) {
    /// Lengths of name and id, `NT_GNU_BUILD_ID`, name.
    const NOTE: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let note = file.windows(NOTE.len()).position(|bytes| bytes == NOTE).expect("a build id");
    file[note + NOTE.len()] ^= 0xff;
}

/// Names exported symbols anew for whoever reads a file by its sections; the dynamic linker goes by
/// segments and finds them.
fn rename_exports(file: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    /// `SHT_DYNSYM`.
    const DYNSYM: u64 = 11;
    let word = |file: &[u8], at: usize, n: usize| {
        file[at..at + n].iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))
    };
    let (table, size, n) = (word(file, 0x28, 8), word(file, 0x3a, 2), word(file, 0x3c, 2));
    let header = |n: u64| (table + n * size) as usize;
    let symbols = (0..n).find(|&n| word(file, header(n) + 4, 4) == DYNSYM).expect(".dynsym");
    let names = header(word(file, header(symbols) + 0x28, 4));
    let (offset, len) = (word(file, names + 0x18, 8) as usize, word(file, names + 0x20, 8));
    let mut copy = file[offset..offset + len as usize].to_vec();
    assert_eq!(from.len(), to.len());
    let mut renamed = 0;
    for at in 0..copy.len().saturating_sub(from.len()) {
        if copy[at..].starts_with(from) {
            copy[at..at + to.len()].copy_from_slice(to);
            renamed += 1;
        }
    }
    assert!(renamed > 0, "nothing has such a name");
    let end = file.len() as u64;
    file[names + 0x18..names + 0x20].copy_from_slice(&end.to_le_bytes());
    file.extend(copy);
}

/// Why a process has no Java frames, as the report says it; empty: it has.
fn problem(stats: &Stats, pid: u32) -> String {
    let reports = stats.0["runtimes"].as_array().expect("reports of runtimes");
    let report = reports
        .iter()
        .find(|report| report["pid"] == pid && report["runtime"] == "hotspot")
        .unwrap_or_else(|| panic!("no report of {pid}: {reports:?}"));
    report["problem"].as_str().expect("a problem").to_owned()
}

/// A process in the books.
fn process_of(stats: &Stats, pid: u32) -> hotframe_live::Process {
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

/// What goes wrong in another process does not show in this one: its stacks are whole, and those of
/// `method`, which is its alone, are named.
fn check_unaffected(jvm: &Jvm, recording: &Recording, method: &str) {
    let stats = recording.stats();
    assert_eq!(problem(stats, jvm.pid()), "");
    let process = process_of(stats, jvm.pid());
    // While the rows of its files are being loaded so many of its stacks are finished as there is
    // room for; the others' rows are loaded at the same time.
    let budget = process.cut["budget"];
    assert!(budget * 20 <= process.samples, "{process:?}");
    let cut = process.cut_samples() - budget;
    assert!(cut * 100 <= process.samples || cut <= 2, "{process:?}");
    let of_it = |stack: &Stack| stack.has(method);
    let samples = recording.folded.samples(of_it);
    assert!(samples >= 20, "{samples} samples of {method}:\n{}", recording.folded.summary());
    let unnamed = recording.folded.samples(|stack| {
        of_it(stack) && stack.frames.iter().any(|name| name.starts_with("[unnamed"))
    });
    assert_eq!(unnamed, 0, "samples of {method} with unnamed frames");
}

/// A JVM whose frames cannot be found is cut where Java begins, for a reason that is counted; the
/// threads of the VM, and the native callees of Java, are as they are.
fn check_unusable(jvm: &Jvm, recording: &Recording, why: &str) {
    let stats = recording.stats();
    let said = problem(stats, jvm.pid());
    assert!(said.contains(why), "{said:?} does not say {why:?}");
    let process = process_of(stats, jvm.pid());
    assert!(process.samples >= 20, "{process:?}");
    assert!(process.cut["no_unwind_info"] > 0, "{process:?}");
    assert_eq!(process.cut["no_unwind_info"], process.cut_samples(), "{process:?}");
    // Threads that run no Java.
    let vm = ["C1 Comp", "C2 Comp", "VM Thread", "GC Thread", "G1 "];
    let (mut of_vm, mut natives) = (0, 0);
    for stack in &recording.folded.stacks {
        if stack.has("Truth$Osr.loop") || stack.has("Truth.round") {
            continue;
        }
        if vm.iter().any(|prefix| stack.comm.starts_with(prefix)) {
            of_vm += stack.count;
            assert!(stack.frames[0].contains("clone"), "{why}: it is whole: {stack:?}");
        }
        // What Java called has its callees.
        let of_java = |name: &String| name.starts_with("Java_java_util_zip_Deflater_deflateB");
        if let Some(at) = stack.frames.iter().position(of_java) {
            natives += stack.count;
            // JNI's functions are libjvm's, whose symbols may be missing.
            let callee = stack.frames.get(at + 1);
            let is_known = |name: &String| {
                name == "deflate" || ["jni_", "libjvm.so+"].iter().any(|it| name.starts_with(it))
            };
            assert!(callee.is_none_or(is_known), "{stack:?}");
        }
    }
    assert!(of_vm > 0 || natives > 0, "{why}:\n{}", recording.folded.summary());
}

/// A libjvm without `.symtab`: what it publishes is in `.dynsym`, and all is as ever.
#[test]
fn libjvm_without_symbols() {
    live!(beside);
    let scratch = Scratch::new();
    let stripped: Vec<PathBuf> = (0..)
        .zip(copyable_homes())
        .map(|(n, home)| {
            // By its version: wheels have it one folder above.
            let mut names = home.iter().rev().map(|name| name.to_string_lossy());
            let name = names.find(|name| name != "java-runtime").unwrap_or_default();
            with_libjvm(&home, &scratch, &format!("{n}-{name}-stripped"), |_| {})
        })
        .collect();
    check_homes(&stripped, &[&[]], &LASTING, 6, Some(995));
}

/// A libjvm that does not say how it is laid out, or in part only: said, and nobody else notices.
#[test]
fn libjvm_without_tables() {
    live!(beside);
    let scratch = Scratch::new();
    let Some(home) = copyable_homes().into_iter().next().filter(|_| classes(&scratch).is_some())
    else {
        return;
    };
    let sections = ["native", "churn", "inline"];
    for (name, from, to, why) in [
        ("none", "gHotSpot", "xHotSpot", "does not export gHotSpotVMStructs"),
        ("part", "gHotSpotVMTypeEntrySizeOffset", "xHotSpotVMTypeEntrySizeOffset", "in part only"),
    ] {
        let broken = with_libjvm(&home, &scratch, name, |file| {
            change_build_id(file);
            rename_exports(file, from.as_bytes(), to.as_bytes());
        });
        for mode in [&["-Xint"][..], &[]] {
            let args = [mode, &["Truth"], &sections].concat();
            let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
            let jvm = Jvm::start(&broken, &scratch, &args);
            let recording = record_two(&jvm, &other, 5);
            check_unusable(&jvm, &recording, why);
            check_unaffected(&other, &recording, "Truth$Osr.loop");
        }
    }
}

fn record_two(jvm: &Jvm, other: &Jvm, seconds: u32) -> Recording {
    let (a, b) = (jvm.pid().to_string(), other.pid().to_string());
    record(["-p", &a, "-p", &b, "-d", &seconds.to_string()])
}

/// Where a variable of a JVM's libjvm is in its memory.
fn variable(jvm: &Jvm, home: &Path, name: &str) -> u64 {
    let symbols = run("nm", ["-D".as_ref(), home.join("lib/server/libjvm.so").as_os_str()]);
    let line = symbols.lines().find(|line| line.split(['@', ' ']).any(|word| word == name));
    let line = line.unwrap_or_else(|| panic!("libjvm has no {name}"));
    let address = u64::from_str_radix(line.split(' ').next().unwrap_or_default(), 16);
    let maps = fs::read_to_string(format!("/proc/{}/maps", jvm.pid())).expect("its mappings");
    let first = maps.lines().find(|line| line.ends_with("libjvm.so")).expect("it maps libjvm");
    let start = first.split('-').next().unwrap_or_default();
    u64::from_str_radix(start, 16).expect("an address") + address.expect("an address")
}

/// Where the offset of a field is that libjvm publishes: what a JVM's memory says of the entry.
fn published_offset(jvm: &Jvm, home: &Path, memory: &File, kind: &str, field: &str) -> u64 {
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).expect("its memory");
        u64::from_le_bytes(bytes)
    };
    let is_text = |at: u64, text: &str| {
        let mut bytes = vec![0; text.len() + 1];
        memory.read_exact_at(&mut bytes, at).is_ok() && bytes == [text.as_bytes(), b"\0"].concat()
    };
    let of = |name: &str| word(variable(jvm, home, name));
    let (first, stride) = (of("gHotSpotVMStructs"), of("gHotSpotVMStructEntryArrayStride"));
    let kind_at = of("gHotSpotVMStructEntryTypeNameOffset");
    let field_at = of("gHotSpotVMStructEntryFieldNameOffset");
    let offset_at = of("gHotSpotVMStructEntryOffsetOffset");
    (0..4096)
        .map(|n| first + n * stride)
        .take_while(|&entry| word(entry + kind_at) != 0)
        .find(|entry| {
            is_text(word(entry + kind_at), kind) && is_text(word(entry + field_at), field)
        })
        .map(|entry| entry + offset_at)
        .unwrap_or_else(|| panic!("libjvm does not publish {kind}.{field}"))
}

/// `VMStructs` that a process overwrote with zero, with absurd strides, and with offsets that lead to
/// something else: it has no Java frames, and says so; another one of the same file has all of its
/// own, named right.
#[test]
fn overwritten_tables() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    if !has_program("nm") {
        return skipped("needs nm");
    }
    let Some(home) = copyable_homes().into_iter().next() else { return };
    let start = |sections: &[&str]| {
        let jvm = Jvm::start(&home, &scratch, sections);
        let path = format!("/proc/{}/mem", jvm.pid());
        let memory = File::options().read(true).write(true).open(path);
        (jvm, memory.expect("its memory"))
    };
    // Which of two is looked at first is not known: one that is met on either side of the untouched one.
    let (first, first_memory) = start(&["Truth", "native", "churn", "inline"]);
    let other = Jvm::start(
        &home,
        &scratch,
        &["Truth", "osr", "inline", "recursion", "lambdas", "megamorphic"],
    );
    let (last, last_memory) = start(&["Truth", "native", "churn", "inline"]);
    let truth = Truth::parse(&other.said);
    let stride = |jvm: &Jvm, _: &File| variable(jvm, &home, "gHotSpotVMStructEntryArrayStride");
    let class_name =
        |jvm: &Jvm, memory: &File| published_offset(jvm, &home, memory, "Klass", "_name");
    let method =
        |jvm: &Jvm, memory: &File| published_offset(jvm, &home, memory, "Method", "_constMethod");
    let pools = |jvm: &Jvm, memory: &File| {
        published_offset(jvm, &home, memory, "ConstMethod", "_constants")
    };
    let untrue = "java.lang.Object.hashCode is not where";
    type Place<'a> = &'a dyn Fn(&Jvm, &File) -> u64;
    for (what, place, value, why) in [
        ("class name", &class_name as Place<'_>, 32u64, untrue),
        ("method", &method, 16, untrue),
        ("constants", &pools, 16, untrue),
        ("stride", &stride, 0, "libjvm's tables are empty"),
        ("stride", &stride, 8, "a stride of 8"),
        ("stride", &stride, 1 << 40, "a stride of 1099511627776"),
        ("stride", &stride, u64::MAX, "a stride of 18446744073709551615"),
    ] {
        let mut restore = Vec::new();
        for (jvm, memory) in [(&first, &first_memory), (&last, &last_memory)] {
            let at = place(jvm, memory);
            let mut before = [0; 8];
            memory.read_exact_at(&mut before, at).expect("its memory");
            memory.write_all_at(&value.to_le_bytes(), at).expect("written");
            restore.push((memory, at, before));
        }
        let pids = [&first, &other, &last].map(|jvm| jvm.pid().to_string());
        let [a, b, c] = pids.each_ref().map(String::as_str);
        let recording = record(["-p", a, "-p", b, "-p", c, "-d", "4"]);
        for (memory, at, before) in restore {
            memory.write_all_at(&before, at).expect("written");
        }
        check_unusable(&first, &recording, why);
        check_unusable(&last, &recording, why);
        check_unaffected(&other, &recording, "Truth.round");
        let samples = truth.check(&recording.folded, what);
        let java = recording.stats().count("frames.jvm.total");
        let named = recording.stats().count("frames.jvm.named");
        assert!(is_share(named, java, 995), "{what} {value}: {named} of {java} are named");
        println!("{what} {value}: {samples} samples of Java, {named} of {java} frames named");
    }
}

/// Names are written as the user wants them: with signatures, and with the numbers and addresses of
/// what is made at run time.
#[test]
fn names_as_wanted() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        let what = home.display();
        for mode in [&["-Xint"][..], &[]] {
            let jvm = Jvm::start(&home, &scratch, &[mode, &["Truth", "lambdas"]].concat());
            let names = |args: &[&str]| -> BTreeSet<String> {
                let recording = jvm.record_with(4, args);
                recording.assert_books();
                let stacks = recording.folded.stacks.iter();
                stacks.flat_map(|stack| stack.frames.iter().cloned()).collect()
            };
            let has = |names: &BTreeSet<String>, name: &str| {
                assert!(names.contains(name), "{what}: no {name} in {names:#?}");
            };
            let signed = names(&["--java-signatures"]);
            has(&signed, "Truth.main(java.lang.String[])");
            has(&signed, "Truth.round(java.lang.String[], int)");
            // What is called in there may be compiled away.
            if mode.is_empty() {
                continue;
            }
            let plain = names(&[]);
            has(&plain, "Truth.work");
            has(&plain, "Truth$Lambdas$$Lambda.applyAsInt");
            let (lambda, made) = ("Truth$Lambdas.lambda$total$0", "Truth$Lambdas$$Lambda");
            has(&plain, lambda);
            has(&signed, "Truth.work(int, int)");
            has(&signed, &format!("{lambda}(int)"));
            has(&signed, &format!("{made}.applyAsInt(int)"));
            let raw = names(&["--java-raw-names"]);
            has(&raw, "Truth.work");
            let own = raw.iter().filter(|name| name.starts_with(made));
            let own: Vec<_> = own.filter(|name| name.ends_with(".applyAsInt")).collect();
            assert!(!own.is_empty(), "{what}: no {made} in {raw:#?}");
            // Before hidden classes (15) they are numbered; an address is no part of their names.
            let version = Command::new(home.join("bin/java")).arg("-version").output();
            let version = version.expect("java runs").stderr;
            let version = String::from_utf8_lossy(&version);
            let is_old = ["1.8", "11."].iter().any(|old| version.contains(&format!("\"{old}")));
            let numbered = format!("{made}$");
            let is_raw = |name: &&String| match is_old {
                true => name.starts_with(&numbered),
                false => name.contains("/0x"),
            };
            assert!(own.iter().copied().all(|name| is_raw(&name)), "{what}: {own:?}");
            println!("{what}: {} names, {own:?}", plain.len());
        }
    }
}

/// What doctor says of a JVM that runs: its version, and that its frames are named.
#[test]
fn doctor_knows_the_version() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().next() else { return };
    let jvm = Jvm::start(&home, &scratch, &["Truth", "inline"]);
    let output = Command::new(hotframe()).arg("doctor").output().expect("doctor runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let of_it = format!("({})", jvm.pid());
    let line = said.lines().find(|line| line.contains(&of_it)).expect("a line of the JVM");
    let version = line.split("): ").nth(1).unwrap_or_default();
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    assert!(line.contains("its frames are unwound and named"), "{line}");
    println!("{}", line.trim());
}

/// JVMs that end, or become another program, in the middle of whatever is done with them: what is
/// unnamed says why, the next program has its own stacks, and nobody else notices.
#[test]
fn gone_in_the_middle() {
    // Its own process's children are recorded.
    live!();
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let (later, next) = (program!("execlater.so"), program!("recursion"));
    for home in copyable_homes() {
        let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
        let sections = ["Truth", "inline", "lambdas", "megamorphic", "exceptions"];
        let dying = Jvm::start(&home, &scratch, &sections);
        let sign = scratch.path("now");
        let changing = Jvm::start_with(&home, &scratch, &sections, |command| {
            command.env("LD_PRELOAD", &later).env("EXEC_LATER", &next).env("EXEC_WHEN", &sign);
        });
        let truth = Truth::parse(&changing.said);
        let mut args = vec!["-F".to_owned(), "499".into(), "-d".into(), "8".into()];
        for jvm in [&other, &dying, &changing] {
            args.extend(["-p".to_owned(), jvm.pid().to_string()]);
        }
        // Those that start later are this one's children.
        args.extend(["-p".to_owned(), std::process::id().to_string()]);
        let mut recorder = Recorder::start(args);
        recorder.wait_until_sampling();
        std::thread::sleep(Duration::from_millis(700));
        send("KILL", dying.pid().into());
        File::create(&sign).expect("a sign");
        for after_ms in [120, 200, 300, 450, 700, 1000] {
            let short = Jvm::spawn(&home, &scratch, &sections, |_| {});
            std::thread::sleep(Duration::from_millis(after_ms));
            drop(short);
        }
        let recording = recorder.finish();
        fs::remove_file(&sign).expect("a sign");
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let what = home.display();
        // Only whole names and reasons, no wrong neighbour.
        let reasons = recording.folded.unnamed();
        for stack in &recording.folded.stacks {
            // An unnamed frame hides a call.
            let is_ours =
                |name: &&String| name.starts_with("Truth") || name.starts_with("[unnamed");
            let ours: Vec<&String> = stack.frames.iter().filter(is_ours).collect();
            for two in ours.windows(2).filter(|_| stack.comm != "recursion") {
                // What another one does, and what happens once, at the start, was not said.
                let unsaid = ["Osr", "<clinit>", "isOurs", "nameOf"];
                let is_unsaid =
                    two.iter().any(|name| unsaid.iter().any(|part| name.contains(part)));
                assert!(is_unsaid || truth.allows(two[0], two[1]), "{what}: {stack:?}");
            }
            if stack.comm == "recursion" {
                assert!(ours.is_empty(), "{what}: Java in another program: {stack:?}");
            }
        }
        let mut path = vec!["main"];
        path.extend(["even", "odd", "even", "odd", "even", "odd", "floor_of_it"]);
        let running = |stack: &Stack| stack.has("floor_of_it");
        recording.folded.assert_path("recursion", running, &path);
        check_unaffected(&other, &recording, "Truth$Osr.loop");
        let stats = recording.stats();
        for jvm in [&dying, &changing] {
            assert_eq!(problem(stats, jvm.pid()), "", "it was served as long as it was there");
        }
        println!(
            "{what} gone: {} samples, {} whole, {} of {} Java frames named, unnamed: {reasons:?}",
            stats.count("samples_emitted"),
            stats.count("stacks_whole"),
            stats.count("frames.jvm.named"),
            stats.count("frames.jvm.total"),
        );
    }
}

/// A debugger that holds a JVM, before it is first seen and while it is sampled: nothing waits for
/// it, and it is as ever when it goes on.
#[test]
fn held_by_a_debugger() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    if !has_program("gdb") {
        return skipped("needs gdb");
    }
    let state = |jvm: &Jvm| {
        let status = fs::read_to_string(format!("/proc/{}/status", jvm.pid())).expect("its state");
        status.contains("(tracing stop)")
    };
    for home in homes() {
        let other = Jvm::start(&home, &scratch, &["Truth", "osr"]);
        let sections = ["Truth", "inline", "lambdas", "megamorphic", "exceptions"];
        let held = Jvm::start(&home, &scratch, &sections);
        let truth = Truth::parse(&held.said);
        // Once over the start of the recording, once in its middle.
        let hold = |seconds: &str| {
            let debugger = Command::new("gdb")
                .args(["-q", "-nx", "-batch", "-iex", "set auto-solib-add off"])
                .args(["-iex", "set debuginfod enabled off", "-p", &held.pid().to_string()])
                .args(["-ex", &format!("shell sleep {seconds}"), "-ex", "detach"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("gdb starts");
            wait_for("gdb to hold it", || state(&held).then_some(()));
            debugger
        };
        let mut first = hold("3");
        let (a, b) = (held.pid().to_string(), other.pid().to_string());
        let mut recorder = Recorder::start(["-p", &a, "-p", &b, "-d", "12"]);
        recorder.wait_until_sampling();
        assert!(state(&held), "it is held while it is first looked at");
        first.wait().expect("gdb ends");
        std::thread::sleep(Duration::from_secs(2));
        hold("3").wait().expect("gdb ends");
        let recording = recorder.finish();
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let what = home.display().to_string();
        let stats = recording.stats();
        assert_eq!(problem(stats, held.pid()), "", "{what}");
        let (it, rest) = (process_of(stats, held.pid()), process_of(stats, other.pid()));
        println!(
            "{what} held: {} of {} samples whole, the other's {}",
            it.whole, it.samples, rest.samples
        );
        let cut = it.cut_samples();
        assert!(it.samples >= 20 && (cut * 100 <= it.samples || cut <= 2), "{what}: {it:?}");
        check_unaffected(&other, &recording, "Truth$Osr.loop");
        let of_held = recording.folded.stacks.iter().filter(|stack| !stack.has("Truth$Osr.loop"));
        let of_held = Folded { stacks: of_held.cloned().collect() };
        assert!(truth.check(&of_held, &what) >= 20, "{what}: {}", of_held.summary());
        let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
        assert!(is_share(named, total, 995), "{what}: {named} of {total} are named");
    }
}

/// Of classes that an agent redefines each frame has its own name: another's was found where the old
/// version of a method had been.
#[test]
fn redefined_classes() {
    live!(beside);
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    let (jar, manifest) = (scratch.path("redefined.jar"), scratch.path("manifest"));
    fs::write(&manifest, "Premain-Class: Redefined\nCan-Redefine-Classes: true\n")
        .expect("written");
    let args: [&OsStr; 6] = [
        "cfm".as_ref(),
        jar.as_ref(),
        manifest.as_ref(),
        "-C".as_ref(),
        classes.as_ref(),
        ".".as_ref(),
    ];
    run("jar", args);
    let agent = format!("-javaagent:{}", jar.display());
    for home in homes() {
        for mode in [&["-Xint"][..], &[]] {
            let jvm = Jvm::start(&home, &scratch, &[mode, &[&agent, "Redefined"]].concat());
            let recording = jvm.record_with(5, &["-F", "997"]);
            let (mut n, mut wrong, mut examples) = (0, 0, Vec::new());
            for stack in &recording.folded.stacks {
                let (mut of, before) = (BTreeSet::new(), wrong);
                for name in &stack.frames {
                    let Some(ours) = name.strip_prefix("Redefined$") else { continue };
                    let Some((class, method)) = ours.split_once('.') else { continue };
                    let own = match class {
                        "Aa" => "alpha",
                        "Bb" => "bravo",
                        "Cc" => "delta",
                        _ => continue,
                    };
                    of.insert(class);
                    wrong += u64::from(!method.starts_with(own)) * stack.count;
                }
                n += u64::from(!of.is_empty()) * stack.count;
                wrong += u64::from(of.len() > 1) * stack.count;
                if wrong > before {
                    examples.push(stack.frames.join(";"));
                }
            }
            println!("{} {mode:?}: {wrong} of {n} wrong", home.display());
            let wrong_ones = format!("{wrong} of {n}: {examples:#?}");
            assert!(n >= 50 && wrong == 0, "{} {mode:?}: {wrong_ones}", home.display());
        }
    }
}

/// An interrupted pc of compiled code belongs to what runs, not to what stands behind it: of methods that
/// were inlined and never run nothing is seen, and nine tenths of a loop's are the loop's.
#[test]
fn leaves_of_compiled_code() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let apart = ["hot", "never", "loops"];
    let apart = apart.map(|name| format!("-XX:CompileCommand=dontinline,Leaf.{name}"));
    for home in homes() {
        for mode in ["-XX:TieredStopAtLevel=1", "-XX:+TieredCompilation"] {
            let mut args = vec![mode, "-XX:CompileCommand=quiet"];
            args.extend(apart.iter().map(String::as_str));
            args.push("Leaf");
            let jvm = Jvm::start(&home, &scratch, &args);
            // Until all is compiled.
            std::thread::sleep(Duration::from_secs(1));
            let recording = jvm.record_with(3, &["-F", "997"]);
            let of = |name: &str| recording.folded.samples(|stack| stack.has(name));
            let what = format!("{} {mode}", home.display());
            let [hot, slow, loops, own, after] =
                ["hot", "slow", "loops", "loop", "after"].map(|name| of(&format!("Leaf.{name}")));
            println!("{what}: {slow} of {hot} in slow, {own} and {after} of {loops} in loops");
            assert!(hot >= 50 && slow == 0, "{what}: {slow} of {hot} in what never runs");
            assert!(loops >= 50 && own * 10 >= loops * 9, "{what}: {own} of {loops} in the loop");
            assert!(after * 100 <= loops, "{what}: {after} of {loops} in a loop of one round");
        }
    }
}

/// Graal's code has the caller's frame pointer anywhere, or only in its register, where it neither calls nor
/// polls: interpreted callers are found all the same, and no other is. `HOTFRAME_GRAAL` is its path of modules.
#[test]
fn graal() {
    live!(beside);
    let scratch = Scratch::new();
    let Ok(modules) = std::env::var("HOTFRAME_GRAAL") else {
        skipped("needs HOTFRAME_GRAAL, the path of Graal's modules");
        return;
    };
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "round"),
        ("round", "callsSpin"),
        ("round", "callsSpill"),
        ("round", "callsSmall"),
        ("callsSpin", "spin"),
        ("callsSpin", "deep"),
        ("callsSpill", "spill"),
        ("callsSpill", "deep"),
        ("callsSmall", "small"),
        ("deep", "deep"),
    ];
    let modules = format!("--upgrade-module-path={modules}");
    let mut args = vec![
        "-XX:+UnlockExperimentalVMOptions",
        "-XX:+EnableJVMCI",
        "-XX:+UseJVMCICompiler",
        &modules,
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=exclude,Unsaved::calls*",
        "-XX:CompileCommand=exclude,Unsaved::round",
        "-XX:CompileCommand=exclude,Unsaved::main",
    ];
    let mut homes = homes();
    homes.retain(|home| {
        let output = Command::new(home.join("bin/java")).args(&args).arg("-version").output();
        output.is_ok_and(|output| output.status.success())
    });
    if homes.is_empty() {
        skipped("no JVM here takes this Graal");
    }
    args.push("Unsaved");
    for home in homes {
        let jvm = Jvm::start(&home, &scratch, &args);
        let recording = jvm.record_with(4, &["-F", "997"]);
        let (mut n, mut cut, mut wrong) = (0, 0, Vec::new());
        for stack in &recording.folded.stacks {
            let ours: Vec<&str> =
                stack.frames.iter().filter_map(|name| name.strip_prefix("Unsaved.")).collect();
            if ours.is_empty() {
                continue;
            }
            n += stack.count;
            if ours[0] != "main" {
                cut += stack.count;
            }
            if ours.windows(2).any(|two| !calls.contains(&(two[0], two[1]))) {
                wrong.push(format!("{ours:?}"));
            }
        }
        println!("{}: {cut} of {n} cut, {} wrong", home.display(), wrong.len());
        assert!(n >= 500, "{}: {n} samples", home.display());
        assert!(wrong.is_empty(), "{}: {wrong:#?}", home.display());
        assert!(cut * 100 <= n, "{}: {cut} of {n} are cut", home.display());
    }
}
