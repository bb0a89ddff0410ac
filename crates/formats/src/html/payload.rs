//! The payload: a profile as columns of small numbers, the bytes inside a page.
//!
//! In: a [`Profile`]. Out: bytes, and from bytes a profile whose every index is in range.
//!
//! # Layout
//! `hotframe` (8 bytes of ASCII), then [`VERSION`] as a varint, then sections until the end.
//! A section is its id (varint), its length in bytes (varint) and its content. A reader skips ids
//! that it does not know, so a section can be added without a new version. Each of these comes at
//! most once, in any order; one that is absent is empty:
//!
//! | id | section | content |
//! |---|---|---|
//! | 1 | meta | JSON, see below |
//! | 2 | strings | n, n lengths in bytes, then all texts (UTF-8) on end |
//! | 3 | modules | n, path, build_id |
//! | 4 | functions | n, name, system_name, file Δ, start_line Δ, module, kind |
//! | 5 | frames | n, function Δ, line Δ, address high 32 bits, address low 32 bits Δ, flags |
//! | 6 | stacks | n, index − parent (0 for the root itself), frame Δ |
//! | 7 | processes | n, pid, comm, exe, cgroup, samples, whole, then a column per cut reason |
//! | 8 | threads | n, tid, comm, process |
//! | 9 | samples | n, time_ns Δ, thread, stack Δ, cpu, cut, weight |
//! | 10 | stats | JSON, the books as `--stats` writes them |
//! | 11 | comparison | JSON: this is two recordings, see [`crate::comparison`] |
//!
//! A column is n varints (LEB128). A column marked Δ holds differences from the entry before it
//! (the first from 0), zigzagged: 0, −1, 1, −2 … are 0, 1, 2, 3. Differences wrap, in 32 bits
//! except for time_ns, in 64.
//!
//! Meta has the fields of [`Meta`] by their names, and `kinds` and `cuts`: the names that the
//! numbers in columns `kind` and `cut` stand for, so that a reader needs no list of its own.
//!
//! # Bounds
//! Those of [`Limits`]. Every entry of a table costs at least a byte per column, so a count is
//! checked against the bytes that are left before anything is allocated for it.

use std::io::{self, BufWriter, Write};

