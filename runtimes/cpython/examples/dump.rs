//! What is found of CPython in a process: `cargo run --example dump -- PID`.

use hotframe_cpython::{RUNTIME, abi::hf_cpython_proc};
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_runtime::{Executable, Mapping, Mappings, Memory, Naming, Process, Runtime as _};
use std::sync::Arc;
use zerocopy::FromBytes as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid: u32 = std::env::args().nth(1).ok_or("usage: dump PID")?.parse()?;
    let hex = |text: &str| u64::from_str_radix(text, 16);
    let mut mappings = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(mode), Some(pgoff)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if let (true, Some((start, end))) = (mode.contains('x'), range.split_once('-')) {
            let path = fields.nth(2).unwrap_or_default().to_owned();
            mappings.push(Mapping { start: hex(start)?, end: hex(end)?, pgoff: hex(pgoff)?, path });
        }
    }
    let memory = Memory::of(pid);
    let open = |mapping: &Mapping| {
        let file = std::fs::File::open(format!("/proc/{pid}/root{}", mapping.path)).ok()?;
        Some(Arc::new(file) as Arc<dyn ReadAt + Send + Sync>)
    };
    for mapping in mappings.iter().filter(|mapping| mapping.path.starts_with('/')) {
        let Some(file) = open(mapping) else { continue };
        let began = std::time::Instant::now();
        let Ok(elf) = ElfFile::open(&*file as &dyn ReadAt) else { continue };
        let executable = Executable { path: &mapping.path, elf: &elf };
        let Some(layout) = RUNTIME.recognise(&executable)? else { continue };
        println!("{}: {} ({:?})", mapping.path, layout.version(), began.elapsed());
        let image = elf.map_bias(mapping.start, mapping.pgoff).ok_or("no bias")?;
        let bias = image.wrapping_sub(elf.image_base());
        let make = || mappings.clone();
        let view = Mappings::new(&make);
        let naming = Naming::default();
        let known = &hotframe_runtime::NothingKnown;
        let process =
            Process { pid, bias, memory: &memory, naming, known, mappings: &view, open: &open };
        let began = std::time::Instant::now();
        let attached = layout.attach(&process)?;
        println!("attached in {:?}, {} reads", began.elapsed(), memory.reads());
        for region in attached.regions() {
            println!("loop {:#x}..{:#x}", region.start - bias, region.end - bias);
        }
        let table = hf_cpython_proc::read_from_bytes(attached.table()).map_err(|_| "a table")?;
        for chain in table.chains.iter().filter(|chain| chain.n > 0) {
            println!("reads {:?}", &chain.offsets[..chain.n as usize]);
        }
        for gap in &table.gaps[..table.n_gaps as usize] {
            let start = gap.start - bias;
            let end = start + u64::from(gap.bytes);
            println!("{} {start:#x}..{end:#x}", if gap.is_limbo != 0 { "limbo" } else { "gap" });
        }
    }
    Ok(())
}
