//! Rows for x86-64 code that nothing describes and that a compiler was told to give frame pointers:
//! browsers leave their unwind tables out, and keep those.
//!
//! In: a stretch of code, from anywhere on. Out: the same rules that a compiler would have written,
//! as far as frame pointers say them.
//!
//! # How it works
//! Where functions begin cannot be told by alignment: loops are aligned, too. But each function
//! pushes rbp and copies rsp to it, and pops rbp before it goes; in between rbp + 16 is its CFA. So
//! the code is read once, instruction by instruction: a prologue has its three rules, what follows
//! `pop rbp` or `leave` is without a frame up to the return or the jump, and all else has one.
//! What begins behind such an end is a part of the function before, unless it looks like the start of
//! another: a prologue that comes at once or, before anything touches the stack, later; or none at
//! all, in a function without a call, rbp or a push, whose ways out are returns and jumps to functions.
//! What a function branches to before it has its frame has none either.
//!
//! # Cost
//! About 30 ns per instruction; each is decoded once.

use crate::cfi::{Arch, Cfa, Saved, Unwind};
use crate::synth::{padding_bytes, padding_end};
use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// mov rbp, rsp
const COPY: [u8; 3] = [0x48, 0x89, 0xe5];
const COPY_BY_LOAD: [u8; 3] = [0x48, 0x8b, 0xec];
/// Instructions between `push rbp` and that: compilers mix others in.
const COPY_WITHIN: usize = 8;
/// Signs that tell.
const SIGNS_MIN: usize = 12;
/// Instructions of a function without a frame, or before it.
const FRAMELESS_MAX: usize = 64;
/// Bytes within which such a function branches.
const FRAMELESS_MAX_BYTES: u64 = 4096;
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// push rbp; mov rbp, rsp?
pub(crate) fn is_prologue(code: &[u8]) -> bool {
    let code = code.strip_prefix(&ENDBR64).unwrap_or(code);
    code.strip_prefix(&[0x55])
        .is_some_and(|code| code.starts_with(&COPY) || code.starts_with(&COPY_BY_LOAD))
}

/// What says whether code keeps frame pointers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signs {
    /// Copies of rsp to rbp.
    prologues: usize,
    /// Returns behind a register's restoration.
    returns: usize,
    /// Behind that of rbp.
    framed_returns: usize,
}

impl Signs {
    /// Those of a stretch of code, counted by bytes.
    pub(crate) fn of(code: &[u8]) -> Signs {
        let count = |bytes: &[u8]| memchr::memmem::find_iter(code, bytes).count();
        let behind = |at: usize| at.checked_sub(1).and_then(|at| code.get(at)).copied();
        let mut signs =
            Signs { prologues: count(&COPY) + count(&COPY_BY_LOAD), ..Signs::default() };
        for at in memchr::memchr_iter(0xc3, code) {
            match behind(at) {
                // pop rbp; leave
                Some(0x5d | 0xc9) => {
                    (signs.returns, signs.framed_returns) =
                        (signs.returns + 1, signs.framed_returns + 1)
                }
                Some(0x58..=0x5f) => signs.returns += 1,
                _ => {}
            }
        }
        signs
    }

    /// Those of both.
    pub(crate) fn and(self, other: Signs) -> Signs {
        Signs {
            prologues: self.prologues + other.prologues,
            returns: self.returns + other.returns,
            framed_returns: self.framed_returns + other.framed_returns,
        }
    }

    /// Does most of the code keep frame pointers? Then rbp is what is restored last, nearly always,
    /// and was made a frame; other compilers save rbp as any register that they use. `None`: too few
    /// to tell.
    pub(crate) fn keeps_frame_pointers(self) -> Option<bool> {
        let are_framed = self.framed_returns * 10 >= self.returns * 9;
        (self.prologues + self.returns >= SIGNS_MIN)
            .then_some(are_framed && self.prologues * 2 >= self.framed_returns)
    }
}

