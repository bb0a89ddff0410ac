// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The kernel half: from a tick of the sampling clock to a record in the ring.
 *
 *   hf_sample     perf_event, every tick: filter, identity, kernel frames, and
 *                 a tail call into slot HF_PROG_WALK
 *   hf_walk_loop  the walk in one bpf_loop (>= 5.17)
 *   hf_walk_tail  the same by tail calls to itself
 *   hf_on_fork    a child inherits its parent's mappings and place in a filter
 *   hf_on_exec    a new address space gets a new id
 *
 * A sample is filtered before anything of it is read (hf/filter.h), its address space is looked up
 * (hf/space.h), and it is walked (hf/walk.h). It ends as one record (hf/send.h), hf_sample with its
 * words, after those of the parts for which that has no room, and, when tables are missing, after
 * hf_slice and the copied stack. User space polls; it is woken for slices, and for what is urgent
 * (HF_SAMPLE_URGENT).
 *
 * User half: crates/bpf (loading, decoding), crates/core (what records mean).
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "hf/abi.h"
#include "hf/compat.h"
#include "hf/helpers.h"
#include "hf/mem.h"

const volatile struct hf_config hf_config SEC(".rodata.config") = {};

struct hf_walk;
static __noinline int hf_send_part(struct hf_walk *w);
static __always_inline int hf_tell(struct hf_walk *w, const void *record, const __u32 bytes);
static __always_inline int hf_may_tell(struct hf_walk *w, __u32 reads);
#include "hf/walk.h"
#include "hf/maps.h"
#include "hf/filter.h"
#include "hf/space.h"
#include "hf/send.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Frames that one run of the tail-called walk steps through: with the 33 runs
 * that the kernel allows this exceeds the 512 frames of that fallback. */
#define HF_STEPS_PER_RUN 20
_Static_assert((HF_COST_COUNT & (HF_COST_COUNT - 1)) == 0, "a mask bounds it");
_Static_assert(33 * HF_STEPS_PER_RUN >= HF_MAX_FRAMES_BY_TAIL_CALLS,
	       "so many frames can be reached");

/* --------------------------------------------------------------- the walk */

struct hf_loop {
	struct hf_walk *walk;
	struct hf_cache *cache;
};

static int hf_loop_step(__u32 index, struct hf_loop *loop)
{
	return hf_step(loop->walk, loop->cache) != 0;
}

SEC("perf_event")
int hf_walk_loop(struct bpf_perf_event_data *ctx)
{
	__u32 origin = HF_ORIGIN_CPU;
	struct hf_loop loop = {
	    .walk = bpf_map_lookup_elem(&hf_walks, &origin),
	    .cache = hf_my_cache(),
	};

	HF_USE_MEMORY();
	if (!loop.walk || !loop.cache)
		return 0;
	if (bpf_loop(HF_MAX_STEPS, hf_loop_step, &loop, 0) >= HF_MAX_STEPS && !loop.walk->cut)
		hf_cut(loop.walk, HF_CUT_TOO_DEEP);
	hf_finish(loop.walk);
	return 0;
}

/* Own function, verified once: the loop below would multiply it. */
__noinline int hf_step_once(__u32 origin)
{
	struct hf_walk *w = bpf_map_lookup_elem(&hf_walks, &origin);
	struct hf_cache *cache = hf_my_cache();

	HF_USE_MEMORY();
	if (!w || !cache)
		return 1;
	return hf_step(w, cache);
}

SEC("perf_event")
int hf_walk_tail(struct bpf_perf_event_data *ctx)
{
	__u32 origin = HF_ORIGIN_CPU;
	struct hf_walk *w = bpf_map_lookup_elem(&hf_walks, &origin);
	int i;

	if (!w)
		return 0;
	for (i = 0; i < HF_STEPS_PER_RUN; i++) {
		if (hf_step_once(origin)) {
			hf_finish(w);
			return 0;
		}
	}
	bpf_tail_call(ctx, &hf_progs, HF_PROG_WALK);
	hf_cut(w, HF_CUT_TOO_DEEP);
	hf_finish(w);
	return 0;
}

/* -------------------------------------------------------------- the entry */

