//! What comes after the last sample: names, the profile, files.
//!
//! In: a recording whose clocks stand. Out: written files, and what of them failed. What recording needed is
//! given back first; what was put away on disk is read back.

use super::{Options, Recorder, ask_kernel};
use crate::memory::{Counts, Ledger, Resident};
use crate::output::{self, Output, Place};
use crate::sampler::{PASS, Sampler};
use crate::stats::{Agent, Books, Document, Spilled};
use crate::summary;
use crate::this_process::cpu_seconds;
use anyhow::Context as _;
use hotframe_abi as abi;
use hotframe_core::by_function::ByFunction;
use hotframe_core::jit::Jit;
use hotframe_core::profile::{Meta, Profile};
use hotframe_core::recording::Recording;
use hotframe_core::registered::Registered;
use hotframe_core::resolve::{self, Sources};
use hotframe_core::segments::{Losses, Segments};
use hotframe_core::session::{self, Session};
use hotframe_core::tables::{OwnMemory, Tables};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the last frames of runtimes may take to be named: the rest says that it was late.
const PENDING_NAMES: Duration = Duration::from_secs(10);

/// Where a recording goes.
pub(super) struct Places {
    pub(super) outputs: Vec<Output>,
    pub(super) stats: Option<Place>,
    pub(super) capture: Option<Place>,
}

/// What is to be written, and what of it was known before it was recorded.
pub(super) struct Wanted {
    pub(super) places: Places,
    pub(super) meta: Meta,
    pub(super) start_ns: u64,
    /// When the program began.
    pub(super) began_ns: u64,
    pub(super) budget_bytes: u64,
}

/// What was counted while it was recorded.
struct Counted {
    counters: abi::hf_counters,
    ticks_expected: u64,
    ticks_halted: u64,
    tables: hotframe_core::tables::TableStats,
    sideband_lost: u64,
    map_bytes: u64,
}

/// A recording whose unwinding is over.
struct Ended {
    counted: Counted,
    session: Session,
    files: Sources,
    /// What went wrong with processes, by pid.
    of_processes: Vec<(u32, String)>,
}

/// What came of naming.
struct Named {
    outcome: resolve::Outcome,
    losses: Losses,
    spilled: Option<Spilled>,
    /// Who held how much of the recording when that was most.
    memory: Vec<hotframe_frames::Report>,
}

