/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames of a virtual thread that wait in the heap. One that goes on has the innermost of its
 * frames on its carrier's stack; the last of them returns to a barrier, which fetches more from the
 * Continuation's StackChunks: objects that hold a piece of a stack each, word by word as it was
 * (share/oops/stackChunkOop.hpp, share/runtime/continuationFreezeThaw.cpp @ jdk-21+35 and
 * jdk-25+36).
 */
#ifndef HF_HOTSPOT_HEAP_H
#define HF_HOTSPOT_HEAP_H

#include "hotspot/bpf/blob.h"
#include "hotspot/bpf/frame.h"

/* Chunks of a continuation that are looked at for one with frames. */
#define HF_HOTSPOT_MAX_CHUNKS 4
/* A chunk's words: a stack has a megabyte, 64 at most are configured. */
#define HF_HOTSPOT_MAX_CHUNK_WORDS (8U << 20)
/* Words between the frames of a virtual thread and the end of the frame below:
 * ContinuationEntry is eight, the rest are what was passed. */
#define HF_HOTSPOT_MAX_ENTRY_WORDS 32
/* ContinuationEntry, and where in it the Continuation is; enterSpecial's rbp and return address
 * follow (share/runtime/continuationEntry.hpp @ jdk-21+35 and jdk-25+36). */
#define HF_HOTSPOT_ENTRY_BYTES 64
#define HF_HOTSPOT_ENTRY_CONT 16

/* What is where it cannot be read. */
#define HF_HOTSPOT_NOWHERE (~0ULL)

/* A reference in an object; 0: null. */
HF_STEP_FN __u64 hf_hotspot_oop(struct hf_walk *w, __u64 addr)
{
	const struct hf_hotspot_proc *proc;
	__u64 oop;

	if (!w)
		return HF_HOTSPOT_NOWHERE;
	proc = hf_hotspot_table(w);
	if (!proc || hf_stack_u64(w, addr, &HF_HOTSPOT_SCRATCH(w)->value))
		return HF_HOTSPOT_NOWHERE;
	oop = HF_HOTSPOT_SCRATCH(w)->value;
	if (proc->flags & HF_HOTSPOT_WIDE_OOPS)
		return oop;
	oop &= 0xffffffff;
	return oop ? proc->chunks.oops_base + (oop << (proc->chunks.oops_shift & 31)) : 0;
}

/* A number of 32 bits in an object; ~0: it cannot be read. */
HF_STEP_FN __u32 hf_hotspot_int(struct hf_walk *w, __u64 addr)
{
	if (!w || hf_stack_u64(w, addr, &HF_HOTSPOT_SCRATCH(w)->value))
		return ~0U;
	return (__u32)HF_HOTSPOT_SCRATCH(w)->value;
}

/* Of a continuation's chunk and its parents, the first with frames: its address, its number of
 * words into s->n and where its innermost frame is into s->base. 0: none has. */
HF_STEP_FN __u64 hf_hotspot_chunk(struct hf_walk *w, __u64 chunk, __u64 cont)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int i;

	if (!w)
		return HF_HOTSPOT_NOWHERE;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_HOTSPOT_NOWHERE;
	s = HF_HOTSPOT_SCRATCH(w);
	/* In memory, of whose numbers the verifier knows nothing. */
	s->entry = chunk;
	for (i = 0; i < HF_HOTSPOT_MAX_CHUNKS; i++) {
		chunk = s->entry;
		if (!chunk)
			return 0;
		if ((chunk & 7) || hf_hotspot_oop(w, chunk + proc->chunks.cont) != cont)
			break;
		s->n = hf_hotspot_int(w, chunk + proc->chunks.bottom);
		s->base = hf_hotspot_int(w, chunk + proc->chunks.sp);
		if (s->n > HF_HOTSPOT_MAX_CHUNK_WORDS)
			break;
		if (s->base < s->n)
			return s->base < 2 ? HF_HOTSPOT_NOWHERE : chunk;
		s->entry = hf_hotspot_oop(w, chunk + proc->chunks.parent);
	}
	return HF_HOTSPOT_NOWHERE;
}

/* Where the return address of enterSpecial's frame is, from cfa on: behind what was passed on the
 * stack, a ContinuationEntry, and rbp. The entry's first word is nothing's, and may be an address
 * of code that was left there. */