/// The rules of a stretch of code at address `base`: (offset, rule), ascending, the first at 0.
/// `is_function(address)`: does a function with a frame begin there, outside of `code`?
pub(crate) fn rules(
    code: &[u8],
    base: u64,
    arch: Arch,
    is_function: &mut dyn FnMut(u64) -> bool,
) -> Vec<(u32, Unwind)> {
    let sp = |off| Cfa::Reg { reg: arch.sp, off };
    let (ra, saved) = (Saved::At(-8), Saved::At(-16));
    let bare = Unwind { cfa: sp(8), fp: Saved::Same, ra, kept: None };
    let pushed = Unwind { cfa: sp(16), fp: saved, ra, kept: None };
    let framed = Unwind { cfa: Cfa::Reg { reg: arch.fp, off: 16 }, ..pushed };
    let mut rules: Vec<(u32, Unwind)> = vec![(0, framed)];
    let mut set = |at: usize, rule: Unwind| {
        // Nothing is executed by the rule of an empty range.
        while rules.last().is_some_and(|&(last, _)| last as usize >= at && last > 0) {
            rules.pop();
        }
        match rules.last_mut() {
            Some((0, first)) if at == 0 => *first = rule,
            Some((_, last)) if *last == rule => {}
            _ => rules.push((at as u32, rule)),
        }
    };
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut prologues = memchr::memmem::find_iter(code, &[0x55, 0x48, 0x89, 0xe5]).peekable();
    // What is branched to from where there is no frame, behind the branch.
    let mut bare_at: BTreeSet<usize> = BTreeSet::new();
    let mut at = 0;
    while at < code.len() {
        // What was taken for an instruction cannot reach into a prologue.
        while prologues.next_if(|&prologue| prologue < at).is_some() {}
        let next_prologue = prologues.peek().copied().unwrap_or(code.len());
        let (instruction, next) = decode(&mut decoder, base, at);
        let reaches_in = (at + 1..next).contains(&next_prologue);
        if reaches_in || instruction.is_invalid() {
            at = if reaches_in { next_prologue } else { at + 1 };
            continue;
        }
        let is_frame_popped = instruction.mnemonic() == Mnemonic::Leave
            || (instruction.mnemonic() == Mnemonic::Pop
                && instruction.op0_register() == Register::RBP);
        if is_push_of_frame(&instruction)
            && let Some(copied) = copied_at(&mut decoder, base, next)
        {
            set(at, bare);
            set(next, pushed);
            set(copied, framed);
            at = copied;
            continue;
        }
        at = next;
        if is_frame_popped {
            set(at, bare);
        }
        if !ends_flow(&instruction) {
            continue;
        }
        loop {
            let behind = bare_at.split_off(&at);
            let is_bare = behind.contains(&at);
            bare_at = behind;
            set(at, if is_bare { bare } else { framed });
            at += padding_bytes(code.get(at..).unwrap_or_default());
            match frameless(&mut decoder, code, base, at, is_function, &mut bare_at) {
                Some(Frameless::Ends(end)) => {
                    set(at, bare);
                    at = end;
                }
                // The loop above goes on with it.
                Some(Frameless::UntilPush(push)) => {
                    set(at, bare);
                    at = push;
                    break;
                }
                None => break,
            }
        }
    }
    rules
}

fn is_push_of_frame(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Push && instruction.op0_register() == Register::RBP
}

/// Where rsp has been copied to rbp, if that comes soon behind `at` and nothing touches the stack before.
fn copied_at(decoder: &mut Decoder, base: u64, at: usize) -> Option<usize> {
    let mut next = at;
    for _ in 0..COPY_WITHIN {
        let (instruction, end) = decode(decoder, base, next);
        next = end;
        if instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_register() == Register::RBP
            && instruction.op1_register() == Register::RSP
        {
            return Some(next);
        }
        if instruction.is_invalid()
            || instruction.flow_control() != FlowControl::Next
            || touches_frame(&instruction)
        {
            return None;
        }
    }
    None
}

fn decode(decoder: &mut Decoder, base: u64, at: usize) -> (Instruction, usize) {
    if decoder.set_position(at).is_err() {
        return (Instruction::default(), at + 1);
    }
    decoder.set_ip(base.wrapping_add(at as u64));
    let instruction = decoder.decode();
    (instruction, decoder.position().max(at + 1))
}

