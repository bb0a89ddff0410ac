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
//! Those of [`SOURCES_MAX`] processes are kept open, [`PLACES_MAX`] frames are remembered, 96 bytes
//! each; what does not fit stays unnamed, and is counted for its process. What a process did not leave
//! is looked for again after a time that doubles up to [`RETRY_MAX_NS`]; a map that is written anew or
//! removed is noticed in the pass after; what was refused is said of it in the end.

use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_jitmap::{MapLength, Mark, Named, Report, Seen, Sources, Wanted};
use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
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
type Retry = crate::retry::Retry<RETRY_MIN_NS, RETRY_MAX_NS>;
/// Processes without a map that are remembered.
const WITHOUT_MAX: usize = 4096;

/// A process in which generated code ran.
#[derive(Debug)]
enum State {
    /// What it leaves, how long the map was, and what was seen.
    Open(Open),
    /// It had none; it is looked for again then.
    Without { retry: Retry, refused: Option<String> },
}

#[derive(Debug)]
struct Open {
    sources: Arc<Sources>,
    lengths: Lengths,
    places: HashMap<abi::FrameWord, Place>,
    /// Frames in stacks that were not remembered.
    n_forgotten: u64,
    /// Of what is not there.
    retry: Retry,
    mark: Mark,
    was_removed: bool,
}

impl Open {
    /// Looks once a pass what became of the map.
    fn look(&mut self, pid: u32, time_ns: u64, pass_ns: u64) {
        if self.lengths.pass_ns == pass_ns && !self.lengths.all.is_empty() {
            return;
        }
        self.lengths.pass_ns = pass_ns;
        let is_removed = self.sources.is_map_removed();
        if is_removed && !std::mem::replace(&mut self.was_removed, is_removed) {
            self.retry = Retry::NOW;
        }
        if self.retry.is_due(time_ns) && self.sources.is_incomplete() {
            let text = self.sources.map_length().text;
            match self.sources.again(pid) {
                Some(sources) => {
                    if sources.map_length().text != text {
                        self.mark = Mark::default();
                        self.was_removed = false;
                    }
                    self.sources = Arc::new(sources);
                    self.retry = Retry::NOW;
                }
                None => self.retry.later(time_ns),
            }
        }
        if !self.sources.look(&mut self.mark) {
            self.sources = Arc::new(self.sources.rewritten());
        }
        self.lengths.add(self.sources.map_length());
    }

    /// What there is when names are wanted: the map may have been written anew since the last pass, and
    /// what was not there may have come.
    fn at_last(&self, pid: u32) -> Arc<Sources> {
        let mut sources = Arc::clone(&self.sources);
        if !sources.look(&mut self.mark.clone()) {
            sources = Arc::new(sources.rewritten());
        }
        if sources.is_incomplete()
            && let Some(more) = sources.again(pid)
        {
            sources = Arc::new(more);
        }
        sources
    }
}

/// How long a map was, pass by pass.
#[derive(Debug, Default)]
struct Lengths {
    /// The pass that the last one is of.
    pass_ns: u64,
    all: VecDeque<MapLength>,
}

impl Lengths {
    fn add(&mut self, length: MapLength) {
        if self.all.len() >= LENGTHS_MAX {
            self.all.pop_front();
        }
        self.all.push_back(length);
    }

    /// What it had then at least.
    fn least(&self, time_ns: u64) -> Seen {
        let known = |length: &&MapLength| length.read_ns.min(length.since_ns) <= time_ns;
        let oldest = self.all.front().map(|first| MapLength { bytes: 0, ..*first });
        let length = self.all.iter().rev().find(known).copied().or(oldest).unwrap_or_default();
        Seen { time_ns, text: length.text, map_bytes: length.bytes }
    }

    /// What it had at most in all samples so far.
    fn most(&self, time_ns: u64) -> Seen {
        let length = self.all.back().copied().unwrap_or_default();
        Seen { time_ns, text: length.last_text, map_bytes: length.bytes }
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
    /// What went wrong with code that is named otherwise.
    told: Vec<(u32, String)>,
}

impl Jit {
    /// Tells what went wrong elsewhere, with the problems of its own.
    pub fn tell(&mut self, problems: Vec<(u32, String)>) {
        self.told = problems;
    }

