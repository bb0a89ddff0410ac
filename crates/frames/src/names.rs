//! Identity: modules, sources, functions, frames and inline chains, each by value and dense.
//!
//! # Layout
//! | table | row | bytes |
//! |---|---|---|
//! | module | path: text, build id: text | 8 |
//! | source | file: text, kind:8 and module:24 | 8 |
//! | function | name:32, first frame:32, source:24, start line:24 | 14 |
//! | frame | function:32, line:24, flags:8 | 8 |
//! | chain | length, then frames, innermost first | 4 + 4 a frame |
//!
//! A function's name stands in the arena for it alone, so that one index finds name and function: by
//! the hash of the text. Another function of that name, from another file or line, refers to the first
//! one instead of a text of its own (the highest bit of `name` says so), and stands in the same index
//! by the hash of that reference and the rest. A name takes two probes at most, however many functions
//! have it.
//!
//! Most functions have one frame. A function's first frame is found by the function's row, so that only
//! the frames after it stand in an index.
//!
//! A function whose symbol differs from its name keeps both in one text, `name NUL symbol`; no
//! kept text holds a NUL of its own. Module 0 is the one of code that has none, source 0 is code of no
//! file, kind and module.
//!
//! # Cost
//! A new function with its first frame: a hash of its name, one probe, one entry of one index, 22 bytes of
//! rows, its text and a byte or two. A sweep that frees a function keeps its row while others have its
//! name.

use std::borrow::Cow;

use crate::budget::{Budget, Refused};
use crate::column::Column;
use crate::hash::Seed;
use crate::index::Index;
use crate::marks::Marks;
use crate::strings::{Arena, ID_END, Strings};
use crate::text::{clean, is_plain};

/// The frame was inlined into its caller.
pub const INLINED: u8 = 1;
/// The frame was found by a heuristic.
pub const HEURISTIC: u8 = 2;
/// No name is known for the code; the function's name says what is.
pub const UNNAMED: u8 = 4;

/// Lines beyond this are kept as 0, unknown.
pub const MAX_LINE: u32 = (1 << 24) - 1;
/// Frames of one inline chain that are kept; those nearest to the physical function go first.
pub const MAX_CHAIN: usize = 64;
/// Modules and sources beyond this fall to number 0.
const MAX_SOURCES: usize = 1 << 24;
/// A name that is the number of the first function of that name.
const SHARED: u32 = ID_END;
/// No frame.
const NONE: u32 = u32::MAX;

/// What a resolver found out about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameInfo<'a> {
    /// Its function.
    pub function: FunctionInfo<'a>,
    /// Source line; 0: unknown.
    pub line: u32,
    /// [`INLINED`], [`HEURISTIC`], [`UNNAMED`] or bits of the caller's own.
    pub flags: u8,
}

/// What a resolver found out about a function. Texts are bytes as they were read: they are made
/// fit to keep here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FunctionInfo<'a> {
    /// Name to show, demangled.
    pub name: &'a [u8],
    /// Name as the symbol table has it; empty: the same.
    pub system_name: &'a [u8],
    /// Source file; empty: unknown.
    pub file: &'a [u8],
    /// First line; 0: unknown, as are those beyond [`MAX_LINE`].
    pub start_line: u32,
    /// Kind of code, a number of the caller's.
    pub kind: u8,
    /// Path of the file of code; empty: none.
    pub module_path: &'a [u8],
    /// Build id of the file of code; empty: none.
    pub module_build_id: &'a [u8],
}

/// A function as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function<'a> {
    /// Name to show.
    pub name: &'a str,
    /// Name as the symbol table has it, where that differs.
    pub system_name: Option<&'a str>,
    /// Source file; empty: unknown.
    pub file: &'a str,
    /// First line; 0: unknown.
    pub start_line: u32,
    /// Kind of code.
    pub kind: u8,
    /// Its module.
    pub module: u32,
}

/// A file of code as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module<'a> {
    /// Path; empty: none.
    pub path: &'a str,
    /// Build id; empty: none.
    pub build_id: &'a str,
}

