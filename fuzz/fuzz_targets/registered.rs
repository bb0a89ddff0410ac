//! Images that a process registers, and its list of them, from arbitrary bytes: no panic, bounded, and what is
//! rewritten is a file whose rows can be built.
#![no_main]

use hotframe_jitmap::registered::{Descriptor, ENTRIES_MAX, Entry, Image, List, Standing};
use hotframe_objects::{ElfFile, RowSource};
use libfuzzer_sys::fuzz_target;

/// Where the bytes are in memory.
const AT: u64 = 0x7000_0000_0000;

fuzz_target!(|data: &[u8]| {
    let read = |at: u64, into: &mut [u8]| {
        let Some(from) = at.checked_sub(AT).and_then(|from| data.get(from as usize..)) else {
            return false;
        };
        from.get(..into.len()).map(|from| into.copy_from_slice(from)).is_some()
    };
    if let Ok(descriptor) = Descriptor::read(&read, AT) {
        let list = List::read(&read, descriptor);
        assert!(list.entries.len() <= ENTRIES_MAX);
        for entry in list.entries {
            if let Some(standing) = Standing::of(&read, AT, entry) {
                standing.stands(&read);
            }
            let _ = Image::read(&read, entry);
        }
    }
    let entry = Entry { at: AT, image: AT, image_bytes: data.len() as u64 };
    let Ok(image) = Image::read(&read, entry) else { return };
    assert!(image.code.is_sorted_by(|a, b| a.end <= b.start));
    let elf = ElfFile::open(image.elf).expect("an ELF file");
    let mut rows = RowSource::new(elf).expect("of a machine that is known");
    for block in [0, rows.n_blocks() / 2, rows.n_blocks().saturating_sub(1)] {
        rows.block(block).expect("no read fails");
    }
});
