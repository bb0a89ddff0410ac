//! Profile → folded text.

use std::io::Write;

use hotframe_core::profile::{FRAME_INLINED, Kind, Profile, Strings};

use super::NAME;
use crate::Error;
use crate::tree::{Merged, aggregate, outermost_first};

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

/// Writes the folded form. Lines come sorted out of a tree of their elements: as text they would
/// fill memory, since each repeats its callers' names.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let mut elements = Strings::default();
    let mut of_function = vec![0; profile.functions.len() * 2];
    let mut tree = Merged::with_capacity(profile.stacks.len());
    let mut frames = Vec::new();
    for (stack, thread, count) in aggregate(profile) {
        let comm = profile.threads[thread as usize].comm;
        let mut at = tree.child(0, elements.intern(&clean(profile.strings.get(comm))));
        outermost_first(profile, stack, &mut frames);
        for &frame in &frames {
            let frame = &profile.frames[frame as usize];
            let inlined = frame.flags & FRAME_INLINED != 0;
            let known = &mut of_function[frame.function as usize * 2 + usize::from(inlined)];
            // No element is empty.
            if *known == 0 {
                let function = &profile.functions[frame.function as usize];
                let mut name = clean(profile.strings.get(function.name));
                if options.annotate {
                    name.push_str(annotation(function.kind, inlined));
                }
                *known = elements.intern(&name);
            }
            at = tree.child(at, *known);
        }
        tree.add(at, count);
    }
    let rank = ranks(&elements);
    tree.sort(|element| element);

    // A node is where a line ends, or what others go through: these have places of their own
    // among its siblings.
    let mut line = Vec::new();
    let mut pending = vec![(0, 0, false)];
    let mut next: Vec<(u32, u32, bool)> = Vec::new();
    while let Some((at, depth, is_end)) = pending.pop() {
        let node = tree.node(at);
        line.truncate(depth);
        if at != 0 {
            line.push(node.element);
        }
        if is_end {
            for (i, &element) in line.iter().enumerate() {
                let end = if i + 1 == line.len() { " " } else { ";" };
                write!(out, "{}{end}", elements.get(element)).map_err(Error::write(NAME))?;
            }
            writeln!(out, "{}", node.weight).map_err(Error::write(NAME))?;
            continue;
        }
        let rank_of =
            |at: u32, is_end: bool| rank[tree.node(at).element as usize * 2 + usize::from(is_end)];
        next.clear();
        for &child in tree.children(at) {
            next.push((rank_of(child, false), child, false));
            if tree.node(child).weight > 0 {
                next.push((rank_of(child, true), child, true));
            }
        }
        // The last that is pushed comes first.
        next.sort_unstable_by_key(|&(rank, ..)| std::cmp::Reverse(rank));
        let depth = line.len();
        pending.extend(next.iter().map(|&(_, child, is_end)| (child, depth, is_end)));
    }
    Ok(())
}

/// The places of the elements in the order of bytes, by element × 2 + whether it is the last of a
/// line: an inner one is followed by `;`, which sorts among the letters of longer names, the last
/// one by nothing, which sorts before all.
fn ranks(elements: &Strings) -> Vec<u32> {
    let mut order: Vec<u32> = (0..elements.len() as u32 * 2).collect();
    let key = |&place: &u32| {
        let end: &[u8] = if place % 2 == 0 { b";" } else { b"" };
        elements.get(place / 2).bytes().chain(end.iter().copied())
    };
    order.sort_unstable_by(|left, right| key(left).cmp(key(right)));
    let mut of = vec![0; order.len()];
    for (rank, &place) in order.iter().enumerate() {
        of[place as usize] = rank as u32;
    }
    of
}

/// flamegraph.pl's suffix for a frame. Kernel code says so even where it is inlined: its colour
/// is the one that people look for.
fn annotation(kind: Kind, inlined: bool) -> &'static str {
    match kind {
        Kind::Kernel => "_[k]",
        _ if inlined => "_[i]",
        Kind::Jit | Kind::Jvm | Kind::V8js | Kind::Dotnet | Kind::Luajit => "_[j]",
        Kind::Native | Kind::Rust | Kind::Go | Kind::Cpython | Kind::Ruby => "",
        Kind::Php | Kind::Perl | Kind::Beam | Kind::Note => "",
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
