/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames of whatever is no method: stubs, intrinsics, and the adapters between the
 * interpreter and compiled code (i2c, c2i), which have none. The stated size is
 * believed where it called something; at a leaf several ways are tried.
 */
#ifndef HF_HOTSPOT_STUB_H
#define HF_HOTSPOT_STUB_H

#include "hotspot/bpf/frame.h"
#include "hotspot/bpf/compiled.h"

/* Frames of stubs: what they keep of wide registers and tables. */
#define HF_HOTSPOT_MAX_STUB_BYTES 4096
/* `frame_bytes` of a blob whose frame's size is -1. */
#define HF_HOTSPOT_NO_FRAME (-8U)
/* What a stub without a frame has above its return address: slow_subtype_check's
 * eight registers in JDK 25, four before. */
#define HF_HOTSPOT_MAX_STUB_WORDS 16
/* The instructions around a call that aligns the stack. */
#define HF_HOTSPOT_ADD_RSP_8 0x08c48348U
#define HF_HOTSPOT_SUB_RSP_8 0x08ec8348U
/* mov [rsp], rax */
#define HF_HOTSPOT_MOV_SP_RAX 0x24048948U
/* mov rax, [rsp]; mov r11, rsp and pop rax; the first four bytes of fxrstor64 [rsp] */
#define HF_HOTSPOT_MOV_RAX_SP 0x24048b48U
#define HF_HOTSPOT_MOV_R11_SP_POP_RAX 0x58dc8b4cU
#define HF_HOTSPOT_FXRSTOR 0x0cae0f48U
/* mov rdi, [rsp]; mov rsi, rdi */
#define HF_HOTSPOT_MOV_RDI_RA 0x243c8b48U
#define HF_HOTSPOT_MOV_RSI_RDI 0xf78b48U

/* Does a return address stand behind a direct call into this blob, to somewhere at
 * or below the pc? C2 calls stubs by way of r10: mov r10, target; call r10. */
HF_STEP_FN int hf_hotspot_calls(struct hf_walk *w, __u64 ra)
{
	struct hf_hotspot_scratch *s;
	__u64 target;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	if (ra < 4096 || ra >> 47 || hf_read_lasting(w, s->code, 16, ra - 16))
		return 0;
	if (s->code[11] == 0xe8)
		target = ra + (__s64) * (__s32 *)(s->code + 12);
	else if (s->code[3] == 0x49 && s->code[4] == 0xba && s->code[13] == 0x41 &&
		 s->code[14] == 0xff && s->code[15] == 0xd2)
		target = *(__u32 *)(s->code + 5) | (__u64) * (__u32 *)(s->code + 9) << 32;
	else
		return 0;
	return target >= s->code_begin && target <= w->pc;
}

/* One way in which a stub's frame may stand at a leaf, kept if it is better than
 * those before. The best is one whose return address is behind a direct call to
 * here, the next best a call of native code. */
HF_STEP_FN int hf_hotspot_try(struct hf_walk *w, __u64 cfa, __u32 saves_rbp)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 ra, fp;
	__u32 how;

	if (!w || !cfa || (cfa & 7) || hf_hotspot_stack(w, cfa - 8))
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	ra = s->value;
	if (hf_hotspot_is_code(proc, ra))
		how = hf_hotspot_calls(w, ra) ? 3 : 1;
	else if ((hf_behind_call(w, ra) || w->code_is_direct) && w->last.file_off)
		how = 2; /* of whatever: it may have jumped on to here */
	else
		return 0;
	if (how <= s->is_found)
		return 0;
	fp = w->fp;
	if (saves_rbp) {
		if (hf_hotspot_stack(w, cfa - 16))
			return 0;
		fp = s->value;
	}
	s->is_found = how;
	s->cfa = cfa;
	s->ra = ra;
	s->fp = fp;
	return 0;
}

/* Is this one of the instructions with which a c2i adapter ends: moves by way of
 * [rsp + displacement], mov rcx, [rbx + d], jmp rcx? */
