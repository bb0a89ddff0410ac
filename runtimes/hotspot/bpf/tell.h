/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Names that go ahead of their frames: a method whose class may be unloaded before
 * it is asked about is told of by a record of its own (struct hf_hotspot_name).
 */
#ifndef HF_HOTSPOT_TELL_H
#define HF_HOTSPOT_TELL_H

#include "hotspot/bpf/frame.h"

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

/* A hash of what names a method: the symbols of its class and of itself, which live as long as
 * either is called so. 0: unreadable. Twin: `identity` in ../src/resolve.rs. */
HF_STEP_FN __u64 hf_hotspot_identity(struct hf_walk *w, __u64 constant)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 pool, hash;

	if (!w)
		return 0;
	proc = hf_hotspot_table(w);
	if (!proc)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	if (hf_read_user(w, &s->value, 8, constant + proc->const_constants))
		return 0;
	pool = s->value;
	if (hf_read_user(w, &s->value, 8, pool + proc->pool_holder) ||
	    hf_read_user(w, &s->value, 8, s->value + proc->klass_name))
		return 0;
	hash = hf_mix(HF_HASH_SEED, s->value);
	s->value = 0;
	if (hf_read_user(w, &s->value, 2, constant + proc->const_name) ||
	    hf_read_user(w, &s->value, 8, pool + proc->pool_bytes + (s->value & 0xffff) * 8))
		return 0;
	return hf_mix(hash, s->value & ~3ULL);
}

/* Tells what names a method, unless that was done in this epoch. */
HF_STEP_FN int hf_hotspot_tell(struct hf_walk *w, __u64 method, __u64 constant, __u64 cookie)
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
	number = hf_mix(hf_mix(hf_mix(w->mm, data), constant), cookie);
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
	hf_told_head(w, &name->head, HF_RUNTIME_HOTSPOT, data, cookie);
	return hf_tell(w, name, sizeof(*name));
}

#endif /* HF_HOTSPOT_TELL_H */
