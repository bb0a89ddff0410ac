//! Python strings, as UTF-8.
//!
//! In: the address of a `str` object. Out: its text. Characters that stand for undecodable bytes of
//! a file's name (PEP 383: U+DC80 to U+DCFF) become those bytes again.
//!
//! # Sources
//! Include/cpython/unicodeobject.h @ v3.6.15 to v3.13.0: `PyASCIIObject`, `PyCompactUnicodeObject`.

use crate::layout::Offsets;
use crate::resolve::is_alive;
use hotframe_runtime::Memory;

/// Longest name or path that is read, in characters: PATH_MAX.
const TEXT_MAX_CHARS: u64 = 4096;

const KIND_ONE_BYTE: u32 = 1;
const KIND_TWO_BYTES: u32 = 2;
const KIND_FOUR_BYTES: u32 = 4;

/// The text of the string at `address`; `None` if that is none.
pub(crate) fn text(memory: &Memory, offsets: &Offsets, address: u64) -> Option<Vec<u8>> {
    if !is_alive(memory.u64(address)?, offsets) {
        return None;
    }
    let length = memory.u64(address.checked_add(offsets.unicode_length)?)?;
    if length > TEXT_MAX_CHARS {
        return None;
    }
    let state = memory.u32(address.checked_add(offsets.unicode_state)?)?;
    let state = state >> offsets.unicode_kind_shift;
    let (kind, is_compact, is_ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
    if !matches!(kind, KIND_ONE_BYTE | KIND_TWO_BYTES | KIND_FOUR_BYTES) {
        return None;
    }
    let data = if !is_compact {
        // A pointer to the characters follows (`PyUnicodeObject`).
        memory.u64(address.checked_add(offsets.compact_bytes)?)?
    } else if is_ascii {
        address.checked_add(offsets.ascii_bytes)?
    } else {
        address.checked_add(offsets.compact_bytes)?
    };
    let bytes = memory.bytes(data, length * u64::from(kind), TEXT_MAX_CHARS as usize * 4)?;
    let mut text = Vec::with_capacity(bytes.len());
    for character in bytes.chunks_exact(kind as usize) {
        let code = character.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte));
        if (0xdc80..=0xdcff).contains(&code) {
            text.push(code as u8);
        } else {
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::known;

    fn object(minor: u8, kind: u32, ascii: bool, characters: &[u8], length: u64) -> Memory {
        let offsets = known(minor).expect("known");
        let mut bytes = vec![0; 128];
        bytes[0] = 1;
        bytes[offsets.unicode_length as usize] = length as u8;
        let state = (kind | 8 | if ascii { 16 } else { 0 }) << offsets.unicode_kind_shift;
        let at = offsets.unicode_state as usize;
        bytes[at..at + 4].copy_from_slice(&state.to_le_bytes());
        let at = (if ascii { offsets.ascii_bytes } else { offsets.compact_bytes }) as usize;
        bytes[at..at + characters.len()].copy_from_slice(characters);
        Memory::recorded(vec![(0x1000, bytes)])
    }

    /// Each kind of string gives its text, in the layouts before and after 3.12.
    #[test]
    fn strings_of_all_kinds() {
        for minor in [6, 11, 12] {
            let offsets = known(minor).expect("known");
            let read = |memory: &Memory| text(memory, &offsets, 0x1000).expect("a text");
            assert_eq!(read(&object(minor, 1, true, b"main", 4)), b"main");
            assert_eq!(read(&object(minor, 1, false, b"na\xefve", 5)), "naïve".as_bytes());
            let two = [0xe5, 0x65, 0x2c, 0x67];
            assert_eq!(read(&object(minor, 2, false, &two, 2)), "日本".as_bytes());
            let four = [0, 0xf4, 1, 0, b'x', 0, 0, 0];
            assert_eq!(read(&object(minor, 4, false, &four, 2)), "🐀x".as_bytes());
            // A path that is no UTF-8.
            assert_eq!(read(&object(minor, 2, false, &[0xff, 0xdc, b'a', 0], 2)), b"\xffa");
        }
    }

    /// What is no string is none.
    #[test]
    fn no_string() {
        let offsets = known(11).expect("known");
        assert_eq!(text(&object(11, 3, true, b"main", 4), &offsets, 0x1000), None);
        assert_eq!(text(&object(11, 1, true, b"main", 4), &offsets, 0x2000), None);
        assert_eq!(text(&object(11, 1, true, b"main", 4), &offsets, u64::MAX), None);
        // Freed: its first word chains it.
        let mut freed = vec![0; 128];
        freed[..8].copy_from_slice(&0x7f12_3456_7890_u64.to_le_bytes());
        freed[32] = 1 << 2 | 8 << 2 | 16 << 2;
        freed[16] = 4;
        assert_eq!(text(&Memory::recorded(vec![(0x1000, freed)]), &offsets, 0x1000), None);
    }
}
