//! Naming addresses of an arbitrary file, and of an arbitrary kallsyms: no panic, bounded time and
//! memory, and no address reported twice.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use hotframe_symbols::{Context, symbolize, symbolize_kernel};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|data: &[u8]| {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(data).unwrap();
    let mut context = Context::new("/nowhere/fuzz");
    context.debug_directories.clear();
    context.unpacked_max_bytes = 1 << 20;
    context.time_max = Duration::from_secs(1);
    let addresses: Vec<u64> = (0x1000..0x5000).step_by(37).chain([0x40_1000, u64::MAX]).collect();
    let mut seen = vec![false; addresses.len()];
    symbolize(&file, &context, &addresses, &mut |index, frames| {
        assert!(!frames.is_empty() && !std::mem::replace(&mut seen[index], true));
    });
    let _ = symbolize_kernel(data, &[], &addresses, &mut |_, name| assert!(!name.name.is_empty()));
});
