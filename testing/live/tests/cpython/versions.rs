//! Each version that is there: what programs do in it, and another profiler beside.

use crate::truth::*;
use hotframe_live::{
    Frame, Scratch, by_tail_calls, firefox_stacks, live, program, record, skipped,
};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

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
        let (recording, stacks) = recorded(&running, 3);
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
