/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames of compiled methods (nmethods): their size is the blob's; return address and
 * rbp are its upper two words. At a leaf the prologue or the epilogue says how much
 * of it stands. A return address that is the deoptimisation handler's stands for the
 * one in the slot orig_pc.
 */
#ifndef HF_HOTSPOT_COMPILED_H
#define HF_HOTSPOT_COMPILED_H

#include "hotspot/bpf/frame.h"
#include "hotspot/bpf/blob.h"

/* Words above the stated size at which a return address is looked for. */
#define HF_HOTSPOT_MAX_EXTRA 6
/* Prologues are shorter than this. */
#define HF_HOTSPOT_PROLOGUE_BYTES 16

/* Where the frame stands while a method's prologue runs. */
enum hf_hotspot_state {
	HF_HOTSPOT_STANDS = 0,
	HF_HOTSPOT_BARE = 1, /* the return address is at the stack pointer */
	HF_HOTSPOT_PUSHED = 2, /* rbp is, the return address above it */
	HF_HOTSPOT_NO_RBP = 3, /* it stands, but rbp was not saved so far */
};

/* Prologues (MacroAssembler::verified_entry, C1_MacroAssembler::build_frame):
 *   [mov [rsp - n], eax]  push rbp  [mov rbp, rsp]  sub rsp, n
 *   sub rsp, n  mov [rsp + n - 16], rbp
 * At w->pc in [entry, complete). */
HF_STEP_FN int hf_hotspot_prologue(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	__u32 at, i, push, sub, done;
	volatile __u32 *push_at, *sub_at;

	if (!w)
		return HF_HOTSPOT_STANDS;
	s = HF_HOTSPOT_SCRATCH(w);
	at = (__u32)(w->pc - s->entry);
	if (w->pc <= s->entry)
		return HF_HOTSPOT_BARE;
	if (hf_read_lasting(w, s->code, 32, s->entry))
		return HF_HOTSPOT_STANDS;
	/* From the last to the first, so that the first one is kept; in memory,
	 * of whose numbers the verifier knows nothing. */
	push_at = &s->base;
	sub_at = &s->n;
	*push_at = ~0U;
	*sub_at = ~0U;
	for (i = HF_HOTSPOT_PROLOGUE_BYTES; i-- > 0;) {
		if (s->code[i] == 0x55)
			*push_at = i;
		if (s->code[i] == 0x48 && (s->code[i + 1] & 0xfd) == 0x81 && s->code[i + 2] == 0xec)
			*sub_at = i;
	}
	push = *push_at;
	sub = *sub_at;
	if (push != ~0U && (sub == ~0U || push < sub)) {
		if (at <= push)
			return HF_HOTSPOT_BARE;
		if (sub == ~0U)
			return s->frame_bytes > 16 ? HF_HOTSPOT_PUSHED : HF_HOTSPOT_STANDS;
		return at <= sub ? HF_HOTSPOT_PUSHED : HF_HOTSPOT_STANDS;
	}
	if (sub == ~0U || at <= sub)
		return HF_HOTSPOT_BARE;
	hf_barrier(sub);
	done = sub + (s->code[(sub + 1) & 15] == 0x81 ? 7 : 4);
	/* mov [rsp + disp8], rbp is 5 bytes, with disp32 8 */
	return at <= done ? HF_HOTSPOT_NO_RBP : HF_HOTSPOT_STANDS;
}

/* Epilogues: add rsp, n; pop rbp; a poll; ret. The poll (safepoint_poll,
 * at return):
 *   cmp rsp, [r15 + d]; ja         JDK 16 and later
 *   mov r10, [r15 + d]; test [r10], eax    10 to 15
 *   test [rip + d], eax            8, 9
 * With w->pc somewhere in a method's code. */
HF_STEP_FN int hf_hotspot_epilogue(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	__u32 back;
	__u8 *b;

	if (!w)
		return HF_HOTSPOT_STANDS;
	s = HF_HOTSPOT_SCRATCH(w);
	b = s->code + 8;
	if (hf_read_lasting(w, s->code, 32, w->pc - 8))
		return HF_HOTSPOT_STANDS;
	if (b[0] == 0xc3)
		return HF_HOTSPOT_BARE;
	if (b[0] == 0x5d) /* of an epilogue, if ret or a poll follows */
		return b[1] == 0xc3 || (b[1] == 0x49 && b[2] == 0x3b) ||
			       (b[1] == 0x4d && b[2] == 0x8b && b[3] == 0x97) ||
			       (b[1] == 0x85 && b[2] == 0x05)
			   ? HF_HOTSPOT_PUSHED
			   : HF_HOTSPOT_STANDS;
	if (b[-1] == 0x5d) {
		if (b[0] == 0x49 && b[1] == 0x3b && (b[2] == 0x67 || b[2] == 0xa7))
			return HF_HOTSPOT_BARE;
		if (b[0] == 0x4d && b[1] == 0x8b && b[2] == 0x97)
			return HF_HOTSPOT_BARE;
		if (b[0] == 0x85 && b[1] == 0x05)
			return HF_HOTSPOT_BARE;
	}
	if (b[0] == 0x0f && b[1] == 0x87) {
		back = 0;
		if (b[-4] == 0x49 && b[-3] == 0x3b && b[-2] == 0x67)
			back = 5;
		if (b[-7] == 0x49 && b[-6] == 0x3b && b[-5] == 0xa7)
			back = 8;
		if ((back == 5 && b[-5] == 0x5d) || (back == 8 && b[-8] == 0x5d))
			return HF_HOTSPOT_BARE;
	}
	if (b[0] == 0x41 && b[1] == 0x85 && b[2] == 0x02 && b[3] == 0xc3)
		return HF_HOTSPOT_BARE;
	return HF_HOTSPOT_STANDS;
}

