/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps of the kernel half, memory excepted (mem.h). Sizes that depend on
 * the machine or the budget are set by user space before load. */
#ifndef HF_MAPS_H
#define HF_MAPS_H

/* Source of space ids: 0 is none. */
__u32 hf_next_space_id SEC(".data.ids") = 1;
/* Goes up after each change of hf_spaces: what a CPU remembers of them is then void. */
__u64 hf_spaces_changes SEC(".data.ids") = 1;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} hf_ring SEC(".maps");

/* mm address -> what it is known by. LRU: what is evicted is asked anew. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct hf_space);
} hf_spaces SEC(".maps");

/* Processes to record, by pid in hotframe's namespace. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HF_MAX_PIDS);
	__type(key, __u32);
	__type(value, __u8);
} hf_pids SEC(".maps");

/* cgroups to record with all below them, by inode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HF_MAX_CGROUPS);
	__type(key, __u64);
	__type(value, __u8);
} hf_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_counters);
} hf_counters SEC(".maps");

/* One walk per origin and CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HF_ORIGIN_COUNT);
	__type(key, __u32);
	__type(value, struct hf_walk);
} hf_walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_cache);
} hf_caches SEC(".maps");

enum hf_prog {
	HF_PROG_WALK = 0,
	HF_PROG_COUNT = 1,
};
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, HF_PROG_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} hf_progs SEC(".maps");

static __always_inline struct hf_cache *hf_my_cache(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&hf_caches, &zero);
}

static __always_inline struct hf_counters *hf_my_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&hf_counters, &zero);
}

#endif /* HF_MAPS_H */
