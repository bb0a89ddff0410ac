//! Recorded processes: the production walk run over them, without root and without the process.
//!
//! In: `process.bin`, a process as it stood at one instruction: registers, executable mappings, the
//! pages of its stack and the ranges of its files that unwinding read. Out: its frames as text.
//!
//! # How it works
//! Rows are built from the recorded bytes of the ELF files by `hotframe-objects`, put into tables
//! as in a recording, and walked by the kernel half's own C ([`crate::walk`]). A case is a folder of
//! `testing/recorded/<kind>/`: `process.bin`, `about.md` (what it is and what an independent tool
//! says of it) and `expected.txt`. Cases are made by `testing/recorded/record.sh`, which stops a
//! program with gdb and keeps a case only if gdb sees the same frames (but where it is misled).
//!
//! # Format of `process.bin`
//! gzip of little-endian fields. All counts are `u32`, strings and byte ranges are preceded by
//! their length as `u32`.
//!
//! ```text
//! "hfproc01"  arm64: u32 (0, 1)  regs: [u64; 33], by DWARF number, pc last (abi.h)
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
//! Mutated recordings and tables are walked by the tests here, more of them with `MUTATIONS=N`. With
//! the walk's C under sanitizers:
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
//! A case is some 120 KB, most of it libc's symbols and unwind entries, and takes milliseconds.

use crate::processes::Mapping;
use crate::tables::{OwnMemory, Tables};
use crate::walk::{ReadUser, Stop, Walk};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt, RowSource};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MAGIC: &[u8; 8] = b"hfproc01";
/// Bounds of what is read: a recording is foreign bytes like any other.
const MAX_BYTES: u64 = 64 << 20;
const MAX_ITEMS: usize = 65536;
/// Tables loaded for one walk at most, as in a session.
const MAX_LOADS: usize = 512;
/// Memory of tables.
const TABLES_BYTES: usize = 8 << 20;
/// Touched bytes are kept in pieces of this size.
const FILE_PIECE_BYTES: u64 = 512;
const MEMORY_PIECE_BYTES: u64 = 4096;

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
    file: Rc<RecordedFile>,
    touched: Rc<RefCell<BTreeSet<u64>>>,
}

impl ReadAt for Traced {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.file.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..n];
        buf.fill(0);
        copy(&self.file.ranges, offset, buf);
        if n > 0 {
            let last = (offset + n as u64 - 1) / FILE_PIECE_BYTES;
            self.touched.borrow_mut().extend(offset / FILE_PIECE_BYTES..=last);
        }
        Ok(n)
    }

    fn len(&self) -> u64 {
        self.file.len
    }
}

struct Memory<'a> {
    process: &'a RecordedProcess,
    touched: BTreeSet<u64>,
    files_touched: &'a [Rc<RefCell<BTreeSet<u64>>>],
}

impl ReadUser for Memory<'_> {
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
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
            let last = offset.saturating_add(into.len() as u64 - 1) / FILE_PIECE_BYTES;
            touched.borrow_mut().extend(offset / FILE_PIECE_BYTES..=last);
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
    #[cfg(test)]
    tables: Tables,
    #[cfg(test)]
    blob_off: u32,
    file_pieces: Vec<BTreeSet<u64>>,
    memory_pieces: BTreeSet<u64>,
}

impl RecordedProcess {
    /// Walks the process with tables built from its files.
    pub fn walk(&self) -> Walked {
        self.run().walked
    }

