//! Call frame information: one CIE and one FDE in, the rules of a function's addresses out.
//!
//! In: the bytes of entries of `.eh_frame` or `.debug_frame`. Out: for each address at which a
//! rule changes, the CFA, the caller's frame pointer and the return address, as [`Unwind`].
//!
//! # How it works
//! Only three columns are followed: the walk restores no other registers (but [`Arch::kept`]). The
//! stack pointer's, which is the CFA almost always, counts where it is another register.
//! Expressions are brought to a linear form as they are met (`expr.rs`). The initial instructions
//! of a CIE run once; the resulting state is kept with it.
//!
//! # Sources
//! DWARF 5 §6.4; LSB 5.0 core, "Exception Frames"; unwind-dw2.c @ gcc 14 (`DW_CFA_GNU_*`, default
//! rules); AADWARF64 2024Q3 (`negate_ra_state`, augmentation 'B'); MTE: augmentation 'G' @ LLVM 18.
//!
//! # Not handled
//! Indirect pointers and pointers relative to text or data in an FDE: such an FDE is bad.
//!
//! # Cost
//! About 20 ns per row; no allocation but for the first `DW_CFA_remember_state`.

use crate::elf::Machine;
use crate::expr::{Expr, evaluate};
use crate::read::Cursor;

/// Saved states at a time. Compilers nest to 3; hand-written code was seen with 5.
const MAX_REMEMBERED: usize = 64;

/// Register numbers of an architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arch {
    pub(crate) machine: Machine,
    pub(crate) sp: u8,
    pub(crate) fp: u8,
    /// The column that names the program counter in expressions; also the number of registers.
    pub(crate) pc: u8,
    /// Of a file with functions that keep their sp in it while they call on another stack: a register
    /// that callees save, of which the rules say where.
    pub(crate) kept: Option<u8>,
}

impl Arch {
    pub(crate) fn of(machine: Machine) -> Option<Self> {
        match machine {
            Machine::X86_64 => Some(Self { machine, sp: 7, fp: 6, pc: 16, kept: None }),
            Machine::Arm64 => Some(Self { machine, sp: 31, fp: 29, pc: 32, kept: None }),
            Machine::Other(_) => None,
        }
    }

    /// A register beside the frame pointer that callees save (x86-64: rbx, r12 to r15).
    pub(crate) fn keeps(self, reg: u8) -> bool {
        self.machine == Machine::X86_64 && matches!(reg, 3 | 12..=15)
    }
}

/// Where the CFA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cfa {
    /// No rule was given.
    None,
    Reg {
        reg: u8,
        off: i32,
    },
    Expr(Expr),
    /// Given, but beyond what [`Expr`] holds.
    Unsupported,
}

/// Where a register's value in the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// No rule was given.
    Unspecified,
    Undefined,
    Same,
    /// *(CFA + off)
    At(i32),
    /// CFA + off
    Cfa(i32),
    Reg(u8),
    /// *expression
    AtExpr(Expr),
    /// expression
    Expr(Expr),
    /// The frame pointer's: as `Same`, and the caller has no frame yet, for this function makes it.
    Bare,
    Unsupported,
}

/// The rules at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unwind {
    pub(crate) cfa: Cfa,
    pub(crate) fp: Saved,
    pub(crate) ra: Saved,
    /// Where [`Arch::kept`] is saved, relative to the CFA.
    pub(crate) kept: Option<i32>,
}

/// How pointers are encoded and entries linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// `.eh_frame`: a CIE is found backwards from the pointer to it; its id is 0.
    Eh,
    /// `.debug_frame`: a CIE is at an offset of the section; its id is all ones.
    Debug,
}

/// What is known of a common information entry.
#[derive(Clone, Debug)]
pub(crate) struct Cie {
    code_align: u64,
    data_align: i64,
    ra_column: u64,
    fde_encoding: u8,
    has_augmentation: bool,
    /// A signal frame: its pc is not a return address.
    pub(crate) signal: bool,
    initial: Unwind,
}

/// Length, CIE pointer and position of the contents of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    /// Bytes of the entry including its length field.
    pub(crate) total: u64,
    /// Bytes of the length field and the CIE pointer.
    pub(crate) head: u8,
    /// Offset in the section of its CIE; `None` if it is one.
    pub(crate) cie: Option<u64>,
}

impl EntryHead {
    /// Bytes to have at hand for [`EntryHead::parse`].
    pub(crate) const MAX_BYTES: usize = 20;