static __always_inline int hf_hotspot_push_blob(struct hf_walk *w, __u64 kind, __u64 pc)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u64 own, cookie;

	own = kind << HF_HOTSPOT_KIND_SHIFT | ((pc - s->blob) & HF_HOTSPOT_DELTA_MASK)
						  << HF_HOTSPOT_DELTA_SHIFT;
	if (kind == HF_HOTSPOT_COMPILED) {
		own |= s->compile_id >> 20;
		cookie = s->compile_id & HF_HOTSPOT_COOKIE_MASK;
	} else {
		cookie = s->name & HF_HOTSPOT_COOKIE_MASK;
	}
	return hf_push_dynamic(w, HF_RUNTIME_HOTSPOT, hf_hotspot_flags(w), own, 1,
			       cookie << HF_HOTSPOT_COOKIE_SHIFT |
				   ((s->blob >> 3) & ((1ULL << HF_HOTSPOT_COOKIE_SHIFT) - 1)),
			       0, 0);
}

HF_STEP_FN int hf_hotspot_compiled(struct hf_walk *w)
{
	__u64 pc, deopt, deopt_mh, cfa, ra, fp, slot;
	const struct hf_hotspot_proc *proc;
	int state = HF_HOTSPOT_STANDS, i;
	struct hf_hotspot_scratch *s;
	__u32 head, frame;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	pc = w->pc;
	head = proc->block_bytes;
	frame = s->frame_bytes;
	deopt_mh = ~0ULL;
	if (proc->flags & HF_HOTSPOT_CODE_ADDRESS) {
		deopt = hf_hotspot_u64(w, head + proc->blob_deopt);
		if (proc->blob_deopt_mh != HF_HOTSPOT_NO_FIELD)
			deopt_mh = hf_hotspot_u64(w, head + proc->blob_deopt_mh);
	} else {
		deopt = s->blob + hf_hotspot_u32(w, head + proc->blob_deopt);
		if (proc->blob_deopt_mh != HF_HOTSPOT_NO_FIELD)
			deopt_mh = s->blob + hf_hotspot_u32(w, head + proc->blob_deopt_mh);
	}
	if (frame > HF_HOTSPOT_MAX_FRAME_BYTES)
		return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
	if (w->pc_is_return && (pc == deopt || pc == deopt_mh)) {
		slot = hf_hotspot_u32(w, head + proc->blob_orig_pc);
		if (slot < frame && !hf_hotspot_stack(w, w->sp + slot) &&
		    s->value >= s->code_begin && s->value - s->blob < (__u64)s->size_bytes)
			pc = s->value;
	}
	if (hf_hotspot_push_blob(w, HF_HOTSPOT_COMPILED, pc))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	if (frame < 16)
		state = HF_HOTSPOT_BARE;
	else if (hf_hotspot_is_leaf(w)) {
		/* The unverified entry comes before the verified one. */
		if (pc <= s->entry && s->entry < s->code_begin + 256)
			state = HF_HOTSPOT_BARE;
		else if ((__s64)(pc - s->code_begin) < s->complete && pc > s->entry)
			state = hf_hotspot_prologue(w);
		else
			state = hf_hotspot_epilogue(w);
	}
	cfa = w->sp + frame;
	fp = w->fp;
	if (state == HF_HOTSPOT_BARE)
		cfa = w->sp + 8;
	else if (state == HF_HOTSPOT_PUSHED)
		cfa = w->sp + 16;
	if (state == HF_HOTSPOT_STANDS || state == HF_HOTSPOT_PUSHED) {
		if (hf_hotspot_stack(w, cfa - 16))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		fp = s->value;
	}
	if (hf_hotspot_stack(w, cfa - 8))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	ra = s->value;
	if (hf_hotspot_is_code(proc, ra))
		return hf_hotspot_move(w, cfa, ra, fp);
	/* Words may have been pushed around a call. */
	for (i = 0; i < HF_HOTSPOT_MAX_EXTRA; i++) {
		cfa += 8;
		if (hf_hotspot_stack(w, cfa - 8))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		if (hf_hotspot_is_code(proc, s->value)) {
			ra = s->value;
			if (hf_hotspot_stack(w, cfa - 16))
				return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
			w->heuristic_next = 1;
			w->sample.flags |= HF_SAMPLE_HEURISTIC;
			return hf_hotspot_move(w, cfa, ra, s->value);
		}
	}
	return hf_hotspot_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
}

#endif /* HF_HOTSPOT_COMPILED_H */