/* User registers, from the context or from the top of the kernel stack. */
#if defined(__TARGET_ARCH_x86)
#define HF_COPY_REGS(w, r)                                                                         \
	do {                                                                                       \
		(w)->regs[0] = (r)->ax;                                                            \
		(w)->regs[1] = (r)->dx;                                                            \
		(w)->regs[2] = (r)->cx;                                                            \
		(w)->regs[3] = (r)->bx;                                                            \
		(w)->regs[4] = (r)->si;                                                            \
		(w)->regs[5] = (r)->di;                                                            \
		(w)->regs[6] = (r)->bp;                                                            \
		(w)->regs[7] = (r)->sp;                                                            \
		(w)->regs[8] = (r)->r8;                                                            \
		(w)->regs[9] = (r)->r9;                                                            \
		(w)->regs[10] = (r)->r10;                                                          \
		(w)->regs[11] = (r)->r11;                                                          \
		(w)->regs[12] = (r)->r12;                                                          \
		(w)->regs[13] = (r)->r13;                                                          \
		(w)->regs[14] = (r)->r14;                                                          \
		(w)->regs[15] = (r)->r15;                                                          \
		(w)->regs[16] = (r)->ip;                                                           \
	} while (0)
#else
#define HF_COPY_REGS(w, r)                                                                         \
	do {                                                                                       \
		int reg_;                                                                          \
		_Pragma("unroll") for (reg_ = 0; reg_ < 31; reg_++)(w)->regs[reg_] =               \
		    (r)->regs[reg_];                                                               \
		(w)->regs[31] = (r)->sp;                                                           \
		(w)->regs[32] = (r)->pc;                                                           \
	} while (0)
#endif

#if defined(__TARGET_ARCH_x86)
/* Does the syscall instruction end at pc? It leaves its end in rcx, unless the CPU delivers events
 * by FRED (Intel FRED specification 7.3); int $0x80 never does. */
static __always_inline __u8 hf_behind_syscall(__u64 pc, __u64 rcx)
{
	__u16 code = 0;

	if (rcx == pc)
		return 1;
	return !bpf_probe_read_user(&code, sizeof(code), (const void *)(pc - sizeof(code))) &&
	       (code == 0x050f || code == 0x80cd);
}
#endif

/* Of the ticks that a late one passed over those that say nothing but that the CPU stood idle, when
 * it may have none until it wakes: the idle task has ended a run since the last tick, and they were
 * due before the task arrived that runs now. Its time since then is known to the scheduler's last
 * look at it, some milliseconds ago at most. */
static __always_inline void hf_passed_over(struct hf_counters *counters,
					   const struct task_struct *task, __u32 pid, __u64 now_ns,
					   struct bpf_perf_event_data *ctx)
{
	__u64 period_ns = ctx->sample_period, since_ns = now_ns - counters->due_ns, ran_ns = 0;
	struct bpf_perf_event_value value = {};
	__u64 switches, n, before;

	if (!bpf_core_field_exists(task->se.prev_sum_exec_runtime) ||
	    !bpf_core_field_exists(task->se.cfs_rq) || !bpf_core_field_exists(task->se.cfs_rq->rq))
		return;
	switches = pid ? task->se.cfs_rq->rq->idle->nivcsw : ~0ULL;
	/* The first of all: since the clock was started. */
	if (since_ns == now_ns && !bpf_perf_prog_read_value(ctx, &value, sizeof(value)))
		since_ns = value.counter;
	n = since_ns / period_ns;
	if (n > 1 && switches != counters->idle_switches) {
		if (pid)
			ran_ns = task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
		before = ran_ns < since_ns ? (since_ns - ran_ns) / period_ns : 0;
		counters->passed_over += before < n - 1 ? before : n - 1;
	}
	/* One that comes early shows that those before it were late. */
	if (n == 0 || counters->due_ns == 0)
		counters->due_ns = now_ns;
	else
		counters->due_ns += n * period_ns;
	counters->idle_switches = switches;
}

/* The kernel's part of the stack, asked from the kernel. */
static __always_inline void hf_kernel_frames(struct hf_walk *w, struct bpf_perf_event_data *ctx)
{
	__s64 n;
	int i;

	n = bpf_get_stack(ctx, w->words, HF_MAX_KERNEL_FRAMES * 8, 0);
	n = n < 0 ? 0 : (__u64)n / 8;
	w->sample.flags |= HF_SAMPLE_IN_KERNEL;
	for (i = 0; i < HF_MAX_KERNEL_FRAMES; i++) {
		__u64 word;

		if (i >= n)
			break;
		word = hf_word(HF_FRAME_KERNEL, i ? HF_FRAME_RETURN_ADDR : 0, w->words[i]);
		w->words[i] = word;
		w->hash = hf_mix(w->hash, word);
	}
	w->n_words = i;
	w->sample.n_kernel = i;
}

