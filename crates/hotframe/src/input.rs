//! A stored profile: which format it has, and what is in it.
//!
//! In: a path, `-` for stdin. Out: the profile, or what is wrong with the file and where. The
//! content decides where it is certain (a page, text), then the name; a protobuf that has neither
//! is tried as pprof and as OTLP, whose messages begin alike.
//!
//! # Cost
//! At most [`MAX_BYTES`] of the file and, unpacked, what [`Limits`] allows, are in memory at once.

use crate::{Exit, cli};
use anyhow::{Context as _, bail};
use hotframe_core::profile::{FRAME_HEURISTIC, Kind, Profile};
use hotframe_formats::{Format, Keeps, Limits, otlp, pprof};
use std::io::{IsTerminal as _, Read};
use std::path::Path;

/// The most bytes of a file that are read: as many as a reader takes of an unpacked one.
const MAX_BYTES: u64 = 512 << 20;

/// Reads a stored profile, as the user says that it is to be read.
///
/// # Errors
/// The file cannot be read, is larger than [`MAX_BYTES`], has no known format or is damaged.
pub fn read(path: &Path, read: &cli::Read) -> anyhow::Result<Profile> {
    parse(path, &bytes(path)?, read)
}

/// The profile in the content of a file; `path` is for its name only.
///
/// # Errors
/// Those of [`read`], but for the reading itself.
pub fn parse(path: &Path, bytes: &[u8], read: &cli::Read) -> anyhow::Result<Profile> {
    let candidates = match read.from.as_deref().map(readable).transpose()? {
        Some(format) => vec![format],
        None => candidates(path, bytes).with_context(|| shown(path))?,
    };
    let mut failures = Vec::new();
    for format in candidates {
        let value = read.value.as_deref();
        let result = match format {
            Format::Pprof => pprof::read_value(bytes, &Limits::default(), value),
            Format::Otlp => otlp::read_value(bytes, &Limits::default(), value),
            // What is wrong with the file as pprof is said, if it may be one.
            _ if value.is_some() => {
                let path = shown(path);
                let failures = failures.into_iter().next().map(anyhow::Error::from);
                return Err(failures.map_or_else(
                    || {
                        Exit::usage(format!(
                            "{path}: only pprof and OTLP files hold a --value to choose"
                        ))
                    },
                    |error| error.context(path.clone()),
                ));
            }
            _ => format.read(bytes),
        };
        match result {
            Ok(profile) => return Ok(profile),
            // It is this format, or it would have been found out before.
            Err(error) if error.is_no_value() => {
                return Err(error).with_context(|| shown(path));
            }
            Err(error) => failures.push(error),
        }
    }
    // What it is read as up to a limit it is, whatever it is not.
    if let Some(at) = failures.iter().position(hotframe_formats::Error::is_too_large) {
        return Err(failures.swap_remove(at)).with_context(|| shown(path));
    }
    let mut failures = failures.into_iter();
    match (failures.next(), failures.next()) {
        (Some(first), Some(second)) => {
            let (first, second) = (anyhow::Error::from(first), anyhow::Error::from(second));
            bail!("{}: {first:#}; nor is it another format: {second:#}", shown(path))
        }
        (Some(error), None) => Err(error).with_context(|| shown(path)),
        (None, _) => bail!("{}: {UNKNOWN}", shown(path)),
    }
}

const UNKNOWN: &str = "not a profile that can be read: neither a page of hotframe's, pprof, OTLP, \
                       folded stacks nor perf script text (--from says which it is, if it is one)";

fn readable(name: &str) -> anyhow::Result<Format> {
    crate::output::of_name(name).filter(|format| format.reads()).ok_or_else(|| {
        let names: Vec<&str> =
            Format::ALL.into_iter().filter(|format| format.reads()).map(Format::name).collect();
        Exit::usage(format!("--from {name:?} cannot be read: one of {}", names.join(", ")))
    })
}

/// A path as messages show it.
pub fn shown(path: &Path) -> String {
    match path == Path::new("-") {
        true => "stdin".into(),
        false => path.display().to_string(),
    }
}

/// The content of a file, or of stdin.
///
/// # Errors
/// It cannot be read, is larger than [`MAX_BYTES`] or empty.
pub fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            return Err(Exit::usage("stdin is a terminal: pipe a profile into it"));
        }
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| shown(path))?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| shown(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{}: larger than {} MiB, the most that is read", shown(path), MAX_BYTES >> 20);
    }
    if bytes.is_empty() {
        bail!("{}: the file is empty", shown(path));
    }
    Ok(bytes)
}

