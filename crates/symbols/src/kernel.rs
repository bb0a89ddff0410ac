//! Names of kernel addresses: `/proc/kallsyms`, streamed, and symbols that came side-band.
//!
//! In: the text of kallsyms, symbols of `PERF_RECORD_KSYMBOL` records, sorted addresses. Out: one
//! [`KernelName`] per covered address. Memory is O(addresses), whatever the kernel's size.
//!
//! # What an address is covered by
//! A side-band symbol `[start, start + len)`, which wins. Else the text symbol (`t T w W`) that
//! starts last before the address, if the next symbol of all is a text symbol of the same module:
//! kallsyms has no sizes, so the last symbol of a module's or the kernel's section has no known end
//! and covers nothing. Of several symbols at one address the global one counts, then the one with
//! fewer leading underscores, then the first.
//!
//! BPF programs (module `bpf`) and the kernel's trampolines (`__builtin__…`) are allocated one by one
//! in pages otherwise filled with traps. Such a symbol covers up to the next symbol, at most
//! [`IMAGE_MAX_BYTES`].
//!
//! # Sources
//! kernel/kallsyms.c, kernel/module/kallsyms.c, kernel/bpf/core.c, Linux 6.12 (modules come in the
//! order of their symbol tables, not of addresses; zeros under `kptr_restrict`);
//! include/uapi/linux/perf_event.h (KSYMBOL).
//!
//! # Cost
//! About 100 ns a line.

use std::io::{self, BufRead, Read};
use std::rc::Rc;

use crate::Error;
use crate::demangle::demangle;

/// Longest kallsyms line that is read: KSYM_NAME_LEN is 512.
const LINE_MAX_BYTES: u64 = 1024;
/// No image of a BPF program is longer: a million instructions are refused, most take four bytes.
const IMAGE_MAX_BYTES: u64 = 4 << 20;

/// A symbol that the kernel announced, or that the caller knows better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSymbol {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub len_bytes: u64,
    /// Name as the kernel gave it.
    pub name: String,
    /// Module without brackets (`bpf`), empty for the kernel itself.
    pub module: String,
}

/// The name of a kernel address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// Function.
    pub name: String,
    /// Module without brackets; `None`: the kernel itself.
    pub module: Option<String>,
    /// First address of the function.
    pub start: u64,
}

/// Names `addresses` (sorted, unique); `out` gets the index and the name of each that is covered,
/// in order.
///
/// # Errors
/// [`Error::HiddenKernelSymbols`] when every address in `kallsyms` reads as zero
/// (`kernel.kptr_restrict`, or no CAP_SYSLOG); [`Error::Io`] when it cannot be read. What `sideband`
/// covers is named also then.
pub fn symbolize_kernel(
    mut kallsyms: impl BufRead,
    sideband: &[KernelSymbol],
    addresses: &[u64],
    out: &mut impl FnMut(usize, &KernelName),
) -> Result<(), Error> {
    let mut gaps = vec![Gap::default(); addresses.len()];
    let read = stream(&mut kallsyms, addresses, &mut gaps);
    let mut announced: Vec<Option<&KernelSymbol>> = vec![None; addresses.len()];
    for symbol in sideband {
        let first = addresses.partition_point(|&a| a < symbol.start);
        let covered = addresses.iter().zip(&mut announced).skip(first);
        for (_, slot) in covered.take_while(|(a, _)| **a - symbol.start < symbol.len_bytes) {
            *slot = Some(symbol);
        }
    }
    // The nearest symbol after each address, from the back.
    let mut next: Option<Edge> = None;
    for gap in gaps.iter_mut().rev() {
        match &gap.next {
            Some(edge) => next = Some(edge.clone()),
            None => gap.next.clone_from(&next),
        }
    }
    let mut last: Option<&Gap> = None;
    for ((index, &address), gap) in addresses.iter().enumerate().zip(&gaps) {
        if gap.last.is_some() {
            last = Some(gap);
        }
        if let Some(Some(symbol)) = announced.get(index) {
            out(index, &kernel_name(&symbol.name, &symbol.module, symbol.start));
        } else if let Some(Gap { last: Some(edge), name, .. }) = last
            && read.is_ok()
            && edge.text
            && edge.covers(address, gap.next.as_ref())
        {
            out(index, &kernel_name(name, &edge.module, edge.start));
        }
    }
    read
}

