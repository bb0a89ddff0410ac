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
 * one, besides the stack; at a leaf one or two more.
 *
 * User half: ../src/resolve.rs (names), ../src/process.rs (the table).
 */
#ifndef HF_HOTSPOT_STEP_H
#define HF_HOTSPOT_STEP_H

#include "hotspot/bpf/abi.h"

/* Hops through the segment map. A byte leads back 254 segments of 128 bytes at
 * most: 48 hops are 1.5 MB, several times the largest method. */
#define HF_HOTSPOT_MAX_HOPS 48
/* Frames of the interpreter: a method has at most 65535 locals and stack slots
 * each (JVMS 4.7.3), but nobody writes such. */
#define HF_HOTSPOT_MAX_FRAME_BYTES (1U << 20)
/* Words above the stated size at which a return address is looked for. */
#define HF_HOTSPOT_MAX_EXTRA 6
/* Frames of stubs: what they keep of wide registers and tables. */
#define HF_HOTSPOT_MAX_STUB_BYTES 4096
/* Words between the frames of a virtual thread and the end of the frame below:
 * ContinuationEntry is eight, the rest are what was passed. */
#define HF_HOTSPOT_MAX_ENTRY_WORDS 32
/* Prologues are shorter than this. */
#define HF_HOTSPOT_PROLOGUE_BYTES 16

#define HF_HOTSPOT_RAX 0
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
	__u32 reserved;
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

/* Moves to the caller. Where the callers of a virtual thread's frames are in the
 * heap, what follows is the frame of enterSpecial, which the carrier runs: what
 * was passed on the stack, a ContinuationEntry, rbp, the return address. No
 * word of the former is an address of code. rbp is an address of the stack only
 * where the caller keeps frame pointers: C2 has it hold anything. */
HF_STEP_FN int hf_hotspot_move(struct hf_walk *w, __u64 cfa, __u64 ra, __u64 fp)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	int i;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	if (ra < proc->continuation_start || ra >= proc->continuation_end)
		return hf_to_caller(w, cfa, ra, fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
	for (i = 0; i < HF_HOTSPOT_MAX_ENTRY_WORDS; i++, cfa += 8) {
		if (hf_hotspot_stack(w, cfa))
			break;
		ra = s->value;
		if (hf_hotspot_is_code(proc, ra))
			return hf_to_caller(w, cfa + 8, ra, fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
		fp = ra;
	}
	hf_cut(w, HF_CUT_NO_UNWIND_INFO);
	return HF_STEP_ENDED;
}

/* The number of unloaded classes, read once a walk. w->runtime_state holds it plus
 * one; 0: of a walk that is finished late it is not known, and what it is now is
 * returned. */
static __always_inline __u64 hf_hotspot_epoch(struct hf_walk *w, const struct hf_hotspot_proc *proc)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u64 known = w->runtime_state[HF_RUNTIME_HOTSPOT];

	if (known)
		return known - 1;
	if (!proc->epoch_addr)
		return 0;
	if (!w->late || (proc->flags & HF_HOTSPOT_QUIET)) {
		if (hf_read_lasting(w, &s->value, 8, proc->epoch_addr))
			return 0;
	} else if (hf_read_user(w, &s->value, 8, proc->epoch_addr)) {
		return 0;
	}
	s->value &= HF_HOTSPOT_COOKIE_MASK;
	/* What it is now is what it was only if it has long been so. */
	if (w->late && (!(proc->flags & HF_HOTSPOT_QUIET) || s->value != proc->epoch_quiet))
		return s->value;
	w->runtime_state[HF_RUNTIME_HOTSPOT] = s->value + 1;
	return s->value;
}

/* Asked before a slice is sent: the epoch of the sample. */
HF_STEP_FN int hf_hotspot_moment(struct hf_walk *w, __u32 table_off)
{
	const struct hf_hotspot_proc *proc;

	if (!w)
		return 0;
	proc = hf_mem(table_off, sizeof(*proc));
	if (!proc || proc->runtime != HF_RUNTIME_HOTSPOT)
		return 0;
	hf_hotspot_epoch(w, proc);
	return 0;
}

/* A symbol's text, if it is not longer than max; its length. */
static __always_inline __u32 hf_hotspot_text(struct hf_walk *w, const struct hf_hotspot_proc *proc,
					     __u64 symbol, void *to, const __u32 max)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u32 len;

	s->value = 0;
	if (!symbol || (symbol & 7) ||
	    hf_read_lasting(w, &s->value, 2, symbol + proc->symbol_length))
		return 0;
	len = (__u32)s->value;
	hf_barrier(len);
	if (len == 0 || len > max || hf_read_lasting(w, to, len, symbol + proc->symbol_body))
		return 0;
	return len;
}