fn ends_flow(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Exception
            | FlowControl::Interrupt
    ) || instruction.mnemonic() == Mnemonic::Hlt
}

/// How code that begins without a frame goes on.
enum Frameless {
    /// It never has one, and ends there.
    Ends(usize),
    /// It makes one, from there on.
    UntilPush(usize),
}

/// Whether a function begins at `at`, as one does that has no frame there; notes what it branches to
/// without one.
fn frameless(
    decoder: &mut Decoder,
    code: &[u8],
    base: u64,
    at: usize,
    is_function: &mut dyn FnMut(u64) -> bool,
    bare_at: &mut BTreeSet<usize>,
) -> Option<Frameless> {
    // Functions are aligned to 16, by the compilers that align loops, too.
    if padding_end(code, base, at) != Some(at) {
        return None;
    }
    let (mut next, mut furthest) = (at, at);
    let mut branches = Vec::new();
    for _ in 0..FRAMELESS_MAX {
        let (instruction, end) = decode(decoder, base, next);
        if instruction.is_invalid() || end > code.len() {
            return None;
        }
        if is_push_of_frame(&instruction) && copied_at(decoder, base, end).is_some() {
            bare_at.extend(branches.into_iter().filter(|&branch| branch > next));
            return Some(Frameless::UntilPush(next));
        }
        if touches_frame(&instruction) {
            return None;
        }
        next = end;
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::Return => {}
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target();
                let offset = target.wrapping_sub(base);
                let within = code.get(usize::try_from(offset).unwrap_or(usize::MAX)..);
                if within.map_or_else(|| is_function(target), is_prologue) {
                    // A call in another's place.
                } else if offset >= at as u64 && offset - (at as u64) < FRAMELESS_MAX_BYTES {
                    furthest = furthest.max(offset as usize);
                    branches.push(offset as usize);
                } else {
                    return None;
                }
            }
            // To what an object's table says; not to what a computed one does.
            FlowControl::IndirectBranch => {
                if instruction.op0_kind() != OpKind::Memory
                    || instruction.memory_index() != Register::None
                {
                    return None;
                }
            }
            _ => return None,
        }
        if ends_flow(&instruction) && furthest < next {
            return Some(Frameless::Ends(next));
        }
    }
    None
}

