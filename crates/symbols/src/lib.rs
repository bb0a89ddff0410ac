//! Names of addresses: functions, inlined calls, files and lines, on the host.
//!
//! In: an open ELF file and the sorted addresses of it that were sampled ([`symbolize`]), or the
//! kernel's symbol list and kernel addresses ([`symbolize_kernel`]). Out: for each address that
//! something covers, its functions, innermost first, inlined callers after it.
//!
//! # How it works
//! A batch names all addresses of a file in one pass, so its memory is O(addresses asked), not
//! O(symbols in the file): symbol tables are streamed, DWARF is read unit by unit through a small
//! window ([`reader`]), nothing is mapped, nothing stays after the batch. What is compressed is
//! unpacked into an unlinked file when it is large.
//!
//! An address is *named* only if a symbol's `[value, value + size)`, a DWARF function's range or a
//! Go function covers it ([`symtab`] has the rule for labels without size). Everything else is left
//! out, and the caller prints `module+0xoffset`.
//!
//! The routes are those of a debugger, in its order: for Go code the line table that every Go binary
//! carries ([`go`]); the file's own DWARF and `.symtab`; else a separate debug file, by build id, by
//! `.gnu_debuglink`, or from a debuginfod server ([`debugfile`]); `.gnu_debugdata` (minidebuginfo)
//! and `.dynsym`; and PLT stubs by the symbol they jump to ([`plt`]).
//!
//! # Not handled
//! 32-bit and big-endian ELF, files without section headers (neither has names that we could find),
//! stabs and CTF.
//!
//! # Cost
//! 3,000 random addresses on one core of a 2-core VM, median of three, with a warm page cache:
//! librustc_driver (154 MB, `.symtab`) 20 ms; LLVM 22 (200 MB, `.symtab`) 70 ms; LLVM 14 (110 MB,
//! `.dynsym`) 8 ms; terraform-provider-aws (707 MB, Go) 46 ms. Peak RSS of the whole process 4 to
//! 7 MB in each case. With DWARF (44 MB of it, C++, every unit wanted, 3 inlined calls an address)
//! 610 ms and 11.5 MB, 1 s and 12.5 MB when it is compressed. `examples/name.rs` measures.

#![forbid(unsafe_code)]

mod bytes;
mod debugfile;
mod demangle;
mod dwarf;
mod elf;
mod go;
mod kernel;
mod plt;
mod reader;
mod sources;
mod symtab;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use crate::debugfile::Debuginfod;
pub use crate::demangle::readable;
pub use crate::kernel::{KernelName, KernelSymbol, symbolize_kernel};
pub use crate::sources::{Sources, defines, sources};

use crate::bytes::Bytes;
use crate::demangle::{bounded, demangle};
use crate::dwarf::{Place, Position};
use crate::elf::Elf;
use crate::symtab::{Completeness, Search, Winner};