static __always_inline int hf_hotspot_is_c2i_end(const __u8 *b)
{
	__u32 i = 0;

	if ((b[0] == 0x48 && b[1] == 0x8b && b[2] == 0x4b) || (b[0] == 0xff && b[1] == 0xe1))
		return 1;
	if (b[0] == 0xf2 || b[0] == 0xf3)
		i = 1;
	if (b[0] == 0xc5) /* vmovss, vmovsd */
		i = 2;
	else if ((b[i] & 0xf0) == 0x40)
		i++;
	if (b[i] == 0x0f)
		i++;
	return (b[i + 1] & 7) == 4 && b[i + 1] < 0xc0 && b[i + 2] == 0x24;
}

/* mov rax, [rsp]; or mov r11, rsp; pop rax */
static __always_inline int hf_hotspot_is_i2c(const __u8 *b)
{
	return *(const __u32 *)b == HF_HOTSPOT_MOV_RAX_SP ||
	       *(const __u32 *)b == HF_HOTSPOT_MOV_R11_SP_POP_RAX;
}

/* mov r13, rsp */
static __always_inline int hf_hotspot_is_r13_sp(const __u8 *b)
{
	return (b[0] == 0x4c && b[1] == 0x8b && b[2] == 0xec) ||
	       (b[0] == 0x49 && b[1] == 0x89 && b[2] == 0xe5);
}

/* sub rsp, n */
static __always_inline int hf_hotspot_is_sub_rsp(const __u8 *b)
{
	return b[0] == 0x48 && (b[1] & 0xfd) == 0x81 && b[2] == 0xec;
}

/* A leaf in an adapter between the interpreter and compiled code, which has no
 * frame: 0 with the caller in scratch, 1 if the blob is none, 2 if it was not found.
 *
 *   i2c:  mov rax, [rsp]; mov r11, rsp; [sub rsp, n]; and rsp, -16; push rax; ...; jmp r11
 *         or mov r11, rsp; pop rax; [sub rsp, n]; ...
 *   c2i:  ...; pop rax; mov r13, rsp; sub rsp, n; mov [rsp], rax;
 *         or lea r13, [rsp + 8]; pop rax; sub rsp, n; push rax;
 *         moves by way of [rsp + d]; mov rcx, [rbx + d]; jmp rcx
 *
 * The return address is on top of the stack but from `sub` or `pop` to `push`, and from
 * `pop` to `mov [rsp]` or `push`. Compiled callers of c2i, which are left by their size,
 * need the stack pointer that they had: r13 from then on. (gen_i2c_adapter,
 * gen_c2i_adapter in cpu/x86/sharedRuntime_x86_64.cpp @ jdk-17+35; the same @ jdk-25+36.) */
HF_STEP_FN int hf_hotspot_adapter(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 sp, ra, cfa, r13, at, moved, push;
	__u8 *i2c, *b;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	i2c = s->code;
	b = s->code + 24;
	if (hf_read_lasting(w, i2c, 16, s->code_begin) || !hf_hotspot_is_i2c(i2c) ||
	    hf_read_lasting(w, s->code + 16, 24, w->pc - 8))
		return 1;
	sp = w->sp;
	r13 = w->regs[HF_HOTSPOT_R13];
	at = w->pc - s->code_begin;
	/* Where the stack pointer has moved, and up to where it has. */
	moved = *(__u32 *)i2c == HF_HOTSPOT_MOV_RAX_SP ? 8 : 4;
	i2c += moved & 4 ? 4 : 7;
	push = (moved & 4 ? 4 : 7) + 4;
	if (i2c[0] == 0x48 && i2c[1] == 0x83 && i2c[2] == 0xec)
		push += 4;
	else if (i2c[0] == 0x48 && i2c[1] == 0x81 && i2c[2] == 0xec)
		push += 7;
	ra = w->regs[HF_HOTSPOT_RAX];
	cfa = sp;
	if (at >= moved && at <= push) {
		cfa = w->regs[HF_HOTSPOT_R11] + 8;
	} else if (b[-1] == 0x58 &&
		   (hf_hotspot_is_r13_sp(b) || hf_hotspot_is_sub_rsp(b) || b[0] == 0x50)) {
		/* pop rax; at what follows */
	} else if (b[-4] == 0x58 && hf_hotspot_is_r13_sp(b - 3) && hf_hotspot_is_sub_rsp(b)) {
		/* pop rax; mov r13, rsp; at sub rsp, n */
	} else if (at > push && (*(__u32 *)b == HF_HOTSPOT_MOV_SP_RAX ||
				 (b[0] == 0x50 && (hf_hotspot_is_sub_rsp(b - 4) ||
						   hf_hotspot_is_sub_rsp(b - 7))))) {
		cfa = r13;
	} else {
		if (hf_hotspot_stack(w, sp))
			return 2;
		ra = s->value;
		cfa = sp + 8;
		if (at > push && hf_hotspot_is_c2i_end(b) && r13 > sp &&
		    r13 - sp <= HF_HOTSPOT_MAX_STUB_BYTES && !(r13 & 7))
			cfa = r13;
	}
	if (!hf_hotspot_is_code(proc, ra) || cfa < sp || cfa - sp > HF_HOTSPOT_MAX_STUB_BYTES)
		return 2;
	s->cfa = cfa;
	s->ra = ra;
	s->fp = w->fp;
	return 0;
}

