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
 * A sample is filtered before anything of it is read. It ends as one record, hf_sample with its
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

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Frames that one run of the tail-called walk steps through: with the 33 runs
 * that the kernel allows this exceeds the 512 frames of that fallback. */
#define HF_STEPS_PER_RUN 20
_Static_assert((HF_COST_COUNT & (HF_COST_COUNT - 1)) == 0, "a mask bounds it");
_Static_assert(33 * HF_STEPS_PER_RUN >= HF_MAX_FRAMES_BY_TAIL_CALLS,
	       "so many frames can be reached");

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

/* --------------------------------------------------------------- identity */

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

/* ----------------------------------------------------------------- filter */

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

/* ---------------------------------------------------------- address space */

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

/* ----------------------------------------------------------------- output */

/* Sends the words so far, which are all that there is room for; 0 if they were. */
static __noinline int hf_send_part(struct hf_walk *w)
{
	__u32 n = w->n_words, bytes;
	long failed;

	w->sample.type = HF_RECORD_PART;
	w->sample.n_words = n;
	bytes = sizeof(w->sample) + n * 8;
	hf_barrier(bytes);
	if (bytes > sizeof(w->sample) + sizeof(w->words))
		bytes = sizeof(w->sample) + sizeof(w->words);
	failed = bpf_ringbuf_output(&hf_ring, &w->sample, bytes, BPF_RB_NO_WAKEUP);
	w->sample.type = HF_RECORD_SAMPLE;
	return failed != 0;
}

/* What steps tell: reads of user memory for it in one walk, some ten microseconds; and
 * names of one CPU in a second. */
#define HF_TOLD_READS_PER_WALK 128
#define HF_TOLD_PER_S 4096

/* May a step gather what it wants to tell, which takes so many reads? */
static __always_inline int hf_may_tell(struct hf_walk *w, __u32 reads)
{
	struct hf_counters *counters = hf_my_counters();
	__u64 waiting, ring;

	if (!counters)
		return 0;
	if (w->t0_ns - counters->told_window_ns > 1000000000) {
		counters->told_window_ns = w->t0_ns;
		counters->told_window = 0;
	}
	/* Samples find room in the ring before names do. */
	waiting = bpf_ringbuf_query(&hf_ring, BPF_RB_AVAIL_DATA);
	ring = bpf_ringbuf_query(&hf_ring, BPF_RB_RING_SIZE);
	if (w->told_reads + reads > HF_TOLD_READS_PER_WALK ||
	    counters->told_window >= HF_TOLD_PER_S || waiting > ring / 2) {
		counters->told_refused++;
		return 0;
	}
	w->told_reads += reads;
	counters->told_window++;
	return 1;
}

/* Sends a record that begins with a struct hf_told; 0 if it was sent. */
static __always_inline int hf_tell(struct hf_walk *w, const void *record, const __u32 bytes)
{
	struct hf_counters *counters = hf_my_counters();
	long failed = bpf_ringbuf_output(&hf_ring, (void *)record, bytes, BPF_RB_NO_WAKEUP);

	if (counters && failed)
		counters->told_refused++;
	else if (counters)
		counters->told++;
	return failed != 0;
}

/* The first page from the stack pointer's up that can be read, of those that are sent at most: a
 * frame that has just been made, or a large one that is used at its other end, may lie in pages
 * that nobody touched so far. `from` itself where there is none. */
static __always_inline __u64 hf_first_page(__u64 from)
{
	__u64 at = from;
	__u8 byte;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < HF_STACK_MAX_PAGES; i++) {
		if (bpf_probe_read_user(&byte, 1, (const void *)at) == 0)
			return at;
		at += HF_STACK_PAGE_BYTES;
	}
	return from;
}

/* Sends so many pages of a stack from one up, up to `end`, and says which of them cannot be read;
 * 0: there was no room. A frame may have pages amid it that nobody has touched. */
