/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The few kernel types that the kernel half reads, as CO-RE flavours: only the
 * fields used, their offsets relocated at load against the running kernel's
 * BTF. Written by hand instead of a dump of all types: it says at a glance
 * what of the kernel hotframe depends on.
 *
 * Sources: include/linux/sched.h, pid.h, cgroup-defs.h, kernfs.h,
 * arch/{x86,arm64}/include/uapi/asm/ptrace.h @ v6.12.
 */
#ifndef HF_VMLINUX_H
#define HF_VMLINUX_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h @ v6.12 */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_ARENA = 33,
};
enum {
	BPF_ANY = 0,
	BPF_F_MMAPABLE = 1U << 10,
	BPF_RB_NO_WAKEUP = 1U << 0,
	BPF_RB_FORCE_WAKEUP = 1U << 1,
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_RING_SIZE = 1,
};

struct bpf_perf_event_value {
	__u64 counter; /* of a clock: nanoseconds */
	__u64 enabled;
	__u64 running;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip,
	    cs, flags, sp, ss;
};
typedef struct pt_regs bpf_user_pt_regs_t;
struct thread_struct {
	unsigned long fsbase;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
typedef struct user_pt_regs bpf_user_pt_regs_t;
struct pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
	__s32 syscallno;
};
struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
};
#else
#error "unknown target architecture"
#endif

struct ns_common {
	unsigned int inum;
};
struct pid_namespace {
	struct ns_common ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};
enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

struct kernfs_node {
	__u64 id;
};
struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup_subsys_state *subsys[14];
	struct cgroup *dfl_cgrp;
};
struct mm_struct {
	struct {
		unsigned long start_stack;
	};
};
struct rq {
	struct task_struct *idle;
};
struct cfs_rq {
	struct rq *rq;
};
struct sched_entity {
	struct cfs_rq *cfs_rq;
	__u64 sum_exec_runtime;
	__u64 prev_sum_exec_runtime;
};
struct task_struct {
	unsigned int flags;
	struct sched_entity se;
	unsigned long nivcsw;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_boottime;
	__u64 self_exec_id;
	char comm[16];
	struct css_set *cgroups;
	struct thread_struct thread;
};
struct linux_binprm {
	int unused;
};

#pragma clang attribute pop

/* Context of a perf_event program: read directly, never relocated. */
struct bpf_perf_event_data {
#if defined(__TARGET_ARCH_x86)
	struct {
		unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di,
		    orig_ax, ip, cs, flags, sp, ss;
	} regs;
#else
	struct {
		__u64 regs[31];
		__u64 sp, pc, pstate;
	} regs;
#endif
	__u64 sample_period;
	__u64 addr;
};

#endif /* HF_VMLINUX_H */
