//! Frames that stand elsewhere than their size says, and callers that are not on the stack.

use crate::jvm::*;
use hotframe_live::{Scratch, Stack, firefox_stacks, live, skipped};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a virtual thread gives up its carrier.
const DO_YIELD: &str = "jdk.internal.vm.Continuation.doYield";

/// Callers of a virtual thread that wait in the heap: none is left out, however many are there and
/// whatever compiled them, and the carrier's frames follow.
#[test]
fn callers_in_the_heap() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let homes: Vec<PathBuf> =
        homes().into_iter().filter(|home| feature_release(home) >= 21).collect();
    if homes.is_empty() {
        return skipped("needs JDK 21");
    }
    let modes: [&[&str]; 4] = [
        &[],
        &["-Xint"],
        &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"],
        &["-XX:-UseCompressedOops", "-XX:+UseParallelGC"],
    ];
    for home in homes {
        for mode in modes {
            let what = format!("{} {}", home.display(), mode.join(" "));
            let jvm = Jvm::start(&home, &scratch, &[mode, &["Waiting"]].concat());
            let recording = jvm.record(3);
            let (mut samples, mut floors) = (0, 0);
            for stack in &recording.folded.stacks {
                let names: Vec<&str> = stack.frames.iter().map(String::as_str).collect();
                let Some(first) = names.iter().position(|name| name.starts_with("Waiting.")) else {
                    continue;
                };
                // What is cut says so, and has nothing above. While a thread gives up its carrier, its
                // frames are on the stack and in the heap, which its last instructions do not tell, nor
                // the interpreter.
                let is_whole = names.iter().take(4).any(|name| name.contains("clone"));
                let is_in_both = match mode {
                    ["-Xint"] => names.contains(&DO_YIELD),
                    _ => names.last() == Some(&DO_YIELD),
                };
                if !is_whole || is_in_both {
                    continue;
                }
                samples += stack.count;
                let all = names.join("\n");
                assert_eq!(names[first], "Waiting.run", "{what}:\n{all}");
                assert!(names[..first].contains(&"java.lang.VirtualThread.run"), "{what}:\n{all}");
                assert!(names[..first].contains(&"jdk.internal.vm.Continuation.enterSpecial"));
                let down =
                    names[first + 1..].iter().take_while(|name| name.starts_with("Waiting."));
                for (n, name) in down.enumerate() {
                    let expected = if n % 2 == 0 { "Waiting.down" } else { "Waiting.hop" };
                    assert!(
                        *name == expected || *name == "Waiting.floor" || *name == "Waiting.spin",
                        "{what}: {name} where {expected} is:\n{all}"
                    );
                }
                if names.contains(&"Waiting.floor") {
                    floors += stack.count;
                    let n = names.iter().filter(|name| **name == "Waiting.down").count();
                    assert_eq!(n, 121, "{what}:\n{all}");
                }
            }
            assert!(floors >= 20, "{what}: {floors} at the floor, {samples} in all");
            let stats = recording.stats();
            let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
            assert!(is_share(whole, all, 950), "{what}: {whole} of {all} stacks are whole");
            println!(
                "{what}: {all} samples whole: {whole}, {samples} of the threads, {floors} at the floor"
            );
        }
    }
}

/// Where callers in the heap cannot be read a frame stands for them, and the carrier's follow.
#[test]
fn callers_that_are_not_known() {
    const BARRIER: &str = "StubRoutines::cont_returnBarrier";
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let Some(home) = homes().into_iter().find(|home| feature_release(home) >= 21) else {
        return skipped("needs JDK 21");
    };
    let jvm = Jvm::start(&home, &scratch, &["-XX:+UseZGC", "Waiting"]);
    let recording = jvm.record(3);
    let mut stands = 0;
    for stack in &recording.folded.stacks {
        let Some(first) = stack.frames.iter().position(|name| name.starts_with("Waiting.")) else {
            continue;
        };
        let (before, all) = (&stack.frames[..first], stack.frames.join("\n"));
        if !before.iter().any(|name| name == "java.lang.VirtualThread.runContinuation") {
            continue;
        }
        let is_known = stack.frames[first] == "Waiting.run";
        assert!(is_known || before.last().is_some_and(|name| name == BARRIER), "{all}");
        stands += if is_known { 0 } else { stack.count };
    }
    let stats = recording.stats();
    let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
    assert!(stands >= 20, "{stands} of {all}");
    assert!(is_share(whole, all, 950), "{whole} of {all} stacks are whole");
}

