//! Code that a JIT made, named by the perf map that it leaves.
#![forbid(unsafe_code)]

use hotframe_live::{Folded, Scratch, Workload, has_program, live, record, record_until, skipped};
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
    live!();
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
    live!();
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
