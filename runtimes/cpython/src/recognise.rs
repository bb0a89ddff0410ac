//! Is a file CPython, and which.
//!
//! In: a file with the evaluation loop. Out: its [`File`]: version, structure offsets, where the loop
//! lies, and the addresses that attaching begins with.
//!
//! # How it works
//! The loop is `_PyEval_EvalFrameDefault`; compilers split it, so that all symbols that begin with
//! that name and a dot belong to it, and every piece of code that it jumps into and that is no
//! function of its own (unwind information begins it with a frame that is already built). From 3.14
//! on each instruction may be a function, and the loop what calls the first ([`handlers`]). The
//! version is what the file says (`_Py_DebugOffsets`, `Py_Version`), or, before 3.11, which of the
//! C API's functions it has: each was added by one version.
//!
//! # Sources
//! Doc/data/refcounts.dat and Misc/stable_abi.toml @ v3.13.0 ("Added in"): which version added
//! which function.

use crate::code::Listing;
use crate::handlers;
use crate::layout::{self, Offsets, Version};
use hotframe_abi as abi;
use hotframe_objects::{ElfFile, ReadAt, RowSource};
use hotframe_runtime::elf::{self, Symbol, Tables};
use hotframe_runtime::{Executable, Unusable};
use std::ops::Range;

const LOOP_NAME: &str = "_PyEval_EvalFrameDefault";
const LOOP: &[u8] = LOOP_NAME.as_bytes();
/// Parts of the loop at most.
const LOOP_PARTS_MAX: usize = 64;
/// The loop's code in all.
const LOOP_MAX_BYTES: u64 = 4 << 20;

/// What each version added to the C API.
const ADDED: [(u8, &str); 5] = [
    (7, "PyThread_tss_get"),
    (8, "PyCode_NewWithPosOnlyArgs"),
    (9, "PyThreadState_GetFrame"),
    (10, "PyIter_Send"),
    (11, "Py_Version"),
];

/// What a file says. Addresses are the file's.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub version: Version,
    /// The version is newer than any whose layout is known.
    pub is_guessed: bool,
    pub offsets: Offsets,
    /// The loop's code, sorted.
    pub parts: Vec<Range<u64>>,
    /// Where its frame is not linked, sorted.
    pub gaps: Vec<Range<u64>>,
    /// The gaps are in functions that the loop calls: they count where the innermost native frame is.
    pub gaps_at_leaf: bool,
    /// Where what links it is being written.
    pub limbo: Option<Range<u64>>,
    /// `_PyRuntime`, from 3.7 on.
    pub runtime: Option<u64>,
    /// 3.6: the variables that hold the interpreters and the running thread's state.
    pub interpreters: Option<u64>,
    pub current: Option<u64>,
    pub code_type: Option<u64>,
    /// `_Py_tss_tstate` in the thread-local segment, from 3.12 on.
    pub thread_state: Option<u64>,
}

#[derive(Default)]
struct Found {
    entry: Option<Symbol>,
    parts: Vec<Range<u64>>,
    runtime: Option<u64>,
    interpreters: Option<u64>,
    current: Option<u64>,
    code_type: Option<u64>,
    thread_state: Option<u64>,
    py_version: Option<u64>,
    newest_added: u8,
}

/// Looks at a file.
pub(crate) fn recognise(file: &Executable<'_>) -> Result<Option<File>, Unusable> {
    let found = find_symbols(file.elf);
    let Some(entry) = found.entry else { return Ok(None) };
    let runtime =
        found.runtime.or_else(|| file.elf.section(".PyRuntime").map(|section| section.addr));
    if runtime.is_none() && found.interpreters.is_none() && found.current.is_none() {
        return Ok(None);
    }
    let stated = runtime.and_then(|at| {
        let mut bytes = vec![0; layout::DEBUG_OFFSETS_BYTES];
        let n = file.elf.read_vaddr(&mut bytes, at).ok()?;
        layout::stated(bytes.get(..n)?)
    });
    let (version, offsets) = match stated {
        Some(stated) => stated,
        None => {
            let version = version(file.elf, &found).ok_or_else(|| {
                Unusable::Unknown("CPython of a version before 3.6, or of none".into())
            })?;
            let offsets = layout::known(version.minor).ok_or_else(|| {
                Unusable::Unknown(format!("the layout of CPython 3.{}", version.minor))
            })?;
            (version, offsets)
        }
    };
    let mut file_facts = File {
        is_guessed: version.major != 3 || version.minor > layout::NEWEST_MINOR,
        version,
        offsets,
        parts: found.parts,
        gaps: Vec::new(),
        gaps_at_leaf: false,
        limbo: None,
        runtime,
        interpreters: found.interpreters,
        current: found.current,
        code_type: found.code_type,
        thread_state: found.thread_state,
    };
    find_parts(file.elf, &mut file_facts, entry.address)?;
    Ok(Some(file_facts))
}

/// All names that `find_symbols` looks for.
fn names() -> elf::Names {
    let mut exact = vec![
        LOOP_NAME,
        "_PyRuntime",
        "interp_head",
        "_PyThreadState_Current",
        "PyCode_Type",
        "Py_Version",
        "_Py_tss_tstate",
    ];
    exact.extend(ADDED.map(|(_, function)| function));
    elf::Names::new(&exact, &["_PyEval_EvalFrameDefault."])
}

