//! Functions, inlined calls and lines from DWARF, one unit at a time.
//!
//! In: the DWARF sections of a file (2 to 5, compressed or not, split or not, with or without a
//! supplementary file), sorted wanted addresses. Out: for each address that a unit covers, its
//! functions innermost first, and its line.
//!
//! # How it works
//! Of each unit the root entry is read, and the ranges in it are compared with the wanted addresses;
//! `.debug_aranges` is not used: it is missing or incomplete too often. Where they meet, the unit's
//! entries are walked once, in order: a function or inlined call whose ranges hold a wanted address
//! is appended to that address's chain. Then the unit's line program runs, and each row span is
//! matched with the wanted addresses. Then the unit is dropped. Sections are read through
//! [`Reader`], so memory is one unit's abbreviations and file table, the chains, and a few chunks.
//!
//! # Sources
//! DWARF 5 standard, sections 2.17 (ranges), 3.3.8 (inlined calls), 6.2 (lines), 7.3 (split);
//! dwz(1) for `DW_FORM_GNU_ref_alt`.
//!
//! # Not handled
//! Units without any range; functions nested in a function that does not hold the address.
//!
//! # Bounds
//! Abbreviations of a unit [`ABBREV_MAX_BYTES`], its line header [`LINE_HEADER_MAX_BYTES`], chains
//! [`CHAIN_MAX`], references [`HOPS_MAX`], and the batch's deadline, looked at every few thousand
//! steps.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gimli::{AttributeValue, Reader as _, UnitOffset, constants as dw};

use crate::Error;
use crate::bytes::Bytes;
use crate::demangle::SYMBOL_MAX_BYTES;
use crate::elf::Elf;
use crate::reader::Reader;

/// Chromium's largest abbreviation table has 20 KiB.
const ABBREV_MAX_BYTES: usize = 256 << 10;
/// A unit of 10,000 files with their MD5 needs 220 KiB.
const LINE_HEADER_MAX_BYTES: u64 = 512 << 10;
const CHAIN_MAX: usize = 256;
const HOPS_MAX: usize = 16;
const PATH_MAX_BYTES: usize = 4096;
/// Units of other places that stay parsed while a unit is named.
const FOREIGN_UNITS_MAX: usize = 16;

type Dwarf = gimli::Dwarf<Reader>;
type Result<T> = std::result::Result<T, Error>;

/// A function at an address, as DWARF has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    pub(crate) name: Option<Rc<str>>,
    pub(crate) linkage_name: Option<Rc<str>>,
    pub(crate) start_line: u32,
    pub(crate) rust: bool,
}

/// A source position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    pub(crate) file: Option<Rc<str>>,
    /// 0: unknown.
    pub(crate) line: u32,
    /// 0: unknown.
    pub(crate) column: u32,
}

/// What is known of an address: functions innermost first, each with the position in it.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) functions: Vec<(Function, Position)>,
    /// The address's own line, also where no function is known.
    pub(crate) position: Position,
}

/// Opens files that a DWARF refers to: split objects.
pub(crate) type OpenSplit<'a> = dyn FnMut(&Path) -> Option<Bytes> + 'a;

/// DWARF of a file, open for a batch.
pub(crate) struct Debug<'a> {
    dwarf: Rc<Dwarf>,
    unit_starts: Vec<usize>,
    sup_starts: Vec<usize>,
    deadline: Instant,
    steps: u32,
    package: Option<gimli::DwarfPackage<Reader>>,
    open_split: &'a mut OpenSplit<'a>,
}

struct Unit {
    unit: gimli::Unit<Reader>,
    rust: bool,
    line_program: Option<gimli::DebugLineOffset<usize>>,
    ranges: Vec<(u64, u64)>,
}

#[derive(Default)]
struct Chain {
    nodes: Vec<Node>,
}

struct Node {
    entry: UnitOffset<usize>,
    depth: isize,
    call_file: u64,
    call_line: u32,
    call_column: u32,
}

/// Names of functions of one unit, by entry.
type Known = HashMap<usize, Function>;

