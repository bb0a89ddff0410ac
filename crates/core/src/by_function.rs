//! Static code by function: what stands for a place when there is no room to keep places apart.
//!
//! In: words of static code (file and offset, kernel address), and their frames as they are named.
//! Out: for each word its chain of frames by value, callers first, without lines: places of one
//! function, inlined calls included, have one chain, and stacks that differ by the line are one.
//!
//! Names have a share of the memory, which the functions of hours of compilers pass: when half of it
//! is taken inlined calls are left out from there on, and at its end a place is known by its module.
//! Symbols as they stand in the file, beside readable names, are left out from the beginning.
//!
//! # Cost
//! 12 bytes a word, and about 100 a distinct chain.

use crate::profile::FRAME_UNNAMED;
use hotframe_frames::{Budget, FrameInfo, FunctionInfo, Store, naming_order};
use std::collections::HashMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct ByFunction {
    /// In [`naming_order`].
    words: Vec<u64>,
    /// The chain of each word, [`NONE`] before it is named.
    of_word: Vec<u32>,
    chains: HashMap<Box<[u32]>, u32>,
    /// Where each chain begins in `frames`; it ends where the next one begins.
    begins: Vec<u32>,
    /// Numbers of frames by value.
    frames: Vec<u32>,
    share: Option<Share>,
}

/// What names may take.
#[derive(Debug)]
struct Share {
    /// What the store's names are charged to.
    budget: Budget,
    limit_bytes: u64,
}

const NONE: u32 = u32::MAX;

impl ByFunction {
    /// Nothing named yet of distinct words in [`naming_order`].
    pub(crate) fn new(words: Vec<u64>) -> ByFunction {
        let of_word = vec![NONE; words.len()];
        ByFunction { words, of_word, begins: vec![0], ..ByFunction::default() }
    }

    /// The same, whose names take so much of what `budget` has, and a module's name each beyond.
    pub(crate) fn within(words: Vec<u64>, budget: &Budget, limit_bytes: u64) -> ByFunction {
        let share = Some(Share { budget: budget.clone(), limit_bytes });
        ByFunction { share, ..ByFunction::new(words) }
    }

    /// Half of the share is taken; all of it is.
    fn fullness(&self) -> (bool, bool) {
        let Some(Share { budget, limit_bytes }) = &self.share else { return (false, false) };
        let used = budget.used_bytes();
        (used >= limit_bytes / 2, used >= *limit_bytes)
    }

    fn at(&self, word: u64) -> Option<usize> {
        self.words.binary_search_by_key(&naming_order(word), |&word| naming_order(word)).ok()
    }

    /// Whether this is one of the words, and has its chain.
    pub(crate) fn is_named(&self, word: u64) -> bool {
        self.number(word).is_some()
    }

    /// Names a word: innermost first the frames inlined there, and the physical one. Whether there
    /// was room. A word that is none of these is ignored.
    pub(crate) fn put(&mut self, store: &mut Store, word: u64, frames: &[FrameInfo<'_>]) -> bool {
        let Some(at) = self.at(word) else { return true };
        let (no_inlined, no_names) = self.fullness();
        let mut chain = Vec::with_capacity(frames.len());
        for frame in frames.iter().rev() {
            let mut function = FunctionInfo { system_name: b"", start_line: 0, ..frame.function };
            let mut flags = frame.flags;
            let name;
            if no_names {
                let path = String::from_utf8_lossy(function.module_path);
                name = format!("[{}: no room for names]", path.rsplit('/').next().unwrap_or(&path));
                (function.name, function.file) = (name.as_bytes(), b"");
                flags |= FRAME_UNNAMED;
            }
            match store.keep_frame(&[FrameInfo { function, line: 0, flags }]) {
                Some(number) => chain.push(number),
                None => return false,
            }
            if no_inlined {
                break;
            }
        }
        let new = self.chains.len() as u32;
        let number = *self.chains.entry(chain.into()).or_insert_with_key(|chain| {
            self.frames.extend_from_slice(chain);
            self.begins.push(self.frames.len() as u32);
            new
        });
        if let Some(slot) = self.of_word.get_mut(at) {
            *slot = number;
        }
        true
    }

    /// The number of a word's chain.
    pub(crate) fn number(&self, word: u64) -> Option<u32> {
        let number = *self.of_word.get(self.at(word)?)?;
        (number != NONE).then_some(number)
    }

    /// A chain's frames by value, callers first.
    pub(crate) fn chain(&self, number: u32) -> &[u32] {
        let at = number as usize;
        let ends = self.begins.get(at).zip(self.begins.get(at + 1));
        ends.and_then(|(&from, &to)| self.frames.get(from as usize..to as usize)).unwrap_or(&[])
    }

    /// Bytes of heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let chain = size_of::<(Box<[u32]>, u32)>() * 2 + 16 + size_of::<u32>();
        self.words.capacity() * size_of::<u64>()
            + self.of_word.len() * size_of::<u32>()
            + self.begins.len() * chain
            + self.frames.len() * 2 * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotframe_frames::{Budget, Config, FunctionInfo};

    fn frame(name: &str, line: u32) -> FrameInfo<'_> {
        let function = FunctionInfo { name: name.as_bytes(), ..FunctionInfo::default() };
        FrameInfo { function, line, flags: 0 }
    }

