//! A sample, once it is its turn: which frames of it are believed, and where it is counted.
//!
//! In: a sample's head and words, leaf first, and its registers and stack where they came along.
//! Out: one sample in the [`Recording`](crate::recording::Recording), whole or cut with a reason,
//! and the books. A walk that the kernel half could not finish is finished first (`finishing.rs`);
//! one that is audited is judged (`audit.rs`).
//!
//! # Cost
//! A known stack: one look-up, and a glance at each of its words.

use super::Session;
use super::audit::Judgement;
use super::taken::TakenSample;
use crate::processes::NO_CGROUP;
use crate::recording::{Exe, Incarnation, Sample};
use crate::registered::Verdict;
use hotframe_abi as abi;
use std::collections::BTreeMap;

impl Session {
    pub(super) fn sample(&mut self, taken: &TakenSample, words: &[u64], now_ns: u64) {
        let TakenSample { head, slice, .. } = taken;
        let flags = u32::from(head.flags);
        self.learn_space(head);
        // What is finished late lacks frames whatever is known of the process: it says nothing.
        if head.lost_runtime != 0 {
            self.runtimes.lost(head.tgid);
        }
        if flags & abi::HF_SAMPLE_SLICED != 0 {
            match slice.as_deref() {
                Some((slice, stack)) => self.finish_slice(head, words, slice, stack, now_ns),
                None => {
                    let hash = head.stack_hash ^ u64::from(abi::HF_CUT_BUDGET) << 56;
                    let cut = abi::HF_CUT_BUDGET as u8;
                    self.finish(Sample { head, words, hash, cut, cut_pc: 0 }, false);
                }
            }
            return;
        }
        let mut cut = head.cut;
        let process = self.processes.get(head.tgid);
        if head.blob_id != 0
            && process.is_some_and(|process| head.blob_id < process.stale_before_blob)
        {
            cut = abi::HF_CUT_STALE_MAP as u8;
        }
        if u32::from(cut) == abi::HF_CUT_BUDGET && head.cut_pc != 0 {
            // No slice could be sent: load what was missing, so that the next walk needs none.
            if self.publish(head.tgid, now_ns) {
                self.load_rows(head.tgid, head.cut_pc);
            }
        }
        if flags & abi::HF_SAMPLE_AUDIT != 0
            && let Some((slice, stack)) = slice.as_deref()
            && self.audit(head, words, slice, stack) == Some(Judgement::Differs)
        {
            cut = abi::HF_CUT_BAD_UNWIND_INFO as u8;
        }
        let heuristic = flags & abi::HF_SAMPLE_HEURISTIC != 0;
        self.count_lost((head.lost_runtime, head.lost_why), head.weight);
        let hash = if cut == head.cut { head.stack_hash } else { head.stack_hash ^ u64::from(cut) };
        self.finish(Sample { head, words, hash, cut, cut_pc: head.cut_pc }, heuristic);
    }

    /// A sample says in which address space its process runs.
    fn learn_space(&mut self, head: &abi::hf_sample) {
        self.runtimes.saw(Incarnation {
            pid: head.tgid,
            exec_id: head.exec_id,
            start_ns: head.start_ns,
        });
        if head.space_id == 0 {
            return;
        }
        let process = self.processes.entry(head.tgid);
        if process.space_id != head.space_id {
            process.space_id = head.space_id;
            process.is_dirty = true;
        }
    }

    /// What of a stack cannot be believed, since the image that a frame lies in did not stand when it was
    /// taken: the words without it, and why the stack is cut. `None`: nothing.
    fn disbelieved(&mut self, head: &abi::hf_sample, words: &[u64]) -> Option<(Vec<u64>, bool)> {
        if !self.registered.has_images() {
            return None;
        }
        let mut changed: Option<(Vec<u64>, bool)> = None;
        let mut at = usize::from(head.n_kernel);
        while let Some(&word) = words.get(at) {
            let word = abi::FrameWord(word);
            let here = at;
            at += 1 + if word.kind() == abi::HF_FRAME_DYNAMIC { word.n_data_words() } else { 0 };
            if word.kind() != abi::HF_FRAME_NATIVE || !self.registered.is_image(word.file_id()) {
                continue;
            }
            // A fork has its parent's code, and nothing was read of it yet.
            if !self.registered.knows(head.tgid) {
                self.registered.want(head.tgid);
                self.look_for_registered();
            }
            let verdict = self.registered.verdict(head.tgid, word.file_id(), head.time_ns);
            if verdict == Verdict::Stood {
                continue;
            }
            self.registered.count(head.tgid, verdict, head.weight);
            let (kept, is_cut) = changed.get_or_insert_with(|| (words.to_vec(), false));
            let elf = self.files.get(word.file_id()).and_then(|file| file.elf());
            let pc = match elf {
                Some(elf) => elf.image_base() + u64::from(word.image_offset()),
                // Freed before its samples were seen: of its address nothing is known but a part.
                None => u64::from(word.image_offset()),
            };
            let own = u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT
                | u64::from(word.flags()) << abi::HF_FRAME_FLAGS_SHIFT
                | pc & abi::HF_FRAME_PAYLOAD_MASK;
            if let Some(slot) = kept.get_mut(here) {
                *slot = own;
            }
            if verdict == Verdict::Changed {
                // Its caller was found by rows that are another's.
                kept.truncate(here + 1);
                *is_cut = true;
                break;
            }
        }
        changed
    }

