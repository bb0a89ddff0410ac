//! JSON texts into a stream; the rest of JSON the writers spell themselves. And how much is read.

use std::io::{self, Write};

/// The most bytes of JSON that are read: in memory it takes up to 16 times as much. The books of a
/// recording are some kilobytes.
pub(crate) const MAX_BYTES: usize = 16 << 20;

/// A quoted, escaped text.
pub(crate) fn text(out: &mut impl Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}
