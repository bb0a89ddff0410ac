//! What each format costs: `cargo run --release -p hotframe-formats --example cost`. Prints bytes,
//! and the median of five CPU times to write and to read, of 100,000 stacks 60 frames deep; with
//! numbers as arguments, of that many `STACKS DEPTH SAMPLES`.

use std::time::Duration;

use hotframe_formats::{Format, canonical, synthetic};

fn main() {
    let given: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (stacks, depth, samples) = match given.as_slice() {
        &[stacks, depth, samples] => (stacks, depth, samples),
        _ => (100_000, 60, 200_000),
    };
    let shape = synthetic::Shape { processes: 20, threads: 4, stacks, depth, samples };
    let profile = synthetic::large(&shape);
    println!("{} stack nodes, {} samples", profile.stacks.len(), profile.samples.stack.len());
    println!("{:>10} {:>8.0?}", "canonical", median(|| drop(canonical(&profile))));
    for format in Format::ALL.into_iter().filter(|format| format.writes()) {
        let mut bytes = Vec::new();
        let write = median(|| {
            bytes.clear();
            if let Err(error) = format.write(&profile, &mut bytes) {
                println!("{error}");
            }
        });
        print!("{:>10} {:>11} bytes, written in {write:>8.0?}", format.name(), bytes.len());
        match format.reads() {
            true => println!(", read in {:>8.0?}", median(|| drop(format.read(&bytes)))),
            false => println!(),
        }
    }
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = cpu_time();
            run();
            cpu_time().saturating_sub(start)
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// What this thread has run: the first figure of its schedstat, in nanoseconds
/// (Documentation/scheduler/sched-stats.rst). Other programs' work is not in it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