    fn run(&self) -> Run {
        let mut tables = Tables::new(Box::new(OwnMemory::new(TABLES_BYTES)));
        let touched: Vec<Rc<RefCell<BTreeSet<u64>>>> =
            self.files.iter().map(|_| Rc::default()).collect();
        let mut sources: Vec<Option<RowSource<Traced>>> = self
            .files
            .iter()
            .zip(&touched)
            .map(|(file, touched)| {
                let file = Traced { file: Rc::new(file.clone()), touched: touched.clone() };
                RowSource::new(ElfFile::open(file).ok()?).ok()
            })
            .collect();
        let mut entries = Vec::with_capacity(self.mappings.len());
        for mapping in &self.mappings {
            let mut entry = abi::hf_mapping {
                start: mapping.start,
                end: mapping.end,
                image: mapping.start,
                file_id: 0,
                file_off: 0,
                runtime_off: 0,
                reserved: 0,
            };
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
        let blob_off = tables.add_blob(&entries).map_or(0, |blob| blob.off);
        let mut memory =
            Memory { process: self, touched: BTreeSet::new(), files_touched: &touched };
        let mut walk = Walk::new(self.arm64, &self.regs, true, false, &[], 0);
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
        Run {
            walked: Walked {
                words: walk.words().to_vec(),
                cut: end.0,
                missing: end.1,
                is_heuristic: walk.is_heuristic(),
            },
            #[cfg(test)]
            tables,
            #[cfg(test)]
            blob_off,
            file_pieces: touched.iter().map(|pieces| pieces.take()).collect(),
            memory_pieces: memory.touched,
        }
    }

    /// The same process with only the bytes that a walk reads.
    pub fn trimmed(&self) -> RecordedProcess {
        let run = self.run();
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
    /// `path+0xoffset [return] [heuristic]`.
    pub fn render(&self, walked: &Walked) -> String {
        let mut text = String::new();
        for &word in &walked.words {
            let word = abi::FrameWord(word);
            match word.kind() {
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
        text.push_str(if walked.is_heuristic { ", heuristic\n" } else { "\n" });
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
                let reader = Traced { file: Rc::new(file.clone()), touched: Rc::default() };
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
        if fields.take(8).ok() != Some(MAGIC.as_slice()) {
            return Err(Error::NotRecorded);
        }
        let mut process = RecordedProcess { arm64: fields.u32()? == 1, ..Default::default() };
        for reg in &mut process.regs {
            *reg = fields.u64()?;
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

/// Every recorded process of `testing/recorded/<kind>` unwinds to its `expected.txt`. With `UPDATE=1`
/// in the environment that file is written instead.
///
/// # Panics
/// If a case differs, cannot be read, or there is none: for tests.
pub fn check_recorded(kind: &str) {
    let mut wrong = String::new();
    for (path, process) in recorded_cases(kind) {
        let got = process.render(&process.walk());
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
    use super::*;
    use hotframe_abi::SharedMemory as _;

    /// Each recorded process unwinds to its `expected.txt`. UPDATE=1 rewrites.
    #[test]
    fn recorded() {
        check_recorded("native");
    }

    /// What is written is read again; what is trimmed walks alike.
    #[test]
    fn written_and_read_again() {
        for (path, process) in recorded_cases("native") {
            let bytes = process.to_bytes().expect("memory");
            let again = RecordedProcess::from_bytes(&bytes).expect("what was written");
            assert_eq!(again, process, "{}", path.display());
            assert_eq!(process.trimmed().walk(), process.walk(), "{}", path.display());
        }
    }

    /// SplitMix64 (Steele et al., OOPSLA 2014): the same mutations in every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, n: usize) -> usize {
            (self.next() % n.max(1) as u64) as usize
        }

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

    /// How many mutations of each case; `MUTATIONS=100000` for a long run.
    fn n_mutations(default: usize) -> usize {
        std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
    }

    fn check_walked(walked: &Walked) {
        assert!(walked.words.len() <= abi::HF_MAX_WORDS as usize);
        assert!(u32::from(walked.cut) < abi::HF_CUT_COUNT);
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
                    check_walked(&process.walk());
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
                check_walked(&damaged.walk());
            }
        }
    }

    /// Tables overwritten while they are read: every offset and count in memory may be anything.
    #[test]
    fn damaged_tables() {
        let mut random = Random(3);
        for (_, process) in recorded_cases("native") {
            let run = process.run();
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
                let mut user =
                    Memory { process: &process, touched: BTreeSet::new(), files_touched: &[] };
                let _ = walk.run(&memory, run.blob_off, &mut user);
                assert!(walk.words().len() <= abi::HF_MAX_WORDS as usize);
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
