//! What is said on stderr.
//!
//! Nobody need listen: a terminal that is closed, `2>&1 | head` and a full disk under `2> log` refuse
//! what is written. That ends no recording, as `eprintln!` would, which panics.

use std::ffi::OsStr;
use std::fmt::Arguments;
use std::io::{IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Goes to the line's beginning and empties it.
const EMPTY: &str = "\r\x1b[K";

/// A progress line stands on the terminal: what is said next takes its place.
static HAS_PROGRESS: AtomicBool = AtomicBool::new(false);

/// Whether [`progress`] can be shown: to a terminal, and one that can empty a line.
pub fn shows_progress() -> bool {
    can_empty_a_line(std::io::stderr().is_terminal(), std::env::var_os("TERM").as_deref())
}

/// An editor's shell calls its terminal dumb, or by no name, and shows what [`EMPTY`] is as it stands.
fn can_empty_a_line(is_terminal: bool, name: Option<&OsStr>) -> bool {
    is_terminal && name.is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// Columns of the terminal that is written to, if it is one that says so.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

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

    /// Progress is shown only where the line that it stands on can be emptied.
    #[test]
    fn terminals() {
        let shown =
            |is_terminal, name: Option<&str>| can_empty_a_line(is_terminal, name.map(OsStr::new));
        assert!(shown(true, Some("xterm")));
        for (is_terminal, name) in
            [(false, Some("xterm")), (true, Some("dumb")), (true, Some("")), (true, None)]
        {
            assert!(!shown(is_terminal, name), "{is_terminal} {name:?}");
        }
    }

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
