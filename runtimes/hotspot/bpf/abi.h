/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * HotSpot: what crosses the boundary. Rust twin: ../src/abi.rs (make generate).
 *
 * A frame is a head word and one data word:
 *
 *                own 39..36   own 35..0                       data
 *   INTERPRETED  kind         35..20 bci, 19..0 ConstMethod*  63..44 epoch,
 *                             >> 3, its low bits, or what     43..0 Method* >> 3
 *                             names it (below)
 *   COMPILED     kind         35..12 pc - blob, 11..0         63..44 compile id,
 *                             compile id, bits 20 to 31       bits 0 to 19,
 *                                                             43..0 blob >> 3
 *   STUB         kind         35..12 pc - blob                63..44 name's
 *                                                             address, low bits,
 *                                                             43..0 blob >> 3
 *
 * The epoch is the number of classes that the process has unloaded: as long as
 * it stands, a Method* is what it was; but where an agent has redefined classes,
 * what a former version was made of may become another class's. There a frame has
 * a hash of what names it in the place of the ConstMethod* (HF_HOTSPOT_REDEFINES).
 * A compile id is never given again. Of a
 * frame that was walked late there may be no ConstMethod*: 0 if the epoch is not
 * known either. INTERPRETED_LATE is laid out like INTERPRETED: the epoch is the
 * sample's, but the ConstMethod* was read in a later one.
 */
#ifndef HF_HOTSPOT_ABI_H
#define HF_HOTSPOT_ABI_H

#include "hf/abi.h"

enum hf_hotspot_frame {
	HF_HOTSPOT_INTERPRETED = 1,
	HF_HOTSPOT_COMPILED = 2,
	HF_HOTSPOT_STUB = 3,
	HF_HOTSPOT_INTERPRETED_LATE = 4,
};

#define HF_HOTSPOT_KIND_SHIFT 36
#define HF_HOTSPOT_BCI_SHIFT 20
#define HF_HOTSPOT_DELTA_SHIFT 12
#define HF_HOTSPOT_DELTA_MASK 0xffffffU
#define HF_HOTSPOT_COOKIE_SHIFT 44
#define HF_HOTSPOT_COOKIE_MASK 0xfffffU
/* No bytecode index: a native method, or a frame that is being built. */
#define HF_HOTSPOT_BCI_NONE 0xffffU

/* A part of the code cache. */
struct hf_hotspot_heap {
	__u64 low; /* first byte */
	__u64 end; /* of what is reserved, exclusive */
	__u64 segmap; /* a byte for each segment */
	__u32 shift; /* log2 of a segment's bytes */
	__u32 reserved;
};
#define HF_HOTSPOT_MAX_HEAPS 8

/* Code of the interpreter where its frame does not stand. Sorted by start. */
enum hf_hotspot_range_kind {
	/* Method entry: `at` is where the return address is pushed that leads
	 * the frame; 0: none is built. */
	HF_HOTSPOT_ENTRY = 1,
	/* Behind `leave`: at `at` the return address is popped into ra_reg;
	 * sp_reg is the caller's stack pointer. */
	HF_HOTSPOT_EXIT = 2,
	/* Where an exception is handed on, from behind the call that asks for its handler: the
	 * frame is gone, and up to `at` a word more is on the stack. */
	HF_HOTSPOT_HANDS_ON = 3,
};
struct hf_hotspot_range {
	__u32 start; /* bytes from interpreter_start */
	__u32 end; /* exclusive */
	__u32 at;
	__u8 kind; /* enum hf_hotspot_range_kind */
	__u8 ra_reg; /* DWARF numbers */
	__u8 sp_reg;
	__u8 reserved;
};
#define HF_HOTSPOT_MAX_RANGES 128

/* Blobs hold addresses of their code and of deopt handlers (JDK 9 to 22), else
 * 32-bit offsets. */
#define HF_HOTSPOT_CODE_ADDRESS 1
/* Verified entries are addresses (up to JDK 22), else 16-bit offsets from the
 * begin of the code. */
#define HF_HOTSPOT_ENTRY_ADDRESS 2
/* CodeBlob::_frame_complete_offset is 16 bits wide. */
#define HF_HOTSPOT_COMPLETE_I16 4
/* Classes were unloaded of late: names do not wait for the end of a pass. */
#define HF_HOTSPOT_UNLOADS 8
/* None was for some time, as long as the number of them is still epoch_quiet. */
#define HF_HOTSPOT_QUIET 16
/* Classes were redefined. */
#define HF_HOTSPOT_REDEFINES 32
/* Code may be that of a compiler in Java (Graal). */
#define HF_HOTSPOT_JVMCI 64
/* References in objects are 64 bits wide. */
#define HF_HOTSPOT_WIDE_OOPS 128
/* Compiled code computes pow, exp, log, sin and tan on the x87 (JDK 8), operands on the stack. */
#define HF_HOTSPOT_X87 256

#define HF_HOTSPOT_MAX_BLOB_BYTES 512
#define HF_HOTSPOT_NO_FIELD 0xffffU

