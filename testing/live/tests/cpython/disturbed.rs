//! Processes that end, become another program or are held: nobody else notices.

use crate::truth::*;
use hotframe_live::{
    Frame, Recorder, Recording, Scratch, Workload, firefox_stacks, has_program, hold, is_held,
    live, program, send, skipped,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
        let mut args = vec!["-F".to_owned(), "499".into(), "-d".into(), "3".into()];
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
    let scratch = Scratch::new();
    let profile = scratch.path("profile.firefox.json");
    let output = profile.to_string_lossy().into_owned();
    let mut first = hold(pid, 2);
    let (a, b) = (pid.to_string(), other_pid.to_string());
    let mut recorder = Recorder::start(["-F", "199", "-p", &a, "-p", &b, "-d", "9", "-o", &output]);
    recorder.wait_until_sampling();
    assert!(is_held(pid), "it is held while it is first looked at");
    first.wait().expect("gdb ends");
    std::thread::sleep(Duration::from_secs(2));
    hold(pid, 2).wait().expect("gdb ends");
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    assert_true(&judge(&firefox_stacks(&profile), &held.truth, minor), &recording);
    assert_unaffected(&recording, pid);
    assert_unaffected(&recording, other_pid);
}
