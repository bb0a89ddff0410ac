//! Names as they are needed, for a view that shows a recording while it goes on.
//!
//! In: the frame words of the last second, and the files they lie in. Out: the frames of each word,
//! as `resolve` gives them for a whole recording. A word is named once; a batch holds only new
//! ones, so a steady load costs a look-up a word.
//!
//! # Not handled
//! A file that is opened only after its words were named keeps `file+0xoffset` for these.

use crate::files::FileId;
use crate::profile::{FRAME_UNNAMED, Kind};
use crate::recording::Incarnation;
use crate::resolve::{AskKernel, Namer, Source};
use crate::session::AnnouncedSymbol;
use hotframe_abi::{self as abi, FrameWord};
use hotframe_frames::{Budget, Config, FrameInfo, FunctionInfo, Store};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names learnt so far.
pub struct Names {
    store: Store,
    debuginfod: Option<hotframe_symbols::Debuginfod>,
    ask_kernel: AskKernel,
    /// The frame that stands for kernel frames that have no name yet.
    kernel_later: u32,
    n_words: usize,
    was_refused: bool,
}

impl Names {
    /// None yet, in at most `limit_bytes`. `debuginfod`: ask these servers for debug files.
    pub fn new(
        limit_bytes: u64,
        debuginfod: Option<hotframe_symbols::Debuginfod>,
        ask_kernel: AskKernel,
    ) -> Names {
        let store = Store::new(&Budget::new(limit_bytes), Config::default());
        let mut names = Names {
            store,
            debuginfod,
            ask_kernel,
            kernel_later: 0,
            n_words: 0,
            was_refused: false,
        };
        let function = FunctionInfo {
            name: b"[kernel: named in a moment]",
            kind: Kind::Kernel as u8,
            ..FunctionInfo::default()
        };
        let frame = FrameInfo { function, line: 0, flags: FRAME_UNNAMED };
        names.kernel_later = names.learn_frame(&[frame]).unwrap_or_default();
        names
    }

    /// Names the words that are new, each with the process that has it; of the kernel's only if
    /// `kernel`, since that may read all of `/proc/kallsyms` (50 ms). Returns how many of the kernel's
    /// were new.
    pub fn learn(
        &mut self,
        words: impl Iterator<Item = (Incarnation, FrameWord)>,
        files: &HashMap<FileId, Source>,
        announced: &BTreeMap<u64, AnnouncedSymbol>,
        kernel: bool,
    ) -> usize {
        let mut n_kernel = BTreeSet::new();
        for (incarnation, word) in words {
            let own = self.store.incarnation(incarnation.into());
            if self.store.numbers_at(own, word.0).next().is_some() {
                continue;
            }
            if word.kind() == abi::HF_FRAME_KERNEL {
                n_kernel.insert(word);
                if !kernel {
                    continue;
                }
            }
            self.was_refused |= !self.store.meet(own, word.0);
        }
        let new: Vec<FrameWord> =
            self.store.unnamed_words(usize::MAX).into_iter().map(FrameWord).collect();
        self.n_words += new.len();
        if !new.is_empty() {
            let mut namer = Namer::new(&mut self.store, self.debuginfod.clone());
            namer.name_kernel(&new, announced, self.ask_kernel);
            namer.name_files(&new, &|id| files.get(&id).cloned(), &mut |_, _| {});
            namer.name_rest(&new);
        }
        n_kernel.len()
    }

    /// Takes names of generated code, which a process has for itself.
    pub fn learn_generated(
        &mut self,
        names: impl IntoIterator<Item = ((Incarnation, FrameWord), hotframe_jitmap::Named)>,
    ) {
        for ((incarnation, word), name) in names {
            let own = self.store.incarnation(incarnation.into());
            let has_room = self.store.meet(own, word.0);
            self.was_refused |= !has_room;
            self.n_words += usize::from(has_room);
            Namer::new(&mut self.store, None).name_generated(own, word, &name);
        }
    }

