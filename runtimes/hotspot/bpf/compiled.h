/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames of compiled methods (nmethods): their size is the blob's; return address and
 * rbp are its upper two words (Graal has rbp elsewhere: hf_hotspot_leader). At a leaf the prologue
 * or the epilogue says how much of it stands. A return address that is the deoptimisation handler's
 * stands for the one in the slot orig_pc.
 */
#ifndef HF_HOTSPOT_COMPILED_H
#define HF_HOTSPOT_COMPILED_H

#include "hotspot/bpf/frame.h"
#include "hotspot/bpf/blob.h"
#include "hotspot/bpf/instructions.h"

/* Words above the stated size at which a return address is looked for. */
#define HF_HOTSPOT_MAX_EXTRA 6
/* Prologues are shorter than this. */
#define HF_HOTSPOT_PROLOGUE_BYTES 16
/* Instructions that lead to one. */
#define HF_HOTSPOT_MAX_LEAD 10
/* Instructions between the end of a frame and its return. */
#define HF_HOTSPOT_MAX_END 6
/* A frame of the interpreter is not smaller: rbp, its return address, ten slots below. */
#define HF_HOTSPOT_MIN_INTERPRETED_BYTES 96
/* Words of a method's frame among which the caller's frame pointer is looked for. */
#define HF_HOTSPOT_MAX_SAVED_WORDS 40
/* Bytes that a search for a string keeps below its method's frame. */
#define HF_HOTSPOT_MAX_SEARCH_BYTES 64
#define HF_HOTSPOT_RCX 2

/* Where the frame stands while a method's prologue runs. */
enum hf_hotspot_state {
	HF_HOTSPOT_STANDS = 0,
	HF_HOTSPOT_BARE = 1, /* the return address is at the stack pointer */
	HF_HOTSPOT_PUSHED = 2, /* rbp is, the return address above it */
	HF_HOTSPOT_NO_RBP = 3, /* it stands, but rbp was not saved so far */
	HF_HOTSPOT_IN_RDX = 4, /* the return address was popped into rdx */
	/* BARE if there is an address of code at the stack pointer, where a frame that stands has
	 * rbp: the byte of `pop rbp` that precedes may be another instruction's end. */
	HF_HOTSPOT_BARE_IF_CODE = 5,
};

/* Does `add rsp, n` precede? */
static __always_inline int hf_hotspot_is_add_rsp(const __u8 *b)
{
	return (b[-4] == 0x48 && b[-3] == 0x83 && b[-2] == 0xc4) ||
	       (b[-7] == 0x48 && b[-6] == 0x81 && b[-5] == 0xc4);
}

/* jmp reg */
static __always_inline int hf_hotspot_is_jump(const __u8 *b)
{
	return (b[0] == 0xff && (b[1] & 0xf8) == 0xe0) ||
	       (b[0] == 0x41 && b[1] == 0xff && (b[2] & 0xf8) == 0xe0);
}

/* How long an instruction is that may stand before a prologue; 0: it is none of these.
 *   mov [rsp - n], eax                   touches the stack's pages, one for each that the frame has
 *   mov r10, klass; cmp byte [r10 + d], n; je; cmp r15, [r10 + d]; je; jmp
 *                                        of a class whose initialiser may run
 * (generate_stack_overflow_check in assembler.cpp, clinit_barrier in macroAssembler_x86.cpp
 * @ jdk-17+35; the same @ jdk-25+36.) */
HF_STEP_FN __u32 hf_hotspot_lead_bytes(struct hf_walk *w, __u32 at)
{
	struct hf_hotspot_scratch *s;
	const __u8 *b;

	hf_barrier(at);
	if (!w || at >= sizeof(s->code) - 12)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	b = s->code + at;
	if (b[0] == 0x89 && b[1] == 0x84 && b[2] == 0x24)
		return 7;
	if (b[0] == 0x49 && b[1] == 0xba)
		return 10;
	if (b[0] == 0x41 && b[1] == 0x80 && (b[2] == 0x7a || b[2] == 0xba))
		return b[2] == 0x7a ? 5 : 8;
	if (b[0] == 0x4d && b[1] == 0x3b && (b[2] == 0x7a || b[2] == 0xba))
		return b[2] == 0x7a ? 4 : 7;
	if (b[0] == 0x74)
		return 2;
	if (b[0] == 0x0f && b[1] == 0x84)
		return 6;
	return b[0] == 0xe9 ? 5 : 0;
}

