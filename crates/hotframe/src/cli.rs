//! The command line: one definition an option, for parsing and help. What each subcommand's help
//! shows as an example is in `transcripts/`, as it ran.

use clap::{Args, Parser, Subcommand};
use hotframe_runtime::Naming;
use std::path::PathBuf;

/// A whole-system profiler: kernel, native, Java, Python and JIT frames of every process in one stack,
/// named on the host, inside one byte budget.
#[derive(Debug, Parser)]
#[command(name = "hotframe", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record what runs and write a flame graph.
    ///
    /// Records until the command and all that it started have ended, or for the duration, or until
    /// Ctrl-C. Needs root, or CAP_BPF and CAP_PERFMON.
    ///
    /// Examples:
    ///   hotframe record -d 10                         the whole machine, to ./hotframe.html
    ///   hotframe record -o make.html -- make -j4      a build
    ///   hotframe record -p 1234 -d 30 -o a.pb.gz      one process and its children
    ///   hotframe record -p 1234 -- ab -n 9999 URL     a server while a command runs
    ///   hotframe record -d 5 -o - --format folded     text to stdout
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/record.txt"))]
    Record(Box<Record>),
    /// Show what runs now: the hottest functions, processes and kinds of code, live.
    ///
    /// Examples:
    ///   hotframe top                  the whole machine
    ///   hotframe top -p 1234 -w 30    one process and its children, the last 30 seconds
    ///
    /// Enter goes into a line, Esc back out, ? lists the keys.
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/top.txt"))]
    Top(Top),
    /// Say whether recording will work here, what is missing, and what would mend it.
    ///
    /// The exit code is 0 only when `hotframe record` will work.
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/doctor.txt"))]
    Doctor(Doctor),
    /// Say in words what a recording's books hold.
    ///
    /// Example:
    ///   $ hotframe record -q -d 10 --stats stats.json && hotframe explain memory stats.json
    ///   --memory 60.00 MiB; 45.73 MiB resident at most, 21.61 MiB of maps and rings
    ///   ...
    #[command(subcommand, verbatim_doc_comment)]
    Explain(Explain),
    /// Write a shell's completions to stdout.
    ///
    /// Examples:
    ///   hotframe completions bash > /etc/bash_completion.d/hotframe
    ///   hotframe completions zsh > /usr/local/share/zsh/site-functions/_hotframe
    ///   hotframe completions fish > ~/.config/fish/completions/hotframe.fish
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/completions.txt"))]
    Completions(Completions),
    /// Write the manual pages.
    ///
    /// Examples:
    ///   hotframe man | man -l -                    read it
    ///   hotframe man /usr/local/share/man/man1     install a page for each subcommand
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/man.txt"))]
    Man(Man),
    /// Turn a stored profile into another format.
    ///
    /// Reads what hotframe wrote as .html, .otlp, .pb.gz or .folded, and anybody's pprof, OTLP
    /// profiles, folded stacks and `perf script` text. What the new format has no room for is
    /// said in one line.
    ///
    /// Examples:
    ///   hotframe convert hotframe.html a.firefox.json           for profiler.firefox.com
    ///   hotframe convert cpu.pb.gz cpu.html                     Go's profile as a page
    ///   perf script | hotframe convert - perf.html              perf's recording as a page
    ///   hotframe convert a.otlp - --format folded | head        text to stdout
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/convert.txt"))]
    Convert(Convert),
    /// Open stored profiles in the browser.
    ///
    /// Serves the page of each file on a loopback port until Ctrl-C, prints the address and, on a
    /// desktop, opens it. Reads what `hotframe convert` reads. Several files are a list to choose
    /// from; they are never added up.
    ///
    /// Examples:
    ///   hotframe view hotframe.html
    ///   hotframe view before.otlp after.otlp cpu.pb.gz
    ///   perf script | hotframe view -
    ///   hotframe view --port 8080 --no-open a.otlp     then ssh -L 8080:127.0.0.1:8080 HOST
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/view.txt"))]
    View(View),
    /// Say what changed between two recordings, and what is noise.
    ///
    /// Prints the functions whose share of the samples changed most. Shares are of each
    /// recording's own samples, so that recordings of any length compare. A change within noise
    /// has a ~ and is grey: of two recordings of the same behaviour, at most 1 in 20 pairs has any
    /// line without one.
    ///
    /// Examples:
    ///   hotframe diff before.html after.html
    ///   hotframe diff before.otlp after.otlp -o diff.html      the differential flame graph
    ///   hotframe diff --view old.pb.gz new.pb.gz               the same, in the browser
    #[command(verbatim_doc_comment, after_long_help = include_str!("transcripts/diff.txt"))]
    Diff(Diff),
}

