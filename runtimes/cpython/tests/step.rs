//! The step, compiled natively, over a process that is made up: a loop that C calls and that calls C,
//! and Python frames in the heap, in each way in which versions bind them together.
#![forbid(unsafe_code)]

use hotframe_abi as abi;
use hotframe_core::tables::{OwnMemory, Tables};
use hotframe_core::walk::{ReadUser, Stop, Walk};
use hotframe_cpython::abi::{
    HF_CPYTHON_ENTRY, HF_CPYTHON_LOST_FRAME_UNREADABLE, HF_CPYTHON_LOST_LATE,
    HF_CPYTHON_LOST_NO_THREAD, HF_CPYTHON_NO_POSITION, HF_CPYTHON_ONE, HF_CPYTHON_POSITION_BITS,
    HF_CPYTHON_SHIM, hf_cpython_gap, hf_cpython_proc,
};
use std::collections::BTreeMap;
use zerocopy::{FromZeros as _, IntoBytes as _};

/// The program: C functions, the loop in the middle, and where a thread begins.
const IMAGE: u64 = 0x40_0000;
const C_CODE: u64 = IMAGE + 0x100;
const LOOP: u64 = IMAGE + 0x4000;
const LOOP_END: u64 = IMAGE + 0x5000;
const START: u64 = IMAGE + 0x8000;
const END: u64 = IMAGE + 0x9000;
/// Code that the JIT compiler made.
const JIT: u64 = 0x4000_0000;
const JIT_END: u64 = JIT + 0x1000;

const STACK: u64 = 0x7fff_0000_0000;
const TP: u64 = 0x7f00_0000_1000;
const STATE: u64 = 0x5000_0000;
const FRAMES: u64 = 0x5100_0000;
const CODES: u64 = 0x5200_0000;
const BYTECODE: u64 = 128;

/// Bytes of a process; what was not written reads as zeros within `mapped`.
#[derive(Default, Clone)]
struct Process {
    words: BTreeMap<u64, u64>,
    unmapped: Vec<std::ops::Range<u64>>,
    /// Reads so far, and the one that fails: the kernel moves its page at that moment.
    reads: usize,
    failing: Option<usize>,
}

impl Process {
    fn put(&mut self, at: u64, word: u64) {
        assert_eq!(at % 8, 0);
        self.words.insert(at, word);
    }
}

impl ReadUser for Process {
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
        let end = addr.saturating_add(into.len() as u64);
        self.reads += 1;
        if self.failing == Some(self.reads) {
            return false;
        }
        if addr < 4096 || self.unmapped.iter().any(|gone| gone.start < end && addr < gone.end) {
            return false;
        }
        for (at, byte) in (addr..).zip(into) {
            let word = self.words.get(&(at & !7)).copied().unwrap_or_default();
            *byte = word.to_le_bytes()[(at & 7) as usize];
        }
        true
    }
}

/// A Python frame: code number, position, mark.
#[derive(Clone, Copy)]
struct Python(u64, u64, u8);

fn proc(activation: u32) -> hf_cpython_proc {
    let mut proc = hf_cpython_proc::new_zeroed();
    proc.runtime = abi::HF_RUNTIME_CPYTHON;
    proc.activation = activation;
    proc.chains[0].n = 2;
    proc.chains[0].offsets[..2].copy_from_slice(&[0x338, 24]);
    proc.frame_bytes = 40;
    proc.code_bytes = 64;
    proc.code_off = 0;
    proc.previous_off = 8;
    proc.position_off = 16;
    proc.mark_off = 24;
    proc.mark = if activation == HF_CPYTHON_SHIM { 3 } else { 1 };
    proc.bytecode_off = BYTECODE as u16;
    (proc.name_off, proc.file_off, proc.first_line_off) = (48, 56, 44);
    proc.cookie_offs = [16, 24, 32, 40];
    proc
}

/// A process whose thread's innermost frame is the first of `frames`.
fn process(frames: &[Python]) -> Process {
    let mut process = Process::default();
    process.put(TP + 0x338, STATE);
    process.put(STATE + 24, FRAMES);
    for (n, &Python(code, position, mark)) in frames.iter().enumerate() {
        let at = FRAMES + n as u64 * 64;
        let code = CODES + code * 256;
        process.put(at, code);
        process.put(at + 8, if n + 1 < frames.len() { at + 64 } else { 0 });
        process.put(at + 16, (code + BYTECODE).wrapping_add(position.wrapping_mul(2)));
        process.put(at + 24, mark.into());
        process.put(code + 16, code ^ 0x55);
    }
    process
}

