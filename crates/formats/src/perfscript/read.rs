//! `perf script` text → profile.

use std::collections::HashMap;

use hotframe_core::profile::{
    FRAME_INLINED, FRAME_UNNAMED, Frame, Function, Kind, Process, Profile,
};

use super::NAME;
use crate::canonical::canonical;
use crate::error::excerpt;
use crate::gzip::inflate;
use crate::tree::unnamed;
use crate::{Assembler, At, Error, Fault, Limits, Row};

/// Reads the text, gzipped or not.
///
/// # Errors
/// Those of [`Error`], but not [`Error::Write`].
pub fn read(bytes: &[u8]) -> Result<Profile, Error> {
    read_within(bytes, &Limits::default())
}

/// [`read`] within other limits.
///
/// # Errors
/// Likewise.
pub fn read_within(bytes: &[u8], limits: &Limits) -> Result<Profile, Error> {
    let bytes = inflate(NAME, bytes, limits)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut reader = Reader {
        a: Assembler::new(NAME, *limits),
        processes: HashMap::new(),
        head: None,
        frames: Vec::new(),
        first_ns: u64::MAX,
        last_ns: 0,
        period: None,
        events: Vec::new(),
    };
    for (i, line) in text.lines().enumerate() {
        reader.line(line).map_err(|error| match error {
            Trouble::Fault(fault) => {
                Error::Content { format: NAME, at: At::Line(i as u64 + 1), fault }
            }
            Trouble::Error(error) => error,
        })?;
    }
    reader.end_sample()?;
    reader.finish()
}

/// More events than these are not told apart.
const MAX_EVENTS: usize = 8;

/// Stands for the −1 that perf writes where it knows no process or thread.
const UNKNOWN_ID: u32 = u32::MAX;

/// The head of a sample.
#[derive(Debug, PartialEq)]
struct Head<'a> {
    comm: &'a str,
    pid: u32,
    tid: u32,
    cpu: u16,
    time_ns: u64,
    period: Option<u64>,
    event: &'a str,
}

/// A frame as a line has it, and the source line that may follow.
struct Line<'a> {
    address: u64,
    name: &'a str,
    module: &'a str,
    source: Option<(&'a str, u32)>,
}

enum Trouble {
    Fault(Fault),
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Error(error)
    }
}

