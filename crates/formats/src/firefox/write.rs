//! Profile → Firefox Profiler JSON.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Write};

use hotframe_core::profile::{FRAME_INLINED, Frame, Kind, Profile};

use super::NAME;
use crate::Error;
use crate::json::text;
use crate::tree::base_name;

/// Writes the JSON.
///
/// # Errors
/// [`Error::Write`].
pub fn write(profile: &Profile, out: &mut impl Write) -> Result<(), Error> {
    write_json(profile, out).map_err(Error::write(NAME))
}

/// Numbers in JSON are doubles: above this, addresses would be others.
const MAX_NUMBER: u64 = 1 << 53;

/// Of a profile that does not say its own.
const DEFAULT_INTERVAL_NS: u64 = 1_000_000;

fn write_json(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    let samples = &profile.samples;
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); profile.threads.len()];
    for (i, &thread) in samples.thread.iter().enumerate() {
        if samples.weight[i] > 0 {
            rows[thread as usize].push(i as u32);
        }
    }
    let ticks = |rows: &[u32]| -> u64 {
        rows.iter().map(|&row| u64::from(samples.weight[row as usize])).sum()
    };
    let mut threads: Vec<usize> =
        (0..rows.len()).filter(|&thread| !rows[thread].is_empty()).collect();
    threads.sort_by_key(|&thread| {
        let of = &profile.threads[thread];
        let pid = profile.processes[of.process as usize].pid;
        (of.process, of.tid != pid, of.tid, thread)
    });
    let busiest = (0..threads.len()).max_by_key(|&at| (ticks(&rows[threads[at]]), Reverse(at)));

    out.write_all(b"{\"meta\":")?;
    write_meta(profile, busiest, out)?;
    out.write_all(b",\n\"libs\":[")?;
    for (i, module) in profile.modules.iter().enumerate().skip(1) {
        let (path, build_id) =
            (profile.strings.get(module.path), profile.strings.get(module.build_id));
        out.write_all(if i == 1 { b"{" } else { b",{" })?;
        let name = base_name(path);
        for (key, value) in [
            ("name", name),
            ("path", path),
            ("debugName", name),
            ("debugPath", path),
            ("breakpadId", &breakpad_id(build_id)),
            ("codeId", build_id),
            ("arch", &profile.meta.arch),
        ] {
            write!(out, "{}\"{key}\":", if key == "name" { "" } else { "," })?;
            text(out, value)?;
        }
        out.write_all(b"}")?;
    }
    out.write_all(b"],\n\"threads\":[")?;
    let mut pids = Unique::default();
    let mut tids = Unique::default();
    let mut pid_of = HashMap::new();
    for (i, &thread) in threads.iter().enumerate() {
        out.write_all(if i == 0 { b"\n" } else { b",\n" })?;
        let process = profile.threads[thread].process;
        let pid = pid_of
            .entry(process)
            .or_insert_with(|| pids.name(profile.processes[process as usize].pid));
        let tid = tids.name(profile.threads[thread].tid);
        let rows = std::mem::take(&mut rows[thread]);
        write_thread(profile, thread, rows, pid, &tid, out)?;
    }
    out.write_all(b"],\n\"pages\":[],\"profilerOverhead\":[],\"counters\":[]}\n")
}

