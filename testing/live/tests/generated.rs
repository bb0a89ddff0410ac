//! Code that a JIT made, named by the perf map or jitdump that it leaves, or by what it registers for GDB.
#![forbid(unsafe_code)]

use hotframe_live::{
    Folded, Recording, Scratch, Workload, build, has_program, live, record, record_until, run,
    skipped,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// `outerLoop` calls `middleWork` calls `leafSum`, for so many milliseconds.
const SCRIPT: &str = "
function leafSum(a) { let s = 0; for (let i = 0; i < a.length; i++) s += Math.sqrt(a[i]); return s }
function middleWork(n) { let t = 0; for (let k = 0; k < n; k++) t += leafSum(all); return t }
function outerLoop(until) { let t = 0; while (Date.now() < until) t += middleWork(50); return t }
const all = []; for (let i = 0; i < 2e4; i++) all.push(i * 1.5);
outerLoop(Date.now() + MILLISECONDS);";

/// The functions stay three: nothing is inlined.
const OPTIONS: [&str; 3] = ["--perf-basic-prof", "--no-turbo-inlining", "-e"];

fn script(milliseconds: u32) -> String {
    SCRIPT.replace("MILLISECONDS", &milliseconds.to_string())
}

/// Samples whose stack has the script's functions, each called by the one before.
fn named(folded: &Folded) -> u64 {
    folded.samples(|stack| {
        let mut frames = stack.annotated.iter();
        ["middleWork ", "leafSum "]
            .iter()
            .all(|function| frames.any(|frame| frame.contains(function) && frame.ends_with("_[j]")))
    })
}

/// Samples with a frame in generated code that has no name.
fn unnamed(folded: &Folded) -> u64 {
    folded.samples(|stack| stack.frames.iter().any(|frame| frame.starts_with("[anonymous]")))
}

/// A process that goes on: its functions stand in their order, and no generated frame is unnamed.
#[test]
fn a_running_process() {
    live!(beside);
    if !has_program("node") {
        return skipped("no node");
    }
    // V8 writes a log into its directory as well.
    let scratch = Scratch::new();
    let directory = scratch.path("");
    let workload = Workload::spawn(
        Command::new("node").current_dir(&directory).args(OPTIONS).arg(script(120_000)),
    );
    let map = format!("/tmp/perf-{}.map", workload.pid());
    let pid = workload.pid().to_string();
    let recording = record_until(&["-p", &pid], |recording| named(&recording.folded) > 20);
    let _ = std::fs::remove_file(map);
    recording.assert_books();
    let all = recording.folded.of("node");
    assert!(unnamed(&recording.folded) * 100 <= all, "{}", recording.folded.summary());
}

/// A process in pid and mount namespaces of its own, which has ended, and its file system with it,
/// before anything is named.
#[test]
fn a_container_that_ended() {
    live!(beside);
    if !has_program("node") || !has_program("unshare") {
        return skipped("no node, or no unshare");
    }
    let inside = format!(
        "mount -t tmpfs none /tmp && cd /tmp && exec node {} '{}'",
        OPTIONS.join(" "),
        script(3000)
    );
    let recording = record([
        "--",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        &inside,
    ]);
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    assert!(named(&recording.folded) > 20, "{}", recording.folded.summary());
}

/// What `testing/workloads/v8/truth.js` says of itself: the lines on which a caller calls a callee.
type Truth = BTreeMap<String, Vec<u64>>;

/// Records that workload from its start to its end.
fn truth(options: &[&str], more: &[&str]) -> (Recording, Truth) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/v8/truth.js");
    let script = script.canonicalize().expect("the workload is there");
    let directory = Scratch::new();
    let output = directory.path("truth.json");
    // V8 writes its files where it is started, but for its map.
    let inside = format!(
        "cd {} && {{ node {} --no-turbo-inlining {} 6000 > {} & }} && wait $!; code=$?
        rm -f /tmp/perf-$!.map; exit $code",
        directory.path("").display(),
        options.join(" "),
        script.display(),
        output.display(),
    );
    let args: Vec<&str> =
        more.iter().copied().chain(["-F", "997", "--", "sh", "-c", &inside]).collect();
    let recording = record(args);
    let text = std::fs::read_to_string(output).expect("the workload says what it does");
    (recording, serde_json::from_str(&text).expect("as JSON"))
}

/// The function of a frame as V8 names it, `JS:*name /…/truth.js:LINE:COLUMN`, if it is the
/// workload's.
fn of_the_workload(frame: &str) -> Option<&str> {
    let (name, place) = frame.split_once(" /")?;
    let (_, name) = name.split_once(':')?;
    let name = name.trim_start_matches(['~', '^', '*', '+']);
    (place.contains("/v8/truth.js:") && !name.is_empty()).then_some(name)
}

