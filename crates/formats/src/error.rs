//! What can go wrong, and where.

use std::fmt;
use std::io;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Offset from the start of the file, decompressed.
    Byte(u64),
    /// Line, from 1.
    Line(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Byte(offset) => write!(f, "byte {offset}"),
            At::Line(line) => write!(f, "line {line}"),
        }
    }
}

/// What is wrong with the content of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Stacks, but all count for nothing.
    #[error("no stack has a count above 0")]
    NoCounts,
    /// Not this format at all.
    #[error("this is not {expected}")]
    Foreign {
        /// What was looked for.
        expected: &'static str,
    },
    /// It ends in the middle.
    #[error("the file ends within {what}")]
    Truncated {
        /// What is not whole.
        what: &'static str,
    },
    /// A protobuf number of more than ten bytes.
    #[error("a number is longer than 64 bits")]
    LongVarint,
    /// A protobuf tag that no version of the encoding has.
    #[error("tag {tag:#x} is not valid")]
    Tag {
        /// Field number and wire type.
        tag: u64,
    },
    /// A known field with another wire type than its own.
    #[error("field {field} has wire type {wire}")]
    WireType {
        /// Field number.
        field: u32,
        /// Wire type.
        wire: u8,
    },
    /// An index or id that its table does not have.
    #[error("{table} has no entry {index}")]
    Index {
        /// The table.
        table: &'static str,
        /// What was looked up.
        index: i64,
    },
    /// Two entries with one id.
    #[error("{table} has two entries {id}")]
    Duplicate {
        /// The table.
        table: &'static str,
        /// The id.
        id: u64,
    },
    /// An id of 0, which means none.
    #[error("an entry of {table} has the id 0")]
    ZeroId {
        /// The table.
        table: &'static str,
    },
    /// A sample has not one value for each type.
    #[error("a sample has {found} values, expected {expected}")]
    ValueCount {
        /// Values there.
        found: usize,
        /// Values wanted.
        expected: usize,
    },
    /// A count below zero.
    #[error("a sample has the value {value}, which is negative")]
    Negative {
        /// The value.
        value: i64,
    },
    /// Nothing says what the values are.
    #[error("it has no sample type")]
    NoSampleType,
    /// None of the values is the one that was asked for.
    #[error("it has no value {wanted:?}, but {has}")]
    NoValue {
        /// What was asked for.
        wanted: String,
        /// What there is.
        has: String,
    },
    /// Not a number where one is wanted.
    #[error("{what} is not a number: {text:?}")]
    Number {
        /// What it should be.
        what: &'static str,
        /// The start of what is there.
        text: String,
    },
    /// A frame without a sample that it belongs to.
    #[error("a frame stands before the first sample's head")]
    NoHead,
    /// A line that is neither of those that the format has.
    #[error("neither the head of a sample nor a frame: {text:?}")]
    Line {
        /// The start of the line.
        text: String,
    },
    /// A line that has no count.
    #[error("no count behind {text:?}")]
    NoCount {
        /// The start of the line.
        text: String,
    },
    /// A string in JSON form that does not parse.
    #[error("{what} is not JSON: {cause}")]
    Json {
        /// Which.
        what: &'static str,
        /// The parser's words.
        cause: String,
    },
}

/// Why a profile could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output refused bytes.
    #[error("writing {format}")]
    Write {
        /// The format's name.
        format: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The input gave no bytes, or its gzip stream is broken.
    #[error("decompressing {format}, after {offset} bytes")]
    Decompress {
        /// The format's name.
        format: &'static str,
        /// Bytes that were decompressed before.
        offset: u64,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The content is wrong.
    #[error("{format}, {at}: {fault}")]
    Content {
        /// The format's name.
        format: &'static str,
        /// Where.
        at: At,
        /// What.
        fault: Fault,
    },
    /// The format is not for that.
    #[error("{format} cannot be {what}")]
    Unsupported {
        /// The format's name.
        format: &'static str,
        /// What was asked for.
        what: &'static str,
    },
    /// A page is wrong.
    #[error("page")]
    Html(
        #[source]
        #[from]
        crate::html::Error,
    ),
    /// The content is larger than the [`Limits`](crate::Limits).
    #[error("{format}: more than {limit} {what}")]
    TooLarge {
        /// The format's name.
        format: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
}

impl Error {
    /// For `map_err` on writes.
    pub fn write(format: &'static str) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Write { format, cause }
    }

    /// Nothing is known to be wrong with the file but that there is too much of it.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Error::TooLarge { .. })
    }

    /// The file was understood, but the value that was asked for is not in it.
    pub fn is_no_value(&self) -> bool {
        matches!(self, Error::Content { fault: Fault::NoValue { .. }, .. })
    }
}

/// The start of a foreign text, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}