use hotframe_abi::CUT_NAMES;
use hotframe_core::profile::{
    Frame, Function, Kind, Meta, Module, Process, Profile, StackNode, Thread,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Limits;
use crate::comparison::{Comparison, Side};
use crate::json::MAX_BYTES as MAX_JSON_BYTES;

/// Version of the layout.
pub const VERSION: u64 = 1;
const MAGIC: &[u8; 8] = b"hotframe";

const META: u64 = 1;
const STRINGS: u64 = 2;
const MODULES: u64 = 3;
const FUNCTIONS: u64 = 4;
const FRAMES: u64 = 5;
const STACKS: u64 = 6;
const PROCESSES: u64 = 7;
const THREADS: u64 = 8;
const SAMPLES: u64 = 9;
const STATS: u64 = 10;
const COMPARISON: u64 = 11;

/// Names of the sections, for messages.
const SECTION_NAMES: [&str; 12] = [
    "header",
    "meta",
    "strings",
    "modules",
    "functions",
    "frames",
    "stacks",
    "processes",
    "threads",
    "samples",
    "stats",
    "comparison",
];

/// Why a payload is not a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Other bytes.
    #[error("the payload does not begin as one of hotframe's")]
    Magic,
    /// Written by a newer hotframe.
    #[error("the payload has version {found}, this hotframe reads up to {VERSION}")]
    Version {
        /// What the payload says.
        found: u64,
    },
    /// More than [`Limits`] allow.
    #[error("it holds more than {limit} {what}, the most that is read")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A section ends before its content does.
    #[error("section {section} ends early")]
    Short {
        /// Its name.
        section: &'static str,
    },
    /// A section goes on after its content.
    #[error("section {section} has {bytes} bytes too many")]
    Long {
        /// Its name.
        section: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A section comes twice.
    #[error("section {section} comes twice")]
    Twice {
        /// Its name.
        section: &'static str,
    },
    /// A number that does not fit where it goes.
    #[error("section {section}: {column} {value} of entry {entry} is out of range")]
    Range {
        /// Its name.
        section: &'static str,
        /// Which column.
        column: &'static str,
        /// Which entry.
        entry: usize,
        /// The number.
        value: u64,
    },
    /// A text that is not UTF-8, or comes twice.
    #[error("string {entry} is {what}")]
    Text {
        /// Index of the string.
        entry: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A JSON section that is none.
    #[error("section {section} is not JSON")]
    Json {
        /// Its name.
        section: &'static str,
        /// The parser's words.
        #[source]
        cause: serde_json::Error,
    },
    /// Two recordings, which no profile can stand for.
    #[error("it compares two recordings: give the recordings themselves")]
    Comparison,
    /// A kind or cut reason that this hotframe does not know.
    #[error("unknown {what} `{name}`")]
    Unknown {
        /// Kind or cut reason.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

// ---------------------------------------------------------------------------------------------
// Writing

/// Writes a profile's bytes.
///
/// # Errors
/// Those of `out`.
pub fn write(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    put(&mut head, VERSION);
    out.write_all(&head)?;

    section(out, META, meta_json(&profile.meta).to_string().as_bytes())?;

    table(out, STRINGS, |at| {
        at.number(profile.strings.len() as u64)?;
        at.column(profile.strings.iter().map(|text| text.len() as u64))?;
        profile.strings.iter().try_for_each(|text| at.out.write_all(text.as_bytes()))
    })?;
    table(out, MODULES, |at| {
        let table = &profile.modules;
        at.number(table.len() as u64)?;
        at.column(table.iter().map(|m| m.path.into()))?;
        at.column(table.iter().map(|m| m.build_id.into()))
    })?;
    table(out, FUNCTIONS, |at| {
        let table = &profile.functions;
        at.number(table.len() as u64)?;
        at.column(table.iter().map(|f| f.name.into()))?;
        at.column(table.iter().map(|f| f.system_name.into()))?;
        at.deltas(table.iter().map(|f| f.file))?;
        at.deltas(table.iter().map(|f| f.start_line))?;
        at.column(table.iter().map(|f| f.module.into()))?;
        at.column(table.iter().map(|f| f.kind as u64))
    })?;
    table(out, FRAMES, |at| {
        let table = &profile.frames;
        at.number(table.len() as u64)?;
        at.deltas(table.iter().map(|f| f.function))?;
        at.deltas(table.iter().map(|f| f.line))?;
        at.column(table.iter().map(|f| f.address >> 32))?;
        at.deltas(table.iter().map(|f| f.address as u32))?;
        at.column(table.iter().map(|f| f.flags.into()))
    })?;
    table(out, STACKS, |at| {
        let table = &profile.stacks;
        at.number(table.len() as u64)?;
        at.column((0u32..).zip(table).map(|(i, s)| i.wrapping_sub(s.parent).into()))?;
        at.deltas(table.iter().map(|s| s.frame))
    })?;
    table(out, PROCESSES, |at| {
        let table = &profile.processes;
        at.number(table.len() as u64)?;
        at.column(table.iter().map(|p| p.pid.into()))?;
        at.column(table.iter().map(|p| p.comm.into()))?;
        at.column(table.iter().map(|p| p.exe.into()))?;
        at.column(table.iter().map(|p| p.cgroup.into()))?;
        at.column(table.iter().map(|p| p.samples))?;
        at.column(table.iter().map(|p| p.whole))?;
        (0..CUT_NAMES.len()).try_for_each(|reason| {
            at.column(table.iter().map(|p| p.cut.get(reason).copied().unwrap_or(0)))
        })
    })?;
    table(out, THREADS, |at| {
        let table = &profile.threads;
        at.number(table.len() as u64)?;
        at.column(table.iter().map(|t| t.tid.into()))?;
        at.column(table.iter().map(|t| t.comm.into()))?;
        at.column(table.iter().map(|t| t.process.into()))
    })?;
    table(out, SAMPLES, |at| {
        let table = &profile.samples;
        at.number(table.stack.len() as u64)?;
        let mut last = 0u64;
        at.column(table.time_ns.iter().map(|&time| {
            let step = time.wrapping_sub(last) as i64;
            last = time;
            ((step << 1) ^ (step >> 63)) as u64
        }))?;
        at.column(table.thread.iter().map(|&x| x.into()))?;
        at.deltas(table.stack.iter().copied())?;
        at.column(table.cpu.iter().map(|&x| x.into()))?;
        at.column(table.cut.iter().map(|&x| x.into()))?;
        at.column(table.weight.iter().map(|&x| x.into()))
    })?;
    let stats = if profile.stats.is_empty() { "null" } else { &profile.stats };
    section(out, STATS, stats.as_bytes())
}

/// Writes a comparison's bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_comparison(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    write(&comparison.profile, out)?;
    let side = |side: &Side| {
        json!({
            "name": side.name,
            "processes": side.processes,
            "samples": side.samples,
            "duration_ns": side.duration_ns,
            "period_ns": side.period_ns,
            "times": side.times,
        })
    };
    let sides = json!({ "before": side(&comparison.before), "after": side(&comparison.after) });
    section(out, COMPARISON, sides.to_string().as_bytes())
}

fn section(out: &mut impl Write, id: u64, content: &[u8]) -> io::Result<()> {
    let mut head = Vec::with_capacity(12);
    put(&mut head, id);
    put(&mut head, content.len() as u64);
    out.write_all(&head)?;
    out.write_all(content)
}

/// A section that is written as it is made. It is made twice, since its length stands before it:
/// a table would take as much memory again.
fn table(
    out: &mut impl Write,
    id: u64,
    content: impl Fn(&mut Columns<&mut dyn Write>) -> io::Result<()>,
) -> io::Result<()> {
    let mut counted = Counted(0);
    content(&mut Columns { out: &mut counted })?;
    let mut head = Vec::with_capacity(12);
    put(&mut head, id);
    put(&mut head, counted.0);
    out.write_all(&head)?;
    let mut out = BufWriter::with_capacity(16 << 10, out);
    content(&mut Columns { out: &mut out })?;
    out.flush()
}

/// Takes bytes only to count them.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, value: u64) {
    let (encoded, len) = varint(value);
    bytes.extend_from_slice(&encoded[..len]);
}

/// The bytes of a number, and how many there are.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut len) = ([0; 10], 0);
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}

/// A table's columns as they are written.
struct Columns<W: Write> {
    out: W,
}

impl<W: Write> Columns<W> {
    fn number(&mut self, value: u64) -> io::Result<()> {
        let (bytes, len) = varint(value);
        self.out.write_all(&bytes[..len])
    }

    fn column(&mut self, mut values: impl Iterator<Item = u64>) -> io::Result<()> {
        values.try_for_each(|value| self.number(value))
    }

    fn deltas(&mut self, mut values: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut last = 0u32;
        values.try_for_each(|value| {
            let step = value.wrapping_sub(last) as i32;
            last = value;
            self.number((((step << 1) ^ (step >> 31)) as u32).into())
        })
    }
}

fn meta_json(meta: &Meta) -> Value {
    let mut fields = json!({
        "producer": meta.producer,
        "command": meta.command,
        "host": meta.host,
        "kernel": meta.kernel,
        "arch": meta.arch,
        "n_cpus": meta.n_cpus,
        "start_unix_ns": meta.start_unix_ns,
        "duration_ns": meta.duration_ns,
        "period_ns": meta.period_ns,
        "kinds": Kind::ALL.map(Kind::name),
        "cuts": CUT_NAMES,
    });
    if !meta.value_type.is_empty() || !meta.value_unit.is_empty() {
        fields["value_type"] = meta.value_type.as_str().into();
        fields["value_unit"] = meta.value_unit.as_str().into();
    }
    fields
}

// ---------------------------------------------------------------------------------------------
// Reading

/// Reads a profile; every index in it is in range and every parent is before its child.
///
/// # Errors
/// The first thing that is wrong, with its place; [`PayloadError::Comparison`] for two.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Profile, PayloadError> {
    match read_any(bytes, limits)? {
        (profile, None) => Ok(profile),
        (_, Some(_)) => Err(PayloadError::Comparison),
    }
}

