//! What JVMs run with, and what of it is named: the interpreter, both compilers, collectors, agents.

use crate::jvm::*;
use hotframe_live::{Group, Recorder, Scratch, hotframe, live, record, run, send, skipped};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The interpreter alone: every stack a path, every frame named.
#[test]
fn interpreted() {
    live!(beside);
    check_modes(&[&["-Xint"]], &LASTING, 6, Some(995));
}

/// Compiled by both compilers, by C1 alone, with one code heap: the same.
#[test]
fn compiled() {
    live!(beside);
    let modes: [&[&str]; 3] = [&[], &["-XX:TieredStopAtLevel=1"], &["-XX:-SegmentedCodeCache"]];
    check_modes(&modes, &LASTING, 6, Some(995));
}

/// A JVM that the recording itself starts is met while it is being loaded, when libjvm's tables may be
/// anything.
#[test]
fn started_by_record() {
    // A second must be enough for the JVM to start.
    live!();
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    for home in homes() {
        let java = home.join("bin/java");
        for n in 0..4 {
            let options = ["-d", "1", "-F", "397", "--"].map(OsStr::new);
            let command = [java.as_os_str(), "-cp".as_ref(), classes.as_os_str(), "Truth".as_ref()];
            let sections = ["inline", "lambdas", "megamorphic"].map(OsStr::new);
            let recorder = Recorder::start(options.iter().chain(&command).chain(&sections));
            std::thread::sleep(Duration::from_millis(1800));
            send("TERM", i64::from(recorder.pid()));
            let recording = recorder.finish();
            let stats = recording.stats();
            let total = stats.count("frames.jvm.total");
            let what = home.display();
            assert!(
                total >= 100,
                "{what}, start {n}: {total} Java frames: {}",
                stats.0["runtimes"]
            );
        }
    }
}

/// One that is asked for, by its pid or its cgroup, is attached to before sampling begins: no walk waits for
/// the steps of its frames, to be finished when a class that ran may be gone.
#[test]
fn attached_to_before_the_first_sample() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        let jvm = Jvm::start(&home, &scratch, &["-Xint", "Truth", "inline", "lambdas"]);
        let pid = jvm.child.id();
        assert_attached_first(&home, ["-p", &pid.to_string()]);
        // That of a container is asked for by its cgroup.
        let Some(group) = Group::own("expected") else { continue };
        group.add(pid);
        assert_attached_first(&home, ["--cgroup", &group.0.to_string_lossy()]);
        drop(jvm);
    }
}

fn assert_attached_first(home: &Path, filter: [&str; 2]) {
    let options = filter.into_iter().chain(["-d", "1", "-F", "499"]);
    let recorder = Recorder::with(options, |command| {
        command.env("HOTFRAME_LOG", "hotframe_core=trace");
    });
    let recording = recorder.finish();
    let (stats, what) = (recording.stats(), format!("{}, {filter:?}", home.display()));
    let emitted = stats.count("samples_emitted");
    assert!(emitted >= 100, "{what}: {emitted} samples");
    let late = |missing: &str| recording.stderr.matches(missing).count();
    assert!(late("a slice") > 0, "{what}: not even its address space was met by a sample");
    let waited = late("missing=\"step\"");
    assert_eq!(waited, 0, "{what}: so many of {emitted} walks had to wait");
}

