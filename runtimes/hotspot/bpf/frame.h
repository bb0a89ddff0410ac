/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the parts of the step share: what one hands to another, reads of the stack,
 * and the move to the caller.
 */
#ifndef HF_HOTSPOT_FRAME_H
#define HF_HOTSPOT_FRAME_H

#include "hotspot/bpf/abi.h"

/* Frames of the interpreter: a method has at most 65535 locals and stack slots
 * each (JVMS 4.7.3), but nobody writes such. */
#define HF_HOTSPOT_MAX_FRAME_BYTES (1U << 20)

/* w->runtime_state: the chunk whose frames are walked, 0: none; where they end; the
 * ContinuationEntry, where the carrier's stack goes on; and what the innermost frame returns to, if
 * it has called, else 1. CPython has the words before. */
#define HF_HOTSPOT_CHUNK 4
#define HF_HOTSPOT_CHUNK_END 5
#define HF_HOTSPOT_CARRIER 6
#define HF_HOTSPOT_INNERMOST 7

#define HF_HOTSPOT_RAX 0
#define HF_HOTSPOT_RDX 1
#define HF_HOTSPOT_RBX 3
#define HF_HOTSPOT_R11 11
#define HF_HOTSPOT_R13 13

/* Use of w->scratch: the block that was read, code, and what one function
 * hands to another. */
struct hf_hotspot_scratch {
	__u8 block[HF_HOTSPOT_MAX_BLOB_BYTES + 64];
	__u8 code[64];
	__u64 value;
	__u64 blob; /* process address of the CodeBlob */
	__u64 code_begin;
	__u64 name;
	__u64 name_text;
	__u64 entry;
	__u64 cfa, ra, fp; /* of the caller, found so far */
	__s64 size_bytes;
	__s64 complete; /* _frame_complete_offset */
	__u64 segment;
	__u64 segmap_from; /* of the bytes of the segment map in code[] */
	__u32 frame_bytes;
	__u32 compile_id;
	__u32 base, n; /* of a search */
	__u32 is_found;
	/* Of instructions: instructions.h. */
	__s32 up, sum, most, r13_at;
	__u32 kind, apart;
	__u32 op, map, rex, is_short, bytes;
	__u64 code_from; /* what code[] was read from */
};
_Static_assert(sizeof(struct hf_hotspot_scratch) <= HF_SCRATCH_BYTES, "it fits the scratch");
_Static_assert(sizeof(struct hf_hotspot_name) <= HF_HOTSPOT_MAX_BLOB_BYTES + 64,
	       "a name is put together in the block");
#define HF_HOTSPOT_SCRATCH(w) ((struct hf_hotspot_scratch *)(w)->scratch)

/* Each part is a global function, like the step itself: the verifier looks at
 * it on its own, so that their numbers of states add up instead of multiplying.
 * To it their argument may be anything. */

static __always_inline const struct hf_hotspot_proc *hf_hotspot_table(struct hf_walk *w)
{
	return hf_mem(w->runtime_off, sizeof(struct hf_hotspot_proc));
}

/* A word of the stack, into scratch->value. */
HF_STEP_FN int hf_hotspot_stack(struct hf_walk *w, __u64 addr)
{
	if (!w)
		return 1;
	return hf_stack_u64(w, addr, &HF_HOTSPOT_SCRATCH(w)->value);
}

/* A field of the block that was read. */
static __always_inline __u64 hf_hotspot_u64(struct hf_walk *w, __u32 at)
{
	hf_barrier(at);
	return *(__u64 *)(w->scratch + (at & (HF_HOTSPOT_MAX_BLOB_BYTES - 1)));
}
static __always_inline __u32 hf_hotspot_u32(struct hf_walk *w, __u32 at)
{
	hf_barrier(at);
	return *(__u32 *)(w->scratch + (at & (HF_HOTSPOT_MAX_BLOB_BYTES - 1)));
}

static __always_inline int hf_hotspot_is_code(const struct hf_hotspot_proc *proc, __u64 pc)
{
	return pc > proc->code_low && pc < proc->code_end;
}

