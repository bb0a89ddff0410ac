//! Interpreters at work, and their own word against a recording.

use hotframe_live::{Frame, Recording, Scratch, Workload, firefox_stacks, record, wait_for};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What runs in turn; `recursion`, which is cut before 3.11, and `executed`, whose code is gone
/// before it can be named, have tests of their own.
pub const SCENARIOS: [&str; 16] = [
    "paths",
    "multiline",
    "sorting",
    "substituting",
    "reducing",
    "generators",
    "throwing",
    "coroutines",
    "comprehensions",
    "methods",
    "making",
    "widths",
    "threads",
    "callbacks",
    "handling",
    "forking",
];

/// Versions 3.x that are looked for.
pub const OLDEST_MINOR: u32 = 6;

pub const NEWEST_MINOR: u32 = 15;

pub const LOOP: &str = "_PyEval_EvalFrameDefault";

/// Stacks with Python frames that make a recording long enough.
pub const SAMPLES_ENOUGH: usize = 150;

pub trait InPython {
    fn is_python(&self) -> bool;
    fn is_loop(&self) -> bool;
}

impl InPython for Frame {
    fn is_python(&self) -> bool {
        // Code of the interpreter's own, which no program says of itself, has this for its file.
        self.file.ends_with(".py") || self.file.starts_with('<') || self.file == "__init__"
    }

    fn is_loop(&self) -> bool {
        self.name.starts_with(LOOP)
    }
}

/// C functions through which a line calls; `None`: none.
pub type Vias = HashSet<Option<String>>;

/// What the program wrote down.
pub struct Truth {
    /// (caller, callee) → lines of the caller.
    pub edges: HashMap<(String, String), BTreeMap<u64, Vias>>,
    /// Function → lines that it has.
    pub lines: HashMap<String, HashSet<u64>>,
    /// Function → lines on which it begins.
    pub firsts: HashMap<String, HashSet<u64>>,
}

impl Truth {
    pub fn read(path: &Path) -> Truth {
        let text = std::fs::read(path).expect("the truth");
        let truth: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let mut edges: HashMap<_, BTreeMap<u64, Vias>> = HashMap::new();
        for edge in truth["edges"].as_array().expect("edges") {
            let text = |at: usize| edge[at].as_str().map(str::to_owned);
            edges
                .entry((text(0).expect("a caller"), text(2).expect("a callee")))
                .or_default()
                .entry(edge[1].as_u64().expect("a line"))
                .or_default()
                .insert(text(3));
        }
        let functions = truth["functions"].as_object().expect("functions");
        let numbers = |key: &str| {
            let numbers = functions.iter().map(|(name, function)| {
                let numbers = function[key].as_array().expect("lines");
                (name.clone(), numbers.iter().filter_map(serde_json::Value::as_u64).collect())
            });
            numbers.collect()
        };
        let (lines, firsts) = (numbers("lines"), numbers("firsts"));
        Truth { edges, lines, firsts }
    }
}

/// What became of the stacks of one recording.
#[derive(Debug, Default)]
pub struct Verdict {
    pub python: u64,
    pub edges: u64,
    pub through_c: u64,
    /// Stacks whose Python frames do not begin where a program or a thread does, or that have an
    /// evaluation loop and no Python frame.
    pub missing: Vec<String>,
    /// Stacks with a run of the loop that has no frame although it called another.
    pub ended: Vec<String>,
    pub wrong: Vec<String>,
    pub wrong_lines: Vec<String>,
}

