//! Facts of real ELF files against other tools, and of this very process against the kernel.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;

use hotframe_abi as abi;
use hotframe_objects::{ElfFile, Error, RowSource};

fn tool(name: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(name).args(args).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// (start, end, file offset, path) of the executable mappings of this process.
fn executable_mappings() -> Vec<(u64, u64, u64, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-')?;
        let path = words.get(5).copied().unwrap_or_default();
        words[1].contains('x').then(|| (hex(start), hex(end), hex(words[2]), path.to_owned()))
    };
    maps.lines().filter_map(parse).collect()
}

#[test]
fn build_ids_are_those_of_readelf() {
    let mut n = 0;
    for (_, _, _, path) in executable_mappings() {
        let Ok(file) = File::open(&path) else { continue };
        let Some(notes) = tool("readelf", &["-n", &path]) else {
            println!("skipped: no readelf on this machine");
            return;
        };
        let expected = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
        let file = ElfFile::open(file).unwrap();
        let got = file.build_id().map(|id| id.iter().map(|b| format!("{b:02x}")).collect());
        assert_eq!(got, expected.map(str::to_owned), "{path}");
        n += usize::from(expected.is_some());
    }
    assert!(n > 0);
}

/// The bytes at a mapped address are those of the image offset that the bias gives.
#[test]
fn map_bias_leads_from_this_process_to_its_files() {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut n = 0;
    for (start, end, pgoff, path) in executable_mappings() {
        let Ok(file) = File::open(&path) else { continue };
        let file = ElfFile::open(file).unwrap();
        let bias = file.map_bias(start, pgoff).unwrap();
        for at in [start, start + (end - start) / 2, end - 64] {
            let vaddr = at.wrapping_sub(bias) + file.image_base();
            let (mut mapped, mut stored) = ([0; 16], [0; 16]);
            memory.read_exact_at(&mut mapped, at).unwrap();
            if file.read_vaddr(&mut stored, vaddr).unwrap() == 16 {
                assert_eq!(mapped, stored, "{path} at {at:#x}");
                n += 1;
            }
        }
    }
    assert!(n >= 6, "only {n} places");
    let leaf = map_bias_leads_from_this_process_to_its_files as *const () as u64;
    let (start, _, pgoff, path) =
        executable_mappings().into_iter().find(|m| m.0 <= leaf && leaf < m.1).unwrap();
    let file = ElfFile::open(File::open(path).unwrap()).unwrap();
    let image = leaf.wrapping_sub(file.map_bias(start, pgoff).unwrap());
    let mut source = RowSource::new(file).unwrap();
    let block = source.block((image >> 16) as u32).unwrap();
    let row = block.rows.iter().rfind(|row| row.pc <= image as u16).unwrap();
    assert_eq!((u32::from(row.kind), row.fp, row.cfa), (abi::HF_RULE_SP, 0, 8), "at an entry");
}

#[test]
fn the_vdso_is_read_from_memory() {
    let maps = executable_mappings();
    let Some((start, end, _, _)) = maps.iter().find(|mapping| mapping.3 == "[vdso]") else {
        println!("skipped: this process has no vDSO");
        return;
    };
    let mut image = vec![0; (end - start) as usize];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut image, *start).unwrap();
    let file = ElfFile::open(image).unwrap();
    assert_eq!(file.map_bias(*start, 0), Some(*start));
    let mut source = RowSource::new(file).unwrap();
    assert_eq!(source.n_blocks(), 1);
    let rows = source.block(0).unwrap().rows;
    let described = rows.iter().filter(|row| u32::from(row.kind) == abi::HF_RULE_SP).count();
    assert!(described > 10, "{rows:?}");
}

#[test]
fn what_is_no_such_file_is_refused_by_name() {
    let head = |class: u8, data: u8| {
        let mut bytes = vec![0u8; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data, 1]);
        ElfFile::open(bytes)
    };
    assert!(matches!(ElfFile::open(Vec::new()), Err(Error::NotElf)));
    assert!(matches!(ElfFile::open(b"#!/bin/sh\n".to_vec()), Err(Error::NotElf)));
    assert!(matches!(head(1, 1), Err(Error::Class32)));
    assert!(matches!(head(2, 2), Err(Error::BigEndian)));
    assert_eq!(head(1, 1).unwrap_err().to_string(), "32-bit ELF files are not supported");
    let unknown = head(2, 1).unwrap();
    assert!(matches!(RowSource::new(unknown), Err(Error::Machine(_))));
}

/// A small compressed section may claim any size.
#[test]
fn inflating_is_bounded() {
    use std::io::Write;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![0; 8 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    let section = |size: u64| {
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(&packed);
        bytes
    };
    let mut elf = Vec::new();
    File::open("/proc/self/exe").unwrap().read_to_end(&mut elf).unwrap();
    let at = elf.len() as u64;
    elf.extend(section(u64::MAX));
    let of_claim = |elf: Vec<u8>, cap| {
        let file = ElfFile::open(elf).unwrap();
        let section = hotframe_objects::Section {
            name: ".debug_frame".into(),
            kind: 1,
            flags: 0x800,
            addr: 0,
            offset: at,
            size: 24 + packed.len() as u64,
            link: 0,
            entsize: 0,
        };
        file.section_bytes(&section, cap)
    };
    assert!(matches!(of_claim(elf.clone(), 1 << 20), Err(Error::TooLarge { .. })));
    elf.truncate(at as usize);
    elf.extend(section(1000));
    assert_eq!(of_claim(elf, 1 << 20).unwrap().len(), 1000);
}

/// Headers that claim to be long: a file of holes costs no memory here.
#[test]
fn tables_of_headers_are_bounded() {
    /// Such a file, and the most that was asked of it at once.
    struct Holes(Vec<u8>, std::cell::Cell<usize>);
    impl hotframe_objects::ReadAt for Holes {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.1.set(self.1.get().max(buf.len()));
            buf.fill(0);
            let head = self.0.get(offset as usize..).unwrap_or_default();
            let n = head.len().min(buf.len());
            buf[..n].copy_from_slice(&head[..n]);
            Ok(buf.len())
        }
        fn len(&self) -> u64 {
            1 << 40
        }
    }
    let mut head = vec![0u8; 64];
    head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    head[18] = 62; // x86-64
    head[32] = 64; // program headers
    head[40] = 64; // section headers
    head[54..62].fill(0xff); // sizes and counts of both
    let holes = Holes(head, std::cell::Cell::new(0));
    let _ = ElfFile::open(&holes);
    assert!(holes.1.get() <= 1 << 20, "{} bytes at once", holes.1.get());
}
