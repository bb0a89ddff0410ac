//! From the columns of call frame information to the rules of the ABI.
//!
//! In: [`Unwind`]. Out: a [`Rule`], what a row holds beside its pc; rules that do not fit a row go
//! to the block's [`SideRules`].
//!
//! # How it works
//! Nearly all rules are "CFA = sp or fp plus a constant, return address just below the CFA (x86-64)
//! or beside the frame pointer (arm64)". The rest becomes a side rule, and what a side rule cannot
//! say is bad. An unusual place for the frame pointer alone costs only the frame pointer.
//!
//! # Sources
//! `kernel/include/hf/abi.h` (`hf_row`, `hf_rule`); `struct sigcontext_64` in
//! arch/x86/include/uapi/asm/sigcontext.h and `struct rt_sigframe` in arch/arm64/kernel/signal.c
//! @ Linux 6.12.

use std::collections::HashMap;

use hotframe_abi as abi;

use crate::cfi::{Arch, Cfa, Saved, Unwind};
use crate::elf::Machine;
use crate::expr::Expr;
use crate::gopclntab::Kind;
use crate::rows::growth::Growth;

/// A row without its pc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `enum hf_rule_kind` with flags.
    pub(crate) kind: u8,
    pub(crate) fp: i8,
    pub(crate) cfa: i32,
}

/// A rule kind as rows hold it.
const fn kind(kind: abi::hf_rule_kind) -> u8 {
    kind as u8
}

const NONE: u8 = kind(abi::HF_RULE_NONE);
const SP: u8 = kind(abi::HF_RULE_SP);
const FP: u8 = kind(abi::HF_RULE_FP);
const END_KIND: u8 = kind(abi::HF_RULE_END);
const SIDE: u8 = kind(abi::HF_RULE_SIDE);
const SIGNAL: u8 = kind(abi::HF_RULE_SIGNAL);
const PLT: u8 = kind(abi::HF_RULE_PLT);
const BAD_KIND: u8 = kind(abi::HF_RULE_BAD);
const CALLS_BACK: u8 = kind(abi::HF_RULE_CALLS_BACK);
const CALLS_OUT: u8 = kind(abi::HF_RULE_CALLS_OUT);

const HEURISTIC: u8 = abi::HF_RULE_HEURISTIC as u8;
const NEW_STACK: u8 = abi::HF_RULE_NEW_STACK as u8;
const RA_IN_LR: u8 = abi::HF_RULE_RA_IN_LR as u8;
const FP_UNDEFINED: i8 = abi::HF_FP_UNDEFINED as i8;

/// `sp` at the sigreturn trampoline to `struct sigcontext`: x86-64 `offsetof(struct ucontext,
/// uc_mcontext)`; arm64 `sizeof(siginfo_t)` more, and the context is aligned to 16.
const X86_SIGCONTEXT: i32 = 40;
const ARM64_SIGCONTEXT: i32 = 304;
/// Offsets in x86-64's `struct sigcontext`.
const X86_SC_RBP: i32 = 80;
const X86_SC_RSP: i32 = 120;
const X86_SC_RIP: i32 = 128;

impl Rule {
    /// Nothing is known.
    pub(crate) const NONE: Self = Self { kind: NONE, fp: 0, cfa: 0 };
    /// Nothing is known but that a function starts here.
    pub(crate) const NONE_FUNCTION: Self = Self { kind: NONE, fp: 0, cfa: 1 };
    /// The stack ends here.
    pub(crate) const END: Self = Self { kind: END_KIND, fp: 0, cfa: 0 };
    /// The same at a pc that a stack was made to return to: no call stands before it.
    pub(crate) const END_WITHOUT_CALL: Self = Self { kind: END_KIND, fp: 0, cfa: 1 };
    /// What is known cannot be used.
    pub(crate) const BAD: Self = Self { kind: BAD_KIND, fp: 0, cfa: 0 };

    /// CFA = `base` (`SP` or `FP`) + `cfa`; the caller's frame pointer at CFA + 8 * `fp`.
    pub(crate) const fn plain(base: u8, cfa: i32, fp: i8) -> Self {
        Self { kind: base, fp, cfa }
    }

    /// CFA = sp + `cfa`, the frame pointer being the caller's.
    pub(crate) const fn plain_sp(cfa: i32) -> Self {
        Self::plain(SP, cfa, 0)
    }

    /// CFA = fp + `cfa`, the caller's at CFA + 8 * `saved`.
    pub(crate) const fn framed(cfa: i32, saved: i8) -> Self {
        Self::plain(FP, cfa, saved)
    }