/// The stack: pcs from the leaf on, each with its frame pointer; the last is where the thread began.
fn walk(process: &mut Process, proc: &hf_cpython_proc, pcs: &[u64], late: bool) -> (Walk, Stop) {
    let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
    let file_off = tables.add_file(1, 1).expect("room");
    let row = |pc: u64, kind: u32| abi::hf_row {
        pc: (pc - IMAGE) as u16,
        kind: kind as u8,
        fp: -2,
        cfa: 16,
    };
    let rows = [row(IMAGE, abi::HF_RULE_FP), row(START, abi::HF_RULE_END)];
    let table = tables.add_table(abi::HF_RUNTIME_CPYTHON, proc.as_bytes()).expect("room");
    let mapping = |start: u64, end: u64, runtime_off: u32| abi::hf_mapping {
        start,
        end,
        image: IMAGE,
        file_id: 1,
        file_off,
        runtime_off,
        reserved: 0,
    };
    let blob = tables
        .add_blob(
            &[
                mapping(IMAGE, LOOP, 0),
                mapping(LOOP, LOOP_END, table.off),
                mapping(LOOP_END, END, 0),
                abi::hf_mapping {
                    image: JIT,
                    file_id: 0,
                    file_off: 0,
                    ..mapping(JIT, JIT_END, table.off)
                },
            ],
            0,
        )
        .expect("room");
    for (n, &pc) in pcs.iter().enumerate().skip(1) {
        let frame = STACK + n as u64 * 64;
        process.put(frame, frame + 64);
        process.put(frame + 8, pc);
    }
    let mut regs = [0; abi::HF_NREGS as usize];
    regs[abi::HF_X86_PC as usize] = pcs[0];
    regs[abi::HF_X86_RSP as usize] = STACK;
    regs[abi::HF_X86_RBP as usize] = STACK + 64;
    let mut walk = Walk::new(false, &regs, true, false, &[], 0)
        .with_runtimes(TP, &[0; hotframe_abi::HF_RUNTIME_STATE_WORDS as usize]);
    if late {
        walk = walk.late();
    }
    // The first frame's rows are missed, as in any walk that is the first.
    let stop = walk.run(tables.memory(), blob.off, process);
    assert!(matches!(stop, Stop::Missing { .. } | Stop::Ended { .. }));
    assert!(tables.add_block(1, 0, &rows, &[]));
    let stop = match stop {
        Stop::Missing { .. } => walk.run(tables.memory(), blob.off, process),
        ended => ended,
    };
    (walk, stop)
}

/// The walk's frames as text: `c`, `loop`, `start`, and Python frames as number:position.
fn text(walk: &Walk) -> String {
    let mut words = walk.words().iter().copied();
    let mut text = Vec::new();
    while let Some(word) = words.next() {
        let word = abi::FrameWord(word);
        if word.kind() == abi::HF_FRAME_DYNAMIC {
            assert_eq!(word.runtime(), abi::HF_RUNTIME_CPYTHON);
            assert_eq!(word.n_data_words(), 1);
            let data = words.next().expect("its data");
            let code = data >> HF_CPYTHON_POSITION_BITS << 3;
            let position = data & u64::from(HF_CPYTHON_NO_POSITION);
            text.push(format!("{}:{position}", (code - CODES) / 256));
        } else if word.kind() == abi::HF_FRAME_USER_PC {
            text.push("jitted".to_owned());
        } else {
            let at = IMAGE + u64::from(word.image_offset());
            let is_loop = (LOOP..LOOP_END).contains(&at);
            assert_eq!(word.flags() & abi::HF_FRAME_RUNS_RUNTIME != 0, is_loop);
            text.push(
                if is_loop {
                    "loop"
                } else if at < LOOP {
                    "c"
                } else {
                    "start"
                }
                .to_owned(),
            );
        }
    }
    text.join(" ")
}

const NESTED: [u64; 6] = [C_CODE, LOOP + 0x80, C_CODE, LOOP + 0x80, C_CODE, START + 1];

fn check(activation: u32, frames: &[Python], expected: &str) {
    let (walk, stop) = walk(&mut process(frames), &proc(activation), &NESTED, false);
    assert_eq!(text(&walk), expected);
    assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
    assert_eq!(walk.lost(), (0, 0));
}

/// Up to 3.10 each run of the loop has one frame.
#[test]
fn one_frame_a_loop() {
    let frames = [Python(1, 4, 0), Python(2, 7, 0)];
    check(HF_CPYTHON_ONE, &frames, "c 1:5 loop c 2:8 loop c start");
}

/// 3.11: up to the frame that entered.
#[test]
fn frames_up_to_the_entry() {
    let frames =
        [Python(1, 0, 0), Python(2, 1, 1), Python(3, 2, 0), Python(4, 3, 0), Python(5, 4, 1)];
    check(HF_CPYTHON_ENTRY, &frames, "c 1:1 2:2 loop c 3:3 4:4 5:5 loop c start");
}

/// From 3.12 on a call of a class may have a frame of the interpreter's own before that of __init__,
/// whose code has one object for its name and its file and begins on line 0, or on -1: it is left out.
/// A function that is named as its file is, and one without a line, are not.
#[test]
fn what_is_the_interpreters_own_is_left_out() {
    const NAME: u64 = 0x5300_0000;
    let shim = Python(0, 0, 3);
    let frames = [Python(1, 4, 0), Python(2, 1, 0), Python(3, 7, 0), shim, Python(4, 2, 0), shim];
    let line = |line: i32| u64::from(line as u32) << 32;
    for (file, first_line, is_own) in
        [(NAME, 0, true), (NAME, -1, true), (NAME, 1, false), (NAME + 64, 0, false), (0, 0, false)]
    {
        let mut process = process(&frames);
        let code = CODES + 2 * 256;
        process.put(code + 48, NAME);
        process.put(code + 56, file);
        process.put(code + 40, line(first_line));
        let (walk, stop) = walk(&mut process, &proc(HF_CPYTHON_SHIM), &NESTED, false);
        let within = if is_own { "c 1:5 3:8" } else { "c 1:5 2:2 3:8" };
        assert_eq!(text(&walk), format!("{within} loop c 4:3 loop c start"));
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost(), (0, 0));
    }
}

/// Where the loop is the leaf its rows are missed when its frames are there already: they are not
/// emitted again.
#[test]
fn a_loop_whose_rows_are_missed() {
    let pcs = [LOOP + 0x80, C_CODE, LOOP + 0x80, C_CODE, START + 1];
    let one = [Python(1, 4, 0), Python(2, 7, 0)];
    let entered = [Python(1, 4, 1), Python(2, 7, 1)];
    let shims = [Python(1, 4, 0), Python(0, 0, 3), Python(2, 7, 0), Python(0, 0, 3)];
    for (activation, frames) in
        [(HF_CPYTHON_ONE, &one[..]), (HF_CPYTHON_ENTRY, &entered), (HF_CPYTHON_SHIM, &shims)]
    {
        let (walk, stop) = walk(&mut process(frames), &proc(activation), &pcs, false);
        assert_eq!(text(&walk), "1:5 loop c 2:8 loop c start");
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost(), (0, 0));
    }
}

