//! Lines: a unit's line program, and the paths of its files.
//!
//! In: a unit and sorted addresses. Out: the file, line and column of the row that holds each. A header
//! larger than [`LINE_HEADER_MAX_BYTES`] is refused.

use super::unit::Unit;
use super::{Debug, Dwarf, Position, Result, attr_text, text};
use crate::Error;
use crate::reader::Reader;
use gimli::Reader as _;
use std::collections::HashMap;
use std::rc::Rc;

/// A unit of 10,000 files with their MD5 needs 220 KiB.
const LINE_HEADER_MAX_BYTES: u64 = 512 << 10;

pub(super) const PATH_MAX_BYTES: usize = 4096;

impl Debug<'_> {
    /// Runs the line program and notes the row that holds each address.
    pub(super) fn lines(
        &mut self,
        unit: &Unit,
        at: &[u64],
        positions: &mut [Position],
    ) -> Result<()> {
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
}

/// The unit's line program, if its header is of a size that a compiler writes.
pub(super) fn line_program(
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

/// Path of file `index` of the unit's line program.
pub(super) fn file_name(dwarf: &Dwarf, unit: &Unit, index: u64) -> Option<Rc<str>> {
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
