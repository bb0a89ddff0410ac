// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Names of kernel addresses, asked of the kernel itself: what reading all of
 * /proc/kallsyms would take 50 ms for takes a microsecond an address.
 *
 * In: up to HF_KSYMS addresses in hf_ksyms. Out: for each the text that
 * bpf_snprintf makes of "%pS": `name+0xoffset/0xsize [module]`, or the bare
 * number if no symbol covers it.
 *
 * Run by BPF_PROG_TEST_RUN, needs bpf_snprintf and BPF_PROG_TYPE_SYSCALL (Linux
 * 5.14, 7b15523a989b and 79a7f8bdb159).
 *
 * User half: crates/bpf/src/ksyms.rs
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "hf/abi.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hf_ksyms);
} hf_ksyms SEC(".maps");

static const char hf_format[] = "%pS";

SEC("syscall")
int hf_name_kernel(void *ctx)
{
	__u32 zero = 0, i;
	struct hf_ksyms *ksyms = bpf_map_lookup_elem(&hf_ksyms, &zero);

	if (!ksyms)
		return 1;
	for (i = 0; i < HF_KSYMS; i++) {
		__u64 addr;

		if (i >= ksyms->n)
			break;
		addr = ksyms->addrs[i & (HF_KSYMS - 1)];
		bpf_snprintf((char *)ksyms->names[i & (HF_KSYMS - 1)], HF_KSYM_BYTES, hf_format,
			     &addr, sizeof(addr));
	}
	return 0;
}