/* A leaf where the interpreter calls a method handle: 0 with the caller in scratch, 1 if the blob
 * is none, 2 if it was not found. The return address is on top of the stack, or in rax while what
 * lies behind it is taken out; what compiled code came from by way of an adapter had the stack
 * pointer that is in r13 (generate_method_handle_interpreter_entry in cpu/x86/methodHandles_x86.cpp
 * @ jdk-17+35 and jdk-25+36). */
HF_STEP_FN int hf_hotspot_handle(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	if (s->name_text != HF_HOTSPOT_TEXT_HANDLES)
		return 1;
	if (hf_hotspot_stack(w, w->sp))
		return 2;
	s->ra = s->value;
	if (!hf_hotspot_is_code(proc, s->ra))
		s->ra = w->regs[HF_HOTSPOT_RAX];
	s->cfa = w->regs[HF_HOTSPOT_R13];
	s->fp = w->fp;
	if (s->cfa <= w->sp || s->cfa - w->sp > HF_HOTSPOT_MAX_STUB_BYTES || (s->cfa & 7))
		s->cfa = w->sp + 8;
	return hf_hotspot_is_code(proc, s->ra) ? 0 : 2;
}

/* Blobs that say to have no frame (a size of -1: C1's slow_subtype_check and
 * unwind_exception): 0 with the caller in scratch, 1 if it is not found.
 *
 *   slow_subtype_check  is called, with what it keeps pushed above the return address;
 *   unwind_exception    is jumped to when the frame that threw is gone, and returns to where
 *                       its handler is: mov rdx, [rsp]; ...; test rsp, 15; je; sub rsp, 8; call;
 *                       add rsp, 8; jmp; call; ...; pop rdx; jmp rbx
 *
 * (generate_unwind_exception, slow_subtype_check_id in cpu/x86/c1_Runtime1_x86.cpp,
 * call_VM_leaf_base in macroAssembler_x86.cpp @ jdk-17+35; the same @ jdk-25+36.) */
HF_STEP_FN int hf_hotspot_frameless(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 before, at;
	__u64 sp;
	int i;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	sp = w->sp;
	s->fp = w->fp;
	for (i = 0; i < HF_HOTSPOT_MAX_STUB_WORDS; i++) {
		if (hf_hotspot_stack(w, sp + 8 * i))
			break;
		s->ra = s->value;
		s->cfa = sp + 8 * i + 8;
		if (hf_hotspot_is_code(proc, s->ra) && hf_hotspot_calls(w, s->ra))
			return 0;
	}
	if (hf_read_lasting(w, s->code, 8, w->pc - 4))
		return 1;
	before = *(__u32 *)s->code;
	at = *(__u32 *)(s->code + 4);
	s->cfa = sp + 8;
	if (hf_hotspot_is_leaf(w) && before >> 24 == 0x5a && (at & 0xffff) == 0xe3ff) {
		s->cfa = sp;
		s->ra = w->regs[HF_HOTSPOT_RDX];
	} else {
		if (at == HF_HOTSPOT_ADD_RSP_8 ||
		    (hf_hotspot_is_leaf(w) && before == HF_HOTSPOT_SUB_RSP_8))
			s->cfa += 8;
		if (hf_hotspot_stack(w, s->cfa - 8))
			return 1;
		s->ra = s->value;
	}
	return !hf_hotspot_is_code(proc, s->ra);
}