/// Reads a comparison, in bounds likewise.
///
/// # Errors
/// The first thing that is wrong; `Ok(None)` for a single profile.
pub fn read_comparison(bytes: &[u8], limits: &Limits) -> Result<Option<Comparison>, PayloadError> {
    let (profile, sides) = read_any(bytes, limits)?;
    let Some(sides) = sides else { return Ok(None) };
    let side = |name: &str| {
        let side = &sides[name];
        let number = |key: &str| side[key].as_u64().unwrap_or(0);
        Side {
            name: side["name"].as_str().unwrap_or_default().into(),
            processes: usize::try_from(number("processes")).unwrap_or(usize::MAX),
            samples: number("samples"),
            duration_ns: number("duration_ns"),
            period_ns: number("period_ns"),
            times: side["times"].as_bool().unwrap_or(false),
        }
    };
    let (before, after) = (side("before"), side("after"));
    Ok(Some(Comparison { profile, before, after }))
}

/// A profile, and the sides where it is a comparison.
fn read_any(bytes: &[u8], limits: &Limits) -> Result<(Profile, Option<Value>), PayloadError> {
    if bytes.len() > limits.bytes {
        return Err(PayloadError::TooLarge { what: "bytes", limit: limits.bytes as u64 });
    }
    let mut rest =
        Reader { bytes: bytes.strip_prefix(MAGIC).ok_or(PayloadError::Magic)?, section: "header" };
    let found = rest.varint()?;
    if found != VERSION {
        return Err(PayloadError::Version { found });
    }
    let mut sections: [Option<&[u8]>; SECTION_NAMES.len()] = Default::default();
    while !rest.bytes.is_empty() {
        let id = rest.varint()?;
        let len = rest.varint()?;
        let content = rest.take(len)?;
        let known = usize::try_from(id).ok().filter(|&id| id > 0);
        if let Some((slot, name)) =
            known.and_then(|id| Some((sections.get_mut(id)?, *SECTION_NAMES.get(id)?)))
        {
            if slot.is_some() {
                return Err(PayloadError::Twice { section: name });
            }
            *slot = Some(content);
        }
    }
    let open = |id: u64| Reader {
        bytes: sections.get(id as usize).copied().flatten().unwrap_or_default(),
        section: SECTION_NAMES.get(id as usize).copied().unwrap_or_default(),
    };

    let mut profile = Profile::default();
    let names = read_meta(open(META), &mut profile.meta)?;
    profile.stats = open(STATS).json_text()?;
    read_strings(open(STRINGS), &mut profile, limits)?;
    read_modules(open(MODULES), &mut profile, limits)?;
    read_functions(open(FUNCTIONS), &names, &mut profile, limits)?;
    read_frames(open(FRAMES), &mut profile, limits)?;
    read_stacks(open(STACKS), &mut profile, limits)?;
    read_processes(open(PROCESSES), &names, &mut profile, limits)?;
    read_threads(open(THREADS), &mut profile, limits)?;
    read_samples(open(SAMPLES), &names, &mut profile, limits)?;
    bound_mentions(&profile, limits)?;
    let sides = match sections.get(COMPARISON as usize) {
        Some(Some(_)) => Some(open(COMPARISON).json()?),
        _ => None,
    };
    Ok((profile, sides))
}

