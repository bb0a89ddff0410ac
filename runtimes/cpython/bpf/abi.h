/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * CPython: what crosses the boundary. User half: ../src/process.rs writes the
 * table, ../src/resolve.rs reads the frames.
 *
 * A frame is a head word and one data word:
 *
 *   head  39..0  cookie of the code object (hf_cpython_cookie); 0: unreadable
 *   data  63..20 address of the code object, divided by 8
 *         19..0  position: 1 + the instruction, in code units of two bytes;
 *                0: before the first; HF_CPYTHON_NO_POSITION: unknown
 */
#ifndef HF_CPYTHON_ABI_H
#define HF_CPYTHON_ABI_H

#include "hf/abi.h"

#define HF_CPYTHON_POSITION_BITS 20
#define HF_CPYTHON_NO_POSITION 0xfffffU

/* Why Python frames are missing from a stack (struct hf_sample). Their names are keys of
 * --stats: stacks_without_runtime_by.cpython. */
enum hf_cpython_lost {
	HF_CPYTHON_LOST_NONE = 0,
	/* The step is not loaded yet: the first samples of the first Python program. */
	HF_CPYTHON_LOST_STEP_NOT_LOADED = 1,
	/* The walk was finished when the process had gone on: frames lie in memory that is used
	 * anew with every call. */
	HF_CPYTHON_LOST_LATE = 2,
	/* No state of this thread leads to a frame: it is being made, or cannot be found. */
	HF_CPYTHON_LOST_NO_THREAD = 3,
	/* The loop is where what leads to its frame is being written. */
	HF_CPYTHON_LOST_LIMBO = 4,
	HF_CPYTHON_LOST_FRAME_UNREADABLE = 5,
	/* What a frame runs is no code object: the frame is being made, or it is none. */
	HF_CPYTHON_LOST_NO_CODE = 6,
	/* No interpreter has a frame in this run of the loop. */
	HF_CPYTHON_LOST_NO_INTERPRETER = 7,
	/* A run further in has taken a frame of this one or of one further out. */
	HF_CPYTHON_LOST_OUT_OF_ORDER = 8,
	/* Jitted code to which no call of the shim leads. */
	HF_CPYTHON_LOST_NO_SHIM = 9,
	HF_CPYTHON_LOST_COUNT = 10,
};

/* Which Python frames one run of the evaluation loop has on the native stack. */
enum hf_cpython_activation {
	/* One each (3.6 to 3.10). */
	HF_CPYTHON_ONE = 0,
	/* All up to the one whose mark says that it entered the loop (3.11). */
	HF_CPYTHON_ENTRY = 1,
	/* All up to one that is no Python frame: the loop's own (from 3.12). */
	HF_CPYTHON_SHIM = 2,
};

/* Reads of a pointer each, from the thread pointer to the innermost frame:
 * value = *(value + offset). */
#define HF_CPYTHON_MAX_READS 6
struct hf_cpython_chain {
	/* Not 0: the state of whichever thread holds the lock stands at this address. It is
	 * this thread's if the pointer in it at stack_off leads into the loop's native frame,
	 * or, where there is no such pointer (0), if the thread pointer stands at owner_off:
	 * who made the state, which is mostly who runs it. */
	__u64 holder;
	__s32 owner_off;
	__u16 n;
	__u16 stack_off;
	__s32 offsets[HF_CPYTHON_MAX_READS];
	/* Without a holder: reads up to the state. Its frames are this run's if the pointer in it
	 * at stack_off, where there is one, leads into the loop's native frame: a state may still
	 * lead to the frames of a stack that was left for another (greenlets). */
	__u32 n_to_state;
	__u32 reserved;
};
/* Where the thread state is found: the lock's holder (before 3.12, where a key keeps
 * leading to a thread's first interpreter, whichever it runs), a thread-specific key, a
 * thread-local. */
#define HF_CPYTHON_MAX_CHAINS 2

/* Code of the evaluation loop in which its frame is not, or no longer, the
 * thread's innermost. */
struct hf_cpython_gap {
	__u64 start;
	__u32 bytes;
	/* Not 0: what leads to the innermost frame is being written, and leads
	 * nowhere. */
	__u32 is_limbo;
};
#define HF_CPYTHON_MAX_GAPS 16

/* Words of a code object that never change while it lives. */
#define HF_CPYTHON_COOKIE_WORDS 4

