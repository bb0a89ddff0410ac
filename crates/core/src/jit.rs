//! Frames in generated code: which process they were seen in, and what may name them: the perf map
//! or jitdump that it leaves.
//!
//! In: frame words without a file, as samples come. Out: at the end, names by (process, word). A
//! pc says nothing without its process, so these are the only frames that are named by process.
//!
//! # How it works
//! When such a frame is first seen in a process, its files are opened, and kept open, since the
//! process may end any time. Because a JIT uses addresses again, it is noted for each frame when it
//! was seen first and last, and how long the map was then. Files are read when names are wanted,
//! once each.
//!
//! # Bounds
//! Those of [`SOURCES_MAX`] processes are kept open, [`PLACES_MAX`] frames are remembered, 80 bytes
//! each; what does not fit stays unnamed. A process that leaves nothing is asked again after a time
//! that doubles up to [`RETRY_MAX_NS`]; what was refused is said of it in the end.

use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_jitmap::{Named, Report, Seen, Sources, Wanted};
use std::collections::HashMap;
use std::sync::Arc;

/// Processes whose files are kept open.
pub const SOURCES_MAX: usize = 512;
/// Frames remembered.
pub const PLACES_MAX: usize = 1 << 16;
/// How long the length of a map is believed: a system call each would cost more than the rest.
const LENGTH_VALID_NS: u64 = 10_000_000;
/// Problems that are told.
const PROBLEMS_MAX: usize = 100;
/// First and last wait before a map that was not there is looked for again.
const RETRY_MIN_NS: u64 = 100_000_000;
const RETRY_MAX_NS: u64 = 10_000_000_000;
/// Processes without a map that are remembered.
const WITHOUT_MAX: usize = 4096;

/// A process in which generated code ran.
#[derive(Debug)]
enum State {
    /// What it leaves, how long the map was and when, and what was seen.
    Open { sources: Arc<Sources>, latest: Seen, places: HashMap<abi::FrameWord, Place> },
    /// It had none; it is looked for again then, and after that wait.
    Without { retry_at_ns: u64, wait_ns: u64, refused: Option<String> },
}

/// When a frame was seen.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: Seen,
    last: Seen,
}

/// Generated code that was sampled.
#[derive(Debug, Default)]
pub struct Jit {
    processes: HashMap<Incarnation, State>,
    n_open: usize,
    n_places: usize,
}

impl Jit {
    /// Notes a frame of a sample; only those of kind `HF_FRAME_USER_PC` matter.
    pub fn saw(&mut self, head: &abi::hf_sample, word: abi::FrameWord) {
        if word.kind() != abi::HF_FRAME_USER_PC {
            return;
        }
        let incarnation =
            Incarnation { pid: head.tgid, exec_id: head.exec_id, start_ns: head.start_ns };
        if !self.processes.contains_key(&incarnation) && self.processes.len() >= WITHOUT_MAX {
            self.processes.retain(|_, state| matches!(state, State::Open { .. }));
        }
        let state = self.processes.entry(incarnation).or_insert(State::Without {
            retry_at_ns: 0,
            wait_ns: RETRY_MIN_NS,
            refused: None,
        });
        if let State::Without { retry_at_ns, wait_ns, refused } = state {
            if head.time_ns < *retry_at_ns || self.n_open >= SOURCES_MAX {
                return;
            }
            match Sources::open(head.tgid) {
                Ok(sources) => {
                    self.n_open += 1;
                    let latest = Seen { time_ns: head.time_ns, map_bytes: sources.map_bytes() };
                    let places = HashMap::new();
                    *state = State::Open { sources: Arc::new(sources), latest, places };
                }
                Err(why) => {
                    tracing::debug!(pid = head.tgid, "no perf map: {why}");
                    if !why.is_absence() {
                        *refused = Some(why.to_string());
                    }
                    *retry_at_ns = head.time_ns.saturating_add(*wait_ns);
                    *wait_ns = (*wait_ns * 2).min(RETRY_MAX_NS);
                    return;
                }
            }
        }
        let State::Open { sources, latest, places } = state else { return };
        let (time_ns, known) = (head.time_ns, places.get_mut(&word));
        if known.is_none() && self.n_places >= PLACES_MAX {
            return;
        }
        if known.is_none() || time_ns > latest.time_ns.saturating_add(LENGTH_VALID_NS) {
            *latest = Seen { time_ns, map_bytes: sources.map_bytes() };
        }
        let now = Seen { time_ns, map_bytes: latest.map_bytes };
        match known {
            // CPUs' samples do not come in the order of their times.
            Some(place) => {
                place.first.time_ns = place.first.time_ns.min(time_ns);
                place.last.time_ns = place.last.time_ns.max(time_ns);
                place.last.map_bytes = now.map_bytes;
            }
            None => {
                places.insert(word, Place { first: now, last: now });
                self.n_places += 1;
            }
        }
    }

