//! Reads a jitdump from beginning to end, for the wanted addresses only.
//!
//! A file header, then records, each with its length and a time stamp. `CODE_LOAD` names a range of
//! addresses from its time on, `CODE_MOVE` says that the code of a number lies elsewhere now, and
//! `CODE_DEBUG_INFO` stands before the load that it has the lines of. All others are stepped over.
//!
//! A record whose fields contradict its length costs itself and is counted. A length that cannot be
//! one costs the rest of the file, since nothing else says where records begin.

use crate::{LINE_MAX_BYTES, Named, Report, Wanted};
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// Bytes of a dump that are read; it holds the code as well.
pub const DUMP_MAX_BYTES: u64 = 1 << 30;
/// Entries of one table of lines that are read; V8 writes one a statement.
const LINES_MAX: u64 = 1 << 16;
/// Code may be sampled before its record says that it is there, by this much: agents of the JVM are
/// told by another thread.
const LATE_MAX_NS: u64 = 1_000_000_000;
/// Tables of lines that wait for the load which they belong to: one a thread that compiles.
const PENDING_MAX: usize = 64;

const WINDOW_BYTES: usize = 64 << 10;
const MAGIC: u32 = 0x4a69_5444;
const HEADER_BYTES: usize = 40;
const RECORD_BYTES: usize = 16;
const LOAD_BYTES: usize = RECORD_BYTES + 40;
const MOVE_BYTES: usize = RECORD_BYTES + 48;
const DEBUG_BYTES: usize = RECORD_BYTES + 16;
const CODE_LOAD: u32 = 0;
const CODE_MOVE: u32 = 1;
const CODE_DEBUG_INFO: u32 = 2;
/// Time stamps are those of the CPU's counter, which samples do not have.
const FLAG_ARCH_TIMESTAMP: u64 = 1;
/// V8's sign: its header's padding, and how far its lines' addresses are ahead of the code, the size
/// of the ELF header that `perf inject` puts before it.
const V8_PADDING: u32 = 0xdead_beef;
const V8_LINES_AHEAD_BYTES: u64 = 64;
#[cfg(target_arch = "x86_64")]
const OWN_MACHINE: u32 = 62;
#[cfg(target_arch = "aarch64")]
const OWN_MACHINE: u32 = 183;

/// Reads at an offset.
pub(crate) type ReadAt<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>;

/// Names the sorted `wanted`. `own_pid` is what the process calls itself.
pub(crate) fn name(
    read_at: ReadAt<'_>,
    file_bytes: u64,
    own_pid: u32,
    wanted: &[Wanted],
    report: &mut Report,
) -> io::Result<Vec<Option<Named>>> {
    let end = file_bytes.min(DUMP_MAX_BYTES);
    report.unread_bytes += file_bytes - end;
    report.beyond_bytes += file_bytes - end;
    let mut dump = Dump { window: Window::new(read_at), end, own_pid, header: Header::default() };
    match dump.header() {
        Ok(header) => dump.header = header,
        Err(Bad::Io(cause)) => return Err(cause),
        Err(Bad::Header(why)) => {
            // One that was not flushed yet is nobody's fault.
            if file_bytes > 0 {
                report.problems.push(format!("jitdump: {why}"));
            }
            return Ok(vec![None; wanted.len()]);
        }
    }
    let mut slots: Vec<Slot> = wanted.iter().map(|_| Slot::default()).collect();
    dump.find(wanted, &mut slots, report)?;
    dump.follow_moves(&mut slots, report)?;
    for slot in slots.iter_mut().filter(|slot| slot.is_ambiguous) {
        slot.best = None;
        report.ambiguous += 1;
    }
    let lines = dump.lines(wanted, &slots, report)?;
    let named = slots.into_iter().zip(lines).map(|(slot, (file, line))| {
        let name = slot.best?.name?;
        Some(Named { name, file, line })
    });
    Ok(named.collect())
}