    /// The end of every sample: what its frames lie in is noted, and it is counted and stored.
    pub(super) fn finish(&mut self, sample: Sample<'_>, heuristic: bool) {
        let Sample { head, words, hash, cut, cut_pc } = sample;
        let disbelieved = self.disbelieved(head, words);
        let (words, hash, cut) = match &disbelieved {
            None => (words, hash, cut),
            Some((kept, is_cut)) => {
                let cut = if *is_cut { abi::HF_CUT_STALE_MAP as u8 } else { cut };
                (kept.as_slice(), hash_of(u64::from(cut) << 56 | 1, kept), cut)
            }
        };
        let weight = u64::from(head.weight);
        self.note_code(head, words);
        let (processes, files) = (&self.processes, &self.files);
        // Without room the sample stays, and says why it has no stack.
        let cut = self.recording.add(&Sample { head, words, hash, cut, cut_pc }, || {
            let process = processes.get(head.tgid);
            let executed = process.map_or(0, |process| process.image_file);
            let first = || process?.mappings.iter().map(|mapping| mapping.file).find(|&id| id != 0);
            let file = if executed != 0 { Some(executed) } else { first() };
            let path = file.and_then(|id| files.get(id)).map(|file| file.path.clone());
            let is_certain = executed != 0 && path.is_some();
            let cgroup = process.map_or(NO_CGROUP, |process| process.cgroup);
            let is_forked = process.is_some_and(|process| process.parent != 0);
            let ancestor = processes.ancestor(head.tgid);
            Exe { path: path.unwrap_or_default(), is_certain, cgroup, is_forked, ancestor }
        });
        if u32::from(cut) != abi::HF_CUT_NONE {
            tracing::trace!(
                pid = head.tgid,
                reason = abi::CUT_NAMES[usize::from(cut) % abi::CUT_NAMES.len()],
                pc = format_args!("{cut_pc:#x}"),
                words = format_args!("{words:x?}"),
                "a cut stack"
            );
        }
        self.counts.samples += weight;
        if u32::from(cut) == abi::HF_CUT_NONE {
            self.counts.whole += weight;
            if words.len() > usize::from(head.n_kernel) && self.counts.first_user_stack_ns == 0 {
                self.counts.first_user_stack_ns = head.time_ns;
            }
        } else {
            self.counts.cut[usize::from(cut)] += weight;
        }
        if heuristic {
            self.counts.heuristic += weight;
        }
    }

    /// Notes what code a stack's frames lie in: blocks of rows that are in use while room is short, files whose
    /// names will be wanted, and code in no file, for which registered images are looked for.
    fn note_code(&mut self, head: &abi::hf_sample, words: &[u64]) {
        let pressed = self.tables.is_pressed();
        for frame in hotframe_frames::frames(words) {
            match frame {
                hotframe_frames::Raw::Own(word) => {
                    self.registered.want(head.tgid);
                    self.jit.saw(head, abi::FrameWord(word), self.now_ns);
                }
                hotframe_frames::Raw::Static(word) => {
                    let word = abi::FrameWord(word);
                    if word.kind() != abi::HF_FRAME_NATIVE {
                        continue;
                    }
                    if pressed {
                        let block = word.image_offset() >> abi::HF_BLOCK_SHIFT;
                        self.used.insert((word.file_id(), block));
                    }
                    if let Some(file) = self.files.get_mut(word.file_id()) {
                        file.is_sampled = true;
                    }
                }
                hotframe_frames::Raw::Dynamic(_) => {}
            }
        }
    }

    /// Counts stacks that lack frames of a runtime, by that and the reason.
    pub(super) fn count_lost(&mut self, lost: (u8, u8), weight: u32) {
        if lost.0 != 0 {
            *self.lost.entry(lost).or_default() += u64::from(weight);
        }
    }

    /// How many stacks lack frames of a runtime, by its name and the reason: see
    /// [`hotframe_runtime::Runtime::lost_names`].
    pub fn without_runtime(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut by_name = BTreeMap::<_, BTreeMap<_, u64>>::new();
        for (&(runtime, why), weight) in &self.lost {
            let (name, reasons) = self.runtimes.losses_of(runtime.into());
            let reason = reasons.get(usize::from(why)).copied().unwrap_or("unknown");
            *by_name.entry(name).or_default().entry(reason).or_default() += weight;
        }
        by_name
    }
}

/// A stack's hash where the kernel half's is another stack's: words were left out or replaced here.
pub(super) fn hash_of(seed: u64, words: &[u64]) -> u64 {
    let mix =
        |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    words.iter().fold(seed, mix)
}
