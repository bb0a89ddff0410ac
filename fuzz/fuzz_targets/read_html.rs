//! A page's payload from arbitrary bytes: an error or a profile that writers take, within limits.
#![no_main]

mod common;

use hotframe_formats::Format;
use hotframe_formats::html::{self, payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The file around it: markup, base64 and gzip, none of which a mutation leaves whole.
    let _ = html::read_within(data, &common::LIMITS);
    let bytes = match data.starts_with(b"hotframe") {
        true => data.to_vec(),
        false => [b"hotframe\x01", data].concat(),
    };
    let Ok(profile) = payload::read(&bytes, &common::LIMITS) else { return };
    let formats = [Format::Html, Format::Pprof, Format::Folded, Format::Otlp, Format::Firefox];
    common::write(&profile, &formats);
});
