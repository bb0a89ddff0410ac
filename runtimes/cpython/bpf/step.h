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
 * lock's holder (hf_cpython_proc.chains); from there on each frame names the next. From 3.10
 * to 3.12 the state leads into the native frame of the run it is in, so a state that still tells of
 * the stack before (greenlets, between slp_switch and g_switchstack_success) is found out; other
 * versions have no such pointer, and it is not. Where that interpreter has no more frames and the
 * holder was not what the key leads to, the rest are those of the key's: one interpreter called
 * another. From 3.12 on the states of all interpreters are looked through for the frames of such a
 * run of the loop (hf_cpython_search). Where the loop has not linked its frame yet, or has unlinked
 * it, no frame is its own (gaps): without this, its callers' frames would all stand one run too far
 * inside.
 *
 * A frame of a generator that waits while an exception is thrown into another one has no run of its
 * own, and is the next one's (hf_cpython_ends).
 *
 * Where code objects are made and freed all the time, and in a process's first seconds, the step
 * tells what names a code object when it meets it (hf_cpython_tell).
 *
 * Cost: up to nine reads a walk; two reads a Python frame, three where its thread has a copy of
 * the bytecode; in 3.11 one a run of the loop more, and another where a generator entered it; three
 * reads a name told. Where interpreters call each other from 3.12 on, one read more a frame of
 * those that called, two an interpreter and one a thread's state, for each of its runs of the loop.
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
/* And where the loop's own frame lay of the run that was done last; above it, how often other
 * interpreters were looked at for frames. Word 2 is another runtime's. */
#define HF_CPYTHON_LOOKED 3
#define HF_CPYTHON_LOOKED_SHIFT 48
/* In 3.11, which does not look there, what the run of the loop has of its own whose frames come
 * next (struct _PyCFrame). */
#define HF_CPYTHON_CFRAME HF_CPYTHON_LOOKED
/* Looks at a state, or at a frame of it, in a walk. A thousand take some 0.2 ms. */
#define HF_CPYTHON_MAX_LOOKS 1024
/* The next frame is being looked for: no frame is at this address. */
#define HF_CPYTHON_LOOKING (HF_CPYTHON_WITHIN | HF_CPYTHON_NO_MORE | HF_CPYTHON_LAST)
_Static_assert(HF_RUNTIME_HOTSPOT == 2 && HF_CPYTHON_LOOKED < HF_RUNTIME_STATE_WORDS,
	       "runtimes' words are their own");
_Static_assert(HF_CPYTHON_MAX_LOOKS < HF_MAX_STEPS, "a walk does not end by looking");

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

/* Where the native frame ends whose pc is the walk's: its caller's stack pointer. 0: its rule does
 * not say. */
static __always_inline __u64 hf_cpython_frame_end(struct hf_walk *w)
{
	switch (w->row.kind & HF_RULE_KIND_MASK) {
	case HF_RULE_SP:
		return w->sp + (__s64)w->row.cfa;
	case HF_RULE_FP:
		return w->fp + (__s64)w->row.cfa;
	default:
		return 0;
	}
}

/* Does the pointer at `at` lead into the loop's native frame, `bytes` long? */
static __always_inline int hf_cpython_leads_within(struct hf_walk *w, __u64 at, __u64 bytes)
{
	return hf_cpython_pointer(w, at) - w->sp < bytes;
}

/* No state that was found is of the stack that is walked. */
#define HF_CPYTHON_OF_ANOTHER_STACK 1

/* The thread's innermost frame by the first chain from `first` on that leads to one, with
 * HF_CPYTHON_LAST if that is no lock's holder; 0: none does. With `is_known` the holder's state is
 * taken for this thread's. */
