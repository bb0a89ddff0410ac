/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where the walk meets runtimes: each has a step of its own, called where the
 * pc lies in one of its regions (hf_mapping.runtime_off).
 *
 *   int hf_step_NAME(struct hf_walk *w)     runtimes/NAME/bpf/step.h
 *
 * In: w->pc, sp, fp, and, while w->regs_valid, w->regs; w->pc_is_return; w->tp,
 * the thread pointer; w->runtime_off, its table (hf_mem). Out, by what it
 * returns:
 *
 *   HF_STEP_NATIVE  the pc is left to the native rules. Frames of the runtime
 *                   may have been emitted before: they stand on the side of the
 *                   leaf.
 *   HF_STEP_AGAIN   frames were emitted, and the step is called again with the
 *                   same registers; w->runtime_state tells it where it was.
 *   HF_STEP_MOVED   frames were emitted, and pc, sp and fp are the caller's
 *                   (hf_to_caller).
 *   HF_STEP_ENDED   the stack ends here (hf_cut).
 *
 * A step is a global function: the verifier looks at it once, on its own, with
 * nothing known of *w. It has no loop longer than the verifier likes and at most
 * a few reads of user memory a frame: whoever reads much reads a block at once
 * into w->scratch. It never counts on what it read: user memory changes
 * meanwhile.
 *
 * Beside its frames a step may tell its user half what will be gone when that
 * looks (hf_tell, struct hf_told): seldom, and no more than a walk can bear.
 *
 * hf_config.runtimes says which steps exist: the others are dead code to the
 * verifier, and cost nothing. What is done in a region whose step does not exist
 * is the runtime's own, too:
 *
 *   int hf_NAME_without_step(struct hf_walk *w)
 *
 * hf/steps.h, which is generated, includes the steps and lists them.
 */
#ifndef HF_RUNTIME_H
#define HF_RUNTIME_H

enum hf_step_result {
	HF_STEP_NATIVE = 0,
	HF_STEP_AGAIN = 1,
	HF_STEP_MOVED = 2,
	HF_STEP_ENDED = 3,
};

/* A step's functions: global in BPF, where only they are verified on their own. Eight may have
 * called each other, the program and its loop's callback included: more is refused with E2BIG
 * (MAX_CALL_FRAMES in the kernel's include/linux/bpf_verifier.h). */
#if defined(__BPF__)
#define HF_STEP_FN __noinline
#else
#define HF_STEP_FN static __attribute__((unused))
#endif

/* Emits a frame of a runtime with n data words (0 to HF_MAX_DATA_WORDS); 0 if
 * there was room. `own` are bits 39..0 of the head word. */
static __always_inline int hf_push_dynamic(struct hf_walk *w, __u32 runtime, __u64 flags, __u64 own,
					   __u32 n, __u64 a, __u64 b, __u64 c)
{
	__u64 word =
	    hf_word(HF_FRAME_DYNAMIC, flags,
		    (__u64)runtime << HF_FRAME_RUNTIME_SHIFT | (__u64)n << HF_FRAME_N_DATA_SHIFT |
			(own & ((1ULL << HF_FRAME_N_DATA_SHIFT) - 1)));

	/* All of its words or none. */
	if (w->n_frames >= w->max_frames || w->n_words + n + 1 > HF_MAX_WORDS)
		return 1;
	if (hf_push(w, word))
		return 1;
	if (n > 0 && hf_push(w, a))
		return 1;
	if (n > 1 && hf_push(w, b))
		return 1;
	if (n > 2 && hf_push(w, c))
		return 1;
	w->n_frames++;
	w->heuristic_next = 0;
	return 0;
}

/* Frames of a runtime will be missing from the stack. The first reason is kept. */
static __always_inline void hf_lose(struct hf_walk *w, __u8 runtime, __u8 why)
{
	if (w->sample.lost_runtime)
		return;
	w->sample.lost_runtime = runtime;
	w->sample.lost_why = why;
}

/* What was told of late, as numbers; one that has another's place is told again. */
#define HF_TOLD_SLOTS 1024
static __u64 hf_told_of_late[HF_TOLD_SLOTS];

/* Is what has this number to be told now? It takes so many reads of user memory. Once, whatever
 * comes of it. */
static __always_inline int hf_begin_to_tell(struct hf_walk *w, __u64 number, __u32 reads)
{
	__u32 slot = number & (HF_TOLD_SLOTS - 1);

	hf_barrier(slot);
	slot &= HF_TOLD_SLOTS - 1;
	if (hf_told_of_late[slot] == number || !hf_may_tell(w, reads))
		return 0;
	hf_told_of_late[slot] = number;
	return 1;
}

/* The head of what is told. */
static __always_inline void hf_told_head(const struct hf_walk *w, struct hf_told *head,
					 __u32 runtime, __u64 key, __u64 key2)
{
	head->type = HF_RECORD_TOLD;
	head->runtime = runtime;
	head->reserved = 0;
	head->tgid = w->sample.tgid;
	head->exec_id = w->sample.exec_id;
	head->reserved2 = 0;
	head->start_ns = w->sample.start_ns;
	head->key[0] = key;
	head->key[1] = key2;
}

/* Is the step of a runtime there? */
#if defined(__BPF__)
#define HF_HAS_RUNTIME(id) (hf_config.runtimes & (1U << (id)))
#else
#define HF_HAS_RUNTIME(id) 1
#endif

#include "hf/steps.h"

#define HF_STEP_CASE(NAME, name)                                                                   \
	case HF_RUNTIME_##NAME:                                                                    \
		if (HF_HAS_RUNTIME(HF_RUNTIME_##NAME))                                             \
			return hf_step_##name(w);                                                  \
		return hf_##name##_without_step(w);

#define HF_MOMENT_CASE(NAME, name)                                                                 \
	case HF_RUNTIME_##NAME:                                                                    \
		if (HF_HAS_RUNTIME(HF_RUNTIME_##NAME))                                             \
			hf_##name##_moment(w, table_off);                                          \
		return;

/* Calls the step of the runtime whose table is at w->runtime_off. */
static __always_inline int hf_step_runtime(struct hf_walk *w)
{
	const struct hf_runtime_table *table;

	table = hf_mem(w->runtime_off, sizeof(*table));
	if (!table)
		return HF_STEP_NATIVE;
	switch (table->runtime) {
		HF_STEPS(HF_STEP_CASE)
	default:
		return HF_STEP_NATIVE;
	}
}

/* Before a slice is sent: what cannot be known any more when its walk is finished
 * goes with it, in w->runtime_state. Asked is the runtime of the table that says so
 * (Attached::has_moment). */
static __always_inline void hf_moment(struct hf_walk *w)
{
	const struct hf_runtime_table *table;
	const struct hf_blob *blob;
	__u32 table_off;

	if (!w->blob_id)
		return;
	blob = hf_mem(w->blob_off, sizeof(*blob));
	if (!blob || blob->blob_id != w->blob_id || !blob->moment_off)
		return;
	table_off = blob->moment_off;
	table = hf_mem(table_off, sizeof(*table));
	if (!table)
		return;
	switch (table->runtime) {
		HF_MOMENTS(HF_MOMENT_CASE)
	default: /* The others have none. */
		return;
	}
}

#endif /* HF_RUNTIME_H */
