//! Makes a case of `testing/recorded` (see [`super`]) of a stopped process.
//!
//! In: a text file, written with gdb's help by `testing/recorded/{record.sh,runtime.py}`, of lines
//!
//! ```text
//! pid N                      a stopped process: its mappings and memory are read
//! arm64                      else x86-64
//! reg NUMBER VALUE           by DWARF number, the pc last (16 on x86-64, 32 on arm64)
//! tp VALUE                   where the thread's local storage is
//! map START END PGOFF PATH   a mapping, where there is no process
//! word ADDR VALUE            8 bytes of memory, where there is no process
//! frame PC                   a frame that another unwinder found, leaf first
//! ```
//!
//! Out: `process.bin` and `expected.txt`. Of the process's memory its stack is read, and all else
//! that is present where a runtime may keep what it needs; only what the walk and the runtimes read
//! of it is kept.

use super::{RecordedFile, RecordedProcess};
use crate::processes::Mapping;
use hotframe_runtime::Runtime;
use std::error::Error;
use std::os::unix::{ffi::OsStrExt as _, fs::FileExt as _};
use std::path::Path;

/// Bytes of stack read from the stack pointer up, at most.
const MAX_STACK_BYTES: u64 = 4 << 20;
const PAGE_BYTES: u64 = 4096;

/// Makes a case from a specification: writes it into `out_dir` and returns its text.
///
/// # Errors
/// What cannot be read or written, and frames of another unwinder that are not ours.
pub fn record(
    spec: &Path,
    out_dir: &Path,
    runtimes: &[&'static dyn Runtime],
) -> Result<String, Box<dyn Error>> {
    let mut process = RecordedProcess::default();
    let mut frames = Vec::new();
    let mut words = Vec::new();
    let mut pid = None;
    for line in std::fs::read_to_string(spec)?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [] => {}
            ["pid", n] => pid = Some(n.parse::<u32>()?),
            ["arm64"] => process.arm64 = true,
            ["reg", n, value] => {
                *process.regs.get_mut(n.parse::<usize>()?).ok_or("no such register")? =
                    number(value)?;
            }
            ["tp", value] => process.tp = number(value)?,
            ["map", start, end, pgoff, path] => {
                let file = file_of(&mut process, path, std::fs::read(path)?);
                let (start, end, pgoff) = (number(start)?, number(end)?, number(pgoff)?);
                process.mappings.push(Mapping { start, end, pgoff, file });
            }
            ["word", addr, value] => words.push((number(addr)?, number(value)?)),
            ["frame", pc] => frames.push(number(pc)?),
            _ => return Err(format!("not understood: {line}").into()),
        }
    }
    words.sort_unstable();
    for (addr, value) in words {
        process.memory.push((addr, value.to_le_bytes().to_vec()));
    }
    join(&mut process.memory);
    if let Some(pid) = pid {
        read_process(pid, &mut process, !runtimes.is_empty())?;
    }
    // The folder a program was built in says nothing.
    for file in &mut process.files {
        file.path = file.path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let process = process.trimmed(runtimes);
    let walked = process.walk(runtimes);
    let text = process.render(&walked);
    let ours = process.addresses(&walked);
    if !frames.is_empty() && ours != frames {
        return Err(format!("theirs: {frames:x?}\nours:   {ours:x?}\n{text}").into());
    }
    std::fs::create_dir_all(out_dir)?;
    std::fs::write(out_dir.join("process.bin"), process.to_bytes()?)?;
    std::fs::write(out_dir.join("expected.txt"), &text)?;
    Ok(text)
}