    /// Is the CFA sp + `cfa`, wherever the frame pointer may be?
    pub(crate) fn is_sp(self, cfa: i32) -> bool {
        self.kind == SP && self.cfa == cfa
    }

    /// A sigreturn trampoline: the sigcontext lies where the kernel puts it.
    pub(crate) fn sigreturn(arch: Arch) -> Self {
        let cfa = match arch.machine {
            Machine::Arm64 => ARM64_SIGCONTEXT,
            _ => X86_SIGCONTEXT,
        };
        Self { kind: SIGNAL, fp: 0, cfa }
    }

    /// The same, marked as synthesised.
    pub(crate) fn heuristic(self) -> Self {
        Self { kind: self.kind | HEURISTIC, ..self }
    }

    /// The same, where the caller's frame is above on the same stack.
    pub(crate) fn on_one_stack(self) -> Self {
        Self { kind: self.kind & !NEW_STACK, ..self }
    }

    /// The same, where the caller of a Go function of that kind may be on another stack; sp is `delta`
    /// bytes below its value at entry.
    ///
    /// `runtime.cgocallback` runs on the thread's stack, behind C's frames, and on the goroutine's,
    /// behind those that called C. rbp stays that of its first frame. `runtime.asmcgocall` saves no
    /// address on the thread's stack, for the goroutine's may be moved while C runs, and C's frames
    /// keep an rbp of before (runtime/asm_amd64.s @ go1.21, go1.26).
    pub(crate) fn between_stacks(self, kind: Kind, delta: i32) -> Self {
        let by_sp = delta.saturating_add(8);
        let by_fp = self.kind == FP;
        match kind {
            Kind::SetsSp if by_fp => Self { kind: FP | NEW_STACK, ..self },
            Kind::CallsBack if by_fp => Self { kind: CALLS_BACK | NEW_STACK, cfa: by_sp, ..self },
            Kind::CallsOut if by_fp => Self { kind: CALLS_OUT | NEW_STACK, cfa: 0, ..self },
            Kind::CallsOut if self.kind == SP => Self { kind: CALLS_OUT | NEW_STACK, ..self },
            _ => self,
        }
    }

    pub(crate) fn is_function_start(self) -> bool {
        self == Self::NONE_FUNCTION
    }

    pub(crate) fn at(self, pc: u16) -> abi::hf_row {
        abi::hf_row { pc, kind: self.kind, fp: self.fp, cfa: self.cfa }
    }
}

/// Machine code of the trampoline that returns from a signal handler, as libcs, Go and vDSOs have
/// it: `mov $15, %rax` or `%eax`, `syscall`; `mov x8, #139`, `svc #0`.
pub(crate) fn is_sigreturn(code: &[u8], arch: Arch) -> bool {
    match arch.machine {
        Machine::Arm64 => code.starts_with(&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]),
        _ => {
            code.starts_with(&[0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05])
                || code.starts_with(&[0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05])
        }
    }
}

/// Does x86-64 code begin by leaving the stack that it was entered with? What nobody can return from
/// was not called: a coroutine's stack was made to return there when its function does, and its rows
/// say of the caller what is true of every function.
///
/// glibc's `__start_context`, where contexts of `makecontext` end, finds the next context so
/// (sysdeps/unix/sysv/linux/x86_64/__start_context.S @ glibc-2.3 to 2.42): `mov %rbx, %rsp`. Any of the
/// registers that callees save would do; the frame pointer is left out, by which parts of functions end.
pub(crate) fn leaves_its_stack(code: &[u8]) -> bool {
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    matches!(code, [0x48, 0x89, 0xdc, ..] | [0x4c, 0x89, 0xe4 | 0xec | 0xf4 | 0xfc, ..])
}

/// Longest function that [`leaves_its_stack`] is asked of: glibc's has 26 bytes, and some 90 where it
/// keeps a shadow stack.
pub(crate) const LEAVES_ITS_STACK_MAX_BYTES: u64 = 128;

/// Lengths of x86-64's forms.
pub(crate) const X86_SIGRETURN_BYTES: [u64; 2] = [7, 9];