/// V8's prologues, epilogues, builtins, optimised, baseline and interpreted code: every stack is
/// whole, every frame has a name, and no function is called by one that does not call it.
#[test]
fn callers_are_true() {
    live!(beside);
    if !has_program("node") {
        return skipped("no node");
    }
    for options in [
        ["--perf-basic-prof", "--interpreted-frames-native-stack"],
        ["--perf-prof", "--interpreted-frames-native-stack"],
        ["--perf-basic-prof --interpreted-frames-native-stack", "--always-sparkplug --no-opt"],
    ] {
        let (recording, truth) = truth(&options, &[]);
        let stats = recording.stats.as_ref().expect("books");
        let node = stats.of("node");
        assert!(node.samples > 500, "{}", recording.folded.summary());
        assert!(node.whole * 100 >= node.samples * 99, "{:?} of {}", node.cut, node.samples);
        let (mut n_edges, mut n_generated, mut n_unnamed) = (0, 0, 0);
        let mut wrong = BTreeMap::new();
        for stack in &recording.folded.stacks {
            for frame in &stack.annotated {
                n_unnamed += if frame.starts_with("[anonymous]") { stack.count } else { 0 };
                n_generated += if frame.ends_with("_[j]") { stack.count } else { 0 };
            }
            let functions: Vec<&str> =
                stack.frames.iter().filter_map(|frame| of_the_workload(frame)).collect();
            let is_whole = stack.frames.first().is_some_and(|frame| frame == "_start");
            let outermost =
                functions.first().filter(|first| is_whole && !["root", "lines"].contains(first));
            let edges = functions.windows(2).map(|pair| pair.join(">"));
            for edge in edges.chain(outermost.map(|first| format!("nothing>{first}"))) {
                n_edges += stack.count;
                if !truth.contains_key(&edge) {
                    wrong.entry(edge).or_insert((0, stack.annotated.clone())).0 += stack.count;
                }
            }
        }
        assert!(n_edges > 1000, "{}", recording.folded.summary());
        assert!(wrong.is_empty(), "{options:?}: of {n_edges} calls, with a stack each: {wrong:#?}");
        let all = n_generated + n_unnamed;
        assert!(n_unnamed * 1000 <= all * 5, "{options:?}: {n_unnamed} of {all} without a name");
    }
}

/// The lines of a jitdump: a caller stands on a line on which it calls.
#[test]
fn lines_are_true() {
    live!(beside);
    if !has_program("node") {
        return skipped("no node");
    }
    let directory = Scratch::new();
    let path = directory.path("lines.firefox.json");
    let path_text = path.display().to_string();
    let (_, truth) = truth(&["--perf-prof"], &["-o", &path_text]);
    let text = std::fs::read_to_string(path).expect("written");
    let profile: serde_json::Value = serde_json::from_str(&text).expect("as JSON");
    let (mut n_right, mut wrong) = (0, BTreeMap::new());
    for thread in profile["threads"].as_array().expect("threads") {
        let column =
            |table: &str, column: &str, at: u64| thread[table][column][at as usize].as_u64();
        let function = |frame: u64| {
            let name = column("funcTable", "name", column("frameTable", "func", frame)?)?;
            of_the_workload(thread["stringArray"][name as usize].as_str()?)
        };
        let n_stacks = thread["stackTable"]["length"].as_u64().unwrap_or(0);
        for stack in 0..n_stacks {
            let Some(callee) = column("stackTable", "frame", stack).and_then(function) else {
                continue;
            };
            // The caller may be builtins away.
            let mut outer = column("stackTable", "prefix", stack);
            while let Some(at) = outer {
                outer = column("stackTable", "prefix", at);
                let frame = column("stackTable", "frame", at).expect("a frame");
                let Some(caller) = function(frame) else { continue };
                let edge = format!("{caller}>{callee}");
                // Between them may stand functions that are interpreted, which have no name here.
                if let Some(line) = column("frameTable", "line", frame)
                    && let Some(lines) = truth.get(&edge)
                {
                    if lines.contains(&line) {
                        n_right += 1;
                    } else {
                        *wrong.entry(format!("{edge} on {line}")).or_insert(0) += 1;
                    }
                }
                break;
            }
        }
    }
    let n_wrong: u64 = wrong.values().sum();
    assert!(n_right > 50, "{n_right} right, {wrong:?}");
    assert!(n_wrong * 100 <= n_right + n_wrong, "{n_right} right, {wrong:?}");
}

