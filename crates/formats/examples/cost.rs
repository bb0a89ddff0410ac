//! What each format costs: `cargo run --release -p hotframe-formats --example cost`. Prints bytes,
//! and the median of five times to write and to read, of 100,000 stacks 60 frames deep.

use std::time::{Duration, Instant};

use hotframe_formats::{Format, canonical, synthetic};

fn main() {
    let shape = synthetic::Shape {
        processes: 20,
        threads: 4,
        stacks: 100_000,
        depth: 60,
        samples: 200_000,
    };
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
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
