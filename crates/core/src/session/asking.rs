//! Questions to runtimes about dynamic frames that were not met before, and where the answers go: the frame
//! store.
//!
//! In: the store's questions. Out: frames, or why there are none; what there was no time for is
//! asked first in the next pass. Questions of one process are asked together: what is read of it once serves all.

use super::Session;
use crate::profile::{FRAME_INLINED, Kind};
use crate::recording::{Question, Recording};
use crate::resolve::heuristic;
use crate::runtimes::{Asker, Subject};
use hotframe_abi as abi;
use hotframe_frames::{FrameInfo, FunctionInfo};
use hotframe_runtime::{Frame, Why};
use std::time::Instant;

/// Questions to runtimes that are under way: the rest waits in the store.
const MAX_ASKED: usize = 4096;

impl Session {
    /// Asks runtimes for the names of dynamic frames that were not met before, until there are no
    /// more or time is up: what is left is asked first the next time. Returns how many are left.
    pub fn answer_questions(&mut self, until: Instant) -> usize {
        let mut asked = std::mem::take(&mut self.recording.asked);
        asked.extend(self.recording.take_questions(MAX_ASKED.saturating_sub(asked.len())));
        let now_ns = self.now_ns;
        // By process: what is read of it once serves all.
        asked.sort_by_key(|question| question.incarnation.pid);
        let mut rest = asked.as_slice();
        while let Some(first) = rest.first() {
            let incarnation = first.incarnation;
            // A fork inherited its parent's regions; and the parent, which may have slept ever since
            // and so not been met, can be read when its children are gone.
            let parent = self.processes.parent(incarnation.pid);
            for pid in [Some(incarnation.pid), parent].into_iter().flatten() {
                if self.runtimes.serves(pid) {
                    continue;
                }
                if self.processes.get(pid).is_some_and(|process| !process.is_complete) {
                    self.processes.refresh(pid, now_ns, &mut self.files);
                }
                self.publish(pid, now_ns);
            }
            let n = rest.iter().take_while(|asked| asked.incarnation == incarnation).count();
            let batch = rest.get(..n).unwrap_or_default();
            let words: Vec<&[u64]> = batch.iter().map(|asked| &*asked.words).collect();
            let recording = &mut self.recording;
            let of = recording.store.incarnation(incarnation.into());
            let subject = Subject {
                incarnation,
                process: self.processes.get(incarnation.pid),
                files: &self.files,
            };
            let asker = &mut Asking { recording, of, batch };
            let done = self.runtimes.resolve(&subject, &words, until, asker);
            rest = rest.get(done..).unwrap_or_default();
            if Instant::now() >= until {
                break;
            }
        }
        self.recording.asked = rest.to_vec();
        self.recording.store.n_pending()
    }
}

/// Questions of one process, and where the answers go.
struct Asking<'a> {
    recording: &'a mut Recording,
    of: hotframe_frames::Incarnation,
    batch: &'a [Question],
}

impl Asker for Asking<'_> {
    fn answer(&mut self, at: usize, named: Result<&[Frame], Why>) {
        let Some(question) = self.batch.get(at) else { return };
        match named {
            Ok(frames) => self.recording.answer(question.id, &infos(&question.words, frames)),
            Err(why) => self.recording.answer_unnamed(question.id, unnamed(why)),
        }
    }

    fn answer_alike(&mut self, at: usize, words: &[u64]) -> bool {
        let question = self.batch.get(at);
        question.is_some_and(|question| self.recording.store.answer_alike(question.id, words))
    }

    fn find(&mut self, words: &[u64]) -> Option<Frame> {
        let store = &mut self.recording.store;
        let known = store.known_frame(self.of, words)?;
        let function = store.function(known.function);
        Some(Frame {
            name: function.name.into(),
            file: function.file.into(),
            start_line: function.start_line,
            ..Frame::default()
        })
    }

    fn keep(&mut self, words: &[u64], frame: &Frame) {
        // Without room the names are read again.
        let frames = std::slice::from_ref(frame);
        let _ = self.recording.store.learn(self.of, words, &infos(words, frames));
    }
}

/// Frames of a runtime as the store takes them.
fn infos<'a>(words: &[u64], frames: &'a [Frame]) -> Vec<FrameInfo<'a>> {
    let head = abi::FrameWord(words.first().copied().unwrap_or_default());
    let kind = Kind::of_runtime(head.runtime()) as u8;
    frames
        .iter()
        .map(|frame| FrameInfo {
            function: FunctionInfo {
                name: &frame.name,
                system_name: &[],
                file: &frame.file,
                start_line: frame.start_line,
                kind,
                module_path: &frame.module,
                module_build_id: &[],
            },
            line: frame.line,
            flags: heuristic(head) | if frame.inlined { FRAME_INLINED } else { 0 },
        })
        .collect()
}

fn unnamed(why: Why) -> hotframe_frames::Why {
    match why {
        Why::ProcessGone => hotframe_frames::Why::ProcessGone,
        Why::StalePointer => hotframe_frames::Why::StalePointer,
        Why::Unloaded => hotframe_frames::Why::Unloaded,
        _ => hotframe_frames::Why::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FRAME_HEURISTIC;

    /// What a heuristic found is marked in all functions that stand there, and nothing else is.
    #[test]
    fn guessed_frames_are_marked() {
        let inlined = Frame { inlined: true, ..Frame::default() };
        let frames = [inlined, Frame::default()];
        let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT;
        let guessed = head | u64::from(abi::HF_FRAME_HEURISTIC) << abi::HF_FRAME_FLAGS_SHIFT;
        let flags =
            |head| infos(&[head, 0], &frames).iter().map(|info| info.flags).collect::<Vec<_>>();
        assert_eq!(flags(head), [FRAME_INLINED, 0]);
        assert_eq!(flags(guessed), [FRAME_INLINED | FRAME_HEURISTIC, FRAME_HEURISTIC]);
    }
}