/// JVMs that live for a tenth of a second, one after the other: each is attached to while it starts, and
/// named before it ends.
#[test]
fn brief_lives() {
    // All that is recorded is this test's own.
    live!();
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    let (mut java, mut cut, mut frames, mut named) = (0, 0, 0, 0);
    for home in homes() {
        let script = "for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do \"$0\" -cp \"$1\" Brief 100; done";
        let options = ["-F", "999", "--", "sh", "-c", script].map(OsStr::new);
        let program = home.join("bin/java");
        let recording =
            Recorder::start(options.into_iter().chain([program.as_os_str(), classes.as_os_str()]))
                .finish();
        assert_eq!(recording.code(), 0, "{}", recording.stderr);
        recording.assert_books();
        let stats = recording.stats();
        let met = recording.folded.samples(|stack| stack.has("StubRoutines::call_stub"));
        // Before the JVM is attached to, its own code is some without tables.
        let missed = stats.count("stacks_cut.no_unwind_info");
        let total = stats.count("frames.jvm.total");
        let of_them = stats.count("frames.jvm.named");
        println!(
            "{}: {met} stacks with Java, {missed} cut, {of_them} of {total} Java frames named",
            home.display()
        );
        (java, cut, frames, named) = (java + met, cut + missed, frames + total, named + of_them);
    }
    assert!(java >= 100, "{java} stacks with Java");
    assert!(is_share(java, java + cut, 930), "{cut} stacks are cut beside {java} with Java");
    // Before it was looked at by its age: 928. What it ran last may still go with it.
    assert!(is_share(named, frames, 970), "{named} of {frames} Java frames are named");
}

/// Collectors with barriers of their own at method entries, other class pointers.
#[test]
fn collectors() {
    live!(beside);
    let modes: [&[&str]; 3] = [
        &["-XX:+UseSerialGC"],
        &["-XX:+UseParallelGC", "-XX:-UseCompressedClassPointers"],
        &["-XX:+UnlockExperimentalVMOptions", "-XX:+UseZGC"],
    ];
    check_modes(&modes, &["inline", "lambdas", "megamorphic", "exceptions"], 4, None);
}

/// Objects' headers as they are from 25 on, if one asks for it.
#[test]
fn compact_object_headers() {
    live!(beside);
    let is_new = |home: &Path| feature_release(home) >= 25;
    if !homes().iter().any(|home| is_new(home)) {
        return skipped("needs JDK 25");
    }
    let modes: [&[&str]; 1] = [&["-XX:+UseCompactObjectHeaders"]];
    let homes: Vec<PathBuf> = homes().into_iter().filter(|home| is_new(home)).collect();
    check_homes(&homes, &modes, &LASTING, 6, Some(995));
}

/// Classes that are unloaded within milliseconds of their run: named before they go, as far as the
/// reader gets a CPU in time, and none wrongly.
#[test]
fn unloaded_classes_have_no_wrong_names() {
    live!(beside);
    check_modes(&[&[], &["-Xint"]], &["churn", "lambdas"], 7, Some(995));
}

/// Real code that compiles while it is looked at: javac.
#[test]
fn javac() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java");
    let sources = SOURCES.map(|name| sources.join(name).to_string_lossy().into_owned());
    let out = scratch.path("compiled").to_string_lossy().into_owned();
    let mut args = vec!["Compile", out.as_str()];
    args.extend(sources.iter().map(String::as_str));
    for home in homes().iter().filter(|home| home.join("bin/javac").is_file()) {
        let jvm = Jvm::start(home, &scratch, &args);
        let recording = jvm.record(10);
        let stats = recording.stats();
        let what = home.display();
        let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
        let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
        println!(
            "{what} javac: {all} samples, {whole} whole, {named} of {total} Java frames named"
        );
        let is_whole = is_share(whole, all, 990) || all - whole <= 2;
        assert!(is_whole, "{what}: {whole} of {all} are whole: {}", stats.0["stacks_cut"]);
        assert!(is_share(named, total, 995), "{what}: {named} of {total} are named");
        let javac =
            recording.folded.samples(|stack| stack.has("com.sun.tools.javac.main.Main.compile"));
        assert!(javac >= 20, "{what}: {javac} samples of javac:\n{}", recording.folded.summary());
    }
}

