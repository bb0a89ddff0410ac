//! `hotframe explain`: what the books of a recording say, in words.
//!
//! In: a file that `record --stats` wrote. Out: tables on stdout. Figures that the file does not
//! have are shown as `-`; a file that is no books is an error that says so.

use crate::cli::Explain as Options;
use crate::{Exit, summary};
use anyhow::Context as _;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Books are a few MiB for ten thousand processes.
const BYTES_MAX: u64 = 256 << 20;

/// Runs the subcommand.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Options::Memory { file } = options;
    let open = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    if open.metadata().is_ok_and(|facts| facts.len() > BYTES_MAX) {
        return Err(Exit::usage(format!("{}: too large for books", file.display())));
    }
    let books: Value =
        serde_json::from_reader(std::io::BufReader::new(open)).with_context(|| {
            format!("reading {}: expected a file of `record --stats`", file.display())
        })?;
    let text = memory(&books)
        .ok_or_else(|| Exit::usage(format!("{}: no figures on memory in it", file.display())))?;
    std::io::stdout().write_all(text.as_bytes()).context("writing to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// What an owner is, for those who do not read the source.
fn meaning(owner: &str) -> &'static str {
    match owner {
        "frames.strings" => "names and paths, each once",
        "frames.functions" => "functions: name, file, first line",
        "frames.frames" => "lines of functions",
        "frames.chains" => "inlined calls",
        "frames.pending" => "frames that wait for a runtime's answer",
        "stacks.nodes" => "the tree of stacks",
        "stacks.by_hash" => "stacks by the kernel's hash",
        "lookup.static" => "places in files, with their names",
        "lookup.recent" => "outer frames of the last stacks",
        "lookup.dynamic" => "frames of runtimes, by process",
        "lookup.processes" => "process images the store knows",
        "lookup.tombstones" => "names of frames that were evicted",
        "recording.samples" => "samples",
        "recording.processes" => "processes and threads that were sampled",
        "tables" => "unwind rows and mappings, shared with the kernel",
        "ring" => "the ring of samples",
        "sideband" => "rings of mappings and process events",
        "kernel.maps" => "the other maps of the kernel's programs",
        "processes" => "mappings of every process",
        "files" => "files of code that are open",
        "perf_maps" => "frames in generated code",
        "runtimes.told" => "names that runtimes' steps sent ahead",
        "runtimes.kept" => "what runtimes know of their processes",
        "heap.other" => "everything else on the heap",
        "heap.allocator" => "the allocator's own and free heap",
        "code" => "hotframe itself",
        "merged" => "parts that were read back from disk",
        _ => "",
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

/// What `explain memory` says; `None` if these are no books.
fn memory(books: &Value) -> Option<String> {
    let owners = books.get("memory")?.as_object()?;
    let agent = &books["agent"];
    let mut out = format!(
        "--memory {} MiB; {} MiB resident at most, {} MiB of maps and rings\n",
        mib(number(&books["budget_bytes"])),
        mib(number(&agent["rss_peak_bytes"])),
        mib(number(&agent["map_bytes"])),
    );
    out += &table(owners);
    if let Some(stages) = books["memory_stages"].as_object() {
        let stages: Vec<String> = stages
            .iter()
            .map(|(stage, bytes)| {
                format!("{} {} MiB", summary::clean(stage, 20), mib(number(bytes)))
            })
            .collect();
        let _ = writeln!(out, "\nheap at most, by stage: {}", stages.join(", "));
    }
    if let Some(spilled) = books.get("spilled").filter(|spilled| spilled.is_object()) {
        let _ = writeln!(
            out,
            "put away on disk while recording: {} parts of {} MiB in all",
            number(&spilled["segments"]),
            mib(number(&spilled["bytes"])),
        );
    }
    let given_up = given_up(books);
    out += match given_up.as_str() {
        "" => "everything was kept: nothing was cut for want of memory\n",
        lines => lines,
    };
    Some(out)
}

/// A row an owner of memory, those that held the most first.
fn table(owners: &Map<String, Value>) -> String {
    let peak = |figures: &Value| number(figures.get("peak_bytes").unwrap_or(&figures["bytes"]));
    let mut rows: Vec<(&String, &Value)> = owners.iter().collect();
    rows.sort_by_key(|(owner, figures)| (std::cmp::Reverse(peak(figures)), *owner));
    let mut out = format!(
        "\n{:<20} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  what it is\n",
        "owner", "peak MiB", "end MiB", "entries", "hit %", "evicted", "refused"
    );
    for (owner, figures) in rows {
        let some = |name: &str| match number(&figures[name]) {
            0 => "-".to_owned(),
            n => n.to_string(),
        };
        let _ = writeln!(
            out,
            "{:<20} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9}  {}",
            summary::clean(owner, 20),
            mib(peak(figures)),
            mib(number(&figures["bytes"])),
            some("entries"),
            hit_percent(figures),
            some("evictions"),
            some("refused"),
            meaning(owner),
        );
    }
    out
}

/// Of what was looked up in a cache, how much it had.
fn hit_percent(figures: &Value) -> String {
    let hits = number(&figures["hits"]);
    let misses = figures["misses"].as_object().into_iter().flat_map(Map::values);
    match hits + misses.map(number).sum::<u64>() {
        0 => "-".to_owned(),
        all => format!("{:.1}", 100.0 * hits as f64 / all as f64),
    }
}

/// What was not kept, or not as it was, for want of memory: a line each.
fn given_up(books: &Value) -> String {
    let mut out = String::new();
    let spilled = &books["spilled"];
    for (figure, what) in [
        (&books["stacks_cut"]["budget"], "stacks were cut for want of memory"),
        (&books["names_refused"], "places have no name for want of memory"),
        (&spilled["samples_unread"], "samples could not be read back from disk"),
        (&spilled["processes_folded"], "short processes are shown as one for each command name"),
    ] {
        if number(figure) > 0 {
            let _ = writeln!(out, "{} {what}", number(figure));
        }
    }
    if spilled["by_function"] == true {
        out += "places in native and kernel code are shown by function, without lines\n";
    }
    let interval_ns = number(&spilled["interval_ns"]);
    if interval_ns > 0 {
        let _ = writeln!(
            out,
            "samples of one thread and stack within {:.1} s are shown as one with their weight",
            interval_ns as f64 / 1e9
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Owners stand in the order of what they held, and what was lost is said.
    #[test]
    fn a_table() {
        let owner = |bytes: u64, hits: u64| {
            json!({"bytes": bytes, "peak_bytes": 2 * bytes, "entries": 3, "hits": hits,
                   "misses": {"new": 1}, "evictions": 7, "refused": 0})
        };
        let books = json!({
            "budget_bytes": 60 << 20,
            "agent": {"rss_peak_bytes": 30 << 20, "map_bytes": 5 << 20},
            "memory": {"small": owner(1 << 20, 0), "frames.strings": owner(4 << 20, 3)},
            "memory_stages": {"recording": 10 << 20},
            "stacks_cut": {"budget": 5},
            "names_refused": 0,
        });
        let text = memory(&books).expect("a table");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("--memory 60.00 MiB; 30.00 MiB resident"), "{text}");
        assert!(lines[3].starts_with("frames.strings"), "{text}");
        for figure in ["8.00", "4.00", "75.0", "7"] {
            assert!(lines[3].split_whitespace().any(|field| field == figure), "{figure}: {text}");
        }
        assert!(lines[4].starts_with("small"), "{text}");
        assert!(text.contains("recording 10.00 MiB"), "{text}");
        assert!(text.contains("5 stacks were cut for want of memory"), "{text}");
        assert!(!text.contains("everything was kept"), "{text}");
        assert!(memory(&json!({"memory": {}})).expect("books").contains("everything was kept"));
        assert_eq!(memory(&json!({"samples": []})), None);
        assert_eq!(memory(&json!([1])), None);
    }
}
