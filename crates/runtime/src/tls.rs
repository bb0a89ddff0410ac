//! Where a thread keeps a value: thread-local variables and thread-specific keys.
//!
//! In: a variable's symbol, or a value that some thread's key is known to hold. Out: a [`Place`]:
//! the reads that lead from any thread's thread pointer to the value, short enough for the kernel
//! half to follow.
//!
//! # How it works
//! A **variable** is found as the code that uses it does, in the order of how sure it is: in the
//! program itself its distance from the thread pointer is fixed (local exec); in a library the
//! dynamic linker wrote the distance (initial exec, resolved TLSDESC) or the module's number
//! (general dynamic, whose block the dynamic thread vector leads to) into the library's global
//! offset table, which is read from the process. Without a symbol it is found by what it holds.
//!
//! A **key** is found by what it holds: no number is needed. In glibc a thread's first 32 slots lie
//! in its descriptor, followed by pointers to all the blocks of 32, the first of which points back
//! to them: that shape gives both offsets, whatever the version. In musl the descriptor has a
//! pointer to an array.
//!
//! # Sources
//! U. Drepper, "ELF Handling For Thread-Local Storage" 0.21, §3.4.6 and §4.4 (variant II);
//! A. Oliva, "RFC: TLS Descriptors for x86" 0.9.5; nptl/descr.h @ glibc-2.17 to 2.41
//! (`specific_1stblock`, `specific`); src/internal/pthread_impl.h @ musl v1.2.5 (`tsd`, `dtv`).
//!
//! # Not handled
//! arm64, whose thread pointer stands before the blocks. A block that a thread has not allocated
//! yet reads as nothing.
//!
//! # Cost
//! A variable: one pass over the relocations; without a symbol, reads of cached pages, at most
//! 131,072. A key: the pages of one thread's descriptor.

use crate::Memory;
use hotframe_objects::{ElfFile, ReadAt, Segment};

/// Reads that a place takes at most.
pub const MAX_READS: usize = 3;

/// The way from a thread pointer to a value: `value = *(value + offset)` for each offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    offsets: Vec<i32>,
}

impl Place {
    /// Offsets in bytes, one a read; at most [`MAX_READS`].
    pub fn offsets(&self) -> &[i32] {
        &self.offsets
    }

    /// The value in the thread whose thread pointer is `tp`.
    pub fn read(&self, memory: &Memory, tp: u64) -> Option<u64> {
        self.offsets.iter().try_fold(tp, |at, &offset| {
            memory.u64(at.checked_add_signed(offset.into())?).filter(|_| at != 0)
        })
    }

    fn of(offsets: &[i64]) -> Option<Place> {
        let offsets: Option<Vec<i32>> =
            offsets.iter().map(|&offset| i32::try_from(offset).ok()).collect();
        Some(Place { offsets: offsets? })
    }
}

/// Keys of a process (`PTHREAD_KEYS_MAX`, glibc; musl has 128).
const KEYS_MAX: u64 = 1024;
const MUSL_KEYS_MAX: u64 = 128;
/// Slots of a block, and bytes of a slot (glibc's `struct pthread_key_data`: sequence, data).
const BLOCK_KEYS: u64 = 32;
const SLOT_BYTES: u64 = 16;
/// Beyond any `struct pthread` (2,304 bytes in glibc 2.36).
const DESCRIPTOR_MAX_BYTES: u64 = 8192;
const MUSL_DESCRIPTOR_MAX_BYTES: u64 = 512;

/// The key that holds in each thread, given by its thread pointer, this word: the one that does so in most
/// of them. What was deleted keeps its slots until a thread writes there, so that one thread alone may have
/// the word in two; then the lowest.
pub fn key_holding(memory: &Memory, threads: &[(u64, u64)]) -> Option<Place> {
    let mut found: Vec<(usize, Place)> = Vec::new();
    let holding = threads.iter().map(|&(tp, value)| keys_holding(memory, tp, value));
    for place in holding.filter(|places| !places.is_empty()).take(SEARCH_MAX_THREADS).flatten() {
        match found.iter_mut().find(|(_, known)| *known == place) {
            Some((n, _)) => *n += 1,
            None => found.push((1, place)),
        }
    }
    let most = found.iter().map(|(n, _)| *n).max()?;
    found.into_iter().find(|(n, _)| *n == most).map(|(_, place)| place)
}