static __always_inline int hf_send_pages(__u64 seq, __u64 from, __u64 end, const __u32 pages)
{
	__u32 holes = 0, read = 0, i;
	struct hf_stack *stack;
	__u8 *bytes;
	__u64 failed;

	stack = bpf_ringbuf_reserve(&hf_ring, sizeof(*stack) + pages * HF_STACK_PAGE_BYTES, 0);
	if (!stack)
		return 0;
	bytes = (__u8 *)stack + sizeof(*stack);
	stack->type = HF_RECORD_STACK;
	stack->reserved = 0;
	stack->addr = from;
	stack->seq = seq;
#pragma unroll
	for (i = 0; i < HF_STACK_MAX_PAGES; i++) {
		if (i >= pages || from + i * HF_STACK_PAGE_BYTES >= end)
			break;
		/* No branch, of which the verifier would follow both ways, each with the next
		 * page's: failures are negative. */
		failed = bpf_probe_read_user(bytes + i * HF_STACK_PAGE_BYTES, HF_STACK_PAGE_BYTES,
					     (const void *)(from + i * HF_STACK_PAGE_BYTES));
		failed >>= 63;
		hf_barrier(failed);
		holes |= failed << i;
		read |= (1 - failed) << i;
	}
	/* With those below the last that was read. */
	read |= read >> 1;
	read |= read >> 2;
	read |= read >> 4;
	read |= read >> 8;
	stack->holes = holes & read;
	stack->n_bytes = __builtin_popcount(read) * HF_STACK_PAGE_BYTES;
	bpf_ringbuf_submit(stack, BPF_RB_NO_WAKEUP);
	return 1;
}
_Static_assert(HF_STACK_OUTER_PAGES <= HF_STACK_MAX_PAGES, "a record has no more pages");

/* Where the goroutine's stack ends that sp is on; 0: it is on none. A Go program's stacks lie amid
 * its heap, so that nothing else bounds them. The thread's g begins with its stack's bounds, low
 * and high; it is in TLS at -8 where Go's is the only thread-local variable, which it is without
 * cgo, and in x28 on arm64 (Go 1.3 to 1.26: runtime2.go's struct g, runtime/asm_amd64.s's settls
 * and cmd/link's tlsoffset, asm_arm64.s). Words that are anything else do not enclose sp. */
static __always_inline __u64 hf_goroutine_top(struct hf_walk *w, __u64 sp)
{
	__u64 g = 0, bounds[2] = {};

#if defined(__TARGET_ARCH_x86)
	if (bpf_probe_read_user(&g, sizeof(g), (const void *)(w->tp - 8)))
		return 0;
#else
	g = w->regs[28];
#endif
	if (!g || bpf_probe_read_user(bounds, sizeof(bounds), (const void *)g))
		return 0;
	return bounds[0] <= sp && sp < bounds[1] ? bounds[1] : 0;
}

/* Where the thread's own stack ends; 0: it is not known. The main thread's is at start_stack;
 * another's at its thread control block, which glibc and musl put above it. */
static __always_inline __u64 hf_own_stack(const struct hf_walk *w)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (task->pid == task->tgid)
		return BPF_CORE_READ(task, mm, start_stack);
#if defined(__TARGET_ARCH_x86)
	return w->tp;
#else
	return 0;
#endif
}

/* Sends the stack from sp up, and the end of the thread's own; returns its number, 0 if it
 * was not sent. */