    /// Over half of its share the physical frames alone are named, over all of it modules.
    #[test]
    fn names_have_a_share() {
        let native = |offset: u64| {
            u64::from(hotframe_abi::HF_FRAME_NATIVE) << hotframe_abi::HF_FRAME_KIND_SHIFT | offset
        };
        let n = 20_000;
        let budget = Budget::new(u64::MAX);
        let mut store = Store::new(&budget, Config::default());
        let limit = 256 << 10;
        let mut by = ByFunction::within((1..n).map(native).collect(), &budget, limit);
        for i in 1..n {
            let (inner, outer) = (format!("inlined {i}"), format!("function {i}"));
            let of_module = |name| {
                let mut frame = frame(name, i as u32);
                frame.function.module_path = b"/usr/lib/libbig.so";
                frame
            };
            assert!(by.put(&mut store, native(i), &[of_module(&inner), of_module(&outer)]));
        }
        assert!(budget.used_bytes() < limit + (16 << 10), "{}", budget.used_bytes());
        let names = |word| -> Vec<&str> {
            let chain = by.chain(by.number(word).expect("named")).iter();
            chain.map(|&number| store.function(store.frame(number).function).name).collect()
        };
        assert_eq!(names(native(1)), ["function 1", "inlined 1"]);
        assert_eq!(names(native(n - 1)), ["[libbig.so: no room for names]"]);
        assert!((1..n).any(|i| names(native(i)) == [format!("function {i}")]));
    }

    /// Lines make no difference, what is inlined does.
    #[test]
    fn places_of_a_function_are_one() {
        let native = |offset: u64| {
            u64::from(hotframe_abi::HF_FRAME_NATIVE) << hotframe_abi::HF_FRAME_KIND_SHIFT | offset
        };
        let mut words: Vec<u64> = (1..5).map(native).collect();
        words.sort_by_key(|&word| naming_order(word));
        let mut store = Store::new(&Budget::new(1 << 20), Config::default());
        let mut by = ByFunction::new(words);
        assert!(by.put(&mut store, native(1), &[frame("f", 10)]));
        assert!(by.put(&mut store, native(2), &[frame("f", 11)]));
        assert!(by.put(&mut store, native(3), &[frame("inlined", 3), frame("f", 12)]));
        assert!(by.put(&mut store, native(9), &[frame("of nobody", 1)]));
        assert_eq!(by.number(native(1)), by.number(native(2)));
        assert_ne!(by.number(native(1)), by.number(native(3)));
        assert!(by.is_named(native(3)) && !by.is_named(native(4)) && !by.is_named(native(9)));
        let names: Vec<&str> = by
            .chain(by.number(native(3)).expect("named"))
            .iter()
            .map(|&number| store.function(store.frame(number).function).name)
            .collect();
        assert_eq!(names, ["f", "inlined"]);
        assert!(by.chain(77).is_empty());
    }
}