/// All keys whose slots hold `value` in the thread at `tp`, lowest first.
fn keys_holding(memory: &Memory, tp: u64, value: u64) -> Vec<Place> {
    let block_bytes = BLOCK_KEYS * SLOT_BYTES;
    let word = |at: u64| memory.u64(tp.checked_add(at)?);
    let mut at = block_bytes;
    while at < DESCRIPTOR_MAX_BYTES {
        match word(at) {
            Some(word) if word == tp + at - block_bytes => {
                return glibc_keys(memory, tp, at, value);
            }
            Some(_) => at += 8,
            None => break,
        }
    }
    for at in (16..MUSL_DESCRIPTOR_MAX_BYTES).step_by(8) {
        let Some(slots) = word(at) else { break };
        if slots < 4096 || slots % 8 != 0 || slots >> 47 != 0 {
            continue;
        }
        let held = (0..MUSL_KEYS_MAX).map_while(|key| Some((key, memory.u64(slots + key * 8)?)));
        let keys = held.filter(|&(_, held)| held == value);
        let places: Vec<Place> =
            keys.filter_map(|(key, _)| Place::of(&[at as i64, key as i64 * 8])).collect();
        if !places.is_empty() {
            return places;
        }
    }
    Vec::new()
}

/// `blocks_at` is the offset of the pointers to blocks, which follow the first block.
fn glibc_keys(memory: &Memory, tp: u64, blocks_at: u64, value: u64) -> Vec<Place> {
    let mut places = Vec::new();
    for block in 0..KEYS_MAX / BLOCK_KEYS {
        let pointer_at = blocks_at + block * 8;
        let Some(slots) = memory.u64(tp + pointer_at).filter(|&slots| slots != 0) else { continue };
        for key in 0..BLOCK_KEYS {
            let data_at = key * SLOT_BYTES + 8;
            let Some(data) = slots.checked_add(data_at) else { break };
            if memory.u64(data) != Some(value) {
                continue;
            }
            places.extend(if block == 0 {
                Place::of(&[(blocks_at - BLOCK_KEYS * SLOT_BYTES + data_at) as i64])
            } else {
                Place::of(&[pointer_at as i64, data_at as i64])
            });
        }
    }
    places
}

/// A file with thread-local variables as a process runs it.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// What is added to the file's addresses to get the process's.
    pub bias: u64,
    /// The process's dynamic linker is musl's, whose thread vector has slots of 8 bytes.
    pub is_musl: bool,
}

const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const SHT_RELA: u32 = 4;
const ET_EXEC: u16 = 2;
/// `sizeof(Elf64_Rela)`, `sizeof(Elf64_Sym)`.
const RELA_BYTES: usize = 24;
const SYMBOL_BYTES: u64 = 24;
/// `r_info` types (System V ABI, AMD64 supplement 1.0, table 4.10).
const R_X86_64_DTPMOD64: u32 = 16;
const R_X86_64_TPOFF64: u32 = 18;
const R_X86_64_TLSDESC: u32 = 36;
/// Largest table of relocations that is read: LLVM's largest library has 20 MB.
const RELOCATIONS_MAX_BYTES: u64 = 64 << 20;
/// As much of a segment is searched for variables, and as many threads are asked.
const SEARCH_MAX_BYTES: u64 = 64 << 10;
const SEARCH_MAX_THREADS: usize = 16;
/// Further from the thread pointer than this is no static thread-local segment.
const STATIC_MAX_BYTES: i64 = 1 << 24;

/// Where a thread has a module's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// At this distance from the thread pointer.
    Static(i64),
    /// Where the thread vector's slot at this offset leads to.
    Dynamic(i64),
}

impl Block {
    fn place(self, value: u64) -> Option<Place> {
        let value = i64::try_from(value).ok()?;
        match self {
            Block::Static(at) => Place::of(&[at.checked_add(value)?]),
            // The thread vector follows the first word of the descriptor in both libraries.
            Block::Dynamic(slot) => Place::of(&[8, slot, value]),
        }
    }
}

/// Where each thread has the variable at `value` (`st_value` of an `STT_TLS` symbol) of the file
/// `elf`. `memory` is the process's.
pub fn variable<R: ReadAt>(
    elf: &ElfFile<R>,
    memory: &Memory,
    module: Module,
    value: u64,
) -> Option<Place> {
    block(elf, memory, module)?.place(value)
}