__noinline __u64 hf_send_stack(struct hf_walk *w, __u64 sp)
{
	struct hf_counters *counters = hf_my_counters();
	__u64 now, own, from, outer = 0, top, want, seq, waiting, ring;
	int sent;

	if (!w || !counters)
		return 0;
	now = w->sample.time_ns;
	from = hf_first_page(sp & ~((__u64)HF_STACK_PAGE_BYTES - 1));
	own = hf_own_stack(w);
	top = own;
	if (own <= sp || own - sp > HF_STACK_MAX_BYTES)
		top = hf_goroutine_top(w, sp);
	want = HF_STACK_MAX_PAGES * HF_STACK_PAGE_BYTES;
	if (top != own || own - from >= want)
		outer = own;
	if (top > sp && top - from < want)
		want = top - from;
	if (now - counters->slice_window_ns > 100000000) {
		counters->slice_window_ns = now;
		counters->slice_window_bytes = 0;
	}
	/* The more waits for the reader, the less is sent of each stack: its outer
	 * frames stand still longest and may yet be read in the process. A reader that
	 * is kept waiting finds the samples: stacks leave a quarter of the ring to them. */
	waiting = bpf_ringbuf_query(&hf_ring, BPF_RB_AVAIL_DATA);
	ring = bpf_ringbuf_query(&hf_ring, BPF_RB_RING_SIZE);
	if (waiting > ring / 2 && want > 2 * HF_STACK_PAGE_BYTES)
		want = 2 * HF_STACK_PAGE_BYTES;
	else if (waiting > ring / 4 && want > 4 * HF_STACK_PAGE_BYTES)
		want = 4 * HF_STACK_PAGE_BYTES;
	if (counters->slice_window_bytes + want > hf_config.slice_bytes_per_s / 10 ||
	    waiting + want > ring / 4 * 3)
		return 0;
	counters->slice_window_bytes += want;
	seq = ++counters->stack_seq << 16 | (bpf_get_smp_processor_id() & 0xffff);
	/* The least of four sizes that holds it. */
	if (want <= 2 * HF_STACK_PAGE_BYTES)
		sent = hf_send_pages(seq, from, ~0ULL, 2);
	else if (want <= 4 * HF_STACK_PAGE_BYTES)
		sent = hf_send_pages(seq, from, ~0ULL, 4);
	else if (want <= 8 * HF_STACK_PAGE_BYTES)
		sent = hf_send_pages(seq, from, ~0ULL, 8);
	else
		sent = hf_send_pages(seq, from, ~0ULL, HF_STACK_MAX_PAGES);
	if (!sent)
		return 0;
	/* A sixth of what may be sent is for what is nearer: at 99 Hz each stack of a CPU has both,
	 * also where all that runs is met for the first time. */
	want = HF_STACK_OUTER_PAGES * HF_STACK_PAGE_BYTES;
	if (outer && counters->slice_window_bytes + want <= hf_config.slice_bytes_per_s / 12) {
		counters->slice_window_bytes += want;
		/* Where little was called on it there are few pages. */
		outer = (outer + HF_STACK_PAGE_BYTES - 1) & ~((__u64)HF_STACK_PAGE_BYTES - 1);
		hf_send_pages(seq, hf_first_page(outer - want), outer, HF_STACK_OUTER_PAGES);
	}
	return seq;
}

/* Sends the stack and the registers, for user space to finish or compare the
 * walk. The words so far follow in the sample's own record. */
