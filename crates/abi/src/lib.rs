//! The Rust twin of `kernel/include/hf/abi.h`: what crosses the boundary between the kernel half
//! and user space.
//!
//! `abi.rs` is generated (`make generate`) and checked for freshness (`make check`); what stands
//! here gives it Rust's manners: frame words as a type, and the region of shared memory as a trait.
#![forbid(unsafe_code)]

#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
#[allow(clippy::all)]
#[rustfmt::skip]
mod abi;
pub use abi::*;

/// `HF_HASH_SEED`: what a hash of both halves begins with.
pub const HASH_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// `hf_mix`: a hash with one more word.
pub fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 32
}

/// The region shared with the kernel half (`mem.h`): written here, read there.
pub trait SharedMemory {
    /// Size in bytes.
    fn len(&self) -> u64;
    /// Never.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Base and size, for the native walk.
    fn as_raw(&self) -> (*const u8, u64);
    /// Copies `bytes` to `offset`.
    fn write(&mut self, offset: u32, bytes: &[u8]);
    /// Stores a word after everything written before it.
    fn publish(&mut self, offset: u32, value: u32);
    /// Puts a letter into the mailbox.
    fn post(&mut self, letter: hf_letter);
    /// Returns when no walk that began before the call is still running.
    fn wait_for_readers(&mut self);
}

/// A frame word (`abi.h`, "frame words").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameWord(pub u64);

impl FrameWord {
    /// `HF_FRAME_*` kind.
    pub fn kind(self) -> u32 {
        (self.0 >> HF_FRAME_KIND_SHIFT) as u32
    }

    /// `HF_FRAME_RETURN_ADDR`, `HF_FRAME_HEURISTIC`.
    pub fn flags(self) -> u32 {
        (self.0 >> HF_FRAME_FLAGS_SHIFT) as u32 & 0xf
    }

    /// The 56 bits below the flags.
    pub fn payload(self) -> u64 {
        self.0 & HF_FRAME_PAYLOAD_MASK
    }

    /// File id of a native frame.
    pub fn file_id(self) -> u32 {
        (self.payload() >> HF_FRAME_FILE_SHIFT) as u32
    }

    /// Image offset of a native frame.
    pub fn image_offset(self) -> u32 {
        self.0 as u32
    }

    /// Address of a kernel frame.
    pub fn kernel_addr(self) -> u64 {
        self.payload() | !HF_FRAME_PAYLOAD_MASK
    }

    /// Bytes to take off the address to be inside of the call.
    pub fn call_offset(self) -> u64 {
        u64::from(self.flags() & HF_FRAME_RETURN_ADDR != 0)
    }

    /// `HF_RUNTIME_*` of a dynamic frame.
    pub fn runtime(self) -> u32 {
        (self.0 >> HF_FRAME_RUNTIME_SHIFT) as u32 & 0xff
    }

    /// Words of data that follow it.
    pub fn n_data_words(self) -> usize {
        if self.kind() == HF_FRAME_DYNAMIC {
            ((self.0 >> HF_FRAME_N_DATA_SHIFT) & 0xff) as usize
        } else {
            0
        }
    }
}
