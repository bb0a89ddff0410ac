//! `hotframe diff`: what changed between two recordings, and what is noise.
//!
//! In: two stored profiles. Out: a table of the functions whose share of the samples changed most,
//! on stdout; with `-o` or `--view` the differential flame graph as a page.
//!
//! Everything is a share of its own recording's samples, so recordings of any length compare.
//! A line whose change is within noise (see [`significance`]) has a `~` and is grey.
//!
//! # Cost
//! Time: one walk of each distinct stack per block of time. Memory: both profiles, and 16 bytes for
//! each function and block in which it occurs.

use crate::significance::{self, BLOCKS, Blocks};
use crate::summary::{clean, unit};
use crate::{Exit, cli, input, output, view};
use anyhow::Context as _;
use hotframe_core::profile::Profile;
use hotframe_formats::comparison::Side;
use hotframe_formats::{Comparison, Format, html, units};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Lines within noise that are shown where little changed.
const NOISE_LINES: usize = 3;

/// Runs the subcommand.
///
/// # Errors
/// A profile that cannot be read, a page that cannot be written.
pub fn run(options: &cli::Diff) -> anyhow::Result<ExitCode> {
    if let Some(path) = &options.output
        && Format::from_path(path) != Some(Format::Html)
    {
        let path = path.display();
        return Err(Exit::usage(format!("{path}: a comparison is written as .html only")));
    }
    let place = options.output.as_deref().map(output::Place::of).transpose()?;
    let dash = Path::new("-");
    if options.before == dash && options.after == dash {
        return Err(Exit::usage("only one of the two can come from stdin"));
    }
    let read = |path: &Path| {
        let profile = input::read(path, &options.read)?;
        match profile.samples.weight.iter().any(|&weight| weight > 0) {
            true => Ok(profile),
            false => anyhow::bail!("{}: it has no samples to compare", input::shown(path)),
        }
    };
    let comparison = {
        let (mut before, mut after) = (read(&options.before)?, read(&options.after)?);
        units::unify(&mut before, &mut after);
        let (a, b) = (input::shown(&options.before), input::shown(&options.after));
        let (a_is, b_is) = (unit(&before.meta), unit(&after.meta));
        if a_is != b_is {
            anyhow::bail!("{a} holds {a_is}, {b} holds {b_is}: these cannot be compared");
        }
        Comparison::new((&a, &before), (&b, &after))?
    };
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = table(&comparison, &changes(&comparison), options.top, colour);
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing to stdout")?;
    drop(stdout);
    if let Some(place) = &place {
        place.write(|mut out| Ok(html::write_comparison(&comparison, &mut out)?))?;
    }
    if options.view {
        let mut page = Vec::new();
        html::write_comparison(&comparison, &mut page)?;
        let name = format!("{} → {}", comparison.before.name, comparison.after.name);
        return view::show(vec![view::Entry::new(name, Vec::new(), page)], &options.serve, false);
    }
    Ok(ExitCode::SUCCESS)
}

/// Samples of one thing in both recordings.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    before: u64,
    after: u64,
    /// Chance of a difference as large, if nothing changed.
    p: f64,
}

/// A function, as a node of the graph: name, file and kind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    /// One of the profile's functions that it stands for.
    function: u32,
    own: Change,
    total: Change,
}

/// All functions of a comparison.
#[derive(Debug)]
struct Changes {
    rows: Vec<Row>,
    /// p-values up to this are no noise.
    bound: f64,
}

/// Samples of one function in one block of one recording.
struct Count {
    symbol: u32,
    after: bool,
    block: u8,
    own: u64,
    total: u64,
}

/// Counts and tests every function.
fn changes(comparison: &Comparison) -> Changes {
    let profile = &comparison.profile;
    let mut known = HashMap::new();
    let mut functions = Vec::new();
    let symbols: Vec<u32> = (0u32..)
        .zip(&profile.functions)
        .map(|(id, function)| {
            *known.entry((function.name, function.file, function.kind)).or_insert_with(|| {
                functions.push(id);
                functions.len() as u32 - 1
            })
        })
        .collect();

    let mut all = [[0; BLOCKS]; 2];
    let counts = counts(comparison, &symbols, functions.len(), &mut all);
    let [n_before, n_after] = [0, 1].map(|side: usize| all[side].iter().sum::<u64>());
    let times = comparison.before.times && comparison.after.times;
    let mut rows = Vec::new();
    for of_symbol in counts.chunk_by(|a, b| a.symbol == b.symbol) {
        let Some(&function) = of_symbol.first().and_then(|c| functions.get(c.symbol as usize))
        else {
            continue;
        };
        let change = |value: fn(&Count) -> u64| {
            let mut hits = [[0; BLOCKS]; 2];
            for count in of_symbol {
                hits[usize::from(count.after)][usize::from(count.block)] += value(count);
            }
            let [before, after] = [0, 1].map(|side: usize| hits[side].iter().sum::<u64>());
            let exact = significance::fisher(before, n_before, after, n_after);
            let blocks = |side: usize| Blocks { hits: &hits[side], all: &all[side] };
            let p =
                if times { exact.max(significance::welch(blocks(0), blocks(1))) } else { exact };
            Change { before, after, p }
        };
        rows.push(Row {
            function,
            own: change(|count| count.own),
            total: change(|count| count.total),
        });
    }
    let hits = rows
        .iter()
        .flat_map(|row| [row.own, row.total])
        .map(|change| change.before + change.after)
        .filter(|&hits| hits > 0);
    let bound = significance::bound(hits, n_before, n_after);
    Changes { rows, bound }
}