fn write_meta(profile: &Profile, busiest: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    let meta = &profile.meta;
    out.write_all(br#"{"categories":[{"name":"Other","color":"grey","subcategories":["Other"]}"#)?;
    for kind in Kind::ALL {
        let (name, color) = (kind.name(), colour(kind));
        write!(out, r#",{{"name":"{name}","color":"{color}","subcategories":["Other"]}}"#)?;
    }
    out.write_all(br#"],"debug":false,"extensions":{"length":0,"baseURL":[],"id":[],"name":[]}"#)?;
    let interval_ns = if meta.period_ns > 0 { meta.period_ns } else { DEFAULT_INTERVAL_NS };
    write!(out, ",\"interval\":{},\"startTime\":{}", Ms(interval_ns), Ms(meta.start_unix_ns))?;
    out.write_all(b",\"preprocessedProfileVersion\":55,\"version\":24,\"processType\":0")?;
    for (key, value) in [
        ("product", if meta.host.is_empty() { "hotframe" } else { meta.host.as_str() }),
        ("oscpu", format!("Linux {} {}", meta.kernel, meta.arch).trim()),
        ("arguments", &meta.command),
    ] {
        write!(out, ",\"{key}\":")?;
        text(out, value)?;
    }
    if meta.n_cpus > 0 {
        write!(out, ",\"logicalCPUs\":{}", meta.n_cpus)?;
    }
    let units = r#","sampleUnits":{"time":"ms","eventDelay":"ms","threadCPUDelta":"µs"}"#;
    out.write_all(units.as_bytes())?;
    out.write_all(b",\"symbolicated\":true,\"pausedRanges\":[],\"usesOnlyOneStackType\":true")?;
    out.write_all(b",\"sourceCodeIsNotOnSearchfox\":true,\"markerSchema\":[]")?;
    if let Some(busiest) = busiest {
        write!(out, ",\"initialSelectedThreads\":[{busiest}]")?;
    }
    out.write_all(b"}")
}

/// The tables of one thread, numbered by first use.
#[derive(Default)]
struct Tables {
    /// Text, and whether only the last component of that path is meant.
    strings: Numbered<(u32, bool)>,
    functions: Numbered<u32>,
    modules: Numbered<u32>,
    /// Frame and inline depth.
    frames: Numbered<(u32, u32)>,
    /// Our stack nodes, and each one's caller in this table.
    stacks: Numbered<u32>,
    prefixes: Vec<Option<u32>>,
    stack_frames: Vec<u32>,
}

impl Tables {
    /// The number of a stack, after those of its callers.
    fn number_stack(&mut self, profile: &Profile, stack: u32) -> Option<u32> {
        let mut path = Vec::new();
        let mut at = stack;
        while at != 0 && !self.stacks.index.contains_key(&at) {
            path.push(at);
            at = profile.stacks[at as usize].parent;
        }
        for node in path.into_iter().rev() {
            let caller = profile.stacks[node as usize].parent;
            let prefix = self.stacks.index.get(&caller).copied();
            let frame = profile.stacks[node as usize].frame;
            let depth = match prefix {
                Some(prefix) if profile.frames[frame as usize].flags & FRAME_INLINED != 0 => {
                    self.frames.entries[self.stack_frames[prefix as usize] as usize].1 + 1
                }
                _ => 0,
            };
            let function = profile.frames[frame as usize].function;
            self.functions.number(function);
            let of = &profile.functions[function as usize];
            self.strings.number((of.name, false));
            if of.file != 0 {
                self.strings.number((of.file, false));
            }
            if of.module != 0 {
                self.modules.number(of.module);
                self.strings.number((profile.modules[of.module as usize].path, true));
            }
            let frame = self.frames.number((frame, depth));
            self.stacks.number(node);
            self.prefixes.push(prefix);
            self.stack_frames.push(frame);
        }
        self.stacks.index.get(&stack).copied()
    }

    fn write_frames(&self, profile: &Profile, out: &mut impl Write) -> io::Result<()> {
        let frames =
            || self.frames.entries.iter().map(|&(frame, _)| &profile.frames[frame as usize]);
        let kind = |frame: &Frame| profile.functions[frame.function as usize].kind;
        write!(out, ",\n\"frameTable\":{{\"length\":{}", self.frames.entries.len())?;
        let addresses = frames().map(|frame| match frame.address {
            0 => -1,
            address if address < MAX_NUMBER => address as i64,
            _ => -1,
        });
        column(out, "address", addresses)?;
        column(out, "inlineDepth", self.frames.entries.iter().map(|&(_, depth)| depth))?;
        // Category 0 is `Other`: see `write_meta`.
        column(out, "category", frames().map(|frame| kind(frame) as usize + 1))?;
        column(out, "subcategory", frames().map(|_| 0))?;
        column(out, "func", frames().map(|frame| self.functions.index[&frame.function]))?;
        column(out, "nativeSymbol", frames().map(|_| "null"))?;
        column(out, "innerWindowID", frames().map(|_| 0))?;
        column(out, "line", frames().map(|frame| Known(frame.line)))?;
        column(out, "column", frames().map(|_| "null"))?;
        out.write_all(b"}")
    }

    fn write_functions(&self, profile: &Profile, out: &mut impl Write) -> io::Result<()> {
        let functions = || self.functions.entries.iter().map(|&id| &profile.functions[id as usize]);
        write!(out, ",\n\"funcTable\":{{\"length\":{}", self.functions.entries.len())?;
        column(out, "name", functions().map(|function| self.string(function.name)))?;
        column(out, "isJS", functions().map(|_| false))?;
        column(out, "relevantForJS", functions().map(|_| false))?;
        let resources = functions().map(|function| match function.module {
            0 => -1,
            module => i64::from(self.modules.index[&module]),
        });
        column(out, "resource", resources)?;
        let files = functions().map(|function| match function.file {
            0 => Nullable(None),
            file => Nullable(Some(self.string(file))),
        });
        column(out, "fileName", files)?;
        column(out, "lineNumber", functions().map(|function| Known(function.start_line)))?;
        column(out, "columnNumber", functions().map(|_| "null"))?;
        out.write_all(b"}")
    }

    fn write_resources(&self, profile: &Profile, out: &mut impl Write) -> io::Result<()> {
        let modules = || self.modules.entries.iter().copied();
        write!(out, ",\n\"resourceTable\":{{\"length\":{}", self.modules.entries.len())?;
        // `libs` begins with module 1.
        column(out, "lib", modules().map(|module| module - 1))?;
        let path = |module: u32| profile.modules[module as usize].path;
        column(out, "name", modules().map(|module| self.strings.index[&(path(module), true)]))?;
        column(out, "host", modules().map(|_| "null"))?;
        // Type 1 is a library.
        column(out, "type", modules().map(|_| 1))?;
        out.write_all(b"}")
    }

    fn write_stacks(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, ",\n\"stackTable\":{{\"length\":{}", self.stack_frames.len())?;
        column(out, "prefix", self.prefixes.iter().copied().map(Nullable))?;
        column(out, "frame", self.stack_frames.iter())?;
        out.write_all(b"}")
    }

    fn write_strings(&self, profile: &Profile, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b",\n\"stringArray\":[")?;
        for (i, &(id, base)) in self.strings.entries.iter().enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            let whole = profile.strings.get(id);
            text(out, if base { base_name(whole) } else { whole })?;
        }
        out.write_all(b"]")
    }

    /// The number of a string that is meant as a whole.
    fn string(&self, id: u32) -> u32 {
        self.strings.index[&(id, false)]
    }
}