/// Where [`is_sigreturn`] holds in `code`.
pub(crate) fn find_sigreturn(code: &[u8], arch: Arch) -> impl Iterator<Item = usize> + '_ {
    // What all forms have in common, and what may stand before it.
    let (common, before): (&[u8], &[usize]) = match arch.machine {
        Machine::Arm64 => (&[0x68, 0x11, 0x80, 0xd2], &[0]),
        _ => (&[0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05], &[3, 1]),
    };
    memchr::memmem::find_iter(code, common).filter_map(move |at| {
        let starts = before.iter().filter_map(|before| at.checked_sub(*before));
        starts.into_iter().find(|&at| is_sigreturn(code.get(at..).unwrap_or_default(), arch))
    })
}

/// Where in x86-64 code a fiber's function is made to return to, and the end of that code: Boost.Context's
/// `make_fcontext` (Boost.Coroutine, .Fiber and .Asio, PHP's fibers) keeps behind its own return
///
/// ```text
/// trampoline: push %rbp; jmp *%rbx
/// finish:     xor %rdi, %rdi; call _exit; hlt
/// ```
///
/// and in rbp the address of `finish` (src/asm/make_x86_64_sysv_elf_gas.S @ boost-1.61 to 1.89), without
/// call frame information. Nothing calls what is behind a jump and what nobody returns from.
pub(crate) fn find_fiber_ends(code: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    const TRAMPOLINE: &[u8] = &[0x55, 0xff, 0xe3];
    memchr::memmem::find_iter(code, TRAMPOLINE).filter_map(|at| {
        let start = at + TRAMPOLINE.len();
        let finish = code.get(start..)?;
        let bytes = match finish {
            [0x48, 0x31, 0xff, 0xe8, _, _, _, _, 0xf4, ..] => 9,
            [0x31, 0xff, 0xe8, _, _, _, _, 0xf4, ..] => 8,
            _ => return None,
        };
        Some((start, start + bytes))
    })
}

/// Where in x86-64 code a thread begins that a C library makes without call frame information, and the end
/// of that code: what the child of the `clone` system call runs,
///
/// ```text
/// syscall; test %eax, %eax; jne parent; xor %ebp, %ebp; pop %rdi; call *%r9; …; syscall; hlt
/// ```
///
/// (musl, src/thread/x86_64/clone.s @ 0.9 to 1.2.5). It clears the frame pointer, as the ABI wants it of
/// what begins a stack, without having kept its caller's, and no way leads out of it.
pub(crate) fn find_thread_begins(code: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    use iced_x86::{Code, FlowControl, Mnemonic};
    const SYSCALL: &[u8] = &[0x0f, 0x05];
    const MAX_BYTES: usize = 64;
    memchr::memmem::find_iter(code, SYSCALL).filter_map(move |at| {
        let asked = match code.get(at + SYSCALL.len()..)? {
            [0x85, 0xc0, ..] => 2,
            [0x48, 0x85, 0xc0, ..] => 3,
            _ => return None,
        };
        let at = at + SYSCALL.len() + asked;
        let start = match code.get(at..)? {
            [0x75, ..] => at + 2,
            [0x74, to, ..] => (at + 2).checked_add_signed(isize::from(to.cast_signed()))?,
            _ => return None,
        };
        let child = code.get(start..)?;
        if !child.starts_with(&[0x31, 0xed]) {
            return None;
        }
        let child = child.get(..child.len().min(MAX_BYTES))?;
        let mut decoder = iced_x86::Decoder::new(64, child, iced_x86::DecoderOptions::NONE);
        let mut calls = false;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            match instruction.flow_control() {
                _ if instruction.code() == Code::Hlt => {
                    return calls.then_some((start, start + decoder.position()));
                }
                FlowControl::Next if !instruction.is_invalid() => {}
                FlowControl::Call if instruction.mnemonic() == Mnemonic::Syscall => {}
                FlowControl::Call | FlowControl::IndirectCall => calls = true,
                _ => return None,
            }
        }
        None
    })
}

/// The side rules of a block, each once.
#[derive(Debug, Default)]
pub(crate) struct SideRules {
    rules: Vec<abi::hf_rule>,
    known: HashMap<[i32; 8], i32>,
}

impl SideRules {
    /// The index of a rule, `None` if there are too many (a row each is the most there can be).
    fn index(&mut self, rule: abi::hf_rule) -> Option<i32> {
        let mid = rule.cfa_mid.to_le_bytes();
        let key = [
            i32::from_le_bytes([rule.cfa_op, rule.cfa_reg, rule.fp_op, rule.fp_reg]),
            i32::from_le_bytes([rule.ra_op, rule.ra_reg, mid[0], mid[1]]),
            rule.cfa_off,
            rule.cfa_off2,
            rule.fp_off,
            rule.fp_off2,
            rule.ra_off,
            rule.ra_off2,
        ];
        if let Some(&index) = self.known.get(&key) {
            return Some(index);
        }
        if self.rules.len() >= abi::HF_MAX_ROWS_PER_BLOCK as usize {
            return None;
        }
        let index = i32::try_from(self.rules.len()).ok()?;
        self.known.insert(key, index);
        self.rules.push(rule);
        Some(index)
    }