/// One read that fails, whichever it is, moves no frame into another's run of the loop, and what is
/// missing for it is counted.
#[test]
fn one_read_fails() {
    let one = [Python(1, 4, 0), Python(2, 7, 0)];
    let entered = [Python(1, 0, 0), Python(2, 1, 1), Python(3, 2, 0), Python(4, 3, 1)];
    let shims = [Python(1, 4, 0), Python(0, 0, 3), Python(2, 7, 0), Python(0, 0, 3)];
    for (activation, frames) in
        [(HF_CPYTHON_ONE, &one[..]), (HF_CPYTHON_ENTRY, &entered), (HF_CPYTHON_SHIM, &shims)]
    {
        let n_counted = each_read_fails(&process(frames), &proc(activation));
        assert!(n_counted > 4, "{n_counted} reads matter");
    }
}

/// Each read in turn fails; how many of them were counted.
fn each_read_fails(process: &Process, proc: &hf_cpython_proc) -> usize {
    let mut undisturbed = process.clone();
    let (all, _) = walk(&mut undisturbed, proc, &NESTED, false);
    let all = text(&all);
    let mut n_counted = 0;
    for failing in 1..=undisturbed.reads {
        let mut disturbed = process.clone();
        disturbed.failing = Some(failing);
        let (walk, stop) = walk(&mut disturbed, proc, &NESTED, false);
        let text = text(&walk);
        let is_counted = walk.lost() != (0, 0) || !matches!(stop, Stop::Ended { cut: 0, .. });
        n_counted += usize::from(is_counted);
        assert!(text == all || is_counted, "read {failing}: {text}, whole is {all}");
        // Without some of the frames, and all others in their order.
        let mut rest = all.split(' ');
        let is_part = text.split(' ').all(|frame| rest.any(|of_all| of_all == frame));
        assert!(is_part, "read {failing}: {text} is not of {all}");
    }
    n_counted
}

/// Two generators that wait while an exception is thrown into a third, in 3.11: each has the mark of
/// a run's outermost frame, and the run further out had come to the first of them.
#[test]
fn waiting_generators_of_3_11() {
    const GENERATOR: u64 = 1 << 8;
    const CFRAMES: [u64; 3] = [STACK + 96, STACK + 224, STATE + 512];
    let frames =
        [Python(1, 4, 1), Python(2, 5, 1), Python(3, 6, 1), Python(4, 7, 0), Python(5, 8, 1)];
    let mut proc = proc(HF_CPYTHON_ENTRY);
    (proc.chains[0].n, proc.chains[0].n_to_state, proc.chains[0].stack_off) = (3, 1, 48);
    proc.chains[0].offsets[..3].copy_from_slice(&[0x338, 48, 8]);
    (proc.owner_off, proc.cframe_previous_off, proc.cframe_frame_off) = (25, 16, 8);
    let frame = |n: u64| FRAMES + n * 64;
    for n_waiting in 0..3 {
        let mut process = process(&frames);
        process.put(STATE + 48, CFRAMES[0]);
        // The innermost run is that of the frame before those that wait.
        for (n, at) in CFRAMES.into_iter().enumerate() {
            process.put(at + 8, [frame(0), frame(1), 0][n]);
            process.put(at + 16, CFRAMES.get(n + 1).copied().unwrap_or_default());
        }
        // Without those that wait there is one generator: the innermost.
        for n in 0..=n_waiting {
            process.put(frame(n) + 24, 1 | GENERATOR);
        }
        for n in n_waiting + 1..4 {
            process.put(frame(n) + 24, 0);
        }
        let (walk, stop) = walk(&mut process.clone(), &proc, &NESTED, false);
        assert_eq!(text(&walk), "c 1:5 loop c 2:6 3:7 4:8 5:9 loop c start", "{n_waiting}");
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost(), (0, 0));
        each_read_fails(&process, &proc);
    }
}

/// The same in 3.10, where they say that they execute and have their stack of values, at a `yield
/// from`. A run that is traced has one too: line by line at any other place, and where it is resumed
/// it does not say yet that it executes.
#[test]
fn waiting_generators_of_3_10() {
    const TEXT: u64 = CODES + 0x10_0000;
    const YIELD_FROM: u64 = 72;
    const SUSPENDED: u64 = 0xff;
    let mut proc = proc(HF_CPYTHON_ONE);
    (proc.generator_off, proc.depth_off, proc.state_off) = (32, 28, 25);
    (proc.text_off, proc.text_bytes_off) = (48, 32);
    let waiting = (1, 2, 0, YIELD_FROM);
    for (middle, outer, expected) in [
        (waiting, waiting, "c 1:5 loop c 2:6 3:7 4:8 loop c start"),
        // No generator; running; resumed; at another instruction.
        (waiting, (0, 2, 0, YIELD_FROM), "c 1:5 loop c 2:6 3:7 loop c start"),
        (waiting, (1, -1, 0, YIELD_FROM), "c 1:5 loop c 2:6 3:7 loop c start"),
        (waiting, (1, 1, SUSPENDED, YIELD_FROM), "c 1:5 loop c 2:6 3:7 loop c start"),
        (waiting, (1, 1, 0, YIELD_FROM + 1), "c 1:5 loop c 2:6 3:7 loop c start"),
        ((1, -1, 0, YIELD_FROM), waiting, "c 1:5 loop c 2:6 loop c start"),
    ] {
        let frames = [Python(1, 4, 0), Python(2, 5, 0), Python(3, 6, 0), Python(4, 7, 0)];
        let mut process = process(&frames);
        for (n, (generator, depth, state, next)) in [(1, middle), (2, outer)] {
            let (frame, bytecode) = (FRAMES + n * 64, TEXT + n * 256);
            process.put(frame + 24, state << 8 | u64::from(i32::cast_unsigned(depth)) << 32);
            process.put(frame + 32, generator);
            process.put(CODES + (n + 1) * 256 + 48, bytecode);
            // Behind its position.
            let at = bytecode + 32 + 2 * (n + 5);
            process.put(at & !7, next << (at % 8 * 8));
        }
        let (walk, stop) = walk(&mut process.clone(), &proc, &NESTED, false);
        assert_eq!(text(&walk), expected);
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost(), (0, 0));
        each_read_fails(&process, &proc);
    }
}

