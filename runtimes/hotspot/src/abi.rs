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
pub const HF_HOTSPOT_WIDE_OOPS: u32 = 128;
pub const HF_HOTSPOT_X87: u32 = 256;
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
pub struct hf_hotspot_chunks {
    pub return_pc: __u64,
    pub oops_base: __u64,
    pub oops_shift: __u32,
    pub tail: __u16,
    pub cont: __u16,
    pub parent: __u16,
    pub bottom: __u16,
    pub sp: __u16,
    pub pc: __u16,
    pub stack: __u16,
    pub reserved: [__u16; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_hotspot_chunks"][::core::mem::size_of::<hf_hotspot_chunks>() - 40usize];
    ["Alignment of hf_hotspot_chunks"][::core::mem::align_of::<hf_hotspot_chunks>() - 8usize];
    ["Offset of field: hf_hotspot_chunks::return_pc"]
        [::core::mem::offset_of!(hf_hotspot_chunks, return_pc) - 0usize];
    ["Offset of field: hf_hotspot_chunks::oops_base"]
        [::core::mem::offset_of!(hf_hotspot_chunks, oops_base) - 8usize];
    ["Offset of field: hf_hotspot_chunks::oops_shift"]
        [::core::mem::offset_of!(hf_hotspot_chunks, oops_shift) - 16usize];
    ["Offset of field: hf_hotspot_chunks::tail"]
        [::core::mem::offset_of!(hf_hotspot_chunks, tail) - 20usize];
    ["Offset of field: hf_hotspot_chunks::cont"]
        [::core::mem::offset_of!(hf_hotspot_chunks, cont) - 22usize];
    ["Offset of field: hf_hotspot_chunks::parent"]
        [::core::mem::offset_of!(hf_hotspot_chunks, parent) - 24usize];
    ["Offset of field: hf_hotspot_chunks::bottom"]
        [::core::mem::offset_of!(hf_hotspot_chunks, bottom) - 26usize];
    ["Offset of field: hf_hotspot_chunks::sp"]
        [::core::mem::offset_of!(hf_hotspot_chunks, sp) - 28usize];
    ["Offset of field: hf_hotspot_chunks::pc"]
        [::core::mem::offset_of!(hf_hotspot_chunks, pc) - 30usize];
    ["Offset of field: hf_hotspot_chunks::stack"]
        [::core::mem::offset_of!(hf_hotspot_chunks, stack) - 32usize];
    ["Offset of field: hf_hotspot_chunks::reserved"]
        [::core::mem::offset_of!(hf_hotspot_chunks, reserved) - 34usize];
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
    pub chunks: hf_hotspot_chunks,
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
    ["Size of hf_hotspot_proc"][::core::mem::size_of::<hf_hotspot_proc>() - 2528usize];
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
    ["Offset of field: hf_hotspot_proc::chunks"]
        [::core::mem::offset_of!(hf_hotspot_proc, chunks) - 104usize];
    ["Offset of field: hf_hotspot_proc::flags"]
        [::core::mem::offset_of!(hf_hotspot_proc, flags) - 144usize];
    ["Offset of field: hf_hotspot_proc::n_ranges"]
        [::core::mem::offset_of!(hf_hotspot_proc, n_ranges) - 148usize];
    ["Offset of field: hf_hotspot_proc::block_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, block_bytes) - 152usize];
    ["Offset of field: hf_hotspot_proc::block_used"]
        [::core::mem::offset_of!(hf_hotspot_proc, block_used) - 154usize];
    ["Offset of field: hf_hotspot_proc::read_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, read_bytes) - 156usize];
    ["Offset of field: hf_hotspot_proc::head_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, head_bytes) - 158usize];
    ["Offset of field: hf_hotspot_proc::blob_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_name) - 160usize];
    ["Offset of field: hf_hotspot_proc::blob_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_size) - 162usize];
    ["Offset of field: hf_hotspot_proc::blob_frame_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_frame_size) - 164usize];
    ["Offset of field: hf_hotspot_proc::blob_frame_complete"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_frame_complete) - 166usize];
    ["Offset of field: hf_hotspot_proc::blob_code"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_code) - 168usize];
    ["Offset of field: hf_hotspot_proc::blob_compile_id"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_compile_id) - 170usize];
    ["Offset of field: hf_hotspot_proc::blob_entry"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_entry) - 172usize];
    ["Offset of field: hf_hotspot_proc::blob_deopt"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_deopt) - 174usize];
    ["Offset of field: hf_hotspot_proc::blob_deopt_mh"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_deopt_mh) - 176usize];
    ["Offset of field: hf_hotspot_proc::blob_orig_pc"]
        [::core::mem::offset_of!(hf_hotspot_proc, blob_orig_pc) - 178usize];
    ["Offset of field: hf_hotspot_proc::method_const"]
        [::core::mem::offset_of!(hf_hotspot_proc, method_const) - 180usize];
    ["Offset of field: hf_hotspot_proc::const_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_bytes) - 182usize];
    ["Offset of field: hf_hotspot_proc::const_code_size"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_code_size) - 184usize];
    ["Offset of field: hf_hotspot_proc::bcp_words"]
        [::core::mem::offset_of!(hf_hotspot_proc, bcp_words) - 186usize];
    ["Offset of field: hf_hotspot_proc::const_constants"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_constants) - 188usize];
    ["Offset of field: hf_hotspot_proc::const_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_name) - 190usize];
    ["Offset of field: hf_hotspot_proc::const_flags"]
        [::core::mem::offset_of!(hf_hotspot_proc, const_flags) - 192usize];
    ["Offset of field: hf_hotspot_proc::pool_bytes"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_bytes) - 194usize];
    ["Offset of field: hf_hotspot_proc::pool_holder"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_holder) - 196usize];
    ["Offset of field: hf_hotspot_proc::pool_source"]
        [::core::mem::offset_of!(hf_hotspot_proc, pool_source) - 198usize];
    ["Offset of field: hf_hotspot_proc::klass_source"]
        [::core::mem::offset_of!(hf_hotspot_proc, klass_source) - 200usize];
    ["Offset of field: hf_hotspot_proc::klass_name"]
        [::core::mem::offset_of!(hf_hotspot_proc, klass_name) - 202usize];
    ["Offset of field: hf_hotspot_proc::symbol_length"]
        [::core::mem::offset_of!(hf_hotspot_proc, symbol_length) - 204usize];
    ["Offset of field: hf_hotspot_proc::symbol_body"]
        [::core::mem::offset_of!(hf_hotspot_proc, symbol_body) - 206usize];
    ["Offset of field: hf_hotspot_proc::archive_start"]
        [::core::mem::offset_of!(hf_hotspot_proc, archive_start) - 208usize];
    ["Offset of field: hf_hotspot_proc::archive_end"]
        [::core::mem::offset_of!(hf_hotspot_proc, archive_end) - 216usize];
    ["Offset of field: hf_hotspot_proc::heaps"]
        [::core::mem::offset_of!(hf_hotspot_proc, heaps) - 224usize];
    ["Offset of field: hf_hotspot_proc::ranges"]
        [::core::mem::offset_of!(hf_hotspot_proc, ranges) - 480usize];
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
