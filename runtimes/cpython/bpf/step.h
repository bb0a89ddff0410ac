/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * CPython's step: the Python frames that one run of the evaluation loop has.
 *
 * Called where the pc is in the evaluation loop. Emits the Python frames of
 * this run of the loop, one a call, innermost first, then leaves the loop's own
 * native frame to the native rules. So each Python frame stands where its
 * evaluation stands between native frames.
 *
 * The innermost frame is found once a walk, from the thread pointer or the
 * lock's holder (hf_cpython_proc.chains); from there on each frame names the next.
 * Where that interpreter has no more frames and the holder was not what the key
 * leads to, the rest are those of the key's: one interpreter called another. Where the
 * loop has not linked its frame yet, or has unlinked it, no frame is its own
 * (gaps): without this, its callers' frames would all stand one run too far
 * inside.
 *
 * Where code objects are made and freed all the time, and in a process's first seconds, the step
 * tells what names a code object when it meets it (hf_cpython_tell).
 *
 * Cost: up to eight reads a walk; two reads a Python frame, three where its thread has a copy of
 * the bytecode; three reads a name told.
 *
 * User half: ../src/process.rs, ../src/resolve.rs.
 */
#ifndef HF_CPYTHON_STEP_H
#define HF_CPYTHON_STEP_H

#include "cpython/bpf/abi.h"

/* The walk's word of this runtime: the next frame, or one of these. */
#define HF_CPYTHON_STATE 0
#define HF_CPYTHON_UNKNOWN 0 /* not looked for yet */
#define HF_CPYTHON_NO_MORE 2
/* Or'ed to it: the loop's frames have begun to be emitted; no other chain is left. */
#define HF_CPYTHON_WITHIN 1
#define HF_CPYTHON_LAST 4
/* And where the stack pointer was when a run of the loop had all of its frames: a
 * walk that misses rows there comes again. */
#define HF_CPYTHON_DONE_AT 1

/* The frame and the code object, in w->scratch. */
#define HF_CPYTHON_FRAME_AT 0
#define HF_CPYTHON_CODE_AT HF_CPYTHON_BLOCK_BYTES
#define HF_CPYTHON_TOLD_AT (2 * HF_CPYTHON_BLOCK_BYTES)
_Static_assert(HF_CPYTHON_TOLD_AT + sizeof(struct hf_cpython_told) <= HF_SCRATCH_BYTES,
	       "it fits the scratch");

/* The aligned word at `off` of the block that begins at `at` in scratch. */
static __always_inline __u64 hf_cpython_word(struct hf_walk *w, __u32 at, __u32 off)
{
	hf_barrier(off);
	off &= HF_CPYTHON_BLOCK_BYTES - 8;
	return *(__u64 *)(w->scratch + at + off);
}

static __always_inline __u8 hf_cpython_byte(struct hf_walk *w, __u32 at, __u32 off)
{
	hf_barrier(off);
	off &= HF_CPYTHON_BLOCK_BYTES - 1;
	return w->scratch[at + off];
}

/* Reads `bytes` (at most a block) to `at` in scratch; 0 if all were read. */
static __always_inline int hf_cpython_block(struct hf_walk *w, __u32 at, __u32 bytes, __u64 addr)
{
	hf_barrier(bytes);
	bytes &= 2 * HF_CPYTHON_BLOCK_BYTES - 1;
	if (bytes == 0 || bytes > HF_CPYTHON_BLOCK_BYTES)
		return 1;
	return hf_read_user(w, w->scratch + at, bytes, addr);
}

/* The word at `addr`; 0: unreadable. */
static __always_inline __u64 hf_cpython_pointer(struct hf_walk *w, __u64 addr)
{
	if (hf_read_user(w, w->scratch, 8, addr))
		return 0;
	return *(__u64 *)w->scratch;
}

/* Bytes of the loop's native frame, of a build without optimisation too. */
#define HF_CPYTHON_LOOP_BYTES 4096

/* Is the state of the lock's holder this thread's? */
static __always_inline int hf_cpython_is_own(struct hf_walk *w,
					     const struct hf_cpython_chain *chain, __u64 state)
{
	if (chain->stack_off)
		return hf_cpython_pointer(w, state + chain->stack_off) - w->sp <
		       HF_CPYTHON_LOOP_BYTES;
	return hf_cpython_pointer(w, state + (__s64)chain->owner_off) == w->tp;
}

/* The thread's innermost frame by the first chain from `first` on that leads to one, with
 * HF_CPYTHON_LAST if that is no lock's holder; 0: none does. With `is_known` the holder's state is
 * taken for this thread's. */
