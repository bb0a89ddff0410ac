//! Where execution goes from an interrupted pc on.
//!
//! In: the code between two records of debug information. Out: whether it comes to the second of
//! them, or leaves for elsewhere before. Behind a method's return stands code that is rarely run, of
//! whatever was inlined: the record that comes next by its address is that code's, and names a method
//! that may never have run.
//!
//! # How it works
//! Instructions are decoded from the first record on, which stands at an instruction's begin. Jumps are
//! followed. A conditional one is followed backwards, as loops go on more often than they end, and not
//! forwards, as compilers put what is rare there.
//!
//! # Sources
//! `PhaseOutput::Process_OopMap_Node` (share/opto/output.cpp), `LIR_Assembler::add_debug_info_for_branch`
//! (share/c1/c1_LIRAssembler.cpp) @ jdk-17+35: the record of a call stands at its return address, that of
//! a poll, or of an access that may fault, at the instruction itself.
//!
//! # Not handled
//! Jumps by a register or through memory: the next record by address is taken, as if they were none.
//! Code of other processors: no frame of it is sent.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use std::ops::Range;

/// How a run of instructions ends that are executed one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At the second record. Whether a call stands before it.
    Record { is_call: bool },
    /// By a jump to this offset.
    Jump(u32),
    /// By a jump back to `to`, or else at `next`.
    Branch { to: u32, next: u32 },
    /// The method returns.
    Return,
    /// It cannot be known.
    Unknown,
}

/// The run that an offset lies in, and how it ends. `code` is what begins at `start`, where an
/// instruction does, up to the second record.
pub(crate) fn run(code: &[u8], start: u32, at: u32) -> (Range<u32>, End) {
    let unknown = (at..at.saturating_add(1), End::Unknown);
    let mut decoder = Decoder::with_ip(64, code, start.into(), DecoderOptions::NONE);
    let (mut instruction, mut from) = (Instruction::default(), start);
    let (mut is_call, mut has_met) = (false, false);
    while decoder.can_decode() {
        let ip = decoder.ip() as u32;
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            // The last one may have its record within: a call's patched into, or what is no code.
            return unknown;
        }
        has_met |= ip == at;
        let next = instruction.next_ip() as u32;
        let target = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64)
            .then(|| u32::try_from(instruction.near_branch64()).ok());
        let end = match instruction.flow_control() {
            FlowControl::Return => Some(End::Return),
            FlowControl::UnconditionalBranch => {
                Some(target.flatten().map_or(End::Unknown, End::Jump))
            }
            FlowControl::ConditionalBranch => match target.flatten() {
                Some(to) if to <= ip => Some(End::Branch { to, next }),
                _ => None,
            },
            FlowControl::IndirectBranch | FlowControl::Exception => Some(End::Unknown),
            _ => None,
        };
        if let Some(end) = end {
            if at < next {
                return if has_met { (from..next, end) } else { unknown };
            }
            from = next;
        }
        is_call =
            matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
    }
    let end = start.saturating_add(code.len() as u32);
    if has_met || at == end { (from..end, End::Record { is_call }) } else { unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cmp edi, 0; jl 9; lea eax, [rdi+7]; ret; call 20; jne 3; jmp 30; jmp rax
    const CODE: &[u8] = &[
        0x83, 0xff, 0x00, // 0
        0x7c, 0x04, // 3: to 9
        0x8d, 0x47, 0x07, // 5
        0xc3, // 8
        0xe8, 0x06, 0x00, 0x00, 0x00, // 9
        0x75, 0xf3, // 14: to 3
        0xeb, 0x0c, // 16: to 30
        0xff, 0xe0, // 18
    ];

    /// What is executed after each instruction, and for which others that is so too.
    #[test]
    fn runs() {
        for at in [0, 3, 5, 8] {
            assert_eq!(run(CODE, 0, at), (0..9, End::Return), "{at}");
        }
        for at in [9, 14] {
            assert_eq!(run(CODE, 0, at), (9..16, End::Branch { to: 3, next: 16 }), "{at}");
        }
        assert_eq!(run(CODE, 0, 16), (16..18, End::Jump(30)));
        assert_eq!(run(CODE, 0, 18), (18..20, End::Unknown));
        // Up to a record behind a call, and to one at an instruction.
        assert_eq!(run(&CODE[9..14], 9, 9), (9..14, End::Record { is_call: true }));
        assert_eq!(run(&CODE[9..14], 9, 14), (9..14, End::Record { is_call: true }));
        assert_eq!(run(&CODE[..8], 0, 3), (0..8, End::Record { is_call: false }));
    }

    /// Within an instruction, behind the end, in what is no code: nothing is said of others.
    #[test]
    fn where_no_instruction_begins() {
        for at in [1, 4, 10, 21] {
            assert_eq!(run(CODE, 0, at), (at..at + 1, End::Unknown), "{at}");
        }
        assert_eq!(run(&[0x06; 9], 0, 4).1, End::Unknown);
        assert_eq!(run(&[], 7, 3).1, End::Unknown);
        assert_eq!(run(&CODE[..11], 0, 9).1, End::Unknown);
        // Offsets that no code has do not overflow.
        run(CODE, u32::MAX - 3, u32::MAX);
    }
}
