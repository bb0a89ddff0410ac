//! Reads a map from beginning to end, for the wanted addresses only.
//!
//! Lenient, since there are many writers: `0x` or not, any number of spaces or tabs, `\r\n`, names
//! with spaces, a last line without its end (a writer is at work: it is left out). Lines that say
//! nothing are skipped and counted. A name that is too long is cut: were its line skipped, what lay at
//! its addresses before would go on to name them.

use crate::dump::ReadAt;
use crate::{LINE_MAX_BYTES, MAP_MAX_BYTES, Named, Report, Wanted};
use std::io;

/// Bytes read at a time.
const WINDOW_BYTES: usize = 256 << 10;

/// What was found for an address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) name: Option<String>,
    /// Different code lay there while it was sampled.
    pub(crate) is_ambiguous: bool,
}

impl Found {
    /// What another text of the map has as well.
    pub(crate) fn merge(&mut self, other: Found) {
        let differs = other.name.is_some() && self.name.is_some() && other.name != self.name;
        self.is_ambiguous |= other.is_ambiguous || differs;
        self.name = self.name.take().or(other.name);
    }

    /// The name, if there is one without doubt.
    pub(crate) fn into_named(self, report: &mut Report) -> Option<Named> {
        report.ambiguous += u64::from(self.is_ambiguous);
        let name = self.name.filter(|_| !self.is_ambiguous)?;
        Some(Named { name, file: None, line: 0 })
    }
}

/// Names the sorted `wanted`, reading by `read_at(buffer, offset)`.
pub(crate) fn name(
    read_at: ReadAt<'_>,
    wanted: &[Wanted],
    report: &mut Report,
) -> io::Result<Vec<Option<Named>>> {
    let found = find(read_at, wanted, report)?;
    Ok(found.into_iter().map(|found| found.into_named(report)).collect())
}

/// The same, with what has no name for sure.
pub(crate) fn find(
    read_at: ReadAt<'_>,
    wanted: &[Wanted],
    report: &mut Report,
) -> io::Result<Vec<Found>> {
    let mut found = vec![Found::default(); wanted.len()];
    let mut buffer = vec![0; WINDOW_BYTES];
    let mut have = 0;
    let mut offset = 0u64;
    // Bytes that were left out of the line that the buffer begins with: it is too long.
    let mut left_out = 0u64;
    while offset < MAP_MAX_BYTES {
        let room = (buffer.len() - have).min((MAP_MAX_BYTES - offset) as usize);
        let n = match read_at(&mut buffer[have..have + room], offset) {
            Ok(0) => break,
            Ok(n) => n.min(room),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(cause),
        };
        let window_start = offset - have as u64;
        offset += n as u64;
        let filled = &buffer[..have + n];
        let mut line_start = 0;
        for end in memchr::memchr_iter(b'\n', filled) {
            let place = window_start + line_start as u64 - std::mem::take(&mut left_out);
            let line = filled.get(line_start..end).unwrap_or_default();
            match entry(line) {
                Some(entry) => consider(entry, place, wanted, &mut found),
                None => report.bad_records += 1,
            }
            line_start = end + 1;
        }
        let rest = have + n - line_start;
        have = rest.min(LINE_MAX_BYTES);
        left_out += (rest - have) as u64;
        buffer.copy_within(line_start..line_start + have, 0);
    }
    Ok(found)
}

/// Entries come in order: the last one before the first sample counts, else the first behind it.
fn consider(
    (start, bytes, name): (u64, u64, &[u8]),
    place: u64,
    wanted: &[Wanted],
    found: &mut [Found],
) {
    let end = start.saturating_add(bytes);
    let first = wanted.partition_point(|one| one.address < start);
    let covered = wanted.iter().zip(found).skip(first).take_while(|(one, _)| one.address < end);
    for (one, found) in covered {
        if place < one.first.map_bytes || found.name.is_none() {
            found.name = Some(String::from_utf8_lossy(name).into_owned());
        } else if place < one.last.map_bytes {
            let name = String::from_utf8_lossy(name);
            found.is_ambiguous |= found.name.as_deref() != Some(&*name);
        }
    }
}