HF_STEP_FN __u64 hf_cpython_innermost(struct hf_walk *w, __u32 first, __u32 is_known)
{
	const struct hf_cpython_proc *proc;
	__u64 value, stack, bytes = HF_CPYTHON_LOOP_BYTES, end;
	__u32 n, n_to_state, stack_off;
	int i, chain, is_own, is_checked = 0;
	__s64 offset;

	if (!w)
		return 0;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc || w->tp == 0)
		return 0;
	for (chain = 0; chain < HF_CPYTHON_MAX_CHAINS; chain++) {
		n = proc->chains[chain].n;
		if (n == 0 || (__u32)chain < first)
			continue;
		stack_off = proc->chains[chain].stack_off;
		n_to_state = proc->chains[chain].n_to_state;
		/* Where rows are missing, and so the native rules will, too, by its size. */
		if (stack_off && !is_checked) {
			is_checked = 1;
			if (!hf_find_own_row(w)) {
				end = hf_cpython_frame_end(w) - w->sp;
				if (end < HF_CPYTHON_LOOP_BYTES)
					bytes = end;
			}
		}
		value = w->tp;
		if (proc->chains[chain].holder) {
			value = hf_cpython_pointer(w, proc->chains[chain].holder);
			if (value == 0)
				continue;
			if (is_known)
				is_own = 1;
			else if (stack_off)
				is_own = hf_cpython_leads_within(w, value + stack_off, bytes);
			else
				is_own =
				    hf_cpython_pointer(
					w, value + (__s64)proc->chains[chain].owner_off) == w->tp;
			if (!is_own)
				continue;
		}
		/* Of the state, on the way or beside it. */
		stack = 0;
		for (i = 0; i < HF_CPYTHON_MAX_READS; i++) {
			if ((__u32)i >= n)
				break;
			offset = proc->chains[chain].offsets[i];
			if (stack_off && (__u32)i == n_to_state && offset != stack_off)
				stack = hf_cpython_pointer(w, value + stack_off);
			value = hf_cpython_pointer(w, value + offset);
			if (value == 0)
				break;
			if ((__u32)i == n_to_state && stack == 0)
				stack = value;
		}
		if (value == 0 || (value & 7))
			continue;
		if (proc->owner_off)
			w->runtime_state[HF_CPYTHON_CFRAME] =
			    stack & ((1ULL << HF_CPYTHON_LOOKED_SHIFT) - 1);
		if (proc->chains[chain].holder)
			return value;
		if (stack_off && stack - w->sp >= bytes)
			return HF_CPYTHON_OF_ANOTHER_STACK;
		return value | HF_CPYTHON_LAST;
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

/*
 * Is what the frame runs, whose code object is in scratch, the interpreter's own? Where the
 * call of a class is specialised into one of its __init__, a frame stands between the caller's and
 * that one's, in which the interpreter looks at what __init__ returns; Python's own tracebacks
 * leave it out. Its code has one object for its name and its file, and begins on no line
 * (_Py_MakeShimCode, Objects/codeobject.c @ v3.12.1; _Py_InitCleanup, Python/specialize.c @
 * v3.13.0, v3.14.0).
 */
static __always_inline int hf_cpython_is_interpreters_own(struct hf_walk *w,
							  const struct hf_cpython_proc *proc)
{
	__u64 name = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->name_off), line;

	if (name == 0 || name != hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->file_off))
		return 0;
	line = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->first_line_off);
	if (proc->first_line_off & 4)
		line >>= 32;
	return (__s32)line <= 0;
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
static __always_inline int hf_cpython_lost(struct hf_walk *w, __u8 why)
{
	hf_lose(w, HF_RUNTIME_CPYTHON, why);
	w->runtime_state[HF_CPYTHON_STATE] = HF_CPYTHON_NO_MORE | HF_CPYTHON_LAST;
	w->runtime_state[HF_CPYTHON_LOOKED] = (__u64)HF_CPYTHON_MAX_LOOKS
					      << HF_CPYTHON_LOOKED_SHIFT;
	return HF_STEP_NATIVE;
}

/* Its loop's own frames are native. */
static __always_inline int hf_cpython_without_step(struct hf_walk *w)
{
	hf_lose(w, HF_RUNTIME_CPYTHON, HF_CPYTHON_LOST_STEP_NOT_LOADED);
	return HF_STEP_NATIVE;
}

