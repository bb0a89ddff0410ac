//! A unit: where it begins, its root entry, and the ranges of its code.
//!
//! In: a unit's header. Out: its bases, its language and its ranges, sorted and merged; a deadline ends the reading of
//! long range lists.

use super::{Dwarf, Result};
use crate::Error;
use crate::reader::Reader;
use gimli::{AttributeValue, Reader as _, constants as dw};
use std::sync::Arc;
use std::time::Instant;

/// Chromium's largest abbreviation table has 20 KiB.
const ABBREV_MAX_BYTES: usize = 256 << 10;

pub(super) struct Unit {
    pub(super) unit: gimli::Unit<Reader>,
    pub(super) rust: bool,
    pub(super) line_program: Option<gimli::DebugLineOffset<usize>>,
    pub(super) ranges: Vec<(u64, u64)>,
}

/// Where each unit begins; stops at the first header that makes no sense.
pub(super) fn starts(dwarf: &Dwarf, error: &mut Option<Error>) -> Vec<usize> {
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

pub(super) fn read_abbreviations(
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
pub(super) fn root(
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

/// `DW_AT_low_pc`, `DW_AT_high_pc`, `DW_AT_ranges` of an entry.
#[derive(Default)]
pub(super) struct Extent {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    list: Option<gimli::RangeListsOffset<usize>>,
}

impl Extent {
    pub(super) fn take(
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
    pub(super) fn ranges(
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