/// Another profiler, inside of the JVM, sees the same program: shares of the methods at work differ by
/// what chance and its own clock allow.
#[test]
fn agrees_with_async_profiler() {
    live!(beside);
    let scratch = Scratch::new();
    let Some(library) = std::env::var_os("HOTFRAME_ASYNC_PROFILER") else {
        return skipped("needs HOTFRAME_ASYNC_PROFILER (make test-runtimes)");
    };
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        if !home.join(LIBJVM[0]).is_file() {
            skipped(&format!("{}: 8 loads no agent on request", home.display()));
            continue;
        }
        let theirs = scratch.path("theirs.folded");
        let sections =
            ["inline", "recursion", "lambdas", "megamorphic", "exceptions", "locks", "osr"];
        let jvm = Jvm::start(&home, &scratch, &[&["Truth"][..], &sections].concat());
        // It is loaded when the program has told, so that both see the same.
        let agent = |what: &str| {
            let pid = jvm.child.id().to_string();
            let library = library.to_string_lossy();
            // Quoted, or what is before the first "=" is taken for an option of the command.
            let arguments = format!("\"{what},collapsed,file={}\"", theirs.display());
            run("jcmd", [pid.as_str(), "JVMTI.agent_load", &library, &arguments]);
        };
        agent("start,event=itimer,interval=5ms");
        let recording = jvm.record_with(15, &["-F", "499"]);
        agent("stop");
        let text = fs::read_to_string(&theirs).expect("the other profile");
        let mut them: BTreeMap<String, u64> = BTreeMap::new();
        let mut all_theirs = 0;
        for line in text.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let count: u64 = count.parse().expect("a count");
            let names: BTreeSet<&str> =
                stack.split(';').filter(|name| name.starts_with("Truth")).collect();
            if names.is_empty() {
                continue;
            }
            all_theirs += count;
            for name in names {
                *them.entry(name.replace('/', ".")).or_default() += count;
            }
        }
        let ours = |wanted: &str| {
            recording
                .folded
                .samples(|stack| stack.frames.iter().any(|name| name.starts_with(wanted)))
        };
        let all_ours = ours("Truth");
        assert!(all_ours >= 100 && all_theirs >= 100, "{all_ours} and {all_theirs} samples");
        let mut compared = 0;
        let mut worst = (0.0, String::new());
        for (name, count) in &them {
            let (mine, their) =
                (ours(name) as f64 / all_ours as f64, *count as f64 / all_theirs as f64);
            // Where a leaf without debug information of its own may belong.
            if mine.max(their) < 0.02 || name.contains("Lambda") || name == "Truth.tell" {
                continue;
            }
            compared += 1;
            if (mine - their).abs() > worst.0 {
                worst = ((mine - their).abs(), format!("{name}: {mine:.3}, they {their:.3}"));
            }
        }
        println!(
            "{} async-profiler: {compared} methods compared, worst {}",
            home.display(),
            worst.1
        );
        assert!(compared >= 5, "{compared} methods");
        // Four standard deviations of a share of one half, and the ends of the recordings.
        let allowed = 0.03 + 4.0 * 0.5 * (1.0 / all_ours as f64 + 1.0 / all_theirs as f64).sqrt();
        assert!(worst.0 < allowed, "{}: {} (allowed {allowed:.3})", home.display(), worst.1);
    }
}

/// The founding defect: tens of thousands of hot methods keep their names, inside the budget.
#[test]
fn many_methods_inside_the_budget() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().next() else { return };
    let jvm = Jvm::start(&home, &scratch, &["-Xint", "ManyMethods", "30000", "40"]);
    let pid = jvm.child.id().to_string();
    let recording = record(["-p", pid.as_str(), "-d", "40", "-F", "2000"]);
    let stats = recording.stats();
    let mut methods = BTreeSet::new();
    for stack in &recording.folded.stacks {
        let ours: Vec<&String> =
            stack.frames.iter().filter(|name| name.starts_with("many.C")).collect();
        methods.extend(ours.iter().map(|name| (*name).clone()));
        for two in ours.windows(2) {
            let class = |name: &str| name.rsplit_once('.').map(|(class, _)| class.to_owned());
            assert_eq!(class(two[0]), class(two[1]), "one class calls itself only: {two:?}");
        }
    }
    let (named, total) = (stats.count("frames.jvm.named"), stats.count("frames.jvm.total"));
    let held = stats.number("agent.rss_peak_bytes") + stats.number("agent.map_bytes");
    println!(
        "{} samples, {} methods, {named} of {total} frames named, {:.1} MiB",
        stats.count("samples_emitted"),
        methods.len(),
        held / f64::from(1 << 20)
    );
    // How many of the 30,000 are met is a matter of samples, and so of who else runs: 14,209 in 40 s on a machine
    // that builds, 28,221 in a minute on a quiet one (README.md).
    assert!(methods.len() >= 8_000, "only {} methods were met", methods.len());
    assert!(is_share(named, total, 995), "{named} of {total} frames are named");
    assert!(held <= stats.number("agent.budget_bytes"), "{held} bytes");
}

