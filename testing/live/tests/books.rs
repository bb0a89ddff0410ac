//! The books: what was sampled, filtered, lost and cut adds up, and adds up to the processor time
//! that the workloads themselves say they used.
#![forbid(unsafe_code)]

use hotframe_live::{
    Group, Scratch, Workload, has_program, live, program, record, record_until, run, skipped,
};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The largest difference between sampled and used processor time, as a share.
const CONSERVED: f64 = 0.03;

fn assert_close(sampled_ns: f64, used_ns: f64, what: &str) {
    let ratio = sampled_ns / used_ns;
    assert!(
        (ratio - 1.0).abs() <= CONSERVED,
        "{what}: sampled {sampled_ns:.0} ns, used {used_ns:.0} ns, ratio {ratio:.4}"
    );
}

/// Samples × period is the command's processor time, as getrusage gives it.
#[test]
fn samples_times_period_is_processor_time() {
    live!();
    let split = program!("split");
    for hz in [99.0, 997.0] {
        let hz_text = hz.to_string();
        let recording = record([
            "-F".as_ref(),
            hz_text.as_ref(),
            "--".as_ref(),
            split.as_os_str(),
            "5".as_ref(),
        ]);
        let printed = String::from_utf8_lossy(&recording.stdout).trim().to_owned();
        let used_ns: f64 = printed.parse().expect("split prints what it used");
        let sampled_ns = recording.folded.of("split") as f64 * 1e9 / hz;
        assert_close(sampled_ns, used_ns, &format!("{hz} Hz"));
    }
}

/// Two functions that share the time 4 : 1 have 80 % and 20 % of the samples.
#[test]
fn shares_are_those_of_the_work() {
    live!();
    let workload = Workload::start(&program!("split"), [""; 0]);
    let args = ["-F", "997", "-p", &workload.pid().to_string()];
    let recording = record_until(&args, |recording| recording.folded.of("split") >= 2000);
    let heavy = recording.folded.samples(|stack| stack.has("heavy")) as f64;
    let light = recording.folded.samples(|stack| stack.has("light")) as f64;
    let share = heavy / (heavy + light);
    assert!((share - 0.8).abs() < 0.03, "heavy has {share:.3}");
    recording.folded.assert_path("split", |stack| stack.has("heavy"), &["main", "heavy"]);
}

/// All of the machine: the identities hold (checked in each recording) and few ticks are missed.
#[test]
fn whole_machine() {
    live!();
    let split = program!("split");
    let _burning: Vec<Workload> = (0..3).map(|_| Workload::start(&split, [""; 0])).collect();
    let recording = record(["-d", "5"]);
    let stats = recording.stats();
    let (missed, expected) = (stats.count("ticks_missed"), stats.count("ticks_expected"));
    // The figure is 0.5 % (docs/figures.md); of a thousand ticks on a machine that builds beside, 0, 4 and 7
    // were missed in three runs.
    println!("{missed} of {expected} ticks missed");
    assert!(missed * 100 <= expected, "more than 1 % missed: {missed} of {expected}");
    assert!(recording.folded.of("split") > 0);
    assert_eq!(stats.sum("samples_lost"), 0, "{}", stats.0["samples_lost"]);
    assert!(stats.count("agent.rss_peak_bytes") > 0);
    assert!(stats.count("agent.map_bytes") > 0);
    let held = stats.count("agent.rss_peak_bytes") + stats.count("agent.map_bytes");
    assert!(held <= stats.count("agent.budget_bytes"), "{}", stats.0["agent"]);
    assert!(stats.number("agent.first_sample_seconds") > 0.0);
    assert!(stats.count("bpf.run_count") >= stats.count("samples_taken"));
    assert!(stats.count("bpf.run_ns") > 0);
}

/// A machine with next to nothing to do: ticks of CPUs that stand idle are idle ones, also where
/// nothing wakes a CPU for them, and none is missed. A program that runs now and then has its own.
#[test]
fn idle_machine() {
    live!();
    // Idle time is known to 10 ms a CPU, and a virtual one may stand still: a percent of this is more.
    // What is missed on a quiet machine is measured by `make bench`.
    let recording = record(["-d", "10"]);
    let stats = recording.stats();
    let (missed, expected) = (stats.count("ticks_missed"), stats.count("ticks_expected"));
    assert!(stats.count("ticks_halted") <= stats.count("samples_filtered.idle"));
    if stats.count("samples_filtered.idle") * 2 < expected {
        skipped("needs a machine with little to do");
        return;
    }
    assert!(missed * 100 <= expected, "{missed} of {expected} missed: {}", stats.0);
    // 3 ms of work, 5 ms of sleep.
    let bursts = program!("bursts");
    let recording = record(["-F".as_ref(), "997".as_ref(), "--".as_ref(), bursts.as_os_str()]);
    let printed = String::from_utf8_lossy(&recording.stdout).trim().to_owned();
    let used_ns: f64 = printed.parse().expect("bursts prints what it used");
    let sampled_ns = recording.folded.of("bursts") as f64 * 1e9 / 997.0;
    assert_close(sampled_ns, used_ns, "bursts");
}

