//! Rows of Go functions, by the stack deltas of their function table.

use super::{Builder, Span, code_at, growth};
use crate::Error;
use crate::cfi::{Arch, Cfa, Saved, Unwind};
use crate::elf::{ElfFile, Machine};
use crate::gopclntab::{GoTable, Kind};
use crate::read::{ReadAt, Window};
use crate::rules::{Rule, is_sigreturn};

impl Builder {
    /// Go functions, by their stack deltas.
    pub(super) fn add_go<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        go: &mut GoTable,
    ) -> Result<(), Error> {
        let (low, high) = self.reach();
        let arch = self.arch;
        let mut spans: Vec<Span> = Vec::new();
        let mut text = Window::default();
        let mut grows = None;
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
                self.rules.push((start, Rule::NONE_FUNCTION));
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
        Ok(())
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
        return Unwind { cfa: Cfa::Reg { reg: arch.sp, off: delta }, fp, ra };
    }
    let framed = saves_fp && delta >= 8;
    let cfa = match kind {
        // sp may be on another stack; rbp still points to its own slot.
        Kind::SetsSp | Kind::CallsBack | Kind::CallsOut if framed => {
            Cfa::Reg { reg: arch.fp, off: 16 }
        }
        _ => Cfa::Reg { reg: arch.sp, off: delta.saturating_add(8) },
    };
    Unwind { cfa, fp: if framed { Saved::At(-16) } else { Saved::Same }, ra: Saved::At(-8) }
}