/// From 3.12 on: up to the loop's own frame, which is none.
#[test]
fn frames_up_to_the_shim() {
    let frames =
        [Python(1, 0, 0), Python(2, 1, 1), Python(0, 0, 3), Python(3, 2, 0), Python(0, 0, 3)];
    check(HF_CPYTHON_SHIM, &frames, "c 1:1 2:2 loop c 3:3 loop c start");
}

/// Greenlets take turns on one stack: while one is put there, the state still leads to the frames of
/// the one before, whose run of the loop is not of this stack. None is taken for another's.
#[test]
fn frames_of_another_stack() {
    const STACK_OFF: u64 = 48;
    let frames = [Python(1, 4, 1), Python(2, 7, 1)];
    let mut proc = proc(HF_CPYTHON_ENTRY);
    proc.chains[0].n_to_state = 1;
    proc.chains[0].stack_off = STACK_OFF as u16;
    // The loop that was entered last has its native frame from 80 bytes up the stack to 144.
    for (leads_to, expected, is_lost) in [
        (STACK + 80, "c 1:5 loop c 2:8 loop c start", false),
        (STACK + 136, "c 1:5 loop c 2:8 loop c start", false),
        (STACK + 144, "c loop c loop c start", true),
        (STACK + 72, "c loop c loop c start", true),
        (STATE + 200, "c loop c loop c start", true),
    ] {
        let mut process = process(&frames);
        process.put(STATE + STACK_OFF, leads_to);
        let (walk, stop) = walk(&mut process, &proc, &NESTED, false);
        assert_eq!(text(&walk), expected, "{leads_to:#x}");
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost() != (0, 0), is_lost, "{leads_to:#x}");
    }
}

/// What is before the first instruction, and what does not lie in the code object.
#[test]
fn positions_at_the_edges() {
    let frames = [Python(1, u64::MAX, 0), Python(2, 1 << 30, 0)];
    check(HF_CPYTHON_ONE, &frames, "c 1:0 loop c 2:1048575 loop c start");
}

/// 900 calls as 3.6 has them on the native stack, three functions each: more words than a record of
/// the kernel half holds, and whole.
#[test]
fn nine_hundred_calls_are_whole() {
    let frames: Vec<Python> = (0..900).map(|n| Python(n, 1, 0)).collect();
    let mut pcs = Vec::new();
    for _ in 0..900 {
        pcs.extend([LOOP + 0x80, C_CODE, C_CODE]);
    }
    pcs.push(START + 1);
    let (walk, stop) = walk(&mut process(&frames), &proc(HF_CPYTHON_ONE), &pcs, false);
    assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
    let calls: Vec<String> = (0..900).map(|n| format!("{n}:2 loop c c")).collect();
    assert_eq!(text(&walk), calls.join(" ") + " start");
    assert!(walk.words().len() > abi::HF_MAX_WORDS as usize);
}

/// In a gap the innermost frame is a caller's: this run of the loop has none.
#[test]
fn a_gap_has_no_frames() {
    let mut proc = proc(HF_CPYTHON_ONE);
    proc.n_gaps = 1;
    proc.gaps[0] = hf_cpython_gap { start: LOOP, bytes: 0x10, is_limbo: 0 };
    let pcs = [LOOP + 8, C_CODE, LOOP + 0x80, C_CODE, START + 1];
    let (in_gap, _) = walk(&mut process(&[Python(2, 7, 0)]), &proc, &pcs, false);
    assert_eq!(text(&in_gap), "loop c 2:8 loop c start");
    assert_eq!(in_gap.lost(), (0, 0));
    // What leads to the innermost frame is not to be followed in a limbo.
    proc.gaps[0].is_limbo = 1;
    let (in_limbo, _) = walk(&mut process(&[Python(2, 7, 0)]), &proc, &pcs, false);
    assert_eq!(text(&in_limbo), "loop c loop c start");
    assert_ne!(in_limbo.lost(), (0, 0));
}

/// Where the loop's instructions are functions, it is in one of these that the frame is unlinked:
/// the loop that called it has no frames, its caller's has.
#[test]
fn a_gap_of_the_leaf() {
    let mut proc = proc(HF_CPYTHON_SHIM);
    proc.n_gaps = 1;
    proc.gaps[0] = hf_cpython_gap { start: C_CODE, bytes: 0x10, is_limbo: 0 };
    proc.gaps_at_leaf = 1;
    let frames = [Python(2, 7, 0), Python(0, 0, 3)];
    let pcs = [C_CODE + 4, LOOP + 0x80, C_CODE, LOOP + 0x80, C_CODE, START + 1];
    let (unlinked, _) = walk(&mut process(&frames), &proc, &pcs, false);
    assert_eq!(text(&unlinked), "c loop c 2:8 loop c start");
    assert_eq!(unlinked.lost(), (0, 0));
    let pcs = [C_CODE + 0x20, LOOP + 0x80, C_CODE, START + 1];
    let (linked, _) = walk(&mut process(&frames), &proc, &pcs, false);
    assert_eq!(text(&linked), "c 2:8 loop c start");
    assert_eq!(linked.lost(), (0, 0));
}

