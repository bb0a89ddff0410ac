//! `record_process SPEC OUT_DIR`: makes a case of `testing/recorded` (see `hotframe_core::testing`).
//!
//! In: a text file, written by `testing/recorded/record.sh` with gdb's help, of lines
//!
//! ```text
//! pid N                      a stopped process: its executable mappings and stack are read
//! arm64                      else x86-64
//! reg NUMBER VALUE           by DWARF number, the pc last (16 on x86-64, 32 on arm64)
//! map START END PGOFF PATH   a mapping, where there is no process
//! word ADDR VALUE            8 bytes of memory, where there is no process
//! frame PC                   a frame that another unwinder found, leaf first
//! ```
//!
//! Out: `process.bin` and `expected.txt` in `OUT_DIR`, and the frames on stdout. Fails if the other
//! unwinder's frames are not ours.

use hotframe_core::processes::Mapping;
use hotframe_core::testing::{RecordedFile, RecordedProcess};
use std::error::Error;
use std::os::unix::{ffi::OsStrExt as _, fs::FileExt as _};
use std::path::Path;

/// Bytes of stack read from the stack pointer up, at most.
const MAX_STACK_BYTES: u64 = 4 << 20;
const PAGE_BYTES: u64 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, spec, out_dir] = args.as_slice() else {
        return Err("usage: record_process SPEC OUT_DIR".into());
    };
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
        read_process(pid, &mut process)?;
    }
    // The folder a program was built in says nothing.
    for file in &mut process.files {
        file.path = file.path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    let process = process.trimmed();
    let walked = process.walk();
    let text = process.render(&walked);
    print!("{text}");
    let ours = process.addresses(&walked);
    if !frames.is_empty() && ours != frames {
        return Err(format!("theirs: {frames:x?}\nours:   {ours:x?}").into());
    }
    let out_dir = Path::new(out_dir);
    std::fs::create_dir_all(out_dir)?;
    std::fs::write(out_dir.join("process.bin"), process.to_bytes()?)?;
    std::fs::write(out_dir.join("expected.txt"), text)?;
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
/// stack pointer or the frame pointer.
fn read_process(pid: u32, process: &mut RecordedProcess) -> Result<(), Box<dyn Error>> {
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
        } else if perms.starts_with("rw")
            && (path.starts_with("[stack") || (start..end).contains(&sp))
        {
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
        }
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
