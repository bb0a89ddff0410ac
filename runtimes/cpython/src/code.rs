//! What the evaluation loop's machine code tells: where else it goes on, and where its frame is not
//! the thread's innermost.
//!
//! In: the code of `_PyEval_EvalFrameDefault` and its split parts. Out: targets of its jumps into
//! other code (compilers move what is rarely run elsewhere), and its [`gaps`].
//!
//! # How it works
//! The loop links its frame into the thread state after it has begun and unlinks it before it ends:
//! a store of a register at a known distance from the thread state. Between entry and the first
//! such store, and between the last one and the return, the thread state still, or again, shows the
//! caller's frame. From the entry the straight path is followed up to such a store (its branches
//! lead to errors, or what follows them does and returns); all paths behind a store count if they
//! reach a return without another store and without a computed jump, which would be the dispatch of
//! the next instruction.
//!
//! # Sources
//! Python/ceval.c `_PyEval_EvalFrameDefault` @ v3.6.15 to v3.14.0 (`tstate->frame = f`, `tstate->cframe
//! = &cframe`, `tstate->current_frame = frame`).
//!
//! # Not handled
//! arm64: no gaps are found.
//!
//! # Cost
//! Some 1 ms for 15,000 instructions.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// Longest code that is looked at: a debug build's loop is below 300 KB.
const CODE_MAX_BYTES: usize = 1 << 20;
/// Instructions between the last store and a return, over all paths.
const EXIT_MAX_INSTRUCTIONS: usize = 400;
/// Instructions between the entry and the first store.
const ENTRY_MAX_INSTRUCTIONS: usize = 200;

/// One instruction, as far as it matters.
#[derive(Debug, Clone, Copy)]
struct Step {
    start: u64,
    end: u64,
    flow: Flow,
    is_link: bool,
    call: Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    None,
    To(u64),
    Computed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Jump(u64),
    Branch(u64),
    Return,
    /// A computed jump, or what cannot be decoded.
    Anywhere,
}

/// Decoded code: ranges of ELF addresses.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by address.
    steps: Vec<Step>,
    has_dispatch: bool,
}

