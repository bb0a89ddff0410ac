//! The profile in memory, resolved: the one input of every exporter and view.
//!
//! In: resolved frames, stacks and samples of one recording, from `resolve`. Out: read by
//! `hotframe`'s `export/*`. Everything is columnar and index based: strings once, functions by
//! value, stacks as a tree whose most roots are shared, samples with their time and thread.
//!
//! Index 0 of `strings`, `modules` and `stacks` is the empty one ("", no module, the empty
//! stack); the other tables start with real entries.

use crate::numbers::Numbers;
use hotframe_abi as abi;
use std::hash::{BuildHasher as _, RandomState};

/// What kind of code a frame is: OpenTelemetry's `profile.frame.type` values
/// (semantic-conventions, model/profile/registry.yaml).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Kernel, its modules and BPF programs.
    Kernel = 0,
    /// C, C++ and anything compiled that is not known better.
    Native = 1,
    /// Rust.
    Rust = 2,
    /// Go.
    Go = 3,
    /// Java and other languages on HotSpot.
    Jvm = 4,
    /// CPython.
    Cpython = 5,
    /// V8 (Node).
    V8js = 6,
    /// Ruby.
    Ruby = 7,
    /// PHP.
    Php = 8,
    /// Perl.
    Perl = 9,
    /// Erlang and Elixir.
    Beam = 10,
    /// .NET.
    Dotnet = 11,
    /// LuaJIT.
    Luajit = 12,
    /// Code of a JIT that only left a map.
    Jit = 13,
    /// Not code: a frame by which hotframe says something (a cut stack's reason).
    Note = 14,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 15] = [
        Kind::Kernel,
        Kind::Native,
        Kind::Rust,
        Kind::Go,
        Kind::Jvm,
        Kind::Cpython,
        Kind::V8js,
        Kind::Ruby,
        Kind::Php,
        Kind::Perl,
        Kind::Beam,
        Kind::Dotnet,
        Kind::Luajit,
        Kind::Jit,
        Kind::Note,
    ];

    /// Of its number; [`Kind::Note`] for a number that no kind has.
    pub fn of(number: u8) -> Kind {
        Kind::ALL.get(usize::from(number)).copied().unwrap_or(Kind::Note)
    }

    /// Of the frames of a runtime (`HF_RUNTIME_*`).
    pub fn of_runtime(runtime: u32) -> Kind {
        match runtime {
            abi::HF_RUNTIME_CPYTHON => Kind::Cpython,
            abi::HF_RUNTIME_HOTSPOT => Kind::Jvm,
            _ => Kind::Jit,
        }
    }

    /// How its source files' names end.
    pub fn file_endings(self) -> &'static [&'static str] {
        match self {
            Kind::Go => &["go"],
            Kind::Rust => &["rs"],
            Kind::Jvm => &["java", "kt", "scala", "groovy", "clj"],
            Kind::Cpython => &["py"],
            Kind::V8js => &["js", "mjs", "cjs", "ts"],
            Kind::Ruby => &["rb"],
            Kind::Php => &["php"],
            Kind::Perl => &["pl", "pm"],
            Kind::Beam => &["erl", "ex", "exs"],
            Kind::Dotnet => &["cs", "fs"],
            Kind::Luajit => &["lua"],
            // C's are the kernel's too, and of native code every other language's.
            Kind::Kernel | Kind::Native | Kind::Jit | Kind::Note => &[],
        }
    }

    /// The name that `profile.frame.type` has for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kernel => "kernel",
            Kind::Native => "native",
            Kind::Rust => "rust",
            Kind::Go => "go",
            Kind::Jvm => "jvm",
            Kind::Cpython => "cpython",
            Kind::V8js => "v8js",
            Kind::Ruby => "ruby",
            Kind::Php => "php",
            Kind::Perl => "perl",
            Kind::Beam => "beam",
            Kind::Dotnet => "dotnet",
            Kind::Luajit => "luajit",
            Kind::Jit => "jit",
            Kind::Note => "note",
        }
    }
}

