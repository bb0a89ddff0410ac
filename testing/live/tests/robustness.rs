//! What must not go wrong: nothing left behind in the kernel, wrong stacks under churn, a binary
//! that needs nothing but itself.
#![forbid(unsafe_code)]

use hotframe_live::{
    Recorder, Scratch, Stack, Workload, has_program, hotframe, live, program, record, run, send,
    skipped, wait_for,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Ids of the loaded BPF programs and of the links that hold them, by bpftool.
fn bpf_objects() -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for what in ["prog", "link", "map"] {
        let json = run("bpftool", ["--json", what, "show"]);
        let list: serde_json::Value = serde_json::from_str(&json).expect("bpftool prints JSON");
        for object in list.as_array().into_iter().flatten() {
            ids.insert(format!("{what} {} {}", object["id"], object["name"]));
        }
    }
    ids
}

/// A killed hotframe leaves no program, map or link in the kernel, and pins nothing.
#[test]
fn killed_leaves_nothing_in_the_kernel() {
    live!();
    if !has_program("bpftool") {
        skipped("needs bpftool");
        return;
    }
    let pinned = || {
        fs::read_dir("/sys/fs/bpf")
            .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect::<BTreeSet<_>>())
            .unwrap_or_default()
    };
    let (before, pinned_before) = (bpf_objects(), pinned());
    let mut recorder = Recorder::start([""; 0]);
    recorder.wait_until_sampling();
    let during = bpf_objects();
    assert!(during.difference(&before).count() > 0, "nothing was loaded");
    send("KILL", i64::from(recorder.pid()));
    let recording = recorder.finish();
    assert_eq!(recording.code(), 137);
    // The kernel frees what nobody holds after a grace period or two.
    wait_for("the kernel to free all that was loaded", || {
        let left: Vec<String> = bpf_objects().difference(&before).cloned().collect();
        left.is_empty().then_some(())
    });
    assert_eq!(pinned(), pinned_before);
    assert!(!recording.scratch.path("out.folded").exists(), "half an output");
}

/// Busy with address spaces coming and going at a high rate, no stack is wrong.
#[test]
fn churn_at_a_high_rate_gives_no_wrong_stack() {
    live!();
    let _churn = Workload::start(&program!("forkserver"), ["fork"]);
    let _images = Workload::start(&program!("execchain"), [""; 0]);
    let _deep = Workload::start(&program!("recursion"), ["6"]);
    let recording = record(["-F", "4999", "-d", "5"]);
    let folded = &recording.folded;
    let mut path = vec!["main"];
    path.extend(["even", "odd", "even", "odd", "even", "odd", "floor_of_it"]);
    // On a busy machine the first ticks of an image may find no room for a slice of its stack.
    let is_walked = |stack: &Stack| path.iter().any(|function| stack.has(function));
    folded.assert_path("recursion", is_walked, &path);
    let others = folded.samples(|stack| stack.comm == "recursion" && !is_walked(stack));
    let cut = recording.stats().count("stacks_cut.budget");
    assert!(others <= cut, "{others} stacks without ours, {cut} cut");
    let child = |stack: &Stack| stack.has("child_work");
    folded.assert_path("forkserver", child, &["main", "serve", "child_work"]);
    folded.assert_path("execchain", |stack| stack.has("image_work"), &["main", "image_work"]);
    for (comm, theirs) in [
        ("recursion", &["even", "odd", "floor_of_it"][..]),
        ("execchain", &["image_work"]),
        ("forkserver", &["child_work", "serve"]),
    ] {
        let foreign = folded.samples(|stack| {
            stack.comm != comm && theirs.iter().any(|function| stack.has(function))
        });
        assert_eq!(foreign, 0, "functions of {comm} in other processes");
    }
}

