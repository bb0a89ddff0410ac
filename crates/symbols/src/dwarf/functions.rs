//! Names of functions by their entries, through abstract origins and declarations, in other units and in the
//! supplementary file too.
//!
//! In: an entry of a unit. Out: its names and its first line; what cannot be read stays unknown. At most
//! [`HOPS_MAX`] references are followed, and [`FOREIGN_UNITS_MAX`] units of other places stay parsed.

use super::unit::{Unit, read_abbreviations, root};
use super::{Debug, Dwarf, Function, Result, attr_text};
use crate::Error;
use crate::demangle::SYMBOL_MAX_BYTES;
use crate::reader::Reader;
use gimli::{AttributeValue, UnitOffset, constants as dw};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

const HOPS_MAX: usize = 16;

/// Units of other places that stay parsed while a unit is named.
const FOREIGN_UNITS_MAX: usize = 16;

/// Names of functions of one unit, by entry.
pub(super) type Known = HashMap<usize, Function>;

impl Debug<'_> {
    /// Names of the function whose entry is `entry`, through its abstract origin and declaration.
    pub(super) fn function(
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
pub(super) struct Foreign {
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

pub(super) fn small(value: AttributeValue<Reader>) -> u32 {
    value.udata_value().and_then(|v| u32::try_from(v).ok()).unwrap_or(0)
}