/// Loads the DWARF sections of `elf` by `debug_section`.
pub(crate) fn load(elf: &Elf, scratch: &Path, max_bytes: u64) -> Result<Dwarf> {
    let mut id = 0;
    let mut failed = None;
    let dwarf = Dwarf::load(|section| {
        id += 1;
        if !needed(section) {
            return Ok(Reader::new(Bytes::empty(), id));
        }
        match elf.debug_section(section.name(), scratch, max_bytes) {
            Ok(bytes) => Ok(Reader::new(bytes, id)),
            Err(error) => {
                failed = Some(error);
                Err(gimli::Error::Io)
            }
        }
    });
    dwarf.map_err(|error| failed.unwrap_or(Error::Dwarf(error)))
}

fn needed(section: gimli::SectionId) -> bool {
    use gimli::SectionId as S;
    matches!(
        section,
        S::DebugAbbrev
            | S::DebugAddr
            | S::DebugInfo
            | S::DebugLine
            | S::DebugLineStr
            | S::DebugRanges
            | S::DebugRngLists
            | S::DebugStr
            | S::DebugStrOffsets
    )
}

/// Loads a package of split units (`.dwp`).
pub(crate) fn load_package(
    elf: &Elf,
    scratch: &Path,
    max_bytes: u64,
) -> Result<gimli::DwarfPackage<Reader>> {
    let empty = Reader::new(Bytes::empty(), 0);
    let mut id = 64;
    gimli::DwarfPackage::load(
        |section| -> Result<Reader> {
            id += 1;
            let bytes = match section.dwo_name() {
                Some(name) => elf.debug_section(name, scratch, max_bytes)?,
                None => Bytes::empty(),
            };
            Ok(Reader::new(bytes, id))
        },
        empty,
    )
}

fn load_split(elf: &Elf, scratch: &Path, max_bytes: u64, parent: &Dwarf) -> Result<Dwarf> {
    let mut id = 128;
    let mut dwarf = Dwarf::load(|section| -> Result<Reader> {
        id += 1;
        let bytes = match section.dwo_name() {
            Some(name) => elf.debug_section(name, scratch, max_bytes)?,
            None => Bytes::empty(),
        };
        Ok(Reader::new(bytes, id))
    })?;
    dwarf.make_dwo(parent);
    Ok(dwarf)
}