fn read_modules(
    mut at: Reader,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n_strings = profile.strings.len() as u64;
    let n = at.count(2, limits.table_entries)?;
    let path = at.below("path", n, n_strings)?;
    let build_id = at.below("build_id", n, n_strings)?;
    at.end()?;
    profile.modules =
        path.into_iter().zip(build_id).map(|(path, build_id)| Module { path, build_id }).collect();
    Ok(())
}

fn read_functions(
    mut at: Reader,
    names: &Names,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n_strings = profile.strings.len() as u64;
    let n = at.count(6, limits.table_entries)?;
    let name = at.below("name", n, n_strings)?;
    let system_name = at.below("system_name", n, n_strings)?;
    let file = at.deltas_below("file", n, n_strings)?;
    let start_line = at.deltas_below("start_line", n, NO_BOUND)?;
    let module = at.below("module", n, profile.modules.len() as u64)?;
    let kind = at.below("kind", n, names.kinds.len() as u64)?;
    at.end()?;
    profile.functions.reserve_exact(n);
    for (i, name) in name.into_iter().enumerate() {
        profile.functions.push(Function {
            name,
            system_name: get(&system_name, i),
            file: get(&file, i),
            start_line: get(&start_line, i),
            module: get(&module, i),
            kind: names.kinds.get(get(&kind, i) as usize).copied().unwrap_or(Kind::Note),
        });
    }
    Ok(())
}