/// Every tick that other processes had is counted as filtered, by the filter that did it.
#[test]
fn filter_by_pid() {
    live!();
    let split = program!("split");
    let (wanted, other) = (Workload::start(&split, [""; 0]), Workload::start(&split, [""; 0]));
    let recording = record_until(&["-p", &wanted.pid().to_string()], |recording| {
        recording.folded.of("split") >= 50
    });
    let pids: Vec<u32> = recording.stats().processes().iter().map(|process| process.pid).collect();
    assert_eq!(pids, [wanted.pid()], "not {}", other.pid());
    assert!(recording.stats().count("samples_filtered.pid") > 0);
}

/// Values of one filter are OR.
#[test]
fn filter_by_two_pids() {
    live!();
    let split = program!("split");
    let burning: Vec<Workload> = (0..3).map(|_| Workload::start(&split, [""; 0])).collect();
    let (first, second) = (burning[0].pid(), burning[1].pid());
    let args = ["-p", &first.to_string(), "-p", &second.to_string()];
    let recording = record_until(&args, |recording| {
        recording.stats().processes().iter().filter(|process| process.samples >= 20).count() >= 2
    });
    let mut pids: Vec<u32> =
        recording.stats().processes().iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    let mut wanted = [first, second];
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
}

/// A target's children, and theirs, belong to it, wherever they are born.
#[test]
fn filter_by_pid_follows_descendants() {
    live!();
    let split = program!("split");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("sh -c '\"$0\"; true' \"$0\"; true").arg(&split);
    let tree = Workload::spawn(&mut shell);
    let stranger = Workload::start(&split, [""; 0]);
    let recording = record_until(&["-p", &tree.pid().to_string()], |recording| {
        recording.folded.of("split") >= 50
    });
    let processes = recording.stats().processes();
    assert!(processes.iter().all(|process| process.pid != stranger.pid()), "{processes:?}");
}

/// A thread's name is a filter: the first 15 bytes, exactly.
#[test]
fn filter_by_comm() {
    live!();
    let workload = Workload::start(&program!("threads"), [""; 0]);
    let recording = record_until(&["--comm", "worker-red"], |recording| {
        recording.folded.of("worker-red") >= 50
    });
    assert_eq!(recording.folded.samples(|stack| stack.comm != "worker-red"), 0);
    assert!(recording.stats().count("samples_filtered.comm") > 0);
    // Different filters are AND.
    let split = Workload::start(&program!("split"), [""; 0]);
    let pid = split.pid().to_string();
    let neither = record(["--comm", "worker-red", "-p", &pid, "-d", "1"]);
    assert_eq!(neither.folded.samples(|_| true), 0);
    assert!(neither.stderr.contains("no samples"), "{}", neither.stderr);
    drop(workload);
}

/// Records what `cgroup` says: samples must be of `inside` alone.
fn check_cgroup(cgroup: &str, inside: &Workload, outside: &Workload) {
    let recording =
        record_until(&["--cgroup", cgroup], |recording| recording.folded.of("split") >= 50);
    let pids: Vec<u32> = recording.stats().processes().iter().map(|process| process.pid).collect();
    assert_eq!(pids, [inside.pid()], "{cgroup}: not {}", outside.pid());
    assert!(recording.stats().count("samples_filtered.cgroup") > 0);
}

/// A cgroup and those below it.
#[test]
fn filter_by_cgroup() {
    live!();
    let Some(outer) = Group::own("live") else { return };
    let inner = Group::make(outer.0.join("inner"));
    let split = program!("split");
    let inside = Workload::start(&split, [""; 0]);
    let outside = Workload::start(&split, [""; 0]);
    inner.add(inside.pid());
    check_cgroup(&outer.0.to_string_lossy(), &inside, &outside);
    drop(inside);
    drop(inner);
}