/// Of a hundred stacks at least no more than one in so many is wrong.
fn few_are_wrong(what: &str, n: u64, wrong: &[String], one_in: u64) {
    println!("{what}: {} of {n} wrong", wrong.len());
    assert!(n >= 100, "{what}: {n} stacks");
    assert!(
        wrong.len() as u64 * one_in <= n,
        "{what}: {} of {n} stacks are wrong:\n{}",
        wrong.len(),
        wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
    );
}

/// While compiled code's frame becomes one of the interpreter, the stack has its callers, however it
/// was aligned for the call that does it: half of these were cut.
#[test]
fn traps_at_any_alignment() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let args = [
        "-XX:+IgnoreUnrecognizedVMOptions",
        "-XX:+UnlockDiagnosticVMOptions",
        "-XX:-Inline",
        "-XX:-OmitStackTraceInFastThrow",
        "-XX:PerMethodRecompilationCutoff=0",
        "-XX:PerBytecodeRecompilationCutoff=0",
        "-XX:PerMethodTrapLimit=2000000000",
        "-XX:PerBytecodeTrapLimit=2000000000",
        "Traps",
    ];
    let mut n = 0;
    for home in homes() {
        let jvm = Jvm::start(&home, &scratch, &args);
        let profile = scratch.path("profile.firefox.json");
        jvm.record_with(2, &["-F", "499", "-o", &profile.to_string_lossy()]);
        for stack in firefox_stacks(&profile) {
            if stack.iter().any(|frame| frame.name.contains("::unpack_frames")) {
                n += 1;
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                assert!(names.contains(&"Traps.main"), "{}: {names:?}", home.display());
            }
        }
        println!("{}: {n}", home.display());
    }
    assert!(n >= 20, "{n} frames were met while they were laid out");
}

/// Stubs that have no frame, or whose frame does not stand, are behind the method that called them, or that
/// the exception is handed to: all Java frames up to the last that kept a frame pointer were left out, or
/// what had been called before stood in their place.
#[test]
fn stubs_without_a_frame() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "work"),
        ("work", "noise"),
        ("noise", "noise"),
        ("work", "casts"),
        ("work", "outer"),
        ("work", "passes"),
        ("passes", "interpreted"),
        ("work", "asks"),
        ("casts", "cast"),
        ("outer", "middle"),
        ("middle", "inner"),
    ];
    let exclude = "-XX:CompileCommand=exclude,Frameless::interpreted";
    let mut handed_on = 0;
    for home in homes() {
        for level in ["-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"] {
            let jvm = Jvm::start(&home, &scratch, &[level, "-XX:-Inline", exclude, "Frameless"]);
            let what = format!("{} {level}", home.display());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(4, &["-F", "499", "-o", &profile.to_string_lossy()]);
            let mut n = BTreeMap::new();
            for stack in firefox_stacks(&profile) {
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                for two in names.windows(2) {
                    let Some(caller) = two[0].strip_prefix("Frameless.") else { continue };
                    if let Some(callee) = two[1].strip_prefix("Frameless.") {
                        assert!(calls.contains(&(caller, callee)), "{what}: {names:?}");
                    }
                    // The interpreter hands it on to whom it goes to.
                    if two[1].contains("::exception_handler_for_return_address") {
                        assert_ne!(caller, "main", "{what}: {names:?}");
                        handed_on += u64::from(caller == "passes");
                    }
                }
                let stubs = [
                    "slow_subtype_check",
                    "unwind_exception",
                    "forward",
                    "rethrow",
                    "ExceptionBlob",
                ];
                for (at, name) in names.iter().enumerate() {
                    let Some(stub) = stubs.iter().find(|stub| name.contains(*stub)) else {
                        continue;
                    };
                    // libjvm's own functions, while 27 says "(C1 runtime)" of stubs; and a leaf in
                    // forward_exception, for which there is no rule.
                    let callee = names.get(at + 1).copied().unwrap_or_default();
                    if name.contains('(') && !name.contains(" (")
                        || *stub == "forward" && !callee.contains("handler_for_return_address")
                    {
                        continue;
                    }
                    *n.entry(*stub).or_insert(0) += 1;
                    let behind: &[&str] = match *stub {
                        "slow_subtype_check" => &["Frameless.cast"],
                        _ => &[
                            "Frameless.middle",
                            "Frameless.outer",
                            "Frameless.work",
                            "Frameless.passes",
                            "Frameless.asks",
                        ],
                    };
                    assert!(at > 0 && behind.contains(&names[at - 1]), "{what}: {names:?}");
                }
            }
            println!("{what}: {n:?}");
            assert!(!n.is_empty(), "{what}: no stub was met");
        }
    }
    println!("{handed_on} handed on by the interpreter");
    assert!(handed_on > 0, "nothing was handed on by the interpreter");
}

