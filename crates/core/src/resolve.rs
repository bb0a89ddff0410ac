//! Names what was recorded: from frame words to a [`Profile`].
//!
//! In: a [`Recording`], the files its frames are in, and the kernel's symbols. Out: a profile in
//! which every frame has its function, its inlined callees, file and line, where they exist
//! anywhere on the host; any other is `module+0xoffset` and counted as unnamed.
//!
//! # How it works
//! Off the sampling path, a file at a time: all its sampled addresses are sorted and named in one
//! batch, so that memory grows with what was sampled, never with what the file holds. A return
//! address is looked up one byte before, inside of its call.
//!
//! # Cost
//! libLLVM with 3,000 addresses takes about 10 ms; DWARF costs what the library that reads it costs.

use crate::files::{CodeFile, FileId, Files, Reader, State};
use crate::jit::Jit;
use crate::profile::{
    FRAME_HEURISTIC, FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Meta, Module, Process,
    Profile, StackNode, Thread,
};
use crate::recording::{Incarnation, Recording, comm_text};
use crate::session::AnnouncedSymbol;
use hotframe_abi as abi;
use hotframe_symbols::{Context, KernelSymbol, NamedFrame, symbolize, symbolize_kernel};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What naming did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Frames of samples by kind: all, and those with a name.
    pub frames: BTreeMap<&'static str, (u64, u64)>,
    /// What went wrong, by file: short sentences.
    pub problems: Vec<String>,
}

/// Everything naming needs.
pub struct Input<'a> {
    /// What was recorded.
    pub recording: &'a Recording,
    /// The files.
    pub files: &'a Files,
    /// Kernel symbols announced while recording.
    pub kernel_symbols: &'a BTreeMap<u64, AnnouncedSymbol>,
    /// What the recording was.
    pub meta: Meta,
    /// Generated code, and the maps that name it.
    pub jit: &'a Jit,
    /// CLOCK_MONOTONIC at its beginning.
    pub start_ns: u64,
    /// Ask these servers for debug files.
    pub debuginfod: Option<hotframe_symbols::Debuginfod>,
}

/// Names a recording. `progress` hears how many files are done, of how many.
pub fn resolve(input: Input<'_>, progress: &mut dyn FnMut(usize, usize)) -> (Profile, Outcome) {
    let mut namer = Namer::new(input.meta.clone(), input.debuginfod.clone());
    let words: BTreeSet<abi::FrameWord> =
        input.recording.nodes.iter().skip(1).map(|node| node.word()).collect();
    namer.name_kernel(&words, input.kernel_symbols);
    namer.name_files(&words, &|id| input.files.get(id).map(Source::of), progress);
    for &word in &words {
        namer.name_rest(word);
    }
    let generated = input.jit.names(&mut |problem| namer.problems.push(problem));
    namer.name_generated(generated);
    let outcome = namer.build(&input);
    (namer.profile, outcome)
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
            reader: file.reader().cloned(),
            problem: match &file.state {
                State::Unusable(why) => Some(why.clone()),
                _ => None,
            },
        }
    }
}

pub(crate) struct Namer {
    pub(crate) profile: Profile,
    functions: HashMap<Function, u32>,
    frames: HashMap<Frame, u32>,
    modules: HashMap<Module, u32>,
    /// Frames of a word, innermost first.
    pub(crate) by_word: HashMap<abi::FrameWord, Vec<u32>>,
    /// Frames of generated code, by the process that ran it.
    pub(crate) by_process: HashMap<(Incarnation, abi::FrameWord), u32>,
    problems: Vec<String>,
    debuginfod: Option<hotframe_symbols::Debuginfod>,
}

impl Namer {
    pub(crate) fn new(meta: Meta, debuginfod: Option<hotframe_symbols::Debuginfod>) -> Namer {
        let mut profile = Profile { meta, ..Profile::default() };
        profile.modules.push(Module { path: 0, build_id: 0 });
        profile.stacks.push(StackNode { parent: 0, frame: 0 });
        Namer {
            profile,
            functions: HashMap::new(),
            frames: HashMap::new(),
            modules: HashMap::new(),
            by_word: HashMap::new(),
            by_process: HashMap::new(),
            problems: Vec::new(),
            debuginfod,
        }
    }

    fn module(&mut self, path: &str, build_id: &[u8]) -> u32 {
        let build_id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let module = Module {
            path: self.profile.strings.intern(path),
            build_id: self.profile.strings.intern(&build_id),
        };
        let modules = &mut self.profile.modules;
        *self.modules.entry(module).or_insert_with_key(|module| {
            modules.push(module.clone());
            modules.len() as u32 - 1
        })
    }