HF_STEP_FN __u64 hf_hotspot_entered(struct hf_walk *w, __u64 cfa)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int i;

	if (!w)
		return HF_HOTSPOT_NOWHERE;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_HOTSPOT_NOWHERE;
	s = HF_HOTSPOT_SCRATCH(w);
	s->cfa = cfa + HF_HOTSPOT_ENTRY_BYTES + 8;
	for (i = 0; i < HF_HOTSPOT_MAX_ENTRY_WORDS; i++) {
		if (hf_hotspot_stack(w, s->cfa))
			return HF_HOTSPOT_NOWHERE;
		if (hf_hotspot_is_code(proc, s->value))
			return s->cfa;
		s->cfa += 8;
	}
	return HF_HOTSPOT_NOWHERE;
}

/* A virtual thread's frame returns to the barrier: moves to its caller in the heap, behind the last
 * of these to the carrier's. Callers that cannot be read are not left out: the stack is cut. */
HF_STEP_FN int hf_hotspot_barrier(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 at, chunk, cont, is_first;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	/* A thread that has gone on may have put there what this walk has found on the stack. */
	if (w->late)
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	chunk = w->runtime_state[HF_HOTSPOT_CHUNK];
	is_first = !chunk;
	if (is_first) {
		at = hf_hotspot_entered(w, w->sp);
		if (at == HF_HOTSPOT_NOWHERE)
			return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
		at -= 8 + HF_HOTSPOT_ENTRY_BYTES;
		w->runtime_state[HF_HOTSPOT_CARRIER] = at;
		if (hf_hotspot_stack(w, at + HF_HOTSPOT_ENTRY_CONT))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		cont = s->value;
		chunk = hf_hotspot_oop(w, cont + proc->chunks.tail);
	} else {
		cont = hf_hotspot_oop(w, chunk + proc->chunks.cont);
		chunk = hf_hotspot_oop(w, chunk + proc->chunks.parent);
	}
	chunk = hf_hotspot_chunk(w, chunk, cont);
	/* Between the stack and the heap, either of which may lie above the other. */
	w->sp = 0;
	if (!chunk && !is_first) {
		w->runtime_state[HF_HOTSPOT_CHUNK] = 0;
		at = w->runtime_state[HF_HOTSPOT_CARRIER];
		return hf_to_caller(w, at, proc->chunks.return_pc, 0) ? HF_STEP_ENDED
								      : HF_STEP_MOVED;
	}
	if (!chunk || chunk == HF_HOTSPOT_NOWHERE || hf_hotspot_stack(w, chunk + proc->chunks.pc) ||
	    !hf_hotspot_is_code(proc, s->value))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	s->ra = s->value;
	/* The thread is giving up its carrier: what is on the stack has been copied to the heap,
	 * where what doYield returns to is the innermost. */
	if (is_first && s->ra == w->runtime_state[HF_HOTSPOT_INNERMOST] &&
	    !hf_hotspot_is_interpreter(proc, s->ra))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	s->cfa = chunk + proc->chunks.stack + 8ULL * s->base;
	if (hf_hotspot_stack(w, s->cfa - 16))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	s->fp = s->value;
	if (hf_hotspot_is_interpreter(proc, s->ra))
		s->fp = s->cfa - 16 + s->fp * 8;
	w->runtime_state[HF_HOTSPOT_CHUNK] = chunk;
	w->runtime_state[HF_HOTSPOT_CHUNK_END] = chunk + proc->chunks.stack + 8ULL * s->n;
	return hf_to_caller(w, s->cfa, s->ra, s->fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
}

/* The same, where it is not known how frames lie in the heap: the barrier, which is where the frame
 * returns to, stands for them, and the carrier's follow. */
HF_STEP_FN int hf_hotspot_past_heap(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	__u64 at;

	if (!w)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	/* Its first instruction. */
	w->pc_is_return = 0;
	if (hf_hotspot_push_blob(w, HF_HOTSPOT_STUB, w->pc))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	at = hf_hotspot_entered(w, w->sp);
	if (at == HF_HOTSPOT_NOWHERE || hf_hotspot_stack(w, at - 8))
		return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
	s->fp = s->value;
	if (hf_hotspot_stack(w, at))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	return hf_to_caller(w, at + 8, s->value, s->fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
}

#endif /* HF_HOTSPOT_HEAP_H */
