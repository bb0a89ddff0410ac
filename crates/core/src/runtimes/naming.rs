//! Who names a frame: its own process, or one that runs the same program and lives longer.
//!
//! In: frames of one process that no one has named, as the steps of its runtimes sent them. Out: each with its
//! functions or why there are none, to who asked ([`Asker`]).
//!
//! # Cost
//! Reads of the process's memory: what [`AHEAD`] frames begin with is read together.

use super::Runtimes;
use super::serving::{OpenMapping, Serving, State, open_mapping, view_mappings};
use crate::files::Files;
use crate::processes::Process;
use crate::recording::Incarnation;
use hotframe_abi as abi;
use hotframe_runtime::{AHEAD, Frame, KNOWN_WORDS, Known, NothingKnown, Outcome, RawFrame, Why};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

/// Processes of the same program that are asked for a name besides the frame's own.
const RELATIVES_MAX: usize = 3;

/// Who asks for the names of a process's frames, and keeps them.
pub trait Asker {
    /// Takes a question's index and its frames, innermost first, or why there are none.
    fn answer(&mut self, at: usize, named: Result<&[Frame], Why>);

    /// Answers a question by another frame of the process, if that is known: whether it is.
    fn answer_alike(&mut self, at: usize, words: &[u64]) -> bool;

    /// The function that was kept under these words: see [`Known`].
    fn find(&mut self, words: &[u64]) -> Option<Frame>;

    /// Keeps one.
    fn keep(&mut self, words: &[u64], frame: &Frame);
}

/// What the asker keeps for a runtime.
struct KnownTo<'a, 'b> {
    asker: &'a RefCell<&'b mut dyn Asker>,
    runtime: u32,
}

impl KnownTo<'_, '_> {
    /// A dynamic frame's words, of which a step sends none: it says of no frame that it has so many.
    fn words(&self, key: &[u64; KNOWN_WORDS]) -> [u64; KNOWN_WORDS + 2] {
        const MARK: u64 = u64::MAX;
        let n_data = KNOWN_WORDS as u64 + 1;
        let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
            | u64::from(self.runtime) << abi::HF_FRAME_RUNTIME_SHIFT
            | n_data << abi::HF_FRAME_N_DATA_SHIFT;
        let [a, b, c, d] = *key;
        [head, a, b, c, d, MARK]
    }
}

impl Known for KnownTo<'_, '_> {
    fn find(&self, key: &[u64; KNOWN_WORDS]) -> Option<Frame> {
        self.asker.borrow_mut().find(&self.words(key))
    }

    fn keep(&self, key: &[u64; KNOWN_WORDS], frame: &Frame) {
        self.asker.borrow_mut().keep(&self.words(key), frame);
    }
}

/// What is known beside a frame's process.
struct Around<'a, 't> {
    told: &'a dyn Fn([u64; 2]) -> Option<&'t [u8]>,
    known: &'a dyn Known,
    mappings: &'a hotframe_runtime::Mappings<'a>,
    open: &'a OpenMapping<'a>,
}

impl Serving {
    /// A frame that was named before and has the same names.
    fn alike(&self, raw: &RawFrame<'_>) -> Option<[u64; 2]> {
        let mut of = self.served.iter().filter(|served| served.runtime.id() == raw.head.runtime());
        of.find_map(|served| match &served.state {
            State::Attached { attached, .. } => attached.alike(raw),
            _ => None,
        })
    }