/// Why names, or some of them, are missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an ELF file that we read.
    #[error("reading ELF headers")]
    Elf(#[from] hotframe_objects::Error),
    /// Reading the file failed.
    #[error("reading")]
    Io(#[from] io::Error),
    /// A compressed section is damaged.
    #[error("decompressing {what}")]
    Decompress {
        /// Section.
        what: String,
        /// Cause.
        #[source]
        cause: io::Error,
    },
    /// A table is larger than its bound.
    #[error("{what} has more than {max_bytes} bytes")]
    TooLarge {
        /// Section or table.
        what: String,
        /// The bound.
        max_bytes: u64,
    },
    /// DWARF that does not parse.
    #[error("reading DWARF")]
    Dwarf(#[from] gimli::Error),
    /// Go's line table does not parse.
    #[error("reading Go's line table: {what}")]
    Go {
        /// What is wrong.
        what: &'static str,
    },
    /// The batch's time is over; what was found until then was reported.
    #[error("out of time")]
    OutOfTime,
    /// A debuginfod server did not answer as it should.
    #[error("fetching {url}: {why}")]
    Fetch {
        /// Address asked.
        url: String,
        /// Cause.
        why: String,
    },
    /// kallsyms shows zeros for addresses.
    #[error("kernel addresses are hidden (kernel.kptr_restrict, or CAP_SYSLOG is missing)")]
    HiddenKernelSymbols,
}

/// What kind of code a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// C, C++ and whatever is not known better.
    Native,
    /// Rust, by its mangling or its DWARF.
    Rust,
    /// Go, by its line table.
    Go,
}

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFrame {
    /// Demangled, at most 4 KiB.
    pub name: String,
    /// As the symbol table or the linkage name has it, without version.
    pub system_name: String,
    /// Source file: an absolute path if the compiler recorded one.
    pub file: Option<Rc<str>>,
    /// Line in `file`; 0: unknown.
    pub line: u32,
    /// Column, from 1; 0: unknown.
    pub column: u32,
    /// Line of the function's declaration; 0: unknown.
    pub start_line: u32,
    /// This function was inlined into the next frame's.
    pub inlined: bool,
    /// Kind of code.
    pub kind: Kind,
}

/// Where to look, and within which bounds.
#[derive(Clone, Debug)]
pub struct Context {
    /// Path of the file as its process saw it: `.gnu_debuglink` is relative to its directory.
    pub path: PathBuf,
    /// Root of the mount namespace of that process (`/proc/PID/root`); searched before our own.
    pub root: Option<PathBuf>,
    /// Trees of separate debug files.
    pub debug_directories: Vec<PathBuf>,
    /// Servers to ask for debug files that are not here; `None`: do not.
    pub debuginfod: Option<Debuginfod>,
    /// Directory for unlinked temporary files (decompressed sections). Not a tmpfs if memory counts.
    pub scratch: PathBuf,
    /// Most bytes that one compressed section may unpack to. Beyond it the section counts as absent.
    pub unpacked_max_bytes: u64,
    /// Time that a batch may take, fetching not included.
    pub time_max: Duration,
}

impl Context {
    /// The usual places: `/usr/lib/debug`, `/var/tmp`, no server; 2 GiB, 20 s.
    pub fn new(path: impl Into<PathBuf>) -> Context {
        Context {
            path: path.into(),
            root: None,
            debug_directories: vec![PathBuf::from("/usr/lib/debug")],
            debuginfod: None,
            scratch: PathBuf::from("/var/tmp"),
            unpacked_max_bytes: 2 << 30,
            time_max: Duration::from_secs(20),
        }
    }
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Report {
    /// Addresses that were named.
    pub n_named: usize,
    /// Of these, by Go's line table.
    pub n_go: usize,
    /// Of these, with a function from DWARF.
    pub n_dwarf: usize,
    /// The separate debug file that was used.
    pub debug_file: Option<PathBuf>,
    /// What went wrong, at most [`PROBLEMS_MAX`]; names from other routes stand all the same.
    pub problems: Vec<Error>,
}

/// Most problems that a [`Report`] lists.
pub const PROBLEMS_MAX: usize = 16;

impl Report {
    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if self.problems.len() < PROBLEMS_MAX {
                    self.problems.push(error);
                }
                None
            }
        }
    }
}

/// Names `addresses` (ELF virtual addresses, sorted, unique) of `file`. `out` is called once for each
/// address that is named, with its index and its functions, innermost first; the order of the calls
/// is not that of the addresses. Never fails: what goes wrong stands in the report.
pub fn symbolize(
    file: &File,
    context: &Context,
    addresses: &[u64],
    out: &mut impl FnMut(usize, &[NamedFrame]),
) -> Report {
    let mut report = Report::default();
    let opened = file.try_clone().and_then(Bytes::of_file).map_err(Error::from).and_then(Elf::new);
    if let Some(elf) = report.note(opened) {
        let mut batch = Batch { context, report: &mut report, done: vec![false; addresses.len()] };
        batch.name(&elf, addresses, out);
    }
    report
}

struct Batch<'a> {
    context: &'a Context,
    report: &'a mut Report,
    done: Vec<bool>,
}