/* Offsets are bytes; what is read of a frame or a code object is its first
 * frame_bytes, code_bytes: at most HF_CPYTHON_BLOCK_BYTES. */
#define HF_CPYTHON_BLOCK_BYTES 256
struct hf_cpython_proc {
	__u32 runtime; /* HF_RUNTIME_CPYTHON */
	__u32 activation; /* enum hf_cpython_activation */
	struct hf_cpython_chain chains[HF_CPYTHON_MAX_CHAINS];
	__u32 n_gaps;
	__u16 frame_bytes;
	__u16 code_bytes;
	/* In a frame. */
	__u16 code_off;
	__u16 previous_off;
	__u16 position_off;
	__u16 mark_off; /* one byte: entry mark or owner */
	__u8 mark; /* value that ends an activation */
	__u8 skip_mark; /* value of a frame that is none; 0: there is none such */
	/* The position is an int, in units (0) or bytes (1); else a pointer. */
	__u8 position_is_int;
	__u8 position_shift;
	/* In a code object. */
	__u16 first_line_off;
	__u16 name_off; /* the qualified name, where there is one */
	__u16 file_off;
	__u16 lines_off;
	__u16 bytecode_off;
	__u16 cookie_offs[HF_CPYTHON_COOKIE_WORDS];
	/* The gaps are in functions that the loop calls and that return to it
	 * (3.14): not the loop's pc counts, but the innermost native frame's. */
	__u16 gaps_at_leaf;
	/* Not 0: code may be gone before it is read, so its names are told (struct
	 * hf_cpython_told). */
	__u16 tells;
	/* Where threads other than the first run copies of the bytecode (3.14 without the
	 * lock): the pointer to these in a code object, and which one a frame runs, an int. */
	__u16 copies_off; /* 0: there are none */
	__u16 copy_off;
	/* Regions without a file are code that the JIT compiler made. */
	__u16 has_jit;
	/* From 3.12 on, where one interpreter called another: the list of interpreters, behind
	 * which the main one stands, and in an interpreter the next one and its threads' states.
	 * 0: unknown. */
	__u64 interpreters;
	__u32 interpreter_next_off;
	__u32 interpreter_threads_off;
	/* In a thread's state, within its first HF_CPYTHON_BLOCK_BYTES; the frame is found by one
	 * read more where there is something between. */
	__u16 thread_next_off;
	__u16 thread_id_off;
	__u16 thread_frame_off;
	__u16 frame_is_behind;
	/* What the type of a code object is, at type_off in it; 0: unknown. */
	__u64 code_type;
	__u16 type_off;
	/* A generator that waits for another one (`yield from`, `await`) has its frame among the
	 * thread's while an exception is thrown into that, though no run of the loop is its. In
	 * 3.10 such a frame says that it executes and yet has its stack of values, which a run
	 * takes: the generator, the depth of that stack (an int) and the state (a byte) in a
	 * frame, and the bytecode in a code object and where it begins there. generator_off 0:
	 * there are none. */
	__u16 generator_off;
	__u16 depth_off;
	__u16 state_off;
	__u16 text_off;
	__u16 text_bytes_off;
	/* In 3.11 it is no run's outermost one, whatever its mark says: that is one behind which
	 * the frame is that the run further out had come to. Who owns a frame (a byte), and the
	 * next and that frame in what a run has of its own (struct _PyCFrame). owner_off 0: there
	 * are none. */
	__u16 owner_off;
	__u16 cframe_previous_off;
	__u16 cframe_frame_off;
	__u16 reserved[3];
	struct hf_cpython_gap gaps[HF_CPYTHON_MAX_GAPS];
};

/* What names the frames of a code object: its name, its file and its table of lines as they lie in
 * memory, each from its head on. Longer ones go on where the record ends. */
#define HF_CPYTHON_TEXT_BYTES 160
#define HF_CPYTHON_LINES_BYTES 144
struct hf_cpython_told {
	/* The key: the code object's address and cookie. */
	struct hf_told head;
	__u32 first_line;
	__u8 has_file;
	__u8 has_lines;
	__u16 reserved;
	__u8 name[HF_CPYTHON_TEXT_BYTES];
	__u8 file[HF_CPYTHON_TEXT_BYTES];
	__u8 lines[HF_CPYTHON_LINES_BYTES];
};

#endif /* HF_CPYTHON_ABI_H */