/// What `hotframe explain` explains.
#[derive(Debug, Subcommand)]
pub enum Explain {
    /// Who held how much memory, what was evicted and what was refused.
    ///
    /// Reads a file that `hotframe record --stats FILE` wrote.
    ///
    /// Example:
    ///   $ hotframe explain memory stats.json
    ///   --memory 60.00 MiB; 45.73 MiB resident at most, 21.61 MiB of maps and rings
    ///
    ///   owner                 peak MiB   end MiB   entries  hit %   evicted   refused  what it is
    ///   tables                   16.94      0.00      2262      -       569         -  unwind rows and mappings, shared with the kernel
    ///   files                     4.78      4.78       171      -         -         -  files of code that are open
    ///   stacks.nodes              1.52      1.07     77010      -         -         -  the tree of stacks
    ///   lookup.static             1.02      0.68     31406   91.5         -         -  places in files, with their names
    ///   ...
    ///   heap at most, by stage: recording 21.96 MiB, merging 11.27 MiB, naming 25.08 MiB, writing 33.11 MiB
    ///   put away on disk while recording: 2 parts of 3.58 MiB in all
    ///   21979 stacks were cut for want of memory
    #[command(verbatim_doc_comment)]
    Memory {
        /// The books
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Options of `hotframe record`.
#[derive(Debug, Args)]
pub struct Record {
    /// Stop after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub duration: Option<f64>,
    /// What is sampled.
    #[command(flatten)]
    pub sampled: Sampled,
    /// Write here; .html, .pb.gz, .folded, .otlp, .firefox.json, .speedscope.json or .svg;
    /// `-` is stdout; repeatable [default: hotframe.html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Format of what goes to stdout or has another name, or of ./hotframe.*: html, pprof, folded, otlp,
    /// firefox, speedscope or svg
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Write the books as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// Write the stacks as they came, with their names, for `make bench-frames STREAM=FILE`
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Compare the walks of N samples with an independent unwinder
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub audit: u32,
    /// Run the command as this user [default: who called sudo]
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// How names are written.
    #[command(flatten)]
    pub names: Names,
    /// Leave frames that lie in files unnamed in .pb.gz, for other tools to name
    #[arg(long, hide = true)]
    pub address_only: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Command to record, with its arguments; `--` before it keeps its name from being taken for an option
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// Options of `hotframe convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// Profile to read; `-` is stdin
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File to write; `-` is stdout
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// How it is read.
    #[command(flatten)]
    pub read: Read,
    /// Format of OUT, when its name does not say it: html, pprof, folded, otlp, firefox, speedscope
    /// or svg
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `hotframe view`.
#[derive(Debug, Args)]
pub struct View {
    /// Profiles to show; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How it is served.
    #[command(flatten)]
    pub serve: Serve,
    /// How it is read.
    #[command(flatten)]
    pub read: Read,
    /// Print the address only
    #[arg(short, long)]
    pub quiet: bool,
}

/// How files are read, by all that read any.
#[derive(Debug, Args)]
pub struct Read {
    /// Format of what is read, when neither its name nor its content shows it: html, otlp, pprof,
    /// folded or perf-script
    #[arg(long, value_name = "FORMAT")]
    pub from: Option<String>,
    /// Which of the values of a pprof or OTLP file counts, as alloc_space of a heap [default: samples, or
    /// what the file says]
    #[arg(long, value_name = "NAME")]
    pub value: Option<String>,
}

/// How pages are served, by `view` and by `diff --view`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Port to listen on, on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Open no browser
    #[arg(long)]
    pub no_open: bool,
}

/// Options of `hotframe diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The first recording; `-` is stdin
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The second recording; `-` is stdin
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Write the differential flame graph here, as .html
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show the differential flame graph in the browser, until Ctrl-C
    #[arg(long)]
    pub view: bool,
    /// How it is served.
    #[command(flatten)]
    pub serve: Serve,
    /// Lines of each table
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// How it is read.
    #[command(flatten)]
    pub read: Read,
}

/// Options of `hotframe top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Show the last so many seconds
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub window: u32,
    /// What is sampled.
    #[command(flatten)]
    pub sampled: Sampled,
    /// How names are written.
    #[command(flatten)]
    pub names: Names,
}

