//! Whole paths, main to leaf, of programs whose stacks are known: one case for each way by which
//! a frame is found.
#![forbid(unsafe_code)]

use hotframe_live::{
    Stack, Workload, by_tail_calls, has_program, live, program, record, record_pid, record_until,
    run, send, skipped, wait_for,
};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

fn all(_: &Stack) -> bool {
    true
}

/// Starts a workload, records it alone and demands that each stack is whole and holds the path.
fn expect(program: &Path, args: &[&str], path: &[&str]) -> hotframe_live::Recording {
    let workload = Workload::start(program, args);
    let recording = record_pid(workload.pid());
    let comm = program.file_name().expect("a name").to_string_lossy().into_owned();
    recording.folded.assert_path(&comm, all, path);
    recording.stats().of(&comm).assert_whole();
    recording
}

fn recursion(depth: usize) {
    let mut path = vec!["main"];
    path.extend((0..depth).map(|level| if level % 2 == 0 { "even" } else { "odd" }));
    path.push("floor_of_it");
    let recording = expect(&program!("recursion"), &[&depth.to_string()], &path);
    let stats = recording.stats();
    assert_eq!(stats.count("stacks_heuristic"), 0, "these functions have unwind tables");
}

/// 300 calls deep without frame pointers, twice what the peer shows.
#[test]
fn recursion_300_without_frame_pointers() {
    live!(beside);
    recursion(300);
}

/// 1,000 calls deep: main, libc's frames and the calls are 1,004.
#[test]
fn recursion_1000_without_frame_pointers() {
    live!(beside);
    recursion(if by_tail_calls() { 480 } else { 1000 });
}

/// Deeper than any stack we keep: cut as too deep, the leaf's side kept.
#[test]
fn too_deep_keeps_the_leaf() {
    live!(beside);
    let workload = Workload::start(&program!("recursion"), ["5000"]);
    let recording = record_pid(workload.pid());
    let process = recording.stats().of("recursion");
    assert_eq!(process.cut.get("too_deep"), Some(&process.samples), "{:?}", process.cut);
    recording.folded.assert_path("recursion", all, &["even", "odd", "even", "odd", "floor_of_it"]);
}

/// The stack pointer is in memory that nobody has touched: what lies further out is copied all the same
/// for the first samples, whose tables are not loaded.
#[test]
fn a_stack_that_is_not_touched_so_far() {
    live!(beside);
    expect(&program!("hollow"), &[], &["main", "large"]);
}

/// Amid a frame are pages that nobody has touched, and what lies beyond them is copied as well: by the time
/// that tables are loaded, others have written there, and the memory below them still vouches for it.
#[test]
fn a_frame_with_pages_that_are_not_touched() {
    live!(beside);
    let program = program!("chasm");
    let recording =
        record(["-F", "997", "--"].map(OsStr::new).into_iter().chain([program.as_os_str()]));
    let seen = |stack: &Stack| stack.has("chasm");
    recording.folded.assert_path("chasm", seen, &["main", "enters", "chasm"]);
    assert_eq!(recording.folded.samples(|stack| seen(stack) && stack.has("others")), 0);
    recording.stats().of("chasm").assert_whole();
}

/// A frame that is larger than the copy of a stack, of which the outer end is copied as well: its callers
/// are there for the first samples of each function, though they have returned by the time that its
/// tables are loaded.
#[test]
fn a_frame_larger_than_a_copy() {
    live!(beside);
    let program = program!("roomy");
    let recording = record([OsStr::new("--"), program.as_os_str()]);
    let seen = |stack: &Stack| stack.has("roomy");
    recording.folded.assert_path("roomy", seen, &["main", "roomy"]);
    recording.stats().of("roomy").assert_whole();
}

/// Functions without unwind tables that keep frame pointers.
#[test]
fn frame_pointers_without_unwind_tables() {
    live!(beside);
    let program = program!("framepointers");
    let recording = expect(&program, &[], &["main", "alpha", "beta", "gamma_ray"]);
    let stats = recording.stats();
    assert_eq!(stats.count("stacks_heuristic"), stats.count("samples_emitted"));
}