fn kernel_name(name: &str, module: &str, start: u64) -> KernelName {
    let name = demangle(name).map_or_else(|| name.to_owned(), |d| d.name);
    KernelName { name, module: (!module.is_empty()).then(|| module.to_owned()), start }
}

/// What lies between a wanted address and the one before it.
#[derive(Clone, Default)]
struct Gap {
    /// The last symbol that starts at or before the address.
    last: Option<Edge>,
    name: String,
    /// The first symbol after the address, up to the next wanted one.
    next: Option<Edge>,
}

#[derive(Clone)]
struct Edge {
    start: u64,
    text: bool,
    global: bool,
    module: Rc<str>,
}

impl Edge {
    fn covers(&self, address: u64, next: Option<&Edge>) -> bool {
        if *self.module == *"bpf" || self.module.starts_with("__builtin__") {
            return address - self.start < IMAGE_MAX_BYTES;
        }
        next.is_some_and(|next| next.text && next.module == self.module)
    }
}

fn stream(kallsyms: &mut impl BufRead, addresses: &[u64], gaps: &mut [Gap]) -> Result<(), Error> {
    let mut line = Vec::new();
    let mut module: Rc<str> = Rc::from("");
    let (mut n_lines, mut n_zero) = (0u64, 0u64);
    while read_line(kallsyms, &mut line)? {
        let Some((start, kind, name, owner)) = parse(&line) else {
            continue;
        };
        n_lines += 1;
        if start == 0 {
            n_zero += 1;
            continue;
        }
        if owner != module.as_bytes() {
            module = String::from_utf8_lossy(owner).into();
        }
        let edge = || Edge {
            start,
            text: matches!(kind, b't' | b'T' | b'w' | b'W'),
            global: kind.is_ascii_uppercase(),
            module: Rc::clone(&module),
        };
        let first = addresses.partition_point(|&a| a < start);
        if let Some(gap) = gaps.get_mut(first) {
            let better = match &gap.last {
                None => true,
                Some(old) if old.start != start => start > old.start,
                Some(old) => {
                    let new = edge();
                    let rank = |edge: &Edge, name: &[u8]| {
                        let underscores = name.iter().take_while(|&&b| b == b'_').count();
                        (edge.text, edge.global, std::cmp::Reverse(underscores))
                    };
                    rank(&new, name) > rank(old, gap.name.as_bytes())
                }
            };
            if better {
                gap.last = Some(edge());
                gap.name.clear();
                gap.name.push_str(&String::from_utf8_lossy(name));
            }
        }
        if let Some(gap) = first.checked_sub(1).and_then(|before| gaps.get_mut(before))
            && gap.next.as_ref().is_none_or(|old| start < old.start)
        {
            gap.next = Some(edge());
        }
    }
    if n_lines > 0 && n_zero == n_lines {
        return Err(Error::HiddenKernelSymbols);
    }
    Ok(())
}

/// The next line without its end, cut to [`LINE_MAX_BYTES`]; false at the end.
fn read_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if source.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == LINE_MAX_BYTES {
        source.skip_until(b'\n')?;
    }
    Ok(true)
}

