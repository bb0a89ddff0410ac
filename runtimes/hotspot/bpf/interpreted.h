/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames of the template interpreter: rbp leads them; Method*, the bytecode pointer
 * (bcp) and the caller's stack pointer stand in slots below it. At a leaf what is
 * not stored yet is in rbx, r13 and rax.
 */
#ifndef HF_HOTSPOT_INTERPRETED_H
#define HF_HOTSPOT_INTERPRETED_H

#include "hotspot/bpf/frame.h"
#include "hotspot/bpf/instructions.h"
#include "hotspot/bpf/tell.h"

/* Emits a frame of the interpreter. method 0, bcp 0: not known. 0 if it had room. */
HF_STEP_FN int hf_hotspot_push_interpreted(struct hf_walk *w, __u64 method, __u64 bcp,
					   __u64 bcp_slot)
{
	__u64 constant = 0, bci = HF_HOTSPOT_BCI_NONE, code_bytes, epoch, cookie;
	__u64 kind = HF_HOTSPOT_INTERPRETED;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int is_redefined;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	/* Or may be; not in the archive, where everything stays. */
	is_redefined = (proc->flags & HF_HOTSPOT_REDEFINES) &&
		       (method < proc->archive_start || method >= proc->archive_end);
	epoch = hf_hotspot_epoch(w, proc);
	/* When the walk is finished late, both count only as long as this frame
	 * stands, whose class lives as long, or if no class was unloaded from
	 * the sample until now; else for a class that is known to live on. Where
	 * classes were redefined neither is enough: the same call may be there
	 * again, of a newer version. */
	if (!method || (w->late && is_redefined)) {
		constant = 0;
	} else if (w->late && w->runtime_state[HF_RUNTIME_HOTSPOT]) {
		if (!hf_read_lasting(w, &s->value, 8, method + proc->method_const))
			constant = s->value;
		if (hf_read_lasting(w, &s->value, 8, proc->epoch_addr) ||
		    (s->value & HF_HOTSPOT_COOKIE_MASK) != epoch)
			kind = HF_HOTSPOT_INTERPRETED_LATE;
	} else if (!hf_read_user(w, &s->value, 8, method + proc->method_const)) {
		constant = s->value;
	}
	if (constant) {
		/* At a leaf a register may hold it, or something else. */
		if (bcp != bcp_slot) {
			code_bytes = 0;
			if (!hf_read_lasting(w, &s->value, 8, constant + proc->const_code_size))
				code_bytes = s->value & 0xffff;
			if (bcp - (constant + proc->const_bytes) >= code_bytes)
				bcp = bcp_slot;
		}
		if (bcp - (constant + proc->const_bytes) < HF_HOTSPOT_BCI_NONE)
			bci = bcp - (constant + proc->const_bytes);
	}
	cookie = constant >> 3;
	if (constant && is_redefined)
		cookie = hf_hotspot_identity(w, constant);
	cookie &= HF_HOTSPOT_COOKIE_MASK;
	if (constant && !w->late && (proc->flags & HF_HOTSPOT_UNLOADS))
		hf_hotspot_tell(w, method, constant, cookie);
	return hf_push_dynamic(w, HF_RUNTIME_HOTSPOT, hf_hotspot_flags(w),
			       kind << HF_HOTSPOT_KIND_SHIFT | bci << HF_HOTSPOT_BCI_SHIFT | cookie,
			       1,
			       epoch << HF_HOTSPOT_COOKIE_SHIFT |
				   ((method >> 3) & ((1ULL << HF_HOTSPOT_COOKIE_SHIFT) - 1)),
			       0, 0);
}

/* The number of the range that an offset in the interpreter lies in, or
 * HF_HOTSPOT_MAX_RANGES. */
HF_STEP_FN int hf_hotspot_range(struct hf_walk *w, __u32 at)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 i, base;

	if (!w)
		return HF_HOTSPOT_MAX_RANGES;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_HOTSPOT_MAX_RANGES;
	s = HF_HOTSPOT_SCRATCH(w);
	s->base = 0;
	s->n = proc->n_ranges;
	for (i = 0; i < 8; i++) { /* 2^7 = HF_HOTSPOT_MAX_RANGES */
		__u32 middle = s->base + (s->n >> 1);

		if (s->n <= 1)
			break;
		s->n -= s->n >> 1;
		middle &= HF_HOTSPOT_MAX_RANGES - 1;
		hf_barrier(middle);
		if (proc->ranges[middle & (HF_HOTSPOT_MAX_RANGES - 1)].start <= at)
			s->base = middle;
	}
	base = s->base & (HF_HOTSPOT_MAX_RANGES - 1);
	hf_barrier(base);
	base &= HF_HOTSPOT_MAX_RANGES - 1;
	if (s->n == 0 || at < proc->ranges[base].start || at >= proc->ranges[base].end)
		return HF_HOTSPOT_MAX_RANGES;
	return (int)base;
}