static __always_inline int hf_hotspot_is_leaf(struct hf_walk *w)
{
	return w->regs_valid && !w->pc_is_return;
}

static __always_inline __u64 hf_hotspot_flags(struct hf_walk *w)
{
	return (w->pc_is_return ? HF_FRAME_RETURN_ADDR : 0) |
	       (w->heuristic_next ? HF_FRAME_HEURISTIC : 0);
}

static __always_inline int hf_hotspot_is_interpreter(const struct hf_hotspot_proc *proc, __u64 pc)
{
	return pc >= proc->interpreter_start && pc < proc->interpreter_end;
}

/* What a frame in the heap returns to whose caller's sp is this, if this is the return address in
 * it: the last one of a chunk returns to the barrier, whatever is left there. */
static __always_inline __u64 hf_hotspot_in_heap(struct hf_walk *w,
						const struct hf_hotspot_proc *proc, __u64 sp,
						__u64 ra)
{
	return w->runtime_state[HF_HOTSPOT_CHUNK] && sp >= w->runtime_state[HF_HOTSPOT_CHUNK_END]
		   ? proc->continuation_start
		   : ra;
}

/* Moves to the caller. Where it is in the heap, that is the barrier at which it would be taken from
 * there: see heap.h. rbp is an address of the stack only where the caller keeps frame pointers: C2
 * has it hold anything.
 *
 * Frames in the heap are laid out like those on the stack, but what leads to an interpreter's
 * counts words from where it stands (StackChunkFrameStream in
 * share/runtime/stackChunkFrameStream.inline.hpp, cpu/x86/stackChunkFrameStream_x86.inline.hpp @
 * jdk-21+35; the same @ jdk-25+36). */
HF_STEP_FN int hf_hotspot_move(struct hf_walk *w, __u64 cfa, __u64 ra, __u64 fp)
{
	const struct hf_hotspot_proc *proc;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	if (!w->runtime_state[HF_HOTSPOT_INNERMOST])
		w->runtime_state[HF_HOTSPOT_INNERMOST] = w->pc_is_return ? ra : 1;
	if (w->runtime_state[HF_HOTSPOT_CHUNK] && hf_hotspot_is_interpreter(proc, ra))
		fp = (hf_hotspot_is_interpreter(proc, w->pc) ? w->fp : cfa - 16) + fp * 8;
	return hf_to_caller(w, cfa, ra, fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
}

static __always_inline int hf_hotspot_cut(struct hf_walk *w, __u8 why)
{
	hf_cut(w, why);
	return HF_STEP_ENDED;
}

/* The kind of the last frame that was sent; 0: it is none of this runtime. */
static __always_inline __u64 hf_hotspot_last_kind(struct hf_walk *w)
{
	const __u64 frame = (__u64)HF_FRAME_DYNAMIC << HF_FRAME_KIND_SHIFT |
			    (__u64)HF_RUNTIME_HOTSPOT << HF_FRAME_RUNTIME_SHIFT |
			    1ULL << HF_FRAME_N_DATA_SHIFT;
	__u32 at = w->n_words - 2;
	__u64 word;

	hf_barrier(at);
	if (at >= HF_MAX_WORDS)
		return 0;
	word = w->words[at] & ~(0xfULL << HF_FRAME_FLAGS_SHIFT);
	if (word >> HF_FRAME_N_DATA_SHIFT != frame >> HF_FRAME_N_DATA_SHIFT)
		return 0;
	return word >> HF_HOTSPOT_KIND_SHIFT & 0xf;
}

/* Was it a method's? */
static __always_inline int hf_hotspot_is_behind_method(struct hf_walk *w)
{
	__u64 kind = hf_hotspot_last_kind(w);

	return kind && kind != HF_HOTSPOT_STUB;
}

static __always_inline int hf_hotspot_is_behind_stub(struct hf_walk *w)
{
	return hf_hotspot_last_kind(w) == HF_HOTSPOT_STUB;
}

#endif /* HF_HOTSPOT_FRAME_H */
