//! What is said on stderr.
//!
//! Nobody need listen: a terminal that is closed, `2>&1 | head` and a full disk under `2> log` refuse
//! what is written. That ends no recording, as `eprintln!` would, which panics.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Goes to the line's beginning and empties it.
const EMPTY: &str = "\r\x1b[K";

/// A progress line stands on the terminal: what is said next takes its place.
static HAS_PROGRESS: AtomicBool = AtomicBool::new(false);

/// Says a line.
pub fn line(text: Arguments<'_>) {
    part(format_args!("{text}\n"));
}

/// Says a part of a line, or several lines.
pub fn part(text: Arguments<'_>) {
    say(&mut std::io::stderr().lock(), &HAS_PROGRESS, text, false);
}

/// Says how far something is, in the place of what was said so last. Only to a terminal.
pub fn progress(text: Arguments<'_>) {
    say(&mut std::io::stderr().lock(), &HAS_PROGRESS, text, true);
}

/// Takes away what [`progress`] said.
pub fn end_progress() {
    part(format_args!(""));
}

fn say(to: &mut impl Write, has_progress: &AtomicBool, text: Arguments<'_>, is_progress: bool) {
    let empty = if has_progress.swap(is_progress, Ordering::Relaxed) { EMPTY } else { "" };
    let _ = to.write_fmt(format_args!("{empty}{text}")).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line takes the place of a progress line, and does not stand behind it.
    #[test]
    fn a_line_after_progress() {
        let (mut said, has_progress) = (Vec::new(), AtomicBool::new(false));
        say(&mut said, &has_progress, format_args!("1 of 2"), true);
        say(&mut said, &has_progress, format_args!("2 of 2"), true);
        say(&mut said, &has_progress, format_args!("aborted\n"), false);
        say(&mut said, &has_progress, format_args!("more\n"), false);
        let expect = "1 of 2\r\x1b[K2 of 2\r\x1b[Kaborted\nmore\n";
        assert_eq!(String::from_utf8_lossy(&said), expect);
    }
}