impl Recorder {
    /// Names and writes everything; returns what failed. What recording needed is given back
    /// first: naming and writing have its memory.
    pub(super) fn write(
        mut self,
        options: &Options,
        wanted: Wanted,
    ) -> anyhow::Result<Vec<anyhow::Error>> {
        // As in the recorder: not over a command that still runs.
        let command_runs = !options.command.is_empty() && self.exit_code.is_none();
        let shows_progress = !options.quiet && !command_runs && crate::messages::shows_progress();
        self.name_last_frames(shows_progress);
        let (Ended { counted, mut session, files, of_processes }, mut ledger) = self.end()?;
        let mut progress = |done, all| {
            if shows_progress {
                crate::messages::progress(format_args!("naming: {done} of {all} files "));
                if done == all {
                    crate::messages::end_progress();
                }
            }
        };
        let mut named = name(&mut session, &files, of_processes, &mut ledger, &mut progress);
        let mut failures = Vec::new();
        if let Some(place) = &wanted.places.capture {
            let recording = &session.recording;
            let result = place.write(|out| {
                hotframe_core::capture::write(recording, &mut *out)?;
                Ok(())
            });
            failures.extend(result.err());
        }
        ledger.end_stage("naming");
        let recording = std::mem::take(&mut session.recording);
        let mut profile = resolve::build(recording, &files, wanted.meta, wanted.start_ns);
        named.outcome.frames = resolve::count(&profile);
        // What named the recording is not needed to write it.
        drop(files);
        session.jit = Jit::default();
        session.kernel_symbols = BTreeMap::new();
        ledger.end_stage("building");
        let first = session.counts.first_user_stack_ns;
        let agent = |ledger: &Ledger| {
            let (memory, stages) = ledger.json(&named.memory);
            Agent {
                cpu_seconds: cpu_seconds(),
                rss_peak_bytes: Resident::now().peak,
                map_bytes: counted.map_bytes,
                held_peak_bytes: ledger.held_peak_bytes(),
                budget_bytes: wanted.budget_bytes,
                first_sample_seconds: (first > 0)
                    .then(|| first.saturating_sub(wanted.began_ns) as f64 / 1e9),
                memory,
                stages,
            }
        };
        let runtimes = session.runtimes.report();
        let without_runtime = session.without_runtime();
        let stats = |agent: &Agent| {
            Books {
                ticks_expected: counted.ticks_expected,
                ticks_halted: counted.ticks_halted,
                sideband_lost: counted.sideband_lost,
                kernel: &counted.counters,
                counts: &session.counts,
                without_runtime: &without_runtime,
                not_judged: &session.not_judged,
                outcome: &named.outcome,
                agent,
                tables: counted.tables,
                runtimes: &runtimes,
                losses: named.losses,
                spilled: named.spilled.as_ref(),
            }
            .json()
        };
        let books = stats(&agent(&ledger));
        let document = Document { books: &books, profile: &profile, outcome: &named.outcome };
        let text = serde_json::to_string(&document).context("the books")?;
        profile.stats = text;
        let mut written = Vec::new();
        for output in &wanted.places.outputs {
            match output::write(output, &profile, options.address_only) {
                Ok(()) => written.push(output.place.said()),
                Err(cause) => failures.push(cause),
            }
        }
        ledger.end_stage("writing");
        // Once more, so that naming and writing are in it.
        profile.stats = String::new();
        let books = stats(&agent(&ledger));
        if let Some(place) = &wanted.places.stats {
            let document = Document { books: &books, profile: &profile, outcome: &named.outcome };
            let result = place.write(|out| {
                serde_json::to_writer_pretty(&mut *out, &document)?;
                Ok(writeln!(out)?)
            });
            failures.extend(result.err());
        }
        if !options.quiet {
            say(&profile, &books, &written);
        }
        Ok(failures)
    }

    /// Asks runtimes for the names of their frames that are still without, for [`PENDING_NAMES`].
    fn name_last_frames(&mut self, shows_progress: bool) {
        let until = Instant::now() + PENDING_NAMES;
        loop {
            let slice = Instant::now() + PASS;
            let n_left = self.sampler.session.answer_questions(until.min(slice));
            if n_left == 0 || Instant::now() >= until {
                break;
            }
            if shows_progress {
                crate::messages::progress(format_args!("naming: {n_left} frames of runtimes "));
            }
        }
    }

    /// Reads what was counted, and gives back the kernel half and what only unwinding needed.
    fn end(mut self) -> anyhow::Result<(Ended, Ledger)> {
        let kernel = &self.sampler.kernel;
        let mut counted = Counted {
            counters: kernel.counters()?,
            ticks_expected: kernel.ticks_expected(),
            ticks_halted: kernel.ticks_halted()?,
            tables: self.sampler.session.tables.stats(),
            sideband_lost: 0,
            map_bytes: self.measure(),
        };
        self.ledger.end_stage("recording");
        let Recorder { sampler, ledger, .. } = self;
        let Sampler { kernel, ring, mut session, .. } = sampler;
        session.tables = Tables::new(Box::new(OwnMemory::new(abi::HF_HEAP_OFF as usize)));
        drop(ring);
        drop(kernel);
        // Of files and processes naming needs little.
        let files = Sources::of(std::mem::take(&mut session.files));
        let processes = std::mem::take(&mut session.processes);
        counted.sideband_lost = processes.lost_events;
        let of_processes = processes.problems().collect();
        drop(processes);
        session.jit.tell(session.registered.problems());
        session.registered = Registered::default();
        hotframe_alloc::trim();
        Ok((Ended { counted, session, files, of_processes }, ledger))
    }
}

