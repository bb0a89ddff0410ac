//! Two recordings in one payload, from arbitrary bytes: an error or what the page's writer takes.
#![no_main]

mod common;

use hotframe_formats::Comparison;
use hotframe_formats::html::{self, payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = match data.starts_with(b"hotframe") {
        true => data.to_vec(),
        false => [b"hotframe\x01", data].concat(),
    };
    match payload::read_comparison(&bytes, &common::LIMITS) {
        Ok(Some(both)) => {
            (0..both.profile.samples.stack.len()).for_each(|sample| _ = both.is_after(sample));
            html::write_comparison(&both, &mut std::io::sink()).expect("writing nowhere");
        }
        Ok(None) => {
            let one = payload::read(&bytes, &common::LIMITS).expect("read a moment ago");
            let both = Comparison::new(("a", &one), ("b", &one)).expect("fits");
            html::write_comparison(&both, &mut std::io::sink()).expect("writing nowhere");
        }
        Err(_) => {}
    }
});
