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
    if !is_beginning(text.lines()) {
        return Err(not_a_beginning(&text));
    }
    let mut reader = Reader {
        a: Assembler::new(NAME, *limits),
        columns: Columns::of(&text),
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

/// Which columns heads have. perf prints the same in the whole of a text, as `-F` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    times: bool,
    /// Pid, tid or both.
    ids: bool,
}

impl Columns {
    /// As the first head has them. Without times, a number at the end of each head that fills
    /// an id's columns is one; others belong to names (`-F comm,ip`: `worker 1`).
    fn of(text: &str) -> Columns {
        let mut heads = (text.lines()).filter(|line| {
            let is_other = line.starts_with('\t') || is_aside(line) || is_srcline(line);
            !is_other && !line.starts_with('#') && !line.trim().is_empty()
        });
        let first = heads.clone().next().unwrap_or("");
        let with_ids = head(first, true).is_some();
        let times = with_ids || head(first, false).is_some();
        let ids = with_ids || !times && heads.all(|line| is_padded_id(behind_ids(line).0));
        Columns { times, ids }
    }
}

/// The head of a sample.
#[derive(Debug, Default, PartialEq)]
struct Head<'a> {
    comm: &'a str,
    pid: u32,
    tid: u32,
    cpu: u16,
    time_ns: u64,
    period: Option<u64>,
    event: &'a str,
    /// Without `-g`, the one frame; else "".
    leaf: &'a str,
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
    columns: Columns,
    /// By pid; where there are none, by name.
    processes: HashMap<(u32, &'a str), u32>,
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
        // A thread's name may begin so.
        if line.starts_with('#') && head(line, true).is_none() || is_aside(line) {
            return Ok(());
        }
        if !self.columns.times {
            return self.line_without_time(line);
        }
        // Before a stack the name is padded to 16 columns with `-g` off; frames begin with a tab.
        let ids = self.columns.ids;
        let head_of = |line| head(line, ids);
        let padded = if line.starts_with(' ') { head_of(line) } else { None };
        if padded.is_none() && line.starts_with([' ', '\t']) {
            if let Some(frame) = frame(line.trim_start()) {
                if self.head.is_none() {
                    return Err(Trouble::Fault(Fault::NoHead));
                }
                self.frames.push(frame);
                return Ok(());
            }
            if self.is_below_frame(line) {
                return Ok(());
            }
        }
        let Some(head) = padded.or_else(|| head_of(line)) else {
            let text = excerpt(line);
            return Err(Trouble::Fault(Fault::Line { text }));
        };
        self.end_sample()?;
        self.head = Some(head);
        Ok(())
    }

    /// Whether a line tells where the frame above it is; its source line is taken.
    fn is_below_frame(&mut self, line: &'a str) -> bool {
        if let (Some(source), Some(last)) = (source(line.trim()), self.frames.last_mut()) {
            last.source = Some(source);
            return true;
        }
        self.head.is_some() && is_srcline(line)
    }

    /// A line of a text whose heads have no time: a stack's frames begin with a tab, and without
    /// `-g` the one frame stands behind the head.
    fn line_without_time(&mut self, line: &'a str) -> Result<(), Trouble> {
        if let Some(frame) = line.strip_prefix('\t').and_then(|line| frame(line.trim_start())) {
            // `-F ip,sym` leaves nothing of the head but an empty line.
            self.head.get_or_insert_default();
            self.frames.push(frame);
            return Ok(());
        }
        if self.is_below_frame(line) {
            return Ok(());
        }
        let Some(head) = head_without_time(line, self.columns) else {
            return Err(Trouble::Fault(Fault::Line { text: excerpt(line) }));
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
            self.frames.extend(frame(head.leaf));
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
        let key = (head.pid, if self.columns.ids { "" } else { head.comm });
        let process = *self.processes.entry(key).or_insert_with(|| {
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

/// Whether these lines are how such a text begins: with a head that has a time; or with any line and
/// a frame, in it or in the next one. A frame's address stands at the right of 16 columns.
pub(crate) fn is_beginning<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let mut lines = lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let Some(first) = lines.next() else {
        return false;
    };
    let is_frame = |line: &str| line.starts_with('\t') && address_at(line).is_some();
    head(first, true).is_some() || address_at(first).is_some() || lines.next().is_some_and(is_frame)
}

/// What is wrong with a text that [`is_beginning`] refuses.
fn not_a_beginning(text: &str) -> Error {
    let first = (text.lines().enumerate())
        .find(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (i, fault) = match first {
        None => (0, Fault::Empty),
        Some((i, line)) if line.starts_with('\t') && frame(line.trim_start()).is_some() => {
            (i, Fault::NoHead)
        }
        Some((i, line)) => (i, Fault::Line { text: excerpt(line) }),
    };
    Error::Content { format: NAME, at: At::Line(i as u64 + 1), fault }
}

/// Where the address of a frame stands in a line: the last number in hex that ends 16 columns or
/// more behind what stands before it (a command named `cc1` fills its columns too).
fn address_at(line: &str) -> Option<usize> {
    const COLUMNS: usize = 16;
    let mut found = None;
    let mut at = 0;
    for word in line.split([' ', '\t']) {
        let spaces = line[..at].bytes().rev().take_while(|&byte| byte == b' ').count();
        let is_hex = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && word.len() <= COLUMNS && spaces + word.len() >= COLUMNS {
            found = Some(at);
        }
        at += word.len() + 1;
    }
    found
}

/// What stands before a frame's address, and the frame; "" where a line has none.
fn split_leaf(line: &str) -> (&str, &str) {
    line.split_at(address_at(line).unwrap_or(line.len()))
}

/// `[comm] [pid/tid] [cpu] [period] [event:]`, all of which may lack.
fn head_without_time(line: &str, columns: Columns) -> Option<Head<'_>> {
    /// The kernel's `TASK_COMM_LEN`, less its NUL.
    const COMM_BYTES: usize = 15;
    let (mut rest, mut head) = behind_ids(line);
    if columns.ids {
        (rest, head.pid, head.tid) = ids_at_end(rest)?;
    }
    head.comm = rest.trim();
    (head.comm.len() <= COMM_BYTES).then_some(head)
}

/// What stands behind the ids of a head without a time, and the text before it.
fn behind_ids(line: &str) -> (&str, Head<'_>) {
    /// perf prints a period as wide as this, and one blank before it.
    const PERIOD_COLUMNS: usize = 10 + 1;
    let (before, leaf) = split_leaf(line);
    let (mut rest, mut head) = (before.trim_end(), Head { leaf, ..Head::default() });
    if let Some((before, event)) = rest.rsplit_once(' ').filter(|(_, last)| last.ends_with(':')) {
        head.event = event;
        rest = before.trim_end();
        if let Some((before, number)) = rest.rsplit_once(' ')
            && rest.len() - before.trim_end().len() >= PERIOD_COLUMNS
            && let Ok(period) = number.parse()
        {
            (rest, head.period) = (before.trim_end(), Some(period));
        }
    }
    if let Some((before, cpu)) = cpu_at_end(rest) {
        (rest, head.cpu) = (before, cpu);
    }
    (rest, head)
}

/// `[003]` and what stands before it.
fn cpu_at_end(text: &str) -> Option<(&str, u16)> {
    let (before, last) = text.rsplit_once(' ')?;
    let number = last.strip_prefix('[')?.strip_suffix(']')?;
    Some((before.trim_end(), number.parse().ok()?))
}

/// Whether a head without a time ends with ids: each fills five columns at least, behind a blank.
fn is_padded_id(head: &str) -> bool {
    ids_at_end(head).is_some_and(|(before, ..)| {
        let blank = usize::from(!before.trim().is_empty());
        head.len() - before.trim_end().len() >= 5 + blank
    })
}

/// `pid/tid`, or one of them, and what stands before it.
fn ids_at_end(text: &str) -> Option<(&str, u32, u32)> {
    let (before, ids) = text.rsplit_once(' ').unwrap_or(("", text));
    // A task that perf no longer knows, as it had ended, is `:-1 -1`.
    let number = |id: &str| if id == "-1" { Some(UNKNOWN_ID) } else { id.parse().ok() };
    let (pid, tid) = ids.split_once('/').unwrap_or((ids, ids));
    Some((before, number(pid)?, number(tid)?))
}

/// `comm pid/tid [cpu] seconds: period event:`, found from the time, as a comm may hold anything; or
/// all but the ids.
fn head(line: &str, ids: bool) -> Option<Head<'_>> {
    let mut from = 0;
    loop {
        // The first word "12.345678:" behind which the words before make sense.
        let colon = from
            + line
                .get(from..)?
                .find(": ")
                .or_else(|| line.get(from..)?.ends_with(':').then(|| line.len() - from - 1))?;
        if let Some(head) = head_at(line, colon, ids) {
            return Some(head);
        }
        from = colon + 1;
    }
}

fn head_at(line: &str, colon: usize, ids: bool) -> Option<Head<'_>> {
    let (before, time) = line[..colon].rsplit_once(' ').unwrap_or(("", &line[..colon]));
    let time_ns = seconds(time)?;
    let before = before.trim_end();
    let (before, cpu) = match before.rsplit_once(' ') {
        Some((_, last)) if last.starts_with('[') => cpu_at_end(before)?,
        _ => (before, 0),
    };
    let (comm, pid, tid) = if ids { ids_at_end(before)? } else { (before, 0, 0) };
    let (rest, leaf) = split_leaf(&line[colon + 1..]);
    let rest = rest.trim();
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    let period = first.parse().ok();
    let event = if period.is_some() { others.trim() } else { rest };
    Some(Head { comm: comm.trim(), pid, tid, cpu, time_ns, period, event, leaf })
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
        None => rest.split_at(module_start(rest).unwrap_or(rest.len())),
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

/// Where `(module)` begins: its parenthesis is that of the last one and has a blank before it, which
/// that of a C++ function's parameters has not.
fn module_start(rest: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in rest.bytes().enumerate().rev() {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let is_start = byte == b'(' && (at == 0 || rest.as_bytes()[at - 1] == b' ');
            return is_start.then_some(at);
        }
    }
    None
}

/// A line about something else than samples: `--show-mmap-events` and its kin, `-F +srccode` and `+insn`.
fn is_aside(line: &str) -> bool {
    line.contains(": PERF_RECORD_")
        || line.starts_with('|')
        || line.trim_start().starts_with("insn: ")
}

/// Is this what `-F +srcline` prints below a frame: `  file.c:12`, or `  module[address]` of code without
/// lines?
fn is_srcline(line: &str) -> bool {
    let text = line.trim();
    line.starts_with("  ") && (source(text).is_some() || text.ends_with(']') && text.contains('['))
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
            let head = head(line, true).unwrap_or_else(|| panic!("no head: {line}"));
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
        assert_eq!(head("no time here: at all", true), None);
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
        assert_eq!(stacks_of(&profile), [vec!["gcc::f(int)"], vec!["do_exit"], vec![]]);
        let mut comms: Vec<(&str, u32)> = (profile.processes.iter())
            .map(|process| (profile.strings.get(process.comm), process.pid))
            .collect();
        comms.sort_unstable();
        assert_eq!(comms, [(":-1", 0), ("cc1", 16426), ("sh", 7)]);
        assert_eq!(profile.meta.value_type, "samples of cpu-clock:ppp, sched:sched_switch");
    }

    /// The same two samples as `-F` shows them: what is there is read, and it is known for what it is.
    #[test]
    fn fields_left_out() {
        let stacks = |heads: [&str; 2], dso: &str| {
            let [first, second] = heads;
            format!(
                "{first}\n\t          61c24a [unknown]{dso}\n\t              47 main{dso}\n\n\
                 {second}\n\tffffffff81676e4a do_page{dso}\n\t          9b2984 f(int, char){dso}\n\n"
            )
        };
        let leaves = |heads: [&str; 2]| {
            let [first, second] = heads;
            format!("{first}           61c24a [unknown]\n{second} ffffffff81676e4a do_page\n")
        };
        let with_pids = [("cc1", 5967), ("tmux: server", 12)];
        let without = [("cc1", 0), ("tmux: server", 0)];
        let ended = [("worker 1", 0), ("worker 2", 0)];
        let deep = [vec!["main", "0x61c24a"], vec!["f(int, char)", "do_page"]];
        let flat = [vec!["0x61c24a"], vec!["do_page"]];
        type Case<'a> = (String, &'a [(&'a str, u32)], &'a [Vec<&'a str>]);
        let cases: [Case; 12] = [
            (stacks(["cc1  5967 ", "tmux: server    12 "], " (/bin/x)"), &with_pids, &deep),
            (stacks(["cc1  5967/5967  ", "tmux: server    12/13    "], ""), &with_pids, &deep),
            (
                stacks(
                    [
                        "cc1  5967/5967  [000]   10101010 cpu-clock:ppp: ",
                        "tmux: server    12/13    [001] cycles: ",
                    ],
                    "",
                ),
                &with_pids,
                &deep,
            ),
            (stacks(["cc1 [000] ", "tmux: server [001] "], ""), &without, &deep),
            (stacks(["cc1 ", "tmux: server "], ""), &without, &deep),
            (stacks(["worker 1 ", "worker "], ""), &[("worker", 0), ("worker 1", 0)], &deep),
            (stacks(["", ""], ""), &[("", 0)], &deep),
            (stacks(["    1.5: ", "    2.5: "], ""), &[("", 0)], &deep),
            (stacks(["cc1     1.5: ", "tmux: server     2.5: "], ""), &without, &deep),
            (
                leaves(["             cc1  5967     1.5: ", "    tmux: server    12     2.5: "]),
                &with_pids,
                &flat,
            ),
            (leaves(["             cc1  5967 ", "    tmux: server    12 "]), &with_pids, &flat),
            (leaves(["        worker 1", "        worker 2"]), &ended, &flat),
        ];
        for (text, processes, expected) in cases {
            assert_eq!(
                crate::Format::detect(text.as_bytes()),
                Some(crate::Format::PerfScript),
                "{text}"
            );
            let profile = read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
            let mut stacks = stacks_of(&profile);
            // Without a module an unnamed place is its address.
            for name in stacks.iter_mut().flatten().filter(|name| name.contains("61c24a")) {
                *name = "0x61c24a";
            }
            stacks.sort_unstable_by_key(|stack| stack.contains(&"do_page"));
            assert_eq!(stacks, expected, "{text}");
            let mut comms: Vec<(&str, u32)> = (profile.processes.iter())
                .map(|process| (profile.strings.get(process.comm), process.pid))
                .collect();
            comms.sort_unstable();
            assert_eq!(comms, processes, "{text}");
            let has_times = text.contains("1.5:");
            let times = if has_times { [0, 1_000_000_000] } else { [0, 0] };
            assert_eq!(profile.samples.time_ns, times, "{text}");
        }
        // What is folded stays folded, with a name in hex and lines of a name only too.
        for folded in ["cc1 5967\ncc1;f 12\n", "cafe 12\n", "a;b;c0ffee 1\n\ta;b 2\n"] {
            let format = crate::Format::detect(folded.as_bytes());
            assert_eq!(format, Some(crate::Format::Folded), "{folded}");
        }
        let error = read(b"cc1 1 \n\t          61c24a f\n\nwhat is this line then? 1\n");
        let error = error.expect_err("no head").to_string();
        assert!(error.contains("line 4") && error.contains("what is this"), "{error}");
    }

    /// Names that look like comments, lines about other events, and what options print below frames.
    #[test]
    fn asides() {
        let text = "\
# captured on: a day
perf-exec     7 1.000000: PERF_RECORD_COMM exec: perf-exec:7/7
# hash     9 [000] 1.000001:     250000 cpu-clock:ppp: \n\t            1180 f+0x1 (/x)
  w.c:8
\t            1190 g+0x1 (/x)
|8   static inline int
  [x][1190]

             cc1     7 [000] 1.000002:     250000 cpu-clock:ppp:            8222af h+0x3f (/x)
  w.c:9
 insn: 66 0f
";
        let profile = read(text.as_bytes()).expect("read");
        assert_eq!(stacks_of(&profile), [vec!["g", "f"], vec!["h"]]);
        let comms: Vec<&str> =
            profile.threads.iter().map(|thread| profile.strings.get(thread.comm)).collect();
        assert_eq!(comms, ["# hash", "cc1"]);
    }

    /// The names of each sample, outermost first.
    fn stacks_of(profile: &Profile) -> Vec<Vec<&str>> {
        let name = |frame: u32| {
            let function = profile.frames[frame as usize].function;
            profile.strings.get(profile.functions[function as usize].name)
        };
        let stack = |&stack: &u32| {
            let mut names: Vec<&str> = profile.walk(stack).map(name).collect();
            names.reverse();
            names
        };
        profile.samples.stack.iter().map(stack).collect()
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
        check(
            "1180 f(int, g (*)(void)) (/usr/bin/a (deleted))",
            0x1180,
            "f(int, g (*)(void))",
            "/usr/bin/a (deleted)",
        );
        check("1180 f(void (*)(int))", 0x1180, "f(void (*)(int))", "");
        check("1180 f(int) const", 0x1180, "f(int) const", "");
        check("7f00 hash (inlined)", 0x7f00, "hash", "inlined");
        check("7f00 ([vdso])", 0x7f00, "", "[vdso]");
        check("0 [unknown] ([unknown])", 0, "[unknown]", "[unknown]");
    }
}