    /// Notes a frame of a sample; only those of kind `HF_FRAME_USER_PC` matter. `pass_ns` is another
    /// number in each pass.
    pub fn saw(&mut self, head: &abi::hf_sample, word: abi::FrameWord, pass_ns: u64) {
        if word.kind() != abi::HF_FRAME_USER_PC {
            return;
        }
        let incarnation =
            Incarnation { pid: head.tgid, exec_id: head.exec_id, start_ns: head.start_ns };
        if !self.processes.contains_key(&incarnation) && self.processes.len() >= WITHOUT_MAX {
            self.processes.retain(|_, state| matches!(state, State::Open(_)));
        }
        let state = self
            .processes
            .entry(incarnation)
            .or_insert(State::Without { retry: Retry::NOW, refused: None });
        if let State::Without { retry, refused } = state {
            if !retry.is_due(head.time_ns) {
                return;
            }
            match Sources::open(head.tgid) {
                Ok(_) if self.n_open >= SOURCES_MAX => {
                    *refused =
                        Some(format!("it has no names: those of {SOURCES_MAX} processes are open"));
                    retry.later(head.time_ns);
                    return;
                }
                Ok(sources) => {
                    self.n_open += 1;
                    *state = State::Open(Open {
                        sources: Arc::new(sources),
                        lengths: Lengths::default(),
                        places: HashMap::new(),
                        n_forgotten: 0,
                        retry: Retry::soon(head.time_ns),
                        mark: Mark::default(),
                        was_removed: false,
                    });
                }
                Err(why) => {
                    tracing::debug!(pid = head.tgid, "no perf map: {}", crate::chain(&why));
                    if !why.is_absence() {
                        *refused = Some(crate::chain(&why));
                    }
                    retry.later(head.time_ns);
                    return;
                }
            }
        }
        let State::Open(open) = state else { return };
        let time_ns = head.time_ns;
        if self.n_places >= PLACES_MAX && !open.places.contains_key(&word) {
            open.n_forgotten += u64::from(head.weight);
            return;
        }
        open.look(head.tgid, time_ns, pass_ns);
        let (first, last) = (open.lengths.least(time_ns), open.lengths.most(time_ns));
        match open.places.get_mut(&word) {
            // CPUs' samples do not come in the order of their times.
            Some(place) => {
                if time_ns < place.first.time_ns {
                    place.first = first;
                }
                let length = |seen: Seen| (seen.text, seen.map_bytes);
                let time_ns = place.last.time_ns.max(time_ns);
                if length(last) > length(place.last) {
                    place.last = last;
                }
                place.last.time_ns = time_ns;
            }
            None => {
                open.places.insert(word, Place { first, last });
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
        let State::Open(open) = self.processes.get(&incarnation)? else { return None };
        Some((&open.sources, wanted(word, *open.places.get(&word)?)))
    }

    /// Nothing more is remembered.
    pub fn is_full(&self) -> bool {
        self.n_places >= PLACES_MAX || self.n_open >= SOURCES_MAX
    }

    /// Names everything that can be. `problem` hears what went wrong in which process.
    pub fn names(
        &self,
        problem: &mut dyn FnMut(u32, String),
    ) -> HashMap<(Incarnation, abi::FrameWord), Named> {
        let mut names = HashMap::new();
        let (mut n_problems, mut n_untold) = (0, 0_u64);
        let mut tell = |pid: u32, text: &dyn Display| {
            n_problems += 1;
            if n_problems <= PROBLEMS_MAX {
                problem(pid, format!("generated code of {pid}: {text}"));
            } else {
                n_untold += 1;
            }
        };
        for (&incarnation, state) in &self.processes {
            let pid = incarnation.pid;
            let (Open { places, n_forgotten, .. }, sources) = match state {
                State::Open(open) => (open, open.at_last(pid)),
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
                tell(pid, &crate::chain(why));
            }
            for why in &report.problems {
                tell(pid, why);
            }
            let Report { bad_records, unread_bytes, ambiguous, overwritten, .. } = report;
            tracing::debug!(
                pid,
                bad_records,
                unread_bytes,
                ambiguous,
                overwritten,
                "named generated code"
            );
            let counted: [(u64, &str); 5] = [
                (bad_records, "entries cannot be understood"),
                (report.beyond_bytes, "bytes of its map or dump are not read: it is too large"),
                (ambiguous, "addresses have no name: their code changed while sampled"),
                (
                    overwritten,
                    "addresses have no name: the map of the time was overwritten while sampled",
                ),
                (*n_forgotten, "frames of samples have no name: too many addresses were sampled"),
            ];
            for (n, what) in counted.into_iter().filter(|(n, _)| *n > 0) {
                tell(pid, &format_args!("{n} {what}"));
            }
        }
        for (pid, text) in self.told.iter().take(PROBLEMS_MAX) {
            problem(*pid, text.clone());
        }
        if n_untold > 0 {
            problem(0, format!("generated code: {n_untold} more problems"));
        }
        names
    }

    /// Bytes of heap held.
    pub fn heap_bytes(&self) -> usize {
        self.processes.capacity() * size_of::<(Incarnation, State)>() + self.n_places * 96
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
        assert!(jit.names(&mut |_, _| {}).is_empty());
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
        let names = jit.names(&mut |_, _| {});
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

    /// A process with a map, as a sample tells of it.
    fn process() -> (std::process::Child, String, abi::hf_sample) {
        let child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let mut head = abi::hf_sample::new_zeroed();
        (head.tgid, head.weight) = (child.id(), 1);
        let path = format!("/tmp/perf-{}.map", child.id());
        (child, path, head)
    }

    /// What was sampled while a text stood that was overwritten, or that another file took the place of,
    /// has no name of the new one.
    #[test]
    fn texts_that_follow_each_other() {
        let word = |pc: u64| {
            abi::FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc)
        };
        let pause = || std::thread::sleep(std::time::Duration::from_millis(60));
        for is_removed in [false, true] {
            let (mut child, path, mut head) = process();
            std::fs::write(&path, "1000 10 old\n2000 10 old\n").expect("written");
            pause();
            let mut jit = Jit::default();
            let mut saw = |pcs: &[u64], pass: u64| {
                head.time_ns = hotframe_jitmap::now_ns();
                pause();
                pcs.iter().for_each(|&pc| jit.saw(&head, word(pc), pass));
            };
            saw(&[0x1000, 0x1001], 1);
            pause();
            if is_removed {
                std::fs::remove_file(&path).expect("removed");
            }
            std::fs::write(&path, "1000 10 new\n2000 10 new\n").expect("written");
            pause();
            saw(&[0x1001, 0x1002], 2);
            pause();
            saw(&[0x1003], 3);
            let mut problems = Vec::new();
            let names = jit.names(&mut |_, problem| problems.push(problem));
            let _ = child.kill();
            let _ = child.wait();
            std::fs::remove_file(&path).expect("removed");
            let incarnation = Incarnation { pid: head.tgid, exec_id: 0, start_ns: 0 };
            let name = |pc| names.get(&(incarnation, word(pc))).map(|found| found.name.as_str());
            let old = is_removed.then_some("old");
            assert_eq!((name(0x1000), name(0x1001)), (old, None), "{problems:?}");
            assert_eq!((name(0x1002), name(0x1003)), (Some("new"), Some("new")), "{problems:?}");
            let told = if is_removed { "1 addresses" } else { "2 addresses" };
            assert!(problems.len() == 1 && problems[0].contains(told), "{problems:?}");
        }
    }

    /// What finds no room is told of its process.
    #[test]
    fn what_has_no_room_is_told() {
        let (mut child, path, mut head) = process();
        std::fs::write(&path, "1000 10 a\n").expect("written");
        head.time_ns = hotframe_jitmap::now_ns();
        let word =
            abi::FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | 0x1000);
        let mut full = Jit { n_open: SOURCES_MAX, ..Jit::default() };
        full.saw(&head, word, 1);
        let mut crowded = Jit { n_places: PLACES_MAX, ..Jit::default() };
        crowded.saw(&head, word, 1);
        crowded.saw(&head, word, 1);
        let told = |jit: &Jit| {
            let mut told = Vec::new();
            jit.names(&mut |pid, problem| told.push((pid, problem)));
            told
        };
        let (full, crowded) = (told(&full), told(&crowded));
        let _ = child.kill();
        let _ = child.wait();
        std::fs::remove_file(&path).expect("removed");
        assert!(full[0].0 == head.tgid && full[0].1.contains("512 processes"), "{full:?}");
        assert!(crowded[0].0 == head.tgid && crowded[0].1.contains("2 frames"), "{crowded:?}");
    }
}