fn read_frames(mut at: Reader, profile: &mut Profile, limits: &Limits) -> Result<(), PayloadError> {
    let n = at.count(5, limits.table_entries)?;
    let function = at.deltas_below("function", n, profile.functions.len() as u64)?;
    let line = at.deltas_below("line", n, NO_BOUND)?;
    let high = at.below("address", n, NO_BOUND)?;
    let low = at.deltas_below("address", n, NO_BOUND)?;
    let flags = at.below("flags", n, 256)?;
    at.end()?;
    profile.frames.reserve_exact(n);
    for (i, function) in function.into_iter().enumerate() {
        profile.frames.push(Frame {
            function,
            line: get(&line, i),
            address: u64::from(get(&high, i)) << 32 | u64::from(get(&low, i)),
            flags: get(&flags, i) as u8,
        });
    }
    Ok(())
}

fn read_processes(
    mut at: Reader,
    names: &Names,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n_strings = profile.strings.len() as u64;
    let n = at.count(6 + names.cuts.len(), limits.table_entries)?;
    let pid = at.below("pid", n, NO_BOUND)?;
    let comm = at.below("comm", n, n_strings)?;
    let exe = at.below("exe", n, n_strings)?;
    let cgroup = at.below("cgroup", n, n_strings)?;
    profile.processes.reserve_exact(n);
    for (i, pid) in pid.into_iter().enumerate() {
        profile.processes.push(Process {
            pid,
            comm: get(&comm, i),
            exe: get(&exe, i),
            cgroup: get(&cgroup, i),
            ..Process::default()
        });
    }
    for process in &mut profile.processes {
        process.samples = at.varint()?;
    }
    for process in &mut profile.processes {
        process.whole = at.varint()?;
    }
    for &reason in &names.cuts {
        for process in &mut profile.processes {
            let value = at.varint()?;
            if let Some(slot) = process.cut.get_mut(usize::from(reason)) {
                *slot = value;
            }
        }
    }
    at.end()?;
    Ok(())
}

fn read_threads(
    mut at: Reader,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n_strings = profile.strings.len() as u64;
    let n = at.count(3, limits.table_entries)?;
    let tid = at.below("tid", n, NO_BOUND)?;
    let comm = at.below("comm", n, n_strings)?;
    let process = at.below("process", n, profile.processes.len() as u64)?;
    at.end()?;
    profile.threads.reserve_exact(n);
    for (i, tid) in tid.into_iter().enumerate() {
        profile.threads.push(Thread { tid, comm: get(&comm, i), process: get(&process, i) });
    }
    Ok(())
}

fn read_samples(
    mut at: Reader,
    names: &Names,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n = at.count(6, limits.samples)?;
    let mut time = 0u64;
    profile.samples.time_ns.reserve_exact(n);
    for _ in 0..n {
        let step = at.varint()?;
        time = time.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
        profile.samples.time_ns.push(time);
    }
    profile.samples.thread = at.below("thread", n, profile.threads.len() as u64)?;
    profile.samples.stack = at.deltas_below("stack", n, profile.stacks.len() as u64)?;
    let cpu = at.below("cpu", n, 1 << 16)?;
    profile.samples.cpu = cpu.into_iter().map(|x| x as u16).collect();
    let cut = at.below("cut", n, names.cuts.len() as u64)?;
    profile.samples.cut =
        cut.into_iter().map(|x| names.cuts.get(x as usize).copied().unwrap_or(0)).collect();
    profile.samples.weight = at.below("weight", n, NO_BOUND)?;
    at.end()?;
    Ok(())
}