/// Why there is nothing to be had.
enum Bad {
    Io(io::Error),
    Header(&'static str),
}

impl From<io::Error> for Bad {
    fn from(cause: io::Error) -> Bad {
        Bad::Io(cause)
    }
}

#[derive(Debug, Default)]
struct Header {
    bytes: u64,
    pid: u32,
    is_arch_time: bool,
    is_v8: bool,
}

/// A load or a move.
#[derive(Debug)]
struct Event {
    time_ns: u64,
    start: u64,
    end: u64,
    index: u64,
    /// Of a load: where its name is, and at most how long.
    name: Option<(u64, usize)>,
    lines_at: Option<u64>,
}

/// What may be the code that was sampled.
#[derive(Debug)]
struct Candidate {
    time_ns: u64,
    start: u64,
    index: u64,
    /// `None`: it was moved here, its load has the name.
    name: Option<String>,
    lines_at: Option<u64>,
    /// Address of the code when it was loaded, less where it is now.
    moved_by: u64,
    is_late: bool,
}

impl Candidate {
    fn is_same(&self, other: &Candidate) -> bool {
        match (&self.name, &other.name) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.index == other.index,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    best: Option<Candidate>,
    /// Different code lay there while it was sampled.
    is_ambiguous: bool,
}

impl Slot {
    /// The last one before the first sample counts, else the first one behind it.
    fn consider(&mut self, mut new: Candidate, wanted: &Wanted, is_arch_time: bool) {
        let (first, last) = match is_arch_time {
            // Nothing can be said of time: the only code that ever lay there, or none.
            true => (0, u64::MAX),
            false => (wanted.first.time_ns, wanted.last.time_ns),
        };
        new.is_late = new.time_ns > first;
        let Some(best) = &self.best else {
            if new.time_ns <= last.saturating_add(LATE_MAX_NS) {
                self.best = Some(new);
            }
            return;
        };
        let is_same = best.is_same(&new);
        if new.is_late {
            self.is_ambiguous |= new.time_ns <= last && !is_same;
            if best.is_late && new.time_ns < best.time_ns {
                self.best = Some(new);
            }
        } else if best.is_late {
            self.is_ambiguous |= best.time_ns <= last && !is_same;
            self.best = Some(new);
        } else if new.time_ns >= best.time_ns {
            self.best = Some(new);
        }
    }
}

struct Dump<'a> {
    window: Window<'a>,
    end: u64,
    own_pid: u32,
    header: Header,
}

impl Dump<'_> {
    /// struct jitheader (jitdump-specification.txt).
    fn header(&mut self) -> Result<Header, Bad> {
        let bytes = self.window.get(0, HEADER_BYTES)?;
        let word = |at: usize| u32_at(bytes, at).ok_or(Bad::Header("no header"));
        match word(0)? {
            MAGIC => {}
            magic if magic.swap_bytes() == MAGIC => return Err(Bad::Header("other byte order")),
            _ => return Err(Bad::Header("no jitdump")),
        }
        if word(4)? != 1 {
            return Err(Bad::Header("unknown version"));
        }
        // CPython 3.13 does not say (Python/perf_jit_trampoline.c).
        if ![0, OWN_MACHINE].contains(&word(12)?) {
            return Err(Bad::Header("code of another machine"));
        }
        let length = u64::from(word(8)?);
        if length < HEADER_BYTES as u64 {
            return Err(Bad::Header("bad length of the header"));
        }
        Ok(Header {
            bytes: length,
            pid: word(20)?,
            is_arch_time: u64_at(bytes, 32).unwrap_or(0) & FLAG_ARCH_TIMESTAMP != 0,
            is_v8: word(16)? == V8_PADDING,
        })
    }

