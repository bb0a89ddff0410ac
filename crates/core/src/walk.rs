//! The walk in user space: the kernel half's own C, compiled natively.
//!
//! In: registers, the tables in shared memory, and a way to read the process's memory (a slice of
//! its stack, its files' text, a recording). Out: frame words, and how the walk ended. It finishes
//! what the kernel half could not because tables were missing, and runs recorded processes in
//! tests, so that what is tested is what runs in the kernel.
//!
//! This is the one place where Rust calls the kernel half's C (`kernel/native/walk.c`).

use crate::native_abi::{self, hf_native_call as Call};
use hotframe_abi as abi;
use std::ffi::c_void;
use zerocopy::FromZeros as _;

unsafe extern "C" {
    fn hf_walk_native(
        call: *mut Call,
        memory: *const u8,
        memory_bytes: u64,
        read: extern "C" fn(*mut c_void, *mut c_void, u32, u64, i32) -> i32,
        context: *mut c_void,
    );
}

/// Where user memory comes from.
pub trait ReadUser {
    /// Fills `into` from `addr`; false if any byte is unreadable.
    fn read(&mut self, addr: u64, into: &mut [u8]) -> bool;

    /// The same of what outlives calls: code, and what a runtime knows of it.
    fn read_lasting(&mut self, addr: u64, into: &mut [u8]) -> bool {
        self.read(addr, into)
    }

    /// The same of what a signal interrupted. The handler's frames say nothing of where the walk goes
    /// on, which may be another stack.
    fn read_signal(&mut self, addr: u64, into: &mut [u8]) -> bool {
        self.read(addr, into)
    }
}

/// Why a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It ended: `HF_CUT_NONE` when the stack is whole.
    Ended {
        /// `HF_CUT_*`.
        cut: u8,
        /// Where it was cut.
        cut_pc: u64,
    },
    /// A table is missing; load it and run again.
    Missing {
        /// `HF_MISSING_*`.
        what: u8,
        /// The pc that is not covered.
        pc: u64,
    },
}

/// A walk in progress.
pub struct Walk {
    call: Box<Call>,
}

impl Walk {
    /// A walk that begins or goes on at `regs` (by DWARF number) after the frames in `words`, of
    /// which `n_kernel` are the kernel's.
    pub fn new(
        arm64: bool,
        regs: &[u64; abi::HF_NREGS as usize],
        regs_valid: bool,
        pc_is_return: bool,
        words: &[u64],
        n_kernel: usize,
    ) -> Walk {
        let mut call = Box::new(Call {
            regs: *regs,
            max_frames: abi::HF_MAX_FRAMES,
            n_words: words.len().min(abi::HF_MAX_STACK_WORDS as usize) as u32,
            n_frames: n_frames(words.get(n_kernel..).unwrap_or_default()),
            arm64: arm64.into(),
            regs_valid: regs_valid.into(),
            pc_is_return: pc_is_return.into(),
            ..Call::new_zeroed()
        });
        for (slot, word) in call.words.iter_mut().zip(words) {
            *slot = *word;
        }
        Walk { call }
    }

    /// Whether the function at pc has no frame of its own yet.
    #[must_use]
    pub fn bare(mut self, is_bare: bool) -> Walk {
        self.call.is_bare = is_bare.into();
        self
    }

    /// Where the stack goes on that a function between C and Go left; 0: none was left.
    #[must_use]
    pub fn left_at(mut self, address: u64) -> Walk {
        self.call.left_at = address;
        self
    }

    /// Whether one of the frames before was found by a heuristic.
    #[must_use]
    pub fn after_heuristic(mut self, is_heuristic: bool) -> Walk {
        self.call.heuristic = is_heuristic.into();
        self
    }

    /// Why frames of a runtime are missing further in: that reason is kept.
    #[must_use]
    pub fn after_loss(mut self, (runtime, why): (u8, u8)) -> Walk {
        (self.call.lost_runtime, self.call.lost_why) = (runtime, why);
        self
    }

    /// What the steps of runtimes need: where thread-local storage is, and what they remembered
    /// when the walk stopped.
    #[must_use]
    pub fn with_runtimes(
        mut self,
        tp: u64,
        state: &[u64; abi::HF_RUNTIME_STATE_WORDS as usize],
    ) -> Walk {
        self.call.tp = tp;
        self.call.runtime_state = *state;
        self
    }