/// Names are written as the user wants them: with signatures, and with the numbers and addresses of
/// what is made at run time.
#[test]
fn names_as_wanted() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    for home in homes() {
        let what = home.display();
        for mode in [&["-Xint"][..], &[]] {
            let jvm = Jvm::start(&home, &scratch, &[mode, &["Truth", "lambdas"]].concat());
            let names = |args: &[&str]| -> BTreeSet<String> {
                let recording = jvm.record_with(4, args);
                recording.assert_books();
                let stacks = recording.folded.stacks.iter();
                stacks.flat_map(|stack| stack.frames.iter().cloned()).collect()
            };
            let has = |names: &BTreeSet<String>, name: &str| {
                assert!(names.contains(name), "{what}: no {name} in {names:#?}");
            };
            let signed = names(&["--java-signatures"]);
            has(&signed, "Truth.main(java.lang.String[])");
            has(&signed, "Truth.round(java.lang.String[], int)");
            // What is called in there may be compiled away.
            if mode.is_empty() {
                continue;
            }
            let plain = names(&[]);
            has(&plain, "Truth.work");
            has(&plain, "Truth$Lambdas$$Lambda.applyAsInt");
            let (lambda, made) = ("Truth$Lambdas.lambda$total$0", "Truth$Lambdas$$Lambda");
            has(&plain, lambda);
            has(&signed, "Truth.work(int, int)");
            has(&signed, &format!("{lambda}(int)"));
            has(&signed, &format!("{made}.applyAsInt(int)"));
            let raw = names(&["--java-raw-names"]);
            has(&raw, "Truth.work");
            let own = raw.iter().filter(|name| name.starts_with(made));
            let own: Vec<_> = own.filter(|name| name.ends_with(".applyAsInt")).collect();
            assert!(!own.is_empty(), "{what}: no {made} in {raw:#?}");
            // Before hidden classes (15) they are numbered; an address is no part of their names.
            let version = Command::new(home.join("bin/java")).arg("-version").output();
            let version = version.expect("java runs").stderr;
            let version = String::from_utf8_lossy(&version);
            let is_old = ["1.8", "11."].iter().any(|old| version.contains(&format!("\"{old}")));
            let numbered = format!("{made}$");
            let is_raw = |name: &&String| match is_old {
                true => name.starts_with(&numbered),
                false => name.contains("/0x"),
            };
            assert!(own.iter().copied().all(|name| is_raw(&name)), "{what}: {own:?}");
            println!("{what}: {} names, {own:?}", plain.len());
        }
    }
}

/// What doctor says of a JVM that runs: its version, and that its frames are named.
#[test]
fn doctor_knows_the_version() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().next() else { return };
    let jvm = Jvm::start(&home, &scratch, &["Truth", "inline"]);
    let output = Command::new(hotframe()).arg("doctor").output().expect("doctor runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let of_it = format!("({})", jvm.pid());
    let line = said.lines().find(|line| line.contains(&of_it)).expect("a line of the JVM");
    let version = line.split("): ").nth(1).unwrap_or_default();
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    assert!(line.contains("its frames are unwound and named"), "{line}");
    println!("{}", line.trim());
}