    /// Reads what these frames are named from, as far as several of them can be read at once.
    fn read_ahead<'f>(&self, frames: impl Iterator<Item = RawFrame<'f>>) {
        let frames: Vec<RawFrame<'f>> = frames.filter(|raw| self.alike(raw).is_none()).collect();
        for served in &self.served {
            let State::Attached { attached, .. } = &served.state else { continue };
            let of = |raw: &&RawFrame<'f>| raw.head.runtime() == served.runtime.id();
            let its: Vec<RawFrame<'f>> = frames.iter().filter(of).copied().collect();
            if !its.is_empty() {
                attached.read_ahead(&its, &self.memory);
            }
        }
    }

    /// Names a frame: appends to `frames`, which is emptied first. `told` finds what its step told
    /// by a key.
    fn resolve(
        &mut self,
        pid: u32,
        raw: &RawFrame<'_>,
        around: &Around<'_, '_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        let &Around { told, known, mappings, open } = around;
        let mut outcome = Outcome::Unnamed(Why::ProcessGone);
        frames.clear();
        // Two of a kind in one process (interpreters in two libraries): the one that can.
        for served in &mut self.served {
            let State::Attached { attached, .. } = &mut served.state else { continue };
            if served.runtime.id() != raw.head.runtime() {
                continue;
            }
            let view = hotframe_runtime::Process {
                pid,
                bias: served.bias,
                memory: &self.memory,
                naming: self.naming,
                known,
                mappings,
                open,
            };
            let told = attached.told_key(raw).and_then(told);
            outcome = attached.resolve(&RawFrame { told, ..*raw }, &view, frames);
            if outcome == Outcome::Named {
                break;
            }
            frames.clear();
        }
        outcome
    }
}

/// The process whose frames are to be named.
pub struct Subject<'a> {
    /// Its run of one program, of which the frames are.
    pub incarnation: Incarnation,
    /// Its mappings, if they are known.
    pub process: Option<&'a Process>,
    /// What the mappings are of.
    pub files: &'a Files,
}

/// What is the same for all frames that are named at once.
struct Asking<'a, 'b> {
    incarnation: Incarnation,
    /// Who is asked, in this order.
    pids: &'a [u32],
    mappings: &'a hotframe_runtime::Mappings<'a>,
    open: &'a OpenMapping<'a>,
    asker: &'a RefCell<&'b mut dyn Asker>,
}

impl Runtimes {
    /// Names frames of one process, as long as there is time; returns how many were looked at.
    pub fn resolve(
        &mut self,
        subject: &Subject<'_>,
        questions: &[&[u64]],
        until: Instant,
        asker: &mut dyn Asker,
    ) -> usize {
        let &Subject { incarnation, process, files } = subject;
        let pids = self.namers(incarnation, process);
        let Some(process) = process.filter(|_| !pids.is_empty()) else {
            (0..questions.len()).for_each(|at| asker.answer(at, Err(Why::ProcessGone)));
            return questions.len();
        };
        let make = || view_mappings(process, files);
        let asking = Asking {
            incarnation,
            pids: &pids,
            mappings: &hotframe_runtime::Mappings::new(&make),
            open: &|mapping: &hotframe_runtime::Mapping| open_mapping(process, files, mapping),
            asker: &RefCell::new(asker),
        };
        let mut frames = Vec::new();
        let mut n_asked = questions.len();
        self.forget_pages(&pids);
        for (at, words) in questions.iter().enumerate() {
            if at > 0 && Instant::now() >= until {
                n_asked = at;
                break;
            }
            let own = self.own(incarnation);
            if let Some(own) = own.filter(|_| at % AHEAD == 0) {
                own.read_ahead(questions.iter().skip(at).take(AHEAD).map(|words| raw(words)));
            }
            let raw = raw(words);
            if let Some(words) = own.and_then(|serving| serving.alike(&raw))
                && asking.asker.borrow_mut().answer_alike(at, &words)
            {
                continue;
            }
            let named = match self.name(&raw, &asking, &mut frames) {
                Outcome::Named if !frames.is_empty() => Ok(frames.as_slice()),
                Outcome::Named => Err(Why::Unsupported),
                Outcome::Unnamed(why) => Err(why),
            };
            asking.asker.borrow_mut().answer(at, named);
        }
        self.forget_pages(&pids);
        n_asked
    }

