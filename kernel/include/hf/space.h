/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Address spaces: by which id one is known, and which mappings were published for it.
 *
 * In: a task's mm, an address that may be another's later, which its start_stack tells. Out: the
 * space's id, new if it was not met before, and the blob of mappings that user space posted last
 * for it, if it still stands. Each CPU remembers HF_KNOWN_SPACES of them, until hf_spaces_changes
 * moves on. Cost: of a space that this CPU remembers a read of its letter; else a look-up in
 * hf_spaces, or two.
 *
 * User half: crates/core/src/tables.rs posts the letters.
 */
#ifndef HF_SPACE_H
#define HF_SPACE_H

/* The newest that user space said of a space, put into `space`. Not 0 if that was news. */
static __always_inline int hf_read_letter(struct hf_space *space)
{
	const struct hf_letter *letter =
	    hf_mem(HF_MAILBOX_OFF + (space->space_id & (HF_MAILBOX_SLOTS - 1)) * sizeof(*letter),
		   sizeof(*letter));
	const volatile struct hf_letter *now = letter;
	__u32 off, id;

	if (!letter || now->space_id != space->space_id)
		return 0;
	off = now->blob_off;
	id = now->blob_id;
	/* User space clears the id before it writes the rest. */
	if (now->space_id != space->space_id)
		return 0;
	if (id == space->blob_id)
		return 0;
	space->blob_off = off;
	space->blob_id = id;
	return 1;
}

/* Puts an entry into hf_spaces. */
static __always_inline long hf_put_space(const __u64 *mm, const struct hf_space *space)
{
	long failed = bpf_map_update_elem(&hf_spaces, mm, space, BPF_ANY);

	__sync_fetch_and_add(&hf_spaces_changes, 1);
	return failed;
}

/* Looks w->mm up in hf_spaces, for w->known[at]; makes a new entry if there is none. Not 0 if
 * it was known. */
__noinline int hf_look_up_space(struct hf_walk *w, __u32 at, __u64 start_stack)
{
	__u64 changes = *(volatile __u64 *)&hf_spaces_changes;
	struct hf_known_space *known;
	struct hf_space *space;

	if (!w)
		return 0;
	hf_barrier(at);
	known = &w->known[at & (HF_KNOWN_SPACES - 1)];
	known->mm = 0;
	space = bpf_map_lookup_elem(&hf_spaces, &w->mm);
	if (!space || space->start_stack != start_stack) {
		struct hf_space fresh = {
		    .space_id = __sync_fetch_and_add(&hf_next_space_id, 1),
		    .start_stack = start_stack,
		};

		if (!hf_put_space(&w->mm, &fresh))
			w->sample.space_id = fresh.space_id;
		return 0;
	}
	hf_read_letter(space);
	known->space = *space;
	known->changes = changes;
	known->mm = w->mm;
	return 1;
}

static __always_inline void hf_find_space(struct hf_walk *w, struct task_struct *task)
{
	__u64 start_stack = task->mm->start_stack;
	__u32 at = (__u32)(w->mm >> 8) & (HF_KNOWN_SPACES - 1);
	struct hf_known_space *known;
	const struct hf_blob *blob;
	int is_known = 0;

	w->n_mappings = 0;
	w->blob_id = 0;
	w->blob_off = 0;
	w->sample.space_id = 0;
	w->sample.blob_id = 0;
	if (!start_stack)
		return; /* an exec that has not come so far */
	hf_barrier(at);
	known = &w->known[at & (HF_KNOWN_SPACES - 1)];
	if (known->mm == w->mm && known->space.start_stack == start_stack &&
	    known->changes == *(volatile __u64 *)&hf_spaces_changes)
		is_known = !hf_read_letter(&known->space);
	/* News go into the map too, where other CPUs and forks find them. */
	if (!is_known && !hf_look_up_space(w, at, start_stack))
		return;
	w->sample.space_id = known->space.space_id;
	if (!known->space.blob_off)
		return;
	blob = hf_mem(known->space.blob_off, sizeof(*blob));
	if (!blob || blob->blob_id != known->space.blob_id)
		return;
	w->blob_off = known->space.blob_off;
	w->blob_id = known->space.blob_id;
	w->sample.blob_id = known->space.blob_id;
	w->n_mappings = blob->n_mappings;
}

#endif /* HF_SPACE_H */
