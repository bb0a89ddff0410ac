//! Weighs the frame store beside the designs it replaces: one table, the same streams.
//!
//! `hotframe-bench-frames [--json] [STREAM…]`: a stream is the name of a generated one or a capture
//! file; none means all generated ones. Each policy runs twice: without a budget, for its bytes at
//! equal names, and at a quarter of what (d) needs for the stream, for its hit rate. Bytes are the
//! program's live bytes by a counting allocator, whatever a policy accounts for itself.
#![forbid(unsafe_code)]

mod eviction;
mod lru;
mod policies;
mod stacks;
mod stream;

use std::fs::File;
use std::io::BufReader;

use anyhow::Context;
use hotframe_alloc::{Counting, total_bytes};

use policies::{ALL, Policy};
use stream::{GENERATED, Step, Stream};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Row {
    policy: &'static str,
    budget_bytes: Option<u64>,
    bytes: u64,
    accounted_bytes: Option<u64>,
    hit_rate: f64,
    others_hit_rate: f64,
    unnamed: u64,
    lookup_ns: f64,
    insert_ns: f64,
}

fn main() -> anyhow::Result<()> {
    let (options, mut names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let json = options.iter().any(|option| option == "--json");
    if let Some(unknown) = options.iter().find(|option| *option != "--json") {
        anyhow::bail!("unknown option {unknown}; usage: hotframe-bench-frames [--json] [STREAM…]");
    }
    if names.is_empty() {
        names = GENERATED.map(str::to_owned).into();
        names.push("stacks".to_owned());
    }
    for name in &names {
        if name == "stacks" {
            stacks::run(json);
            continue;
        }
        let stream = match stream::generate(name) {
            Some(stream) => stream,
            None => {
                let file = File::open(name).with_context(|| {
                    format!("{name} is neither a capture nor one of {}", GENERATED.join(", "))
                })?;
                Stream::from_capture(name, BufReader::new(file))
                    .with_context(|| format!("reading {name}"))?
            }
        };
        report(&stream, json);
    }
    Ok(())
}

fn report(stream: &Stream, json: bool) {
    let functions = stream.n_functions();
    let frames = stream.n_value_frames();
    let text_bytes = stream.text_bytes();
    if !json {
        println!(
            "\n## {}: {functions} functions, {frames} frames, {text_bytes} bytes of strings, {} \
             (process, frame) keys, {} look-ups\n",
            stream.name,
            stream.frames.len(),
            stream.steps.len()
        );
        println!(
            "| policy | budget KiB | KiB held | accounted | hit % | others' hit % | unnamed | look-up ns | insert ns |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
    }
    let mut quarter = None;
    // (d) first: its size sets the budget of the second round. (a), which has no budget to set and
    // takes long, last.
    let (slow, others) = ALL.split_at(1);
    let rounds: [Vec<_>; 3] =
        [others.iter().rev().collect(), others.iter().rev().collect(), slow.iter().collect()];
    for (round, policies) in rounds.into_iter().enumerate() {
        for (name, make) in policies {
            let budget = if round == 1 { quarter } else { None };
            let before = total_bytes();
            policies::set_scale(1.0);
            let Some(mut policy) = make(stream, budget) else { continue };
            let mut row = run(policy.as_mut(), stream, before);
            let mut scale = 1.0;
            for _ in 0..4 {
                let Some(limit) = budget.filter(|_| row.accounted_bytes.is_none()) else { break };
                let over = row.bytes as f64 / limit as f64;
                if over <= 1.02 {
                    break;
                }
                scale /= over * 1.01;
                policies::set_scale(scale);
                drop(policy);
                policy = match make(stream, budget) {
                    Some(policy) => policy,
                    None => break,
                };
                row = run(policy.as_mut(), stream, before);
            }
            row.policy = name;
            row.budget_bytes = budget;
            if quarter.is_none() {
                quarter = Some(row.bytes / 4);
            }
            print(stream, &row, json, [functions, frames, text_bytes]);
        }
    }
    let rates = eviction::compare(stream);
    if json {
        for (name, rate) in rates {
            let line = serde_json::json!({
                "stream": stream.name, "eviction": name, "entries": stream.frames.len() / 4,
                "hit_rate": rate,
            });
            println!("{line}");
        }
    } else {
        let rates: Vec<String> =
            rates.iter().map(|(name, rate)| format!("{name} {rate:.2}")).collect();
        println!("\nHit % at a quarter of the entries: {}", rates.join(", "));
    }
}

fn run(policy: &mut dyn Policy, stream: &Stream, before: u64) -> Row {
    let (mut hits, mut meets, mut others, mut others_hits) = (0u64, 0u64, 0u64, 0u64);
    let mut inserts = 0u64;
    let begin = cpu_ns();
    let mut met = vec![false; stream.frames.len()];
    for step in &stream.steps {
        match *step {
            Step::Exit(process) => policy.exit(process),
            Step::Meet(number) => {
                let Some(frame) = stream.frames.get(number as usize) else { continue };
                let hit = policy.look_up(frame);
                let first = !std::mem::replace(&mut met[number as usize], true);
                meets += 1;
                hits += u64::from(hit);
                // A process's first sight of a frame is nobody's fault.
                if !first && Some(frame.process) != stream.hog {
                    others += 1;
                    others_hits += u64::from(hit);
                }
                if !hit {
                    policy.insert(frame, stream);
                    inserts += 1;
                }
            }
        }
    }
    let pass_ns = cpu_ns() - begin;
    let bytes = total_bytes() - before - stream.frames.len() as u64;
    // Known frames only, in the stream's own order.
    let sample: Vec<&stream::FrameDef> = stream
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Meet(number) => stream.frames.get(*number as usize),
            Step::Exit(_) => None,
        })
        .take(1_000_000)
        .filter(|frame| policy.look_up(frame))
        .collect();
    let mut medians: Vec<f64> = (0..5)
        .map(|_| {
            let begin = cpu_ns();
            let found = sample.iter().filter(|frame| policy.look_up(frame)).count();
            std::hint::black_box(found);
            (cpu_ns() - begin) as f64 / sample.len().max(1) as f64
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    // What an export right after the stream's last 10,000 steps would lack.
    let unnamed = stream
        .steps
        .iter()
        .rev()
        .take(10_000)
        .filter_map(|step| match step {
            Step::Meet(number) => stream.frames.get(*number as usize),
            Step::Exit(_) => None,
        })
        .filter(|frame| !policy.has_name(frame))
        .count() as u64;
    Row {
        policy: "",
        budget_bytes: None,
        bytes,
        accounted_bytes: policy.accounted_bytes(),
        hit_rate: 100.0 * hits as f64 / meets.max(1) as f64,
        others_hit_rate: 100.0 * others_hits as f64 / others.max(1) as f64,
        unnamed,
        lookup_ns: medians[2],
        // What the pass took beyond its look-ups.
        insert_ns: (pass_ns as f64 - medians[2] * meets as f64).max(0.0) / inserts.max(1) as f64,
    }
}

/// CPU time of this thread, ns: other programs on the machine do not count. Falls back to the wall
/// clock where the kernel has no schedstat.
pub fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match text.split(' ').next().and_then(|ns| ns.parse().ok()) {
        Some(ns) => ns,
        None => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64),
    }
}

fn print(stream: &Stream, row: &Row, json: bool, [functions, frames, text_bytes]: [usize; 3]) {
    if json {
        let line = serde_json::json!({
            "stream": stream.name, "policy": row.policy, "budget_bytes": row.budget_bytes,
            "functions": functions, "frames": frames, "string_bytes": text_bytes,
            "bytes": row.bytes, "accounted_bytes": row.accounted_bytes,
            "hit_rate": row.hit_rate, "others_hit_rate": row.others_hit_rate,
            "unnamed": row.unnamed, "lookup_ns": row.lookup_ns, "insert_ns": row.insert_ns,
        });
        println!("{line}");
        return;
    }
    let kib = |bytes: u64| (bytes / 1024).to_string();
    println!(
        "| {} | {} | {} | {} | {:.2} | {:.2} | {} | {:.0} | {:.0} |",
        row.policy,
        row.budget_bytes.map_or("–".to_owned(), kib),
        kib(row.bytes),
        row.accounted_bytes.map_or("–".to_owned(), kib),
        row.hit_rate,
        row.others_hit_rate,
        row.unnamed,
        row.lookup_ns,
        row.insert_ns,
    );
}