/* Where a virtual thread's frames are that wait in the heap. */
struct hf_hotspot_chunks {
	__u64 return_pc; /* in enterSpecial: what a continuation's first frame returns to; 0: none
			    can be read */
	__u64 oops_base; /* of references of 32 bits */
	__u32 oops_shift;
	__u16 tail; /* Continuation.tail */
	__u16 cont; /* StackChunk's fields */
	__u16 parent;
	__u16 bottom; /* where its frames end, and where they begin, in words */
	__u16 sp;
	__u16 pc; /* of the innermost frame */
	__u16 stack; /* its first word */
	__u16 reserved[3];
};

/* A process. Offsets named blob_* count from the CodeBlob. */
struct hf_hotspot_proc {
	__u32 runtime; /* HF_RUNTIME_HOTSPOT */
	__u32 n_heaps;
	__u64 code_low; /* all heaps lie within */
	__u64 code_end;
	__u64 interpreter_start;
	__u64 interpreter_end;
	/* Relative to interpreter_start: what frames return to that a deoptimisation has not yet
	 * filled in; empty: not known. */
	__u32 unfilled_start;
	__u32 unfilled_end;
	__u64 epoch_addr; /* of a 64-bit count of unloaded classes; 0: none */
	__u64 epoch_quiet; /* HF_HOTSPOT_QUIET; its low bits, as in a frame */
	/* Addresses of CodeBlob names; 0: not known, and the text is read. */
	__u64 name_nmethod;
	__u64 name_native;
	__u64 name_vtable;
	/* Stubs to which a virtual thread's frames return whose callers are in the
	 * heap; 0: none. */
	__u64 continuation_start;
	__u64 continuation_end;
	struct hf_hotspot_chunks chunks;
	__u32 flags;
	__u32 n_ranges;
	__u16 block_bytes; /* sizeof(HeapBlock), in front of the CodeBlob */
	__u16 block_used; /* of the flag, in HeapBlock */
	__u16 read_bytes; /* of HeapBlock and CodeBlob: all the fields below */
	__u16 head_bytes; /* the same without those of nmethod */
	__u16 blob_name;
	__u16 blob_size;
	__u16 blob_frame_size;
	__u16 blob_frame_complete;
	__u16 blob_code;
	__u16 blob_compile_id;
	__u16 blob_entry;
	__u16 blob_deopt;
	__u16 blob_deopt_mh; /* HF_HOTSPOT_NO_FIELD: there is none */
	__u16 blob_orig_pc;
	__u16 method_const; /* Method::_constMethod */
	__u16 const_bytes; /* sizeof(ConstMethod): bytecode follows */
	__u16 const_code_size; /* ConstMethod::_code_size */
	__u16 bcp_words; /* the slot of the bytecode pointer, below the frame pointer */
	/* What leads to names. An index of a constant is 16 bits wide, a symbol's length too. */
	__u16 const_constants;
	__u16 const_name;
	__u16 const_flags;
	__u16 pool_bytes; /* sizeof(ConstantPool): slots of 8 bytes follow */
	__u16 pool_holder;
	__u16 pool_source; /* index of the file's name; HF_HOTSPOT_NO_FIELD: see klass_source */
	__u16 klass_source; /* HF_HOTSPOT_NO_FIELD: none either */
	__u16 klass_name;
	__u16 symbol_length;
	__u16 symbol_body;
	/* Classes that are never unloaded; empty: none. */
	__u64 archive_start;
	__u64 archive_end;
	struct hf_hotspot_heap heaps[HF_HOTSPOT_MAX_HEAPS];
	struct hf_hotspot_range ranges[HF_HOTSPOT_MAX_RANGES];
};

/* What names an interpreted frame, told when its method is met in an epoch for the first time while
 * classes are being unloaded: it may be gone before anybody reads it. */
#define HF_HOTSPOT_CLASS_BYTES 192
#define HF_HOTSPOT_NAME_BYTES 96
#define HF_HOTSPOT_FILE_BYTES 64
#define HF_HOTSPOT_LINES_BYTES 96
struct hf_hotspot_name {
	/* The key: the frame's data word, epoch and Method*; its ConstMethod*'s bits. */
	struct hf_told head;
	__u16 class_bytes; /* longer ones are not told */
	__u16 name_bytes;
	__u16 file_bytes; /* 0: not known */
	__u16 lines_bytes; /* of the table of lines, which may go on; 0: none */
	__u8 class_name[HF_HOTSPOT_CLASS_BYTES];
	__u8 name[HF_HOTSPOT_NAME_BYTES];
	__u8 file[HF_HOTSPOT_FILE_BYTES];
	__u8 lines[HF_HOTSPOT_LINES_BYTES];
};

#ifndef HF_ABI_GENERATING
_Static_assert(sizeof(struct hf_hotspot_proc) <= HF_RUNTIME_TABLE_MAX_BYTES, "a table fits");
#endif

#endif /* HF_HOTSPOT_ABI_H */