/// A frame as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of its function.
    pub function: u32,
    /// Source line; 0: unknown.
    pub line: u32,
    /// [`INLINED`] and so on.
    pub flags: u8,
}

/// Two bytes are its alignment: as words it would take 16.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(2))]
struct FunctionRow {
    /// Text, or [`SHARED`] and the first function of that name.
    name: u32,
    /// Its first frame, or [`NONE`].
    first: u32,
    /// Source and start line, highest bits first.
    origin: [u16; 3],
}

impl FunctionRow {
    fn origin(self) -> u64 {
        let [a, b, c] = self.origin;
        u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c)
    }

    fn source(self) -> u32 {
        (self.origin() >> 24) as u32
    }

    fn start_line(self) -> u32 {
        self.origin() as u32 & MAX_LINE
    }

    /// The first function of its name, where that is another one.
    fn head(self) -> Option<u32> {
        (self.name & SHARED != 0).then_some(self.name & !SHARED)
    }
}

/// A source and a line in it, as a row has them.
fn pack_origin(origin: u64) -> [u16; 3] {
    [(origin >> 32) as u16, (origin >> 16) as u16, origin as u16]
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) seed: Seed,
    /// Of files, modules and build ids.
    strings: Strings,
    /// Of functions.
    texts: Arena,
    modules: Column<[u32; 2]>,
    module_index: Index,
    sources: Column<[u32; 2]>,
    source_index: Index,
    functions: Column<FunctionRow>,
    function_index: Index,
    frames: Column<u64>,
    frame_index: Index,
    chains: Column<u32>,
    chain_index: Index,
    n_chains: usize,
    /// What was asked for last: functions of one file are met together.
    last_source: u32,
    /// Texts, lines and chains that could not be kept as they came.
    pub(crate) n_sanitised: u64,
    scratch: String,
}

impl Names {
    pub(crate) fn new(budget: &Budget, seed: Seed) -> Names {
        let strings = budget.owner("frames.strings");
        let functions = budget.owner("frames.functions");
        let frames = budget.owner("frames.frames");
        let chains = budget.owner("frames.chains");
        Names {
            seed,
            strings: Strings::new(&strings),
            texts: Arena::new(&strings),
            modules: Column::new(&functions),
            module_index: Index::new(&functions),
            sources: Column::new(&functions),
            source_index: Index::new(&functions),
            functions: Column::new(&functions),
            function_index: Index::new(&functions),
            frames: Column::new(&frames),
            frame_index: Index::new(&frames),
            chains: Column::new(&chains),
            chain_index: Index::new(&chains),
            n_chains: 0,
            last_source: 0,
            n_sanitised: 0,
            scratch: String::new(),
        }
    }

    /// Texts held, the empty one not counted.
    pub(crate) fn n_texts(&self) -> usize {
        self.strings.len() + self.texts.len()
    }

