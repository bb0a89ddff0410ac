//! The name and the line of a Python frame.
//!
//! In: a frame as `bpf/step.h` sent it: code object, position, cookie. Out: qualified name, file,
//! line, first line.
//!
//! # How it works
//! The code object may have been freed since, and its memory used for another one. So it has to be a
//! code object, have the cookie that the kernel half computed when its frame ran, and still have it
//! after all has been read; a name that does not pass is not given. What the step told of the very
//! code object while its frame ran names it then, as far as the record goes.
//!
//! # Sources
//! Include/cpython/code.h, Include/cpython/bytesobject.h @ v3.6.15 to v3.13.0.
//!
//! # Cost
//! Three reads of the process: the page of the code object, those of its name, its file and its lines
//! together, and the second look. What crosses a page takes one more.

use crate::abi::{HF_CPYTHON_NO_POSITION, HF_CPYTHON_POSITION_BITS, hf_cpython_told};
use crate::layout::Offsets;
use crate::lines;
use crate::process::CookieOffs;
use crate::text::text;
use hotframe_runtime::{Frame, Memory, RawFrame, Why};
use zerocopy::FromBytes as _;

const COOKIE_MASK: u64 = (1 << 40) - 1;
/// Longest table of lines that is read.
const TABLE_MAX_BYTES: usize = 1 << 20;
/// `PyTypeObject.tp_name`.
const TYPE_NAME: u64 = 24;

/// The word at an offset of a block; 0: it ends before.
fn word_at(block: &[u8], offset: u64) -> u64 {
    let at = offset as usize;
    let bytes = block.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    u64::from_le_bytes(bytes.unwrap_or_default())
}

/// Is what an object begins with a count of references (`PyObject.ob_refcnt`)? Allocators use a free
/// block's first word to chain it. Free-threaded objects begin otherwise.
pub(crate) fn is_alive(references: u64, offsets: &Offsets) -> bool {
    offsets.object_type != 8 || (references != 0 && references >> 32 & 0xffff == 0)
}

/// Where what names a code object lies.
struct Parts {
    name: u64,
    file: u64,
    lines: u64,
    first_line: u32,
}

/// Address of a frame's code object.
pub(crate) fn code(raw: &RawFrame<'_>) -> u64 {
    raw.word(0) >> HF_CPYTHON_POSITION_BITS << 3
}

fn position(raw: &RawFrame<'_>) -> u32 {
    (raw.word(0) & u64::from(HF_CPYTHON_NO_POSITION)) as u32
}

/// Reads code objects of a process.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub offsets: Offsets,
    /// `&PyCode_Type`.
    code_type: Option<u64>,
    pub cookie_offs: CookieOffs,
    /// Bytes of a code object that hold the cookie's words and the pointers to what is read.
    pub code_bytes: u16,
}

impl Resolver {
    pub(crate) fn new(offsets: Offsets, code_type: Option<u64>) -> Resolver {
        let word = |offset: u64| (offset & !7) as u16;
        let cookie_offs = [
            word(offsets.code_firstlineno),
            word(offsets.code_argcount),
            word(offsets.code_name),
            word(offsets.code_names),
        ];
        let code_bytes = cookie_offs
            .into_iter()
            .chain([
                word(offsets.code_table),
                word(offsets.code_filename),
                word(offsets.code_qualname.unwrap_or_default()),
                word(offsets.code_copies.into()),
            ])
            .max()
            .unwrap_or_default()
            + 8;
        Resolver { offsets, code_type, cookie_offs, code_bytes }
    }

