//! Unwind rows from arbitrary bytes: sorted, bounded, and every side rule exists.
#![no_main]

use hotframe_abi as abi;
use hotframe_objects::{ElfFile, RowSource};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = ElfFile::open(data.to_vec()) else { return };
    let entry = file.entry().wrapping_sub(file.image_base()) >> abi::HF_BLOCK_SHIFT;
    let Ok(mut source) = RowSource::new(file) else { return };
    let last = source.n_blocks().saturating_sub(1);
    for n in [0, 1, entry as u32, last] {
        let Ok(block) = source.block(n) else { continue };
        assert_eq!(block.rows[0].pc, 0);
        assert!(block.rows.len() <= abi::HF_MAX_ROWS_PER_BLOCK as usize);
        assert!(block.rows.windows(2).all(|pair| pair[0].pc < pair[1].pc));
        for row in &block.rows {
            let kind = u32::from(row.kind) & abi::HF_RULE_KIND_MASK;
            assert!(kind < abi::HF_RULE_KIND_COUNT);
            assert!(kind != abi::HF_RULE_SIDE || (row.cfa as usize) < block.rules.len());
        }
    }
    assert!(source.heap_bytes() < 64 << 20);
});