impl Listing {
    /// Adds code that begins at `start`. Frames are linked by a store at `link_offset` from the
    /// thread state.
    pub(crate) fn add(&mut self, start: u64, code: &[u8], link_offset: u64) {
        let code = code.get(..CODE_MAX_BYTES).unwrap_or(code);
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            let target = instruction.near_branch_target();
            self.has_dispatch |= instruction.flow_control() == FlowControl::IndirectBranch;
            let flow = match instruction.flow_control() {
                FlowControl::UnconditionalBranch => Flow::Jump(target),
                FlowControl::ConditionalBranch => Flow::Branch(target),
                FlowControl::Return => Flow::Return,
                FlowControl::IndirectBranch | FlowControl::Exception => Flow::Anywhere,
                _ => Flow::Next,
            };
            self.steps.push(Step {
                start: instruction.ip(),
                end: instruction.next_ip(),
                flow,
                is_link: is_store_at(&instruction, link_offset),
                call: match instruction.flow_control() {
                    FlowControl::Call => Call::To(target),
                    FlowControl::IndirectCall => Call::Computed,
                    _ => Call::None,
                },
            });
        }
        self.steps.sort_unstable_by_key(|step| step.start);
        self.steps.dedup_by_key(|step| step.start);
    }

    fn at(&self, address: u64) -> Option<usize> {
        self.steps.binary_search_by_key(&address, |step| step.start).ok()
    }

    /// Where jumps lead that is not part of the code.
    pub(crate) fn jumps_out(&self) -> BTreeSet<u64> {
        let targets = self.steps.iter().filter_map(|step| match step.flow {
            Flow::Jump(target) | Flow::Branch(target) => Some(target),
            _ => None,
        });
        targets.filter(|&target| self.at(target).is_none()).collect()
    }

    /// Does the code go from one instruction of Python's to the next? If not, each is a function, and
    /// the loop's own calls the first of them (`handlers.rs`).
    pub(crate) fn has_dispatch(&self) -> bool {
        self.has_dispatch
    }

    /// Calls behind which there is nothing but the return: where they are, and whom they call, if
    /// that is not computed.
    pub(crate) fn last_calls(&self) -> Vec<(Range<u64>, Option<u64>)> {
        let calls = self.steps.iter().filter(|step| {
            step.call != Call::None
                && self.at(step.end).is_some_and(|next| self.paths_to_return(next, true).is_some())
        });
        let target = |call| if let Call::To(target) = call { Some(target) } else { None };
        calls.map(|step| (step.start..step.end, target(step.call))).collect()
    }

    /// The code behind the entry's link store, up to the end of its straight path: while it runs,
    /// what was linked is still being filled in.
    pub(crate) fn limbo(&self, entry: u64) -> Option<Range<u64>> {
        let link = *self.path_to_link(entry)?.last()?;
        let rest = self.steps.get(link + 1..)?;
        let last = rest.iter().find(|step| step.flow != Flow::Next)?;
        Some(rest.first()?.start..last.start)
    }

    /// Code in which the loop's frame is not the thread's innermost, sorted. `entry` is where the
    /// loop begins.
    pub(crate) fn gaps(&self, entry: u64) -> Vec<Range<u64>> {
        let mut inside = self.exit_steps();
        inside.extend(self.path_to_link(entry).unwrap_or_default());
        self.ranges(&inside)
    }

    /// The same of code that is entered when the frame is linked.
    pub(crate) fn exits(&self) -> Vec<Range<u64>> {
        self.ranges(&self.exit_steps())
    }

    /// Code from which the frame is linked on, to one of `calls`, which enter what runs it.
    pub(crate) fn entries(&self, calls: &[Range<u64>]) -> Vec<Range<u64>> {
        let enters =
            |step: &Step| step.call != Call::None && calls.iter().any(|call| call.end == step.end);
        let mut inside = BTreeSet::new();
        for link in self.steps.iter().filter(|step| step.is_link) {
            // What follows, and where it goes on.
            let mut seen: BTreeMap<usize, [Option<usize>; 2]> = BTreeMap::new();
            let mut todo = VecDeque::from_iter(self.at(link.end));
            let mut leads = BTreeSet::new();
            while let Some(at) = todo.pop_front().filter(|_| seen.len() < ENTRY_MAX_INSTRUCTIONS) {
                let Some(step) = self.steps.get(at).filter(|step| !step.is_link) else { continue };
                if seen.contains_key(&at) {
                    continue;
                }
                let next = || self.at(step.end);
                let follow = match step.flow {
                    _ if enters(step) => {
                        leads.insert(at);
                        [None, None]
                    }
                    Flow::Next => [next(), None],
                    Flow::Jump(target) => [self.at(target), None],
                    Flow::Branch(target) => [next(), self.at(target)],
                    Flow::Return | Flow::Anywhere => [None, None],
                };
                seen.insert(at, follow);
                todo.extend(follow.into_iter().flatten());
            }
            // Errors lead elsewhere.
            loop {
                let before = leads.len();
                for (&at, follow) in seen.iter().rev() {
                    if follow.iter().flatten().any(|next| leads.contains(next)) {
                        leads.insert(at);
                    }
                }
                if leads.len() == before {
                    break;
                }
            }
            inside.extend(leads);
        }
        self.ranges(&inside)
    }

    fn exit_steps(&self) -> BTreeSet<usize> {
        let mut inside = BTreeSet::new();
        for (at, step) in self.steps.iter().enumerate() {
            if step.is_link
                && let Some(next) = self.at(step.end).filter(|&next| next == at + 1)
                && let Some(seen) = self.paths_to_return(next, false)
            {
                inside.extend(seen);
            }
        }
        inside
    }

    fn ranges(&self, inside: &BTreeSet<usize>) -> Vec<Range<u64>> {
        let mut gaps: Vec<Range<u64>> = Vec::new();
        for step in inside.iter().filter_map(|&at| self.steps.get(at)) {
            match gaps.last_mut().filter(|gap| gap.end == step.start) {
                Some(gap) => gap.end = step.end,
                None => gaps.push(step.start..step.end),
            }
        }
        gaps
    }

    /// The instructions from the entry to the first link store, which is one of them (it has not
    /// happened while its address is the pc). Branches on the way are taken for those to errors; where
    /// what follows one returns instead, as without optimisation, it is the other way round.
    fn path_to_link(&self, entry: u64) -> Option<Vec<usize>> {
        let mut path = Vec::new();
        // Branches that were passed: how long the path was then, and where they lead.
        let mut passed: Vec<(usize, u64)> = Vec::new();
        let mut at = self.at(entry)?;
        for _ in 0..ENTRY_MAX_INSTRUCTIONS {
            let step = self.steps.get(at)?;
            path.push(at);
            if step.is_link {
                return Some(path);
            }
            at = match step.flow {
                Flow::Next => self.at(step.end)?,
                Flow::Branch(target) => {
                    passed.push((path.len(), target));
                    self.at(step.end)?
                }
                Flow::Jump(target) => self.at(target)?,
                Flow::Return => {
                    let (len, target) = passed.pop()?;
                    path.truncate(len);
                    self.at(target)?
                }
                Flow::Anywhere => return None,
            };
        }
        None
    }

    /// All instructions on the paths from `from` to returns. `None` if a path leads to a link store,
    /// to a computed jump, or to a call, if there must be none.
    fn paths_to_return(&self, from: usize, without_calls: bool) -> Option<BTreeSet<usize>> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            if !seen.insert(at) {
                continue;
            }
            let step = self.steps.get(at)?;
            if step.is_link
                || without_calls && step.call != Call::None
                || seen.len() > EXIT_MAX_INSTRUCTIONS
            {
                return None;
            }
            let next = || self.at(step.end).filter(|&next| next == at + 1);
            match step.flow {
                Flow::Next => todo.push(next()?),
                // Out of the code: a tail call, which runs outside.
                Flow::Jump(target) => todo.extend(self.at(target)),
                Flow::Branch(target) => {
                    todo.push(next()?);
                    todo.extend(self.at(target));
                }
                Flow::Return => {}
                Flow::Anywhere => return None,
            }
        }
        Some(seen)
    }
}

