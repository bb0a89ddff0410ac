//! Facts from object files: what an ELF file is, and how to unwind its text.
//!
//! In: bytes of files that anybody on the machine may have written. Out: [`ElfFile`] (headers,
//! build id, how addresses map) and, through [`RowSource`], the unwind rows of 64 KiB of image at
//! a time. Never panics, never hangs, and memory is bounded by what is returned.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hotframe_objects::{ElfFile, RowSource};
//! let file = ElfFile::open(std::fs::File::open("/usr/bin/true")?)?;
//! let mut source = RowSource::new(file)?;
//! let text = source.file().entry() - source.file().image_base();
//! let block = source.block((text >> 16) as u32)?;
//! assert_eq!(block.rows[0].pc, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # How rows use the ABI
//! As `kernel/include/hf/abi.h` says, and: a `HF_RULE_NONE` row whose `cfa` is 1 stands at the
//! start of a function; with 0 it stands where a rule ended and its pc is nothing more.
#![forbid(unsafe_code)]

mod cfi;
mod elf;
mod entries;
mod exported;
mod expr;
mod framed;
mod functions;
mod gopclntab;
mod read;
mod rows;
mod rules;
mod synth;

use std::io;

pub use elf::{ElfFile, MAX_SECTIONS, MAX_SEGMENTS, Machine, Section, Segment};
pub use entries::function_starts;
pub use gopclntab::{GoStack, go_stack};
pub use read::ReadAt;
pub use rows::{Block, BlockStats, RowSource};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin like an ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// A 32-bit file.
    #[error("32-bit ELF files are not supported")]
    Class32,
    /// A big-endian file.
    #[error("big-endian ELF files are not supported")]
    BigEndian,
    /// Its instruction set has no unwinder.
    #[error("no unwinder for {0:?}")]
    Machine(Machine),
    /// A header that everything hangs on is damaged.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// Above a bound.
    #[error("{what} of {size} bytes is above the bound of {cap}")]
    TooLarge {
        /// What was to be read.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        cap: u64,
    },
    /// Compressed by an unknown method (`ch_type`), or damaged.
    #[error("compressed data (method {method}) cannot be read")]
    Compression {
        /// `ch_type`.
        method: u32,
    },
    /// The file could not be read.
    #[error("reading at offset {offset}")]
    Read {
        /// Offset in the file.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
