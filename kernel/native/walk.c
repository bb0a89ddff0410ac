/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The walk, compiled natively: finishes the walks of slices and runs over
 * recorded processes in tests. Memory is read by a callback; tables by a plain
 * pointer. The text of the walk is kernel/include/hf/walk.h, the one that the
 * kernel half runs.
 *
 * User half: crates/core/src/walk.rs, the only caller.
 */
#include <stddef.h>
#include <string.h>
#include "abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

struct hf_walk;
static int hf_read_user_native(struct hf_walk *w, void *dst, __u32 bytes, __u64 addr, int what);
#define hf_read_user(w, dst, bytes, addr) hf_read_user_native(w, dst, bytes, addr, HF_READ_STACK)
#define hf_read_lasting(w, dst, bytes, addr)                                                       \
	hf_read_user_native(w, dst, bytes, addr, HF_READ_LASTING)
static void hf_hold(struct hf_walk *w, __u64 addr)
{
	__u64 slot;

	(void)hf_read_user(w, &slot, 8, addr);
}
/* Natively nobody waits: only the number of steps bounds a walk. */
static inline __u64 hf_now_ns(void)
{
	return 0;
}

static int hf_send_part(struct hf_walk *w);
/* Natively the process is read itself. */
static int hf_may_tell(struct hf_walk *w, __u32 reads)
{
	(void)w;
	(void)reads;
	return 0;
}
static int hf_tell(struct hf_walk *w, const void *record, __u32 bytes)
{
	(void)w;
	(void)record;
	(void)bytes;
	return 0;
}

#include "hf/mem.h"
#include "hf/walk.h"

_Thread_local struct hf_memory hf_memory;

typedef int (*hf_read_fn)(void *context, void *dst, __u32 bytes, __u64 addr, int what);
static _Thread_local hf_read_fn hf_read;
static _Thread_local void *hf_read_context;
static _Thread_local struct hf_walk hf_native_walk;
static _Thread_local struct hf_cache hf_native_cache;

static struct hf_cache *hf_my_cache(void)
{
	return &hf_native_cache;
}

static int hf_read_user_native(struct hf_walk *w, void *dst, __u32 bytes, __u64 addr, int what)
{
	/* Nothing but what a signal saved is read to there. */
	if (dst == w->sigcontext)
		what = HF_READ_SIGNAL;
	return hf_read(hf_read_context, dst, bytes, addr, what);
}

static _Thread_local struct hf_native_call *hf_call;

static int hf_send_part(struct hf_walk *w)
{
	struct hf_native_call *call = hf_call;

	if (call->n_words + w->n_words > HF_MAX_STACK_WORDS)
		return 1;
	memcpy(call->words + call->n_words, w->words, w->n_words * sizeof(w->words[0]));
	call->n_words += w->n_words;
	return 0;
}

/* Walks on from call->regs. When a table is missing, call->regs holds where
 * the walk stopped, and it can be called again with the same words. */
void hf_walk_native(struct hf_native_call *call, const __u8 *memory, __u64 memory_bytes,
		    hf_read_fn read, void *context)
{
	struct hf_walk *w = &hf_native_walk;
	const struct hf_blob *blob;
	__u32 i;

	if (call->n_words > HF_MAX_STACK_WORDS)
		call->n_words = HF_MAX_STACK_WORDS;
	hf_call = call;

	hf_memory.base = memory;
	hf_memory.bytes = memory_bytes;
	hf_read = read;
	hf_read_context = context;
	/* Entries of another memory must not be found again. */
	memset(&hf_native_cache, 0, sizeof(hf_native_cache));

	w->arm64 = call->arm64;
	memcpy(w->regs, call->regs, sizeof(w->regs));
	hf_begin(w);
	w->regs_valid = call->regs_valid;
	w->pc_is_return = call->pc_is_return;
	w->bare_sp = call->is_bare ? w->sp : 0;
	w->max_frames = call->max_frames;
	w->deadline_ns = ~0ULL;
	w->tp = call->tp;
	w->left_at = call->left_at;
	w->late = call->late;
	memcpy(w->runtime_state, call->runtime_state, sizeof(w->runtime_state));
	w->sample.flags = call->heuristic ? HF_SAMPLE_HEURISTIC : 0;
	w->sample.lost_runtime = call->lost_runtime;
	w->sample.lost_why = call->lost_why;
	/* What was walked before is the first part. */
	for (i = 0; i < call->n_words; i++)
		w->hash = hf_mix(w->hash, call->words[i]);
	w->n_parts = (call->n_words + HF_MAX_WORDS - 1) / HF_MAX_WORDS;
	w->n_frames = call->n_frames;
	blob = hf_mem(call->blob_off, sizeof(*blob));
	if (!blob) {
		hf_miss(w, HF_MISSING_SPACE, w->pc);
	} else {
		w->blob_off = call->blob_off;
		w->blob_id = blob->blob_id;
		w->n_mappings = blob->n_mappings;
		for (i = 0; i < HF_MAX_STEPS; i++)
			if (hf_step(w, &hf_native_cache))
				break;
		if (i == HF_MAX_STEPS)
			hf_cut(w, HF_CUT_TOO_DEEP);
	}
	memcpy(call->regs, w->regs, sizeof(w->regs));
	call->regs[HF_REG_PC(w)] = w->pc;
	call->regs[HF_REG_SP(w)] = w->sp;
	call->regs[HF_REG_FP(w)] = w->fp;
	if (hf_send_part(w))
		hf_cut(w, HF_CUT_TOO_DEEP);
	memcpy(call->runtime_state, w->runtime_state, sizeof(w->runtime_state));
	call->left_at = w->left_at;
	call->n_frames = w->n_frames;
	call->missing = w->missing;
	call->missing_pc = w->missing_pc;
	call->cut = w->cut;
	call->cut_pc = w->cut_pc;
	call->stack_hash = hf_mix(w->hash, w->cut);
	call->regs_valid = w->regs_valid;
	call->pc_is_return = w->pc_is_return;
	call->is_bare = w->bare_sp == w->sp;
	call->heuristic |= !!(w->sample.flags & HF_SAMPLE_HEURISTIC);
	call->lost_runtime = w->sample.lost_runtime;
	call->lost_why = w->sample.lost_why;
}
