/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How far below its frame generated code has its stack pointer at a place: what the instructions
 * from there on take up again. Compilers have one depth at a place, however it is reached, so that
 * the code is followed in a straight line, and through jumps that are always taken.
 */
#ifndef HF_HOTSPOT_INSTRUCTIONS_H
#define HF_HOTSPOT_INSTRUCTIONS_H

#include "hotspot/bpf/frame.h"

/* The longest piece that has to be followed saves all registers around a call, and restores them.
 */
#define HF_HOTSPOT_MAX_FOLLOWED 96
/* They are followed in stretches, each by a call of a function: the verifier goes through that
 * once. */
#define HF_HOTSPOT_STRETCH 8
_Static_assert(HF_HOTSPOT_MAX_FOLLOWED % HF_HOTSPOT_STRETCH == 0, "whole stretches");
/* Instructions in a row that have nothing to do with what was pushed. Around a call two at most
 * stand among those that save and restore; the exponent of pow is put together in twelve. Each
 * costs all leaves of compiled code, in which nothing is pushed mostly. */
#define HF_HOTSPOT_MAX_APART 2
#define HF_HOTSPOT_MAX_APART_X87 14
#define HF_HOTSPOT_MAX_INSTRUCTION 15

enum hf_hotspot_instruction_kind {
	HF_HOTSPOT_OTHER = 0,
	HF_HOTSPOT_NEAR = 1, /* moves the stack pointer, or is the x87's */
	HF_HOTSPOT_AT_SP = 2, /* has an operand on the stack */
	HF_HOTSPOT_JUMP = 3, /* always taken, to s->up bytes behind it */
	HF_HOTSPOT_CALL = 4,
	/* Here it ends. */
	HF_HOTSPOT_UNKNOWN = 5,
	HF_HOTSPOT_RETURNS = 6,
	HF_HOTSPOT_SETS_SP = 7, /* mov rsp, r13: from a method's entry without a frame */
};

static __always_inline __u32 hf_hotspot_byte(struct hf_hotspot_scratch *s, __u32 at)
{
	hf_barrier(at);
	return s->code[at & (sizeof(s->code) - 1)];
}

static __always_inline __u32 hf_hotspot_word(struct hf_hotspot_scratch *s, __u32 at)
{
	return hf_hotspot_byte(s, at) | hf_hotspot_byte(s, at + 1) << 8 |
	       hf_hotspot_byte(s, at + 2) << 16 | hf_hotspot_byte(s, at + 3) << 24;
}