    fn frame(&mut self, function: Function, line: u32, address: u64, flags: u8) -> u32 {
        let functions = &mut self.profile.functions;
        let function = *self.functions.entry(function).or_insert_with_key(|function| {
            functions.push(function.clone());
            functions.len() as u32 - 1
        });
        let frames = &mut self.profile.frames;
        *self.frames.entry(Frame { function, line, address, flags }).or_insert_with_key(|frame| {
            frames.push(frame.clone());
            frames.len() as u32 - 1
        })
    }

    /// A frame of which only the place is known.
    pub(crate) fn unnamed(
        &mut self,
        name: &str,
        module: u32,
        kind: Kind,
        address: u64,
        flags: u8,
    ) -> u32 {
        let function = Function {
            name: self.profile.strings.intern(name),
            system_name: 0,
            file: 0,
            start_line: 0,
            module,
            kind,
        };
        self.frame(function, 0, address, flags | FRAME_UNNAMED)
    }

    pub(crate) fn name_kernel(
        &mut self,
        words: &BTreeSet<abi::FrameWord>,
        announced: &BTreeMap<u64, AnnouncedSymbol>,
    ) {
        let mut by_addr: BTreeMap<u64, Vec<abi::FrameWord>> = BTreeMap::new();
        for &word in words.iter().filter(|word| word.kind() == abi::HF_FRAME_KERNEL) {
            by_addr.entry(word.kernel_addr() - word.call_offset()).or_default().push(word);
        }
        if by_addr.is_empty() {
            return;
        }
        let addrs: Vec<u64> = by_addr.keys().copied().collect();
        let sideband: Vec<KernelSymbol> = announced
            .values()
            .map(|symbol| KernelSymbol {
                start: symbol.start,
                len_bytes: symbol.bytes.into(),
                name: symbol.name.clone(),
                module: "bpf".into(),
            })
            .collect();
        let mut names: Vec<Option<(String, Option<String>)>> = vec![None; addrs.len()];
        match std::fs::File::open("/proc/kallsyms") {
            Ok(file) => {
                let reader = std::io::BufReader::with_capacity(64 << 10, file);
                if let Err(why) = symbolize_kernel(reader, &sideband, &addrs, &mut |at, name| {
                    names[at] = Some((name.name.clone(), name.module.clone()));
                }) {
                    self.problems.push(format!("kernel: {why}"));
                }
            }
            Err(why) => self.problems.push(format!("kernel: reading /proc/kallsyms: {why}")),
        }
        for (at, addr) in addrs.into_iter().enumerate() {
            let frame = match names[at].take() {
                Some((name, module)) => {
                    let path = match module {
                        Some(module) => format!("[{module}]"),
                        None => "[kernel.kallsyms]".to_owned(),
                    };
                    let function = Function {
                        name: self.profile.strings.intern(&name),
                        system_name: 0,
                        file: 0,
                        start_line: 0,
                        module: self.module(&path, &[]),
                        kind: Kind::Kernel,
                    };
                    self.frame(function, 0, addr, 0)
                }
                None => {
                    let module = self.module("[kernel.kallsyms]", &[]);
                    self.unnamed(&format!("[kernel]+{addr:#x}"), module, Kind::Kernel, addr, 0)
                }
            };
            for &word in by_addr.get(&addr).into_iter().flatten() {
                self.by_word.insert(word, vec![frame]);
            }
        }
    }

    pub(crate) fn name_files(
        &mut self,
        words: &BTreeSet<abi::FrameWord>,
        files: &dyn Fn(FileId) -> Option<Source>,
        progress: &mut dyn FnMut(usize, usize),
    ) {
        let mut by_file: BTreeMap<u32, Vec<abi::FrameWord>> = BTreeMap::new();
        for &word in words.iter().filter(|word| word.kind() == abi::HF_FRAME_NATIVE) {
            by_file.entry(word.file_id()).or_default().push(word);
        }
        let n_files = by_file.len();
        for (at, (id, words)) in by_file.into_iter().enumerate() {
            progress(at, n_files);
            if let Some(file) = files(id) {
                self.name_file(&file, &words);
            }
        }
        progress(n_files, n_files);
    }

