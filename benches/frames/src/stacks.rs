//! What a known stack costs: 10^6 stacks found by the kernel's hash, by Zipf's law and uniformly.

use std::hint::black_box;

use hotframe_frames::{Budget, Config, ProcessKey, Store};

/// Prints nanoseconds a look-up, medians of seven runs.
pub fn run(json: bool) {
    const STACKS: u64 = 1_000_000;
    let budget = Budget::new(1 << 30);
    let mut store = Store::new(&budget, Config::default());
    let process = store.incarnation(ProcessKey { tgid: 1, start_ns: 1, exec_id: 0 });
    let hash = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let begin = crate::cpu_ns();
    for i in 0..STACKS {
        // Fifteen frames, of which the outer ones are shared.
        let words: Vec<u64> = (0..15).map(|d| 1 << 60 | 7 << 32 | (i >> d) << 4 | d).collect();
        store.record(process, hash(i), &words);
    }
    let new_ns = (crate::cpu_ns() - begin) as f64 / STACKS as f64;
    let mut state = 1u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    let uniform: Vec<u64> = (0..2_000_000).map(|_| hash(random() % STACKS)).collect();
    let zipf: Vec<u64> = (0..2_000_000)
        .map(|_| {
            let unit = random() as f64 / (1u64 << 53) as f64;
            let rank = ((STACKS as f64).powf(unit) - 1.0) as u64;
            hash(rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % STACKS)
        })
        .collect();
    let mut median = |hashes: &[u64]| {
        let mut runs: Vec<f64> = (0..7)
            .map(|_| {
                let begin = crate::cpu_ns();
                for &hash in hashes {
                    black_box(store.known_stack(process, hash));
                }
                (crate::cpu_ns() - begin) as f64 / hashes.len() as f64
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        runs[3]
    };
    let (zipf_ns, uniform_ns) = (median(&zipf), median(&uniform));
    let bytes = budget.used_bytes() as f64 / STACKS as f64;
    if json {
        let line = serde_json::json!({
            "stacks": STACKS, "known_zipf_ns": zipf_ns, "known_uniform_ns": uniform_ns,
            "new_ns": new_ns, "bytes_per_stack": bytes,
        });
        println!("{line}");
    } else {
        println!(
            "\nKnown stack of 10^6, by kernel hash: {zipf_ns:.0} ns by Zipf's law, {uniform_ns:.0} ns \
             uniform; a new one of 15 frames {new_ns:.0} ns, {bytes:.0} bytes with its nodes."
        );
    }
}