/// A run of the loop below all that the thread's state knows is another interpreter's.
#[test]
fn another_interpreter_is_counted() {
    let frames = [Python(1, 4, 0), Python(0, 0, 3)];
    let (walk, _) = walk(&mut process(&frames), &proc(HF_CPYTHON_SHIM), &NESTED, false);
    assert_eq!(text(&walk), "c 1:5 loop c loop c start");
    assert_ne!(walk.lost(), (0, 0));
}

/// Before 3.12 a key leads to the interpreter that a thread ran first. What it runs now is told by the
/// lock's holder; where that one's frames end, those of the key's called it.
#[test]
fn the_holder_goes_before_the_key() {
    const HOLDER: u64 = 0x6000_0000;
    const OTHER: u64 = STATE + 0x1000;
    let mut proc = proc(HF_CPYTHON_ONE);
    proc.chains.swap(0, 1);
    proc.chains[0].holder = HOLDER;
    proc.chains[0].owner_off = 64;
    proc.chains[0].n = 1;
    proc.chains[0].offsets[0] = 24;
    // Of the frames the first is the other interpreter's, the second that of the key's.
    let frames = |holder: u64, owner: u64| {
        let mut process = process(&[Python(1, 4, 0), Python(2, 7, 0)]);
        process.put(FRAMES + 8, 0);
        process.put(STATE + 24, FRAMES + 64);
        process.put(HOLDER, holder);
        process.put(OTHER + 24, FRAMES);
        process.put(OTHER + 64, owner);
        process.put(STATE + 64, TP);
        process
    };
    let check = |proc: &hf_cpython_proc,
                 mut process: Process,
                 pcs: &[u64],
                 expected: &str,
                 is_lost: bool| {
        let (walk, stop) = walk(&mut process, proc, pcs, false);
        assert_eq!(text(&walk), expected);
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost() != (0, 0), is_lost, "{expected}");
    };
    let once = &NESTED[2..];
    check(&proc, frames(OTHER, TP), once, "c 1:5 loop c start", false);
    check(&proc, frames(OTHER, TP), &NESTED, "c 1:5 loop c 2:8 loop c start", false);
    let thrice: Vec<u64> = NESTED[..2].iter().chain(&NESTED).copied().collect();
    check(&proc, frames(OTHER, TP), &thrice, "c 1:5 loop c 2:8 loop c loop c start", true);
    // The same interpreter, another thread's, nobody's: its frames come once.
    for process in [frames(STATE, TP), frames(OTHER, TP + 64), frames(0, 0)] {
        check(&proc, process.clone(), once, "c 2:8 loop c start", false);
        check(&proc, process, &NESTED, "c 2:8 loop c loop c start", true);
    }
    // The loop's native frame says so where there is a pointer into it, whoever made the state.
    proc.chains[0].stack_off = 72;
    let at_run = |at: u64, owner: u64| {
        let mut process = frames(OTHER, owner);
        process.put(OTHER + 72, at);
        process
    };
    let loop_sp = STACK + 64 + 16;
    for owner in [TP, TP + 64] {
        check(&proc, at_run(loop_sp + 0x38, owner), once, "c 1:5 loop c start", false);
        check(&proc, at_run(loop_sp, owner), &NESTED, "c 1:5 loop c 2:8 loop c start", false);
        check(&proc, at_run(loop_sp - 8, owner), once, "c 2:8 loop c start", false);
        check(&proc, at_run(loop_sp + 0x2000, owner), once, "c 2:8 loop c start", false);
    }
    proc.chains[0].stack_off = 0;
    // It runs no Python, which the other does.
    let mut idle = frames(OTHER, TP);
    idle.put(OTHER + 24, 0);
    check(&proc, idle, &NESTED, "c 2:8 loop c loop c start", true);
}