/// A browser: hundreds of megabytes of code that nothing describes, with frame pointers.
#[test]
fn a_browser_without_unwind_tables() {
    live!(beside);
    if !has_program("chromium") {
        return skipped("no chromium");
    }
    let scratch = hotframe_live::Scratch::new();
    let page = scratch.path("busy.html");
    let script = "const all = document.createElement('p'); document.body.append(all); let n = 0;\n\
        function work() { let s = ''; for (let i = 0; i < 2000; i++) s += ' ' + i * n; n++;\n\
        all.textContent = s; all.getBoundingClientRect(); setTimeout(work, 0); } work();";
    std::fs::write(&page, format!("<body><script>{script}</script>")).expect("a page");
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    browser.args(["--disable-background-networking", "--disable-component-update"]);
    browser.args(["--disable-sync", "--disable-quic", "--remote-debugging-port=0"]);
    browser.arg(format!("--user-data-dir={}", scratch.path("profile").display())).arg(&page);
    let quiet = || std::process::Stdio::null();
    let workload = Workload::spawn(browser.stdout(quiet()).stderr(quiet()));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let recording = record(["-F", "199", "-p", &workload.pid().to_string(), "-d", "5"]);
    let stats = recording.stats();
    let (whole, all) = (stats.count("stacks_whole"), stats.count("samples_emitted"));
    assert!(all > 200, "{all}: {}", recording.folded.summary());
    assert!(whole * 100 >= all * 98, "{whole} of {all}: {}", stats.0["stacks_cut"]);
}

/// The same of a stripped program whose loops begin where functions might: no function is left out,
/// and none has two frames.
#[test]
fn frame_pointers_that_nothing_describes() {
    live!(beside);
    let workload = Workload::start::<&str>(&program!("framed"), []);
    let recording = record_pid(workload.pid());
    recording.stats().of("framed").assert_whole();
    let mut in_little = 0;
    for stack in &recording.folded.stacks {
        let ours = stack.frames.iter().filter(|name| name.starts_with("framed+0x")).count();
        // _start, main, the sixteen and work; libc's frames stand between _start and main.
        assert!(ours == 19 || ours == 20, "{ours}: {:?}", stack.frames);
        in_little += if ours == 20 { stack.count } else { 0 };
    }
    let all = recording.folded.of("framed");
    assert!(in_little * 5 > all && in_little < all, "{in_little} of {all}");
}

/// And of one without frame pointers, in which instructions end as functions do, where functions begin.
#[test]
fn code_that_nothing_describes() {
    live!(beside);
    let workload = Workload::start::<&str>(&program!("bare"), []);
    let recording = record_pid(workload.pid());
    recording.stats().of("bare").assert_whole();
    for stack in &recording.folded.stacks {
        let ours = stack.frames.iter().filter(|name| name.starts_with("bare+0x")).count();
        // _start, main, outer, middle and leaf; libc's frames stand between _start and main.
        assert_eq!(ours, 5, "{:?}", stack.frames);
    }
}

/// A thunk that calls, and returns to what it writes over that call's return address: it has one caller, and not
/// what stands before the function that it goes to.
#[test]
fn retpolines_without_unwind_tables() {
    live!(beside);
    let workload = Workload::start(&program!("retpoline"), [""; 0]);
    let recording =
        record_until(&["-p", &workload.pid().to_string()], |it| it.folded.samples(|_| true) >= 200);
    recording.stats().of("retpoline").assert_whole();
    let in_thunk = |stack: &Stack| stack.has("thunk");
    recording.folded.assert_path("retpoline", in_thunk, &["main", "outer", "thunk"]);
    for stack in &recording.folded.stacks {
        let in_itself = stack.frames.iter().filter(|name| *name == "thunk").count();
        assert!(in_itself <= 1 && !stack.has("before_leaf"), "{:?}", stack.frames);
    }
}

/// Text that the program copied to anonymous memory in its place, before the recording and in it: it is
/// its file's as before.
#[test]
fn text_that_was_copied_in_its_place() {
    live!(beside);
    let path = ["main", "outer", "middle", "leaf"];
    let program = program!("remapped");
    let recording = expect(&program, &[], &path);
    assert_eq!(recording.stats().count("stacks_heuristic"), 0, "it has unwind tables");
    let recording = record([OsStr::new("--"), program.as_os_str(), OsStr::new("40")]);
    let seen = |stack: &Stack| stack.has("leaf");
    recording.folded.assert_path("remapped", seen, &path);
    let process = recording.stats().of("remapped");
    assert!(process.whole * 100 >= process.samples * 97, "{:?}", process.cut);
}

/// Assembly with a sized symbol: pushes and subtractions are followed past the decoys.
#[test]
fn assembly_leaf_with_a_sized_symbol() {
    live!(beside);
    expect(&program!("asmleaf"), &["sized"], &["main", "call_leaf", "asm_sized"]);
}