/* A leaf where the interpreter's frame does not stand: ranges[n] says how. */
HF_STEP_FN int hf_hotspot_no_frame(struct hf_walk *w, __u32 n)
{
	const struct hf_hotspot_range *range;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 at, ra_reg, sp_reg, pushed;
	__u64 sp, fp, cfa, ra;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	hf_barrier(n);
	range = &proc->ranges[n & (HF_HOTSPOT_MAX_RANGES - 1)];
	at = (__u32)(w->pc - proc->interpreter_start);
	sp = w->sp;
	fp = w->fp;
	if (range->kind == HF_HOTSPOT_ENTRY && at == range->at + 2) { /* rbp was pushed */
		if (hf_hotspot_stack(w, sp))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		fp = s->value;
		sp += 8;
	}
	if (range->kind == HF_HOTSPOT_ENTRY && !range->at) {
		pushed = hf_hotspot_entry_bytes(w);
		sp += pushed == ~0U ? 0 : pushed;
	}
	if (hf_hotspot_stack(w, sp))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	ra = s->value;
	if (range->kind == HF_HOTSPOT_EXIT) {
		ra_reg = range->ra_reg;
		sp_reg = range->sp_reg;
		hf_barrier(ra_reg);
		hf_barrier(sp_reg);
		if (ra_reg >= HF_NREGS || sp_reg >= HF_NREGS)
			return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
		if (at <= range->at)
			sp += 8;
		else
			ra = w->regs[ra_reg];
		cfa = w->regs[sp_reg];
	} else {
		/* Between pop and push the return address is in rax alone. */
		if (hf_hotspot_is_code(proc, ra))
			sp += 8;
		else
			ra = w->regs[HF_HOTSPOT_RAX];
		cfa = w->regs[HF_HOTSPOT_R13];
	}
	if (!hf_hotspot_is_code(proc, ra))
		return hf_hotspot_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
	/* On its way out the frame is gone: the caller is the leaf. */
	if (range->kind == HF_HOTSPOT_ENTRY &&
	    hf_hotspot_push_interpreted(w, w->regs[HF_HOTSPOT_RBX], 0, 0))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	if (cfa < sp || cfa - sp > HF_HOTSPOT_MAX_FRAME_BYTES || (cfa & 7))
		cfa = sp;
	/* The walk wants to see the stack pointer move. */
	if (cfa == w->sp)
		w->sp -= 8;
	return hf_hotspot_move(w, cfa, ra, fp);
}

/* Bytes of arguments, and of what aligns them, that an adapter puts below its caller's frame for a
 * method of the C library's kind. */
#define HF_HOTSPOT_MAX_ADAPTED_BYTES 64

/* A method entry that builds no frame and calls a stub or native code: 0 with the caller in
 * scratch, 1 if it is none, 2 if it was not found. The entry needs r13, its caller's stack pointer,
 * when what it called returns: no stub that is a leaf changes it; else the entry has kept it on the
 * stack if it says from where it takes it. Where neither is so, an interpreted caller does not need
 * it. What method it is, was in a register. (generate_math_entry, generate_Reference_get_entry in
 * cpu/x86/templateInterpreterGenerator_x86_64.cpp @ jdk-17+35; templateInterpreter_x86_64.cpp,
 * fp_runtime_fallback in macroAssembler_x86.cpp @ jdk8u.) */
HF_STEP_FN int hf_hotspot_entry_calls(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 pushed;
	__u64 sp;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	pushed = hf_hotspot_entry_bytes(w);
	if (pushed == ~0U)
		return 1;
	sp = w->sp + pushed;
	if (hf_hotspot_stack(w, sp))
		return 2;
	s->ra = s->value;
	s->cfa = sp + 8;
	if (w->called_leaf && hf_hotspot_is_behind_stub(w))
		s->cfa = w->regs[HF_HOTSPOT_R13];
	else if (s->r13_at >= 0 && !hf_hotspot_stack(w, w->sp + s->r13_at))
		s->cfa = s->value;
	else if (!hf_hotspot_is_interpreter(proc, s->ra))
		return 2;
	if ((s->cfa & 7) || s->cfa < sp + 8 || s->cfa - sp > HF_HOTSPOT_MAX_ADAPTED_BYTES)
		return 2;
	return hf_hotspot_is_code(proc, s->ra) ? 0 : 2;
}