/* jmp reg, jmp */
static __always_inline int hf_hotspot_hands_on(const __u8 *b)
{
	return b[0] == 0xe9 || hf_hotspot_is_jump(b);
}

/* Prologues (MacroAssembler::verified_entry, C1_MacroAssembler::build_frame):
 *   [what leads to it]  push rbp  [mov rbp, rsp]  sub rsp, n
 *   [what leads to it]  sub rsp, n  mov [rsp + n - 16], rbp
 * Graal saves rbp where it likes, or not at all (hf_hotspot_leader). At w->pc in [entry, complete).
 */
HF_STEP_FN int hf_hotspot_prologue(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	__u32 at, i, from, push, sub, done;
	volatile __u32 *push_at, *sub_at, *lead;
	__u8 *b;

	if (!w)
		return HF_HOTSPOT_STANDS;
	s = HF_HOTSPOT_SCRATCH(w);
	at = (__u32)(w->pc - s->entry);
	if (w->pc <= s->entry)
		return HF_HOTSPOT_BARE;
	if (hf_read_lasting(w, s->code, sizeof(s->code), s->entry) &&
	    hf_read_lasting(w, s->code, 32, s->entry))
		return HF_HOTSPOT_STANDS;
	/* In memory, of whose numbers the verifier knows nothing. */
	push_at = &s->base;
	sub_at = &s->n;
	lead = &s->apart;
	*lead = 0;
	for (i = 0; i < HF_HOTSPOT_MAX_LEAD; i++)
		*lead += hf_hotspot_lead_bytes(w, *lead);
	if (*lead >= sizeof(s->code) - 12)
		*lead = 0;
	/* From the last to the first, so that the first one is kept. */
	*push_at = ~0U;
	*sub_at = ~0U;
	for (i = HF_HOTSPOT_PROLOGUE_BYTES; i-- > 0;) {
		from = *lead + i;
		hf_barrier(from);
		if (from >= sizeof(s->code) - 4)
			continue;
		b = s->code + from;
		if (b[0] == 0x55)
			*push_at = from;
		if (b[0] == 0x48 && (b[1] & 0xfd) == 0x81 && b[2] == 0xec)
			*sub_at = from;
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
	done = sub + (s->code[(sub + 1) & 63] == 0x81 ? 7 : 4);
	/* mov [rsp + disp8], rbp is 5 bytes, with disp32 8 */
	return at <= done ? HF_HOTSPOT_NO_RBP : HF_HOTSPOT_STANDS;
}

/* How long an instruction is that may stand between the end of a frame and its return;
 * 0: it is none of these.
 *   cmp rsp, [r15 + d]; mov reg, [r15 + d]; test [reg], eax; test [rip + d], eax; ja
 *                                        the poll (below)
 *   vzeroupper                           behind Graal's
 *   test byte [r15 + d], n; cmp qword [r15 + d], n; jcc
 *                                        a native method's: the same, is there an exception
 *   mov r10, pc; mov [r15 + d], r10      a poll's stub, which jumps to the handler */
static __always_inline __u32 hf_hotspot_end_bytes(const __u8 *b)
{
	__u32 disp = (b[2] & 0xc0) == 0x40 ? 1 : 4;

	if ((b[2] & 7) == 7 && b[2] >> 6 && b[2] < 0xc0) {
		if (b[0] == 0x49 && b[1] == 0x3b && (b[2] & 0x38) == 0x20)
			return 3 + disp;
		if ((b[0] & 0xfb) == 0x49 && b[1] == 0x8b)
			return 3 + disp;
		if (b[0] == 0x4d && b[1] == 0x89 && (b[2] & 0x38) == 0x10)
			return 3 + disp;
		if (b[0] == 0x41 && b[1] == 0xf6 && !(b[2] & 0x38))
			return 4 + disp;
		if (b[0] == 0x49 && b[1] == 0x83 && (b[2] & 0x38) == 0x38)
			return 4 + disp;
		if (b[0] == 0x49 && b[1] == 0x81 && (b[2] & 0x38) == 0x38)
			return 7 + disp;
	}
	if (b[0] == 0x41 && b[1] == 0x85 && b[2] < 8)
		return 3;
	if (b[0] == 0x85 && b[1] == 0x05)
		return 6;
	if (b[0] == 0x85 && b[1] < 8)
		return 2;
	if (b[0] == 0xc5 && b[1] == 0xf8 && b[2] == 0x77)
		return 3;
	if ((b[0] & 0xf0) == 0x70)
		return 2;
	if (b[0] == 0x0f && (b[1] & 0xf0) == 0x80)
		return 6;
	if (b[0] == 0x49 && b[1] == 0xba)
		return 10;
	if (b[0] == 0x4c && b[1] == 0x8d && b[2] == 0x15)
		return 7;
	return 0;
}

/* Is the frame gone at the pc? It is if nothing takes it down between there and the return,
 * or a jump to what returns. Around the pc stand the bytes of s->code, from s->code + 8 on. */
HF_STEP_FN int hf_hotspot_is_gone(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	volatile __u32 *at, *sets_pc;
	__u32 i, from, bytes;
	__u8 *b;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	/* In memory, of whose numbers the verifier knows nothing. */
	at = &s->n;
	sets_pc = &s->base;
	b = s->code + 8;
	/* mov [r15 + d], r10 */
	*sets_pc = (b[-4] == 0x4d && b[-3] == 0x89 && b[-2] == 0x57) ||
		   (b[-7] == 0x4d && b[-6] == 0x89 && b[-5] == 0x97);
	*at = 8;
	for (i = 0; i < HF_HOTSPOT_MAX_END; i++) {
		from = *at;
		hf_barrier(from);
		if (from >= sizeof(s->code) - 8)
			return 0;
		b = s->code + from;
		if (b[0] == 0xc3)
			return 1;
		if (b[0] == 0xe9)
			return *sets_pc;
		bytes = hf_hotspot_end_bytes(b);
		if (!bytes)
			return 0;
		*sets_pc = b[0] == 0x4d && b[1] == 0x89;
		*at = from + bytes;
	}
	return 0;
}

/* Epilogues: add rsp, n; pop rbp; a poll; ret. The poll (safepoint_poll,
 * at return):
 *   cmp rsp, [r15 + d]; ja         JDK 16 and later
 *   mov r10, [r15 + d]; test [r10], eax    10 to 15
 *   test [rip + d], eax            8, 9
 * Those of native methods: leave; [a poll;] cmp [r15 + d], 0; jne; ret. Where an exception is
 * handed on, or a stub hands on to what it found: add rsp, n; pop rbp; jmp [reg], without `add`
 * in frames of two words, in others popf before it; and pop rbp; pop rdx; jmp reg, with the
 * return address in rdx at last.
 * (remove_frame in macroAssembler_x86.cpp, generate_native_wrapper in
 * sharedRuntime_x86_64.cpp, TailJump in x86_64.ad @ jdk-17+35; the same @ jdk-25+36.)
 * With w->pc somewhere in a blob's code. */
HF_STEP_FN int hf_hotspot_epilogue(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s;
	__u8 *b;

	if (!w)
		return HF_HOTSPOT_STANDS;
	s = HF_HOTSPOT_SCRATCH(w);
	b = s->code + 8;
	/* What lies behind a blob's end may not be there. */
	if (hf_read_lasting(w, s->code, sizeof(s->code), w->pc - 8) &&
	    hf_read_lasting(w, s->code, 32, w->pc - 8)) {
		b[0] = 0;
		return HF_HOTSPOT_STANDS;
	}
	if (b[0] == 0x5d) /* of an epilogue, if ret, a poll or a jump follows */
		return b[1] == 0xc3 || (b[1] == 0x49 && b[2] == 0x3b) ||
			       (b[1] == 0x4d && b[2] == 0x8b && b[3] == 0x97) ||
			       (b[1] == 0x85 && b[2] == 0x05) || b[1] == 0x5a ||
			       (hf_hotspot_hands_on(b + 1) &&
				(hf_hotspot_is_add_rsp(b) || b[-1] == 0x9d || s->frame_bytes == 16))
			   ? HF_HOTSPOT_PUSHED
			   : HF_HOTSPOT_STANDS;
	if (b[-1] == 0x5d && hf_hotspot_hands_on(b)) {
		if (hf_hotspot_is_add_rsp(b - 1))
			return HF_HOTSPOT_BARE;
		if (b[-2] == 0x9d || s->frame_bytes == 16)
			return HF_HOTSPOT_BARE_IF_CODE;
	}
	if (b[-1] == 0x5d && b[0] == 0x5a)
		return HF_HOTSPOT_BARE;
	if (b[-1] == 0x5a && hf_hotspot_is_jump(b))
		return HF_HOTSPOT_IN_RDX;
	return hf_hotspot_is_gone(w) ? HF_HOTSPOT_BARE : HF_HOTSPOT_STANDS;
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

/* push rax; push rsi; push rdi; push rcx: is one of the last three next? */
static __always_inline int hf_hotspot_is_search(const __u8 *b)
{
	return (b[-1] == 0x50 && b[0] == 0x56 && b[1] == 0x57 && b[2] == 0x51) ||
	       (b[-1] == 0x56 && b[0] == 0x57 && b[1] == 0x51) ||
	       (b[-2] == 0x56 && b[-1] == 0x57 && b[0] == 0x51);
}

/* How many bytes C2's search for a string in another keeps below the frame at a leaf; 0: none is
 * running. It has the frame's stack pointer in rcx while it copies strings of less than 16 bytes to
 * the stack, which it does near the end of a page, and then at the stack pointer:
 *   [16 bytes] [16 bytes] [length, substring, string,] the frame's stack pointer
 * without the three if the substring is a constant. Something else may have left all that where a
 * frame now stands, but then a return address, not a length, is the fourth word. Where one stands
 * in its own place, as if nothing was kept, it may be the caller's or what an earlier call left:
 * the other is believed if a call of this very code is before it. Copies, which are rare, are
 * believed where none stands.
 * The code around the pc has been read (hf_hotspot_epilogue).
 * (string_indexof in c2_MacroAssembler_x86.cpp @ jdk-17+35; macroAssembler_x86.cpp @ jdk8u,
 * the same @ jdk-25+36.) */
HF_STEP_FN __u32 hf_hotspot_search_bytes(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int is_kept, is_search, stands;
	__u64 bytes, frame, ra;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	frame = s->frame_bytes;
	if (hf_hotspot_stack(w, w->sp))
		return 0;
	bytes = s->value - w->sp;
	is_kept = bytes == 8 || bytes == 24;
	if (bytes == 32 && !hf_hotspot_stack(w, w->sp + 24))
		is_kept = !(s->value >> 31);
	is_search = hf_hotspot_is_search(s->code + 8);
	/* Is a return address where it would stand without a search? */
	stands = !is_search &&
		 (hf_hotspot_stack(w, w->sp + frame - 8) || hf_hotspot_is_code(proc, s->value));
	if (stands && !is_kept)
		return 0;
	if (is_search || (!is_kept && bytes > HF_HOTSPOT_MAX_SEARCH_BYTES))
		bytes = w->regs[HF_HOTSPOT_RCX] - w->sp;
	if (!bytes || bytes > HF_HOTSPOT_MAX_SEARCH_BYTES || (bytes & 7) ||
	    hf_hotspot_stack(w, w->sp + bytes + frame - 8) || !hf_hotspot_is_code(proc, s->value))
		return 0;
	if (stands) {
		ra = s->value;
		if (hf_read_lasting(w, &s->value, 8, ra - 8) || (s->value >> 24 & 0xff) != 0xe8 ||
		    ra + (__s64)(__s32)(s->value >> 32) - s->blob >= (__u64)s->size_bytes)
			return 0;
	}
	return bytes;
}

/* Is an address of code at the stack pointer? */
HF_STEP_FN int hf_hotspot_is_top_code(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	return proc && !hf_hotspot_stack(w, w->sp) &&
	       hf_hotspot_is_code(proc, HF_HOTSPOT_SCRATCH(w)->value);
}

/* Is a method's frame of two words none? Graal says two where it has none: the return address is at
 * the stack pointer, and what follows is the caller's. */
HF_STEP_FN int hf_hotspot_is_none(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	return proc && hf_hotspot_is_top_code(w) && !hf_hotspot_stack(w, w->sp + 8) &&
	       !hf_hotspot_is_code(proc, HF_HOTSPOT_SCRATCH(w)->value);
}

/* How far below it, in bytes, the interpreter's frame that fp leads left the stack pointer at its
 * last call: from cfa on there are arguments, if what has this cfa is what it called. ~0: there is
 * no such frame. The slot is an address or, from JDK 22 on, counts words from fp
 * (interpreter_frame_last_sp_offset in cpu/x86/frame_x86.hpp @ jdk-17+35 and jdk-25+36). */
HF_STEP_FN __u32 hf_hotspot_apart(struct hf_walk *w, __u64 cfa, __u64 fp)
{
	struct hf_hotspot_scratch *s;
	__u64 last;

	if (!w || (fp & 7) || fp < cfa || fp - cfa > HF_HOTSPOT_MAX_FRAME_BYTES ||
	    hf_hotspot_stack(w, fp - 16))
		return ~0U;
	s = HF_HOTSPOT_SCRATCH(w);
	last = s->value;
	if (last >> 63)
		last = fp + last * 8;
	/* Linkers of method handles drop an argument. */
	last += 16;
	return last < cfa || last > fp ? ~0U : (__u32)(last - cfa);
}

/* The frame pointer of a method's caller that is the interpreter's, into s->fp, where s->fp is what
 * the method's frame has where C1 and C2 save it. Graal's has it in any slot or register, and where
 * it neither calls nor polls it may not save it. */
HF_STEP_FN int hf_hotspot_leader(struct hf_walk *w, __u64 cfa)
{
	struct hf_hotspot_scratch *s;
	volatile __u32 *least;
	__u32 apart;
	__u64 at;
	int i;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	/* In memory, of whose numbers the verifier knows nothing. */
	least = &s->n;
	*least = hf_hotspot_apart(w, cfa, s->fp);
	if (*least < HF_HOTSPOT_MIN_INTERPRETED_BYTES)
		return 0;
	apart = hf_hotspot_apart(w, cfa, w->fp);
	if (apart < *least) {
		*least = apart;
		s->fp = w->fp;
	}
	at = w->sp;
	for (i = 0; i < HF_HOTSPOT_MAX_SAVED_WORDS; i++, at += 8) {
		if (*least < HF_HOTSPOT_MIN_INTERPRETED_BYTES || at >= cfa ||
		    hf_hotspot_stack(w, at))
			break;
		s->entry = s->value;
		apart = hf_hotspot_apart(w, cfa, s->entry);
		if (apart < *least) {
			*least = apart;
			s->fp = s->entry;
		}
	}
	return 0;
}

HF_STEP_FN int hf_hotspot_compiled(struct hf_walk *w)
{
	__u64 pc, deopt, deopt_mh, cfa, ra, fp, slot, sp;
	const struct hf_hotspot_proc *proc;
	int state = HF_HOTSPOT_STANDS, i;
	struct hf_hotspot_scratch *s;
	__u32 head, frame, pushed, is_graal, apart;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	pc = w->pc;
	head = proc->block_bytes;
	frame = s->frame_bytes;
	is_graal = proc->flags & HF_HOTSPOT_JVMCI;
	apart = proc->flags & HF_HOTSPOT_X87 ? HF_HOTSPOT_MAX_APART_X87 : HF_HOTSPOT_MAX_APART;
	sp = w->sp;
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
	/* Methods call each other with nothing pushed. */
	pushed = 0;
	if (w->pc_is_return && !hf_hotspot_is_behind_method(w))
		pushed = hf_hotspot_pushed(w, pc, 0, apart);
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
		else {
			state = hf_hotspot_epilogue(w);
			if (state == HF_HOTSPOT_BARE_IF_CODE)
				state =
				    hf_hotspot_is_top_code(w) ? HF_HOTSPOT_BARE : HF_HOTSPOT_STANDS;
			if (state == HF_HOTSPOT_STANDS && is_graal && frame == 16 &&
			    hf_hotspot_is_none(w))
				state = HF_HOTSPOT_BARE;
			if (state == HF_HOTSPOT_STANDS) {
				pushed = hf_hotspot_search_bytes(w);
				if (!pushed && (apart > HF_HOTSPOT_MAX_APART ||
						hf_hotspot_may_push(s->code + 8)))
					pushed = hf_hotspot_pushed(w, pc, 1, apart);
			}
		}
	}
	/* All of the frame below the return address: Graal's end of it, without `pop rbp`. */
	if (is_graal && pushed + 8 == frame)
		pushed = 0;
	sp += pushed < HF_HOTSPOT_MAX_FRAME_BYTES ? pushed : 0;
	cfa = sp + frame;
	fp = w->fp;
	if (state == HF_HOTSPOT_BARE)
		cfa = sp + 8;
	else if (state == HF_HOTSPOT_PUSHED)
		cfa = sp + 16;
	if (state == HF_HOTSPOT_STANDS || state == HF_HOTSPOT_PUSHED) {
		if (hf_hotspot_stack(w, cfa - 16))
			return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
		fp = s->value;
	}
	if (hf_hotspot_stack(w, cfa - 8))
		return hf_hotspot_cut(w, HF_CUT_STACK_UNREADABLE);
	ra = hf_hotspot_in_heap(w, proc, cfa, s->value);
	if (is_graal && ra >= proc->interpreter_start && ra < proc->interpreter_end) {
		s->fp = fp;
		hf_hotspot_leader(w, cfa);
		fp = s->fp;
	}
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