/* hf_hotspot_operands of the opcodes behind 0f. */
static __always_inline __u32 hf_hotspot_operands_0f(__u32 op)
{
	if ((op & 0xf0) == 0x80)
		return 20;
	if (op == 0x05 || op == 0x31 || op == 0x77 || op == 0xa2 || (op >= 0xc8 && op <= 0xcf))
		return 16;
	if (op == 0x0b || op == 0xb9 || op == 0xff)
		return 32;
	return (op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
	       (op >= 0xc4 && op <= 0xc6);
}

/* Bytes of the immediate operand of an instruction (256 times its opcode's map, and the opcode);
 * 16: it has no ModRM byte; 32: it ends what is followed. (Intel SDM vol. 2, appendix A: one-byte
 * opcodes.) */
HF_STEP_FN __u32 hf_hotspot_operands(__u32 op, __u32 reg, __u32 is_wide)
{
	if (op >> 8)
		return op >> 8 == 1 ? hf_hotspot_operands_0f(op & 0xff) : op >> 8 == 3;
	if (op < 0x40)
		return (op & 7) < 4 ? 0 : (op & 7) == 4 ? 17 : (op & 7) == 5 ? 20 : 32;
	if (op < 0x60)
		return 16;
	if (op < 0x80)
		return op >= 0x70 || op == 0x6a ? 17
		       : op == 0x68             ? 20
		       : op == 0x69             ? 4
		       : op == 0x6b             ? 1
		       : op == 0x63             ? 0
						: 32;
	if (op < 0x90)
		return op == 0x81 ? 4 : op == 0x80 || op == 0x83 ? 1 : 0;
	if (op < 0xa0)
		return op == 0x9a ? 32 : 16;
	if (op < 0xb0)
		return op < 0xa4 ? 32 : op == 0xa8 ? 17 : op == 0xa9 ? 20 : 16;
	if (op < 0xc0)
		return op < 0xb8 ? 17 : is_wide ? 24 : 20;
	if (op < 0xd0)
		return op < 0xc2 || op == 0xc6 ? 1 : op == 0xc7 ? 4 : 32;
	if (op < 0xe0)
		return (op & 0xf) < 4 || op >= 0xd8 ? 0 : 32;
	if (op < 0xf0)
		return op == 0xe8 || op == 0xe9 ? 20 : op == 0xeb ? 17 : 32;
	if (op == 0xf6)
		return reg < 2 ? 1 : 0;
	if (op == 0xf7)
		return reg < 2 ? 4 : 0;
	return op >= 0xfe ? 0 : op == 0xf5 || (op >= 0xf8 && op <= 0xfd) ? 16 : 32;
}

/* Prefixes and opcode of the instruction at s->code + s->n: into s->op, s->map (0: none, 1: 0f, 2:
 * 0f 38, 3: 0f 3a), s->rex, and s->is_short. How long these are; 0: it is unknown. */
HF_STEP_FN __u32 hf_hotspot_opcode(struct hf_walk *w)
{
	__u32 p, op, i, rex, map, is_short, is_vex;
	struct hf_hotspot_scratch *s;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	p = s->n;
	is_short = 0;
	op = hf_hotspot_byte(s, p);
	for (i = 0; i < 3; i++) {
		if (op != 0x66 && op != 0xf2 && op != 0xf3)
			break;
		is_short |= op == 0x66;
		op = hf_hotspot_byte(s, ++p);
	}
	rex = 0;
	if ((op & 0xf0) == 0x40) {
		rex = op;
		op = hf_hotspot_byte(s, ++p);
	}
	map = 0;
	is_vex = 0;
	if (op == 0xc5) {
		is_vex = 2;
		map = 1;
	} else if (op == 0xc4) {
		is_vex = 3;
		map = hf_hotspot_byte(s, p + 1) & 31;
	} else if (op == 0x62) {
		is_vex = 4;
		map = hf_hotspot_byte(s, p + 1) & 7;
	} else if (op == 0x0f) {
		op = hf_hotspot_byte(s, ++p);
		map = op == 0x38 ? 2 : op == 0x3a ? 3 : 1;
		if (map > 1)
			op = hf_hotspot_byte(s, ++p);
	}
	if (is_vex) {
		if (map < 1 || map > 3)
			return 0;
		p += is_vex;
		op = hf_hotspot_byte(s, p);
	}
	s->op = op;
	s->map = map;
	s->rex = rex;
	s->is_short = is_short;
	return p + 1 - s->n;
}

/* What follows the opcode: into s->bytes how long the instruction is, and into s->value its
 * immediate operand. */
HF_STEP_FN int hf_hotspot_length(struct hf_walk *w, __u32 p, __u32 operands)
{
	struct hf_hotspot_scratch *s;
	__u32 m, base, disp, bytes;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	m = hf_hotspot_byte(s, p);
	s->kind = HF_HOTSPOT_OTHER;
	bytes = 0;
	if (!(operands & 16)) {
		bytes = 1;
		disp = m < 0x40 ? 0 : m < 0x80 ? 1 : 4;
		base = m & 7;
		if (m >= 0xc0) {
			disp = 0;
		} else if (base == 4) {
			bytes = 2;
			base = hf_hotspot_byte(s, p + 1) & 7;
			if (base == 4 && !(s->rex & 1))
				s->kind = HF_HOTSPOT_AT_SP;
		}
		bytes += base == 5 && m < 0x40 ? 4 : disp;
	}
	p += bytes;
	operands &= 15;
	/* Those of jumps and moves to a register of 64 bits are what they are. */
	if (s->is_short && operands == 4 && s->map == 0)
		operands = 2;
	bytes = hf_hotspot_word(s, p);
	s->value = operands == 1 ? (__u32)(__s32)(__s8)bytes : bytes;
	s->bytes = p + operands - s->n;
	return 0;
}

/* What an instruction of one byte's opcode does: see hf_hotspot_instruction. */
HF_STEP_FN int hf_hotspot_effect(struct hf_walk *w, __u32 m)
{
	struct hf_hotspot_scratch *s;
	__u32 op, rex, reg, value;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	op = s->op;
	rex = s->rex;
	reg = m >> 3 & 7;
	value = (__u32)s->value;
	if (op >= 0x50 && op < 0x58) {
		s->up = -8;
	} else if (op >= 0x58 && op < 0x60) {
		/* pop rsp; pop rbp, of an epilogue */
		if (!(rex & 1) && (op == 0x5c || op == 0x5d))
			s->kind = HF_HOTSPOT_UNKNOWN;
		else if (op == 0x5d)
			s->r13_at = s->sum;
		s->up = 8;
	} else if (op == 0x68 || op == 0x6a || op == 0x9c || (op == 0xff && reg == 6)) {
		s->up = -8;
	} else if (op == 0x9d || (op == 0x8f && !reg)) {
		s->up = 8;
	} else if ((op == 0x81 || op == 0x83) && (m & 0xc7) == 0xc4 && !(rex & 1)) {
		s->up = reg == 0 ? (__s32)value : reg == 5 ? -(__s32)value : 0;
		/* `add rsp, n` with `pop rbp` behind it takes the whole frame down. */
		if ((reg != 0 && reg != 5 && reg != 7) ||
		    (s->up > 0 && hf_hotspot_byte(s, s->n + s->bytes) == 0x5d))
			s->kind = HF_HOTSPOT_UNKNOWN;
	} else if ((op == 0x89 && (m & 0xc7) == 0xc4 && !(rex & 1)) ||
		   ((op == 0x8b || op == 0x8d) && reg == 4 && !(rex & 4))) {
		s->kind = (op == 0x89 && m == 0xec && rex == 0x4c) ||
				  (op == 0x8b && m == 0xe5 && rex == 0x49)
			      ? HF_HOTSPOT_SETS_SP
			      : HF_HOTSPOT_UNKNOWN;
	} else if (op == 0x8b && rex == 0x4c && m == 0x6c && s->kind == HF_HOTSPOT_AT_SP) {
		/* mov r13, [rsp + d] */
		s->r13_at = s->sum + (__s8)hf_hotspot_byte(s, s->n + s->bytes - 1);
	} else if (op == 0xff && (reg == 4 || reg == 5)) {
		s->kind = HF_HOTSPOT_UNKNOWN;
	} else if (op == 0xe9 || op == 0xeb) {
		s->kind = HF_HOTSPOT_JUMP;
		s->up = (__s32)value;
	} else if (op == 0xe8 || (op == 0xff && reg == 2)) {
		s->kind = HF_HOTSPOT_CALL;
	} else if (op >= 0xd8 && op < 0xe0) {
		s->kind = HF_HOTSPOT_NEAR;
	}
	if (s->up && s->kind < HF_HOTSPOT_JUMP)
		s->kind = HF_HOTSPOT_NEAR;
	return 0;
}

/* The instruction at s->code + s->n: its length; into s->kind what it is and into s->up by how much
 * it moves the stack pointer up. Where it takes r13 from the stack, into s->r13_at how far above
 * the stack pointer of the pc that is. In parts, so that what the verifier has seen of one does not
 * multiply what it sees of the next. */
static __always_inline __u32 hf_hotspot_instruction(struct hf_walk *w)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u32 p, m, operands;

	s->kind = HF_HOTSPOT_UNKNOWN;
	s->up = 0;
	p = hf_hotspot_opcode(w);
	if (!p)
		return 0;
	p += s->n;
	m = hf_hotspot_byte(s, p);
	operands = hf_hotspot_operands(s->map << 8 | s->op, m >> 3 & 7, s->rex & 8);
	if (s->map == 0 && s->op == 0xc3)
		s->kind = HF_HOTSPOT_RETURNS;
	if (operands & 32)
		return 0;
	hf_hotspot_length(w, p, operands);
	if (!s->map)
		hf_hotspot_effect(w, m);
	return s->bytes;
}

