//! Names what was recorded: from frame words to a [`Profile`](crate::profile::Profile).
//!
//! In: a [`Recording`], the files its frames are in, and the kernel's symbols. Out: names in the
//! recording's store, and a profile (`build.rs`) in which every frame has its function, its inlined callees, file
//! and line, where they exist anywhere on the host; any other is `module+0xoffset` and counted as
//! unnamed.
//!
//! # How it works
//! Off the sampling path, a file at a time: all its sampled addresses are sorted and named in one
//! batch, so that memory grows with what was sampled, never with what the file holds. A return
//! address is looked up one byte before, inside of its call. Dynamic frames were named by their
//! runtimes before; what still waits says so.
//!
//! # Cost
//! libLLVM with 3,000 addresses takes about 10 ms; DWARF costs what the library that reads it costs.

mod build;

pub use build::{build, count};

use crate::by_function::ByFunction;
use crate::files::{CodeFile, FileId, Files, Reader, State};
use crate::jit::Jit;
use crate::profile::{FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Kind};
use crate::recording::{Incarnation, Recording};
use crate::session::AnnouncedSymbol;
use hotframe_abi as abi;
use hotframe_frames::{FrameInfo, FunctionInfo, Store, group};
use hotframe_objects::{ElfFile, function_starts};
use hotframe_symbols::{Context, KernelSymbol, NamedFrame, symbolize, symbolize_kernel};
use std::collections::{BTreeMap, HashMap};

// What the store keeps of a frame's flags is what the profile has.
const _: () = assert!(
    FRAME_INLINED == hotframe_frames::INLINED
        && FRAME_HEURISTIC == hotframe_frames::HEURISTIC
        && FRAME_UNNAMED == hotframe_frames::UNNAMED
);

/// What naming did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Frames of samples by kind: all, and those with a name; empty before [`count`].
    pub frames: BTreeMap<&'static str, (u64, u64)>,
    /// What went wrong, by file: short sentences.
    pub problems: Vec<String>,
    /// Of those, what concerns one process, by its pid.
    pub of_processes: BTreeMap<u32, Vec<String>>,
    /// Places whose names found no room.
    pub names_refused: u64,
}

impl Outcome {
    /// Something is wrong with one process.
    pub fn tell_of(&mut self, pid: u32, problem: String) {
        self.problems.push(problem.clone());
        self.of_processes.entry(pid).or_default().push(problem);
    }
}

/// Everything naming needs.
pub struct Input<'a> {
    /// The files.
    pub files: &'a Sources,
    /// Kernel symbols announced while recording.
    pub kernel_symbols: &'a BTreeMap<u64, AnnouncedSymbol>,
    /// Generated code, and the maps that name it.
    pub jit: &'a Jit,
    /// Ask these servers for debug files.
    pub debuginfod: Option<hotframe_symbols::Debuginfod>,
    /// Asks the kernel for the names of its addresses.
    pub ask_kernel: AskKernel,
}

/// Names kernel addresses, each by function and module (empty: the kernel itself); `None` where the
/// kernel cannot be asked, and `/proc/kallsyms` has to be read.
pub type AskKernel = fn(&[u64]) -> Option<Vec<Option<(String, String)>>>;