/// `START SIZE NAME`.
fn entry(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let line = line.get(..LINE_MAX_BYTES).unwrap_or(line);
    let (start, rest) = number(line.trim_ascii())?;
    let (bytes, name) = number(rest)?;
    (!name.is_empty() && bytes > 0).then_some((start, bytes, name))
}

/// A hexadecimal number at the start of `text`, and what follows it and its spaces.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")).unwrap_or(text);
    let n_digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = text.split_at_checked(n_digits)?;
    let value = u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    rest.first().filter(|byte| byte.is_ascii_whitespace())?;
    Some((value, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seen;

    fn at(address: u64, map_bytes: u64) -> Wanted {
        let seen = Seen { map_bytes, ..Seen::default() };
        Wanted { address, first: seen, last: seen }
    }

    /// Other code at an address while it was sampled: no name is better than a wrong one. The same
    /// name again, or other code afterwards, does no harm.
    #[test]
    fn ambiguous() {
        let map = b"100 10 first\n100 10 second\n200 10 f\n200 10 f\n";
        let wanted = |address, first, last| Wanted {
            address,
            first: Seen { map_bytes: first, ..Seen::default() },
            last: Seen { map_bytes: last, ..Seen::default() },
        };
        let mut report = Report::default();
        let mut names = |one: Wanted| {
            let read = &mut |buffer: &mut [u8], offset: u64| {
                let rest = map.get(offset as usize..).unwrap_or_default();
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            };
            let names = name(read, &[one], &mut report).expect("no errors");
            (names[0].as_ref().map(|found| found.name.clone()), report.ambiguous)
        };
        assert_eq!(names(wanted(0x104, 5, 13)), (Some("first".into()), 0));
        assert_eq!(names(wanted(0x104, 5, 14)), (None, 1));
        assert_eq!(names(wanted(0x104, 14, 99)), (Some("second".into()), 1));
        assert_eq!(names(wanted(0x204, 0, 99)), (Some("f".into()), 1));
    }

    fn check(map: &[u8], wanted: &[(u64, u64)], expect: &[Option<&str>]) {
        let wanted: Vec<Wanted> =
            wanted.iter().map(|&(address, seen_bytes)| at(address, seen_bytes)).collect();
        // Every way of cutting it into reads gives the same.
        for most in [1, 7, usize::MAX] {
            let names = name(
                &mut |buffer, offset| {
                    let rest = map.get(offset as usize..).unwrap_or_default();
                    let n = rest.len().min(buffer.len()).min(most);
                    buffer[..n].copy_from_slice(&rest[..n]);
                    Ok(n)
                },
                &wanted,
                &mut Report::default(),
            )
            .expect("no errors");
            let names: Vec<Option<&str>> =
                names.iter().map(|found| found.as_ref().map(|found| &*found.name)).collect();
            assert_eq!(names, expect, "{most} bytes a read");
        }
    }

    /// As V8, CPython, the JVM and others write.
    #[test]
    fn writers() {
        let map = b"2c40 80 LazyCompile:*hot /a b.js:1:2\n\
            0x7f0010 0x20   py::f:/a.py\r\n\
            \t00007f9000\t0X10\tjava.lang.String::hashCode\n";
        let name = Some("LazyCompile:*hot /a b.js:1:2");
        check(
            map,
            &[(0x2c3f, 0), (0x2c40, 0), (0x2cbf, 0), (0x2cc0, 0), (0x7f0010, 0)],
            &[None, name, name, None, Some("py::f:/a.py")],
        );
        check(map, &[(0x7f9008, 9)], &[Some("java.lang.String::hashCode")]);
    }

    /// What says nothing is skipped; a line without its end is not there yet.
    #[test]
    fn nonsense() {
        let map = b"\n\nx y z\n10\n10 \n10 10\n10 0 empty\n-1 10 a\n\xff\xfe\n\
            fffffffffffffffff 10 too_long\nffffffffffffffff ff end\n20 10 ok\n30 10 half";
        check(
            map,
            &[(0x10, 99), (0x20, 99), (0x30, 999), (u64::MAX - 1, 0)],
            &[None, Some("ok"), None, None],
        );
        check(b"", &[(1, 0)], &[None]);
        check(b"1 1 a\n", &[], &[]);
    }

    /// Of entries for one address the last before the sample counts, else the first after it.
    #[test]
    fn addresses_used_again() {
        let map = b"100 10 first\n100 10 second\n100 10 third\n";
        let line = b"100 10 first\n".len() as u64;
        let second = line + b"100 10 second\n".len() as u64;
        check(map, &[(0x100, 0)], &[Some("first")]);
        check(map, &[(0x104, line)], &[Some("first")]);
        check(map, &[(0x104, second)], &[Some("second")]);
        check(map, &[(0x104, 1000)], &[Some("third")]);
    }

    /// The rule said plainly: all lines in memory, one address at a time.
    fn plainly(map: &[u8], wanted: &[Wanted]) -> Vec<Option<String>> {
        let mut entries = Vec::new();
        let mut place = 0;
        for line in map.split_inclusive(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let words: Vec<&str> = text.trim_end_matches('\n').split(' ').collect();
            if let [start, bytes, name] = words[..]
                && let (Ok(start), Ok(bytes)) =
                    (u64::from_str_radix(start, 16), u64::from_str_radix(bytes, 16))
                && line.ends_with(b"\n")
            {
                entries.push((place, start..start + bytes, name.to_owned()));
            }
            place += line.len() as u64;
        }
        let name = |one: &Wanted| {
            let covering = || entries.iter().filter(|(_, range, _)| range.contains(&one.address));
            covering()
                .rfind(|(place, ..)| *place < one.first.map_bytes)
                .or_else(|| covering().next())
                .map(|(.., name)| name.clone())
        };
        wanted.iter().map(name).collect()
    }

    /// 2,000 maps of small addresses, so that entries overlap and repeat, some cut off somewhere.
    #[test]
    fn as_the_rule_says() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..2000 {
            let mut map = String::new();
            for number in 0..random(12) {
                map += &format!("{:x} {:x} f{number}\n", random(64), 1 + random(16));
                if random(8) == 0 {
                    map += "nonsense\n";
                }
            }
            map.truncate(map.len() - random(4).min(map.len() as u64) as usize);
            let mut wanted: Vec<Wanted> = (0..8).map(|_| at(random(80), random(120))).collect();
            wanted.sort_unstable();
            let expect = plainly(map.as_bytes(), &wanted);
            let expect: Vec<Option<&str>> = expect.iter().map(Option::as_deref).collect();
            let pairs: Vec<(u64, u64)> =
                wanted.iter().map(|one| (one.address, one.first.map_bytes)).collect();
            check(map.as_bytes(), &pairs, &expect);
        }
    }

    /// A line that hardly ends costs no memory and hides nothing that follows; its name is cut, and it
    /// stands in its place as any other.
    #[test]
    fn long_lines() {
        let long = |len| format!("20 10 {}", "x".repeat(len));
        let cut = long(LINE_MAX_BYTES)[6..LINE_MAX_BYTES].to_owned();
        for len in [LINE_MAX_BYTES, 2 * LINE_MAX_BYTES, 3 * WINDOW_BYTES] {
            let map = format!("10 10 a\n20 10 old\n{}\n30 10 b\n", long(len));
            let (before, behind) = (18, 19);
            check(
                map.as_bytes(),
                &[(0x10, 99), (0x20, before), (0x28, behind), (0x30, u64::MAX)],
                &[Some("a"), Some("old"), Some(&cut), Some("b")],
            );
        }
        check(long(WINDOW_BYTES).as_bytes(), &[(0x20, u64::MAX)], &[None]);
        check(&vec![b' '; WINDOW_BYTES], &[(0x20, u64::MAX)], &[None]);
    }
}