/// `mov [register + offset], register`, of eight bytes.
fn is_store_at(instruction: &Instruction, offset: u64) -> bool {
    instruction.code() == Code::Mov_rm64_r64
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_displacement64() == offset
        && instruction.memory_index() == Register::None
        && !matches!(instruction.memory_base(), Register::None | Register::RSP | Register::RIP)
        && instruction.segment_prefix() == Register::None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop in small: entry, link, dispatch; an exit that unlinks and returns.
    #[test]
    fn gaps_of_a_small_loop() {
        let code: &[u8] = &[
            0x53, // 0: push rbx
            0x48, 0x85, 0xff, // 1: test rdi, rdi
            0x74, 0x0f, // 4: je 21 (error)
            0x48, 0x89, 0x7b, 0x18, // 6: mov [rbx+0x18], rdi: link
            0xff, 0xe0, // 10: jmp rax: dispatch
            0x48, 0x89, 0x43, 0x18, // 12: mov [rbx+0x18], rax: an item of something, goes on
            0xff, 0xe0, // 16: jmp rax
            0x90, 0x90, 0x90, // 18
            0x31, 0xc0, // 21: xor eax, eax
            0x5b, // 23: pop rbx
            0xc3, // 24: ret
            0x48, 0x89, 0x43, 0x18, // 25: mov [rbx+0x18], rax: unlink
            0x5b, // 29: pop rbx
            0xc3, // 30: ret
        ];
        let mut listing = Listing::default();
        listing.add(0x1000, code, 0x18);
        let gaps = listing.gaps(0x1000);
        assert_eq!(gaps, [0x1000..0x100a, 0x101d..0x101f]);
        assert!(listing.jumps_out().is_empty());
    }

    /// Code that is not optimised goes on to the error, and branches to the link store.
    #[test]
    fn an_error_on_the_straight_path() {
        let code: &[u8] = &[
            0x53, // 0: push rbx
            0x85, 0xc0, // 1: test eax, eax
            0x74, 0x04, // 3: je 9
            0x31, 0xc0, // 5: xor eax, eax
            0x5b, // 7: pop rbx
            0xc3, // 8: ret
            0x48, 0x8b, 0x07, // 9: mov rax, [rdi]
            0x48, 0x89, 0x50, 0x48, // 12: mov [rax+0x48], rdx: link
            0xff, 0xe0, // 16: jmp rax: dispatch
        ];
        let mut listing = Listing::default();
        listing.add(0x1000, code, 0x48);
        assert_eq!(listing.gaps(0x1000), [0x1000..0x1005, 0x1009..0x1010]);
        // Of a loop that dispatches without it nothing is known.
        let mut listing = Listing::default();
        listing.add(0x1000, &[0x74, 0x02, 0xff, 0xe0, 0x48, 0x89, 0x50, 0x48], 0x48);
        assert!(listing.gaps(0x1000).is_empty());
    }

    /// Of two stores before a return the last one counts; a loop that is never linked has no gaps.
    #[test]
    fn the_last_store_unlinks() {
        let code: &[u8] = &[
            0xff, 0xe0, // 0: jmp rax
            0x48, 0x89, 0x43, 0x38, // 2: mov [rbx+0x38], rax: the frame's position
            0x90, // 6
            0x49, 0x89, 0x44, 0x24, 0x38, // 7: mov [r12+0x38], rax: unlink
            0xe9, 0x00, 0x10, 0x00, 0x00, // 12: jmp elsewhere
        ];
        let mut listing = Listing::default();
        listing.add(0x1000, code, 0x38);
        assert_eq!(listing.gaps(0x1000), vec![0x100c..0x1011]);
        assert_eq!(listing.jumps_out().into_iter().collect::<Vec<_>>(), [0x2011]);
    }

    /// Between the store and the call the frame is linked; not where an error goes.
    #[test]
    fn entries_of_a_small_loop() {
        let code: &[u8] = &[
            0x53, // 0: push rbx
            0x48, 0x89, 0x53, 0x48, // 1: mov [rbx+0x48], rdx: link
            0x85, 0xc0, // 5: test eax, eax
            0x74, 0x12, // 7: je 27 (error)
            0x84, 0xc9, // 9: test cl, cl
            0x75, 0x07, // 11: jne 20
            0xe8, 0x00, 0x01, 0x00, 0x00, // 13: call
            0x5b, // 18: pop rbx
            0xc3, // 19: ret
            0xff, 0x14, 0xc6, // 20: call [rsi+rax*8]
            0xeb, 0xf9, // 23: jmp 18
            0x90, 0x90, // 25
            0xe8, 0x00, 0x02, 0x00, 0x00, // 27: call of something else
            0x5b, // 32: pop rbx
            0xc3, // 33: ret
        ];
        let mut listing = Listing::default();
        listing.add(0x1000, code, 0x48);
        let calls = [0x100d..0x1012, 0x1014..0x1017];
        assert_eq!(listing.entries(&calls), [0x1005..0x1012, 0x1014..0x1017]);
        assert!(listing.entries(&[]).is_empty());
    }

    /// Any bytes are followed to an end.
    #[test]
    fn any_bytes() {
        let mut word = 1u64;
        let bytes: Vec<u8> = (0..20_000)
            .map(|_| {
                word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (word >> 56) as u8
            })
            .collect();
        for offset in [0x18, 0x38, 0x48] {
            let mut listing = Listing::default();
            listing.add(u64::MAX - 10_000, &bytes, offset);
            let _ = listing.gaps(u64::MAX - 10_000);
            let _ = listing.jumps_out();
            let calls = listing.last_calls();
            let _ = listing.entries(&calls.into_iter().map(|(call, _)| call).collect::<Vec<_>>());
        }
    }
}