/// Assembly under a bare label.
#[test]
fn assembly_leaf_with_a_bare_label() {
    live!(beside);
    let workload = Workload::start(&program!("asmleaf"), ["unsized"]);
    let recording = record_pid(workload.pid());
    recording.folded.assert_path("asmleaf", all, &["main", "call_leaf"]);
    assert_eq!(recording.folded.samples(|stack| stack.has("decoy_caller")), 0);
    recording.stats().of("asmleaf").assert_whole();
}

/// Assembly that cannot be followed: the scan passes over return addresses of other calls.
#[test]
fn assembly_leaf_found_by_scan() {
    live!(beside);
    expect(&program!("asmleaf"), &["scan"], &["main", "call_leaf", "asm_scan"]);
}

/// Frames that a register leads, across a call: one that callees may change, and one that they save.
#[test]
fn frames_by_other_registers() {
    live!(beside);
    let program = program!("registers");
    expect(&program, &["rax"], &["main", "call_by", "by_rax", "leaf_of_rax"]);
    expect(&program, &["rbx"], &["main", "call_by", "by_rbx", "resolve", "look_up"]);
}

/// C that is called on another stack than its caller's, above or below, as OCaml 5 does: where that one is,
/// only what the stack pointer leads to says, or a register that the leaf leaves alone.
#[test]
fn c_called_on_another_stack() {
    live!(beside);
    let workload = Workload::start(&program!("twostacks"), [""; 0]);
    let recording = record_pid(workload.pid());
    for (leaf, path) in [
        ("deeper", &["main", "run_on_fiber", "on_fiber", "call_c", "in_c", "deeper"][..]),
        ("leaf", &["main", "run_on_fiber", "on_fiber", "call_leaf", "leaf"][..]),
        ("on_fiber", &["main", "run_on_fiber", "on_fiber"][..]),
    ] {
        let led_on = |stack: &Stack| stack.has(leaf) && stack.has("main");
        recording.folded.assert_path("twostacks", led_on, path);
    }
    // A walk that is finished from a copy knows no registers of the leaf's.
    let process = recording.stats().of("twostacks");
    let excused = recording.stats().count("stacks_from_slice");
    assert!(process.cut_samples() <= excused, "{:?}", process.cut);
}

/// A library loaded while the recording runs.
#[test]
fn dlopen_after_start() {
    live!(beside);
    let plugin = program!("plugin.so");
    let late = program!("late");
    let path = ["main", "after_loading", "plugin_entry", "plugin_work"];
    // Loaded some time after the recording began; what is seen is a matter of luck only as to
    // how much of it comes before.
    let workload = Workload::start(&late, [&plugin]);
    let pid = workload.pid();
    let loader = std::thread::spawn(move || {
        wait_for("hotframe to look at the workload", || {
            std::thread::sleep(std::time::Duration::from_millis(700));
            Some(())
        });
        send("USR1", i64::from(pid));
    });
    let recording = record_until(&["-p", &pid.to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("plugin_work")) >= 20
    });
    loader.join().expect("the signal was sent");
    recording.folded.assert_path("late", |stack| stack.has("plugin_work"), &path);
    recording.stats().of("late").assert_whole();
}

/// One process, image after image: each is whole from its first sample on.
#[test]
fn exec_chain() {
    live!(beside);
    let workload = Workload::start(&program!("execchain"), [""; 0]);
    let recording = record_until(&["-F", "499", "-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("image_work")) >= 200
    });
    let working = |stack: &Stack| stack.has("image_work");
    recording.folded.assert_path("execchain", working, &["main", "image_work"]);
    let process = recording.stats().of("execchain");
    assert!(
        process.cut_samples() * 100 <= process.samples,
        "more than 1 % cut: {:?} of {}",
        process.cut,
        process.samples
    );
}

/// A signal's handler, on the thread's own stack and on one of its own: what it interrupted is there from
/// the first sample on.
#[test]
fn signal_handler() {
    live!(beside);
    for args in [&[][..], &["altstack"][..]] {
        let workload = Workload::start(&program!("signals"), args);
        let recording = record_pid(workload.pid());
        recording.stats().of("signals").assert_whole();
        let in_handler = |stack: &Stack| stack.has("handler_work");
        recording.folded.assert_path("signals", in_handler, &["main", "interrupted_work"]);
        recording.folded.assert_path("signals", in_handler, &["on_alarm", "handler_work"]);
        for stack in recording.folded.stacks.iter().filter(|stack| in_handler(stack)) {
            let place = |name| stack.frames.iter().position(|frame| frame == name);
            let (below, above) = (place("interrupted_work"), place("on_alarm"));
            let between = above.unwrap_or(0).saturating_sub(below.unwrap_or(0));
            assert!(
                (1..=2).contains(&between),
                "only the signal's return stands between: {:?}",
                stack.frames
            );
        }
    }
}

