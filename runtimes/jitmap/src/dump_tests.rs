//! Jitdumps as a JIT writes them, record by record: which entry names an address at which time, and what
//! damaged ones give.

use super::*;
use crate::Seen;

const OWN_PID: u32 = 7;

/// A dump as a JIT would write it.
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Writer {
        Writer::with(0, 0)
    }

    fn with(padding: u32, flags: u64) -> Writer {
        let mut bytes = Vec::new();
        for word in [MAGIC, 1, HEADER_BYTES as u32, OWN_MACHINE, padding, OWN_PID] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(1u64.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        Writer(bytes)
    }

    fn record(&mut self, id: u32, time_ns: u64, body: &[u8]) -> &mut Writer {
        self.0.extend(id.to_ne_bytes());
        self.0.extend((RECORD_BYTES as u32 + body.len() as u32).to_ne_bytes());
        self.0.extend(time_ns.to_ne_bytes());
        self.0.extend(body);
        self
    }

    fn load_of(
        &mut self,
        pid: u32,
        time_ns: u64,
        start: u64,
        index: u64,
        name: &str,
    ) -> &mut Writer {
        let mut body = [pid.to_ne_bytes(), pid.to_ne_bytes()].concat();
        for word in [start, start, 16, index] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(name.as_bytes());
        body.push(0);
        body.extend([0x90; 16]);
        self.record(CODE_LOAD, time_ns, &body)
    }

    /// 16 bytes of code.
    fn load(&mut self, time_ns: u64, start: u64, index: u64, name: &str) -> &mut Writer {
        self.load_of(OWN_PID, time_ns, start, index, name)
    }

    fn moves(&mut self, time_ns: u64, from: u64, to: u64, index: u64) -> &mut Writer {
        let mut body = [OWN_PID.to_ne_bytes(), OWN_PID.to_ne_bytes()].concat();
        for word in [to, from, to, 16, index] {
            body.extend(word.to_ne_bytes());
        }
        self.record(CODE_MOVE, time_ns, &body)
    }

    fn lines(&mut self, start: u64, lines: &[(u64, u32, &[u8])]) -> &mut Writer {
        let mut body = start.to_ne_bytes().to_vec();
        body.extend((lines.len() as u64).to_ne_bytes());
        for (address, line, file) in lines {
            body.extend(address.to_ne_bytes());
            body.extend(line.to_ne_bytes());
            body.extend(0u32.to_ne_bytes());
            body.extend(*file);
            body.push(0);
        }
        self.record(CODE_DEBUG_INFO, 1, &body)
    }
}

fn at(address: u64, first_ns: u64, last_ns: u64) -> Wanted {
    let seen = |time_ns| Seen { time_ns, ..Seen::default() };
    Wanted { address, first: seen(first_ns), last: seen(last_ns) }
}

fn named(bytes: &[u8], wanted: &[Wanted]) -> (Vec<Option<Named>>, Report) {
    let mut report = Report::default();
    // Every way of cutting it into reads gives the same.
    let mut read_by = |most: usize| {
        report = Report::default();
        let read = &mut |buffer: &mut [u8], offset: u64| {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buffer.len()).min(most);
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        };
        name(read, bytes.len() as u64, OWN_PID, wanted, &mut report).expect("no errors")
    };
    let names = read_by(usize::MAX);
    assert_eq!(read_by(7), names);
    (names, report)
}

fn check(dump: &Writer, wanted: &[Wanted], expect: &[Option<&str>]) {
    let (names, report) = named(&dump.0, wanted);
    let names: Vec<Option<&str>> =
        names.iter().map(|one| one.as_ref().map(|one| &*one.name)).collect();
    assert_eq!(names, expect);
    assert_eq!((report.bad_records, &report.problems), (0, &Vec::new()));
}

/// By the time stamps: the code that lay there, else the one that was announced a little late.
#[test]
fn addresses_used_again() {
    let mut dump = Writer::new();
    // Not in order, as threads write.
    dump.load(200, 0x1000, 2, "second").load(100, 0x1000, 1, "first").load(50, 0x2000, 3, "other");
    let late = LATE_MAX_NS + 50;
    check(
        &dump,
        &[at(0xfff, 150, 150), at(0x1000, 150, 150), at(0x1008, 250, 300), at(0x100f, 60, 60)],
        &[None, Some("first"), Some("second"), Some("first")],
    );
    check(&dump, &[at(0x1010, 150, 150), at(0x2001, 10, 10)], &[None, Some("other")]);
    let mut dump = Writer::new();
    dump.load(late, 0x1000, 1, "much later");
    check(&dump, &[at(0x1000, 10, 20)], &[None]);
    check(&dump, &[at(0x1000, 10, 50)], &[Some("much later")]);
}