    /// The frame by its code object, or why it has no name.
    pub(crate) fn frame(&self, raw: &RawFrame<'_>, memory: &Memory) -> Result<Frame, Why> {
        let code = code(raw);
        let mut block = vec![0; self.code_bytes.into()];
        if !memory.read(code, &mut block) {
            return Err(self.gone(memory));
        }
        if raw.own() != self.cookie(&block) {
            return Err(Why::StalePointer);
        }
        let offsets = &self.offsets;
        let word = |offset: u64| word_at(&block, offset);
        // Whoever frees an object puts a pointer, or nothing, where its count of references was.
        if !is_alive(word(0), offsets) || !self.is_code_type(word(offsets.object_type), memory) {
            return Err(Why::StalePointer);
        }
        let [name, file, lines] = [
            offsets.code_qualname.unwrap_or(offsets.code_name),
            offsets.code_filename,
            offsets.code_table,
        ]
        .map(word);
        memory.prefetch(&[name, file, lines]);
        let first_line = {
            let both = word(offsets.code_firstlineno & !7);
            if offsets.code_firstlineno & 4 != 0 { (both >> 32) as u32 } else { both as u32 }
        };
        let parts = Parts { name, file, lines, first_line };
        let frame = self.describe(&parts, position(raw), memory);
        let mut again = vec![0; block.len()];
        if !memory.read_fresh(code, &mut again) {
            return Err(self.gone(memory));
        }
        if self.cookie(&again) != raw.own() || !is_alive(word_at(&again, 0), offsets) {
            return Err(Why::StalePointer);
        }
        frame.ok_or(Why::Unsupported)
    }

    /// A frame whose code object is gone, by what the step told of it.
    pub(crate) fn of_told(&self, raw: &RawFrame<'_>) -> Option<Frame> {
        // Far enough from each other that none reaches into the next.
        let [name, file, lines] = [0x1_0000, 0x2_0000, 0x3_0000];
        let told = hf_cpython_told::read_from_bytes(raw.told?).ok()?;
        let mut parts = vec![(name, told.name.to_vec())];
        if told.has_file != 0 {
            parts.push((file, told.file.to_vec()));
        }
        if told.has_lines != 0 {
            parts.push((lines, told.lines.to_vec()));
        }
        let at = Parts { name, file, lines, first_line: told.first_line };
        self.describe(&at, position(raw), &Memory::recorded(parts))
    }

    /// The frame of a code object whose parts can be read; `None` without a name.
    fn describe(&self, parts: &Parts, position: u32, memory: &Memory) -> Option<Frame> {
        let (offsets, first_line) = (&self.offsets, parts.first_line);
        // A string that is being made, or a name that was taken away, is empty.
        let name = text(memory, offsets, parts.name).filter(|name| !name.is_empty());
        let file = text(memory, offsets, parts.file);
        let line = match position {
            HF_CPYTHON_NO_POSITION => None,
            0 => Some(first_line),
            position => {
                let table = parts.lines;
                let is_alive =
                    memory.u64(table).is_some_and(|references| is_alive(references, offsets));
                let len_bytes = memory.u64(table.wrapping_add(offsets.bytes_size));
                let table = len_bytes.filter(|_| is_alive).and_then(|len_bytes| {
                    let at = table.checked_add(offsets.bytes_data)?;
                    memory.bytes(at, len_bytes, TABLE_MAX_BYTES)
                });
                table.and_then(|table| lines::line(offsets.table, &table, first_line, position - 1))
            }
        };
        Some(Frame {
            name: name?,
            file: file.unwrap_or_default(),
            line: line.unwrap_or_default(),
            start_line: first_line,
            ..Frame::default()
        })
    }

    /// Why nothing was read: a process that is there still has the type of its code objects.
    fn gone(&self, memory: &Memory) -> Why {
        let is_there = self.code_type.is_some_and(|at| memory.read_fresh(at, &mut [0; 8]));
        if is_there { Why::StalePointer } else { Why::ProcessGone }
    }

    /// Twin: `hf_cpython_cookie` in bpf/step.h.
    fn cookie(&self, block: &[u8]) -> u64 {
        let words = self.cookie_offs.into_iter().map(|at| word_at(block, at.into()));
        words.fold(hotframe_abi::HASH_SEED, hotframe_abi::mix) & COOKIE_MASK
    }

    /// A program that was linked against the library at a fixed address may hold a copy of the type.
    /// The type of code objects, and where an object has its type; 0: unknown.
    pub(crate) fn code_type(&self) -> (u64, u16) {
        match (self.code_type, u16::try_from(self.offsets.object_type)) {
            (Some(at), Ok(off)) if off + 8 <= self.code_bytes => (at, off),
            _ => (0, 0),
        }
    }

