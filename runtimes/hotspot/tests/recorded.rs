//! The golden cases of `testing/recorded/hotspot`: the step and the names, without a JVM.
#![forbid(unsafe_code)]

use hotframe_core::testing::{check_damaged, check_recorded, recorded_cases};
use hotframe_hotspot::RUNTIME;

/// Each recorded process unwinds and resolves to its `expected.txt`. UPDATE=1 rewrites.
#[test]
fn recorded() {
    check_recorded(&[&RUNTIME], "hotspot");
}

/// A walk that is finished when the process has gone on says the same, since no class was unloaded.
#[test]
fn finished_late() {
    for (path, process) in recorded_cases("hotspot") {
        let (now, late) = (process.walk(&[&RUNTIME]), process.walk_late(&[&RUNTIME]));
        assert_eq!(process.render(&late), process.render(&now), "{}", path.display());
    }
}

/// A method that is new takes twelve system calls at most, in whichever frame it is.
#[test]
fn twelve_reads_a_method() {
    let (mut methods, mut reads, mut most) = (0, 0, 0);
    for (path, process) in recorded_cases("hotspot") {
        let walked = process.walk(&[&RUNTIME]);
        for (named, &n) in walked.named.iter().zip(&walked.reads) {
            let frames = named.as_ref().expect("all are named");
            // The stubs' names are a list of some hundreds, read once a process.
            if frames.iter().any(|frame| frame.is_internal) {
                continue;
            }
            let name = String::from_utf8_lossy(&frames[0].name);
            assert!(n <= 12 * frames.len() as u64, "{}: {name} took {n}", path.display());
            methods += frames.len() as u64;
            reads += n;
            most = most.max(n / frames.len() as u64);
        }
    }
    println!("{methods} methods: {:.1} reads each, at most {most}", reads as f64 / methods as f64);
}

/// Damaged, they give other stacks, other names or reasons, and end.
#[test]
fn damaged() {
    check_damaged(&[&RUNTIME], "hotspot");
}