/* A search under way, in w->scratch, which stays as it is while the same registers come again. */
struct hf_cpython_search {
	/* Where the loop's native frame ends. */
	__u64 end;
	/* How many interpreters were begun with, and the last one; the next state of it. */
	__u64 n_interpreters, interpreter, thread;
	/* A frame of a state, and the innermost one of the same run of the loop. */
	__u64 frame, run;
};
_Static_assert(HF_CPYTHON_TOLD_AT + sizeof(struct hf_cpython_search) <= HF_SCRATCH_BYTES,
	       "it fits the scratch");

/*
 * Looks for the frames of a run of the loop of which the thread's state knows nothing: another
 * interpreter's, which called the one that runs. Each interpreter has a state of its own for the
 * thread. One look a call: at an interpreter, a state, or a frame.
 *
 * From 3.12 on a run's outermost frame is the loop's own, a variable of that function (entry_frame,
 * Python/ceval.c @ v3.12.1, v3.13.0; entry, Python/ceval.c @ v3.14.0). So it lies in the native
 * frame of the run that it belongs to and in no other: which state it was found by does not matter,
 * and what another thread changes meanwhile, or left behind, is not taken.
 */
HF_STEP_FN int hf_cpython_search(struct hf_walk *w)
{
	const struct hf_cpython_proc *proc;
	struct hf_cpython_search *search;
	__u64 frame, state;
	__u8 mark;

	if (!w)
		return HF_STEP_NATIVE;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc)
		return HF_STEP_NATIVE;
	search = (struct hf_cpython_search *)(w->scratch + HF_CPYTHON_TOLD_AT);
	if (w->late)
		return hf_cpython_lost(w, HF_CPYTHON_LOST_LATE);
	if (w->runtime_state[HF_CPYTHON_LOOKED] >> HF_CPYTHON_LOOKED_SHIFT >= HF_CPYTHON_MAX_LOOKS)
		return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_INTERPRETER);
	state = w->runtime_state[HF_CPYTHON_STATE];
	if (state != HF_CPYTHON_LOOKING) {
		/* The native rules will miss it too. */
		if (hf_find_own_row(w))
			return HF_STEP_NATIVE;
		search->end = hf_cpython_frame_end(w);
		search->n_interpreters = 0;
		search->interpreter = 0;
		search->thread = 0;
		/* The caller's of what was found last, mostly. */
		search->run = state & HF_CPYTHON_NO_MORE ? 0 : state & ~7ULL;
		search->frame = search->run;
		w->runtime_state[HF_CPYTHON_STATE] = HF_CPYTHON_LOOKING;
	}
	w->runtime_state[HF_CPYTHON_LOOKED] += 1ULL << HF_CPYTHON_LOOKED_SHIFT;
	frame = search->frame;
	if (frame) {
		search->frame = 0;
		if (hf_cpython_block(w, HF_CPYTHON_FRAME_AT, proc->frame_bytes, frame))
			return HF_STEP_AGAIN;
		mark = hf_cpython_byte(w, HF_CPYTHON_FRAME_AT, proc->mark_off);
		state = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->previous_off) & ~7ULL;
		if (mark == proc->mark) {
			/* The runs of one state lie in the order in which they were called. */
			if (frame >= search->end)
				return HF_STEP_AGAIN;
			if (frame >= w->sp) {
				w->runtime_state[HF_CPYTHON_STATE] =
				    search->run | HF_CPYTHON_WITHIN | HF_CPYTHON_LAST;
				return HF_STEP_AGAIN;
			}
			search->run = state;
		}
		search->frame = state;
		return HF_STEP_AGAIN;
	}
	state = search->thread;
	if (state) {
		search->thread = 0;
		if (hf_cpython_block(w, HF_CPYTHON_CODE_AT, HF_CPYTHON_BLOCK_BYTES, state))
			return HF_STEP_AGAIN;
		search->thread = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->thread_next_off);
		frame = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->thread_frame_off);
		/* 3.12 runs the state that an interpreter has, whichever thread made it
		 * (_run_script_in_interpreter, Modules/_xxsubinterpretersmodule.c @ v3.12.1); there
		 * it leads into the native frame of its innermost run (cframe). */
		if (hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->thread_id_off) != w->tp &&
		    (!proc->frame_is_behind || frame < w->sp || frame >= search->end))
			return HF_STEP_AGAIN;
		if (frame && proc->frame_is_behind)
			frame = hf_cpython_pointer(w, frame);
		search->frame = frame & ~7ULL;
		search->run = search->frame;
		return HF_STEP_AGAIN;
	}
	/* The main one first: mostly it is that which called, and it is the last of the list. */
	switch (search->n_interpreters++) {
	case 0:
		state = hf_cpython_pointer(w, proc->interpreters + 8);
		break;
	case 1:
		state = hf_cpython_pointer(w, proc->interpreters);
		break;
	default:
		state = hf_cpython_pointer(w, search->interpreter + proc->interpreter_next_off);
	}
	if (state == 0)
		return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_INTERPRETER);
	search->interpreter = state;
	search->thread = hf_cpython_pointer(w, state + proc->interpreter_threads_off);
	return HF_STEP_AGAIN;
}

