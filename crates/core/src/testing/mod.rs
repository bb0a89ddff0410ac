//! Recorded processes: the production walk and the runtimes' user halves run over them, without root
//! and without the process.
//!
//! In: `process.bin`, a process as it stood at one instruction: registers, executable mappings, the
//! parts of its memory and of its files that unwinding and naming read. Out: its frames as text.
//!
//! # How it works
//! Rows are built from the recorded bytes of the ELF files by `hotframe-objects`, put into tables
//! as in a recording, and walked by the kernel half's own C ([`crate::walk`]). Runtimes that are
//! asked for recognise those files, attach to the recorded memory, give their regions and tables to
//! the walk, and name the frames that their steps send, all by the code that runs in a session.
//!
//! A case is a folder of `testing/recorded/<kind>/`: `process.bin`, `about.md` (what it is and what
//! an independent tool says of it) and `expected.txt`. Native cases are made by
//! `testing/recorded/record.sh`, which stops a program with gdb and keeps a case only if gdb sees
//! the same frames (but where it is misled); those of runtimes by `testing/recorded/runtime.py`,
//! which stops a running program until a stack fits what is wanted.
//!
//! # Not handled
//! File bytes that were not read when the case was recorded are zeros, so that a reader which reads
//! ahead differently still finds what it needs. One that needs more needs a new recording.
//!
//! # Damage
//! Mutated recordings and tables are walked by the tests here, those of runtimes by
//! [`check_damaged`], more of them with `MUTATIONS=N`, and by the fuzz target `recorded`. With the
//! walk's C under sanitizers:
//!
//! ```text
//! CC=gcc CFLAGS='-fsanitize=address,undefined -fno-sanitize=alignment' \
//! RUSTFLAGS='-Clink-arg=-lasan -Clink-arg=-lubsan' \
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='env LD_PRELOAD=libasan.so.8 ASAN_OPTIONS=detect_leaks=0' \
//! cargo test -p hotframe-core --lib --target x86_64-unknown-linux-gnu testing
//! ```
//!
//! Alignment is left out: a damaged offset may be odd, which these machines read all the same.
//!
//! # Cost
//! A native case is some 120 KB, most of it libc's symbols and unwind entries, and takes milliseconds.

mod damage;
mod format;
pub mod record;
mod served;

pub use damage::{Random, check_damaged, walk_damaged};
pub use format::Error;

use crate::processes::Mapping;
use crate::runtimes;
use crate::tables::{OwnMemory, Tables, without_file};
use crate::walk::{ReadUser, Stop, Walk};
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt, RowSource};
use hotframe_runtime::memory::RECORDED_UNIT_BYTES;
use hotframe_runtime::{Frame, Runtime, Why};
use served::RecordedRuntimes;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Tables loaded for one walk at most, as in a session.
const MAX_LOADS: usize = 512;
/// Memory of tables.
const TABLES_BYTES: usize = 8 << 20;
/// Touched bytes are kept in pieces of this size.
const FILE_PIECE_BYTES: u64 = 512;
const MEMORY_PIECE_BYTES: u64 = RECORDED_UNIT_BYTES;
/// What lies so far above the stack pointer is the stack's.
const STACK_MAX_BYTES: u64 = 8 << 20;

/// A file, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedFile {
    /// Path, for expected frames.
    pub path: String,
    /// Length in bytes of the whole file.
    pub len: u64,
    /// Offset and bytes; ascending, disjoint.
    pub ranges: Vec<(u64, Vec<u8>)>,
}

/// A process at one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedProcess {
    /// arm64, else x86-64.
    pub arm64: bool,
    /// By DWARF number, the pc last.
    pub regs: [u64; abi::HF_NREGS as usize],
    /// Where thread-local storage is; 0: not known.
    pub tp: u64,
    /// Executable mappings, sorted; `file` is 1 + index into `files`.
    pub mappings: Vec<Mapping>,
    /// Files that are mapped executable.
    pub files: Vec<RecordedFile>,
    /// Address and bytes; ascending, disjoint.
    pub memory: Vec<(u64, Vec<u8>)>,
}

