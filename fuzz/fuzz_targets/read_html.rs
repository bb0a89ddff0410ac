//! A page's payload from arbitrary bytes: an error or a profile that writers take, within limits.
#![no_main]

use hotframe_formats::html::{self, payload};
use hotframe_formats::{Format, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        bytes: 16 << 20,
        table_entries: 1 << 16,
        stack_nodes: 1 << 16,
        frame_mentions: 1 << 20,
        samples: 1 << 16,
    };
    // The file around it: markup, base64 and gzip, none of which a mutation leaves whole.
    let _ = html::read_within(data, &limits);
    let bytes = match data.starts_with(b"hotframe") {
        true => data.to_vec(),
        false => [b"hotframe\x01", data].concat(),
    };
    let Ok(profile) = payload::read(&bytes, &limits) else { return };
    for format in [Format::Html, Format::Pprof, Format::Folded, Format::Otlp, Format::Firefox] {
        format.write(&profile, &mut std::io::sink()).expect("writing nowhere");
    }
});
