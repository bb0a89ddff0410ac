//! Stack deltas of Go functions, from the table that Go's own traceback uses.
//!
//! In: the function table of a Go binary (`.gopclntab`, or found by its structure). Out: for a
//! range of addresses, each function with the distance of sp from the caller's frame.
//!
//! # How it works
//! Go binaries seldom have call frame information, and their frame pointers miss the caller of a
//! frameless leaf. The table's `pcsp` program gives, for every pc, how far sp has moved since
//! entry. Nothing is held: the function table is searched by `pread`. Addresses are relative to
//! `runtime.text`, which the header holds up to Go 1.25 (0 in position-independent files); else
//! the module data has it, which is found by its pointer to the header, in the data or among the
//! relocations.
//!
//! # Sources
//! runtime/symtab.go, runtime/runtime2.go (`_func`), internal/abi/symtab.go, runtime/traceback.go
//! (`unwinder.resolveInternal`: where a stack ends) @ go1.26; debug/gosym/pclntab.go @ go1.26 for
//! the magics of Go 1.2, 1.16 and 1.18.
//!
//! # Versions
//! 1.26 checked with the toolchain; the headers of 1.2 to 1.25 by their sources.
//!
//! # Not handled
//! Position-independent files before Go 1.18: their addresses exist only after relocation.

use std::ops::Range;

use crate::Error;
use crate::elf::ElfFile;
use crate::read::{Cursor, Milestones, ReadAt, Window, fill};

/// `FuncFlagTopFrame`: the stack ends in this function.
const FLAG_TOP_FRAME: u8 = 1;
/// `FuncFlagSPWrite`: sp is set to something the table cannot say.
const FLAG_SP_WRITE: u8 = 2;

/// Bytes of one `pcsp` program; the largest in the Go toolchain is 2 KB.
const MAX_PCSP_BYTES: usize = 64 << 10;
/// Bytes searched for a table or module data that no section names.
const MAX_SEARCH_BYTES: u64 = 256 << 20;
/// Places that look like a table's header: each may cost a search for its module data.
const MAX_CANDIDATES: usize = 8;
const SEARCH_STEP: usize = 1 << 20;
/// Functions of one block: they are aligned to 16, or 1 in hostile files.
const MAX_FOUND: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Go12,
    Go116,
    Go118,
    Go120,
}

/// What a function is to an unwinder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    /// The stack ends here.
    Top,
    /// Sets sp: only the frame pointer leads on.
    SetsSp,
    /// Called by C, calls Go on a goroutine's stack.
    CallsBack,
    /// Called by Go, calls C on the thread's stack.
    CallsOut,
    /// `runtime.morestack`: leaves for the thread's stack, on which the goroutine's is made larger.
    Grows,
}

/// A function and its deltas.
#[derive(Debug)]
pub(crate) struct Function {
    /// ELF virtual addresses.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) kind: Kind,
    pub(crate) is_systemstack: bool,
    /// Where its name stands among the names.
    name: u32,
    /// (first address, sp at entry - sp), ascending.
    pub(crate) deltas: Vec<(u64, i32)>,
}

/// The function table of a file.
#[derive(Debug)]
pub(crate) struct GoTable {
    version: Version,
    quantum: u8,
    /// File offset of the header and ELF virtual address of `runtime.text` (0 where the table
    /// has absolute addresses).
    offset: u64,
    text: u64,
    n_functions: u64,
    /// Offsets from the header.
    names: u64,
    pctab: u64,
    functab: u64,
    /// Addresses of the functions.
    range: Range<u64>,
    table_window: Window,
    milestones: Milestones,
    func_window: Window,
    pcsp_window: Window,
}