static __always_inline int hf_send_slice(struct hf_walk *w, struct hf_counters *counters, int audit)
{
	struct hf_slice *slice;
	__u64 sp = audit ? w->audit_regs[HF_REG_SP(w)] : w->sp;
	__u64 seq = hf_send_stack(w, sp);
	int i;

	if (seq && !audit)
		hf_moment(w);
	slice = seq ? bpf_ringbuf_reserve(&hf_ring, sizeof(*slice), 0) : NULL;
	if (!slice) {
		counters->slices_refused++;
		return 1;
	}
	slice->sample = w->sample;
	slice->sample.type = HF_RECORD_SLICE;
	slice->sample.n_words = 0;
	if (audit)
		slice->sample.flags |= HF_SAMPLE_AUDIT;
	for (i = 0; i < HF_NREGS; i++)
		slice->regs[i] = audit ? w->audit_regs[i] : w->regs[i];
	if (!audit) {
		slice->regs[HF_REG_PC(w)] = w->pc;
		slice->regs[HF_REG_SP(w)] = w->sp;
		slice->regs[HF_REG_FP(w)] = w->fp;
	}
	slice->tp = w->tp;
	slice->left_at = audit ? 0 : w->left_at;
	for (i = 0; i < HF_RUNTIME_STATE_WORDS; i++)
		slice->runtime_state[i] = audit ? 0 : w->runtime_state[i];
	slice->stack_seq = seq;
	slice->missing_pc = w->missing_pc;
	slice->missing = audit ? HF_MISSING_NONE : w->missing;
	slice->regs_valid = audit ? 1 : w->regs_valid;
	slice->pc_is_return = audit ? 0 : w->pc_is_return;
	slice->is_bare = audit ? 0 : w->bare_sp == w->sp;
	slice->reserved[0] = slice->reserved[1] = slice->reserved[2] = slice->reserved[3] = 0;
	bpf_ringbuf_submit(slice, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Wake-ups for what is urgent are this far apart at least. */
#define HF_URGENT_NS 1000000ULL
__u64 hf_urgent_ns;

/* The end of every sample that was taken. */
__noinline int hf_finish(struct hf_walk *w)
{
	struct hf_counters *counters = hf_my_counters();
	__u64 wake = BPF_RB_NO_WAKEUP, ns;
	__u32 bytes, n, cost;

	if (!w || !counters)
		return 0;
	if (w->missing != HF_MISSING_NONE) {
		if (!hf_send_slice(w, counters, 0)) {
			/* Rare, and worth a wake-up: what is loaded within a
			 * millisecond is there at the next tick. */
			wake = BPF_RB_FORCE_WAKEUP;
			counters->slices++;
			w->sample.flags |= HF_SAMPLE_SLICED;
		} else {
			w->cut = HF_CUT_BUDGET;
			w->cut_pc = w->missing_pc;
		}
	} else if (w->audit) {
		if (!hf_send_slice(w, counters, 1)) {
			counters->audits++;
			w->sample.flags |= HF_SAMPLE_AUDIT;
		}
	}
	/* CPUs that race for it wake the reader once more than was meant. */
	if ((w->sample.flags & HF_SAMPLE_URGENT) && w->t0_ns - hf_urgent_ns > HF_URGENT_NS) {
		hf_urgent_ns = w->t0_ns;
		wake = BPF_RB_FORCE_WAKEUP;
	}
	n = w->n_words;
	w->sample.n_words = n;
	w->sample.cut = w->cut;
	w->sample.cut_pc = w->cut_pc;
	w->sample.stack_hash = hf_mix(w->hash, w->cut);
	bytes = sizeof(w->sample) + n * 8;
	hf_barrier(bytes);
	if (bytes > sizeof(w->sample) + sizeof(w->words))
		bytes = sizeof(w->sample) + sizeof(w->words);
	if (bpf_ringbuf_output(&hf_ring, &w->sample, bytes, wake))
		counters->lost[HF_LOST_RING_FULL]++;
	else
		counters->emitted++;
	counters->frames += w->n_frames;
	cost = HF_COST_USER;
	if (w->missing != HF_MISSING_NONE || w->audit)
		cost = HF_COST_SLICE;
	else if (!w->n_frames)
		cost = HF_COST_NO_USER;
	else if (w->sample.flags & HF_SAMPLE_IN_KERNEL)
		cost = HF_COST_KERNEL;
	hf_barrier(cost);
	cost &= HF_COST_COUNT - 1;
	counters->cost_samples[cost]++;
	counters->cost_frames[cost] += w->n_frames;
	counters->cost_kernel_frames[cost] += w->sample.n_kernel;
	ns = bpf_ktime_get_ns() - w->t0_ns;
	counters->cost_ns[cost] += ns;
	counters->run_ns += ns;
	w->busy = 0;
	return 0;
}

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