/// Names what was recorded, with what was put away on disk.
fn name(
    session: &mut Session,
    files: &Sources,
    of_processes: Vec<(u32, String)>,
    ledger: &mut Ledger,
    progress: &mut dyn FnMut(usize, usize),
) -> Named {
    let mut memory = session.recording.store.report();
    let Session { segments, recording, counts, kernel_symbols, jit, .. } = session;
    let input = resolve::Input {
        files,
        kernel_symbols,
        jit,
        debuginfod: hotframe_symbols::Debuginfod::from_environment(),
        ask_kernel,
    };
    let mut problems = Vec::new();
    let mut by_function = |recording: &mut Recording, words, limit_bytes| {
        let (names, of_names) =
            resolve::name_by_function(recording, words, limit_bytes, &input, &mut *progress);
        problems = of_names;
        names
    };
    let (losses, spilled) = gather(segments.take(), recording, counts, ledger, &mut by_function);
    let mut outcome = resolve::name(recording, &input, progress);
    for problem in problems {
        // A file may have been read twice.
        if !outcome.problems.contains(&problem) {
            outcome.problems.push(problem);
        }
    }
    if spilled.is_none() {
        memory = recording.store.report();
    }
    for (pid, problem) in of_processes {
        outcome.tell_of(pid, format!("process {pid}: {problem}"));
    }
    outcome.problems.extend(spilled.as_ref().and_then(|spilled| spilled.problem.clone()));
    Named { outcome, losses, spilled, memory }
}

/// Reads back what was put away, if anything was, and leaves naming and writing their room. `name` is
/// that of [`Segments::merge`].
fn gather(
    segments: Option<Segments>,
    recording: &mut Recording,
    counts: &mut session::Counts,
    ledger: &mut Ledger,
    name: &mut dyn FnMut(&mut Recording, Vec<u64>, u64) -> ByFunction,
) -> (Losses, Option<Spilled>) {
    let Some(mut segments) = segments.filter(|segments| !segments.is_empty()) else {
        ledger.room_for_writing();
        return (Losses::default(), None);
    };
    segments.put_away(recording);
    // What could not be put away is lost, and the books say so: it left the kernel and reached no file.
    let kept_back = std::mem::take(&mut recording.samples);
    for &cut in &kept_back.cut {
        counts.samples = counts.samples.saturating_sub(1);
        let booked = match u32::from(cut) {
            abi::HF_CUT_NONE => Some(&mut counts.whole),
            _ => counts.cut.get_mut(usize::from(cut)),
        };
        if let Some(booked) = booked {
            *booked = booked.saturating_sub(1);
        }
    }
    *recording = Recording::default();
    let merged = hotframe_frames::Budget::new(ledger.room_for_writing());
    let losses;
    (*recording, losses) = segments.merge(&merged, name);
    counts.whole = counts.whole.saturating_sub(losses.shortened_whole);
    let mut shortened = losses.shortened_whole;
    for (cut, n) in counts.cut.iter_mut().zip(losses.shortened_cut) {
        *cut = cut.saturating_sub(n);
        shortened += n;
    }
    counts.cut[abi::HF_CUT_BUDGET as usize] += shortened;
    ledger.measure(
        "merged",
        merged.used_bytes() + recording.samples.heap_bytes() as u64,
        Counts { entries: segments.len() as u64, ..Counts::default() },
    );
    ledger.end_stage("merging");
    let spilled = Spilled {
        segments: segments.len() as u64,
        bytes: segments.bytes(),
        problem: segments.problem.take().map(|why| match kept_back.cut.len() {
            0 => why,
            n => format!("{why}: {n} samples are lost"),
        }),
    };
    (losses, Some(spilled))
}

fn say(profile: &Profile, books: &serde_json::Value, written: &[String]) {
    if profile.samples.time_ns.is_empty() {
        // Not that nothing ran: a command of some milliseconds is over before its first tick.
        let hz = 1_000_000_000 / profile.meta.period_ns.max(1);
        crate::messages::line(format_args!(
            "no samples: nothing that was to be recorded was running at any of {hz} ticks a second"
        ));
    } else {
        crate::messages::part(format_args!(
            "{}",
            summary::summary(profile, books, crate::messages::columns())
        ));
    }
    let files: Vec<&str> = written.iter().map(String::as_str).filter(|path| *path != "-").collect();
    if !files.is_empty() {
        crate::messages::line(format_args!("wrote {}", files.join(", ")));
    }
}
