//! The wire form of protobuf messages: writing into a buffer, reading with offsets.
//!
//! In: field numbers and values; or the bytes of a message. Out: the other one. Written by hand
//! rather than generated, because writers stream messages larger than memory should hold, and
//! readers must say at which byte a hostile file is wrong; both need a few dozen fields only.
//!
//! # Sources
//! protobuf.dev/programming-guides/encoding. Groups (wire types 3 and 4) are refused: none of
//! our formats has them.

use std::borrow::Cow;

use crate::{At, Error, Fault};

/// A message being written. Zero and empty values are left out, as proto3 does.
#[derive(Debug, Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

impl Message {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn uint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            self.varint(value);
        }
    }

    /// A number of a `oneof`, which says by its presence that it is the one.
    pub(crate) fn int_present(&mut self, field: u32, value: i64) {
        self.tag(field, VARINT);
        self.varint(value as u64);
    }

    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, FIXED64);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn text(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            self.bytes_present(field, value.as_bytes());
        }
    }

    /// Bytes, a text or a message that is there even when empty.
    pub(crate) fn bytes_present(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LEN);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn message(&mut self, field: u32, message: &Message) {
        self.bytes_present(field, &message.bytes);
    }

    pub(crate) fn packed(&mut self, field: u32, values: impl Iterator<Item = u64> + Clone) {
        let len: u64 = values.clone().map(varint_len).sum();
        if len > 0 {
            self.tag(field, LEN);
            self.varint(len);
            for value in values {
                self.varint(value);
            }
        }
    }

    pub(crate) fn packed_fixed64(
        &mut self,
        field: u32,
        values: impl ExactSizeIterator<Item = u64>,
    ) {
        if values.len() > 0 {
            self.tag(field, LEN);
            self.varint(values.len() as u64 * 8);
            for value in values {
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    }

    fn tag(&mut self, field: u32, wire: u8) {
        self.varint(u64::from(field) << 3 | u64::from(wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// What stands before a message or bytes: the field's number and their length.
pub(crate) struct Head {
    message: Message,
    content_len: usize,
}

impl Head {
    pub(crate) fn new(field: u32, content_len: usize) -> Head {
        let mut message = Message::default();
        message.tag(field, LEN);
        message.varint(content_len as u64);
        Head { message, content_len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// With what it stands before.
    pub(crate) fn whole_len(&self) -> usize {
        self.message.bytes.len() + self.content_len
    }
}

fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// A message being read, field by field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    format: &'static str,
    bytes: &'a [u8],
    /// Offset of `bytes` in the file.
    offset: u64,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    format: &'static str,
    /// Where its value stands.
    offset: u64,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(&'a [u8]),
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(format: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { format, bytes, offset: 0 }
    }

    /// An error at this place.
    pub(crate) fn fault(&self, fault: Fault) -> Error {
        content(self.format, self.offset, fault)
    }

    /// The next field; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let start = self.offset;
        let tag = self.varint()?;
        let bad_tag = || content(self.format, start, Fault::Tag { tag });
        let number = u32::try_from(tag >> 3).map_err(|_| bad_tag())?;
        if number == 0 {
            return Err(bad_tag());
        }
        let mut offset = self.offset;
        let value = match (tag & 7) as u8 {
            VARINT => Value::Varint(self.varint()?),
            FIXED64 => {
                let bytes = self.take(8)?;
                Value::Fixed64(u64_le(bytes))
            }
            LEN => {
                let len = self.varint()?;
                offset = self.offset;
                Value::Len(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            FIXED32 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(bad_tag()),
        };
        Ok(Some(Field { number, format: self.format, offset, value }))
    }

    /// Calls `visit` with every field.
    pub(crate) fn each(
        mut self,
        mut visit: impl FnMut(Field<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while let Some(field) = self.field()? {
            visit(field)?;
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(self.fault(Fault::Truncated { what: "a field" }));
        };
        self.bytes = rest;
        self.offset += len as u64;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0_u64;
        for (i, &byte) in self.bytes.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 || i > 9 {
                return Err(self.fault(Fault::LongVarint));
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.take(i + 1)?;
                return Ok(value);
            }
        }
        Err(self.fault(Fault::Truncated { what: "a number" }))
    }
}

impl<'a> Field<'a> {
    /// An error at this field's value.
    pub(crate) fn fault(&self, fault: Fault) -> Error {
        content(self.format, self.offset, fault)
    }

    pub(crate) fn uint(&self) -> Result<u64, Error> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    pub(crate) fn int(&self) -> Result<i64, Error> {
        self.uint().map(|value| value as i64)
    }

    pub(crate) fn fixed64(&self) -> Result<u64, Error> {
        match self.value {
            Value::Fixed64(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    pub(crate) fn bytes(&self) -> Result<&'a [u8], Error> {
        match self.value {
            Value::Len(bytes) => Ok(bytes),
            _ => Err(self.wrong_type()),
        }
    }

    /// A text; what is not UTF-8 is replaced.
    pub(crate) fn text(&self) -> Result<Cow<'a, str>, Error> {
        self.bytes().map(String::from_utf8_lossy)
    }

    pub(crate) fn message(&self) -> Result<Reader<'a>, Error> {
        Ok(Reader { format: self.format, bytes: self.bytes()?, offset: self.offset })
    }

    /// Calls `each` for every value of a repeated number, packed or not.
    pub(crate) fn uints(
        &self,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.value {
            Value::Varint(value) => each(value),
            Value::Len(_) => {
                let mut reader = self.message()?;
                while !reader.bytes.is_empty() {
                    each(reader.varint()?)?;
                }
                Ok(())
            }
            _ => Err(self.wrong_type()),
        }
    }

    /// Likewise for `fixed64`.
    pub(crate) fn fixed64s(
        &self,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.value {
            Value::Fixed64(value) => each(value),
            Value::Len(_) => {
                let mut reader = self.message()?;
                while !reader.bytes.is_empty() {
                    each(u64_le(reader.take(8)?))?;
                }
                Ok(())
            }
            _ => Err(self.wrong_type()),
        }
    }

    fn wrong_type(&self) -> Error {
        let wire = match self.value {
            Value::Varint(_) => VARINT,
            Value::Fixed64(_) => FIXED64,
            Value::Len(_) => LEN,
            Value::Fixed32 => FIXED32,
        };
        self.fault(Fault::WireType { field: self.number, wire })
    }
}

fn content(format: &'static str, offset: u64, fault: Fault) -> Error {
    Error::Content { format, at: At::Byte(offset), fault }
}

fn u64_le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The encoding guide's own examples: 150 in field 1, "testing" in field 2, packed 3 270 86942.
    #[test]
    fn known_bytes() {
        let mut message = Message::default();
        message.uint(1, 150);
        message.text(2, "testing");
        message.packed(6, [3, 270, 86942].into_iter());
        let expected = b"\x08\x96\x01\x12\x07testing\x32\x06\x03\x8e\x02\x9e\xa7\x05";
        assert_eq!(message.as_bytes(), expected);
    }

    /// Extremes come back; a cut message says where it ends.
    #[test]
    fn extremes_and_cuts() {
        let mut message = Message::default();
        message.int_present(1, -1);
        message.fixed64(2, u64::MAX);
        message.packed(3, [0, u64::MAX, 127, 128].into_iter());
        let bytes = message.as_bytes();
        let mut reader = Reader::new("x", bytes);
        assert_eq!(reader.field().unwrap().unwrap().int().unwrap(), -1);
        assert_eq!(reader.field().unwrap().unwrap().fixed64().unwrap(), u64::MAX);
        let mut got = Vec::new();
        let packed = reader.field().unwrap().unwrap();
        packed
            .uints(|value| {
                got.push(value);
                Ok(())
            })
            .unwrap();
        assert_eq!(got, [0, u64::MAX, 127, 128]);
        assert!(reader.field().unwrap().is_none());
        for len in 1..bytes.len() {
            let mut reader = Reader::new("x", &bytes[..len]);
            let failed = loop {
                match reader.field() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(failed || [11, 20].contains(&len), "cut at {len}");
        }
        let long = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let error = Reader::new("x", &long).field().unwrap_err();
        assert_eq!(error.to_string(), "x, byte 1: a number is longer than 64 bits");
    }
}