/// `ffffffffc0a01000 t name\t[module]`.
fn parse(line: &[u8]) -> Option<(u64, u8, &[u8], &[u8])> {
    let mut fields = line.split(|&b| b == b' ' || b == b'\t').filter(|f| !f.is_empty());
    let start = u64::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 16).ok()?;
    let &[kind] = fields.next()? else { return None };
    let name = fields.next()?;
    let module = fields.next().unwrap_or_default();
    let module = module.strip_prefix(b"[").and_then(|m| m.strip_suffix(b"]")).unwrap_or(module);
    Some((start, kind, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
ffffffff81000000 T _text
ffffffff81000000 T startup
ffffffff81000100 t helper
ffffffff81000200 T _etext
ffffffff81400000 R rodata
ffffffffc0001000 t late\t[ext4]
ffffffffc0000000 t early\t[ext4]
ffffffffc0002000 d data\t[ext4]
ffffffffc0003000 t other\t[xfs]
ffffffffc0003100 t more\t[xfs]
ffffffffc0800000 t bpf_prog_0123456789abcdef_probe\t[bpf]
";

    fn names(addresses: &[u64], sideband: &[KernelSymbol]) -> Vec<String> {
        let mut names = vec![String::new(); addresses.len()];
        symbolize_kernel(KALLSYMS.as_bytes(), sideband, addresses, &mut |index, name| {
            let module = name.module.as_deref().unwrap_or("-");
            names[index] = format!("{} {module} {:x}", name.name, name.start);
        })
        .unwrap();
        names
    }

    #[track_caller]
    fn check(address: u64, expect: &str) {
        assert_eq!(names(&[address], &[]), [expect]);
    }

    #[test]
    fn a_symbol_reaches_to_the_next_of_its_module() {
        check(0xffff_ffff_8100_0000, "startup - ffffffff81000000");
        check(0xffff_ffff_8100_01ff, "helper - ffffffff81000100");
        check(0xffff_ffff_c000_0fff, "early ext4 ffffffffc0000000");
        check(0xffff_ffff_c080_0040, "bpf_prog_0123456789abcdef_probe bpf ffffffffc0800000");
    }

    #[test]
    fn nothing_after_the_last_symbol_of_a_section_is_named() {
        check(0xffff_ffff_8100_0200, "");
        check(0xffff_ffff_813f_ffff, "");
        check(0xffff_ffff_c000_1fff, "");
        check(0xffff_ffff_c000_2800, "");
        check(0xffff_ffff_c000_3150, "");
        check(0xffff_ffff_c0c0_0000, "");
        check(0xffff_ffff_8000_0000, "");
    }

    #[test]
    fn many_addresses_are_named_as_each_alone() {
        let all: Vec<u64> = (0..0x80)
            .map(|i| 0xffff_ffff_8100_0000 + i * 0x11)
            .chain((0..0x400).map(|i| 0xffff_ffff_c000_0000 + i * 0x10))
            .collect();
        let alone: Vec<String> = all.iter().flat_map(|&a| names(&[a], &[])).collect();
        assert_eq!(names(&all, &[]), alone);
    }

    #[test]
    fn a_sideband_symbol_wins_and_ends_where_it_says() {
        let jit = KernelSymbol {
            start: 0xffff_ffff_8100_0100,
            len_bytes: 0x10,
            name: "bpf_prog_x".to_owned(),
            module: "bpf".to_owned(),
        };
        let at = [0xffff_ffff_8100_010f, 0xffff_ffff_8100_0110];
        assert_eq!(
            names(&at, &[jit]),
            ["bpf_prog_x bpf ffffffff81000100", "helper - ffffffff81000100"]
        );
    }

    #[test]
    fn hidden_addresses_are_an_error_not_names() {
        let hidden = "0000000000000000 T _text\n0000000000000000 t helper\n";
        let got = symbolize_kernel(hidden.as_bytes(), &[], &[1, 2], &mut |_, _| panic!("named"));
        assert!(matches!(got, Err(Error::HiddenKernelSymbols)));
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped() {
        let mut text = vec![b'x'; 5000];
        text.extend_from_slice(b"\nzz T a\n10 TT b\n20\n30 T c\n40 T d\n");
        let mut named = Vec::new();
        symbolize_kernel(text.as_slice(), &[], &[0x38], &mut |_, n| named.push(n.name.clone()))
            .unwrap();
        assert_eq!(named, ["c"]);
    }
}