impl<'a> Debug<'a> {
    pub(crate) fn new(
        dwarf: Dwarf,
        package: Option<gimli::DwarfPackage<Reader>>,
        deadline: Instant,
        open_split: &'a mut OpenSplit<'a>,
    ) -> Debug<'a> {
        Debug {
            dwarf: Rc::new(dwarf),
            unit_starts: Vec::new(),
            sup_starts: Vec::new(),
            deadline,
            steps: 0,
            package,
            open_split,
        }
    }

    /// Names what it can of `addresses` (sorted); `found` gets each index at most once. An error in
    /// one unit costs that unit; the first one is returned when all are done.
    pub(crate) fn name(
        &mut self,
        addresses: &[u64],
        scratch: &Path,
        max_bytes: u64,
        found: &mut impl FnMut(usize, Place),
    ) -> Result<()> {
        let mut first_error = None;
        self.unit_starts = starts(&self.dwarf, &mut first_error);
        if let Some(sup) = self.dwarf.sup() {
            self.sup_starts = starts(sup, &mut first_error);
        }
        let mut left: Vec<usize> = (0..addresses.len()).collect();
        let mut lines_only: HashMap<usize, Place> = HashMap::new();
        let mut abbreviations = None;
        for index in 0..self.unit_starts.len() {
            if left.is_empty() {
                break;
            }
            let start = self.unit_starts[index];
            let named = self.unit(
                start,
                addresses,
                &left,
                &mut abbreviations,
                (scratch, max_bytes),
                &mut |index, place| {
                    if place.functions.is_empty() {
                        lines_only.entry(index).or_insert(place);
                        return false;
                    }
                    found(index, place);
                    true
                },
            );
            match named {
                Ok(done) if done.is_empty() => {}
                Ok(done) => left.retain(|index| done.binary_search(index).is_err()),
                Err(Error::OutOfTime) => {
                    first_error = Some(Error::OutOfTime);
                    break;
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        for index in left {
            if let Some(place) = lines_only.remove(&index) {
                found(index, place);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn tick(&mut self) -> Result<()> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(4096) && Instant::now() > self.deadline {
            return Err(Error::OutOfTime);
        }
        Ok(())
    }

    /// Names the addresses of `left` that the unit at `start` covers; returns those it named, sorted.
    fn unit(
        &mut self,
        start: usize,
        addresses: &[u64],
        left: &[usize],
        abbreviations: &mut Option<(usize, Arc<gimli::Abbreviations>)>,
        (scratch, max_bytes): (&Path, u64),
        found: &mut dyn FnMut(usize, Place) -> bool,
    ) -> Result<Vec<usize>> {
        if Instant::now() > self.deadline {
            return Err(Error::OutOfTime);
        }
        let header = self.dwarf.unit_header(gimli::DebugInfoOffset(start))?;
        if !matches!(header.type_(), gimli::UnitType::Compilation | gimli::UnitType::Skeleton(_)) {
            return Ok(Vec::new());
        }
        let abbrev_at = header.debug_abbrev_offset().0;
        let shared = match abbreviations {
            Some((at, shared)) if *at == abbrev_at => Arc::clone(shared),
            _ => {
                let fresh = Arc::new(read_abbreviations(&self.dwarf, &header)?);
                *abbreviations = Some((abbrev_at, Arc::clone(&fresh)));
                fresh
            }
        };
        let mut unit = root(&self.dwarf, header, shared, self.deadline)?;
        let wanted: Vec<usize> = left
            .iter()
            .copied()
            .filter(|&i| {
                let address = addresses[i];
                let next = unit.ranges.partition_point(|&(begin, _)| begin <= address);
                next.checked_sub(1).is_some_and(|at| address < unit.ranges[at].1)
            })
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let at: Vec<u64> = wanted.iter().map(|&i| addresses[i]).collect();
        unit.unit.line_program = line_program(&self.dwarf, &unit)?;
        let mut positions = vec![Position::default(); at.len()];
        // A damaged line program costs the lines, not the names.
        let lines = self.lines(&unit, &at, &mut positions);
        if let Err(Error::OutOfTime) = lines {
            return Err(Error::OutOfTime);
        }
        let mut chains: Vec<Chain> = Vec::new();
        chains.resize_with(at.len(), Chain::default);
        let split = self.split(&unit, scratch, max_bytes)?;
        let mut done = Vec::new();
        let own = Rc::clone(&self.dwarf);
        let (names_dwarf, names_unit) = match &split {
            Some((dwarf, split)) => (dwarf, split),
            None => (&*own, &unit),
        };
        // A split unit may bring the file table that its own entries refer to.
        let (files_dwarf, files_unit) = if names_unit.unit.line_program.is_some() {
            (names_dwarf, names_unit)
        } else {
            (&*own, &unit)
        };
        self.walk(names_dwarf, names_unit, &at, &mut chains)?;
        let mut known = Known::new();
        let mut foreign = Foreign::default();
        for ((index, chain), position) in wanted.iter().zip(chains).zip(positions) {
            let mut place = Place { functions: Vec::new(), position };
            let mut here = place.position.clone();
            for node in chain.nodes.into_iter().rev() {
                self.tick()?;
                let function =
                    self.function(names_dwarf, names_unit, node.entry, &mut known, &mut foreign);
                let caller = Position {
                    file: file_name(files_dwarf, files_unit, node.call_file),
                    line: node.call_line,
                    column: node.call_column,
                };
                place.functions.push((function, std::mem::replace(&mut here, caller)));
            }
            if found(*index, place) {
                done.push(*index);
            }
        }
        match lines {
            Err(error) if done.is_empty() => Err(error),
            _ => Ok(done),
        }
    }

    /// The unit of the split object that a skeleton stands for.
    fn split(
        &mut self,
        unit: &Unit,
        scratch: &Path,
        max_bytes: u64,
    ) -> Result<Option<(Dwarf, Unit)>> {
        let Some(id) = unit.unit.dwo_id else {
            return Ok(None);
        };
        let packaged = match &self.package {
            Some(package) => package.find_cu(id, &self.dwarf)?,
            None => None,
        };
        let dwarf = match packaged {
            Some(dwarf) => dwarf,
            None => {
                let name = match unit.unit.dwo_name()? {
                    Some(value) => attr_text(&self.dwarf, &unit.unit, value, PATH_MAX_BYTES),
                    None => None,
                };
                let Some(name) = name else { return Ok(None) };
                let directory = unit.unit.comp_dir.as_ref().and_then(|d| text(d, PATH_MAX_BYTES));
                let path = Path::new(directory.as_deref().unwrap_or("/")).join(&*name);
                let Some(bytes) = (self.open_split)(&path) else {
                    return Ok(None);
                };
                load_split(&Elf::new(bytes)?, scratch, max_bytes, &self.dwarf)?
            }
        };
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let abbreviations = Arc::new(read_abbreviations(&dwarf, &header)?);
            let mut split = root(&dwarf, header, abbreviations, self.deadline)?;
            if split.unit.dwo_id.is_some_and(|other| other == id) {
                split.unit.copy_relocated_attributes(&unit.unit);
                use gimli::Section as _;
                if !dwarf.debug_line.reader().is_empty() {
                    split.line_program.get_or_insert(gimli::DebugLineOffset(0));
                    split.unit.line_program = line_program(&dwarf, &split)?;
                    if split.unit.comp_dir.is_none() {
                        split.unit.comp_dir.clone_from(&unit.unit.comp_dir);
                    }
                }
                return Ok(Some((dwarf, split)));
            }
        }
        Ok(None)
    }

    /// Appends each function and inlined call of the unit to the chains of the addresses it holds.
    fn walk(&mut self, dwarf: &Dwarf, unit: &Unit, at: &[u64], chains: &mut [Chain]) -> Result<()> {
        let mut entries = unit.unit.entries_raw(None)?;
        // Depth of the function under which inlined calls matter.
        let mut inside: Option<isize> = None;
        let mut ranges = Vec::new();
        while !entries.is_empty() {
            self.tick()?;
            let depth = entries.next_depth();
            let entry = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            if inside.is_some_and(|function| depth <= function) {
                inside = None;
            }
            let inlined = abbreviation.tag() == dw::DW_TAG_inlined_subroutine;
            let function = abbreviation.tag() == dw::DW_TAG_subprogram;
            let matters = function || (inlined && inside.is_some());
            if !matters {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let mut node = Node { entry, depth, call_file: 0, call_line: 0, call_column: 0 };
            let mut extent = Extent::default();
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                match attribute.name() {
                    dw::DW_AT_low_pc | dw::DW_AT_high_pc | dw::DW_AT_ranges => {
                        extent.take(dwarf, &unit.unit, attribute.name(), attribute.value())?;
                    }
                    dw::DW_AT_call_file => node.call_file = file_index(attribute.value()),
                    dw::DW_AT_call_line => node.call_line = small(attribute.value()),
                    dw::DW_AT_call_column => node.call_column = small(attribute.value()),
                    _ => {}
                }
            }
            extent.ranges(dwarf, &unit.unit, self.deadline, &mut ranges)?;
            for &(begin, end) in &ranges {
                let first = at.partition_point(|&a| a < begin);
                for (_, chain) in
                    at.iter().zip(chains.iter_mut()).skip(first).take_while(|(a, _)| **a < end)
                {
                    let node = Node { ..node };
                    match chain.nodes.last() {
                        None if function => chain.nodes.push(node),
                        Some(last) if depth > last.depth && chain.nodes.len() < CHAIN_MAX => {
                            if function {
                                // A nested function that holds the address is its function.
                                chain.nodes.clear();
                            }
                            chain.nodes.push(node);
                        }
                        _ => continue,
                    }
                    if function {
                        inside = Some(depth);
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs the line program and notes the row that holds each address.
    fn lines(&mut self, unit: &Unit, at: &[u64], positions: &mut [Position]) -> Result<()> {
        let Some(program) = unit.unit.line_program.clone() else {
            return Ok(());
        };
        let mut hits: HashMap<usize, (u64, u32, u32)> = HashMap::new();
        let mut rows = program.rows();
        let mut before: Option<(u64, u64, u32, u32)> = None;
        let mut dead = false;
        while let Some((_, row)) = rows.next_row()? {
            self.tick()?;
            let address = row.address();
            if before.is_none() {
                // Code that the linker dropped keeps its lines, at address 0 or at the top.
                dead = address == 0;
            }
            if let Some((begin, file, line, column)) = before
                && !dead
                && begin < address
            {
                let first = at.partition_point(|&a| a < begin);
                for (index, _) in
                    at.iter().enumerate().skip(first).take_while(|(_, a)| **a < address)
                {
                    hits.entry(index).or_insert((file, line, column));
                }
            }
            before = if row.end_sequence() {
                None
            } else {
                let line = row.line().map_or(0, |l| u32::try_from(l.get()).unwrap_or(0));
                let column = match row.column() {
                    gimli::ColumnType::LeftEdge => 0,
                    gimli::ColumnType::Column(c) => u32::try_from(c.get()).unwrap_or(0),
                };
                Some((address, row.file_index(), line, column))
            };
        }
        let mut files: HashMap<u64, Option<Rc<str>>> = HashMap::new();
        for (index, (file, line, column)) in hits {
            let file =
                files.entry(file).or_insert_with(|| file_name(&self.dwarf, unit, file)).clone();
            if let Some(position) = positions.get_mut(index) {
                *position = Position { file, line, column };
            }
        }
        Ok(())
    }

    /// Names of the function whose entry is `entry`, through its abstract origin and declaration.
    fn function(
        &self,
        dwarf: &Dwarf,
        unit: &Unit,
        entry: UnitOffset<usize>,
        known: &mut Known,
        foreign: &mut Foreign,
    ) -> Function {
        if let Some(function) = known.get(&entry.0) {
            return function.clone();
        }
        let mut function = Function { rust: unit.rust, ..Function::default() };
        // What cannot be read stays unknown; the rest is still worth having.
        let _ = self.fill(dwarf, unit, entry, &mut function, foreign);
        known.insert(entry.0, function.clone());
        function
    }

    fn fill(
        &self,
        dwarf: &Dwarf,
        unit: &Unit,
        entry: UnitOffset<usize>,
        function: &mut Function,
        foreign: &mut Foreign,
    ) -> Result<()> {
        let mut next = facts(dwarf, unit, entry, function)?;
        // The unit that the next reference is relative to: None is the unit we began in.
        let mut holder: Option<(bool, Rc<Unit>)> = None;
        let split = dwarf.file_type == gimli::DwarfFileType::Dwo;
        for _ in 0..HOPS_MAX {
            let Some(reference) = next else { break };
            if function.linkage_name.is_some() && function.start_line != 0 {
                break;
            }
            let (in_sup, offset) = match reference {
                AttributeValue::UnitRef(offset) => {
                    next = match &holder {
                        None => facts(dwarf, unit, offset, function)?,
                        Some((sup, unit)) => {
                            let Some(dwarf) = side(dwarf, *sup) else {
                                break;
                            };
                            facts(dwarf, unit, offset, function)?
                        }
                    };
                    continue;
                }
                AttributeValue::DebugInfoRef(offset) => {
                    (holder.as_ref().is_some_and(|(sup, _)| *sup), offset.0)
                }
                AttributeValue::DebugInfoRefSup(offset) => (true, offset.0),
                _ => break,
            };
            if split {
                break;
            }
            let starts = if in_sup { &self.sup_starts } else { &self.unit_starts };
            let Some(dwarf) = side(dwarf, in_sup) else {
                break;
            };
            let other = foreign.unit(dwarf, in_sup, starts, offset, self.deadline)?;
            let start = other.unit.header.offset().0;
            let inner = UnitOffset(offset.saturating_sub(start));
            next = facts(dwarf, &other, inner, function)?;
            holder = Some((in_sup, other));
        }
        Ok(())
    }
}

fn side(dwarf: &Dwarf, sup: bool) -> Option<&Dwarf> {
    if sup { dwarf.sup() } else { Some(dwarf) }
}

/// Units that functions of other units refer to (link-time optimisation, dwz).
#[derive(Default)]
struct Foreign {
    units: HashMap<(bool, usize), Rc<Unit>>,
}

impl Foreign {
    /// The unit that holds `offset` of `.debug_info`.
    fn unit(
        &mut self,
        dwarf: &Dwarf,
        in_sup: bool,
        starts: &[usize],
        offset: usize,
        deadline: Instant,
    ) -> Result<Rc<Unit>> {
        let next = starts.partition_point(|&s| s <= offset);
        let Some(&start) = next.checked_sub(1).and_then(|i| starts.get(i)) else {
            return Err(Error::Dwarf(gimli::Error::NoEntryAtGivenOffset(offset as u64)));
        };
        if let Some(unit) = self.units.get(&(in_sup, start)) {
            return Ok(Rc::clone(unit));
        }
        if self.units.len() >= FOREIGN_UNITS_MAX {
            self.units.clear();
        }
        let header = dwarf.unit_header(gimli::DebugInfoOffset(start))?;
        let abbreviations = Arc::new(read_abbreviations(dwarf, &header)?);
        let unit = Rc::new(root(dwarf, header, abbreviations, deadline)?);
        self.units.insert((in_sup, start), Rc::clone(&unit));
        Ok(unit)
    }
}

/// Where each unit begins; stops at the first header that makes no sense.
fn starts(dwarf: &Dwarf, error: &mut Option<Error>) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut units = dwarf.units();
    loop {
        match units.next() {
            Ok(Some(header)) => starts.push(header.offset().0),
            Ok(None) => return starts,
            Err(cause) => {
                error.get_or_insert(Error::Dwarf(cause));
                return starts;
            }
        }
    }
}

fn read_abbreviations(
    dwarf: &Dwarf,
    header: &gimli::UnitHeader<Reader>,
) -> Result<gimli::Abbreviations> {
    use gimli::Section as _;
    let mut table = dwarf.debug_abbrev.reader().clone();
    table.skip(header.debug_abbrev_offset().0)?;
    table.truncate(table.len().min(ABBREV_MAX_BYTES))?;
    Ok(gimli::DebugAbbrev::from(table).abbreviations(gimli::DebugAbbrevOffset(0))?)
}

/// Reads the root entry of a unit: its bases, its ranges (sorted), its language. The line program's
/// header is left for units that matter.
fn root(
    dwarf: &Dwarf,
    header: gimli::UnitHeader<Reader>,
    abbreviations: Arc<gimli::Abbreviations>,
    deadline: Instant,
) -> Result<Unit> {
    let (encoding, file_type) = (header.encoding(), dwarf.file_type);
    let mut unit = gimli::Unit {
        abbreviations,
        name: None,
        comp_dir: None,
        low_pc: 0,
        str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(
            encoding, file_type,
        ),
        addr_base: gimli::DebugAddrBase(0),
        loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file_type),
        rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file_type),
        line_program: None,
        dwo_id: match header.type_() {
            gimli::UnitType::Skeleton(id) | gimli::UnitType::SplitCompilation(id) => Some(id),
            _ => None,
        },
        header,
    };
    let mut entry = gimli::DebuggingInformationEntry::null();
    unit.header.entries_raw(&unit.abbreviations, None)?.read_entry(&mut entry)?;
    let mut rust = false;
    let mut line_program = None;
    for attribute in entry.attrs() {
        match (attribute.name(), attribute.value()) {
            (dw::DW_AT_stmt_list, AttributeValue::DebugLineRef(at)) => line_program = Some(at),
            (dw::DW_AT_str_offsets_base, AttributeValue::DebugStrOffsetsBase(base)) => {
                unit.str_offsets_base = base;
            }
            (
                dw::DW_AT_addr_base | dw::DW_AT_GNU_addr_base,
                AttributeValue::DebugAddrBase(base),
            ) => unit.addr_base = base,
            (
                dw::DW_AT_rnglists_base | dw::DW_AT_GNU_ranges_base,
                AttributeValue::DebugRngListsBase(base),
            ) => unit.rnglists_base = base,
            (dw::DW_AT_GNU_dwo_id, AttributeValue::DwoId(id)) if unit.dwo_id.is_none() => {
                unit.dwo_id = Some(id);
            }
            (dw::DW_AT_language, AttributeValue::Language(language)) => {
                rust = language == dw::DW_LANG_Rust;
            }
            _ => {}
        }
    }
    // Only now the bases are known that names and addresses need.
    let mut extent = Extent::default();
    for attribute in entry.attrs() {
        let value = attribute.value();
        match attribute.name() {
            dw::DW_AT_name => unit.name = dwarf.attr_string(&unit, value).ok(),
            dw::DW_AT_comp_dir => unit.comp_dir = dwarf.attr_string(&unit, value).ok(),
            dw::DW_AT_low_pc => {
                unit.low_pc = dwarf.attr_address(&unit, value.clone())?.unwrap_or(0);
                extent.take(dwarf, &unit, dw::DW_AT_low_pc, value)?;
            }
            dw::DW_AT_high_pc => extent.take(dwarf, &unit, dw::DW_AT_high_pc, value)?,
            _ => {}
        }
    }
    if let Some(value) = entry.attr_value(dw::DW_AT_ranges) {
        extent.take(dwarf, &unit, dw::DW_AT_ranges, value)?;
    }
    let mut ranges = Vec::new();
    extent.ranges(dwarf, &unit, deadline, &mut ranges)?;
    ranges.sort_unstable();
    // Overlaps merged, so that one binary search finds the range that holds an address.
    ranges.dedup_by(|later, kept| {
        let joined = later.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(later.1);
        }
        joined
    });
    Ok(Unit { unit, rust, line_program, ranges })
}

/// The unit's line program, if its header is of a size that a compiler writes.
fn line_program(
    dwarf: &Dwarf,
    unit: &Unit,
) -> Result<Option<gimli::IncompleteLineProgram<Reader>>> {
    use gimli::Section as _;
    let Some(at) = unit.line_program else {
        return Ok(None);
    };
    let mut start = dwarf.debug_line.reader().clone();
    start.skip(at.0)?;
    let (_, format) = start.read_initial_length()?;
    let version = start.read_u16()?;
    if version >= 5 {
        start.skip(2)?;
    }
    let header_bytes = start.read_length(format)? as u64;
    if header_bytes > LINE_HEADER_MAX_BYTES {
        return Err(Error::TooLarge {
            what: "line program header".to_owned(),
            max_bytes: LINE_HEADER_MAX_BYTES,
        });
    }
    let (directory, name) = (unit.unit.comp_dir.clone(), unit.unit.name.clone());
    let address_size = unit.unit.header.address_size();
    Ok(Some(dwarf.debug_line.program(at, address_size, directory, name)?))
}

/// `DW_AT_low_pc`, `DW_AT_high_pc`, `DW_AT_ranges` of an entry.
#[derive(Default)]
struct Extent {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    list: Option<gimli::RangeListsOffset<usize>>,
}

impl Extent {
    fn take(
        &mut self,
        dwarf: &Dwarf,
        unit: &gimli::Unit<Reader>,
        name: gimli::DwAt,
        value: AttributeValue<Reader>,
    ) -> Result<()> {
        match (name, value) {
            (dw::DW_AT_low_pc, value) => self.low = dwarf.attr_address(unit, value)?,
            (dw::DW_AT_high_pc, AttributeValue::Udata(size)) => self.size = Some(size),
            (dw::DW_AT_high_pc, value) => self.high = dwarf.attr_address(unit, value)?,
            (_, value) => self.list = dwarf.attr_ranges_offset(unit, value)?,
        }
        Ok(())
    }

    /// The ranges; those at 0 and at the top of the address space stand for code that the linker
    /// dropped.
    fn ranges(
        self,
        dwarf: &Dwarf,
        unit: &gimli::Unit<Reader>,
        deadline: Instant,
        out: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        out.clear();
        if let Some(list) = self.list {
            let mut ranges = dwarf.ranges(unit, list)?;
            let mut n = 0u32;
            while let Some(range) = ranges.next()? {
                if range.begin != 0 && range.begin < range.end {
                    out.push((range.begin, range.end));
                }
                n = n.wrapping_add(1);
                if n.is_multiple_of(4096) && Instant::now() > deadline {
                    return Err(Error::OutOfTime);
                }
            }
        } else if let Some(low) = self.low
            && low != 0
        {
            let end = self.size.map_or(self.high, |size| low.checked_add(size));
            if let Some(end) = end.filter(|&end| end > low) {
                out.push((low, end));
            }
        }
        Ok(())
    }
}

/// Adds what an entry says of a function to what is known already; returns the entry it refers to.
fn facts(
    dwarf: &Dwarf,
    unit: &Unit,
    at: UnitOffset<usize>,
    function: &mut Function,
) -> Result<Option<AttributeValue<Reader>>> {
    let mut entries = unit.unit.entries_raw(Some(at))?;
    let Some(abbreviation) = entries.read_abbreviation()? else {
        return Ok(None);
    };
    let mut next = None;
    function.rust |= unit.rust;
    for spec in abbreviation.attributes() {
        let attribute = entries.read_attribute(*spec)?;
        let value = attribute.value();
        match attribute.name() {
            dw::DW_AT_name if function.name.is_none() => {
                function.name = attr_text(dwarf, &unit.unit, value, SYMBOL_MAX_BYTES);
            }
            dw::DW_AT_linkage_name | dw::DW_AT_MIPS_linkage_name
                if function.linkage_name.is_none() =>
            {
                function.linkage_name = attr_text(dwarf, &unit.unit, value, SYMBOL_MAX_BYTES);
            }
            dw::DW_AT_decl_line if function.start_line == 0 => function.start_line = small(value),
            dw::DW_AT_abstract_origin | dw::DW_AT_specification => next = Some(value),
            _ => {}
        }
    }
    Ok(next)
}

fn small(value: AttributeValue<Reader>) -> u32 {
    value.udata_value().and_then(|v| u32::try_from(v).ok()).unwrap_or(0)
}

fn file_index(value: AttributeValue<Reader>) -> u64 {
    match value {
        AttributeValue::FileIndex(index) => index,
        value => value.udata_value().unwrap_or(0),
    }
}

fn text(reader: &Reader, max_bytes: usize) -> Option<Rc<str>> {
    let mut reader = reader.clone();
    let len = reader.len().min(max_bytes);
    reader.truncate(len).ok()?;
    Some(reader.to_string_lossy().ok()?.as_ref().into())
}

fn attr_text(
    dwarf: &Dwarf,
    unit: &gimli::Unit<Reader>,
    value: AttributeValue<Reader>,
    max_bytes: usize,
) -> Option<Rc<str>> {
    text(&dwarf.attr_string(unit, value).ok()?, max_bytes)
}

/// Path of file `index` of the unit's line program.
fn file_name(dwarf: &Dwarf, unit: &Unit, index: u64) -> Option<Rc<str>> {
    let program = unit.unit.line_program.as_ref()?;
    let header = program.header();
    if index == 0 && header.version() < 5 {
        return None;
    }
    let file = header.file(index)?;
    let name = attr_text(dwarf, &unit.unit, file.path_name(), PATH_MAX_BYTES)?;
    let mut path = String::new();
    if !name.starts_with('/') {
        let directory = file
            .directory(header)
            .and_then(|value| attr_text(dwarf, &unit.unit, value, PATH_MAX_BYTES));
        if directory.as_ref().is_none_or(|d| !d.starts_with('/'))
            && let Some(base) = unit.unit.comp_dir.as_ref().and_then(|d| text(d, PATH_MAX_BYTES))
            && directory.as_ref() != Some(&base)
        {
            push(&mut path, &base);
        }
        if let Some(directory) = directory {
            push(&mut path, &directory);
        }
    }
    push(&mut path, &name);
    Some(path.into())
}

fn push(path: &mut String, part: &str) {
    if !path.is_empty() && !path.ends_with('/') && !part.is_empty() {
        path.push('/');
    }
    path.push_str(part);
}
