//! Profile → folded text.

use std::io::Write;

use hotframe_core::profile::{FRAME_INLINED, Kind, Profile};

use super::NAME;
use crate::Error;
use crate::tree::{aggregate, outermost_first};

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether names carry `_[k]`, `_[i]`, `_[j]`.
    pub annotate: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { annotate: true }
    }
}

/// Writes the folded form.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    // An element's text is made once for each function and suffix, then copied.
    let mut names: Vec<Option<Box<str>>> = vec![None; profile.functions.len() * 2];
    let mut lines: Vec<(String, u64)> = Vec::new();
    let mut frames = Vec::new();
    for (stack, thread, count) in aggregate(profile) {
        let mut line = String::new();
        let comm = profile.threads[thread as usize].comm;
        push_clean(&mut line, profile.strings.get(comm));
        outermost_first(profile, stack, &mut frames);
        for &frame in &frames {
            let frame = &profile.frames[frame as usize];
            let inlined = frame.flags & FRAME_INLINED != 0;
            let name = names[frame.function as usize * 2 + usize::from(inlined)]
                .get_or_insert_with(|| {
                    let function = &profile.functions[frame.function as usize];
                    let mut name = String::new();
                    push_clean(&mut name, profile.strings.get(function.name));
                    if options.annotate {
                        name.push_str(annotation(function.kind, inlined));
                    }
                    name.into()
                });
            line.push(';');
            line.push_str(name);
        }
        lines.push((line, count));
    }
    lines.sort_unstable();
    let mut lines = lines.into_iter().peekable();
    while let Some((line, mut count)) = lines.next() {
        while let Some((_, more)) = lines.next_if(|next| next.0 == line) {
            count += more;
        }
        writeln!(out, "{line} {count}").map_err(Error::write(NAME))?;
    }
    Ok(())
}

/// flamegraph.pl's suffix for a frame. Kernel code says so even where it is inlined: its colour
/// is the one that people look for.
fn annotation(kind: Kind, inlined: bool) -> &'static str {
    match kind {
        Kind::Kernel => "_[k]",
        _ if inlined => "_[i]",
        Kind::Jit | Kind::Jvm | Kind::V8js | Kind::Dotnet | Kind::Luajit => "_[j]",
        _ => "",
    }
}

/// An element of a line: nothing in it can be taken for the format's own signs.
fn push_clean(line: &mut String, name: &str) {
    if name.is_empty() {
        line.push_str("[unknown]");
    }
    line.extend(name.chars().map(|c| match c {
        ';' => ':',
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    }));
}