impl Batch<'_> {
    fn name(&mut self, elf: &Elf, addresses: &[u64], out: &mut impl FnMut(usize, &[NamedFrame])) {
        let deadline = Instant::now() + self.context.time_max;
        let named = go::name(elf, addresses, deadline, &mut |index, frames| {
            self.done[index] = true;
            self.report.n_go += 1;
            self.report.n_named += 1;
            out(index, frames);
        });
        self.report.note(named);
        if self.done.iter().all(|&done| done) {
            return;
        }
        // The rest, with its indices.
        let left: Vec<usize> = (0..addresses.len()).filter(|&i| !self.done[i]).collect();
        let rest: Vec<u64> = left.iter().map(|&i| addresses[i]).collect();
        self.native(elf, &rest, &mut |index, frames| out(left[index], frames));
    }

    fn native(&mut self, elf: &Elf, addresses: &[u64], out: &mut impl FnMut(usize, &[NamedFrame])) {
        let has_dwarf = debugfile::has_dwarf(elf);
        let has_symtab = debugfile::has_symtab(elf);
        let debug = if has_dwarf && has_symtab {
            None
        } else {
            debugfile::find(elf, self.context, self.report)
        };
        // Looking for the file, or fetching it, is not on this clock.
        let deadline = Instant::now() + self.context.time_max;
        let mut search = Search::new(addresses, deadline);
        if let Some(debug) = &debug {
            let added = search.add(&debug.elf, Completeness::Whole);
            self.report.note(added);
        }
        let added = search.add(elf, Completeness::Whole);
        self.report.note(added);
        if !has_symtab && debug.is_none() {
            let mini = debugfile::minidebuginfo(elf, self.context);
            if let Some(Some(mini)) = self.report.note(mini) {
                let added = search.add(&mini, Completeness::Selection);
                self.report.note(added);
            }
        }
        let mut symbols = self.report.note(search.finish()).unwrap_or_default();
        symbols.resize(addresses.len(), None);

        let mut done = vec![false; addresses.len()];
        self.report.debug_file = debug.as_ref().map(|d| d.path.clone());
        let with_dwarf = match &debug {
            _ if has_dwarf => Some((elf, self.context.path.as_path())),
            Some(debug) => Some((&debug.elf, debug.path.as_path())),
            None => None,
        };
        if let Some((with_dwarf, path)) = with_dwarf.filter(|(e, _)| debugfile::has_dwarf(e)) {
            let (mut n_named, mut n_dwarf) = (0, 0);
            let named = debugfile::name_by_dwarf(
                with_dwarf,
                path,
                self.context,
                deadline,
                addresses,
                &mut |index, place| {
                    let symbol = symbols.get(index).and_then(Option::as_ref);
                    n_dwarf += usize::from(!place.functions.is_empty());
                    let frames = frames(symbol, place);
                    if !frames.is_empty() {
                        done[index] = true;
                        n_named += 1;
                        out(index, &frames);
                    }
                },
            );
            self.report.n_named += n_named;
            self.report.n_dwarf += n_dwarf;
            self.report.note(named);
        }
        let stubs: Vec<usize> =
            (0..addresses.len()).filter(|&i| !done[i] && symbols[i].is_none()).collect();
        if !stubs.is_empty() {
            let at: Vec<u64> = stubs.iter().map(|&i| addresses[i]).collect();
            let named = plt::name(elf, &at, &mut |index, name| {
                symbols[stubs[index]] = Some(Winner { name });
            });
            self.report.note(named);
        }
        for (index, symbol) in symbols.iter().enumerate() {
            if let (false, Some(symbol)) = (done[index], symbol) {
                self.report.n_named += 1;
                out(index, &frames(Some(symbol), Place::default()));
            }
        }
    }
}

/// Frames of an address from its symbol and what DWARF says of it.
fn frames(symbol: Option<&Winner>, place: Place) -> Vec<NamedFrame> {
    let n = place.functions.len();
    let mut frames = Vec::with_capacity(n.max(1));
    for (index, (function, position)) in place.functions.into_iter().enumerate() {
        let inlined = index + 1 < n;
        // Only the outermost function is the symbol's.
        let symbol = symbol.filter(|_| !inlined).map(|s| s.name.as_str());
        let name = function.name.as_deref();
        let linkage = function.linkage_name.as_deref();
        let mangled = linkage
            .and_then(demangle)
            .or_else(|| if linkage.is_none() { symbol.and_then(demangle) } else { None });
        let kind = if function.rust || mangled.as_ref().is_some_and(|m| m.rust) {
            Kind::Rust
        } else {
            Kind::Native
        };
        let Some(plain) = name.or(linkage).or(symbol) else {
            continue;
        };
        frames.push(NamedFrame {
            name: mangled.map_or_else(|| bounded(plain), |m| m.name),
            system_name: bounded(symbol.or(linkage).unwrap_or(plain)),
            file: position.file,
            line: position.line,
            column: position.column,
            start_line: function.start_line,
            inlined,
            kind,
        });
    }
    if let (true, Some(Winner { name })) = (frames.is_empty(), symbol) {
        let demangled = demangle(name);
        let rust = demangled.as_ref().is_some_and(|d| d.rust);
        let Position { file, line, column } = place.position;
        frames.push(NamedFrame {
            name: demangled.map_or_else(|| bounded(name), |d| d.name),
            system_name: bounded(name),
            file,
            line,
            column,
            start_line: 0,
            inlined: false,
            kind: if rust { Kind::Rust } else { Kind::Native },
        });
    }
    frames
}