static __always_inline __u64 hf_cpython_innermost(struct hf_walk *w,
						  const struct hf_cpython_proc *proc, __u32 first,
						  int is_known)
{
	__u64 value;
	__u32 n;
	int i, chain;

	if (w->tp == 0)
		return 0;
	for (chain = 0; chain < HF_CPYTHON_MAX_CHAINS; chain++) {
		n = proc->chains[chain].n;
		if (n == 0 || (__u32)chain < first)
			continue;
		value = w->tp;
		if (proc->chains[chain].holder) {
			value = hf_cpython_pointer(w, proc->chains[chain].holder);
			if (value == 0)
				continue;
			if (!is_known && !hf_cpython_is_own(w, &proc->chains[chain], value))
				continue;
		}
		for (i = 0; i < HF_CPYTHON_MAX_READS; i++) {
			if ((__u32)i >= n)
				break;
			value =
			    hf_cpython_pointer(w, value + (__s64)proc->chains[chain].offsets[i]);
			if (value == 0)
				break;
		}
		if (value && !(value & 7))
			return value | (proc->chains[chain].holder ? 0 : HF_CPYTHON_LAST);
	}
	return 0;
}

enum hf_cpython_where {
	HF_CPYTHON_LINKED,
	HF_CPYTHON_IN_GAP,
	HF_CPYTHON_IN_LIMBO,
};

/* Is the loop at a pc at which no frame is its own? */
static __always_inline int hf_cpython_where(const struct hf_cpython_proc *proc, __u64 pc)
{
	__u32 n = proc->n_gaps;
	int i;

	for (i = 0; i < HF_CPYTHON_MAX_GAPS; i++) {
		if ((__u32)i >= n)
			break;
		if (pc - proc->gaps[i].start < proc->gaps[i].bytes)
			return proc->gaps[i].is_limbo ? HF_CPYTHON_IN_LIMBO : HF_CPYTHON_IN_GAP;
	}
	return HF_CPYTHON_LINKED;
}

/* Reads the code object and makes its cookie; 0: unreadable. Twin: `cookie` in
 * ../src/resolve.rs. */
static __always_inline __u64 hf_cpython_cookie(struct hf_walk *w,
					       const struct hf_cpython_proc *proc, __u64 code)
{
	__u64 cookie = HF_HASH_SEED;
	int i;

	if (hf_cpython_block(w, HF_CPYTHON_CODE_AT, proc->code_bytes, code))
		return 0;
	for (i = 0; i < HF_CPYTHON_COOKIE_WORDS; i++)
		cookie =
		    hf_mix(cookie, hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->cookie_offs[i]));
	return cookie & ((1ULL << HF_FRAME_N_DATA_SHIFT) - 1);
}

/* Where the bytecode begins that the frame runs: in the code object, which is in scratch, or a copy
 * that its thread has (struct _PyCodeArray: a count, pointers). What is read takes the place of the
 * frame's first word. */
static __always_inline __u64 hf_cpython_bytecode(struct hf_walk *w,
						 const struct hf_cpython_proc *proc, __u64 code)
{
	__u64 copy = 0;

	if (proc->copies_off) {
		copy = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->copy_off);
		if (proc->copy_off & 4)
			copy >>= 32;
		copy = (__u32)copy;
	}
	if (copy == 0)
		return code + proc->bytecode_off;
	return hf_cpython_pointer(w, hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->copies_off) + 8 +
					 copy * 8);
}

static __always_inline __u64 hf_cpython_position(struct hf_walk *w,
						 const struct hf_cpython_proc *proc, __u64 code)
{
	__u64 word = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->position_off);
	__u64 position;

	if (proc->position_is_int) {
		if (proc->position_off & 4)
			word >>= 32;
		/* -1 before the first. */
		position = proc->position_shift ? ((__u32)word + 2) >> 1 : (__u32)word + 1;
		position = (__u32)position;
	} else {
		position = word - hf_cpython_bytecode(w, proc, code) + 2;
		if (position >> 22)
			return HF_CPYTHON_NO_POSITION;
		position >>= 1;
	}
	return position < HF_CPYTHON_NO_POSITION ? position : HF_CPYTHON_NO_POSITION;
}

/* A code object is told again after this time, for its memory may be another's with the same
 * cookie: 1.07 s. */
#define HF_CPYTHON_TOLD_AGAIN_SHIFT 30

/* Tells what names the code object that is in scratch, unless that was done of late. */
HF_STEP_FN int hf_cpython_tell(struct hf_walk *w, __u64 code, __u64 cookie)
{
	const struct hf_cpython_proc *proc;
	struct hf_cpython_told *told;
	__u64 number, word;

	if (!w)
		return 0;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc)
		return 0;
	number =
	    hf_mix(hf_mix(hf_mix(w->mm, code), cookie), w->t0_ns >> HF_CPYTHON_TOLD_AGAIN_SHIFT);
	/* Three reads of cold pages, and the record is as long as two more. */
	if (!hf_begin_to_tell(w, number, 5))
		return 0;
	told = (struct hf_cpython_told *)(w->scratch + HF_CPYTHON_TOLD_AT);
	word = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->name_off);
	if (hf_read_user(w, told->name, sizeof(told->name), word))
		return 0;
	/* The rest is not missed. */
	word = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->file_off);
	told->has_file = !hf_read_user(w, told->file, sizeof(told->file), word);
	word = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->lines_off);
	told->has_lines = !hf_read_user(w, told->lines, sizeof(told->lines), word);
	word = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->first_line_off);
	if (proc->first_line_off & 4)
		word >>= 32;
	told->first_line = (__u32)word;
	told->reserved = 0;
	hf_told_head(w, &told->head, HF_RUNTIME_CPYTHON, code, cookie);
	return hf_tell(w, told, sizeof(*told));
}