/// From 3.12 on each interpreter has a state for a thread that runs it. Where one called another, a run of
/// the loop has the frames whose outermost one lies in its native frame, whichever state leads there.
#[test]
fn interpreters_within_each_other() {
    const INTERPRETERS: u64 = 0x6000_0000;
    const MAIN: u64 = 0x6100_0000;
    const SECOND: u64 = 0x6200_0000;
    const CALLERS: u64 = 0x6300_0000;
    let mut proc = proc(HF_CPYTHON_SHIM);
    proc.interpreters = INTERPRETERS;
    (proc.interpreter_next_off, proc.interpreter_threads_off) = (0x1000, 0x2000);
    (proc.thread_next_off, proc.thread_id_off, proc.thread_frame_off) = (8, 64, 24);
    // Three runs of the loop; each one's own frame lies in its native frame.
    let pcs = [C_CODE, LOOP + 0x80, C_CODE, LOOP + 0x80, C_CODE, LOOP + 0x80, C_CODE, START + 1];
    let shim = |run: u64| STACK + (1 + 2 * run) * 64 + 16;
    // The main interpreter, the last of the list, and the second; of each the states of two threads.
    let state = |interpreter: u64, n: u64| interpreter + 0x1_0000 + n * 0x1000;
    let interpreters = |process: &mut Process| {
        process.put(INTERPRETERS, SECOND);
        process.put(INTERPRETERS + 8, MAIN);
        process.put(SECOND + 0x1000, MAIN);
        for interpreter in [MAIN, SECOND] {
            process.put(interpreter + 0x2000, state(interpreter, 0));
            process.put(state(interpreter, 0) + 8, state(interpreter, 1));
            process.put(state(interpreter, 0) + 64, TP + 0x1000);
            process.put(state(interpreter, 1) + 64, TP);
        }
    };
    let frame = |process: &mut Process, at: u64, Python(code, position, mark): Python, previous| {
        let code = CODES + code * 256;
        process.put(at, code);
        process.put(at + 8, previous);
        process.put(at + 16, code + BYTECODE + position * 2);
        process.put(at + 24, mark.into());
        process.put(code + 16, code ^ 0x55);
    };
    // Puts a run of two frames at `at`, whose own frame lies at `end`.
    let run = |process: &mut Process, at: u64, code: u64, end: u64, previous: u64| {
        frame(process, at, Python(code, 1, 0), at + 64);
        frame(process, at + 64, Python(code + 1, 2, 0), end);
        frame(process, end, Python(0, 0, 3), previous);
    };
    // The innermost interpreter's, which the thread's variable leads to.
    let innermost = |at_shim: u64| {
        let mut process = process(&[]);
        interpreters(&mut process);
        run(&mut process, FRAMES, 1, at_shim, 0);
        process
    };
    let check = |process: &Process, expected: &str, is_lost: bool| {
        let (walk, stop) = walk(&mut process.clone(), &proc, &pcs, false);
        assert_eq!(text(&walk), expected);
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost() != (0, 0), is_lost, "{expected}");
    };
    let whole = "c 1:2 2:3 loop c 3:2 4:3 loop c 5:2 6:3 loop c start";

    // The main one called the second, and that a third one; or itself, twice, the other.
    let mut two = innermost(shim(0));
    run(&mut two, CALLERS, 3, shim(1), 0);
    run(&mut two, CALLERS + 0x100, 5, shim(2), 0);
    two.put(state(SECOND, 1) + 24, CALLERS);
    two.put(state(MAIN, 1) + 24, CALLERS + 0x100);
    check(&two, whole, false);
    let mut one = innermost(shim(0));
    run(&mut one, CALLERS, 3, shim(1), CALLERS + 0x100);
    run(&mut one, CALLERS + 0x100, 5, shim(2), 0);
    one.put(state(SECOND, 1) + 24, CALLERS);
    check(&one, whole, false);
    // The main one's again within the second's: its state leads to both of its runs.
    let mut again = innermost(shim(0));
    frame(&mut again, shim(0), Python(0, 0, 3), CALLERS + 0x100);
    again.put(STATE + 24, 0);
    again.put(TP + 0x338, state(MAIN, 1));
    again.put(state(MAIN, 1) + 24, FRAMES);
    run(&mut again, CALLERS, 3, shim(1), 0);
    run(&mut again, CALLERS + 0x100, 5, shim(2), 0);
    again.put(state(SECOND, 1) + 24, CALLERS);
    // Not told apart: the outer run's frames stand in the second's run, and the stack counts as one that lacks some.
    check(&again, "c 1:2 2:3 loop c 5:2 6:3 loop c loop c start", true);

    // The one that runs has no frames yet.
    let mut entering = two.clone();
    entering.put(STATE + 24, 0);
    run(&mut entering, CALLERS + 0x200, 1, shim(0), CALLERS);
    entering.put(state(SECOND, 1) + 24, CALLERS + 0x200);
    check(&entering, whole, false);

    // 3.15 has a frame behind a state's runs that is marked as theirs and is none.
    let mut based = two.clone();
    let bases = CALLERS + 0x300;
    for (n, run) in [shim(0), shim(1), shim(2)].into_iter().enumerate() {
        let base = bases + n as u64 * 64;
        frame(&mut based, run, Python(0, 0, 3), base);
        frame(&mut based, base, Python(0, 0, 3), 0);
    }
    check(&based, whole, false);
    let mut entering = entering.clone();
    entering.put(STATE + 24, bases);
    frame(&mut entering, bases, Python(0, 0, 3), 0);
    check(&entering, whole, false);

    // Another thread's frames and those that a run left behind lie elsewhere: none is taken for another's.
    let lost = "c 1:2 2:3 loop c loop c loop c start";
    for (state, end) in [
        (state(MAIN, 0), shim(1)),
        (state(MAIN, 1), shim(1) - 64),
        (state(MAIN, 1), shim(1) + 64),
        (state(MAIN, 1), shim(2)),
        (state(MAIN, 1), STACK - 64),
        (state(MAIN, 1), STACK + 0x10_0000),
    ] {
        let mut stale = innermost(shim(0));
        run(&mut stale, CALLERS, 3, end, 0);
        stale.put(state + 24, CALLERS);
        check(&stale, lost, true);
    }
    // Before its own frame something cannot be read.
    let mut unreadable = two.clone();
    unreadable.unmapped.push(CALLERS + 64..CALLERS + 128);
    check(&unreadable, lost, true);
    // What leads in circles is left.
    let mut circle = two.clone();
    circle.put(CALLERS + 64 + 8, CALLERS);
    check(&circle, lost, true);
    let mut circle = innermost(shim(0));
    circle.put(state(MAIN, 1) + 8, state(MAIN, 0));
    circle.put(SECOND + 0x1000, SECOND);
    check(&circle, lost, true);

    // 3.12 runs whichever state there is, and it leads into the native frame of its run.
    proc.frame_is_behind = 1;
    let mut other = two.clone();
    for (interpreter, run) in [(SECOND, 1), (MAIN, 2)] {
        let cframe = shim(run) + 8 * 5;
        other.put(cframe, CALLERS + 0x100 * (run - 1));
        other.put(state(interpreter, 0) + 24, cframe);
        other.put(state(interpreter, 1) + 24, 0);
    }
    let (walk, _) = walk(&mut other, &proc, &pcs, false);
    assert_eq!(text(&walk), whole);
    assert_eq!(walk.lost(), (0, 0));
}