/// What is sampled and what that may hold, by all that record. Of one option any value is enough, of
/// different ones each has to hold.
#[derive(Debug, Args)]
pub struct Sampled {
    /// Samples a second and CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = 99, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=20000))]
    pub frequency: u32,
    /// Only this process with its threads and descendants; repeatable, or several with commas between
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = pid, allow_negative_numbers = true)]
    pub pid: Vec<u32>,
    /// Only what runs below this cgroup: a path, or the beginning of a container's id; repeatable
    #[arg(long, value_name = "PATH|ID")]
    pub cgroup: Vec<String>,
    /// Only threads of this name (its first 15 bytes, exact); repeatable
    #[arg(long, value_name = "NAME")]
    pub comm: Vec<String>,
    /// Bound on all memory, the kernel's maps included: bytes, or with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "60M")]
    pub memory: String,
}

/// How names are written, by all that record.
#[derive(Debug, Args)]
pub struct Names {
    /// Name Java's methods with the types of their parameters
    #[arg(long)]
    pub java_signatures: bool,
    /// Leave Java's lambdas, proxies and hidden classes their numbers and addresses: a name for each
    #[arg(long)]
    pub java_raw_names: bool,
}

impl Names {
    /// As the runtimes are told.
    pub fn naming(&self) -> Naming {
        let Names { java_signatures, java_raw_names } = *self;
        Naming { java_signatures, java_raw_names }
    }
}

/// Options of `hotframe doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `hotframe completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Options of `hotframe man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page a subcommand here [default: hotframe(1) to stdout]
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.strip_suffix('s').unwrap_or(text).parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e9 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, up to 1e9".into()),
    }
}

fn pid(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected the number of a process, or several with commas between")
}

/// Parses `64M`, `64MiB`, `1.5g`, `70000000`.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let part = (fraction.parse::<u64>().ok()? << shift) / 10u64.pow(fraction.len() as u32);
    whole.parse::<u64>().ok()?.checked_mul(1 << shift)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definitions agree with themselves.
    #[test]
    fn definitions() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    /// A command begins at the first word that is no option, as perf's does, or behind `--`; what follows
    /// is its own. An option that does not exist is none.
    #[test]
    fn commands() {
        let command = |line: &str| {
            let words = std::iter::once("hotframe").chain(line.split(' '));
            let Command::Record(record) = Cli::try_parse_from(words).ok()?.command else {
                return None;
            };
            let words = record.command.iter().map(|word| word.to_string_lossy().into_owned());
            Some(words.collect::<Vec<_>>().join(" "))
        };
        let is = |line: &str, expect: Option<&str>| {
            assert_eq!(command(line).as_deref(), expect, "{line}");
        };
        is("record -d 1 sleep -x -d 2", Some("sleep -x -d 2"));
        is("record -d 1 -- sleep -x -d 2", Some("sleep -x -d 2"));
        is("record -- --sleep -- 1", Some("--sleep -- 1"));
        is("record -q", Some(""));
        is("record --bogus", None);
        is("record -d -1 sleep", None);
    }

    /// Processes one by one, or as `pgrep -d,` lists them; nothing, as it says where there is none, is none.
    #[test]
    fn processes() {
        let pids = |words: &[&str]| {
            let words = ["hotframe", "record"].iter().chain(words);
            let Command::Record(record) = Cli::try_parse_from(words).ok()?.command else {
                return None;
            };
            Some(record.sampled.pid)
        };
        assert_eq!(pids(&["-p", "12,13", "-p", "7"]), Some(vec![12, 13, 7]));
        assert_eq!(pids(&[]), Some(Vec::new()));
        for bad in ["", "12,", "self", "-1", "12 13"] {
            assert_eq!(pids(&["-p", bad]), None, "{bad:?}");
        }
    }

    /// Sizes as people write them.
    #[test]
    fn sizes() {
        assert_eq!(size("60M"), Some(60 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("1.5G"), Some(3 << 29));
        assert_eq!(size("0.25t"), Some(1 << 38));
        assert_eq!(size("1.999999T"), Some((1 << 40) + (999_999 << 40) / 1_000_000));
        for bad in ["1.G", ".5G", "1.2.3M", "+1M", "1.0000001K", "-1"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(size("12x"), None);
        assert_eq!(size(""), None);
        assert_eq!(size("99999999999999G"), None);
    }
}
