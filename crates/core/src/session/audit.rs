//! Walks that an independent unwinder judges.
//!
//! In: a finished walk with the registers and the stack it began from. Out: whether the other one finds
//! the same frames; a stack in which it differs counts as cut.

use super::Session;
use super::slice::Stack;
use crate::files::Files;
use crate::processes::Mapping;
use hotframe_abi as abi;

/// A walk to be judged by an independent unwinder.
pub struct AuditCase<'a> {
    /// Registers at the tick.
    pub regs: &'a [u64; abi::HF_NREGS as usize],
    /// Address and bytes of the stack.
    pub stack: (u64, &'a [u8]),
    /// User frames as walked, leaf first.
    pub words: &'a [u64],
    /// The process's executable mappings.
    pub mappings: &'a [Mapping],
    /// All files.
    pub files: &'a Files,
    /// The stack was cut, and why.
    pub cut: u8,
    /// A frame was found otherwise than by a table.
    pub is_heuristic: bool,
}

/// What an independent unwinder says of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The same.
    Agrees,
    /// Something else.
    Differs,
    /// Nothing, and why.
    NotJudged(&'static str),
}

/// Judges walks: `None` once it judged all that it was to.
pub type Auditor = Box<dyn FnMut(&AuditCase<'_>) -> Option<Judgement>>;

impl Session {
    pub(super) fn audit(
        &mut self,
        head: &abi::hf_sample,
        words: &[u64],
        slice: &abi::hf_slice,
        stack: &Stack,
    ) -> Option<Judgement> {
        let process = self.processes.get(head.tgid)?;
        let case = AuditCase {
            regs: &slice.regs,
            stack: (stack.inner.addr, stack.inner.unbroken()),
            words: words.get(usize::from(head.n_kernel)..)?,
            mappings: &process.mappings,
            files: &self.files,
            cut: head.cut,
            is_heuristic: u32::from(head.flags) & abi::HF_SAMPLE_HEURISTIC != 0,
        };
        let verdict = self.auditor.as_mut()?(&case)?;
        match verdict {
            Judgement::NotJudged(why) => *self.not_judged.entry(why).or_default() += 1,
            Judgement::Agrees | Judgement::Differs => {
                self.counts.audited += 1;
                self.counts.agreed += u64::from(verdict == Judgement::Agrees);
            }
        }
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sideband::{self, Event};
    use crate::tables::{OwnMemory, Tables};
    use std::collections::BTreeMap;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    /// A stack from which the independent unwinder differs counts as cut in every figure: the books', its
    /// process's, and the profile, where it is another stack than the same one whole.
    #[test]
    fn a_stack_that_differs_is_cut() {
        let word = u64::from(abi::HF_FRAME_USER_PC) << abi::HF_FRAME_KIND_SHIFT | 9;
        let verdicts = [
            Judgement::Agrees,
            Judgement::Differs,
            Judgement::NotJudged("a test"),
            Judgement::Differs,
        ];
        let mut rest = verdicts.into_iter();
        let auditor: Auditor = Box::new(move |_| rest.next());
        let tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
        let mut session = Session::new(tables, Some(auditor));
        let event = Event::Comm { pid: 7, tid: 7, exec: true, comm: "it".into() };
        session.event(sideband::Record { time_ns: 1, event });
        for time_ns in 10..10 + verdicts.len() as u64 {
            let mut head = abi::hf_sample::new_zeroed();
            head.type_ = abi::HF_RECORD_SAMPLE as u8;
            (head.tgid, head.tid, head.weight, head.time_ns) = (7, 7, 1, time_ns);
            (head.stack_hash, head.n_words, head.flags) = (5, 1, abi::HF_SAMPLE_AUDIT as u8);
            let mut stack = abi::hf_stack::new_zeroed();
            (stack.type_, stack.seq) = (abi::HF_RECORD_STACK as u8, time_ns);
            let mut slice = abi::hf_slice::new_zeroed();
            (slice.sample, slice.stack_seq) = (head, time_ns);
            slice.sample.type_ = abi::HF_RECORD_SLICE as u8;
            session.record(stack.as_bytes());
            session.record(slice.as_bytes());
            session.record(&[head.as_bytes(), word.as_bytes()].concat());
        }
        session.end_pass(100, None);
        let bad = abi::HF_CUT_BAD_UNWIND_INFO as usize;
        let counts = &session.counts;
        assert_eq!((counts.audited, counts.agreed), (3, 1));
        assert_eq!((counts.samples, counts.whole, counts.cut[bad]), (4, 2, 2));
        assert_eq!(session.not_judged, BTreeMap::from([("a test", 1)]));
        let process = &session.recording.processes[0];
        assert_eq!((process.samples, process.whole, process.cut[bad]), (4, 2, 2));
        let stacks = &session.recording.samples.stack;
        assert_eq!((stacks[0], stacks[1]), (stacks[2], stacks[3]));
        assert_ne!(stacks[0], stacks[1]);
    }
}