    fn is_code_type(&self, address: u64, memory: &Memory) -> bool {
        self.code_type == Some(address)
            || memory
                .u64(address.wrapping_add(TYPE_NAME))
                .and_then(|name| memory.c_string(name, 8))
                .is_some_and(|name| name == b"code")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::known;

    const CODE: u64 = 0x7f00_0000_1000;
    const NAME: u64 = CODE + 0x400;
    const FILE: u64 = CODE + 0x500;
    const TABLE: u64 = CODE + 0x600;
    const CODE_TYPE: u64 = 0x60_0000;

    /// A code object of 3.11 in a page, with its name, its file and its lines.
    fn page() -> (Resolver, Vec<u8>) {
        let resolver = Resolver::new(known(11).expect("known"), Some(CODE_TYPE));
        let offsets = &resolver.offsets;
        let mut page = vec![0; 4096];
        let mut put = |at: u64, bytes: &[u8]| {
            let at = (at - CODE) as usize;
            page[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(CODE, &1u64.to_le_bytes());
        put(CODE + offsets.object_type, &CODE_TYPE.to_le_bytes());
        put(CODE + offsets.code_firstlineno, &7u32.to_le_bytes());
        put(CODE + offsets.code_qualname.expect("3.11 has one"), &NAME.to_le_bytes());
        put(CODE + offsets.code_filename, &FILE.to_le_bytes());
        put(CODE + offsets.code_table, &TABLE.to_le_bytes());
        for (at, text) in [(NAME, "Class.method"), (FILE, "/srv/app.py")] {
            put(at, &1u64.to_le_bytes());
            put(at + offsets.unicode_length, &(text.len() as u64).to_le_bytes());
            let state: u32 = (1 | 8 | 16) << offsets.unicode_kind_shift;
            put(at + offsets.unicode_state, &state.to_le_bytes());
            put(at + offsets.ascii_bytes, text.as_bytes());
        }
        put(TABLE, &1u64.to_le_bytes());
        put(TABLE + offsets.bytes_size, &4u64.to_le_bytes());
        // Two units of the first line, then one of the next.
        put(TABLE + offsets.bytes_data, &[0x81, 0, 0x80 | 13 << 3, 2]);
        (resolver, page)
    }

    fn frame(resolver: &Resolver, page: Vec<u8>, own: u64, position: u64) -> Result<Frame, Why> {
        let memory = Memory::recorded(vec![(CODE, page)]);
        let data = [CODE >> 3 << HF_CPYTHON_POSITION_BITS | position];
        let raw = RawFrame { head: hotframe_abi::FrameWord(own), data: &data, told: None };
        resolver.frame(&raw, &memory)
    }

    /// A frame has the name, the file and the line of its code object.
    #[test]
    fn a_frame_is_named() {
        let (resolver, page) = page();
        let cookie = resolver.cookie(&page);
        for (position, line) in [(0, 7), (1, 7), (2, 7), (3, 8), (4, 0), (0xfffff, 0)] {
            let named = frame(&resolver, page.clone(), cookie, position).expect("a name");
            assert_eq!(named.name, b"Class.method");
            assert_eq!(named.file, b"/srv/app.py");
            assert_eq!((named.line, named.start_line), (line, 7));
        }
    }

    /// A name takes three reads, however far apart its parts lie: here in pages of this program.
    #[test]
    fn three_reads_a_name() {
        let (resolver, page) = page();
        let offsets = &resolver.offsets;
        // Each part at its place in a page of its own, and all where this process has them.
        let memory_of_four = vec![0u8; 5 * 4096];
        let base = memory_of_four.as_ptr() as u64;
        let first = base.next_multiple_of(4096) - base;
        let mut own = memory_of_four;
        let parts = [(0, CODE), (1, NAME), (2, FILE), (3, TABLE)];
        let at = |number: u64, address: u64| base + first + number * 4096 + (address - CODE);
        for (number, address) in parts {
            let from = (address - CODE) as usize;
            let to = (at(number, address) - base) as usize;
            own[to..to + 256].copy_from_slice(&page[from..from + 256]);
        }
        let code = (at(0, CODE) - base) as usize;
        for (number, address) in parts.into_iter().skip(1) {
            let pointer = at(number, address).to_le_bytes();
            let field = match address {
                NAME => offsets.code_qualname.expect("3.11 has one"),
                FILE => offsets.code_filename,
                _ => offsets.code_table,
            } as usize;
            own[code + field..code + field + 8].copy_from_slice(&pointer);
        }
        let memory = Memory::of(std::process::id());
        let data = [at(0, CODE) >> 3 << HF_CPYTHON_POSITION_BITS | 3];
        let head = hotframe_abi::FrameWord(resolver.cookie(&own[code..]));
        let named =
            resolver.frame(&RawFrame { head, data: &data, told: None }, &memory).expect("a name");
        assert_eq!((named.name.as_slice(), named.line), (&b"Class.method"[..], 8));
        assert_eq!(named.file, b"/srv/app.py");
        assert_eq!(memory.reads(), 3);
    }

    /// What is another object by now, was freed, or is no code object, has no name.
    #[test]
    fn what_is_stale_has_no_name() {
        let (resolver, page) = page();
        let cookie = resolver.cookie(&page);
        assert_eq!(frame(&resolver, page.clone(), cookie ^ 1, 1), Err(Why::StalePointer));
        let mut freed = page.clone();
        freed[..8].copy_from_slice(&(CODE + 64).to_le_bytes());
        assert_eq!(frame(&resolver, freed, cookie, 1), Err(Why::StalePointer));
        let mut of_another_type = page.clone();
        of_another_type[8] ^= 0x10;
        assert_eq!(frame(&resolver, of_another_type, cookie, 1), Err(Why::StalePointer));
        assert_eq!(frame(&resolver, Vec::new(), cookie, 1), Err(Why::ProcessGone));
    }

    /// What the step told names a code object that is gone: by name, file and line, as far as the
    /// record goes.
    #[test]
    fn what_was_told_names_what_is_gone() {
        use zerocopy::{FromZeros as _, IntoBytes as _};
        let (resolver, page) = page();
        let part = |address: u64, to: &mut [u8]| {
            let at = (address - CODE) as usize;
            to.copy_from_slice(&page[at..at + to.len()]);
        };
        let mut told = hf_cpython_told::new_zeroed();
        part(NAME, &mut told.name);
        part(FILE, &mut told.file);
        part(TABLE, &mut told.lines);
        (told.first_line, told.has_file, told.has_lines) = (7, 1, 1);
        let ask = |record: Option<&[u8]>| {
            let data = [CODE >> 3 << HF_CPYTHON_POSITION_BITS | 3];
            let head = hotframe_abi::FrameWord(5);
            resolver.of_told(&RawFrame { head, data: &data, told: record })
        };
        let named = ask(Some(told.as_bytes())).expect("it was told");
        assert_eq!((&*named.name, &*named.file), (&b"Class.method"[..], &b"/srv/app.py"[..]));
        assert_eq!((named.line, named.start_line), (8, 7));
        (told.has_file, told.has_lines) = (0, 0);
        let named = ask(Some(told.as_bytes())).expect("it was told");
        assert_eq!((&*named.file, named.line, named.start_line), (&b""[..], 0, 7));
        assert_eq!(ask(None), None);
        assert_eq!(ask(Some(&told.as_bytes()[1..])), None);
        // A name that goes on where the record ends.
        let at = resolver.offsets.unicode_length as usize;
        told.name[at..at + 8].copy_from_slice(&300u64.to_le_bytes());
        assert_eq!(ask(Some(told.as_bytes())), None);
    }

    /// An empty name is none (a recorded case whose name's length was damaged).
    #[test]
    fn an_empty_name_is_none() {
        let (resolver, mut page) = page();
        let cookie = resolver.cookie(&page);
        page[(NAME - CODE + resolver.offsets.unicode_length) as usize] = 0;
        assert_eq!(frame(&resolver, page, cookie, 1), Err(Why::Unsupported));
    }

    /// Whatever stands in the memory is read to an end, and named only if the cookie holds.
    #[test]
    fn damaged_memory() {
        let (resolver, page) = page();
        for at in 0..page.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut damaged = page.clone();
                damaged[at] = byte;
                let cookie = resolver.cookie(&damaged);
                let _ = frame(&resolver, damaged, cookie, 3);
            }
            let cut = page.get(..at).unwrap_or_default().to_vec();
            let _ = frame(&resolver, cut, resolver.cookie(&page), 3);
        }
    }
}
