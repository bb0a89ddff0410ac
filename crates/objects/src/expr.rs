//! The DWARF expressions that occur in call frame information, brought to a linear form.
//!
//! In: the bytes of a `DW_CFA_*expression` operand. Out: [`Expr`], or `None` where the expression
//! says more than a rule can hold.
//!
//! # How it works
//! The expression runs on symbolic values: a register plus a constant, what stands at such an
//! address plus a constant, once or twice, and the steps of the one idiom that depends on the pc, that of lazy
//! PLT stubs: `rsp + 8 + ((rip & 15) >= T) << 3`. Its literals are evaluated, not skipped: the
//! linkers emit T = 11 for plain stubs, other values for IBT and BND stubs.
//!
//! # Sources
//! DWARF 5 §2.5; `elf_x86_64_*_plt_eh_frame` in bfd/elfxx-x86.c @ binutils 2.43;
//! crypto/perlasm/x86_64-xlate.pl @ OpenSSL 3.0 (`.cfi_cfa_expression`);
//! `ix86_expand_prologue` in config/i386/i386.cc @ gcc 14 (DRAP); `SWITCH_OCAML_TO_C` and
//! `caml_runstack` in runtime/amd64.S @ OCaml 5.
//!
//! # Not handled
//! Two registers in one address (three places in libcrypto: `*(rsp + 8 + 8 * r9) + 8`).

use crate::read::Cursor;

/// What an expression computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// reg + off
    Reg { reg: u8, off: i32 },
    /// *(reg + off) + off2
    Deref { reg: u8, off: i32, off2: i32 },
    /// *(*(reg + off) + mid) + off2
    DerefTwice { reg: u8, off: i32, mid: i16, off2: i32 },
    /// sp + 8 + ((pc & 15) >= threshold ? 8 : 0)
    Plt { threshold: i32 },
}

#[derive(Clone, Copy)]
enum Value {
    Const(i64),
    Reg(u8, i64),
    Deref(u8, i64, i64),
    DerefTwice(u8, i64, i64, i64),
    /// pc & 15
    PcLow,
    /// (pc & 15) >= T
    PcLowGe(i64),
    /// that << 3
    PcLowGe8(i64),
    /// reg + off + that
    Plt(u8, i64, i64),
}

/// More values than this on the stack occur in no call frame information.
const MAX_DEPTH: usize = 16;

/// Evaluates `bytes`. `pc` is the DWARF number of the program counter's column.
pub(crate) fn evaluate(bytes: &[u8], sp: u8, pc: u8) -> Option<Expr> {
    let mut cursor = Cursor::new(bytes);
    let mut stack: Vec<Value> = Vec::with_capacity(4);
    while !cursor.is_at_end() {
        let value = match cursor.u8()? {
            op::DEREF => match stack.pop()? {
                Value::Reg(reg, off) => Value::Deref(reg, off, 0),
                Value::Deref(reg, off, mid) => Value::DerefTwice(reg, off, mid, 0),
                _ => return None,
            },
            op::CONST1U => Value::Const(i64::from(cursor.u8()?)),
            op::CONST1S => Value::Const(i64::from(cursor.u8()?.cast_signed())),
            op::CONST2U => Value::Const(i64::from(cursor.u16()?)),
            op::CONST2S => Value::Const(i64::from(cursor.u16()?.cast_signed())),
            op::CONST4U => Value::Const(i64::from(cursor.u32()?)),
            op::CONST4S => Value::Const(i64::from(cursor.u32()?.cast_signed())),
            op::CONST8U | op::CONST8S => Value::Const(cursor.u64()?.cast_signed()),
            op::CONSTU => Value::Const(cursor.uleb()?.cast_signed()),
            op::CONSTS => Value::Const(cursor.sleb()?),
            op::DUP => *stack.last()?,
            opcode @ (op::AND | op::MINUS | op::MUL | op::PLUS | op::SHL | op::GE) => {
                let right = stack.pop()?;
                let left = stack.pop()?;
                binary(opcode, left, right, pc)?
            }
            op::PLUS_UCONST => {
                let right = Value::Const(i64::try_from(cursor.uleb()?).ok()?);
                binary(op::PLUS, stack.pop()?, right, pc)?
            }
            opcode @ op::LIT0..=op::LIT31 => Value::Const(i64::from(opcode - op::LIT0)),
            opcode @ op::BREG0..=op::BREG31 => Value::Reg(opcode - op::BREG0, cursor.sleb()?),
            op::BREGX => {
                let reg = u8::try_from(cursor.uleb()?).ok()?;
                Value::Reg(reg, cursor.sleb()?)
            }
            op::NOP => continue,
            _ => return None,
        };
        if stack.len() >= MAX_DEPTH {
            return None;
        }
        stack.push(value);
    }
    let int = |value| i32::try_from(value).ok();
    match stack.pop()? {
        Value::Reg(reg, off) if reg < pc => Some(Expr::Reg { reg, off: int(off)? }),
        Value::Deref(reg, off, off2) if reg < pc => {
            Some(Expr::Deref { reg, off: int(off)?, off2: int(off2)? })
        }
        Value::DerefTwice(reg, off, mid, off2) if reg < pc => {
            let mid = i16::try_from(mid).ok()?;
            Some(Expr::DerefTwice { reg, off: int(off)?, mid, off2: int(off2)? })
        }
        Value::Plt(reg, 8, threshold) if reg == sp && (0..=16).contains(&threshold) => {
            Some(Expr::Plt { threshold: int(threshold)? })
        }
        _ => None,
    }
}