/// More rows than memory has room for, wanted in turn: each is evicted and loaded again many times a
/// second, also while walks use them. What cannot be walked is cut and says so; nothing is wrong.
#[test]
fn rows_evicted_and_loaded_again_give_no_wrong_stack() {
    live!();
    let _reloading = Workload::start(&program!("reload"), [""; 0]);
    let _deep = Workload::start(&program!("recursion"), ["6"]);
    let recording = record(["-F", "4999", "--memory", "33MiB", "-d", "5"]);
    let stats = recording.stats();
    assert!(stats.count("tables.evictions") > 100, "{}", stats.0["tables"]);
    // Close to the least, and at fifty times the usual rate, the limit holds too.
    assert!(stats.count("agent.held_peak_bytes") <= 33 << 20, "{}", stats.0["agent"]);
    let folded = &recording.folded;
    let mut n_callers = 0;
    for stack in folded.stacks.iter().filter(|stack| stack.comm == "reload") {
        let ours: Vec<&str> = stack
            .frames
            .iter()
            .filter(|name| name.starts_with("leaf_") || name.starts_with("caller_"))
            .map(String::as_str)
            .collect();
        match ours[..] {
            // The kernel alone, or cut before the first frame of it; or main, between two.
            [] | [_] => {}
            [caller, leaf] => {
                assert_eq!(caller.strip_prefix("caller_"), leaf.strip_prefix("leaf_"), "{stack:?}");
                assert!(stack.has_path(&[caller, leaf]), "{stack:?}");
                n_callers += stack.count;
            }
            _ => panic!("{stack:?}"),
        }
        if ours.first().is_some_and(|name| name.starts_with("leaf_")) {
            let is_cut = !stack.has("main") && !stack.has("_start");
            assert!(is_cut, "its caller is missing in the middle: {stack:?}");
        }
    }
    assert!(n_callers > 0, "{}", folded.summary());
    let mut path = vec!["even", "odd", "even", "odd", "even", "odd", "floor_of_it"];
    for stack in folded.stacks.iter().filter(|stack| stack.comm == "recursion") {
        path.truncate(7);
        let ours: Vec<&str> =
            stack.frames.iter().map(String::as_str).filter(|name| path.contains(name)).collect();
        assert!(path.ends_with(&ours), "{stack:?}");
        assert!(!stack.has("main") || ours.len() == path.len(), "{stack:?}");
    }
}

/// More side-band records than their buffers hold: other processes stay whole, the books exact.
#[test]
fn side_band_overflow() {
    live!();
    let storm = program!("mapstorm");
    let _storms = [Workload::start(&storm, [""; 0]), Workload::start(&storm, [""; 0])];
    let deep = program!("recursion");
    let _early = Workload::start(&deep, ["6"]);
    let mut recorder = Recorder::start(["-d", "5"]);
    recorder.wait_until_sampling();
    // One that starts while records of its start are being lost.
    let _late = Workload::start(&deep, ["6"]);
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    let mut path = vec!["main"];
    path.extend(["even", "odd", "even", "odd", "even", "odd", "floor_of_it"]);
    let running = |stack: &Stack| stack.has("floor_of_it");
    recording.folded.assert_path("recursion", running, &path);
    let process = recording.stats().of("recursion");
    println!("{} of {} whole", process.whole, process.samples);
    assert!(process.whole * 100 >= process.samples * 99, "{process:?}");
    assert!(recording.stats().count("sideband_lost") > 0, "nothing overflowed");
}