    /// The head of the entry at `offset` of its section. `None` for the terminator and for what
    /// is no entry.
    pub(crate) fn parse(bytes: &[u8], offset: u64, flavour: Flavour) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let (length, field, wide) = match cursor.u32()? {
            0 => return None,
            u32::MAX => (cursor.u64()?, 12, true),
            length => (u64::from(length), 4, false),
        };
        let pointer_bytes = if wide && flavour == Flavour::Debug { 8 } else { 4 };
        if length < pointer_bytes {
            return None;
        }
        let pointer = if pointer_bytes == 8 { cursor.u64()? } else { u64::from(cursor.u32()?) };
        let cie = match flavour {
            Flavour::Eh if pointer == 0 => None,
            Flavour::Eh => Some((offset + field).checked_sub(pointer)?),
            Flavour::Debug if pointer == u64::from(u32::MAX) && !wide => None,
            Flavour::Debug if pointer == u64::MAX => None,
            Flavour::Debug => Some(pointer),
        };
        let head = u8::try_from(field + pointer_bytes).ok()?;
        Some(Self { total: length.checked_add(field)?, head, cie })
    }
}

/// An address in one of the encodings that entries use. `at` is the address of the pointer itself.
fn pointer(cursor: &mut Cursor<'_>, encoding: u8, at: u64) -> Option<u64> {
    let value = match encoding & 0x0f {
        0x00 | 0x04 | 0x0c => cursor.u64()?,
        0x01 => cursor.uleb()?,
        0x02 => u64::from(cursor.u16()?),
        0x03 => u64::from(cursor.u32()?),
        0x09 => cursor.sleb()?.cast_unsigned(),
        0x0a => i64::from(cursor.u16()?.cast_signed()).cast_unsigned(),
        0x0b => i64::from(cursor.u32()?.cast_signed()).cast_unsigned(),
        _ => return None,
    };
    match encoding & 0xf0 {
        0x00 => Some(value),
        0x10 => Some(at.wrapping_add(value)),
        _ => None,
    }
}

impl Cie {
    /// Parses the contents of a CIE: the entry's bytes after its head.
    pub(crate) fn parse(contents: &[u8], flavour: Flavour, arch: Arch) -> Option<Self> {
        let mut cursor = Cursor::new(contents);
        let version = cursor.u8()?;
        let augmentation = cursor.c_str()?;
        if version == 4 {
            let (address_bytes, segment_bytes) = (cursor.u8()?, cursor.u8()?);
            if (address_bytes, segment_bytes) != (8, 0) {
                return None;
            }
        } else if !(version == 1 || version == 3) {
            return None;
        }
        let code_align = cursor.uleb()?;
        let data_align = cursor.sleb()?;
        let ra_column = if version == 1 { u64::from(cursor.u8()?) } else { cursor.uleb()? };
        let mut cie = Self {
            code_align,
            data_align,
            ra_column,
            fde_encoding: 0,
            has_augmentation: false,
            signal: false,
            initial: Unwind {
                cfa: Cfa::None,
                fp: Saved::Unspecified,
                ra: Saved::Unspecified,
                kept: None,
            },
        };
        if let Some((b'z', letters)) = augmentation.split_first() {
            cie.has_augmentation = true;
            let n = usize::try_from(cursor.uleb()?).ok()?;
            let mut data = Cursor::new(cursor.take(n)?);
            for letter in letters {
                match letter {
                    b'R' => cie.fde_encoding = data.u8()?,
                    b'L' => {
                        data.u8()?;
                    }
                    b'P' => {
                        // Only its length matters.
                        let encoding = data.u8()?;
                        pointer(&mut data, encoding & 0x0f, 0)?;
                    }
                    b'S' => cie.signal = true,
                    // arm64: return addresses signed with key B, frames tagged. Neither moves
                    // anything.
                    b'B' | b'G' => {}
                    // Its data cannot be told from that of the letters behind it.
                    _ => return None,
                }
            }
        } else if !augmentation.is_empty() {
            return None;
        }
        // Pointers relative to anything but themselves, and indirect ones, cannot be followed.
        if flavour == Flavour::Eh && !matches!(cie.fde_encoding & 0xf0, 0x00 | 0x10) {
            return None;
        }
        let mut vm = Vm { arch, cie: &cie, state: cie.initial, sp: None, remembered: Vec::new() };
        vm.run(cursor.rest(), 0, 0, u64::MAX, &mut |_, _, _| {})?;
        cie.initial = vm.state;
        Some(cie)
    }
}