/// A longjmp about to go on has the caller that it goes on to; it was cut there.
#[test]
fn longjmp_goes_on_elsewhere() {
    live!(beside);
    let workload = Workload::start(&program!("leaps"), [""; 0]);
    let recording = record_until(&["-F", "997", "-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("__longjmp")) >= 20
    });
    recording.folded.assert_path("leaps", |stack| stack.has("__longjmp"), &["main", "sets"]);
    recording.stats().of("leaps").assert_whole();
}

/// Where the kernel leads a task on to a signal's handler, the handler's first instruction is not behind
/// a system call's: what ends before it never ran.
#[test]
fn the_kernel_leads_on_to_a_handler() {
    live!(beside);
    let workload = Workload::start(&program!("handed"), [""; 0]);
    let recording = record_until(&["-F", "997", "-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("handles")) >= 50
    });
    assert_eq!(recording.folded.samples(|stack| stack.has("never_runs")), 0);
    recording.folded.assert_path("handed", |stack| stack.has("handles"), &["main", "sends"]);
    recording.stats().of("handed").assert_whole();
}

/// A coroutine's stack ends where it was made to begin, whether a context follows on it or none. What
/// was made to be returned to, as a signal's handler was, has its own name and not what lies before it.
#[test]
fn coroutines() {
    live!();
    let workload = Workload::start(&program!("contexts"), [""; 0]);
    let recording = record_pid(workload.pid());
    let first = |stack: &Stack| stack.has("first_work");
    recording.folded.assert_path("contexts", first, &["__start_context", "first", "first_work"]);
    let second = |stack: &Stack| stack.has("second_work");
    recording.folded.assert_path("contexts", second, &["__start_context", "second"]);
    recording.folded.assert_path("contexts", second, &["__restore_rt", "on_signal", "second_work"]);
    recording.stats().of("contexts").assert_whole();
}

/// No table says where these begin: a fiber by the 0 that it would return to, musl's threads by their code.
#[test]
fn where_fibers_and_threads_begin() {
    live!();
    let workload = Workload::start(&program!("begins"), [""; 0]);
    let recording = record_pid(workload.pid());
    let first = |name: &str, frames: &[&str]| {
        recording.folded.assert_path("begins", |stack| stack.has(name), frames);
        let goes_on = |stack: &Stack| {
            stack.has(name) && stack.frames.iter().position(|frame| frame == frames[0]) > Some(0)
        };
        assert_eq!(recording.folded.samples(goes_on), 0, "{}", recording.folded.summary());
    };
    first("fiber_work", &["fiber", "fiber_work"]);
    first("thread_work", &["new_thread", "thread", "thread_work"]);
    recording.folded.assert_path("begins", |stack| stack.has("main_work"), &["main", "main_work"]);
    recording.stats().of("begins").assert_whole();
}

/// Greenlets share one stack: what the first function of one would return to is others' by now.
#[test]
fn a_stack_that_others_write_over() {
    live!();
    let workload = Workload::start(&program!("borrowed"), [""; 0]);
    let recording = record_pid(workload.pid());
    let first = "greenlet::UserGreenlet::inner_bootstrap(_greenlet*, _object*)";
    recording.folded.assert_path(
        "borrowed",
        |stack| stack.has("greenlet_work()"),
        &[first, "greenlet_work()"],
    );
    recording.stats().of("borrowed").assert_whole();
    let goes_on = |stack: &Stack| stack.frames.iter().position(|frame| frame == first) > Some(0);
    assert_eq!(recording.folded.samples(goes_on), 0, "{}", recording.folded.summary());
}

/// Without symbols the stack is as whole as with them; its names are addresses in the file.
#[test]
fn stripped() {
    live!(beside);
    let workload = Workload::start(&program!("stripped"), ["12"]);
    let recording = record_pid(workload.pid());
    recording.stats().of("stripped").assert_whole();
    for stack in &recording.folded.stacks {
        let ours = stack.frames.iter().filter(|name| name.starts_with("stripped+0x")).count();
        // _start, main, the 12 and the leaf; libc's frames stand between _start and main.
        assert_eq!(ours, 15, "{:?}", stack.frames);
    }
}