/// The kernel's own count of the program's runs, read from outside after hotframe has gone, is
/// what hotframe says it took and filtered.
#[test]
fn the_kernels_run_count_is_ours() {
    live!();
    if !has_program("bpftool") || !Path::new("/sys/fs/bpf").is_dir() {
        skipped("needs bpftool and /sys/fs/bpf");
        return;
    }
    let script = "mount | grep -q ' /sys/fs/bpf ' || mount -t bpf none /sys/fs/bpf";
    run("sh", ["-c", script]);
    let setting = "/proc/sys/kernel/bpf_stats_enabled";
    struct Restored(&'static str, String);
    impl Drop for Restored {
        fn drop(&mut self) {
            let _ = fs::write(self.0, &self.1);
        }
    }
    let _restored = Restored(setting, fs::read_to_string(setting).expect("a setting"));
    fs::write(setting, "1").expect("the kernel counts runs");
    struct Pinned(std::path::PathBuf);
    impl Drop for Pinned {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }
    let programs = || -> Vec<serde_json::Value> {
        let json = run("bpftool", ["--json", "prog", "show"]);
        let list: serde_json::Value = serde_json::from_str(&json).expect("bpftool prints JSON");
        list.as_array().cloned().unwrap_or_default()
    };
    let ids = |list: &[serde_json::Value]| -> BTreeSet<u64> {
        list.iter().filter_map(|program| program["id"].as_u64()).collect()
    };
    let split = program!("split");
    // The smallest ring there is loses nearly everything, and each loss is counted.
    for (hz, ring) in [("99", ""), ("10000", ""), ("10000", "ring=4096")] {
        let before = ids(&programs());
        let _burning = Workload::start(&split, [""; 0]);
        let mut recorder = Recorder::with(["-F", hz, "-d", "4"], |command| {
            let others = std::env::var("HOTFRAME_FORCE").unwrap_or_default();
            command.env("HOTFRAME_FORCE", format!("{others},{ring}"));
        });
        recorder.wait_until_sampling();
        // The sampler is the one that perf events run and that has run.
        let id = wait_for("the sampler to have run", || {
            let of_ours = programs().into_iter().filter(|program| {
                program["type"] == "perf_event"
                    && program["id"].as_u64().is_some_and(|id| !before.contains(&id))
            });
            let busiest = of_ours.max_by_key(|program| program["run_cnt"].as_u64().unwrap_or(0))?;
            (busiest["run_cnt"].as_u64()? > 0).then(|| busiest["id"].to_string())
        });
        let pin = Pinned(format!("/sys/fs/bpf/hotframe-live-{id}").into());
        run(
            "bpftool",
            ["prog".as_ref(), "pin".as_ref(), "id".as_ref(), id.as_ref(), pin.0.as_os_str()],
        );
        let recording = recorder.finish();
        recording.assert_books();
        let json = run("bpftool", ["--json", "prog", "show", "id", &id]);
        let program: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let stats = recording.stats();
        assert_eq!(
            program["run_cnt"].as_u64(),
            // Ticks of halted CPUs are idle ones and ran nothing.
            Some(
                stats.count("samples_taken") + stats.sum("samples_filtered")
                    - stats.count("ticks_halted")
            ),
            "{hz} Hz: {}",
            stats.0
        );
        if !ring.is_empty() {
            assert!(stats.count("samples_lost.ring_full") > 0, "{}", stats.0["samples_lost"]);
        }
    }
}

/// The memory limit holds, though there is more to know than fits.
#[test]
fn memory_limit_holds() {
    live!();
    let _burning: Vec<Workload> = (0..4)
        .map(|depth| Workload::start(&program_path("recursion"), [(100 * (depth + 1)).to_string()]))
        .collect();
    let recording = record(["--memory", "48MiB", "-F", "999", "-d", "4"]);
    let stats = recording.stats();
    assert_eq!(stats.count("agent.budget_bytes"), 48 << 20);
    let held = stats.count("agent.rss_peak_bytes") + stats.count("agent.map_bytes");
    assert!(held <= 48 << 20, "{}", stats.0["agent"]);
}

fn program_path(name: &str) -> std::path::PathBuf {
    hotframe_live::build(name).expect("C workloads build wherever hotframe does")
}

/// Idle processes with many mappings cost neither time at the start nor memory for what is never
/// sampled.
#[test]
fn many_idle_processes() {
    live!();
    let idle = program!("idle");
    let mut command = Command::new(&idle);
    command.args(["500", "300"]).stdout(std::process::Stdio::piped());
    let _idle = Workload::spawn(&mut command);
    let _burning = Workload::start(&program!("split"), [""; 0]);
    wait_for("the idle processes", || {
        let count = fs::read_dir("/proc").ok()?.flatten().filter(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == "idle")
        });
        (count.count() >= 500).then_some(())
    });
    let recording = record(["-d", "3"]);
    recording.folded.assert_path("split", |stack| stack.has("heavy"), &["main", "heavy"]);
    let stats = recording.stats();
    let held = stats.count("agent.rss_peak_bytes") + stats.count("agent.map_bytes");
    assert!(held <= stats.count("agent.budget_bytes"), "{}", stats.0["agent"]);
}

