//! CPython: every stack that is sampled has to be a path of what the program says of itself
//! (`testing/workloads/python/truth.py`), one test a version. A version that is not installed is
//! skipped loudly.
//!
//! Interpreters are looked for in `HOTFRAME_PYTHONS` (paths with colons between), in `PATH`, and
//! among those of pyenv.
#![forbid(unsafe_code)]

use hotframe_live::{
    Frame, Recorder, Recording, Scratch, Workload, by_tail_calls, firefox_stacks, has_program,
    live, program, record, send, skipped, wait_for,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What runs in turn; `recursion`, which is cut before 3.11, and `executed`, whose code is gone
/// before it can be named, have tests of their own.
const SCENARIOS: [&str; 16] = [
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
const OLDEST_MINOR: u32 = 6;
const NEWEST_MINOR: u32 = 15;
const LOOP: &str = "_PyEval_EvalFrameDefault";
/// Stacks with Python frames that make a recording long enough.
const SAMPLES_ENOUGH: usize = 150;

trait InPython {
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
type Vias = HashSet<Option<String>>;

/// What the program wrote down.
struct Truth {
    /// (caller, callee) → lines of the caller.
    edges: HashMap<(String, String), BTreeMap<u64, Vias>>,
    /// Function → lines that it has.
    lines: HashMap<String, HashSet<u64>>,
    /// Function → lines on which it begins.
    firsts: HashMap<String, HashSet<u64>>,
}

impl Truth {
    fn read(path: &Path) -> Truth {
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
struct Verdict {
    python: u64,
    edges: u64,
    through_c: u64,
    /// Stacks whose Python frames do not begin where a program or a thread does, or that have an
    /// evaluation loop and no Python frame.
    missing: Vec<String>,
    /// Stacks with a run of the loop that has no frame although it called another.
    ended: Vec<String>,
    wrong: Vec<String>,
    wrong_lines: Vec<String>,
}

fn judge(stacks: &[Vec<Frame>], truth: &Truth, minor: u32) -> Verdict {
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

fn show(stack: &[Frame]) -> String {
    let frames: Vec<_> =
        stack.iter().map(|frame| format!("{}:{}", frame.name, frame.line)).collect();
    frames.join(";")
}

/// Interpreters of version 3.`minor`, each file once.
fn interpreters(minor: u32) -> Vec<PathBuf> {
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
struct Running {
    workload: Workload,
    truth: Truth,
    _scratch: Scratch,
}

fn start(interpreter: &Path, scenarios: &[&str], preload: Option<&Path>) -> Running {
    start_with(interpreter, scenarios, |command| {
        if let Some(preload) = preload {
            command.env("LD_PRELOAD", preload);
        }
    })
}

/// The same, with changes to the command beforehand.
fn start_with(
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

fn recorded(running: &Running, seconds: u32) -> (Recording, Vec<Vec<Frame>>) {
    recorded_pid(running.workload.pid(), 199, seconds, |stacks| n_python(stacks) >= SAMPLES_ENOUGH)
}

fn n_python(stacks: &[Vec<Frame>]) -> usize {
    stacks.iter().filter(|stack| stack.iter().any(Frame::is_python)).count()
}

/// Records for so long, and longer on a busy machine, until there is enough to look at.
fn recorded_pid(
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
fn assert_true(verdict: &Verdict, recording: &Recording) {
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

fn version(minor: u32) {
    live!(beside);
    let interpreters = interpreters(minor);
    if interpreters.is_empty() {
        skipped(&format!("CPython 3.{minor} is not installed"));
    }
    for interpreter in interpreters {
        all_scenarios(minor, &interpreter);
    }
}

fn all_scenarios(minor: u32, interpreter: &Path) {
    let running = start(interpreter, &SCENARIOS, None);
    // Each scenario has its turn.
    let enough = |stacks: &[Vec<Frame>]| {
        n_python(stacks) >= SAMPLES_ENOUGH && judge(stacks, &running.truth, minor).through_c > 0
    };
    let (recording, stacks) = recorded_pid(running.workload.pid(), 199, 6, enough);
    let verdict = judge(&stacks, &running.truth, minor);
    eprintln!(
        "{}: {} samples with Python, {} edges, {} of them through C, {} lines wrong",
        interpreter.display(),
        verdict.python,
        verdict.edges,
        verdict.through_c,
        verdict.wrong_lines.len()
    );
    assert_true(&verdict, &recording);
    assert!(verdict.through_c > 0, "nothing was called through C");
    assert_named(&recording);
}

fn assert_named(recording: &Recording) {
    let frames = |key: &str| recording.stats().count(&format!("frames.cpython.{key}"));
    let (named, total) = (frames("named"), frames("total"));
    assert!(
        total > 0 && named * 1000 >= total * 995,
        "{named} of {total} frames are named: {:?}",
        recording.folded.unnamed()
    );
}

macro_rules! versions {
    ($($name:ident $minor:literal)*) => { $(
        #[test]
        fn $name() {
            version($minor);
        }
    )* };
}
versions! {
    python_3_6 6
    python_3_7 7
    python_3_8 8
    python_3_9 9
    python_3_10 10
    python_3_11 11
    python_3_12 12
    python_3_13 13
    python_3_14 14
    python_3_15 15
}

/// For perf CPython calls each function through a trampoline, generated code without a frame pointer:
/// stacks are whole, every call is one of the program's, and the trampolines have the names that it
/// writes, to a map or a jitdump.
#[test]
fn trampolines_are_followed() {
    live!(beside);
    let mut n_tried = 0;
    for (minor, variable) in (12..=NEWEST_MINOR)
        .flat_map(|minor| [(minor, "PYTHONPERFSUPPORT"), (minor, "PYTHON_PERF_JIT_SUPPORT")])
    {
        if minor < 13 && variable == "PYTHON_PERF_JIT_SUPPORT" {
            continue;
        }
        for interpreter in interpreters(minor) {
            let can =
                "import sys; sys.exit(not getattr(sys, 'is_stack_trampoline_active', bool)())";
            if !Command::new(&interpreter)
                .args(["-c", can])
                .env(variable, "1")
                .status()
                .is_ok_and(|status| status.success())
            {
                continue;
            }
            // Children would leave files, too.
            let scenarios: Vec<&str> =
                SCENARIOS.into_iter().filter(|&scenario| scenario != "forking").collect();
            let running = start_with(&interpreter, &scenarios, |command| {
                command.env(variable, "1");
            });
            let pid = running.workload.pid();
            let (recording, mut stacks) = recorded(&running, 6);
            for file in [format!("/tmp/perf-{pid}.map"), format!("/tmp/jit-{pid}.dump")] {
                let _ = std::fs::remove_file(file);
            }
            recording.assert_books();
            let of_generated = |wanted: fn(&Frame) -> bool| {
                stacks.iter().flatten().filter(|&frame| wanted(frame)).count()
            };
            let n_named = of_generated(|frame| frame.name.starts_with("py::"));
            let n_unnamed = of_generated(|frame| frame.name.starts_with("[anonymous]"));
            // Between the loops they are what C is.
            for frame in stacks.iter_mut().flatten().filter(|frame| frame.name.starts_with("py::"))
            {
                frame.file.clear();
            }
            let verdict = judge(&stacks, &running.truth, minor);
            let (whole, cut) =
                (recording.stats().count("stacks_whole"), recording.stats().sum("stacks_cut"));
            eprintln!(
                "{} {variable}: {whole} whole, {cut} cut, {} edges, {n_named} trampolines, {n_unnamed} \
                 unnamed",
                interpreter.display(),
                verdict.edges,
            );
            assert_true(&verdict, &recording);
            // A run of each of the loop's and a trampoline: the recursion alone is 2,000 frames.
            let too_deep = recording.stats().count("stacks_cut.too_deep");
            let cut = if by_tail_calls() { cut - too_deep } else { cut };
            assert!(cut * 100 <= whole + cut, "{cut} cut, {whole} whole");
            assert!(
                n_named > 100 && n_unnamed * 100 <= n_named,
                "{:?}",
                recording.folded.summary()
            );
            n_tried += 1;
        }
    }
    if n_tried == 0 {
        skipped("no CPython from 3.12 on that has trampolines for perf");
    }
}

/// The newest of what is installed that keeps no native frame for each Python frame.
fn newest() -> Option<(u32, PathBuf)> {
    (11..=NEWEST_MINOR)
        .rev()
        .find_map(|minor| Some((minor, interpreters(minor).into_iter().next()?)))
}

/// With the JIT compiler (3.14 and later, where it is built in): the same program, and its stacks are as true.
#[test]
fn jitted_code() {
    live!(beside);
    let mut n_run = 0;
    for minor in 14..=NEWEST_MINOR {
        for interpreter in interpreters(minor) {
            let asked = Command::new(&interpreter)
                .args(["-c", "import sys; print(sys._jit.is_enabled())"])
                .env("PYTHON_JIT", "1")
                .output();
            if !asked.is_ok_and(|asked| asked.stdout.starts_with(b"True")) {
                continue;
            }
            n_run += 1;
            let running = start_with(&interpreter, &SCENARIOS, |command| {
                command.env("PYTHON_JIT", "1");
            });
            let (recording, stacks) = recorded(&running, 8);
            let verdict = judge(&stacks, &running.truth, minor);
            let is_jitted = |stack: &&Vec<Frame>| {
                stack.iter().any(|frame| frame.name.starts_with("[anonymous]"))
            };
            let jitted = stacks.iter().filter(is_jitted).count();
            let without =
                |stack: &&Vec<Frame>| is_jitted(stack) && !stack.iter().any(Frame::is_python);
            let without = stacks.iter().filter(without).count() as u64;
            let lost = recording.stats().count("stacks_without_runtime");
            eprintln!(
                "{}: {jitted} of {} stacks have jitted code, {without} of these no Python, {lost} are counted; \
                 {} edges, {} lines wrong",
                interpreter.display(),
                stacks.len(),
                verdict.edges,
                verdict.wrong_lines.len()
            );
            assert!(jitted >= 50, "{jitted}: {}", recording.folded.summary());
            assert!(without <= lost, "{without} without Python, {lost} counted");
            assert_true(&verdict, &recording);
        }
    }
    if n_run == 0 {
        skipped("no CPython with a JIT compiler is installed");
    }
}

/// 900 calls deep, in every version: whole, up to 3.10 too, where three or four native frames stand
/// for each call, unless the time that a walk may take was not enough for them.
#[test]
fn recursion_900_comes_whole() {
    live!(beside);
    let found: Vec<(u32, PathBuf)> = (OLDEST_MINOR..=NEWEST_MINOR)
        .filter_map(|minor| Some((minor, interpreters(minor).into_iter().next()?)))
        .collect();
    if found.is_empty() {
        skipped("no CPython is installed");
    }
    for (minor, interpreter) in found {
        let running = start(&interpreter, &["recursion"], None);
        let (recording, stacks) = recorded(&running, 4);
        assert_true(&judge(&stacks, &running.truth, minor), &recording);
        // Not by the leaf: an instruction's function may stand behind it.
        let depths: Vec<usize> = stacks
            .iter()
            .filter(|stack| stack.iter().any(|frame| frame.name == "spin"))
            .map(|stack| stack.iter().filter(|frame| frame.name == "deep").count())
            .collect();
        // A host that takes its CPU away lets a walk run out of time, and a page that the kernel moves
        // at that moment cannot be read: both are counted.
        let stats = recording.stats();
        let cut = stats.sum("stacks_cut");
        let counted = cut + stats.count("stacks_without_runtime");
        let whole = depths.iter().filter(|&&depth| depth == 901).count();
        eprintln!(
            "{}: {whole} of {} are whole, {counted} counted",
            interpreter.display(),
            depths.len()
        );
        assert!(depths.len() >= 10, "{} samples", depths.len());
        let why = &stats.0["stacks_cut"];
        if by_tail_calls() {
            // Up to 3.10 each of the calls has frames of the loop's besides its own.
            let too_deep = stats.count("stacks_cut.too_deep");
            assert!(too_deep >= depths.len() as u64 * 9 / 10, "3.{minor}: {why}, {depths:?}");
            assert!(depths.iter().all(|&depth| depth > 100), "3.{minor}: {depths:?}");
            continue;
        }
        assert_eq!(stats.count("stacks_cut.too_deep"), 0);
        let out_of_time = if minor <= 10 { stats.count("stacks_cut.time") } else { 0 };
        assert!(cut - out_of_time <= 1 + depths.len() as u64 / 50, "3.{minor}: {why}");
        let short: Vec<usize> = depths.iter().copied().filter(|&depth| depth != 901).collect();
        assert!(short.len() as u64 <= counted, "3.{minor}: {short:?}, {why}");
        assert!(whole * 2 >= depths.len(), "3.{minor}: {short:?}");
    }
}

/// The interpreter's own rows do not wait for a walk to miss them, which would cost that stack its
/// Python frames. A loop that adds numbers runs through some ten blocks of 64 KiB.
#[test]
fn rows_are_loaded_ahead() {
    live!(beside);
    let Some((_, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["paths"], None);
    let (recording, _) = recorded(&running, 2);
    let blocks = recording.stats().count("tables.blocks");
    assert!(blocks >= 25, "{blocks} blocks of 64 KiB have rows");
}

/// Paths of one shape at 80 and 20 stay two.
#[test]
fn equal_shapes_do_not_merge() {
    live!(beside);
    let Some((minor, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["paths"], None);
    let (recording, stacks) = recorded(&running, 5);
    assert_true(&judge(&stacks, &running.truth, minor), &recording);
    let of = |name: &str| {
        stacks.iter().filter(|stack| stack.iter().any(|frame| frame.name == name)).count() as f64
    };
    let share = of("eighty") / (of("eighty") + of("twenty"));
    assert!((0.7..0.9).contains(&share), "{share}");
    assert_eq!(of("eighty"), of("shape_of_eighty"));
}

/// Code that is made and freed all the time has its names, and they are right.
#[test]
fn churning_code_is_named() {
    live!(beside);
    let Some((minor, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["executed"], None);
    let (recording, stacks) = recorded(&running, 5);
    let verdict = judge(&stacks, &running.truth, minor);
    assert_named(&recording);
    // Between two named frames there may be one that had no name any more.
    let is_gone = |stack: &str| stack.contains("[unnamed");
    let wrong: Vec<_> = verdict.wrong.iter().filter(|wrong| !is_gone(wrong)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(verdict.python >= 50, "{verdict:?}");
}

/// Children that are gone when their frames are named have all of their lines: their parent's, not
/// only what came with the sample, which is the beginning of a long function's table.
#[test]
fn children_that_are_gone_have_lines() {
    live!(beside);
    let Some((minor, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["forking"], None);
    let (recording, stacks) = recorded(&running, 4);
    let verdict = judge(&stacks, &running.truth, minor);
    let (n_wrong, n_edges) = (verdict.wrong_lines.len() as u64, verdict.edges);
    eprintln!("{n_wrong} lines of {n_edges} wrong, {} told", recording.stats().count("told"));
    assert!(verdict.python >= 50, "{verdict:?}");
    assert!(n_wrong * 500 <= n_edges, "{n_wrong} of {n_edges}: {:?}", verdict.wrong_lines);
}

/// Programs that have ended, and their memory with them, before anybody looks for their names.
#[test]
fn programs_that_end_at_once_are_named() {
    live!(beside);
    let Some((_, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let program = "def work(n):\n    return sum(i * i for i in range(n))\nwork(500_000)";
    let inside = format!("for i in $(seq 40); do {} -c '{program}'; done", interpreter.display());
    let recording = record(["-F", "199", "--", "sh", "-c", &inside]);
    assert_named(&recording);
    let n = recording.folded.samples(|stack| stack.has("work"));
    assert!(n > 50, "{n}: {}", recording.folded.summary());
}

/// The interpreter's key is the 41st: it lies in the second block of a thread's keys.
#[test]
fn keys_beyond_the_first_block() {
    live!(beside);
    let Some((minor, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["paths", "threads"], Some(&program!("keys.so")));
    let (recording, stacks) = recorded(&running, 4);
    assert_true(&judge(&stacks, &running.truth, minor), &recording);
}

/// Threads that gave the interpreter's lock away keep their Python stacks.
#[test]
fn released_locks_keep_the_stack() {
    live!(beside);
    let Some((minor, interpreter)) = newest() else {
        skipped("CPython 3.11 or later is not installed");
        return;
    };
    let running = start(&interpreter, &["threads"], None);
    let (recording, stacks) = recorded(&running, 4);
    assert_true(&judge(&stacks, &running.truth, minor), &recording);
    let in_c = |function: &str| {
        stacks.iter().filter(|stack| stack.iter().any(|frame| frame.name == function)).count()
    };
    assert!(in_c("hashing") >= 20 && in_c("compressing") >= 5, "{}", recording.folded.summary());
}

/// What goes wrong in another process does not show in this one: its stacks are whole.
fn assert_unaffected(recording: &Recording, pid: u32) {
    let all: Vec<_> =
        recording.stats().processes().into_iter().filter(|process| process.pid == pid).collect();
    let samples: u64 = all.iter().map(|process| process.samples).sum();
    let cut: u64 = all.iter().map(|process| process.cut_samples()).sum();
    // Over the byte rate while everybody's rows are loaded at once.
    let budget: u64 = all.iter().map(|process| process.cut["budget"]).sum();
    assert!(samples >= 20 && budget * 20 <= samples, "{all:?}");
    assert!((cut - budget) * 100 <= samples || cut - budget <= 2, "{all:?}");
}

/// Programs that end, or become another program, in the middle of whatever is done with them: no
/// frame is another one's, the next program has its own stacks, and nobody else notices.
#[test]
fn gone_in_the_middle() {
    // Its own process's children are recorded.
    live!();
    let (later, next) = (program!("execlater.so"), program!("recursion"));
    let mut n = 0;
    for minor in OLDEST_MINOR..=NEWEST_MINOR {
        // A script that enters another system's tree would become the other program itself.
        let is_program =
            |path: &PathBuf| fs::read(path).is_ok_and(|file| file.starts_with(b"\x7fELF"));
        let Some(interpreter) = interpreters(minor).into_iter().find(is_program) else { continue };
        n += 1;
        let scratch = Scratch::new();
        let sign = scratch.path("now");
        let profile = scratch.path("profile.firefox.json");
        let other = start(&interpreter, &["paths"], None);
        let dying = start(&interpreter, &["paths", "sorting"], None);
        let changing = start_with(&interpreter, &["paths", "sorting"], |command| {
            command.env("LD_PRELOAD", &later).env("EXEC_LATER", &next).env("EXEC_WHEN", &sign);
        });
        let mut args = vec!["-F".to_owned(), "499".into(), "-d".into(), "5".into()];
        for running in [&other, &dying, &changing] {
            args.extend(["-p".to_owned(), running.workload.pid().to_string()]);
        }
        // Those that start later are this one's children.
        args.extend(["-p".to_owned(), std::process::id().to_string()]);
        args.extend(["-o".to_owned(), profile.to_string_lossy().into_owned()]);
        let mut recorder = Recorder::start(args);
        recorder.wait_until_sampling();
        std::thread::sleep(Duration::from_millis(500));
        send("KILL", dying.workload.pid().into());
        std::fs::File::create(&sign).expect("a sign");
        for after_ms in [30, 60, 120, 250, 500] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/truth.py");
            let mut command = Command::new(&interpreter);
            command.args(["-W", "ignore"]).arg(source).arg(scratch.path("unread.json"));
            let short = Workload::spawn(command.arg("paths"));
            std::thread::sleep(Duration::from_millis(after_ms));
            drop(short);
        }
        let recording = recorder.finish();
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        // Those that were short find their truth; what they do then was not said.
        let stacks: Vec<_> = firefox_stacks(&profile)
            .into_iter()
            .filter(|stack| {
                let names = |name: &str| stack.iter().any(|frame| frame.name == name);
                names("paths") || names("sorting") || names("floor_of_it")
            })
            .filter(|stack| {
                let telling = ["hook", "key", "below", "observe", "write"];
                let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
                let is_telling = |frame: &Frame| {
                    last(&frame.name).is_some_and(|name| telling.contains(&name.as_str()))
                };
                !stack.iter().any(is_telling)
            })
            .collect();
        let verdict = judge(&stacks, &dying.truth, minor);
        assert!(verdict.python >= 50, "3.{minor}: {verdict:?}");
        assert!(verdict.wrong.is_empty(), "3.{minor}: {:#?}", verdict.wrong);
        let of_next = |stack: &&Vec<Frame>| stack.iter().any(|frame| frame.name == "floor_of_it");
        assert!(stacks.iter().filter(of_next).count() > 0, "3.{minor}: it became another program");
        for stack in stacks.iter().filter(of_next) {
            let is_python = stack.iter().any(|frame| frame.is_python() || frame.is_loop());
            assert!(!is_python, "3.{minor}: Python in another program: {}", show(stack));
        }
        assert_unaffected(&recording, other.workload.pid());
        println!(
            "3.{minor} gone: {} stacks with Python, {} edges, {} of {} frames named",
            verdict.python,
            verdict.edges,
            recording.stats().count("frames.cpython.named"),
            recording.stats().count("frames.cpython.total"),
        );
    }
    if n == 0 {
        skipped("no CPython");
    }
}

/// A debugger that holds a program, before it is first seen and while it is sampled: nothing waits for
/// it, and it is as ever when it goes on.
#[test]
fn held_by_a_debugger() {
    live!(beside);
    if !has_program("gdb") {
        return skipped("needs gdb");
    }
    let Some((minor, interpreter)) = newest() else {
        return skipped("CPython 3.11 or later is not installed");
    };
    let (held, other) =
        (start(&interpreter, &["paths"], None), start(&interpreter, &["paths"], None));
    let (pid, other_pid) = (held.workload.pid(), other.workload.pid());
    let is_held = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its state");
        status.contains("(tracing stop)")
    };
    let hold = |seconds: &str| {
        let debugger = Command::new("gdb")
            .args(["-q", "-nx", "-batch", "-iex", "set auto-solib-add off"])
            .args(["-iex", "set debuginfod enabled off", "-p", &pid.to_string()])
            .args(["-ex", &format!("shell sleep {seconds}"), "-ex", "detach"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("gdb starts");
        wait_for("gdb to hold it", || is_held().then_some(()));
        debugger
    };
    let scratch = Scratch::new();
    let profile = scratch.path("profile.firefox.json");
    let output = profile.to_string_lossy().into_owned();
    let mut first = hold("3");
    let (a, b) = (pid.to_string(), other_pid.to_string());
    let mut recorder =
        Recorder::start(["-F", "199", "-p", &a, "-p", &b, "-d", "12", "-o", &output]);
    recorder.wait_until_sampling();
    assert!(is_held(), "it is held while it is first looked at");
    first.wait().expect("gdb ends");
    std::thread::sleep(Duration::from_secs(2));
    hold("3").wait().expect("gdb ends");
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    assert_true(&judge(&firefox_stacks(&profile), &held.truth, minor), &recording);
    assert_unaffected(&recording, pid);
    assert_unaffected(&recording, other_pid);
}

/// Programs of pyperformance as they are, whatever they do: `HOTFRAME_PYPERFORMANCE` names the folder
/// of its `bm_*` (testing/runtimes/python.sh fetches it).
#[test]
fn real_programs_are_whole() {
    live!(beside);
    let Some(folder) = std::env::var_os("HOTFRAME_PYPERFORMANCE").map(PathBuf::from) else {
        skipped("HOTFRAME_PYPERFORMANCE is not set");
        return;
    };
    let mut n_run = 0;
    // 3.7 and 3.9 are laid out as their neighbours are.
    for minor in [6, 8, 10, 11, 12, 13, 14] {
        let Some(interpreter) = interpreters(minor).into_iter().next() else { continue };
        for (program, arguments) in REAL_PROGRAMS {
            let folder = folder.join(format!("bm_{program}"));
            n_run += usize::from(real_program(minor, &interpreter, &folder, arguments));
        }
    }
    assert!(n_run > 0, "none of them runs here");
}

/// Each with what it asks for.
const REAL_PROGRAMS: [(&str, &[&str]); 14] = [
    ("async_tree", &["memoization"]),
    ("async_generators", &[]),
    ("deltablue", &[]),
    ("generators", &[]),
    ("json_dumps", &[]),
    ("logging", &["format"]),
    ("nbody", &[]),
    ("pickle", &["pickle", "--pure-python"]),
    ("pyflate", &[]),
    ("raytrace", &[]),
    ("regex_compile", &[]),
    ("richards", &[]),
    ("sqlite_synth", &[]),
    ("xml_etree", &["iterparse"]),
];

/// Did it run?
fn real_program(minor: u32, interpreter: &Path, folder: &Path, arguments: &[&str]) -> bool {
    let forever = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/forever.py");
    let mut command = Command::new(interpreter);
    command.arg(forever).arg(folder).args(arguments);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let line = hotframe_live::first_line(&mut child);
    let name = folder.file_name().unwrap_or_default().display();
    if line.trim() != "ready" {
        skipped(&format!("{name} does not run on CPython 3.{minor}"));
        let _ = child.wait();
        return false;
    }
    let (recording, stacks) = recorded_pid(child.id(), 499, 3, |stacks| n_python(stacks) >= 300);
    let _ = child.kill();
    let _ = child.wait();
    let stats = recording.stats();
    let total = stacks.len() as u64;
    let with = |stack: &&Vec<Frame>| stack.iter().any(Frame::is_python);
    let python = stacks.iter().filter(with).count() as u64;
    let whole = stats.count("stacks_whole");
    let lost = stats.count("stacks_without_runtime");
    let frames = |key: &str| stats.count(&format!("frames.cpython.{key}"));
    let (named, all) = (frames("named"), frames("total"));
    eprintln!(
        "3.{minor} {name}: {whole} of {total} stacks whole, {python} with Python, {lost} known to lack \
         it, {named} of {all} frames named"
    );
    assert!(total >= 200, "{total} samples");
    assert!(whole * 100 >= total * 99, "{name}: {:?}", stats.sum("stacks_cut"));
    // The first of each new piece of code are finished when the process has gone on.
    let cut = stats.sum("stacks_cut");
    assert!(python + lost + cut >= total, "{name}: {python}, {lost} and {cut} cut of {total}");
    // That is done within two tenths of a second, of which a stripped interpreter's structures take one:
    // much of a short recording.
    let is_begin = total - python <= 100;
    assert!(python * 100 >= total * 95 || is_begin, "{name}: {python} of {total}");
    assert!(named * 1000 >= all * 995, "{name}: {named} of {all} frames are named");
    true
}

/// Another profiler, which reads the interpreters' structures from outside, sees the same program:
/// shares of the functions at work, and of those with their callers, differ by what chance allows.
/// `HOTFRAME_PYSPY` names py-spy (testing/runtimes/python.sh fetches it).
#[test]
fn agrees_with_py_spy() {
    live!(beside);
    let Some(py_spy) = std::env::var_os("HOTFRAME_PYSPY").map(PathBuf::from) else {
        skipped("HOTFRAME_PYSPY is not set");
        return;
    };
    let mut n_compared = 0;
    for minor in OLDEST_MINOR..=NEWEST_MINOR {
        let Some(interpreter) = interpreters(minor).into_iter().next() else { continue };
        n_compared += usize::from(compared_with_py_spy(minor, &interpreter, &py_spy));
    }
    assert!(n_compared > 0, "py-spy reads none of the versions here");
}

fn compared_with_py_spy(minor: u32, interpreter: &Path, py_spy: &Path) -> bool {
    // One thread, and nothing that is freed before it is named.
    let scenarios = ["paths", "multiline", "sorting", "generators", "comprehensions", "methods"];
    let running = start(interpreter, &scenarios, None);
    let scratch = Scratch::new();
    let (theirs, profile) = (scratch.path("theirs.raw"), scratch.path("profile.firefox.json"));
    let pid = running.workload.pid().to_string();
    // py-spy takes a moment to begin, and both sample what is periodical: it is begun first, and goes
    // on for as long.
    let mut them = Command::new(py_spy)
        .args(["record", "--format", "raw", "--function", "--rate", "199", "--duration", "12"])
        .args(["--pid", &pid, "--output"])
        .arg(&theirs)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("py-spy starts");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let output = profile.to_string_lossy().into_owned();
    record(["-F", "199", "-p", &pid, "-d", "11", "-o", &output]);
    let mut said = String::new();
    if let Some(mut stderr) = them.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
    }
    if !them.wait().is_ok_and(|status| status.success()) {
        let why = said.lines().last().unwrap_or_default();
        skipped(&format!("py-spy does not read CPython 3.{minor}: {why}"));
        return false;
    }
    let text = std::fs::read_to_string(&theirs).expect("py-spy's profile");
    let mut shares: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    let mut totals = [0u64; 2];
    // A function counts once a stack; a leaf also as itself, and with its caller.
    let mut add = |side: usize, names: &[&str], n: u64| {
        let Some(leaf) = names.last() else { return };
        totals[side] += n;
        let once: HashSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        let caller = names.len().checked_sub(2).map_or("", |at| names[at]);
        let whats = once.into_iter().chain([format!("self {leaf}"), format!("{caller} > {leaf}")]);
        for what in whats {
            shares.entry(what).or_default()[side] += n;
        }
    };
    for line in text.lines() {
        let Some((stack, n)) = line.rsplit_once(' ') else { continue };
        // `name (file)`; names before 3.11 are plain in both, later ones in ours alone qualified.
        let names: Vec<&str> = stack
            .split(';')
            .map(|frame| plain(frame.split(" (").next().unwrap_or(frame)))
            .collect();
        add(0, &names, n.parse().expect("a count"));
    }
    for stack in firefox_stacks(&profile) {
        let python = stack.iter().filter(|frame| frame.is_python());
        let names: Vec<&str> = python.map(|frame| plain(&frame.name)).collect();
        add(1, &names, 1);
    }
    let [n_theirs, n_ours] = totals.map(|total| total as f64);
    assert!(n_theirs >= 300.0 && n_ours >= 300.0, "3.{minor}: {totals:?} samples");
    // Two shares of one truth: four standard deviations of their difference, and 1 % for the turns that
    // are cut in two at the ends. py-spy samples by the wall's clock: while the program waits for a CPU
    // it sees the same place again, and so its samples count for no more than ours.
    let n = n_theirs.min(n_ours);
    let mut worst = (f64::MIN, String::new());
    let mut compared = 0;
    for (what, &[theirs, ours]) in &shares {
        let (p, q) = (theirs as f64 / n_theirs, ours as f64 / n_ours);
        if p.max(q) < 0.01 {
            continue;
        }
        compared += 1;
        let both = f64::midpoint(p, q);
        let deviation = (both * (1.0 - both) * 2.0 / n).sqrt();
        let beyond = (p - q).abs() - (4.0 * deviation + 0.01);
        if beyond > worst.0 {
            worst = (beyond, format!("{what}: {q:.3}, they {p:.3}"));
        }
    }
    eprintln!(
        "3.{minor} py-spy: {compared} shares of functions, leaves and edges compared in {n_ours} and \
         {n_theirs} samples, nearest to its bound {}",
        worst.1
    );
    assert!(compared >= 8, "3.{minor}: {compared} compared");
    assert!(worst.0 <= 0.0, "3.{minor}: {}", worst.1);
    true
}

/// A function's own name, of a qualified one.
fn plain(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A program of another name that has the interpreter in it, with several interpreters: the file is
/// known by its symbols, and frames of the interpreter that a thread runs have their names. Where one
/// interpreter calls another both are there.
#[test]
fn embedded_and_with_interpreters_of_its_own() {
    live!(beside);
    for minor in OLDEST_MINOR..=NEWEST_MINOR {
        let Some(interpreter) = interpreters(minor).into_iter().next() else { continue };
        let scratch = Scratch::new();
        let service = scratch.path("service");
        let Some(()) = embed(&interpreter, minor, &service) else {
            skipped(&format!("CPython 3.{minor} has no headers"));
            continue;
        };
        let workload = Workload::start::<&str>(&service, []);
        let has = |stack: &[Frame], name: &str| stack.iter().any(|frame| frame.name == name);
        let of = |stacks: &[Vec<Frame>], name: &str| {
            stacks.iter().filter(|stack| has(stack, name)).count()
        };
        let all = ["first", "second", "inner"];
        let (recording, stacks) = recorded_pid(workload.pid(), 199, 4, |stacks| {
            all.iter().all(|name| of(stacks, name) >= 50)
        });
        let n: Vec<usize> = all.iter().map(|name| of(&stacks, name)).collect();
        let is_alone = |stack: &&Vec<Frame>| has(stack, "inner") && !has(stack, "outer");
        let alone = stacks.iter().filter(is_alone).count() as u64;
        let runs = stacks.iter().filter(|stack| stack.iter().any(Frame::is_loop));
        let without = runs.filter(|stack| !stack.iter().any(Frame::is_python)).count() as u64;
        let lost = recording.stats().count("stacks_without_runtime");
        let cut = recording.stats().sum("stacks_cut");
        eprintln!(
            "3.{minor}: {n:?} of the first interpreter, the second and within each other; {alone} lack \
             the outer one's frames, {without} all; {lost} are counted"
        );
        assert!(n.iter().all(|&n| n >= 50), "3.{minor} {n:?}: {}", recording.folded.summary());
        // The outermost run of the loop has not linked its frame yet, or no longer, for a few
        // instructions of each call: nothing is missing there.
        let unlinked = stacks.len() as u64 / 100;
        assert!(
            alone + without <= lost + cut + unlinked,
            "3.{minor}: {alone}, {without} of {lost}"
        );
        assert!(lost * 20 <= stacks.len() as u64, "3.{minor}: {lost} of {}", stacks.len());
        for stack in &stacks {
            let python: Vec<_> = stack.iter().filter(|frame| frame.is_python()).collect();
            for pair in python.windows(2) {
                let calls = (pair[0].name.as_str(), pair[1].name.as_str());
                let ours = ["first", "second", "outer", "inner", "spin"];
                let all = [
                    ("<module>", "first"),
                    ("first", "spin"),
                    ("<module>", "second"),
                    ("second", "spin"),
                    ("<module>", "outer"),
                    ("outer", "<module>"),
                    ("<module>", "inner"),
                    ("inner", "spin"),
                ];
                // The first samples may hit what the interpreter imports when it starts.
                let is_ours = ours.contains(&calls.0) || ours.contains(&calls.1);
                assert!(!is_ours || all.contains(&calls), "{calls:?}: {}", show(stack));
            }
            // The outer one's frames stand outside of the C function that calls the other's.
            let at = |name: &str| stack.iter().position(|frame| frame.name == name);
            if let (Some(outer), Some(call)) = (at("outer"), at("call_other")) {
                assert!(outer < call, "3.{minor}: {}", show(stack));
            }
        }
    }
}

/// A program that finalises its interpreter and begins another, again and again: each one's functions are
/// there. In between another's thread-specific key takes the number of Python's, or the library is unloaded
/// and loaded again, where it was or elsewhere.
#[test]
fn finalised_and_begun_again() {
    const MODES: &[&str] = &["keyed", "unloaded", "moved"];
    live!(beside);
    for minor in OLDEST_MINOR..=NEWEST_MINOR {
        let Some(interpreter) = interpreters(minor).into_iter().next() else { continue };
        let scratch = Scratch::new();
        let build = |options: &[&str], name: &str| {
            let out = scratch.path(name);
            compile(&interpreter, minor, "again.c", options, &out).map(|()| out)
        };
        let (Some(again), Some(library), Some(loader)) = (
            build(&[], "again"),
            build(&["-DPHASE", "-shared", "-fPIC"], "phase.so"),
            build(&["-DLOADER", "-Wl,--as-needed"], "loader"),
        ) else {
            skipped(&format!("CPython 3.{minor} has no headers"));
            continue;
        };
        // Of versions that keep the state alike one is enough, where not everything is to be tried.
        let tries_all = std::env::var_os("HOTFRAME_PYTHONS").is_some();
        let modes = match minor {
            11 | 13 => MODES,
            _ if tries_all => MODES,
            6 | 12 => &["keyed"],
            _ => continue,
        };
        for &mode in modes {
            let mut command = Command::new(if mode == "keyed" { &again } else { &loader });
            begun_again(minor, mode, command.args([mode, "1.5"]).arg(&library));
        }
    }
}

fn begun_again(minor: u32, mode: &str, command: &mut Command) {
    const LETTERS: [&str; 3] = ["a", "b", "c"];
    let workload = Workload::spawn(command);
    // Which phase a stack is of, its native frames say.
    let letter = |stack: &[Frame]| {
        LETTERS.into_iter().find(|letter| {
            let natives = [format!("main_{letter}"), format!("thread_{letter}")];
            stack.iter().any(|frame| !frame.is_python() && natives.contains(&frame.name))
        })
    };
    let is_whole = |stack: &[Frame], letter: &str| {
        let python = stack.iter().filter(|frame| frame.is_python());
        let names: Vec<&str> = python.map(|frame| frame.name.as_str()).collect();
        let of = |name: &&str| name.strip_suffix(letter).is_some_and(|name| name.ends_with('_'));
        names.first() == Some(&"<module>")
            && names.get(1..).is_some_and(|names| !names.is_empty() && names.iter().all(of))
    };
    let n_whole = |stacks: &[Vec<Frame>]| -> Vec<usize> {
        let whole = |of: &str| {
            stacks.iter().filter(|stack| letter(stack) == Some(of) && is_whole(stack, of)).count()
        };
        LETTERS.into_iter().map(whole).collect()
    };
    let (recording, stacks) =
        recorded_pid(workload.pid(), 199, 6, |stacks| n_whole(stacks).iter().all(|&n| n >= 50));
    let n = n_whole(&stacks);
    let (mut n_phases, mut lacking, mut n_unlinked) = (0, Vec::new(), 0);
    for stack in &stacks {
        let Some(letter) = letter(stack) else { continue };
        n_phases += 1;
        let others = LETTERS.into_iter().filter(|&other| other != letter);
        let of_others = others.flat_map(|other| {
            ["spin", "released", "work", "thread"].map(|name| format!("{name}_{other}"))
        });
        for other in of_others {
            let is_other = |frame: &Frame| frame.is_python() && frame.name == other;
            assert!(!stack.iter().any(is_other), "3.{minor} {mode}: {}", show(stack));
        }
        let runs = |frame: &Frame| frame.is_loop() || frame.name == "burn_without_lock";
        if !stack.iter().any(runs) || is_whole(stack, letter) {
            continue;
        }
        // A run of the loop that has not linked its frame yet, or no longer, lacks nothing.
        let is_unnamed = stack.iter().any(|frame| frame.name.starts_with("[unnamed"));
        let calls = stack.iter().any(|frame| frame.name == "burn_without_lock");
        if is_unnamed || calls {
            lacking.push(show(stack));
        } else {
            n_unlinked += 1;
        }
    }
    let stats = recording.stats();
    let (lost, cut) = (stats.count("stacks_without_runtime"), stats.sum("stacks_cut"));
    eprintln!(
        "3.{minor} {mode}: {n:?} whole of each phase, {} of {n_phases} lack frames, {n_unlinked} may, {lost} \
         are counted",
        lacking.len(),
    );
    assert!(n.iter().all(|&n| n >= 50), "3.{minor} {mode} {n:?}: {}", recording.folded.summary());
    let excused = lost + cut;
    assert!(lacking.len() as u64 <= excused, "3.{minor} {mode}: {lost}, {cut}: {lacking:#?}");
    // That stacks lack frames is noticed when the next is looked at, ten times a second, or where they
    // lacked some before, within a second; there is a phase each 1.5 s.
    assert!(
        lacking.len() * 4 <= n_phases,
        "3.{minor} {mode}: {} of {n_phases}: {:#?}",
        lacking.len(),
        &lacking[..lacking.len().min(10)]
    );
}

/// Interpreters that threads run within each other, three deep, with C functions between their own frames:
/// all of their frames are there, each in its place.
#[test]
fn interpreters_within_each_other() {
    live!(beside);
    let mut n_run = 0;
    for minor in 12..=NEWEST_MINOR {
        for interpreter in interpreters(minor) {
            interpreters_within(minor, &interpreter);
            n_run += 1;
        }
    }
    if n_run == 0 {
        skipped("CPython 3.12 or later is not installed");
    }
}

fn interpreters_within(minor: u32, interpreter: &Path) {
    let scratch = Scratch::new();
    let written = scratch.path("paths");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/nested.py");
    let mut command = Command::new(interpreter);
    command.args(["-W", "ignore"]).arg(source).arg(&written);
    let workload = Workload::spawn(&mut command);
    wait_for("the program to write its paths", || written.is_file().then_some(()));
    let text = std::fs::read_to_string(&written).expect("the paths");
    let paths: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let names = |stack: &[Frame]| -> Vec<String> {
        stack.iter().filter(|frame| frame.is_python()).map(|frame| frame.name.clone()).collect()
    };
    let n_whole = |stacks: &[Vec<Frame>]| -> Vec<usize> {
        let whole = |path: &Vec<&str>| stacks.iter().filter(|stack| names(stack) == *path).count();
        paths.iter().map(whole).collect()
    };
    let (recording, stacks) =
        recorded_pid(workload.pid(), 199, 4, |stacks| n_whole(stacks).iter().all(|&n| n >= 10));
    let n = n_whole(&stacks);
    let (mut missing, mut parts) = (Vec::new(), 0);
    for stack in &stacks {
        let names = names(stack);
        if paths
            .iter()
            .any(|path| path.starts_with(&names.iter().map(String::as_str).collect::<Vec<_>>()))
        {
            // Of no path, where it is in the evaluation loop.
            if names.is_empty() && stack.iter().any(Frame::is_loop) {
                missing.push(show(stack));
            }
            continue;
        }
        // Without some of a path's frames, and all others in their order.
        let is_part = |path: &Vec<&str>| {
            let mut rest = path.iter();
            names.iter().all(|name| rest.any(|of_path| of_path == name))
        };
        assert!(paths.iter().any(is_part), "3.{minor}: {}", show(stack));
        missing.push(show(stack));
        parts += 1;
    }
    let stats = recording.stats();
    let (lost, cut) = (stats.count("stacks_without_runtime"), stats.sum("stacks_cut"));
    eprintln!(
        "{}: {n:?} whole of each path, {} of {} stacks lack frames, {parts} some of them; {lost} are counted",
        interpreter.display(),
        missing.len(),
        stacks.len()
    );
    assert!(n.iter().all(|&n| n >= 10), "3.{minor} {n:?}: {}", recording.folded.summary());
    assert!(missing.len() as u64 <= lost + cut, "3.{minor}: {lost}, {cut}: {missing:#?}");
    // What is finished when the process has gone on has none at all, and is counted.
    assert!(parts * 50 <= stacks.len(), "3.{minor}: {parts}: {missing:#?}");
}

/// uWSGI, which has the interpreter in it: processes and threads of its own making, and an interpreter for
/// each application but the first. `HOTFRAME_UWSGI` names it (testing/runtimes/python.sh builds it).
#[test]
fn a_server_that_embeds_it() {
    live!(beside);
    let Some(uwsgi) = std::env::var_os("HOTFRAME_UWSGI").map(PathBuf::from) else {
        skipped("HOTFRAME_UWSGI is not set");
        return;
    };
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("its address")
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/wsgi.py");
    let mut command = Command::new(uwsgi);
    command.arg("--http-socket").arg(address.to_string());
    for mount in ["/a", "/b"] {
        command.arg("--mount").arg(format!("{mount}={}", source.display()));
    }
    command.args(["--manage-script-name", "--master", "--die-on-term", "--disable-logging"]);
    command.args(["--processes", "2", "--threads", "2"]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.arg("--no-orphans");
    let server = Server(command.spawn().expect("uWSGI starts"));
    let ask = move |path: &str| -> std::io::Result<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    wait_for("uWSGI to answer", || ask("/b").ok().filter(|it| it.ends_with("300000")));
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let is_over = &is_over;
    let (recording, stacks) = std::thread::scope(|scope| {
        for path in ["/a", "/a", "/b", "/b"] {
            scope.spawn(move || {
                let begun = std::time::Instant::now();
                while !is_over.load(std::sync::atomic::Ordering::Relaxed)
                    && begun.elapsed() < hotframe_live::DEADLINE
                {
                    let _ = ask(path);
                }
            });
        }
        let pid = server.0.id();
        let found = recorded_pid(pid, 499, 4, |stacks| n_python(stacks) >= SAMPLES_ENOUGH);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        found
    });
    drop(server);
    let runs: Vec<_> = stacks.iter().filter(|stack| stack.iter().any(Frame::is_loop)).collect();
    let without = runs.iter().filter(|stack| !stack.iter().any(Frame::is_python)).count() as u64;
    let lost = recording.stats().count("stacks_without_runtime");
    eprintln!(
        "uWSGI: {} samples in the evaluation loop, {without} without Python, {lost} are counted",
        runs.len()
    );
    assert!(n_python(&stacks) >= 50, "{}", recording.folded.summary());
    assert!(without <= lost, "{without} without Python, {lost} counted");
    assert!(without * 10 <= runs.len() as u64, "{without} of {} without Python", runs.len());
    for stack in &stacks {
        let python: Vec<_> = stack.iter().filter(|frame| frame.is_python()).collect();
        let names: Vec<&str> = python.iter().map(|frame| frame.name.as_str()).collect();
        let whole = ["application", "render", "spin"];
        assert!(whole.starts_with(&names), "{}", show(stack));
    }
}

/// A server with its workers, which end with it.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Compiles `embedded.c` against an interpreter's library.
fn embed(interpreter: &Path, minor: u32, out: &Path) -> Option<()> {
    compile(interpreter, minor, "embedded.c", &[], out)
}

/// Compiles a program of `workloads/python` against an interpreter's library.
fn compile(
    interpreter: &Path,
    minor: u32,
    source: &str,
    options: &[&str],
    out: &Path,
) -> Option<()> {
    let prefix = interpreter.parent()?.parent()?;
    let include = std::fs::read_dir(prefix.join("include")).ok()?.flatten().find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("python3.{minor}")) && entry.path().join("Python.h").is_file()
    })?;
    let library = include.file_name().to_string_lossy().into_owned();
    let lib = prefix.join("lib");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python");
    let compiled = Command::new("gcc")
        .args(["-O1", "-o"])
        .arg(out)
        .args(options)
        .arg(folder.join(source))
        .arg(format!("-I{}", include.path().display()))
        .arg(format!("-L{}", lib.display()))
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .arg(format!("-l{library}"))
        .args(["-lpthread", "-ldl"])
        .output()
        .ok()?;
    compiled.status.success().then_some(())
}
