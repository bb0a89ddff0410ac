//! The contract between hotframe and a language runtime.
//!
//! In: files of code, and processes that run them. Out: which code of a process a runtime's step of
//! the kernel half walks (regions and a table), and the names of the frames that it sends.
//!
//! # How it works
//! Three nouns, one per lifetime. A [`Runtime`] knows the signs by which a file is recognised. A
//! [`Layout`] is what one file says: version, offsets, addresses; all processes that run the file
//! share it. An [`Attached`] is one process: the table that the kernel half's step reads, and the
//! resolver, which reads the process's memory. What is read of a process's memory holds for that
//! process alone: its owner may have written it.
//!
//! ```text
//! file opened ─ recognise ─▶ Layout ─ attach ─▶ Attached ── regions, table ──▶ kernel half
//!                                                  ▲                              │
//!                                    resolve ──────┴──── head word + data words ◀─┘
//! ```
//!
//! The kernel half walks native and runtime frames in one loop. Where a pc lies in a region it
//! calls the runtime's step (`runtimes/NAME/bpf/step.h`), which emits frames of its own, moves
//! to the caller, or leaves the pc to the native rules (`kernel/include/hf/runtime.h`).
//!
//! # Cost
//! Recognising costs a search of a file's tables of names, once. Nothing is done for a process that
//! is not sampled.
#![forbid(unsafe_code)]

pub mod elf;
pub mod memory;
pub mod tls;

use hotframe_objects::{ElfFile, ReadAt};
use std::any::Any;
use std::sync::Arc;

pub use memory::Memory;

/// A language runtime: one per kind of interpreter or virtual machine.
pub trait Runtime: Sync {
    /// `HF_RUNTIME_*`: what stands in its frames' head words and in its table's first word.
    fn id(&self) -> u32;

    /// The name of its folder: what users see (`hotspot`, `cpython`).
    fn name(&self) -> &'static str;

    /// Its name as people write it (`HotSpot`).
    fn title(&self) -> &'static str;

    /// Its frames stand beside the native ones of its interpreter, each of which is an activation of a chain that
    /// lies in the heap, and not in the place of native ones: an unwinder that knows no runtime meets both
    /// (`--audit`).
    fn is_beside_native(&self) -> bool;

    /// How a process of it is made to leave a perf map, for one whose frames are not unwound.
    fn perf_map(&self) -> Option<&'static str>;

    /// Why its frames may be missing from a stack, by what its step says of it (`lost_why` in
    /// `hf_sample`): as it stands in --stats.
    fn lost_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// What makes a file worth a closer look.
    fn signs(&self) -> Signs;

    /// Looks at a file that has one of the signs. `Ok(None)`: it is not ours.
    ///
    /// # Errors
    /// It is ours but cannot be used; it is not asked again for this file.
    fn recognise(&self, file: &Executable<'_>) -> Result<Option<Arc<dyn Layout>>, Unusable>;
}

/// Signs of a runtime in a file: any one of them suffices.
#[derive(Debug, Clone, Copy)]
pub struct Signs {
    /// Names of symbols, in `.dynsym` or `.symtab`.
    pub symbols: &'static [&'static str],
    /// Names of sections.
    pub sections: &'static [&'static str],
}

/// A file of code, open.
pub struct Executable<'a> {
    /// Its path, as a process that maps it sees it.
    pub path: &'a str,
    /// Its headers and bytes.
    pub elf: &'a ElfFile<&'a dyn ReadAt>,
}

/// What a layout learnt of a process that it could not be attached to so far.
pub type Begun = Option<Box<dyn Any + Send>>;

/// What one file says of its runtime: shared by all processes that run it, and nothing that one of
/// them says of itself.
pub trait Layout: Send + Sync {
    /// The runtime's version, and how sure it is, as a user reads it (`3.11.2`, `26 (guessed)`), or
    /// why the file alone does not say it.
    fn version(&self) -> String;