/// Any `u32` will do.
const NO_BOUND: u64 = 1 << 32;

/// Columns of one table have equal length, so the default is never taken.
fn get(column: &[u32], i: usize) -> u32 {
    column.get(i).copied().unwrap_or(0)
}

/// What the numbers in the file's `kind` and `cut` columns mean here.
struct Names {
    kinds: Vec<Kind>,
    cuts: Vec<u8>,
}

fn read_meta(mut at: Reader, meta: &mut Meta) -> Result<Names, PayloadError> {
    let value = at.json()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_string();
    let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    *meta = Meta {
        start_unix_ns: number("start_unix_ns"),
        duration_ns: number("duration_ns"),
        period_ns: number("period_ns"),
        host: text("host"),
        kernel: text("kernel"),
        arch: text("arch"),
        command: text("command"),
        producer: text("producer"),
        n_cpus: u32::try_from(number("n_cpus")).unwrap_or(u32::MAX),
        value_type: text("value_type"),
        value_unit: text("value_unit"),
    };
    let list = |key: &str| {
        let items = value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        items.iter().map(|item| item.as_str().unwrap_or_default())
    };
    let unknown = |what, name: &str| PayloadError::Unknown { what, name: name.to_string() };
    Ok(Names {
        kinds: list("kinds")
            .map(|name| {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                kind.ok_or_else(|| unknown("kind", name))
            })
            .collect::<Result<_, _>>()?,
        cuts: list("cuts")
            .map(|name| {
                let reason = CUT_NAMES.iter().position(|known| *known == name);
                reason.map(|reason| reason as u8).ok_or_else(|| unknown("cut reason", name))
            })
            .collect::<Result<_, _>>()?,
    })
}

fn read_strings(
    mut at: Reader,
    profile: &mut Profile,
    limits: &Limits,
) -> Result<(), PayloadError> {
    let n = at.count(1, limits.table_entries)?;
    let lengths = at.below("length", n, NO_BOUND)?;
    for (entry, length) in lengths.into_iter().enumerate() {
        let text = std::str::from_utf8(at.take(length.into())?)
            .map_err(|_| PayloadError::Text { entry, what: "not UTF-8" })?;
        if profile.strings.intern(text) as usize != entry {
            return Err(PayloadError::Text { entry, what: "out of place or there twice" });
        }
    }
    at.end()
}

fn read_stacks(mut at: Reader, profile: &mut Profile, limits: &Limits) -> Result<(), PayloadError> {
    // One more for the empty stack.
    let n = at.count(2, limits.stack_nodes.saturating_add(1))?;
    let back = at.below("parent", n, NO_BOUND)?;
    // The root has no frame: its column says 0 even if there are no frames at all.
    let frame = at.deltas_below("frame", n, (profile.frames.len() as u64).max(1))?;
    at.end()?;
    profile.stacks.reserve_exact(n);
    for (entry, (back, frame)) in back.into_iter().zip(frame).enumerate() {
        let in_place = if entry == 0 { back == 0 } else { back >= 1 && back as usize <= entry };
        if !in_place {
            let (section, column) = ("stacks", "parent");
            return Err(PayloadError::Range { section, column, entry, value: back.into() });
        }
        profile.stacks.push(StackNode { parent: entry as u32 - back, frame });
    }
    if n > 1 && profile.frames.is_empty() {
        let (section, column) = ("stacks", "frame");
        return Err(PayloadError::Range { section, column, entry: 1, value: 0 });
    }
    Ok(())
}