/// Names a recording. `progress` hears how many files are done, of how many. [`build`] makes a
/// profile of it, of which [`count`] tells the frames.
pub fn name(
    recording: &mut Recording,
    input: &Input<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Outcome {
    recording.store.settle();
    let by_incarnation: HashMap<Incarnation, hotframe_frames::Incarnation> =
        recording.processes.iter().map(|it| (it.incarnation, it.in_store)).collect();
    let mut namer = Namer::new(&mut recording.store, input.debuginfod.clone());
    let words: Vec<abi::FrameWord> =
        namer.store.unnamed_words(usize::MAX).into_iter().map(abi::FrameWord).collect();
    namer.name_static(&words, input, progress);
    let problems = std::mem::take(&mut namer.problems);
    let mut outcome = Outcome { problems, ..Outcome::default() };
    let generated = input.jit.names(&mut |pid, problem| outcome.tell_of(pid, problem));
    for ((incarnation, word), name) in generated {
        if let Some(&incarnation) = by_incarnation.get(&incarnation) {
            namer.name_generated(incarnation, word, &name);
        }
    }
    namer.name_own_rest();
    Outcome { names_refused: namer.refused, ..outcome }
}

/// Names static code before any stack of it is in the store, by function: see [`ByFunction`].
/// `words` are distinct, and in `naming_order`; names take `limit_bytes` of the recording's budget.
/// With them, what went wrong. A word that finds no room stays a place, to be named with the others.
pub fn name_by_function(
    recording: &mut Recording,
    words: Vec<u64>,
    limit_bytes: u64,
    input: &Input<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> (ByFunction, Vec<String>) {
    let budget = recording.budget.clone();
    let mut namer = Namer::new(&mut recording.store, input.debuginfod.clone());
    let all: Vec<abi::FrameWord> = words.iter().copied().map(abi::FrameWord).collect();
    namer.by_function = Some(ByFunction::within(words, &budget, limit_bytes));
    namer.name_static(&all, input, progress);
    (namer.by_function.unwrap_or_default(), namer.problems)
}

/// A kernel function and its module.
type KernelFunction = Option<(String, Option<String>)>;

/// What the kernel answered, and symbols that were announced while they lived: a BPF program may
/// be gone by now.
fn known_kernel_names(
    addrs: &[u64],
    answers: Vec<Option<(String, String)>>,
    announced: &BTreeMap<u64, AnnouncedSymbol>,
) -> Vec<KernelFunction> {
    let mut answers = answers.into_iter();
    addrs
        .iter()
        .map(|&addr| {
            let answer = answers.next().flatten();
            let known = announced.range(..=addr).next_back();
            match known.filter(|(start, symbol)| addr - **start < u64::from(symbol.bytes)) {
                Some((_, symbol)) => Some((symbol.name.clone(), Some("bpf".to_owned()))),
                None => answer.map(|(name, module)| {
                    let name = hotframe_symbols::readable(&name);
                    (name, (!module.is_empty()).then_some(module))
                }),
            }
        })
        .collect()
}

/// What naming needs of a file of code; it may go to another thread.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path as its first process saw it.
    pub path: String,
    /// GNU build id; empty: none.
    pub build_id: Vec<u8>,
    /// A process that mapped it.
    pub pid: u32,
    image_base: u64,
    is_go: bool,
    /// It is code that a JIT registered.
    is_image: bool,
    reader: Option<Reader>,
    problem: Option<String>,
}

impl Source {
    /// Of a file as it is now.
    pub fn of(file: &CodeFile) -> Source {
        Source {
            path: file.path.clone(),
            build_id: file.build_id.clone(),
            pid: file.pid,
            image_base: file.elf().map_or(0, |elf| elf.image_base()),
            is_go: file.elf().is_some_and(|elf| elf.is_go()),
            is_image: file.is_image(),
            reader: file.reader().cloned(),
            problem: match &file.state {
                State::Unusable(why) => Some(why.clone()),
                _ => None,
            },
        }
    }
}

/// What naming needs of all files: a tenth of what recording did.
#[derive(Debug, Default)]
pub struct Sources {
    by_id: HashMap<FileId, Source>,
    /// Ids of files that turned out to be another.
    same: HashMap<FileId, FileId>,
}

impl Sources {
    /// Of files that no more rows are needed of.
    pub fn of(files: Files) -> Sources {
        let mut sources = Sources::default();
        for (id, file) in files.iter() {
            match files.actual(id) {
                actual if actual == id => {
                    sources.by_id.insert(id, Source::of(file));
                }
                actual => {
                    sources.same.insert(id, actual);
                }
            }
        }
        sources
    }

    /// The file of an id, also of one that it went by before its build id was known.
    pub fn get(&self, id: FileId) -> Option<&Source> {
        self.by_id.get(self.same.get(&id).unwrap_or(&id))
    }
}

/// Addresses of a file that are named in one pass over it: naming holds about a kilobyte for each.
const ADDRESSES_AT_ONCE: usize = 8192;

/// Most problems of files and of the kernel that are told.
const PROBLEMS_MAX: usize = 100;

/// Fills a store with names.
pub(crate) struct Namer<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) problems: Vec<String>,
    /// Places whose names found no room.
    pub(crate) refused: u64,
    debuginfod: Option<hotframe_symbols::Debuginfod>,
    /// Names are taken here, and not in the store's places.
    by_function: Option<ByFunction>,
}