/* Where the interpreter hands an exception on to the caller of a method whose frame is gone: the
 * return address is on top of the stack, the exception above it, and below it a word where the
 * stack was aligned for the call that asks for the handler (generate_throw_exception in
 * cpu/x86/templateInterpreterGenerator_x86.cpp @ jdk-17+35 and jdk-25+36). */
HF_STEP_FN int hf_hotspot_handed_on(struct hf_walk *w, __u32 is_aligned)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 sp;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	sp = w->sp + (is_aligned ? 8 : 0);
	if (hf_hotspot_stack(w, sp))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	if (!hf_hotspot_is_code(proc, s->value))
		return hf_hotspot_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
	return hf_hotspot_move(w, sp + 16, s->value, w->fp);
}

HF_STEP_FN int hf_hotspot_interpreted(struct hf_walk *w)
{
	__u64 sp, fp, slots, method, bcp, bcp_slot, cfa, ra;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int is_leaf, found;
	__u32 n, at;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	is_leaf = hf_hotspot_is_leaf(w);
	at = (__u32)(w->pc - proc->interpreter_start);
	/* Other methods' frames stand where they are called. */
	if (is_leaf || !hf_hotspot_is_behind_method(w)) {
		n = hf_hotspot_range(w, at);
		hf_barrier(n);
		if (n < HF_HOTSPOT_MAX_RANGES && proc->ranges[n].kind == HF_HOTSPOT_HANDS_ON)
			return hf_hotspot_handed_on(w, at < proc->ranges[n].at);
		if (!is_leaf && n < HF_HOTSPOT_MAX_RANGES &&
		    proc->ranges[n].kind == HF_HOTSPOT_ENTRY && !proc->ranges[n].at) {
			found = hf_hotspot_entry_calls(w);
			if (!found)
				return hf_hotspot_move(w, s->cfa, s->ra, w->fp);
			if (found == 2)
				return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
		}
		/* push rax, push rbp, mov rbp, rsp: five bytes */
		if (is_leaf && n < HF_HOTSPOT_MAX_RANGES &&
		    (proc->ranges[n].kind == HF_HOTSPOT_EXIT || !proc->ranges[n].at ||
		     at < proc->ranges[n].at + 5))
			return hf_hotspot_no_frame(w, n);
	}
	sp = w->sp;
	fp = w->fp;
	slots = (__u64)proc->bcp_words * 8;
	if ((fp & 7) || fp < sp || fp - sp > HF_HOTSPOT_MAX_FRAME_BYTES ||
	    (!is_leaf && fp - sp < slots))
		return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
	if (hf_hotspot_stack(w, fp + 8))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	ra = s->value;
	if (w->runtime_state[HF_HOTSPOT_CHUNK]) {
		/* Locals, in words from the frame: nothing of it is above the first. */
		if (hf_hotspot_stack(w, fp - slots + 8))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		ra = hf_hotspot_in_heap(w, proc, fp + s->value * 8 + 8, ra);
	}
	if (!hf_hotspot_is_code(proc, ra))
		return hf_hotspot_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
	/* While the frame is built each slot stands that the stack pointer is at
	 * or below of; what has none so far is in its register. */
	bcp_slot = 0;
	method = w->regs[HF_HOTSPOT_RBX];
	cfa = w->regs[HF_HOTSPOT_R13];
	bcp = cfa;
	if (fp - sp >= slots) {
		if (hf_hotspot_stack(w, fp - slots))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		bcp_slot = s->value;
	}
	if (fp - sp >= 24) {
		if (hf_hotspot_stack(w, fp - 24))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		method = s->value;
	}
	if (fp - sp >= 8) {
		if (hf_hotspot_stack(w, fp - 8))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		cfa = s->value;
		/* In words from the frame: see hf_hotspot_move. */
		if (w->runtime_state[HF_HOTSPOT_CHUNK])
			cfa = fp + cfa * 8;
	}
	if (!is_leaf) {
		bcp = bcp_slot;
		/* While a deoptimisation lays out frames (vframeArray::unpack_to_stack in
		 * share/runtime/vframeArray.cpp @ jdk-17+35) the slots hold what an earlier
		 * call left there. A frame's return address is the first entry of this code
		 * until its method is filled in. */
		if (at >= proc->unfilled_start && at < proc->unfilled_end)
			method = 0;
	}
	if (cfa < fp + 16 || cfa - fp > HF_HOTSPOT_MAX_FRAME_BYTES || (cfa & 7))
		cfa = fp + 16;
	if (hf_hotspot_stack(w, fp))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	fp = s->value;
	hf_hold(w, w->fp - 24);
	if (hf_hotspot_push_interpreted(w, method, bcp, bcp_slot))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	return hf_hotspot_move(w, cfa, ra, fp);
}

#endif /* HF_HOTSPOT_INTERPRETED_H */
