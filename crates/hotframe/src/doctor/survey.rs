//! What runs now, for `hotframe doctor`: who uses CPU time, what their code can be named from, and which
//! runtimes they are.
//!
//! In: `/proc`, watched for a moment. Out: a [`CodeReport`] for each file of code, and a [`RuntimeReport`]
//! for each process that runs code which lies in no file, or interprets some.
//!
//! # Cost
//! The code of at most [`PROCESSES_MAX`] processes is looked at, and [`FILES_MAX`] files are opened.

use hotframe_core::chain;
use hotframe_core::files::{self, Identity, linked_path, root_device};
use hotframe_core::processes::{self, Executable};
use hotframe_core::runtimes::Recognised;
use hotframe_jitmap as jitmap;
use hotframe_objects::{ElfFile, ReadAt};
use hotframe_registry::RUNTIMES;
use hotframe_runtime::{Memory, Naming};
use hotframe_symbols as symbols;
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Processes whose code is looked at: those that used most CPU time.
const PROCESSES_MAX: usize = 32;
/// Code files that are opened.
const FILES_MAX: usize = 256;
/// Time in which processes are watched for what they use, at least.
const WATCH: Duration = Duration::from_millis(500);

/// A file of code that runs now, and what names it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CodeReport {
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) build_id: Option<String>,
    /// CPU time of the processes that map it while they were watched, as a share of all.
    pub(super) cpu_share: f64,
    pub(super) names: Names,
    #[serde(skip_serializing_if = "Option::is_none")]
    debug_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// What a file's code can be named with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Names {
    /// It cannot be read, or has no symbols at all.
    None,
    /// Exported functions.
    Exported,
    /// All functions.
    Functions,
    /// All functions, with inlined calls, files and lines.
    Lines,
}

/// A process that runs code which does not lie in a file, or interprets some.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RuntimeReport {
    pub(super) pid: u32,
    pub(super) comm: String,
    /// By its files; none: a JIT that is not known by any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) runtime: Option<&'static str>,
    /// How to make it leave a perf map.
    #[serde(skip)]
    pub(super) perf_map: Option<&'static str>,
    /// Its own frames would be unwound, or why not; none: nobody here knows how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unwound: Option<Unwound>,
    /// Executable memory without a file behind it, in bytes.
    pub(super) generated_bytes: u64,
    /// It leaves a perf map that can be used.
    pub(super) has_perf_map: bool,
    /// Why a perf map that is there cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// A runtime whose frames are unwound.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Unwound {
    pub(super) version: String,
    /// Why they are not, in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// CPU time of a process, in clock ticks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_cpu_ticks(&stat)
}

/// utime and stime are fields 14 and 15; the name in field 2 may hold anything.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Who uses CPU time while it lasts.
pub(super) struct Watch {
    began: Instant,
    ticks: HashMap<u32, u64>,
}

/// A process and its CPU time, as shares of all.
pub(super) struct Busy {
    pid: u32,
    share: f64,
}

impl Watch {
    pub(super) fn start() -> Watch {
        let ticks = pids().filter_map(|pid| Some((pid, cpu_ticks(pid)?))).collect();
        Watch { began: Instant::now(), ticks }
    }

    /// The busiest first; those that did nothing come last, by what they used in their lives.
    pub(super) fn finish(self) -> Vec<Busy> {
        std::thread::sleep(WATCH.saturating_sub(self.began.elapsed()));
        let own = std::process::id();
        let mut used: Vec<(u64, u64, u32)> = pids()
            .filter(|&pid| pid != own)
            .filter_map(|pid| {
                let now = cpu_ticks(pid)?;
                let before = self.ticks.get(&pid).copied().unwrap_or(0);
                Some((now.saturating_sub(before), now, pid))
            })
            .filter(|&(_, life, _)| life > 0)
            .collect();
        used.sort_by_key(|&(now, life, pid)| (std::cmp::Reverse((now, life)), pid));
        let all: u64 = used.iter().map(|(now, ..)| now).sum();
        used.truncate(PROCESSES_MAX);
        used.into_iter()
            .map(|(now, _, pid)| Busy { pid, share: now as f64 / all.max(1) as f64 })
            .collect()
    }
}

/// A runtime whose frames nobody here unwinds, by a symbol that it has wherever it is linked in.
struct Marker {
    symbol: &'static str,
    known: Known,
}

/// What is said of a runtime.
#[derive(Debug, Clone, Copy)]
struct Known {
    title: &'static str,
    /// How to make it leave a perf map.
    perf_map: Option<&'static str>,
}

impl Marker {
    const fn new(
        symbol: &'static str,
        title: &'static str,
        perf_map: Option<&'static str>,
    ) -> Marker {
        Marker { symbol, known: Known { title, perf_map } }
    }
}

