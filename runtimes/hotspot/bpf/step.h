/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * HotSpot's step: Java frames, one a call, all of which stand on the native
 * stack. Called where the pc lies in the reserved range of a code heap.
 *
 * Interpreter: rbp leads the frame; Method*, bytecode pointer and the caller's
 * stack pointer are in fixed slots below it. At a leaf the bytecode pointer is
 * in r13. Where the frame does not stand yet or no more (method entry, behind
 * `leave`) the ranges of the table say where the return address is.
 *
 * Anything else: pc -> heap -> segment map -> HeapBlock and CodeBlob, read in
 * one block. A blob states its frame's size; return address and rbp are its
 * upper two words. rbp is a general register that the callee saves. At a leaf
 * the frame may not stand: prologues and epilogues are told by their
 * instructions. A return address that was replaced by the deoptimisation
 * handler's is taken from its slot.
 *
 * Callers of a virtual thread's frames may be in the heap, laid out like a stack: heap.h.
 *
 * Callers of compiled and interpreted code lie in the code cache, always: a
 * return address that does not is not believed.
 *
 * Sources: frame_x86.hpp, frame_x86.inline.hpp, templateInterpreterGenerator_x86.cpp,
 * macroAssembler_x86.cpp (build_frame, remove_frame), heap.cpp (find_block_for),
 * sharedRuntime_x86_64.cpp @ jdk-17+35 and jdk-25+36.
 *
 * Not handled: arm64, whose frames are left to the native rules.
 *
 * Cost: two reads of user memory for a compiled frame, one for an interpreted
 * one, besides the stack; at a leaf one or two more, and one for each 48 bytes of code that are
 * followed to what takes up pushed words.
 *
 * Parts: interpreted.h; blob.h, which finds what else a pc lies in, compiled.h and
 * stub.h; instructions.h (what is pushed below a frame); heap.h (frames of virtual threads);
 * tell.h (names that cannot wait); frame.h, which all share.
 *
 * User half: ../src/resolve.rs (names), ../src/process.rs (the table).
 */
#ifndef HF_HOTSPOT_STEP_H
#define HF_HOTSPOT_STEP_H

#include "hotspot/bpf/blob.h"
#include "hotspot/bpf/compiled.h"
#include "hotspot/bpf/heap.h"
#include "hotspot/bpf/interpreted.h"
#include "hotspot/bpf/stub.h"

/* Code without a file: the native rules would end there. */
static __always_inline int hf_hotspot_without_step(struct hf_walk *w)
{
	hf_miss(w, HF_MISSING_STEP, w->pc);
	return HF_STEP_ENDED;
}

HF_STEP_FN int hf_step_hotspot(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	int is_barrier;
	__u64 lookup;

	/* A global function's argument may be anything to the verifier. */
	if (!w || HF_IS_ARM64(w))
		return HF_STEP_NATIVE;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc || proc->runtime != HF_RUNTIME_HOTSPOT)
		return HF_STEP_NATIVE;
	if (proc->flags & HF_HOTSPOT_UNLOADS)
		w->sample.flags |= HF_SAMPLE_URGENT;
	lookup = w->pc - w->pc_is_return;
	if (lookup >= proc->interpreter_start && lookup < proc->interpreter_end)
		return hf_hotspot_interpreted(w);
	is_barrier = w->pc_is_return && w->pc >= proc->continuation_start &&
		     w->pc < proc->continuation_end && hf_hotspot_is_behind_method(w);
	if (is_barrier && proc->chunks.return_pc)
		return hf_hotspot_barrier(w);
	/* A deoptimised frame returns to where no call stands before. */
	if (hf_hotspot_find_blob(w, lookup))
		return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
	if (is_barrier)
		return hf_hotspot_past_heap(w);
	switch (hf_hotspot_kind(w, proc)) {
	case HF_HOTSPOT_BLOB_METHOD:
		return hf_hotspot_compiled(w);
	case HF_HOTSPOT_BLOB_VTABLE:
		if (hf_hotspot_push_blob(w, HF_HOTSPOT_STUB, w->pc))
			return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
		if (hf_hotspot_stack(w, w->sp))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		return hf_hotspot_move(w, w->sp + 8, HF_HOTSPOT_SCRATCH(w)->value, w->fp);
	default:
		return hf_hotspot_stub(w);
	}
}

#endif /* HF_HOTSPOT_STEP_H */