impl GoTable {
    /// Finds the table. `None` if the file is not Go's, or the table cannot be used.
    pub(crate) fn find<R: ReadAt>(file: &ElfFile<R>) -> Result<Option<Self>, Error> {
        if !file.is_go() && !file.sections().is_empty() {
            return Ok(None);
        }
        let named = [".gopclntab", ".data.rel.ro.gopclntab"];
        for section in named.iter().filter_map(|name| file.section(name)) {
            if let Some(table) = Self::at(file, section.offset, section.addr)? {
                return Ok(Some(table));
            }
        }
        // No section: files without section headers, or of a linker that names it otherwise.
        let mut found = None;
        let mut candidates = 0;
        let header = |bytes: &[u8]| {
            matches!(bytes, [0xf0 | 0xf1 | 0xfa | 0xfb, 0xff, 0xff, 0xff, 0, 0, 1 | 4, 8, ..])
        };
        search(file, |offset, vaddr, bytes| {
            let is_header = header(bytes);
            candidates += usize::from(is_header);
            if is_header && let Some(table) = Self::at(file, offset, vaddr)? {
                found = Some(table);
            }
            Ok(found.is_some() || candidates >= MAX_CANDIDATES)
        })?;
        Ok(found)
    }

    fn at<R: ReadAt>(file: &ElfFile<R>, offset: u64, vaddr: u64) -> Result<Option<Self>, Error> {
        let mut head = [0; 72];
        let got = fill(file.reader(), &mut head, offset)?;
        let parsed = Self::parse_header(head.get(..got).unwrap_or_default(), offset);
        let Some((mut table, text)) = parsed else {
            return Ok(None);
        };
        if matches!(table.version, Version::Go118 | Version::Go120) {
            let is_text = |vaddr: u64| {
                file.executable_segments().any(|s| vaddr >= s.vaddr && vaddr - s.vaddr < s.filesz)
            };
            let text = if text != 0 && is_text(text) {
                Some(text)
            } else {
                module_text(file, vaddr, vaddr.wrapping_add(table.functab))?.filter(|&t| is_text(t))
            };
            let Some(text) = text else { return Ok(None) };
            table.text = text;
        }
        // The sentinel ends the last function.
        let last = table.entry_at(file.reader(), table.n_functions)?;
        let first = table.entry_at(file.reader(), 0)?;
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(None);
        };
        table.range = first..last;
        Ok((first < last).then_some(table))
    }

    fn parse_header(head: &[u8], offset: u64) -> Option<(Self, u64)> {
        let mut cursor = Cursor::new(head);
        let version = match cursor.u32()? {
            0xffff_fffb => Version::Go12,
            0xffff_fffa => Version::Go116,
            0xffff_fff0 => Version::Go118,
            0xffff_fff1 => Version::Go120,
            _ => return None,
        };
        let (zero, quantum, pointer_bytes) = (cursor.u16()?, cursor.u8()?, cursor.u8()?);
        if zero != 0 || !matches!(quantum, 1 | 4) || pointer_bytes != 8 {
            return None;
        }
        let n_functions = cursor.u64()?;
        let mut text = 0;
        let (mut names, mut pctab, mut functab) = (0, 0, 16);
        if version != Version::Go12 {
            let _n_files = cursor.u64()?;
            if version != Version::Go116 {
                text = cursor.u64()?;
            }
            names = cursor.u64()?;
            let (_cu, _files) = (cursor.u64()?, cursor.u64()?);
            pctab = cursor.u64()?;
            functab = cursor.u64()?;
        }
        let bound = 1 << 40;
        if n_functions == 0 || [n_functions, names, pctab, functab].iter().any(|&n| n > bound) {
            return None;
        }
        let table = Self {
            version,
            quantum,
            offset,
            text: 0,
            n_functions,
            names,
            pctab,
            functab,
            range: 0..0,
            table_window: Window::default(),
            milestones: Milestones::default(),
            func_window: Window::default(),
            pcsp_window: Window::default(),
        };
        Some((table, text))
    }

    /// From the first function to the end of the last.
    pub(crate) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Bytes held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        [&self.table_window, &self.func_window, &self.pcsp_window]
            .into_iter()
            .map(Window::heap_bytes)
            .sum::<usize>()
            + self.milestones.heap_bytes()
    }

    /// Gives back what only serves speed.
    pub(crate) fn release(&mut self) {
        self.table_window.release();
        self.milestones.release();
        self.func_window.release();
        self.pcsp_window.release();
    }

    fn compact(&self) -> bool {
        matches!(self.version, Version::Go118 | Version::Go120)
    }

    /// (address, offset of its `_func`) of an entry of the function table.
    fn parse_entry(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let mut cursor = Cursor::new(bytes);
        if self.compact() {
            let entry = self.text.checked_add(u64::from(cursor.u32()?))?;
            Some((entry, u64::from(cursor.u32().unwrap_or(0))))
        } else {
            Some((cursor.u64()?, cursor.u64().unwrap_or(0)))
        }
    }

    fn entry_bytes(&self) -> u64 {
        if self.compact() { 8 } else { 16 }
    }

    /// Where an entry of the function table is in the file.
    fn entry_offset(&self, index: u64) -> u64 {
        let table = self.offset.saturating_add(self.functab);
        table.saturating_add(index.saturating_mul(self.entry_bytes()))
    }

    /// An entry of the function table, by the window. The last one may lack its `_func`.
    fn row(&mut self, reader: &impl ReadAt, index: u64) -> Result<Option<(u64, u64)>, Error> {
        let mut bytes = [0; 16];
        let at = self.entry_offset(index);
        let held = self.table_window.get(reader, at, self.entry_bytes() as usize)?;
        let n = held.len().min(bytes.len());
        let bytes = bytes.get_mut(..n).unwrap_or_default();
        bytes.copy_from_slice(held.get(..n).unwrap_or_default());
        Ok(self.parse_entry(bytes))
    }

    fn entry_at(&self, reader: &impl ReadAt, index: u64) -> Result<Option<u64>, Error> {
        let mut bytes = [0; 16];
        let n = if self.compact() { 4 } else { 8 };
        let at = self.entry_offset(index);
        let got = fill(reader, bytes.get_mut(..n).unwrap_or_default(), at)?;
        Ok(self.parse_entry(bytes.get(..got).unwrap_or_default()).map(|(entry, _)| entry))
    }

    /// Calls `found` with the functions that overlap `[low, high)`, ascending.
    pub(crate) fn functions(
        &mut self,
        reader: &impl ReadAt,
        low: u64,
        high: u64,
        mut found: impl FnMut(Function) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.each(reader, low, high, |table, start, end, func| {
            table.function(reader, start, end, func)?.map_or(Ok(()), &mut found)
        })
    }

    /// Calls `found` with the extents of functions that set sp to what is not a sum of it.
    pub(crate) fn that_set_sp(
        &mut self,
        reader: &impl ReadAt,
        mut found: impl FnMut(Range<u64>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.each(reader, 0, u64::MAX, |table, start, end, func| {
            let at = table.offset.saturating_add(func);
            let bytes = table.func_window.get(reader, at, 48)?;
            match FuncInfo::parse(bytes, table.version) {
                Some(info) if info.flags & FLAG_SP_WRITE != 0 => found(start..end),
                _ => Ok(()),
            }
        })
    }

    /// Calls `found` with the start and end of each function that overlaps `[low, high)`, ascending, and
    /// where the table says more of it.
    fn each<R: ReadAt>(
        &mut self,
        reader: &R,
        low: u64,
        high: u64,
        mut found: impl FnMut(&mut Self, u64, u64, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // The last function that starts at or before `low`.
        let n = self.n_functions;
        let mut milestones = std::mem::take(&mut self.milestones);
        let read = |row: u64, from: Option<u64>| match from {
            None => self.entry_at(reader, row),
            Some(from) => {
                self.row(reader, from)?;
                Ok(self.row(reader, row)?.map(|(entry, _)| entry))
            }
        };
        let first = milestones.bisect(n, |entry| entry <= low, read);
        self.milestones = milestones;
        let Some(from) = first? else {
            return Ok(());
        };
        let mut end_before = 0;
        let Some(mut row) = self.row(reader, from)? else {
            return Ok(());
        };
        for index in (from..n).take(MAX_FOUND) {
            // After the last function stands where it ends.
            let Some(next) = self.row(reader, index + 1)? else {
                break;
            };
            let (start, func) = std::mem::replace(&mut row, next);
            let (end, _) = next;
            if start >= high {
                break;
            }
            if start < end_before || end <= start {
                continue;
            }
            end_before = end;
            if end > low {
                let base = if self.version == Version::Go12 { 0 } else { self.functab };
                found(self, start, end, base.saturating_add(func))?;
            }
        }
        Ok(())
    }

    fn function(
        &mut self,
        reader: &impl ReadAt,
        start: u64,
        end: u64,
        func: u64,
    ) -> Result<Option<Function>, Error> {
        let version = self.version;
        let bytes = self.func_window.get(reader, self.offset.saturating_add(func), 48)?;
        let Some(info) = FuncInfo::parse(bytes, version) else {
            return Ok(None);
        };
        let (kind, is_systemstack) = self.kind(reader, &info)?;
        let pctab = self.offset.saturating_add(self.pctab).saturating_add(u64::from(info.pcsp));
        let quantum = u64::from(self.quantum);
        // Most programs are some ten bytes.
        let mut deltas = Vec::new();
        for len in [256, MAX_PCSP_BYTES] {
            let bytes = self.pcsp_window.get(reader, pctab, len)?;
            deltas.clear();
            if info.pcsp == 0 || run_pcsp(bytes, start, end, quantum, &mut deltas).is_some() {
                break;
            }
        }
        let deltas_move = deltas.iter().any(|&(_, delta)| delta != 0);
        // sigtramp is a top frame by its flag; it has a frame, and what was interrupted behind it.
        let kind =
            if kind == Kind::Top && info.func_id == 0 && deltas_move { Kind::Normal } else { kind };
        Ok(Some(Function { start, end, kind, name: info.name, is_systemstack, deltas }))
    }

    /// Where the function that starts at an address ends.
    pub(crate) fn end_of(
        &mut self,
        reader: &impl ReadAt,
        start: u64,
    ) -> Result<Option<u64>, Error> {
        let mut end = None;
        self.functions(reader, start, start.saturating_add(1), |function| {
            end = (function.start == start).then_some(function.end);
            Ok(())
        })?;
        Ok(end)
    }

    /// Is this the name of the function that starts at an address?
    pub(crate) fn is_named(
        &mut self,
        reader: &impl ReadAt,
        start: u64,
        name: &[u8],
    ) -> Result<bool, Error> {
        let mut at = None;
        self.functions(reader, start, start.saturating_add(1), |function| {
            at = (function.start == start).then_some(function.name);
            Ok(())
        })?;
        let Some(at) = at else { return Ok(false) };
        let mut bytes = [0; 32];
        Ok(self.name(reader, at, &mut bytes)? == name)
    }

    /// As much of a function's name as there is room for.
    fn name<'a>(
        &self,
        reader: &impl ReadAt,
        name: u32,
        into: &'a mut [u8; 32],
    ) -> Result<&'a [u8], Error> {
        let at = self.offset.saturating_add(self.names).saturating_add(u64::from(name));
        let got = fill(reader, into, at)?;
        Ok(Cursor::new(into.get(..got).unwrap_or_default()).c_str().unwrap_or_default())
    }

    /// With whether it is `runtime.systemstack`.
    fn kind(&mut self, reader: &impl ReadAt, info: &FuncInfo) -> Result<(Kind, bool), Error> {
        let flags = info.flags;
        if flags & FLAG_TOP_FRAME != 0 {
            return Ok((Kind::Top, false));
        }
        // Ids shift between versions; names do not. Older tables have no flags.
        let special = info.func_id != 0 || flags & FLAG_SP_WRITE != 0;
        if !special && self.compact() {
            return Ok((Kind::Normal, false));
        }
        let mut name = [0; 32];
        let name = self.name(reader, info.name, &mut name)?;
        let kind = match name {
            b"runtime.goexit" | b"runtime.mstart" | b"runtime.rt0_go" => Kind::Top,
            // It leaves for g0's stack and never returns: it ends there.
            b"runtime.mcall" => Kind::Top,
            b"runtime.morestack" => Kind::Grows,
            b"runtime.cgocallback" => Kind::CallsBack,
            b"runtime.asmcgocall" => Kind::CallsOut,
            b"runtime.systemstack" => Kind::SetsSp,
            _ if flags & FLAG_SP_WRITE != 0 => Kind::SetsSp,
            _ => Kind::Normal,
        };
        Ok((kind, name == b"runtime.systemstack"))
    }
}

