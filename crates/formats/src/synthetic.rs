//! Made-up profiles for tests and benches of whatever reads a [`Profile`]: the same on each run.
//!
//! [`small`] has one of everything, names that attack each format among it; [`large`] has as many
//! stacks as asked for.

use hotframe_core::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Meta, Process, Profile,
};

use crate::assemble::{Assembler, Row};
use crate::{Error, Limits};

/// Names that break a format which does not escape: separators, markup, quotes, control
/// characters, right-to-left text and overrides, a count at the end, nothing at all.
pub const HOSTILE_NAMES: [&str; 12] = [
    "semi;colon",
    "new\nline\r\nand\ttab",
    "<script>alert(\"x\")</script>",
    "</title><!--",
    "a && b 'quoted' \\ back",
    "nul\0 esc\u{1b}[31m del\u{7f}",
    "\u{202e}txet detrever\u{202c} \u{2028}\u{2029}",
    "שלום עולם",
    "trailing count 42",
    " spaces at both ends ",
    "emoji 🔥 and a combining e\u{301}",
    "",
];

/// One of everything: each kind, inlined runs, heuristic and unnamed frames, cut stacks, three
/// processes (two of them one pid, before and after an exec), a thread that changes its name,
/// heavy samples, an empty stack, two samples in one nanosecond, and [`HOSTILE_NAMES`].
pub fn small() -> Profile {
    build_small().unwrap_or_default()
}

/// How large a profile to make.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Processes.
    pub processes: u32,
    /// Threads of each process.
    pub threads: u32,
    /// Distinct stacks.
    pub stacks: u32,
    /// Frames of each stack.
    pub depth: u32,
    /// Samples.
    pub samples: u32,
}

/// A profile of that shape. Stacks share their outer halves, as real ones do; names are of the
/// length that C++ and Rust names have.
pub fn large(shape: &Shape) -> Profile {
    build_large(shape).unwrap_or_default()
}

fn meta(duration_ns: u64) -> Meta {
    Meta {
        start_unix_ns: 1_767_225_600_000_000_000,
        duration_ns,
        period_ns: 1_000_000_000 / 99,
        host: "host.example".into(),
        kernel: "6.12.0".into(),
        arch: "x86_64".into(),
        command: "hotframe record -d 10".into(),
        producer: "hotframe 0.1.0".into(),
        n_cpus: 4,
        ..Meta::default()
    }
}