/// Inlined callers come from DWARF, in order.
#[test]
fn inlined_three_deep() {
    live!(beside);
    let program = program!("inlines");
    let path = ["main", "real_function", "inlined_one", "inlined_two", "inlined_three"];
    let recording = expect(&program, &[], &path);
    let inlined = |name: &str| {
        recording.folded.stacks.iter().any(|stack| stack.annotated.contains(&format!("{name}_[i]")))
    };
    // Annotations are switchable; where they are on, exactly the inlined are marked so.
    if recording.folded.stacks.iter().any(|stack| stack.annotated != stack.frames) {
        assert!(inlined("inlined_three") && inlined("inlined_one") && !inlined("real_function"));
    }
}

/// Go's own tables, inlining expanded.
#[test]
fn go_inlined_three_deep() {
    live!(beside);
    let workload = Workload::start(&program!("gostacks"), ["inline"]);
    let deep = ["main.inlinedOne", "main.inlinedTwo", "main.inlinedThree"];
    let recording = record_until(&["-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("main.realFunction")) >= 50
    });
    let working = |stack: &Stack| stack.has("main.realFunction") && !in_go_handler(stack);
    recording.folded.assert_path("gostacks", working, &["main.main", "main.realFunction"]);
    let inlined = |stack: &Stack| deep.iter().any(|name| stack.has(name));
    for stack in recording.folded.stacks.iter().filter(|stack| inlined(stack)) {
        let mut path = vec!["main.realFunction"];
        path.extend(deep.iter().copied().take_while(|name| stack.has(name)));
        assert!(stack.has_path(&path), "{:?}", stack.frames);
    }
    assert!(recording.folded.samples(inlined) > 0, "{}", recording.folded.summary());
    assert_whole_but_in_handlers(&recording);
}

/// Go's signals have a stack of their own, also the one that takes a goroutine its turn.
fn in_go_handler(stack: &Stack) -> bool {
    stack.has("runtime.sigtramp")
}

/// As in [`signal_handler`]: what a handler's stack interrupted is cut until its rows are loaded.
fn assert_whole_but_in_handlers(recording: &hotframe_live::Recording) {
    let process = recording.stats().of("gostacks");
    assert_eq!(process.whole + process.cut_samples(), process.samples);
    assert!(process.cut_samples() <= recording.folded.samples(in_go_handler), "{:?}", process.cut);
}

/// A Go leaf without a frame: frame pointers alone would lose its caller.
#[test]
fn go_frameless_leafs_caller() {
    live!(beside);
    let workload = Workload::start(&program!("gostacks"), ["frameless"]);
    let recording = record_pid(workload.pid());
    let path = ["main.main", "main.framelessCaller", "main.framelessLeaf"];
    let in_leaf = |stack: &Stack| stack.has("main.framelessLeaf") && !in_go_handler(stack);
    recording.folded.assert_path("gostacks", in_leaf, &path);
    assert!(recording.folded.samples(in_leaf) * 10 >= recording.folded.of("gostacks") * 9);
    assert_whole_but_in_handlers(&recording);
}

/// A file deleted while it runs, and one whose name another file has taken.
#[test]
fn deleted_and_replaced_while_running() {
    live!(beside);
    let original = program!("recursion");
    let impostor = program!("split");
    for replace in [false, true] {
        let scratch = hotframe_live::Scratch::new();
        let copy = scratch.path("vanishing");
        std::fs::copy(&original, &copy).expect("a copy");
        let workload = Workload::start(&copy, ["3"]);
        std::fs::remove_file(&copy).expect("it is deleted");
        if replace {
            std::fs::copy(&impostor, &copy).expect("another takes its name");
        }
        let recording = record_pid(workload.pid());
        let path = ["main", "even", "odd", "even", "floor_of_it"];
        recording.folded.assert_path("vanishing", all, &path);
        recording.stats().of("vanishing").assert_whole();
    }
}