/// The frame was inlined into its caller.
pub const FRAME_INLINED: u8 = 1;
/// The frame was found by a heuristic (frame pointer, scan, synthesised row).
pub const FRAME_HEURISTIC: u8 = 2;
/// No symbol covers the address; the function's name is `module+0xoffset`.
pub const FRAME_UNNAMED: u8 = 4;

/// A file of code: an executable, a library, the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Module {
    /// Path as the process saw it; `[kernel.kallsyms]`, `[vdso]` for those.
    pub path: u32,
    /// GNU build id in lower-case hex, or Go's as text; 0: none.
    pub build_id: u32,
}

/// A function: what a node of a flame graph stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Function {
    /// Demangled name.
    pub name: u32,
    /// Name as the symbol table has it; 0: the same.
    pub system_name: u32,
    /// Source file; 0: unknown.
    pub file: u32,
    /// First line of the function; 0: unknown.
    pub start_line: u32,
    /// Index into `modules`.
    pub module: u32,
    /// Kind of code.
    pub kind: Kind,
}

/// A place in a function, as stacks hold it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Index into `functions`.
    pub function: u32,
    /// Source line; 0: unknown.
    pub line: u32,
    /// ELF virtual address (kernel: the address); already the call's, not the return address.
    /// Frames inlined at one place share it.
    pub address: u64,
    /// `FRAME_*` bits.
    pub flags: u8,
}

/// A node of the tree of stacks: its frame, called by those of its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackNode {
    /// Index into `stacks` of the caller's node; 0: this is an outermost frame.
    pub parent: u32,
    /// Index into `frames`.
    pub frame: u32,
}

/// A process incarnation (an exec starts a new one).
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Pid in hotframe's pid namespace.
    pub pid: u32,
    /// Command name of its main thread.
    pub comm: u32,
    /// Path of its executable; 0: unknown.
    pub exe: u32,
    /// cgroup path; 0: unknown.
    pub cgroup: u32,
    /// Samples emitted for it.
    pub samples: u64,
    /// Samples with a whole stack.
    pub whole: u64,
    /// Samples with a cut stack, by `hf_cut`.
    pub cut: [u64; hotframe_abi::HF_CUT_COUNT as usize],
}

/// A thread of a process under one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Tid in hotframe's pid namespace.
    pub tid: u32,
    /// Its name when sampled.
    pub comm: u32,
    /// Index into `processes`.
    pub process: u32,
}

/// Samples, a column each, in order of time.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Nanoseconds since the recording began.
    pub time_ns: Vec<u64>,
    /// Index into `threads`.
    pub thread: Vec<u32>,
    /// Index into `stacks` of the leaf's node.
    pub stack: Vec<u32>,
    /// Logical CPU.
    pub cpu: Vec<u16>,
    /// `hf_cut`: why the stack ends; 0: it is whole.
    pub cut: Vec<u8>,
    /// Ticks the sample stands for.
    pub weight: Vec<u32>,
}

/// What a recording was.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// When it began, nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Nanoseconds a tick stands for: 10^9 / Hz.
    pub period_ns: u64,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU architecture as `uname -m` says it.
    pub arch: String,
    /// The command line of hotframe.
    pub command: String,
    /// `hotframe VERSION`.
    pub producer: String,
    /// CPUs recorded.
    pub n_cpus: u32,
    /// What weights are the sums of, if not samples of CPU time: `inuse_space`, `delay`. A foreign
    /// profile's; "" for samples.
    pub value_type: String,
    /// The unit of these: `bytes`, `nanoseconds`, `count`.
    pub value_unit: String,
}

impl Meta {
    /// What weights are the sums of, and its unit, as pprof and OTLP name them.
    pub fn value(&self) -> (&str, &str) {
        match self.value_type.as_str() {
            "" => ("samples", "count"),
            value => (value, &self.value_unit),
        }
    }
}