/// Where a frame does not stand where its size says, its callers are its own: behind the end of a native
/// method's, behind a stub's, in an adapter, and where the caller had pushed something. What had been
/// called before stood in their place.
#[test]
fn frames_that_do_not_stand() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let calls = [
        ("main", "work"),
        ("work", "noise"),
        ("work", "natives"),
        ("work", "casts"),
        ("work", "outer"),
        ("work", "adapters"),
        ("noise", "noise"),
        ("casts", "cast"),
        ("outer", "middle"),
        ("middle", "inner"),
        ("adapters", "interpreted"),
    ];
    let callers = [
        ("java.lang.Runtime.totalMemory", "natives"),
        ("java.lang.reflect.Array.getLength", "natives"),
        ("slow_subtype_check", "cast"),
        ("I2C/C2I adapters", "adapters"),
    ];
    let exclude = "-XX:CompileCommand=exclude,Between::interpreted";
    for home in homes() {
        for level in ["-XX:TieredStopAtLevel=1", "-XX:TieredStopAtLevel=4"] {
            let jvm = Jvm::start(&home, &scratch, &[level, "-XX:-Inline", exclude, "Between"]);
            let what = format!("{} {level}", home.display());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(4, &["-o", &profile.to_string_lossy()]);
            let (mut n, mut wrong) = (0, Vec::new());
            for stack in firefox_stacks(&profile) {
                let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
                let mut is_ours = names.iter().any(|name| name.starts_with("Between."));
                let mut is_wrong = false;
                let ours = names.iter().filter_map(|name| name.strip_prefix("Between."));
                let ours: Vec<&str> = ours.collect();
                for two in ours.windows(2) {
                    is_wrong |= !calls.contains(&(two[0], two[1]));
                }
                for two in names.windows(2) {
                    let of = callers.iter().find(|(callee, _)| {
                        two[1].contains(callee) && !two[1].contains(['(', '&'])
                    });
                    if let Some((_, caller)) = of {
                        is_ours = true;
                        is_wrong |= two[0].strip_prefix("Between.") != Some(caller);
                    }
                }
                n += u64::from(is_ours);
                if is_wrong {
                    wrong.push(names.join("\n"));
                }
            }
            few_are_wrong(&what.to_string(), n, &wrong, 50);
        }
    }
}

