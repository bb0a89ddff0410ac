//! Weighs the frame store beside the designs it replaces: one table, the same streams.
//!
//! `hotframe-bench-frames [--json] [STREAM…]`: a stream is the name of a recorded or generated one,
//! or a capture file, gzipped or not; none means all of them. Each policy runs twice: without a
//! budget, for its bytes at equal names and its times, and at a quarter of what (d) needs for the
//! stream, for its hit rate. Bytes are the program's live bytes by a counting allocator, whatever a
//! policy accounts for itself. `--shorten FROM N TO` makes a recorded stream small enough to be
//! kept.
#![forbid(unsafe_code)]

mod eviction;
mod lru;
mod policies;
mod stacks;
mod stream;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use hotframe_alloc::{Counting, total_bytes};

use policies::{ALL, Make, Policy};
use stream::{GENERATED, Probe, Step, Stream};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a policy did with a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    bytes: u64,
    identity_bytes: Option<u64>,
    accounted_bytes: Option<u64>,
    hit_rate: f64,
    others_hit_rate: f64,
    unnamed: u64,
}

/// A policy's line of the table.
struct Row {
    policy: &'static str,
    unbounded: Pass,
    lookup_ns: f64,
    /// Of a frame that was just read, as a resolver hands it over.
    insert_ns: f64,
    /// Of a frame that has to come from memory first.
    insert_cold_ns: f64,
    /// Page faults of fresh memory, a frame inserted.
    faults: f64,
    /// None for (a), which has no budget to set.
    bounded: Option<(u64, Pass)>,
}

fn main() -> anyhow::Result<()> {
    // As `hotframe` runs: freed memory goes back, and new memory faults.
    hotframe_alloc::give_back_early();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, from, n, to] = &arguments[..]
        && option == "--shorten"
    {
        let out = flate2::write::GzEncoder::new(
            BufWriter::new(File::create(to).with_context(|| format!("creating {to}"))?),
            flate2::Compression::best(),
        );
        stream::shorten(open(Path::new(from))?, n.parse()?, out)?.finish()?;
        return Ok(());
    }
    let (options, mut names): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|arg| arg.starts_with("--"));
    let json = options.iter().any(|option| option == "--json");
    // Which policies, by how their names begin; (d), whose size sets the budgets, always.
    let only = options.iter().find_map(|option| option.strip_prefix("--only="));
    let is_known = |option: &String| option == "--json" || option.starts_with("--only=");
    if let Some(unknown) = options.iter().find(|option| !is_known(option)) {
        anyhow::bail!(
            "unknown option {unknown}; usage: hotframe-bench-frames [--json] [--only=a,b,…] [STREAM…]"
        );
    }
    let is_wanted = |policy: &str| {
        policy.starts_with("d:")
            || only.is_none_or(|only| only.split(',').any(|begin| policy.starts_with(begin)))
    };
    let recorded = recorded()?;
    if names.is_empty() {
        names.extend(recorded.iter().map(|(name, _)| name.clone()));
        names.extend(GENERATED.map(str::to_owned));
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
                let kept = recorded.iter().find(|(kept, _)| kept == name);
                let path = kept.map_or(Path::new(name), |(_, path)| path);
                Stream::from_capture(name, open(path)?)
                    .with_context(|| format!("reading {}", path.display()))?
            }
        };
        report(&stream, json, &is_wanted);
    }
    Ok(())
}

/// Streams that are kept beside this program: name and file.
fn recorded() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("streams");
    let mut found = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(".capture.gz")) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// A capture, gzipped or not.
fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| {
        format!("{} is no capture and none of {}", path.display(), GENERATED.join(", "))
    })?;
    let mut file = BufReader::new(file);
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(flate2::bufread::GzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

fn report(stream: &Stream, json: bool, is_wanted: &dyn Fn(&str) -> bool) {
    let functions = stream.n_functions();
    let frames = stream.n_value_frames();
    let text_bytes = stream.text_bytes();
    if !json {
        println!(
            "\n## {}, {}: {functions} functions, {frames} frames, {text_bytes} bytes of strings, {} \
             (process, frame) keys, {} look-ups\n",
            stream.name,
            if stream.is_recorded { "recorded" } else { "generated" },
            stream.frames.len(),
            stream.steps.len()
        );
        println!(
            "| policy | KiB, no budget | of that identity | accounted | hit % | look-up ns | \
             insert ns | from memory | page faults an insert | KiB at a budget | hit % | others' hit % | unnamed |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    }
    let probes: Vec<Probe> = stream
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Meet(number) => stream.frames.get(*number as usize)?.probe(),
            Step::Exit(_) => None,
        })
        .take(500_000)
        .collect();
    let mut quarter = 0;
    // (d) first: its size sets the budgets. (a), which takes long, last.
    for (name, make) in ALL.iter().rev().filter(|(name, _)| is_wanted(name)) {
        let Some(mut row) = weigh(make, stream, &probes) else { continue };
        row.policy = name;
        if quarter == 0 {
            quarter = row.unbounded.bytes / 4;
        }
        row.bounded = at_budget(make, stream, quarter).map(|pass| (quarter, pass));
        print(stream, &row, json, [functions, frames, text_bytes]);
    }
    if !json {
        let rates: Vec<String> = eviction::compare(stream)
            .iter()
            .map(|(name, rate)| format!("{name} {rate:.2}"))
            .collect();
        println!("\nHit % at a quarter of the entries: {}", rates.join(", "));
    }
}

/// A policy without a budget: its bytes and its times.
fn weigh(make: &Make, stream: &Stream, probes: &[Probe]) -> Option<Row> {
    let before = total_bytes();
    let mut policy = make(stream, None)?;
    let unbounded = run(policy.as_mut(), stream, before);
    let known: Vec<Probe> = probes.iter().filter(|probe| policy.probe(probe)).copied().collect();
    let lookup_ns = median(|| {
        let begin = cpu_ns();
        let found = known.iter().filter(|probe| policy.probe(probe)).count();
        std::hint::black_box(found);
        (cpu_ns() - begin) as f64 / known.len().max(1) as f64
    });
    drop(policy);
    // Every frame once, in the order in which they were met; the names are in memory already.
    let mut is_new = vec![true; stream.frames.len()];
    let firsts: Vec<&stream::FrameDef> = stream
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Meet(number) => {
                let is_new = is_new.get_mut(*number as usize)?;
                std::mem::take(is_new).then(|| &stream.frames[*number as usize])
            }
            Step::Exit(_) => None,
        })
        .collect();
    let mut n_faults = 0;
    let mut insert = |touch: fn(&stream::FrameDef, &Stream)| {
        median(|| {
            let Some(mut policy) = make(stream, None) else { return 0.0 };
            n_faults = page_faults();
            let mut ns = 0;
            // So many that reading the clock, half a microsecond, is a few ns of each.
            for batch in firsts.chunks(128) {
                batch.iter().for_each(|frame| touch(frame, stream));
                let begin = cpu_ns();
                for frame in batch {
                    policy.insert(frame, stream);
                }
                ns += cpu_ns() - begin;
            }
            n_faults = page_faults() - n_faults;
            ns as f64 / firsts.len().max(1) as f64
        })
    };
    let insert_ns = insert(read);
    let insert_cold_ns = insert(|_, _| ());
    let faults = n_faults as f64 / firsts.len().max(1) as f64;
    Some(Row { policy: "", unbounded, lookup_ns, insert_ns, insert_cold_ns, faults, bounded: None })
}

/// Reads all of a frame that an insert will.
fn read(frame: &stream::FrameDef, stream: &Stream) {
    let keys = frame.raw_keys.iter().chain(&frame.peer_keys).map(|key| key[0]);
    std::hint::black_box(frame.words.iter().copied().chain(keys).sum::<u64>());
    for name in &frame.names {
        for text in [name.name, name.file] {
            let lines = stream.text(text).iter().step_by(32);
            std::hint::black_box(lines.map(|&byte| u64::from(byte)).sum::<u64>());
        }
    }
}

