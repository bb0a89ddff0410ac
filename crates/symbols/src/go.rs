//! Go: functions, inlined calls and lines from the table that the runtime itself uses.
//!
//! In: a Go executable (stripped or not), sorted addresses. Out: frames of the addresses that lie in
//! Go functions, inlined ones expanded as `runtime.CallersFrames` does.
//!
//! # How it works
//! `.gopclntab` has a sorted table of functions, which is streamed against the addresses, and for
//! each function tables from pc to file, line and innermost inlined call. The tree of inlined calls
//! itself lies in read-only data, relative to `moduledata.gofunc`; moduledata is found by its first
//! two words, which point into the table (in a PIE: by the relocations that will write them).
//!
//! # Sources
//! src/runtime/symtab.go, runtime2.go, symtabinl.go and src/internal/abi/symtab.go of Go 1.16, 1.18,
//! 1.20, 1.26; src/debug/gosym/pclntab.go.
//!
//! # Versions
//! Layouts 1.16 (1.16, 1.17), 1.18 (1.18, 1.19), 1.20 (1.20 to 1.26). Tested with the Go that is
//! installed, the older ones from their sources only.
//!
//! # Not handled
//! Layouts before 1.16; plugins' modules beside the first; big-endian and 32-bit.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use gimli::Reader as _;

use crate::bytes::{Bytes, u32_at, u64_at};
use crate::demangle::{SYMBOL_MAX_BYTES, bounded};
use crate::elf::{Elf, SHF_ALLOC, SHF_EXECINSTR, SHT_RELA};
use crate::reader::Reader;
use crate::{Error, Kind, NamedFrame};

const PCDATA_INL_TREE_INDEX: u64 = 2;
const FUNCDATA_INL_TREE: u64 = 3;
/// Inlined calls at one address. The compiler's budget allows a few dozen.
const INLINED_MAX: usize = 128;
/// Steps of a pc table: a function of 1 MiB with a change at each instruction.
const PC_STEPS_MAX: u32 = 1 << 20;

type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Layout {
    Go116,
    Go118,
    Go120,
}

/// The table, opened.
struct Table {
    layout: Layout,
    address: u64,
    min_step: u64,
    n_functions: u64,
    names: Reader,
    units: Reader,
    files: Reader,
    pc_data: Reader,
    functions: Bytes,
    function_records: Reader,
    /// Where the text begins: what offsets of functions are relative to.
    text: u64,
    /// Where offsets of function data are relative to; unknown: no inlined calls.
    function_data: Option<u64>,
}

struct Function {
    entry: u64,
    name: u32,
    pc_file: u32,
    pc_line: u32,
    unit: u32,
    start_line: u32,
    inl_tree_index: u32,
    inl_tree: Option<u64>,
}

