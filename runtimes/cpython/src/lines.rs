//! Which line an instruction of a code object is of.
//!
//! In: a code object's table, its first line, and a position in code units of two bytes. Out: the
//! line; `None` where the table gives none. Any bytes are read without panic, in one pass.
//!
//! # Sources
//! Objects/lnotab_notes.txt @ v3.9.18 and v3.10.13, Objects/codeobject.c `PyCode_Addr2Line` @ the
//! same; Objects/locations.md and Include/internal/pycore_code.h @ v3.11.7 (unchanged in 3.13).

use crate::layout::Table;

/// The line of the instruction at `unit`.
pub(crate) fn line(kind: Table, table: &[u8], first_line: u32, unit: u32) -> Option<u32> {
    let line = match kind {
        Table::Lnotab => lnotab(table, first_line, unit),
        Table::Ranges => ranges(table, first_line, unit),
        Table::Locations => locations(table, first_line, unit),
    }?;
    u32::try_from(line).ok().filter(|&line| line > 0)
}

/// Pairs of unsigned address and signed line increments, addresses in bytes.
fn lnotab(table: &[u8], first_line: u32, unit: u32) -> Option<i64> {
    let wanted = u64::from(unit) * 2;
    let mut line = i64::from(first_line);
    let mut address = 0;
    for pair in table.as_chunks::<2>().0 {
        address += u64::from(pair[0]);
        if address > wanted {
            break;
        }
        line += i64::from(pair[1] as i8);
    }
    Some(line)
}

/// Pairs that describe ranges: bytes, and the line's increment or -128: none. The line holds for
/// its own range.
fn ranges(table: &[u8], first_line: u32, unit: u32) -> Option<i64> {
    let wanted = u64::from(unit) * 2;
    let mut line = i64::from(first_line);
    let mut end = 0;
    for pair in table.as_chunks::<2>().0 {
        end += u64::from(pair[0]);
        let delta = pair[1] as i8;
        if delta != -128 {
            line += i64::from(delta);
        }
        if wanted < end {
            return (delta != -128).then_some(line);
        }
    }
    None
}

const KIND_ONE_LINE_FIRST: u8 = 10;
const KIND_NO_COLUMNS: u8 = 13;
const KIND_LONG: u8 = 14;
const KIND_NONE: u8 = 15;

/// Entries of `1 | kind: 4 | length - 1: 3`, lengths in code units.
fn locations(table: &[u8], first_line: u32, unit: u32) -> Option<i64> {
    let wanted = u64::from(unit);
    let mut line = i64::from(first_line);
    let mut end = 0;
    let mut bytes = table.iter().copied();
    while let Some(head) = bytes.next() {
        if head & 0x80 == 0 {
            return None;
        }
        let kind = head >> 3 & 15;
        end += u64::from(head & 7) + 1;
        match kind {
            KIND_NONE => {}
            KIND_LONG => {
                line = line.checked_add(signed(&mut bytes)?)?;
                for _ in 0..3 {
                    varint(&mut bytes)?;
                }
            }
            KIND_NO_COLUMNS => line = line.checked_add(signed(&mut bytes)?)?,
            KIND_ONE_LINE_FIRST.. => {
                line += i64::from(kind - KIND_ONE_LINE_FIRST);
                bytes.next()?;
                bytes.next()?;
            }
            _ => {
                bytes.next()?;
            }
        }
        if wanted < end {
            return (kind != KIND_NONE).then_some(line);
        }
    }
    None
}

/// Groups of six bits, the lowest first; bit 6: more follow.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..60).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = varint(bytes)?;
    let magnitude = (value >> 1) as i64;
    Some(if value & 1 != 0 { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines may go back, and an address is of the last entry at or before it.
    #[test]
    fn a_lnotab() {
        let table = [6, 1, 4, 3, 2, 0xfe, 0, 1];
        let lines: Vec<_> =
            (0..7).map(|unit| line(Table::Lnotab, &table, 10, unit).expect("a line")).collect();
        assert_eq!(lines, [10, 10, 10, 11, 11, 13 + 1, 13]);
    }

    /// The example of lnotab_notes.txt for 3.10: a range without a line keeps the line that runs on.
    #[test]
    fn ranges_with_a_hole() {
        let table = [6, 0, 4, 0x80, 2, 2];
        let lines: Vec<_> = (0..7).map(|unit| line(Table::Ranges, &table, 10, unit)).collect();
        let (a, b) = (Some(10), Some(12));
        assert_eq!(lines, [a, a, a, None, None, b, None]);
    }

    /// A location without a line does not disturb those behind it.
    #[test]
    fn locations_of_every_kind() {
        let table = [
            0x80 | 1 << 3 | 1,
            0x12, // short, two units, same line
            0x80 | 11 << 3,
            3,
            9,              // one line on
            0x80 | 15 << 3, // none
            0x80 | 13 << 3,
            5, // -2, no columns
            0x80 | 14 << 3,
            0x40 | 2,
            1,
            0,
            1,
            1, // +33, long
        ];
        let lines: Vec<_> = (0..7).map(|unit| line(Table::Locations, &table, 10, unit)).collect();
        assert_eq!(lines, [Some(10), Some(10), Some(11), None, Some(9), Some(42), None]);
    }

    /// Any bytes, cut anywhere, are read without a panic.
    #[test]
    fn damaged_tables() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for kind in [Table::Lnotab, Table::Ranges, Table::Locations] {
            for n in 0..bytes.len() {
                for unit in [0, 1, 100, u32::MAX] {
                    let _ = line(kind, &bytes[..n], u32::MAX, unit);
                    let _ = line(kind, &bytes[n..], 1, unit);
                }
            }
        }
    }
}