impl Default for RecordedProcess {
    fn default() -> RecordedProcess {
        RecordedProcess {
            arm64: false,
            regs: [0; abi::HF_NREGS as usize],
            tp: 0,
            mappings: Vec::new(),
            files: Vec::new(),
            memory: Vec::new(),
        }
    }
}

/// How the walk of a recorded process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// User frames, leaf first. A file's id is 1 + its index.
    pub words: Vec<u64>,
    /// `HF_CUT_*`.
    pub cut: u8,
    /// What could not be loaded (`HF_MISSING_*`), if that ended the walk.
    pub missing: u8,
    /// Some frame was found by a heuristic.
    pub is_heuristic: bool,
    /// Frames of a runtime are missing.
    pub has_lost_runtime: bool,
    /// What became of each frame of a runtime, in order: its frames, innermost first, or why it has
    /// none.
    pub named: Vec<Result<Vec<Frame>, Why>>,
    /// System calls that each of these would have taken in a live process.
    pub reads: Vec<u64>,
    /// Runtimes that were recognised but could not be used, and why.
    pub problems: Vec<String>,
}

/// Copies what `ranges` have of `[at, at + into.len())`; returns how many bytes.
fn copy(ranges: &[(u64, Vec<u8>)], at: u64, into: &mut [u8]) -> usize {
    let end = at.saturating_add(into.len() as u64);
    let mut copied = 0;
    let first = ranges.partition_point(|(start, bytes)| start + bytes.len() as u64 <= at);
    for (start, bytes) in ranges.get(first..).unwrap_or_default() {
        if *start >= end {
            break;
        }
        let (from, to) = ((*start).max(at), end.min(start + bytes.len() as u64));
        let source = bytes.get((from - start) as usize..(to - start) as usize);
        let target = into.get_mut((from - at) as usize..(to - at) as usize);
        if let (Some(source), Some(target)) = (source, target) {
            target.copy_from_slice(source);
            copied += target.len();
        }
    }
    copied
}

/// Bytes of a whole file or memory, with what was read of them.
#[derive(Clone)]
struct Traced {
    file: Arc<RecordedFile>,
    touched: Touched,
}

/// Numbers of the pieces that were read.
type Touched = Arc<Mutex<BTreeSet<u64>>>;

/// Notes that `len` bytes at `offset` were read.
fn touch(touched: &Touched, offset: u64, len: usize) {
    if let Some(last) = (len as u64).checked_sub(1) {
        let pieces = offset / FILE_PIECE_BYTES..=offset.saturating_add(last) / FILE_PIECE_BYTES;
        touched.lock().unwrap_or_else(PoisonError::into_inner).extend(pieces);
    }
}

impl ReadAt for Traced {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.file.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..n];
        buf.fill(0);
        copy(&self.file.ranges, offset, buf);
        touch(&self.touched, offset, n);
        Ok(n)
    }

    fn len(&self) -> u64 {
        self.file.len
    }
}

struct Memory<'a> {
    process: &'a RecordedProcess,
    touched: BTreeSet<u64>,
    files_touched: &'a [Touched],
    reads: u64,
    /// The process has gone on: only what is lasting can be read beside the stack.
    is_late: bool,
    /// Behind so many reads it is gone.
    ends_after: u64,
}

/// What a recorded process does while it is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Stopped,
    GoesOn,
    Ends { walk_reads: u64, runtime_reads: u64 },
}

impl ReadUser for Memory<'_> {
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
        self.reads += 1;
        let sp = self.process.regs[abi::HF_X86_RSP as usize];
        let is_beside = self.is_late && addr.wrapping_sub(sp) > STACK_MAX_BYTES;
        !is_beside && self.reads <= self.ends_after && self.read_any(addr, into)
    }

    fn read_lasting(&mut self, addr: u64, into: &mut [u8]) -> bool {
        self.reads += 1;
        if self.reads > self.ends_after {
            return false;
        }
        // As of files: who reads ahead of what was read when it was recorded finds zeros there.
        into.fill(0);
        let copied = copy(&self.process.memory, addr, into);
        (copied > 0 && copied < into.len()) || self.read_any(addr, into)
    }
}