/* Words of the stack in which a call of jitted code is looked for: an instruction of Python's saves
 * one or two registers there, or has variables. Most have those that call with arguments, which
 * they lay out there (STACKREFS_TO_PYOBJECTS, Python/ceval_macros.h @ v3.14.0: eleven words), 19 in
 * all. */
#define HF_CPYTHON_JIT_WORDS 32
/* What is read of the shim: before the return address of its call, and behind it. */
#define HF_CPYTHON_SHIM_BEFORE 14
#define HF_CPYTHON_SHIM_BYTES 32
/* All of it. */
#define HF_CPYTHON_SHIM_MAX 48
#define HF_CPYTHON_NOT_IN_SHIM 0xff

/* The shim's code from `mov r12, rdi` on: how far its caller's stack pointer is above its call's
 * return address; 0: it is other code. */
static __always_inline __u32 hf_cpython_shim_bytes(const __u8 *at)
{
	/* mov r12, rdi; mov r13, rsi; mov r14, rdx; call rel32 */
	if (*(__u64 *)at != 0x8949f58949fc8949ULL || at[8] != 0xd6 || at[9] != 0xe8)
		return 0;
	at += HF_CPYTHON_SHIM_BEFORE;
	/* pop rbx; pop r12; pop r13; pop r14; pop r15; ret */
	if (*(__u64 *)at == 0x415e415d415c415bULL && at[8] == 0x5f && at[9] == 0xc3)
		return 56;
	/* add rsp, 8; the same; pop rbp; ret */
	if (*(__u32 *)at == 0x08c48348 && *(__u64 *)(at + 4) == 0x415e415d415c415bULL &&
	    at[12] == 0x5f && at[13] == 0x5d && at[14] == 0xc3)
		return 72;
	return 0;
}

/* Does the shim's call return by way of this slot of the stack? How far its caller's stack pointer
 * is above the slot then; 0: it does not. */
HF_STEP_FN __u32 hf_cpython_jit_shim(struct hf_walk *w, __u64 slot)
{
	__u64 ra;
	__u32 up;

	if (!w)
		return 0;
	if (hf_stack_u64(w, slot, &ra) || ra < 4096 || ra >> 47 || hf_find_mapping(w, ra - 1) ||
	    w->last.file_off || w->last.runtime_off != w->runtime_off ||
	    hf_read_lasting(w, w->scratch, HF_CPYTHON_SHIM_BYTES, ra - HF_CPYTHON_SHIM_BEFORE))
		return 0;
	up = hf_cpython_shim_bytes(w->scratch);
	/* What an earlier call left in a variable that has no value yet leads nowhere. The caller
	 * is the loop or, where each instruction is a function, one of these, which is in no
	 * region. */
	if (up == 0 || hf_stack_u64(w, slot + up - 8, &ra) || ra < 4096 || ra >> 47 ||
	    hf_find_mapping(w, ra - 1) || !w->last.file_off)
		return 0;
	return up;
}

/*
 * The shim itself at a sample's pc, which is not rare where it was called: the page with which it
 * begins is new to the CPU. How many words it has on the stack; HF_CPYTHON_NOT_IN_SHIM: it is other
 * code.
 */
