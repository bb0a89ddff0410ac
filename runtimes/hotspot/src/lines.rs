//! A method's table of lines.
//!
//! In: where it is in the process's memory, and a bytecode index. Out: the line.
//!
//! # Sources
//! `CompressedLineNumberReadStream` (share/code/compressedStream.cpp), `Method::line_number_from_bci`
//! (share/oops/method.cpp) @ jdk-17+35 and jdk-25+36.

use crate::abi;
use crate::unsigned5::Reader;
use hotframe_runtime::Memory;
use hotframe_runtime::memory::PAGE_BYTES;

/// Bytes of a line table that are looked at first.
const LINES_FIRST_BYTES: u64 = 64;
/// Line tables: bytecode is at most 64 KB, an entry a few bytes.
const LINES_MAX_BYTES: usize = 256 << 10;

/// Address of a method's table of lines, if it has one.
pub(crate) struct Lines(pub Option<u64>);

impl Lines {
    /// The line of a bytecode index; 0: unknown.
    pub(crate) fn line(&self, memory: &Memory, bci: u32, excludes_zero: bool) -> u32 {
        let Some(start) = self.0 else { return 0 };
        if bci >= abi::HF_HOTSPOT_BCI_NONE {
            return 0;
        }
        // How long the table is says only its end; most are short.
        let mut bytes = Vec::new();
        let mut piece_bytes = LINES_FIRST_BYTES;
        while bytes.len() < LINES_MAX_BYTES {
            let at = start.wrapping_add(bytes.len() as u64);
            // What lies behind a page's end may not be there.
            let n = piece_bytes.min(PAGE_BYTES - at % PAGE_BYTES);
            let Some(piece) = memory.bytes(at, n, PAGE_BYTES as usize) else { break };
            bytes.extend(piece);
            if let Some(line) = line(&bytes, bci, excludes_zero) {
                return line;
            }
            piece_bytes = (piece_bytes * 4).min(PAGE_BYTES);
        }
        0
    }
}

/// The line of a bytecode index in a table; `None` if the table does not end in `bytes`.
pub(crate) fn line(bytes: &[u8], wanted: u32, excludes_zero: bool) -> Option<u32> {
    let mut reader = Reader::new(bytes, excludes_zero);
    let (mut bci, mut line) = (0i32, 0i32);
    let mut best = (-1, 0);
    loop {
        match reader.byte()? {
            0 => return Some(u32::try_from(best.1).unwrap_or(0)),
            0xff => {
                bci = bci.wrapping_add(reader.signed()?);
                line = line.wrapping_add(reader.signed()?);
            }
            byte => {
                bci = bci.wrapping_add(i32::from(byte >> 3));
                line = line.wrapping_add(i32::from(byte & 7));
            }
        }
        if bci == wanted as i32 {
            return Some(u32::try_from(line).unwrap_or(0));
        }
        if bci < wanted as i32 && bci >= best.0 {
            best = (bci, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines apply from their bytecode index up; entries need not be sorted.
    #[test]
    fn lines_of_a_table() {
        // bci 0 line 5; bci 3 line 6; escape: bci -1 (2), line +10 (16); end
        let table = [5, 3 << 3 | 1, 0xff, 1, 20, 0];
        let check = |bci, expect| assert_eq!(line(&table, bci, false), Some(expect), "{bci}");
        check(0, 5);
        check(1, 5);
        check(2, 16);
        check(3, 6);
        check(100, 6);
        assert_eq!(line(&table[..5], 100, false), None, "it does not end");
        assert_eq!(line(&[0], 0, false), Some(0));
    }
}
