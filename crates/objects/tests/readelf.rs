//! Our rows against what `readelf --debug-dump=frames-interp` (binutils) makes of the same files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hotframe_abi as abi;
use hotframe_objects::{Block, ElfFile, RowSource};

/// A line of readelf: from an address on, CFA, rbp and ra as it prints them.
#[derive(Clone, Debug)]
struct Expected {
    pc: u64,
    cfa: String,
    rbp: String,
    ra: String,
}

/// Calls `found(start, end, lines)` for each FDE.
fn each_fde(
    path: &Path,
    section: &str,
    mut found: impl FnMut(u64, u64, &[Expected]) -> bool,
) -> bool {
    let child = Command::new("readelf")
        .args(["--wide", "--debug-dump=frames-interp"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let mut columns: Vec<String> = Vec::new();
    let mut cies: HashMap<String, Expected> = HashMap::new();
    // (start, end, CIE), or the CIE that is being read.
    let mut fde: Option<(u64, u64, String)> = None;
    let mut cie = String::new();
    let mut lines: Vec<Expected> = Vec::new();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mut flush = |fde: &mut Option<(u64, u64, String)>,
                     lines: &mut Vec<Expected>,
                     cies: &HashMap<String, Expected>| {
        let Some((start, end, cie)) = fde.take() else {
            return true;
        };
        if lines.is_empty()
            && let Some(initial) = cies.get(&cie)
        {
            lines.push(Expected { pc: start, ..initial.clone() });
        }
        let go_on = found(start, end, lines);
        lines.clear();
        go_on
    };
    let mut wanted = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with("Contents of the ") {
            if !flush(&mut fde, &mut lines, &cies) {
                break;
            }
            wanted = line.contains(&format!(" {section} "));
        } else if !wanted {
        } else if words.get(3) == Some(&"CIE") {
            if !flush(&mut fde, &mut lines, &cies) {
                break;
            }
            cie = words[0].to_owned();
        } else if words.get(3) == Some(&"FDE") {
            if !flush(&mut fde, &mut lines, &cies) {
                break;
            }
            let of = words[4].strip_prefix("cie=").unwrap().to_owned();
            let (start, end) = words[5].strip_prefix("pc=").unwrap().split_once("..").unwrap();
            fde = Some((hex(start), hex(end), of));
        } else if words.first() == Some(&"LOC") {
            columns = words.iter().map(|&word| word.to_owned()).collect();
        } else if words.len() > 1 && words[0].len() == 16 && !columns.is_empty() {
            // Long values run into each other: such a line only ends the one before.
            let whole = words.len() == columns.len();
            let get = |name: &str| {
                let at = columns.iter().position(|column| column == name);
                if whole { at.map_or("-", |at| words[at]).to_owned() } else { String::new() }
            };
            let expected =
                Expected { pc: hex(words[0]), cfa: get("CFA"), rbp: get("rbp"), ra: get("ra") };
            match fde {
                Some(_) => lines.push(expected),
                None => {
                    cies.insert(cie.clone(), expected);
                }
            }
        }
    }
    flush(&mut fde, &mut lines, &cies);
    let _ = child.kill();
    let _ = child.wait();
    true
}

const REGISTERS: [&str; 16] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// A rule in readelf's words. `None` where readelf does not say either.
fn in_words(row: &abi::hf_row, rules: &[abi::hf_rule]) -> (String, String, String) {
    let at = |off: i32| format!("c{off:+}");
    let fp = match row.fp {
        0 => "u".to_owned(),
        127 => "u".to_owned(),
        fp => at(8 * i32::from(fp)),
    };
    match u32::from(row.kind) & !abi::HF_RULE_NEW_STACK {
        abi::HF_RULE_SP => (format!("rsp{:+}", row.cfa), fp, "c-8".into()),
        abi::HF_RULE_FP => (format!("rbp{:+}", row.cfa), fp, "c-8".into()),
        abi::HF_RULE_PLT => ("exp".into(), fp, "c-8".into()),
        abi::HF_RULE_SIGNAL => ("exp".into(), "exp".into(), "exp".into()),
        abi::HF_RULE_SIDE => {
            let rule = &rules[row.cfa as usize];
            let cfa = match u32::from(rule.cfa_op) {
                abi::HF_OP_REG => {
                    format!("{}{:+}", REGISTERS[usize::from(rule.cfa_reg)], rule.cfa_off)
                }
                _ => "exp".into(),
            };
            let saved = |op: u8, reg: u8, off: i32| match u32::from(op) {
                abi::HF_OP_CFA_DEREF => at(off),
                abi::HF_OP_SAME | abi::HF_OP_UNDEFINED => "u".into(),
                abi::HF_OP_DEREF => "exp".into(),
                abi::HF_OP_REG => REGISTERS[usize::from(reg)].to_owned(),
                _ => "v".to_owned(),
            };
            let fp = saved(rule.fp_op, rule.fp_reg, rule.fp_off);
            (cfa, fp, saved(rule.ra_op, rule.ra_reg, rule.ra_off))
        }
        kind => (format!("kind {kind}"), String::new(), String::new()),
    }
}

fn row_at(block: &Block, pc: u16) -> &abi::hf_row {
    let after = block.rows.partition_point(|row| row.pc <= pc);
    &block.rows[after - 1]
}

/// Compares the first `most` lines; returns how many were compared.
fn compare(path: &Path, section: &str, most: usize) -> usize {
    let file = ElfFile::open(File::open(path).unwrap()).unwrap();
    let (base, entry) = (file.image_base(), file.entry());
    let mut source = RowSource::new(file).unwrap();
    let mut blocks: HashMap<u32, Block> = HashMap::new();
    let (mut n, mut n_inexpressible, mut n_left) = (0, 0, 0);
    let mut wrong: Vec<String> = Vec::new();
    each_fde(path, section, |start, end, lines| {
        for (i, line) in lines.iter().enumerate() {
            let until = lines.get(i + 1).map_or(end, |next| next.pc);
            if until <= line.pc || start == entry || line.cfa.is_empty() {
                continue;
            }
            // The first and the last byte to which the rule applies.
            for pc in [line.pc, until - 1] {
                let image = pc - base;
                let number = (image >> 16) as u32;
                let block = blocks.entry(number).or_insert_with(|| source.block(number).unwrap());
                let row = row_at(block, image as u16);
                n += 1;
                let undefined = line.ra == "u";
                let kind = u32::from(row.kind);
                if undefined && kind == abi::HF_RULE_END {
                    continue;
                }
                // What leaves the stack that it was entered with, whatever is said of its caller.
                if kind == abi::HF_RULE_END && row.cfa == 1 {
                    n_left += 1;
                    continue;
                }
                if kind == abi::HF_RULE_BAD && line.cfa == "exp" {
                    n_inexpressible += 1;
                    continue;
                }
                let rbp = if matches!(line.rbp.as_str(), "-" | "s") { "u" } else { &line.rbp };
                let (cfa, fp, ra) = in_words(row, &block.rules);
                if (cfa.as_str(), fp.as_str(), ra.as_str()) != (&line.cfa, rbp, &line.ra) {
                    wrong.push(format!("{pc:#x}: {line:?}, but {cfa} {fp} {ra}: {row:?}"));
                }
            }
        }
        n < most
    });
    assert!(
        wrong.is_empty(),
        "{path:?}: {} of {n}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(8)]
    );
    assert!(n_left <= 2, "{path:?}: glibc's `__start_context` is the only one known");
    assert!(n_inexpressible * 1000 <= n, "{path:?}: {n_inexpressible} of {n} inexpressible");
    n
}

fn library(name: &str) -> Option<PathBuf> {
    let path = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    if path.is_none() {
        println!("skipped: no {name} on this machine");
    }
    path
}

fn has_readelf() -> bool {
    let found = Command::new("readelf").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: no readelf on this machine");
    }
    found
}