/// Jitted code has no frame. The shim that called the first of it has, and leads to the loop, whose frame
/// pointer is in its register, on the stack, or saved by the shim.
#[test]
fn jitted_code_leads_to_its_loop() {
    // As Debian's 3.14.10 and python-build-standalone's 3.14.6 have it.
    let plain = [
        0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x53, 0x49, 0x89, 0xfc, 0x49, 0x89, 0xf5,
        0x49, 0x89, 0xd6, 0xe8, 0x0a, 0x00, 0x00, 0x00, 0x5b, 0x41, 0x5c, 0x41, 0x5d, 0x41, 0x5e,
        0x41, 0x5f, 0xc3, 0x90,
    ];
    let framed = [
        0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54, 0x53, 0x50, 0x49,
        0x89, 0xfc, 0x49, 0x89, 0xf5, 0x49, 0x89, 0xd6, 0xe8, 0x0f, 0x00, 0x00, 0x00, 0x48, 0x83,
        0xc4, 0x08, 0x5b, 0x41, 0x5c, 0x41, 0x5d, 0x41, 0x5e, 0x41, 0x5f, 0x5d, 0xc3, 0x90,
    ];
    let frames = [Python(1, 4, 0), Python(0, 0, 3), Python(2, 7, 0), Python(0, 0, 3)];
    let with = |shim: &[u8], stack: &[(u64, u64)]| {
        let mut process = process(&frames);
        for (at, bytes) in (JIT..).step_by(8).zip(shim.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            process.put(at, u64::from_le_bytes(word));
        }
        stack.iter().for_each(|&(at, word)| process.put(STACK + at, word));
        process
    };
    let check = |mut process: Process, pcs: &[u64], is_lost: bool| {
        let mut proc = proc(HF_CPYTHON_SHIM);
        proc.has_jit = 1;
        let (walk, _) = walk(&mut process, &proc, pcs, false);
        assert_eq!(walk.lost() != (0, 0), is_lost, "{}", text(&walk));
        text(&walk)
    };
    let whole = "jitted 1:5 loop c 2:8 loop c start";
    let (leaf, ra) = (JIT + 0x80, JIT + 0x17);
    // The shim's call, five registers, the loop's.
    let rest = [C_CODE, LOOP + 0x80, C_CODE, START + 1];
    let pcs = |first: &[u64]| first.iter().chain(&rest).copied().collect::<Vec<_>>();
    let stack = [(0, ra), (48, LOOP + 0x80)];
    assert_eq!(check(with(&plain, &stack), &pcs(&[leaf]), false), whole);
    // An instruction has saved the register and uses it.
    let stack = [(0, STACK + 128), (8, ra), (56, LOOP + 0x80)];
    assert_eq!(check(with(&plain, &stack), &pcs(&[leaf, 0]), false), whole);
    // One that lays out arguments of a call has saved it first, and has more variables than others; what
    // an earlier call left there leads nowhere.
    let stack = [(32, ra), (0x90, STACK + 256), (0x98, ra)];
    let calling = pcs(&[leaf, 0, 0, LOOP + 0x80]);
    assert_eq!(check(with(&plain, &stack), &calling, false), whole);
    let stack = [(8, JIT + 0x1c)];
    assert_eq!(check(with(&framed, &stack), &pcs(&[leaf, LOOP + 0x80]), false), whole);
    // In the shim itself, at each of its instructions: what it has pushed, and not taken off again.
    let at = [0, 2, 4, 6, 8, 9, 0x12, 0x17, 0x18, 0x1a, 0x1c, 0x1e, 0x20];
    for (at, words) in at.into_iter().zip([0, 1, 2, 3, 4, 5, 5, 5, 4, 3, 2, 1, 0]) {
        let stack = [(8 * words, LOOP + 0x80)];
        assert_eq!(check(with(&plain, &stack), &pcs(&[JIT + at]), false), whole, "{at:#x}");
    }
    let at = [1, 4, 6, 8, 10, 12, 13, 14, 0x17, 0x1c, 0x20, 0x21, 0x23, 0x25, 0x27, 0x29];
    let words = [1, 1, 2, 3, 4, 5, 6, 7, 7, 7, 6, 5, 4, 3, 2, 1];
    for (at, words) in at.into_iter().zip(words) {
        let stack = [(8 * words, LOOP + 0x80), (8 * words - 8, STACK + 128)];
        assert_eq!(check(with(&framed, &stack), &pcs(&[JIT + at, 0]), false), whole, "{at:#x}");
    }
    for at in [0, 0x2a] {
        let stack = [(0, LOOP + 0x80)];
        assert_eq!(check(with(&framed, &stack), &pcs(&[JIT + at]), false), whole, "{at:#x}");
    }
    // Without a shim, or with another's code in its place: no frames, and counted.
    let lost = check(with(&plain, &[]), &pcs(&[leaf]), true);
    assert!(lost.starts_with("jitted") && !lost.contains(':'), "{lost}");
    let other: Vec<u8> = plain.iter().map(|&byte| if byte == 0xfc { 0xfd } else { byte }).collect();
    let lost = check(with(&other, &[(0, ra), (48, LOOP + 0x80)]), &pcs(&[leaf]), true);
    assert!(lost.starts_with("jitted") && !lost.contains(':'), "{lost}");
}