/* A call of native code by a stub that has no frame and hands over its own return
 * address (forward_exception): 0 with the caller in scratch, 1 if it is none.
 *
 *   mov rdi, [rsp]; mov rsi, rdi; ...; test rsp, 15; je; sub rsp, 8; call;
 *   add rsp, 8; jmp; call
 *
 * (generate_forward_exception in cpu/x86/stubGenerator_x86_64.cpp @ jdk-17+35 and jdk-25+36.) */
HF_STEP_FN int hf_hotspot_forwards(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 sp;
	__u32 i;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	sp = w->sp;
	s->fp = w->fp;
	/* The stack first: each Java thread has a frame of call_stub, with arguments there. */
	if (hf_hotspot_stack(w, sp))
		return 1;
	s->ra = s->value;
	if (hf_hotspot_stack(w, sp + 8))
		return 1;
	if (!hf_hotspot_is_code(proc, s->ra) && !hf_hotspot_is_code(proc, s->value))
		return 1;
	if (hf_read_lasting(w, s->code, 8, w->pc))
		return 1;
	s->cfa = sp + 8;
	if (*(__u32 *)s->code == HF_HOTSPOT_ADD_RSP_8) {
		s->cfa = sp + 16;
		s->ra = s->value;
	}
	if (!hf_hotspot_is_code(proc, s->ra) ||
	    hf_read_lasting(w, s->code, sizeof(s->code), w->pc - sizeof(s->code)))
		return 1;
	for (i = 0; i + 8 <= sizeof(s->code); i++)
		if (*(__u32 *)(s->code + i) == HF_HOTSPOT_MOV_RDI_RA &&
		    (*(__u32 *)(s->code + i + 4) & 0xffffff) == HF_HOTSPOT_MOV_RSI_RDI)
			return 0;
	return 1;
}

/* What follows, up to a jump that hands on, in which the frame is gone and the return address in
 * rdx: mov reg, reg; mov reg, [r15 + d]; mov qword [r15 + d], n; jmp reg. Around the pc stand the
 * bytes of s->code, from s->code + 8 on. */
HF_STEP_FN int hf_hotspot_is_handing_on(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	volatile __u32 *at;
	__u32 i, from, bytes;
	__u8 *b;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	/* In memory, of whose numbers the verifier knows nothing. */
	at = &s->n;
	*at = 8;
	for (i = 0; i < HF_HOTSPOT_MAX_END; i++) {
		from = *at;
		hf_barrier(from);
		if (from >= sizeof(s->code) - 12)
			return 0;
		b = s->code + from;
		if (hf_hotspot_is_jump(b))
			return 1;
		bytes = 0;
		if ((b[0] & 0xf8) == 0x48 && (b[1] & 0xfd) == 0x89 && b[2] >= 0xc0)
			bytes = 3;
		else if ((b[0] & 0xfb) == 0x49 && b[1] == 0x8b && (b[2] & 7) == 7)
			bytes = b[2] >> 6 == 1 ? 4 : 7;
		else if (b[0] == 0x49 && b[1] == 0xc7 && (b[2] & 7) == 7)
			bytes = b[2] >> 6 == 1 ? 8 : 11;
		if (!bytes)
			return 0;
		*at = from + bytes;
	}
	return 0;
}