impl Memory<'_> {
    fn read_any(&mut self, addr: u64, into: &mut [u8]) -> bool {
        if copy(&self.process.memory, addr, into) == into.len() {
            let last = addr.saturating_add(into.len() as u64 - 1) / MEMORY_PIECE_BYTES;
            self.touched.extend(addr / MEMORY_PIECE_BYTES..=last);
            return true;
        }
        // Text comes from the file.
        let end = addr.saturating_add(into.len() as u64);
        let Some(mapping) = self
            .process
            .mappings
            .iter()
            .find(|mapping| mapping.start <= addr && end <= mapping.end)
        else {
            return false;
        };
        let Some(at) = (mapping.file as usize).checked_sub(1) else {
            return false;
        };
        let offset = mapping.pgoff.wrapping_add(addr - mapping.start);
        if let Some(touched) = self.files_touched.get(at) {
            touch(touched, offset, into.len());
        }
        self.process
            .files
            .get(at)
            .is_some_and(|file| copy(&file.ranges, offset, into) == into.len())
    }
}

/// One run over a recorded process.
struct Run {
    walked: Walked,
    walk_reads: u64,
    #[cfg(test)]
    tables: Tables,
    #[cfg(test)]
    blob_off: u32,
    file_pieces: Vec<BTreeSet<u64>>,
    memory_pieces: BTreeSet<u64>,
}

