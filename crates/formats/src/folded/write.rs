//! Profile → folded text.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

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

/// Writes the folded form. Lines are sorted as rows of numbers, four bytes an element: as text
/// they would fill memory, since each repeats its callers' names.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let mut elements = Elements::default();
    let mut of_function = vec![None; profile.functions.len() * 2];
    let mut lines: Vec<(Box<[u32]>, u64)> = Vec::new();
    let mut frames = Vec::new();
    let mut line = Vec::new();
    for (stack, thread, count) in aggregate(profile) {
        let comm = profile.threads[thread as usize].comm;
        line.clear();
        line.push(elements.number(clean(profile.strings.get(comm))));
        outermost_first(profile, stack, &mut frames);
        for &frame in &frames {
            let frame = &profile.frames[frame as usize];
            let inlined = frame.flags & FRAME_INLINED != 0;
            let known = &mut of_function[frame.function as usize * 2 + usize::from(inlined)];
            line.push(*known.get_or_insert_with(|| {
                let function = &profile.functions[frame.function as usize];
                let mut name = clean(profile.strings.get(function.name));
                if options.annotate {
                    name.push_str(annotation(function.kind, inlined));
                }
                elements.number(name)
            }));
        }
        lines.push((line.as_slice().into(), count));
    }

    let ranks = elements.ranks();
    // Until here numbers are in order of first use: now a line becomes its elements' ranks.
    for (line, _) in &mut lines {
        let last = line.len() - 1;
        for (i, element) in line.iter_mut().enumerate() {
            *element = ranks.of[*element as usize * 2 + usize::from(i == last)];
        }
    }
    lines.sort_unstable();
    let mut lines = lines.into_iter().peekable();
    while let Some((line, mut count)) = lines.next() {
        while let Some((_, more)) = lines.next_if(|next| next.0 == line) {
            count += more;
        }
        for (i, &rank) in line.iter().enumerate() {
            let end = if i + 1 == line.len() { " " } else { ";" };
            let text = &elements.texts[ranks.element[rank as usize] as usize];
            write!(out, "{text}{end}").map_err(Error::write(NAME))?;
        }
        writeln!(out, "{count}").map_err(Error::write(NAME))?;
    }
    Ok(())
}

/// The texts between the semicolons, each once.
#[derive(Default)]
struct Elements {
    texts: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u32>,
}

/// The places of the elements in the order of bytes, as an inner one and as the last of a line:
/// an inner one is followed by `;`, which sorts among the letters of longer names, the last one
/// by nothing, which sorts before all.
struct Ranks {
    /// By element × 2 + whether it is the last.
    of: Vec<u32>,
    /// The element of a rank.
    element: Vec<u32>,
}

impl Elements {
    fn number(&mut self, text: String) -> u32 {
        let text: Arc<str> = text.into();
        let next = self.texts.len() as u32;
        *self.index.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    fn ranks(&self) -> Ranks {
        let mut order: Vec<u32> = (0..self.texts.len() as u32 * 2).collect();
        let key = |&place: &u32| {
            let end: &[u8] = if place % 2 == 0 { b";" } else { b"" };
            (self.texts[place as usize / 2].bytes()).chain(end.iter().copied())
        };
        order.sort_unstable_by(|left, right| key(left).cmp(key(right)));
        let mut of = vec![0; order.len()];
        for (rank, &place) in order.iter().enumerate() {
            of[place as usize] = rank as u32;
        }
        let element = order.into_iter().map(|place| place / 2).collect();
        Ranks { of, element }
    }
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
fn clean(name: &str) -> String {
    if name.is_empty() {
        return "[unknown]".to_owned();
    }
    (name.chars())
        .map(|c| match c {
            ';' => ':',
            '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}