    /// Bytes of the texts themselves.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.strings.text_bytes() + self.texts.text_bytes()
    }

    pub(crate) fn n_functions(&self) -> usize {
        self.functions.len()
    }

    pub(crate) fn n_frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn n_modules(&self) -> usize {
        self.modules.len().max(1)
    }

    pub(crate) fn n_chains(&self) -> usize {
        self.n_chains
    }

    pub(crate) fn function(&self, id: u32) -> Function<'_> {
        let row = self.functions.at(id);
        let [file, kind_module] = self.sources.at(row.source());
        let text = self.texts.get(row.head().map_or(row.name, |head| self.functions.at(head).name));
        let (name, system_name) = match text.split_once('\0') {
            Some((name, system_name)) => (name, Some(system_name)),
            None => (text, None),
        };
        Function {
            name,
            system_name,
            file: self.strings.get(file),
            start_line: row.start_line(),
            kind: (kind_module >> 24) as u8,
            module: kind_module & 0x00ff_ffff,
        }
    }

    pub(crate) fn module(&self, id: u32) -> Module<'_> {
        let [path, build_id] = self.modules.at(id);
        Module { path: self.strings.get(path), build_id: self.strings.get(build_id) }
    }

    pub(crate) fn frame(&self, id: u32) -> Frame {
        unpack_frame(self.frames.at(id))
    }

    /// The frame ids of a chain, innermost first.
    pub(crate) fn chain(&self, at: u32) -> impl Iterator<Item = u32> + '_ {
        let len = self.chains.at(at).min(MAX_CHAIN as u32);
        (at + 1..at + 1 + len).map(|at| self.chains.at(at))
    }

    fn text(&mut self, bytes: &[u8]) -> Result<u32, Refused> {
        if is_plain(bytes) {
            return self.strings.intern(&self.seed, bytes);
        }
        let text = clean(bytes);
        self.n_sanitised += u64::from(matches!(text, Cow::Owned(_)));
        self.strings.intern(&self.seed, text.as_bytes())
    }

    fn line(&mut self, line: u32) -> u32 {
        let is_known = line <= MAX_LINE;
        self.n_sanitised += u64::from(!is_known);
        if is_known { line } else { 0 }
    }

    fn intern_module(&mut self, path: &[u8], build_id: &[u8]) -> Result<u32, Refused> {
        if path.is_empty() && build_id.is_empty() {
            return Ok(0);
        }
        let row = [self.text(path)?, self.text(build_id)?];
        let number = intern_row(self.seed.words, &mut self.modules, &mut self.module_index, row)?;
        self.n_sanitised += u64::from(number == 0);
        Ok(number)
    }

    /// File, kind and module together; functions of one file are met together, so the last one is
    /// tried first.
    fn intern_source(&mut self, info: &FunctionInfo<'_>) -> Result<u32, Refused> {
        let [file, kind_module] = self.sources.at(self.last_source);
        if kind_module >> 24 == u32::from(info.kind)
            && is_same(self.strings.bytes(file), info.file)
            && self.is_module(kind_module & 0x00ff_ffff, info)
        {
            return Ok(self.last_source);
        }
        let module = self.intern_module(info.module_path, info.module_build_id)?;
        let row = [self.text(info.file)?, u32::from(info.kind) << 24 | module];
        self.last_source = match row {
            [0, 0] => 0,
            _ => {
                let (sources, index) = (&mut self.sources, &mut self.source_index);
                let number = intern_row(self.seed.words, sources, index, row)?;
                self.n_sanitised += u64::from(number == 0);
                number
            }
        };
        Ok(self.last_source)
    }

    fn is_module(&self, number: u32, info: &FunctionInfo<'_>) -> bool {
        let [path, build_id] = self.modules.at(number);
        is_same(self.strings.bytes(path), info.module_path)
            && is_same(self.strings.bytes(build_id), info.module_build_id)
    }

    /// The number of a function, new or known.
    fn intern_function(&mut self, info: &FunctionInfo<'_>) -> Result<u32, Refused> {
        let source = self.intern_source(info)?;
        let origin = u64::from(source) << 24 | u64::from(self.line(info.start_line));
        if info.system_name.is_empty() || info.system_name == info.name {
            if is_plain(info.name) {
                return self.function_named(info.name, origin);
            }
            let name = clean(info.name);
            self.n_sanitised += u64::from(matches!(name, Cow::Owned(_)));
            return self.function_named(name.as_bytes(), origin);
        }
        let mut both = std::mem::take(&mut self.scratch);
        both.clear();
        both.push_str(&clean(info.name));
        both.push('\0');
        both.push_str(&clean(info.system_name));
        let id = self.function_named(both.as_bytes(), origin);
        self.scratch = both;
        id
    }

    fn function_named(&mut self, name: &[u8], origin: u64) -> Result<u32, Refused> {
        let (functions, texts) = (&self.functions, &self.texts);
        let is = |id| {
            let row = functions.at(id);
            row.head().is_none() && is_same(texts.bytes(row.name), name)
        };
        let (vacant, head) = match self.function_index.look_up(self.seed.text(name), is) {
            Err(vacant) => (vacant, None),
            Ok(head) if functions.at(head).origin() == origin => return Ok(head),
            Ok(head) => {
                let shared = SHARED | head;
                let is = |id| {
                    let row = functions.at(id);
                    row.name == shared && row.origin() == origin
                };
                let hash = hash_shared(self.seed.words, shared, origin);
                match self.function_index.look_up(hash, is) {
                    Ok(id) => return Ok(id),
                    Err(vacant) => (vacant, Some(shared)),
                }
            }
        };
        let vacant =
            self.function_index.reserve(vacant, functions_of(&self.seed, functions, texts))?;
        self.functions.reserve_one()?;
        let name = match head {
            Some(shared) => shared,
            None => self.texts.push(name)?,
        };
        let origin = pack_origin(origin);
        let id = self.functions.push(FunctionRow { name, first: NONE, origin })?;
        self.function_index.put(vacant, id);
        Ok(id)
    }

    /// The id of a frame, new or known.
    pub(crate) fn intern_frame(&mut self, info: &FrameInfo<'_>) -> Result<u32, Refused> {
        let function = self.intern_function(&info.function)?;
        let line = self.line(info.line);
        let row = u64::from(function) << 32 | u64::from(line) << 8 | u64::from(info.flags);
        let Some(FunctionRow { first, .. }) = self.functions.get(function) else { return Ok(0) };
        if first == NONE {
            let id = self.frames.push(row)?;
            if let Some(row) = self.functions.get_mut(function) {
                row.first = id;
            }
            return Ok(id);
        }
        if self.frames.at(first) == row {
            return Ok(first);
        }
        let seed = self.seed.words;
        let frames = &self.frames;
        let hash = hash_words(seed, &[row]);
        let vacant = match self.frame_index.look_up(hash, |id| frames.at(id) == row) {
            Ok(id) => return Ok(id),
            Err(vacant) => vacant,
        };
        let later = later_frames(seed, &self.functions, frames);
        let vacant = self.frame_index.reserve(vacant, later)?;
        let id = self.frames.push(row)?;
        self.frame_index.put(vacant, id);
        Ok(id)
    }

    /// Where a chain stands, new or known. More than one frame, innermost first; what is beyond
    /// [`MAX_CHAIN`] is cut in the middle, so that the innermost and the physical function stay.
    pub(crate) fn intern_chain(&mut self, frames: &[u32]) -> Result<u32, Refused> {
        let seed = self.seed.words;
        let len = frames.len() as u32;
        let hash = hash_chain(seed, frames.iter().copied());
        let is = |at: u32| self.chains.at(at) == len && self.chain(at).eq(frames.iter().copied());
        let vacant = match self.chain_index.look_up(hash, is) {
            Ok(at) => return Ok(at),
            Err(vacant) => vacant,
        };
        let vacant = self.chain_index.reserve(vacant, all_chains(seed, &self.chains))?;
        // A push that is refused midway would leave a row nobody refers to until the next sweep.
        let before = self.chains.len();
        let at = self.chains.push(len)?;
        for &frame in frames {
            if let Err(refused) = self.chains.push(frame) {
                self.chains.truncate(before);
                return Err(refused);
            }
        }
        self.chain_index.put(vacant, at);
        self.n_chains += 1;
        Ok(at)
    }

    /// Gives back what only finds names.
    pub(crate) fn seal(&mut self) {
        self.strings.seal();
        for index in [
            &mut self.module_index,
            &mut self.source_index,
            &mut self.function_index,
            &mut self.frame_index,
            &mut self.chain_index,
        ] {
            index.clear();
        }
    }

    pub(crate) fn new_marks(&self) -> NameMarks {
        NameMarks {
            chains: Marks::new(self.chains.len()),
            frames: Marks::new(self.frames.len()),
            functions: Marks::new(self.functions.len()),
            sources: Marks::new(self.sources.len()),
            modules: Marks::new(self.modules.len()),
        }
    }

    pub(crate) fn mark_chain(&self, marks: &mut NameMarks, at: u32) {
        if marks.chains.mark(at) {
            let len = self.chains.at(at).min(MAX_CHAIN as u32);
            for at in at + 1..at + 1 + len {
                marks.chains.mark(at);
                marks.frames.mark(self.chains.at(at));
            }
        }
    }

    /// Frees everything that no marked frame or chain needs, and moves the rest together.
    pub(crate) fn compact(&mut self, marks: &mut NameMarks) {
        for (row, _) in self.frames.iter().zip(0..).filter(|&(_, id)| marks.frames.has(id)) {
            marks.functions.mark(unpack_frame(row).function);
        }
        marks.sources.mark(0);
        marks.modules.mark(0);
        for id in 0..self.functions.len() as u32 {
            if marks.functions.has(id) {
                let row = self.functions.at(id);
                marks.sources.mark(row.source());
                // Its row goes on holding the name.
                if let Some(head) = row.head()
                    && marks.functions.mark(head)
                {
                    marks.sources.mark(self.functions.at(head).source());
                }
            }
        }
        let mut strings = Vec::new();
        for ([file, kind_module], id) in self.sources.iter().zip(0..) {
            if marks.sources.has(id) {
                marks.modules.mark(kind_module & 0x00ff_ffff);
                strings.push(file);
            }
        }
        for (row, id) in self.modules.iter().zip(0..) {
            if marks.modules.has(id) {
                strings.extend(row);
            }
        }
        strings.sort_unstable();
        strings.dedup();
        let all = [
            &mut marks.chains,
            &mut marks.frames,
            &mut marks.functions,
            &mut marks.sources,
            &mut marks.modules,
        ];
        for table in all {
            table.rank();
        }
        self.last_source = 0;

        let new = self.strings.compact(&self.seed, &strings);
        let string = |id| {
            let at = strings.binary_search(&id).ok();
            at.and_then(|at| new.get(at)).copied().unwrap_or_default()
        };
        let seed = self.seed.words;
        self.modules.compact(&marks.modules, |row| row.map(string));
        let n = self.modules.len().saturating_sub(1);
        self.module_index.rebuild(n, entries(seed, &self.modules));
        let module = |id| marks.modules.new_id(id).unwrap_or_default();
        self.sources.compact(&marks.sources, |[file, kind_module]| {
            [string(file), kind_module & 0xff00_0000 | module(kind_module & 0x00ff_ffff)]
        });
        let n = self.sources.len().saturating_sub(1);
        self.source_index.rebuild(n, entries(seed, &self.sources));
        self.compact_functions(marks);
        self.compact_chains(marks);
    }

    fn compact_functions(&mut self, marks: &NameMarks) {
        let of_old = |id| marks.functions.new_id(id).unwrap_or_default();
        // Where no function goes, their texts stay.
        let all_stay = marks.functions.count() == self.functions.len();
        let mut moving = (!all_stay).then(|| self.texts.begin_move());
        let texts = &mut self.texts;
        self.functions.compact(&marks.functions, |row| {
            let name = match (row.head(), &mut moving) {
                (Some(head), _) => SHARED | of_old(head),
                // In the order of functions texts were pushed.
                (None, Some(moving)) => texts.take_over(moving, row.name),
                (None, None) => row.name,
            };
            let source = marks.sources.new_id(row.source()).unwrap_or_default();
            let origin = u64::from(source) << 24 | u64::from(row.start_line());
            let first = marks.frames.new_id(row.first).unwrap_or(NONE);
            FunctionRow { name, first, origin: pack_origin(origin) }
        });
        drop(moving);
        let (functions, texts) = (&self.functions, &self.texts);
        let entries = functions_of(&self.seed, functions, texts);
        self.function_index.rebuild(functions.len(), entries);

        self.frames.compact(&marks.frames, |row| {
            u64::from(of_old(unpack_frame(row).function)) << 32 | row & 0xffff_ffff
        });
        let mut n_later = 0;
        for (row, id) in self.frames.iter().zip(0..) {
            if let Some(function) = self.functions.get_mut(unpack_frame(row).function) {
                if function.first == NONE {
                    function.first = id;
                }
                n_later += usize::from(function.first != id);
            }
        }
        let later = later_frames(self.seed.words, &self.functions, &self.frames);
        self.frame_index.rebuild(n_later, later);
    }

    fn compact_chains(&mut self, marks: &NameMarks) {
        let (mut to, mut from) = (0, 0);
        let mut n = 0;
        while (from as usize) < self.chains.len() {
            let len = self.chains.at(from).min(MAX_CHAIN as u32);
            if marks.chains.has(from) {
                n += 1;
                self.chains.set(to, len);
                for at in 1..=len {
                    let frame = self.chains.at(from + at);
                    self.chains.set(to + at, marks.frames.new_id(frame).unwrap_or_default());
                }
                to += 1 + len;
            }
            from += 1 + len;
        }
        self.chains.truncate(to as usize);
        self.n_chains = n;
        let (seed, chains) = (self.seed.words, &self.chains);
        self.chain_index.rebuild(n, all_chains(seed, chains));
    }
}

