//! A otlp file from arbitrary bytes: an error or a profile that writers take, within the limits.
#![no_main]

use hotframe_formats::{Format, Limits, otlp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        bytes: 16 << 20,
        table_entries: 1 << 16,
        stack_nodes: 1 << 16,
        frame_mentions: 1 << 20,
        samples: 1 << 16,
    };
    let Ok(profile) = otlp::read_within(data, &limits) else { return };
    for format in [Format::Pprof, Format::Folded, Format::Otlp, Format::Firefox, Format::Svg] {
        format.write(&profile, &mut std::io::sink()).expect("writing nowhere");
    }
});
