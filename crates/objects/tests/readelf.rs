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
            lines.push(Expected {
                pc: start,
                ..initial.clone()
            });
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
            let (start, end) = words[5]
                .strip_prefix("pc=")
                .unwrap()
                .split_once("..")
                .unwrap();
            fde = Some((hex(start), hex(end), of));
        } else if words.first() == Some(&"LOC") {
            columns = words.iter().map(|&word| word.to_owned()).collect();
        } else if words.len() > 1 && words[0].len() == 16 && !columns.is_empty() {
            // Long values run into each other: such a line only ends the one before.
            let whole = words.len() == columns.len();
            let get = |name: &str| {
                let at = columns.iter().position(|column| column == name);
                if whole {
                    at.map_or("-", |at| words[at]).to_owned()
                } else {
                    String::new()
                }
            };
            let expected = Expected {
                pc: hex(words[0]),
                cfa: get("CFA"),
                rbp: get("rbp"),
                ra: get("ra"),
            };
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
    match u32::from(row.kind) {
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
    let (mut n, mut n_inexpressible) = (0, 0);
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
                let block = blocks
                    .entry(number)
                    .or_insert_with(|| source.block(number).unwrap());
                let row = row_at(block, image as u16);
                n += 1;
                let undefined = line.ra == "u";
                let kind = u32::from(row.kind);
                if undefined && kind == abi::HF_RULE_END {
                    continue;
                }
                if kind == abi::HF_RULE_BAD && line.cfa == "exp" {
                    n_inexpressible += 1;
                    continue;
                }
                let rbp = if matches!(line.rbp.as_str(), "-" | "s") {
                    "u"
                } else {
                    &line.rbp
                };
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
    assert!(
        n_inexpressible * 1000 <= n,
        "{path:?}: {n_inexpressible} of {n} inexpressible"
    );
    n
}

fn library(name: &str) -> Option<PathBuf> {
    let path = [
        "/usr/lib/x86_64-linux-gnu",
        "/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ]
    .iter()
    .map(|dir| Path::new(dir).join(name))
    .find(|path| path.exists());
    if path.is_none() {
        println!("skipped: no {name} on this machine");
    }
    path
}

fn has_readelf() -> bool {
    let found = Command::new("readelf")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
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