/// A map that is written anew, in its file or in another, or that comes after a dump; a dump after a map;
/// a map too large to be read: each name is the one of its time, none is another's, and what has none is
/// counted in its process's report.
#[test]
fn names_that_change_and_come_late() {
    live!(beside);
    if !cfg!(target_arch = "x86_64") || !has_program("python3") {
        return skipped("no python3, or another machine");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/python/maps.py");
    let script = script.canonicalize().expect("the workload is there");
    let overwritten = "addresses have no name: the map of the time was overwritten";
    for (way, expect, problem) in [
        ("rewritten", &["new_second"][..], overwritten),
        ("recreated", &["old_first", "new_second"], ""),
        ("map_after_dump", &["late_first", "late_second"], ""),
        ("dump_after_map", &["late_first", "late_second"], ""),
        ("too_large", &[], "bytes of its map or dump are not read"),
    ] {
        let directory = Scratch::new();
        let inside = format!(
            "cd {} && {{ python3 {} {way} 8 & }} && wait $!; code=$?; rm -f /tmp/perf-$!.map; exit $code",
            directory.path("").display(),
            script.display(),
        );
        let recording = record(["-F", "199", "--", "sh", "-c", &inside]);
        recording.assert_books();
        let mut generated: BTreeMap<&str, u64> = BTreeMap::new();
        for stack in &recording.folded.stacks {
            for frame in stack.annotated.iter().filter_map(|frame| frame.strip_suffix("_[j]")) {
                *generated.entry(frame).or_default() += stack.count;
            }
        }
        let enough: Vec<&str> =
            generated.iter().filter(|(_, n)| **n > 50).map(|(name, _)| *name).collect();
        let mut expect = expect.to_vec();
        expect.sort_unstable();
        assert_eq!(enough, expect, "{way}: {generated:?}");
        assert_eq!(generated.len(), expect.len(), "{way}: {generated:?}");
        let stats = recording.stats.as_ref().expect("books");
        let told: Vec<String> = stats.0["processes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|process| process["problems"].as_array().is_some_and(|all| !all.is_empty()))
            .map(|process| process["problems"].to_string())
            .collect();
        assert_eq!(told.is_empty(), problem.is_empty(), "{way}: {told:?}");
        assert!(told.iter().all(|told| told.contains(problem)), "{way}: {told:?}");
    }
}

/// What somebody put where the map should be costs its names, which is said, and nothing else.
#[test]
fn maps_that_were_put_there_to_hurt() {
    live!(beside);
    if !has_program("node") {
        return skipped("no node");
    }
    let workload = Workload::spawn(Command::new("node").args(["-e", &script(120_000)]));
    let pid = workload.pid().to_string();
    let map = format!("/tmp/perf-{pid}.map");
    let foreign = "chown 12345 ";
    for (make, why) in [
        ("mkfifo ", "not a regular file"),
        ("ln -s /etc/passwd ", "symbolic links"),
        ("touch ", ""),
        (foreign, "belongs to user 12345"),
    ] {
        if make != foreign {
            let _ = std::fs::remove_file(&map);
        }
        run("sh", ["-c", &format!("{make}{map}")]);
        let recording = record_until(&["-p", &pid], |recording| unnamed(&recording.folded) > 20);
        recording.assert_books();
        let stats = recording.stats.as_ref().expect("books");
        let node = stats.of("node");
        assert!(node.whole * 100 >= node.samples * 99, "{make}: {:?}", node.cut);
        let problems = stats.0["problems"].to_string();
        let is_told = problems.contains(&format!("generated code of {pid}"));
        assert_eq!(is_told, !why.is_empty(), "{make}: {problems}");
        assert!(problems.contains(why), "{make}: {problems}");
    }
    std::fs::remove_file(&map).expect("removed");
}

/// Erlang's own stacks: each ends where its process began, and no frame is missing or made up.
#[test]
fn an_erlang_process() {
    live!(beside);
    if !has_program("erlc") || !has_program("erl") {
        return skipped("no erl");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/beam/truth.erl");
    let directory = Scratch::new();
    let beam = directory.path("").display().to_string();
    run("erlc", ["-o", &beam, &source.display().to_string()]);
    let recording = record([
        "-F",
        "499",
        "--",
        "erl",
        "+JPperf",
        "true",
        "-noshell",
        "-pa",
        &beam,
        "-eval",
        "truth:run(4000), halt().",
    ]);
    let of_truth = |stack: &&hotframe_live::Stack| stack.has("truth:leaf/2");
    let (mut n, mut n_rooted) = (0, 0);
    for stack in recording.folded.stacks.iter().filter(of_truth) {
        let functions: Vec<&str> = stack
            .frames
            .iter()
            .filter_map(|frame| frame.strip_prefix("truth:"))
            .map(|name| name.split('/').next().unwrap_or(name))
            .collect();
        // middle(50) calls middle(49) after leaf returned, so any depth is possible.
        let is_path = match functions.as_slice() {
            ["outer", middle @ .., "leaf"] => {
                !middle.is_empty() && middle.iter().all(|one| *one == "middle")
            }
            _ => false,
        };
        assert!(is_path, "{functions:?}");
        n += stack.count;
        n_rooted += if stack.has("init:start_it/1") { stack.count } else { 0 };
    }
    assert!(n > 100, "{}", recording.folded.summary());
    assert_eq!(n_rooted, n, "{}", recording.folded.summary());
    let stats = recording.stats.as_ref().expect("books");
    // What ran on the scheduler's own stack is cut.
    let beam = stats.of("beam.smp");
    assert!(beam.whole >= n && n * 2 > beam.samples, "{n} of {}: {:?}", beam.samples, beam.cut);
}

/// Builds `registered` and what it loads.
fn registered() -> Option<[String; 3]> {
    let parts = ["registered", "registered.o", "registered_other.o"];
    let [Some(program), Some(object), Some(other)] = parts.map(build) else { return None };
    Some([program, object, other].map(|path| path.display().to_string()))
}

/// Code without frame pointers, registered with GDB's interface: each stack is whole, through it and back, and
/// each frame has its name.
#[test]
fn registered_code() {
    live!();
    if !cfg!(target_arch = "x86_64") {
        return skipped("the workload relocates x86-64 code");
    }
    let Some([program, object, _]) = registered() else { return };
    let workload = Workload::start(Path::new(&program), [&object]);
    let pid = workload.pid().to_string();
    let above = ["main", "run", "jit_entry_[j]"];
    let leaf = ["jit_middle_[j]", "jit_middle_[j]", "jit_middle_[j]", "jit_leaf_[j]"];
    let paths = [[&above[..], &leaf].concat(), [&above[..], &["callback"]].concat()];
    let is_path = |frames: &[String], path: &[&str]| {
        frames.windows(path.len()).any(|part| part.iter().zip(path).all(|(a, b)| a == b))
    };
    let with = |recording: &Recording, path: &[&str]| {
        recording.folded.samples(|stack| is_path(&stack.annotated, path))
    };
    let recording = record_until(&["-F", "199", "-p", &pid], |recording| {
        paths.iter().all(|path| with(recording, path) > 100)
    });
    recording.assert_books();
    let stats = recording.stats().of("registered");
    let n: u64 = paths.iter().map(|path| with(&recording, path)).sum();
    // A tenth: what came before the code was looked for, and prologues.
    assert!(
        n * 10 >= stats.samples * 9,
        "{n} of {}: {}",
        stats.samples,
        recording.folded.summary()
    );
    assert!(stats.whole * 50 >= stats.samples * 49, "{:?} of {}", stats.cut, stats.samples);
    assert!(unnamed(&recording.folded) * 10 <= stats.samples, "{}", recording.folded.summary());
}

/// Code that is freed, with other code taking turns at its addresses: no function of one calls one of the
/// other, and each has the callers that it has; what cannot be told is cut, has no name, and is said.
#[test]
fn registered_code_that_changes() {
    live!();
    if !cfg!(target_arch = "x86_64") {
        return skipped("the workload relocates x86-64 code");
    }
    let Some([program, object, other]) = registered() else { return };
    let recording = record(["-F", "997", "--", &program, &object, &other, "8"]);
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    let mut n_of = BTreeMap::new();
    for stack in &recording.folded.stacks {
        let of = |frame: &String| {
            let (kind, function) = frame.strip_suffix("_[j]")?.split_once('_')?;
            Some((kind.to_owned(), function.to_owned()))
        };
        let functions: Vec<(String, String)> = stack.annotated.iter().filter_map(of).collect();
        let Some((first, _)) = functions.first() else { continue };
        assert!(functions.iter().all(|(kind, _)| kind == first), "{:?}", stack.annotated);
        let is_whole = stack.frames.first().is_some_and(|frame| frame == "_start");
        if is_whole && !stack.annotated.iter().any(|frame| frame.starts_with("[anonymous]")) {
            let names: Vec<&str> = functions.iter().map(|(_, name)| name.as_str()).collect();
            let path = ["entry", "middle", "middle", "middle", "leaf"];
            assert!(path.starts_with(&names), "{:?}", stack.annotated);
            *n_of.entry(first.clone()).or_insert(0) += stack.count;
        }
    }
    // Each turn is a pass or less: it depends on the machine how many samples can be believed.
    let n_believed: u64 = n_of.values().sum();
    assert!(n_believed > 50, "{n_of:?} {}", recording.folded.summary());
}
