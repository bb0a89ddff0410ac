//! Bad input: one clear line, the right exit code, nothing half-written.
#![forbid(unsafe_code)]

use hotframe_live::{Recorder, Recording, Scratch, hotframe, live, program, skipped};
use std::fs;
use std::process::{Command, Stdio};

/// Runs with these arguments: it must end with `code`, say one line that holds `words`, and write
/// nothing.
fn refused(args: &[&str], code: i32, words: &[&str]) -> Recording {
    let recording = Recorder::start(args).finish();
    let said = &recording.stderr;
    assert_eq!(recording.code(), code, "{args:?}: {said}");
    for word in words {
        assert!(
            said.to_lowercase().contains(&word.to_lowercase()),
            "{args:?}: no {word:?}: {said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
    assert!(!recording.scratch.path("out.folded").exists(), "{args:?}: something was written");
    recording
}

/// A pid that no process has.
#[test]
fn unknown_pid() {
    live!();
    let recording = refused(&["-p", "4194303", "-d", "1"], 1, &["4194303"]);
    assert_eq!(recording.stderr.trim().lines().count(), 1, "{}", recording.stderr);
}

/// A thread's id where a process's belongs: one line says whose thread it is.
#[test]
fn thread_for_a_process() {
    live!();
    let workload = hotframe_live::Workload::start(&program!("threads"), [""; 0]);
    let process = workload.pid().to_string();
    let tid = hotframe_live::wait_for("a second thread", || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
        names.into_iter().find(|tid| *tid != process)
    });
    let recording = refused(&["-p", &tid, "-d", "1"], 1, &[&tid, &format!("give -p {process}")]);
    assert_eq!(recording.stderr.trim().lines().count(), 1, "{}", recording.stderr);
}

/// Words where numbers belong, and options that do not exist, are wrong usage.
#[test]
fn wrong_usage() {
    live!();
    refused(&["-p", "init"], 2, &["init"]);
    refused(&["--no-such-option"], 2, &["--no-such-option"]);
    refused(&["-d", "yesterday"], 2, &["yesterday"]);
    refused(&["-d", "-1"], 2, &[]);
    refused(&["--memory", "lots"], 2, &["lots"]);
    refused(&["--audit", "some"], 2, &["some"]);
}

/// Frequencies that cannot be.
#[test]
fn absurd_frequency() {
    live!();
    for hz in ["0", "-5", "1000000000", "99999999999999999999"] {
        let argument = format!("--frequency={hz}");
        refused(&[&argument, "-d", "1"], 2, &["frequency"]);
    }
}

/// Less memory than the least that can work.
#[test]
fn memory_below_the_minimum() {
    live!();
    refused(&["--memory", "1KiB", "-d", "1"], 2, &["memory"]);
}

/// An output whose name says no format that is known.
#[test]
fn unknown_format() {
    live!();
    refused(&["-o", "/nonexistent.jpeg", "-d", "1"], 2, &["jpeg"]);
    refused(&["-o", "-", "--format", "jpeg", "-d", "1"], 2, &["jpeg"]);
}

/// A directory that is not there is found out before recording, not after.
#[test]
fn unwritable_output() {
    live!();
    let start = std::time::Instant::now();
    refused(&["-o", "/nonexistent/dir/x.folded", "-d", "60"], 1, &["/nonexistent/dir"]);
    assert!(start.elapsed().as_secs() < 50, "it recorded first");
}

/// A cgroup that is not there.
#[test]
fn unknown_cgroup() {
    live!();
    refused(
        &["--cgroup", "/sys/fs/cgroup/nonexistent-group", "-d", "1"],
        1,
        &["nonexistent-group"],
    );
}

/// More cgroups than the filter holds, and too little of a container's id: one line says what is
/// allowed.
#[test]
fn cgroups_that_cannot_be() {
    live!();
    let mut many = vec!["-d", "1"];
    many.extend(["--cgroup", "/"].repeat(65));
    for (args, words) in
        [(many, "at most 64 cgroups"), (vec!["-d", "1", "--cgroup", "3f2"], "at least 4 digits")]
    {
        let recording = refused(&args, 2, &[words]);
        assert_eq!(recording.stderr.trim().lines().count(), 1, "{}", recording.stderr);
    }
}

/// A full disk is an error that says so; the other outputs are written.
#[test]
fn full_disk() {
    live!();
    let split = program!("split");
    let scratch = Scratch::new();
    let small = scratch.path("small");
    fs::create_dir(&small).expect("a directory");
    let stats = scratch.path("stats.json");
    let folded = scratch.path("good.folded");
    let script = "mount -t tmpfs -o size=4k none \"$1\" && exec \"$2\" record -d 1 \
                  -o \"$1/full.html\" -o \"$3\" --stats \"$4\"";
    let _burning = hotframe_live::Workload::start(&split, [""; 0]);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&small, &hotframe(), &folded, &stats])
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left") || said.contains("disk is full"), "{said}");
    assert!(said.contains("full.html"), "{said}");
    let folded = fs::read_to_string(&folded).expect("the other output is written");
    assert!(hotframe_live::Folded::parse(&folded).of("split") > 0);
    assert!(stats.exists());
}