fn build_small() -> Result<Profile, Error> {
    let mut a = Assembler::new("synthetic", Limits::default());
    a.profile.meta = meta(2_000_000_000);
    let kernel = a.module("[kernel.kallsyms]", "8f1f0ea2d5ff1c2d0c4b1f5b0c7f5a3e1c0d9b77");
    let libc =
        a.module("/usr/lib/x86_64-linux-gnu/libc.so.6", "58749c528985eab03e6700ebc1469fa50aa41219");
    let app = a.module("/usr/bin/app", "0123456789abcdef0123456789abcdef01234567");
    let go = a.module("/opt/go tool", "Xa9/Yb8/Zc7-d6");
    let bare = a.module("/opt/plugin;with\"odd'<name>.so", "");

    let function = |a: &mut Assembler, kind, module, name: &str, file: &str, start_line| {
        let function = Function {
            name: a.string(name),
            system_name: 0,
            file: a.string(file),
            start_line,
            module,
            kind,
        };
        a.function(function)
    };
    let frame = |a: &mut Assembler, function, line, address, flags| {
        a.frame(Frame { function, line, address, flags })
    };
    let push = |a: &mut Assembler, outer_first: &[u32]| -> Result<u32, Error> {
        let mut at = 0;
        for &frame in outer_first {
            at = a.node(at, frame)?;
        }
        Ok(at)
    };

    let f = function(&mut a, Kind::Native, libc, "__libc_start_main", "", 0);
    let start = frame(&mut a, f, 0, 0x29d90, 0);
    let f = function(&mut a, Kind::Native, app, "main", "src/main.cc", 10);
    let main = frame(&mut a, f, 14, 0x1180, 0);
    let main_below = frame(&mut a, f, 21, 0x11c4, 0);
    let name = a.string("app::Engine::run(std::vector<int> const&)");
    let system_name = a.string("_ZN3app6Engine3runERKSt6vectorIiSaIiEE");
    let file = a.string("src/engine.cc");
    let f = a.function(Function {
        name,
        system_name,
        file,
        start_line: 40,
        module: app,
        kind: Kind::Native,
    });
    let run = frame(&mut a, f, 55, 0x1300, 0);
    let f = function(&mut a, Kind::Native, app, "app::hash", "src/hash.h", 7);
    let hash = frame(&mut a, f, 9, 0x1300, FRAME_INLINED);
    let f = function(&mut a, Kind::Native, app, "app::rotate", "src/hash.h", 3);
    let rotate = frame(&mut a, f, 4, 0x1300, FRAME_INLINED);
    let f = function(
        &mut a,
        Kind::Rust,
        app,
        "<app::Parser as core::iter::Iterator>::next",
        "src/parser.rs",
        88,
    );
    let next = frame(&mut a, f, 93, 0x2400, FRAME_HEURISTIC);
    let f = function(&mut a, Kind::Kernel, kernel, "entry_SYSCALL_64_after_hwframe", "", 0);
    let entry = frame(&mut a, f, 0, 0xffff_ffff_8120_0076, 0);
    let f = function(&mut a, Kind::Kernel, kernel, "do_sys_poll", "", 0);
    let poll = frame(&mut a, f, 0, 0xffff_ffff_813a_1c00, 0);
    let f = function(&mut a, Kind::Native, bare, "plugin;with\"odd'<name>.so+0x77", "", 0);
    let unnamed = frame(&mut a, f, 0, 0x77, FRAME_UNNAMED);
    let f = function(&mut a, Kind::Native, libc, "libc.so.6+0x9f000", "", 0);
    let unnamed_libc = frame(&mut a, f, 0, 0x9f000, FRAME_UNNAMED);
    let f = function(&mut a, Kind::Go, go, "main.(*Server).serve", "/src/serve.go", 30);
    let serve = frame(&mut a, f, 31, 0x48_1000, 0);
    let f = function(&mut a, Kind::Jit, 0, "jitted_blob", "", 0);
    let jit = frame(&mut a, f, 0, 0x7f00_0000_1000, 0);
    let f = function(&mut a, Kind::Note, 0, "stack_unreadable", "", 0);
    let note = frame(&mut a, f, 0, 0, 0);

    let app_process = {
        let (comm, exe, cgroup) =
            (a.string("app"), a.string("/usr/bin/app"), a.string("/system.slice/app.service"));
        a.process(Process { pid: 100, comm, exe, cgroup, ..Process::default() })
    };
    let shell = {
        let (comm, exe) = (a.string("sh"), a.string("/usr/bin/dash"));
        a.process(Process { pid: 200, comm, exe, ..Process::default() })
    };
    let tool = {
        let (comm, exe, cgroup) = (
            a.string("go tool"),
            a.string("/opt/go tool"),
            a.string("/docker/3f4c1b2a9d8e7f60515243342526171809fafbfcfdfeff000102030405060708"),
        );
        a.process(Process { pid: 200, comm, exe, cgroup, ..Process::default() })
    };
    let comm = a.string("app");
    let main_thread = a.thread(app_process, 100, comm);
    let comm = a.string("io;worker\n1");
    let worker = a.thread(app_process, 101, comm);
    let comm = a.string("io-worker-renamed");
    let renamed = a.thread(app_process, 101, comm);
    let comm = a.string("sh");
    let shell_thread = a.thread(shell, 200, comm);
    let comm = a.string("go tool");
    let tool_thread = a.thread(tool, 200, comm);

    let inlined = push(&mut a, &[start, main, run, hash, rotate])?;
    let shorter = push(&mut a, &[start, main_below, run])?;
    let kernel_stack = push(&mut a, &[start, main, entry, poll])?;
    let cut = push(&mut a, &[note, next, unnamed])?;
    let unnamed_leaf = push(&mut a, &[start, main, unnamed_libc])?;
    let go_stack = push(&mut a, &[serve, serve, jit])?;

    let mut time_ns = 1_000;
    let mut add = |a: &mut Assembler, thread, stack, cpu, cut, weight| {
        time_ns += 10_101_010;
        a.sample(Row { time_ns, thread, stack, cpu, cut, weight })
    };
    for _ in 0..3 {
        add(&mut a, main_thread, inlined, 0, 0, 1)?;
        add(&mut a, worker, kernel_stack, 1, 0, 1)?;
    }
    add(&mut a, main_thread, shorter, 2, 0, 5)?;
    add(&mut a, renamed, cut, 3, hotframe_abi::HF_CUT_STACK_UNREADABLE as u8, 2)?;
    add(&mut a, shell_thread, unnamed_leaf, 0, 0, 1)?;
    add(&mut a, tool_thread, go_stack, 1, hotframe_abi::HF_CUT_TOO_DEEP as u8, 1)?;
    add(&mut a, shell_thread, 0, 0, hotframe_abi::HF_CUT_PROCESS_GONE as u8, 1)?;
    for (i, name) in HOSTILE_NAMES.iter().enumerate() {
        let kind = Kind::ALL[i + 2];
        let f = function(&mut a, kind, 0, name, "dir/odd <file>&\"'.py", i as u32);
        let odd = frame(&mut a, f, 100 + i as u32, 0, 0);
        let stack = push(&mut a, &[start, main, odd])?;
        add(&mut a, main_thread, stack, 0, 0, 1)?;
    }
    let twin = Row {
        time_ns: 1_900_000_000,
        thread: main_thread,
        stack: shorter,
        cpu: 0,
        cut: 0,
        weight: 1,
    };
    a.sample(twin)?;
    a.sample(Row { thread: worker, stack: kernel_stack, cpu: 1, ..twin })?;
    a.count_processes();
    a.profile.stats = serde_json::json!({
        "samples_taken": 30, "samples_lost": {"ring_full": 0}, "agent": {"cpu_user_seconds": 0.25}
    })
    .to_string();
    Ok(a.profile)
}