/// The variables of the file `elf`, by their symbols or without them, that hold in each thread, given
/// by its thread pointer, this word. Those first that do so in most of them; at most `n_max`.
pub fn variables_holding<R: ReadAt>(
    elf: &ElfFile<R>,
    memory: &Memory,
    module: Module,
    threads: &[(u64, u64)],
    n_max: usize,
) -> Vec<Place> {
    let size = segment(elf).map_or(0, |header| header.memsz.min(SEARCH_MAX_BYTES));
    let threads = threads.get(..SEARCH_MAX_THREADS).unwrap_or(threads);
    let Some(block) = block(elf, memory, module) else { return Vec::new() };
    let places = (0..size / 8).filter_map(|word| block.place(word * 8));
    let mut found: Vec<(usize, Place)> = places
        .map(|place| {
            let holds = |&&(tp, word): &&(u64, u64)| place.read(memory, tp) == Some(word);
            (threads.iter().filter(holds).count(), place)
        })
        .filter(|(n, _)| *n > 0)
        .collect();
    found.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    found.into_iter().map(|(_, place)| place).take(n_max).collect()
}

fn segment<R: ReadAt>(elf: &ElfFile<R>) -> Option<&Segment> {
    elf.segments().iter().find(|segment| segment.kind == PT_TLS)
}

fn block<R: ReadAt>(elf: &ElfFile<R>, memory: &Memory, module: Module) -> Option<Block> {
    let has_interpreter = elf.segments().iter().any(|segment| segment.kind == PT_INTERP);
    if elf.file_type() == ET_EXEC || has_interpreter && is_program(elf) {
        let tls = segment(elf)?;
        let size = tls.memsz.checked_next_multiple_of(alignment(elf, tls.vaddr))?;
        return Some(Block::Static(-i64::try_from(size).ok()?));
    }
    let mut number = None;
    for section in elf.sections().iter().filter(|section| section.kind == SHT_RELA) {
        let Ok(bytes) = elf.section_bytes(section, RELOCATIONS_MAX_BYTES) else { continue };
        let symbols = elf.sections().get(section.link as usize);
        for entry in bytes.chunks_exact(RELA_BYTES) {
            let word = |at: usize| {
                let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                u64::from_le_bytes(bytes.unwrap_or_default())
            };
            let (slot, info, addend) = (word(0), word(8), word(16));
            let kind = info as u32;
            if !matches!(kind, R_X86_64_DTPMOD64 | R_X86_64_TPOFF64 | R_X86_64_TLSDESC) {
                continue;
            }
            // Of a symbol of this file: another's may lie in another's block.
            let symbol = match info >> 32 {
                0 => Some(0),
                index => symbols.and_then(|table| {
                    let at = table.offset.checked_add(index.checked_mul(SYMBOL_BYTES)?)?;
                    let mut symbol = [0; SYMBOL_BYTES as usize];
                    if elf.reader().read_at(&mut symbol, at).ok()? != symbol.len() {
                        return None;
                    }
                    // st_shndx and st_value; the former is 0 of what is not defined here.
                    let (_, rest) = symbol.split_at(6);
                    let (section, rest) = rest.split_at(2);
                    let value = rest.get(..8)?.try_into().ok()?;
                    (section != [0, 0]).then(|| u64::from_le_bytes(value))
                }),
            };
            let Some(symbol) = symbol else { continue };
            let slot = slot.wrapping_add(module.bias);
            if kind == R_X86_64_DTPMOD64 {
                number = number.or_else(|| memory.u64(slot)).filter(|&number| number != 0);
                continue;
            }
            let at = if kind == R_X86_64_TLSDESC { slot.wrapping_add(8) } else { slot };
            let Some(offset) = memory.u64(at).map(|offset| offset as i64) else { continue };
            if offset < 0 && offset > -STATIC_MAX_BYTES {
                let value = i64::try_from(symbol.wrapping_add(addend)).ok()?;
                return Some(Block::Static(offset.checked_sub(value)?));
            }
        }
    }
    let slot_bytes = if module.is_musl { 8 } else { 16 };
    Some(Block::Dynamic(i64::try_from(number?.checked_mul(slot_bytes)?).ok()?))
}

const SHT_DYNAMIC: u32 = 6;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// Is a file that names an interpreter a program? libc has one too, and is none.
fn is_program<R: ReadAt>(elf: &ElfFile<R>) -> bool {
    elf.sections().iter().filter(|section| section.kind == SHT_DYNAMIC).any(|section| {
        elf.section_bytes(section, 1 << 16).is_ok_and(|bytes| {
            bytes.chunks_exact(16).any(|entry| {
                let word = |at: usize| {
                    let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                    u64::from_le_bytes(bytes.unwrap_or_default())
                };
                word(0) == DT_FLAGS_1 && word(8) & DF_1_PIE != 0
            })
        })
    })
}

