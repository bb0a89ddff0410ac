//! A walk that lacked a table is finished here, by the same C.
//!
//! In: the registers and the piece of stack that came with the sample (`slice.rs` reads them). Out: the
//! sample with the frames from there on, or the reason why it is cut. Each time the walk misses a
//! table, that is loaded (`publish.rs`), which also serves the kernel half from then on, and the walk goes on.
//!
//! # Cost
//! Microseconds, and about 0.2 ms for each 64 KiB of text whose rows were missing, once.

use super::Session;
use super::sample::hash_of;
use super::slice::{Beyond, SliceReader, Stack};
use crate::processes;
use crate::recording::Sample;
use crate::walk::{Stop, Walk};
use hotframe_abi as abi;

/// Tables loaded for one walk at most: each is 64 KiB of text or a reading of maps.
const MAX_LOADS_PER_WALK: usize = 512;

impl Session {
    pub(super) fn finish_slice(
        &mut self,
        head: &abi::hf_sample,
        words: &[u64],
        slice: &abi::hf_slice,
        stack: &Stack,
        now_ns: u64,
    ) {
        let pid = head.tgid;
        let mut walk = Walk::new(
            cfg!(target_arch = "aarch64"),
            &slice.regs,
            slice.regs_valid != 0,
            slice.pc_is_return != 0,
            words,
            usize::from(head.n_kernel),
        )
        .bare(slice.is_bare != 0)
        .left_at(slice.left_at)
        .after_heuristic(u32::from(head.flags) & abi::HF_SAMPLE_HEURISTIC != 0)
        .after_loss((head.lost_runtime, head.lost_why))
        .with_runtimes(slice.tp, &slice.runtime_state)
        .late();
        self.counts.from_slice += 1;
        tracing::trace!(
            pid,
            missing = abi::MISSING_NAMES[usize::from(slice.missing) % abi::MISSING_NAMES.len()],
            pc = format_args!("{:#x}", slice.missing_pc),
            age_ns = now_ns.saturating_sub(head.time_ns),
            stack_bytes = stack.len(),
            space = head.space_id,
            blob = head.blob_id,
            known = self.processes.get(pid).map_or(0, |process| process.space_id),
            is_dirty = self.processes.get(pid).map(|process| process.is_dirty),
            "a slice"
        );
        let cut = self.walk_on(pid, &mut walk, stack, slice.missing_pc, now_ns);
        self.count_lost(walk.lost(), head.weight);
        let heuristic = walk.is_heuristic();
        if cut.0 != abi::HF_CUT_NONE {
            tracing::debug!(
                pid,
                reason = abi::CUT_NAMES[cut.0 as usize],
                pc = format_args!("{:#x}", cut.1),
                sp = format_args!("{:#x}", slice.regs[abi::HF_X86_RSP as usize]),
                missing = abi::MISSING_NAMES[usize::from(slice.missing) % abi::MISSING_NAMES.len()],
                stack_bytes = stack.len(),
                mappings = self.processes.get(pid).map(|process| process.mappings.len()),
                "a walk ended here"
            );
        }
        let mut words = walk.words().to_vec();
        let n_kernel = usize::from(head.n_kernel);
        if u32::from(head.flags) & abi::HF_SAMPLE_IN_EXEC != 0
            && cut.0 != abi::HF_CUT_NONE
            && words.len() <= n_kernel + 1
        {
            // The new image has no frame yet and the old one none any more: the kernel's are all.
            words.truncate(n_kernel);
            let hash = hash_of(abi::HF_SAMPLE_IN_EXEC.into(), &words);
            let cut = abi::HF_CUT_NONE as u8;
            self.finish(Sample { head, words: &words, hash, cut, cut_pc: 0 }, false);
            return;
        }
        // The kernel half hashes alike, so that the same stack is one, however it was walked. A
        // reason that was found here is mixed in.
        let hash =
            walk.stack_hash() ^ if cut.0 == abi::HF_CUT_NONE { 0 } else { u64::from(cut.0) << 56 };
        self.finish(
            Sample { head, words: &words, hash, cut: cut.0 as u8, cut_pc: cut.1 },
            heuristic,
        );
    }