    fn name_file(&mut self, file: &Source, words: &[abi::FrameWord]) {
        let module = self.module(&file.path, &file.build_id);
        let base = file.image_base;
        let kind = if file.is_go { Kind::Go } else { Kind::Native };
        let mut by_addr: BTreeMap<u64, Vec<abi::FrameWord>> = BTreeMap::new();
        for &word in words {
            let offset = u64::from(word.image_offset()).saturating_sub(word.call_offset());
            by_addr.entry(base + offset).or_default().push(word);
        }
        let addrs: Vec<u64> = by_addr.keys().copied().collect();
        let mut named: Vec<Vec<NamedFrame>> = vec![Vec::new(); addrs.len()];
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
            let report = symbolize(&open, &context, &addrs, &mut |at, frames| {
                named[at] = frames.to_vec();
            });
            for problem in report.problems {
                if self.problems.len() < 100 {
                    self.problems.push(format!("{}: {problem}", file.path));
                }
            }
        } else if let Some(why) = &file.problem {
            self.problems.push(format!("{}: {why}", file.path));
        }
        let short = file.path.rsplit('/').next().unwrap_or(&file.path).to_owned();
        for (addr, frames) in addrs.into_iter().zip(named) {
            for &word in by_addr.get(&addr).into_iter().flatten() {
                let heuristic =
                    if word.flags() & abi::HF_FRAME_HEURISTIC != 0 { FRAME_HEURISTIC } else { 0 };
                let ids = if frames.is_empty() {
                    let name = format!("{short}+{:#x}", addr - base);
                    vec![self.unnamed(&name, module, kind, addr, heuristic)]
                } else {
                    frames.iter().map(|frame| self.named(frame, module, addr, heuristic)).collect()
                };
                self.by_word.insert(word, ids);
            }
        }
    }

    fn named(&mut self, frame: &NamedFrame, module: u32, addr: u64, heuristic: u8) -> u32 {
        let strings = &mut self.profile.strings;
        let function = Function {
            name: strings.intern(&frame.name),
            system_name: if frame.system_name == frame.name {
                0
            } else {
                strings.intern(&frame.system_name)
            },
            file: frame.file.as_deref().map_or(0, |file| strings.intern(file)),
            start_line: frame.start_line,
            module,
            kind: match frame.kind {
                hotframe_symbols::Kind::Native => Kind::Native,
                hotframe_symbols::Kind::Rust => Kind::Rust,
                hotframe_symbols::Kind::Go => Kind::Go,
            },
        };
        let inlined = if frame.inlined { FRAME_INLINED } else { 0 };
        self.frame(function, frame.line, addr, heuristic | inlined)
    }

    /// Words that no file or kernel symbol stands behind.
    pub(crate) fn name_rest(&mut self, word: abi::FrameWord) {
        if self.by_word.contains_key(&word) {
            return;
        }
        let heuristic =
            if word.flags() & abi::HF_FRAME_HEURISTIC != 0 { FRAME_HEURISTIC } else { 0 };
        let frame = match word.kind() {
            abi::HF_FRAME_NOTE => {
                let text = match word.payload() as u32 {
                    abi::HF_NOTE_TASK_32BIT => "[32-bit task: its stack is not unwound]",
                    _ => "[not unwound]",
                };
                self.unnamed(text, 0, Kind::Note, 0, 0)
            }
            abi::HF_FRAME_USER_PC => {
                let module = self.module("[anonymous]", &[]);
                let pc = word.payload();
                self.unnamed(&format!("[anonymous]+{pc:#x}"), module, Kind::Native, pc, heuristic)
            }
            _ => self.unnamed("[unknown]", 0, Kind::Native, word.payload(), heuristic),
        };
        self.by_word.insert(word, vec![frame]);
    }

    /// Names what perf maps cover. One module for all: a function is the same in every worker.
    pub(crate) fn name_generated(
        &mut self,
        names: impl IntoIterator<Item = ((Incarnation, abi::FrameWord), String)>,
    ) {
        for ((incarnation, word), name) in names {
            let function = Function {
                name: self.profile.strings.intern(&name),
                system_name: 0,
                file: 0,
                start_line: 0,
                module: self.module("[perf map]", &[]),
                kind: Kind::Jit,
            };
            let heuristic =
                if word.flags() & abi::HF_FRAME_HEURISTIC != 0 { FRAME_HEURISTIC } else { 0 };
            let address = word.payload().saturating_sub(word.call_offset());
            let frame = self.frame(function, 0, address, heuristic);
            self.by_process.insert((incarnation, word), frame);
        }
    }

    /// Puts the profile together.
    fn build(&mut self, input: &Input<'_>) -> Outcome {
        let recording = input.recording;
        // A raw node is one or, with inlining, several nodes; parents come before children.
        let mut node_of = vec![0u32; recording.nodes.len()];
        // Generated code is this process's own: such stacks are made for each process.
        let mut is_generated = vec![false; recording.nodes.len()];
        let mut known: HashMap<StackNode, u32> = HashMap::new();
        for (at, node) in recording.nodes.iter().enumerate().skip(1) {
            let word = node.word();
            is_generated[at] = word.kind() == abi::HF_FRAME_USER_PC && !self.by_process.is_empty()
                || is_generated[node.parent as usize];
            if is_generated[at] {
                continue;
            }
            let frames = self.by_word.get(&word).map_or(&[][..], Vec::as_slice);
            let parent = node_of[node.parent as usize];
            node_of[at] = grow(&mut self.profile.stacks, &mut known, parent, frames);
        }
        let mut generated: HashMap<(u32, u32), u32> = HashMap::new();
        let mut way = Vec::new();
        for (&thread, &leaf) in recording.samples.thread.iter().zip(&recording.samples.stack) {
            if !is_generated[leaf as usize] {
                continue;
            }
            let process = recording.threads[thread as usize].process;
            let incarnation = recording.processes[process as usize].incarnation;
            let mut at = leaf;
            while is_generated[at as usize] && !generated.contains_key(&(process, at)) {
                way.push(at);
                at = recording.nodes[at as usize].parent;
            }
            let mut parent = generated.get(&(process, at)).copied().unwrap_or(node_of[at as usize]);
            while let Some(at) = way.pop() {
                let word = recording.nodes[at as usize].word();
                let frames = match self.by_process.get(&(incarnation, word)) {
                    Some(frame) => std::slice::from_ref(frame),
                    None => self.by_word.get(&word).map_or(&[][..], Vec::as_slice),
                };
                parent = grow(&mut self.profile.stacks, &mut known, parent, frames);
                generated.insert((process, at), parent);
            }
        }
        for process in &recording.processes {
            self.profile.processes.push(Process {
                pid: process.incarnation.pid,
                comm: self.profile.strings.intern(&process.facts.comm),
                exe: self.profile.strings.intern(&process.facts.exe),
                cgroup: self.profile.strings.intern(&process.facts.cgroup),
                samples: process.samples,
                whole: process.whole,
                cut: process.cut,
            });
        }
        for thread in &recording.threads {
            let comm = self.profile.strings.intern(&comm_text(&thread.comm));
            self.profile.threads.push(Thread { tid: thread.tid, comm, process: thread.process });
        }
        let columns = &recording.samples;
        let mut order: Vec<u32> = (0..columns.time_ns.len() as u32).collect();
        order.sort_by_key(|&at| columns.time_ns[at as usize]);
        let samples = &mut self.profile.samples;
        for at in order.into_iter().map(|at| at as usize) {
            samples.time_ns.push(columns.time_ns[at].saturating_sub(input.start_ns));
            samples.thread.push(columns.thread[at]);
            let leaf = columns.stack[at];
            let process = recording.threads[columns.thread[at] as usize].process;
            let stack = generated.get(&(process, leaf)).copied();
            samples.stack.push(stack.unwrap_or(node_of[leaf as usize]));
            samples.cpu.push(columns.cpu[at]);
            samples.cut.push(columns.cut[at]);
            samples.weight.push(1);
        }
        Outcome { frames: self.count(), problems: std::mem::take(&mut self.problems) }
    }

    /// Frames of samples by kind, all and named.
    fn count(&self) -> BTreeMap<&'static str, (u64, u64)> {
        let profile = &self.profile;
        let mut by_stack: HashMap<u32, u64> = HashMap::new();
        for (&stack, &weight) in profile.samples.stack.iter().zip(&profile.samples.weight) {
            *by_stack.entry(stack).or_default() += u64::from(weight);
        }
        let mut counts = BTreeMap::new();
        for (stack, weight) in by_stack {
            for frame in profile.walk(stack) {
                let frame = &profile.frames[frame as usize];
                let kind = profile.functions[frame.function as usize].kind;
                if kind == Kind::Note {
                    continue;
                }
                let count: &mut (u64, u64) = counts.entry(kind.name()).or_default();
                count.0 += weight;
                if frame.flags & FRAME_UNNAMED == 0 {
                    count.1 += weight;
                }
            }
        }
        counts
    }
}

/// The node of `frames` (innermost first) above `parent`, known or new.
fn grow(
    stacks: &mut Vec<StackNode>,
    known: &mut HashMap<StackNode, u32>,
    parent: u32,
    frames: &[u32],
) -> u32 {
    frames.iter().rev().fold(parent, |parent, &frame| {
        let node = StackNode { parent, frame };
        *known.entry(node).or_insert_with(|| {
            stacks.push(node);
            stacks.len() as u32 - 1
        })
    })
}

/// An image that has no file, as an unlinked one.
fn in_a_file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(std::env::temp_dir())?;
    file.write_all(bytes)?;
    Ok(file)
}
