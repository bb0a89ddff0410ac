//! The golden cases of `testing/recorded/hotspot`: the step and the names, without a JVM.
#![forbid(unsafe_code)]

use hotframe_abi::FrameWord;
use hotframe_core::testing::{
    RecordedFile, RecordedProcess, Walked, check_damaged, check_recorded, recorded_cases,
};
use hotframe_hotspot::RUNTIME;
use hotframe_hotspot::abi::HF_HOTSPOT_COOKIE_SHIFT;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::Why;
use hotframe_runtime::elf::{self, Tables};
use std::io;
use std::ops::Range;

/// The stack pointer's DWARF number on x86-64.
const SP: usize = 7;

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

/// A method that is new takes twelve system calls at most, in whichever frame it is, and less than three on
/// average: what several of them point at is read together.
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
    let each = reads as f64 / methods as f64;
    println!("{methods} methods: {each:.1} reads each, at most {most}");
    assert!(each < 2.7, "{each}");
}

/// Damaged, they give other stacks, other names or reasons, and end.
#[test]
fn damaged() {
    check_damaged(&[&RUNTIME], "hotspot");
}

/// A process that ends while runtimes read it, after any number of reads: each frame has the name
/// that it would have, or says that the process is gone; a runtime that could not attach says why.
#[test]
fn ends_while_it_is_named() {
    let (mut named, mut unnamed, mut unattached) = (0, 0, 0);
    for (path, process) in small_cases() {
        let whole = process.walk(&[&RUNTIME]);
        // Every read of the naming, some of the attaching before.
        let mut gaps = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89].into_iter();
        let mut reads = 0;
        loop {
            let walked = process.walk_dying(&[&RUNTIME], u64::MAX, reads);
            if walked.named.is_empty() {
                assert!(!walked.problems.is_empty(), "{}: not attached, silently", path.display());
                unattached += 1;
                reads += gaps.next().unwrap_or(7);
                continue;
            }
            assert_eq!(walked.words, whole.words, "{}: {reads} reads", path.display());
            for (now, expected) in walked.named.iter().zip(&whole.named) {
                match now {
                    Ok(_) => assert_eq!(now, expected, "{}: {reads} reads", path.display()),
                    Err(why) => assert!(
                        matches!(why, Why::ProcessGone | Why::StalePointer),
                        "{}: {reads} reads: {why:?}",
                        path.display()
                    ),
                }
                *if now.is_ok() { &mut named } else { &mut unnamed } += 1;
            }
            if walked.named == whole.named {
                break;
            }
            reads += 3;
        }
    }
    assert!(named > 20 && unnamed > 20 && unattached > 20, "{named}, {unnamed}, {unattached}");
}

/// A process that ends while it is walked, after any number of reads: the stack is a part of the
/// whole one, from its leaf on, and says that it is cut.
#[test]
fn ends_while_it_is_walked() {
    let mut parts = 0;
    for (path, process) in small_cases() {
        let whole = process.walk(&[&RUNTIME]);
        for reads in 0.. {
            let walked = process.walk_dying(&[&RUNTIME], reads, u64::MAX);
            if walked == whole {
                break;
            }
            let what = format!("{}: {reads} reads", path.display());
            if walked.cut == whole.cut {
                // A read that failed was a part of a larger one: nothing was missed.
                assert_eq!(walked.words.len(), whole.words.len(), "{what}: whole, but shorter");
                continue;
            }
            assert!(
                places(&whole).starts_with(&places(&walked)),
                "{what}: no part of the whole:\n{}",
                process.render(&walked)
            );
            parts += 1;
        }
    }
    assert!(parts > 20, "{parts}");
}

