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
//! # Format of `process.bin`
//! gzip of little-endian fields. All counts are `u32`, strings and byte ranges are preceded by
//! their length as `u32`.
//!
//! ```text
//! "hfproc02"  arm64: u32 (0, 1)  regs: [u64; 33], by DWARF number, pc last (abi.h)
//! tp: u64, where thread-local storage is ("hfproc01" has none)
//! n mappings: start u64, end u64, pgoff u64, file u32 (1 + index into files; 0: anonymous)
//! n files:    path, length u64, n ranges: offset u64, bytes
//! n memory:   address u64, bytes
//! ```
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

pub mod record;

use crate::processes::Mapping;
use crate::runtimes;
use crate::tables::{OwnMemory, Tables, without_file};
use crate::walk::{ReadUser, Stop, Walk};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt, RowSource};
use hotframe_runtime::memory::RECORDED_UNIT_BYTES;
use hotframe_runtime::{Attached, Frame, KNOWN_WORDS, Known, Outcome, RawFrame, Runtime, Why};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"hfproc02";
/// Without `tp`.
const MAGIC_OLD: &[u8; 8] = b"hfproc01";
/// Bounds of what is read: a recording is foreign bytes like any other.
const MAX_BYTES: u64 = 64 << 20;
const MAX_ITEMS: usize = 65536;
/// Tables loaded for one walk at most, as in a session.
const MAX_LOADS: usize = 512;
/// Memory of tables.
const TABLES_BYTES: usize = 8 << 20;
/// Touched bytes are kept in pieces of this size.
const FILE_PIECE_BYTES: u64 = 512;
const MEMORY_PIECE_BYTES: u64 = RECORDED_UNIT_BYTES;
/// What lies so far above the stack pointer is the stack's.
const STACK_MAX_BYTES: u64 = 8 << 20;
/// A walk of [`abi::HF_MAX_STEPS`] steps reads no more often: a step makes some tens of reads at most.
const WALK_READS_MAX: u64 = abi::HF_MAX_STEPS as u64 * 128;
/// Naming one frame reads no more often: 128 methods inlined into each other, each with a table of
/// lines of 64 pages that is read twice.
const FRAME_READS_MAX: u64 = 128 * 160;

/// Why a recorded process cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin like one.
    #[error("not a recorded process")]
    NotRecorded,
    /// It ends early, or a count is above its bound.
    #[error("damaged at byte {at} of a recorded process")]
    Damaged {
        /// Byte of the decompressed file.
        at: usize,
    },
    /// It could not be read or decompressed.
    #[error("reading a recorded process")]
    Io(#[from] io::Error),
}

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

/// A runtime at work in a recorded process.
struct Served {
    runtime: &'static dyn Runtime,
    bias: u64,
    attached: Box<dyn Attached>,
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
            let entry = entries.iter().find(|entry| entry.start <= pc && pc < entry.end);
            let Some(entry) = entry.filter(|_| u32::from(what) == abi::HF_MISSING_ROWS) else {
                break;
            };
            let offset = pc.wrapping_sub(entry.image) as u32;
            let number = offset >> abi::HF_BLOCK_SHIFT;
            let source = (entry.file_id as usize)
                .checked_sub(1)
                .and_then(|at| sources.get_mut(at)?.as_mut());
            let Some(Ok(block)) = source.map(|source| source.block(number)) else {
                break;
            };
            if tables.has_block(entry.file_id, offset)
                || !tables.add_block(entry.file_id, number, &block.rows, &block.rules)
            {
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

    /// Writes `process.bin`.
    ///
    /// # Errors
    /// What compressing into memory says, which is nothing in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        self.encode(&mut plain);
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(&plain)?;
        Ok(out.finish()?)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        out.extend(MAGIC);
        out.extend(u32::from(self.arm64).to_le_bytes());
        out.extend(self.regs.iter().flat_map(|reg| reg.to_le_bytes()));
        out.extend(self.tp.to_le_bytes());
        out.extend((self.mappings.len() as u32).to_le_bytes());
        for mapping in &self.mappings {
            for value in [mapping.start, mapping.end, mapping.pgoff] {
                out.extend(value.to_le_bytes());
            }
            out.extend(mapping.file.to_le_bytes());
        }
        out.extend((self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            bytes(out, file.path.as_bytes());
            out.extend(file.len.to_le_bytes());
            out.extend((file.ranges.len() as u32).to_le_bytes());
            for (at, range) in &file.ranges {
                out.extend(at.to_le_bytes());
                bytes(out, range);
            }
        }
        out.extend((self.memory.len() as u32).to_le_bytes());
        for (at, range) in &self.memory {
            out.extend(at.to_le_bytes());
            bytes(out, range);
        }
    }

    /// Reads `process.bin`.
    ///
    /// # Errors
    /// [`Error::NotRecorded`], [`Error::Damaged`], [`Error::Io`].
    pub fn from_bytes(bytes: &[u8]) -> Result<RecordedProcess, Error> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut plain)?;
        Self::decode(&plain)
    }

    fn decode(plain: &[u8]) -> Result<RecordedProcess, Error> {
        let mut fields = Fields { bytes: plain, at: 0 };
        let magic = fields.take(8).ok();
        if magic != Some(MAGIC.as_slice()) && magic != Some(MAGIC_OLD.as_slice()) {
            return Err(Error::NotRecorded);
        }
        let mut process = RecordedProcess { arm64: fields.u32()? == 1, ..Default::default() };
        for reg in &mut process.regs {
            *reg = fields.u64()?;
        }
        if magic == Some(MAGIC.as_slice()) {
            process.tp = fields.u64()?;
        }
        for _ in 0..fields.count()? {
            process.mappings.push(Mapping {
                start: fields.u64()?,
                end: fields.u64()?,
                pgoff: fields.u64()?,
                file: fields.u32()?,
            });
        }
        for _ in 0..fields.count()? {
            let path = String::from_utf8_lossy(fields.bytes()?).into_owned();
            let len = fields.u64()?;
            process.files.push(RecordedFile { path, len, ranges: fields.ranges()? });
        }
        process.memory = fields.ranges()?;
        process.mappings.sort_by_key(|mapping| mapping.start);
        Ok(process)
    }
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