/// Of classes that an agent redefines each frame has its own name: another's was found where the old
/// version of a method had been.
#[test]
fn redefined_classes() {
    live!(beside);
    let scratch = Scratch::new();
    let Some(classes) = classes(&scratch) else { return };
    let (jar, manifest) = (scratch.path("redefined.jar"), scratch.path("manifest"));
    fs::write(&manifest, "Premain-Class: Redefined\nCan-Redefine-Classes: true\n")
        .expect("written");
    let args: [&OsStr; 6] = [
        "cfm".as_ref(),
        jar.as_ref(),
        manifest.as_ref(),
        "-C".as_ref(),
        classes.as_ref(),
        ".".as_ref(),
    ];
    run("jar", args);
    let agent = format!("-javaagent:{}", jar.display());
    for home in homes() {
        for mode in [&["-Xint"][..], &[]] {
            let jvm = Jvm::start(&home, &scratch, &[mode, &[&agent, "Redefined"]].concat());
            let recording = jvm.record_with(5, &["-F", "997"]);
            let (mut n, mut wrong, mut examples) = (0, 0, Vec::new());
            for stack in &recording.folded.stacks {
                let (mut of, before) = (BTreeSet::new(), wrong);
                for name in &stack.frames {
                    let Some(ours) = name.strip_prefix("Redefined$") else { continue };
                    let Some((class, method)) = ours.split_once('.') else { continue };
                    let own = match class {
                        "Aa" => "alpha",
                        "Bb" => "bravo",
                        "Cc" => "delta",
                        _ => continue,
                    };
                    of.insert(class);
                    wrong += u64::from(!method.starts_with(own)) * stack.count;
                }
                n += u64::from(!of.is_empty()) * stack.count;
                wrong += u64::from(of.len() > 1) * stack.count;
                if wrong > before {
                    examples.push(stack.frames.join(";"));
                }
            }
            println!("{} {mode:?}: {wrong} of {n} wrong", home.display());
            let wrong_ones = format!("{wrong} of {n}: {examples:#?}");
            assert!(n >= 50 && wrong == 0, "{} {mode:?}: {wrong_ones}", home.display());
        }
    }
}

/// Graal's code has the caller's frame pointer anywhere, or only in its register, where it neither calls nor
/// polls: interpreted callers are found all the same, and no other is. `HOTFRAME_GRAAL` is its path of modules.
#[test]
fn graal() {
    live!(beside);
    let scratch = Scratch::new();
    let Ok(modules) = std::env::var("HOTFRAME_GRAAL") else {
        skipped("needs HOTFRAME_GRAAL, the path of Graal's modules");
        return;
    };
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "round"),
        ("round", "callsSpin"),
        ("round", "callsSpill"),
        ("round", "callsSmall"),
        ("callsSpin", "spin"),
        ("callsSpin", "deep"),
        ("callsSpill", "spill"),
        ("callsSpill", "deep"),
        ("callsSmall", "small"),
        ("deep", "deep"),
    ];
    let modules = format!("--upgrade-module-path={modules}");
    let mut args = vec![
        "-XX:+UnlockExperimentalVMOptions",
        "-XX:+EnableJVMCI",
        "-XX:+UseJVMCICompiler",
        &modules,
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=exclude,Unsaved::calls*",
        "-XX:CompileCommand=exclude,Unsaved::round",
        "-XX:CompileCommand=exclude,Unsaved::main",
    ];
    let mut homes = homes();
    homes.retain(|home| {
        let output = Command::new(home.join("bin/java")).args(&args).arg("-version").output();
        output.is_ok_and(|output| output.status.success())
    });
    if homes.is_empty() {
        skipped("no JVM here takes this Graal");
    }
    args.push("Unsaved");
    for home in homes {
        let jvm = Jvm::start(&home, &scratch, &args);
        let recording = jvm.record_with(4, &["-F", "997"]);
        let (mut n, mut cut, mut wrong) = (0, 0, Vec::new());
        for stack in &recording.folded.stacks {
            let ours: Vec<&str> =
                stack.frames.iter().filter_map(|name| name.strip_prefix("Unsaved.")).collect();
            if ours.is_empty() {
                continue;
            }
            n += stack.count;
            if ours[0] != "main" {
                cut += stack.count;
            }
            if ours.windows(2).any(|two| !calls.contains(&(two[0], two[1]))) {
                wrong.push(format!("{ours:?}"));
            }
        }
        println!("{}: {cut} of {n} cut, {} wrong", home.display(), wrong.len());
        assert!(n >= 500, "{}: {n} samples", home.display());
        assert!(wrong.is_empty(), "{}: {wrong:#?}", home.display());
        assert!(cut * 100 <= n, "{}: {cut} of {n} are cut", home.display());
    }
}
