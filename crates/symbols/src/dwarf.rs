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
//! Abbreviations of a unit, its line header, chains ([`CHAIN_MAX`]), references from function to function, and the
//! batch's deadline, looked at every few thousand steps.
//!
//! # Where
//! Sections are loaded in `load.rs`, units read in `unit.rs`, functions named in `functions.rs`, lines found in
//! `lines.rs`; here is the way through all of them.

mod functions;
mod lines;
mod load;
mod unit;

pub(crate) use load::{load, load_package};

use functions::{Foreign, Known, small};
use lines::{PATH_MAX_BYTES, file_name, line_program};
use load::load_split;
use unit::{Extent, Unit, read_abbreviations, root, starts};

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gimli::{AttributeValue, Reader as _, UnitOffset, constants as dw};

use crate::Error;
use crate::bytes::Bytes;
use crate::elf::Elf;
use crate::reader::Reader;

const CHAIN_MAX: usize = 256;

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