/// What the examples that record are: `NAME SPEC OUT_DIR`, which prints the frames.
///
/// # Errors
/// As [`record`], and other arguments.
pub fn main(runtimes: &[&'static dyn Runtime]) -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, spec, out_dir] = args.as_slice() else {
        return Err("usage: SPEC OUT_DIR".into());
    };
    print!("{}", record(Path::new(spec), Path::new(out_dir), runtimes)?);
    Ok(())
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

fn file_of(process: &mut RecordedProcess, path: &str, bytes: Vec<u8>) -> u32 {
    if let Some(at) = process.files.iter().position(|file| file.path == path) {
        return at as u32 + 1;
    }
    let len = bytes.len() as u64;
    let path = path.to_owned();
    process.files.push(RecordedFile { path, len, ranges: vec![(0, bytes)] });
    process.files.len() as u32
}

/// Joins neighbouring ranges.
fn join(memory: &mut Vec<(u64, Vec<u8>)>) {
    let mut joined: Vec<(u64, Vec<u8>)> = Vec::new();
    for (at, bytes) in memory.drain(..) {
        match joined.last_mut() {
            Some((start, last)) if *start + last.len() as u64 == at => last.extend(bytes),
            _ => joined.push((at, bytes)),
        }
    }
    *memory = joined;
}

/// Executable mappings with their files, and every readable page of the mappings that hold the
/// stack pointer or the frame pointer; for a runtime, all memory that is present.
fn read_process(
    pid: u32,
    process: &mut RecordedProcess,
    is_whole: bool,
) -> Result<(), Box<dyn Error>> {
    let pagemap = std::fs::File::open(format!("/proc/{pid}/pagemap"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    let sp = process.regs[hotframe_abi::HF_X86_RSP as usize];
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(range), Some(perms), Some(pgoff)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = fields.nth(2).unwrap_or_default().trim();
        let (start, end) = range.split_once('-').ok_or("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if perms.contains('x') && path != "[vsyscall]" {
            let file = if path == "[vdso]" {
                let mut bytes = vec![0; (end - start) as usize];
                memory.read_exact_at(&mut bytes, start)?;
                file_of(process, path, bytes)
            } else if path.starts_with('/') {
                file_of(process, path, std::fs::read(path)?)
            } else {
                0
            };
            let pgoff = u64::from_str_radix(pgoff, 16)?;
            process.mappings.push(Mapping { start, end, pgoff, file });
        }
        if perms.starts_with("rw") && (path.starts_with("[stack") || (start..end).contains(&sp)) {
            let from = if (start..end).contains(&sp) { sp & !(PAGE_BYTES - 1) } else { start };
            let mut bytes = vec![0; (end - from).min(MAX_STACK_BYTES) as usize];
            memory.read_exact_at(&mut bytes, from)?;
            // Arguments, environment and the program's folder are nobody's business.
            let strings = arg_start(pid)?.checked_sub(from).unwrap_or(u64::MAX);
            if let Some(strings) = bytes.get_mut(usize::try_from(strings)?..) {
                strings.fill(0);
            }
            let exe = std::fs::read_link(format!("/proc/{pid}/exe"))?;
            let dir = exe.parent().unwrap_or(&exe).as_os_str().as_bytes();
            while let Some(at) = bytes.windows(dir.len()).position(|part| part == dir) {
                bytes[at..at + dir.len()].fill(0);
            }
            process.memory.push((from, bytes));
        } else if is_whole && perms.starts_with('r') && !path.starts_with("[v") {
            // Text as well: linkers of old put constants beside it.
            read_present(&memory, &pagemap, start, end, process)?;
        }
    }
    join(&mut process.memory);
    Ok(())
}

/// Pages that are there: reading others would bring them in, and a JVM reserves terabytes. Those of a
/// file may wait to be read.
fn read_present(
    memory: &std::fs::File,
    pagemap: &std::fs::File,
    start: u64,
    end: u64,
    process: &mut RecordedProcess,
) -> Result<(), Box<dyn Error>> {
    /// Present or swapped out (Documentation/admin-guide/mm/pagemap.rst).
    const PRESENT: u64 = 3 << 62;
    const ENTRIES: u64 = 4096;
    let mut entries = vec![0; ENTRIES as usize * 8];
    let mut at = start;
    while at < end {
        let n = ((end - at) / PAGE_BYTES).min(ENTRIES);
        let wanted = entries.get_mut(..n as usize * 8).ok_or("entries")?;
        pagemap.read_exact_at(wanted, at / PAGE_BYTES * 8)?;
        for (page, entry) in (at..).step_by(PAGE_BYTES as usize).zip(wanted.chunks_exact(8)) {
            let is_small = end - start <= MAX_STACK_BYTES;
            if u64::from_le_bytes(entry.try_into()?) & PRESENT == 0 && !is_small {
                continue;
            }
            let mut bytes = vec![0; PAGE_BYTES as usize];
            // A page behind the end of its file cannot be read.
            if memory.read_exact_at(&mut bytes, page).is_ok() {
                process.memory.push((page, bytes));
            }
        }
        at += n * PAGE_BYTES;
    }
    Ok(())
}

/// Where the strings at the top of the main thread's stack begin (proc_pid_stat(5), field 48).
fn arg_start(pid: u32) -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no comm")?;
    // The field behind the parenthesis is the third.
    Ok(fields.split_whitespace().nth(48 - 3).ok_or("no arg_start")?.parse()?)
}