/// Alignment of the thread-local segment: that of its sections, of which the largest counts.
fn alignment<R: ReadAt>(elf: &ElfFile<R>, vaddr: u64) -> u64 {
    let mut header = [0; 8];
    // e_phoff and e_phentsize, e_phnum: p_align is the last word of a program header.
    let read =
        |at: u64, into: &mut [u8]| elf.reader().read_at(into, at).is_ok_and(|n| n == into.len());
    if !read(32, &mut header) {
        return 1;
    }
    let table = u64::from_le_bytes(header);
    for at in 0..elf.segments().len() as u64 * 2 {
        let mut entry = [0; 56];
        let Some(place) = at.checked_mul(56).and_then(|at| table.checked_add(at)) else { break };
        if !read(place, &mut entry) {
            break;
        }
        let word = |at: usize| {
            let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        if word(0) as u32 == PT_TLS && word(16) == vaddr {
            return word(48).clamp(1, 1 << 20).next_power_of_two();
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TP: u64 = 0x7f00_0000_1000;

    fn memory(words: &[(u64, u64)]) -> Memory {
        // The whole descriptor reads, zeros where nothing is said.
        let mut descriptor = vec![0; 4096];
        let mut pieces = Vec::new();
        for &(at, word) in words {
            match at.checked_sub(TP) {
                Some(at) if at < 4096 => {
                    descriptor[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes());
                }
                _ => pieces.push((at, word.to_le_bytes().to_vec())),
            }
        }
        pieces.push((TP, descriptor));
        Memory::recorded(pieces)
    }

    /// glibc 2.36: slots at 0x310, pointers at 0x510. A key below 32 takes one read.
    #[test]
    fn a_low_key_of_glibc() {
        let words =
            [(TP, TP), (TP + 0x10, TP), (TP + 0x510, TP + 0x310), (TP + 0x310 + 3 * 16 + 8, 77)];
        let memory = memory(&words);
        let place = key_holding(&memory, &[(TP, 77)]).expect("a place");
        assert_eq!(place.offsets(), [0x310 + 3 * 16 + 8]);
        assert_eq!(place.read(&memory, TP), Some(77));
        assert_eq!(key_holding(&memory, &[(TP, 78)]), None);
    }

    /// A key that was deleted and another one's now: its slot still holds the word in a thread that was there
    /// before, and in no other.
    #[test]
    fn a_key_that_was_another_before() {
        let other = TP + 0x800;
        let slot = |tp: u64, key: u64| tp + 0x310 + key * 16 + 8;
        let words = [
            (TP + 0x510, TP + 0x310),
            (slot(TP, 1), 77),
            (slot(TP, 2), 77),
            (other + 0x510, other + 0x310),
            (slot(other, 2), 78),
        ];
        let memory = memory(&words);
        let place = |threads: &[(u64, u64)]| key_holding(&memory, threads).expect("a place");
        assert_eq!(place(&[(TP, 77)]).offsets(), [0x310 + 16 + 8]);
        assert_eq!(place(&[(TP, 77), (other, 78)]).offsets(), [0x310 + 2 * 16 + 8]);
    }

    /// Key 40 stands in the second block, which is allocated.
    #[test]
    fn a_high_key_of_glibc() {
        let block = 0x5500_0000_0000;
        let mut words = vec![(TP, TP), (TP + 0x510, TP + 0x310), (TP + 0x518, block)];
        words.extend((0..32).map(|key| (block + key * 16 + 8, if key == 8 { 77 } else { 0 })));
        let memory = memory(&words);
        let place = key_holding(&memory, &[(TP, 77)]).expect("a place");
        assert_eq!(place.offsets(), [0x518, 8 * 16 + 8]);
        assert_eq!(place.read(&memory, TP), Some(77));
    }

    /// musl 1.2: a pointer at 0x80 to an array of pointers.
    #[test]
    fn a_key_of_musl() {
        let slots = 0x5500_0000_0000;
        let mut words = vec![(TP, TP), (TP + 0x80, slots)];
        words.extend((0..128).map(|key| (slots + key * 8, if key == 2 { 77 } else { 0 })));
        let memory = memory(&words);
        let place = key_holding(&memory, &[(TP, 77)]).expect("a place");
        assert_eq!(place.offsets(), [0x80, 16]);
        assert_eq!(place.read(&memory, TP), Some(77));
    }
}
