//! JSON texts into a stream; the rest of JSON the writers spell themselves.

use std::io::{self, Write};

/// A quoted, escaped text.
pub(crate) fn text(out: &mut impl Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}