/// Does it use rbp, or move rsp?
fn touches_frame(instruction: &Instruction) -> bool {
    let is_frame =
        |register: Register| matches!(register.full_register(), Register::RBP | Register::RSP);
    let operands = (0..instruction.op_count()).any(|n| {
        instruction.op_kind(n) == OpKind::Register && is_frame(instruction.op_register(n))
    });
    operands
        || instruction.memory_base().full_register() == Register::RBP
        || instruction.memory_index().full_register() == Register::RBP
        || (instruction.is_stack_instruction() && instruction.flow_control() == FlowControl::Next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Machine;

    const BASE: u64 = 0x1000;

    /// (offset, register, offset of the CFA)
    fn rules(code: &[u8], functions: &[u64]) -> Vec<(u32, u8, i32)> {
        let arch = Arch::of(Machine::X86_64).expect("known");
        let is_function = &mut |address| functions.contains(&address);
        let each = super::rules(code, BASE, arch, is_function).into_iter();
        let each = each.map(|(at, unwind)| match unwind.cfa {
            Cfa::Reg { reg, off } => (at, reg, off),
            other => panic!("{other:?}"),
        });
        each.collect()
    }

    /// A loop that is aligned behind a jump is part of its function; what returns early has no frame
    /// there, and its next block has.
    #[test]
    fn an_aligned_loop_is_no_function() {
        let mut code = vec![
            0x55, 0x48, 0x89, 0xe5, // push rbp; mov rbp, rsp
            0x48, 0x89, 0x7d, 0xf8, // mov [rbp-8], rdi
            0xeb, 0x06, // jmp 1f
            0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00, // nop
            0x48, 0x83, 0x7d, 0xf8, 0x00, // 1: cmp qword [rbp-8], 0
            0x74, 0xf9, // je 1b
            0x5d, 0xc3, // pop rbp; ret
            0xe8, 0, 0, 0, 0, // call next
        ];
        code.extend([0x0f, 0x0b]); // ud2
        let expect = [(0, 7, 8), (1, 7, 16), (4, 6, 16), (24, 7, 8), (25, 6, 16)];
        assert_eq!(rules(&code, &[]), expect);
    }

    /// Getters, and thunks that jump to a function, have no frame; what jumps back into the middle
    /// of another has its frame.
    #[test]
    fn small_functions_without_a_frame() {
        let end = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];
        let getter = [0x48, 0x8b, 0x47, 0x08, 0xc3]; // mov rax, [rdi+8]; ret
        let mut code = vec![0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d];
        code.extend(end);
        code.extend(getter);
        code.resize(32, 0xcc);
        // sub rdi, 16; jmp 0x2000
        code.extend([0x48, 0x83, 0xef, 0x10, 0xe9, 0xd7, 0x0f, 0, 0]);
        code.resize(48, 0xcc);
        let known = rules(&code, &[0x2000]);
        assert_eq!(
            known,
            [
                (0, 7, 8),
                (1, 7, 16),
                (4, 6, 16),
                (6, 7, 8),
                (7, 6, 16),
                (16, 7, 8),
                (21, 6, 16),
                (32, 7, 8),
                (41, 6, 16)
            ]
        );
        assert_eq!(rules(&code, &[])[..7], known[..7]);
        assert_eq!(rules(&code, &[]).len(), 7);
    }

    /// A compiler that mixes the prologue with other instructions, and makes it late; the way out
    /// that needs no frame has none, wherever it stands.
    #[test]
    fn a_prologue_that_comes_late() {
        let mut code = vec![0xcc; 16];
        code[0] = 0xc3; // ret
        code.extend([
            0x85, 0xff, // test edi, edi
            0x74, 0x0d, // je 1f
            0x55, // push rbp
            0xbf, 1, 0, 0, 0, // mov edi, 1
            0x48, 0x89, 0xe5, // mov rbp, rsp
            0xff, 0xd0, // call rax
            0x5d, // pop rbp
            0xc3, // ret
            0x31, 0xc0, 0xc3, // 1: xor eax, eax; ret
            0x90,
        ]);
        let expect = [(0, 6, 16), (16, 7, 8), (21, 7, 16), (29, 6, 16), (32, 7, 8), (36, 6, 16)];
        assert_eq!(rules(&code, &[]), expect);
    }

    /// Instructions that are read from their middle on do not hide a prologue.
    #[test]
    fn a_stretch_from_anywhere_on() {
        // …; ret, as the end of a constant; push rbp; mov rbp, rsp; pop rbp; ret
        let code = [0x48, 0xb8, 1, 2, 0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3];
        assert_eq!(
            rules(&code, &[]),
            [(0, 6, 16), (4, 7, 8), (5, 7, 16), (8, 6, 16), (9, 7, 8), (10, 6, 16)]
        );
    }

    /// Frame pointers are kept where frames are made as often as rbp is restored.
    #[test]
    fn which_code_keeps_frame_pointers() {
        let keeps = |code: &[u8]| Signs::of(code).keeps_frame_pointers();
        let framed = [0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d, 0xc3].repeat(10);
        assert_eq!(keeps(&framed), Some(true));
        assert_eq!(keeps(&framed[..21]), None, "too few to tell");
        let saved = [0x55, 0x53, 0x90, 0x5b, 0x5d, 0xc3].repeat(30);
        assert_eq!(keeps(&saved), Some(false));
        assert_eq!(keeps(&[framed.clone(), saved.clone()].concat()), Some(false));
        let both = Signs::of(&framed).and(Signs::of(&saved));
        assert_eq!(both.keeps_frame_pointers(), Some(false));
    }

    /// Whatever the bytes are, rules are ascending.
    #[test]
    fn any_bytes_end() {
        let mut seed = 7u64;
        for len in 0..600 {
            let code: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if seed >> 60 == 0 { 0x5d } else { (seed >> 56) as u8 }
                })
                .collect();
            let found = rules(&code, &[]);
            assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "{found:?}");
        }
    }
}