/// What becomes of a stack in a Go function, which call frame information need not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoStack {
    /// It goes on with the function's caller.
    GoesOn,
    /// It ends.
    Ends,
    /// It may be left for another.
    IsLeft,
}

/// That of the Go function at an ELF address, as the table that Go itself uses says. `None`: there is none, or the file
/// is not Go's.
///
/// # Errors
/// As [`crate::RowSource::new`] has.
pub fn go_stack<R: ReadAt>(file: &ElfFile<R>, vaddr: u64) -> Result<Option<GoStack>, Error> {
    let Some(mut table) = GoTable::find(file)? else { return Ok(None) };
    let mut stack = None;
    table.functions(file.reader(), vaddr, vaddr.saturating_add(1), |function| {
        stack = Some(match function.kind {
            Kind::Normal => GoStack::GoesOn,
            Kind::Top => GoStack::Ends,
            Kind::SetsSp | Kind::CallsBack | Kind::CallsOut | Kind::Grows => GoStack::IsLeft,
        });
        Ok(())
    })?;
    Ok(stack)
}

struct FuncInfo {
    name: u32,
    pcsp: u32,
    func_id: u8,
    flags: u8,
}

impl FuncInfo {
    fn parse(bytes: &[u8], version: Version) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        cursor.take(if matches!(version, Version::Go118 | Version::Go120) { 4 } else { 8 })?;
        let (name, _args, _defer, pcsp) =
            (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let (_file, _line, _npcdata) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        // cuOffset, startLine
        cursor.take(match version {
            Version::Go12 => 0,
            Version::Go116 | Version::Go118 => 4,
            Version::Go120 => 8,
        })?;
        let (func_id, flags) = (cursor.u8()?, cursor.u8()?);
        let flags = if matches!(version, Version::Go118 | Version::Go120) { flags } else { 0 };
        Some(Self { name, pcsp, func_id, flags })
    }
}

