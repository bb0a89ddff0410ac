//! Questions of one process to its runtimes, and where the answers go: the frame store.

use crate::profile::{FRAME_INLINED, Kind};
use crate::recording::{Question, Recording};
use crate::resolve::heuristic;
use crate::runtimes::Asker;
use hotframe_abi as abi;
use hotframe_frames::{FrameInfo, FunctionInfo};
use hotframe_runtime::{Frame, Why};

/// Questions of one process, and where the answers go.
pub(super) struct Asking<'a> {
    pub(super) recording: &'a mut Recording,
    pub(super) of: hotframe_frames::Incarnation,
    pub(super) batch: &'a [Question],
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