    /// That of `runtime.morestack`, where it has changed stacks.
    pub(crate) fn growth(&mut self, growth: Growth) -> Rule {
        let rule = abi::hf_rule {
            cfa_op: abi::HF_OP_GREW as u8,
            cfa_reg: 0,
            fp_op: abi::HF_OP_SAME as u8,
            fp_reg: 0,
            ra_op: abi::HF_OP_SAME as u8,
            ra_reg: 0,
            cfa_mid: 0,
            cfa_off: growth.g,
            cfa_off2: growth.curg,
            fp_off: growth.fp,
            fp_off2: 0,
            ra_off: growth.newstack.cast_signed(),
            ra_off2: 0,
        };
        self.index(rule).map_or(Rule::END, |index| Rule { kind: SIDE, fp: 0, cfa: index })
    }

    /// That of a function that has left for another stack and keeps its sp at entry in a register.
    pub(crate) fn kept_sp(&mut self, reg: u8, arch: Arch) -> Rule {
        let cfa = Cfa::Reg { reg, off: 8 };
        let unwind = Unwind { cfa, fp: Saved::Same, ra: Saved::At(-8), kept: None };
        let rule = side_rule(&unwind, arch)
            .map(|rule| abi::hf_rule { cfa_op: abi::HF_OP_KEPT as u8, ..rule });
        rule.and_then(|rule| self.index(rule)).map_or(Rule::BAD, |index| Rule {
            kind: SIDE | NEW_STACK,
            fp: 0,
            cfa: index,
        })
    }

    pub(crate) fn into_rules(self) -> Vec<abi::hf_rule> {
        self.rules
    }

    /// The rule of a row. [`Rule::BAD`] if it cannot be said.
    pub(crate) fn rule(&mut self, unwind: &Unwind, signal: bool, arch: Arch) -> Rule {
        if unwind.ra == Saved::Undefined {
            return Rule::END;
        }
        if signal && let Some(rule) = signal_rule(unwind, arch) {
            return rule;
        }
        if let Some(rule) = plain_rule(unwind, arch) {
            return rule;
        }
        let side = side_rule(unwind, arch).and_then(|rule| self.index(rule));
        // Where sp leads to what says where the CFA is, or a register that callees save, sp itself
        // may be on another stack (OCaml 5 calls C on the thread's, from fibers that lie below it).
        let leaves = match unwind.cfa {
            Cfa::Expr(Expr::Deref { reg, .. } | Expr::DerefTwice { reg, .. }) => reg == arch.sp,
            Cfa::Reg { reg, .. } => arch.keeps(reg),
            _ => false,
        };
        let kind = if leaves { SIDE | NEW_STACK } else { SIDE };
        side.map_or(Rule::BAD, |index| Rule { kind, fp: 0, cfa: index })
    }
}

/// x86-64: all registers are given as expressions off rsp. rip, rsp and rbp must agree on where
/// the sigcontext is.
fn signal_rule(unwind: &Unwind, arch: Arch) -> Option<Rule> {
    if arch.machine != Machine::X86_64 {
        return None;
    }
    let Saved::AtExpr(Expr::Reg { reg, off }) = unwind.ra else {
        return None;
    };
    let context = off.checked_sub(X86_SC_RIP)?;
    let expect = |field: i32| context.checked_add(field);
    let rsp = Expr::Deref { reg: arch.sp, off: expect(X86_SC_RSP)?, off2: 0 };
    let rbp = Expr::Reg { reg: arch.sp, off: expect(X86_SC_RBP)? };
    let agree = reg == arch.sp && unwind.cfa == Cfa::Expr(rsp) && unwind.fp == Saved::AtExpr(rbp);
    agree.then_some(Rule { kind: SIGNAL, fp: 0, cfa: context })
}