/// Until the interpreter is found in a process, its table leads nowhere: that is counted.
#[test]
fn an_interpreter_that_is_not_found_is_counted() {
    let mut table = hf_cpython_proc::new_zeroed();
    table.runtime = abi::HF_RUNTIME_CPYTHON;
    let (walk, stop) = walk(&mut process(&[Python(1, 4, 0)]), &table, &NESTED, false);
    assert_eq!(text(&walk), "c loop c loop c start");
    assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
    assert_ne!(walk.lost(), (0, 0));
}

/// Without a thread state, without the frame's memory, or when the process has gone on, the stack is
/// walked natively to its end, and that is said.
#[test]
fn what_is_lost_is_counted() {
    let frames = [Python(1, 4, 0), Python(2, 7, 0)];
    let lost = |mut process: Process, late: bool, expected: &str, why: u32| {
        let (walk, stop) = walk(&mut process, &proc(HF_CPYTHON_ONE), &NESTED, late);
        assert_eq!(text(&walk), expected);
        assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
        assert_eq!(walk.lost(), (hotframe_abi::HF_RUNTIME_CPYTHON as u8, why as u8));
    };
    let native = "c loop c loop c start";
    lost(process(&frames), true, native, HF_CPYTHON_LOST_LATE);
    let mut without_state = process(&frames);
    without_state.put(TP + 0x338, 0);
    lost(without_state, false, native, HF_CPYTHON_LOST_NO_THREAD);
    let mut without_frame = process(&frames);
    without_frame.unmapped.push(FRAMES + 64..FRAMES + 128);
    let unreadable = HF_CPYTHON_LOST_FRAME_UNREADABLE;
    lost(without_frame, false, "c 1:5 loop c loop c start", unreadable);
}

/// A chain that leads back to itself ends where a stack may not be deeper.
#[test]
fn a_cycle_ends() {
    let mut process = process(&[Python(1, 0, 0)]);
    process.put(FRAMES + 8, FRAMES);
    let (walk, stop) = walk(&mut process, &proc(HF_CPYTHON_SHIM), &NESTED, false);
    assert!(matches!(stop, Stop::Ended { cut, .. } if u32::from(cut) == abi::HF_CUT_TOO_DEEP));
    assert!(walk.words().len() <= abi::HF_MAX_STACK_WORDS as usize);
}

/// What leads to no code object is no frame: an object that came to lie where a thread's state was, and
/// leads to itself, costs the Python frames and not the stack.
#[test]
fn what_is_no_code_ends_the_chain() {
    const TYPE: u64 = 0x7777_0000;
    let mut proc = proc(HF_CPYTHON_SHIM);
    (proc.code_type, proc.type_off) = (TYPE, 8);
    let frames = [Python(1, 0, 0), Python(2, 3, 0), Python(0, 0, 3)];
    let mut sound = process(&frames);
    (1..3).for_each(|code| sound.put(CODES + code * 256 + 8, TYPE));
    let (found, _) = walk(&mut sound, &proc, &NESTED, false);
    assert!(text(&found).starts_with("c 1:1 2:4 loop c loop"), "{}", text(&found));
    // The innermost one may be in the making: it is one without a name, and counted.
    let mut process = process(&[Python(1, 0, 0)]);
    process.put(FRAMES + 8, FRAMES);
    let (walk, stop) = walk(&mut process, &proc, &NESTED, false);
    assert_eq!(text(&walk), "c 1:1 loop c loop c start");
    assert_eq!(stop, Stop::Ended { cut: 0, cut_pc: START + 1 });
    assert_ne!(walk.lost(), (0, 0));
}

/// Nor where each run of the loop has one frame: the outer ones are made, and have to be of code.
#[test]
fn what_is_no_code_ends_the_chain_of_one_frame_a_run() {
    const TYPE: u64 = 0x7777_0000;
    let mut proc = proc(HF_CPYTHON_ONE);
    (proc.code_type, proc.type_off) = (TYPE, 8);
    let mut process = process(&[Python(1, 0, 0), Python(2, 3, 0)]);
    let (found, _) = walk(&mut process, &proc, &NESTED, false);
    assert_eq!(text(&found), "c 1:1 loop c loop c start");
    assert_ne!(found.lost(), (0, 0));
    process.put(CODES + 256 + 8, TYPE);
    process.put(CODES + 512 + 8, TYPE);
    let (found, _) = walk(&mut process, &proc, &NESTED, false);
    assert_eq!(text(&found), "c 1:1 loop c 2:4 loop c start");
    assert_eq!(found.lost(), (0, 0));
}

/// Whatever stands in the table and in the process, every walk ends.
#[test]
fn damage_ends() {
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        seed >> 20
    };
    for round in 0..2000 {
        let frames = [Python(1, 0, 0), Python(2, 1, 1), Python(0, 0, 3), Python(3, 2, 0)];
        let mut process = process(&frames);
        let mut damaged = proc((round % 3) as u32);
        let keys: Vec<u64> = process.words.keys().copied().collect();
        for _ in 0..random() % 4 {
            let key = keys[random() as usize % keys.len()];
            let value = if random() % 2 == 0 { random() } else { FRAMES + random() % 512 };
            process.put(key, value);
        }
        if round % 2 == 0 {
            let mut bytes = damaged.as_bytes().to_vec();
            let at = 8 + random() as usize % (bytes.len() - 8);
            bytes[at] = random() as u8;
            damaged = zerocopy::FromBytes::read_from_bytes(&bytes).expect("its size");
        }
        let (walk, _) = walk(&mut process, &damaged, &NESTED, false);
        assert!(walk.words().len() <= abi::HF_MAX_STACK_WORDS as usize);
    }
}
