//! Rows of Go functions, by the stack deltas of their function table.

use super::{Builder, Span, code_at, growth};
use crate::Error;
use crate::cfi::{Arch, Cfa, Saved, Unwind};
use crate::elf::{ElfFile, Machine};
use crate::gopclntab::{GoTable, Kind};
use crate::read::{ReadAt, Window};
use crate::rules::{Rule, is_sigreturn};
use std::ops::Range;

impl Builder {
    /// Go functions, by their stack deltas. Returns the extents of those that have none: Go's linker puts
    /// what other compilers made (the race detector, C that `cgo` was given) into its table, too, and
    /// leaves away their call frame information.
    pub(super) fn add_go<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        go: &mut GoTable,
    ) -> Result<Vec<Range<u64>>, Error> {
        let (low, high) = self.reach();
        let arch = self.arch;
        let mut spans: Vec<Span> = Vec::new();
        let mut text = Window::default();
        let mut grows = None;
        let mut foreign = Vec::new();
        go.functions(file.reader(), low, high, |function| {
            self.stats.go_functions += 1;
            let first = self.rules.len();
            let mut start = function.start;
            let is_short = function.end - start <= 32;
            if is_short && is_sigreturn(code_at(file, &mut text, start, 16)?, arch) {
                // As in begin_trampolines_early.
                start = start.saturating_sub(1);
                self.rules.push((start, Rule::sigreturn(arch)));
                if let Some(before) = spans.last_mut() {
                    before.end = before.end.min(start);
                }
            } else if function.kind == Kind::Grows && arch.machine == Machine::X86_64 {
                // The stack ends in it, if no more is found out.
                self.rules.push((start, Rule::END));
                if let Some(on) = growth::change(file, &mut text, start, function.end)? {
                    let changed = start.saturating_add(on);
                    self.rules.push((changed, Rule::END));
                    grows = Some((first, start, changed));
                }
            } else if matches!(function.kind, Kind::Top | Kind::Grows) {
                self.rules.push((start, Rule::END));
            } else if function.deltas.is_empty() {
                foreign.push(start..function.end);
                return Ok(());
            } else {
                let saves_fp = saves_frame_pointer(file, &mut text, arch, &function.deltas)?;
                for &(pc, delta) in &function.deltas {
                    let unwind = go_unwind(arch, delta, saves_fp, function.kind);
                    let rule = self.side.rule(&unwind, false, arch);
                    self.stats.inexpressible += u32::from(rule == Rule::BAD);
                    let rule = match arch.machine {
                        Machine::Arm64 => rule,
                        _ => rule.between_stacks(function.kind, delta),
                    };
                    self.rules.push((pc, rule));
                }
                if function.kind == Kind::SetsSp
                    && arch.machine == Machine::X86_64
                    && function.deltas.iter().all(|&(_, delta)| delta == 0)
                {
                    let len = usize::try_from(function.end - start).unwrap_or(usize::MAX);
                    let code = code_at(file, &mut text, start, len.min(KEEPS_SP_MAX_BYTES))?;
                    if let Some(kept) = keeps_sp(code, arch) {
                        self.rules.truncate(first);
                        self.rules.push((start, Rule::plain_sp(8)));
                        let rule = self.side.kept_sp(kept.reg, arch);
                        self.rules.push((start.saturating_add(kept.from), rule));
                        self.rules.push((start.saturating_add(kept.to), Rule::plain_sp(8)));
                    }
                }
            }
            let n = self.rules.len() - first;
            spans.push(Span { start, end: function.end, first, n });
            Ok(())
        })?;
        if let Some((first, start, changed)) = grows
            && let Some(growth) = growth::growth(file, go, &mut text, start, changed)?
            && let Some([before, behind]) = self.rules.get_mut(first..first + 2)
        {
            before.1 = Rule::plain_sp(8);
            behind.1 = self.side.growth(growth);
        }
        self.fill(spans);
        Ok(foreign)
    }
}

/// x86-64: whether a Go function saves rbp where its frame begins: `push %rbp`, or before Go 1.21
/// `mov %rbp, N(%rsp)` after the frame was made. Assembly with a frame of its own need not.
/// arm64: all functions with a frame do.
fn saves_frame_pointer<R: ReadAt>(
    file: &ElfFile<R>,
    text: &mut Window,
    arch: Arch,
    deltas: &[(u64, i32)],
) -> Result<bool, Error> {
    let Some(&(pc, delta)) = deltas.iter().find(|(_, delta)| *delta > 0) else {
        return Ok(false);
    };
    if arch.machine == Machine::Arm64 {
        return Ok(true);
    }
    let code = code_at(file, text, pc.saturating_sub(1), 9)?;
    let stored_at = match code {
        [0x55, ..] => return Ok(delta == 8),
        [_, 0x48, 0x89, 0x6c, 0x24, off, ..] => i32::from(off.cast_signed()),
        [_, 0x48, 0x89, 0xac, 0x24, a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]),
        _ => return Ok(false),
    };
    Ok(stored_at == delta - 8)
}

/// Bytes of a function that is asked where it keeps sp: `racecall` has 43.
const KEEPS_SP_MAX_BYTES: usize = 128;