/// The registry's are recognised.
const MARKERS: [Marker; 7] = [
    Marker::new(
        "_ZN2v82V810GetVersionEv",
        "V8",
        Some("node --perf-basic-prof …, or NODE_OPTIONS=--perf-basic-prof"),
    ),
    Marker::new("ruby_setup", "Ruby", Some("ruby --yjit-perf …")),
    Marker::new("zend_startup", "PHP", Some("php -d opcache.jit_debug=0x10 …")),
    Marker::new("perl_alloc", "Perl", None),
    Marker::new("erl_start", "BEAM", Some("erl +JPperf true …")),
    Marker::new("luaJIT_setmode", "LuaJIT", None),
    Marker::new("coreclr_execute_assembly", ".NET", Some("DOTNET_PerfMapEnabled=1 dotnet …")),
];

/// What runs now: files and runtimes.
#[derive(Default)]
pub(super) struct Survey {
    files: HashMap<Identity, usize>,
    code: Vec<CodeReport>,
    /// Per file in `code`: the runtime it is.
    runtime_of: Vec<Option<Known>>,
    /// Per file in `code`: the runtimes whose frames can be unwound that it is.
    recognised: Vec<Vec<Recognised>>,
    /// Per file in `code`: it could be read and is not an ELF file.
    is_foreign: Vec<bool>,
}

impl Survey {
    pub(super) fn of(processes: &[Busy]) -> (Vec<CodeReport>, Vec<RuntimeReport>) {
        let mut survey = Survey::default();
        let runtimes = processes.iter().filter_map(|busy| survey.process(busy)).collect();
        survey
            .code
            .sort_by(|a, b| b.cpu_share.total_cmp(&a.cpu_share).then_with(|| a.path.cmp(&b.path)));
        (survey.code, runtimes)
    }

    fn process(&mut self, busy: &Busy) -> Option<RuntimeReport> {
        let maps = processes::maps_text(busy.pid)?;
        let mut generated_bytes = 0;
        let mut runtime = None;
        let mut seen = Vec::new();
        let mut unwound = None;
        for mapping in executables(&maps) {
            let at = if mapping.inode == 0 { None } else { self.file(busy.pid, &mapping) };
            if mapping.inode == 0
                || (is_memory(&mapping) && at.is_some_and(|at| self.is_foreign[at]))
            {
                generated_bytes += mapping.end.saturating_sub(mapping.start);
            } else if let Some(at) = at {
                if !seen.contains(&at) {
                    seen.push(at);
                    self.code[at].cpu_share += busy.share;
                }
                runtime = runtime.or(self.runtime_of[at]);
                for recognised in &self.recognised[at] {
                    let found = unwound_in(busy.pid, &maps, &mapping, recognised);
                    // The first that works, in a process that has several.
                    if unwound.as_ref().is_none_or(|before: &Unwound| before.problem.is_some()) {
                        unwound = found.or(unwound);
                    }
                }
            }
        }
        if runtime.is_none() && unwound.is_none() && generated_bytes == 0 {
            return None;
        }
        let comm = fs::read_to_string(format!("/proc/{}/comm", busy.pid)).unwrap_or_default();
        let left = jitmap::Sources::open(busy.pid);
        Some(RuntimeReport {
            pid: busy.pid,
            comm: comm.trim_end_matches('\n').chars().filter(|c| !c.is_control()).collect(),
            runtime: runtime.map(|known| known.title),
            perf_map: runtime.and_then(|known| known.perf_map),
            unwound,
            generated_bytes,
            has_perf_map: left.is_ok(),
            problem: match left {
                Ok(sources) => sources.refused().next().map(|why| chain(why)),
                Err(why) if why.is_absence() => None,
                Err(why) => Some(chain(&why)),
            },
        })
    }

    /// Index of the file behind a mapping; `None` when it is no file of code or there are enough.
    fn file(&mut self, pid: u32, mapping: &Executable<'_>) -> Option<usize> {
        let path = linked_path(mapping.path);
        let key = mapping.identity().in_process(path, || root_device(pid));
        if let Some(&at) = self.files.get(&key) {
            return Some(at);
        }
        if self.code.len() >= FILES_MAX {
            return None;
        }
        let mut report = CodeReport {
            path: path.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
            build_id: None,
            cpu_share: 0.0,
            names: Names::None,
            debug_file: None,
            problem: None,
        };
        let mut runtime = None;
        let mut is_foreign = false;
        let mut recognised = Vec::new();
        match open_mapped(pid, mapping) {
            Ok(file) => {
                let mut context = symbols::Context::new(path);
                context.root = Some(PathBuf::from(format!("/proc/{pid}/root")));
                match symbols::sources(&file, &context) {
                    Ok(sources) => {
                        report.names = names_of(&sources);
                        report.build_id = sources
                            .build_id
                            .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
                        report.debug_file = sources.debug_file;
                    }
                    Err(cause) => {
                        is_foreign = true;
                        report.problem = Some(chain(&cause));
                    }
                }
                if let Ok(elf) = ElfFile::open(&file as &dyn ReadAt) {
                    recognised = hotframe_core::runtimes::recognise(&RUNTIMES, path, &elf);
                }
                let wanted = MARKERS.each_ref().map(|marker| marker.symbol);
                let defined = symbols::defines(&file, &wanted).unwrap_or_default();
                let marked = MARKERS.iter().zip(defined).find(|(_, defined)| *defined);
                let ours = recognised.first().map(|ours| Known {
                    title: ours.runtime.title(),
                    perf_map: ours.runtime.perf_map(),
                });
                runtime = ours.or(marked.map(|(marker, _)| marker.known));
            }
            Err(cause) => report.problem = Some(cause.to_string()),
        }
        self.files.insert(key, self.code.len());
        self.code.push(report);
        self.runtime_of.push(runtime);
        self.recognised.push(recognised);
        self.is_foreign.push(is_foreign);
        Some(self.code.len() - 1)
    }
}