/// Names those of `addresses` that lie in Go functions.
pub(crate) fn name(
    elf: &Elf,
    addresses: &[u64],
    deadline: Instant,
    out: &mut impl FnMut(usize, &[NamedFrame]),
) -> Result<()> {
    let Some(table) = open(elf)? else {
        return Ok(());
    };
    let mut frames = Vec::new();
    let mut first_error = None;
    let mut paths = HashMap::new();
    table.containing(addresses, deadline, &mut |index, record| {
        if Instant::now() > deadline {
            return Err(Error::OutOfTime);
        }
        let Some(&address) = addresses.get(index) else {
            return Ok(());
        };
        frames.clear();
        match table.frames(elf, record, address, &mut frames, &mut paths) {
            Ok(()) => out(index, &frames),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
        Ok(())
    })?;
    first_error.map_or(Ok(()), Err)
}

fn open(elf: &Elf) -> Result<Option<Table>> {
    let Some((address, bytes)) = find(elf)? else {
        return Ok(None);
    };
    let header = bytes.prefix(0, 72)?;
    let layout = match u32_at(&header, 0) {
        0xffff_fffa => Layout::Go116,
        0xffff_fff0 => Layout::Go118,
        0xffff_fff1 => Layout::Go120,
        _ => {
            return Err(Error::Go { what: "a version that is not known" });
        }
    };
    if header.len() < 72 || header[7] != 8 {
        return Err(Error::Go { what: "the header is damaged" });
    }
    let word = |index: usize| u64_at(&header, 8 + 8 * index);
    let tables = if layout == Layout::Go116 { 2 } else { 3 };
    let part = |index: usize| bytes.slice(word(tables + index), u64::MAX);
    let module = module_data(elf, address, address.wrapping_add(word(tables)))?;
    let mut text = 0;
    let mut function_data = None;
    if layout >= Layout::Go118 {
        let gofunc = if layout == Layout::Go118 { 38 } else { 40 };
        let [from_module, data, header_text] = pointers(
            elf,
            [
                module.map(|m| m + 22 * 8),
                module.map(|m| m + gofunc * 8),
                Some(address.wrapping_add(8 + 2 * 8)),
            ],
        )?;
        let executable =
            |a: &u64| elf.section_at(*a).is_some_and(|section| section.flags & SHF_EXECINSTR != 0);
        text = [from_module, header_text]
            .into_iter()
            .flatten()
            .find(executable)
            .or_else(|| elf.section(".text").map(|s| s.addr))
            .ok_or(Error::Go { what: "where the text begins is not known" })?;
        function_data = data.filter(|&d| elf.section_at(d).is_some());
    }
    let functions = part(4);
    Ok(Some(Table {
        layout,
        address,
        min_step: u64::from(header[6].max(1)),
        n_functions: word(0),
        names: Reader::new(part(0), 1),
        units: Reader::new(part(1), 2),
        files: Reader::new(part(2), 3),
        pc_data: Reader::new(part(3), 4),
        function_records: Reader::new(functions.clone(), 5),
        functions,
        text,
        function_data,
    }))
}

/// Address and bytes of the table.
fn find(elf: &Elf) -> Result<Option<(u64, Bytes)>> {
    for section in elf.sections() {
        if section.name == ".gopclntab" || section.name == ".data.rel.ro.gopclntab" {
            let bytes = elf.raw(section);
            if bytes.len() > 0 {
                return Ok(Some((section.addr, bytes)));
            }
        }
    }
    // A PIE that the system's linker made: the table is somewhere in .data.rel.ro.
    if elf.section(".go.buildinfo").is_none() {
        return Ok(None);
    }
    let Some(section) = elf.section(".data.rel.ro") else {
        return Ok(None);
    };
    let bytes = elf.raw(section);
    let is_header = |w: &[u8]| {
        matches!(u32_at(w, 0), 0xffff_fffa | 0xffff_fff0 | 0xffff_fff1)
            && matches!(w, [_, _, _, _, 0, 0, 1 | 2 | 4, 8])
    };
    let found = find_words(&bytes, 8, is_header)?;
    Ok(found.map(|at| (section.addr + at, bytes.slice(at, u64::MAX))))
}

/// Offset of the first 8-aligned place whose `len` bytes satisfy `test`.
fn find_words(bytes: &Bytes, len: usize, test: impl Fn(&[u8]) -> bool) -> Result<Option<u64>> {
    let mut buffer = vec![0; (64 << 10) + len];
    let mut at = 0;
    while at < bytes.len() {
        let n = bytes.read_at(at, &mut buffer)?;
        let found = (0..n.saturating_sub(len - 1))
            .step_by(8)
            .find(|&o| buffer.get(o..o + len).is_some_and(&test));
        if let Some(offset) = found {
            return Ok(Some(at + offset as u64));
        }
        at += 64 << 10;
    }
    Ok(None)
}

/// Address of moduledata: its first two words are the addresses of the table and of its names.
fn module_data(elf: &Elf, table: u64, names: u64) -> Result<Option<u64>> {
    for name in [".go.module", ".noptrdata", ".data", ".data.rel.ro"] {
        let Some(section) = elf.section(name) else {
            continue;
        };
        let is_module = |w: &[u8]| u64_at(w, 0) == table && u64_at(w, 8) == names;
        if let Some(at) = find_words(&elf.raw(section), 16, is_module)? {
            return Ok(Some(section.addr + at));
        }
    }
    let mut tables = Vec::new();
    let mut names_at = std::collections::HashSet::new();
    relocations(elf, |at, value| {
        // Few places point at either; the bound is for files made to have many.
        if value == table && tables.len() < 1024 {
            tables.push(at);
        } else if value == names && names_at.len() < 1024 {
            names_at.insert(at);
        }
    })?;
    Ok(tables.into_iter().find(|at| names_at.contains(&at.wrapping_add(8))))
}

/// Calls `each` with the place and the value of every relative relocation.
fn relocations(elf: &Elf, mut each: impl FnMut(u64, u64)) -> Result<()> {
    const RECORD_BYTES: usize = 24;
    const R_X86_64_RELATIVE: u32 = 8;
    const R_AARCH64_RELATIVE: u32 = 1027;
    for section in elf.sections().iter().filter(|s| s.kind == SHT_RELA && s.flags & SHF_ALLOC != 0)
    {
        let bytes = elf.raw(section);
        let mut buffer = vec![0; 2048 * RECORD_BYTES];
        let mut at = 0;
        loop {
            let n = bytes.read_at(at, &mut buffer)?;
            for record in buffer[..n].chunks_exact(RECORD_BYTES) {
                if matches!(u32_at(record, 8), R_X86_64_RELATIVE | R_AARCH64_RELATIVE) {
                    each(u64_at(record, 0), u64_at(record, 16));
                }
            }
            at += n as u64;
            if n < buffer.len() {
                break;
            }
        }
    }
    Ok(())
}

/// The pointers that the program will find at these addresses; zero counts as none.
fn pointers<const N: usize>(elf: &Elf, at: [Option<u64>; N]) -> Result<[Option<u64>; N]> {
    let mut values = [None; N];
    for (value, at) in values.iter_mut().zip(at) {
        if let Some(at) = at {
            *value = elf.at_address(at).array(0)?.map(u64::from_le_bytes).filter(|&v| v != 0);
        }
    }
    if values.iter().zip(at).any(|(value, at)| value.is_none() && at.is_some()) {
        relocations(elf, |place, target| {
            for (value, at) in values.iter_mut().zip(at) {
                if at == Some(place) {
                    *value = Some(target);
                }
            }
        })?;
    }
    Ok(values)
}

impl Table {
    /// Finds the function of each address: `each(index, offset of the function's record)`.
    fn containing(
        &self,
        addresses: &[u64],
        deadline: Instant,
        each: &mut impl FnMut(usize, u64) -> Result<()>,
    ) -> Result<()> {
        let entry_bytes = if self.layout == Layout::Go116 { 16 } else { 8 };
        let mut buffer = vec![0; 4096 * entry_bytes];
        let mut index = 0;
        let mut before: Option<(u64, u64)> = None;
        let mut left = self.n_functions.saturating_add(1);
        let mut at = 0;
        while left > 0 && index < addresses.len() {
            if Instant::now() > deadline {
                return Err(Error::OutOfTime);
            }
            let n = self.functions.read_at(at, &mut buffer)?;
            for entry in buffer[..n].chunks_exact(entry_bytes) {
                if left == 0 {
                    break;
                }
                left -= 1;
                let (begin, record) = if self.layout == Layout::Go116 {
                    (u64_at(entry, 0), u64_at(entry, 8))
                } else {
                    let offset = u64::from(u32_at(entry, 0));
                    (self.text.wrapping_add(offset), u64::from(u32_at(entry, 4)))
                };
                if let Some((start, record)) = before {
                    while let Some(&address) = addresses.get(index)
                        && address < begin
                    {
                        if address >= start {
                            each(index, record)?;
                        }
                        index += 1;
                    }
                }
                before = Some((begin, record));
            }
            at += n as u64;
            if n < buffer.len() {
                break;
            }
        }
        Ok(())
    }

    fn function(&self, record: u64) -> Result<Function> {
        let mut r = at(&self.function_records, record)?;
        let entry = if self.layout == Layout::Go116 {
            r.read_u64()?
        } else {
            self.text.wrapping_add(u64::from(r.read_u32()?))
        };
        let name = r.read_u32()?;
        r.skip(4 + 4 + 4)?; // args, deferreturn, pcsp
        let (pc_file, pc_line) = (r.read_u32()?, r.read_u32()?);
        let n_pc_data = u64::from(r.read_u32()?);
        let unit = r.read_u32()?;
        let start_line = if self.layout >= Layout::Go120 { r.read_u32()? } else { 0 };
        r.skip(3)?; // funcID, flag, padding
        let n_function_data = u64::from(r.read_u8()?);
        let words = u64::from(self.layout == Layout::Go116) * 4
            + if self.layout >= Layout::Go120 { 44 } else { 40 };
        let pc_data = record.saturating_add(words);
        let word = |index: u64| -> Result<u32> {
            Ok(at(&self.function_records, pc_data.saturating_add(4 * index))?.read_u32()?)
        };
        let mut function = Function {
            entry,
            name,
            pc_file,
            pc_line,
            unit,
            start_line,
            inl_tree_index: 0,
            inl_tree: None,
        };
        if n_pc_data > PCDATA_INL_TREE_INDEX && n_function_data > FUNCDATA_INL_TREE {
            function.inl_tree_index = word(PCDATA_INL_TREE_INDEX)?;
            function.inl_tree = if self.layout == Layout::Go116 {
                // Pointers, aligned in memory.
                let place = self.address_of_record(pc_data.saturating_add(4 * n_pc_data));
                let aligned = place.saturating_add(7) & !7;
                let skip = aligned - place.min(aligned);
                let from = pc_data.saturating_add(4 * n_pc_data + skip + 8 * FUNCDATA_INL_TREE);
                Some(at(&self.function_records, from)?.read_u64()?).filter(|&p| p != 0)
            } else {
                match (word(n_pc_data.saturating_add(FUNCDATA_INL_TREE))?, self.function_data) {
                    (u32::MAX, _) | (_, None) => None,
                    (offset, Some(base)) => base.checked_add(u64::from(offset)),
                }
            };
        }
        Ok(function)
    }

    /// Virtual address of an offset into the function records.
    fn address_of_record(&self, offset: u64) -> u64 {
        // Only alignment matters, and the table's parts are aligned to 8 within it.
        self.address.wrapping_add(offset)
    }

    fn frames(
        &self,
        elf: &Elf,
        record: u64,
        address: u64,
        frames: &mut Vec<NamedFrame>,
        paths: &mut HashMap<(u32, i32), Option<Rc<str>>>,
    ) -> Result<()> {
        let function = self.function(record)?;
        let mut pc = address;
        loop {
            let line = self.value(function.pc_line, &function, pc)?;
            let file_number = self.value(function.pc_file, &function, pc)?;
            let file = match paths.get(&(function.unit, file_number)) {
                Some(path) => path.clone(),
                None => {
                    // Paths repeat within a batch; a batch of many thousand files starts anew.
                    if paths.len() >= 4096 {
                        paths.clear();
                    }
                    let path = self.file(function.unit, file_number);
                    paths.insert((function.unit, file_number), path.clone());
                    path
                }
            };
            let mut inlined = None;
            if let Some(tree) = function.inl_tree
                && function.inl_tree_index != 0
                && frames.len() < INLINED_MAX
            {
                let index = self.value(function.inl_tree_index, &function, pc)?;
                if let Ok(index) = u64::try_from(index) {
                    inlined = self.inlined(elf, tree, index)?;
                }
            }
            let (name, start_line) = match &inlined {
                Some(call) => (call.name, call.start_line),
                None => (function.name, function.start_line),
            };
            let name = self.text(&self.names, u64::from(name))?;
            frames.push(NamedFrame {
                system_name: name.clone(),
                name,
                file,
                line: u32::try_from(line).unwrap_or(0),
                column: 0,
                start_line,
                inlined: inlined.is_some(),
                kind: Kind::Go,
            });
            match inlined {
                Some(call) => pc = function.entry.wrapping_add(u64::from(call.parent_pc)),
                None => return Ok(()),
            }
        }
    }

    fn inlined(&self, elf: &Elf, tree: u64, index: u64) -> Result<Option<Inlined>> {
        let bytes = if self.layout >= Layout::Go120 { 16 } else { 20 };
        let Some(at) = index.checked_mul(bytes).and_then(|o| tree.checked_add(o)) else {
            return Ok(None);
        };
        let record = elf.at_address(at).prefix(0, bytes as usize)?;
        if record.len() < bytes as usize {
            return Ok(None);
        }
        Ok(Some(if self.layout >= Layout::Go120 {
            Inlined {
                name: u32_at(&record, 4),
                parent_pc: u32_at(&record, 8),
                start_line: u32_at(&record, 12),
            }
        } else {
            Inlined { name: u32_at(&record, 12), parent_pc: u32_at(&record, 16), start_line: 0 }
        }))
    }

    /// What a pc table says at `pc`; -1 where it says nothing.
    fn value(&self, table: u32, function: &Function, pc: u64) -> Result<i32> {
        if table == 0 {
            return Ok(-1);
        }
        let mut r = at(&self.pc_data, u64::from(table))?;
        let mut value = -1i32;
        let mut until = function.entry;
        for step in 0..PC_STEPS_MAX {
            let delta = r.read_uleb128_u32()?;
            if delta == 0 && step > 0 {
                break;
            }
            // Zigzag: the sign is the lowest bit.
            let delta = (delta >> 1).cast_signed() ^ -((delta & 1).cast_signed());
            value = value.wrapping_add(delta);
            until = until.wrapping_add(u64::from(r.read_uleb128_u32()?) * self.min_step);
            if pc < until {
                return Ok(value);
            }
        }
        Ok(-1)
    }

    fn file(&self, unit: u32, number: i32) -> Option<Rc<str>> {
        let index = u64::from(unit).checked_add(u64::try_from(number).ok()?)?;
        let offset = at(&self.units, index.checked_mul(4)?).ok()?.read_u32().ok()?;
        if offset == u32::MAX {
            return None;
        }
        self.text(&self.files, u64::from(offset)).ok().map(Into::into)
    }

    fn text(&self, strings: &Reader, offset: u64) -> Result<String> {
        let mut r = at(strings, offset)?;
        r.truncate(r.len().min(SYMBOL_MAX_BYTES))?;
        let text = r.read_null_terminated_slice()?;
        Ok(bounded(&text.to_string_lossy()?))
    }
}

struct Inlined {
    name: u32,
    parent_pc: u32,
    start_line: u32,
}

fn at(reader: &Reader, offset: u64) -> Result<Reader> {
    let mut reader = reader.clone();
    reader.skip(usize::try_from(offset).unwrap_or(usize::MAX))?;
    Ok(reader)
}