/// Functions that are known again, as the frame store knows them.
#[derive(Default)]
struct Remembered(RefCell<HashMap<[u64; KNOWN_WORDS], Frame>>);

impl Known for Remembered {
    fn find(&self, words: &[u64; KNOWN_WORDS]) -> Option<Frame> {
        self.0.borrow().get(words).cloned()
    }

    fn keep(&self, words: &[u64; KNOWN_WORDS], frame: &Frame) {
        self.0.borrow_mut().insert(*words, frame.clone());
    }
}

/// Runtimes at work in a recorded process.
struct RecordedRuntimes<'a> {
    process: &'a RecordedProcess,
    files: &'a [Traced],
    memory: hotframe_runtime::Memory,
    known: Remembered,
    served: Vec<Served>,
    problems: Vec<String>,
    reads: Vec<u64>,
}

impl<'a> RecordedRuntimes<'a> {
    /// Those of the registry that a file of the process is.
    fn attach(
        process: &'a RecordedProcess,
        registry: &[&'static dyn Runtime],
        files: &'a [Traced],
        ends_after: u64,
    ) -> RecordedRuntimes<'a> {
        let memory = match registry {
            [] => Vec::new(),
            _ => process.memory.clone(),
        };
        let mut all = RecordedRuntimes {
            process,
            files,
            memory: hotframe_runtime::Memory::recorded(memory),
            known: Remembered::default(),
            served: Vec::new(),
            problems: Vec::new(),
            reads: Vec::new(),
        };
        all.memory.end_after(ends_after);
        if registry.is_empty() {
            return all;
        }
        for (at, file) in files.iter().enumerate() {
            let Ok(elf) = ElfFile::open(file as &dyn ReadAt) else { continue };
            let mapping = process.mappings.iter().find(|mapping| mapping.file as usize == at + 1);
            let Some(mapping) = mapping else { continue };
            let Some(image) = elf.map_bias(mapping.start, mapping.pgoff) else { continue };
            let bias = image.wrapping_sub(elf.image_base());
            for recognised in runtimes::recognise(registry, &file.file.path, &elf) {
                let runtime = recognised.runtime;
                let attached = recognised.layout.and_then(|layout| {
                    all.with(bias, |view| layout.attach(view)).map_err(|why| why.to_string())
                });
                match attached {
                    Ok(attached) => all.served.push(Served { runtime, bias, attached }),
                    Err(why) => all.problems.push(format!("{}: {why}", runtime.name())),
                }
            }
        }
        all
    }