HF_STEP_FN __u32 hf_cpython_in_shim(struct hf_walk *w)
{
	const __u8 *at;
	__u32 off, mov, words;

	if (!w)
		return HF_CPYTHON_NOT_IN_SHIM;
	off = w->pc & 4095;
	if (w->pc_is_return || off >= HF_CPYTHON_SHIM_MAX ||
	    hf_read_lasting(w, w->scratch, HF_CPYTHON_SHIM_MAX, w->pc - off))
		return HF_CPYTHON_NOT_IN_SHIM;
	at = w->scratch;
	/* push r15; push r14; push r13; push r12; push rbx */
	if (*(__u64 *)at == 0x5441554156415741ULL && at[8] == 0x53 &&
	    hf_cpython_shim_bytes(at + 9) == 56) {
		mov = 9;
		words = off < 9 ? off / 2 : 5;
		/* push rbp; mov rbp, rsp; the same; push rax */
	} else if (*(__u32 *)at == 0xe5894855 && *(__u64 *)(at + 4) == 0x5441554156415741ULL &&
		   at[12] == 0x53 && at[13] == 0x50 && hf_cpython_shim_bytes(at + 14) == 72) {
		mov = 14;
		words = off == 0 ? 0 : off < 6 ? 1 : off < 13 ? off / 2 - 1 : off == 13 ? 6 : 7;
	} else {
		return HF_CPYTHON_NOT_IN_SHIM;
	}
	/* Behind its call: what it has taken off again. */
	if (off < mov + HF_CPYTHON_SHIM_BEFORE)
		return words;
	off -= mov + HF_CPYTHON_SHIM_BEFORE;
	if (mov == 9)
		return off < 10 ? 5 - (off + 1) / 2 : HF_CPYTHON_NOT_IN_SHIM;
	if (off < 14)
		return off < 4 ? 7 : 6 - (off - 3) / 2;
	return off == 14 ? 0 : HF_CPYTHON_NOT_IN_SHIM;
}

/* Does a frame pointer lead to a caller of the loop, which has its frame above `sp`? */
HF_STEP_FN int hf_cpython_is_fp(struct hf_walk *w, __u64 sp, __u64 fp)
{
	__u64 next, ra;

	if (!w)
		return 0;
	return !(fp & 7) && fp - sp < HF_CPYTHON_LOOP_BYTES && !hf_stack_u64(w, fp, &next) &&
	       !hf_stack_u64(w, fp + 8, &ra) && ra >= 4096 && !(ra >> 47) &&
	       !hf_find_mapping(w, ra - 1) && w->last.file_off;
}

/*
 * Code that the JIT compiler made (3.14): from it to the loop that called it. Its instructions jump
 * from one to the next, also into what was compiled elsewhere, without a frame of their own; the
 * first was called by a shim, which has one (_ENTRY, Tools/jit/shim.c @ v3.14.0). Where the frame
 * pointer is not kept it may be the loop's still, or an instruction has put it on the stack.
 */
HF_STEP_FN int hf_cpython_jitted(struct hf_walk *w)
{
	__u64 slot = 0, ra, fp = 0, word;
	__u32 up = 0, words;
	int i;

	if (!w)
		return HF_STEP_NATIVE;
	words = hf_cpython_in_shim(w);
	for (i = 0; i < HF_CPYTHON_JIT_WORDS; i++) {
		if (words != HF_CPYTHON_NOT_IN_SHIM)
			break;
		slot = w->sp + 8 * i;
		up = hf_cpython_jit_shim(w, slot);
		if (up)
			break;
	}
	/* The native rules may step over the loop: no frames are taken for another run's. */
	if (words != HF_CPYTHON_NOT_IN_SHIM) {
		slot = w->sp;
		up = 8 * (words + 1);
	}
	if (up == 0 || hf_stack_u64(w, slot + up - 8, &ra))
		return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_SHIM);
	if (words != HF_CPYTHON_NOT_IN_SHIM) {
		/* The first word, if the register is another's by now. */
		fp = w->fp;
		if (up > 8 && !hf_cpython_is_fp(w, slot + up, fp) &&
		    hf_stack_u64(w, slot + up - 16, &fp))
			fp = 0;
	} else if (up == 72) {
		if (hf_stack_u64(w, slot + up - 16, &fp))
			fp = 0;
	} else if (hf_cpython_is_fp(w, slot + up, w->fp)) {
		fp = w->fp;
	} else {
		/* Saved by the first that an instruction's code does, or where it is now. */
		for (i = -1; i < 4; i++) {
			word = i < 0 ? slot - 8 : w->sp + 8 * i;
			if (word < w->sp || word >= slot || hf_stack_u64(w, word, &word))
				break;
			if (hf_cpython_is_fp(w, slot + up, word)) {
				fp = word;
				break;
			}
		}
	}
	if (hf_push(w, hf_word(HF_FRAME_USER_PC,
			       (w->pc_is_return ? HF_FRAME_RETURN_ADDR : 0) |
				   (w->heuristic_next ? HF_FRAME_HEURISTIC : 0),
			       w->pc))) {
		hf_cut(w, HF_CUT_TOO_DEEP);
		return HF_STEP_ENDED;
	}
	w->n_frames++;
	w->heuristic_next = 0;
	w->row.kind = HF_RULE_NONE;
	return hf_to_caller(w, slot + up, ra, fp) ? HF_STEP_ENDED : HF_STEP_MOVED;
}