/// The median of passes: at least five, and more while they are short, so that a quarter of a
/// second is measured.
fn median(mut measure: impl FnMut() -> f64) -> f64 {
    const ENOUGH_NS: u64 = 250_000_000;
    let begin = cpu_ns();
    let mut all = Vec::new();
    while all.len() < 5 || all.len() < 51 && cpu_ns() - begin < ENOUGH_NS {
        all.push(measure());
    }
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// A policy at a budget. One that counts entries is run again with as many as make it hold that.
fn at_budget(make: &Make, stream: &Stream, budget: u64) -> Option<Pass> {
    let before = total_bytes();
    let mut scale = 1.0;
    let mut best: Option<Pass> = None;
    for _ in 0..7 {
        policies::set_scale(scale);
        let mut policy = make(stream, Some(budget))?;
        let pass = run(policy.as_mut(), stream, before);
        let part = pass.bytes as f64 / budget as f64;
        let fits = part <= 1.02 || pass.accounted_bytes.is_some();
        if fits && best.is_none_or(|best| pass.hit_rate > best.hit_rate) {
            best = Some(pass);
        }
        if pass.accounted_bytes.is_some() || (0.98..=1.02).contains(&part) {
            break;
        }
        scale /= part;
    }
    best
}

fn run(policy: &mut dyn Policy, stream: &Stream, before: u64) -> Pass {
    let (mut hits, mut meets, mut others, mut others_hits) = (0u64, 0u64, 0u64, 0u64);
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
                }
            }
        }
    }
    drop(met);
    let bytes = total_bytes() - before;
    // What an export right after the stream's last 10,000 steps would lack.
    let last = stream.steps.iter().rev().take(10_000).filter_map(|step| match step {
        Step::Meet(number) => stream.frames.get(*number as usize),
        Step::Exit(_) => None,
    });
    let unnamed = last.filter(|frame| !policy.has_name(frame)).count() as u64;
    Pass {
        bytes,
        identity_bytes: policy.identity_bytes(),
        accounted_bytes: policy.accounted_bytes(),
        hit_rate: 100.0 * hits as f64 / meets.max(1) as f64,
        others_hit_rate: 100.0 * others_hits as f64 / others.max(1) as f64,
        unnamed,
    }
}

