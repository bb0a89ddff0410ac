//! `name FILE < ADDRESSES`: hexadecimal ELF addresses in, one a line; names out as
//! `addr2line -a -i -f` prints them, then time, peak memory and problems on stderr.

use std::fs::File;
use std::io::BufRead;
use std::time::Instant;

use hotframe_symbols::{Context, Debuginfod, symbolize};

fn main() {
    let path = std::env::args().nth(1).expect("usage: name FILE < ADDRESSES");
    let mut addresses: Vec<u64> = std::io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .filter_map(|l| u64::from_str_radix(l.trim().trim_start_matches("0x"), 16).ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let file = File::open(&path).expect("the file opens");
    let mut context = Context::new(&path);
    context.debuginfod = Debuginfod::from_environment();
    let begin = Instant::now();
    let mut lines = vec![String::new(); addresses.len()];
    let report = symbolize(&file, &context, &addresses, &mut |index, frames| {
        for frame in frames {
            let file = frame.file.as_deref().unwrap_or("??");
            lines[index] += &format!("{}\n{file}:{}\n", frame.name, frame.line);
        }
    });
    let elapsed = begin.elapsed();
    for (address, lines) in addresses.iter().zip(lines) {
        print!("0x{address:016x}\n{}", if lines.is_empty() { "??\n??:0\n" } else { &lines });
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default();
    eprintln!("{} of {} in {elapsed:?}, {peak}", report.n_named, addresses.len());
    eprintln!("go {}, dwarf {}, {:?}", report.n_go, report.n_dwarf, report.debug_file);
    for problem in &report.problems {
        eprintln!("{problem}: {problem:?}");
    }
}