    /// Runs through the loads and moves.
    fn each(
        &mut self,
        report: &mut Report,
        visit: &mut dyn FnMut(&Event, &mut Window<'_>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut pending: VecDeque<(u64, u64)> = VecDeque::new();
        let mut at = self.header.bytes;
        while at < self.end {
            let head = self.window.get(at, MOVE_BYTES)?;
            let (Some(id), Some(size), Some(time_ns)) =
                (u32_at(head, 0), u32_at(head, 4), u64_at(head, 8))
            else {
                report.unread_bytes += self.end - at;
                return Ok(());
            };
            let size = u64::from(size);
            let next = at.saturating_add(size);
            if size < RECORD_BYTES as u64 {
                report.bad_records += 1;
            }
            if size < RECORD_BYTES as u64 || next > self.end {
                // Behind the end: a writer is at work, or the length is wrong.
                report.unread_bytes += self.end - at;
                return Ok(());
            }
            let head = head.get(..head.len().min(size as usize)).unwrap_or_default();
            let event = match id {
                CODE_LOAD => load(head, at, size, time_ns),
                CODE_MOVE => moved(head, time_ns),
                CODE_DEBUG_INFO => {
                    match u64_at(head, RECORD_BYTES) {
                        Some(code) => {
                            if pending.len() >= PENDING_MAX {
                                pending.pop_front();
                            }
                            pending.push_back((code, at));
                        }
                        None => report.bad_records += 1,
                    }
                    at = next;
                    continue;
                }
                // Also CLOSE: the process may have children that go on.
                _ => {
                    at = next;
                    continue;
                }
            };
            // A child that was forked with the file open writes into it, too.
            let pid = u32_at(head, RECORD_BYTES).unwrap_or(0);
            match event {
                None => report.bad_records += 1,
                Some(_) if pid != self.own_pid && pid != self.header.pid => {}
                Some(mut event) => {
                    if let Some(found) = pending.iter().rposition(|(code, _)| *code == event.start)
                        && event.name.is_some()
                    {
                        event.lines_at = pending.remove(found).map(|(_, lines_at)| lines_at);
                    }
                    if !visit(&event, &mut self.window)? {
                        report.bad_records += 1;
                    }
                }
            }
            at = next;
        }
        Ok(())
    }

    fn find(
        &mut self,
        wanted: &[Wanted],
        slots: &mut [Slot],
        report: &mut Report,
    ) -> io::Result<()> {
        let is_arch_time = self.header.is_arch_time;
        self.each(report, &mut |event, window| {
            let from = wanted.partition_point(|one| one.address < event.start);
            let to = wanted.partition_point(|one| one.address < event.end);
            if from >= to {
                return Ok(true);
            }
            let name = match event.name {
                Some((at, bytes)) => match text(window, at, bytes)? {
                    Some(name) => Some(name),
                    None => return Ok(false),
                },
                None => None,
            };
            for (one, slot) in wanted.iter().zip(slots.iter_mut()).take(to).skip(from) {
                let candidate = Candidate {
                    time_ns: event.time_ns,
                    start: event.start,
                    index: event.index,
                    name: name.clone(),
                    lines_at: event.lines_at,
                    moved_by: 0,
                    is_late: false,
                };
                slot.consider(candidate, one, is_arch_time);
            }
            Ok(true)
        })
    }

    /// The names of code that was moved to where it was sampled: of its load, by its number.
    fn follow_moves(&mut self, slots: &mut [Slot], report: &mut Report) -> io::Result<()> {
        let mut moved: BTreeMap<u64, Vec<&mut Candidate>> = BTreeMap::new();
        for slot in slots {
            if let Some(best) = slot.best.as_mut().filter(|best| best.name.is_none()) {
                moved.entry(best.index).or_default().push(best);
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        // What is bad was counted in the first run.
        let mut again = Report::default();
        self.each(&mut again, &mut |event, window| {
            let (Some((at, bytes)), Some(candidates)) = (event.name, moved.get_mut(&event.index))
            else {
                return Ok(true);
            };
            let Some(name) = text(window, at, bytes)? else { return Ok(true) };
            for candidate in candidates {
                if event.time_ns <= candidate.time_ns {
                    candidate.name = Some(name.clone());
                    candidate.lines_at = event.lines_at;
                    candidate.moved_by = event.start.wrapping_sub(candidate.start);
                }
            }
            Ok(true)
        })?;
        report.problems.extend(again.problems);
        Ok(())
    }

    /// File and line of each slot; each table of lines is read once.
    fn lines(
        &mut self,
        wanted: &[Wanted],
        slots: &[Slot],
        report: &mut Report,
    ) -> io::Result<Vec<(Option<String>, u32)>> {
        let mut lines = vec![(None, 0); slots.len()];
        let mut by_table: BTreeMap<u64, Vec<(u64, usize)>> = BTreeMap::new();
        for (number, (slot, one)) in slots.iter().zip(wanted).enumerate() {
            if let Some(best) = &slot.best
                && let Some(lines_at) = best.lines_at
                && !(self.header.is_v8 && best.name.as_deref().is_some_and(is_v8_baseline))
            {
                let address = one.address.wrapping_add(best.moved_by);
                let address = address.saturating_add(if self.header.is_v8 {
                    V8_LINES_AHEAD_BYTES
                } else {
                    0
                });
                by_table.entry(lines_at).or_default().push((address, number));
            }
        }
        for (table_at, sought) in by_table {
            let Some(table) = self.table(table_at)? else {
                report.bad_records += 1;
                continue;
            };
            for (address, number) in sought {
                let after = table.partition_point(|entry| entry.address <= address);
                let Some(entry) = after.checked_sub(1).and_then(|at| table.get(at)) else {
                    continue;
                };
                let file = text(&mut self.window, entry.file_at, LINE_MAX_BYTES)?;
                if let Some(slot) = lines.get_mut(number) {
                    *slot = (file.filter(|file| is_path(file)), entry.line);
                }
            }
        }
        Ok(lines)
    }

    /// struct debug_entry, one after the other; a file's name of 0xff alone is that of the entry
    /// before. They must fill the record but for its padding: V8 11.3 writes some names from memory
    /// that it freed before, and what follows a shorter one would be read as addresses and lines.
    fn table(&mut self, at: u64) -> io::Result<Option<Vec<Line>>> {
        let mut table = Vec::new();
        let head = self.window.get(at, DEBUG_BYTES)?;
        let (Some(size), Some(n)) = (u32_at(head, 4), u64_at(head, RECORD_BYTES + 8)) else {
            return Ok(None);
        };
        let end = at.saturating_add(size.into()).min(self.end);
        let mut at = at + DEBUG_BYTES as u64;
        let mut file_at = 0;
        for _ in 0..n.min(LINES_MAX) {
            let room = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let entry = self.window.get(at, room.min(16 + LINE_MAX_BYTES))?;
            let (Some(address), Some(line)) = (u64_at(entry, 0), u32_at(entry, 8)) else { break };
            let Some(name) = entry.get(16..) else { break };
            let Some(name_bytes) = memchr::memchr(0, name) else { break };
            if name.get(..name_bytes) != Some(&[0xff]) {
                file_at = at + 16;
            }
            table.push(Line { address, line, file_at });
            at += 17 + name_bytes as u64;
        }
        if n <= LINES_MAX && (table.len() as u64 != n || end.saturating_sub(at) >= 8) {
            return Ok(None);
        }
        table.sort_by_key(|line| line.address);
        Ok(Some(table))
    }
}

/// Code of V8's baseline compiler, `JS:^name …`: the addresses of its lines are offsets of bytecodes
/// (V8 11.3), which say nothing of the code.
fn is_v8_baseline(name: &str) -> bool {
    name.split_once(':').is_some_and(|(_, name)| name.starts_with('^'))
}

/// Is this a file's name, as far as its bytes tell?
fn is_path(file: &str) -> bool {
    !file.is_empty() && !file.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

/// From `address` on the code is of this line.
struct Line {
    address: u64,
    line: u32,
    file_at: u64,
}

/// struct jr_code_load: pid, tid, vma, code_addr, code_size, code_index, name, code.
fn load(head: &[u8], at: u64, size: u64, time_ns: u64) -> Option<Event> {
    let start = u64_at(head, RECORD_BYTES + 16)?;
    let code_bytes = u64_at(head, RECORD_BYTES + 24)?;
    let index = u64_at(head, RECORD_BYTES + 32)?;
    let end = start.checked_add(code_bytes)?;
    let name_bytes = size.checked_sub(LOAD_BYTES as u64)?.checked_sub(code_bytes)?;
    let name_bytes = usize::try_from(name_bytes).ok().filter(|&bytes| bytes > 0)?;
    let name = Some((at + LOAD_BYTES as u64, name_bytes.min(LINE_MAX_BYTES)));
    Some(Event { time_ns, start, end, index, name, lines_at: None })
}

/// struct jr_code_move: pid, tid, vma, old_code_addr, new_code_addr, code_size, code_index.
fn moved(head: &[u8], time_ns: u64) -> Option<Event> {
    let start = u64_at(head, RECORD_BYTES + 24)?;
    let end = start.checked_add(u64_at(head, RECORD_BYTES + 32)?)?;
    let index = u64_at(head, RECORD_BYTES + 40)?;
    Some(Event { time_ns, start, end, index, name: None, lines_at: None })
}

/// Text up to its NUL, which must be among the `bytes`.
fn text(window: &mut Window<'_>, at: u64, bytes: usize) -> io::Result<Option<String>> {
    let bytes = window.get(at, bytes)?;
    let end = memchr::memchr(0, bytes);
    Ok(end.and_then(|end| bytes.get(..end)).map(|text| String::from_utf8_lossy(text).into_owned()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads ahead: records are small and stand one after the other.
struct Window<'a> {
    read_at: ReadAt<'a>,
    buffer: Vec<u8>,
    start: u64,
    have: usize,
}

impl<'a> Window<'a> {
    fn new(read_at: ReadAt<'a>) -> Window<'a> {
        Window { read_at, buffer: vec![0; WINDOW_BYTES], start: 0, have: 0 }
    }

    /// `bytes` (at most the window) at `offset`; fewer at the end of the file.
    fn get(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let bytes = bytes.min(WINDOW_BYTES);
        let held = self.start..self.start + self.have as u64;
        if !held.contains(&offset) || held.end - offset < bytes as u64 {
            self.fill(offset)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..self.have).unwrap_or_default();
        Ok(rest.get(..bytes).unwrap_or(rest))
    }

    fn fill(&mut self, offset: u64) -> io::Result<()> {
        self.start = offset;
        self.have = 0;
        while let Some(rest) = self.buffer.get_mut(self.have..).filter(|rest| !rest.is_empty()) {
            let room = rest.len();
            match (self.read_at)(rest, offset.saturating_add(self.have as u64)) {
                Ok(0) => break,
                Ok(n) => self.have += n.min(room),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