/// Checks that the stacks with samples, each written out, hold no more frames than is allowed:
/// nodes are shared, so that few of them could stand for any number.
fn bound_mentions(profile: &Profile, limits: &Limits) -> Result<(), PayloadError> {
    let mut depths = Vec::with_capacity(profile.stacks.len());
    for (i, node) in profile.stacks.iter().enumerate() {
        let caller = depths.get(node.parent as usize).copied().unwrap_or(0);
        depths.push(if i == 0 { 0 } else { caller + 1u32 });
    }
    let mut left = limits.frame_mentions;
    for &stack in &profile.samples.stack {
        // Each stack counts once.
        let depth = depths.get_mut(stack as usize).map_or(0, std::mem::take);
        let (what, limit) = ("frames in stacks", limits.frame_mentions);
        left = left.checked_sub(depth.into()).ok_or(PayloadError::TooLarge { what, limit })?;
    }
    Ok(())
}

/// What is left of a section.
struct Reader<'a> {
    bytes: &'a [u8],
    section: &'static str,
}

impl<'a> Reader<'a> {
    fn short(&self) -> PayloadError {
        PayloadError::Short { section: self.section }
    }

    fn varint(&mut self) -> Result<u64, PayloadError> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i as u32);
            if byte < 0x80 {
                self.bytes = self.bytes.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.short())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], PayloadError> {
        let split = usize::try_from(len).ok().and_then(|len| self.bytes.split_at_checked(len));
        let (head, tail) = split.ok_or_else(|| self.short())?;
        self.bytes = tail;
        Ok(head)
    }

    /// The number of entries of a table with so many columns. An absent table has none.
    fn count(&mut self, n_columns: usize, limit: usize) -> Result<usize, PayloadError> {
        if self.bytes.is_empty() {
            return Ok(0);
        }
        let n = self.varint()?;
        let room = (self.bytes.len() / n_columns) as u64;
        if n > room {
            return Err(self.short());
        }
        if n > limit as u64 {
            return Err(PayloadError::TooLarge { what: self.section, limit: limit as u64 });
        }
        Ok(n as usize)
    }

    /// A column of numbers below a bound of at most 2^32.
    fn below(
        &mut self,
        column: &'static str,
        n: usize,
        bound: u64,
    ) -> Result<Vec<u32>, PayloadError> {
        let mut values = Vec::with_capacity(n);
        for entry in 0..n {
            let value = self.varint()?;
            if value >= bound {
                return Err(PayloadError::Range { section: self.section, column, entry, value });
            }
            values.push(value as u32);
        }
        Ok(values)
    }

    /// The same for a column of differences.
    fn deltas_below(
        &mut self,
        column: &'static str,
        n: usize,
        bound: u64,
    ) -> Result<Vec<u32>, PayloadError> {
        let mut values = self.below(column, n, NO_BOUND)?;
        let mut last = 0u32;
        for (entry, value) in values.iter_mut().enumerate() {
            last = last.wrapping_add((*value >> 1) ^ (*value & 1).wrapping_neg());
            if u64::from(last) >= bound {
                let (section, value) = (self.section, last.into());
                return Err(PayloadError::Range { section, column, entry, value });
            }
            *value = last;
        }
        Ok(values)
    }

    /// JSON that is kept as it stands; empty for `null`.
    fn json_text(&mut self) -> Result<String, PayloadError> {
        self.check_json_bytes()?;
        let (section, bytes) = (self.section, self.bytes);
        if bytes.is_empty() || bytes == b"null" {
            return Ok(String::new());
        }
        serde_json::from_slice::<&RawValue>(bytes)
            .map(|value| value.get().to_owned())
            .map_err(|cause| PayloadError::Json { section, cause })
    }

    fn json(&mut self) -> Result<Value, PayloadError> {
        if self.bytes.is_empty() {
            return Ok(Value::Null);
        }
        self.check_json_bytes()?;
        let section = self.section;
        serde_json::from_slice(self.bytes).map_err(|cause| PayloadError::Json { section, cause })
    }

    fn check_json_bytes(&self) -> Result<(), PayloadError> {
        let (what, limit) = ("bytes of JSON", MAX_JSON_BYTES as u64);
        match self.bytes.len() > MAX_JSON_BYTES {
            true => Err(PayloadError::TooLarge { what, limit }),
            false => Ok(()),
        }
    }

    fn end(&self) -> Result<(), PayloadError> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(PayloadError::Long { section: self.section, bytes }),
        }
    }
}
