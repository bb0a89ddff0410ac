//! Loads every variant of the kernel half and prints what the verifier said: `make verify`.

use hotframe_abi as abi;
use hotframe_bpf::{Config, Fallbacks, Kernel};
use zerocopy::FromZeros as _;

fn main() {
    let mut failed = false;
    println!(
        "{:<28} {:<14} {:>8} {:>10} {:>9}",
        "variant", "program", "insns", "verified", "load ms"
    );
    for (name, force) in [
        ("arena, bpf_loop", Fallbacks::default()),
        ("arena, tail calls", Fallbacks { tail_calls: true, ..Default::default() }),
        ("array, bpf_loop", Fallbacks { no_arena: true, ..Default::default() }),
        ("array, tail calls", Fallbacks { tail_calls: true, no_arena: true }),
    ] {
        let mut settings = abi::hf_config::new_zeroed();
        settings.time_cap_ns = 1_000_000;
        let config = Config {
            hz: 99,
            memory_bytes: 8 << 20,
            ring_bytes: 1 << 20,
            sideband_pages: 16,
            settings,
            force,
        };
        let began = std::time::Instant::now();
        match Kernel::load(&config) {
            Ok((mut kernel, _memory, _ring)) => {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                let print = |name: &str, facts: &hotframe_bpf::kernel::ProgramFacts, ms: f64| {
                    println!(
                        "{name:<28} {:<14} {:>8} {:>10} {ms:>9.1}",
                        facts.name, facts.instructions, facts.verified
                    );
                };
                let native = kernel.program_facts();
                native.iter().for_each(|facts| print(name, facts, ms));
                let began = std::time::Instant::now();
                // The walk is loaded anew with the steps of all runtimes.
                let all = (1 << abi::HF_RUNTIME_COUNT) - 2;
                if let Err(cause) = kernel.enable_runtimes(all) {
                    failed = true;
                    println!("{name:<28} with runtimes: {}", cause.chain());
                }
                let ms = began.elapsed().as_secs_f64() * 1e3;
                for facts in kernel.program_facts().iter().skip(native.len()) {
                    print(&format!("{name}, runtimes"), facts, ms);
                }
            }
            Err(cause) => {
                failed = true;
                println!("{name:<28} {}", cause.chain());
            }
        }
    }
    std::process::exit(failed.into());
}