/// One recording, resolved. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// What was recorded.
    pub meta: Meta,
    /// Every string once; 0 is "".
    pub strings: Strings,
    /// 0 is the module of code that has none.
    pub modules: Vec<Module>,
    /// Functions, by value.
    pub functions: Vec<Function>,
    /// Frames, by value.
    pub frames: Vec<Frame>,
    /// 0 is the empty stack; a parent's index is below its child's.
    pub stacks: Vec<StackNode>,
    /// Processes.
    pub processes: Vec<Process>,
    /// Threads.
    pub threads: Vec<Thread>,
    /// The samples.
    pub samples: Samples,
    /// The books, as `--stats` writes them: JSON without spaces; empty: there are none. As text, for
    /// a parsed process of thousands takes four times as much.
    pub stats: String,
    /// It has the one numbering already, which `hotframe_formats::canonical` would give it. Whoever
    /// changes a table sets it to false.
    pub is_canonical: bool,
}

impl Profile {
    /// The frames of a stack, leaf first.
    pub fn walk(&self, stack: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = stack;
        std::iter::from_fn(move || {
            if at == 0 {
                return None;
            }
            let node = self.stacks[at as usize];
            at = node.parent;
            Some(node.frame)
        })
    }
}

/// Strings, each held once: their bytes, 12 for the place, and 6 to 8 while they are being gathered.
#[derive(Debug, Clone)]
pub struct Strings {
    chunks: Vec<String>,
    /// Chunk, where it begins there, and its length.
    places: Vec<Place>,
    by_text: Numbers,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    begin: u32,
    bytes: u32,
}

/// Bytes of a chunk of texts; a longer text has one for itself.
const CHUNK_BYTES: usize = 64 << 10;

impl Default for Strings {
    fn default() -> Strings {
        let mut strings = Strings {
            chunks: Vec::new(),
            places: Vec::new(),
            by_text: Numbers::default(),
            hasher: RandomState::new(),
        };
        strings.intern("");
        strings
    }
}

impl Strings {
    /// The index of a text, new or known.
    pub fn intern(&mut self, text: &str) -> u32 {
        if let Some(known) = self.find(text) {
            return known;
        }
        let hash = self.hasher.hash_one(text);
        let has_room =
            self.chunks.last().is_some_and(|last| last.len() + text.len() <= last.capacity());
        if !has_room {
            // Most profiles have few texts.
            let bytes = if self.chunks.is_empty() { 1 << 10 } else { CHUNK_BYTES };
            self.chunks.push(String::with_capacity(bytes.max(text.len())));
        }
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        let place =
            Place { chunk: chunk as u32, begin: last.len() as u32, bytes: text.len() as u32 };
        last.push_str(text);
        let id = self.places.len() as u32;
        self.places.push(place);
        let (chunks, places, hasher) = (&self.chunks, &self.places, &self.hasher);
        self.by_text.insert(hash, id, |id| hasher.hash_one(text_at(chunks, places, id)));
        id
    }

    /// The index of a text that is there.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.by_text.find(self.hasher.hash_one(text), |id| self.get(id) == text)
    }

    /// The text of an index.
    pub fn get(&self, id: u32) -> &str {
        text_at(&self.chunks, &self.places, id)
    }

    /// How many there are, "" included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Never: "" is always there.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All texts in order of their index.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.places.len()).map(|id| self.get(id as u32))
    }
}

fn text_at<'a>(chunks: &'a [String], places: &[Place], id: u32) -> &'a str {
    let Place { chunk, begin, bytes } = places[id as usize];
    &chunks[chunk as usize][begin as usize..][..bytes as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text has one number, in the order of meeting, however long and many they are.
    #[test]
    fn strings() {
        let mut strings = Strings::default();
        let long = "x".repeat(3 * CHUNK_BYTES);
        let texts: Vec<String> = (0..20_000)
            .map(|i| match i {
                0 => String::new(),
                777 => long.clone(),
                _ => format!("function {i} \u{e9}"),
            })
            .collect();
        for _ in 0..2 {
            for (id, text) in texts.iter().enumerate() {
                assert_eq!(strings.intern(text), id as u32);
            }
        }
        assert!(strings.iter().eq(texts.iter().map(String::as_str)));
        assert_eq!(strings.len(), texts.len());
    }
}