pub fn judge(stacks: &[Vec<Frame>], truth: &Truth, minor: u32) -> Verdict {
    let mut verdict = Verdict::default();
    for stack in stacks {
        // Hooks after a fork and the beginnings of threads run where no profiler's hook sees them.
        if stack.iter().any(|frame| frame.name.contains("_after_fork")) {
            continue;
        }
        let python: Vec<(usize, &Frame)> =
            stack.iter().enumerate().filter(|(_, frame)| frame.is_python()).collect();
        // A frame whose process was gone before it was named is one, and counted.
        let is_unnamed = stack.iter().any(|frame| frame.name.starts_with("[unnamed"));
        let loops: Vec<usize> = (0..stack.len()).filter(|&at| stack[at].is_loop()).collect();
        let (Some((_, root)), Some((leaf_at, leaf))) = (python.first(), python.last()) else {
            // The loop has no name where it is inlined, in a program without symbols.
            let runs = !loops.is_empty() || stack.iter().any(|frame| frame.name == "Py_RunMain");
            if runs && !is_unnamed {
                verdict.missing.push(show(stack));
            }
            continue;
        };
        verdict.python += 1;
        let is_rooted = root.name == "<module>" || root.name.ends_with("_bootstrap");
        if !is_rooted && !is_unnamed {
            verdict.missing.push(show(stack));
        }
        // Each loop has its frames, but the innermost may not have begun or may have ended. Where each
        // call of a function is a run of its own (trampolines), one that has ended may call another still:
        // what it clears has callbacks.
        for pair in loops.windows(2).filter(|_| is_rooted && !is_unnamed) {
            let n = python.iter().filter(|(at, _)| (pair[0]..pair[1]).contains(at)).count();
            // In 3.10 the two generators that wait for what is thrown into a third have none.
            let is_thrown = stack[pair[0]..pair[1]].iter().any(|frame| frame.name == "gen_throw");
            let most = if is_thrown && minor == 10 { 3 } else { 1 };
            if n == 0 && minor > 10 {
                verdict.ended.push(show(stack));
            } else if n == 0 || (minor <= 10 && n > most) {
                verdict.wrong.push(format!("{n} Python frames in one loop: {}", show(stack)));
            }
        }
        for pair in python.windows(2) {
            let [(at, caller), (until, callee)] = pair else { continue };
            // Who stands between them has no name, and says so: nothing is claimed.
            if stack[*at..*until].iter().any(|frame| frame.name.starts_with("[unnamed")) {
                continue;
            }
            if caller.file.ends_with("threading.py") && !callee.name.ends_with("run") {
                continue;
            }
            // What the standard library does within itself differs by what it has cached.
            if ![caller, callee].iter().any(|frame| frame.file.ends_with("truth.py")) {
                continue;
            }
            // os.fork calls hooks of the standard library.
            if caller.name == "forking" && callee.name != "in_child" {
                break;
            }
            let key = (caller.name.clone(), callee.name.clone());
            let Some(lines) = truth.edges.get(&key) else {
                verdict.wrong.push(format!("{} calls {}: {}", key.0, key.1, show(stack)));
                continue;
            };
            verdict.edges += 1;
            let Some(vias) = lines.get(&caller.line) else {
                verdict.wrong_lines.push(format!("{}:{} calls {}", key.0, caller.line, key.1));
                continue;
            };
            if !vias.contains(&None) {
                verdict.through_c += 1;
                // The C function, and the loop that it runs. To make a generator its function is
                // entered without either, of which no hook hears.
                let firsts = truth.firsts.get(&callee.name);
                let is_being_made = firsts.is_some_and(|lines| lines.contains(&callee.line));
                if until - at < 3 && !is_being_made {
                    verdict.wrong.push(format!("{vias:?} not between: {}", show(stack)));
                }
            }
        }
        if !leaf.file.ends_with("truth.py") {
            continue;
        }
        if !truth.lines.get(&leaf.name).is_some_and(|lines| lines.contains(&leaf.line)) {
            verdict.wrong_lines.push(format!("{}:{} at {leaf_at}", leaf.name, leaf.line));
        }
    }
    verdict
}

pub fn show(stack: &[Frame]) -> String {
    let frames: Vec<_> =
        stack.iter().map(|frame| format!("{}:{}", frame.name, frame.line)).collect();
    frames.join(";")
}