    /// The process goes on while this walk is finished: what a runtime keeps beside the stack is
    /// not read, and its frames count as lost.
    #[must_use]
    pub fn late(mut self) -> Walk {
        self.call.late = 1;
        self
    }

    /// Runs until the stack ends or a table is missing.
    pub fn run(
        &mut self,
        memory: &dyn abi::SharedMemory,
        blob_off: u32,
        reader: &mut dyn ReadUser,
    ) -> Stop {
        extern "C" fn read(
            context: *mut c_void,
            into: *mut c_void,
            bytes: u32,
            addr: u64,
            what: i32,
        ) -> i32 {
            // SAFETY: context is the `&mut reader` passed below, alive for the call.
            let reader = unsafe { &mut *context.cast::<&mut dyn ReadUser>() };
            // SAFETY: the C side passes a buffer of its own of `bytes` bytes, initialised memory.
            let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), bytes as usize) };
            let done = match what as u32 {
                native_abi::HF_READ_LASTING => reader.read_lasting(addr, into),
                native_abi::HF_READ_SIGNAL => reader.read_signal(addr, into),
                native_abi::HF_READ_STACK => reader.read(addr, into),
                _ => false,
            };
            i32::from(!done)
        }
        let mut reader = reader;
        self.call.blob_off = blob_off;
        let (base, bytes) = memory.as_raw();
        // SAFETY: `call` has the layout of the C structure (asserted below), memory is `bytes`
        // long and outlives the call, and the C side checks every offset against `bytes`; it
        // keeps no pointer after it returns, and its scratch is thread-local.
        unsafe {
            hf_walk_native(
                &raw mut *self.call,
                base,
                bytes,
                read,
                std::ptr::from_mut(&mut reader).cast(),
            );
        }
        if self.call.missing != 0 {
            Stop::Missing { what: self.call.missing, pc: self.call.missing_pc }
        } else {
            Stop::Ended { cut: self.call.cut, cut_pc: self.call.cut_pc }
        }
    }

    /// The frames so far, kernel's first, leaf first.
    pub fn words(&self) -> &[u64] {
        &self.call.words[..self.call.n_words as usize]
    }

    /// Hash of the frames and the cut reason, as the kernel half computes it.
    pub fn stack_hash(&self) -> u64 {
        self.call.stack_hash
    }

    /// The runtime whose frames are missing, and why; zeros: none are.
    pub fn lost(&self) -> (u8, u8) {
        (self.call.lost_runtime, self.call.lost_why)
    }

    /// Some frame was found by a heuristic.
    pub fn is_heuristic(&self) -> bool {
        self.call.heuristic != 0
    }
}

