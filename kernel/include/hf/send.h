/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Records: what leaves the kernel half, all of it by one ring.
 *
 * In: a walk that has ended, or lacks a table. Out: hf_sample with its words, after the parts for
 * which it has no room; where a table is missing, hf_slice and the stack before it; what steps
 * tell. Whatever finds no room is counted. Cost: a copy of the words; of a stack that is sent, a
 * read of user memory a page.
 *
 * User half: crates/core/src/session/taken.rs.
 */
#ifndef HF_SEND_H
#define HF_SEND_H

/* Sends the sample with the words so far; 0 if it was. */
static __always_inline long hf_send_words(struct hf_walk *w, __u64 wake)
{
	__u32 bytes = sizeof(w->sample) + w->n_words * 8;

	w->sample.n_words = w->n_words;
	hf_barrier(bytes);
	if (bytes > sizeof(w->sample) + sizeof(w->words))
		bytes = sizeof(w->sample) + sizeof(w->words);
	return bpf_ringbuf_output(&hf_ring, &w->sample, bytes, wake);
}

/* Sends the words so far, which are all that there is room for; 0 if they were. */
static __noinline int hf_send_part(struct hf_walk *w)
{
	long failed;

	w->sample.type = HF_RECORD_PART;
	failed = hf_send_words(w, BPF_RB_NO_WAKEUP);
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
	__u32 cost;

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
	w->sample.cut = w->cut;
	w->sample.cut_pc = w->cut_pc;
	w->sample.stack_hash = hf_mix(w->hash, w->cut);
	if (hf_send_words(w, wake))
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

#endif /* HF_SEND_H */
