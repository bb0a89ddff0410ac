//! What is said on stderr.
//!
//! Nobody need listen: a terminal that is closed, `2>&1 | head` and a full disk under `2> log` refuse
//! what is written. That ends no recording, as `eprintln!` would, which panics.

use std::fmt::Arguments;
use std::io::Write as _;

/// Says a line.
pub fn line(text: Arguments<'_>) {
    part(format_args!("{text}\n"));
}

/// Says a part of a line, or several lines.
pub fn part(text: Arguments<'_>) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}