/// What of the names is in use.
#[derive(Debug)]
pub(crate) struct NameMarks {
    pub(crate) chains: Marks,
    pub(crate) frames: Marks,
    functions: Marks,
    sources: Marks,
    modules: Marks,
}

/// Whether two texts are equal. Empty ones are not handed to `memcmp`: with AVX-512 glibc's reads
/// nothing of no page under a mask, which takes the processor a hundred cycles.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

fn unpack_frame(row: u64) -> Frame {
    Frame { function: (row >> 32) as u32, line: (row >> 8) as u32 & MAX_LINE, flags: row as u8 }
}

fn hash_words(seed: u64, words: &[u64]) -> u64 {
    words.iter().fold(seed, |hash, &word| crate::hash::mix(hash, word))
}

fn hash_row(seed: u64, [a, b]: [u32; 2]) -> u64 {
    hash_words(seed, &[u64::from(a) << 32 | u64::from(b)])
}

fn hash_shared(seed: u64, name: u32, origin: u64) -> u64 {
    hash_words(seed, &[name.into(), origin])
}

/// The number of a row of modules or sources, new or known, from 1 on; 0 where there are too many.
fn intern_row(
    seed: u64,
    rows: &mut Column<[u32; 2]>,
    index: &mut Index,
    row: [u32; 2],
) -> Result<u32, Refused> {
    if rows.len() == 0 {
        rows.push([0, 0])?;
    }
    let vacant = match index.look_up(hash_row(seed, row), |id| rows.at(id) == row) {
        Ok(id) => return Ok(id),
        Err(_) if rows.len() >= MAX_SOURCES => return Ok(0),
        Err(vacant) => vacant,
    };
    let vacant = index.reserve(vacant, entries(seed, rows))?;
    let id = rows.push(row)?;
    index.put(vacant, id);
    Ok(id)
}

