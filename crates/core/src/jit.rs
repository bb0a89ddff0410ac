//! Frames in generated code: which process they were seen in, and the perf map that may name them.
//!
//! In: frame words without a file, as samples come. Out: at the end, names by (process, word). A
//! pc says nothing without its process, so these are the only frames that are named by process.
//!
//! # How it works
//! When such a frame is first seen in a process, its perf map is opened, and kept open, since the
//! process may end any time; with each new frame the map's length is noted, because a JIT uses
//! addresses again. Maps are read when names are wanted, once each.
//!
//! # Bounds
//! [`MAPS_MAX`] maps are kept open, [`PLACES_MAX`] frames are remembered, 40 bytes each; what does
//! not fit stays unnamed. A process without a map is asked again after a time that doubles up to
//! [`RETRY_MAX_NS`].

use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_jitmap::{PerfMap, Wanted};
use std::collections::HashMap;
use std::sync::Arc;

/// Maps kept open.
pub const MAPS_MAX: usize = 512;
/// Frames remembered.
pub const PLACES_MAX: usize = 1 << 16;
/// First and last wait before a map that was not there is looked for again.
const RETRY_MIN_NS: u64 = 100_000_000;
const RETRY_MAX_NS: u64 = 10_000_000_000;
/// Processes without a map that are remembered.
const WITHOUT_MAX: usize = 4096;

/// A process in which generated code ran.
#[derive(Debug)]
enum State {
    /// Its map, and how long it was when each frame was first seen.
    Open { map: Arc<PerfMap>, places: HashMap<abi::FrameWord, u64> },
    /// It had none; it is looked for again then, and after that wait.
    Without { retry_at_ns: u64, wait_ns: u64 },
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
        let state = self
            .processes
            .entry(incarnation)
            .or_insert(State::Without { retry_at_ns: 0, wait_ns: RETRY_MIN_NS });
        if let State::Without { retry_at_ns, wait_ns } = state {
            if head.time_ns < *retry_at_ns || self.n_open >= MAPS_MAX {
                return;
            }
            match PerfMap::open(head.tgid) {
                Ok(map) => {
                    self.n_open += 1;
                    *state = State::Open { map: Arc::new(map), places: HashMap::new() };
                }
                Err(why) => {
                    tracing::debug!(pid = head.tgid, "no perf map: {why}");
                    *retry_at_ns = head.time_ns.saturating_add(*wait_ns);
                    *wait_ns = (*wait_ns * 2).min(RETRY_MAX_NS);
                    return;
                }
            }
        }
        if let State::Open { map, places } = state
            && self.n_places < PLACES_MAX
            && !places.contains_key(&word)
        {
            places.insert(word, map.len_bytes());
            self.n_places += 1;
        }
    }

    /// What may name a frame: the map of its process, and what to look for in it.
    pub fn place(
        &self,
        incarnation: Incarnation,
        word: abi::FrameWord,
    ) -> Option<(&Arc<PerfMap>, Wanted)> {
        let State::Open { map, places } = self.processes.get(&incarnation)? else {
            return None;
        };
        Some((map, wanted(word, *places.get(&word)?)))
    }

    /// Nothing more is remembered.
    pub fn is_full(&self) -> bool {
        self.n_places >= PLACES_MAX || self.n_open >= MAPS_MAX
    }

    /// Names everything that maps cover. `problem` hears what went wrong.
    pub fn names(
        &self,
        problem: &mut dyn FnMut(String),
    ) -> HashMap<(Incarnation, abi::FrameWord), String> {
        let mut names = HashMap::new();
        for (&incarnation, state) in &self.processes {
            let State::Open { map, places } = state else { continue };
            let mut sought: Vec<(Wanted, abi::FrameWord)> = places
                .iter()
                .map(|(&word, &seen_bytes)| (wanted(word, seen_bytes), word))
                .collect();
            sought.sort_unstable();
            let addresses: Vec<Wanted> = sought.iter().map(|(wanted, _)| *wanted).collect();
            match map.name(&addresses) {
                Ok(found) => {
                    for ((_, word), name) in sought.into_iter().zip(found) {
                        names.extend(name.map(|name| ((incarnation, word), name)));
                    }
                }
                Err(why) => problem(format!("perf map of {}: {why}", incarnation.pid)),
            }
        }
        names
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.processes.capacity() * size_of::<(Incarnation, State)>() + self.n_places * 40
    }
}

fn wanted(word: abi::FrameWord, seen_bytes: u64) -> Wanted {
    Wanted { address: word.payload().saturating_sub(word.call_offset()), seen_bytes }
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
        assert_eq!(names[&(incarnation, word(0x1000))], "first");
        assert_eq!(names[&(incarnation, word(0x1008))], "second");
    }
}