/// The beginning of a container's id means the container's cgroup, not its monitor's beside it, as
/// podman and CRI-O make them under systemd.
#[test]
fn filter_by_container() {
    live!();
    let Some(slice) = Group::own("containers") else { return };
    let split = program!("split");
    // Nobody else's container has these beginnings.
    let id = |n: u32| format!("{n:x}{:08x}", std::process::id()) + &"a7".repeat(27);
    for (n, engine) in ["libpod", "crio"].into_iter().enumerate() {
        let id = id(n as u32 + 1);
        let monitor = Group::make(slice.0.join(format!("{engine}-conmon-{id}.scope")));
        let container = Group::make(slice.0.join(format!("{engine}-{id}.scope")));
        let inside = Workload::start(&split, [""; 0]);
        let outside = Workload::start(&split, [""; 0]);
        for (group, process) in [(&container, &inside), (&monitor, &outside)] {
            group.add(process.pid());
        }
        check_cgroup(&id[..12], &inside, &outside);
        drop((inside, outside));
    }
}

/// A child that is forked, works, executes nothing and ends is of its parent's program and cgroup: of a
/// parent whose beginning was seen, and of one that was there before.
#[test]
fn children_that_execute_nothing() {
    live!();
    let script = "n=0; while [ $n -lt 150 ]; do n=$((n+1)); \
                  (i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done); done; sleep 1";
    let forks = ["-F", "997", "--", "sh", "-c", script];
    let workload =
        Workload::spawn(Command::new("sh").args(["-c", &format!("while :; do {script}; done")]));
    let pid = workload.pid().to_string();
    for recording in [record(forks), record(["-F", "997", "-d", "3", "-p", &pid])] {
        let stats = recording.stats();
        let processes = stats.0["processes"].as_array().expect("processes");
        let of = |key: &str| {
            let known =
                |entry: &&serde_json::Value| entry[key].as_str().is_some_and(|it| !it.is_empty());
            processes.iter().filter(known).count()
        };
        assert!(processes.len() >= 20, "{} processes", processes.len());
        // A child that was there before the recording may be gone when its first sample comes.
        let (exes, cgroups) = (of("exe"), of("cgroup"));
        assert!(exes + 2 >= processes.len(), "{exes} of {} have a program", processes.len());
        assert!(cgroups + 2 >= processes.len(), "{cgroups} of {} have a cgroup", processes.len());
    }
}

/// The recording ends when the last target does.
#[test]
fn ends_with_the_last_target() {
    live!();
    let split = program!("split");
    let mut target = Command::new(&split).arg("2").stdout(Stdio::null()).spawn().expect("starts");
    let recording = record(["-p", &target.id().to_string()]);
    let _ = target.wait();
    assert!(recording.folded.of("split") > 0);
}

/// Processes of 40 ms: their time is attributed to their program and function.
#[test]
fn short_processes() {
    live!();
    let shorts = program!("shorts");
    let recording = record(["--".as_ref(), shorts.as_os_str(), "200".as_ref(), "2".as_ref()]);
    let printed = String::from_utf8_lossy(&recording.stdout).into_owned();
    let used_ns: f64 = printed
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .expect("shorts prints what its children used");
    let attributed = recording.folded.samples(|stack| stack.has_path(&["main", "short_work"]));
    let share = attributed as f64 * 1e9 / 99.0 / used_ns;
    assert!(share >= 0.95, "{share:.3} of the processes' time has their function's name");
    let stats = recording.stats();
    let emitted = stats.count("samples_emitted");
    assert!(stats.sum("stacks_cut") * 20 <= emitted, "{}", stats.0["stacks_cut"]);
    // The figure is a tenth (docs/figures.md), at which runs of one machine differ (9.3 % and 9.9 % while it
    // built): what must not be is that most first ticks come too early.
    println!("{} of {emitted} by slice", stats.count("stacks_from_slice"));
    assert!(stats.count("stacks_from_slice") * 6 <= emitted, "{}", stats.0);
}