/// All modules or sources but number 0, for their index.
fn entries(seed: u64, rows: &Column<[u32; 2]>) -> impl Iterator<Item = (u64, u32)> + '_ {
    rows.iter().zip(0..).skip(1).map(move |(row, id)| (hash_row(seed, row), id))
}

/// All functions, for their index.
fn functions_of<'a>(
    seed: &'a Seed,
    functions: &'a Column<FunctionRow>,
    texts: &'a Arena,
) -> impl Iterator<Item = (u64, u32)> + 'a {
    functions.iter().zip(0..).map(move |(row, id)| match row.head() {
        Some(_) => (hash_shared(seed.words, row.name, row.origin()), id),
        None => (seed.text(texts.bytes(row.name)), id),
    })
}

/// All frames that are not their function's first, for their index.
fn later_frames<'a>(
    seed: u64,
    functions: &'a Column<FunctionRow>,
    frames: &'a Column<u64>,
) -> impl Iterator<Item = (u64, u32)> + 'a {
    let is_first = |row, id| functions.at(unpack_frame(row).function).first == id;
    let all = frames.iter().zip(0..).filter(move |&(row, id)| !is_first(row, id));
    all.map(move |(row, id)| (hash_words(seed, &[row]), id))
}

/// All chains, for their index.
fn all_chains(seed: u64, chains: &Column<u32>) -> impl Iterator<Item = (u64, u32)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = chains.get(at)?;
        let chain = (hash_chain_at(seed, chains, at), at);
        at += 1 + len.min(MAX_CHAIN as u32);
        Some(chain)
    })
}