    /// The process itself, unless another program now has its pid.
    fn own(&self, incarnation: Incarnation) -> Option<&Serving> {
        self.serving
            .get(&incarnation.pid)
            .filter(|serving| serving.incarnation.is_none_or(|served| served == incarnation))
    }

    /// Who can name frames of a process: itself first, then up to [`RELATIVES_MAX`] that were forked
    /// from the same program. They have the same objects at the same addresses, and may live longer;
    /// each name is checked against the frame by whoever gives it.
    fn namers(&self, incarnation: Incarnation, process: Option<&Process>) -> Vec<u32> {
        let own = self.own(incarnation);
        let image = process.map(|process| process.image).or(own.map(|serving| serving.image));
        let relatives = self.serving.iter().filter(|(pid, serving)| {
            **pid != incarnation.pid && image == Some(serving.image) && serving.is_attached()
        });
        let mut pids: Vec<u32> = relatives.map(|(&pid, _)| pid).collect();
        // The parent first: others are its children too, and may be gone as well.
        let parent = process.map_or(0, |process| process.parent);
        pids.sort_unstable_by_key(|&pid| (pid != parent, pid));
        pids.truncate(RELATIVES_MAX);
        if own.is_some() {
            pids.insert(0, incarnation.pid);
        }
        pids
    }

    /// Names one frame, into `frames`, by the first process that can.
    fn name(
        &mut self,
        raw: &RawFrame<'_>,
        asking: &Asking<'_, '_>,
        frames: &mut Vec<Frame>,
    ) -> Outcome {
        let &Asking { incarnation, pids, mappings, open, asker } = asking;
        // What was told is of the frame's own process, whoever names it.
        let (runtime, store) = (raw.head.runtime(), &self.told);
        let known = KnownTo { asker, runtime };
        let was_told = Cell::new(false);
        let mut ask = |uses_told: bool| {
            let told = |frame| {
                let record = store.find(incarnation, runtime, frame);
                was_told.set(was_told.get() || record.is_some());
                record.filter(|_| uses_told)
            };
            ask_in_turn(&mut self.serving, pids, |pid, serving| {
                // What a relative has is not this one's.
                let known: &dyn Known = if pid == incarnation.pid { &known } else { &NothingKnown };
                let around = Around { told: &told, known, mappings, open };
                serving.resolve(pid, raw, &around, frames)
            })
        };
        // What was told has only the beginning of a table of lines: a relative that can be read
        // knows all of it, and is asked first.
        let has_relatives = pids.len() > 1;
        let outcome = ask(!has_relatives);
        if has_relatives && outcome != Outcome::Named && was_told.get() {
            return ask(true);
        }
        outcome
    }

    /// What was read for frames that were asked before is not believed: it may be old. All of one asking
    /// were sampled before anything is read for it, and who names them looks past the cache in the end,
    /// so that a page that was read for another of them is of the time in between.
    fn forget_pages(&self, pids: &[u32]) {
        pids.iter().filter_map(|pid| self.serving.get(pid)).for_each(|it| it.memory.forget());
    }
}

/// A frame as the kernel half sent it.
fn raw(words: &[u64]) -> RawFrame<'_> {
    let (head, data) = words.split_first().map_or((0, &[][..]), |(&head, data)| (head, data));
    RawFrame { head: abi::FrameWord(head), data, told: None }
}

/// The answer of the first process that names a frame, else that of the first that is served: its
/// own process's reason is the one that counts.
fn ask_in_turn(
    serving: &mut HashMap<u32, Serving>,
    pids: &[u32],
    mut name: impl FnMut(u32, &mut Serving) -> Outcome,
) -> Outcome {
    let mut first = None;
    for &pid in pids {
        let Some(answer) = serving.get_mut(&pid).map(|serving| name(pid, serving)) else {
            continue;
        };
        if answer == Outcome::Named {
            return answer;
        }
        first = first.or(Some(answer));
    }
    first.unwrap_or(Outcome::Unnamed(Why::ProcessGone))
}