/// Would the frames of a runtime be unwound in a process that maps its file? `None` for a mapping
/// that does not say where the file lies.
fn unwound_in(
    pid: u32,
    maps: &str,
    mapping: &Executable<'_>,
    recognised: &Recognised,
) -> Option<Unwound> {
    let layout = match &recognised.layout {
        Ok(layout) => layout,
        Err(problem) => {
            let version = recognised.runtime.name().to_owned();
            return Some(Unwound { version, problem: Some(problem.clone()) });
        }
    };
    let file = open_mapped(pid, mapping).ok()?;
    let elf = ElfFile::open(&file).ok()?;
    let image = elf.map_bias(mapping.start, mapping.pgoff)?;
    let make = || {
        executables(maps)
            .map(|mapping| hotframe_runtime::Mapping {
                start: mapping.start,
                end: mapping.end,
                pgoff: mapping.pgoff,
                path: mapping.path.to_owned(),
            })
            .collect()
    };
    let open = |wanted: &hotframe_runtime::Mapping| {
        let mapping = executables(maps).find(|it| it.start == wanted.start)?;
        let file = open_mapped(pid, &mapping).ok()?;
        Some(Arc::new(file) as Arc<dyn ReadAt + Send + Sync>)
    };
    let process = hotframe_runtime::Process {
        pid,
        bias: image.wrapping_sub(elf.image_base()),
        memory: &Memory::of(pid),
        naming: Naming::default(),
        known: &hotframe_runtime::NothingKnown,
        mappings: &hotframe_runtime::Mappings::new(&make),
        open: &open,
    };
    // Some say their version only in a process.
    let (version, problem) = match layout.attach(&process) {
        Ok(attached) => (attached.version(), None),
        Err(why) => (None, Some(chain(&why))),
    };
    Some(Unwound { version: version.unwrap_or_else(|| layout.version()), problem })
}

fn names_of(sources: &symbols::Sources) -> Names {
    if sources.go || sources.dwarf {
        Names::Lines
    } else if sources.symtab || sources.minidebuginfo {
        Names::Functions
    } else if sources.dynsym {
        Names::Exported
    } else {
        Names::None
    }
}

fn open_mapped(pid: u32, mapping: &Executable<'_>) -> std::io::Result<fs::File> {
    let Executable { start, end, path, .. } = *mapping;
    files::open_mapped(pid, start, end, linked_path(path), &mapping.identity())
}

/// The executable mappings of a process, but for the kernel's own: the vDSO, the uprobes' page and the like.
fn executables(maps: &str) -> impl Iterator<Item = Executable<'_>> {
    let is_kernel = |path: &str| path.starts_with('[') && !path.starts_with("[anon");
    maps.lines().filter_map(Executable::parse).filter(move |mapping| !is_kernel(mapping.path))
}

/// A file that lies in no file system: of a JIT that maps its code twice, or an ELF file.
fn is_memory(mapping: &Executable<'_>) -> bool {
    mapping.path.starts_with("/memfd:") || mapping.path.starts_with("/dev/zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with spaces and parentheses does not shift the fields.
    #[test]
    fn ticks() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(parse_cpu_ticks(stat), Some(42));
        assert_eq!(parse_cpu_ticks("7 (x"), None);
    }

    /// Our own time is what getrusage says, to a tick or a few.
    #[test]
    fn ticks_of_this_process() {
        use nix::sys::time::TimeValLike as _;
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {}
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
            .expect("usage");
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let ticks = cpu_ticks(std::process::id()).expect("our own stat") as i64;
        assert!((us / 10_000 - ticks).abs() <= 5, "{us} us, {ticks} ticks");
    }

    /// Generated code is executable memory without a file; the kernel's pages are not.
    #[test]
    fn mappings() {
        let parse = |line| executables(line).next().map(|one| (one.inode, is_memory(&one)));
        assert_eq!(parse("1000-2000 r-xp 00000000 fe:00 12   /bin/a b"), Some((12, false)));
        assert_eq!(parse("1000-2000 rwxp 00000000 00:00 0 "), Some((0, false)));
        assert_eq!(parse("1000-2000 rwxp 00000000 00:00 0  [anon:jit]"), Some((0, false)));
        let memfd = "1000-2000 r-xp 00000000 00:01 9  /memfd:doublemapper (deleted)";
        assert_eq!(parse(memfd), Some((9, true)));
        assert_eq!(parse("1000-2000 r-xp 00000000 00:00 0  [vdso]"), None);
        assert_eq!(parse("1000-2000 rw-p 00000000 00:00 0 "), None);
        assert_eq!(parse("nonsense"), None);
    }
}