/// While C2's code looks for a string in another, its method's callers are its own, although what it keeps
/// of its strings lies below the frame. What had been called before stood in their place, in half of these
/// samples.
#[test]
fn searches_for_strings() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let callees = ["finds", "constants", "shorts", "wide"];
    for home in homes() {
        let args = ["-XX:-TieredCompilation", "-XX:-Inline", "Searches"];
        let jvm = Jvm::start(&home, &scratch, &args);
        let what = home.display();
        let profile = scratch.path("profile.firefox.json");
        jvm.record_with(4, &["-o", &profile.to_string_lossy()]);
        let (mut n, mut wrong) = (0, Vec::new());
        for stack in firefox_stacks(&profile) {
            let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
            let Some(first) = names.iter().position(|name| name.starts_with("Searches.")) else {
                continue;
            };
            let ours: Vec<&str> =
                names[first..].iter().map_while(|name| name.strip_prefix("Searches.")).collect();
            let beyond = &names[first + ours.len()..];
            let has_more = beyond.iter().any(|name| name.starts_with("Searches."));
            let searches = beyond.iter().any(|name| name.starts_with("java.lang.String"));
            let is_right = match ours[..] {
                ["main", "round", callee] if callees.contains(&callee) => true,
                ["main"] => !searches,
                ["main", "round", ref deeper @ ..] => {
                    !searches && deeper.iter().all(|name| *name == "deep")
                }
                _ => false,
            };
            n += 1;
            if !is_right || has_more {
                wrong.push(names.join("\n"));
            }
        }
        few_are_wrong(&what.to_string(), n, &wrong, 200);
    }
}

/// Where code computes on the x87 a method's callers are its own, although operands, and all registers
/// around a call, are pushed below its frame. What had been called before stood in their place, in one in
/// 25 of JDK 8's samples; one in two was guessed.
#[test]
fn pushed_operands() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let callees = ["pows", "exps", "logs", "sines", "tans", "fars", "rests", "shorts"];
    let compilers = ["-XX:-TieredCompilation", "-XX:TieredStopAtLevel=1"];
    for (home, compiler) in homes().iter().flat_map(|home| compilers.map(|c| (home, c))) {
        let jvm = Jvm::start(home, &scratch, &[compiler, "-XX:-Inline", "Maths"]);
        let what = format!("{} {compiler}", home.display());
        let profile = scratch.path("profile.firefox.json");
        let recording = jvm.record_with(4, &["-o", &profile.to_string_lossy()]);
        let (mut n, mut wrong) = (0, Vec::new());
        for stack in firefox_stacks(&profile) {
            let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
            let Some(first) = names.iter().position(|name| name.starts_with("Maths.")) else {
                continue;
            };
            let ours: Vec<&str> =
                names[first..].iter().map_while(|name| name.strip_prefix("Maths.")).collect();
            // C1 does not put them in place of a call without inlining: the interpreter's entry calls a
            // stub, or in JDK 8 libjvm's C, from which the walk went on in `main`. That calls nothing
            // but `round`: what may stand below it else is the kernel's.
            let is_leaf = names.len() == first + ours.len();
            let is_right = match ours[..] {
                ["main", "round", callee] if callees.contains(&callee) => true,
                ["main", "round", ref deeper @ ..] => deeper.iter().all(|name| *name == "deep"),
                ["main"] => is_leaf,
                _ => false,
            };
            n += 1;
            if !is_right {
                wrong.push(names.join("\n"));
            }
        }
        let stats = recording.stats();
        let (heuristic, cut) = (stats.count("stacks_heuristic"), stats.sum("stacks_cut"));
        println!("{what}: {heuristic} guessed, {cut} cut");
        few_are_wrong(&what.to_string(), n, &wrong, 200);
        assert!(heuristic * 50 <= n, "{what}: {heuristic} of {n} stacks are guessed");
        assert!(cut * 20 <= n, "{what}: {cut} of {n} stacks are cut");
    }
}

/// A caller that is deoptimised while its callee runs is returned to by its handler: where it stands
/// is read of its frame.
#[test]
fn deoptimised_callers() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/java/Deoptimised.java");
    let source = fs::read_to_string(path).expect("the source");
    let line_of = |text: &str| 1 + source.lines().take_while(|line| line.trim() != text).count();
    let expected = [
        ("Deoptimised.main", line_of("sink += caller(one, 200);")),
        ("Deoptimised.caller", line_of("callee();")),
        ("Deoptimised.callee", line_of("spin();")),
    ];
    for home in homes() {
        for mode in [&[][..], &["-XX:TieredStopAtLevel=1"]] {
            let quiet = "-XX:CompileCommand=quiet";
            let apart = "-XX:CompileCommand=dontinline,Deoptimised::callee";
            let jvm = Jvm::start(&home, &scratch, &[mode, &[quiet, apart, "Deoptimised"]].concat());
            let profile = scratch.path("profile.firefox.json");
            jvm.record_with(3, &["-o", &profile.to_string_lossy()]);
            let mut n = 0;
            for stack in firefox_stacks(&profile) {
                let Some(at) = stack.iter().position(|it| it.name == "Deoptimised.spin") else {
                    continue;
                };
                n += 1;
                let callers: Vec<(&str, usize)> = stack[at.saturating_sub(3)..at]
                    .iter()
                    .map(|frame| (frame.name.as_str(), frame.line as usize))
                    .collect();
                assert_eq!(callers, expected, "{} {mode:?}", home.display());
            }
            assert!(n > 0, "{} {mode:?}: no sample of it", home.display());
        }
    }
}

