//! Names of kernel addresses, asked of the kernel by a BPF program.
//!
//! In: addresses. Out: the symbol that covers each, as the kernel's own stack traces would print it.
//!
//! # How it works
//! `bpf_snprintf("%pS")` finds a symbol by binary search where `/proc/kallsyms` prints all of them.
//! The program (`kernel/ksyms.bpf.c`) is loaded when names are wanted and unloaded after, so that
//! nothing of it stays.
//!
//! # Sources
//! kernel/kallsyms.c (`__sprint_symbol`: `%s+%#lx/%#lx`, ` [%s]`), kernel/bpf/helpers.c @ v6.12.
//!
//! # Versions
//! Linux 5.14. Needs what sampling needs; CAP_SYSLOG, without which kallsyms hides its addresses,
//! is not asked for.
//!
//! # Cost
//! 2 ms to load, about a microsecond an address; kallsyms takes 50 to 80 ms.

use crate::Error;
use crate::kernel::{aligned, bpf};
use hotframe_abi as abi;
use libbpf_rs::{MapCore as _, MapFlags, ObjectBuilder};
use zerocopy::{FromZeros as _, IntoBytes as _};

static OBJECT: &[u8] = aligned!("/ksyms.bpf.o");

/// A kernel symbol that covers an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: String,
    /// Module without brackets; empty: the kernel itself.
    pub module: String,
    /// Bytes from the symbol's start to the address.
    pub offset: u64,
    /// Its length in bytes, as far as the kernel knows: up to the next symbol.
    pub len_bytes: u64,
}

/// Names addresses: one answer each, `None` where no symbol covers it.
///
/// # Errors
/// [`Error::Bpf`] where the kernel has no such helper or refuses the program: `/proc/kallsyms` is
/// left then.
pub fn name(addresses: &[u64]) -> Result<Vec<Option<Symbol>>, Error> {
    let object = ObjectBuilder::default()
        .open_memory(OBJECT)
        .map_err(bpf("opening the program that names kernel addresses"))?
        .load()
        .map_err(bpf("loading the program that names kernel addresses"))?;
    let program = object
        .progs_mut()
        .find(|program| program.name() == "hf_name_kernel")
        .ok_or(Error::Missing("program that names kernel addresses"))?;
    let map = object
        .maps()
        .find(|map| map.name() == "hf_ksyms")
        .ok_or(Error::Missing("map of kernel names"))?;
    let mut named = Vec::with_capacity(addresses.len());
    for batch in addresses.chunks(abi::HF_KSYMS as usize) {
        let mut ksyms = abi::hf_ksyms::new_zeroed();
        ksyms.n = batch.len() as u32;
        for (slot, address) in ksyms.addrs.iter_mut().zip(batch) {
            *slot = *address;
        }
        map.update(&0u32.to_ne_bytes(), ksyms.as_bytes(), MapFlags::ANY)
            .map_err(bpf("asking for kernel names"))?;
        program
            .test_run(libbpf_rs::ProgramInput::default())
            .map_err(bpf("asking for kernel names"))?;
        let value = map
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(bpf("reading kernel names"))?
            .unwrap_or_default();
        let texts = value.get(std::mem::offset_of!(abi::hf_ksyms, names)..).unwrap_or_default();
        let mut texts = texts.chunks(abi::HF_KSYM_BYTES as usize);
        named.extend(batch.iter().map(|_| parse(texts.next().unwrap_or_default())));
    }
    Ok(named)
}

/// `name+0xoffset/0xlength`, or that and ` [module]`; a bare number is no symbol.
fn parse(text: &[u8]) -> Option<Symbol> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = std::str::from_utf8(text.get(..end)?).ok()?;
    let (place, module) = match text.split_once(" [") {
        // A build id may follow the module's name.
        Some((place, module)) => (place, module.split([' ', ']']).next().unwrap_or_default()),
        None => (text, ""),
    };
    let (name, numbers) = place.rsplit_once("+0x")?;
    let (offset, len_bytes) = numbers.split_once("/0x")?;
    // The kernel names no module for BPF programs; /proc/kallsyms does.
    let module = if module.is_empty() && is_bpf(name) { "bpf" } else { module };
    Some(Symbol {
        name: name.to_owned(),
        module: module.to_owned(),
        offset: u64::from_str_radix(offset, 16).ok()?,
        len_bytes: u64::from_str_radix(len_bytes, 16).ok()?,
    })
}

/// Images that the BPF subsystem allocates (kernel/bpf/core.c, trampoline.c, dispatcher.c @ v6.12).
fn is_bpf(name: &str) -> bool {
    ["bpf_prog_", "bpf_trampoline_", "bpf_dispatcher_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `%pS` prints.
    #[test]
    fn texts() {
        let check = |text: &str, expect: Option<(&str, &str, u64, u64)>| {
            let mut padded = text.as_bytes().to_vec();
            padded.push(0);
            padded.extend(b"rest of an earlier name");
            let got = parse(&padded);
            let got = got.as_ref().map(|symbol| {
                (symbol.name.as_str(), symbol.module.as_str(), symbol.offset, symbol.len_bytes)
            });
            assert_eq!(got, expect, "{text}");
        };
        check("do_idle+0x1a/0x2b0", Some(("do_idle", "", 0x1a, 0x2b0)));
        check("f+0x0/0x10 [nf_tables]", Some(("f", "nf_tables", 0, 0x10)));
        check("f+0x0/0x10 [ext4 0123abcd]", Some(("f", "ext4", 0, 0x10)));
        check(
            "bpf_prog_6deef7357e7b4530_x+0x5/0x20",
            Some(("bpf_prog_6deef7357e7b4530_x", "bpf", 5, 0x20)),
        );
        check("0xffffffff81000000", None);
        check("", None);
        check("name+0x/0x", None);
    }

    /// The kernel names its own addresses as /proc/kallsyms does. Needs root.
    #[test]
    fn as_kallsyms_says() {
        let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let wanted: Vec<(u64, &str)> = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let address = u64::from_str_radix(fields.next()?, 16).ok()?;
                (fields.next()? == "T").then_some((address, fields.next()?))
            })
            .filter(|(address, _)| *address != 0)
            .step_by(97)
            .take(600)
            .collect();
        if wanted.is_empty() {
            eprintln!("names of the kernel: SKIPPED: /proc/kallsyms hides its addresses (root?)");
            return;
        }
        let addresses: Vec<u64> = wanted.iter().map(|(address, _)| address + 1).collect();
        let named = match name(&addresses) {
            Ok(named) => named,
            Err(why) => {
                eprintln!("names of the kernel: SKIPPED: {}", why.chain());
                return;
            }
        };
        // Of two names for one address either will do.
        let agreeing = wanted
            .iter()
            .zip(&named)
            .filter(|((_, name), found)| found.as_ref().is_some_and(|found| found.name == *name))
            .count();
        assert_eq!(named.len(), wanted.len());
        assert!(agreeing * 10 >= wanted.len() * 9, "{agreeing} of {}", wanted.len());
        assert!(named.iter().flatten().all(|symbol| symbol.offset <= 1));
    }
}