/// A frame description entry, ready to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fde<'a> {
    /// First address, ELF virtual.
    pub(crate) start: u64,
    /// First address after the last.
    pub(crate) end: u64,
    instructions: &'a [u8],
    /// Address of `instructions`, for pointers relative to themselves.
    instructions_at: u64,
}

impl<'a> Fde<'a> {
    /// Parses the contents of an FDE (the bytes after its head), which stand at address `at`.
    pub(crate) fn parse(contents: &'a [u8], at: u64, cie: &Cie) -> Option<Self> {
        let mut cursor = Cursor::new(contents);
        let start = pointer(&mut cursor, cie.fde_encoding, at)?;
        let size = pointer(&mut cursor, cie.fde_encoding & 0x0f, 0)?;
        if cie.has_augmentation {
            let n = usize::try_from(cursor.uleb()?).ok()?;
            cursor.take(n)?;
        }
        Some(Self {
            start,
            end: start.checked_add(size)?,
            instructions: cursor.rest(),
            instructions_at: at.wrapping_add(cursor.pos() as u64),
        })
    }

    /// Calls `rule(first address, first address after, rules)` for each run of addresses, in
    /// order. `None` if an instruction is unknown or cut short: then nothing of what was reported
    /// should be trusted.
    pub(crate) fn run(
        &self,
        cie: &Cie,
        arch: Arch,
        rule: &mut impl FnMut(u64, u64, &Unwind),
    ) -> Option<()> {
        let mut vm = Vm { arch, cie, state: cie.initial, sp: None, remembered: Vec::new() };
        vm.run(self.instructions, self.instructions_at, self.start, self.end, rule)
    }
}

struct Vm<'a> {
    arch: Arch,
    cie: &'a Cie,
    state: Unwind,
    /// The register that holds the caller's sp, where that is not the CFA.
    sp: Option<u8>,
    remembered: Vec<(Unwind, Option<u8>)>,
}

