//! Identity: modules, functions, frames and inline chains, each by value and dense.
//!
//! # Layout
//! | table | row | bytes |
//! |---|---|---|
//! | module | path: text, build id: text | 8 |
//! | function | name: text, file: text, start line, kind:8 and module:24 | 16 |
//! | frame | function:32, line:24, flags:8 | 8 |
//! | chain | length, then frames, innermost first | 4 + 4 a frame |
//!
//! A function whose symbol differs from its name keeps both in one text, `name NUL symbol`; no
//! kept text holds a NUL of its own. Module 0 is the one of code that has none.

use crate::budget::{Budget, Refused};
use crate::column::Column;
use crate::hash::Seed;
use crate::index::Index;
use crate::marks::Marks;
use crate::strings::Strings;
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
/// Modules beyond this fall to module 0.
const MAX_MODULES: usize = 1 << 24;

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
    /// First line; 0: unknown.
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct FunctionRow {
    name: u32,
    file: u32,
    start_line: u32,
    kind_module: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) seed: Seed,
    pub(crate) strings: Strings,
    modules: Column<[u32; 2]>,
    module_index: Index,
    functions: Column<FunctionRow>,
    function_index: Index,
    frames: Column<u64>,
    frame_index: Index,
    chains: Column<u32>,
    chain_index: Index,
    n_chains: usize,
    /// What was asked for last; 0: nothing.
    last_module: u32,
    last_file: u32,
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
            modules: Column::new(&functions),
            module_index: Index::dense(&functions, 1),
            functions: Column::new(&functions),
            function_index: Index::dense(&functions, 0),
            frames: Column::new(&frames),
            frame_index: Index::dense(&frames, 0),
            chains: Column::new(&chains),
            chain_index: Index::new(&chains),
            n_chains: 0,
            last_module: 0,
            last_file: 0,
            n_sanitised: 0,
            scratch: String::new(),
        }
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
        let text = self.strings.get(row.name);
        let (name, system_name) = match text.split_once('\0') {
            Some((name, system_name)) => (name, Some(system_name)),
            None => (text, None),
        };
        Function {
            name,
            system_name,
            file: self.strings.get(row.file),
            start_line: row.start_line,
            kind: (row.kind_module >> 24) as u8,
            module: row.kind_module & 0x00ff_ffff,
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
            return self.strings.intern_utf8(&self.seed, bytes);
        }
        let text = clean(bytes);
        self.n_sanitised += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
        self.strings.intern(&self.seed, &text)
    }

    fn label(&mut self, info: &FunctionInfo<'_>) -> Result<u32, Refused> {
        if info.system_name.is_empty() || info.system_name == info.name {
            return self.text(info.name);
        }
        let (name, system) = (clean(info.name), clean(info.system_name));
        let mut both = std::mem::take(&mut self.scratch);
        both.clear();
        both.push_str(&name);
        both.push('\0');
        both.push_str(&system);
        let id = self.strings.intern(&self.seed, &both);
        self.scratch = both;
        id
    }

    fn intern_module(&mut self, path: &[u8], build_id: &[u8]) -> Result<u32, Refused> {
        if path.is_empty() && build_id.is_empty() {
            return Ok(0);
        }
        if self.modules.len() == 0 {
            self.modules.push([0, 0])?;
        }
        let [last_path, last_build_id] = self.modules.at(self.last_module);
        if self.last_module != 0
            && self.strings.bytes(last_path) == path
            && self.strings.bytes(last_build_id) == build_id
        {
            return Ok(self.last_module);
        }
        let id = self.intern_other_module(path, build_id)?;
        self.last_module = id;
        Ok(id)
    }

    fn intern_other_module(&mut self, path: &[u8], build_id: &[u8]) -> Result<u32, Refused> {
        let row = [self.text(path)?, self.text(build_id)?];
        let seed = self.seed.words;
        let hash_of = |row: [u32; 2]| hash_words(seed, &row.map(u64::from));
        let hash = hash_of(row);
        let modules = &self.modules;
        if let Some(id) = self.module_index.find(hash, |id| modules.at(id) == row) {
            return Ok(id);
        }
        if modules.len() >= MAX_MODULES {
            self.n_sanitised += 1;
            return Ok(0);
        }
        self.module_index.reserve(hash, |id| hash_of(modules.at(id)))?;
        let id = self.modules.push(row)?;
        let modules = &self.modules;
        self.module_index.insert(hash, id, |id| hash_of(modules.at(id)))?;
        Ok(id)
    }

    /// Functions of one file are met together: the last one is tried first.
    fn file(&mut self, file: &[u8]) -> Result<u32, Refused> {
        if self.last_file != 0 && self.strings.bytes(self.last_file) == file {
            return Ok(self.last_file);
        }
        self.last_file = self.text(file)?;
        Ok(self.last_file)
    }

    fn intern_function(&mut self, info: &FunctionInfo<'_>) -> Result<u32, Refused> {
        let module = self.intern_module(info.module_path, info.module_build_id)?;
        let row = FunctionRow {
            name: self.label(info)?,
            file: self.file(info.file)?,
            start_line: info.start_line,
            kind_module: u32::from(info.kind) << 24 | module,
        };
        let seed = self.seed.words;
        let hash = hash_function(seed, row);
        let functions = &self.functions;
        if let Some(id) = self.function_index.find(hash, |id| functions.at(id) == row) {
            return Ok(id);
        }
        self.function_index.reserve(hash, |id| hash_function(seed, functions.at(id)))?;
        let id = self.functions.push(row)?;
        let functions = &self.functions;
        self.function_index.insert(hash, id, |id| hash_function(seed, functions.at(id)))?;
        Ok(id)
    }

    /// The id of a frame, new or known.
    pub(crate) fn intern_frame(&mut self, info: &FrameInfo<'_>) -> Result<u32, Refused> {
        let function = self.intern_function(&info.function)?;
        let line = if info.line > MAX_LINE {
            self.n_sanitised += 1;
            0
        } else {
            info.line
        };
        let row = u64::from(function) << 32 | u64::from(line) << 8 | u64::from(info.flags);
        let seed = self.seed.words;
        let hash = hash_words(seed, &[row]);
        let frames = &self.frames;
        if let Some(id) = self.frame_index.find(hash, |id| frames.at(id) == row) {
            return Ok(id);
        }
        self.frame_index.reserve(hash, |id| hash_words(seed, &[frames.at(id)]))?;
        let id = self.frames.push(row)?;
        let frames = &self.frames;
        self.frame_index.insert(hash, id, |id| hash_words(seed, &[frames.at(id)]))?;
        Ok(id)
    }

    /// Where a chain stands, new or known. More than one frame, innermost first; what is beyond
    /// [`MAX_CHAIN`] is cut in the middle, so that the innermost and the physical function stay.
    pub(crate) fn intern_chain(&mut self, frames: &[u32]) -> Result<u32, Refused> {
        let seed = self.seed.words;
        let len = frames.len() as u32;
        let hash = hash_chain(seed, frames.iter().copied());
        let is = |at: u32| self.chains.at(at) == len && self.chain(at).eq(frames.iter().copied());
        if let Some(at) = self.chain_index.find(hash, is) {
            return Ok(at);
        }
        let chains = &self.chains;
        self.chain_index.reserve(hash, |at| hash_chain_at(seed, chains, at))?;
        // A push that is refused midway would leave a row nobody refers to until the next sweep.
        let before = self.chains.len();
        let at = self.chains.push(len)?;
        for &frame in frames {
            if let Err(refused) = self.chains.push(frame) {
                self.chains.truncate(before);
                return Err(refused);
            }
        }
        let chains = &self.chains;
        self.chain_index.insert(hash, at, |at| hash_chain_at(seed, chains, at))?;
        self.n_chains += 1;
        Ok(at)
    }

    /// Gives back what only finds names.
    pub(crate) fn seal(&mut self) {
        self.strings.seal();
        for index in [
            &mut self.module_index,
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
            modules: Marks::new(self.modules.len()),
            strings: self.strings.marks(),
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
        for id in 0..self.frames.len() as u32 {
            if marks.frames.has(id) {
                marks.functions.mark(unpack_frame(self.frames.at(id)).function);
            }
        }
        marks.modules.mark(0);
        for id in 0..self.functions.len() as u32 {
            if marks.functions.has(id) {
                let row = self.functions.at(id);
                marks.modules.mark(row.kind_module & 0x00ff_ffff);
                marks.strings.mark(row.name);
                marks.strings.mark(row.file);
            }
        }
        for id in 0..self.modules.len() as u32 {
            if marks.modules.has(id) {
                for text in self.modules.at(id) {
                    marks.strings.mark(text);
                }
            }
        }
        let all = [
            &mut marks.chains,
            &mut marks.frames,
            &mut marks.functions,
            &mut marks.modules,
            &mut marks.strings,
        ];
        for table in all {
            table.rank();
        }
        let seed = self.seed.words;
        (self.last_module, self.last_file) = (0, 0);

        self.strings.compact(&self.seed, &marks.strings);
        let text = |id| marks.strings.new_id(id).unwrap_or_default();
        self.modules.compact(&marks.modules, |row| row.map(text));
        let modules = &self.modules;
        self.module_index.rebuild(1..modules.len().max(1) as u32, |id| {
            hash_words(seed, &modules.at(id).map(u64::from))
        });
        self.functions.compact(&marks.functions, |row| {
            let module = marks.modules.new_id(row.kind_module & 0x00ff_ffff).unwrap_or_default();
            FunctionRow {
                name: text(row.name),
                file: text(row.file),
                start_line: row.start_line,
                kind_module: row.kind_module & 0xff00_0000 | module,
            }
        });
        let functions = &self.functions;
        self.function_index
            .rebuild(0..functions.len() as u32, |id| hash_function(seed, functions.at(id)));
        self.frames.compact(&marks.frames, |row| {
            let function = unpack_frame(row).function;
            let function = marks.functions.new_id(function).unwrap_or_default();
            u64::from(function) << 32 | row & 0xffff_ffff
        });
        let frames = &self.frames;
        self.frame_index.rebuild(0..frames.len() as u32, |id| hash_words(seed, &[frames.at(id)]));
        self.compact_chains(marks);
    }

    fn compact_chains(&mut self, marks: &NameMarks) {
        let (mut to, mut from) = (0, 0);
        let mut heads = Vec::new();
        while (from as usize) < self.chains.len() {
            let len = self.chains.at(from).min(MAX_CHAIN as u32);
            if marks.chains.has(from) {
                heads.push(to);
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
        self.n_chains = heads.len();
        let (seed, chains) = (self.seed.words, &self.chains);
        self.chain_index.rebuild(heads.iter().copied(), |at| hash_chain_at(seed, chains, at));
    }
}

/// What of the names is in use.
#[derive(Debug)]
pub(crate) struct NameMarks {
    pub(crate) chains: Marks,
    pub(crate) frames: Marks,
    functions: Marks,
    modules: Marks,
    strings: Marks,
}

fn unpack_frame(row: u64) -> Frame {
    Frame { function: (row >> 32) as u32, line: (row >> 8) as u32 & MAX_LINE, flags: row as u8 }
}

fn hash_words(seed: u64, words: &[u64]) -> u64 {
    words.iter().fold(seed, |hash, &word| crate::hash::mix(hash, word))
}

fn hash_function(seed: u64, row: FunctionRow) -> u64 {
    let name_file = u64::from(row.name) << 32 | u64::from(row.file);
    let rest = u64::from(row.start_line) << 32 | u64::from(row.kind_module);
    hash_words(seed, &[name_file, rest])
}

fn hash_chain(seed: u64, frames: impl Iterator<Item = u32>) -> u64 {
    frames.fold(seed, |hash, frame| crate::hash::mix(hash, u64::from(frame)))
}

fn hash_chain_at(seed: u64, chains: &Column<u32>, at: u32) -> u64 {
    let len = chains.at(at).min(MAX_CHAIN as u32);
    hash_chain(seed, (at + 1..at + 1 + len).map(|at| chains.at(at)))
}
