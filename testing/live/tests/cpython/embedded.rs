//! Interpreters within other programs, within each other, and begun again.

use crate::truth::*;
use hotframe_live::{Frame, Scratch, Workload, live, skipped, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

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