/* May an instruction stand among those that push something around a call and take it up again?
 *   push, pop; mov [rsp + d], reg; mov reg, [rsp + d]; mov reg, reg; lea; mov reg, imm; add rsp, n;
 *   call; vzeroupper; any of the x87, fwait, sahf, and `test eax, imm` or what is
 *   behind it: a remainder (fremr in macroAssembler_x86.cpp @ jdk-11+28, modD_reg in
 *   x86_64.ad @ jdk-17+35)
 * b has 8 bytes before it. Most leaves of compiled code are at another, and their code need not be
 * followed. */
static __always_inline int hf_hotspot_may_push(const __u8 *b)
{
	__u32 op;

	if ((b[0] & 0xf0) == 0x50 || b[0] == 0xe8 || (b[0] == 0xc5 && b[1] == 0xf8 && b[2] == 0x77))
		return 1;
	if ((b[0] & 0xf8) == 0xd8 || b[0] == 0x9b || b[0] == 0x9e || b[0] == 0xa9 || b[-5] == 0xa9)
		return 1;
	if ((b[0] & 0xf0) != 0x40)
		return 0;
	op = b[1];
	if ((op & 0xf0) == 0x50 || (op & 0xf8) == 0xb8 || op == 0x8d)
		return 1;
	if ((op & 0xfd) == 0x89)
		return b[2] >= 0xc0 || ((b[2] & 7) == 4 && b[3] == 0x24);
	return (op & 0xfd) == 0x81 && b[2] == 0xc4;
}

/* Goes on to follow the code for HF_HOTSPOT_STRETCH instructions: see hf_hotspot_pushed. 0: it
 * ended. */