fn write_thread(
    profile: &Profile,
    thread: usize,
    mut rows: Vec<u32>,
    pid: &str,
    tid: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let samples = &profile.samples;
    rows.sort_by_key(|&row| (samples.time_ns[row as usize], row));
    let mut tables = Tables::default();
    let stacks: Vec<Option<u32>> = (rows.iter())
        .map(|&row| tables.number_stack(profile, samples.stack[row as usize]))
        .collect();

    let of = &profile.threads[thread];
    let process = &profile.processes[of.process as usize];
    out.write_all(b"{\"name\":")?;
    text(out, profile.strings.get(of.comm))?;
    out.write_all(b",\"processName\":")?;
    text(out, profile.strings.get(process.comm))?;
    let main = of.tid == process.pid;
    write!(out, ",\"isMainThread\":{main},\"pid\":\"{pid}\",\"tid\":\"{tid}\"")?;
    out.write_all(
        b",\"processType\":\"default\",\"processStartupTime\":0,\"processShutdownTime\":null",
    )?;
    out.write_all(b",\"registerTime\":0,\"unregisterTime\":null,\"pausedRanges\":[]")?;
    out.write_all(
        b",\"showMarkersInTimeline\":false,\"markers\":{\"length\":0,\"category\":[],\"data\":[]",
    )?;
    out.write_all(b",\"endTime\":[],\"name\":[],\"phase\":[],\"startTime\":[]}")?;
    out.write_all(b",\"nativeSymbols\":{\"length\":0,\"address\":[],\"functionSize\":[],\"libIndex\":[],\"name\":[]}")?;

    tables.write_frames(profile, out)?;
    tables.write_functions(profile, out)?;
    tables.write_resources(profile, out)?;
    tables.write_stacks(out)?;
    write_samples(profile, &rows, &stacks, out)?;
    tables.write_strings(profile, out)?;
    out.write_all(b"}")
}