/* Tells what names a method, unless that was done in this epoch. */
HF_STEP_FN int hf_hotspot_tell(struct hf_walk *w, __u64 method, __u64 constant)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	struct hf_hotspot_name *name;
	__u64 data, number, pool, holder, at;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc || (method >= proc->archive_start && method < proc->archive_end))
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	data = hf_hotspot_epoch(w, proc) << HF_HOTSPOT_COOKIE_SHIFT |
	       ((method >> 3) & ((1ULL << HF_HOTSPOT_COOKIE_SHIFT) - 1));
	number = hf_mix(hf_mix(w->mm, data), constant);
	if (!hf_begin_to_tell(w, number, 16))
		return 0;
	name = (struct hf_hotspot_name *)s->block;
	if (hf_read_lasting(w, &s->value, 8, constant + proc->const_constants))
		return 0;
	pool = s->value;
	if (hf_read_lasting(w, &s->value, 8, pool + proc->pool_holder))
		return 0;
	holder = s->value;
	if (hf_read_lasting(w, &s->value, 8, holder + proc->klass_name))
		return 0;
	name->class_bytes =
	    hf_hotspot_text(w, proc, s->value, name->class_name, sizeof(name->class_name));
	s->value = 0;
	if (hf_read_lasting(w, &s->value, 2, constant + proc->const_name))
		return 0;
	at = pool + proc->pool_bytes + (s->value & 0xffff) * 8;
	if (hf_read_lasting(w, &s->value, 8, at))
		return 0;
	name->name_bytes =
	    hf_hotspot_text(w, proc, s->value & ~3ULL, name->name, sizeof(name->name));
	if (!name->class_bytes || !name->name_bytes)
		return 0;
	/* The rest is not missed. */
	name->file_bytes = 0;
	at = 0;
	if (proc->pool_source != HF_HOTSPOT_NO_FIELD)
		at = pool + proc->pool_source;
	else if (proc->klass_source != HF_HOTSPOT_NO_FIELD)
		at = holder + proc->klass_source;
	s->value = 0;
	if (at && !hf_read_lasting(w, &s->value, 2, at) && s->value) {
		at = pool + proc->pool_bytes + (s->value & 0xffff) * 8;
		if (!hf_read_lasting(w, &s->value, 8, at))
			name->file_bytes = hf_hotspot_text(w, proc, s->value & ~3ULL, name->file,
							   sizeof(name->file));
	}
	name->lines_bytes = 0;
	s->value = 0;
	/* ConstMethod::_has_linenumber_table: bit 0 in all versions. */
	if (!hf_read_lasting(w, &s->value, 2, constant + proc->const_flags) && (s->value & 1)) {
		s->value = 0;
		if (!hf_read_lasting(w, &s->value, 2, constant + proc->const_code_size) &&
		    !hf_read_lasting(w, name->lines, sizeof(name->lines),
				     constant + proc->const_bytes + (s->value & 0xffff)))
			name->lines_bytes = sizeof(name->lines);
	}
	hf_told_head(w, &name->head, HF_RUNTIME_HOTSPOT, data,
		     (constant >> 3) & HF_HOTSPOT_COOKIE_MASK);
	return hf_tell(w, name, sizeof(*name));
}