HF_STEP_FN int hf_hotspot_follow(struct hf_walk *w, __u32 max_apart)
{
	struct hf_hotspot_scratch *s;
	__u32 i, bytes;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	for (i = 0; i < HF_HOTSPOT_STRETCH; i++) {
		if (s->n > sizeof(s->code) - HF_HOTSPOT_MAX_INSTRUCTION - 1) {
			s->code_from += s->n;
			s->n = 0;
			if (hf_read_lasting(w, s->code, sizeof(s->code), s->code_from)) {
				if (hf_read_lasting(w, s->code, 32, s->code_from))
					return 0;
				s->code[32] = 0x06; /* no instruction */
			}
		}
		bytes = hf_hotspot_instruction(w);
		if (!bytes || s->kind >= HF_HOTSPOT_UNKNOWN)
			return 0;
		if (s->kind == HF_HOTSPOT_JUMP) {
			/* To where it leads, which is read next. */
			s->code_from += (__s64)s->up + s->n + bytes - sizeof(s->code);
			s->n = sizeof(s->code);
			if (s->code_from + sizeof(s->code) - s->blob >= (__u64)s->size_bytes) {
				s->kind = HF_HOTSPOT_UNKNOWN;
				return 0;
			}
			continue;
		}
		if (s->kind == HF_HOTSPOT_CALL && w->pc_is_return)
			return 0;
		s->apart =
		    s->kind == HF_HOTSPOT_NEAR ? 0 : s->apart + (s->kind == HF_HOTSPOT_OTHER);
		if (s->apart > max_apart)
			return 0;
		s->sum += s->up;
		if (s->sum > s->most)
			s->most = s->sum;
		s->n += bytes;
	}
	return 1;
}

/* Follows the code from pc on. How many bytes are pushed there: the highest that the stack pointer
 * comes, since nothing but the end of a frame goes above it. s->kind says where it ended, s->sum
 * how much the stack pointer had moved up. Those around a leaf's pc have been read
 * (hf_hotspot_epilogue). (emit_typecheck_helper in c1_LIRAssembler_x86.cpp, SaveLiveRegisters in
 * gc/shared/barrierSetAssembler_x86.cpp @ jdk-25+36; pow_exp_core_encoding, trigfunc,
 * fp_runtime_fallback in macroAssembler_x86.cpp @ jdk8u.) */
static __always_inline __u32 hf_hotspot_follow_from(struct hf_walk *w, __u64 pc, __u32 is_read,
						    __u32 max_apart)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u32 i;

	s->kind = HF_HOTSPOT_UNKNOWN;
	s->sum = 0;
	s->most = 0;
	s->apart = 0;
	s->r13_at = -1;
	s->n = is_read ? 8 : sizeof(s->code);
	s->code_from = is_read ? pc - 8 : pc - sizeof(s->code);
	for (i = 0; i < HF_HOTSPOT_MAX_FOLLOWED; i += HF_HOTSPOT_STRETCH)
		if (!hf_hotspot_follow(w, max_apart))
			break;
	return s->most;
}

/* The same, out of the way of who rarely asks. */
HF_STEP_FN __u32 hf_hotspot_pushed(struct hf_walk *w, __u64 pc, __u32 is_read, __u32 max_apart)
{
	return w ? hf_hotspot_follow_from(w, pc, is_read, max_apart) : 0;
}

/* Code without a frame: what it has pushed is all there is below the return address, to which it
 * returns. 0 with the caller in scratch. */
HF_STEP_FN int hf_hotspot_returns(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	hf_hotspot_follow_from(w, w->pc, 0, HF_HOTSPOT_MAX_APART_X87);
	if (s->kind != HF_HOTSPOT_RETURNS || s->sum < 0)
		return 1;
	s->cfa = w->sp + s->sum + 8;
	s->fp = w->fp;
	if (hf_hotspot_stack(w, s->cfa - 8))
		return 1;
	s->ra = s->value;
	return !hf_hotspot_is_code(proc, s->ra);
}

/* In a method entry that builds no frame: what is pushed below the return address, which it pops
 * before it sets the stack pointer; ~0: it does not from here. */
HF_STEP_FN __u32 hf_hotspot_entry_bytes(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;

	if (!w)
		return ~0U;
	proc = hf_hotspot_table(w);
	if (!proc)
		return ~0U;
	s = HF_HOTSPOT_SCRATCH(w);
	s->blob = proc->interpreter_start;
	s->size_bytes = proc->interpreter_end - proc->interpreter_start;
	hf_hotspot_follow_from(w, w->pc, 0, HF_HOTSPOT_MAX_APART_X87);
	return s->kind == HF_HOTSPOT_SETS_SP && s->sum >= 8 ? (__u32)s->sum - 8 : ~0U;
}

#endif /* HF_HOTSPOT_INSTRUCTIONS_H */
