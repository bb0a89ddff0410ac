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

/* A reference in an object; 0: null, or it cannot be read. */
HF_STEP_FN __u64 hf_hotspot_oop(struct hf_walk *w, __u64 addr)
{
	const struct hf_hotspot_proc *proc;
	__u64 oop;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc || hf_stack_u64(w, addr, &HF_HOTSPOT_SCRATCH(w)->value))
		return 0;
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
 * words into s->n and where its innermost frame is into s->base. 0: there is none. */
HF_STEP_FN __u64 hf_hotspot_chunk(struct hf_walk *w, __u64 chunk, __u64 cont)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int i;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	/* In memory, of whose numbers the verifier knows nothing. */
	s->entry = chunk;
	for (i = 0; i < HF_HOTSPOT_MAX_CHUNKS; i++) {
		chunk = s->entry;
		if (!chunk || (chunk & 7) || hf_hotspot_oop(w, chunk + proc->chunks.cont) != cont)
			return 0;
		s->n = hf_hotspot_int(w, chunk + proc->chunks.bottom);
		s->base = hf_hotspot_int(w, chunk + proc->chunks.sp);
		if (s->n > HF_HOTSPOT_MAX_CHUNK_WORDS)
			return 0;
		if (s->base < s->n)
			return s->base < 2 ? 0 : chunk;
		s->entry = hf_hotspot_oop(w, chunk + proc->chunks.parent);
	}
	return 0;
}

/* Where the return address of enterSpecial's frame is, from cfa on: behind what was passed on the
 * stack, a ContinuationEntry, and rbp. The entry's first word is nothing's, and may be an address
 * of code that was left there. ~0: not found. */
HF_STEP_FN __u64 hf_hotspot_entered(struct hf_walk *w, __u64 cfa)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int i;

	if (!w)
		return ~0ULL;
	proc = hf_hotspot_table(w);
	if (!proc)
		return ~0ULL;
	s = HF_HOTSPOT_SCRATCH(w);
	s->cfa = cfa + HF_HOTSPOT_ENTRY_BYTES + 8;
	for (i = 0; i < HF_HOTSPOT_MAX_ENTRY_WORDS; i++) {
		if (hf_stack_u64(w, s->cfa, &s->value))
			return ~0ULL;
		if (hf_hotspot_is_code(proc, s->value))
			return s->cfa;
		s->cfa += 8;
	}
	return ~0ULL;
}

/* A virtual thread's frame returns to the barrier: moves to its caller in the heap or, where it is
 * not known how that is laid out, to the carrier's. */
HF_STEP_FN int hf_hotspot_barrier(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 at, chunk, cont, is_last;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	/* A thread that has gone on may have put there what this walk has found on the stack. */
	if (w->late && proc->chunks.return_pc) {
		hf_cut(w, HF_CUT_STACK_UNREADABLE);
		return HF_STEP_ENDED;
	}
	chunk = w->runtime_state[HF_HOTSPOT_CHUNK];
	is_last = chunk;
	if (chunk) {
		cont = hf_hotspot_oop(w, chunk + proc->chunks.cont);
		chunk = hf_hotspot_oop(w, chunk + proc->chunks.parent);
	} else {
		at = hf_hotspot_entered(w, w->sp);
		if (at == ~0ULL) {
			hf_cut(w, HF_CUT_NO_UNWIND_INFO);
			return HF_STEP_ENDED;
		}
		w->runtime_state[HF_HOTSPOT_CARRIER] = at - 8 - HF_HOTSPOT_ENTRY_BYTES;
		cont = 0;
		if (proc->chunks.return_pc &&
		    !hf_hotspot_stack(w, at - 8 - HF_HOTSPOT_ENTRY_BYTES + HF_HOTSPOT_ENTRY_CONT))
			cont = s->value;
		if (cont && !(cont & 7))
			chunk = hf_hotspot_oop(w, cont + proc->chunks.tail);
	}
	if (chunk)
		chunk = hf_hotspot_chunk(w, chunk, cont);
	/* Between the stack and the heap, either of which may lie above the other. */
	w->sp = 0;
	if (chunk && !hf_hotspot_stack(w, chunk + proc->chunks.pc) &&
	    hf_hotspot_is_code(proc, s->value)) {
		s->ra = s->value;
		s->cfa = chunk + proc->chunks.stack + 8ULL * s->base;
		if (!hf_hotspot_stack(w, s->cfa - 16)) {
			s->fp = s->value;
			if (hf_hotspot_is_interpreter(proc, s->ra))
				s->fp = s->cfa - 16 + s->fp * 8;
			w->runtime_state[HF_HOTSPOT_CHUNK] = chunk;
			w->runtime_state[HF_HOTSPOT_CHUNK_END] =
			    chunk + proc->chunks.stack + 8ULL * s->n;
			return hf_to_caller(w, s->cfa, s->ra, s->fp) ? HF_STEP_ENDED
								     : HF_STEP_MOVED;
		}
	}
	w->runtime_state[HF_HOTSPOT_CHUNK] = 0;
	at = w->runtime_state[HF_HOTSPOT_CARRIER];
	if (is_last)
		return hf_to_caller(w, at, proc->chunks.return_pc, 0) ? HF_STEP_ENDED
								      : HF_STEP_MOVED;
	/* Callers are there, and are not left out without a word. */
	if (proc->chunks.return_pc) {
		hf_cut(w, HF_CUT_STACK_UNREADABLE);
		return HF_STEP_ENDED;
	}
	at += HF_HOTSPOT_ENTRY_BYTES;
	if (hf_hotspot_stack(w, at)) {
		hf_cut(w, HF_CUT_STACK_UNREADABLE);
		return HF_STEP_ENDED;
	}
	s->fp = s->value;
	if (hf_hotspot_stack(w, at + 8)) {
		hf_cut(w, HF_CUT_STACK_UNREADABLE);
		return HF_STEP_ENDED;
	}
	return hf_to_caller(w, at + 16, s->value, s->fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
}

#endif /* HF_HOTSPOT_HEAP_H */
