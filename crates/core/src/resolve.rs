//! Names what was recorded: from frame words to a [`Profile`].
//!
//! In: a [`Recording`], the files its frames are in, and the kernel's symbols. Out: names in the
//! recording's store, and a profile in which every frame has its function, its inlined callees, file
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

use crate::by_function::ByFunction;
use crate::files::{CodeFile, FileId, Files, Reader, State};
use crate::jit::Jit;
use crate::numbers::Numbers;
use crate::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Meta, Module, Process,
    Profile, Samples, StackNode, Thread,
};
use crate::recording::{Columns, Incarnation, Recording, comm_text};
use crate::session::AnnouncedSymbol;
use hotframe_abi as abi;
use hotframe_frames::{FrameInfo, FunctionInfo, StackId, Store, Why, group};
use hotframe_objects::{ElfFile, function_starts};
use hotframe_symbols::{Context, KernelSymbol, NamedFrame, symbolize, symbolize_kernel};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, RandomState};

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

/// Makes a profile of a recording that was named: what no sample has is left out. It has the one
/// numbering that `hotframe_formats::canonical` describes, so that nobody needs a copy to get it:
/// samples by time and CPU, everything else by its first use.
///
/// # Cost
/// The recording is taken apart on the way: its indexes are given back first, a node's number is
/// written over the node, a column of samples goes when it was copied. Beyond what the profile
/// holds, a node costs 8 bytes of the store and 5 in an index, a sample 12.
pub fn build(mut recording: Recording, files: &Sources, meta: Meta, start_ns: u64) -> Profile {
    let mut columns = recording.take_samples();
    for stack in &mut columns.stack {
        *stack = StackId(recording.leaf(*stack));
    }
    recording.store.seal();
    let mut builder = Builder::new(recording, files);
    builder.profile.meta = meta;
    builder.processes();
    builder.samples(columns, start_ns);
    builder.profile
}

struct Builder<'a> {
    recording: Recording,
    files: &'a Sources,
    profile: Profile,
    /// The profile's number of each of the store's functions and modules; `u32::MAX`: none yet.
    functions: Vec<u32>,
    modules: Vec<u32>,
    by_value: ByValue,
    way: Vec<u32>,
    at_node: Vec<hotframe_frames::StackFrame>,
}

/// Finds entries of the profile's tables by what they are.
#[derive(Default)]
struct ByValue {
    hasher: RandomState,
    modules: Numbers,
    functions: Numbers,
    frames: Numbers,
    stacks: Numbers,
    threads: Numbers,
}

/// The number of an entry, new or known.
fn intern<T: Eq + Hash>(
    table: &mut Vec<T>,
    numbers: &mut Numbers,
    hasher: &RandomState,
    value: T,
) -> u32 {
    let hash = hasher.hash_one(&value);
    if let Some(known) = numbers.find(hash, |at| table[at as usize] == value) {
        return known;
    }
    let new = table.len() as u32;
    table.push(value);
    numbers.insert(hash, new, |at| hasher.hash_one(&table[at as usize]));
    new
}

