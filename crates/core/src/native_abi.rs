use hotframe_abi::*;
// Generated from kernel/native/abi.h by tools/abigen: `make generate`.

pub const HF_READ_STACK: u32 = 0;
pub const HF_READ_LASTING: u32 = 1;
pub const HF_READ_SIGNAL: u32 = 2;
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_native_call {
    pub regs: [__u64; 33usize],
    pub missing_pc: __u64,
    pub cut_pc: __u64,
    pub stack_hash: __u64,
    pub blob_off: __u32,
    pub max_frames: __u32,
    pub n_words: __u32,
    pub n_frames: __u32,
    pub arm64: __u8,
    pub regs_valid: __u8,
    pub pc_is_return: __u8,
    pub missing: __u8,
    pub cut: __u8,
    pub heuristic: __u8,
    pub late: __u8,
    pub lost_runtime: __u8,
    pub lost_why: __u8,
    pub is_bare: __u8,
    pub reserved: [__u8; 6usize],
    pub tp: __u64,
    pub left_at: __u64,
    pub runtime_state: [__u64; 8usize],
    pub words: [__u64; 12288usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_native_call"][::core::mem::size_of::<hf_native_call>() - 98704usize];
    ["Alignment of hf_native_call"][::core::mem::align_of::<hf_native_call>() - 8usize];
    ["Offset of field: hf_native_call::regs"]
        [::core::mem::offset_of!(hf_native_call, regs) - 0usize];
    ["Offset of field: hf_native_call::missing_pc"]
        [::core::mem::offset_of!(hf_native_call, missing_pc) - 264usize];
    ["Offset of field: hf_native_call::cut_pc"]
        [::core::mem::offset_of!(hf_native_call, cut_pc) - 272usize];
    ["Offset of field: hf_native_call::stack_hash"]
        [::core::mem::offset_of!(hf_native_call, stack_hash) - 280usize];
    ["Offset of field: hf_native_call::blob_off"]
        [::core::mem::offset_of!(hf_native_call, blob_off) - 288usize];
    ["Offset of field: hf_native_call::max_frames"]
        [::core::mem::offset_of!(hf_native_call, max_frames) - 292usize];
    ["Offset of field: hf_native_call::n_words"]
        [::core::mem::offset_of!(hf_native_call, n_words) - 296usize];
    ["Offset of field: hf_native_call::n_frames"]
        [::core::mem::offset_of!(hf_native_call, n_frames) - 300usize];
    ["Offset of field: hf_native_call::arm64"]
        [::core::mem::offset_of!(hf_native_call, arm64) - 304usize];
    ["Offset of field: hf_native_call::regs_valid"]
        [::core::mem::offset_of!(hf_native_call, regs_valid) - 305usize];
    ["Offset of field: hf_native_call::pc_is_return"]
        [::core::mem::offset_of!(hf_native_call, pc_is_return) - 306usize];
    ["Offset of field: hf_native_call::missing"]
        [::core::mem::offset_of!(hf_native_call, missing) - 307usize];
    ["Offset of field: hf_native_call::cut"]
        [::core::mem::offset_of!(hf_native_call, cut) - 308usize];
    ["Offset of field: hf_native_call::heuristic"]
        [::core::mem::offset_of!(hf_native_call, heuristic) - 309usize];
    ["Offset of field: hf_native_call::late"]
        [::core::mem::offset_of!(hf_native_call, late) - 310usize];
    ["Offset of field: hf_native_call::lost_runtime"]
        [::core::mem::offset_of!(hf_native_call, lost_runtime) - 311usize];
    ["Offset of field: hf_native_call::lost_why"]
        [::core::mem::offset_of!(hf_native_call, lost_why) - 312usize];
    ["Offset of field: hf_native_call::is_bare"]
        [::core::mem::offset_of!(hf_native_call, is_bare) - 313usize];
    ["Offset of field: hf_native_call::reserved"]
        [::core::mem::offset_of!(hf_native_call, reserved) - 314usize];
    ["Offset of field: hf_native_call::tp"][::core::mem::offset_of!(hf_native_call, tp) - 320usize];
    ["Offset of field: hf_native_call::left_at"]
        [::core::mem::offset_of!(hf_native_call, left_at) - 328usize];
    ["Offset of field: hf_native_call::runtime_state"]
        [::core::mem::offset_of!(hf_native_call, runtime_state) - 336usize];
    ["Offset of field: hf_native_call::words"]
        [::core::mem::offset_of!(hf_native_call, words) - 400usize];
};