/// CPU time of this thread, ns: other programs on the machine do not count. By the thread's own
/// clock: what `/proc/thread-self/schedstat` says of a running thread moves by ticks of 4 ms.
pub fn cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Page faults of this thread without reading from disk: memory that was fresh when touched.
fn page_faults() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // Fields behind the name, which may hold spaces: state is the first, `minflt` the eighth.
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(7).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn print(stream: &Stream, row: &Row, json: bool, [functions, frames, text_bytes]: [usize; 3]) {
    let free = row.unbounded;
    let pass = row.bounded.map_or(free, |(_, pass)| pass);
    if json {
        let line = serde_json::json!({
            "stream": stream.name, "recorded": stream.is_recorded, "policy": row.policy,
            "budget_bytes": row.bounded.map(|(budget, _)| budget),
            "functions": functions, "frames": frames, "string_bytes": text_bytes,
            "bytes": pass.bytes, "hit_rate": pass.hit_rate,
            "others_hit_rate": pass.others_hit_rate, "unnamed": pass.unnamed,
            "unbounded_bytes": free.bytes, "unbounded_hit_rate": free.hit_rate,
            "identity_bytes": free.identity_bytes, "accounted_bytes": free.accounted_bytes,
            "lookup_ns": row.lookup_ns, "insert_ns": row.insert_ns,
            "insert_cold_ns": row.insert_cold_ns,
            "insert_page_faults": row.faults,
        });
        println!("{line}");
        return;
    }
    let kib = |bytes: u64| (bytes / 1024).to_string();
    let or_none = |bytes: Option<u64>| bytes.map_or("–".to_owned(), kib);
    let bounded = match row.bounded {
        Some((budget, pass)) => format!(
            "{} of {} | {:.2} | {:.2} | {}",
            kib(pass.bytes),
            kib(budget),
            pass.hit_rate,
            pass.others_hit_rate,
            pass.unnamed
        ),
        None => "– | – | – | –".to_owned(),
    };
    println!(
        "| {} | {} | {} | {} | {:.2} | {:.0} | {:.0} | {:.0} | {:.3} | {bounded} |",
        row.policy,
        kib(free.bytes),
        or_none(free.identity_bytes),
        or_none(free.accounted_bytes),
        free.hit_rate,
        row.lookup_ns,
        row.insert_ns,
        row.insert_cold_ns,
        row.faults,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    /// Bytes are the whole program's: one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    /// The kept streams are read, and what the store accounts for is what the allocator holds.
    #[test]
    fn accounted_bytes_are_held_bytes() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, make) = ALL.last().expect("policies");
        for (name, path) in recorded().expect("kept streams") {
            let from = open(&path).expect("a stream");
            let stream = Stream::from_capture(&name, from).expect("a capture");
            assert!(stream.is_recorded && stream.n_functions() > 1_000, "{name}");
            for budget in [None, Some(1 << 20)] {
                let before = total_bytes();
                let mut policy = make(&stream, budget).expect("a policy");
                let pass = run(policy.as_mut(), &stream, before);
                let part = pass.accounted_bytes.unwrap_or(0) as f64 / pass.bytes as f64;
                assert!((0.95..1.05).contains(&part), "{name}: {part}");
                assert!(budget.is_none_or(|limit| pass.accounted_bytes <= Some(limit)));
                // The store's bound: texts, 32 bytes a function, 16 a frame.
                let bound = stream.text_bytes()
                    + 32 * stream.n_functions()
                    + 16 * stream.n_value_frames()
                    + (16 << 10);
                assert!(pass.identity_bytes <= Some(bound as u64), "{name}: {pass:?} of {bound}");
            }
        }
    }

    /// A known stack and a known frame cost no allocation, however short-lived: the most that was
    /// held stays what is held. Tried again where another thread allocated meanwhile.
    #[test]
    fn what_is_known_allocates_nothing() {
        use hotframe_frames::{Budget, Config, ProcessKey, Store};
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = Store::new(&Budget::new(1 << 26), Config::default());
        let process = store.incarnation(ProcessKey { tgid: 1, start_ns: 1, exec_id: 0 });
        let words = |i: u64| [1 << 60 | i << 8, 1 << 60 | 4];
        for i in 0..5_000 {
            store.record(process, i, &words(i));
        }
        let mut known = |n: u64| {
            (0..n).all(|i| {
                store.known_stack(process, i).is_some()
                    && store.record(process, i, &words(i)) != hotframe_frames::StackId::REFUSED
                    && store.known(process, &words(i)[..1]).is_none()
            })
        };
        assert!(known(5_000));
        let is_quiet = (0..50).any(|_| {
            hotframe_alloc::reset_peak();
            let before = total_bytes();
            assert!(known(5_000));
            (hotframe_alloc::peak_bytes(), total_bytes()) == (before, before)
        });
        assert!(is_quiet);
    }

    /// What is shortened begins as the whole does.
    #[test]
    fn a_shortened_stream_is_the_beginning() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, path) = recorded().expect("kept streams").remove(0);
        let whole = Stream::from_capture(&name, open(&path).expect("a stream")).expect("a capture");
        let short = stream::shorten(open(&path).expect("a stream"), 500, Vec::new());
        let short = Stream::from_capture(&name, &short.expect("written")[..]).expect("a capture");
        let names = |stream: &Stream| -> Vec<Vec<u8>> {
            let met = stream.steps.iter().filter_map(|step| match step {
                Step::Meet(number) => stream.frames.get(*number as usize),
                Step::Exit(_) => None,
            });
            met.map(|frame| stream.text(frame.names[0].name).to_vec()).collect()
        };
        let short = names(&short);
        assert!(short.len() > 500);
        assert_eq!(short[..], names(&whole)[..short.len()]);
    }
}