impl<'a> Namer<'a> {
    pub(crate) fn new(
        store: &'a mut Store,
        debuginfod: Option<hotframe_symbols::Debuginfod>,
    ) -> Namer<'a> {
        Namer { store, problems: Vec::new(), refused: 0, debuginfod, by_function: None }
    }

    fn tell(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn put(&mut self, word: abi::FrameWord, frames: &[FrameInfo<'_>]) {
        let has_room = match &mut self.by_function {
            Some(by_function) => by_function.put(self.store, word.0, frames),
            None => self.store.name_word(word.0, frames),
        };
        self.refused += u64::from(!has_room);
    }

    fn is_named(&mut self, word: abi::FrameWord) -> bool {
        match &self.by_function {
            Some(by_function) => by_function.is_named(word.0),
            None => self.store.known_word(word.0).is_some(),
        }
    }

    /// Names words of which those of one file stand together.
    fn name_static(
        &mut self,
        words: &[abi::FrameWord],
        input: &Input<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) {
        self.name_kernel(words, input.kernel_symbols, input.ask_kernel);
        self.name_files(words, &|id| input.files.get(id).cloned(), progress);
        self.name_rest(words);
    }

    pub(crate) fn name_kernel(
        &mut self,
        words: &[abi::FrameWord],
        announced: &BTreeMap<u64, AnnouncedSymbol>,
        ask_kernel: AskKernel,
    ) {
        let mut by_addr: BTreeMap<u64, Vec<abi::FrameWord>> = BTreeMap::new();
        for &word in words.iter().filter(|word| word.kind() == abi::HF_FRAME_KERNEL) {
            by_addr.entry(word.kernel_addr() - word.call_offset()).or_default().push(word);
        }
        if by_addr.is_empty() {
            return;
        }
        let addrs: Vec<u64> = by_addr.keys().copied().collect();
        let mut names = match ask_kernel(&addrs) {
            Some(names) => known_kernel_names(&addrs, names, announced),
            None => self.read_kallsyms(&addrs, announced),
        };
        for (at, addr) in addrs.into_iter().enumerate() {
            let (name, module, flags) = match names[at].take() {
                Some((name, module)) => (name, module, 0),
                None => (format!("[kernel]+{addr:#x}"), None, FRAME_UNNAMED),
            };
            let path = match module {
                Some(module) => format!("[{module}]"),
                None => "[kernel.kallsyms]".to_owned(),
            };
            let function = FunctionInfo {
                name: name.as_bytes(),
                module_path: path.as_bytes(),
                kind: Kind::Kernel as u8,
                ..FunctionInfo::default()
            };
            for &word in by_addr.get(&addr).into_iter().flatten() {
                self.put(word, &[FrameInfo { function, line: 0, flags }]);
            }
        }
    }

    /// Names sorted addresses by reading all of `/proc/kallsyms` (50 to 80 ms).
    fn read_kallsyms(
        &mut self,
        addrs: &[u64],
        announced: &BTreeMap<u64, AnnouncedSymbol>,
    ) -> Vec<KernelFunction> {
        let sideband: Vec<KernelSymbol> = announced
            .values()
            .map(|symbol| KernelSymbol {
                start: symbol.start,
                len_bytes: symbol.bytes.into(),
                name: symbol.name.clone(),
                module: "bpf".into(),
            })
            .collect();
        let mut names: Vec<KernelFunction> = vec![None; addrs.len()];
        match std::fs::File::open("/proc/kallsyms") {
            Ok(file) => {
                let reader = std::io::BufReader::with_capacity(64 << 10, file);
                if let Err(why) = symbolize_kernel(reader, &sideband, addrs, &mut |at, name| {
                    if let Some(slot) = names.get_mut(at) {
                        *slot = Some((name.name.clone(), name.module.clone()));
                    }
                }) {
                    self.tell(format!("kernel: {}", crate::chain(&why)));
                }
            }
            Err(why) => self.tell(format!("kernel: reading /proc/kallsyms: {why}")),
        }
        names
    }

    pub(crate) fn name_files(
        &mut self,
        words: &[abi::FrameWord],
        files: &dyn Fn(FileId) -> Option<Source>,
        progress: &mut dyn FnMut(usize, usize),
    ) {
        // Those of one file stand together.
        let by_file = || {
            words
                .chunk_by(|a, b| group(a.0) == group(b.0))
                .filter(|words| words.first().map(|word| word.kind()) == Some(abi::HF_FRAME_NATIVE))
        };
        let n_files = by_file().count();
        for (at, words) in by_file().enumerate() {
            progress(at, n_files);
            if let Some(file) = words.first().and_then(|word| files(word.file_id())) {
                self.name_file(&file, words);
            }
        }
        progress(n_files, n_files);
    }

    fn name_file(&mut self, file: &Source, words: &[abi::FrameWord]) {
        let build_id: String = file.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let module = (file.path.as_bytes(), build_id.as_bytes());
        let base = file.image_base;
        let kind = match file {
            Source { is_go: true, .. } => Kind::Go,
            Source { is_image: true, .. } => Kind::Jit,
            _ => Kind::Native,
        };
        // By address: places that differ only in their flags are one.
        let mut by_addr: Vec<(u64, abi::FrameWord)> = words
            .iter()
            .map(|&word| {
                let offset = u64::from(word.image_offset()).saturating_sub(word.call_offset());
                (base + offset, word)
            })
            .collect();
        by_addr.sort_unstable();
        let at = |addr: u64| {
            let first = by_addr.partition_point(|&(before, _)| before < addr);
            by_addr.iter().skip(first).take_while(move |&&(same, _)| same == addr)
        };
        let mut addrs: Vec<u64> = by_addr.iter().map(|&(addr, _)| addr).collect();
        addrs.dedup();
        let opened = match &file.reader {
            Some(Reader::File(open)) => open.try_clone().ok(),
            Some(Reader::Bytes(bytes)) => in_a_file(bytes).ok(),
            None => None,
        };
        if let Some(open) = opened {
            let mut context = Context::new(&file.path);
            let root = std::path::PathBuf::from(format!("/proc/{}/root", file.pid));
            context.root = root.exists().then_some(root);
            context.debuginfod = self.debuginfod.clone();
            for addrs in addrs.chunks(ADDRESSES_AT_ONCE) {
                let report = symbolize(&open, &context, addrs, &mut |index, frames| {
                    for &(_, word) in addrs.get(index).into_iter().flat_map(|&addr| at(addr)) {
                        let flags = heuristic(word);
                        // What runs a runtime's frames has them inside, and not what was inlined.
                        let is_whole = word.flags() & abi::HF_FRAME_RUNS_RUNTIME == 0;
                        let frames: Vec<FrameInfo<'_>> = frames
                            .iter()
                            .filter(|frame| is_whole || !frame.inlined)
                            .map(|frame| info(frame, module, flags))
                            .map(|mut info| {
                                if file.is_image {
                                    info.function.kind = Kind::Jit as u8;
                                }
                                info
                            })
                            .collect();
                        self.put(word, &frames);
                    }
                });
                for problem in report.problems {
                    self.tell(format!("{}: {}", file.path, crate::chain(&problem)));
                }
            }
        } else if let Some(why) = &file.problem {
            self.tell(format!("{}: {why}", file.path));
        }
        by_addr.retain(|&(_, word)| !self.is_named(word));
        let starts = match (&self.by_function, &file.reader) {
            (Some(_), Some(reader)) if !by_addr.is_empty() => starts(reader.clone(), &by_addr),
            _ => Vec::new(),
        };
        let short = file.path.rsplit('/').next().unwrap_or(&file.path);
        for (at, &(addr, word)) in by_addr.iter().enumerate() {
            // By function, what has no name is known by where its function begins.
            let addr = starts.get(at).copied().flatten().unwrap_or(addr);
            let name = match file.is_image {
                true => format!("[anonymous]+{addr:#x}"),
                false => format!("{short}+{:#x}", addr.saturating_sub(base)),
            };
            let function = FunctionInfo {
                name: name.as_bytes(),
                module_path: module.0,
                module_build_id: module.1,
                kind: kind as u8,
                ..FunctionInfo::default()
            };
            let flags = heuristic(word) | FRAME_UNNAMED;
            self.put(word, &[FrameInfo { function, line: 0, flags }]);
        }
    }

    /// Words that no file or kernel symbol stands behind.
    pub(crate) fn name_rest(&mut self, words: &[abi::FrameWord]) {
        for &word in words {
            let name: &[u8] = match word.kind() {
                abi::HF_FRAME_NOTE => match word.payload() as u32 {
                    abi::HF_NOTE_TASK_32BIT => b"[32-bit task: its stack is not unwound]",
                    _ => b"[not unwound]",
                },
                abi::HF_FRAME_KERNEL | abi::HF_FRAME_USER_PC => continue,
                // A native frame whose file is not known: `name_files` did not name it.
                _ if !self.is_named(word) => b"[unknown]",
                _ => continue,
            };
            let kind =
                if word.kind() == abi::HF_FRAME_NOTE { Kind::Note } else { Kind::Native } as u8;
            let function = FunctionInfo { name, kind, ..FunctionInfo::default() };
            let flags = heuristic(word) | FRAME_UNNAMED;
            self.put(word, &[FrameInfo { function, line: 0, flags }]);
        }
    }

    /// Names what a perf map or jitdump covers. One module for all: a function is the same in every
    /// worker.
    pub(crate) fn name_generated(
        &mut self,
        incarnation: hotframe_frames::Incarnation,
        word: abi::FrameWord,
        named: &hotframe_jitmap::Named,
    ) {
        let function = FunctionInfo {
            name: named.name.as_bytes(),
            file: named.file.as_deref().unwrap_or_default().as_bytes(),
            module_path: b"[jit]",
            kind: Kind::Jit as u8,
            ..FunctionInfo::default()
        };
        let frames = [FrameInfo { function, line: named.line, flags: heuristic(word) }];
        self.refused += u64::from(!self.store.name_own_word(incarnation, word.0, &frames));
    }

    /// Addresses in no file that no map names.
    pub(crate) fn name_own_rest(&mut self) {
        for (incarnation, word) in self.store.unnamed_own_words() {
            let word = abi::FrameWord(word);
            let name = format!("[anonymous]+{:#x}", word.payload());
            let function = FunctionInfo {
                name: name.as_bytes(),
                module_path: b"[anonymous]",
                kind: Kind::Native as u8,
                ..FunctionInfo::default()
            };
            let flags = heuristic(word) | FRAME_UNNAMED;
            let frames = [FrameInfo { function, line: 0, flags }];
            self.refused += u64::from(!self.store.name_own_word(incarnation, word.0, &frames));
        }
    }
}

/// Where the functions of sorted addresses begin, as far as unwind information tells.
fn starts(reader: Reader, by_addr: &[(u64, abi::FrameWord)]) -> Vec<Option<u64>> {
    let addrs: Vec<u64> = by_addr.iter().map(|&(addr, _)| addr).collect();
    ElfFile::open(reader).and_then(|elf| function_starts(&elf, &addrs)).unwrap_or_default()
}

/// The mark of a frame that a heuristic found.
pub(crate) fn heuristic(word: abi::FrameWord) -> u8 {
    if word.flags() & abi::HF_FRAME_HEURISTIC != 0 { FRAME_HEURISTIC } else { 0 }
}

fn info<'a>(frame: &'a NamedFrame, module: (&'a [u8], &'a [u8]), flags: u8) -> FrameInfo<'a> {
    let kind = match frame.kind {
        hotframe_symbols::Kind::Native => Kind::Native,
        hotframe_symbols::Kind::Rust => Kind::Rust,
        hotframe_symbols::Kind::Go => Kind::Go,
    };
    let function = FunctionInfo {
        name: frame.name.as_bytes(),
        system_name: frame.system_name.as_bytes(),
        file: frame.file.as_deref().unwrap_or_default().as_bytes(),
        start_line: frame.start_line,
        kind: kind as u8,
        module_path: module.0,
        module_build_id: module.1,
    };
    let inlined = if frame.inlined { FRAME_INLINED } else { 0 };
    FrameInfo { function, line: frame.line, flags: flags | inlined }
}

/// An image that has no file, as an unlinked one.
fn in_a_file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Write as _;
    let mut file = crate::segments::unlinked_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotframe_frames::{Budget, Config};

    /// What is said of a file that cannot be read has its cause, and no more is said than is of use.
    #[test]
    fn problems_have_their_causes() {
        let file = Source {
            path: "/bin/it".into(),
            build_id: Vec::new(),
            pid: 0,
            image_base: 0,
            is_go: false,
            reader: Some(Reader::Bytes(b"no ELF file".as_slice().into())),
            problem: None,
            is_image: false,
        };
        let mut store = Store::new(&Budget::new(1 << 20), Config::default());
        let mut namer = Namer::new(&mut store, None);
        let word = abi::FrameWord(
            u64::from(abi::HF_FRAME_NATIVE) << abi::HF_FRAME_KIND_SHIFT
                | 1 << abi::HF_FRAME_FILE_SHIFT,
        );
        for _ in 0..2 * PROBLEMS_MAX {
            namer.name_file(&file, &[word]);
        }
        assert_eq!(namer.problems[0], "/bin/it: reading ELF headers: not an ELF file");
        assert_eq!(namer.problems.len(), PROBLEMS_MAX);
    }
}