SEC("perf_event")
int hf_sample(struct bpf_perf_event_data *ctx)
{
	__u64 t0 = bpf_ktime_get_ns();
	struct task_struct *task = bpf_get_current_task_btf();
	struct hf_counters *counters = hf_my_counters();
	__u32 origin = HF_ORIGIN_CPU, tgid, tid, flags, filtered;
	struct hf_walk *w;
	__u64 id, user, compat;
	int i;

	HF_USE_MEMORY();
	if (!counters)
		return 0;
	counters->runs++;
	id = bpf_get_current_pid_tgid();
	hf_passed_over(counters, task, (__u32)id, t0, ctx);
	filtered = hf_filter(task, id, &tgid, &tid);
	if (filtered < HF_FILTERED_COUNT)
		goto filtered;
	w = bpf_map_lookup_elem(&hf_walks, &origin);
	if (!w)
		return 0;
	if (w->busy) {
		counters->taken++;
		counters->lost[HF_LOST_NO_SCRATCH]++;
		return 0;
	}
	bpf_get_current_comm(w->sample.comm, sizeof(w->sample.comm));
	if (hf_config.n_comms && !hf_in_comms(w->sample.comm)) {
		filtered = HF_FILTERED_COMM;
		goto filtered;
	}
	w->busy = 1;
	counters->taken++;
	hf_begin(w);
	w->t0_ns = t0;
	w->max_frames = hf_config.max_frames;
	w->deadline_ns = t0 + hf_config.time_cap_ns;
	w->audit = 0;
	w->sample.type = HF_RECORD_SAMPLE;
	w->sample.origin = HF_ORIGIN_CPU;
	w->sample.flags = 0;
	w->sample.lost_runtime = 0;
	w->sample.lost_why = 0;
	w->sample.n_kernel = 0;
	w->sample.time_ns = t0;
	w->sample.tgid = tgid;
	w->sample.tid = tid;
	/* A task is read by plain loads: a helper's read costs many times as much. */
	w->sample.start_ns = task->group_leader->start_boottime;
	w->sample.exec_id = (__u32)task->self_exec_id;
	w->sample.cpu = bpf_get_smp_processor_id();
	w->sample.label_set = 0;
	w->sample.weight = 1;
	w->sample.space_id = 0;
	w->sample.blob_id = 0;
	w->mm = (__u64)task->mm;
	flags = task->flags;

#if defined(__TARGET_ARCH_x86)
	/* Once, whole, and opaque: clang would narrow or merge the load, which
	 * the verifier refuses for a context. */
	user = *(volatile __u64 *)&ctx->regs.cs;
	compat = user;
	user = (user & 3) == 3;
#else
	user = *(volatile __u64 *)&ctx->regs.pstate;
	compat = user;
	user = (user & 0xf) == 0; /* EL0t */
#endif

	if (!user)
		hf_kernel_frames(w, ctx);
	if (flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER)) {
		w->sample.flags |= HF_SAMPLE_KTHREAD;
		hf_finish(w);
		return 0;
	}
	if (!w->mm) {
		/* A task that exits gives up its memory before it is done (exit_mm,
		 * kernel/exit.c @ v6.12), and most of an exit is to free it: there is
		 * no user stack any more, and the kernel's is all. */
		if (!(flags & PF_EXITING) || !w->n_words)
			hf_cut(w, HF_CUT_PROCESS_GONE);
		hf_finish(w);
		return 0;
	}

	if (user) {
		HF_COPY_REGS(w, &ctx->regs);
		/* The compiler must not make one copy of both: a context is read at
		 * constant offsets only. */
		asm volatile("" ::: "memory");
	} else {
		struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

#if defined(__TARGET_ARCH_x86)
		__s64 call = regs->orig_ax;

		compat = regs->cs;
		/* After a call into the kernel the pc is behind the syscall
		 * instruction, as a return address is behind a call. Not so where the
		 * kernel leads the task on to a signal's handler: its first instruction may
		 * follow another function's last. */
		w->pc_is_return = call >= 0 && hf_behind_syscall(regs->ip, regs->cx);
		if (call == HF_NR_EXECVE || call == HF_NR_EXECVEAT)
			w->sample.flags |= HF_SAMPLE_IN_EXEC;
		HF_COPY_REGS(w, regs);
#else
		w->pc_is_return = 0;
		compat = regs->syscallno;
		if (compat == HF_NR_EXECVE || compat == HF_NR_EXECVEAT)
			w->sample.flags |= HF_SAMPLE_IN_EXEC;
		compat = regs->pstate;
		HF_COPY_REGS(w, regs);
#endif
	}
#if defined(__TARGET_ARCH_x86)
	compat = (compat & 0xffff) == 0x23; /* __USER32_CS */
#else
	compat = compat & 0x10; /* PSR_MODE32_BIT */
#endif
	w->pc = w->regs[HF_REG_PC(w)];
	w->sp = w->regs[HF_REG_SP(w)];
	w->fp = w->regs[HF_REG_FP(w)];
#if defined(__TARGET_ARCH_x86)
	w->tp = task->thread.fsbase;
