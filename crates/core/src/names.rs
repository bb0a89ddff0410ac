//! Names as they are needed, for a view that shows a recording while it goes on.
//!
//! In: the frame words of the last second, and the files they lie in. Out: the frames of each word,
//! as `resolve` gives them for a whole recording. A word is named once; a batch holds only new
//! ones, so a steady load costs a look-up a word.
//!
//! # Not handled
//! A file that is opened only after its words were named keeps `file+0xoffset` for these.

use crate::files::FileId;
use crate::profile::{Kind, Meta, Profile};
use crate::recording::Incarnation;
use crate::resolve::{Namer, Source};
use crate::session::AnnouncedSymbol;
use hotframe_abi::{self as abi, FrameWord};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names learnt so far.
pub struct Names {
    namer: Namer,
    /// What stands for kernel frames that have no name yet.
    kernel_later: u32,
}

impl Names {
    /// None yet. `debuginfod`: ask these servers for debug files.
    pub fn new(debuginfod: Option<hotframe_symbols::Debuginfod>) -> Names {
        let mut namer = Namer::new(Meta::default(), debuginfod);
        let kernel_later = namer.unnamed("[kernel: named in a moment]", 0, Kind::Kernel, 0, 0);
        Names { namer, kernel_later }
    }

    /// Names the words that are new; of the kernel's only if `kernel`, since that reads all of
    /// `/proc/kallsyms` (50 ms). Returns how many of the kernel's were new.
    pub fn learn(
        &mut self,
        words: impl Iterator<Item = FrameWord>,
        files: &HashMap<FileId, Source>,
        announced: &BTreeMap<u64, AnnouncedSymbol>,
        kernel: bool,
    ) -> usize {
        let mut new: BTreeSet<FrameWord> =
            words.filter(|word| !self.namer.by_word.contains_key(word)).collect();
        let is_kernel = |word: &FrameWord| word.kind() == abi::HF_FRAME_KERNEL;
        let n_kernel = new.iter().filter(|word| is_kernel(word)).count();
        if !kernel {
            new.retain(|word| !is_kernel(word));
        }
        if new.is_empty() {
            return n_kernel;
        }
        self.namer.name_kernel(&new, announced);
        self.namer.name_files(&new, &|id| files.get(&id).cloned(), &mut |_, _| {});
        for word in new {
            self.namer.name_rest(word);
        }
        n_kernel
    }

    /// Takes names of generated code, which a process has for itself.
    pub fn learn_generated(
        &mut self,
        names: impl IntoIterator<Item = ((Incarnation, FrameWord), String)>,
    ) {
        self.namer.name_generated(names);
    }

    /// Indices into the profile's frames, innermost first; empty for a word that was not learnt.
    pub fn frames(&self, incarnation: Incarnation, word: FrameWord) -> &[u32] {
        match self.namer.by_process.get(&(incarnation, word)) {
            Some(frame) => std::slice::from_ref(frame),
            None => match self.namer.by_word.get(&word) {
                Some(frames) => frames,
                None if word.kind() == abi::HF_FRAME_KERNEL => {
                    std::slice::from_ref(&self.kernel_later)
                }
                None => &[],
            },
        }
    }

    /// Strings, modules, functions and frames; it has no samples.
    pub fn profile(&self) -> &Profile {
        &self.namer.profile
    }

    /// Words named.
    pub fn len(&self) -> usize {
        self.namer.by_word.len() + self.namer.by_process.len()
    }

    /// No word was named yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word keeps its frames when others are learnt, and is not named twice.
    #[test]
    fn learning_goes_on() {
        let note = |number: u64| {
            FrameWord(u64::from(abi::HF_FRAME_NOTE) << abi::HF_FRAME_KIND_SHIFT | number)
        };
        let mut names = Names::new(None);
        let (files, announced) = (HashMap::new(), BTreeMap::new());
        names.learn([note(1)].into_iter(), &files, &announced, true);
        let process = Incarnation { pid: 1, exec_id: 0, start_ns: 0 };
        let first = names.frames(process, note(1)).to_vec();
        assert_eq!(first.len(), 1);
        names.learn([note(1), note(2)].into_iter(), &files, &announced, true);
        assert_eq!(names.frames(process, note(1)), first);
        assert_eq!(names.len(), 2);
        // The kernel's are left for another time.
        let kernel = FrameWord(u64::from(abi::HF_FRAME_KERNEL) << abi::HF_FRAME_KIND_SHIFT | 1);
        let n = names.learn([kernel, note(1)].into_iter(), &files, &announced, false);
        assert_eq!((n, names.frames(process, kernel)), (1, &[names.kernel_later][..]));
        // What a process has for itself is its own.
        names.learn_generated([((process, note(2)), "f".to_owned())]);
        let other = Incarnation { pid: 2, ..process };
        assert_ne!(names.frames(process, note(2)), names.frames(other, note(2)));
        assert_eq!(names.frames(process, note(3)), [0u32; 0]);
    }
}