/// An intrinsic's stub is called where no safepoint is. With debug information of all instructions what is
/// inlined above it is there; it is never another one's.
#[test]
fn inlined_above_an_intrinsic() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let all = ["-XX:+UnlockDiagnosticVMOptions", "-XX:+DebugNonSafepoints"];
    // In 8 a blob of many stubs has one name.
    for home in homes().into_iter().filter(|home| home.join(LIBJVM[0]).is_file()) {
        for (flags, least_percent) in [(&all[..], 80), (&[][..], 0)] {
            let args = [flags, &["Truth", "intrinsics"]].concat();
            let jvm = Jvm::start(&home, &scratch, &args);
            // Until all is compiled.
            std::thread::sleep(Duration::from_secs(2));
            let recording = jvm.record_with(2, &["-F", "499"]);
            let stub = |stack: &Stack| stack.has("StubRoutines::updateBytesCRC32");
            let within = |method: &str| {
                let method = format!("Truth$Intrinsics.{method}");
                recording.folded.samples(|stack| stub(stack) && stack.has(&method))
            };
            let own = within("crc");
            let others = ["copying", "hashing", "digest"].map(within);
            let stub = recording.folded.samples(stub);
            let what = format!("{} {flags:?}", home.display());
            println!("{what}: {own} of {stub} in the method that calls it, {others:?} in others");
            assert!(stub >= 30, "{what}: {stub} samples:\n{}", recording.folded.summary());
            assert_eq!(others, [0; 3], "{what}: of {stub}, in methods that do not call it");
            assert!(own * 100 >= stub * least_percent, "{what}: {own} of {stub}");
        }
    }
}

/// An interrupted pc of compiled code belongs to what runs, not to what stands behind it: of methods that
/// were inlined and never run nothing is seen, and nine tenths of a loop's are the loop's.
#[test]
fn leaves_of_compiled_code() {
    live!(beside);
    let scratch = Scratch::new();
    if classes(&scratch).is_none() {
        return;
    }
    let apart = ["hot", "never", "loops"];
    let apart = apart.map(|name| format!("-XX:CompileCommand=dontinline,Leaf.{name}"));
    for home in homes() {
        for mode in ["-XX:TieredStopAtLevel=1", "-XX:+TieredCompilation"] {
            let mut args = vec![mode, "-XX:CompileCommand=quiet"];
            args.extend(apart.iter().map(String::as_str));
            args.push("Leaf");
            let jvm = Jvm::start(&home, &scratch, &args);
            // Until all is compiled.
            std::thread::sleep(Duration::from_secs(1));
            let recording = jvm.record_with(3, &["-F", "997"]);
            let of = |name: &str| recording.folded.samples(|stack| stack.has(name));
            let what = format!("{} {mode}", home.display());
            let [hot, slow, loops, own, after] =
                ["hot", "slow", "loops", "loop", "after"].map(|name| of(&format!("Leaf.{name}")));
            println!("{what}: {slow} of {hot} in slow, {own} and {after} of {loops} in loops");
            assert!(hot >= 50 && slow == 0, "{what}: {slow} of {hot} in what never runs");
            assert!(loops >= 50 && own * 10 >= loops * 9, "{what}: {own} of {loops} in the loop");
            assert!(after * 100 <= loops, "{what}: {after} of {loops} in a loop of one round");
        }
    }
}