/// Go's runtime works on the thread's own stack: the goroutine that called it is on another, below.
#[test]
fn go_system_stack() {
    live!(beside);
    let workload = Workload::start(&program!("gostacks"), ["system"]);
    let recording = record_until(&["-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("runtime.systemstack")) >= 50
    });
    // A stack that was cut at the change has nothing before it.
    let working = |stack: &Stack| {
        stack.has("runtime.ReadMemStats.func1")
            && stack.frames.iter().skip(1).any(|name| name == "runtime.systemstack")
    };
    let path = ["main.main", "main.onSystemStack", "runtime.ReadMemStats", "runtime.systemstack"];
    recording.folded.assert_path("gostacks", working, &path);
    let process = recording.stats().of("gostacks");
    // A tick may fall between the runtime's change of stacks and its note of it; and what was walked
    // to its end from a copy of its stack, before the program's rows were there, has only that one.
    let excused = 1 + process.samples / 100 + recording.stats().count("stacks_from_slice");
    assert!(process.cut_samples() <= excused, "{:?} of {}", process.cut, process.samples);
}

/// A goroutine's stack is made larger on the thread's own: who needed it is on the goroutine's.
#[test]
fn go_stack_that_grows() {
    live!(beside);
    let workload = Workload::start(&program!("gostacks"), ["grow"]);
    let copying = |stack: &Stack| stack.has("runtime.copystack");
    let recording = record_until(&["-F", "997", "-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(copying) >= 50
    });
    let (outer, inner) = (
        ["main.growsStack", "main.deepens"],
        ["main.deepens", "runtime.morestack", "runtime.newstack", "runtime.copystack"],
    );
    // What was finished from a copy of its stack is cut there: the goroutine ran meanwhile.
    let whole = recording
        .folded
        .samples(|stack| copying(stack) && stack.has_path(&inner) && stack.has_path(&outer));
    let excused = recording.stats().count("stacks_from_slice");
    let all = recording.folded.samples(copying);
    assert!(whole + excused >= all && whole * 2 > all, "{whole} of {all}, {excused} from slices");
}

/// The race detector is C on the thread's own stack: who is told of is on the goroutine's. Where the
/// detector's leaf does not say any more where that is, the stack is cut.
#[test]
fn go_race_detector() {
    live!(beside);
    let workload = Workload::start(&program!("gorace"), [""; 0]);
    let recording = record_until(&["-p", &workload.pid().to_string()], |recording| {
        recording.folded.samples(|stack| stack.has("racecall")) >= 100
    });
    let detecting = |stack: &Stack| {
        stack.frames.iter().position(|name| name == "racecall").is_some_and(|at| at > 0)
    };
    for stack in recording.folded.stacks.iter().filter(|stack| detecting(stack)) {
        let at = stack.frames.iter().position(|name| name == "racecall").unwrap_or(0);
        assert!(
            stack.frames[..at].iter().any(|name| name.starts_with("main.")),
            "{:?}",
            stack.frames
        );
    }
    let all = recording.folded.samples(|stack| stack.has("racecall"));
    let led_on = recording.folded.samples(detecting);
    // However many of the detector's functions stand between.
    assert!(led_on * 50 >= all * 49, "{led_on} of {all}");
}

/// Go that C calls back: C's frames stand between it and the Go that called C, also where the goroutine's
/// stack was moved meanwhile, and alone where a thread of C's called.
#[test]
fn go_called_by_c() {
    live!(beside);
    let program = program!("gocalls");
    let back = ["runtime.cgocallback", "main.calledByC", "main.worksInGo"];
    let out =
        ["main.callsOut", "runtime.cgocall", "runtime.asmcgocall", "called_by_go", "calledByC"];
    let goroutine: Vec<_> = out.iter().chain(&back).copied().collect();
    let thread: Vec<_> =
        ["thread_of_c", "calls_go", "calledByC"].iter().chain(&back).copied().collect();
    for (mode, path) in [("out", &goroutine), ("moved", &goroutine), ("thread", &thread)] {
        let workload = Workload::start(&program, [mode]);
        let recording = record_pid(workload.pid());
        // Between them stand other functions of Go's runtime in each of its versions.
        let in_order = |stack: &Stack| {
            let mut frames = stack.frames.iter();
            path.iter().all(|name| frames.any(|frame| frame == name))
        };
        let (mut samples, mut interrupted) = (0, 0);
        for stack in recording.folded.stacks.iter().filter(|stack| stack.has("main.worksInGo")) {
            // Go's signals have a stack of their own, and that is all there is of the first samples'.
            if stack.has("__restore_rt") && !in_order(stack) {
                interrupted += stack.count;
                continue;
            }
            assert!(in_order(stack), "{mode}: {:?}", stack.frames);
            samples += stack.count;
        }
        let from_slice = recording.stats().count("stacks_from_slice");
        assert!(interrupted <= from_slice, "{mode}: {interrupted} end at a signal's frame");
        assert!(samples > 0, "{mode}: {}", recording.folded.summary());
        let process = recording.stats().of("gocalls");
        // As in go_system_stack.
        let excused = 1 + process.samples / 100 + from_slice;
        assert!(
            process.cut_samples() <= excused,
            "{mode}: {:?} of {}",
            process.cut,
            process.samples
        );
    }
}