fn plain_rule(unwind: &Unwind, arch: Arch) -> Option<Rule> {
    let fp = match unwind.fp {
        Saved::Unspecified | Saved::Same => 0,
        Saved::Undefined => FP_UNDEFINED,
        Saved::At(off) if off % 8 == 0 && off != 0 => {
            i8::try_from(off / 8).ok().filter(|&fp| fp != FP_UNDEFINED)?
        }
        _ => return None,
    };
    if unwind.kept.is_some() {
        return None;
    }
    let mut flags = 0;
    match (arch.machine, unwind.ra) {
        (Machine::Arm64, Saved::Unspecified | Saved::Same | Saved::Reg(30)) => flags = RA_IN_LR,
        (Machine::Arm64, Saved::At(ra)) if fp != 0 && fp != FP_UNDEFINED => {
            (ra == i32::from(fp) * 8 + 8).then_some(())?;
        }
        (Machine::X86_64, Saved::At(-8)) => {}
        _ => return None,
    }
    match unwind.cfa {
        Cfa::Reg { reg, off } if reg == arch.sp => Some(Rule::plain(SP | flags, off, fp)),
        Cfa::Reg { reg, off } if reg == arch.fp => Some(Rule::plain(FP | flags, off, fp)),
        Cfa::Expr(Expr::Plt { threshold }) if arch.machine == Machine::X86_64 && fp == 0 => {
            Some(Rule { kind: PLT, fp: 0, cfa: threshold })
        }
        _ => None,
    }
}

fn side_rule(unwind: &Unwind, arch: Arch) -> Option<abi::hf_rule> {
    let (cfa_op, cfa_reg, cfa_off, cfa_mid, cfa_off2) = match unwind.cfa {
        Cfa::Reg { reg, off } | Cfa::Expr(Expr::Reg { reg, off }) => {
            (abi::HF_OP_REG, reg, off, 0, 0)
        }
        Cfa::Expr(Expr::Deref { reg, off, off2 }) => (abi::HF_OP_DEREF, reg, off, 0, off2),
        Cfa::Expr(Expr::DerefTwice { reg, off, mid, off2 }) => {
            (abi::HF_OP_DEREF_TWICE, reg, off, mid, off2)
        }
        Cfa::None | Cfa::Expr(Expr::Plt { .. }) | Cfa::Unsupported => return None,
    };
    let saved = |saved| {
        Some(match saved {
            Saved::Unspecified | Saved::Same => (abi::HF_OP_SAME, 0, 0, 0),
            Saved::Undefined => (abi::HF_OP_UNDEFINED, 0, 0, 0),
            Saved::At(off) => (abi::HF_OP_CFA_DEREF, 0, off, 0),
            Saved::Cfa(off) => (abi::HF_OP_CFA, 0, off, 0),
            Saved::Reg(reg) => (abi::HF_OP_REG, reg, 0, 0),
            Saved::AtExpr(Expr::Reg { reg, off }) => (abi::HF_OP_DEREF, reg, off, 0),
            Saved::Expr(Expr::Reg { reg, off }) => (abi::HF_OP_REG, reg, off, 0),
            Saved::Expr(Expr::Deref { reg, off, off2 }) => (abi::HF_OP_DEREF, reg, off, off2),
            Saved::Bare => (abi::HF_OP_BARE, 0, 0, 0),
            Saved::AtExpr(_) | Saved::Expr(_) | Saved::Unsupported => return None,
        })
    };
    let (fp_op, fp_reg, fp_off, fp_off2) =
        saved(unwind.fp).unwrap_or((abi::HF_OP_UNDEFINED, 0, 0, 0));
    let (ra_op, ra_reg, ra_off, ra_off2) = match unwind.ra {
        Saved::Unspecified | Saved::Same if arch.machine == Machine::Arm64 => {
            (abi::HF_OP_REG, abi::HF_ARM64_LR as u8, 0, 0)
        }
        // On x86-64 a return address that "keeps its value" is the pc itself: a loop.
        Saved::Unspecified | Saved::Same => return None,
        ra => saved(ra)?,
    };
    let (cfa_mid, cfa_off2) = match (cfa_op, arch.kept, unwind.kept) {
        (abi::HF_OP_REG, Some(reg), Some(off)) => (i16::from(reg), off),
        _ => (cfa_mid, cfa_off2),
    };
    Some(abi::hf_rule {
        cfa_op: cfa_op as u8,
        cfa_reg,
        fp_op: fp_op as u8,
        fp_reg,
        ra_op: ra_op as u8,
        ra_reg,
        cfa_mid,
        cfa_off,
        cfa_off2,
        fp_off,
        fp_off2,
        ra_off,
        ra_off2,
    })
}