/* Is a leaf where its stub's begin or end says how its frame stands? Then its caller is in scratch.
 *
 *   sub rsp, n; mov [rsp + n - 8], rbp; ...        C2's; [push [rsp + d]; pop [rsp]]
 *   push rdx; sub rsp, 8; mov [rsp], rbp; ...; mov rbp, [rsp]; add rsp, 8; pop rdx; ...; jmp reg
 *                                                  where an exception is handed on, with the
 *                                                  return address in rdx
 *   push rbp; mov rbp, rsp; ...; leave; jmp        C1's: led by rbp until then
 *
 * (generate_exception_blob in cpu/x86/runtime_x86_64.cpp, StubAssembler::prologue in
 * c1_Runtime1_x86.cpp, generate_throw_exception in stubGenerator_x86_64.cpp @ jdk-17+35; the same
 * @ jdk-25+36.) */
HF_STEP_FN int hf_hotspot_stub_end(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int state, is_behind_leave, pops_rdx, pops_mem, hands_on;
	__u32 push;
	__u64 fp;
	__u8 *b;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	state = hf_hotspot_epilogue(w);
	/* hf_hotspot_is_top_code, written out: where it is called from here, the verifier sees more
	 * states than it allows. */
	if (state == HF_HOTSPOT_BARE_IF_CODE)
		state = !hf_hotspot_stack(w, w->sp) && hf_hotspot_is_code(proc, s->value)
			    ? HF_HOTSPOT_BARE
			    : HF_HOTSPOT_STANDS;
	b = s->code + 8;
	is_behind_leave = b[-1] == 0xc9 && hf_hotspot_hands_on(b);
	pops_rdx = b[0] == 0x5a && hf_hotspot_is_add_rsp(b);
	pops_mem = b[0] == 0x48 && b[1] == 0x8f;
	hands_on = 0;
	if (state == HF_HOTSPOT_STANDS)
		hands_on = hf_hotspot_is_handing_on(w);
	if (state == HF_HOTSPOT_STANDS && !hf_read_lasting(w, s->code, 32, s->code_begin)) {
		b = s->code;
		if (b[0] == 0x52) { /* push rdx */
			if (w->pc == s->code_begin || hands_on)
				state = HF_HOTSPOT_IN_RDX;
			else if (pops_rdx)
				state = HF_HOTSPOT_BARE;
			b++;
		}
		s->entry = s->code_begin + (b - s->code);
		if (state == HF_HOTSPOT_STANDS && b[0] == 0x55 && b[1] == 0x48 &&
		    ((b[2] == 0x8b && b[3] == 0xec) || (b[2] == 0x89 && b[3] == 0xe5))) {
			fp = w->fp;
			if (w->pc <= s->entry) {
				state = HF_HOTSPOT_BARE;
			} else if (w->pc - s->entry < 4) {
				state = HF_HOTSPOT_PUSHED;
			} else if (!(fp & 7) && fp >= w->sp && fp + 16 - w->sp <= s->frame_bytes &&
				   !hf_hotspot_stack(w, fp + 8) &&
				   hf_hotspot_is_code(proc, s->value)) {
				s->ra = s->value;
				s->cfa = fp + 16;
				if (hf_hotspot_stack(w, fp))
					return 0;
				s->fp = s->value;
				return 1;
			} else if (is_behind_leave) {
				state = HF_HOTSPOT_BARE;
			}
		} else if (state == HF_HOTSPOT_STANDS && hf_hotspot_is_sub_rsp(b)) {
			if (w->pc - s->entry < HF_HOTSPOT_PROLOGUE_BYTES)
				state = hf_hotspot_prologue(w);
			if (state == HF_HOTSPOT_STANDS) {
				s->cfa = w->sp + s->frame_bytes + (pops_mem ? 8 : 0);
				if (hf_hotspot_stack(w, s->cfa - 16))
					return 0;
				s->fp = s->value;
				if (hf_hotspot_stack(w, s->cfa - 8))
					return 0;
				s->ra = s->value;
				return hf_hotspot_is_code(proc, s->ra);
			}
		} else if (state == HF_HOTSPOT_STANDS && w->pc - s->entry <= 8) {
			/* [mov [rsp - n], eax]; push rbp */
			push = b[0] == 0x89 && b[1] == 0x84 ? 7 : 0;
			if (b[push] == 0x55 && w->pc - s->entry <= push + 1)
				state =
				    w->pc - s->entry <= push ? HF_HOTSPOT_BARE : HF_HOTSPOT_PUSHED;
		}
	}
	s->fp = w->fp;
	s->cfa = w->sp + 8;
	if (state == HF_HOTSPOT_IN_RDX) {
		s->cfa = w->sp;
		s->ra = w->regs[HF_HOTSPOT_RDX];
		/* The walk wants to see the stack pointer move. */
		w->sp -= 8;
		return hf_hotspot_is_code(proc, s->ra);
	}
	if (state == HF_HOTSPOT_NO_RBP) {
		s->cfa = w->sp + s->frame_bytes;
	} else if (state == HF_HOTSPOT_PUSHED) {
		if (hf_hotspot_stack(w, w->sp))
			return 0;
		s->fp = s->value;
		s->cfa += 8;
	} else if (state != HF_HOTSPOT_BARE) {
		return 0;
	}
	if (hf_hotspot_stack(w, s->cfa - 8))
		return 0;
	s->ra = s->value;
	return hf_hotspot_is_code(proc, s->ra);
}