fn find_symbols<R: ReadAt>(elf: &ElfFile<R>) -> Found {
    let mut found = Found::default();
    elf::symbols(elf, Tables::All, &names(), &mut |name, symbol| {
        let range = || symbol.address..symbol.address.saturating_add(symbol.len_bytes);
        match name {
            LOOP => {
                found.entry = found.entry.or(Some(symbol));
                found.parts.push(range());
            }
            b"_PyRuntime" => found.runtime = found.runtime.or(Some(symbol.address)),
            b"interp_head" => found.interpreters = Some(symbol.address),
            b"_PyThreadState_Current" => found.current = Some(symbol.address),
            b"PyCode_Type" => found.code_type = found.code_type.or(Some(symbol.address)),
            b"Py_Version" => found.py_version = Some(symbol.address),
            b"_Py_tss_tstate" if symbol.kind == elf::TLS => {
                found.thread_state = Some(symbol.address);
            }
            _ if found.parts.len() < LOOP_PARTS_MAX
                && name.strip_prefix(LOOP).is_some_and(|rest| rest.starts_with(b".")) =>
            {
                found.parts.push(range());
            }
            _ => {}
        }
        for (minor, function) in ADDED {
            if name == function.as_bytes() {
                found.newest_added = found.newest_added.max(minor);
            }
        }
        true
    });
    found
}

fn version<R: ReadAt>(elf: &ElfFile<R>, found: &Found) -> Option<Version> {
    let mut hex = [0; 8];
    if let Some(at) = found.py_version
        && elf.read_vaddr(&mut hex, at).ok() == Some(hex.len())
        && hex != [0; 8]
    {
        return Some(Version::of_hex(u64::from_le_bytes(hex)));
    }
    let minor = match found.newest_added {
        0 if found.current.is_some() => layout::OLDEST_MINOR,
        0 => return None,
        minor => minor,
    };
    Some(Version { major: 3, minor, micro: None })
}

/// Completes the loop's parts by what it jumps into, and finds its gaps.
fn find_parts(elf: &ElfFile<&dyn ReadAt>, file: &mut File, entry: u64) -> Result<(), Unusable> {
    let mut rows = RowSource::new(ElfFile::open(*elf.reader())?)?;
    for part in &mut file.parts {
        if part.end <= part.start {
            *part = rows.extent_at(part.start).unwrap_or(part.start..part.start + 1);
        }
    }
    let Some(&link_offset) = file.offsets.thread_frame.first() else { return Ok(()) };
    let mut listing = Listing::default();
    merge(&mut file.parts);
    if file.parts.iter().map(|part| part.end - part.start).sum::<u64>() > LOOP_MAX_BYTES {
        return Err(Unusable::Unknown("an evaluation loop above 4 MiB".into()));
    }
    let mut own = Vec::new();
    for part in &file.parts {
        let bytes = code(elf, part)?;
        listing.add(part.start, &bytes, link_offset as u64);
        own.push((part.start, bytes));
    }
    if !listing.has_dispatch()
        && let Some(found) = handlers::find(elf, &mut rows, &own, &listing, link_offset as u64)
    {
        file.parts = found.calls;
        file.gaps = found.gaps;
        file.gaps_at_leaf = true;
        keep_longest(&mut file.gaps);
        return Ok(());
    }
    // A part may jump into further ones.
    loop {
        let mut found = None;
        for target in listing.jumps_out() {
            if file.parts.iter().any(|part| part.contains(&target)) {
                continue;
            }
            let Some(extent) = rows.extent_at(target) else { continue };
            let total: u64 = file.parts.iter().map(|part| part.end - part.start).sum();
            if !is_function(&mut rows, extent.start)
                && total.saturating_add(extent.end - extent.start) <= LOOP_MAX_BYTES
            {
                found = Some(extent);
                break;
            }
        }
        let Some(extent) = found.filter(|_| file.parts.len() < LOOP_PARTS_MAX) else { break };
        listing.add(extent.start, &code(elf, &extent)?, link_offset as u64);
        file.parts.push(extent);
    }
    merge(&mut file.parts);
    file.gaps = listing.gaps(entry);
    if file.offsets.thread_frame.len() > 1 {
        file.limbo = listing.limbo(entry);
    }
    keep_longest(&mut file.gaps);
    Ok(())
}

/// As many gaps as the table takes; one is left to the limbo.
fn keep_longest(gaps: &mut Vec<Range<u64>>) {
    let max = crate::abi::HF_CPYTHON_MAX_GAPS as usize - 1;
    if gaps.len() > max {
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.end - gap.start));
        gaps.truncate(max);
        gaps.sort_by_key(|gap| gap.start);
    }
}

pub(crate) fn merge(parts: &mut Vec<Range<u64>>) {
    parts.sort_by_key(|part| (part.start, part.end));
    parts.dedup_by(|next, part| {
        let overlaps = next.start <= part.end;
        if overlaps {
            part.end = part.end.max(next.end);
        }
        overlaps
    });
}

fn code<R: ReadAt>(elf: &ElfFile<R>, part: &Range<u64>) -> Result<Vec<u8>, Unusable> {
    let mut bytes = vec![0; (part.end - part.start) as usize];
    let n = elf.read_vaddr(&mut bytes, part.start)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Does a function begin at `address`? What was split off one begins with a frame that is built.
fn is_function<R: ReadAt>(rows: &mut RowSource<R>, address: u64) -> bool {
    let Some(image) = address.checked_sub(rows.file().image_base()) else { return true };
    let Ok(block) = rows.block((image >> abi::HF_BLOCK_SHIFT) as u32) else { return true };
    let at = image as u16;
    let row = block.rows.iter().rfind(|row| row.pc <= at);
    row.is_none_or(|row| match u32::from(row.kind) & abi::HF_RULE_KIND_MASK {
        abi::HF_RULE_SP => row.cfa == 8,
        // Where frame pointers are kept, and where registers lie as no function's beginning has them.
        abi::HF_RULE_FP | abi::HF_RULE_SIDE => false,
        _ => true,
    })
}
