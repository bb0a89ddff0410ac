//! Where stacks end and code that no call leads to: the entry point, and trampolines that are known by their code.

use super::{Builder, Span, disjoint};
use crate::Error;
use crate::cfi::Arch;
use crate::elf::{ElfFile, Machine};
use crate::read::ReadAt;
use crate::rules::{Rule, find_fiber_ends, find_sigreturn, find_thread_begins};

impl Builder {
    /// The entry point has no caller, whatever its rows say: many libcs leave it undescribed.
    pub(super) fn end_at_entry_point<R: ReadAt>(&mut self, file: &ElfFile<R>) -> Result<(), Error> {
        let entry = file.entry();
        if entry == 0 || entry < self.low.saturating_sub(128) || entry >= self.high {
            return Ok(());
        }
        let mut code = [0; 128];
        let got = file.read_vaddr(&mut code, entry)?;
        let code = code.get(..got).unwrap_or_default();
        // Linkers give a library without one the start of its text: a function like any other.
        if !file.is_program() && !begins_like_entry(code, self.arch) {
            return Ok(());
        }
        if self.end_at(entry) {
            return Ok(());
        }
        let n = bytes_to_jump(code, self.arch);
        let first = self.rules.len();
        self.rules.push((entry, Rule::END));
        self.fill(vec![Span { start: entry, end: entry.saturating_add(n), first, n: 1 }]);
        Ok(())
    }

    /// The stack ends in the function that starts here, if one that is described does.
    pub(super) fn end_at(&mut self, start: u64) -> bool {
        let Some(span) = self.spans.iter_mut().find(|span| span.start == start) else {
            return false;
        };
        if let Some(first) = self.rules.get_mut(span.first) {
            first.1 = Rule::END;
        }
        span.n = 1;
        true
    }

    /// Trampolines without call frame information (musl's, fibers'), and where its threads begin.
    pub(super) fn find_trampolines<R: ReadAt>(
        &mut self,
        file: &ElfFile<R>,
        gaps: &[(u64, u64)],
    ) -> Result<(), Error> {
        let mut spans = Vec::new();
        let mut code = Vec::new();
        for &(from, to) in gaps.iter().take(4096) {
            code.resize(usize::try_from(to - from).unwrap_or(0).min(1 << 16), 0);
            let got = file.read_vaddr(&mut code, from)?;
            let code = code.get(..got).unwrap_or_default();
            for at in find_sigreturn(code, self.arch) {
                let start = from.saturating_add(at as u64);
                let first = self.rules.len();
                self.rules.push((start.saturating_sub(1), Rule::sigreturn(self.arch)));
                // Up to the system call, which does not return.
                let end = start.saturating_add(9);
                spans.push(Span { start: start.saturating_sub(1), end, first, n: 1 });
            }
            if self.arch.machine != Machine::X86_64 {
                continue;
            }
            for (at, end) in find_fiber_ends(code) {
                let (start, end) =
                    (from.saturating_add(at as u64), from.saturating_add(end as u64));
                let first = self.rules.len();
                // Its function has a name of its own, which covers the byte before it.
                self.rules.push((start.saturating_sub(1), Rule::END));
                spans.push(Span { start: start.saturating_sub(1), end, first, n: 1 });
            }
            for (at, end) in find_thread_begins(code) {
                let (start, end) =
                    (from.saturating_add(at as u64), from.saturating_add(end as u64));
                let first = self.rules.len();
                self.rules.push((start, Rule::END));
                spans.push(Span { start, end, first, n: 1 });
            }
        }
        self.fill(disjoint(spans));
        Ok(())
    }
}

/// The first instructions of an entry point: the frame pointer is cleared or the initial stack
/// pointer, where the arguments are, becomes the first argument.
fn begins_like_entry(code: &[u8], arch: Arch) -> bool {
    match arch.machine {
        Machine::Arm64 => {
            let words = code.chunks_exact(4).take(3);
            words.into_iter().any(|word| {
                // mov x29, #0; mov x0, sp
                matches!(word, [0x1d, 0x00, 0x80, 0xd2] | [0xe0, 0x03, 0x00, 0x91])
            })
        }
        _ => {
            let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
            // xor %ebp, %ebp, with and without REX; mov %rsp, %rdi
            [&[0x31, 0xed][..], &[0x48, 0x31, 0xed], &[0x48, 0x89, 0xe7]]
                .iter()
                .any(|start| code.starts_with(start))
        }
    }
}

/// How far straight-line code runs before it jumps or ends, that instruction included. It may call:
/// ld.so's entry code calls twice before it jumps to the program.
fn bytes_to_jump(code: &[u8], arch: Arch) -> u64 {
    use iced_x86::FlowControl::{Call, IndirectCall, Next};
    if arch.machine == Machine::Arm64 {
        let leaves = |word: &[u8]| {
            let word = word.try_into().map_or(0, u32::from_le_bytes);
            // b; br; ret; udf; brk
            word & 0xfc00_0000 == 0x1400_0000
                || word & 0xff9f_fc1f == 0xd61f_0000
                || word & 0xffff_0000 == 0
                || word & 0xffe0_001f == 0xd420_0000
        };
        let n = code.chunks_exact(4).position(leaves).map_or(code.len() / 4, |at| at + 1);
        return n as u64 * 4;
    }
    let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid()
            || instruction.mnemonic() == iced_x86::Mnemonic::Hlt
            || !matches!(instruction.flow_control(), Next | Call | IndirectCall)
        {
            break;
        }
    }
    decoder.position() as u64
}