/// The distributed binary, alone in an empty root with /proc and /sys, records and writes.
#[test]
fn static_binary_in_an_empty_root() {
    live!();
    let dist = std::env::var_os("HOTFRAME_DIST").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/hotframe"),
        std::path::PathBuf::from,
    );
    if !dist.is_file() {
        skipped("needs dist/hotframe (make dist)");
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.path("root");
    for dir in ["", "proc", "sys", "out"] {
        fs::create_dir(root.join(dir)).expect("a directory");
    }
    fs::copy(&dist, root.join("hotframe")).expect("a copy");
    let _burning = Workload::start(&program!("split"), [""; 0]);
    // The mounts are private to a namespace: nothing has to be undone.
    let script = "mount -t proc none \"$1/proc\" && mount --rbind /sys \"$1/sys\" && \
                  exec chroot \"$1\" /hotframe record -d 2 -o /out/a.html -o /out/a.folded";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&root)
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(root.join("out/a.html").is_file());
    let text = fs::read_to_string(root.join("out/a.folded")).expect("the output");
    let folded = hotframe_live::Folded::parse(&text);
    folded.assert_path("split", |stack| stack.has("heavy"), &["main", "heavy"]);
}

/// A file whose device stat tells otherwise than the kernel's mappings do, as that of a container on
/// overlayfs or of any program on btrfs, is still the file that is mapped: its stacks are whole and named.
#[test]
fn files_of_a_device_without_a_number() {
    live!();
    let scratch = Scratch::new();
    for dir in ["lower", "upper", "merged"] {
        fs::create_dir(scratch.path(dir)).expect("a directory");
    }
    fs::copy(program!("recursion"), scratch.path("lower/layered")).expect("a copy");
    // Layers of two file systems: the lower one's files have a device that is no file system's. The
    // mounts are private to a namespace: nothing has to be undone.
    let mounts = "cd \"$1\" && mount -t tmpfs none upper && mkdir upper/new upper/work && \
                  mount -t overlay -o lowerdir=lower,upperdir=upper/new,workdir=upper/work \
                  none merged";
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(scratch.path(""));
        command
    };
    if !in_namespace(mounts).status().expect("unshare runs").success() {
        skipped("needs overlayfs");
        return;
    }
    let layered = Workload::spawn(&mut in_namespace(&format!("{mounts} && exec merged/layered 6")));
    let exe = format!("/proc/{}/exe", layered.pid());
    wait_for("the program to run", || {
        fs::read_link(&exe).is_ok_and(|exe| exe.ends_with("layered")).then_some(())
    });
    let recording = record(["-d", "1", "-p", &layered.pid().to_string()]);
    let path = ["main", "even", "odd", "even", "odd", "even", "odd", "floor_of_it"];
    recording.folded.assert_path("layered", |stack| stack.has("floor_of_it"), &path);
    recording.stats().of("layered").assert_whole();
}

/// In a pid namespace of its own with a /proc of its own, pids are its own.
#[test]
fn pids_are_those_of_its_own_namespace() {
    live!();
    let split = program!("split");
    let _outside = Workload::start(&program!("recursion"), ["30"]);
    let scratch = Scratch::new();
    let stats = scratch.path("stats.json");
    let script = "mount -t proc none /proc; \"$1\" & target=$!; \"$2\" record -d 2 --stats \"$3\" \
                  -o \"$4\"; code=$?; kill $target; exit $code";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script, "bash"])
        .args([&split, &hotframe(), &stats, &scratch.path("out.folded")])
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats: serde_json::Value =
        serde_json::from_slice(&fs::read(&stats).expect("stats")).expect("JSON");
    let processes = stats["processes"].as_array().expect("processes");
    let target = processes.iter().find(|process| process["comm"] == "split").expect("the target");
    assert!(target["pid"].as_u64().expect("a pid") < 100, "{target}");
    // What the namespace cannot see is filtered, and said so.
    let filtered = stats["samples_filtered"]["namespace"].as_u64();
    assert!(filtered > Some(20), "{}", stats["samples_filtered"]);
    assert!(!processes.iter().any(|process| process["comm"] == "recursion"));
}