impl<'a> Builder<'a> {
    fn new(recording: Recording, files: &'a Sources) -> Builder<'a> {
        let store = &recording.store;
        let mut profile = Profile::default();
        profile.modules.push(Module { path: 0, build_id: 0 });
        profile.stacks.push(StackNode { parent: 0, frame: 0 });
        let mut modules = vec![u32::MAX; store.n_modules()];
        modules[0] = 0;
        // Where calls were inlined, one becomes several. An index that grew would be held twice.
        let n_nodes: usize = (1..store.n_nodes() as u32)
            .map(|at| store.numbers_of(store.node(at)).count().max(1))
            .sum();
        let stacks = Numbers::with_capacity(n_nodes);
        Builder {
            functions: vec![u32::MAX; store.n_functions()],
            recording,
            files,
            profile,
            modules,
            by_value: ByValue { stacks, ..ByValue::default() },
            way: Vec::new(),
            at_node: Vec::new(),
        }
    }

    /// They stay in their order, as the books count them.
    fn processes(&mut self) {
        let strings = &mut self.profile.strings;
        for process in std::mem::take(&mut self.recording.processes) {
            let process = Process {
                pid: process.incarnation.pid,
                comm: strings.intern(&process.facts.comm),
                exe: strings.intern(&process.facts.exe),
                cgroup: strings.intern(&process.facts.cgroup),
                samples: process.samples,
                whole: process.whole,
                cut: process.cut,
            };
            self.profile.processes.push(process);
        }
    }

    fn samples(&mut self, columns: Columns, start_ns: u64) {
        let Columns { time_ns, mut thread, mut stack, cpu, cut, weight } = columns;
        let weight_of = |at: u32| weight.get(at as usize).copied().unwrap_or(1);
        let key = |at: u32| (time_ns[at as usize].saturating_sub(start_ns), cpu[at as usize]);
        let mut order: Vec<u32> =
            (0..time_ns.len() as u32).filter(|&at| weight_of(at) > 0).collect();
        order.sort_unstable_by_key(|&at| (key(at), at));
        // What a clock never gives, two samples of a CPU at one time, needs an order by content.
        self.profile.is_canonical = order.windows(2).all(|pair| key(pair[0]) != key(pair[1]));
        let mut threads = vec![u32::MAX; self.recording.threads.len()];
        for &at in &order {
            let number = thread[at as usize];
            if threads[number as usize] == u32::MAX {
                threads[number as usize] = self.thread(number);
            }
            thread[at as usize] = threads[number as usize];
            stack[at as usize].0 = self.stack(stack[at as usize].0);
        }
        // One column after the other, each gone before the next is made.
        fn in_order<T: Copy, U>(column: Vec<T>, order: &[u32], of: impl Fn(T) -> U) -> Vec<U> {
            order.iter().map(|&at| of(column[at as usize])).collect()
        }
        self.profile.samples = Samples {
            weight: match weight.is_empty() {
                true => vec![1; order.len()],
                false => in_order(weight, &order, |weight| weight),
            },
            time_ns: in_order(time_ns, &order, |time_ns| time_ns.saturating_sub(start_ns)),
            cpu: in_order(cpu, &order, |cpu| cpu),
            cut: in_order(cut, &order, |cut| cut),
            thread: in_order(thread, &order, |thread| thread),
            stack: in_order(stack, &order, |stack| stack.0),
        };
        let last = self.profile.samples.time_ns.last().copied().unwrap_or(0);
        if last > 0 {
            let duration_ns = &mut self.profile.meta.duration_ns;
            *duration_ns = last.saturating_add(1).max(*duration_ns);
        }
    }

    fn thread(&mut self, number: u32) -> u32 {
        let thread = self.recording.threads[number as usize];
        let comm = self.profile.strings.intern(&comm_text(&thread.comm));
        let thread = Thread { tid: thread.tid, comm, process: thread.process };
        let ByValue { hasher, threads, .. } = &mut self.by_value;
        intern(&mut self.profile.threads, threads, hasher, thread)
    }

    /// The profile's node of a stack's leaf.
    fn stack(&mut self, leaf: u32) -> u32 {
        let mut at = leaf;
        let mut new = loop {
            if at == 0 {
                break 0;
            }
            if let Some(new) = self.recording.store.number(at) {
                break new;
            }
            self.way.push(at);
            at = self.recording.store.node(at).parent;
        };
        while let Some(at) = self.way.pop() {
            let node = self.recording.store.node(at);
            // One frame, or with inlining several: callers first.
            let mut frames = std::mem::take(&mut self.at_node);
            frames.extend(self.recording.store.frames_at(node));
            while let Some(frame) = frames.pop() {
                let frame = self.frame(frame);
                let ByValue { hasher, stacks, .. } = &mut self.by_value;
                let node = StackNode { parent: new, frame };
                new = intern(&mut self.profile.stacks, stacks, hasher, node);
            }
            self.at_node = frames;
            self.recording.store.set_number(at, new);
        }
        new
    }

    fn frame(&mut self, frame: hotframe_frames::StackFrame) -> u32 {
        let word = frame.word.map(abi::FrameWord);
        let address = word.map_or(0, |word| self.address(word));
        let frame = match frame.frame {
            Some(known) => Frame {
                function: self.function(known.function),
                line: known.line,
                address,
                flags: known.flags,
            },
            None => Frame {
                function: self.nameless(word.map_or(Kind::Note, kind_of)),
                line: 0,
                address,
                flags: FRAME_UNNAMED,
            },
        };
        let ByValue { hasher, frames, .. } = &mut self.by_value;
        intern(&mut self.profile.frames, frames, hasher, frame)
    }

    fn function(&mut self, number: u32) -> u32 {
        if let Some(&known) = self.functions.get(number as usize)
            && known != u32::MAX
        {
            return known;
        }
        let module = self.module(self.recording.store.function(number).module);
        let function = self.recording.store.function(number);
        let strings = &mut self.profile.strings;
        let name = strings.intern(function.name);
        let system_name = function.system_name.map_or(0, |name| strings.intern(name));
        let function = Function {
            name,
            system_name: if system_name == name { 0 } else { system_name },
            file: strings.intern(function.file),
            start_line: function.start_line,
            module,
            kind: Kind::of(function.kind),
        };
        let ByValue { hasher, functions, .. } = &mut self.by_value;
        let new = intern(&mut self.profile.functions, functions, hasher, function);
        if let Some(slot) = self.functions.get_mut(number as usize) {
            *slot = new;
        }
        new
    }

    fn module(&mut self, number: u32) -> u32 {
        match self.modules.get(number as usize) {
            Some(&u32::MAX) => {}
            Some(&known) => return known,
            None => return 0,
        }
        let module = self.recording.store.module(number);
        let strings = &mut self.profile.strings;
        let module =
            Module { path: strings.intern(module.path), build_id: strings.intern(module.build_id) };
        let ByValue { hasher, modules, .. } = &mut self.by_value;
        let new = intern(&mut self.profile.modules, modules, hasher, module);
        self.modules[number as usize] = new;
        new
    }

    /// What stands for a place whose name found no room.
    fn nameless(&mut self, kind: Kind) -> u32 {
        let name = self.profile.strings.intern(Why::NoRoom.label());
        let function = Function { name, system_name: 0, file: 0, start_line: 0, module: 0, kind };
        let ByValue { hasher, functions, .. } = &mut self.by_value;
        intern(&mut self.profile.functions, functions, hasher, function)
    }

    /// See [`Frame::address`].
    fn address(&self, word: abi::FrameWord) -> u64 {
        match word.kind() {
            abi::HF_FRAME_NATIVE => {
                let base = self.files.get(word.file_id()).map_or(0, |file| file.image_base);
                base + u64::from(word.image_offset()).saturating_sub(word.call_offset())
            }
            abi::HF_FRAME_KERNEL => word.kernel_addr() - word.call_offset(),
            abi::HF_FRAME_NOTE => 0,
            _ => word.payload().saturating_sub(word.call_offset()),
        }
    }
}

fn kind_of(word: abi::FrameWord) -> Kind {
    match word.kind() {
        abi::HF_FRAME_KERNEL => Kind::Kernel,
        abi::HF_FRAME_NOTE => Kind::Note,
        abi::HF_FRAME_DYNAMIC => Kind::of_runtime(word.runtime()),
        _ => Kind::Native,
    }
}

/// Frames of samples by kind, all and named.
pub fn count(profile: &Profile) -> BTreeMap<&'static str, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for (&stack, &weight) in profile.samples.stack.iter().zip(&profile.samples.weight) {
        for frame in profile.walk(stack) {
            let frame = &profile.frames[frame as usize];
            let kind = profile.functions[frame.function as usize].kind;
            if kind == Kind::Note {
                continue;
            }
            let count: &mut (u64, u64) = counts.entry(kind.name()).or_default();
            count.0 += u64::from(weight);
            if frame.flags & FRAME_UNNAMED == 0 {
                count.1 += u64::from(weight);
            }
        }
    }
    counts
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