impl Vm<'_> {
    fn run(
        &mut self,
        instructions: &[u8],
        at: u64,
        start: u64,
        end: u64,
        rule: &mut impl FnMut(u64, u64, &Unwind),
    ) -> Option<()> {
        let mut cursor = Cursor::new(instructions);
        let mut from = start;
        while let Some(opcode) = cursor.u8() {
            let low = opcode & OPERAND_MASK;
            let to = match opcode {
                op::ADVANCE_LOC..op::OFFSET => self.advance(from, u64::from(low)),
                op::ADVANCE_LOC1 => self.advance(from, u64::from(cursor.u8()?)),
                op::ADVANCE_LOC2 => self.advance(from, u64::from(cursor.u16()?)),
                op::ADVANCE_LOC4 => self.advance(from, u64::from(cursor.u32()?)),
                op::MIPS_ADVANCE_LOC8 => self.advance(from, cursor.u64()?),
                op::SET_LOC => {
                    let here = at.wrapping_add(cursor.pos() as u64);
                    let to = pointer(&mut cursor, self.cie.fde_encoding, here)?;
                    (to >= from).then_some(to)?
                }
                _ => {
                    self.step(opcode, &mut cursor)?;
                    continue;
                }
            };
            if to >= end {
                // Compilers do not describe what is behind the function.
                break;
            }
            if to > from {
                rule(from, to, &self.row());
                from = to;
            }
        }
        if from < end {
            rule(from, end, &self.row());
        }
        Some(())
    }

    /// The rules of now. Where the caller's sp is in a register (glibc's `__longjmp`, about to go on
    /// elsewhere) that is what the walk needs of the CFA; what else is found by the CFA cannot be said
    /// then.
    fn row(&self) -> Unwind {
        let by_cfa = |saved| matches!(saved, Saved::At(_) | Saved::Cfa(_));
        match self.sp {
            Some(reg) if !by_cfa(self.state.ra) && !by_cfa(self.state.fp) => {
                Unwind { cfa: Cfa::Reg { reg, off: 0 }, ..self.state }
            }
            _ => self.state,
        }
    }

    fn advance(&self, from: u64, delta: u64) -> u64 {
        from.saturating_add(delta.saturating_mul(self.cie.code_align))
    }

    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Option<()> {
        let cie = self.cie;
        let scaled = |n: i64| n.checked_mul(cie.data_align).and_then(|off| i32::try_from(off).ok());
        let at = |off: Option<i32>| off.map_or(Saved::Unsupported, Saved::At);
        let unsigned = |n: u64| i64::try_from(n).ok();
        let plain = |n: u64| i32::try_from(n).ok();
        match opcode {
            op::OFFSET..op::RESTORE => {
                let n = unsigned(cursor.uleb()?).and_then(scaled);
                self.set(u64::from(opcode & OPERAND_MASK), at(n));
            }
            op::RESTORE.. => self.restore(u64::from(opcode & OPERAND_MASK)),
            op::NOP => {}
            op::OFFSET_EXTENDED => {
                let (reg, n) = (cursor.uleb()?, cursor.uleb()?);
                self.set(reg, at(unsigned(n).and_then(scaled)));
            }
            op::RESTORE_EXTENDED => {
                let reg = cursor.uleb()?;
                self.restore(reg);
            }
            op::UNDEFINED => {
                let reg = cursor.uleb()?;
                self.set(reg, Saved::Undefined);
            }
            op::SAME_VALUE => {
                let reg = cursor.uleb()?;
                self.set(reg, Saved::Same);
            }
            op::REGISTER => {
                let (reg, other) = (cursor.uleb()?, cursor.uleb()?);
                let saved = u8::try_from(other).ok().filter(|&reg| reg < self.arch.pc);
                self.set(reg, saved.map_or(Saved::Unsupported, Saved::Reg));
            }
            op::REMEMBER_STATE => {
                if self.remembered.len() >= MAX_REMEMBERED {
                    return None;
                }
                self.remembered.push((self.state, self.sp));
            }
            op::RESTORE_STATE => (self.state, self.sp) = self.remembered.pop()?,
            op::DEF_CFA => {
                let (reg, off) = (cursor.uleb()?, cursor.uleb()?);
                self.state.cfa = self.cfa(reg, plain(off));
            }
            op::DEF_CFA_SF => {
                let (reg, off) = (cursor.uleb()?, cursor.sleb()?);
                self.state.cfa = self.cfa(reg, scaled(off));
            }
            op::DEF_CFA_REGISTER => {
                let reg = cursor.uleb()?;
                let Cfa::Reg { off, .. } = self.state.cfa else {
                    return None;
                };
                self.state.cfa = self.cfa(reg, Some(off));
            }
            op::DEF_CFA_OFFSET | op::DEF_CFA_OFFSET_SF => {
                let off = match opcode {
                    op::DEF_CFA_OFFSET => plain(cursor.uleb()?),
                    _ => scaled(cursor.sleb()?),
                };
                let Cfa::Reg { reg, .. } = self.state.cfa else {
                    return None;
                };
                self.state.cfa = self.cfa(u64::from(reg), off);
            }
            op::DEF_CFA_EXPRESSION => {
                let expr = self.block(cursor)?;
                self.state.cfa = expr.map_or(Cfa::Unsupported, Cfa::Expr);
            }
            op::EXPRESSION => {
                let reg = cursor.uleb()?;
                let expr = self.block(cursor)?;
                self.set(reg, expr.map_or(Saved::Unsupported, Saved::AtExpr));
            }
            op::VAL_EXPRESSION => {
                let reg = cursor.uleb()?;
                let expr = self.block(cursor)?;
                self.set(reg, expr.map_or(Saved::Unsupported, Saved::Expr));
            }
            op::OFFSET_EXTENDED_SF => {
                let (reg, n) = (cursor.uleb()?, cursor.sleb()?);
                self.set(reg, at(scaled(n)));
            }
            op::VAL_OFFSET => {
                let (reg, n) = (cursor.uleb()?, cursor.uleb()?);
                let off = unsigned(n).and_then(scaled);
                self.set(reg, off.map_or(Saved::Unsupported, Saved::Cfa));
            }
            op::VAL_OFFSET_SF => {
                let (reg, n) = (cursor.uleb()?, cursor.sleb()?);
                self.set(reg, scaled(n).map_or(Saved::Unsupported, Saved::Cfa));
            }
            // The return address is signed from here on: the walk always masks it.
            op::AARCH64_NEGATE_RA_STATE_WITH_PC | op::AARCH64_NEGATE_RA_STATE
                if self.arch.machine == Machine::Arm64 => {}
            // For landing pads only.
            op::GNU_ARGS_SIZE => {
                cursor.uleb()?;
            }
            op::GNU_NEGATIVE_OFFSET_EXTENDED => {
                let (reg, n) = (cursor.uleb()?, cursor.uleb()?);
                let off = unsigned(n).and_then(i64::checked_neg).and_then(scaled);
                self.set(reg, at(off));
            }
            _ => return None,
        }
        Some(())
    }

    fn cfa(&self, reg: u64, off: Option<i32>) -> Cfa {
        match (u8::try_from(reg), off) {
            (Ok(reg), Some(off)) if reg < self.arch.pc => Cfa::Reg { reg, off },
            _ => Cfa::Unsupported,
        }
    }

    /// The operand of an expression instruction: outer `None` if cut short.
    fn block(&self, cursor: &mut Cursor<'_>) -> Option<Option<Expr>> {
        let n = usize::try_from(cursor.uleb()?).ok()?;
        Some(evaluate(cursor.take(n)?, self.arch.sp, self.arch.pc))
    }

    fn set(&mut self, reg: u64, saved: Saved) {
        if reg == self.cie.ra_column {
            self.state.ra = saved;
        } else if reg == u64::from(self.arch.fp) {
            self.state.fp = saved;
        } else if reg == u64::from(self.arch.sp) {
            self.sp = match saved {
                Saved::Reg(reg) => Some(reg),
                _ => None,
            };
        } else if self.arch.kept.is_some_and(|kept| reg == u64::from(kept)) {
            self.state.kept = match saved {
                Saved::At(off) => Some(off),
                _ => None,
            };
        }
    }

    fn restore(&mut self, reg: u64) {
        if reg == self.cie.ra_column {
            self.state.ra = self.cie.initial.ra;
        } else if reg == u64::from(self.arch.fp) {
            self.state.fp = self.cie.initial.fp;
        } else if reg == u64::from(self.arch.sp) {
            self.sp = None;
        } else if self.arch.kept.is_some_and(|kept| reg == u64::from(kept)) {
            self.state.kept = self.cie.initial.kept;
        }
    }
}