    /// Takes up a process that runs the file.
    ///
    /// # Errors
    /// [`Unusable::NotYet`] while the runtime is starting: it is tried again, ever more rarely.
    /// Anything else is said once and for all of this process.
    fn attach(&self, process: &Process<'_>) -> Result<Box<dyn Attached>, Unusable>;

    /// The same, by one who comes again: what was learnt of the process when it was too early need not
    /// be learnt anew.
    ///
    /// # Errors
    /// As of [`Layout::attach`].
    fn attach_again(
        &self,
        process: &Process<'_>,
        _begun: &mut Begun,
    ) -> Result<Box<dyn Attached>, Unusable> {
        self.attach(process)
    }

    /// What stands in for [`Layout::attach`] in a process where it fails: regions whose step, by its
    /// table, counts that the frames of the runtime are missing. `None`: native rules cut stacks
    /// there anyway, and say so.
    fn stand_in(&self, _process: &Process<'_>) -> Option<Box<dyn Attached>> {
        None
    }
}

/// A process, to be read.
pub struct Process<'a> {
    /// Its pid in hotframe's namespace.
    pub pid: u32,
    /// What is added to an address of the recognised ELF file to get the process's.
    pub bias: u64,
    /// Its memory.
    pub memory: &'a Memory,
    /// How whoever reads the names wants them.
    pub naming: Naming,
    /// Functions of it that were named before.
    pub known: &'a dyn Known,
    /// Its executable mappings, sorted.
    pub mappings: &'a Mappings<'a>,
    /// Opens the file behind a mapping, for those who need another one than the recognised.
    pub open: &'a dyn Fn(&Mapping) -> Option<Arc<dyn ReadAt + Send + Sync>>,
}

/// Functions of a process that were named before. They stand in the frame store, like all names: a runtime
/// that meets one at another position need not read its names again.
pub trait Known {
    /// The function that was kept under these words, as a frame without a line. The words have to say that
    /// it is still the same one.
    fn find(&self, key: &[u64; KNOWN_WORDS]) -> Option<Frame>;

    /// Keeps a function, as long as there is room.
    fn keep(&self, key: &[u64; KNOWN_WORDS], frame: &Frame);
}

/// Words by which a function is known.
pub const KNOWN_WORDS: usize = 4;

/// No function is known, and none is kept.
pub struct NothingKnown;

impl Known for NothingKnown {
    fn find(&self, _: &[u64; KNOWN_WORDS]) -> Option<Frame> {
        None
    }

    fn keep(&self, _: &[u64; KNOWN_WORDS], _: &Frame) {}
}

/// How names are written: the same for all processes, from the beginning of a recording to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Naming {
    /// Java methods have the types of their parameters.
    pub java_signatures: bool,
    /// Classes that Java makes at run time keep their numbers and addresses: a name for each.
    pub java_raw_names: bool,
}

/// The executable mappings of a process, put together when they are first looked at: most calls
/// need none, and there are many calls.
pub struct Mappings<'a> {
    list: std::cell::OnceCell<Vec<Mapping>>,
    make: &'a dyn Fn() -> Vec<Mapping>,
    are_changed: bool,
}

impl<'a> Mappings<'a> {
    /// What `make` gives, sorted, once.
    pub fn new(make: &'a dyn Fn() -> Vec<Mapping>) -> Mappings<'a> {
        Mappings { list: std::cell::OnceCell::new(), make, are_changed: true }
    }

    /// The same, which may be other than at the last refresh or are not.
    #[must_use]
    pub fn changed(self, are_changed: bool) -> Mappings<'a> {
        Mappings { are_changed, ..self }
    }

    /// Whether they may be other than at the last refresh. A refresh that only looks at mappings need not
    /// where they are not: it comes ten times a second for each process.
    pub fn are_changed(&self) -> bool {
        self.are_changed
    }
}

impl std::ops::Deref for Mappings<'_> {
    type Target = [Mapping];

    fn deref(&self) -> &[Mapping] {
        self.list.get_or_init(self.make)
    }
}

/// An executable mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
    /// File offset of `start`.
    pub pgoff: u64,
    /// Path of its file; empty: anonymous memory.
    pub path: String,
}

/// Code of a process that the kernel half gives to the runtime's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First process address.
    pub start: u64,
    /// Behind the last. It may reach beyond what is mapped now.
    pub end: u64,
}

/// A runtime in one process. Dropping it ends its service.
pub trait Attached: Send {
    /// Its version as this process says it, if the file does not ([`Layout::version`]).
    fn version(&self) -> Option<String> {
        None
    }

    /// Where its step is called. They do not overlap.
    fn regions(&self) -> &[Region];

    /// What the step reads: `struct hf_NAME_proc` of `bpf/abi.h`, whose first word is the
    /// runtime's id. At most 60 KiB.
    fn table(&self) -> &[u8];

    /// The process's executable mappings changed, or time has passed. True if regions or table
    /// are others now.
    fn refresh(&mut self, _process: &Process<'_>) -> bool {
        false
    }