/* A leaf in an adapter of a form that is not known, with the return address in rax: 0 with the
 * caller in scratch. Around the call that has its caller patched, r13 is where the return address
 * stands; else what is behind it (patch_callers_callsite in
 * cpu/x86/sharedRuntime_x86_64.cpp @ jdk-17+35). */
HF_STEP_FN int hf_hotspot_in_rax(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	s->ra = w->regs[HF_HOTSPOT_RAX];
	s->cfa = w->regs[HF_HOTSPOT_R13];
	s->fp = w->fp;
	if (s->cfa <= w->sp || s->cfa - w->sp > HF_HOTSPOT_MAX_FRAME_BYTES || (s->cfa & 7))
		s->cfa = w->sp + 8;
	else if (!hf_hotspot_stack(w, s->cfa) && s->value == s->ra)
		s->cfa += 8;
	return !hf_hotspot_is_code(proc, s->ra);
}

/* An adapter that has its caller patched: 0 with the caller in scratch, 1 if the blob is none, 2 if
 * it was not found.
 *
 *   mov r13, rsp; mov rax, [rsp]; ...; call; [vzeroupper;] fxrstor [rsp]; add rsp, n;
 *   mov r15, [rsp]; ... mov r13, [rsp + 16]; ...; mov rbp, [rsp + 80]; ...; mov rsp, r13
 *
 * (patch_callers_callsite in cpu/x86/sharedRuntime_x86_64.cpp, pop_CPU_state in
 * macroAssembler_x86.cpp @ jdk-17+35 and jdk-25+36.) */
HF_STEP_FN int hf_hotspot_patches(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 saved, r13;
	__u8 *b;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	if (hf_read_lasting(w, s->code, 16, s->code_begin) || !hf_hotspot_is_i2c(s->code) ||
	    hf_read_lasting(w, s->code, 32, w->pc))
		return 1;
	b = s->code;
	if (b[0] == 0xc5 && b[1] == 0xf8 && b[2] == 0x77)
		b += 3;
	if (*(__u32 *)b != HF_HOTSPOT_FXRSTOR || b[5] != 0x48 || b[6] != 0x81 || b[7] != 0xc4)
		return 2;
	saved = w->sp + *(__u32 *)(b + 8);
	if (hf_hotspot_stack(w, saved + 80))
		return 2;
	s->fp = s->value;
	if (hf_hotspot_stack(w, saved + 16))
		return 2;
	r13 = s->value;
	if (r13 <= saved || r13 - saved > HF_HOTSPOT_MAX_STUB_BYTES || (r13 & 7) ||
	    hf_hotspot_stack(w, r13))
		return 2;
	s->ra = s->value;
	s->cfa = r13 + 8;
	return hf_hotspot_is_code(proc, s->ra) ? 0 : 2;
}

