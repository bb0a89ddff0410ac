//! Names by an arbitrary jitdump: bounded, in place, and the same however it is cut into reads.
#![no_main]

use hotframe_jitmap::{LINE_MAX_BYTES, Report, Seen, Wanted, name_by_dump};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (head, records) = data.split_at(data.len().min(32));
    let mut wanted: Vec<Wanted> = head
        .chunks(4)
        .map(|bytes| {
            let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
            let first = Seen { time_ns: byte(1), ..Seen::default() };
            let last = Seen { time_ns: byte(1) + byte(2), ..Seen::default() };
            Wanted { address: byte(0) << byte(3).min(56), first, last }
        })
        .collect();
    wanted.sort_unstable();
    // A good header, so that there is something behind it: of version 1, of this machine.
    let machine: u32 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut dump = Vec::new();
    let padding = if data.len() % 2 == 0 { 0 } else { 0xdead_beef };
    for word in [0x4a69_5444, 1, 40, machine, padding, 7, 0, 0, (data.len() % 3 == 0).into(), 0] {
        dump.extend(u32::to_ne_bytes(word));
    }
    dump.extend(records);
    let name = |most: usize| {
        let mut report = Report::default();
        let read = &mut |buffer: &mut [u8], offset: u64| {
            let rest = dump.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buffer.len()).min(most);
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        };
        let names = name_by_dump(read, dump.len() as u64, 7, &wanted, &mut report);
        (names.expect("no read fails"), report)
    };
    let (names, report) = name(usize::MAX);
    assert_eq!(names.len(), wanted.len());
    assert!(names.iter().flatten().all(|named| named.name.len() <= 3 * LINE_MAX_BYTES));
    assert!(report.unread_bytes <= dump.len() as u64);
    assert_eq!(name(97), (names, report));
});
