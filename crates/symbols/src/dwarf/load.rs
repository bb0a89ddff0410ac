//! The DWARF sections of a file, of a package of split units and of a split unit.
//!
//! In: an ELF file. Out: readers of the sections that naming needs; the others stay empty. Each
//! section has a number, so that readers of different files are told apart.

use super::{Dwarf, Result};
use crate::Error;
use crate::bytes::Bytes;
use crate::elf::Elf;
use crate::reader::Reader;
use std::path::Path;

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

pub(super) fn load_split(
    elf: &Elf,
    scratch: &Path,
    max_bytes: u64,
    parent: &Dwarf,
) -> Result<Dwarf> {
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