/* The stated frame, a frame by rbp, none, or rbp just pushed. */
HF_STEP_FN int hf_hotspot_stub_leaf(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 fp, sp;
	int adapter;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	sp = w->sp;
	fp = w->fp;
	adapter = s->frame_bytes < 16 ? hf_hotspot_handle(w) : 1;
	if (s->frame_bytes < 16 && adapter == 1)
		adapter = hf_hotspot_adapter(w);
	if (!adapter) {
		/* The walk wants to see the stack pointer move. */
		if (s->cfa == sp)
			w->sp -= 8;
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	}
	/* What its prologue or epilogue says is exact. */
	if (s->frame_bytes >= 16 && hf_hotspot_stub_end(w))
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	if (s->frame_bytes < 16 && adapter == 1 && !hf_hotspot_returns(w))
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	s->is_found = 0;
	if (adapter == 1) {
		if (s->frame_bytes >= 16 && s->frame_bytes < 65536)
			hf_hotspot_try(w, sp + s->frame_bytes, 1);
		if (fp >= sp && fp - sp < HF_HOTSPOT_MAX_STUB_BYTES) {
			/* As below: what the barrier at method entries pushed. */
			if (!hf_hotspot_stack(w, fp + 8) && s->value == ~0ULL)
				fp += 8;
			hf_hotspot_try(w, fp + 16, 1);
			if (fp != w->fp && s->is_found && s->cfa == fp + 16 &&
			    !hf_hotspot_stack(w, w->fp))
				s->fp = s->value;
		}
		hf_hotspot_try(w, sp + 8, 0);
		hf_hotspot_try(w, sp + 16, 1);
	}
	if (!s->is_found && hf_hotspot_in_rax(w))
		return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
	return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
}

/* Stubs, adapters, intrinsics: whatever is no method. */
HF_STEP_FN int hf_hotspot_stub(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 fp, sp, cfa;
	int adapter;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	if (hf_hotspot_push_blob(w, HF_HOTSPOT_STUB, w->pc))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	if (s->frame_bytes == HF_HOTSPOT_NO_FRAME && !hf_hotspot_frameless(w)) {
		/* The walk wants to see the stack pointer move. */
		if (s->cfa == w->sp)
			w->sp -= 8;
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	}
	if (hf_hotspot_is_leaf(w))
		return hf_hotspot_stub_leaf(w);
	if (s->frame_bytes < 16 && !hf_hotspot_forwards(w))
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	if (s->frame_bytes < 16) {
		adapter = hf_hotspot_patches(w);
		if (!adapter)
			return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
		if (adapter == 2)
			return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
		if (!hf_hotspot_is_behind_method(w) && !hf_hotspot_returns(w))
			return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	}
	/* It called something, so that its frame stands. */
	sp = w->sp;
	cfa = w->fp + 16;
	if (s->frame_bytes >= 16 && s->frame_bytes < HF_HOTSPOT_MAX_FRAME_BYTES)
		cfa = sp + s->frame_bytes;
	/* Where a deoptimisation lays out the interpreter's frames, rbp is that of the blob's,
	 * and the stack was aligned for the call (generate_deopt_blob, generate_uncommon_trap_blob
	 * in cpu/x86/sharedRuntime_x86_64.cpp @ jdk-17+35; runtime_x86_64.cpp @ jdk-25+36). */
	if (w->fp + 8 == cfa)
		cfa += 8;
	if ((cfa & 7) || cfa <= sp || cfa - sp > HF_HOTSPOT_MAX_FRAME_BYTES)
		return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
	if (hf_hotspot_stack(w, cfa - 16))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	fp = s->value;
	if (hf_hotspot_stack(w, cfa - 8))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	/* The barrier at method entries pushes -1 before its frame, for the
	 * stack pointer that a deoptimisation would set. */
	if (s->value == ~0ULL) {
		cfa += 8;
		if (hf_hotspot_stack(w, cfa - 8))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	}
	return hf_hotspot_move(w, cfa, s->value, fp);
}

#endif /* HF_HOTSPOT_STUB_H */