    fn with<T>(&self, bias: u64, f: impl FnOnce(&hotframe_runtime::Process<'_>) -> T) -> T {
        let make = || {
            let mappings = self.process.mappings.iter();
            let path = |file: u32| {
                let at = (file as usize).checked_sub(1);
                at.and_then(|at| self.files.get(at)).map(|file| file.file.path.clone())
            };
            mappings
                .map(|mapping| hotframe_runtime::Mapping {
                    start: mapping.start,
                    end: mapping.end,
                    pgoff: mapping.pgoff,
                    path: path(mapping.file).unwrap_or_default(),
                })
                .collect()
        };
        let open = |wanted: &hotframe_runtime::Mapping| {
            let mapping =
                self.process.mappings.iter().find(|mapping| mapping.start == wanted.start)?;
            let file = self.files.get((mapping.file as usize).checked_sub(1)?)?;
            Some(Arc::new(file.clone()) as Arc<dyn ReadAt + Send + Sync>)
        };
        f(&hotframe_runtime::Process {
            pid: 0,
            bias,
            memory: &self.memory,
            naming: hotframe_runtime::Naming::default(),
            known: &self.known,
            mappings: &hotframe_runtime::Mappings::new(&make),
            open: &open,
        })
    }

    /// Names the frames of runtimes among the words.
    fn name(&mut self, words: &[u64]) -> Vec<Result<Vec<Frame>, Why>> {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(&head) = words.get(at) {
            let head = abi::FrameWord(head);
            let data = words.get(at + 1..at + 1 + head.n_data_words()).unwrap_or_default();
            at += 1 + head.n_data_words();
            if head.kind() != abi::HF_FRAME_DYNAMIC {
                continue;
            }
            let raw = RawFrame { head, data, told: None };
            let mut answer = Err(Why::ProcessGone);
            let before = self.memory.reads();
            let mut served = std::mem::take(&mut self.served);
            for served in served.iter_mut().filter(|one| one.runtime.id() == head.runtime()) {
                self.memory.forget();
                let mut frames = Vec::new();
                let outcome =
                    self.with(served.bias, |view| served.attached.resolve(&raw, view, &mut frames));
                match outcome {
                    Outcome::Named => {
                        answer = Ok(frames);
                        break;
                    }
                    Outcome::Unnamed(why) => answer = Err(why),
                }
            }
            self.served = served;
            all.push(answer);
            self.reads.push(self.memory.reads() - before);
        }
        all
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let damaged = Error::Damaged { at: self.at };
        let end = self.at.saturating_add(n);
        let taken = self.bytes.get(self.at..end).ok_or(damaged)?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
    }

    fn count(&mut self) -> Result<usize, Error> {
        let at = self.at;
        Some(self.u32()? as usize).filter(|&n| n <= MAX_ITEMS).ok_or(Error::Damaged { at })
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let n = self.u32()?;
        self.take(n as usize)
    }

    /// Ascending and disjoint, or it is damaged.
    fn ranges(&mut self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut ranges = Vec::new();
        let mut end = 0;
        for _ in 0..self.count()? {
            let at = self.at;
            let start = self.u64()?;
            let bytes = self.bytes()?.to_vec();
            let next = start.checked_add(bytes.len() as u64);
            end = next.filter(|_| start >= end).ok_or(Error::Damaged { at })?;
            ranges.push((start, bytes));
        }
        Ok(ranges)
    }
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

/// Every recorded process of `testing/recorded/<kind>`, damaged in many ways, still ends: no panic, no
/// walk and no name that takes more reads than the bounds allow. The same damage in every run;
/// `MUTATIONS=100000` for a long one.
///
/// # Panics
/// If a bound is passed, a case cannot be read, or there is none: for tests.
pub fn check_damaged(runtimes: &[&'static dyn Runtime], kind: &str) {
    let mut random = Random(4);
    let (mut walks, mut named, mut differ) = (0, 0, 0);
    for (_, process) in recorded_cases(kind) {
        let whole = process.walk(runtimes);
        for _ in 0..n_mutations(30) {
            let edits: Vec<u8> = (0..random.below(8) * EDIT_BYTES + EDIT_BYTES)
                .map(|_| random.next() as u8)
                .collect();
            let walked = walk_damaged(runtimes, &process, &edits);
            walks += 1;
            named += walked.named.iter().filter(|frames| frames.is_ok()).count();
            differ += usize::from(walked != whole);
        }
    }
    // Damage that is nowhere looked at, and damage after which nothing is left, would prove nothing.
    assert!(differ * 8 > walks, "{differ} of {walks} walks were hit");
    assert!(runtimes.is_empty() || named > walks, "{named} frames named in {walks} walks");
}

/// Walks a recorded process that was damaged as `edits` say, and checks the bounds.
///
/// # Panics
/// If one is passed: for tests and fuzzing.
pub fn walk_damaged(
    runtimes: &[&'static dyn Runtime],
    process: &RecordedProcess,
    edits: &[u8],
) -> Walked {
    let mut damaged = process.clone();
    for edit in edits.chunks_exact(EDIT_BYTES) {
        damaged.damage(edit);
    }
    let run = damaged.run(runtimes, Course::Stopped);
    check_walked(&run.walked);
    assert!(run.walk_reads <= WALK_READS_MAX, "a walk made {} reads", run.walk_reads);
    let frame_reads = run.walked.reads.iter().max().copied().unwrap_or_default();
    assert!(frame_reads <= FRAME_READS_MAX, "a name took {frame_reads} reads");
    run.walked
}

fn check_walked(walked: &Walked) {
    assert!(walked.words.len() <= abi::HF_MAX_STACK_WORDS as usize);
    assert!(u32::from(walked.cut) < abi::HF_CUT_COUNT);
    for frames in walked.named.iter().flatten() {
        assert!(!frames.is_empty() && frames.iter().all(|frame| !frame.name.is_empty()));
    }
}

/// Bytes of an edit: what, where (6), with what (8), and one to spare.
const EDIT_BYTES: usize = 16;

impl RecordedProcess {
    /// Damages one thing, mostly where it hurts.
    fn damage(&mut self, edit: &[u8]) {
        let byte = |at: usize| edit.get(at).copied().unwrap_or_default();
        let word = |from: usize, n: usize| {
            (from..from + n).rev().fold(0u64, |word, at| word << 8 | u64::from(byte(at)))
        };
        let (what, place, value) = (byte(0), word(1, 6), word(7, 8));
        let pick = |n: usize| (place % n.max(1) as u64) as usize;
        // A value that a pointer, a length or a count may have, or any.
        let pieces = self.memory.len();
        let inside = |memory: &[(u64, Vec<u8>)]| {
            memory.get((value >> 32) as usize % pieces.max(1)).map_or(value, |(start, bytes)| {
                start.wrapping_add((value % (bytes.len() as u64 + 16)) & !7)
            })
        };
        let value = match byte(15) % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MAX as u64,
            3 => value & 0xff,
            4 => value & 0xffff_ffff,
            5 | 6 => inside(&self.memory),
            _ => value,
        };
        match what % 16 {
            0 => {
                let at = pick(self.regs.len());
                if let Some(reg) = self.regs.get_mut(at) {
                    *reg = value;
                }
            }
            1 => {
                let at = pick(self.regs.len());
                if let Some(reg) = self.regs.get_mut(at) {
                    *reg = reg.wrapping_add(value & 0xffff).wrapping_sub(0x8000);
                }
            }
            2 if pieces != 0 => {
                self.memory.remove(pick(pieces));
            }
            3 => {
                let at = pick(pieces);
                if let Some((_, bytes)) = self.memory.get_mut(at) {
                    bytes.truncate((value % (bytes.len() as u64 + 1)) as usize);
                }
            }
            4 => {
                let at = pick(self.mappings.len());
                if let Some(mapping) = self.mappings.get_mut(at) {
                    match value % 3 {
                        0 => mapping.file = value as u32 % (self.files.len() as u32 + 2),
                        1 => mapping.pgoff = value,
                        _ => mapping.end = mapping.start.saturating_add(value & 0xffff_ffff),
                    }
                }
            }
            5 => {
                let at = pick(self.files.len());
                if let Some(file) = self.files.get_mut(at) {
                    let ranges = file.ranges.len();
                    let range = file.ranges.get_mut((value >> 8) as usize % ranges.max(1));
                    if let Some((_, bytes)) = range
                        && !bytes.is_empty()
                    {
                        let at = (value >> 16) as usize % bytes.len();
                        bytes[at] = value as u8;
                    }
                }
            }
            6 => self.tp = value,
            what => {
                let at = pick(pieces);
                let Some((_, bytes)) = self.memory.get_mut(at) else { return };
                let at = (place >> 16) as usize % bytes.len().max(1);
                // Words stand at multiples of 8 mostly, halves at multiples of 4, and so on.
                let len = [8, 8, 8, 4, 4, 2, 1, 1, 1][usize::from(what - 7)];
                let at = at / len * len;
                if let Some(target) = bytes.get_mut(at..at + len) {
                    match what {
                        13 => target[0] ^= 1 << (value & 7),
                        _ => target.copy_from_slice(&value.to_le_bytes()[..len]),
                    }
                }
            }
        }
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014): the same mutations in every run.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nothing iterates it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// How many mutations of each case; `MUTATIONS=100000` for a long run.
fn n_mutations(default: usize) -> usize {
    std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
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