/// A build of a C project: little of its tree's time is missing.
#[test]
fn a_build_is_accounted_for() {
    live!();
    let scratch = Scratch::new();
    let mut makefile = String::from("all:");
    for n in 0..24 {
        makefile += &format!(" {n}.o");
        let mut source = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
        for function in 0..150 {
            source += &format!(
                "int f{function}(int x) {{ int s = 0; for (int i = 0; i < x; i++) \
                 s += printf(\"%d\", i * {function}); return s; }}\n"
            );
        }
        fs::write(scratch.path(&format!("{n}.c")), source).expect("a source");
    }
    makefile += "\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n";
    fs::write(scratch.path("Makefile"), makefile).expect("a makefile");
    // The shell prints the processor time of what it waited for, as the kernel counted it.
    let script = "make -s -j2 -C \"$0\" && times";
    let dir = scratch.path("");
    let args = ["--".as_ref(), "bash".as_ref(), "-c".as_ref(), script.as_ref(), dir.as_os_str()];
    let recording = record(std::iter::once("-F".as_ref()).chain(["499".as_ref()]).chain(args));
    let printed = String::from_utf8_lossy(&recording.stdout).into_owned();
    let used: f64 = printed
        .split_whitespace()
        .filter_map(|word| {
            let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
            Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
        })
        .sum();
    assert!(used > 0.5, "bash prints the times: {printed}");
    let sampled = recording.folded.samples(|_| true) as f64 / 499.0;
    assert!(sampled >= 0.99 * used, "sampled {sampled:.3} s of {used:.3} s");
    assert!(sampled <= 1.03 * used, "sampled {sampled:.3} s of {used:.3} s");
    let compiler = recording.folded.of("cc1") as f64;
    assert!(compiler > 0.0, "{}", recording.folded.summary());
}

/// Samples of a pprof file, by the reckoning of Go's own reader.
fn samples_by_go(file: &Path) -> u64 {
    let raw = run("go", ["tool".as_ref(), "pprof".as_ref(), "-raw".as_ref(), file.as_os_str()]);
    // After `Samples:` and the line of types stand `COUNT NS: location…` lines, until `Locations`.
    let lines = raw.lines().skip_while(|line| !line.starts_with("Samples:")).skip(2);
    let samples = lines.take_while(|line| !line.starts_with("Locations"));
    samples
        .filter_map(|line| line.split_once(':')?.0.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Folded and pprof hold the same samples.
#[test]
fn folded_and_pprof_agree() {
    live!();
    if !has_program("go") {
        skipped("needs go, for `go tool pprof`");
        return;
    }
    let _burning = Workload::start(&program!("split"), [""; 0]);
    let scratch = Scratch::new();
    let file = scratch.path("out.pb.gz");
    let recording = record(["-d".as_ref(), "2".as_ref(), "-o".as_ref(), file.as_os_str()]);
    let folded = recording.folded.samples(|_| true);
    assert!(folded > 0);
    assert_eq!(samples_by_go(&file), folded);
}

/// A filter that matches one of 200 busy processes costs no more than that process alone, but for a
/// fifth: processor time and time in the kernel half, and no walk of what is filtered.
#[test]
fn one_of_many() {
    live!();
    let split = program!("split");
    let cost = |n_others: usize| {
        // They are nice to hotframe, which would wait minutes for its turn to begin, and end by
        // themselves if nobody ends them.
        let wanted = Workload::spawn(Command::new("nice").args(["-n", "19"]).arg(&split));
        let _others: Vec<Workload> = (0..n_others)
            .map(|_| {
                let limited = ["60", "nice", "-n", "19"];
                Workload::spawn(
                    Command::new("timeout").args(limited).arg(&split).stderr(Stdio::null()),
                )
            })
            .collect();
        let pid = wanted.pid().to_string();
        let recording = record(["-F", "997", "-p", &pid, "-d", "4"]);
        let stats = recording.stats();
        let seconds = stats.number("agent.cpu_user_seconds")
            + stats.number("agent.cpu_system_seconds")
            + stats.number("bpf.run_ns") / 1e9;
        // What is filtered is not walked: the mean run is a small part of a walk's time.
        let mean_ns = stats.count("bpf.run_ns") / stats.count("bpf.run_count").max(1);
        let filtered = stats.sum("samples_filtered");
        if n_others > 0 {
            assert!(filtered > 10 * stats.count("samples_taken"), "{}", stats.0);
            assert!(mean_ns < 5_000, "a run takes {mean_ns} ns in the mean");
        }
        seconds
    };
    // What else the machine does is added to either: the least of a few is the cost.
    let (mut alone, mut of_many) = (f64::MAX, f64::MAX);
    for _ in 0..4 {
        (alone, of_many) = (cost(0).min(alone), cost(199).min(of_many));
        if of_many <= 1.2 * alone {
            return;
        }
    }
    panic!("{of_many:.3} s with 200 processes, {alone:.3} s alone");
}
