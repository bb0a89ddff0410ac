use hotframe_abi::*;
// Generated from runtimes/cpython/bpf/abi.h by tools/abigen: `make generate`.

pub const HF_CPYTHON_POSITION_BITS: u32 = 20;
pub const HF_CPYTHON_NO_POSITION: u32 = 1048575;
pub const HF_CPYTHON_MAX_READS: u32 = 6;
pub const HF_CPYTHON_MAX_CHAINS: u32 = 2;
pub const HF_CPYTHON_MAX_GAPS: u32 = 16;
pub const HF_CPYTHON_COOKIE_WORDS: u32 = 4;
pub const HF_CPYTHON_BLOCK_BYTES: u32 = 256;
pub const HF_CPYTHON_TEXT_BYTES: u32 = 160;
pub const HF_CPYTHON_LINES_BYTES: u32 = 144;
pub const HF_CPYTHON_LOST_NONE: hf_cpython_lost = 0;
pub const HF_CPYTHON_LOST_STEP_NOT_LOADED: hf_cpython_lost = 1;
pub const HF_CPYTHON_LOST_LATE: hf_cpython_lost = 2;
pub const HF_CPYTHON_LOST_NO_THREAD: hf_cpython_lost = 3;
pub const HF_CPYTHON_LOST_LIMBO: hf_cpython_lost = 4;
pub const HF_CPYTHON_LOST_FRAME_UNREADABLE: hf_cpython_lost = 5;
pub const HF_CPYTHON_LOST_NO_CODE: hf_cpython_lost = 6;
pub const HF_CPYTHON_LOST_NO_INTERPRETER: hf_cpython_lost = 7;
pub const HF_CPYTHON_LOST_OUT_OF_ORDER: hf_cpython_lost = 8;
pub const HF_CPYTHON_LOST_NO_SHIM: hf_cpython_lost = 9;
pub const HF_CPYTHON_LOST_COUNT: hf_cpython_lost = 10;
pub type hf_cpython_lost = ::core::ffi::c_uint;
pub const HF_CPYTHON_ONE: hf_cpython_activation = 0;
pub const HF_CPYTHON_ENTRY: hf_cpython_activation = 1;
pub const HF_CPYTHON_SHIM: hf_cpython_activation = 2;
pub type hf_cpython_activation = ::core::ffi::c_uint;
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_cpython_chain {
    pub holder: __u64,
    pub owner_off: __s32,
    pub n: __u16,
    pub stack_off: __u16,
    pub offsets: [__s32; 6usize],
    pub n_to_state: __u32,
    pub reserved: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_cpython_chain"][::core::mem::size_of::<hf_cpython_chain>() - 48usize];
    ["Alignment of hf_cpython_chain"][::core::mem::align_of::<hf_cpython_chain>() - 8usize];
    ["Offset of field: hf_cpython_chain::holder"]
        [::core::mem::offset_of!(hf_cpython_chain, holder) - 0usize];
    ["Offset of field: hf_cpython_chain::owner_off"]
        [::core::mem::offset_of!(hf_cpython_chain, owner_off) - 8usize];
    ["Offset of field: hf_cpython_chain::n"]
        [::core::mem::offset_of!(hf_cpython_chain, n) - 12usize];
    ["Offset of field: hf_cpython_chain::stack_off"]
        [::core::mem::offset_of!(hf_cpython_chain, stack_off) - 14usize];
    ["Offset of field: hf_cpython_chain::offsets"]
        [::core::mem::offset_of!(hf_cpython_chain, offsets) - 16usize];
    ["Offset of field: hf_cpython_chain::n_to_state"]
        [::core::mem::offset_of!(hf_cpython_chain, n_to_state) - 40usize];
    ["Offset of field: hf_cpython_chain::reserved"]
        [::core::mem::offset_of!(hf_cpython_chain, reserved) - 44usize];
};
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_cpython_gap {
    pub start: __u64,
    pub bytes: __u32,
    pub is_limbo: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_cpython_gap"][::core::mem::size_of::<hf_cpython_gap>() - 16usize];
    ["Alignment of hf_cpython_gap"][::core::mem::align_of::<hf_cpython_gap>() - 8usize];
    ["Offset of field: hf_cpython_gap::start"]
        [::core::mem::offset_of!(hf_cpython_gap, start) - 0usize];
    ["Offset of field: hf_cpython_gap::bytes"]
        [::core::mem::offset_of!(hf_cpython_gap, bytes) - 8usize];
    ["Offset of field: hf_cpython_gap::is_limbo"]
        [::core::mem::offset_of!(hf_cpython_gap, is_limbo) - 12usize];
};
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_cpython_proc {
    pub runtime: __u32,
    pub activation: __u32,
    pub chains: [hf_cpython_chain; 2usize],
    pub n_gaps: __u32,
    pub frame_bytes: __u16,
    pub code_bytes: __u16,
    pub code_off: __u16,
    pub previous_off: __u16,
    pub position_off: __u16,
    pub mark_off: __u16,
    pub mark: __u8,
    pub skip_mark: __u8,
    pub position_is_int: __u8,
    pub position_shift: __u8,
    pub first_line_off: __u16,
    pub name_off: __u16,
    pub file_off: __u16,
    pub lines_off: __u16,
    pub bytecode_off: __u16,
    pub cookie_offs: [__u16; 4usize],
    pub gaps_at_leaf: __u16,
    pub tells: __u16,
    pub copies_off: __u16,
    pub copy_off: __u16,
    pub has_jit: __u16,
    pub interpreters: __u64,
    pub interpreter_next_off: __u32,
    pub interpreter_threads_off: __u32,
    pub thread_next_off: __u16,
    pub thread_id_off: __u16,
    pub thread_frame_off: __u16,
    pub frame_is_behind: __u16,
    pub code_type: __u64,
    pub type_off: __u16,
    pub generator_off: __u16,
    pub depth_off: __u16,
    pub state_off: __u16,
    pub text_off: __u16,
    pub text_bytes_off: __u16,
    pub owner_off: __u16,
    pub cframe_previous_off: __u16,
    pub cframe_frame_off: __u16,
    pub reserved: [__u16; 3usize],
    pub gaps: [hf_cpython_gap; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_cpython_proc"][::core::mem::size_of::<hf_cpython_proc>() - 464usize];
    ["Alignment of hf_cpython_proc"][::core::mem::align_of::<hf_cpython_proc>() - 8usize];
    ["Offset of field: hf_cpython_proc::runtime"]
        [::core::mem::offset_of!(hf_cpython_proc, runtime) - 0usize];
    ["Offset of field: hf_cpython_proc::activation"]
        [::core::mem::offset_of!(hf_cpython_proc, activation) - 4usize];
    ["Offset of field: hf_cpython_proc::chains"]
        [::core::mem::offset_of!(hf_cpython_proc, chains) - 8usize];
    ["Offset of field: hf_cpython_proc::n_gaps"]
        [::core::mem::offset_of!(hf_cpython_proc, n_gaps) - 104usize];
    ["Offset of field: hf_cpython_proc::frame_bytes"]
        [::core::mem::offset_of!(hf_cpython_proc, frame_bytes) - 108usize];
    ["Offset of field: hf_cpython_proc::code_bytes"]
        [::core::mem::offset_of!(hf_cpython_proc, code_bytes) - 110usize];
    ["Offset of field: hf_cpython_proc::code_off"]
        [::core::mem::offset_of!(hf_cpython_proc, code_off) - 112usize];
    ["Offset of field: hf_cpython_proc::previous_off"]
        [::core::mem::offset_of!(hf_cpython_proc, previous_off) - 114usize];
    ["Offset of field: hf_cpython_proc::position_off"]
        [::core::mem::offset_of!(hf_cpython_proc, position_off) - 116usize];
    ["Offset of field: hf_cpython_proc::mark_off"]
        [::core::mem::offset_of!(hf_cpython_proc, mark_off) - 118usize];
    ["Offset of field: hf_cpython_proc::mark"]
        [::core::mem::offset_of!(hf_cpython_proc, mark) - 120usize];
    ["Offset of field: hf_cpython_proc::skip_mark"]
        [::core::mem::offset_of!(hf_cpython_proc, skip_mark) - 121usize];
    ["Offset of field: hf_cpython_proc::position_is_int"]
        [::core::mem::offset_of!(hf_cpython_proc, position_is_int) - 122usize];
    ["Offset of field: hf_cpython_proc::position_shift"]
        [::core::mem::offset_of!(hf_cpython_proc, position_shift) - 123usize];
    ["Offset of field: hf_cpython_proc::first_line_off"]
        [::core::mem::offset_of!(hf_cpython_proc, first_line_off) - 124usize];
    ["Offset of field: hf_cpython_proc::name_off"]
        [::core::mem::offset_of!(hf_cpython_proc, name_off) - 126usize];
    ["Offset of field: hf_cpython_proc::file_off"]
        [::core::mem::offset_of!(hf_cpython_proc, file_off) - 128usize];
    ["Offset of field: hf_cpython_proc::lines_off"]
        [::core::mem::offset_of!(hf_cpython_proc, lines_off) - 130usize];
    ["Offset of field: hf_cpython_proc::bytecode_off"]
        [::core::mem::offset_of!(hf_cpython_proc, bytecode_off) - 132usize];
    ["Offset of field: hf_cpython_proc::cookie_offs"]
        [::core::mem::offset_of!(hf_cpython_proc, cookie_offs) - 134usize];
    ["Offset of field: hf_cpython_proc::gaps_at_leaf"]
        [::core::mem::offset_of!(hf_cpython_proc, gaps_at_leaf) - 142usize];
    ["Offset of field: hf_cpython_proc::tells"]
        [::core::mem::offset_of!(hf_cpython_proc, tells) - 144usize];
    ["Offset of field: hf_cpython_proc::copies_off"]
        [::core::mem::offset_of!(hf_cpython_proc, copies_off) - 146usize];
    ["Offset of field: hf_cpython_proc::copy_off"]
        [::core::mem::offset_of!(hf_cpython_proc, copy_off) - 148usize];
    ["Offset of field: hf_cpython_proc::has_jit"]
        [::core::mem::offset_of!(hf_cpython_proc, has_jit) - 150usize];
    ["Offset of field: hf_cpython_proc::interpreters"]
        [::core::mem::offset_of!(hf_cpython_proc, interpreters) - 152usize];
    ["Offset of field: hf_cpython_proc::interpreter_next_off"]
        [::core::mem::offset_of!(hf_cpython_proc, interpreter_next_off) - 160usize];
    ["Offset of field: hf_cpython_proc::interpreter_threads_off"]
        [::core::mem::offset_of!(hf_cpython_proc, interpreter_threads_off) - 164usize];
    ["Offset of field: hf_cpython_proc::thread_next_off"]
        [::core::mem::offset_of!(hf_cpython_proc, thread_next_off) - 168usize];
    ["Offset of field: hf_cpython_proc::thread_id_off"]
        [::core::mem::offset_of!(hf_cpython_proc, thread_id_off) - 170usize];
    ["Offset of field: hf_cpython_proc::thread_frame_off"]
        [::core::mem::offset_of!(hf_cpython_proc, thread_frame_off) - 172usize];
    ["Offset of field: hf_cpython_proc::frame_is_behind"]
        [::core::mem::offset_of!(hf_cpython_proc, frame_is_behind) - 174usize];
    ["Offset of field: hf_cpython_proc::code_type"]
        [::core::mem::offset_of!(hf_cpython_proc, code_type) - 176usize];
    ["Offset of field: hf_cpython_proc::type_off"]
        [::core::mem::offset_of!(hf_cpython_proc, type_off) - 184usize];
    ["Offset of field: hf_cpython_proc::generator_off"]
        [::core::mem::offset_of!(hf_cpython_proc, generator_off) - 186usize];
    ["Offset of field: hf_cpython_proc::depth_off"]
        [::core::mem::offset_of!(hf_cpython_proc, depth_off) - 188usize];
    ["Offset of field: hf_cpython_proc::state_off"]
        [::core::mem::offset_of!(hf_cpython_proc, state_off) - 190usize];
    ["Offset of field: hf_cpython_proc::text_off"]
        [::core::mem::offset_of!(hf_cpython_proc, text_off) - 192usize];
    ["Offset of field: hf_cpython_proc::text_bytes_off"]
        [::core::mem::offset_of!(hf_cpython_proc, text_bytes_off) - 194usize];
    ["Offset of field: hf_cpython_proc::owner_off"]
        [::core::mem::offset_of!(hf_cpython_proc, owner_off) - 196usize];
    ["Offset of field: hf_cpython_proc::cframe_previous_off"]
        [::core::mem::offset_of!(hf_cpython_proc, cframe_previous_off) - 198usize];
    ["Offset of field: hf_cpython_proc::cframe_frame_off"]
        [::core::mem::offset_of!(hf_cpython_proc, cframe_frame_off) - 200usize];
    ["Offset of field: hf_cpython_proc::reserved"]
        [::core::mem::offset_of!(hf_cpython_proc, reserved) - 202usize];
    ["Offset of field: hf_cpython_proc::gaps"]
        [::core::mem::offset_of!(hf_cpython_proc, gaps) - 208usize];
};
#[repr(C)]
#[derive(
    zerocopy :: FromBytes, zerocopy :: IntoBytes, zerocopy :: Immutable, zerocopy :: KnownLayout,
)]
pub struct hf_cpython_told {
    pub head: hf_told,
    pub first_line: __u32,
    pub has_file: __u8,
    pub has_lines: __u8,
    pub reserved: __u16,
    pub name: [__u8; 160usize],
    pub file: [__u8; 160usize],
    pub lines: [__u8; 144usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of hf_cpython_told"][::core::mem::size_of::<hf_cpython_told>() - 512usize];
    ["Alignment of hf_cpython_told"][::core::mem::align_of::<hf_cpython_told>() - 8usize];
    ["Offset of field: hf_cpython_told::head"]
        [::core::mem::offset_of!(hf_cpython_told, head) - 0usize];
    ["Offset of field: hf_cpython_told::first_line"]
        [::core::mem::offset_of!(hf_cpython_told, first_line) - 40usize];
    ["Offset of field: hf_cpython_told::has_file"]
        [::core::mem::offset_of!(hf_cpython_told, has_file) - 44usize];
    ["Offset of field: hf_cpython_told::has_lines"]
        [::core::mem::offset_of!(hf_cpython_told, has_lines) - 45usize];
    ["Offset of field: hf_cpython_told::reserved"]
        [::core::mem::offset_of!(hf_cpython_told, reserved) - 46usize];
    ["Offset of field: hf_cpython_told::name"]
        [::core::mem::offset_of!(hf_cpython_told, name) - 48usize];
    ["Offset of field: hf_cpython_told::file"]
        [::core::mem::offset_of!(hf_cpython_told, file) - 208usize];
    ["Offset of field: hf_cpython_told::lines"]
        [::core::mem::offset_of!(hf_cpython_told, lines) - 368usize];
};
pub const LOST_NAMES: [&str; 10] = [
    "none",
    "step_not_loaded",
    "late",
    "no_thread",
    "limbo",
    "frame_unreadable",
    "no_code",
    "no_interpreter",
    "out_of_order",
    "no_shim",
];
