//! Frames in generated code: which process they were seen in, and what may name them: the perf map
//! or jitdump that it leaves.
//!
//! In: frame words without a file, as samples come. Out: at the end, names by (process, word). A
//! pc says nothing without its process, so these are the only frames that are named by process.
//!
//! # How it works
//! When such a frame is first seen in a process, its files are opened, and kept open, since the
//! process may end any time. Because a JIT uses addresses again, it is noted for each frame when it
//! was seen first and last, and how long the map was then: at least, of the first, at most, of the
//! last, since a sample is older than the pass that brings it. Files are read when names are wanted,
//! once each.
//!
//! # Bounds
//! Those of [`SOURCES_MAX`] processes are kept open, [`PLACES_MAX`] frames are remembered, 80 bytes
//! each; what does not fit stays unnamed. A process that leaves nothing is asked again after a time
//! that doubles up to [`RETRY_MAX_NS`]; what was refused is said of it in the end.

use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_jitmap::{MapLength, Named, Report, Seen, Sources, Wanted};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Processes whose files are kept open.
pub const SOURCES_MAX: usize = 512;
/// Frames remembered.
pub const PLACES_MAX: usize = 1 << 16;
/// Lengths of a map that are remembered, of one pass each: samples are not older than so many.
const LENGTHS_MAX: usize = 32;
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
    /// What it leaves, how long the map was, and what was seen.
    Open { sources: Arc<Sources>, lengths: Lengths, places: HashMap<abi::FrameWord, Place> },
    /// It had none; it is looked for again then, and after that wait.
    Without { retry_at_ns: u64, wait_ns: u64, refused: Option<String> },
}

/// How long a map was, pass by pass.
#[derive(Debug, Default)]
struct Lengths {
    /// The pass that the last one is of.
    pass_ns: u64,
    all: VecDeque<MapLength>,
}

impl Lengths {
    /// Looks how long it is, once a pass.
    fn look(&mut self, sources: &Sources, pass_ns: u64) {
        if self.pass_ns != pass_ns || self.all.is_empty() {
            self.pass_ns = pass_ns;
            if self.all.len() >= LENGTHS_MAX {
                self.all.pop_front();
            }
            self.all.push_back(sources.map_length());
        }
    }

    /// Bytes that it had then at least.
    fn least(&self, time_ns: u64) -> u64 {
        let known = |length: &&MapLength| length.read_ns.min(length.since_ns) <= time_ns;
        self.all.iter().rev().find(known).map_or(0, |length| length.bytes)
    }

    /// Bytes that it had at most in all samples so far.
    fn most(&self) -> u64 {
        self.all.back().map_or(0, |length| length.bytes)
    }
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
    /// Notes a frame of a sample; only those of kind `HF_FRAME_USER_PC` matter. `pass_ns` is another
    /// number in each pass.
    pub fn saw(&mut self, head: &abi::hf_sample, word: abi::FrameWord, pass_ns: u64) {
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
                    *state = State::Open {
                        sources: Arc::new(sources),
                        lengths: Lengths::default(),
                        places: HashMap::new(),
                    };
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
        let State::Open { sources, lengths, places } = state else { return };
        let (time_ns, known) = (head.time_ns, places.get_mut(&word));
        if known.is_none() && self.n_places >= PLACES_MAX {
            return;
        }
        lengths.look(sources, pass_ns);
        let first = Seen { time_ns, map_bytes: lengths.least(time_ns) };
        let last = Seen { time_ns, map_bytes: lengths.most() };
        match known {
            // CPUs' samples do not come in the order of their times.
            Some(place) => {
                if time_ns < place.first.time_ns {
                    place.first = first;
                }
                place.last.time_ns = place.last.time_ns.max(time_ns);
                place.last.map_bytes = place.last.map_bytes.max(last.map_bytes);
            }
            None => {
                places.insert(word, Place { first, last });
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

    /// A process whose map appears later is asked again, and frames are named by process. Code that was
    /// replaced between a sample and its pass has no name, and not the later one's; what was replaced
    /// before the sample has the later one's.
    #[test]
    fn names_by_process() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let path = format!("/tmp/perf-{}.map", child.id());
        let word = |pc: u64| {
            abi::FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc)
        };
        let mut head = abi::hf_sample::new_zeroed();
        head.tgid = child.id();
        head.time_ns = hotframe_jitmap::now_ns();
        let mut jit = Jit::default();
        let mut pass = 0;
        let mut saw = |jit: &mut Jit, head: &abi::hf_sample, pcs: &[u64]| {
            pass += 1;
            pcs.iter().for_each(|&pc| jit.saw(head, word(pc), pass));
        };
        saw(&mut jit, &head, &[0x1000]);
        assert!(jit.names(&mut |_| {}).is_empty());
        std::fs::write(&path, "1000 10 first\n2000 10 lasting\n").expect("written");
        // Not before its time.
        saw(&mut jit, &head, &[0x1000]);
        std::thread::sleep(std::time::Duration::from_nanos(RETRY_MIN_NS));
        head.time_ns = hotframe_jitmap::now_ns();
        saw(&mut jit, &head, &[0x1000, 0x2000]);
        // A sample of the second, whose pass comes when the third is there.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let append = |text: &str| {
            use std::io::Write as _;
            let file = std::fs::File::options().append(true).open(&path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        };
        append("1000 10 second\n");
        std::thread::sleep(std::time::Duration::from_millis(30));
        head.time_ns = hotframe_jitmap::now_ns();
        saw(&mut jit, &head, &[0x2000]);
        head.time_ns = hotframe_jitmap::now_ns();
        append("1000 10 third\n");
        saw(&mut jit, &head, &[0x1004, 0x1008, 0x2000]);
        head.time_ns = hotframe_jitmap::now_ns();
        saw(&mut jit, &head, &[0x100c]);
        let mut other = head;
        other.tgid = std::process::id();
        saw(&mut jit, &other, &[0x1008]);
        let names = jit.names(&mut |_| {});
        let _ = child.kill();
        let _ = child.wait();
        std::fs::remove_file(&path).expect("removed");
        let incarnation = Incarnation { pid: head.tgid, exec_id: 0, start_ns: 0 };
        let name = |pc| names.get(&(incarnation, word(pc))).map(|found| found.name.as_str());
        assert_eq!(name(0x1000), Some("first"));
        assert_eq!(name(0x2000), Some("lasting"));
        assert_eq!((name(0x1004), name(0x1008)), (None, None), "the second or the third");
        assert_eq!(name(0x100c), Some("third"));
        assert_eq!(names.len(), 3);
    }
}