/// A frame that returns to where deoptimisations enter is not filled in yet: its slots hold an earlier
/// call's. It has no name, and all others are as they were.
#[test]
fn frames_that_are_not_filled_in() {
    let mut nameless = 0;
    for (path, process) in small_cases() {
        let whole = process.walk(&[&RUNTIME]);
        let entry = described(&process, b"deoptimization entry points");
        let interpreter = memory_at(&process, entry);
        for at in memory_at(&process, process.regs[SP]).step_by(8) {
            let mut process = process.clone();
            let word = word_at(&mut process, at);
            let pc = u64::from_le_bytes(word.try_into().expect("8 bytes"));
            if !interpreter.contains(&pc) {
                continue;
            }
            word.copy_from_slice(&entry.to_le_bytes());
            let walked = process.walk(&[&RUNTIME]);
            let what = format!("{}: {at:#x}:\n{}", path.display(), process.render(&walked));
            assert_eq!((walked.cut, walked.named.len()), (whole.cut, whole.named.len()), "{what}");
            let changed = walked.named.iter().zip(&whole.named).filter(|(now, then)| now != then);
            let changed: Vec<_> = changed.map(|(now, _)| now).collect();
            // What looks like a return address may be none.
            assert!(changed.is_empty() || changed == [&Err(Why::StalePointer)], "{what}");
            nameless += changed.len();
        }
    }
    assert!(nameless > 10, "{nameless}");
}

/// Frames without their cookies and bytecode indices, which take reads of their own.
fn places(walked: &Walked) -> Vec<u64> {
    let mut places = Vec::new();
    let mut words = walked.words.iter();
    while let Some(&word) = words.next() {
        let head = FrameWord(word);
        match head.kind() {
            hotframe_abi::HF_FRAME_DYNAMIC => {
                let data = words.by_ref().take(head.n_data_words());
                places.extend(data.map(|data| data & ((1 << HF_HOTSPOT_COOKIE_SHIFT) - 1)));
            }
            _ => places.push(word),
        }
    }
    places
}

/// The cases whose stacks are short: each is walked some hundred times.
fn small_cases() -> impl Iterator<Item = (std::path::PathBuf, RecordedProcess)> {
    let is_small =
        |name: &str| ["c1", "c2-inlined", "interpreted-lambda", "native"].contains(&name);
    recorded_cases("hotspot").into_iter().filter(move |(path, _)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split_once('-').is_some_and(|(_, rest)| is_small(rest))
    })
}

/// The recorded bytes of a file; what was not read is zero.
struct Bytes<'a>(&'a RecordedFile);

impl ReadAt for Bytes<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.0.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[..n].fill(0);
        for (start, bytes) in &self.0.ranges {
            for (at, byte) in (*start..).zip(bytes) {
                if at >= offset && at < offset + n as u64 {
                    buf[(at - offset) as usize] = *byte;
                }
            }
        }
        Ok(n)
    }

    fn len(&self) -> u64 {
        self.0.len
    }
}

/// Where a variable of libjvm is.
fn variable(process: &RecordedProcess, name: &str) -> u64 {
    let at = process.files.iter().position(|file| file.path == "libjvm.so").expect("a libjvm");
    let elf = ElfFile::open(Bytes(&process.files[at])).expect("ELF");
    let symbol = elf::find(&elf, Tables::Dynamic, [name])[0].expect("an exported variable");
    let mapping = process.mappings.iter().find(|map| map.file as usize == at + 1);
    let mapping = mapping.expect("it is mapped");
    let image = elf.map_bias(mapping.start, mapping.pgoff).expect("it is loaded");
    symbol.address.wrapping_add(image.wrapping_sub(elf.image_base()))
}

/// The first address of the interpreter's code of which its description says `text`.
fn described(process: &RecordedProcess, text: &[u8]) -> u64 {
    let mut memory = process.memory.iter();
    let text = memory.find_map(|(start, bytes)| {
        let at = bytes.windows(text.len()).position(|part| part == text)?;
        Some(start + at as u64)
    });
    let text = text.expect("it is recorded").to_le_bytes();
    let mut memory = process.memory.iter();
    let word = memory.find_map(|(start, bytes)| {
        let at = bytes.chunks_exact(8).position(|word| word == text)?;
        Some(start + at as u64 * 8)
    });
    // InterpreterCodelet, of four words, ends with it or has another behind it.
    word.expect("a codelet has it") + 24
}

/// What is recorded without a gap around an address, or else behind it.
fn memory_at(process: &RecordedProcess, address: u64) -> Range<u64> {
    let mut ranges = process.memory.iter().map(|(start, bytes)| *start..start + bytes.len() as u64);
    ranges.find(|range| range.end > address).expect("it is recorded")
}