#else
	w->tp = task->thread.uw.tp_value;
#endif
	if (compat) {
		hf_push(w, hf_word(HF_FRAME_NOTE, 0, HF_NOTE_TASK_32BIT));
		hf_cut(w, HF_CUT_NO_UNWIND_INFO);
		hf_finish(w);
		return 0;
	}
	/* Whoever has no user stack, or none that is walked, gives nothing to compare. */
	w->audit = counters->audits < hf_config.audits;
	if (w->audit) {
#pragma unroll
		for (i = 0; i < HF_NREGS; i++)
			w->audit_regs[i] = w->regs[i];
	}
	hf_find_space(w, task);
	if (!w->blob_id) {
		hf_miss(w, HF_MISSING_SPACE, w->pc);
		hf_finish(w);
		return 0;
	}
	bpf_tail_call(ctx, &hf_progs, HF_PROG_WALK);
	counters->lost[HF_LOST_TAIL_CALL]++;
	w->busy = 0;
	return 0;

filtered:
	if (filtered < HF_FILTERED_COUNT)
		counters->filtered[filtered]++;
	counters->run_ns += bpf_ktime_get_ns() - t0;
	return 0;
}

/* ------------------------------------------------------------------- hooks */

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hf_on_fork, struct task_struct *parent, struct task_struct *child)
{
	__u64 t0 = bpf_ktime_get_ns();
	struct hf_counters *counters = hf_my_counters();
	__u64 parent_mm = (__u64)BPF_CORE_READ(parent, mm);
	__u64 child_mm = (__u64)BPF_CORE_READ(child, mm);
	struct hf_space *space;

	HF_USE_MEMORY();
	if (child_mm && child_mm != parent_mm) {
		space = bpf_map_lookup_elem(&hf_spaces, &parent_mm);
		if (space) {
			struct hf_space inherited;

			hf_read_letter(space);
			inherited = *space;
			inherited.space_id = __sync_fetch_and_add(&hf_next_space_id, 1);
			space = hf_put_space(&child_mm, &inherited) ? NULL : space;
			if (!space && counters)
				counters->spaces_refused++;
		}
		/* What had this address before is not the child's. */
		if (!space && !bpf_map_delete_elem(&hf_spaces, &child_mm))
			__sync_fetch_and_add(&hf_spaces_changes, 1);
	}
	if (hf_config.filter_pids && BPF_CORE_READ(child, pid) == BPF_CORE_READ(child, tgid)) {
		__u32 from = hf_tgid_nr(parent), to = hf_tgid_nr(child);
		__u8 one = 1;

		if (from && to && bpf_map_lookup_elem(&hf_pids, &from) &&
		    bpf_map_update_elem(&hf_pids, &to, &one, BPF_ANY) && counters)
			counters->pids_refused++;
	}
	if (counters) {
		counters->hook_runs++;
		counters->run_ns += bpf_ktime_get_ns() - t0;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(hf_on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u64 t0 = bpf_ktime_get_ns();
	struct hf_counters *counters = hf_my_counters();
	struct mm_struct *new_mm = BPF_CORE_READ(task, mm);
	__u64 mm = (__u64)new_mm;
	__u32 tgid = hf_tgid_nr(task);
	struct cgroup_subsys_state *css = NULL;
	struct hf_space space = {};
	struct hf_space_record record = {
	    .type = HF_RECORD_SPACE,
	    .tgid = tgid,
	    .time_ns = t0,
	};

	if (!bpf_map_delete_elem(&hf_spaces, &mm))
		__sync_fetch_and_add(&hf_spaces_changes, 1);
	if (!counters)
		return 0;
	counters->hook_runs++;
	if (!tgid || (hf_config.filter_pids && !bpf_map_lookup_elem(&hf_pids, &tgid)))
		goto out;
	if (hf_config.filter_cgroups && !hf_in_cgroups(task))
		goto out;
	space.space_id = __sync_fetch_and_add(&hf_next_space_id, 1);
	space.start_stack = BPF_CORE_READ(new_mm, start_stack);
	record.space_id = space.space_id;
	record.cgroup.unified = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
		__u32 at = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
		struct css_set *set = BPF_CORE_READ(task, cgroups);

		bpf_core_read(&css, sizeof(css), &set->subsys[at & 15]);
		record.cgroup.memory = BPF_CORE_READ(css, cgroup, kn, id);
	}
	if (hf_put_space(&mm, &space)) {
		counters->spaces_refused++;
		goto out;
	}
	if (bpf_ringbuf_output(&hf_ring, &record, sizeof(record), BPF_RB_NO_WAKEUP))
		counters->space_records_lost++;
out:
	counters->run_ns += bpf_ktime_get_ns() - t0;
	return 0;
}