/// The samples of one thread, by time, each with its stack's number.
fn write_samples(
    profile: &Profile,
    rows: &[u32],
    stacks: &[Option<u32>],
    out: &mut impl Write,
) -> io::Result<()> {
    let samples = &profile.samples;
    let timed = profile.meta.duration_ns > 0 || samples.time_ns.iter().any(|&time| time > 0);
    let period_ns = profile.meta.period_ns;
    let weight = |row: u32| u64::from(samples.weight[row as usize]);
    write!(out, ",\n\"samples\":{{\"length\":{},\"weightType\":\"samples\"", rows.len())?;
    column(out, "stack", stacks.iter().copied().map(Nullable))?;
    let step_ns = if period_ns > 0 { period_ns } else { DEFAULT_INTERVAL_NS };
    let mut last_ns = 0;
    let deltas = rows.iter().enumerate().map(|(i, &row)| match timed {
        true => {
            let time_ns = samples.time_ns[row as usize];
            Ms(time_ns - std::mem::replace(&mut last_ns, time_ns))
        }
        false if i == 0 => Ms(0),
        false => Ms(step_ns.saturating_mul(weight(rows[i - 1]))),
    });
    column(out, "timeDeltas", deltas)?;
    column(out, "weight", rows.iter().map(|&row| weight(row)))?;
    if period_ns > 0 {
        let cpu_us = rows.iter().map(|&row| weight(row).saturating_mul(period_ns) / 1000);
        column(out, "threadCPUDelta", cpu_us)?;
    }
    out.write_all(b"}")
}

fn column(
    out: &mut impl Write,
    name: &str,
    values: impl Iterator<Item = impl Display>,
) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write!(out, "{value}")?;
    }
    out.write_all(b"]")
}

/// Entries in order of first use, and the place of each.
struct Numbered<T> {
    entries: Vec<T>,
    index: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { entries: Vec::new(), index: HashMap::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Numbered<T> {
    fn number(&mut self, entry: T) -> u32 {
        let next = self.entries.len() as u32;
        *self.index.entry(entry).or_insert_with(|| {
            self.entries.push(entry);
            next
        })
    }
}

/// Ids that the viewer takes for one thing's: a second thing of the same number gets `.1`.
#[derive(Default)]
struct Unique {
    uses: HashMap<u32, u32>,
}

impl Unique {
    fn name(&mut self, id: u32) -> String {
        let uses = self.uses.entry(id).or_default();
        *uses += 1;
        match *uses {
            1 => id.to_string(),
            more => format!("{id}.{}", more - 1),
        }
    }
}

/// Nanoseconds shown as milliseconds, exactly.
struct Ms(u64);

impl Display for Ms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A number or `null`.
struct Nullable(Option<u32>);

impl Display for Nullable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("null"),
        }
    }
}

/// A line, `null` when it is 0, unknown.
struct Known(u32);

impl Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Nullable((self.0 != 0).then_some(self.0)).fmt(f)
    }
}

/// Breakpad's form of a GNU build id: its first 16 bytes as a GUID, whose first three fields are
/// little endian, and the age 0.
fn breakpad_id(build_id: &str) -> String {
    let mut bytes = [0_u8; 16];
    let hex = build_id.as_bytes().chunks_exact(2);
    for (byte, digits) in bytes.iter_mut().zip(hex) {
        let digits = std::str::from_utf8(digits).unwrap_or("");
        match u8::from_str_radix(digits, 16) {
            Ok(value) => *byte = value,
            // Go's ids are text.
            Err(_) => return format!("{:033}", 0),
        }
    }
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    let mut id: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    id.push('0');
    id
}

/// The viewer's colour of a kind.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Kernel => "orange",
        Kind::Native => "blue",
        Kind::Rust => "brown",
        Kind::Go => "lightblue",
        Kind::Jvm => "green",
        Kind::Cpython | Kind::V8js => "yellow",
        Kind::Ruby => "red",
        Kind::Php | Kind::Dotnet => "purple",
        Kind::Perl | Kind::Beam => "magenta",
        Kind::Luajit | Kind::Jit => "lightgreen",
        Kind::Note => "darkgrey",
    }
}

#[cfg(test)]
mod tests {
    /// The example of breakpad's own test of its identifiers.
    #[test]
    fn breakpad_ids() {
        assert_eq!(
            super::breakpad_id("000102030405060708090a0b0c0d0e0f"),
            "030201000504070608090A0B0C0D0E0F0"
        );
        assert_eq!(super::breakpad_id("a/b"), "0".repeat(33));
        assert_eq!(super::breakpad_id(""), "0".repeat(33));
    }
}