fn word_at(process: &mut RecordedProcess, address: u64) -> &mut [u8] {
    for (start, bytes) in &mut process.memory {
        if let Some(at) = address.checked_sub(*start)
            && at + 8 <= bytes.len() as u64
        {
            return &mut bytes[at as usize..at as usize + 8];
        }
    }
    panic!("{address:#x} is not recorded")
}

/// As it is walked and named without libjvm's tables: a reason, and the native frames that lie before
/// the first Java frame as they were.
fn check_without_tables(process: &RecordedProcess, whole: &Walked, what: &str) {
    let walked = process.walk(&[&RUNTIME]);
    assert!(walked.problems.len() == 1, "{what}: {:?}", walked.problems);
    assert!(walked.named.is_empty(), "{what}");
    let is_native = |word: &&u64| **word >> 60 != u64::from(hotframe_abi::HF_FRAME_DYNAMIC);
    let native: Vec<&u64> = whole.words.iter().take_while(is_native).collect();
    let now: Vec<&u64> = walked.words.iter().take(native.len()).collect();
    assert_eq!(now, native, "{what}: native frames");
}

/// `VMStructs` with strides and columns that are zero or absurd: said as the reason why there are no
/// Java frames; native frames stay as they were.
#[test]
fn absurd_strides() {
    let variables = [
        "gHotSpotVMStructs",
        "gHotSpotVMStructEntryArrayStride",
        "gHotSpotVMStructEntryTypeNameOffset",
        "gHotSpotVMStructEntryFieldNameOffset",
        "gHotSpotVMStructEntryOffsetOffset",
        "gHotSpotVMTypes",
        "gHotSpotVMTypeEntryArrayStride",
        "gHotSpotVMTypeEntryTypeNameOffset",
        "gHotSpotVMTypeEntrySizeOffset",
    ];
    for (path, process) in small_cases() {
        let whole = process.walk(&[&RUNTIME]);
        for name in variables {
            let address = variable(&process, name);
            for value in [0, 1, 7, 249, 4096, 1 << 31, 1 << 63, u64::MAX - 7, u64::MAX] {
                let mut damaged = process.clone();
                let word = word_at(&mut damaged, address);
                if word == value.to_le_bytes() {
                    continue;
                }
                word.copy_from_slice(&u64::to_le_bytes(value));
                // A column that names another field's facts may do by chance; a stride may not.
                let what = format!("{}: {name} = {value:#x}", path.display());
                check_without_tables(&damaged, &whole, &what);
            }
        }
    }
}

/// Each offset and each size of `VMStructs` that is used, absurd: a reason or other frames, an end in
/// any case.
#[test]
fn absurd_offsets() {
    let (_, process) = recorded_cases("hotspot")
        .into_iter()
        .find(|(path, _)| path.ends_with("jdk25-c2-inlined"))
        .expect("a case");
    let read = |process: &RecordedProcess, name: &str| {
        let address = variable(process, name);
        let mut process = process.clone();
        let word = word_at(&mut process, address);
        u64::from_le_bytes(word.try_into().expect("8 bytes"))
    };
    let mut refused = 0;
    for (table, stride, column) in [
        (
            "gHotSpotVMStructs",
            "gHotSpotVMStructEntryArrayStride",
            "gHotSpotVMStructEntryOffsetOffset",
        ),
        ("gHotSpotVMTypes", "gHotSpotVMTypeEntryArrayStride", "gHotSpotVMTypeEntrySizeOffset"),
    ] {
        let (start, stride) = (read(&process, table), read(&process, stride));
        let column = read(&process, column);
        for n in 0.. {
            let mut damaged = process.clone();
            let name = u64::from_le_bytes(
                word_at(&mut damaged, start + n * stride).try_into().expect("8 bytes"),
            );
            if name == 0 {
                assert!(n > 100, "{n} entries");
                break;
            }
            let value = [u64::MAX, 4095, 1 << 31, 8][n as usize % 4];
            word_at(&mut damaged, start + n * stride + column)
                .copy_from_slice(&value.to_le_bytes());
            let walked = damaged.walk(&[&RUNTIME]);
            refused += u64::from(!walked.problems.is_empty());
        }
    }
    assert!(refused >= 20, "{refused} of the tables' entries matter");
}