/// The formats that a file may have, likeliest first.
fn candidates(path: &Path, bytes: &[u8]) -> anyhow::Result<Vec<Format>> {
    if bytes.starts_with(b"PERFILE2") {
        bail!("this is perf's own data: `perf script -i FILE | hotframe convert - OUT` reads it");
    }
    let formats = Format::candidates(path, bytes);
    match Format::from_path(path) {
        Some(format) if !format.reads() && formats != [Format::Html] => {
            bail!("{} is written but not read: it lacks what a profile needs", format.name())
        }
        _ => Ok(formats),
    }
}

/// What a profile holds that `keeps` has no room for, in words.
pub fn lost(profile: &Profile, keeps: Keeps) -> Vec<&'static str> {
    let functions = &profile.functions;
    let books = !profile.stats.is_empty()
        || profile.samples.cut.iter().any(|&cut| cut != 0)
        || profile.frames.iter().any(|frame| frame.flags & FRAME_HEURISTIC != 0);
    [
        (
            !keeps.times && profile.samples.time_ns.iter().any(|&time| time != 0),
            "the times of samples",
        ),
        (
            !keeps.threads && profile.threads.iter().any(|thread| thread.tid != 0),
            "processes and threads",
        ),
        (!keeps.modules && functions.iter().any(|function| function.module != 0), "modules"),
        (
            !keeps.lines
                && (functions.iter().any(|function| function.file != 0)
                    || profile.frames.iter().any(|frame| frame.line != 0)),
            "source files and lines",
        ),
        (
            !keeps.kinds && functions.iter().any(|function| function.kind != Kind::Native),
            "the exact kinds of frames",
        ),
        (!keeps.books && books, "the books and heuristic marks"),
    ]
    .into_iter()
    .filter_map(|(lost, what)| lost.then_some(what))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotframe_formats::synthetic;

    fn written(format: Format) -> Vec<u8> {
        let mut bytes = Vec::new();
        format.write(&synthetic::small(), &mut bytes).expect("written");
        bytes
    }

    /// Content decides without a name, and a wrong name does not mislead.
    #[test]
    fn formats_by_content() {
        for format in Format::ALL.into_iter().filter(|format| format.reads() && format.writes()) {
            let bytes = written(format);
            for name in ["-", "profile", "x.folded"] {
                let all = candidates(Path::new(name), &bytes).expect("known");
                let read = all.iter().find(|candidate| candidate.read(&bytes).is_ok());
                assert_eq!(read, Some(&format), "{name} of {all:?}");
            }
        }
    }

    /// What cannot be read is named, not guessed at.
    #[test]
    fn refusals() {
        let said = |path: &str, bytes: &[u8]| {
            candidates(Path::new(path), bytes).map_err(|error| error.to_string())
        };
        assert!(said("perf.data", b"PERFILE2....").is_err_and(|said| said.contains("perf script")));
        let svg = written(Format::Svg);
        assert!(said("a.svg", &svg).is_err_and(|said| said.contains("svg is written")));
        assert_eq!(said("-", b"hello, world\n"), Ok(Vec::new()));
        let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03 cut";
        assert_eq!(said("a.pb.gz", packed), Ok(vec![Format::Pprof]));
        assert!(readable("svg").is_err());
        assert!(readable("perf-script").is_ok());
    }

    /// Too much of one format is not said to be none of another.
    #[test]
    fn too_large() {
        // As pprof more strings than are taken; an OTLP file has none of its fields there.
        let bytes = b"\x32\x00".repeat(Limits::default().table_entries + 1);
        let read = cli::Read { from: None, value: None };
        let said = parse(Path::new("a.pb"), &bytes, &read).map(|_| ()).unwrap_err();
        let said = format!("{said:#}");
        assert!(said.contains("more than") && !said.contains("nor is it"), "{said}");
    }

    /// Only what is there can be lost, and the lossless formats lose nothing.
    #[test]
    fn losses() {
        let profile = synthetic::small();
        for format in Format::ALL.into_iter().filter(|format| format.lossless()) {
            assert!(lost(&profile, format.keeps()).is_empty());
        }
        let of_folded = lost(&profile, Format::Folded.keeps());
        assert!(of_folded.contains(&"the times of samples") && of_folded.contains(&"modules"));
        let text = written(Format::Folded);
        let folded = Format::Folded.read(&text).expect("read");
        let again = lost(&folded, Format::Pprof.keeps());
        assert!(again.iter().all(|what| *what == "the exact kinds of frames"), "{again:?}");
    }
}