/// Samples by function, recording and block, in order of the function; those of all in `all`.
fn counts(
    comparison: &Comparison,
    symbols: &[u32],
    n_symbols: usize,
    all: &mut [[u64; BLOCKS]; 2],
) -> Vec<Count> {
    let profile = &comparison.profile;
    let samples = &profile.samples;
    let block = |time_ns: u64, side: &Side| {
        let part = u128::from(time_ns) * BLOCKS as u128 / u128::from(side.duration_ns.max(1));
        part.min(BLOCKS as u128 - 1) as u8
    };
    let mut stacks: Vec<(bool, u8, u32, u64)> = (0..samples.stack.len())
        .map(|i| {
            let after = comparison.is_after(i);
            let side = if after { &comparison.after } else { &comparison.before };
            (after, block(samples.time_ns[i], side), samples.stack[i], samples.weight[i].into())
        })
        .collect();
    stacks.sort_unstable();
    let mut own = vec![0; n_symbols];
    let mut total = vec![0; n_symbols];
    let mut seen = vec![0; n_symbols];
    let mut stamp = 0u32;
    let mut counts = Vec::new();
    for part in stacks.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let mut touched = Vec::new();
        let Some(&(after, block, ..)) = part.first() else { continue };
        for same in part.chunk_by(|a, b| a.2 == b.2) {
            let weight: u64 = same.iter().map(|&(.., weight)| weight).sum();
            all[usize::from(after)][usize::from(block)] += weight;
            stamp += 1;
            let stack = same.first().map_or(0, |&(_, _, stack, _)| stack);
            for (depth, symbol) in
                profile.walk(stack).map(|f| symbol(profile, symbols, f)).enumerate()
            {
                let at = symbol as usize;
                if own[at] == 0 && total[at] == 0 {
                    touched.push(symbol);
                }
                if depth == 0 {
                    own[at] += weight;
                }
                if seen[at] != stamp {
                    seen[at] = stamp;
                    total[at] += weight;
                }
            }
        }
        for symbol in touched {
            let at = symbol as usize;
            let (own, total) = (std::mem::take(&mut own[at]), std::mem::take(&mut total[at]));
            if total > 0 {
                counts.push(Count { symbol, after, block, own, total });
            }
        }
    }
    counts.sort_unstable_by_key(|count| count.symbol);
    counts
}

fn symbol(profile: &Profile, symbols: &[u32], frame: u32) -> u32 {
    symbols[profile.frames[frame as usize].function as usize]
}

/// What a person reads.
fn table(comparison: &Comparison, changes: &Changes, top: usize, colour: bool) -> String {
    let Comparison { before, after, .. } = comparison;
    let mut out = String::new();
    let cpu = |side: &Side| match side.period_ns {
        0 => String::new(),
        period => format!("  {:.2} s of CPU", side.samples as f64 * period as f64 / 1e9),
    };
    let meta = &comparison.profile.meta;
    let is_samples = meta.value_type.is_empty();
    let unit = unit(meta);
    for (what, side) in [("before", before), ("after ", after)] {
        let name = clean(&side.name, 60);
        let _ = writeln!(out, "{what}  {:>9} {unit}{}  {name}", side.samples, cpu(side));
    }
    let share = |change: &Change| {
        let percent = |part: u64, side: &Side| 100.0 * part as f64 / side.samples.max(1) as f64;
        (percent(change.before, before), percent(change.after, after))
    };
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    type Pick = fn(&Row) -> &Change;
    let sections: [(&str, Pick); 2] =
        [("own time", |row| &row.own), ("own time and that of all it calls", |row| &row.total)];
    let mut marked = 0;
    for (title, pick) in sections {
        let size = |row: &Row| {
            let (before, after) = share(pick(row));
            (after - before).abs()
        };
        let real = |row: &Row| match is_samples {
            true => pick(row).p <= changes.bound,
            false => pick(row).before != pick(row).after,
        };
        let mut rows: Vec<&Row> =
            changes.rows.iter().filter(|row| pick(row).before + pick(row).after > 0).collect();
        rows.sort_by(|a, b| {
            (real(b).cmp(&real(a)))
                .then(size(b).total_cmp(&size(a)))
                // Of equal changes the largest says most: of two equal recordings, what they do.
                .then((pick(b).before + pick(b).after).cmp(&(pick(a).before + pick(a).after)))
                .then(a.function.cmp(&b.function))
        });
        let n_real = rows.iter().filter(|row| real(row)).count();
        marked += n_real;
        let _ = writeln!(out, "\n  change    before     after  {title}");
        for row in rows.iter().take(top.min(n_real.max(NOISE_LINES))) {
            let (from, to) = share(pick(row));
            let line = format!(
                "{:>+8.2} {:>7.2} % {:>7.2} %  {}",
                to - from,
                from,
                to,
                name(&comparison.profile, row.function)
            );
            // More is red-orange, less is blue: apart for every eye.
            let line = match (real(row), to > from) {
                (true, true) => paint("38;5;208", &line),
                (true, false) => paint("38;5;39", &line),
                (false, _) => paint("2", &line),
            };
            let _ = writeln!(out, "{}{line}", if real(row) || !is_samples { " " } else { "~" });
        }
        if n_real > top {
            let _ = writeln!(out, "         and {} more: --top {n_real}", n_real - top);
        }
    }
    if !is_samples {
        let _ = writeln!(
            out,
            "\nchanges are in percentage points; {unit} are no samples: what is noise is not known"
        );
        return out;
    }
    let said = match marked {
        0 => "no function changed by more than noise",
        _ => "changes are in percentage points; ~ is within noise",
    };
    let _ = writeln!(
        out,
        "\n{said} (were nothing changed, a line without ~ would appear in 1 of {:.0} comparisons)",
        1.0 / significance::ALPHA
    );
    if !(before.times && after.times) {
        out.push_str("samples without times: bursts cannot be told from changes\n");
    }
    out
}

