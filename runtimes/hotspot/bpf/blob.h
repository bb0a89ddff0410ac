/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which CodeBlob a pc lies in: its code heap, through that heap's segment map to the
 * HeapBlock, and the head of the blob behind it, by its name of one kind of three.
 */
#ifndef HF_HOTSPOT_BLOB_H
#define HF_HOTSPOT_BLOB_H

#include "hotspot/bpf/frame.h"

/* Hops through the segment map. A byte leads back 254 segments of 128 bytes at
 * most: 48 hops are 1.5 MB, several times the largest method. */
#define HF_HOTSPOT_MAX_HOPS 48
/* So many by one call of a function: the verifier goes through that once. */
#define HF_HOTSPOT_HOPS 8
_Static_assert(HF_HOTSPOT_MAX_HOPS % HF_HOTSPOT_HOPS == 0, "whole calls");

/* Goes on to hop, for HF_HOTSPOT_HOPS at most, from s->segment on. 0: it ended. */
HF_STEP_FN int hf_hotspot_hop(struct hf_walk *w, __u64 segmap)
{
	struct hf_hotspot_scratch *s;
	__u32 i, at;
	__u8 hop;

	if (!w)
		return 0;
	s = HF_HOTSPOT_SCRATCH(w);
	for (i = 0; i < HF_HOTSPOT_HOPS; i++) {
		if (s->segment - s->segmap_from >= sizeof(s->code)) {
			s->segmap_from = s->segment < sizeof(s->code) - 1
					     ? 0
					     : s->segment - (sizeof(s->code) - 1);
			if (hf_read_lasting(w, s->code, sizeof(s->code), segmap + s->segmap_from))
				return 0;
		}
		at = (__u32)(s->segment - s->segmap_from) & (sizeof(s->code) - 1);
		hf_barrier(at);
		hop = s->code[at & (sizeof(s->code) - 1)];
		if (hop == 0) {
			s->is_found = 1;
			return 0;
		}
		if (hop == 0xff || hop > s->segment)
			return 0;
		s->segment -= hop;
	}
	return 1;
}

/* Finds the block of a pc through the segment map: its address into
 * scratch->blob. 0 if there is one. */
HF_STEP_FN int hf_hotspot_find_block(struct hf_walk *w, __u64 pc)
{
	const struct hf_hotspot_proc *proc;
	struct hf_hotspot_scratch *s;
	__u64 low, segmap;
	__u32 shift, i;

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
	for (i = 0; i < HF_HOTSPOT_MAX_HOPS; i += HF_HOTSPOT_HOPS)
		if (!hf_hotspot_hop(w, segmap))
			break;
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
#define HF_HOTSPOT_TEXT_HANDLES 0x6148646f6874654dULL /* "MethodHa[ndles adapters]" */

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

#endif /* HF_HOTSPOT_BLOB_H */
