//! Prints the unwind rows of a file, or how fast they are made: `rows FILE [BLOCK]`.
use std::fs::File;
use std::time::Instant;

use hotframe_objects::{ElfFile, RowSource};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: rows FILE [BLOCK]")?;
    let mut source = RowSource::new(ElfFile::open(File::open(&path)?)?)?;
    if let Some(n) = args.next() {
        let n: u32 = n.parse()?;
        let block = source.block(n)?;
        let low = source.file().image_base() + (u64::from(n) << 16);
        for row in &block.rows {
            let pc = low + u64::from(row.pc);
            println!("{pc:#x} kind {:#x} fp {} cfa {}", row.kind, row.fp, row.cfa);
        }
        println!("{:#?}\n{:?}", block.rules, block.stats);
        return Ok(());
    }
    let start = Instant::now();
    let (mut n_rows, mut n_rules, mut n_bad, mut max_rows) = (0, 0, 0, 0);
    let mut kinds = [0usize; 16];
    let (mut fdes, mut bad_fdes, mut inexpressible, mut corrected) = (0, 0, 0, 0);
    for n in 0..source.n_blocks() {
        let block = source.block(n)?;
        n_rows += block.rows.len();
        max_rows = max_rows.max(block.rows.len());
        n_rules += block.rules.len();
        for row in &block.rows {
            kinds[usize::from(row.kind & 15)] += 1;
            n_bad += usize::from(row.kind & 15 == 7);
        }
        fdes += block.stats.fdes;
        bad_fdes += block.stats.bad_fdes;
        corrected += block.stats.corrected;
        inexpressible += block.stats.inexpressible;
    }
    let took = start.elapsed();
    println!(
        "{n_rows} rows in {} blocks (most {max_rows}), {n_rules} side rules, {n_bad} bad, {took:.1?}: {:.1} M rows/s, {} bytes held",
        source.n_blocks(),
        n_rows as f64 / took.as_secs_f64() / 1e6,
        source.heap_bytes()
    );
    println!(
        "kinds {kinds:?}; fdes {fdes}, bad {bad_fdes}, inexpressible {inexpressible}, corrected {corrected}"
    );
    Ok(())
}
