/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who is sampled: a task's numbers in hotframe's own pid namespace, and which filter wants nothing
 * of it.
 *
 * In: a task. Out: HF_FILTERED_*, or HF_FILTERED_COUNT where none does. Asked at each tick before
 * anything else of the sample is read; names (hf_in_comms) once the sample has one. Forks and execs
 * use the same. Cost: in a pid namespace of its own a search of at most HF_MAX_PID_LEVELS numbers;
 * a look-up for processes, one a level of the hierarchy, at most 32, for cgroups.
 *
 * User half: crates/bpf/src/kernel.rs fills hf_pids, hf_cgroups and hf_config.
 */
#ifndef HF_FILTER_H
#define HF_FILTER_H

/* MAX_PID_NS_LEVEL of include/linux/pid_namespace.h @ v6.12 */
#define HF_MAX_PID_LEVELS 32

/* A struct pid's number in hotframe's namespace; 0: not visible there. */
static __always_inline __u32 hf_pid_nr(struct pid *pid)
{
	__u32 levels, i;
	const void *numbers;

	if (!pid)
		return 0;
	levels = BPF_CORE_READ(pid, level);
	numbers = (const void *)pid + bpf_core_field_offset(struct pid, numbers);
	/* From the outermost in; level 0 is the initial namespace. */
	for (i = 1; i <= HF_MAX_PID_LEVELS; i++) {
		const struct upid *upid = numbers + (__u64)i * bpf_core_type_size(struct upid);
		struct pid_namespace *ns = NULL;
		int nr = 0;

		if (i > levels)
			break;
		bpf_core_read(&ns, sizeof(ns), &upid->ns);
		if (BPF_CORE_READ(ns, ns.inum) != (__u32)hf_config.ns_inum)
			continue;
		bpf_core_read(&nr, sizeof(nr), &upid->nr);
		return nr;
	}
	return 0;
}

static __always_inline __u32 hf_tgid_nr(struct task_struct *task)
{
	if (!hf_config.ns_inum)
		return BPF_CORE_READ(task, tgid);
	return hf_pid_nr(BPF_CORE_READ(task, group_leader, thread_pid));
}

static __always_inline int hf_in_cgroups(struct task_struct *task)
{
	struct cgroup *cgroup;
	struct cgroup_subsys_state *css;
	int i;

	if (hf_config.cgroup_v1) {
		__u32 subsys = hf_config.cgroup_subsys;
		struct css_set *set = BPF_CORE_READ(task, cgroups);

		css = NULL;
		bpf_core_read(&css, sizeof(css), &set->subsys[subsys & 15]);
		cgroup = BPF_CORE_READ(css, cgroup);
	} else {
		cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	}
	for (i = 0; i < 32 && cgroup; i++) {
		__u64 id = BPF_CORE_READ(cgroup, kn, id);

		if (bpf_map_lookup_elem(&hf_cgroups, &id))
			return 1;
		css = BPF_CORE_READ(cgroup, self.parent);
		if (!css)
			break;
		cgroup = BPF_CORE_READ(css, cgroup);
	}
	return 0;
}

static __always_inline int hf_in_comms(const __u8 *comm)
{
	const __u64 *mine = (const __u64 *)comm;
	__u32 i;

	for (i = 0; i < HF_MAX_COMMS; i++) {
		const volatile __u64 *name = (const volatile __u64 *)hf_config.comms[i];

		if (i >= hf_config.n_comms)
			break;
		if (name[0] == mine[0] && name[1] == mine[1])
			return 1;
	}
	return 0;
}

/* Which filter wants nothing of a tick; HF_FILTERED_COUNT: none of those that can be asked before a
 * walk is begun. Gives the task's ids as hotframe's pid namespace has them. */
static __always_inline __u32 hf_filter(struct task_struct *task, __u64 id, __u32 *tgid, __u32 *tid)
{
	if ((__u32)id == 0)
		return HF_FILTERED_IDLE;
	if (!hf_config.ns_inum) {
		*tgid = id >> 32;
		*tid = (__u32)id;
	} else {
		*tgid = hf_tgid_nr(task);
		*tid = hf_pid_nr(BPF_CORE_READ(task, thread_pid));
		if (!*tgid || !*tid)
			return HF_FILTERED_NAMESPACE;
	}
	if (hf_config.filter_pids && !bpf_map_lookup_elem(&hf_pids, tgid))
		return HF_FILTERED_PID;
	if (hf_config.filter_cgroups && !hf_in_cgroups(task))
		return HF_FILTERED_CGROUP;
	return HF_FILTERED_COUNT;
}

#endif /* HF_FILTER_H */
