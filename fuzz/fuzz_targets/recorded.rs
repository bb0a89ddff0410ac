//! Recorded processes, damaged: the walk, the steps of all runtimes and their user halves end, within
//! their bounds of reads.
#![no_main]

use hotframe_core::testing::{RecordedProcess, recorded_cases, recorded_kinds, walk_damaged};
use hotframe_registry::RUNTIMES;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static CASES: LazyLock<Vec<RecordedProcess>> = LazyLock::new(|| {
    let kinds = recorded_kinds();
    kinds.iter().flat_map(|kind| recorded_cases(kind)).map(|(_, process)| process).collect()
});

// The first byte picks the case, the rest are edits. To unpack all cases takes longer than an input may.
fuzz_target!(
    init: {
        LazyLock::force(&CASES);
    },
    |data: &[u8]| {
    if let Some((&case, edits)) = data.split_first() {
        walk_damaged(&RUNTIMES, &CASES[usize::from(case) % CASES.len()], edits);
    }
}
);