struct Reader<'a> {
    a: Assembler,
    processes: HashMap<u32, u32>,
    head: Option<Head<'a>>,
    /// Leaf first.
    frames: Vec<Line<'a>>,
    first_ns: u64,
    last_ns: u64,
    /// The period of all samples so far; 0 once they differ.
    period: Option<u64>,
    /// The events so far, up to [`MAX_EVENTS`].
    events: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Result<(), Trouble> {
        if line.trim().is_empty() {
            return Ok(self.end_sample()?);
        }
        if line.starts_with('#') {
            return Ok(());
        }
        // Before a stack the name is padded to 16 columns with `-g` off; frames begin with a tab.
        let padded = if line.starts_with(' ') { head(line) } else { None };
        if padded.is_none() && line.starts_with([' ', '\t']) {
            if let Some(frame) = frame(line.trim_start()) {
                if self.head.is_none() {
                    return Err(Trouble::Fault(Fault::NoHead));
                }
                self.frames.push(frame);
                return Ok(());
            }
            if let (Some(source), Some(last)) = (source(line.trim()), self.frames.last_mut()) {
                last.source = Some(source);
                return Ok(());
            }
            // `-F +srcline` of code without lines: `  module[address]`.
            if !self.frames.is_empty() && line.ends_with(']') && line.contains('[') {
                return Ok(());
            }
        }
        let Some(head) = padded.or_else(|| head(line)) else {
            let text = excerpt(line);
            return Err(Trouble::Fault(Fault::Line { text }));
        };
        self.end_sample()?;
        self.head = Some(head);
        Ok(())
    }

    fn end_sample(&mut self) -> Result<(), Error> {
        let Some(head) = self.head.take() else {
            return Ok(());
        };
        if self.frames.is_empty() {
            // Without `-g` the one frame stands behind the event.
            self.frames.extend(head.event.split_once(": ").and_then(|(_, rest)| leaf(rest)));
        }
        let mut stack = 0;
        let mut inner: Vec<u32> = Vec::new();
        // An inlined function has the module and address of the next outer one that has a module.
        let mut outer = (0, 0, Kind::Native);
        for line in self.frames.drain(..).rev() {
            let inlined = line.module == "inlined";
            if !inlined {
                let kind = kind(line.module, line.address);
                outer = (self.a.module(line.module, ""), line.address, kind);
            }
            let (module, address, kind) = outer;
            let unknown = matches!(line.name, "" | "[unknown]");
            let path = if inlined { "" } else { line.module };
            let name = match unknown {
                true if path == "[unknown]" => self.a.string("[unknown]"),
                true => self.a.string(&unnamed(path, address)),
                false => self.a.string(line.name),
            };
            let (file, number) = line.source.unwrap_or(("", 0));
            let file = self.a.string(file);
            let function = self.a.function(Function {
                name,
                system_name: 0,
                file,
                start_line: 0,
                module,
                kind,
            });
            let mut flags = if inlined { FRAME_INLINED } else { 0 };
            flags |= if unknown { FRAME_UNNAMED } else { 0 };
            inner.push(self.a.frame(Frame { function, line: number, address, flags }));
        }
        for frame in inner {
            stack = self.a.node(stack, frame)?;
        }
        let comm = self.a.string(head.comm);
        let process = *self.processes.entry(head.pid).or_insert_with(|| {
            let pid = if head.pid == UNKNOWN_ID { 0 } else { head.pid };
            self.a.process(Process { pid, comm, ..Process::default() })
        });
        if head.pid == head.tid {
            self.a.profile.processes[process as usize].comm = comm;
        }
        let tid = if head.tid == UNKNOWN_ID { 0 } else { head.tid };
        let thread = self.a.thread(process, tid, comm);
        self.first_ns = self.first_ns.min(head.time_ns);
        self.last_ns = self.last_ns.max(head.time_ns);
        let period = match head.event.split(':').next() {
            Some("cpu-clock" | "task-clock") => head.period.unwrap_or(0),
            _ => 0,
        };
        self.period = match self.period {
            None => Some(period),
            Some(same) if same == period => Some(same),
            Some(_) => Some(0),
        };
        let (event, _) = head.event.split_once(": ").unwrap_or((head.event, ""));
        let event = event.trim_end_matches(':');
        if self.events.len() < MAX_EVENTS && !self.events.contains(&event) {
            self.events.push(event);
        }
        self.a.sample(Row {
            time_ns: head.time_ns,
            thread,
            stack,
            cpu: head.cpu,
            cut: 0,
            weight: 1,
        })
    }

    fn finish(mut self) -> Result<Profile, Error> {
        let profile = &mut self.a.profile;
        if profile.samples.stack.is_empty() {
            return Err(Error::Content { format: NAME, at: At::Line(1), fault: Fault::Empty });
        }
        // perf's clock starts at boot: only distances mean something.
        for time_ns in &mut profile.samples.time_ns {
            *time_ns -= self.first_ns;
        }
        profile.meta.duration_ns = (self.last_ns - self.first_ns).saturating_add(1);
        profile.meta.period_ns = self.period.unwrap_or(0);
        if self.events.len() > 1 {
            // A sum of page faults and time is neither: what was counted is said.
            profile.meta.value_type = format!("samples of {}", self.events.join(", "));
            profile.meta.value_unit = "count".into();
        }
        self.a.count_processes();
        canonical(&self.a.profile)
    }
}

/// Whether a line is the head of a sample.
pub(crate) fn is_head(line: &str) -> bool {
    head(line).is_some()
}

