//! What a person reads at the end: the hottest functions and processes, and the books.

use hotframe_abi as abi;
use hotframe_core::profile::{Kind, Meta, Profile};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// Lines of each table.
const TOP: usize = 10;
/// Columns of a table's figures.
const FIGURES: usize = 19;
/// Columns at most of a function's name, and of what it is in.
const NAME: usize = 60;
const MODULE: usize = 30;
/// Columns of both on the narrowest terminal: less would tell nothing, and lines are broken there.
const NAMES_MIN: usize = 20;

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// What a profile's weights are sums of: `samples`, or a foreign profile's `bytes of inuse_space`.
pub fn unit(meta: &Meta) -> String {
    match (meta.value_type.as_str(), meta.value_unit.as_str()) {
        ("", _) => "samples".to_owned(),
        (value, "" | "count") => clean(value, 60),
        (value, unit) => clean(&format!("{unit} of {value}"), 60),
    }
}

/// Makes text safe for a terminal: no control characters, bounded.
pub(crate) fn clean(text: &str, width: usize) -> String {
    let mut out: String =
        text.chars().map(|c| if c.is_control() { '?' } else { c }).take(width + 1).collect();
    if out.chars().count() > width {
        out = out.chars().take(width - 1).chain(['…']).collect();
    }
    out
}

/// A function and what it is in, in so many columns where possible.
fn function(name: &str, module: &str, columns: usize) -> String {
    let columns = columns.max(NAMES_MIN);
    let module = clean(module, MODULE.min(columns / 3));
    let punctuation = "  ()".len();
    let name = clean(name, NAME.min(columns - punctuation - module.chars().count()));
    format!("{name}  ({module})")
}

/// The summary of a profile and its books, to be read on a terminal of so many columns, if on one.
pub fn summary(profile: &Profile, stats: &Value, columns: Option<usize>) -> String {
    let mut out = String::new();
    let total = profile.samples.weight.iter().map(|&weight| u64::from(weight)).sum();
    functions(&mut out, profile, total, columns.unwrap_or(usize::MAX));
    processes(&mut out, profile, total);
    books(&mut out, stats);
    cost(&mut out, stats);
    memory(&mut out, stats);
    out
}

/// A number of the books; 0: it is not there.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Where samples end most, with what they call.
fn functions(out: &mut String, profile: &Profile, total: u64, columns: usize) {
    let mut own: HashMap<u32, u64> = HashMap::new();
    let mut whole: HashMap<u32, u64> = HashMap::new();
    // A copy of two columns rather than a map of stacks, of which nearly every sample may have one.
    let mut stacks: Vec<(u32, u32)> =
        profile.samples.stack.iter().copied().zip(profile.samples.weight.iter().copied()).collect();
    stacks.sort_unstable();
    let mut seen = HashSet::new();
    for same in stacks.chunk_by(|a, b| a.0 == b.0) {
        let stack = same[0].0;
        let weight: u64 = same.iter().map(|&(_, weight)| u64::from(weight)).sum();
        seen.clear();
        for (depth, frame) in profile.walk(stack).enumerate() {
            let function = profile.frames[frame as usize].function;
            if depth == 0 {
                *own.entry(function).or_default() += weight;
            }
            if seen.insert(function) {
                *whole.entry(function).or_default() += weight;
            }
        }
    }
    let mut functions: Vec<(u32, u64)> = own.into_iter().collect();
    functions.sort_by_key(|&(function, weight)| (std::cmp::Reverse(weight), function));
    let _ = writeln!(out, "     own    total  hottest functions");
    for &(function, weight) in functions.iter().take(TOP) {
        let facts = &profile.functions[function as usize];
        let module = profile.strings.get(profile.modules[facts.module as usize].path);
        let module = module.rsplit('/').next().unwrap_or(module);
        // Code of a runtime may be in no file: its kind says more than nothing.
        let module = if module.is_empty() {
            facts.kind.name()
        } else if facts.kind == Kind::Kernel && module.starts_with("[kernel") {
            "kernel"
        } else {
            module
        };
        let _ = writeln!(
            out,
            "{:>6.1} % {:>6.1} %  {}",
            percent(weight, total),
            percent(whole.get(&function).copied().unwrap_or(0), total),
            self::function(
                profile.strings.get(facts.name),
                module,
                columns.saturating_sub(FIGURES)
            ),
        );
    }
}