/* Emits a frame of the interpreter. bcp 0: not known. 0 if it had room. */
HF_STEP_FN int hf_hotspot_push_interpreted(struct hf_walk *w, __u64 method, __u64 bcp,
					   __u64 bcp_slot)
{
	__u64 constant = 0, bci = HF_HOTSPOT_BCI_NONE, code_bytes, epoch;
	__u64 kind = HF_HOTSPOT_INTERPRETED;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	epoch = hf_hotspot_epoch(w, proc);
	/* When the walk is finished late, both count only as long as this frame
	 * stands, whose class lives as long, or if no class was unloaded from
	 * the sample until now; else for a class that is known to live on. */
	if (w->late && w->runtime_state[HF_RUNTIME_HOTSPOT]) {
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
	if (constant && !w->late && (proc->flags & HF_HOTSPOT_UNLOADS))
		hf_hotspot_tell(w, method, constant);
	return hf_push_dynamic(w, HF_RUNTIME_HOTSPOT, hf_hotspot_flags(w),
			       kind << HF_HOTSPOT_KIND_SHIFT | bci << HF_HOTSPOT_BCI_SHIFT |
				   ((constant >> 3) & HF_HOTSPOT_COOKIE_MASK),
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

static __always_inline int hf_hotspot_cut(struct hf_walk *w, __u8 why)
{
	hf_cut(w, why);
	return HF_STEP_ENDED;
}

/* A leaf where the interpreter's frame does not stand: ranges[n] says how. */
HF_STEP_FN int hf_hotspot_no_frame(struct hf_walk *w, __u32 n)
{
	const struct hf_hotspot_range *range;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 at, ra_reg, sp_reg;
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

HF_STEP_FN int hf_hotspot_interpreted(struct hf_walk *w)
{
	__u64 sp, fp, slots, method, bcp, bcp_slot, cfa, ra;
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 n, at;
	int is_leaf;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	is_leaf = hf_hotspot_is_leaf(w);
	if (is_leaf) {
		at = (__u32)(w->pc - proc->interpreter_start);
		n = hf_hotspot_range(w, at);
		hf_barrier(n);
		/* push rax, push rbp, mov rbp, rsp: five bytes */
		if (n < HF_HOTSPOT_MAX_RANGES &&
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
	}
	if (!is_leaf)
		bcp = bcp_slot;
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

/* Finds the block of a pc through the segment map: its address into
 * scratch->blob. 0 if there is one. */
HF_STEP_FN int hf_hotspot_find_block(struct hf_walk *w, __u64 pc)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 low, segmap;
	__u32 shift, i, at;
	__u8 hop;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	s->n = HF_HOTSPOT_MAX_HEAPS;
	for (i = 0; i < HF_HOTSPOT_MAX_HEAPS; i++)
		if (i < proc->n_heaps && pc >= proc->heaps[i].low && pc < proc->heaps[i].end)
			s->n = i;
	i = s->n;
	hf_barrier(i);
	if (i >= HF_HOTSPOT_MAX_HEAPS)
		return 1;
	low = proc->heaps[i].low;
	segmap = proc->heaps[i].segmap;
	shift = proc->heaps[i].shift & 31;
	s->segment = (pc - low) >> shift;
	s->is_found = 0;
	/* One read for a method of up to 8 KB: each costs more than what it copies. The
	 * map begins with a page, so that the first bytes are there when any is. */
	s->segmap_from = s->segment + 1;
	for (i = 0; i < HF_HOTSPOT_MAX_HOPS; i++) {
		if (s->segment - s->segmap_from >= sizeof(s->code)) {
			s->segmap_from = s->segment < sizeof(s->code) - 1
					     ? 0
					     : s->segment - (sizeof(s->code) - 1);
			if (hf_read_lasting(w, s->code, sizeof(s->code), segmap + s->segmap_from))
				break;
		}
		at = (__u32)(s->segment - s->segmap_from) & (sizeof(s->code) - 1);
		hf_barrier(at);
		hop = s->code[at & (sizeof(s->code) - 1)];
		if (hop == 0) {
			s->is_found = 1;
			break;
		}
		if (hop == 0xff || hop > s->segment)
			break;
		s->segment -= hop;
	}
	s->blob = low + (s->segment << shift);
	return !s->is_found;
}

/* Finds the blob of the pc and reads its head. 0 if there is one. */
HF_STEP_FN int hf_hotspot_find_blob(struct hf_walk *w, __u64 pc)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u32 bytes, head, flags;
	__u64 begin;

	if (!w || hf_hotspot_find_block(w, pc))
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	begin = s->blob;
	head = proc->block_bytes;
	bytes = proc->read_bytes;
	hf_barrier(bytes);
	if (bytes > HF_HOTSPOT_MAX_BLOB_BYTES)
		return 1;
	if (hf_read_lasting(w, s->block, bytes, begin)) {
		/* A small blob at the very end of what is committed. */
		bytes = proc->head_bytes;
		hf_barrier(bytes);
		if (bytes > HF_HOTSPOT_MAX_BLOB_BYTES || hf_read_lasting(w, s->block, bytes, begin))
			return 1;
	}
	if (!(hf_hotspot_u32(w, proc->block_used) & 0xff))
		return 1;
	flags = proc->flags;
	s->blob = begin + head;
	s->size_bytes = (__s32)hf_hotspot_u32(w, head + proc->blob_size);
	s->frame_bytes = hf_hotspot_u32(w, head + proc->blob_frame_size) * 8;
	s->complete = (__s32)hf_hotspot_u32(w, head + proc->blob_frame_complete);
	if (flags & HF_HOTSPOT_COMPLETE_I16)
		s->complete = (__s16)s->complete;
	if (flags & HF_HOTSPOT_CODE_ADDRESS)
		s->code_begin = hf_hotspot_u64(w, head + proc->blob_code);
	else
		s->code_begin = s->blob + hf_hotspot_u32(w, head + proc->blob_code);
	s->entry = hf_hotspot_u64(w, head + proc->blob_entry);
	if (!(flags & HF_HOTSPOT_ENTRY_ADDRESS))
		s->entry = s->code_begin + (s->entry & 0xffff);
	s->compile_id = hf_hotspot_u32(w, head + proc->blob_compile_id);
	s->name = hf_hotspot_u64(w, head + proc->blob_name);
	if (pc < s->code_begin || pc - s->blob >= (__u64)s->size_bytes)
		return 1;
	return 0;
}

#define HF_HOTSPOT_TEXT_NMETHOD 0x00646f6874656d6eULL /* "nmethod\0" */
#define HF_HOTSPOT_TEXT_NATIVE 0x6e2065766974616eULL /* "native n[method]" */
#define HF_HOTSPOT_TEXT_VTABLE 0x6320656c62617476ULL /* "vtable c[hunks]" */

enum hf_hotspot_blob_kind {
	HF_HOTSPOT_BLOB_STUB = 0,
	HF_HOTSPOT_BLOB_METHOD = 1,
	HF_HOTSPOT_BLOB_VTABLE = 2,
};

static __always_inline int hf_hotspot_kind(struct hf_walk *w, const struct hf_hotspot_proc *proc)
{
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);

	if (s->name == proc->name_nmethod || s->name == proc->name_native)
		return HF_HOTSPOT_BLOB_METHOD;
	if (s->name == proc->name_vtable)
		return HF_HOTSPOT_BLOB_VTABLE;
	if (hf_read_lasting(w, &s->name_text, 8, s->name))
		return HF_HOTSPOT_BLOB_STUB;
	if (s->name_text == HF_HOTSPOT_TEXT_NMETHOD || s->name_text == HF_HOTSPOT_TEXT_NATIVE)
		return HF_HOTSPOT_BLOB_METHOD;
	if (s->name_text == HF_HOTSPOT_TEXT_VTABLE)
		return HF_HOTSPOT_BLOB_VTABLE;
	return HF_HOTSPOT_BLOB_STUB;
}

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

/* Does a return address stand behind a direct call into this blob, to somewhere at
 * or below the pc? */
HF_STEP_FN int hf_hotspot_calls(struct hf_walk *w, __u64 ra)
{
	struct hf_hotspot_scratch *s;
	__u64 target;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	if (ra < 4096 || ra >> 47 || hf_read_lasting(w, s->code, 8, ra - 8))
		return 0;
	if (s->code[3] == 0xe8) {
		target = ra + (__s64) * (__s32 *)(s->code + 4);
		if (target >= s->code_begin && target <= w->pc)
			return 1;
	}
	return 0;
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
	if ((b[i] & 0xf0) == 0x40)
		i++;
	if (b[i] == 0x0f)
		i++;
	return (b[i + 1] & 7) == 4 && b[i + 1] < 0xc0 && b[i + 2] == 0x24;
}

/* A leaf in an adapter between the interpreter and compiled code, which has no
 * frame: 0 with the caller in scratch, 1 if the blob is none.
 *
 *   i2c:  mov rax, [rsp]; mov r11, rsp; [sub rsp, n]; and rsp, -16; push rax; ...; jmp r11
 *   c2i:  ...; pop rax; mov r13, rsp; sub rsp, n; mov [rsp], rax;
 *         moves by way of [rsp + d]; mov rcx, [rbx + d]; jmp rcx
 *
 * The return address is on top of the stack but from `sub` to `push`, and from
 * `pop` to `mov [rsp]`. Compiled callers of c2i, which are left by their size, need
 * the stack pointer that they had: r13 from then on. (gen_i2c_adapter,
 * gen_c2i_adapter in cpu/x86/sharedRuntime_x86_64.cpp @ jdk-17+35.) */
HF_STEP_FN int hf_hotspot_adapter(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 sp, ra, cfa, r13, at, push;
	__u8 *i2c, *b;

	if (!w)
		return 1;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 1;
	s = HF_HOTSPOT_SCRATCH(w);
	i2c = s->code;
	b = s->code + 24;
	if (hf_read_lasting(w, i2c, 16, s->code_begin) || *(__u32 *)i2c != 0x24048b48 ||
	    hf_read_lasting(w, s->code + 16, 24, w->pc - 8))
		return 1;
	sp = w->sp;
	r13 = w->regs[HF_HOTSPOT_R13];
	at = w->pc - s->code_begin;
	push = 11;
	if (i2c[7] == 0x48 && i2c[8] == 0x83 && i2c[9] == 0xec)
		push = 15;
	else if (i2c[7] == 0x48 && i2c[8] == 0x81 && i2c[9] == 0xec)
		push = 18;
	ra = w->regs[HF_HOTSPOT_RAX];
	cfa = sp;
	if (at > 7 && at <= push) {
		cfa = w->regs[HF_HOTSPOT_R11] + 8;
	} else if (b[-1] == 0x58 && (b[0] == 0x4c || b[0] == 0x49)) {
		/* pop rax; at mov r13, rsp */
	} else if (b[-4] == 0x58 && (b[-3] == 0x4c || b[-3] == 0x49) && b[0] == 0x48) {
		/* pop rax; mov r13, rsp; at sub rsp, n */
	} else if (*(__u32 *)b == 0x24048948 && at > push) {
		cfa = r13;
	} else {
		if (hf_hotspot_stack(w, sp))
			return 1;
		ra = s->value;
		cfa = sp + 8;
		if (at > push && hf_hotspot_is_c2i_end(b) && r13 > sp &&
		    r13 - sp <= HF_HOTSPOT_MAX_STUB_BYTES && !(r13 & 7))
			cfa = r13;
	}
	if (!hf_hotspot_is_code(proc, ra) || cfa < sp || cfa - sp > HF_HOTSPOT_MAX_STUB_BYTES)
		return 1;
	s->cfa = cfa;
	s->ra = ra;
	s->fp = w->fp;
	return 0;
}

/* The stated frame, a frame by rbp, none, or rbp just pushed. */
HF_STEP_FN int hf_hotspot_stub_leaf(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 fp, sp, cfa, ra;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	sp = w->sp;
	fp = w->fp;
	if (s->frame_bytes < 16 && !hf_hotspot_adapter(w)) {
		/* The walk wants to see the stack pointer move. */
		if (s->cfa == sp)
			w->sp -= 8;
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	}
	s->is_found = 0;
	if (s->frame_bytes >= 16 && s->frame_bytes < 65536)
		hf_hotspot_try(w, sp + s->frame_bytes, 1);
	if (fp >= sp && fp - sp < HF_HOTSPOT_MAX_STUB_BYTES)
		hf_hotspot_try(w, fp + 16, 1);
	hf_hotspot_try(w, sp + 8, 0);
	hf_hotspot_try(w, sp + 16, 1);
	if (s->is_found)
		return hf_hotspot_move(w, s->cfa, s->ra, s->fp);
	/* An adapter of a form that is not known, with the return address in rax. */
	ra = w->regs[HF_HOTSPOT_RAX];
	if (hf_hotspot_is_code(proc, ra)) {
		cfa = w->regs[HF_HOTSPOT_R13];
		if (cfa <= sp || cfa - sp > HF_HOTSPOT_MAX_FRAME_BYTES || (cfa & 7))
			cfa = sp + 8;
		return hf_hotspot_move(w, cfa, ra, fp);
	}
	return hf_hotspot_cut(w, HF_CUT_NO_UNWIND_INFO);
}

/* Stubs, adapters, intrinsics: whatever is no method. */
HF_STEP_FN int hf_hotspot_stub(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 fp, sp, cfa;

	if (!w)
		return HF_STEP_ENDED;
	proc = hf_hotspot_table(w);
	if (!proc)
		return HF_STEP_ENDED;
	s = HF_HOTSPOT_SCRATCH(w);
	if (hf_hotspot_push_blob(w, HF_HOTSPOT_STUB, w->pc))
		return hf_hotspot_cut(w, HF_CUT_TOO_DEEP);
	if (hf_hotspot_is_leaf(w))
		return hf_hotspot_stub_leaf(w);
	/* It called something, so that its frame stands. */
	sp = w->sp;
	cfa = w->fp + 16;
	if (s->frame_bytes >= 16 && s->frame_bytes < HF_HOTSPOT_MAX_FRAME_BYTES)
		cfa = sp + s->frame_bytes;
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

HF_STEP_FN int hf_step_hotspot(struct hf_walk *w)
{
	const struct hf_hotspot_proc *proc;
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
	/* A deoptimised frame returns to where no call stands before. */
	if (hf_hotspot_find_blob(w, lookup))
		return hf_hotspot_cut(w, HF_CUT_BAD_UNWIND_INFO);
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
