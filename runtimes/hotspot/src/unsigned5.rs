//! UNSIGNED5: HotSpot's variable-length integers, in debug information and line tables.
//!
//! A value is up to five bytes, six bits each but for the last; a byte of 192 or more says that
//! another follows. Since JDK 20 no byte is zero: each is one greater.
//!
//! Source: src/hotspot/share/utilities/unsigned5.hpp @ jdk-25+36, compressedStream.cpp @ jdk-17+35.

/// Bytes of a value at most.
const BYTES_MAX: usize = 5;
/// A byte from here on is not the last.
const MORE: u32 = 192;

/// Reads values one after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What every byte is greater by: 0, or 1 since JDK 20.
    base: u32,
}

impl<'a> Reader<'a> {
    /// Begins at the first of `bytes`.
    pub fn new(bytes: &'a [u8], excludes_zero: bool) -> Reader<'a> {
        Reader { bytes, at: 0, base: excludes_zero.into() }
    }

    /// The next byte as it stands.
    pub fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// The next value; `None` at the end, or where a byte cannot stand.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut sum = 0u32;
        for n in 0..BYTES_MAX {
            let byte = u32::from(self.byte()?);
            let digit = byte.checked_sub(self.base)?;
            sum = sum.wrapping_add(digit << (6 * n));
            if byte < MORE {
                break;
            }
        }
        Some(sum)
    }

    /// The next value, whose lowest bit is its sign (`decode_sign`).
    pub fn signed(&mut self) -> Option<i32> {
        let value = self.unsigned()?;
        Some((value >> 1) as i32 ^ -((value & 1) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As unsigned5.hpp lists them: 0..190 are one byte, the largest value five.
    #[test]
    fn values() {
        let check = |bytes: &[u8], excludes_zero, expect| {
            assert_eq!(Reader::new(bytes, excludes_zero).unsigned(), expect, "{bytes:?}");
        };
        check(&[0], false, Some(0));
        check(&[191], false, Some(191));
        check(&[192, 0], false, Some(192));
        check(&[193, 0], false, Some(193));
        check(&[192, 1], false, Some(256));
        check(&[1], true, Some(0));
        check(&[191], true, Some(190));
        check(&[192, 1], true, Some(191));
        check(&[0], true, None);
        check(&[192], false, None);
        check(&[255; 4], false, None);
        // Five bytes end whatever the last one is.
        assert!(Reader::new(&[255; 9], false).unsigned().is_some());
    }

    /// The sign is the lowest bit.
    #[test]
    fn signs() {
        let mut reader = Reader::new(&[0, 1, 2, 3, 4], false);
        let all: Vec<_> = std::iter::from_fn(|| reader.signed()).collect();
        assert_eq!(all, [0, -1, 1, -2, 2]);
    }
}