/// A CPU goes and comes while recording. Behind a switch: it disturbs the machine.
#[test]
fn cpu_off_and_on() {
    live!();
    let online = "/sys/devices/system/cpu/cpu1/online";
    if std::env::var_os("HOTFRAME_TEST_HOTPLUG").is_none() || !Path::new(online).exists() {
        skipped("needs HOTFRAME_TEST_HOTPLUG=1 and a second CPU that can go offline");
        return;
    }
    let split = program!("split");
    let _burning: Vec<Workload> = (0..4).map(|_| Workload::start(&split, [""; 0])).collect();
    let mut recorder = Recorder::start(["-d", "6"]);
    recorder.wait_until_sampling();
    fs::write(online, "0").expect("it goes off");
    std::thread::sleep(std::time::Duration::from_secs(2));
    fs::write(online, "1").expect("it comes on");
    let recording = recorder.finish();
    assert_eq!(recording.code(), 0, "{}", recording.stderr);
    recording.assert_books();
    let samples = recording.folded.samples(|_| true);
    // Two seconds of one CPU and nearly four of both, less the first fraction of a second.
    assert!(samples > 99 * 7, "{samples} samples: the second CPU was not taken up again");
}

/// Code of a module is named, and says which module it is.
#[test]
fn a_module_of_the_kernel() {
    live!();
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    if modules.trim().is_empty() {
        skipped("needs a kernel with a module loaded: this one has none");
        return;
    }
    // What is loaded and busy differs by machine: a module that is seen is one that is loaded.
    let loaded: BTreeSet<&str> =
        modules.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let scratch = Scratch::new();
    let page = scratch.path("out.pb.gz");
    let script = "for i in 1 2 3; do dd if=/dev/urandom of=\"$0\" bs=1M count=64 conv=fsync; done";
    let file = scratch.path("written");
    let recording = record([
        "-F".as_ref(),
        "997".as_ref(),
        "-o".as_ref(),
        page.as_os_str(),
        "--".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        file.as_os_str(),
    ]);
    let frames = &recording.stats().0["frames"]["kernel"];
    assert_eq!(frames["total"], frames["named"], "{frames}");
    if !has_program("go") {
        skipped("needs go, to read which modules were seen");
        return;
    }
    let raw = run("go", ["tool".as_ref(), "pprof".as_ref(), "-raw".as_ref(), page.as_os_str()]);
    let seen: BTreeSet<&str> = raw
        .lines()
        .filter_map(|line| line.split_once('[')?.1.split_once(']'))
        .map(|(module, _)| module)
        .filter(|module| loaded.contains(module))
        .collect();
    if seen.is_empty() {
        skipped("none of the loaded modules ran");
    }
}

/// A reader that is kept from reading, while a program that it never saw fills the ring with its
/// deep stacks, gets smaller pieces rather than none: every stack is finished from the process.
#[test]
fn a_reader_that_is_kept_waiting_cuts_no_stack() {
    live!();
    let program = program!("recursion");
    let mut recorder = Recorder::start(["-d", "4"]);
    recorder.wait_until_sampling();
    std::thread::sleep(std::time::Duration::from_millis(300));
    send("STOP", i64::from(recorder.pid()));
    let deep = Workload::start(&program, ["700"]);
    // Also where another program keeps the other CPU busy, all pieces fit: eight of 64 KiB, 32 of
    // 16, 64 of 8. Of 64 KiB alone 24 did.
    std::thread::sleep(std::time::Duration::from_millis(450));
    send("CONT", i64::from(recorder.pid()));
    let recording = recorder.finish();
    drop(deep);
    recording.assert_books();
    let process = recording.stats().processes().into_iter().find(|one| one.comm == "recursion");
    let process = process.expect("the program was sampled");
    assert!(process.samples > 15, "{process:?}");
    assert_eq!(process.cut.get("budget"), Some(&0), "{process:?}");
}