/// Children of fork go on in their parent's image; children of vfork have a new one.
#[test]
fn fork_server_and_vfork() {
    live!(beside);
    let program = program!("forkserver");
    for (how, work, path) in [
        ("fork", "child_work", &["main", "serve", "child_work"][..]),
        ("vfork", "exec_work", &["main", "exec_work"][..]),
    ] {
        let workload = Workload::start(&program, [how]);
        let recording = record_until(&["-p", &workload.pid().to_string()], |recording| {
            recording.folded.samples(|stack| stack.has(work)) >= 50
        });
        recording.folded.assert_path("forkserver", |stack| stack.has(work), path);
        let process = recording.stats().of("forkserver");
        assert!(
            process.cut_samples() * 20 <= process.samples,
            "{how}: more than 5 % cut: {:?} of {}",
            process.cut,
            process.samples
        );
        // Inside of the vfork call the return address is in a register, and nothing on the stack.
        assert_eq!(process.cut.get("bad_unwind_info"), Some(&0), "{how}: {:?}", process.cut);
    }
}

/// A process in mount and pid namespaces of its own, from a file that only it can see.
#[test]
fn own_mount_and_pid_namespace() {
    live!(beside);
    let original = program!("recursion");
    let script = "mount -t tmpfs none /mnt && cp \"$1\" /mnt/hidden && exec /mnt/hidden 4";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]);
    command.arg(&original);
    let workload = Workload::spawn(&mut command);
    let parent = workload.pid();
    wait_for("the program in its namespaces", || {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let child = children.ok()?.split_whitespace().next()?.to_owned();
        let comm = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (comm.trim() == "hidden").then_some(())
    });
    let recording = record_pid(parent);
    let path = ["main", "even", "odd", "even", "odd", "floor_of_it"];
    recording.folded.assert_path("hidden", all, &path);
    recording.stats().of("hidden").assert_whole();
}

/// A 32-bit task's stack is refused by name, not walked by the wrong rules.
#[test]
fn task_of_32_bits_is_named_as_such() {
    live!(beside);
    let program = program!("task32");
    if Command::new(&program).arg("").spawn().map(|mut child| child.kill()).is_err() {
        hotframe_live::skipped("this kernel runs no 32-bit programs");
        return;
    }
    let workload = Workload::start(&program, [""; 0]);
    let recording = record_pid(workload.pid());
    for stack in recording.folded.stacks.iter().filter(|stack| stack.comm == "task32") {
        assert!(
            stack.frames.iter().any(|frame| frame.contains("32-bit")),
            "nothing says that it is a 32-bit task: {:?}",
            stack.frames
        );
    }
    assert!(recording.folded.of("task32") > 0);
}

/// The kernel's frames of a BPF program have its name.
#[test]
fn bpf_program_in_the_kernel() {
    live!(beside);
    let workload = Workload::start(&program!("bpfprog"), [""; 0]);
    let recording = record_pid(workload.pid());
    // On a busy machine it is still being loaded when the recording begins.
    let total = recording.folded.samples(|stack| stack.has_path(&["main", "run_program"]));
    let named = recording.folded.samples(|stack| {
        stack.has_path(&["main", "run_program"])
            && stack
                .frames
                .iter()
                .any(|frame| frame.starts_with("bpf_prog_") && frame.ends_with("_hf_burner"))
    });
    assert!(
        total >= 20 && named * 10 >= total * 9,
        "{named} of {total}:\n{}",
        recording.folded.summary()
    );
}

/// Through the vDSO, which is no file.
#[test]
fn vdso() {
    live!(beside);
    let workload = Workload::start(&program!("vdso"), [""; 0]);
    let recording = record_pid(workload.pid());
    recording.folded.assert_path("vdso", all, &["main", "tell_time"]);
    recording.stats().of("vdso").assert_whole();
}