#[test]
fn system_libraries_agree_with_readelf() {
    if !has_readelf() {
        return;
    }
    for (name, most, least) in [
        ("libc.so.6", usize::MAX, 20_000),
        ("ld-linux-x86-64.so.2", usize::MAX, 1_000),
        ("libcrypto.so.3", usize::MAX, 50_000),
        ("libLLVM-14.so.1", 200_000, 200_000),
    ] {
        if let Some(path) = library(name) {
            let n = compare(&path, ".eh_frame", most);
            println!("{name}: {n} addresses agree");
            assert!(n >= least, "only {n} addresses of {name} were compared");
        }
    }
}

/// A directory of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("hotframe-rows-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool; false, with a printed line, if it is not there. It must succeed otherwise.
fn run(tool: &str, args: &[&str], dir: &Path) -> bool {
    let output = Command::new(tool).args(args).current_dir(dir).env("CGO_ENABLED", "0").output();
    let Ok(output) = output else {
        println!("skipped: no {tool} on this machine");
        return false;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {text}");
    true
}

const C_PROGRAM: &str = r#"
#include <stdlib.h>
#include <string.h>
int sink;
__attribute__((noinline)) int leaf(int x) { return x * 3 + sink; }
__attribute__((noinline)) int many(int a, int b, int c, int d, int e, int f, int g, int h) {
    int t[400]; memset(t, a, sizeof t); sink += t[b & 127];
    return leaf(a) + leaf(b) * leaf(c) + d + e + f + g + h + leaf(t[3]);
}
/* a variable-length array in an aligned frame: gcc realigns by a DRAP */
__attribute__((noinline)) int aligned(int n) {
    int v[16] __attribute__((aligned(64))); int *a = alloca(n * 4);
    memset(v, n, sizeof v); memset(a, n, n * 4); sink += v[n & 15] + a[0];
    return leaf(n) + many(1, 2, 3, 4, 5, 6, n, n);
}
int main(int argc, char **argv) { (void)argv; return aligned(argc) & 1; }
"#;

#[test]
fn debug_frame_alone_plain_and_compressed_agrees_with_readelf() {
    if !has_readelf() {
        return;
    }
    let scratch = Scratch::new("debug-frame");
    scratch.write("a.c", C_PROGRAM);
    let args =
        ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-no-pie", "a.c"];
    for (name, extra) in [("plain", "-gz=none"), ("compressed", "-gz=zlib")] {
        if !run("gcc", &[&args[..], &[extra, "-o", name]].concat(), &scratch.0) {
            return;
        }
        let n = compare(&scratch.0.join(name), ".debug_frame", usize::MAX);
        assert!(n >= 20, "{name}: only {n} addresses were compared");
    }
}

#[test]
fn compilers_frames_agree_with_readelf() {
    if !has_readelf() {
        return;
    }
    let scratch = Scratch::new("gcc");
    scratch.write("a.c", C_PROGRAM);
    for (compiler, options) in [
        ("gcc", &["-O0"][..]),
        ("gcc", &["-O2", "-mavx2"]),
        ("gcc", &["-O2", "-fno-omit-frame-pointer", "-fcf-protection=full"]),
        ("gcc", &["-O2", "-static"]),
        ("clang", &["-O2"]),
    ] {
        let args = [options, &["-o", "a", "a.c"]].concat();
        if run(compiler, &args, &scratch.0) {
            let n = compare(&scratch.0.join("a"), ".eh_frame", usize::MAX);
            assert!(n >= 40, "{options:?}: only {n} addresses were compared");
        }
    }
}

/// Where functions begin, by the search table: what `readelf --debug-dump=frames` says.
#[test]
fn function_starts_are_those_of_the_table() {
    let Some(path) = library("libz.so.1") else { return };
    let file = ElfFile::open(File::open(&path).unwrap()).unwrap();
    let text = file.section(".text").unwrap();
    let (low, high) = (text.addr, text.addr + text.size);
    let addrs: Vec<u64> = (low..high).step_by(16).collect();
    let starts = hotframe_objects::function_starts(&file, &addrs).unwrap();
    let known: Vec<u64> = starts.iter().copied().flatten().collect();
    assert!(known.len() > addrs.len() / 10 * 9, "{} of {}", known.len(), addrs.len());
    assert!(starts.iter().zip(&addrs).all(|(start, addr)| start.is_none_or(|it| it <= *addr)));
    assert!(known.is_sorted());
    let mut distinct = known.clone();
    distinct.dedup();
    // As many as there are, about: each has a start of its own, and none is another's.
    assert!(distinct.len() > 50 && distinct.len() < addrs.len() / 4, "{}", distinct.len());
    let again = hotframe_objects::function_starts(&file, &distinct).unwrap();
    assert!(again.iter().zip(&distinct).all(|(start, addr)| *start == Some(*addr)));
    // What is damaged gives fewer, and no error.
    let table = file.section(".eh_frame_hdr").unwrap().offset as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(table + 200);
    if let Ok(file) = ElfFile::open(bytes) {
        assert_eq!(hotframe_objects::function_starts(&file, &addrs).unwrap().len(), addrs.len());
    }
}

/// A search table that lies is found out, and the section is scanned.
#[test]
fn a_lying_search_table_is_not_believed() {
    let Some(path) = library("libz.so.1").filter(|_| has_readelf()) else { return };
    let file = ElfFile::open(File::open(&path).unwrap()).unwrap();
    let table = file.section(".eh_frame_hdr").unwrap().offset as usize;
    let mut honest = RowSource::new(file).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for lie in 0..3 {
        let mut bytes = whole.clone();
        match lie {
            // The starts in the middle moved by one.
            0 => (table + 12 + 400..table + 12 + 800).step_by(8).for_each(|at| bytes[at] ^= 1),
            // Two entries swapped.
            1 => (0..8).for_each(|i| bytes.swap(table + 12 + 240 + i, table + 12 + 640 + i)),
            // Another version.
            _ => bytes[table] = 9,
        }
        let mut lied_to = RowSource::new(ElfFile::open(bytes).unwrap()).unwrap();
        for n in 0..honest.n_blocks() {
            let (expected, got) = (honest.block(n).unwrap(), lied_to.block(n).unwrap());
            let words = |block: &Block| {
                let rows = block.rows.iter().map(|row| (row.pc, in_words(row, &block.rules)));
                rows.collect::<Vec<_>>()
            };
            assert_eq!(words(&expected), words(&got), "lie {lie}, block {n}");
        }
    }
}

const GO_PROGRAM: &str = r#"
package main
import ("fmt"; "os"; "sort")
type t struct{ a, b int }
//go:noinline
func leaf(x int) int { return x*3 + 1 }
//go:noinline
func deep(n int, buf [64]int) int {
	if n == 0 { return leaf(buf[3]) }
	buf[n&63] = n
	return deep(n-1, buf) + 1
}
func main() {
	s := []t{{3, 4}, {1, 2}}
	sort.Slice(s, func(i, j int) bool { return s[i].a < s[j].a })
	fmt.Println(deep(10, [64]int{}), s, len(os.Args))
}
"#;

/// Go's linker writes .debug_frame from the stack deltas of its compiler: another way to the
/// same facts. Our rows must come from the function table, which a stripped file still has.
#[test]
fn go_stack_deltas_agree_with_readelf_and_survive_stripping() {
    if !has_readelf() {
        return;
    }
    let scratch = Scratch::new("go");
    scratch.write("main.go", GO_PROGRAM);
    scratch.write("go.mod", "module x\ngo 1.20\n");
    let build = |name: &str, options: &[&str]| {
        run("go", &[&["build", "-o", name], options, &["."]].concat(), &scratch.0)
    };
    if !build("plain", &[]) {
        return;
    }
    build("pie", &["-buildmode=pie"]);
    build("stripped", &["-ldflags=-s"]);
    for name in ["plain", "pie"] {
        let path = scratch.0.join(name);
        let file = ElfFile::open(File::open(&path).unwrap()).unwrap();
        assert!(file.is_go() && file.go_build_id().is_some());
        let base = file.image_base();
        let mut source = RowSource::new(file).unwrap();
        let mut blocks: HashMap<u32, Block> = HashMap::new();
        let (mut n, mut n_ends, mut n_switches, mut n_grown) = (0, 0, 0, 0);
        let mut wrong = Vec::new();
        each_fde(&path, ".debug_frame", |_, end, lines| {
            for (i, line) in lines.iter().enumerate() {
                let until = lines.get(i + 1).map_or(end, |next| next.pc);
                if until <= line.pc || line.cfa.is_empty() {
                    continue;
                }
                let image = until - 1 - base;
                let number = (image >> 16) as u32;
                let block = blocks.entry(number).or_insert_with(|| source.block(number).unwrap());
                let row = row_at(block, image as u16);
                n += 1;
                match u32::from(row.kind) & !abi::HF_RULE_NEW_STACK {
                    // Where Go's traceback ends, and where it switches stacks.
                    abi::HF_RULE_END => n_ends += 1,
                    abi::HF_RULE_FP | abi::HF_RULE_CALLS_BACK | abi::HF_RULE_CALLS_OUT => {
                        n_switches += 1;
                    }
                    abi::HF_RULE_SIGNAL => {}
                    // runtime.morestack, where it is on the thread's stack.
                    abi::HF_RULE_SIDE
                        if block.rules[row.cfa as usize].cfa_op == abi::HF_OP_GREW as u8 =>
                    {
                        n_grown += 1;
                    }
                    _ if in_words(row, &block.rules).0 == line.cfa => {}
                    _ => wrong.push(format!("{until:#x}: {line:?}: {row:?}")),
                }
            }
            true
        });
        let few = &wrong[..wrong.len().min(8)];
        assert!(wrong.is_empty(), "{name}: {} of {n}: {few:#?}", wrong.len());
        assert!(n > 5_000, "{name}: only {n}");
        assert!((3..=40).contains(&n_ends), "{name}: {n_ends} ends");
        assert!((2..=60).contains(&n_switches), "{name}: {n_switches} switches");
        assert!((1..=2).contains(&n_grown), "{name}: {n_grown} where a stack was made larger");
        println!("{name}: {n} addresses agree, {n_ends} ends, {n_switches} by frame pointer");
    }
    let rows = |name: &str| {
        let file = ElfFile::open(File::open(scratch.0.join(name)).unwrap()).unwrap();
        let mut source = RowSource::new(file).unwrap();
        let text = source.block(4).unwrap().rows;
        text.iter().map(|row| (row.pc, row.kind, row.fp, row.cfa)).collect::<Vec<_>>()
    };
    assert!(rows("stripped").len() > 500);
}

/// Call frame information taken away, the rows synthesised from the code alone must say what it
/// said: of the functions that could be followed, nearly all addresses.
#[test]
fn synthesised_rows_agree_with_what_the_compiler_wrote() {
    if !has_readelf() {
        return;
    }
    for name in ["libc.so.6", "libcrypto.so.3"] {
        let Some(path) = library(name) else { continue };
        let mut bytes = std::fs::read(&path).unwrap();
        let file = ElfFile::open(bytes.clone()).unwrap();
        for section in [".eh_frame", ".eh_frame_hdr"] {
            let section = file.section(section).unwrap();
            let from = section.offset as usize;
            bytes[from..from + section.size as usize].fill(0);
        }
        let file = ElfFile::open(bytes).unwrap();
        let base = file.image_base();
        let mut source = RowSource::new(file).unwrap();
        let mut blocks: HashMap<u32, Block> = HashMap::new();
        let (mut n, mut n_none, mut n_cfa, mut n_fp) = (0, 0, 0, 0);
        each_fde(&path, ".eh_frame", |_, end, lines| {
            for (i, line) in lines.iter().enumerate() {
                let until = lines.get(i + 1).map_or(end, |next| next.pc);
                if until <= line.pc || line.cfa.is_empty() {
                    continue;
                }
                let image = line.pc - base;
                let number = (image >> 16) as u32;
                let block = blocks.entry(number).or_insert_with(|| source.block(number).unwrap());
                let row = row_at(block, image as u16);
                n += 1;
                if row.kind & 0x80 == 0 {
                    n_none += 1;
                    continue;
                }
                let row = abi::hf_row { kind: row.kind & 0x7f, ..*row };
                let (cfa, fp, _) = in_words(&row, &block.rules);
                let rbp = if matches!(line.rbp.as_str(), "-" | "s") { "u" } else { &line.rbp };
                // Compilers leave rbp's slot described when it was popped from it.
                let number = |text: &str| text.rsplit(['+', '-']).next()?.parse::<i64>().ok();
                let popped = row.fp == 0 && number(&line.cfa) < number(rbp);
                let fp_agrees = fp == rbp || popped;
                // Where both are known the compiler may prefer the frame pointer.
                let by_other = line.cfa.starts_with("rbp") && cfa.starts_with("rsp")
                    || line.cfa.starts_with("rsp") && cfa == "rbp+16" && line.rbp == "c-16";
                let cfa_agrees = cfa == line.cfa || by_other;
                if !(cfa_agrees && fp_agrees) && n_cfa + n_fp < 8 {
                    println!("{name} {:#x}: {line:?}, but {cfa} {fp}", line.pc);
                }
                n_cfa += usize::from(!cfa_agrees);
                n_fp += usize::from(cfa_agrees && !fp_agrees);
            }
            true
        });
        let followed = n - n_none;
        println!("{name}: {n} rules, {followed} followed, {n_cfa} CFAs and {n_fp} rbps differ");
        assert!(followed > 2_000, "{name}: only {followed} of {n} followed");
        assert!(n_cfa * 50 <= followed, "{name}: {n_cfa} of {followed} CFAs differ");
        assert!(n_fp * 50 <= followed, "{name}: {n_fp} of {followed} rbps differ");
    }
}