/* Of a frame in 3.11 (enum _frameowner, Include/internal/pycore_frame.h @ v3.11.7), and in 3.10
 * (enum _framestate, Include/cpython/frameobject.h, and Include/opcode.h @ v3.10.13). */
#define HF_CPYTHON_OWNED_BY_GENERATOR 1
#define HF_CPYTHON_EXECUTING 0
#define HF_CPYTHON_YIELD_FROM 72

enum hf_cpython_end {
	/* It is the last frame of this run of the loop. */
	HF_CPYTHON_ENDS,
	HF_CPYTHON_GOES_ON,
	HF_CPYTHON_UNREADABLE,
};

/*
 * Does the run of the loop end with the frame in scratch, behind which is `previous`, and which is
 * where `position` says? Not if the frame is that of a generator which waits while an exception is
 * thrown into another one: it stands in the list for tracebacks only (_gen_throw,
 * Objects/genobject.c @ v3.10.13, v3.11.7; before, such a frame ends the list or is not there, and
 * later a run has a frame of its own).
 */
static __always_inline enum hf_cpython_end hf_cpython_ends(struct hf_walk *w,
							   const struct hf_cpython_proc *proc,
							   __u64 previous, __u64 position)
{
	__u64 word, outer;

	if (proc->owner_off) {
		outer = hf_cpython_pointer(w, w->runtime_state[HF_CPYTHON_CFRAME] +
						  proc->cframe_previous_off);
		if (hf_cpython_byte(w, HF_CPYTHON_FRAME_AT, proc->owner_off) ==
		    HF_CPYTHON_OWNED_BY_GENERATOR) {
			if (outer == 0)
				return HF_CPYTHON_UNREADABLE;
			/* 0 where the thread began. */
			if (hf_read_user(w, w->scratch, 8, outer + proc->cframe_frame_off))
				return HF_CPYTHON_UNREADABLE;
			word = *(__u64 *)w->scratch;
			if (word != previous)
				return HF_CPYTHON_GOES_ON;
		}
		w->runtime_state[HF_CPYTHON_CFRAME] =
		    outer & ((1ULL << HF_CPYTHON_LOOKED_SHIFT) - 1);
		return HF_CPYTHON_ENDS;
	}
	if (proc->generator_off == 0 ||
	    hf_cpython_byte(w, HF_CPYTHON_FRAME_AT, proc->state_off) != HF_CPYTHON_EXECUTING ||
	    hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->generator_off) == 0)
		return HF_CPYTHON_ENDS;
	word = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->depth_off);
	if (proc->depth_off & 4)
		word >>= 32;
	if ((__s32)word <= 0)
		return HF_CPYTHON_ENDS;
	/* What a run that is traced line by line shows too: there it has not come to wait. */
	word = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->text_off);
	if (hf_read_user(w, w->scratch, 1, word + proc->text_bytes_off + 2 * position))
		return HF_CPYTHON_UNREADABLE;
	return w->scratch[0] == HF_CPYTHON_YIELD_FROM ? HF_CPYTHON_GOES_ON : HF_CPYTHON_ENDS;
}