/// Where a function has its caller's sp in a register, as offsets of its code.
struct KeptSp {
    reg: u8,
    from: u64,
    to: u64,
}

/// x86-64 assembly without a frame that calls C on the thread's stack keeps its sp in a register
/// that callees save, and nowhere else: `mov %rsp, %r12` … `mov %r12, %rsp` (`racecall`, by which
/// programs that are built with `-race` call the race detector: runtime/race_amd64.s @ go1.19,
/// go1.26).
fn keeps_sp(code: &[u8], arch: Arch) -> Option<KeptSp> {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut kept: Option<(Register, u8, u64)> = None;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let moves = instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Register;
        if !moves {
            continue;
        }
        let (to, from) = (instruction.op0_register(), instruction.op1_register());
        let at = decoder.position() as u64;
        match kept {
            None if from == Register::RSP => {
                let reg = crate::synth::dwarf(to).filter(|&reg| arch.keeps(reg))?;
                kept = Some((to, reg, at));
            }
            Some((register, reg, begin)) if to == Register::RSP && from == register => {
                return Some(KeptSp { reg, from: begin, to: at });
            }
            // It holds something else by now.
            Some((register, ..)) if to == register => return None,
            _ => {}
        }
    }
    None
}

/// The register in which functions of a file keep their sp while they call C ([`keeps_sp`]), if it is one.
pub(super) fn kept_register<R: ReadAt>(
    file: &ElfFile<R>,
    go: &mut GoTable,
    arch: Arch,
) -> Result<Option<u8>, Error> {
    let mut text = Window::default();
    let mut kept = None;
    let mut is_one = true;
    go.that_set_sp(file.reader(), |function| {
        let len = usize::try_from(function.end - function.start).unwrap_or(usize::MAX);
        let code = code_at(file, &mut text, function.start, len.min(KEEPS_SP_MAX_BYTES))?;
        if let Some(found) = keeps_sp(code, arch) {
            is_one &= *kept.get_or_insert(found.reg) == found.reg;
        }
        Ok(())
    })?;
    Ok(kept.filter(|_| is_one))
}

/// The rules of a Go function where sp is `delta` bytes below its value at entry.
fn go_unwind(arch: Arch, delta: i32, saves_fp: bool, kind: Kind) -> Unwind {
    if arch.machine == Machine::Arm64 {
        // The return address is at sp, the frame pointer below it.
        let (fp, ra) = match delta {
            0 => (Saved::Same, Saved::Same),
            _ => (
                Saved::At(delta.saturating_neg().saturating_sub(8)),
                Saved::At(delta.saturating_neg()),
            ),
        };
        return Unwind { cfa: Cfa::Reg { reg: arch.sp, off: delta }, fp, ra, kept: None };
    }
    let framed = saves_fp && delta >= 8;
    let cfa = match kind {
        // sp may be on another stack; rbp still points to its own slot.
        Kind::SetsSp | Kind::CallsBack | Kind::CallsOut if framed => {
            Cfa::Reg { reg: arch.fp, off: 16 }
        }
        _ => Cfa::Reg { reg: arch.sp, off: delta.saturating_add(8) },
    };
    let fp = if framed { Saved::At(-16) } else { Saved::Same };
    Unwind { cfa, fp, ra: Saved::At(-8), kept: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `racecall` as Go 1.26 has it keeps sp from the one move to the other; what keeps it elsewhere, loses it or does
    /// not take it back says nothing, cut anywhere.
    #[test]
    fn sp_is_kept_where_the_code_says() {
        let arch = Arch::of(Machine::X86_64).unwrap();
        let code = [
            0x4d, 0x8b, 0x6e, 0x30, // mov 0x30(%r14),%r13
            0x49, 0x89, 0xe4, // mov %rsp,%r12
            0x4d, 0x8b, 0x55, 0x00, // mov 0x0(%r13),%r10
            0x4d, 0x39, 0xf2, // cmp %r14,%r10
            0x74, 0x04, // je
            0x49, 0x8b, 0x62, 0x38, // mov 0x38(%r10),%rsp
            0x48, 0x83, 0xe4, 0xf0, // and $-16,%rsp
            0xff, 0xd0, // call *%rax
            0x4c, 0x89, 0xe4, // mov %r12,%rsp
            0x0f, 0x57, 0xc0, 0xc3, // xorps; ret
        ];
        let kept = |code: &[u8]| keeps_sp(code, arch).map(|kept| (kept.reg, kept.from, kept.to));
        assert_eq!(kept(&code), Some((12, 7, 29)));
        for len in 0..29 {
            assert_eq!(kept(&code[..len]), None, "{len} bytes");
        }
        let changed = |at: usize, by: &[u8]| {
            let mut code = code;
            code[at..at + by.len()].copy_from_slice(by);
            kept(&code)
        };
        // In r11, which callees need not save; taken from rbx; r12 is overwritten.
        assert_eq!(changed(4, &[0x49, 0x89, 0xe3]), None);
        assert_eq!(changed(26, &[0x48, 0x89, 0xdc]), None);
        assert_eq!(changed(11, &[0x4d, 0x89, 0xf4]), None);
    }
}