/// `comm pid/tid [cpu] seconds: period event:`, found from the time, as a comm may hold anything.
fn head(line: &str) -> Option<Head<'_>> {
    let mut from = 0;
    loop {
        // The first word "12.345678:" behind which the words before make sense.
        let colon = from
            + line
                .get(from..)?
                .find(": ")
                .or_else(|| line.get(from..)?.ends_with(':').then(|| line.len() - from - 1))?;
        if let Some(head) = head_at(line, colon) {
            return Some(head);
        }
        from = colon + 1;
    }
}

fn head_at(line: &str, colon: usize) -> Option<Head<'_>> {
    let (before, time) = line[..colon].rsplit_once(' ')?;
    let time_ns = seconds(time)?;
    let mut before = before.trim_end();
    let mut cpu = 0;
    if let Some((rest, last)) = before.rsplit_once(' ')
        && let Some(number) = last.strip_prefix('[').and_then(|last| last.strip_suffix(']'))
    {
        cpu = number.parse().ok()?;
        before = rest.trim_end();
    }
    let (comm, ids) = before.rsplit_once(' ')?;
    // A task that perf no longer knows, as it had ended, is `:-1 -1`.
    let number = |id: &str| if id == "-1" { Some(UNKNOWN_ID) } else { id.parse().ok() };
    let (pid, tid) = ids.split_once('/').unwrap_or((ids, ids));
    let (pid, tid) = (number(pid)?, number(tid)?);
    let rest = line[colon + 1..].trim();
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    let period = first.parse().ok();
    let event = if period.is_some() { others.trim() } else { rest };
    Some(Head { comm: comm.trim(), pid, tid, cpu, time_ns, period, event })
}

/// `12.345678` in nanoseconds; up to nine digits behind the point.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}

/// `address symbol+0xoffset (module)`.
fn frame(line: &str) -> Option<Line<'_>> {
    let (address, rest) = line.split_once(' ').unwrap_or((line, ""));
    let address = u64::from_str_radix(address, 16).ok()?;
    let rest = rest.trim();
    let (name, module) = match symbol_end(rest) {
        Some(end) => rest.split_at(end),
        None => rest.rfind('(').map_or((rest, ""), |at| rest.split_at(at)),
    };
    let module = module.trim();
    let module = module.strip_prefix('(').unwrap_or(module);
    let module = module.strip_suffix(')').unwrap_or(module);
    let name = match name.rsplit_once("+0x") {
        Some((name, offset)) if u64::from_str_radix(offset, 16).is_ok() => name,
        _ => name,
    };
    Some(Line { address, name: name.trim(), module, source: None })
}

/// The frame of a sample without a stack. What a tracepoint says of itself stands in the same
/// place: a frame begins with an address and ends with its module.
fn leaf(rest: &str) -> Option<Line<'_>> {
    let rest = rest.trim();
    let frame = frame(rest)?;
    (rest.ends_with(')') && !frame.module.is_empty()).then_some(frame)
}

/// Where the symbol ends, its offset included, when a module follows: both may hold parentheses.
fn symbol_end(rest: &str) -> Option<usize> {
    if rest.starts_with("[unknown] (") {
        return Some("[unknown]".len());
    }
    rest.match_indices("+0x").find_map(|(at, sign)| {
        let start = at + sign.len();
        let digits = rest[start..].bytes().take_while(u8::is_ascii_hexdigit).count();
        rest[start + digits..].starts_with(" (").then_some(start + digits)
    })
}

/// `file.c:12` of `-F +srcline`.
fn source(line: &str) -> Option<(&str, u32)> {
    let (file, number) = line.rsplit_once(':')?;
    Some((file, number.parse().ok()?))
}