fn binary(opcode: u8, left: Value, right: Value, pc: u8) -> Option<Value> {
    use Value::{Const, Deref, DerefTwice, PcLow, PcLowGe, PcLowGe8, Plt, Reg};
    Some(match (opcode, left, right) {
        (op::PLUS, Const(a), Const(b)) => Const(a.checked_add(b)?),
        (op::PLUS, Reg(reg, off), Const(c)) | (op::PLUS, Const(c), Reg(reg, off)) => {
            Reg(reg, off.checked_add(c)?)
        }
        (op::PLUS, Deref(reg, off, off2), Const(c))
        | (op::PLUS, Const(c), Deref(reg, off, off2)) => Deref(reg, off, off2.checked_add(c)?),
        (op::PLUS, DerefTwice(reg, off, mid, off2), Const(c)) => {
            DerefTwice(reg, off, mid, off2.checked_add(c)?)
        }
        (op::MINUS, Const(a), Const(b)) => Const(a.checked_sub(b)?),
        (op::MINUS, Reg(reg, off), Const(c)) => Reg(reg, off.checked_sub(c)?),
        (op::MINUS, Deref(reg, off, off2), Const(c)) => Deref(reg, off, off2.checked_sub(c)?),
        (op::AND, Reg(reg, 0), Const(15)) | (op::AND, Const(15), Reg(reg, 0)) if reg == pc => PcLow,
        (op::GE, PcLow, Const(threshold)) => PcLowGe(threshold),
        (op::SHL, PcLowGe(threshold), Const(3)) => PcLowGe8(threshold),
        (op::MUL, PcLowGe(threshold), Const(8)) | (op::MUL, Const(8), PcLowGe(threshold)) => {
            PcLowGe8(threshold)
        }
        (op::PLUS, Reg(reg, off), PcLowGe8(threshold))
        | (op::PLUS, PcLowGe8(threshold), Reg(reg, off)) => Plt(reg, off, threshold),
        _ => return None,
    })
}

/// `DW_OP_*` of DWARF 5 §7.7.1.
mod op {
    pub(super) const DEREF: u8 = 0x06;
    pub(super) const CONST1U: u8 = 0x08;
    pub(super) const CONST1S: u8 = 0x09;
    pub(super) const CONST2U: u8 = 0x0a;
    pub(super) const CONST2S: u8 = 0x0b;
    pub(super) const CONST4U: u8 = 0x0c;
    pub(super) const CONST4S: u8 = 0x0d;
    pub(super) const CONST8U: u8 = 0x0e;
    pub(super) const CONST8S: u8 = 0x0f;
    pub(super) const CONSTU: u8 = 0x10;
    pub(super) const CONSTS: u8 = 0x11;
    pub(super) const DUP: u8 = 0x12;
    pub(super) const AND: u8 = 0x1a;
    pub(super) const MINUS: u8 = 0x1c;
    pub(super) const MUL: u8 = 0x1e;
    pub(super) const PLUS: u8 = 0x22;
    pub(super) const PLUS_UCONST: u8 = 0x23;
    pub(super) const SHL: u8 = 0x24;
    pub(super) const GE: u8 = 0x2a;
    pub(super) const LIT0: u8 = 0x30;
    pub(super) const LIT31: u8 = 0x4f;
    pub(super) const BREG0: u8 = 0x70;
    pub(super) const BREG31: u8 = 0x8f;
    pub(super) const BREGX: u8 = 0x92;
    pub(super) const NOP: u8 = 0x96;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86(bytes: &[u8]) -> Option<Expr> {
        evaluate(bytes, 7, 16)
    }

    #[test]
    fn plt_idiom_keeps_its_own_threshold() {
        // breg7 8; breg16 0; lit15; and; litT; ge; lit3; shl; plus
        for threshold in [5u8, 9, 10, 11] {
            let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x30 + threshold, 0x2a, 0x33, 0x24, 0x22];
            assert_eq!(x86(&plt), Some(Expr::Plt { threshold: i32::from(threshold) }));
        }
        // Another shift, another mask or another base is something else.
        assert_eq!(x86(&[0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x32, 0x24, 0x22]), None);
        assert_eq!(x86(&[0x77, 8, 0x80, 0, 0x37, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22]), None);
        assert_eq!(x86(&[0x77, 16, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22]), None);
    }

    #[test]
    fn linear_forms_of_gcc_and_openssl() {
        assert_eq!(x86(&[0x76, 0x78, 0x06]), Some(Expr::Deref { reg: 6, off: -8, off2: 0 }));
        assert_eq!(
            x86(&[0x77, 0xd8, 0x00, 0x06, 0x23, 0x08]),
            Some(Expr::Deref { reg: 7, off: 88, off2: 8 })
        );
        assert_eq!(x86(&[0x76, 0x00]), Some(Expr::Reg { reg: 6, off: 0 }));
        // *(rsp + 8 + 8 * r9) + 8
        assert_eq!(x86(&[0x77, 8, 0x79, 0, 0x38, 0x1e, 0x22, 0x06, 0x23, 8]), None);
        // *rip, an empty expression, a stack that grows
        assert_eq!(x86(&[0x80, 0, 0x06]), None);
        assert_eq!(x86(&[]), None);
        assert_eq!(x86(&[0x30; 100]), None);
    }
}
