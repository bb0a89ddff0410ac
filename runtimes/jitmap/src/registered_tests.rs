//! GDB's interface in memory that is made up: lists, images, and what of a hostile one is refused.

use super::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Memory of a process that is made up.
#[derive(Default)]
struct Made {
    pieces: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Made {
    fn put(&self, at: u64, bytes: impl Into<Vec<u8>>) {
        self.pieces.borrow_mut().insert(at, bytes.into());
    }

    fn words(&self, at: u64, words: &[u64]) {
        self.put(at, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    }

    fn read(&self, at: u64, into: &mut [u8]) -> bool {
        let pieces = self.pieces.borrow();
        let Some((start, bytes)) = pieces.range(..=at).next_back() else { return false };
        let from = bytes.get((at - start) as usize..).and_then(|rest| rest.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    }

    /// Registers an image at an address, before those that are.
    fn register(&self, entry: u64, image: u64, bytes: &[u8]) {
        let mut first = [0; 8];
        assert!(self.read(DESCRIPTOR_AT + 16, &mut first));
        let first = u64::from_le_bytes(first);
        self.put(image, bytes);
        self.words(entry, &[first, 0, image, bytes.len() as u64]);
        if first != 0 {
            let mut old = self.pieces.borrow_mut();
            old.get_mut(&first).expect("an entry")[8..16].copy_from_slice(&entry.to_le_bytes());
        }
        self.words(DESCRIPTOR_AT, &[1 | 1 << 32, entry, entry]);
    }
}

const DESCRIPTOR_AT: u64 = 0x1000;
const CODE_AT: u64 = 0x7f00_0000_1000;
const FRAME_AT: u64 = 0x7f00_0000_3000;

fn empty() -> Made {
    let made = Made::default();
    made.words(DESCRIPTOR_AT, &[1, 0, 0]);
    made
}

/// `.eh_frame` of one function as it is loaded: a CIE ("zR", pc-relative four bytes), an FDE, an end.
fn eh_frame(code: u64, len: u32) -> Vec<u8> {
    let mut out = vec![20, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b];
    // DW_CFA_def_cfa rsp+8; DW_CFA_offset rip at CFA-8.
    out.extend([12, 7, 8, 0x90, 1, 0, 0]);
    let here = FRAME_AT + out.len() as u64;
    out.extend([20, 0, 0, 0]);
    out.extend((out.len() as u32).to_le_bytes());
    out.extend((code.wrapping_sub(here + 8) as u32).to_le_bytes());
    out.extend(len.to_le_bytes());
    // No augmentation; DW_CFA_advance_loc 1, DW_CFA_def_cfa_offset 16, nops.
    out.extend([0, 0x41, 14, 16, 0, 0, 0, 0]);
    out.extend([0; 4]);
    out
}

/// An object file as LLVM registers it: `f` and `g` in a `.text` of so many bytes, `.eh_frame` not relocated.
fn object(text_bytes: u64, frame: &[u8]) -> Vec<u8> {
    let mut new = Rewritten {
        pieces: vec![Piece {
            start: CODE_AT,
            end: CODE_AT + text_bytes,
            bytes: vec![0x90; text_bytes as usize],
        }],
        names: b"\0f\0g\0".to_vec(),
        ..Rewritten::default()
    };
    for (name, start) in [(1, 0), (3, 32)] {
        new.symbols.push(Symbol { name, info: 0x12, start, size: 32 });
    }
    if !frame.is_empty() {
        new.eh_frame = Some((FRAME_AT, vec![0; frame.len()]));
    }
    let mut bytes = new.write();
    bytes[16] = ET_REL as u8;
    bytes
}

fn image_of(made: &Made, bytes: &[u8]) -> Result<Image, Refused> {
    Image::of(bytes, &|at, into| made.read(at, into))
}

/// What is rewritten has the loaded entries' rows and the symbols at their addresses; code that no entry
/// covers, and whose bytes cannot be read, is not given out.
#[test]
fn an_object_of_llvm() {
    let made = empty();
    let frame = eh_frame(CODE_AT, 32);
    made.put(FRAME_AT, frame.clone());
    let image = image_of(&made, &object(64, &frame)).expect("an image");
    assert_eq!(image.code, std::slice::from_ref(&(CODE_AT..CODE_AT + 32)));
    assert!(image.is_cut, "a function without an entry has no room");
    let elf = ElfFile::open(image.elf).expect("an ELF file");
    assert_eq!(elf.image_base(), CODE_AT & !0xfff);
    let symbols = elf.section_bytes(elf.section(".symtab").expect("symbols"), 4096).expect("bytes");
    let starts: Vec<u64> = symbols.chunks(24).map(|symbol| u64_at(symbol, 8)).collect();
    assert_eq!(starts, [0, CODE_AT, CODE_AT + 32]);
    let mut rows = RowSource::new(elf).expect("rows");
    let block = rows.block(0).expect("a block");
    let cfa: Vec<(u16, i32)> = block
        .rows
        .iter()
        .filter(|row| row.kind == hotframe_abi::HF_RULE_SP as u8)
        .map(|row| (row.pc, row.cfa))
        .collect();
    assert_eq!(cfa, [(0, 8), (1, 16)]);
    // Its own entries, which nobody relocated, are of no use.
    assert_eq!(image_of(&empty(), &object(64, &frame)).err(), Some(Refused::Changed));
}

/// A function without an entry beside one with: LLVM makes none for what throws nothing. It is
/// followed from its symbol.
#[test]
fn a_function_that_throws_nothing() {
    let made = empty();
    let frame = eh_frame(CODE_AT, 32);
    made.put(FRAME_AT, frame.clone());
    let mut code = vec![0x90; 64];
    code[31] = 0xc3;
    // push rbx; nops; pop rbx; ret
    (code[32], code[62], code[63]) = (0x53, 0x5b, 0xc3);
    made.put(CODE_AT, code);
    let image = image_of(&made, &object(64, &frame)).expect("an image");
    assert_eq!(image.code, std::slice::from_ref(&(CODE_AT..CODE_AT + 64)));
    assert!(!image.is_cut);
    let mut rows = RowSource::new(ElfFile::open(image.elf).expect("an ELF file")).expect("rows");
    let block = rows.block(0).expect("a block");
    let cfa: Vec<(u16, i32)> = block
        .rows
        .iter()
        .filter(|row| {
            u32::from(row.kind) & hotframe_abi::HF_RULE_KIND_MASK == hotframe_abi::HF_RULE_SP
        })
        .map(|row| (row.pc, row.cfa))
        .collect();
    assert_eq!(cfa, [(0, 8), (1, 16), (32, 8), (33, 16), (63, 8)]);
    // One that has entries for all is without its code.
    let frame = eh_frame(CODE_AT, 64);
    made.put(FRAME_AT, frame.clone());
    let image = image_of(&made, &object(64, &frame)).expect("an image");
    assert_eq!(image.code, std::slice::from_ref(&(CODE_AT..CODE_AT + 64)));
    let elf = ElfFile::open(image.elf).expect("an ELF file");
    assert!(!matches!(elf.read_vaddr(&mut [0; 4], CODE_AT), Ok(4)));
}

/// Without call frame information the code itself goes with the symbols.
#[test]
fn an_object_without_entries() {
    let made = empty();
    made.put(CODE_AT, vec![0xc3; 64]);
    let image = image_of(&made, &object(64, &[])).expect("an image");
    assert_eq!(image.code, std::slice::from_ref(&(CODE_AT..CODE_AT + 64)));
    let elf = ElfFile::open(image.elf).expect("an ELF file");
    let mut code = [0; 64];
    assert_eq!(elf.read_vaddr(&mut code, CODE_AT).expect("read"), 64);
    assert_eq!(code, [0xc3; 64]);
    // Nor without its bytes.
    assert_eq!(image_of(&empty(), &object(64, &[])).err(), Some(Refused::NoCode));
}

/// QEMU's: linked, its code of no bytes, `.debug_frame`.
#[test]
fn an_image_of_qemu() {
    // tcg_register_jit_int (tcg/tcg.c @ QEMU 7.2) and tcg/i386/tcg-target.c.inc: one entry for all of it.
    let mut frame = vec![20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0x78, 16];
    frame.extend([12, 7, 0x90, 1, 0x90, 1, 0, 0, 0, 0, 0]);
    frame.extend([20, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(CODE_AT.to_le_bytes());
    frame.extend((1_u64 << 30).to_le_bytes());
    let new = Rewritten {
        pieces: vec![Piece { start: CODE_AT, end: CODE_AT + (1 << 30), bytes: Vec::new() }],
        debug_frame: frame,
        symbols: vec![Symbol { name: 1, info: 0x12, start: CODE_AT, size: 1 << 30 }],
        names: b"\0code_gen_buffer\0".to_vec(),
        ..Rewritten::default()
    };
    let mut bytes = new.write();
    bytes[16] = 2;
    let image = image_of(&empty(), &bytes).expect("an image");
    assert_eq!(image.code, std::slice::from_ref(&(CODE_AT..CODE_AT + (1 << 30))));
    let mut rows = RowSource::new(ElfFile::open(image.elf).expect("an ELF file")).expect("rows");
    for block in [0, 5000, rows.n_blocks() - 2] {
        let rows = rows.block(block).expect("a block").rows;
        assert!(rows.iter().any(|row| row.kind == hotframe_abi::HF_RULE_SP as u8), "{rows:?}");
    }
}

/// Entries in the order of the list; one that leads back, or is too long, ends.
#[test]
fn lists_end() {
    let made = empty();
    let read = |at: u64, into: &mut [u8]| made.read(at, into);
    let list = || List::read(&read, Descriptor::read(&read, DESCRIPTOR_AT).expect("a descriptor"));
    assert_eq!(list(), List::default());
    for n in 1..=3 {
        made.register(0x2000 + n * 0x100, 0x9000 + n * 0x100, &[n as u8; 100]);
    }
    let at: Vec<u64> = list().entries.iter().map(|entry| entry.at).collect();
    assert_eq!((at, list().is_cut), (vec![0x2300, 0x2200, 0x2100], false));
    // The last leads back to the first, to itself, into nothing.
    for next in [0x2300, 0x2200, 0x2100, 0x5000_0000] {
        made.words(0x2100, &[next, 0x2200, 0x9100, 100]);
        assert_eq!((list().entries.len(), list().is_cut), (3, true), "{next:#x}");
    }
    made.words(DESCRIPTOR_AT, &[2, 0, 0]);
    assert_eq!(Descriptor::read(&read, DESCRIPTOR_AT), Err(Refused::Version));
    assert_eq!(Descriptor::read(&read, 16), Err(Refused::Unreadable));
    let many = empty();
    for n in 0..=ENTRIES_MAX as u64 {
        many.register(0x10_0000 + n * 32, 0x9000_0000, &[]);
    }
    let read = |at: u64, into: &mut [u8]| many.read(at, into);
    let list = List::read(&read, Descriptor::read(&read, DESCRIPTOR_AT).expect("a descriptor"));
    assert_eq!((list.entries.len(), list.is_cut), (ENTRIES_MAX, true));
}

/// An image stands as long as its entry is linked and its memory the same, whatever its neighbours do.
#[test]
fn what_stands() {
    let made = empty();
    let read = |at: u64, into: &mut [u8]| made.read(at, into);
    made.register(0x2100, 0x9100, &[1; 100]);
    let entry = Entry { at: 0x2100, image: 0x9100, image_bytes: 100 };
    let standing = Standing::of(&read, DESCRIPTOR_AT, entry).expect("readable");
    assert!(standing.stands(&read));
    made.register(0x2200, 0x9200, &[2; 100]);
    assert!(standing.stands(&read), "others may be registered");
    made.put(0x9100, vec![3; 100]);
    assert!(!standing.stands(&read), "another image in the same memory");
    made.put(0x9100, vec![1; 100]);
    made.words(0x2200, &[0, 0, 0x9200, 100]);
    assert!(!standing.stands(&read), "it is not linked any more");
    made.words(0x2200, &[0x2100, 0, 0x9200, 100]);
    assert!(standing.stands(&read));
    made.words(0x2100, &[0, 0x2200, 0x9100, 99]);
    assert!(!standing.stands(&read), "an image of another size");
}

/// Whatever is damaged is refused, or bounded: each byte of an image in turn, and sizes.
#[test]
fn hostile_images() {
    let made = empty();
    let frame = eh_frame(CODE_AT, 32);
    made.put(FRAME_AT, frame.clone());
    made.put(CODE_AT, vec![0xc3; 64]);
    let good = object(64, &frame);
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            if let Ok(image) = image_of(&made, &bad) {
                assert!(image.elf.len() <= 4 * good.len(), "{at} {byte}");
                assert!(image.code.iter().all(|code| code.start < code.end), "{at} {byte}");
                assert!(image.code.is_sorted_by(|a, b| a.end <= b.start), "{at} {byte}");
            }
        }
    }
    for n in 0..good.len() {
        let _ = image_of(&made, &good[..n]);
    }
    let read = |at: u64, into: &mut [u8]| made.read(at, into);
    for image_bytes in [0, 63, IMAGE_MAX_BYTES + 1, u64::MAX] {
        let entry = Entry { at: 0x2100, image: 0x9100, image_bytes };
        assert_eq!(Image::read(&read, entry).err(), Some(Refused::TooLarge));
    }
}