/// A kernel without BTF: one line that says so, and nothing is written.
#[test]
fn no_btf() {
    live!();
    let scratch = Scratch::new();
    let out = scratch.path("out.folded");
    // The directory is covered in a mount namespace of its own: nothing has to be undone.
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" record -d 1 -o \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([hotframe(), out.clone()])
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(said.contains("BTF") && !said.contains("panicked"), "{said}");
    assert!(!out.exists(), "something was written");
}

/// Without privileges: which capability is missing, and the two commands that help.
#[test]
fn no_privileges() {
    live!();
    let scratch = Scratch::new();
    let binary = scratch.path("hotframe");
    fs::copy(hotframe(), &binary).expect("a copy that nobody may run");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"])
        .arg(&binary)
        .args(["record", "-d", "1", "-o", "/tmp/never-written.folded"])
        .stdin(Stdio::null())
        .output()
        .expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["CAP_BPF", "CAP_PERFMON", "sudo", "setcap"] {
        assert!(said.contains(word), "no {word}: {said}");
    }
    assert!(!std::path::Path::new("/tmp/never-written.folded").exists());
}

/// The capabilities that the README names are enough, and none of them is one too many: with all of them
/// nothing is said to be missing, and without any one something is.
#[test]
fn documented_capabilities_suffice() {
    live!();
    let split = program!("split");
    let _burning = hotframe_live::Workload::start(&split, [""; 0]);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let (_, rest) = readme.split_once("sudo setcap ").expect("a command that gives capabilities");
    let (list, _) = rest.split_once("+ep hotframe").expect("a list of them");
    let all: Vec<&str> =
        list.split(',').map(|name| name.strip_prefix("cap_").expect("a capability")).collect();
    assert!(all.len() > 1, "{list}");
    let samples = |capabilities: &[&str]| {
        let scratch = Scratch::new();
        let binary = scratch.path("hotframe");
        fs::copy(hotframe(), &binary).expect("a copy that nobody may run");
        hotframe_live::run("chown", ["65534:65534".as_ref(), scratch.path("").as_os_str()]);
        let list = |sign: &str| {
            capabilities.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>().join(",")
        };
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(format!("--inh-caps=-all,{}", list("+")))
            .arg(format!("--ambient-caps=-all,{}", list("+")))
            .arg(format!("--bounding-set=-all,{}", list("+")))
            .arg(&binary)
            .args(["record", "-d", "2", "-o"])
            .arg(scratch.path("out.folded"))
            .output()
            .expect("setpriv runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let folded = fs::read_to_string(scratch.path("out.folded"))
            .map(|text| hotframe_live::Folded::parse(&text))
            .unwrap_or_default();
        (output.status.code(), folded, said)
    };
    let (code, folded, said) = samples(&all);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("CAP_"), "one too few is documented: {said}");
    folded.assert_path("split", |stack| stack.has("heavy"), &["main", "heavy"]);
    for missing in all.iter().copied() {
        let rest: Vec<&str> = all.iter().copied().filter(|name| *name != missing).collect();
        let (code, folded, said) = samples(&rest);
        let name = format!("CAP_{}", missing.to_uppercase());
        assert!(said.contains(&name), "without {name} nothing says so: {said}");
        if ["bpf", "perfmon"].contains(&missing) {
            assert_eq!(code, Some(1), "{said}");
        } else {
            assert_eq!(code, Some(0), "without {name}: {said}");
            assert!(folded.of("split") > 0, "without {name}: {said}");
        }
    }
}

/// No arguments at all print the help and are wrong usage; `--help` and `--version` are not.
#[test]
fn help() {
    if !hotframe_live::is_root() {
        skipped("the binary is built for the live suite only");
        return;
    }
    let run = |args: &[&str]| Command::new(hotframe()).args(args).output().expect("hotframe runs");
    assert_eq!(run(&[]).status.code(), Some(2));
    for args in [&["--help"][..], &["record", "--help"], &["--version"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}