/// Decodes a `pcsp` program: pairs of a zigzag delta of the value, which starts at -1, and a delta
/// of the pc. `None` if it does not end within `bytes`.
fn run_pcsp(
    bytes: &[u8],
    start: u64,
    end: u64,
    quantum: u64,
    deltas: &mut Vec<(u64, i32)>,
) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let (mut pc, mut value) = (start, -1i32);
    loop {
        let step = u32::try_from(cursor.uleb()? & u64::from(u32::MAX)).ok()?;
        if step == 0 && pc != start {
            return Some(());
        }
        let step = if step & 1 != 0 { !(step >> 1) } else { step >> 1 };
        value = value.wrapping_add(step.cast_signed());
        deltas.push((pc, value));
        let n = cursor.uleb()?;
        pc = pc.checked_add(n.checked_mul(quantum)?)?;
        if pc >= end {
            return Some(());
        }
        if n == 0 {
            return None;
        }
    }
}

/// Calls `visit(file offset, address, bytes from there)` at each aligned place of the data that
/// may hold Go's tables, until it answers true.
fn search<R: ReadAt>(
    file: &ElfFile<R>,
    mut visit: impl FnMut(u64, u64, &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    const PT_LOAD: u32 = 1;
    // A visitor sees at least this much behind the place.
    const REACH: usize = 24 * 8;
    let mut left = MAX_SEARCH_BYTES;
    let mut buf = vec![0; SEARCH_STEP + REACH];
    for segment in file.segments().iter().filter(|s| s.kind == PT_LOAD && !s.is_executable()) {
        let mut at = 0;
        while at < segment.filesz && left > 0 {
            let here = segment.offset.saturating_add(at);
            let got = fill(file.reader(), &mut buf, here)?;
            let available = usize::try_from(segment.filesz - at).unwrap_or(usize::MAX).min(got);
            let bytes = buf.get(..available).unwrap_or_default();
            let skew = (segment.vaddr.wrapping_add(at)).wrapping_neg() as usize & 7;
            for i in (skew..bytes.len().min(SEARCH_STEP)).step_by(8) {
                let Some(rest) = bytes.get(i..) else { break };
                let vaddr = segment.vaddr.wrapping_add(at).wrapping_add(i as u64);
                if visit(here.saturating_add(i as u64), vaddr, rest)? {
                    return Ok(());
                }
            }
            if got == 0 {
                break;
            }
            at += SEARCH_STEP as u64;
            left = left.saturating_sub(SEARCH_STEP as u64);
        }
    }
    Ok(())
}

/// Words of `moduledata` @ go1.16–1.26.
const MODULE_FTAB: u64 = 16;
const MODULE_TEXT: u64 = 22;

/// `runtime.text` by the module data that points to the table at `header`.
fn module_text<R: ReadAt>(
    file: &ElfFile<R>,
    header: u64,
    functab: u64,
) -> Result<Option<u64>, Error> {
    let word = |bytes: &[u8], index: u64| {
        let mut cursor = Cursor::new(bytes.get(index as usize * 8..)?);
        cursor.u64()
    };
    let mut text = None;
    search(file, |_, _, bytes| {
        if bytes.get(..8) == Some(&header.to_le_bytes()[..])
            && word(bytes, MODULE_FTAB) == Some(functab)
        {
            text = word(bytes, MODULE_TEXT);
        }
        Ok(text.is_some())
    })?;
    if text.is_some() {
        return Ok(text);
    }
    // Position-independent: the words are relocations.
    let mut module = None;
    each_relative(file, |at, value| {
        if value == header && module.is_none() {
            module = Some(at);
        }
    })?;
    let Some(module) = module else {
        return Ok(None);
    };
    let at_module = |index: u64| module.wrapping_add(index * 8);
    let (mut text, mut functab_agrees) = (None, false);
    each_relative(file, |at, value| {
        if at == at_module(MODULE_TEXT) {
            text = Some(value);
        }
        functab_agrees |= at == at_module(MODULE_FTAB) && value == functab;
    })?;
    Ok(text.filter(|_| functab_agrees))
}

/// Calls `found(place, value)` for each `R_*_RELATIVE` relocation of `.rela.dyn`.
fn each_relative<R: ReadAt>(
    file: &ElfFile<R>,
    mut found: impl FnMut(u64, u64),
) -> Result<(), Error> {
    const R_X86_64_RELATIVE: u64 = 8;
    const R_AARCH64_RELATIVE: u64 = 1027;
    for name in [".rela.dyn", ".rela"] {
        let Some(section) = file.section(name) else {
            continue;
        };
        let size = section.size.min(MAX_SEARCH_BYTES);
        let mut window = Window::default();
        for i in 0..size / 24 {
            let bytes = window.get(file.reader(), section.offset.saturating_add(i * 24), 24)?;
            let mut cursor = Cursor::new(bytes);
            let (Some(at), Some(kind), Some(value)) = (cursor.u64(), cursor.u64(), cursor.u64())
            else {
                break;
            };
            if kind == R_X86_64_RELATIVE || kind == R_AARCH64_RELATIVE {
                found(at, value);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pcsp_program_of_a_small_frame() {
        // -1 → 0 for 4 bytes, 0 → 24 for 20, 24 → 0 for 1, end.
        let bytes = [0x02, 4, 48, 20, 47, 1, 0];
        let mut deltas = Vec::new();
        run_pcsp(&bytes, 0x1000, 0x2000, 1, &mut deltas).unwrap();
        assert_eq!(deltas, [(0x1000, 0), (0x1004, 24), (0x1018, 0)]);
    }

    #[test]
    fn pcsp_program_that_does_not_advance_is_refused() {
        let mut deltas = Vec::new();
        assert!(run_pcsp(&[2, 0, 2, 0, 2, 0], 0, 10, 1, &mut deltas).is_none());
        assert!(run_pcsp(&[2], 0, 10, 1, &mut deltas).is_none());
    }

    #[test]
    fn headers_of_all_magics() {
        let header = |magic: u32, words: &[u64]| {
            let mut bytes = magic.to_le_bytes().to_vec();
            bytes.extend([0, 0, 1, 8]);
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            GoTable::parse_header(&bytes, 0).map(|(t, text)| (t.pctab, t.functab, t.names, text))
        };
        assert_eq!(header(0xffff_fffb, &[5]), Some((0, 16, 0, 0)));
        assert_eq!(header(0xffff_fffa, &[5, 2, 64, 70, 80, 90, 100]), Some((90, 100, 64, 0)));
        let new = [5, 2, 0x40_1000, 72, 80, 90, 100, 110];
        assert_eq!(header(0xffff_fff0, &new), Some((100, 110, 72, 0x40_1000)));
        assert_eq!(header(0xffff_fff1, &new), Some((100, 110, 72, 0x40_1000)));
        assert_eq!(header(0xffff_fff1, &[u64::MAX; 8]), None);
        assert_eq!(header(0x1234_5678, &new), None);
    }
}