/// Frames among words: those of a runtime take several.
fn n_frames(words: &[u64]) -> u32 {
    let mut at = 0;
    let mut n = 0;
    while let Some(&word) = words.get(at) {
        at += 1 + abi::FrameWord(word).n_data_words();
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{OwnMemory, Tables};

    const CODE: u64 = 0x10_0000;
    const CODE_BYTES: u64 = 0x1000;
    const STACK: u64 = 0x7fff_0000_0000;
    /// Where each call's return address is, and the first word of its caller's stack.
    const SLOT: u64 = STACK + 64;
    /// Behind a call in the code, with an epilogue of its own that ends the walk: nothing called it.
    const CALLER: u64 = CODE + 0x802;

    /// Code that no file is behind, of which all but what is put there is zeros, and a stack.
    struct Generated {
        code: Vec<u8>,
        stack: Vec<u64>,
    }

    impl ReadUser for Generated {
        fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
            let stack: Vec<u8> = self.stack.iter().flat_map(|word| word.to_le_bytes()).collect();
            let part = |bytes: &[u8], start: u64| {
                let at = usize::try_from(addr.checked_sub(start)?).ok()?;
                Some(bytes.get(at..at.checked_add(into.len())?)?.to_vec())
            };
            let found = part(&self.code, CODE).or_else(|| part(&stack, STACK));
            found.map(|bytes| into.copy_from_slice(&bytes)).is_some()
        }
    }

    /// The frames found from a pc in `code` put at an offset, and where the walk was cut.
    fn walked(at: u64, code: &[u8], skip: u64, is_return: bool, sp: u64, fp: u64) -> Vec<u64> {
        let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
        let mapping = abi::hf_mapping {
            start: CODE,
            end: CODE + CODE_BYTES,
            image: 0,
            file_id: 0,
            file_off: 0,
            runtime_off: 0,
            reserved: 0,
        };
        let blob = tables.add_blob(&[mapping], 0).expect("room");
        let mut process = Generated { code: vec![0; CODE_BYTES as usize], stack: vec![0; 512] };
        process.code[at as usize..][..code.len()].copy_from_slice(code);
        // call rcx
        process.code[0x800..0x802].copy_from_slice(&[0xff, 0xd1]);
        process.stack[(SLOT - STACK) as usize / 8] = CALLER;
        // What a wrong rule would come upon: addresses that are behind no call, and a chain of frame
        // pointers that leads past the caller.
        process.stack[(SLOT - STACK) as usize / 8 + 1] = CODE + 0x900;
        process.stack[(SLOT - STACK) as usize / 8 - 1] = STACK + 256;
        process.stack[32] = 0;
        process.stack[33] = CODE + 0x702;
        process.code[0x700..0x702].copy_from_slice(&[0xff, 0xd1]);
        let mut regs = [0; abi::HF_NREGS as usize];
        regs[abi::HF_X86_PC as usize] = CODE + at + skip;
        regs[abi::HF_X86_RSP as usize] = sp;
        regs[abi::HF_X86_RBP as usize] = fp;
        let mut walk = Walk::new(false, &regs, !is_return, is_return, &[], 0);
        let stop = walk.run(tables.memory(), blob.off, &mut process);
        assert!(matches!(stop, Stop::Ended { .. }), "{stop:?}");
        let pcs: Vec<u64> =
            walk.words()[1..].iter().map(|&word| abi::FrameWord(word).payload()).collect();
        // What an epilogue says is no guess.
        let is_guess = walk
            .words()
            .get(1)
            .is_some_and(|&word| abi::FrameWord(word).flags() & abi::HF_FRAME_HEURISTIC != 0);
        assert!(!is_return || is_guess != (pcs.first() == Some(&CALLER)));
        pcs
    }

    /// A call returns into generated code of which only the epilogue is left: its caller is found without
    /// a frame pointer, and not by way of one that leads past it. What is not all epilogue is not one.
    #[test]
    fn epilogues_of_generated_code() {
        let found =
            |code: &[u8], below: u64| walked(0x100, code, 0, true, SLOT - below, STACK + 256);
        // add rsp, 8; ret (CPython's trampoline), and all else that is known.
        assert_eq!(found(b"\x48\x83\xc4\x08\xc3", 8).first(), Some(&CALLER));
        assert_eq!(found(b"\x48\x81\xc4\x10\0\0\0\x41\x5f\x5b\xc3", 32).first(), Some(&CALLER));
        assert_eq!(found(b"\x5d\xc3", 8).first(), Some(&CALLER));
        assert_eq!(
            found(b"\x48\x83\xc4\x08\x5b\x5d\x41\x5c\x41\x5d\x41\x5e\x41\x5f\xc3", 56).first(),
            Some(&CALLER)
        );
        let leave = walked(0x100, b"\xc9\xc3", 0, true, STACK + 8, SLOT - 8);
        assert_eq!(leave.first(), Some(&CALLER));
        // The last bytes of what is mapped.
        let last = walked(CODE_BYTES - 8, b"\x48\x83\xc4\x08\xc3", 0, true, SLOT - 8, STACK + 256);
        assert_eq!(last.first(), Some(&CALLER));
        for other in [
            // jmp; a pop of rsp; a sum below zero; one more than is read; no ret; another call.
            &b"\x48\x83\xc4\x08\xeb\x01\xc3"[..],
            b"\x5c\xc3",
            b"\x48\x83\xc4\xf8\xc3",
            b"\x48\x81\xc4\x08\0\0\0\x48\x81\xc4\x08\0\0\0\x41\x5f\xc3",
            b"\x48\x83\xc4\x08",
            b"\x48\x83\xc4\x08\xff\xd1\xc3",
        ] {
            // By the frame pointer, as all code of which nothing is known.
            assert_eq!(found(other, 8).first(), Some(&(CODE + 0x702)), "{other:x?}");
        }
        // Nothing that is behind a call: the stack pointer was a guess.
        assert_eq!(found(b"\x48\x83\xc4\x08\xc3", 0).first(), Some(&(CODE + 0x702)));
    }

    /// CPython's trampoline, interrupted at each of its instructions.
    #[test]
    fn a_trampoline_that_is_interrupted() {
        let code = b"\xf3\x0f\x1e\xfa\x48\x83\xec\x08\xff\xd1\x48\x83\xc4\x08\xc3";
        for (at, below) in [(0, 0), (4, 0), (8, 8), (10, 8), (14, 0)] {
            let found = walked(0x100, code, at, false, SLOT - below, STACK + 256);
            assert_eq!(found.first(), Some(&CALLER), "at {at}");
        }
    }

    /// Words by their address; all others are 0.
    struct Words(std::collections::HashMap<u64, u64>);

    impl ReadUser for Words {
        fn read(&mut self, addr: u64, into: &mut [u8]) -> bool {
            for (at, byte) in (addr..).zip(into) {
                let word = self.0.get(&(at & !7)).copied().unwrap_or_default();
                *byte = word.to_le_bytes()[(at & 7) as usize];
            }
            true
        }
    }

    /// Tables of one file that is mapped at `image`, of so many blocks, and what a process's walk begins with.
    fn one_file(image: u64, n_blocks: u32) -> (Tables, crate::tables::Blob) {
        let mut tables = Tables::new(Box::new(OwnMemory::new(1 << 20)));
        let mapping = abi::hf_mapping {
            start: image,
            end: image + u64::from(n_blocks * abi::HF_BLOCK_BYTES),
            image,
            file_id: 1,
            file_off: tables.add_file(1, n_blocks).expect("room"),
            runtime_off: 0,
            reserved: 0,
        };
        let blob = tables.add_blob(&[mapping], 0).expect("room");
        (tables, blob)
    }

    /// Go called C, which called Go: the way leads over C's frames on the thread's stack, and back to
    /// the goroutine's where it is now, not where C's frames say that it was. C's rows come late.
    #[test]
    fn go_that_c_called_back() {
        const IMAGE: u64 = 0x10_0000;
        const GO: u64 = 0x100;
        const CALLS_BACK: u64 = 0x200;
        const CALLS_OUT: u64 = 0x300;
        const START: u64 = 0x400;
        const WRONG: u64 = 0x500;
        const C: u64 = 0x1_0100;
        const GOROUTINE: u64 = STACK;
        const THREAD: u64 = STACK + 0x8000;
        const MOVED_FROM: u64 = STACK + 0x4000;
        const IN: u64 = IMAGE + 8;

        let row = |pc: u64, kind: u32, cfa: i32, fp: i8| abi::hf_row {
            pc: pc as u16,
            kind: kind as u8,
            fp,
            cfa,
        };
        let between = |kind: u32| kind | abi::HF_RULE_NEW_STACK;
        let first = [
            row(0, abi::HF_RULE_NONE, 0, 0),
            row(GO, abi::HF_RULE_SP, 16, 0),
            row(CALLS_BACK, between(abi::HF_RULE_CALLS_BACK), 32, -2),
            row(CALLS_OUT, between(abi::HF_RULE_CALLS_OUT), 0, -2),
            row(START, abi::HF_RULE_END, 0, 0),
            row(WRONG, abi::HF_RULE_END, 0, 0),
        ];
        let second = [row(0, abi::HF_RULE_NONE, 0, 0), row(C, abi::HF_RULE_FP, 16, -2)];
        let words = [
            (GOROUTINE + 8, IN + CALLS_BACK),
            // The frame that it has here: 32 bytes, at the end of which it was called.
            (GOROUTINE + 32, 0),
            (GOROUTINE + 40, IN + GO),
            (GOROUTINE + 56, IN + START),
            (THREAD, THREAD + 64),
            (THREAD + 8, IN + C),
            (THREAD + 64, MOVED_FROM),
            (THREAD + 72, IN + CALLS_OUT),
            (MOVED_FROM, 0),
            (MOVED_FROM + 8, IN + WRONG),
        ];
        let walked = |pc: u64, sp: u64, fp: u64| {
            let (mut tables, blob) = one_file(IMAGE, 2);
            let mut regs = [0; abi::HF_NREGS as usize];
            regs[abi::HF_X86_PC as usize] = IN + pc;
            regs[abi::HF_X86_RSP as usize] = sp;
            regs[abi::HF_X86_RBP as usize] = fp;
            let mut walk = Walk::new(false, &regs, true, false, &[], 0);
            let mut process = Words(words.into());
            for (number, rows) in [(0, &first[..]), (1, &second[..])] {
                let stop = walk.run(tables.memory(), blob.off, &mut process);
                assert!(matches!(stop, Stop::Missing { .. }), "{stop:?}");
                assert!(tables.add_block(1, number, rows, &[]));
            }
            let stop = walk.run(tables.memory(), blob.off, &mut process);
            assert!(matches!(stop, Stop::Ended { .. }), "{stop:?}");
            let pc = |&word: &u64| abi::FrameWord(word).payload() & 0xffff_ffff;
            walk.words().iter().map(pc).map(|pc| pc - pc % 0x100).collect::<Vec<_>>()
        };
        assert_eq!(walked(GO, GOROUTINE, THREAD), [GO, CALLS_BACK, C, CALLS_OUT, GO, START]);
    }

    fn row(pc: u64, kind: u32, cfa: i32) -> abi::hf_row {
        abi::hf_row { pc: pc as u16, kind: kind as u8, fp: 0, cfa }
    }

    /// A rule of what a call led to: the return address is below the CFA.
    fn called(cfa_op: u32, cfa_reg: u32) -> abi::hf_rule {
        abi::hf_rule {
            cfa_op: cfa_op as u8,
            cfa_reg: cfa_reg as u8,
            ra_op: abi::HF_OP_CFA_DEREF as u8,
            ra_off: -8,
            ..abi::hf_rule::new_zeroed()
        }
    }

    /// A function calls on another stack and keeps its own in r12. What it calls has saved that, or has not,
    /// and is found by it; but not by what r12 held when another such call was left before.
    #[test]
    fn a_stack_that_is_kept_in_a_saved_register() {
        const IMAGE: u64 = 0x10_0000;
        const LEAF: u64 = 0x100;
        const SAVES: u64 = 0x200;
        const KEEPS: u64 = 0x300;
        const BEGIN: u64 = 0x400;
        const OTHER: u64 = STACK + 0x8000;
        let saves = abi::hf_rule {
            cfa_off: 32,
            cfa_mid: 12,
            cfa_off2: -16,
            ..called(abi::HF_OP_REG, abi::HF_X86_RSP)
        };
        let keeps = abi::hf_rule { cfa_off: 8, ..called(abi::HF_OP_KEPT, 12) };
        let rows = [
            row(0, abi::HF_RULE_NONE, 0),
            row(LEAF, abi::HF_RULE_SP, 16),
            row(SAVES, abi::HF_RULE_SIDE, 0),
            row(KEEPS, abi::HF_RULE_SIDE | abi::HF_RULE_NEW_STACK, 1),
            row(BEGIN, abi::HF_RULE_END, 0),
        ];
        // From a leaf through so many functions that save r12.
        let walked = |n_saves: u64, again: bool, r12: u64| {
            let (mut tables, blob) = one_file(IMAGE, 1);
            assert!(tables.add_block(1, 0, &rows, &[saves, keeps]));
            let mut words = std::collections::HashMap::new();
            let mut at = OTHER + 8;
            for n in 0..n_saves {
                words.insert(at, IMAGE + SAVES + 8);
                // The outermost has saved it; the others what that put into r12.
                let kept = if n + 1 == n_saves { STACK + 0x40 } else { 1 };
                words.insert(at + 24, kept);
                at += 32;
            }
            words.insert(at, IMAGE + KEEPS + 8);
            let next = if again { KEEPS } else { BEGIN };
            words.insert(STACK + 0x40, IMAGE + next + 8);
            // call rax, wherever a return address leads to
            for pc in [KEEPS, BEGIN] {
                words.insert(IMAGE + pc, 0xd0ff_0000_0000_0000);
            }
            let mut regs = [0; abi::HF_NREGS as usize];
            regs[abi::HF_X86_PC as usize] = IMAGE + LEAF + 8;
            regs[abi::HF_X86_RSP as usize] = OTHER;
            regs[12] = r12;
            let mut walk = Walk::new(false, &regs, true, false, &[], 0);
            let stop = walk.run(tables.memory(), blob.off, &mut Words(words));
            let Stop::Ended { cut, .. } = stop else { panic!("{stop:?}") };
            let pc = |&word: &u64| abi::FrameWord(word).payload() & 0xfff;
            let pcs: Vec<u64> = walk.words().iter().map(pc).map(|pc| pc - pc % 0x100).collect();
            (u32::from(cut), pcs)
        };
        let whole = |pcs: &[u64]| (abi::HF_CUT_NONE, pcs.to_vec());
        assert_eq!(walked(0, false, STACK + 0x40), whole(&[LEAF, KEEPS, BEGIN]));
        assert_eq!(walked(1, false, 1), whole(&[LEAF, SAVES, KEEPS, BEGIN]));
        assert_eq!(walked(3, false, 1), whole(&[LEAF, SAVES, SAVES, SAVES, KEEPS, BEGIN]));
        let (cut, pcs) = walked(1, true, 1);
        assert_eq!((cut, pcs.len()), (abi::HF_CUT_NO_UNWIND_INFO, 4));
    }

    /// Where the function that a coroutine begins with would return to stands 0. What stands there for
    /// a leaf, or after a guess, is no end.
    #[test]
    fn a_stack_that_begins_with_a_return_to_0() {
        const IMAGE: u64 = 0x10_0000;
        const WORK: u64 = 0x100;
        const BEGIN: u64 = 0x200;
        const GUESSED: u64 = 0x300;
        const BY_REGISTER: u64 = 0x400;
        let rule = abi::hf_rule { cfa_off: 32, ..called(abi::HF_OP_REG, abi::HF_X86_RSP) };
        let rows = [
            row(0, abi::HF_RULE_NONE, 0),
            row(WORK, abi::HF_RULE_SP, 8),
            row(BEGIN, abi::HF_RULE_SP, 32),
            row(GUESSED, abi::HF_RULE_SP | abi::HF_RULE_HEURISTIC, 32),
            row(BY_REGISTER, abi::HF_RULE_SIDE, 0),
        ];
        let cut = |pc: u64, caller: u64, after_heuristic: bool| {
            let (mut tables, blob) = one_file(IMAGE, 1);
            assert!(tables.add_block(1, 0, &rows, &[rule]));
            let mut regs = [0; abi::HF_NREGS as usize];
            regs[abi::HF_X86_PC as usize] = IMAGE + pc + 8;
            regs[abi::HF_X86_RSP as usize] = STACK;
            let mut process = Words([(STACK, IMAGE + caller + 8)].into());
            let mut walk =
                Walk::new(false, &regs, true, false, &[], 0).after_heuristic(after_heuristic);
            match walk.run(tables.memory(), blob.off, &mut process) {
                Stop::Ended { cut, .. } => u32::from(cut),
                stop @ Stop::Missing { .. } => panic!("{stop:?}"),
            }
        };
        assert_eq!(cut(WORK, BEGIN, false), abi::HF_CUT_NONE);
        assert_eq!(cut(WORK, BY_REGISTER, false), abi::HF_CUT_NONE);
        assert_eq!(cut(WORK, BEGIN, true), abi::HF_CUT_ZERO_RA);
        assert_eq!(cut(WORK, GUESSED, false), abi::HF_CUT_NO_UNWIND_INFO);
        // Its own return address is 0.
        assert_eq!(cut(BEGIN, WORK, false), abi::HF_CUT_ZERO_RA);
        // The same of a function of which nothing is known but its instructions.
        assert_eq!(cut(GUESSED, WORK, false), abi::HF_CUT_NO_UNWIND_INFO);
    }
}