fn hash_chain(seed: u64, frames: impl Iterator<Item = u32>) -> u64 {
    frames.fold(seed, |hash, frame| crate::hash::mix(hash, u64::from(frame)))
}

fn hash_chain_at(seed: u64, chains: &Column<u32>, at: u32) -> u64 {
    let len = chains.at(at).min(MAX_CHAIN as u32);
    hash_chain(seed, (at + 1..at + 1 + len).map(|at| chains.at(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn info(
        name: &'static str,
        file: &'static str,
        start_line: u32,
        line: u32,
    ) -> FrameInfo<'static> {
        let (name, file) = (name.as_bytes(), file.as_bytes());
        let function = FunctionInfo { name, file, start_line, ..FunctionInfo::default() };
        FrameInfo { function, line, flags: 0 }
    }

    /// Against a plain map: few names of many functions, so that most share one, and sweeps that
    /// free the first of a name, or the first frame of a function, while others stay.
    #[test]
    fn names_that_functions_share_outlive_the_first_of_them() {
        let budget = Budget::new(u64::MAX);
        let mut names = Names::new(&budget, Seed::default());
        let texts = ["", "run", "<lambda>", "operator()(int) const", "main"];
        let files = ["", "a.c", "b/c.java"];
        let mut state = 1u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
            (state >> 33) as usize % n
        };
        let mut model: BTreeMap<(usize, usize, usize, usize), u32> = BTreeMap::new();
        for round in 0..40 {
            for _ in 0..random(400) {
                let (name, file, start, line) = (random(5), random(3), random(20), random(4));
                let info = info(texts[name], files[file], start as u32, line as u32);
                let id = names.intern_frame(&info).expect("room");
                let known = *model.entry((name, file, start, line)).or_insert(id);
                assert_eq!(id, known, "round {round}");
            }
            let mut marks = names.new_marks();
            let keeps = random(4);
            model.retain(|_, _| random(4) <= keeps);
            model.values().for_each(|&id| assert!(marks.frames.mark(id)));
            names.compact(&mut marks);
            for (&(name, file, start, line), id) in &mut model {
                *id = marks.frames.new_id(*id).expect("it was marked");
                let frame = names.frame(*id);
                let function = names.function(frame.function);
                assert_eq!((function.name, function.file), (texts[name], files[file]));
                assert_eq!((function.start_line, frame.line), (start as u32, line as u32));
            }
            assert_eq!(names.n_frames(), model.len());
            let functions: std::collections::BTreeSet<_> =
                model.keys().map(|&(name, file, start, _)| (name, file, start)).collect();
            // A name's first function may stay for its name.
            assert!(names.n_functions() <= functions.len() + texts.len());
        }
        model.clear();
        names.compact(&mut names.new_marks());
        assert_eq!((names.n_functions(), names.n_texts()), (0, 0));
    }

    /// A new function with its first frame takes what the crate's documentation says.
    #[test]
    fn a_function_and_its_frame_take_29_bytes_and_its_name() {
        let budget = Budget::new(u64::MAX);
        let mut names = Names::new(&budget, Seed::default());
        for i in 0..50_000 {
            let name = format!("com.example.Service{}.method{i}", i / 50);
            let file = format!("Service{}.java", i / 50);
            let (name, file) = (name.as_bytes(), file.as_bytes());
            let function = FunctionInfo { name, file, ..FunctionInfo::default() };
            names.intern_frame(&FrameInfo { function, line: 1, flags: 0 }).expect("room");
        }
        let own = names.text_bytes() + 50_000;
        let each = (budget.used_bytes() - own) as f64 / 50_000.0;
        assert!((28.0..29.5).contains(&each), "{each}");
    }
}