    /// What may name a frame: what its process leaves, and what to look for in it.
    pub fn place(
        &self,
        incarnation: Incarnation,
        word: abi::FrameWord,
    ) -> Option<(&Arc<Sources>, Wanted)> {
        let State::Open { sources, places, .. } = self.processes.get(&incarnation)? else {
            return None;
        };
        Some((sources, wanted(word, *places.get(&word)?)))
    }

    /// Nothing more is remembered.
    pub fn is_full(&self) -> bool {
        self.n_places >= PLACES_MAX || self.n_open >= SOURCES_MAX
    }

    /// Names everything that can be. `problem` hears what went wrong.
    pub fn names(
        &self,
        problem: &mut dyn FnMut(String),
    ) -> HashMap<(Incarnation, abi::FrameWord), Named> {
        let mut names = HashMap::new();
        let mut n_problems = 0;
        let mut tell = |pid: u32, text: &dyn std::fmt::Display| {
            n_problems += 1;
            if n_problems <= PROBLEMS_MAX {
                problem(format!("generated code of {pid}: {text}"));
            }
        };
        for (&incarnation, state) in &self.processes {
            let pid = incarnation.pid;
            let (sources, places) = match state {
                State::Open { sources, places, .. } => (sources, places),
                State::Without { refused, .. } => {
                    if let Some(why) = refused {
                        tell(pid, why);
                    }
                    continue;
                }
            };
            let mut sought: Vec<(Wanted, abi::FrameWord)> =
                places.iter().map(|(&word, &place)| (wanted(word, place), word)).collect();
            sought.sort_unstable();
            let addresses: Vec<Wanted> = sought.iter().map(|(wanted, _)| *wanted).collect();
            let (found, report) = sources.name(&addresses);
            for ((_, word), name) in sought.into_iter().zip(found) {
                names.extend(name.map(|name| ((incarnation, word), name)));
            }
            for why in sources.refused() {
                tell(pid, why);
            }
            for why in &report.problems {
                tell(pid, why);
            }
            let Report { bad_records, unread_bytes, ambiguous, .. } = report;
            tracing::debug!(pid, bad_records, unread_bytes, ambiguous, "named generated code");
            if bad_records > 0 {
                tell(pid, &format_args!("{bad_records} entries cannot be understood"));
            }
            if ambiguous > 0 {
                tell(
                    pid,
                    &format_args!(
                        "{ambiguous} addresses have no name: their code changed while sampled"
                    ),
                );
            }
        }
        names
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.processes.capacity() * size_of::<(Incarnation, State)>() + self.n_places * 80
    }
}

fn wanted(word: abi::FrameWord, Place { first, last }: Place) -> Wanted {
    Wanted { address: word.payload().saturating_sub(word.call_offset()), first, last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    /// A process whose map appears later is asked again, frames are named by process, and a frame
    /// keeps the name that it had when it was seen.
    #[test]
    fn names_by_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let path = format!("/tmp/perf-{}.map", child.id());
        let word = |pc: u64| {
            abi::FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc)
        };
        let mut head = abi::hf_sample::new_zeroed();
        head.tgid = child.id();
        head.time_ns = 1;
        let mut jit = Jit::default();
        jit.saw(&head, word(0x1000));
        assert!(jit.names(&mut |_| {}).is_empty());
        std::fs::write(&path, "1000 10 first\n").expect("written");
        // Not before its time.
        jit.saw(&head, word(0x1000));
        head.time_ns += RETRY_MIN_NS;
        jit.saw(&head, word(0x1000));
        std::fs::write(&path, "1000 10 first\n1000 10 second\n").expect("written");
        jit.saw(&head, word(0x1000));
        jit.saw(&head, word(0x1008));
        let mut other = head;
        other.tgid = std::process::id();
        jit.saw(&other, word(0x1008));
        let names = jit.names(&mut |why| panic!("{why}"));
        let _ = child.kill();
        let _ = child.wait();
        std::fs::remove_file(&path).expect("removed");
        let incarnation = Incarnation { pid: head.tgid, exec_id: 0, start_ns: 0 };
        assert_eq!(names.len(), 2);
        assert_eq!(names[&(incarnation, word(0x1000))].name, "first");
        assert_eq!(names[&(incarnation, word(0x1008))].name, "second");
    }
}