/// Which processes were sampled most, and how much of their stacks is whole.
fn processes(out: &mut String, profile: &Profile, total: u64) {
    let mut processes: HashMap<u32, u64> = HashMap::new();
    for (&thread, &weight) in profile.samples.thread.iter().zip(&profile.samples.weight) {
        let process = profile.threads[thread as usize].process;
        *processes.entry(process).or_default() += u64::from(weight);
    }
    let mut processes: Vec<(u32, u64)> = processes.into_iter().collect();
    processes.sort_by_key(|&(process, weight)| (std::cmp::Reverse(weight), process));
    let _ = writeln!(out, " samples    whole  hottest processes");
    for &(process, weight) in processes.iter().take(TOP) {
        let facts = &profile.processes[process as usize];
        let _ = writeln!(
            out,
            "{:>6.1} % {:>6.1} %  {} ({})",
            percent(weight, total),
            percent(facts.whole, facts.samples),
            clean(profile.strings.get(facts.comm), 20),
            facts.pid
        );
    }
}

/// What became of the samples.
fn books(out: &mut String, stats: &Value) {
    let emitted = number(&stats["samples_emitted"]);
    let cut: Vec<String> = abi::CUT_NAMES
        .iter()
        .skip(1)
        .filter(|name| number(&stats["stacks_cut"][**name]) > 0)
        .map(|name| format!("{} {}", number(&stats["stacks_cut"][*name]), name))
        .collect();
    let lost: u64 = stats["samples_lost"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .map(number)
        .sum();
    let (frames, named) = stats["frames"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .fold((0, 0), |(total, sum), kind| {
            (total + number(&kind["total"]), sum + number(&kind["named"]))
        });
    let _ = writeln!(
        out,
        "{emitted} samples: {:.1} % whole stacks{}; {:.1} % of frames named; {} of {} ticks missed, {lost} samples lost",
        percent(number(&stats["stacks_whole"]), emitted),
        if cut.is_empty() { String::new() } else { format!(" (cut: {})", cut.join(", ")) },
        percent(named, frames),
        number(&stats["ticks_missed"]),
        number(&stats["ticks_expected"]),
    );
    let refused = number(&stats["pids_refused"]);
    if refused > 0 {
        let max = abi::HF_MAX_PIDS;
        let _ = writeln!(
            out,
            "{refused} children were not recorded, nor theirs: the filter holds {max} processes at a time"
        );
    }
    if let Some(line) = audit(&stats["audit"]) {
        let _ = writeln!(out, "{line}");
    }
}

/// What hotframe took itself.
fn cost(out: &mut String, stats: &Value) {
    let agent = &stats["agent"];
    let float = |value: &Value| value.as_f64().unwrap_or(0.0);
    let _ = writeln!(
        out,
        "hotframe itself: {:.2} s of CPU and {:.3} s in the kernel's programs; {:.0} MiB at most, maps {:.0} MiB",
        float(&agent["cpu_user_seconds"]) + float(&agent["cpu_system_seconds"]),
        number(&stats["bpf"]["run_ns"]) as f64 / 1e9,
        number(&agent["rss_peak_bytes"]) as f64 / f64::from(1 << 20),
        number(&agent["map_bytes"]) as f64 / f64::from(1 << 20),
    );
}

/// Who held the memory, and what was given up for its limit.
fn memory(out: &mut String, stats: &Value) {
    let empty = serde_json::Map::new();
    let owners = stats["memory"].as_object().unwrap_or(&empty);
    let peak = |figures: &Value| number(&figures["peak_bytes"]);
    let mut largest: Vec<(&String, u64)> =
        owners.iter().map(|(owner, figures)| (owner, peak(figures))).collect();
    largest.sort_by_key(|&(owner, bytes)| (std::cmp::Reverse(bytes), owner));
    let largest: Vec<String> = largest
        .iter()
        .take(3)
        .map(|(owner, bytes)| format!("{owner} {:.1}", *bytes as f64 / f64::from(1 << 20)))
        .collect();
    let sum = |figure: &str| owners.values().map(|one| number(&one[figure])).sum::<u64>();
    let _ = writeln!(
        out,
        "memory: limit {:.0} MiB; most by {}; {} evictions, {} refusals{}",
        number(&stats["budget_bytes"]) as f64 / f64::from(1 << 20),
        largest.join(", "),
        sum("evictions"),
        sum("refused"),
        match number(&stats["spilled"]["segments"]) {
            0 => String::new(),
            n => format!(
                "; {n} parts of {:.0} MiB put away on disk{}",
                number(&stats["spilled"]["bytes"]) as f64 / f64::from(1 << 20),
                match stats["spilled"]["by_function"] == true {
                    true => ", read back by function, without lines",
                    false => "",
                }
            ),
        },
    );
}

/// What an audit found, if one was asked for and had samples: also why it found nothing.
fn audit(books: &Value) -> Option<String> {
    let checked = number(&books["checked"]);
    let reasons = books["not_judged"].as_object().into_iter().flatten();
    let reasons: Vec<(&String, u64)> = reasons.map(|(why, n)| (why, number(n))).collect();
    let n_left: u64 = reasons.iter().map(|(_, n)| n).sum();
    if checked + n_left == 0 {
        return None;
    }
    let mut line = format!(
        "audit: {checked} samples compared with an independent unwinder, {} agree",
        number(&books["agreed"])
    );
    if n_left > 0 {
        let reasons: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
        let _ = write!(line, "; {n_left} that it cannot judge: {}", reasons.join(", "));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An audit that compares nothing says why.
    #[test]
    fn audits() {
        let said = |books| audit(&books);
        assert_eq!(said(serde_json::json!({"checked": 0, "agreed": 0, "not_judged": {}})), None);
        assert_eq!(
            said(serde_json::json!({"checked": 0, "not_judged": {"no .eh_frame": 9}})).as_deref(),
            Some(
                "audit: 0 samples compared with an independent unwinder, 0 agree; \
                 9 that it cannot judge: 9 no .eh_frame"
            )
        );
    }

    /// Children that the filter had no room for are said, and nothing is where it had.
    #[test]
    fn refused_children() {
        let text = |books| summary(&Profile::default(), &books, None);
        let said = "7 children were not recorded, nor theirs: the filter holds 16384 processes";
        assert!(text(serde_json::json!({"pids_refused": 7})).contains(said));
        assert!(!text(serde_json::json!({"pids_refused": 0})).contains("not recorded"));
    }

    /// A line is no wider than the terminal, and a wide one cuts nothing that need not be.
    #[test]
    fn functions_in_columns() {
        let (name, module) = ("n".repeat(70), "m".repeat(40));
        for columns in [NAMES_MIN, 21, 61, 93, 94] {
            assert_eq!(function(&name, &module, columns).chars().count(), columns);
        }
        assert_eq!(function(&name, &module, usize::MAX).chars().count(), NAME + MODULE + 4);
        assert_eq!(function("main", "libc.so.6", 61), "main  (libc.so.6)");
        assert_eq!(function(&name, "libc.so.6", 0), "nnnnnnnnn…  (libc.…)");
    }

    /// Names that would move the cursor are shown as text, and long ones are cut.
    #[test]
    fn clean_names() {
        assert_eq!(super::clean("a\x1b[2Jb", 20), "a?[2Jb");
        assert_eq!(super::clean("abcdef", 4), "abc…");
    }
}
