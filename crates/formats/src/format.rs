//! Which format a file has, and what each can do: the table behind `-o`, `view` and `convert`.

use std::io::Write;
use std::path::Path;

use hotframe_core::profile::Profile;

use crate::{
    Error, canonical, firefox, folded, gzip, html, otlp, perfscript, pprof, speedscope, svg,
};

/// A file format of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// hotframe's page.
    Html,
    /// gzipped pprof.
    Pprof,
    /// Folded stacks.
    Folded,
    /// One bare OTLP ProfilesData message.
    Otlp,
    /// The Firefox Profiler's processed profile.
    Firefox,
    /// speedscope's JSON.
    Speedscope,
    /// A static flame graph.
    Svg,
    /// What `perf script` prints.
    PerfScript,
}

/// What a format has room for, beside stacks, names and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// When each sample was taken.
    pub times: bool,
    /// Pids, tids and names of threads.
    pub threads: bool,
    /// Files of code and their build ids.
    pub modules: bool,
    /// Source files and lines.
    pub lines: bool,
    /// Kinds of code, exactly.
    pub kinds: bool,
    /// Books, cut stacks and heuristic marks.
    pub books: bool,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 8] = [
        Format::Html,
        Format::Pprof,
        Format::Folded,
        Format::Otlp,
        Format::Firefox,
        Format::Speedscope,
        Format::Svg,
        Format::PerfScript,
    ];

    /// The name that `--format` takes.
    pub fn name(self) -> &'static str {
        match self {
            Format::Html => "html",
            Format::Pprof => "pprof",
            Format::Folded => "folded",
            Format::Otlp => "otlp",
            Format::Firefox => "firefox",
            Format::Speedscope => "speedscope",
            Format::Svg => "svg",
            Format::PerfScript => "perf-script",
        }
    }

    /// The ends of file names that mean it; files are written with the first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Format::Html => &[".html", ".htm"],
            Format::Pprof => &[".pb.gz", ".pprof", ".pb", ".prof"],
            Format::Folded => &[".folded", ".collapsed", ".folded.gz"],
            Format::Otlp => &[".otlp", ".otlp.gz"],
            Format::Firefox => &[".firefox.json"],
            Format::Speedscope => &[".speedscope.json"],
            Format::Svg => &[".svg"],
            Format::PerfScript => &[".perf", ".perf.txt", ".perf-script"],
        }
    }

    /// The format that a path's name means.
    pub fn from_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        (Format::ALL.into_iter())
            .find(|format| format.extensions().iter().any(|end| name.ends_with(end)))
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format that a file's content shows, gzipped or not; what is gzipped and no
    /// text is taken for pprof. pprof and OTLP begin alike: for these only the path tells, or [`Format::candidates`] and a try.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        if html::is_page(bytes) {
            return Some(Format::Html);
        }
        let text = || {
            let head = gzip::head(bytes);
            let lines = (head.split(|&byte| byte == b'\n'))
                .take(1000)
                .map_while(|line| std::str::from_utf8(line).ok());
            if perfscript::is_beginning(lines.clone()) {
                return Some(Format::PerfScript);
            }
            let line = (lines.into_iter())
                .find(|line| !line.trim_ascii().is_empty() && !line.starts_with('#'))?;
            let (_, count) = line.trim_end().rsplit_once([' ', '\t'])?;
            folded::is_count(count).then_some(Format::Folded)
        };
        text().or_else(|| gzip::is_packed(bytes).then_some(Format::Pprof))
    }

    /// The formats to try on a file, likeliest first: a page is certain, then what the path says,
    /// then what the content may be. Those that are only written are never among them.
    pub fn candidates(path: &Path, bytes: &[u8]) -> Vec<Format> {
        let by_content = Format::detect(bytes);
        if by_content == Some(Format::Html) {
            return vec![Format::Html];
        }
        let head = gzip::head(bytes);
        // Text has no such bytes, and no protobuf of a profile is without.
        let binary = head.iter().take(4096).any(|&byte| byte < 9 || (14..32).contains(&byte));
        let protobuf = if binary { &[Format::Pprof, Format::Otlp][..] } else { &[] };
        let mut formats = Vec::new();
        let by_path = Format::from_path(path).filter(|format| format.reads());
        for format in by_path.into_iter().chain(by_content).chain(protobuf.iter().copied()) {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        formats
    }

    /// Whether [`Format::read`] knows it.
    pub fn reads(self) -> bool {
        !matches!(self, Format::Firefox | Format::Speedscope | Format::Svg)
    }

    /// Whether [`Format::write`] knows it.
    pub fn writes(self) -> bool {
        self != Format::PerfScript
    }

    /// What writing holds at most beside the profile, in percent of what that holds: measured with
    /// stacks that are all different (`tests/memory.rs`).
    pub fn writing_percent(self) -> u64 {
        match self {
            Format::Html | Format::PerfScript => 10,
            Format::Pprof | Format::Speedscope => 40,
            Format::Otlp => 130,
            Format::Folded | Format::Svg | Format::Firefox => 300,
        }
    }

    /// Whether a profile read equals the one written.
    pub fn lossless(self) -> bool {
        let Keeps { times, threads, modules, lines, kinds, books } = self.keeps();
        self.reads() && times && threads && modules && lines && kinds && books
    }

    /// What it keeps.
    pub fn keeps(self) -> Keeps {
        let all = Keeps {
            times: true,
            threads: true,
            modules: true,
            lines: true,
            kinds: true,
            books: true,
        };
        let none = Keeps {
            times: false,
            threads: false,
            modules: false,
            lines: false,
            kinds: false,
            books: false,
        };
        match self {
            Format::Html | Format::Otlp => all,
            Format::Pprof => Keeps { threads: true, modules: true, lines: true, ..none },
            Format::Firefox => Keeps { books: false, ..all },
            Format::Speedscope => Keeps { threads: true, ..none },
            Format::PerfScript => Keeps { times: true, threads: true, modules: true, ..none },
            Format::Folded | Format::Svg => none,
        }
    }

    /// Whether the bytes of a file of this format are text that a terminal shows.
    pub fn is_text(self) -> bool {
        !matches!(self, Format::Pprof | Format::Otlp)
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// Those of [`Error`]; [`Error::Unsupported`] for formats that are written only.
    pub fn read(self, bytes: &[u8]) -> Result<Profile, Error> {
        match self {
            Format::Html => Ok(html::read(bytes)?),
            Format::Pprof => pprof::read(bytes),
            Format::Folded => folded::read(bytes),
            Format::Otlp => otlp::read(bytes),
            Format::PerfScript => perfscript::read(bytes),
            Format::Firefox | Format::Speedscope | Format::Svg => {
                Err(Error::Unsupported { format: self.name(), what: "read" })
            }
        }
    }

    /// Writes a profile, with each format's usual options. The page takes the one numbering
    /// first, so that it does not depend on the way that the profile came.
    ///
    /// # Errors
    /// [`Error::Write`]; [`Error::Unsupported`] for formats that are read only.
    pub fn write(self, profile: &Profile, out: &mut impl Write) -> Result<(), Error> {
        match self {
            Format::Html if profile.is_canonical => {
                html::write(profile, out).map_err(Error::write("html"))
            }
            Format::Html => html::write(&canonical(profile)?, out).map_err(Error::write("html")),
            Format::Pprof => pprof::write(profile, pprof::Options::default(), out),
            Format::Folded => folded::write(profile, folded::Options::default(), out),
            Format::Otlp => otlp::write(profile, otlp::Options::default(), out),
            Format::Firefox => firefox::write(profile, out),
            Format::Speedscope => speedscope::write(profile, out),
            Format::Svg => svg::write(profile, svg::Options::default(), out),
            Format::PerfScript => Err(Error::Unsupported { format: self.name(), what: "written" }),
        }
    }
}