/// User and kernel frames stand in one stack, the kernel's behind the user's.
#[test]
fn kernel_frames_follow_user_frames() {
    live!(beside);
    let workload = Workload::start(&program!("syscalls"), [""; 0]);
    let recording = record_pid(workload.pid());
    recording.folded.assert_path("syscalls", all, &["main", "read_zeros"]);
    recording.stats().of("syscalls").assert_whole();
    let through = recording.folded.samples(|stack| {
        let place = |wanted: &dyn Fn(&str) -> bool| stack.frames.iter().position(|f| wanted(f));
        let user = place(&|name| name == "read_zeros");
        let kernel = place(&|name| name == "vfs_read");
        user.is_some() && user < kernel
    });
    let total = recording.folded.of("syscalls");
    assert!(through * 10 >= total * 8, "{through} of {total}:\n{}", recording.folded.summary());
}

/// Threads have their names and only their own frames.
#[test]
fn threads_by_name() {
    live!(beside);
    let workload = Workload::start(&program!("threads"), [""; 0]);
    let recording = record_until(&["-p", &workload.pid().to_string()], |recording| {
        recording.folded.of("worker-red") >= 20 && recording.folded.of("worker-blue") >= 20
    });
    recording.folded.assert_path("worker-red", all, &["start_red", "red_work"]);
    recording.folded.assert_path("worker-blue", all, &["start_blue", "blue_work"]);
    recording.stats().of("threads").assert_whole();
}

/// C++ and Rust names are demangled.
#[test]
fn names_are_demangled() {
    live!(beside);
    let path = [
        "main",
        "shapes::Circle<int>::area(double) const",
        "(anonymous namespace)::integrate(double)",
    ];
    expect(&program!("overloads"), &[], &path);
    let path = ["rusty::main", "rusty::outer", "<rusty::Engine as rusty::Turn>::turn"];
    expect(&program!("rusty"), &[], &path);
}

/// The walk agrees, frame by frame, with an unwinder that is not ours.
#[test]
fn audit_agrees() {
    live!(beside);
    let workload = Workload::start(&program!("recursion"), ["40"]);
    let args = ["-F", "997", "-p", &workload.pid().to_string(), "--audit", "20"];
    let recording = record_until(&args, |recording| recording.stats().count("audit.checked") >= 20);
    let stats = recording.stats();
    assert_eq!(stats.count("audit.agreed"), stats.count("audit.checked"), "{}", stats.0["audit"]);
}

/// Go has its functions in `.debug_frame`: what is walked by the table that Go uses agrees with that.
#[test]
fn audit_agrees_on_go() {
    live!(beside);
    let workload = Workload::start(&program!("gostacks"), ["inline"]);
    let args = ["-F", "997", "-p", &workload.pid().to_string(), "--audit", "20"];
    let recording = record_until(&args, |recording| recording.stats().count("audit.checked") >= 20);
    let stats = recording.stats();
    assert_eq!(stats.count("audit.agreed"), stats.count("audit.checked"), "{}", stats.0["audit"]);
}

/// A process that is about to be gone has no user stack left: nothing is compared, least of all with
/// the registers of a sample before.
#[test]
fn audit_leaves_out_who_has_no_stack() {
    live!(beside);
    let hoard = program!("hoard");
    let args = ["-F", "997", "--audit", "100000", "--", hoard.to_str().expect("a path"), "20"];
    let recording = record(args);
    let stats = recording.stats();
    let (checked, agreed) = (stats.count("audit.checked"), stats.count("audit.agreed"));
    assert!(checked > 500 && (checked - agreed) * 500 <= checked, "{}", stats.0["audit"]);
}

/// The names that a debugger gives the same program's live stack are ours, in the same order.
#[test]
fn gdb_gives_the_same_stack() {
    live!(beside);
    if !hotframe_live::has_program("gdb") {
        hotframe_live::skipped("needs gdb");
        return;
    }
    let workload = Workload::start(&program!("recursion"), ["20"]);
    let recording = record_pid(workload.pid());
    let pid = workload.pid().to_string();
    let backtrace = run("gdb", ["-q", "-batch", "-nx", "-p", &pid, "-ex", "bt"]);
    let mut path: Vec<&str> = backtrace
        .lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| {
            let name = line.split_once(" in ").map_or_else(
                || line.split_whitespace().nth(1),
                |(_, rest)| rest.split_whitespace().next(),
            )?;
            Some(name)
        })
        .take_while(|name| !name.starts_with("__libc_start"))
        .collect();
    path.reverse();
    assert_eq!(path.len(), 22, "main, 20 calls and the leaf:\n{backtrace}");
    recording.folded.assert_path("recursion", all, &path);
}