/// Other code came to lie there between samples: no name, and counted. Equal names do no harm.
#[test]
fn ambiguous() {
    let mut dump = Writer::new();
    dump.load(100, 0x1000, 1, "f").load(200, 0x1000, 2, "g").load(300, 0x1000, 3, "g");
    for (first, last, expect, n) in [
        (150, 250, None, 1),
        (150, 199, Some("f"), 0),
        (250, 350, Some("g"), 0),
        (50, 250, None, 1),
    ] {
        let (names, report) = named(&dump.0, &[at(0x1001, first, last)]);
        assert_eq!(names[0].as_ref().map(|one| &*one.name), expect, "{first}..{last}");
        assert_eq!(report.ambiguous, n);
    }
    // In whatever order they stand.
    let mut dump = Writer::new();
    dump.load(200, 0x1000, 2, "g").load(100, 0x1000, 1, "f");
    assert_eq!(named(&dump.0, &[at(0x1001, 150, 250)]).1.ambiguous, 1);
    // Without comparable times only what was the only one is known.
    let mut dump = Writer::with(0, FLAG_ARCH_TIMESTAMP);
    dump.load(1 << 60, 0x1000, 1, "f").load(2 << 60, 0x2000, 2, "g").load(3 << 60, 0x2000, 3, "h");
    check(&dump, &[at(0x1000, 5, 5), at(0x2000, 5, 5)], &[Some("f"), None]);
}

/// Moved code keeps its name and its lines.
#[test]
fn moves() {
    let mut dump = Writer::new();
    dump.lines(0x1000, &[(0x1000, 10, b"a.js"), (0x1008, 11, &[0xff])])
        .load(100, 0x1000, 1, "f")
        .moves(200, 0x1000, 0x3000, 1)
        .moves(300, 0x3000, 0x5000, 1)
        .load(250, 0x1000, 9, "g");
    check(
        &dump,
        &[at(0x1009, 150, 150), at(0x3009, 220, 220), at(0x5001, 400, 400)],
        &[Some("f"), Some("f"), Some("f")],
    );
    let (names, _) = named(&dump.0, &[at(0x3009, 220, 220), at(0x5001, 400, 400)]);
    let lines: Vec<u32> = names.iter().flatten().map(|one| one.line).collect();
    assert_eq!(lines, [11, 10]);
    check(&dump, &[at(0x1001, 260, 260)], &[Some("g")]);
    // A move of what was never loaded has no name.
    let mut dump = Writer::new();
    dump.moves(200, 0x1000, 0x3000, 5);
    check(&dump, &[at(0x3000, 300, 300)], &[None]);
}

/// The line of an address is that of the last entry not behind it. V8's are an ELF header ahead.
#[test]
fn lines() {
    let table: [(u64, u32, &[u8]); 3] =
        [(0x100a, 30, b"b.js"), (0x1002, 10, b"a.js"), (0x1006, 20, &[0xff])];
    for ahead in [0, 64] {
        let mut dump = Writer::with(if ahead == 0 { 0 } else { V8_PADDING }, 0);
        let table: Vec<_> =
            table.iter().map(|&(address, line, file)| (address + ahead, line, file)).collect();
        // The table of another function in between, as another thread may write it.
        dump.lines(0x1000, &table).lines(0x2000, &[(0x2000, 7, b"c.js")]);
        dump.load(100, 0x1000, 1, "f").load(100, 0x2000, 2, "g").load(100, 0x3000, 3, "h");
        let wanted = [0x1001, 0x1002, 0x1005, 0x1006, 0x100f, 0x2001, 0x3000];
        let wanted = wanted.map(|address| at(address, 150, 150));
        let (names, _) = named(&dump.0, &wanted);
        let found: Vec<_> =
            names.iter().flatten().map(|one| (one.file.as_deref(), one.line)).collect();
        let a = Some("a.js");
        assert_eq!(
            found,
            [
                (None, 0),
                (a, 10),
                (a, 10),
                (a, 20),
                (Some("b.js"), 30),
                (Some("c.js"), 7),
                (None, 0)
            ]
        );
    }
}

/// V8's lines of baseline code are by bytecode.
#[test]
fn lines_of_baseline_code() {
    for (padding, line) in [(V8_PADDING, 0), (0, 10)] {
        let mut dump = Writer::with(padding, 0);
        dump.lines(0x1000, &[(0x1000, 10, b"a.js")]).load(100, 0x1000, 1, "JS:^f /a.js:10:1");
        assert_eq!(
            named(&dump.0, &[at(0x1001, 150, 150)]).0[0].as_ref().map(|f| f.line),
            Some(line)
        );
    }
}

/// A table whose entries do not fill its record says nothing, nor does a name that is none.
#[test]
fn bad_lines() {
    let mut dump = Writer::new();
    dump.lines(0x1000, &[(0x1000, 10, b"a\0.js........."), (0x1004, 11, b"a.js........")]);
    dump.load(100, 0x1000, 1, "f");
    dump.lines(0x2000, &[(0x2000, 12, b"\xd6\xaa\x02.js")]).load(100, 0x2000, 2, "g");
    let (names, report) = named(&dump.0, &[at(0x1001, 150, 150), at(0x2001, 150, 150)]);
    let found: Vec<_> =
        names.iter().flatten().map(|one| (&*one.name, one.file.as_deref(), one.line)).collect();
    assert_eq!(found, [("f", None, 0), ("g", None, 12)]);
    assert_eq!(report.bad_records, 1);
}

