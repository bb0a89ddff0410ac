//! PLT stubs: which symbol a stub jumps to.
//!
//! In: addresses in `.plt`, `.plt.sec`, `.plt.got`. Out: `name@plt`.
//!
//! The stub is decoded: it jumps through a GOT slot, and the relocation of that slot names the
//! symbol. So the order of stubs and relocations does not matter, nor the linker.
//!
//! # Sources
//! System V ABI x86-64 5.2 and AArch64 ELF ABI (PLT), relocation types `GLOB_DAT`, `JUMP_SLOT`.
//!
//! # Not handled
//! Stubs of IRELATIVE slots: they have no symbol.

use std::collections::HashMap;

use hotframe_objects::Machine;

use crate::Error;
use crate::bytes::{u32_at, u64_at};
use crate::demangle::SYMBOL_MAX_BYTES;
use crate::elf::{Elf, SHT_RELA};

const STUB_BYTES: usize = 16;
const RELOCATION_BYTES: usize = 24;

/// Names those of `addresses` that lie in a stub.
pub(crate) fn name(
    elf: &Elf,
    addresses: &[u64],
    out: &mut impl FnMut(usize, String),
) -> Result<(), Error> {
    // Stubs by the slot they jump through.
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, &address) in addresses.iter().enumerate() {
        let Some(section) = elf.section_at(address).filter(|s| s.name.starts_with(".plt")) else {
            continue;
        };
        let stub_bytes = match section.entsize {
            8 => 8,
            _ => STUB_BYTES,
        };
        let within = address - section.addr;
        let start = within - within % stub_bytes as u64;
        let stub = elf.raw(section).prefix(start, stub_bytes)?;
        if let Some(slot) = slot(elf.machine(), &stub, section.addr.wrapping_add(start)) {
            wanted.entry(slot).or_default().push(index);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let (glob_dat, jump_slot) = match elf.machine() {
        Machine::Arm64 => (1025, 1026),
        _ => (6, 7),
    };
    for section in elf.sections().iter().filter(|s| s.kind == SHT_RELA) {
        let Some(symbols) = elf.sections().get(section.link as usize) else {
            continue;
        };
        let Some(strings) = elf.sections().get(symbols.link as usize) else {
            continue;
        };
        let (symbols, strings) = (elf.raw(symbols), elf.raw(strings));
        let relocations = elf.raw(section);
        let mut buffer = vec![0; 2048 * RELOCATION_BYTES];
        let mut at = 0;
        loop {
            let n = relocations.read_at(at, &mut buffer)?;
            for record in buffer[..n].chunks_exact(RELOCATION_BYTES) {
                let kind = u32_at(record, 8);
                if kind != glob_dat && kind != jump_slot {
                    continue;
                }
                let Some(indices) = wanted.remove(&u64_at(record, 0)) else {
                    continue;
                };
                let Some(symbol) = symbols.array::<24>(u64::from(u32_at(record, 12)) * 24)? else {
                    continue;
                };
                let name = strings.c_string(u64::from(u32_at(&symbol, 0)), SYMBOL_MAX_BYTES)?;
                if name.is_empty() {
                    continue;
                }
                let name = format!("{}@plt", String::from_utf8_lossy(&name));
                for index in indices {
                    out(index, name.clone());
                }
            }
            at += n as u64;
            if n < buffer.len() || wanted.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// The GOT slot that the stub at `start` jumps through.
fn slot(machine: Machine, stub: &[u8], start: u64) -> Option<u64> {
    match machine {
        Machine::X86_64 => {
            // jmp *disp(%rip), with endbr64 or a bnd prefix before it.
            let at = stub.windows(2).position(|w| w == [0xff, 0x25])?;
            let disp = stub.get(at + 2..)?.first_chunk().map(|b| i32::from_le_bytes(*b))?;
            let next = start.wrapping_add(at as u64 + 6);
            Some(next.wrapping_add_signed(i64::from(disp)))
        }
        Machine::Arm64 => {
            // adrp x16, page; ldr x17, [x16, #offset], after an optional bti.
            let words: Vec<u32> = stub.chunks_exact(4).map(|w| u32_at(w, 0)).collect();
            let at = words.iter().position(|w| w & 0x9f00_001f == 0x9000_0010)?;
            let (adrp, ldr) = (*words.get(at)?, *words.get(at + 1)?);
            if ldr & 0xffc0_03ff != 0xf940_0211 {
                return None;
            }
            let pages = (((adrp >> 5) & 0x7_ffff) << 2) | ((adrp >> 29) & 3);
            // A signed field of 21 bits.
            let pages = i64::from((pages << 11).cast_signed() >> 11);
            let page = (start.wrapping_add(at as u64 * 4)) & !0xfff;
            let offset = u64::from((ldr >> 10) & 0xfff) * 8;
            Some(page.wrapping_add_signed(pages << 12).wrapping_add(offset))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(machine: Machine, start: u64, stub: &[u8], expect: Option<u64>) {
        assert_eq!(slot(machine, stub, start), expect);
    }

    #[test]
    fn stubs_of_all_shapes_show_their_slot() {
        // jmp *0x2fe2(%rip); push $0; jmp .plt
        check(
            Machine::X86_64,
            0x1020,
            b"\xff\x25\xe2\x2f\0\0\x68\0\0\0\0\xe9\xe0\xff\xff\xff",
            Some(0x4008),
        );
        // endbr64; bnd jmp *0x2f75(%rip)
        check(
            Machine::X86_64,
            0x1050,
            b"\xf3\x0f\x1e\xfa\xf2\xff\x25\x75\x2f\0\0\x0f\x1f\x44\0\0",
            Some(0x3fd0),
        );
        // push 0x2fca(%rip); jmp *…: the first entry has a slot too, which no symbol's relocation has
        check(
            Machine::X86_64,
            0x1000,
            b"\xc3\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90",
            None,
        );
    }

    /// As `aarch64-linux-gnu-objdump` prints it: `adrp x16, 11000; ldr x17, [x16, #8]` at 0x620.
    #[test]
    fn an_arm64_stub_shows_its_slot() {
        let stub = [0x9000_0090_u32, 0xf940_0611, 0x9100_2210, 0xd61f_0220];
        let bytes: Vec<u8> = stub.iter().flat_map(|w| w.to_le_bytes()).collect();
        check(Machine::Arm64, 0x620, &bytes, Some(0x1_0000 + 8));
    }
}