/// The kind that the module tells: perf names the kernel and its modules in brackets, and what a
/// JIT compiler left a map of by that map's file.
fn kind(module: &str, address: u64) -> Kind {
    if module.starts_with("/tmp/perf-") && module.ends_with(".map") {
        return Kind::Jit;
    }
    let user_file = matches!(module, "[vdso]" | "[vsyscall]" | "[unknown]" | "[heap]" | "[stack]");
    let kernel = module.starts_with('[') && !user_file || module.ends_with(".ko");
    // The upper half of the addresses is the kernel's on every 64-bit machine.
    match kernel || address >> 63 == 1 && module != "[vsyscall]" {
        true => Kind::Kernel,
        false => Kind::Native,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads of several versions and options of perf; comms with spaces, digits and colons.
    #[test]
    fn heads() {
        let check = |line, comm: &str, ids, cpu, time_ns, period, event: &str| {
            let head = head(line).unwrap_or_else(|| panic!("no head: {line}"));
            let got =
                (head.comm, (head.pid, head.tid), head.cpu, head.time_ns, head.period, head.event);
            assert_eq!(got, (comm, ids, cpu, time_ns, period, event));
        };
        check(
            "clang 4711/4712 [003] 12.000001:   10101010 cpu-clock:pppH: ",
            "clang",
            (4711, 4712),
            3,
            12_000_001_000,
            Some(10_101_010),
            "cpu-clock:pppH:",
        );
        check(
            "swapper     0 [000] 1.5: cycles: ",
            "swapper",
            (0, 0),
            0,
            1_500_000_000,
            None,
            "cycles:",
        );
        check(
            "tmux: server 1.2: x 33 900.123456789:      1 cycles:u:",
            "tmux: server 1.2: x",
            (33, 33),
            0,
            900_123_456_789,
            Some(1),
            "cycles:u:",
        );
        assert_eq!(head("no time here: at all"), None);
    }

    /// What perf writes without `-g`, of tasks that have ended, of tracepoints, and for
    /// `-F +srcline` where there are no lines.
    #[test]
    fn variants() {
        let text = "\
             cc1 16426 [000] 1.000001:   10101010 cpu-clock:ppp:            8222af gcc::f(int)+0x3f (/usr/lib/cc1)
:-1    -1 [001] 1.000002:     250000   cpu-clock:ppp: 
\tffffffff81000010 do_exit+0x10 ([kernel.kallsyms])
  [kernel.kallsyms][ffffffff81000010]

sh 7 [000] 1.000003: sched:sched_switch: prev_comm=sh prev_pid=7 (x)
";
        let profile = read(text.as_bytes()).expect("read");
        let names: Vec<Vec<&str>> = (profile.samples.stack.iter())
            .map(|&stack| {
                let name = |frame: u32| {
                    let function = profile.frames[frame as usize].function;
                    profile.strings.get(profile.functions[function as usize].name)
                };
                profile.walk(stack).map(name).collect()
            })
            .collect();
        assert_eq!(names, [vec!["gcc::f(int)"], vec!["do_exit"], vec![]]);
        let mut comms: Vec<(&str, u32)> = (profile.processes.iter())
            .map(|process| (profile.strings.get(process.comm), process.pid))
            .collect();
        comms.sort_unstable();
        assert_eq!(comms, [(":-1", 0), ("cc1", 16426), ("sh", 7)]);
        assert_eq!(profile.meta.value_type, "samples of cpu-clock:ppp, sched:sched_switch");
    }

    /// Frames, C++ names with spaces and parentheses among them.
    #[test]
    fn frames() {
        let check = |line, address, name: &str, module: &str| {
            let frame = frame(line).unwrap_or_else(|| panic!("no frame: {line}"));
            assert_eq!((frame.address, frame.name, frame.module), (address, name, module));
        };
        check(
            "ffffffff81000010 do_syscall_64+0x10 ([kernel.kallsyms])",
            0xffff_ffff_8100_0010,
            "do_syscall_64",
            "[kernel.kallsyms]",
        );
        check(
            "1180 f(int, g (*)(void))+0x4 (/usr/bin/a (deleted))",
            0x1180,
            "f(int, g (*)(void))",
            "/usr/bin/a (deleted)",
        );
        check("7f00 [unknown] (/usr/lib/x.so)", 0x7f00, "[unknown]", "/usr/lib/x.so");
        check("7f00 hash (inlined)", 0x7f00, "hash", "inlined");
        check("7f00 ([vdso])", 0x7f00, "", "[vdso]");
        check("0 [unknown] ([unknown])", 0, "[unknown]", "[unknown]");
    }
}