fn build_large(shape: &Shape) -> Result<Profile, Error> {
    let mut a = Assembler::new("synthetic", Limits::default());
    let step_ns = 10_101_010 / 4;
    a.profile.meta = meta(u64::from(shape.samples) * step_ns + 1);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |n: u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % u64::from(n.max(1))) as u32
    };
    let kinds =
        [Kind::Native, Kind::Native, Kind::Rust, Kind::Go, Kind::Jvm, Kind::Cpython, Kind::Kernel];
    let n_functions = (shape.stacks / 8).clamp(16, 20_000);
    let mut frames = Vec::new();
    for i in 0..n_functions {
        let module =
            a.module(&format!("/usr/lib/libsynthetic{}.so", i % 40), &format!("{:040x}", i % 40));
        let kind = kinds[i as usize % kinds.len()];
        let name = a.string(&format!(
            "project::component{}::Class{}<int, std::string>::method_number_{i}(unsigned long)",
            i % 17,
            i % 211
        ));
        let file = a.string(&format!("src/component{}/class{}.cc", i % 17, i % 211));
        let function =
            a.function(Function { name, system_name: 0, file, start_line: i, module, kind });
        for call in 0..2 {
            frames.push(a.frame(Frame {
                function,
                line: i + call,
                address: u64::from(i) * 64 + u64::from(call) * 8,
                flags: 0,
            }));
        }
    }
    let mut stacks = Vec::new();
    for i in 0..shape.stacks {
        // The outer half is that of an earlier stack, walked up from its leaf.
        let mut at = match i {
            0 => 0,
            _ => stacks[below(i) as usize],
        };
        let keep = shape.depth / 2 + below(shape.depth / 2);
        let drop = if i == 0 { 0 } else { shape.depth.saturating_sub(keep) };
        for _ in 0..drop {
            at = a.profile.stacks[at as usize].parent;
        }
        let have = if i == 0 { 0 } else { shape.depth - drop };
        for _ in have..shape.depth {
            let frame = frames[below(frames.len() as u32) as usize];
            at = a.node(at, frame)?;
        }
        stacks.push(at);
    }
    let mut threads = Vec::new();
    for p in 0..shape.processes.max(1) {
        let (comm, exe) = (a.string(&format!("proc-{p}")), a.string(&format!("/usr/bin/proc-{p}")));
        let process = a.process(Process { pid: 1000 + p * 100, comm, exe, ..Process::default() });
        for t in 0..shape.threads.max(1) {
            let comm = a.string(&format!("thread-{t}"));
            threads.push(a.thread(process, 1000 + p * 100 + t, comm));
        }
    }
    for i in 0..shape.samples {
        // Each stack once, then at random, the first ones more often.
        let stack = match i {
            i if i < shape.stacks => i,
            _ => {
                let first = below(shape.stacks);
                below(first + 1)
            }
        };
        a.sample(Row {
            time_ns: u64::from(i) * step_ns,
            thread: threads[below(threads.len() as u32) as usize],
            stack: stacks.get(stack as usize).copied().unwrap_or(0),
            cpu: (i % 4) as u16,
            cut: 0,
            weight: 1,
        })?;
    }
    a.count_processes();
    a.profile.stats = "{}".to_owned();
    Ok(a.profile)
}
