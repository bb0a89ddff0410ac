/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Access to "memory", the region that user space fills with tables (abi.h):
 *
 *   hf_mem(off, bytes)  pointer to bytes of constant size at off, or NULL
 *
 * Three ways behind one name: an arena (HF_ARENA, kernel >= 6.9), 1 MiB values
 * of an array map, and, natively, a plain pointer with its size.
 */
#ifndef HF_MEM_H
#define HF_MEM_H

#if !defined(__BPF__)

struct hf_memory {
	const __u8 *base;
	__u64 bytes;
};
extern _Thread_local struct hf_memory hf_memory;

static inline const void *hf_mem(__u32 off, __u32 bytes)
{
	if (off == 0 || (__u64)off + bytes > hf_memory.bytes)
		return NULL;
	return hf_memory.base + off;
}

#elif defined(HF_ARENA)

#define HF_ARENA_MAX_PAGES 65536

/* User space sets map_extra to HF_ARENA_ADDR before load: compilers before
 * clang 15 cannot say 64 bits in a map's definition. */

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HF_ARENA_MAX_PAGES); /* set to the budget's share at load */
} hf_memory SEC(".maps");

/* An arena belongs to a program that names its map. */
#define HF_USE_MEMORY() asm volatile("" ::"r"(&hf_memory))

/* bpf_addr_space_cast(p, 0, 1): from user space's pointer to the kernel's.
 * The compiler knows the instruction only since clang 19, so it is spelled in
 * bytes: BPF_ALU64 | BPF_MOV | BPF_X with off 1 and imm (dst_as << 16) | src_as
 * (Documentation/bpf/standardization/instruction-set.rst; kernel commit
 * 6082b6c328b5). A page nobody filled reads as zeros. */
static __always_inline const void *hf_mem(__u32 off, __u32 bytes)
{
	register __u64 ptr asm("r1") = HF_ARENA_ADDR + off;

	asm volatile(".byte 0xbf, 0x11, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00" : "+r"(ptr));
	return (const void *)ptr;
}

#else

#define HF_USE_MEMORY() ((void)0)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set to the budget's share at load */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, HF_MEM_CHUNK_BYTES);
} hf_memory SEC(".maps");

static __always_inline const void *hf_mem(__u32 off, __u32 bytes)
{
	__u32 chunk = off >> HF_MEM_CHUNK_SHIFT;
	__u32 at = off & (HF_MEM_CHUNK_BYTES - 1);
	__u8 *value = bpf_map_lookup_elem(&hf_memory, &chunk);

	if (!value)
		return NULL;
	/* The verifier must see the very registers that are compared used, in
	 * this order. */
	asm volatile("" : "+r"(at), "+r"(value));
	if (at > HF_MEM_CHUNK_BYTES - bytes)
		return NULL;
	return value + at;
}

#endif
#endif /* HF_MEM_H */