/// Of `DW_CFA_advance_loc`, `DW_CFA_offset` and `DW_CFA_restore`: the operand is in the opcode.
const OPERAND_MASK: u8 = 0x3f;

/// `DW_CFA_*` of DWARF 5 §7.24, and vendors'.
mod op {
    pub(super) const NOP: u8 = 0x00;
    pub(super) const SET_LOC: u8 = 0x01;
    pub(super) const ADVANCE_LOC1: u8 = 0x02;
    pub(super) const ADVANCE_LOC2: u8 = 0x03;
    pub(super) const ADVANCE_LOC4: u8 = 0x04;
    pub(super) const OFFSET_EXTENDED: u8 = 0x05;
    pub(super) const RESTORE_EXTENDED: u8 = 0x06;
    pub(super) const UNDEFINED: u8 = 0x07;
    pub(super) const SAME_VALUE: u8 = 0x08;
    pub(super) const REGISTER: u8 = 0x09;
    pub(super) const REMEMBER_STATE: u8 = 0x0a;
    pub(super) const RESTORE_STATE: u8 = 0x0b;
    pub(super) const DEF_CFA: u8 = 0x0c;
    pub(super) const DEF_CFA_REGISTER: u8 = 0x0d;
    pub(super) const DEF_CFA_OFFSET: u8 = 0x0e;
    pub(super) const DEF_CFA_EXPRESSION: u8 = 0x0f;
    pub(super) const EXPRESSION: u8 = 0x10;
    pub(super) const OFFSET_EXTENDED_SF: u8 = 0x11;
    pub(super) const DEF_CFA_SF: u8 = 0x12;
    pub(super) const DEF_CFA_OFFSET_SF: u8 = 0x13;
    pub(super) const VAL_OFFSET: u8 = 0x14;
    pub(super) const VAL_OFFSET_SF: u8 = 0x15;
    pub(super) const VAL_EXPRESSION: u8 = 0x16;
    pub(super) const MIPS_ADVANCE_LOC8: u8 = 0x1d;
    pub(super) const AARCH64_NEGATE_RA_STATE_WITH_PC: u8 = 0x2c;
    pub(super) const AARCH64_NEGATE_RA_STATE: u8 = 0x2d;
    pub(super) const GNU_ARGS_SIZE: u8 = 0x2e;
    pub(super) const GNU_NEGATIVE_OFFSET_EXTENDED: u8 = 0x2f;
    pub(super) const ADVANCE_LOC: u8 = 0x40;
    pub(super) const OFFSET: u8 = 0x80;
    pub(super) const RESTORE: u8 = 0xc0;
}