impl RecordedProcess {
    /// Walks the process with tables built from its files; what belongs to one of `runtimes` is
    /// walked by its step and named.
    pub fn walk(&self, runtimes: &[&'static dyn Runtime]) -> Walked {
        self.run(runtimes, Course::Stopped).walked
    }

    /// The same when the process ends in the middle: when the walk has made `walk_reads`, or the
    /// runtimes `runtime_reads`, attaching included, they read nothing more of it.
    pub fn walk_dying(
        &self,
        runtimes: &[&'static dyn Runtime],
        walk_reads: u64,
        runtime_reads: u64,
    ) -> Walked {
        self.run(runtimes, Course::Ends { walk_reads, runtime_reads }).walked
    }

    /// The same (on x86-64) when the walk is finished in user space while the process goes on: what
    /// changes with calls is read of the copied stack alone.
    pub fn walk_late(&self, runtimes: &[&'static dyn Runtime]) -> Walked {
        self.run(runtimes, Course::GoesOn).walked
    }

    fn run(&self, registry: &[&'static dyn Runtime], course: Course) -> Run {
        let mut tables = Tables::new(Box::new(OwnMemory::new(TABLES_BYTES)));
        let touched: Vec<Touched> = self.files.iter().map(|_| Touched::default()).collect();
        let files: Vec<Traced> = self
            .files
            .iter()
            .zip(&touched)
            .map(|(file, touched)| Traced {
                file: Arc::new(file.clone()),
                touched: touched.clone(),
            })
            .collect();
        let mut sources: Vec<Option<RowSource<Traced>>> = files
            .iter()
            .map(|file| RowSource::new(ElfFile::open(file.clone()).ok()?).ok())
            .collect();
        let mut entries = self.map_files(&sources, &mut tables);
        let (ends_after, runtime_reads) = match course {
            Course::Ends { walk_reads, runtime_reads } => (walk_reads, runtime_reads),
            Course::Stopped | Course::GoesOn => (u64::MAX, u64::MAX),
        };
        let mut runtimes = RecordedRuntimes::attach(self, registry, &files, runtime_reads);
        for served in &runtimes.served {
            let table = tables.add_table(served.runtime.id(), served.attached.table());
            for region in served.attached.regions() {
                runtimes::overlay(&mut entries, *region, table.map_or(0, |table| table.off));
            }
        }
        let blob_off = tables.add_blob(&entries, 0).map_or(0, |blob| blob.off);
        let mut memory = Memory {
            process: self,
            touched: BTreeSet::new(),
            files_touched: &touched,
            reads: 0,
            is_late: course == Course::GoesOn,
            ends_after,
        };
        let mut walk = Walk::new(self.arm64, &self.regs, true, false, &[], 0)
            .with_runtimes(self.tp, &[0; abi::HF_RUNTIME_STATE_WORDS as usize]);
        if course == Course::GoesOn {
            walk = walk.late();
        }
        let mut end = (abi::HF_CUT_BUDGET as u8, abi::HF_MISSING_ROWS as u8);
        for _ in 0..MAX_LOADS {
            let (what, pc) = match walk.run(tables.memory(), blob_off, &mut memory) {
                Stop::Ended { cut, .. } => {
                    end = (cut, abi::HF_MISSING_NONE as u8);
                    break;
                }
                Stop::Missing { what, pc } => (what, pc),
            };
            end = (abi::HF_CUT_UNKNOWN_MAPPING as u8, what);
            let are_rows = u32::from(what) == abi::HF_MISSING_ROWS;
            if !are_rows || !add_rows_at(pc, &entries, &mut sources, &mut tables) {
                break;
            }
        }
        let named = runtimes.name(walk.words());
        let mut memory_pieces = memory.touched;
        memory_pieces.extend(runtimes.memory.touched());
        Run {
            walked: Walked {
                words: walk.words().to_vec(),
                cut: end.0,
                missing: end.1,
                is_heuristic: walk.is_heuristic(),
                has_lost_runtime: walk.lost().0 != 0,
                named,
                reads: runtimes.reads,
                problems: runtimes.problems,
            },
            walk_reads: memory.reads,
            #[cfg(test)]
            tables,
            #[cfg(test)]
            blob_off,
            file_pieces: touched
                .iter()
                .map(|pieces| {
                    std::mem::take(&mut *pieces.lock().unwrap_or_else(PoisonError::into_inner))
                })
                .collect(),
            memory_pieces,
        }
    }

    /// The process's mappings as the walk finds them, each with its file's table.
    fn map_files(
        &self,
        sources: &[Option<RowSource<Traced>>],
        tables: &mut Tables,
    ) -> Vec<abi::hf_mapping> {
        let mut entries = Vec::with_capacity(self.mappings.len());
        for mapping in &self.mappings {
            let mut entry = without_file(mapping.start, mapping.end);
            let source = (mapping.file as usize).checked_sub(1).and_then(|at| sources.get(at));
            if let Some(Some(source)) = source
                && let Some(image) = source.file().map_bias(mapping.start, mapping.pgoff)
                && let Some(off) = tables.add_file(mapping.file, source.n_blocks())
            {
                entry.image = image;
                entry.file_id = mapping.file;
                entry.file_off = off;
            }
            entries.push(entry);
        }
        entries
    }

    /// The same process with only the bytes that are read by a walk and by these runtimes.
    pub fn trimmed(&self, runtimes: &[&'static dyn Runtime]) -> RecordedProcess {
        let run = self.run(runtimes, Course::Stopped);
        let pieces = |ranges: &[(u64, Vec<u8>)], pieces: &BTreeSet<u64>, piece_bytes: u64| {
            let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
            for (start, bytes) in ranges {
                let end = start + bytes.len() as u64;
                for &piece in pieces.range(start / piece_bytes..end.div_ceil(piece_bytes)) {
                    let from = (piece * piece_bytes).max(*start);
                    let to = ((piece + 1) * piece_bytes).min(end);
                    let bytes = &bytes[(from - start) as usize..(to - start) as usize];
                    match out.last_mut() {
                        Some((at, last)) if *at + last.len() as u64 == from => {
                            last.extend_from_slice(bytes);
                        }
                        _ => out.push((from, bytes.to_vec())),
                    }
                }
            }
            out
        };
        let mut trimmed = self.clone();
        for (file, touched) in trimmed.files.iter_mut().zip(&run.file_pieces) {
            file.ranges = pieces(&file.ranges, touched, FILE_PIECE_BYTES);
        }
        trimmed.memory = pieces(&self.memory, &run.memory_pieces, MEMORY_PIECE_BYTES);
        trimmed
    }

    /// Frames as text, one a line, leaf first, and how the walk ended:
    /// `path+0xoffset [return] [heuristic]`, and for those of a runtime
    /// `name file:line from:first line [inlined] [internal]` or `unnamed: why`.
    pub fn render(&self, walked: &Walked) -> String {
        let mut text = String::new();
        let mut named = walked.named.iter();
        let mut at = 0;
        while let Some(&word) = walked.words.get(at) {
            let word = abi::FrameWord(word);
            at += 1 + word.n_data_words();
            match word.kind() {
                abi::HF_FRAME_DYNAMIC => match named.next() {
                    Some(Ok(frames)) => {
                        let lines: Vec<String> = frames.iter().map(render_frame).collect();
                        text.push_str(&lines.join("\n"));
                    }
                    Some(Err(why)) => {
                        let _ = write!(text, "unnamed: {why:?}");
                    }
                    None => {
                        let _ = write!(text, "runtime {}", word.runtime());
                    }
                },
                abi::HF_FRAME_NATIVE => {
                    let file = (word.file_id() as usize).checked_sub(1);
                    let path =
                        file.and_then(|at| self.files.get(at)).map_or("?", |file| &file.path);
                    let name = path.rsplit('/').next().unwrap_or(path);
                    let _ = write!(text, "{name}+{:#x}", word.image_offset());
                }
                abi::HF_FRAME_USER_PC => {
                    let _ = write!(text, "{:#x}", word.payload());
                }
                kind => {
                    let _ = write!(text, "kind {kind} {:#x}", word.payload());
                }
            }
            for (flag, name) in
                [(abi::HF_FRAME_RETURN_ADDR, " return"), (abi::HF_FRAME_HEURISTIC, " heuristic")]
            {
                if word.flags() & flag != 0 {
                    text.push_str(name);
                }
            }
            text.push('\n');
        }
        let _ = match (u32::from(walked.cut), u32::from(walked.missing)) {
            (abi::HF_CUT_NONE, _) => write!(text, "whole"),
            (cut, abi::HF_MISSING_NONE) => write!(text, "cut {cut}"),
            (cut, missing) => write!(text, "cut {cut}, missing {missing}"),
        };
        if walked.has_lost_runtime {
            text.push_str(", runtime lost");
        }
        text.push_str(if walked.is_heuristic { ", heuristic\n" } else { "\n" });
        for problem in &walked.problems {
            let _ = writeln!(text, "{problem}");
        }
        text
    }

    /// Process addresses of the frames, leaf first.
    pub fn addresses(&self, walked: &Walked) -> Vec<u64> {
        let run = walked.words.iter().map(|&word| {
            let word = abi::FrameWord(word);
            if word.kind() != abi::HF_FRAME_NATIVE {
                return word.payload();
            }
            let mappings = self.mappings.iter().filter(|mapping| mapping.file == word.file_id());
            for mapping in mappings {
                let at = (mapping.file as usize).wrapping_sub(1);
                let Some(file) = self.files.get(at) else { continue };
                let reader = Traced { file: Arc::new(file.clone()), touched: Touched::default() };
                let image = ElfFile::open(reader)
                    .ok()
                    .and_then(|elf| elf.map_bias(mapping.start, mapping.pgoff));
                let addr = image.map(|image| image.wrapping_add(u64::from(word.image_offset())));
                if let Some(addr) = addr.filter(|addr| (mapping.start..=mapping.end).contains(addr))
                {
                    return addr;
                }
            }
            0
        });
        run.collect()
    }
}

/// Adds the rows of the block that a pc lies in; false: there are none, or they are there already.
fn add_rows_at(
    pc: u64,
    entries: &[abi::hf_mapping],
    sources: &mut [Option<RowSource<Traced>>],
    tables: &mut Tables,
) -> bool {
    let Some(entry) = entries.iter().find(|entry| entry.start <= pc && pc < entry.end) else {
        return false;
    };
    let offset = pc.wrapping_sub(entry.image) as u32;
    let number = offset >> abi::HF_BLOCK_SHIFT;
    let at = (entry.file_id as usize).checked_sub(1);
    let source = at.and_then(|at| sources.get_mut(at)?.as_mut());
    let Some(Ok(block)) = source.map(|source| source.block(number)) else {
        return false;
    };
    !tables.has_block(entry.file_id, offset)
        && tables.add_block(entry.file_id, number, &block.rows, &block.rules)
}

/// A frame of a runtime as a line of text.
fn render_frame(frame: &Frame) -> String {
    let mut text = String::from_utf8_lossy(&frame.name).into_owned();
    if !frame.file.is_empty() || frame.line != 0 {
        let file = String::from_utf8_lossy(&frame.file);
        let _ = write!(text, " {file}:{} from:{}", frame.line, frame.start_line);
    }
    for (is, word) in [(frame.inlined, " inlined"), (frame.is_internal, " internal")] {
        if is {
            text.push_str(word);
        }
    }
    text
}

/// `testing/recorded` of this source tree.
fn recorded_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recorded")
}

/// The kinds that there are cases of: folders of `testing/recorded` that hold folders.
///
/// # Panics
/// If the folder cannot be read: for tests.
pub fn recorded_kinds() -> Vec<String> {
    let list = |path: &Path| -> Vec<std::fs::DirEntry> {
        std::fs::read_dir(path)
            .unwrap_or_else(|cause| panic!("reading {}: {cause}", path.display()))
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .collect()
    };
    let mut kinds: Vec<String> = list(&recorded_dir())
        .into_iter()
        .filter(|entry| !list(&entry.path()).is_empty())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    kinds.sort();
    kinds
}

/// The cases of a kind with their folders, sorted by name.
///
/// # Panics
/// If the folder or a case cannot be read, or there is none: for tests.
pub fn recorded_cases(kind: &str) -> Vec<(PathBuf, RecordedProcess)> {
    let dir = recorded_dir().join(kind);
    let entries = std::fs::read_dir(&dir)
        .unwrap_or_else(|cause| panic!("reading {}: {cause}", dir.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|cause| panic!("{}: {cause}", dir.display())).path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no case in {}", dir.display());
    paths
        .into_iter()
        .map(|path| {
            let file = path.join("process.bin");
            let process = std::fs::read(&file)
                .map_err(Error::Io)
                .and_then(|bytes| RecordedProcess::from_bytes(&bytes))
                .unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
            (path, process)
        })
        .collect()
}

/// Every recorded process of `testing/recorded/<kind>` unwinds to its `expected.txt`, with the frames
/// of these runtimes named. With `UPDATE=1` in the environment that file is written instead.
///
/// # Panics
/// If a case differs, cannot be read, or there is none: for tests.
pub fn check_recorded(runtimes: &[&'static dyn Runtime], kind: &str) {
    let mut wrong = String::new();
    for (path, process) in recorded_cases(kind) {
        let got = process.render(&process.walk(runtimes));
        let file = path.join("expected.txt");
        if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
            std::fs::write(&file, &got)
                .unwrap_or_else(|cause| panic!("writing {}: {cause}", file.display()));
            continue;
        }
        let expected = std::fs::read_to_string(&file)
            .unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
        if got != expected {
            let line = got.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
            let _ = writeln!(
                wrong,
                "{}: line {}: got {:?}, expected {:?}",
                path.display(),
                line + 1,
                got.lines().nth(line),
                expected.lines().nth(line),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[cfg(test)]
mod tests {
    use super::damage::{check_walked, n_mutations};
    use super::*;
    use hotframe_abi::SharedMemory as _;

    /// Each recorded process unwinds to its `expected.txt`. UPDATE=1 rewrites.
    #[test]
    fn recorded() {
        check_recorded(&[], "native");
    }

    /// What is written is read again; what is trimmed walks alike.
    #[test]
    fn written_and_read_again() {
        for (path, process) in recorded_cases("native") {
            let bytes = process.to_bytes().expect("memory");
            let again = RecordedProcess::from_bytes(&bytes).expect("what was written");
            assert_eq!(again, process, "{}", path.display());
            assert_eq!(process.trimmed(&[]).walk(&[]), process.walk(&[]), "{}", path.display());
        }
    }

    impl Random {
        /// Flips bits, writes extremes, copies words over others.
        fn mutate(&mut self, bytes: &mut [u8]) {
            for _ in 0..=self.below(16) {
                let at = self.below(bytes.len());
                match self.below(4) {
                    0 => bytes[at] ^= 1 << self.below(8),
                    1 => bytes[at] = self.next() as u8,
                    2 => {
                        let value = [0, u64::MAX, i64::MAX as u64, 0x7fff_ffff, 4096, self.next()]
                            [self.below(6)];
                        let n = bytes.len().min(at + 8) - at;
                        bytes[at..at + n].copy_from_slice(&value.to_le_bytes()[..n]);
                    }
                    _ => {
                        let from = self.below(bytes.len());
                        let n = (bytes.len() - at).min(bytes.len() - from).min(8);
                        bytes.copy_within(from..from + n, at);
                    }
                }
            }
        }
    }

    /// The damage that recorded runtimes get.
    #[test]
    fn damaged_in_place() {
        check_damaged(&[], "native");
    }

    /// Damaged recordings — registers, mappings, ELF files, stacks — give some walk or an error.
    #[test]
    fn damaged_recordings() {
        let mut random = Random(1);
        for (_, process) in recorded_cases("native") {
            let mut plain = Vec::new();
            process.encode(&mut plain);
            for _ in 0..n_mutations(20) {
                let mut damaged = plain.clone();
                // The head, mappings and lengths are few bytes among many.
                let within = if random.below(2) == 0 { 1024 } else { plain.len() };
                random.mutate(&mut damaged[8..within]);
                if random.below(8) == 0 {
                    damaged.truncate(random.below(plain.len()));
                }
                if let Ok(process) = RecordedProcess::decode(&damaged) {
                    check_walked(&process.walk(&[]));
                }
            }
        }
    }

    /// Damaged registers, stacks and texts alone: these reach deep into the walk.
    #[test]
    fn damaged_memory() {
        let mut random = Random(2);
        for (_, process) in recorded_cases("native") {
            for _ in 0..n_mutations(20) {
                let mut damaged = process.clone();
                if random.below(2) == 0 {
                    let at = random.below(damaged.regs.len());
                    damaged.regs[at] = damaged.regs[random.below(33)]
                        .wrapping_add(random.below(1 << 14) as u64)
                        .wrapping_sub(1 << 13);
                }
                for (_, bytes) in &mut damaged.memory {
                    random.mutate(bytes);
                }
                check_walked(&damaged.walk(&[]));
            }
        }
    }

    /// Tables overwritten while they are read: every offset and count in memory may be anything.
    #[test]
    fn damaged_tables() {
        let mut random = Random(3);
        for (_, process) in recorded_cases("native") {
            let run = process.run(&[], Course::Stopped);
            let used = run.tables.stats().touched_bytes as usize;
            let heap = abi::HF_HEAP_OFF as usize;
            let plain = snapshot(run.tables.memory(), heap + used);
            for _ in 0..n_mutations(50) {
                let mut damaged = plain.clone();
                random.mutate(&mut damaged[heap..]);
                // A memory that ends anywhere, too.
                if random.below(4) == 0 {
                    damaged.truncate(heap + random.below(used));
                }
                let mut memory = OwnMemory::new(damaged.len());
                memory.write(0, &damaged);
                let mut walk = Walk::new(process.arm64, &process.regs, true, false, &[], 0);
                let mut user = Memory {
                    process: &process,
                    touched: BTreeSet::new(),
                    files_touched: &[],
                    reads: 0,
                    is_late: false,
                    ends_after: u64::MAX,
                };
                let _ = walk.run(&memory, run.blob_off, &mut user);
                assert!(walk.words().len() <= abi::HF_MAX_STACK_WORDS as usize);
            }
        }
    }

    /// The first bytes of memory.
    fn snapshot(memory: &dyn abi::SharedMemory, n: usize) -> Vec<u8> {
        let (base, len) = memory.as_raw();
        // SAFETY: `OwnMemory` says where its bytes are and how many; nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(base, n.min(len as usize)) }.to_vec()
    }
}
