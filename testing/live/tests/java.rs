//! HotSpot: what a busy JVM says of its own calls, against what was recorded.
//!
//! `testing/workloads/java/Truth.java` prints each call between its methods, as the VM sees it, and
//! runs. Each recorded stack must be a path of that: one neighbour that was not said fails.
//!
//! JVMs are those below /usr/lib/jvm and in `HOTFRAME_JVMS` (homes, with colons between them); the
//! classes are compiled by the `javac` of the path.

use hotframe_live::{
    Folded, Recording, Scratch, has_program, live, record, run, skipped, wait_for,
};
use std::collections::BTreeSet;
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
    for name in ["Truth.java", "Gen0000.java", "ManyMethods.java"] {
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
        let (pid, seconds) = (self.child.id().to_string(), seconds.to_string());
        record(["-p", pid.as_str(), "-d", seconds.as_str()])
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
}

impl Truth {
    fn parse(said: &str) -> Truth {
        let mut truth = Truth { calls: BTreeSet::new(), roots: BTreeSet::new() };
        for line in said.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["call", caller, _line, callee] => {
                    truth.calls.insert(((*caller).to_owned(), (*callee).to_owned()));
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
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        for mode in modes {
            let what = format!("{} {}", home.display(), mode.join(" "));
            let args: Vec<&str> =
                mode.iter().copied().chain(["Truth"]).chain(sections.iter().copied()).collect();
            let jvm = Jvm::start(&home, &scratch, &args);
            let truth = Truth::parse(&jvm.said);
            let recording = jvm.record(seconds);
            let stats = recording.stats();
            let samples = truth.check(&recording.folded, &what);
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
            println!("{what}: {all} samples, {whole} whole, {named} of {total} Java frames named");
        }
    }
}

/// The interpreter alone: every stack a path, every frame named.
#[test]
fn interpreted() {
    live!();
    check_modes(&[&["-Xint"]], &LASTING, 8, Some(980));
}

/// Compiled by both compilers, by C1 alone, with one code heap: the same.
#[test]
fn compiled() {
    live!();
    let modes: [&[&str]; 3] = [&[], &["-XX:TieredStopAtLevel=1"], &["-XX:-SegmentedCodeCache"]];
    check_modes(&modes, &LASTING, 8, Some(980));
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

/// Classes that are unloaded right after they ran: some are not named, none wrongly.
#[test]
fn unloaded_classes_have_no_wrong_names() {
    live!();
    check_modes(&[&[], &["-Xint"]], &["churn", "lambdas"], 15, None);
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
