//! The books as JSON: `--stats`, with stable keys. Units end the names; what has none is a count.

use hotframe_abi as abi;
use hotframe_core::profile::Profile;
use hotframe_core::resolve::Outcome;
use hotframe_core::runtimes::Report;
use hotframe_core::segments::Losses;
use hotframe_core::session::Counts;
use hotframe_core::tables::TableStats;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Everything the books are made of.
pub struct Books<'a> {
    /// Ticks that were due.
    pub ticks_expected: u64,
    /// Of those, ticks of CPUs that stood idle and ran no program: they are in `samples_filtered.idle`,
    /// too.
    pub ticks_halted: u64,
    /// The kernel half's counters.
    pub kernel: &'a abi::hf_counters,
    /// The session's.
    pub counts: &'a Counts,
    /// Stacks that lack frames of a runtime, by its name and the reason.
    pub without_runtime: &'a BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Walks that an audit could say nothing of, by reason.
    pub not_judged: &'a BTreeMap<&'static str, u64>,
    /// Side-band records that found no room in their ring.
    pub sideband_lost: u64,
    /// What naming did.
    pub outcome: &'a Outcome,
    /// hotframe's own cost.
    pub agent: &'a Agent,
    /// Tables in shared memory.
    pub tables: TableStats,
    /// What merging could not keep as it was.
    pub losses: Losses,
    /// What was put away on disk.
    pub spilled: Option<&'a Spilled>,
    /// Language runtimes that were met.
    pub runtimes: &'a [Report],
}

/// hotframe's own cost.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    /// User and system time, in seconds.
    pub cpu_seconds: (f64, f64),
    /// VmHWM.
    pub rss_peak_bytes: u64,
    /// Maps, populated arena pages, perf rings.
    pub map_bytes: u64,
    /// The most of both that was held at once.
    pub held_peak_bytes: u64,
    /// `--memory`.
    pub budget_bytes: u64,
    /// From our start to the first sample with a whole user stack.
    pub first_sample_seconds: Option<f64>,
    /// Who holds what, as the ledger has it.
    pub memory: Value,
    /// The most heap that each stage of the work held, bytes.
    pub stages: Value,
}

/// What was put away on disk while recording.
#[derive(Debug, Clone, Default)]
pub struct Spilled {
    /// Parts.
    pub segments: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// What went wrong.
    pub problem: Option<String>,
}

const PROCESSES: &str = "processes";

/// The JSON of `--stats`, made as it is written: a process takes 2 KB as a value, and half a KB as
/// text.
pub struct Document<'a> {
    /// [`Books::json`].
    pub books: &'a Value,
    /// Whose processes they are.
    pub profile: &'a Profile,
    /// What of them concerns one process.
    pub outcome: &'a Outcome,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let books = self.books.as_object().into_iter().flatten();
        to.collect_map(books.map(|(key, value)| {
            let value = match key.as_str() {
                PROCESSES => Part::Processes(self.profile, self.outcome),
                _ => Part::Value(value),
            };
            (key, value)
        }))
    }
}

enum Part<'a> {
    Value(&'a Value),
    Processes(&'a Profile, &'a Outcome),
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (profile, outcome) = match self {
            Part::Value(value) => return value.serialize(to),
            Part::Processes(profile, outcome) => (profile, outcome),
        };
        let problems = |pid| outcome.of_processes.get(&pid).map_or(&[][..], Vec::as_slice);
        let text = |id| profile.strings.get(id);
        to.collect_seq(profile.processes.iter().map(|process| {
            json!({
                "pid": process.pid,
                "comm": text(process.comm),
                "exe": text(process.exe),
                "cgroup": text(process.cgroup),
                "samples": process.samples,
                "whole": process.whole,
                "cut": by_name(&abi::CUT_NAMES, &process.cut, 1),
                "problems": problems(process.pid),
            })
        }))
    }
}

