//! A recording as a stream of stacks with their names, to be replayed over the frame store's
//! policies (`hotframe_frames::capture`).
//!
//! In: a recording that was named. Out: its processes, frames, stacks and samples, in the order of
//! the samples' times. A dynamic frame is written by what it is, not by the words by which its
//! process had it: frames of one process that have the same name and line are one.

use crate::recording::Recording;
use hotframe_abi as abi;
use hotframe_frames::capture::{Error, Event, Name, Writer};
use hotframe_frames::{Graft, Node, StackFrame};
use std::collections::HashMap;
use std::io::Write;

/// Writes a capture.
///
/// # Errors
/// What writing gives.
pub fn write<W: Write>(recording: &Recording, out: W) -> Result<W, Error> {
    let mut capture = Capture {
        recording,
        out: Writer::new(out)?,
        texts: HashMap::new(),
        frames: HashMap::new(),
        stacks: HashMap::new(),
    };
    for process in &recording.processes {
        capture.out.write(&Event::Process(process.incarnation.into()))?;
    }
    let samples = &recording.samples;
    let mut order: Vec<usize> = (0..samples.time_ns.len()).collect();
    order.sort_by_key(|&at| samples.time_ns[at]);
    let mut before_ns = order.first().map_or(0, |&at| samples.time_ns[at]);
    for at in order {
        let thread = recording.threads.get(samples.thread[at] as usize);
        let stack = capture
            .stack(thread.map_or(0, |thread| thread.process), recording.leaf(samples.stack[at]))?;
        let after_ns = samples.time_ns[at].saturating_sub(before_ns);
        before_ns = samples.time_ns[at];
        capture.out.write(&Event::Sample { after_ns, stack })?;
    }
    capture.out.finish()
}

struct Capture<'a, W> {
    recording: &'a Recording,
    out: Writer<W>,
    texts: HashMap<String, u32>,
    /// By process, where that matters, and what stands there.
    frames: HashMap<(u32, u8, u64), u32>,
    stacks: HashMap<(u32, u32), u32>,
}

impl<W: Write> Capture<'_, W> {
    fn stack(&mut self, process: u32, leaf: u32) -> Result<u32, Error> {
        if let Some(&known) = self.stacks.get(&(process, leaf)) {
            return Ok(known);
        }
        let store = &self.recording.store;
        let mut frames = Vec::new();
        let mut at = leaf;
        while at != 0 {
            let node = store.node(at);
            frames.push(self.frame(process, node)?);
            at = node.parent;
        }
        // Words alone do not tell processes apart, so that a stack is one for each.
        let hash = (u64::from(process) << 32 | u64::from(leaf)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.out.write(&Event::Stack { process, hash, frames: frames.into() })?;
        let number = self.stacks.len() as u32;
        self.stacks.insert((process, leaf), number);
        Ok(number)
    }

    fn frame(&mut self, process: u32, node: Node) -> Result<u32, Error> {
        let (key, words): (_, Vec<u64>) = match self.recording.store.grafts_at(node).next() {
            Some(Graft::Word(word)) => ((0, 1, word), vec![word]),
            Some(Graft::Own(_, word)) => ((process + 1, 2, word), vec![word]),
            Some(Graft::Frame(number)) => {
                let head = u64::from(abi::HF_FRAME_DYNAMIC) << abi::HF_FRAME_KIND_SHIFT
                    | 1 << abi::HF_FRAME_N_DATA_SHIFT;
                ((process + 1, 3, number.into()), vec![head, number.into()])
            }
            None => ((0, 0, 0), vec![0]),
        };
        if let Some(&known) = self.frames.get(&key) {
            return Ok(known);
        }
        let store = &self.recording.store;
        let at: Vec<StackFrame> = store.frames_at(node).collect();
        let mut names = Vec::new();
        for frame in at.iter().filter_map(|frame| frame.frame) {
            let function = store.function(frame.function);
            let module = store.module(function.module);
            names.push(Name {
                name: self.text(function.name)?,
                system_name: self.text(function.system_name.unwrap_or_default())?,
                file: self.text(function.file)?,
                module_path: self.text(module.path)?,
                module_build_id: self.text(module.build_id)?,
                start_line: function.start_line,
                line: frame.line,
                kind: function.kind,
                flags: frame.flags,
            });
        }
        let process = key.0.saturating_sub(1);
        self.out.write(&Event::Frame { process, words: words.into(), names: names.into() })?;
        let number = self.frames.len() as u32;
        self.frames.insert(key, number);
        Ok(number)
    }

    fn text(&mut self, text: &str) -> Result<Option<u32>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(&known) = self.texts.get(text) {
            return Ok(Some(known));
        }
        self.out.write(&Event::Text(text.as_bytes().into()))?;
        let number = self.texts.len() as u32;
        self.texts.insert(text.to_owned(), number);
        Ok(Some(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Sample;
    use hotframe_frames::capture::Reader;
    use hotframe_frames::{FrameInfo, FunctionInfo};
    use zerocopy::FromZeros as _;

    /// What is written is what was recorded, in order, each text and frame once.
    #[test]
    fn a_recording_is_captured() {
        let mut recording = Recording::default();
        let mut head = abi::hf_sample::new_zeroed();
        (head.weight, head.tgid) = (1, 7);
        let word = |number: u64| {
            u64::from(abi::HF_FRAME_NATIVE) << abi::HF_FRAME_KIND_SHIFT | 5 << 32 | number
        };
        for (time_ns, words, hash) in [
            (300, [word(1), word(2)], 1),
            (100, [word(3), word(2)], 2),
            (400, [word(1), word(2)], 1),
        ] {
            head.time_ns = time_ns;
            let sample = Sample { head: &head, words: &words, hash, cut: 0, cut_pc: 0 };
            recording.add(&sample, Default::default);
        }
        for (number, name) in [(1, "leaf"), (2, "main")] {
            let function = FunctionInfo { name: name.as_bytes(), ..FunctionInfo::default() };
            recording.store.name_word(word(number), &[FrameInfo { function, line: 9, flags: 0 }]);
        }
        let bytes = write(&recording, Vec::new()).expect("written");
        let events: Vec<Event> =
            Reader::new(&bytes[..]).expect("a capture").map(|event| event.expect("good")).collect();
        let named = |name| Name { name: Some(name), line: 9, ..Name::default() };
        let frame = |number, names: &[Name]| Event::Frame {
            process: 0,
            words: [word(number)].into(),
            names: names.into(),
        };
        let expect = [
            frame(3, &[]),
            Event::Text(b"main".as_slice().into()),
            frame(2, &[named(0)]),
            Event::Sample { after_ns: 0, stack: 0 },
            Event::Text(b"leaf".as_slice().into()),
            frame(1, &[named(1)]),
            Event::Sample { after_ns: 200, stack: 1 },
            Event::Sample { after_ns: 100, stack: 1 },
        ];
        let others = |event: &&Event| !matches!(event, Event::Process(_) | Event::Stack { .. });
        assert_eq!(
            events.iter().filter(others).collect::<Vec<_>>(),
            expect.iter().collect::<Vec<_>>()
        );
        let stacks: Vec<&[u32]> = events
            .iter()
            .filter_map(|event| match event {
                Event::Stack { frames, .. } => Some(&**frames),
                _ => None,
            })
            .collect();
        assert_eq!(stacks, [&[0, 1][..], &[2, 1]]);
    }
}
