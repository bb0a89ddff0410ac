//! Folded text → profile.

use hotframe_core::profile::{FRAME_INLINED, Frame, Function, Kind, Process, Profile};

use super::NAME;
use crate::error::excerpt;
use crate::gzip::inflate;
use crate::{Assembler, At, Error, Fault, Limits, Row};

/// Reads folded text, gzipped or not.
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
    let mut a = Assembler::new(NAME, *limits);
    let mut processes = std::collections::HashMap::new();
    let mut n_lines = 0u64;
    // Counts with fractions are parts of what was counted, and all are told in thousandths of it.
    let is_fine = text.lines().any(|line| {
        !line.starts_with('#')
            && line
                .trim_end()
                .rsplit([' ', '\t'])
                .next()
                .is_some_and(|count| count.contains('.') && is_count(count))
    });
    if is_fine {
        a.profile.meta.value_type = "thousandths of the counts".into();
        a.profile.meta.value_unit = "count".into();
    }
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        n_lines += 1;
        let fault = |fault| Error::Content { format: NAME, at: At::Line(i as u64 + 1), fault };
        let Some((names, count)) = line.rsplit_once([' ', '\t']) else {
            return Err(fault(Fault::NoCount { text: excerpt(line) }));
        };
        let Some(weight) = weight(count, is_fine) else {
            return Err(fault(Fault::Number {
                what: "the count at the end",
                text: excerpt(count),
            }));
        };
        let mut names = names.split(';');
        let comm = names.next().unwrap_or("");
        let comm = a.string(comm);
        let process = *processes
            .entry(comm)
            .or_insert_with(|| a.process(Process { comm, ..Process::default() }));
        let thread = a.thread(process, 0, comm);
        let mut stack = 0;
        for name in names {
            let (name, kind, flags) = annotated(name);
            let name = a.string(name);
            let function = a.function(Function {
                name,
                system_name: 0,
                file: 0,
                start_line: 0,
                module: 0,
                kind,
            });
            let frame = a.frame(Frame { function, line: 0, address: 0, flags });
            stack = a.node(stack, frame)?;
        }
        if weight > 0 {
            a.sample(Row { time_ns: 0, thread, stack, cpu: 0, cut: 0, weight })?;
        }
    }
    if a.profile.samples.stack.is_empty() {
        let fault = if n_lines == 0 { Fault::Empty } else { Fault::NoCounts };
        return Err(Error::Content { format: NAME, at: At::Line(1), fault });
    }
    a.count_processes();
    Ok(a.profile)
}

/// Whether a text is a count.
pub(crate) fn is_count(text: &str) -> bool {
    weight(text, true).is_some()
}

/// A count, in thousandths where some have fractions.
fn weight(count: &str, is_fine: bool) -> Option<u64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = count.split_once('.').unwrap_or((count, "0"));
    if !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?;
    match is_fine {
        true => whole.checked_mul(1000)?.checked_add(format!("{part:0<3.3}").parse().ok()?),
        false => Some(whole),
    }
}

/// The name without its annotation, and what that says.
fn annotated(name: &str) -> (&str, Kind, u8) {
    for (suffix, kind, flags) in
        [("_[k]", Kind::Kernel, 0), ("_[j]", Kind::Jit, 0), ("_[i]", Kind::Native, FRAME_INLINED)]
    {
        if let Some(name) = name.strip_suffix(suffix) {
            return (name, kind, flags);
        }
    }
    (name, Kind::Native, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts behind tabs, names with spaces; what has no count is shown.
    #[test]
    fn spaces() {
        let profile = read(b"main thread;f (x; y) 3\r\nmain thread;g\t4\n").expect("read");
        assert_eq!(profile.samples.weight, [3, 4]);
        let names: Vec<&str> = profile.strings.iter().collect();
        assert_eq!(names, ["", "main thread", "f (x", " y)", "g"]);
        let error = read(b"a;b 1\na;b\n").expect_err("no count").to_string();
        assert!(error.contains("line 2") && error.contains("a;b"), "{error}");
    }
}
