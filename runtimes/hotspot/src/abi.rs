use hotframe_abi::*;
// Generated from runtimes/hotspot/bpf/abi.h by tools/abigen: `make generate`.

pub const HF_HOTSPOT_KIND_SHIFT: u32 = 36;
pub const HF_HOTSPOT_BCI_SHIFT: u32 = 20;
pub const HF_HOTSPOT_DELTA_SHIFT: u32 = 12;
pub const HF_HOTSPOT_DELTA_MASK: u32 = 16777215;
pub const HF_HOTSPOT_COOKIE_SHIFT: u32 = 44;
pub const HF_HOTSPOT_COOKIE_MASK: u32 = 1048575;
pub const HF_HOTSPOT_BCI_NONE: u32 = 65535;
pub const HF_HOTSPOT_MAX_HEAPS: u32 = 8;
pub const HF_HOTSPOT_MAX_RANGES: u32 = 128;
pub const HF_HOTSPOT_CODE_ADDRESS: u32 = 1;
pub const HF_HOTSPOT_ENTRY_ADDRESS: u32 = 2;
pub const HF_HOTSPOT_COMPLETE_I16: u32 = 4;
pub const HF_HOTSPOT_UNLOADS: u32 = 8;
pub const HF_HOTSPOT_QUIET: u32 = 16;
pub const HF_HOTSPOT_REDEFINES: u32 = 32;
pub const HF_HOTSPOT_JVMCI: u32 = 64;
pub const HF_HOTSPOT_MAX_BLOB_BYTES: u32 = 512;
pub const HF_HOTSPOT_NO_FIELD: u32 = 65535;
pub const HF_HOTSPOT_CLASS_BYTES: u32 = 192;
pub const HF_HOTSPOT_NAME_BYTES: u32 = 96;
pub const HF_HOTSPOT_FILE_BYTES: u32 = 64;
pub const HF_HOTSPOT_LINES_BYTES: u32 = 96;
pub const HF_HOTSPOT_INTERPRETED: hf_hotspot_frame = 1;
pub const HF_HOTSPOT_COMPILED: hf_hotspot_frame = 2;
pub const HF_HOTSPOT_STUB: hf_hotspot_frame = 3;
pub const HF_HOTSPOT_INTERPRETED_LATE: hf_hotspot_frame = 4;
pub type hf_hotspot_frame = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_hotspot_heap {
    pub low: __u64,
    pub end: __u64,
    pub segmap: __u64,
    pub shift: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_hotspot_heap"][::core::mem::size_of::<hf_hotspot_heap>() - 32usize];
    ["Alignment of hf_hotspot_heap"][::core::mem::align_of::<hf_hotspot_heap>() - 8usize];
    ["Offset of field: hf_hotspot_heap::low"]
        [::core::mem::offset_of!(hf_hotspot_heap, low) - 0usize];
    ["Offset of field: hf_hotspot_heap::end"]
        [::core::mem::offset_of!(hf_hotspot_heap, end) - 8usize];
    ["Offset of field: hf_hotspot_heap::segmap"]
        [::core::mem::offset_of!(hf_hotspot_heap, segmap) - 16usize];
    ["Offset of field: hf_hotspot_heap::shift"]
        [::core::mem::offset_of!(hf_hotspot_heap, shift) - 24usize];
    ["Offset of field: hf_hotspot_heap::reserved"]
        [::core::mem::offset_of!(hf_hotspot_heap, reserved) - 28usize];
};
pub const HF_HOTSPOT_ENTRY: hf_hotspot_range_kind = 1;
pub const HF_HOTSPOT_EXIT: hf_hotspot_range_kind = 2;
pub const HF_HOTSPOT_HANDS_ON: hf_hotspot_range_kind = 3;
pub type hf_hotspot_range_kind = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_hotspot_range {
    pub start: __u32,
    pub end: __u32,
    pub at: __u32,
    pub kind: __u8,
    pub ra_reg: __u8,
    pub sp_reg: __u8,
    pub reserved: __u8,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_hotspot_range"][::core::mem::size_of::<hf_hotspot_range>() - 16usize];
    ["Alignment of hf_hotspot_range"][::core::mem::align_of::<hf_hotspot_range>() - 4usize];
    ["Offset of field: hf_hotspot_range::start"]
        [::core::mem::offset_of!(hf_hotspot_range, start) - 0usize];
    ["Offset of field: hf_hotspot_range::end"]
        [::core::mem::offset_of!(hf_hotspot_range, end) - 4usize];
    ["Offset of field: hf_hotspot_range::at"]
        [::core::mem::offset_of!(hf_hotspot_range, at) - 8usize];
    ["Offset of field: hf_hotspot_range::kind"]
        [::core::mem::offset_of!(hf_hotspot_range, kind) - 12usize];
    ["Offset of field: hf_hotspot_range::ra_reg"]
        [::core::mem::offset_of!(hf_hotspot_range, ra_reg) - 13usize];
    ["Offset of field: hf_hotspot_range::sp_reg"]
        [::core::mem::offset_of!(hf_hotspot_range, sp_reg) - 14usize];
    ["Offset of field: hf_hotspot_range::reserved"]
        [::core::mem::offset_of!(hf_hotspot_range, reserved) - 15usize];
};
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_hotspot_proc {
    pub runtime: __u32,
    pub n_heaps: __u32,
    pub code_low: __u64,
    pub code_end: __u64,
    pub interpreter_start: __u64,
    pub interpreter_end: __u64,
    pub unfilled_start: __u32,
    pub unfilled_end: __u32,
    pub epoch_addr: __u64,
    pub epoch_quiet: __u64,
    pub name_nmethod: __u64,
    pub name_native: __u64,
    pub name_vtable: __u64,
    pub continuation_start: __u64,
    pub continuation_end: __u64,
    pub flags: __u32,
    pub n_ranges: __u32,
    pub block_bytes: __u16,
    pub block_used: __u16,
    pub read_bytes: __u16,
    pub head_bytes: __u16,
    pub blob_name: __u16,
    pub blob_size: __u16,
    pub blob_frame_size: __u16,
    pub blob_frame_complete: __u16,
    pub blob_code: __u16,
    pub blob_compile_id: __u16,
    pub blob_entry: __u16,
    pub blob_deopt: __u16,
    pub blob_deopt_mh: __u16,
    pub blob_orig_pc: __u16,
    pub method_const: __u16,
    pub const_bytes: __u16,
    pub const_code_size: __u16,
    pub bcp_words: __u16,
    pub const_constants: __u16,
    pub const_name: __u16,
    pub const_flags: __u16,
    pub pool_bytes: __u16,
    pub pool_holder: __u16,
    pub pool_source: __u16,
    pub klass_source: __u16,
    pub klass_name: __u16,
    pub symbol_length: __u16,
    pub symbol_body: __u16,
    pub archive_start: __u64,
    pub archive_end: __u64,
    pub heaps: [hf_hotspot_heap; 8usize],
    pub ranges: [hf_hotspot_range; 128usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_hotspot_proc"][::core::mem::size_of::<hf_hotspot_proc>() - 2488usize];
    ["Alignment of hf_hotspot_proc"][::core::mem::align_of::<hf_hotspot_proc>() - 8usize];
    ["Offset of field: hf_hotspot_proc::runtime"]
        [::core::mem::offset_of!(hf_hotspot_proc, runtime) - 0usize];
    ["Offset of field: hf_hotspot_proc::n_heaps"]
        [::core::mem::offset_of!(hf_hotspot_proc, n_heaps) - 4usize];
    ["Offset of field: hf_hotspot_proc::code_low"]
        [::core::mem::offset_of!(hf_hotspot_proc, code_low) - 8usize];
    ["Offset of field: hf_hotspot_proc::code_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, code_end) - 16usize];
    ["Offset of field: hf_hotspot_proc::interpreter_start"]
        [::core::mem::offset_of!(hf_hotspot_proc, interpreter_start) - 24usize];
    ["Offset of field: hf_hotspot_proc::interpreter_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, interpreter_end) - 32usize];
    ["Offset of field: hf_hotspot_proc::unfilled_start"]
        [::core::mem::offset_of!(hf_hotspot_proc, unfilled_start) - 40usize];
    ["Offset of field: hf_hotspot_proc::unfilled_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, unfilled_end) - 44usize];
    ["Offset of field: hf_hotspot_proc::epoch_addr"]
        [::core::mem::offset_of!(hf_hotspot_proc, epoch_addr) - 48usize];
    ["Offset of field: hf_hotspot_proc::epoch_quiet"]
        [::core::mem::offset_of!(hf_hotspot_proc, epoch_quiet) - 56usize];
    ["Offset of field: hf_hotspot_proc::name_nmethod"]
        [::core::mem::offset_of!(hf_hotspot_proc, name_nmethod) - 64usize];
    ["Offset of field: hf_hotspot_proc::name_native"]
        [::core::mem::offset_of!(hf_hotspot_proc, name_native) - 72usize];
    ["Offset of field: hf_hotspot_proc::name_vtable"]
        [::core::mem::offset_of!(hf_hotspot_proc, name_vtable) - 80usize];
    ["Offset of field: hf_hotspot_proc::continuation_start"]
        [::core::mem::offset_of!(hf_hotspot_proc, continuation_start) - 88usize];
    ["Offset of field: hf_hotspot_proc::continuation_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, continuation_end) - 96usize];
    ["Offset of field: hf_hotspot_proc::flags"]
        [::core::mem::offset_of!(hf_hotspot_proc, flags) - 104usize];
    ["Offset of field: hf_hotspot_proc::n_ranges"]
        [::core::mem::offset_of!(hf_hotspot_proc, n_ranges) - 108usize];
    ["Offset of field: hf_hotspot_proc::block_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, block_bytes) - 112usize];
    ["Offset of field: hf_hotspot_proc::block_used"]
        [::core::mem::offset_of!(hf_hotspot_proc, block_used) - 114usize];
    ["Offset of field: hf_hotspot_proc::read_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, read_bytes) - 116usize];
    ["Offset of field: hf_hotspot_proc::head_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, head_bytes) - 118usize];
    ["Offset of field: hf_hotspot_proc::blob_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_name) - 120usize];
    ["Offset of field: hf_hotspot_proc::blob_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_size) - 122usize];
    ["Offset of field: hf_hotspot_proc::blob_frame_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_frame_size) - 124usize];
    ["Offset of field: hf_hotspot_proc::blob_frame_complete"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_frame_complete) - 126usize];
    ["Offset of field: hf_hotspot_proc::blob_code"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_code) - 128usize];
    ["Offset of field: hf_hotspot_proc::blob_compile_id"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_compile_id) - 130usize];
    ["Offset of field: hf_hotspot_proc::blob_entry"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_entry) - 132usize];
    ["Offset of field: hf_hotspot_proc::blob_deopt"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_deopt) - 134usize];
    ["Offset of field: hf_hotspot_proc::blob_deopt_mh"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_deopt_mh) - 136usize];
    ["Offset of field: hf_hotspot_proc::blob_orig_pc"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_orig_pc) - 138usize];
    ["Offset of field: hf_hotspot_proc::method_const"]
        [::core::mem::offset_of!(hf_hotspot_proc, method_const) - 140usize];
    ["Offset of field: hf_hotspot_proc::const_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_bytes) - 142usize];
    ["Offset of field: hf_hotspot_proc::const_code_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_code_size) - 144usize];
    ["Offset of field: hf_hotspot_proc::bcp_words"]
        [::core::mem::offset_of!(hf_hotspot_proc, bcp_words) - 146usize];
    ["Offset of field: hf_hotspot_proc::const_constants"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_constants) - 148usize];
    ["Offset of field: hf_hotspot_proc::const_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_name) - 150usize];
    ["Offset of field: hf_hotspot_proc::const_flags"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_flags) - 152usize];
    ["Offset of field: hf_hotspot_proc::pool_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_bytes) - 154usize];
    ["Offset of field: hf_hotspot_proc::pool_holder"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_holder) - 156usize];
    ["Offset of field: hf_hotspot_proc::pool_source"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_source) - 158usize];
    ["Offset of field: hf_hotspot_proc::klass_source"]
        [::core::mem::offset_of!(hf_hotspot_proc, klass_source) - 160usize];
    ["Offset of field: hf_hotspot_proc::klass_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, klass_name) - 162usize];
    ["Offset of field: hf_hotspot_proc::symbol_length"]
        [::core::mem::offset_of!(hf_hotspot_proc, symbol_length) - 164usize];
    ["Offset of field: hf_hotspot_proc::symbol_body"]
        [::core::mem::offset_of!(hf_hotspot_proc, symbol_body) - 166usize];
    ["Offset of field: hf_hotspot_proc::archive_start"]
        [::core::mem::offset_of!(hf_hotspot_proc, archive_start) - 168usize];
    ["Offset of field: hf_hotspot_proc::archive_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, archive_end) - 176usize];
    ["Offset of field: hf_hotspot_proc::heaps"]
        [::core::mem::offset_of!(hf_hotspot_proc, heaps) - 184usize];
    ["Offset of field: hf_hotspot_proc::ranges"]
        [::core::mem::offset_of!(hf_hotspot_proc, ranges) - 440usize];
};
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_hotspot_name {
    pub head: hf_told,
    pub class_bytes: __u16,
    pub name_bytes: __u16,
    pub file_bytes: __u16,
    pub lines_bytes: __u16,
    pub class_name: [__u8; 192usize],
    pub name: [__u8; 96usize],
    pub file: [__u8; 64usize],
    pub lines: [__u8; 96usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_hotspot_name"][::core::mem::size_of::<hf_hotspot_name>() - 496usize];
    ["Alignment of hf_hotspot_name"][::core::mem::align_of::<hf_hotspot_name>() - 8usize];
    ["Offset of field: hf_hotspot_name::head"]
        [::core::mem::offset_of!(hf_hotspot_name, head) - 0usize];
    ["Offset of field: hf_hotspot_name::class_bytes"]
        [::core::mem::offset_of!(hf_hotspot_name, class_bytes) - 40usize];
    ["Offset of field: hf_hotspot_name::name_bytes"]
        [::core::mem::offset_of!(hf_hotspot_name, name_bytes) - 42usize];
    ["Offset of field: hf_hotspot_name::file_bytes"]
        [::core::mem::offset_of!(hf_hotspot_name, file_bytes) - 44usize];
    ["Offset of field: hf_hotspot_name::lines_bytes"]
        [::core::mem::offset_of!(hf_hotspot_name, lines_bytes) - 46usize];
    ["Offset of field: hf_hotspot_name::class_name"]
        [::core::mem::offset_of!(hf_hotspot_name, class_name) - 48usize];
    ["Offset of field: hf_hotspot_name::name"]
        [::core::mem::offset_of!(hf_hotspot_name, name) - 240usize];
    ["Offset of field: hf_hotspot_name::file"]
        [::core::mem::offset_of!(hf_hotspot_name, file) - 336usize];
    ["Offset of field: hf_hotspot_name::lines"]
        [::core::mem::offset_of!(hf_hotspot_name, lines) - 400usize];
};
