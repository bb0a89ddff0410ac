//! The walk in user space: the kernel half's own C, compiled natively.
//!
//! In: registers, the tables in shared memory, and a way to read the process's memory (a slice of
//! its stack, its files' text, a recording). Out: frame words, and how the walk ended. It finishes
//! what the kernel half could not because tables were missing, and runs recorded processes in
//! tests, so that what is tested is what runs in the kernel.
//!
//! This is the one place where Rust calls the kernel half's C (`kernel/native/walk.c`).

use hotframe_abi as abi;
use std::ffi::c_void;

/// `struct hf_native_call` of `kernel/native/walk.c`, field by field.
#[repr(C)]
struct Call {
    regs: [u64; abi::HF_NREGS as usize],
    missing_pc: u64,
    cut_pc: u64,
    stack_hash: u64,
    blob_off: u32,
    max_frames: u32,
    n_words: u32,
    n_frames: u32,
    arm64: u8,
    regs_valid: u8,
    pc_is_return: u8,
    missing: u8,
    cut: u8,
    heuristic: u8,
    late: u8,
    runtime_lost: u8,
    is_bare: u8,
    reserved: [u8; 7],
    tp: u64,
    runtime_state: [u64; abi::HF_RUNTIME_STATE_WORDS as usize],
    words: [u64; abi::HF_MAX_STACK_WORDS as usize],
}

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
            missing_pc: 0,
            cut_pc: 0,
            stack_hash: 0,
            blob_off: 0,
            max_frames: abi::HF_MAX_FRAMES,
            n_words: words.len().min(abi::HF_MAX_STACK_WORDS as usize) as u32,
            n_frames: n_frames(words.get(n_kernel..).unwrap_or_default()),
            arm64: arm64.into(),
            regs_valid: regs_valid.into(),
            pc_is_return: pc_is_return.into(),
            missing: 0,
            cut: 0,
            heuristic: 0,
            late: 0,
            runtime_lost: 0,
            is_bare: 0,
            reserved: [0; 7],
            tp: 0,
            runtime_state: [0; abi::HF_RUNTIME_STATE_WORDS as usize],
            words: [0; abi::HF_MAX_STACK_WORDS as usize],
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
            lasting: i32,
        ) -> i32 {
            // SAFETY: context is the `&mut reader` passed below, alive for the call.
            let reader = unsafe { &mut *context.cast::<&mut dyn ReadUser>() };
            // SAFETY: the C side passes a buffer of its own of `bytes` bytes, initialised memory.
            let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), bytes as usize) };
            let done = if lasting == 0 {
                reader.read(addr, into)
            } else {
                reader.read_lasting(addr, into)
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

    /// Frames of a runtime are missing.
    pub fn has_lost_runtime(&self) -> bool {
        self.call.runtime_lost != 0
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

const _: () = assert!(
    size_of::<Call>()
        == (abi::HF_NREGS + 3 + 2 + 2 + 1 + abi::HF_RUNTIME_STATE_WORDS + abi::HF_MAX_STACK_WORDS)
            as usize
            * 8,
    "no padding: the C structure has the same fields"
);
