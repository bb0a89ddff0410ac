//! Profile → SVG.

use std::fmt::Write as _;
use std::io::Write;

use hotframe_core::profile::{Kind, Profile};

use super::NAME;
use crate::Error;
use crate::tree::Merged;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Width of the picture in pixels.
    pub width_px: u32,
    /// Width of the narrowest box in pixels.
    pub min_width_px: f64,
}

impl Default for Options {
    fn default() -> Options {
        Options { width_px: 1200, min_width_px: 0.3 }
    }
}

const ROW_PX: u32 = 17;
const TOP_PX: u32 = 34;
const MARGIN_PX: f64 = 10.0;
/// Width of a character of the 11 px monospaced font.
const CHAR_PX: f64 = 6.62;

/// Writes the picture.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, options: Options, out: &mut impl Write) -> Result<(), Error> {
    let graph = graph(profile);
    let meta = &profile.meta;
    let unit = escape(&visible(match meta.value_type.as_str() {
        "" => "samples",
        value if matches!(&*meta.value_unit, "" | "count") => value,
        _ => &meta.value_unit,
    }));
    let total = graph.node(0).weight;
    let scale = (f64::from(options.width_px) - 2.0 * MARGIN_PX) / (total.max(1) as f64);

    let mut boxes = String::new();
    let mut deepest = 0;
    // Depth first without recursion, as stacks are thousands deep: node, row, left edge in ticks.
    let mut pending = vec![(0_u32, 0_u32, 0_u64)];
    while let Some((at, row, left)) = pending.pop() {
        let node = graph.node(at);
        let width = node.weight as f64 * scale;
        if width < options.min_width_px && at != 0 {
            continue;
        }
        deepest = deepest.max(row);
        let (name, fill, title) = match node.element.checked_sub(1) {
            None => ("all".to_owned(), "#d0d4da", "all".to_owned()),
            Some(function) => {
                let function = &profile.functions[function as usize];
                let name = visible(profile.strings.get(function.name));
                let module = &profile.modules[function.module as usize];
                let module = visible(profile.strings.get(module.path));
                let title = format!("{name} [{}] {module}", function.kind.name());
                (name, colour(function.kind), title)
            }
        };
        let share = 100.0 * node.weight as f64 / total.max(1) as f64;
        let x = MARGIN_PX + left as f64 * scale;
        let y = TOP_PX + row * ROW_PX;
        let title = escape(title.trim_end());
        // Writing into a String cannot fail.
        let _ = write!(
            boxes,
            "<g><title>{title} ({} {unit}, {share:.2} %)</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" fill=\"{fill}\"/>",
            node.weight,
            ROW_PX - 1,
        );
        let n_chars = ((width - 6.0) / CHAR_PX) as usize;
        if n_chars >= 3 {
            let label = match name.chars().count() <= n_chars {
                true => name,
                false => name.chars().take(n_chars - 1).chain(['…']).collect(),
            };
            let _ = write!(
                boxes,
                "<text x=\"{:.2}\" y=\"{}\">{}</text>",
                x + 3.0,
                y + 12,
                escape(&label)
            );
        }
        boxes.push_str("</g>\n");
        let mut left = left;
        for &child in graph.children(at) {
            pending.push((child, row + 1, left));
            left += graph.node(child).weight;
        }
    }

    let height = TOP_PX + (deepest + 1) * ROW_PX + MARGIN_PX as u32;
    let width = options.width_px;
    let heading = escape(&visible(&format!(
        "{}: {total} {unit}",
        match profile.meta.command.as_str() {
            "" => "flame graph",
            command => command,
        }
    )));
    write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN_PX}\" y=\"22\" font-size=\"14\">{heading}</text>\n{boxes}</svg>\n"
    )
    .map_err(Error::write(NAME))
}

/// Stacks merged by function, with all samples at or below each node. A node's element is its
/// function's number and one; the root has 0.
fn graph(profile: &Profile) -> Merged {
    let mut graph = Merged::with_capacity(profile.stacks.len());
    // Node of each stack; parents come before their children.
    let mut of_stack = vec![0; profile.stacks.len()];
    for (i, stack) in profile.stacks.iter().enumerate().skip(1) {
        let function = profile.frames[stack.frame as usize].function;
        of_stack[i] = graph.child(of_stack[stack.parent as usize], function + 1);
    }
    for (&stack, &weight) in profile.samples.stack.iter().zip(&profile.samples.weight) {
        graph.add(of_stack[stack as usize], u64::from(weight));
    }
    drop(of_stack);
    graph.sum_up();
    graph.sort(|element| {
        let function = &profile.functions[element as usize - 1];
        (profile.strings.get(function.name), element)
    });
    graph
}

/// The page's colours (web/src/colour.ts), where they are tested for contrast and for colour vision.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "#da8f1e",
        Kind::Native => "#a2d9fe",
        Kind::Rust => "#a178d5",
        Kind::Go => "#77b5ea",
        Kind::Jvm => "#42a388",
        Kind::Cpython => "#ffe97f",
        Kind::V8js => "#bec387",
        Kind::Ruby => "#f1a6b2",
        Kind::Php => "#8b90db",
        Kind::Perl => "#7890d0",
        Kind::Beam => "#b87aab",
        Kind::Dotnet => "#ae7bc5",
        Kind::Luajit => "#7a9ce9",
        Kind::Jit => "#8dc096",
        Kind::Note => "#cdd1d6",
    }
}

/// A name on one line: what XML cannot hold or would turn the text around becomes a space.
fn visible(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    match name {
        "" => "[unknown]".to_owned(),
        name => name.chars().map(|c| if hidden(c) { ' ' } else { c }).collect(),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