/// A child that was forked with the dump open writes into it, too: of other code.
#[test]
fn of_other_processes() {
    let mut dump = Writer::new();
    dump.load(100, 0x1000, 1, "mine").load_of(8, 200, 0x1000, 1, "a child's");
    check(&dump, &[at(0x1000, 300, 300)], &[Some("mine")]);
}

/// What cannot be understood costs itself and is counted.
#[test]
fn bad_records() {
    let mut dump = Writer::new();
    dump.load(100, 0x1000, 1, "before");
    // Code that is longer than the record, or wraps around; no name; records too short to be one.
    let body = |start: u64, bytes: u64| {
        let mut body = [OWN_PID.to_ne_bytes(); 2].concat();
        for word in [start, start, bytes, 1] {
            body.extend(word.to_ne_bytes());
        }
        body
    };
    dump.record(CODE_LOAD, 100, &body(0x1000, 1 << 40));
    dump.record(CODE_LOAD, 100, &body(0x1000, 0));
    dump.record(CODE_LOAD, 100, &[body(u64::MAX, 2), b"x\0..".to_vec()].concat());
    dump.record(CODE_LOAD, 100, &[body(0x1000, 4), b"xxxx....".to_vec()].concat());
    dump.record(CODE_LOAD, 100, &[1; 20]);
    dump.record(CODE_MOVE, 100, &[1; 20]);
    dump.record(CODE_DEBUG_INFO, 100, &[]);
    dump.record(99, 100, b"a kind that is not known").record(4, 100, &[0; 30]).record(3, 1, &[]);
    dump.load(100, 0x2000, 2, "after");
    let whole = dump.0.len();
    dump.load(100, 0x3000, 3, "cut off");
    dump.0.truncate(dump.0.len() - 1);
    let wanted = [at(0x1000, 150, 150), at(0x2000, 150, 150), at(0x3000, 150, 150)];
    let (names, report) = named(&dump.0, &wanted);
    let names: Vec<_> = names.iter().map(|one| one.as_ref().map(|one| &*one.name)).collect();
    assert_eq!(names, [Some("before"), Some("after"), None]);
    assert_eq!(report.bad_records, 7);
    assert_eq!(report.unread_bytes, (dump.0.len() - whole) as u64);
    // A length that leads nowhere costs the rest.
    for size in [0, 15, u32::MAX] {
        let mut dump = Writer::new();
        dump.load(100, 0x1000, 1, "before");
        let at = dump.0.len();
        dump.load(100, 0x2000, 2, "bad").load(100, 0x3000, 3, "lost");
        dump.0[at + 4..at + 8].copy_from_slice(&u32::to_ne_bytes(size));
        let (names, report) = named(&dump.0, &wanted);
        assert_eq!(names.iter().flatten().count(), 1);
        assert_eq!(report.bad_records, u64::from(size < 16));
        assert_eq!(report.unread_bytes, (dump.0.len() - at) as u64);
    }
}

/// Headers of something else are refused with the reason; one that is not written yet is none.
#[test]
fn headers() {
    let wanted = [at(0x1000, 150, 150)];
    assert_eq!(named(&[], &wanted), (vec![None], Report::default()));
    let mut good = Writer::new();
    good.load(100, 0x1000, 1, "f");
    for (at, value, why) in [
        (0, 0, "no jitdump"),
        (0, MAGIC.swap_bytes(), "other byte order"),
        (4, 2, "unknown version"),
        (8, 39, "bad length of the header"),
        (12, 40, "code of another machine"),
    ] {
        let mut bytes = good.0.clone();
        bytes[at..at + 4].copy_from_slice(&u32::to_ne_bytes(value));
        let (names, report) = named(&bytes, &wanted);
        assert_eq!(names, [None]);
        assert_eq!(report.problems, [format!("jitdump: {why}")]);
    }
    // CPython 3.13 leaves the machine out.
    let mut bytes = good.0.clone();
    bytes[12..16].copy_from_slice(&[0; 4]);
    assert!(named(&bytes, &wanted).0[0].is_some());
    // A longer header, as a later version may have.
    let mut bytes = good.0.clone();
    bytes[8..12].copy_from_slice(&u32::to_ne_bytes(48));
    bytes.splice(40..40, [0; 8]);
    assert!(named(&bytes, &wanted).0[0].is_some());
}

/// Any byte as large and as small as it gets, any length: an answer each time.
#[test]
fn damaged() {
    let mut dump = Writer::new();
    dump.lines(0x1000, &[(0x1000, 10, b"a.js"), (0x1008, 11, &[0xff])])
        .load(100, 0x1000, 1, "f")
        .moves(200, 0x1000, 0x3000, 1)
        .load(250, 0x1000, 9, "g");
    let wanted =
        [at(0, 0, u64::MAX), at(0x1001, 150, 150), at(0x3008, 250, 250), at(u64::MAX, 1, 1)];
    for at in 0..dump.0.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = dump.0.clone();
            bytes[at] = value;
            named(&bytes, &wanted);
        }
        named(&dump.0[..at], &wanted);
    }
}