    /// Its step counted that a stack lacks its frames: what was found in the process may be true no
    /// more. A stack may lack them for many a reason, so this only says when to look, at the next
    /// [`Attached::refresh`] and not at each.
    fn lost(&mut self) {}

    /// Its step wants to be asked before a walk is left to be finished later, when what changes by
    /// the moment is another (`hf_moment` in `kernel/include/hf/runtime.h`).
    fn has_moment(&self) -> bool {
        false
    }

    /// What it keeps of what it read in the process, beside what attaching found: it has a bound, and is a
    /// row of its own in the books of memory.
    fn kept(&self) -> Kept {
        Kept::default()
    }

    /// Gives all of that back, since the processes of this machine keep too much together. What is needed
    /// again is read again.
    fn forget(&mut self) {}

    /// By which key its step tells, beside its frames, what names such a frame (`hf_tell`): then the
    /// frame has it when it is asked for. `None`: it does not.
    fn told_key(&self, _raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        None
    }

    /// The words of a frame that was named before and has the same names, lines too, as this one, if
    /// there is one: these are taken then, and nothing is read. The words have to say that it is still
    /// the same code.
    fn alike(&self, _raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        None
    }

    /// These frames are asked for next, [`AHEAD`] at most: reads into the cache of pages, together, what
    /// naming them begins with. Nothing is concluded from it.
    fn read_ahead(&self, _frames: &[RawFrame<'_>], _memory: &Memory) {}

    /// Names a frame: appends one [`Frame`], or several where calls were inlined, innermost first.
    /// Appends nothing when it is [`Outcome::Unnamed`].
    fn resolve(
        &mut self,
        raw: &RawFrame<'_>,
        process: &Process<'_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome;
}

/// Frames that are read ahead for: the pages of all of them have room in the cache.
pub const AHEAD: usize = 16;

/// What is kept, and what went to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Entries held.
    pub entries: u64,
    /// Bytes of heap that they take, free room in their table included.
    pub bytes: u64,
    /// Entries that went so far to make room.
    pub evictions: u64,
}

impl std::ops::AddAssign for Kept {
    fn add_assign(&mut self, other: Kept) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.evictions += other.evictions;
    }
}

/// A frame as the step sent it.
#[derive(Debug, Clone, Copy)]
pub struct RawFrame<'a> {
    /// The head word: bits 0–39 are the runtime's own.
    pub head: hotframe_abi::FrameWord,
    /// The data words.
    pub data: &'a [u64],
    /// What its step told of it: a `struct hf_told` and what follows.
    pub told: Option<&'a [u8]>,
}

impl RawFrame<'_> {
    /// Bits 0–39 of the head word.
    pub fn own(&self) -> u64 {
        self.head.0 & ((1 << 40) - 1)
    }

    /// A data word; 0 if it is not there.
    pub fn word(&self, at: usize) -> u64 {
        self.data.get(at).copied().unwrap_or_default()
    }
}

/// A named frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// The function as its language writes it (`package.Class.method`, `Class.method`).
    pub name: Vec<u8>,
    /// Source file; empty: unknown.
    pub file: Vec<u8>,
    /// Line; 0: unknown.
    pub line: u32,
    /// First line of the function; 0: unknown.
    pub start_line: u32,
    /// What a user would look for the code in: a module, a jar; empty: unknown.
    pub module: Vec<u8>,
    /// Inlined into the frame that follows.
    pub inlined: bool,
    /// Code of the runtime itself: a stub, an adapter, an intrinsic. Its kind is still the
    /// runtime's.
    pub is_internal: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has its name.
    Named,
    /// It has none.
    Unnamed(Why),
}

/// Why a frame has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The process ended before its memory was read.
    ProcessGone,
    /// What the frame points at is no longer what it was.
    StalePointer,
    /// What it belongs to was unloaded before it was read, or may have been.
    Unloaded,
    /// The runtime's data is not as this version lays it out.
    Unsupported,
}

/// Why a runtime cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is starting, or what it needs is not there so far.
    #[error("not started: {0}")]
    NotYet(&'static str),
    /// The process's memory cannot be read.
    #[error("reading {len_bytes} bytes at {address:#x}")]
    Read {
        /// Process address.
        address: u64,
        /// Bytes wanted.
        len_bytes: usize,
    },
    /// Something that every known version has is missing or absurd.
    #[error("{0}")]
    Unknown(String),
    /// The file cannot be read.
    #[error("reading the file")]
    File(#[from] hotframe_objects::Error),
}