fn name(profile: &Profile, function: u32) -> String {
    let function = &profile.functions[function as usize];
    let module = &profile.modules[function.module as usize];
    let module = profile.strings.get(module.path);
    let module = module.rsplit('/').next().unwrap_or(module);
    let name = clean(profile.strings.get(function.name), 70);
    match module.is_empty() {
        true => name,
        false => format!("{name}  ({})", clean(module, 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Profile {
        Format::Folded.read(text.as_bytes()).expect("read")
    }

    fn compare(before: &str, after: &str) -> (Comparison, Changes) {
        let (before, after) = (folded(before), folded(after));
        let comparison = Comparison::new(("a", &before), ("b", &after)).expect("fits");
        let changes = changes(&comparison);
        (comparison, changes)
    }

    fn row(comparison: &Comparison, changes: &Changes, name: &str) -> Row {
        let text = |row: &Row| {
            let function = &comparison.profile.functions[row.function as usize];
            comparison.profile.strings.get(function.name) == name
        };
        *changes.rows.iter().find(|row| text(row)).expect("there")
    }

    /// Own and total samples of each side; recursion counts once.
    #[test]
    fn counts_by_hand() {
        let (comparison, changes) =
            compare("x;main;f;f 10\nx;main;g 5\n", "x;main;f 3\nx;main;g;f 4\nx;main 1\n");
        let f = row(&comparison, &changes, "f");
        assert_eq!((f.own.before, f.own.after, f.total.before, f.total.after), (10, 7, 10, 7));
        let g = row(&comparison, &changes, "g");
        assert_eq!((g.own.before, g.own.after, g.total.before, g.total.after), (5, 0, 5, 4));
        let main = row(&comparison, &changes, "main");
        assert_eq!((main.own.before, main.own.after), (0, 1));
        assert_eq!((main.total.before, main.total.after, main.total.p), (15, 8, 1.0));
    }

    /// Bytes are no samples: no test of significance is claimed for them.
    #[test]
    fn values_that_are_no_samples() {
        let (mut comparison, changes) =
            compare("x;f 4000\nx;g 5000\nx;h 1000\n", "x;f 7000\nx;g 2000\nx;h 1000\n");
        let meta = &mut comparison.profile.meta;
        (meta.value_type, meta.value_unit) = ("inuse_space".into(), "bytes".into());
        let said = table(&comparison, &changes, 10, false);
        assert!(said.contains("10000 bytes of inuse_space") && !said.contains('~'), "{said}");
        assert!(said.contains("what is noise is not known"), "{said}");
    }

    /// A recording twice as long has changed nothing; a function that grew is on top.
    #[test]
    fn shares_not_counts() {
        let (comparison, longer) =
            compare("x;main;f 500\nx;main;g 500\n", "x;main;f 1000\nx;main;g 1000\n");
        assert!(longer.rows.iter().all(|row| row.own.p == 1.0 && row.total.p == 1.0));
        let said = table(&comparison, &longer, 10, false);
        assert!(said.contains("no function changed by more than noise"), "{said}");
        let (comparison, grown) =
            compare("x;main;f 500\nx;main;g 500\n", "x;main;f 800\nx;main;g 200\nx;main;h 2\n");
        let said = table(&comparison, &grown, 10, false);
        let lines: Vec<&str> = said.lines().collect();
        let first = lines.iter().position(|line| line.ends_with("own time")).expect("a head") + 1;
        assert!(
            lines[first].trim_start().starts_with("-30.04") || lines[first].contains("+29.84"),
            "{said}"
        );
        assert!(lines[first].ends_with('g') || lines[first].ends_with('f'), "{said}");
        assert!(!lines[first].starts_with('~'));
        assert!(!said.contains('\x1b'));
        assert!(table(&comparison, &grown, 10, true).contains("\x1b[38;5;208m"));
    }
}
