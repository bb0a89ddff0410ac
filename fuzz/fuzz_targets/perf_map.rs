//! Names by arbitrary text: bounded, in place, and the same however it is cut into reads.
#![no_main]

use hotframe_jitmap::{LINE_MAX_BYTES, Report, Seen, Wanted, name_by_map};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (head, text) = data.split_at(data.len().min(32));
    let mut wanted: Vec<Wanted> = head
        .chunks(4)
        .map(|bytes| {
            let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
            let first = Seen { map_bytes: byte(1) << 4, ..Seen::default() };
            let last = Seen { map_bytes: (byte(1) + byte(2)) << 4, ..Seen::default() };
            Wanted { address: byte(0) << byte(3).min(56), first, last }
        })
        .collect();
    wanted.sort_unstable();
    let name = |most: usize| {
        let mut report = Report::default();
        let read = &mut |buffer: &mut [u8], offset: u64| {
            let rest = text.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buffer.len()).min(most);
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        };
        let names = name_by_map(read, &wanted, &mut report).expect("no read fails");
        (names, report)
    };
    let (names, report) = name(usize::MAX);
    assert_eq!(names.len(), wanted.len());
    assert!(names.iter().flatten().all(|named| named.name.len() <= 3 * LINE_MAX_BYTES));
    assert_eq!(name(97), (names, report));
});