    /// Gives what is left of generated code a name that says so.
    pub fn learn_rest(&mut self) {
        Namer::new(&mut self.store, None).name_own_rest();
    }

    /// Takes in a frame that its runtime named; its number.
    pub fn learn_frame(&mut self, frames: &[FrameInfo<'_>]) -> Option<u32> {
        self.store.keep_frame(frames)
    }

    /// Numbers of frames, innermost first; empty for a word that was not learnt.
    pub fn frames(&mut self, incarnation: Incarnation, word: FrameWord) -> Vec<u32> {
        let own = self.store.incarnation(incarnation.into());
        let frames: Vec<u32> = self.store.numbers_at(own, word.0).collect();
        if frames.is_empty() && word.kind() == abi::HF_FRAME_KERNEL {
            return vec![self.kernel_later];
        }
        frames
    }

    /// Functions, frames, modules: their numbers stay as long as [`Names::is_full`] says no.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Words named.
    pub fn len(&self) -> usize {
        self.n_words
    }

    /// No word was named yet.
    pub fn is_empty(&self) -> bool {
        self.n_words == 0
    }

    /// The limit was reached: names were forgotten, and numbers mean others. It is time to begin
    /// anew.
    pub fn is_full(&self) -> bool {
        self.was_refused || self.store.counters().sweeps > 0
    }
}

#[cfg(test)]
mod tests {
    fn named(name: &str) -> hotframe_jitmap::Named {
        hotframe_jitmap::Named { name: name.to_owned(), file: None, line: 0 }
    }

    use super::*;

    /// A word keeps its frames when others are learnt, and is not named twice.
    #[test]
    fn learning_goes_on() {
        let note = |number: u64| {
            FrameWord(u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT | number)
        };
        let mut names = Names::new(u64::MAX, None, |_| None);
        let (files, announced) = (HashMap::new(), BTreeMap::new());
        let process = Incarnation { pid: 1, exec_id: 0, start_ns: 0 };
        let one = |word| [(process, word)].into_iter();
        names.learn(one(note(1)), &files, &announced, true);
        let first = names.frames(process, note(1));
        assert_eq!(first.len(), 1);
        names.learn(one(note(1)).chain(one(note(2))), &files, &announced, true);
        assert_eq!(names.frames(process, note(1)), first);
        assert_eq!(names.len(), 2);
        // The kernel's are left for another time.
        let kernel = FrameWord(u64::from(abi::HF_FRAME_KERNEL) << abi::HF_FRAME_KIND_SHIFT | 1);
        let n = names.learn(one(kernel).chain(one(note(1))), &files, &announced, false);
        assert_eq!((n, names.frames(process, kernel)), (1, vec![names.kernel_later]));
        // What a process has for itself is its own.
        let own = FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | 64);
        let other = Incarnation { pid: 2, ..process };
        names.learn([(process, own), (other, own)].into_iter(), &files, &announced, false);
        names.learn_generated([((process, own), named("f"))]);
        names.learn_rest();
        let name = |names: &mut Names, process| {
            let frame = names.frames(process, own)[0];
            let store = names.store();
            store.function(store.frame(frame).function).name.to_owned()
        };
        assert_eq!(name(&mut names, process), "f");
        assert_eq!(name(&mut names, other), "[anonymous]+0x40");
        assert_eq!(names.frames(process, note(3)), [0u32; 0]);
        assert!(!names.is_full());
    }

    /// Names that find no room are forgotten, which is said.
    #[test]
    fn a_limit_is_kept() {
        let mut names = Names::new(64 << 10, None, |_| None);
        let process = Incarnation { pid: 1, exec_id: 0, start_ns: 0 };
        let own = |pc| FrameWord(u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | pc);
        for pc in 0..10_000 {
            names.learn_generated([((process, own(pc)), named(&format!("function {pc}")))]);
        }
        assert!(names.is_full());
    }
}