HF_STEP_FN int hf_step_cpython(struct hf_walk *w)
{
	const struct hf_cpython_proc *proc;
	__u64 state, frame, code, cookie, previous, looked, done = 0, position = 0;
	__u32 first = 0;
	__u8 mark;
	int where, is_innermost, is_code = 1;

	/* The verifier takes nothing for granted of a global function's argument. */
	if (!w)
		return HF_STEP_NATIVE;
	proc = hf_mem(w->runtime_off, sizeof(*proc));
	if (!proc)
		return HF_STEP_NATIVE;
	if (!w->last.file_off && proc->has_jit)
		return hf_cpython_jitted(w);
	state = w->runtime_state[HF_CPYTHON_STATE];
	if (state != HF_CPYTHON_UNKNOWN && w->runtime_state[HF_CPYTHON_DONE_AT] == w->sp)
		return HF_STEP_NATIVE;
	if (state == HF_CPYTHON_LOOKING)
		return hf_cpython_search(w);
	is_innermost = state == HF_CPYTHON_UNKNOWN;
	looked = w->runtime_state[HF_CPYTHON_LOOKED];
	/* The last run's own frame lies in this one's native frame or beyond: its frames were this
	 * one's, or another's further out. A thread that went back to a state that it had left for
	 * another interpreter's has that one's run of the loop between its own. */
	if (proc->interpreters && !(state & HF_CPYTHON_WITHIN) &&
	    (looked << 16 >> 16) - w->sp < HF_FP_MAX_DISTANCE)
		return hf_cpython_lost(w, HF_CPYTHON_LOST_OUT_OF_ORDER);
	looked >>= HF_CPYTHON_LOOKED_SHIFT;
	/* A run of the loop of which the thread's state knows nothing: that of another
	 * interpreter's, which called this one. The key's, if that was not it. */
	if (state & HF_CPYTHON_NO_MORE) {
		if (w->late)
			return hf_cpython_lost(w, HF_CPYTHON_LOST_LATE);
		if ((state & HF_CPYTHON_LAST) && !proc->interpreters)
			return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_INTERPRETER);
		if (state & HF_CPYTHON_LAST) {
			looked = 1;
		} else {
			done = hf_cpython_innermost(w, 0, 1);
			first = 1;
			state = HF_CPYTHON_UNKNOWN;
		}
	}
	if (!(state & HF_CPYTHON_WITHIN)) {
		where = HF_CPYTHON_LINKED;
		if (!proc->gaps_at_leaf)
			where = hf_cpython_where(proc, w->pc - w->pc_is_return);
		if (where == HF_CPYTHON_IN_GAP)
			return HF_STEP_NATIVE;
		if (where == HF_CPYTHON_IN_LIMBO)
			return hf_cpython_lost(w, HF_CPYTHON_LOST_LIMBO);
		/* Once one interpreter has called another, no run is taken for this one's because
		 * it is the next. */
		if (looked)
			return hf_cpython_search(w);
		if (state == HF_CPYTHON_UNKNOWN) {
			state = w->late ? 0 : hf_cpython_innermost(w, first, 0);
			/* Another interpreter's, or a stack's whose turn it is before the state
			 * is told. */
			if (state == HF_CPYTHON_OF_ANOTHER_STACK && !proc->interpreters)
				return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_INTERPRETER);
			if (state == HF_CPYTHON_OF_ANOTHER_STACK)
				state = 0;
			if (state == 0 && proc->interpreters && !w->late)
				state = HF_CPYTHON_NO_MORE | HF_CPYTHON_LAST;
			else if (state == 0 || ((state ^ done) & ~7ULL) == 0)
				return hf_cpython_lost(w, w->late ? HF_CPYTHON_LOST_LATE
								  : HF_CPYTHON_LOST_NO_THREAD);
			/* It is the caller's, whose run of the loop comes next. */
			if (proc->gaps_at_leaf &&
			    hf_cpython_where(proc, w->regs[HF_REG_PC(w)]) == HF_CPYTHON_IN_GAP)
				return hf_cpython_done(w, state);
			/* The interpreter that runs has no frames yet. */
			if (state & HF_CPYTHON_NO_MORE)
				return hf_cpython_search(w);
		}
	}
	/* Frames lie in memory that is used anew with every call. */
	frame = state & ~7ULL;
	if (w->late)
		return hf_cpython_lost(w, HF_CPYTHON_LOST_LATE);
	if (hf_cpython_block(w, HF_CPYTHON_FRAME_AT, proc->frame_bytes, frame))
		return hf_cpython_lost(w, HF_CPYTHON_LOST_FRAME_UNREADABLE);
	previous = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->previous_off) & ~7ULL;
	if (previous == 0)
		previous = HF_CPYTHON_NO_MORE;
	previous |= state & HF_CPYTHON_LAST;
	mark = hf_cpython_byte(w, HF_CPYTHON_FRAME_AT, proc->mark_off);
	if (proc->activation == HF_CPYTHON_SHIM && mark == proc->mark) {
		/* From 3.15 on a state has such a frame too, behind all of its runs (base_frame,
		 * Include/internal/pycore_tstate.h): that is none of this run's. */
		if (proc->interpreters && !(state & HF_CPYTHON_WITHIN) &&
		    (previous & HF_CPYTHON_NO_MORE)) {
			w->runtime_state[HF_CPYTHON_STATE] = previous | HF_CPYTHON_LAST;
			return hf_cpython_search(w);
		}
		looked = w->runtime_state[HF_CPYTHON_LOOKED] >> HF_CPYTHON_LOOKED_SHIFT;
		w->runtime_state[HF_CPYTHON_LOOKED] = looked << HF_CPYTHON_LOOKED_SHIFT | frame;
		return hf_cpython_done(w, previous);
	}
	if (proc->skip_mark == 0 || mark != proc->skip_mark) {
		/* From 3.14 on the low bits are a tag. */
		code = hf_cpython_word(w, HF_CPYTHON_FRAME_AT, proc->code_off) & ~7ULL;
		cookie = hf_cpython_cookie(w, proc, code);
		if (cookie && proc->code_type)
			is_code = hf_cpython_word(w, HF_CPYTHON_CODE_AT, proc->type_off) ==
				  proc->code_type;
		/* Where a thread's state was once there may be anything, even what leads to itself.
		 * The innermost frame alone may be one that is being made; it has no name, and that
		 * is counted, for whoever looks where the state is now. */
		if (!cookie || !is_code) {
			if (cookie && !is_innermost)
				return hf_cpython_lost(w, HF_CPYTHON_LOST_NO_CODE);
			hf_lose(w, HF_RUNTIME_CPYTHON, HF_CPYTHON_LOST_NO_CODE);
			cookie = 0;
		}
		if (proc->activation != HF_CPYTHON_SHIM || !cookie ||
		    !hf_cpython_is_interpreters_own(w, proc)) {
			position = hf_cpython_position(w, proc, code);
			if (hf_push_dynamic(w, HF_RUNTIME_CPYTHON, 0, cookie, 1,
					    code >> 3 << HF_CPYTHON_POSITION_BITS | position, 0,
					    0)) {
				hf_cut(w, HF_CUT_TOO_DEEP);
				return HF_STEP_ENDED;
			}
			if (proc->tells && cookie)
				hf_cpython_tell(w, code, cookie);
		}
	}
	if (previous & HF_CPYTHON_NO_MORE)
		return hf_cpython_done(w, previous);
	if (proc->activation == HF_CPYTHON_ONE ||
	    (proc->activation == HF_CPYTHON_ENTRY && mark == proc->mark)) {
		switch (hf_cpython_ends(w, proc, previous & ~7ULL, position)) {
		case HF_CPYTHON_ENDS:
			return hf_cpython_done(w, previous);
		case HF_CPYTHON_UNREADABLE:
			return hf_cpython_lost(w, HF_CPYTHON_LOST_FRAME_UNREADABLE);
		default:
			break;
		}
	}
	w->runtime_state[HF_CPYTHON_STATE] = previous | HF_CPYTHON_WITHIN;
	return HF_STEP_AGAIN;
}

#endif /* HF_CPYTHON_STEP_H */