/// Interpreters of version 3.`minor`, each file once.
pub fn interpreters(minor: u32) -> Vec<PathBuf> {
    let wanted = format!("3.{minor}.");
    let listed = std::env::var_os("HOTFRAME_PYTHONS").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let pyenv = std::env::var_os("PYENV_ROOT").map_or(home.join(".pyenv"), PathBuf::from);
    for version in std::fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten() {
        candidates.push(version.path().join("bin/python3"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path) {
        // What pyenv puts there asks it again.
        if !folder.ends_with("shims") {
            candidates.push(folder.join(format!("python3.{minor}")));
            candidates.push(folder.join("python3"));
        }
    }
    let mut seen = HashSet::new();
    candidates.retain(|candidate| {
        let version = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
        candidate.canonicalize().is_ok_and(|file| seen.insert(file))
            && Command::new(candidate)
                .args(["-c", version])
                .output()
                .is_ok_and(|asked| asked.stdout.starts_with(wanted.as_bytes()))
    });
    candidates
}

/// The program at work, past what it does to find its truth.
pub struct Running {
    pub workload: Workload,
    pub truth: Truth,
    pub _scratch: Scratch,
}

pub fn start(interpreter: &Path, scenarios: &[&str], preload: Option<&Path>) -> Running {
    start_with(interpreter, scenarios, |command| {
        if let Some(preload) = preload {
            command.env("LD_PRELOAD", preload);
        }
    })
}

/// The same, with changes to the command beforehand.
pub fn start_with(
    interpreter: &Path,
    scenarios: &[&str],
    change: impl FnOnce(&mut Command),
) -> Running {
    let scratch = Scratch::new();
    let written = scratch.path("truth.json");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/truth.py");
    let mut command = Command::new(interpreter);
    command.args(["-W", "ignore"]).arg(source).arg(&written).args(scenarios);
    // Names in its source are not ASCII, and 3.6 would print them in the locale's encoding.
    command.env("PYTHONIOENCODING", "utf-8");
    change(&mut command);
    let workload = Workload::spawn(&mut command);
    wait_for("the program to know its truth", || written.is_file().then_some(()));
    Running { truth: Truth::read(&written), workload, _scratch: scratch }
}

pub fn recorded(running: &Running, seconds: u32) -> (Recording, Vec<Vec<Frame>>) {
    recorded_pid(running.workload.pid(), 199, seconds, |stacks| n_python(stacks) >= SAMPLES_ENOUGH)
}

pub fn n_python(stacks: &[Vec<Frame>]) -> usize {
    stacks.iter().filter(|stack| stack.iter().any(Frame::is_python)).count()
}

/// Records for so long, and longer on a busy machine, until there is enough to look at.
pub fn recorded_pid(
    pid: u32,
    hz: u32,
    seconds: u32,
    enough: impl Fn(&[Vec<Frame>]) -> bool,
) -> (Recording, Vec<Vec<Frame>>) {
    let begun = std::time::Instant::now();
    let mut seconds = seconds;
    loop {
        let scratch = Scratch::new();
        let profile = scratch.path("profile.firefox.json");
        let (pid, hz, duration) = (pid.to_string(), hz.to_string(), seconds.to_string());
        let output = profile.to_string_lossy().into_owned();
        let recording = record(["-F", &hz, "-p", &pid, "-d", &duration, "-o", &output]);
        let stacks = firefox_stacks(&profile);
        if enough(&stacks) || begun.elapsed() > hotframe_live::DEADLINE / 2 {
            return (recording, stacks);
        }
        seconds *= 2;
    }
}

/// Nothing is wrong, and nothing is missing that is not counted.
pub fn assert_true(verdict: &Verdict, recording: &Recording) {
    let stats = recording.stats();
    let (wrong, lines) = (&verdict.wrong, &verdict.wrong_lines);
    assert!(verdict.python >= 50, "too few samples: {verdict:?}");
    assert!(wrong.is_empty(), "{} wrong: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let ended = &verdict.ended;
    assert!(ended.len() as u64 * 200 <= verdict.python, "{} ended: {ended:#?}", ended.len());
    assert!(
        lines.len() as u64 * 100 <= verdict.edges,
        "{} lines of {} wrong: {:#?}",
        lines.len(),
        verdict.edges,
        &lines[..lines.len().min(10)]
    );
    // What was finished when the process had gone on has no Python frames, nor what was sampled
    // while the walk was loaded with the step, or before the interpreter was found; what was cut may
    // have none at its root.
    // The outermost run of the loop, a thread's, has not linked its frame for a few instructions:
    // nothing is missing there.
    let missing = &verdict.missing;
    let counted = stats.count("stacks_without_runtime");
    let reasons = stats.0["stacks_without_runtime_by"]["cpython"].as_object();
    let with_reason = reasons.into_iter().flatten().filter_map(|(_, count)| count.as_u64());
    assert_eq!(with_reason.sum::<u64>(), counted, "each has a reason: {reasons:?}");
    let excused = counted + stats.sum("stacks_cut") + verdict.python / 100;
    assert!(
        missing.len() as u64 <= excused,
        "{} stacks lack Python frames, {excused} are excused: {:#?}",
        missing.len(),
        &missing[..missing.len().min(10)]
    );
}

pub fn assert_named(recording: &Recording) {
    let frames = |key: &str| recording.stats().count(&format!("frames.cpython.{key}"));
    let (named, total) = (frames("named"), frames("total"));
    assert!(
        total > 0 && named * 1000 >= total * 995,
        "{named} of {total} frames are named: {:?}",
        recording.folded.unnamed()
    );
}

/// The newest of what is installed that keeps no native frame for each Python frame.
pub fn newest() -> Option<(u32, PathBuf)> {
    (11..=NEWEST_MINOR)
        .rev()
        .find_map(|minor| Some((minor, interpreters(minor).into_iter().next()?)))
}
