//! Functions that symbols name and no unwind information describes: hand-written assembly.
//!
//! In: `.symtab`, or `.dynsym` where that was stripped. Out: for a range of addresses, the
//! functions in it, with their extents.
//!
//! # How it works
//! The table is read once, in chunks, when a block first has text that nothing describes. What
//! starts where an entry of `.eh_frame` starts is dropped on the way, so that what is held is the
//! assembly alone: 8 bytes per function.
//!
//! # Cost
//! One pass over the symbols; while it lasts [`CHUNK`] × 16 bytes, afterwards at most
//! [`MAX_HELD`] × 8.

use crate::Error;
use crate::elf::ElfFile;
use crate::entries::Entries;
use crate::read::{Cursor, ReadAt, Window};

/// Symbols sorted at a time.
const CHUNK: usize = 64 << 10;
/// Functions held: 2 MiB. libcrypto, libc and libavcodec have some hundreds.
const MAX_HELD: usize = 256 << 10;
/// Bytes of symbols read: Chromium with all its symbols has 40 MB.
const MAX_TABLE_BYTES: u64 = 96 << 20;

const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;

/// A function without unwind information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Function {
    /// ELF virtual address.
    pub(crate) start: u64,
    /// Bytes; 0 where the symbol does not say.
    pub(crate) size: u64,
}

/// The functions of a file that `.eh_frame` does not start.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    image_base: u64,
    /// (start - image base, size), sorted, one per start.
    held: Vec<(u32, u32)>,
}

impl Functions {
    /// Reads the symbols. Those in `known` (what another table describes) are left out.
    pub(crate) fn read<R: ReadAt>(
        file: &ElfFile<R>,
        mut eh_frame: Option<&mut Entries>,
        known: std::ops::Range<u64>,
    ) -> Result<Self, Error> {
        let mut functions = Self { image_base: file.image_base(), held: Vec::new() };
        let Some(section) = [".symtab", ".dynsym"].iter().find_map(|name| file.section(name))
        else {
            return Ok(functions);
        };
        let size = section.size.min(MAX_TABLE_BYTES);
        let mut window = Window::default();
        let mut chunk: Vec<(u32, u32)> = Vec::new();
        for i in 0..size / 24 {
            let bytes = window.get(file.reader(), section.offset.saturating_add(i * 24), 24)?;
            let Some(function) = parse(bytes) else {
                if bytes.len() < 24 {
                    break;
                }
                continue;
            };
            let in_text = file.executable_segments().any(|segment| {
                function.start >= segment.vaddr && function.start - segment.vaddr < segment.filesz
            });
            let image = function.start.checked_sub(functions.image_base);
            let image = image.and_then(|image| u32::try_from(image).ok());
            let Some(image) = image.filter(|_| in_text && !known.contains(&function.start)) else {
                continue;
            };
            chunk.push((image, u32::try_from(function.size).unwrap_or(u32::MAX)));
            if chunk.len() >= CHUNK {
                functions.keep(file, eh_frame.as_deref_mut(), &mut chunk)?;
            }
        }
        functions.keep(file, eh_frame, &mut chunk)?;
        functions.held.sort_unstable();
        // Of several symbols at one start, the longest.
        functions.held.reverse();
        functions.held.dedup_by_key(|(start, _)| *start);
        functions.held.reverse();
        functions.held.shrink_to_fit();
        Ok(functions)
    }

    fn keep<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        eh_frame: Option<&mut Entries>,
        chunk: &mut Vec<(u32, u32)>,
    ) -> Result<(), Error> {
        chunk.sort_unstable();
        let mut described = vec![false; chunk.len()];
        if let Some(entries) = eh_frame {
            let mut at = 0;
            entries.each_start(file.reader(), |start| {
                while let Some((image, _)) = chunk.get(at) {
                    let symbol = self.image_base + u64::from(*image);
                    if symbol > start {
                        break;
                    }
                    if let Some(described) = described.get_mut(at) {
                        *described = symbol == start;
                    }
                    at += 1;
                }
            })?;
        }
        for (function, described) in chunk.drain(..).zip(described) {
            if !described && self.held.len() < MAX_HELD {
                self.held.push(function);
            }
        }
        Ok(())
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.held.capacity() * size_of::<(u32, u32)>()
    }

    /// The functions that start in `[low, high)` and the last one before.
    pub(crate) fn around(&self, low: u64, high: u64) -> impl Iterator<Item = Function> + '_ {
        let start = |function: &(u32, u32)| self.image_base + u64::from(function.0);
        let from = self.held.partition_point(|function| start(function) < low).saturating_sub(1);
        let rest = self.held.get(from..).unwrap_or_default();
        rest.iter()
            .map(move |function| Function { start: start(function), size: u64::from(function.1) })
            .take_while(move |function| function.start < high)
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Function> {
    let mut cursor = Cursor::new(bytes);
    let (_name, info, _other, section) = (cursor.u32()?, cursor.u8()?, cursor.u8()?, cursor.u16()?);
    let (start, size) = (cursor.u64()?, cursor.u64()?);
    // A bare label of hand-written assembly has no type. Local ones are mostly targets of jumps.
    let is_function = matches!(info & 15, STT_FUNC | STT_GNU_IFUNC)
        || info & 15 == STT_NOTYPE && info >> 4 != STB_LOCAL;
    (is_function && section != 0).then_some(Function { start, size })
}
