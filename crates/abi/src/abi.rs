// Generated from kernel/include/hf/abi.h by tools/abigen: `make generate`.

pub const HF_FRAME_RETURN_ADDR: u32 = 1;
pub const HF_FRAME_HEURISTIC: u32 = 2;
pub const HF_FRAME_RUNS_RUNTIME: u32 = 4;
pub const HF_FRAME_KIND_SHIFT: u32 = 60;
pub const HF_FRAME_FLAGS_SHIFT: u32 = 56;
pub const HF_FRAME_FILE_SHIFT: u32 = 32;
pub const HF_FRAME_PAYLOAD_MASK: u64 = 72057594037927935;
pub const HF_FILE_ID_MAX: u32 = 16777215;
pub const HF_FRAME_RUNTIME_SHIFT: u32 = 48;
pub const HF_FRAME_N_DATA_SHIFT: u32 = 40;
pub const HF_MAX_DATA_WORDS: u32 = 3;
pub const HF_ARENA_ADDR: u64 = 17592186044416;
pub const HF_MEM_CHUNK_SHIFT: u32 = 20;
pub const HF_MEM_CHUNK_BYTES: u32 = 1048576;
pub const HF_MAILBOX_SLOTS: u32 = 4096;
pub const HF_MAILBOX_OFF: u32 = 65536;
pub const HF_HEAP_OFF: u32 = 131072;
pub const HF_RUNTIME_TABLE_MAX_BYTES: u32 = 61440;
pub const HF_MAX_MAPPINGS: u32 = 8192;
pub const HF_BLOCK_SHIFT: u32 = 16;
pub const HF_BLOCK_BYTES: u32 = 65536;
pub const HF_MAX_BLOCKS: u32 = 65536;
pub const HF_BUCKET_SHIFT: u32 = 8;
pub const HF_BUCKETS_PER_BLOCK: u32 = 256;
pub const HF_MAX_ROWS_PER_BLOCK: u32 = 65535;
pub const HF_RULE_KIND_MASK: u32 = 15;
pub const HF_RULE_HEURISTIC: u32 = 128;
pub const HF_RULE_RA_IN_LR: u32 = 64;
pub const HF_RULE_NEW_STACK: u32 = 32;
pub const HF_FP_UNDEFINED: u32 = 127;
pub const HF_NREGS: u32 = 33;
pub const HF_X86_RBP: u32 = 6;
pub const HF_X86_RSP: u32 = 7;
pub const HF_X86_PC: u32 = 16;
pub const HF_ARM64_FP: u32 = 29;
pub const HF_ARM64_LR: u32 = 30;
pub const HF_ARM64_SP: u32 = 31;
pub const HF_ARM64_PC: u32 = 32;
pub const HF_SAMPLE_HEURISTIC: u32 = 1;
pub const HF_SAMPLE_KTHREAD: u32 = 2;
pub const HF_SAMPLE_IN_KERNEL: u32 = 4;
pub const HF_SAMPLE_AUDIT: u32 = 8;
pub const HF_SAMPLE_SLICED: u32 = 16;
pub const HF_SAMPLE_IN_EXEC: u32 = 32;
pub const HF_SAMPLE_URGENT: u32 = 128;
pub const HF_COMM_BYTES: u32 = 16;
pub const HF_MAX_FRAMES: u32 = 4096;
pub const HF_MAX_FRAMES_BY_TAIL_CALLS: u32 = 512;
pub const HF_MAX_STEPS: u32 = 8192;
pub const HF_MAX_KERNEL_FRAMES: u32 = 127;
pub const HF_MAX_WORDS: u32 = 3072;
pub const HF_MAX_STACK_WORDS: u32 = 12288;
pub const HF_CPU_BYTES: u32 = 57344;
pub const HF_RUNTIME_STATE_WORDS: u32 = 8;
pub const HF_STACK_PAGE_SHIFT: u32 = 12;
pub const HF_STACK_PAGE_BYTES: u32 = 4096;
pub const HF_STACK_MAX_PAGES: u32 = 16;
pub const HF_STACK_OUTER_PAGES: u32 = 16;
pub const HF_STACK_MAX_BYTES: u32 = 67108864;
pub const HF_MAX_COMMS: u32 = 16;
pub const HF_MAX_PIDS: u32 = 16384;
pub const HF_MAX_CGROUPS: u32 = 64;
pub const HF_KSYMS: u32 = 256;
pub const HF_KSYM_BYTES: u32 = 192;
pub type __s8 = ::core::ffi::c_schar;
pub type __u8 = ::core::ffi::c_uchar;
pub type __s16 = ::core::ffi::c_short;
pub type __u16 = ::core::ffi::c_ushort;
pub type __s32 = ::core::ffi::c_int;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
pub const HF_FRAME_NONE: hf_frame_kind = 0;
pub const HF_FRAME_NATIVE: hf_frame_kind = 1;
pub const HF_FRAME_USER_PC: hf_frame_kind = 2;
pub const HF_FRAME_DYNAMIC: hf_frame_kind = 3;
pub const HF_FRAME_NOTE: hf_frame_kind = 4;
pub const HF_FRAME_KERNEL: hf_frame_kind = 15;
pub type hf_frame_kind = ::core::ffi::c_uint;
pub const HF_RUNTIME_NONE: hf_runtime = 0;
pub const HF_RUNTIME_CPYTHON: hf_runtime = 1;
pub const HF_RUNTIME_HOTSPOT: hf_runtime = 2;
pub const HF_RUNTIME_COUNT: hf_runtime = 3;
pub type hf_runtime = ::core::ffi::c_uint;
pub const HF_NOTE_NONE: hf_note = 0;
pub const HF_NOTE_TASK_32BIT: hf_note = 1;
pub type hf_note = ::core::ffi::c_uint;
pub const HF_CUT_NONE: hf_cut = 0;
pub const HF_CUT_NO_UNWIND_INFO: hf_cut = 1;
pub const HF_CUT_BAD_UNWIND_INFO: hf_cut = 2;
pub const HF_CUT_UNKNOWN_MAPPING: hf_cut = 3;
pub const HF_CUT_STALE_MAP: hf_cut = 4;
pub const HF_CUT_STACK_UNREADABLE: hf_cut = 5;
pub const HF_CUT_BAD_RETURN_ADDRESS: hf_cut = 6;
pub const HF_CUT_ZERO_RA: hf_cut = 7;
pub const HF_CUT_TOO_DEEP: hf_cut = 8;
pub const HF_CUT_TIME: hf_cut = 9;
pub const HF_CUT_BUDGET: hf_cut = 10;
pub const HF_CUT_PROCESS_GONE: hf_cut = 11;
pub const HF_CUT_COUNT: hf_cut = 12;
pub type hf_cut = ::core::ffi::c_uint;
pub const HF_FILTERED_IDLE: hf_filtered = 0;
pub const HF_FILTERED_PID: hf_filtered = 1;
pub const HF_FILTERED_CGROUP: hf_filtered = 2;
pub const HF_FILTERED_COMM: hf_filtered = 3;
pub const HF_FILTERED_NAMESPACE: hf_filtered = 4;
pub const HF_FILTERED_COUNT: hf_filtered = 5;
pub type hf_filtered = ::core::ffi::c_uint;
pub const HF_LOST_RING_FULL: hf_lost = 0;
pub const HF_LOST_NO_SCRATCH: hf_lost = 1;
pub const HF_LOST_TAIL_CALL: hf_lost = 2;
pub const HF_LOST_COUNT: hf_lost = 3;
pub type hf_lost = ::core::ffi::c_uint;
pub const HF_MISSING_NONE: hf_missing = 0;
pub const HF_MISSING_SPACE: hf_missing = 1;
pub const HF_MISSING_MAPPING: hf_missing = 2;
pub const HF_MISSING_ROWS: hf_missing = 3;
pub const HF_MISSING_STEP: hf_missing = 4;
pub type hf_missing = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_letter {
    pub space_id: __u32,
    pub blob_off: __u32,
    pub blob_id: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_letter"][::core::mem::size_of::<hf_letter>() - 16usize];
    ["Alignment of hf_letter"][::core::mem::align_of::<hf_letter>() - 4usize];
    ["Offset of field: hf_letter::space_id"][::core::mem::offset_of!(hf_letter, space_id) - 0usize];
    ["Offset of field: hf_letter::blob_off"][::core::mem::offset_of!(hf_letter, blob_off) - 4usize];
    ["Offset of field: hf_letter::blob_id"][::core::mem::offset_of!(hf_letter, blob_id) - 8usize];
    ["Offset of field: hf_letter::reserved"]
        [::core::mem::offset_of!(hf_letter, reserved) - 12usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_space {
    pub space_id: __u32,
    pub blob_off: __u32,
    pub blob_id: __u32,
    pub reserved: __u32,
    pub start_stack: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_space"][::core::mem::size_of::<hf_space>() - 24usize];
    ["Alignment of hf_space"][::core::mem::align_of::<hf_space>() - 8usize];
    ["Offset of field: hf_space::space_id"][::core::mem::offset_of!(hf_space, space_id) - 0usize];
    ["Offset of field: hf_space::blob_off"][::core::mem::offset_of!(hf_space, blob_off) - 4usize];
    ["Offset of field: hf_space::blob_id"][::core::mem::offset_of!(hf_space, blob_id) - 8usize];
    ["Offset of field: hf_space::reserved"][::core::mem::offset_of!(hf_space, reserved) - 12usize];
    ["Offset of field: hf_space::start_stack"]
        [::core::mem::offset_of!(hf_space, start_stack) - 16usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_mapping {
    pub start: __u64,
    pub end: __u64,
    pub image: __u64,
    pub file_id: __u32,
    pub file_off: __u32,
    pub runtime_off: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_mapping"][::core::mem::size_of::<hf_mapping>() - 40usize];
    ["Alignment of hf_mapping"][::core::mem::align_of::<hf_mapping>() - 8usize];
    ["Offset of field: hf_mapping::start"][::core::mem::offset_of!(hf_mapping, start) - 0usize];
    ["Offset of field: hf_mapping::end"][::core::mem::offset_of!(hf_mapping, end) - 8usize];
    ["Offset of field: hf_mapping::image"][::core::mem::offset_of!(hf_mapping, image) - 16usize];
    ["Offset of field: hf_mapping::file_id"]
        [::core::mem::offset_of!(hf_mapping, file_id) - 24usize];
    ["Offset of field: hf_mapping::file_off"]
        [::core::mem::offset_of!(hf_mapping, file_off) - 28usize];
    ["Offset of field: hf_mapping::runtime_off"]
        [::core::mem::offset_of!(hf_mapping, runtime_off) - 32usize];
    ["Offset of field: hf_mapping::reserved"]
        [::core::mem::offset_of!(hf_mapping, reserved) - 36usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_runtime_table {
    pub runtime: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_runtime_table"][::core::mem::size_of::<hf_runtime_table>() - 8usize];
    ["Alignment of hf_runtime_table"][::core::mem::align_of::<hf_runtime_table>() - 4usize];
    ["Offset of field: hf_runtime_table::runtime"]
        [::core::mem::offset_of!(hf_runtime_table, runtime) - 0usize];
    ["Offset of field: hf_runtime_table::reserved"]
        [::core::mem::offset_of!(hf_runtime_table, reserved) - 4usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_blob {
    pub blob_id: __u32,
    pub n_mappings: __u32,
    pub moment_off: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_blob"][::core::mem::size_of::<hf_blob>() - 16usize];
    ["Alignment of hf_blob"][::core::mem::align_of::<hf_blob>() - 4usize];
    ["Offset of field: hf_blob::blob_id"][::core::mem::offset_of!(hf_blob, blob_id) - 0usize];
    ["Offset of field: hf_blob::n_mappings"][::core::mem::offset_of!(hf_blob, n_mappings) - 4usize];
    ["Offset of field: hf_blob::moment_off"][::core::mem::offset_of!(hf_blob, moment_off) - 8usize];
    ["Offset of field: hf_blob::reserved"][::core::mem::offset_of!(hf_blob, reserved) - 12usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_file {
    pub file_id: __u32,
    pub n_blocks: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_file"][::core::mem::size_of::<hf_file>() - 8usize];
    ["Alignment of hf_file"][::core::mem::align_of::<hf_file>() - 4usize];
    ["Offset of field: hf_file::file_id"][::core::mem::offset_of!(hf_file, file_id) - 0usize];
    ["Offset of field: hf_file::n_blocks"][::core::mem::offset_of!(hf_file, n_blocks) - 4usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_row {
    pub pc: __u16,
    pub kind: __u8,
    pub fp: __s8,
    pub cfa: __s32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_row"][::core::mem::size_of::<hf_row>() - 8usize];
    ["Alignment of hf_row"][::core::mem::align_of::<hf_row>() - 4usize];
    ["Offset of field: hf_row::pc"][::core::mem::offset_of!(hf_row, pc) - 0usize];
    ["Offset of field: hf_row::kind"][::core::mem::offset_of!(hf_row, kind) - 2usize];
    ["Offset of field: hf_row::fp"][::core::mem::offset_of!(hf_row, fp) - 3usize];
    ["Offset of field: hf_row::cfa"][::core::mem::offset_of!(hf_row, cfa) - 4usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_block {
    pub file_id: __u32,
    pub n_rows: __u32,
    pub rules_off: __u32,
    pub n_rules: __u32,
    pub index: [__u16; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_block"][::core::mem::size_of::<hf_block>() - 528usize];
    ["Alignment of hf_block"][::core::mem::align_of::<hf_block>() - 4usize];
    ["Offset of field: hf_block::file_id"][::core::mem::offset_of!(hf_block, file_id) - 0usize];
    ["Offset of field: hf_block::n_rows"][::core::mem::offset_of!(hf_block, n_rows) - 4usize];
    ["Offset of field: hf_block::rules_off"][::core::mem::offset_of!(hf_block, rules_off) - 8usize];
    ["Offset of field: hf_block::n_rules"][::core::mem::offset_of!(hf_block, n_rules) - 12usize];
    ["Offset of field: hf_block::index"][::core::mem::offset_of!(hf_block, index) - 16usize];
};
pub const HF_RULE_NONE: hf_rule_kind = 0;
pub const HF_RULE_SP: hf_rule_kind = 1;
pub const HF_RULE_FP: hf_rule_kind = 2;
pub const HF_RULE_END: hf_rule_kind = 3;
pub const HF_RULE_SIDE: hf_rule_kind = 4;
pub const HF_RULE_SIGNAL: hf_rule_kind = 5;
pub const HF_RULE_PLT: hf_rule_kind = 6;
pub const HF_RULE_BAD: hf_rule_kind = 7;
pub const HF_RULE_CALLS_BACK: hf_rule_kind = 8;
pub const HF_RULE_CALLS_OUT: hf_rule_kind = 9;
pub const HF_RULE_KIND_COUNT: hf_rule_kind = 10;
pub type hf_rule_kind = ::core::ffi::c_uint;
pub const HF_OP_SAME: hf_op = 0;
pub const HF_OP_UNDEFINED: hf_op = 1;
pub const HF_OP_REG: hf_op = 2;
pub const HF_OP_DEREF: hf_op = 3;
pub const HF_OP_CFA_DEREF: hf_op = 4;
pub const HF_OP_CFA: hf_op = 5;
pub const HF_OP_BARE: hf_op = 6;
pub const HF_OP_GREW: hf_op = 7;
pub const HF_OP_DEREF_TWICE: hf_op = 8;
pub const HF_OP_KEPT: hf_op = 9;
pub type hf_op = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_rule {
    pub cfa_op: __u8,
    pub cfa_reg: __u8,
    pub fp_op: __u8,
    pub fp_reg: __u8,
    pub ra_op: __u8,
    pub ra_reg: __u8,
    pub cfa_mid: __s16,
    pub cfa_off: __s32,
    pub cfa_off2: __s32,
    pub fp_off: __s32,
    pub fp_off2: __s32,
    pub ra_off: __s32,
    pub ra_off2: __s32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_rule"][::core::mem::size_of::<hf_rule>() - 32usize];
    ["Alignment of hf_rule"][::core::mem::align_of::<hf_rule>() - 4usize];
    ["Offset of field: hf_rule::cfa_op"][::core::mem::offset_of!(hf_rule, cfa_op) - 0usize];
    ["Offset of field: hf_rule::cfa_reg"][::core::mem::offset_of!(hf_rule, cfa_reg) - 1usize];
    ["Offset of field: hf_rule::fp_op"][::core::mem::offset_of!(hf_rule, fp_op) - 2usize];
    ["Offset of field: hf_rule::fp_reg"][::core::mem::offset_of!(hf_rule, fp_reg) - 3usize];
    ["Offset of field: hf_rule::ra_op"][::core::mem::offset_of!(hf_rule, ra_op) - 4usize];
    ["Offset of field: hf_rule::ra_reg"][::core::mem::offset_of!(hf_rule, ra_reg) - 5usize];
    ["Offset of field: hf_rule::cfa_mid"][::core::mem::offset_of!(hf_rule, cfa_mid) - 6usize];
    ["Offset of field: hf_rule::cfa_off"][::core::mem::offset_of!(hf_rule, cfa_off) - 8usize];
    ["Offset of field: hf_rule::cfa_off2"][::core::mem::offset_of!(hf_rule, cfa_off2) - 12usize];
    ["Offset of field: hf_rule::fp_off"][::core::mem::offset_of!(hf_rule, fp_off) - 16usize];
    ["Offset of field: hf_rule::fp_off2"][::core::mem::offset_of!(hf_rule, fp_off2) - 20usize];
    ["Offset of field: hf_rule::ra_off"][::core::mem::offset_of!(hf_rule, ra_off) - 24usize];
    ["Offset of field: hf_rule::ra_off2"][::core::mem::offset_of!(hf_rule, ra_off2) - 28usize];
};
pub const HF_RECORD_SAMPLE: hf_record_type = 1;
pub const HF_RECORD_SLICE: hf_record_type = 2;
pub const HF_RECORD_SPACE: hf_record_type = 3;
pub const HF_RECORD_STACK: hf_record_type = 4;
pub const HF_RECORD_PART: hf_record_type = 5;
pub const HF_RECORD_TOLD: hf_record_type = 6;
pub type hf_record_type = ::core::ffi::c_uint;
pub const HF_ORIGIN_CPU: hf_origin = 0;
pub const HF_ORIGIN_COUNT: hf_origin = 1;
pub type hf_origin = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_sample {
    pub type_: __u8,
    pub origin: __u8,
    pub cut: __u8,
    pub flags: __u8,
    pub n_words: __u16,
    pub n_kernel: __u16,
    pub time_ns: __u64,
    pub stack_hash: __u64,
    pub tgid: __u32,
    pub tid: __u32,
    pub start_ns: __u64,
    pub exec_id: __u32,
    pub cpu: __u16,
    pub lost_runtime: __u8,
    pub lost_why: __u8,
    pub space_id: __u32,
    pub blob_id: __u32,
    pub label_set: __u32,
    pub weight: __u32,
    pub cut_pc: __u64,
    pub comm: [__u8; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_sample"][::core::mem::size_of::<hf_sample>() - 88usize];
    ["Alignment of hf_sample"][::core::mem::align_of::<hf_sample>() - 8usize];
    ["Offset of field: hf_sample::type_"][::core::mem::offset_of!(hf_sample, type_) - 0usize];
    ["Offset of field: hf_sample::origin"][::core::mem::offset_of!(hf_sample, origin) - 1usize];
    ["Offset of field: hf_sample::cut"][::core::mem::offset_of!(hf_sample, cut) - 2usize];
    ["Offset of field: hf_sample::flags"][::core::mem::offset_of!(hf_sample, flags) - 3usize];
    ["Offset of field: hf_sample::n_words"][::core::mem::offset_of!(hf_sample, n_words) - 4usize];
    ["Offset of field: hf_sample::n_kernel"][::core::mem::offset_of!(hf_sample, n_kernel) - 6usize];
    ["Offset of field: hf_sample::time_ns"][::core::mem::offset_of!(hf_sample, time_ns) - 8usize];
    ["Offset of field: hf_sample::stack_hash"]
        [::core::mem::offset_of!(hf_sample, stack_hash) - 16usize];
    ["Offset of field: hf_sample::tgid"][::core::mem::offset_of!(hf_sample, tgid) - 24usize];
    ["Offset of field: hf_sample::tid"][::core::mem::offset_of!(hf_sample, tid) - 28usize];
    ["Offset of field: hf_sample::start_ns"]
        [::core::mem::offset_of!(hf_sample, start_ns) - 32usize];
    ["Offset of field: hf_sample::exec_id"][::core::mem::offset_of!(hf_sample, exec_id) - 40usize];
    ["Offset of field: hf_sample::cpu"][::core::mem::offset_of!(hf_sample, cpu) - 44usize];
    ["Offset of field: hf_sample::lost_runtime"]
        [::core::mem::offset_of!(hf_sample, lost_runtime) - 46usize];
    ["Offset of field: hf_sample::lost_why"]
        [::core::mem::offset_of!(hf_sample, lost_why) - 47usize];
    ["Offset of field: hf_sample::space_id"]
        [::core::mem::offset_of!(hf_sample, space_id) - 48usize];
    ["Offset of field: hf_sample::blob_id"][::core::mem::offset_of!(hf_sample, blob_id) - 52usize];
    ["Offset of field: hf_sample::label_set"]
        [::core::mem::offset_of!(hf_sample, label_set) - 56usize];
    ["Offset of field: hf_sample::weight"][::core::mem::offset_of!(hf_sample, weight) - 60usize];
    ["Offset of field: hf_sample::cut_pc"][::core::mem::offset_of!(hf_sample, cut_pc) - 64usize];
    ["Offset of field: hf_sample::comm"][::core::mem::offset_of!(hf_sample, comm) - 72usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_slice {
    pub sample: hf_sample,
    pub regs: [__u64; 33usize],
    pub stack_seq: __u64,
    pub missing_pc: __u64,
    pub missing: __u8,
    pub regs_valid: __u8,
    pub pc_is_return: __u8,
    pub is_bare: __u8,
    pub reserved: [__u8; 4usize],
    pub tp: __u64,
    pub left_at: __u64,
    pub runtime_state: [__u64; 8usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_slice"][::core::mem::size_of::<hf_slice>() - 456usize];
    ["Alignment of hf_slice"][::core::mem::align_of::<hf_slice>() - 8usize];
    ["Offset of field: hf_slice::sample"][::core::mem::offset_of!(hf_slice, sample) - 0usize];
    ["Offset of field: hf_slice::regs"][::core::mem::offset_of!(hf_slice, regs) - 88usize];
    ["Offset of field: hf_slice::stack_seq"]
        [::core::mem::offset_of!(hf_slice, stack_seq) - 352usize];
    ["Offset of field: hf_slice::missing_pc"]
        [::core::mem::offset_of!(hf_slice, missing_pc) - 360usize];
    ["Offset of field: hf_slice::missing"][::core::mem::offset_of!(hf_slice, missing) - 368usize];
    ["Offset of field: hf_slice::regs_valid"]
        [::core::mem::offset_of!(hf_slice, regs_valid) - 369usize];
    ["Offset of field: hf_slice::pc_is_return"]
        [::core::mem::offset_of!(hf_slice, pc_is_return) - 370usize];
    ["Offset of field: hf_slice::is_bare"][::core::mem::offset_of!(hf_slice, is_bare) - 371usize];
    ["Offset of field: hf_slice::reserved"][::core::mem::offset_of!(hf_slice, reserved) - 372usize];
    ["Offset of field: hf_slice::tp"][::core::mem::offset_of!(hf_slice, tp) - 376usize];
    ["Offset of field: hf_slice::left_at"][::core::mem::offset_of!(hf_slice, left_at) - 384usize];
    ["Offset of field: hf_slice::runtime_state"]
        [::core::mem::offset_of!(hf_slice, runtime_state) - 392usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_told {
    pub type_: __u8,
    pub runtime: __u8,
    pub reserved: __u16,
    pub tgid: __u32,
    pub exec_id: __u32,
    pub reserved2: __u32,
    pub start_ns: __u64,
    pub key: [__u64; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_told"][::core::mem::size_of::<hf_told>() - 40usize];
    ["Alignment of hf_told"][::core::mem::align_of::<hf_told>() - 8usize];
    ["Offset of field: hf_told::type_"][::core::mem::offset_of!(hf_told, type_) - 0usize];
    ["Offset of field: hf_told::runtime"][::core::mem::offset_of!(hf_told, runtime) - 1usize];
    ["Offset of field: hf_told::reserved"][::core::mem::offset_of!(hf_told, reserved) - 2usize];
    ["Offset of field: hf_told::tgid"][::core::mem::offset_of!(hf_told, tgid) - 4usize];
    ["Offset of field: hf_told::exec_id"][::core::mem::offset_of!(hf_told, exec_id) - 8usize];
    ["Offset of field: hf_told::reserved2"][::core::mem::offset_of!(hf_told, reserved2) - 12usize];
    ["Offset of field: hf_told::start_ns"][::core::mem::offset_of!(hf_told, start_ns) - 16usize];
    ["Offset of field: hf_told::key"][::core::mem::offset_of!(hf_told, key) - 24usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_stack {
    pub type_: __u8,
    pub reserved: __u8,
    pub holes: __u16,
    pub n_bytes: __u32,
    pub seq: __u64,
    pub addr: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_stack"][::core::mem::size_of::<hf_stack>() - 24usize];
    ["Alignment of hf_stack"][::core::mem::align_of::<hf_stack>() - 8usize];
    ["Offset of field: hf_stack::type_"][::core::mem::offset_of!(hf_stack, type_) - 0usize];
    ["Offset of field: hf_stack::reserved"][::core::mem::offset_of!(hf_stack, reserved) - 1usize];
    ["Offset of field: hf_stack::holes"][::core::mem::offset_of!(hf_stack, holes) - 2usize];
    ["Offset of field: hf_stack::n_bytes"][::core::mem::offset_of!(hf_stack, n_bytes) - 4usize];
    ["Offset of field: hf_stack::seq"][::core::mem::offset_of!(hf_stack, seq) - 8usize];
    ["Offset of field: hf_stack::addr"][::core::mem::offset_of!(hf_stack, addr) - 16usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_cgroup_ids {
    pub unified: __u64,
    pub memory: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_cgroup_ids"][::core::mem::size_of::<hf_cgroup_ids>() - 16usize];
    ["Alignment of hf_cgroup_ids"][::core::mem::align_of::<hf_cgroup_ids>() - 8usize];
    ["Offset of field: hf_cgroup_ids::unified"]
        [::core::mem::offset_of!(hf_cgroup_ids, unified) - 0usize];
    ["Offset of field: hf_cgroup_ids::memory"]
        [::core::mem::offset_of!(hf_cgroup_ids, memory) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_space_record {
    pub type_: __u8,
    pub reserved: [__u8; 3usize],
    pub tgid: __u32,
    pub time_ns: __u64,
    pub space_id: __u32,
    pub reserved2: __u32,
    pub cgroup: hf_cgroup_ids,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_space_record"][::core::mem::size_of::<hf_space_record>() - 40usize];
    ["Alignment of hf_space_record"][::core::mem::align_of::<hf_space_record>() - 8usize];
    ["Offset of field: hf_space_record::type_"]
        [::core::mem::offset_of!(hf_space_record, type_) - 0usize];
    ["Offset of field: hf_space_record::reserved"]
        [::core::mem::offset_of!(hf_space_record, reserved) - 1usize];
    ["Offset of field: hf_space_record::tgid"]
        [::core::mem::offset_of!(hf_space_record, tgid) - 4usize];
    ["Offset of field: hf_space_record::time_ns"]
        [::core::mem::offset_of!(hf_space_record, time_ns) - 8usize];
    ["Offset of field: hf_space_record::space_id"]
        [::core::mem::offset_of!(hf_space_record, space_id) - 16usize];
    ["Offset of field: hf_space_record::reserved2"]
        [::core::mem::offset_of!(hf_space_record, reserved2) - 20usize];
    ["Offset of field: hf_space_record::cgroup"]
        [::core::mem::offset_of!(hf_space_record, cgroup) - 24usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_config {
    pub ns_inum: __u32,
    pub n_comms: __u32,
    pub filter_pids: __u8,
    pub filter_cgroups: __u8,
    pub cgroup_v1: __u8,
    pub cgroup_subsys: __u8,
    pub runtimes: __u32,
    pub reserved: __u32,
    pub max_frames: __u32,
    pub time_cap_ns: __u64,
    pub slice_bytes_per_s: __u64,
    pub audits: __u32,
    pub mem_bytes: __u32,
    pub comms: [[__u8; 16usize]; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_config"][::core::mem::size_of::<hf_config>() - 304usize];
    ["Alignment of hf_config"][::core::mem::align_of::<hf_config>() - 8usize];
    ["Offset of field: hf_config::ns_inum"][::core::mem::offset_of!(hf_config, ns_inum) - 0usize];
    ["Offset of field: hf_config::n_comms"][::core::mem::offset_of!(hf_config, n_comms) - 4usize];
    ["Offset of field: hf_config::filter_pids"]
        [::core::mem::offset_of!(hf_config, filter_pids) - 8usize];
    ["Offset of field: hf_config::filter_cgroups"]
        [::core::mem::offset_of!(hf_config, filter_cgroups) - 9usize];
    ["Offset of field: hf_config::cgroup_v1"]
        [::core::mem::offset_of!(hf_config, cgroup_v1) - 10usize];
    ["Offset of field: hf_config::cgroup_subsys"]
        [::core::mem::offset_of!(hf_config, cgroup_subsys) - 11usize];
    ["Offset of field: hf_config::runtimes"]
        [::core::mem::offset_of!(hf_config, runtimes) - 12usize];
    ["Offset of field: hf_config::reserved"]
        [::core::mem::offset_of!(hf_config, reserved) - 16usize];
    ["Offset of field: hf_config::max_frames"]
        [::core::mem::offset_of!(hf_config, max_frames) - 20usize];
    ["Offset of field: hf_config::time_cap_ns"]
        [::core::mem::offset_of!(hf_config, time_cap_ns) - 24usize];
    ["Offset of field: hf_config::slice_bytes_per_s"]
        [::core::mem::offset_of!(hf_config, slice_bytes_per_s) - 32usize];
    ["Offset of field: hf_config::audits"][::core::mem::offset_of!(hf_config, audits) - 40usize];
    ["Offset of field: hf_config::mem_bytes"]
        [::core::mem::offset_of!(hf_config, mem_bytes) - 44usize];
    ["Offset of field: hf_config::comms"][::core::mem::offset_of!(hf_config, comms) - 48usize];
};
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_ksyms {
    pub n: __u32,
    pub reserved: __u32,
    pub addrs: [__u64; 256usize],
    pub names: [[__u8; 192usize]; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_ksyms"][::core::mem::size_of::<hf_ksyms>() - 51208usize];
    ["Alignment of hf_ksyms"][::core::mem::align_of::<hf_ksyms>() - 8usize];
    ["Offset of field: hf_ksyms::n"][::core::mem::offset_of!(hf_ksyms, n) - 0usize];
    ["Offset of field: hf_ksyms::reserved"][::core::mem::offset_of!(hf_ksyms, reserved) - 4usize];
    ["Offset of field: hf_ksyms::addrs"][::core::mem::offset_of!(hf_ksyms, addrs) - 8usize];
    ["Offset of field: hf_ksyms::names"][::core::mem::offset_of!(hf_ksyms, names) - 2056usize];
};
pub const HF_COST_USER: hf_cost = 0;
pub const HF_COST_KERNEL: hf_cost = 1;
pub const HF_COST_NO_USER: hf_cost = 2;
pub const HF_COST_SLICE: hf_cost = 3;
pub const HF_COST_COUNT: hf_cost = 4;
pub type hf_cost = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    Debug,
    Copy,
    Clone,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct hf_counters {
    pub runs: __u64,
    pub due_ns: __u64,
    pub idle_switches: __u64,
    pub passed_over: __u64,
    pub run_ns: __u64,
    pub taken: __u64,
    pub emitted: __u64,
    pub slices: __u64,
    pub slices_refused: __u64,
    pub filtered: [__u64; 5usize],
    pub lost: [__u64; 3usize],
    pub space_records_lost: __u64,
    pub spaces_refused: __u64,
    pub pids_refused: __u64,
    pub hook_runs: __u64,
    pub frames: __u64,
    pub audits: __u64,
    pub told: __u64,
    pub told_refused: __u64,
    pub told_window_ns: __u64,
    pub told_window: __u64,
    pub stack_seq: __u64,
    pub slice_window_ns: __u64,
    pub slice_window_bytes: __u64,
    pub cost_samples: [__u64; 4usize],
    pub cost_ns: [__u64; 4usize],
    pub cost_frames: [__u64; 4usize],
    pub cost_kernel_frames: [__u64; 4usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_counters"][::core::mem::size_of::<hf_counters>() - 368usize];
    ["Alignment of hf_counters"][::core::mem::align_of::<hf_counters>() - 8usize];
    ["Offset of field: hf_counters::runs"][::core::mem::offset_of!(hf_counters, runs) - 0usize];
    ["Offset of field: hf_counters::due_ns"][::core::mem::offset_of!(hf_counters, due_ns) - 8usize];
    ["Offset of field: hf_counters::idle_switches"]
        [::core::mem::offset_of!(hf_counters, idle_switches) - 16usize];
    ["Offset of field: hf_counters::passed_over"]
        [::core::mem::offset_of!(hf_counters, passed_over) - 24usize];
    ["Offset of field: hf_counters::run_ns"]
        [::core::mem::offset_of!(hf_counters, run_ns) - 32usize];
    ["Offset of field: hf_counters::taken"][::core::mem::offset_of!(hf_counters, taken) - 40usize];
    ["Offset of field: hf_counters::emitted"]
        [::core::mem::offset_of!(hf_counters, emitted) - 48usize];
    ["Offset of field: hf_counters::slices"]
        [::core::mem::offset_of!(hf_counters, slices) - 56usize];
    ["Offset of field: hf_counters::slices_refused"]
        [::core::mem::offset_of!(hf_counters, slices_refused) - 64usize];
    ["Offset of field: hf_counters::filtered"]
        [::core::mem::offset_of!(hf_counters, filtered) - 72usize];
    ["Offset of field: hf_counters::lost"][::core::mem::offset_of!(hf_counters, lost) - 112usize];
    ["Offset of field: hf_counters::space_records_lost"]
        [::core::mem::offset_of!(hf_counters, space_records_lost) - 136usize];
    ["Offset of field: hf_counters::spaces_refused"]
        [::core::mem::offset_of!(hf_counters, spaces_refused) - 144usize];
    ["Offset of field: hf_counters::pids_refused"]
        [::core::mem::offset_of!(hf_counters, pids_refused) - 152usize];
    ["Offset of field: hf_counters::hook_runs"]
        [::core::mem::offset_of!(hf_counters, hook_runs) - 160usize];
    ["Offset of field: hf_counters::frames"]
        [::core::mem::offset_of!(hf_counters, frames) - 168usize];
    ["Offset of field: hf_counters::audits"]
        [::core::mem::offset_of!(hf_counters, audits) - 176usize];
    ["Offset of field: hf_counters::told"][::core::mem::offset_of!(hf_counters, told) - 184usize];
    ["Offset of field: hf_counters::told_refused"]
        [::core::mem::offset_of!(hf_counters, told_refused) - 192usize];
    ["Offset of field: hf_counters::told_window_ns"]
        [::core::mem::offset_of!(hf_counters, told_window_ns) - 200usize];
    ["Offset of field: hf_counters::told_window"]
        [::core::mem::offset_of!(hf_counters, told_window) - 208usize];
    ["Offset of field: hf_counters::stack_seq"]
        [::core::mem::offset_of!(hf_counters, stack_seq) - 216usize];
    ["Offset of field: hf_counters::slice_window_ns"]
        [::core::mem::offset_of!(hf_counters, slice_window_ns) - 224usize];
    ["Offset of field: hf_counters::slice_window_bytes"]
        [::core::mem::offset_of!(hf_counters, slice_window_bytes) - 232usize];
    ["Offset of field: hf_counters::cost_samples"]
        [::core::mem::offset_of!(hf_counters, cost_samples) - 240usize];
    ["Offset of field: hf_counters::cost_ns"]
        [::core::mem::offset_of!(hf_counters, cost_ns) - 272usize];
    ["Offset of field: hf_counters::cost_frames"]
        [::core::mem::offset_of!(hf_counters, cost_frames) - 304usize];
    ["Offset of field: hf_counters::cost_kernel_frames"]
        [::core::mem::offset_of!(hf_counters, cost_kernel_frames) - 336usize];
};
pub const COST_NAMES: [&str; 4] = ["user", "kernel", "no_user", "slice"];
pub const CUT_NAMES: [&str; 12] = [
    "none",
    "no_unwind_info",
    "bad_unwind_info",
    "unknown_mapping",
    "stale_map",
    "stack_unreadable",
    "bad_return_address",
    "zero_ra",
    "too_deep",
    "time",
    "budget",
    "process_gone",
];
pub const FILTERED_NAMES: [&str; 5] = ["idle", "pid", "cgroup", "comm", "namespace"];
pub const LOST_NAMES: [&str; 3] = ["ring_full", "no_scratch", "tail_call"];
pub const MISSING_NAMES: [&str; 5] = ["none", "space", "mapping", "rows", "step"];
