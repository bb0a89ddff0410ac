//! A pprof file from arbitrary bytes: an error or a profile that writers take, within the limits.
#![no_main]

mod common;

use hotframe_formats::pprof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(profile) = pprof::read_within(data, &common::LIMITS) {
        common::write(&profile, common::FORMATS);
    }
});
