//! The workloads are what their sources say, by binutils: a test over a program that quietly got
//! unwind tables would prove nothing. Needs no root.
#![forbid(unsafe_code)]

use hotframe_live::{build, has_program, run, skipped};
use std::ops::Range;
use std::path::Path;

/// The address ranges that `.eh_frame` covers.
fn fde_ranges(program: &Path) -> Vec<Range<u64>> {
    let text = run("readelf", ["--debug-dump=frames".as_ref(), program.as_os_str()]);
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    text.lines()
        .filter_map(|line| line.split_once(" pc=")?.1.split_once(".."))
        .filter_map(|(start, end)| Some(hex(start)?..hex(end.trim())?))
        .collect()
}

/// The address of a symbol.
fn address(program: &Path, symbol: &str) -> u64 {
    let text = run("nm", [program]);
    text.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?;
            (words.nth(1) == Some(symbol)).then(|| u64::from_str_radix(address, 16).ok())?
        })
        .unwrap_or_else(|| panic!("{} has no {symbol}", program.display()))
}

fn has_unwind_table(program: &Path, symbol: &str) -> bool {
    let address = address(program, symbol);
    fde_ranges(program).iter().any(|range| range.contains(&address))
}

/// Every workload builds; where a compiler is missing, the others do.
#[test]
fn all_build() {
    for name in [
        "recursion",
        "stripped",
        "framepointers",
        "asmleaf",
        "registers",
        "reload",
        "late",
        "plugin.so",
        "execchain",
        "signals",
        "inlines",
        "split",
        "bursts",
        "debuggable",
        "threads",
        "syscalls",
        "vdso",
        "forkserver",
        "shorts",
        "hoard",
        "idle",
        "bpfprog",
        "mapstorm",
        "task32",
        "overloads",
        "rusty",
        "gostacks",
    ] {
        if let Some(path) = build(name) {
            assert!(path.is_file(), "{name}");
        }
    }
}

/// Those that shall have no unwind tables have none, and those that shall, do.
#[test]
fn unwind_tables_are_where_they_should_be() {
    if !has_program("readelf") {
        skipped("needs binutils");
        return;
    }
    let path = |name: &str| build(name).expect("gcc builds hotframe's own C too");
    let recursion = path("recursion");
    for function in ["main", "even", "odd", "floor_of_it"] {
        assert!(has_unwind_table(&recursion, function), "{function}");
    }
    let framepointers = path("framepointers");
    for function in ["alpha", "beta", "gamma_ray", "main"] {
        assert!(!has_unwind_table(&framepointers, function), "{function}");
    }
    let asmleaf = path("asmleaf");
    for function in ["asm_sized", "asm_unsized", "asm_scan", "decoy_caller"] {
        assert!(!has_unwind_table(&asmleaf, function), "{function}");
    }
    assert!(has_unwind_table(&asmleaf, "call_leaf"));
}

/// The stripped one has no symbols, the inlining one has three inlined calls.
#[test]
fn symbols_and_inlining_are_as_said() {
    if !has_program("readelf") {
        skipped("needs binutils");
        return;
    }
    let path = |name: &str| build(name).expect("gcc builds hotframe's own C too");
    let sections = run("readelf", ["-SW".as_ref(), path("stripped").as_os_str()]);
    assert!(!sections.contains(".symtab"));
    let dwarf = run("readelf", ["--debug-dump=info".as_ref(), path("inlines").as_os_str()]);
    let calls = dwarf.matches("(DW_TAG_inlined_subroutine)").count();
    assert_eq!(calls, 3, "inlined_one, _two and _three, once each");
}
