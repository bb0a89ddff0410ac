//! ELF headers from arbitrary bytes: no panic, no memory beyond a few MiB.
#![no_main]

use hotframe_objects::ElfFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = ElfFile::open(data.to_vec()) else { return };
    file.is_go();
    file.map_bias(0x7f00_0000_0000, 0x1000);
    for section in file.sections() {
        if let Ok(bytes) = file.section_bytes(section, 1 << 20) {
            assert!(bytes.len() <= 1 << 20);
        }
        assert!(file.section(&section.name).is_some() || !section.has_bytes());
    }
});