fn by_name(names: &[&str], values: &[u64], skip: usize) -> Value {
    names
        .iter()
        .zip(values)
        .skip(skip)
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

impl Books<'_> {
    /// Samples that were filtered, by reason. A tick of a CPU that stood idle is an idle one, whether
    /// it ran the program or not.
    fn filtered_by_reason(&self) -> [u64; abi::HF_FILTERED_COUNT as usize] {
        let mut filtered = self.kernel.filtered;
        filtered[abi::HF_FILTERED_IDLE as usize] += self.ticks_halted;
        filtered
    }

    /// Samples that were filtered.
    pub fn filtered(&self) -> u64 {
        self.filtered_by_reason().iter().sum()
    }

    /// Ticks that never ran the program although their CPU was not idle.
    pub fn missed(&self) -> u64 {
        self.ticks_expected.saturating_sub(self.filtered() + self.kernel.taken)
    }

    /// All of the books but the processes, of which there may be thousands: see [`Document`].
    pub fn json(&self) -> Value {
        let kernel = self.kernel;
        let counts = self.counts;
        let agent = self.agent;
        let without_runtime: u64 = self.without_runtime.values().flat_map(BTreeMap::values).sum();
        json!({
            // A tick more than were due can run between the last reading of a clock and its end.
            "ticks_expected": self.ticks_expected.max(self.filtered() + kernel.taken),
            "ticks_missed": self.missed(),
            "samples_filtered": by_name(&abi::FILTERED_NAMES, &self.filtered_by_reason(), 0),
            "ticks_halted": self.ticks_halted,
            "samples_taken": kernel.taken,
            "samples_emitted": counts.samples,
            "samples_lost": self.lost_by_reason(),
            "stacks_whole": counts.whole,
            "stacks_cut": by_name(&abi::CUT_NAMES, &counts.cut, 1),
            "stacks_heuristic": counts.heuristic,
            "stacks_from_slice": counts.from_slice,
            "stacks_without_runtime": without_runtime,
            "stacks_without_runtime_by": self.without_runtime,
            "slices_refused": kernel.slices_refused,
            "told": kernel.told,
            "told_refused": kernel.told_refused,
            "sideband_lost": self.sideband_lost,
            "pids_refused": kernel.pids_refused,
            "spaces_refused": kernel.spaces_refused,
            "space_records_lost": kernel.space_records_lost,
            "frames": self.frames_by_kind(),
            PROCESSES: null,
            "runtimes": self.runtimes_met(),
            "agent": {
                "cpu_user_seconds": agent.cpu_seconds.0,
                "cpu_system_seconds": agent.cpu_seconds.1,
                "rss_peak_bytes": agent.rss_peak_bytes,
                "map_bytes": agent.map_bytes,
                "held_peak_bytes": agent.held_peak_bytes,
                "budget_bytes": agent.budget_bytes,
                "first_sample_seconds": agent.first_sample_seconds,
            },
            "bpf": {
                "run_ns": kernel.run_ns,
                "run_count": kernel.runs + kernel.hook_runs,
                "frames": kernel.frames,
                "samples": self.cost_by_kind(),
            },
            "tables": {
                "used_bytes": self.tables.used_bytes,
                "touched_bytes": self.tables.touched_bytes,
                "blocks": self.tables.blocks,
                "rows": self.tables.rows,
                "evictions": self.tables.evictions,
                "refused": self.tables.refused,
            },
            "budget_bytes": agent.budget_bytes,
            "memory": agent.memory,
            "memory_stages": agent.stages,
            "spilled": self.spilled.map(|spilled| self.given_up(spilled)),
            "names_refused": self.outcome.names_refused,
            "audit": {
                "checked": counts.audited,
                "agreed": counts.agreed,
                "not_judged": self.not_judged,
            },
            "problems": self.outcome.problems,
        })
    }

    /// Samples that were taken and did not reach the profile, by reason.
    fn lost_by_reason(&self) -> Value {
        let mut lost = by_name(&abi::LOST_NAMES, &self.kernel.lost, 0);
        // What the kernel emitted and user space never saw whole.
        lost["undecodable"] = json!(self.kernel.emitted.saturating_sub(self.counts.samples));
        lost
    }

    /// How many frames there are of each kind, and how many of them have a name.
    fn frames_by_kind(&self) -> Value {
        let frames = self.outcome.frames.iter().map(|(kind, (total, named))| {
            ((*kind).to_owned(), json!({"total": total, "named": named}))
        });
        frames.collect::<Map<_, _>>().into()
    }

    fn runtimes_met(&self) -> Value {
        let runtimes = self.runtimes.iter().map(|report| {
            json!({
                "pid": report.pid,
                "runtime": report.runtime,
                "version": report.version,
                "problem": report.problem,
            })
        });
        runtimes.collect()
    }

    /// What samples cost in the kernel, by what they were of.
    fn cost_by_kind(&self) -> Value {
        let kernel = self.kernel;
        let cost = abi::COST_NAMES.iter().enumerate().map(|(at, name)| {
            let cost = json!({
                "count": kernel.cost_samples[at],
                "run_ns": kernel.cost_ns[at],
                "frames": kernel.cost_frames[at],
                "kernel_frames": kernel.cost_kernel_frames[at],
            });
            ((*name).to_owned(), cost)
        });
        cost.collect::<Map<_, _>>().into()
    }

    /// What was put away on disk, and what of it could not be kept as it was.
    fn given_up(&self, spilled: &Spilled) -> Value {
        let losses = &self.losses;
        json!({
            "segments": spilled.segments,
            "bytes": spilled.bytes,
            "stacks_shortened": losses.shortened_whole + losses.shortened_cut.iter().sum::<u64>(),
            "samples_unread": losses.unread,
            "interval_ns": losses.bucket_ns,
            "processes_folded": losses.folded,
            "by_function": losses.by_function,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    /// Whatever the kernel half drops is in the books, and ticks of CPUs that stood idle are idle ones.
    #[test]
    fn what_is_dropped_is_told() {
        let kernel = abi::hf_counters {
            filtered: [10, 0, 0, 0, 0],
            slices_refused: 1,
            told_refused: 2,
            pids_refused: 3,
            spaces_refused: 4,
            space_records_lost: 5,
            taken: 60,
            ..abi::hf_counters::new_zeroed()
        };
        let (counts, outcome, agent) = Default::default();
        let books = Books {
            ticks_expected: 100,
            ticks_halted: 20,
            kernel: &kernel,
            counts: &counts,
            sideband_lost: 6,
            outcome: &outcome,
            agent: &agent,
            tables: TableStats::default(),
            losses: Losses::default(),
            spilled: None,
            runtimes: &[],
            without_runtime: &BTreeMap::from([("cpython", BTreeMap::from([("late", 8)]))]),
            not_judged: &BTreeMap::from([("no .eh_frame", 7)]),
        };
        let json = books.json();
        assert_eq!(json["audit"]["not_judged"], json!({"no .eh_frame": 7}));
        assert_eq!(json["stacks_without_runtime_by"], json!({"cpython": {"late": 8}}));
        assert_eq!(json["stacks_without_runtime"], 8);
        let told = [
            "slices_refused",
            "told_refused",
            "pids_refused",
            "spaces_refused",
            "space_records_lost",
            "sideband_lost",
        ];
        assert_eq!(told.map(|key| json[key].as_u64()), [1, 2, 3, 4, 5, 6].map(Some));
        assert_eq!(
            (&json["samples_filtered"]["idle"], &json["ticks_missed"]),
            (&json!(30), &json!(10))
        );
    }
}