/* The run of the loop has all of its frames; the caller's begin with `next`. */
static __always_inline int hf_cpython_done(struct hf_walk *w, __u64 next)
{
	w->runtime_state[HF_CPYTHON_STATE] = next;
	w->runtime_state[HF_CPYTHON_DONE_AT] = w->sp;
	return HF_STEP_NATIVE;
}

/* The rest of the walk is native. */
static __always_inline int hf_cpython_lost(struct hf_walk *w)
{
	w->sample.flags |= HF_SAMPLE_RUNTIME_LOST;
	w->runtime_state[HF_CPYTHON_STATE] = HF_CPYTHON_NO_MORE | HF_CPYTHON_LAST;
	return HF_STEP_NATIVE;
}

HF_STEP_FN int hf_step_cpython(struct hf_walk *w)
{
	const struct hf_cpython_proc *proc;
	__u64 state, frame, code, cookie, previous, done = 0;
	__u32 first = 0;
	__u8 mark;
	int where;

	/* The verifier takes nothing for granted of a global function's argument. */
	if (!w)
		return HF_STEP_NATIVE;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc)
		return HF_STEP_NATIVE;
	state = w->runtime_state[HF_CPYTHON_STATE];
	if (state != HF_CPYTHON_UNKNOWN && w->runtime_state[HF_CPYTHON_DONE_AT] == w->sp)
		return HF_STEP_NATIVE;
	/* A run of the loop of which the thread's state knows nothing: that of another
	 * interpreter's, which called this one. The key's, if that was not it. */
	if (state & HF_CPYTHON_NO_MORE) {
		if ((state & HF_CPYTHON_LAST) || w->late)
			return hf_cpython_lost(w);
		done = hf_cpython_innermost(w, proc, 0, 1);
		first = 1;
		state = HF_CPYTHON_UNKNOWN;
	}
	if (!(state & HF_CPYTHON_WITHIN)) {
		where = HF_CPYTHON_LINKED;
		if (!proc->gaps_at_leaf)
			where = hf_cpython_where(proc, w->pc - w->pc_is_return);
		if (where == HF_CPYTHON_IN_GAP)
			return HF_STEP_NATIVE;
		if (where == HF_CPYTHON_IN_LIMBO)
			return hf_cpython_lost(w);
		if (state == HF_CPYTHON_UNKNOWN) {
			state = w->late ? 0 : hf_cpython_innermost(w, proc, first, 0);
			if (state == 0 || ((state ^ done) & ~7ULL) == 0)
				return hf_cpython_lost(w);
			/* It is the caller's, whose run of the loop comes next. */
			if (proc->gaps_at_leaf &&
			    hf_cpython_where(proc, w->regs[HF_REG_PC(w)]) == HF_CPYTHON_IN_GAP)
				return hf_cpython_done(w, state);
		}
	}
	/* Frames lie in memory that is used anew with every call. */
	frame = state & ~7ULL;
	if (w->late || hf_cpython_block(w, HF_CPYTHON_FRAME_AT, proc->frame_bytes, frame))
		return hf_cpython_lost(w);
	previous = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->previous_off) & ~7ULL;
	if (previous == 0)
		previous = HF_CPYTHON_NO_MORE;
	previous |= state & HF_CPYTHON_LAST;
	mark = hf_cpython_byte(w, HF_CPYTHON_FRAME_AT, proc->mark_off);
	if (proc->activation == HF_CPYTHON_SHIM && mark == proc->mark)
		return hf_cpython_done(w, previous);
	if (proc->skip_mark == 0 || mark != proc->skip_mark) {
		/* From 3.14 on the low bits are a tag. */
		code = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->code_off) & ~7ULL;
		cookie = hf_cpython_cookie(w, proc, code);
		if (hf_push_dynamic(w, HF_RUNTIME_CPYTHON, 0, cookie, 1,
				    code >> 3 << HF_CPYTHON_POSITION_BITS |
					hf_cpython_position(w, proc, code),
				    0, 0)) {
			hf_cut(w, HF_CUT_TOO_DEEP);
			return HF_STEP_ENDED;
		}
		if (proc->tells && cookie)
			hf_cpython_tell(w, code, cookie);
	}
	if (proc->activation == HF_CPYTHON_ONE || (previous & HF_CPYTHON_NO_MORE) ||
	    (proc->activation == HF_CPYTHON_ENTRY && mark == proc->mark))
		return hf_cpython_done(w, previous);
	w->runtime_state[HF_CPYTHON_STATE] = previous | HF_CPYTHON_WITHIN;
	return HF_STEP_AGAIN;
}

#endif /* HF_CPYTHON_STEP_H */