    /// Goes on with a walk from where it lacked a table, until it ends or what it lacks cannot be had: why it
    /// is cut (`HF_CUT_*`), and at which pc.
    fn walk_on(
        &mut self,
        pid: u32,
        walk: &mut Walk,
        stack: &Stack,
        missing_pc: u64,
        now_ns: u64,
    ) -> (u32, u64) {
        let mut cut = (abi::HF_CUT_BUDGET, missing_pc);
        if self.processes.get(pid).is_none_or(|process| !process.is_complete) {
            self.processes.refresh(pid, now_ns, &mut self.files);
        }
        let mut beyond = Beyond::of(pid);
        for _ in 0..MAX_LOADS_PER_WALK {
            if !self.publish(pid, now_ns) {
                let process = self.processes.get(pid);
                if process.is_none_or(|process| process.mappings.is_empty()) {
                    let has_ended = process.is_some_and(|process| process.exited_ns.is_some());
                    cut.0 = if has_ended || !processes::may_go_on(pid) {
                        abi::HF_CUT_PROCESS_GONE
                    } else {
                        abi::HF_CUT_UNKNOWN_MAPPING
                    };
                }
                break;
            }
            let Some(process) = self.processes.get(pid) else {
                break;
            };
            let Some(blob) = process.blob else { break };
            let mappings = process.mappings.clone();
            let mut reader =
                SliceReader { stack, mappings: &mappings, files: &self.files, beyond: &mut beyond };
            match walk.run(self.tables.memory(), blob.off, &mut reader) {
                Stop::Ended { cut: reason, cut_pc } => {
                    cut = (u32::from(reason), cut_pc);
                    break;
                }
                Stop::Missing { what, pc } if u32::from(what) == abi::HF_MISSING_ROWS => {
                    if !self.load_rows(pid, pc) {
                        cut = (abi::HF_CUT_BUDGET, pc);
                        break;
                    }
                }
                Stop::Missing { what, pc } => {
                    let cause = if u32::from(what) == abi::HF_MISSING_MAPPING {
                        abi::HF_CUT_UNKNOWN_MAPPING
                    } else {
                        abi::HF_CUT_PROCESS_GONE
                    };
                    cut = (cause, pc);
                    if !self.processes.refresh(pid, now_ns, &mut self.files) {
                        break;
                    }
                }
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::Piece;
    use super::*;
    use crate::tables::{OwnMemory, Tables};
    use zerocopy::FromZeros as _;

    /// A stack that cannot be finished says why: its process ended, or shows no mappings, or there is no room
    /// for them.
    #[test]
    fn why_a_stack_is_not_finished() {
        let cut = |pid: u32, is_full: bool| {
            let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
            while is_full && tables.add_blob(&[abi::hf_mapping::new_zeroed()], 0).is_some() {}
            let mut session = Session::new(tables, None);
            let mut slice = abi::hf_slice::new_zeroed();
            (slice.sample.tgid, slice.sample.weight) = (pid, 1);
            let stack = Stack { inner: Piece::of(0, &[]), outer: None };
            let head = slice.sample;
            session.finish_slice(&head, &[], &slice, &stack, 1);
            let reason = session.counts.cut.iter().position(|&n| n > 0).expect("it is cut");
            reason as u32
        };
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        while processes::goes_on(child.id()) {
            std::thread::yield_now();
        }
        // It has no mappings any more, and is there until it is waited for.
        assert_eq!(cut(child.id(), false), abi::HF_CUT_PROCESS_GONE);
        child.wait().expect("it ends");
        assert_eq!(cut(child.id(), false), abi::HF_CUT_PROCESS_GONE);
        assert_eq!(cut(std::process::id(), true), abi::HF_CUT_BUDGET);
    }
}
