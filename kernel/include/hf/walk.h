/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The walk: from registers to frame words, one step a frame.
 *
 * In: struct hf_walk with registers, the address space's blob, and "memory"
 * (mem.h) that user space filled. Out: words, and why the walk ended: cut, or
 * `missing`, what of the tables has to be loaded before it can go on.
 *
 * The same text is compiled for BPF (hotframe.bpf.c) and natively
 * (kernel/native/walk.c), where user space finishes the walks of slices and
 * tests run it over recorded processes. The includer provides
 *
 *   hf_read_user(w, dst, bytes, addr)   0, or not 0 when unreadable
 *   hf_read_lasting(…)                  the same of what outlives calls: code, and
 *                                       what a runtime knows of it. When a slice's
 *                                       walk is finished it may be read later.
 *   hf_hold(w, addr)                    what is read next counts as long as this slot
 *                                       of the stack is as it was, when read later
 *   hf_mem(off, bytes)                  mem.h
 *   hf_send_part(w)                     puts w->words away, 0 if there was room; their
 *                                       number is set to 0 here
 *   hf_now_ns()                         any monotonic clock
 *
 * All loop-carried state lives in struct hf_walk, a map value: the verifier
 * knows nothing of its numbers and so has few states to follow.
 *
 * Heuristics (code without rows): first the frame pointer, if it leads to an
 * address behind a call; then a scan of the stack for such an address, one
 * word a step. A direct call counts only if its target is the function that
 * was called, or, where nothing says where that begins, lies shortly before pc;
 * behind a frame pointer also another one, if no call of this function left its
 * mark below the frame. Generated code is walked by frame pointers, and where
 * its own is not set up (hf_edge_slot) by the top of the stack. Each such frame
 * is marked. What of generated code is all epilogue up to its ret says itself
 * where its caller is (hf_epilogue), and is no guess.
 */
#ifndef HF_WALK_H
#define HF_WALK_H

/* Of the stack, read at once. */
#define HF_WINDOW_BYTES 2048
#define HF_SCAN_WORDS 96
/* Where a function without rows and symbols may begin before a pc in it. */
#define HF_NEAR_CALL_BYTES 2048
#define HF_SCRATCH_BYTES 1024
/* Of hf_edge_slot's reading, in scratch: the code at pc is behind so many bytes. */
#define HF_EDGE_BACK 12
/* Of an epilogue: bytes of code, and instructions. A sum, pops of rbx, rbp, r12 to r15 and the
 * ret are 8 instructions in 15 bytes. */
#define HF_EPILOGUE_BYTES 16
#define HF_EPILOGUE_INSNS 8
/* A frame pointer further above the stack pointer than this is not one. */
#define HF_FP_MAX_DISTANCE (1U << 20)

#define HF_CACHE_ENTRIES 1024
#define HF_TRAIL_ENTRIES 512

/* A row as the walk needs it. Its key is the frame word's payload, file id and image
 * offset: it serves every process that maps the file, and is never stale, since ids are
 * not given twice. Four to a cache line. */
struct hf_cached {
	__u64 key;
	__u8 kind;
	__s8 fp;
	__u16 trail; /* of entries[]: where in the trail the hash led to it last */
	__s32 cfa;
};
/* What a CPU remembers of its last walks. */
struct hf_cache {
	/* By a hash of the key. */
	struct hf_cached entries[HF_CACHE_ENTRIES];
	/* The last walks, frame by frame, the oldest overwritten. Callers are mostly those
	 * of the last time: behind a frame that the hash led to, the next ones are found one
	 * behind the other, in a few lines of one page, where the hash would lead to a line
	 * and a page of its own for each. */
	struct hf_cached trail[HF_TRAIL_ENTRIES];
	__u64 trail_end;
};
/* A value of a per-CPU map: PCPU_MIN_UNIT_SIZE, include/linux/percpu.h @ v6.12. */
_Static_assert(sizeof(struct hf_cache) <= 32768, "a CPU holds the cache");
_Static_assert((HF_TRAIL_ENTRIES & (HF_TRAIL_ENTRIES - 1)) == 0 && HF_TRAIL_ENTRIES <= 65536,
	       "a mask bounds places in the trail, and 16 bits hold them");
static __always_inline struct hf_cache *hf_my_cache(void);

/* An entry of hf_spaces, kept for as long as none of them changes. */
struct hf_known_space {
	__u64 mm;
	__u64 changes; /* hf_spaces_changes when it was looked up */
	struct hf_space space;
};
#define HF_KNOWN_SPACES 4

/* What every sample touches comes first, in as few lines and pages as it can: at some
 * hundred samples a second all of it is cold, and a page that the TLB has forgotten
 * costs more than a line that the caches have. */
struct hf_walk {
	__u64 pc, sp, fp;
	__u64 window_addr; /* of window[0], 8-byte aligned */
	__u64 hash;
	__u32 window_bytes;
	__u32 n_words;
	__u32 n_parts; /* that were put away before */
	__u32 reserved;
	__u32 n_frames; /* of user space */
	__u32 n_steps;
	__u32 blob_off, blob_id;
	struct hf_row row; /* of the current frame */
	__u32 max_frames;
	__u32 n_mappings;
	/* A scan under way: the next word, one past the last, and the offset
	 * of pc in its function (~0: unknown). */
	__u64 scan_at, scan_end;
	__u64 deadline_ns;
	__u8 regs_valid;
	__u8 pc_is_return;
	__u8 heuristic_next; /* the next frame was found by a heuristic */
	__u8 missing;
	__u8 cut;
	__u8 busy;
	__u8 anonymous; /* the pc is in memory that no file is behind */
	__u8 arm64;
	__u8 audit;
	__u8 at_edge; /* the scan under way looks at one word: see hf_edge_slot */
	/* The process has gone on since its registers were taken: what changes with
	 * every call, and is not on the stack, is no longer theirs. */
	__u8 late;
	/* The frame called the leaf: registers that a callee need not save, and that its
	 * rule goes by all the same, are the leaf's. */
	__u8 called_leaf;
	__u32 trail_at; /* where in the trail the next frame's row is expected */

	/* The mapping of the last frame, and the one before that was another: stacks go to
	 * and fro between a few files. */
	struct hf_mapping last, before;

	__u64 missing_pc;
	__u64 cut_pc;
	__u64 t0_ns;
	__u64 mm;
	/* Where thread-local storage is found: fs base, TPIDR_EL0. */
	__u64 tp;
	/* Runtimes' own (runtimes/NAME/bpf/step.h); zeros when a walk begins. */
	__u64 runtime_state[HF_RUNTIME_STATE_WORDS];
	__u32 runtime_off; /* table of the runtime that the pc belongs to; 0: none */
	__u32 told_reads; /* for what steps told in this walk */
	__u64 fn_start; /* process address of the function without rows; 0: unknown */
	struct hf_rule rule;
	__u64 regs[HF_NREGS];
	struct hf_known_space known[HF_KNOWN_SPACES];
	__u8 window[HF_WINDOW_BYTES];

	/* sample and words are contiguous: one output. */
	struct hf_sample sample;
	__u64 words[HF_MAX_WORDS];

	/* A frame pointer that leads behind a direct call of another function: its
	 * CFA (0: none), return address, and the frame pointer saved there. */
	__u64 guess_cfa, guess_ra, guess_fp;
	/* The stack pointer of a caller without a frame of its own; 0: there is none. */
	__u64 bare_sp;
	/* Where the stack that HF_RULE_CALLS_BACK left goes on; 0: none was left. */
	__u64 left_at;
	__u64 code_is_direct; /* the call found by hf_behind_call is a direct one */
	__u64 code_at, code_end; /* of the epilogue that is followed, in scratch */
	/* Code bytes before a candidate return address. */
	__u8 code[8];
	__u8 scratch[HF_SCRATCH_BYTES]; /* of whichever runtime's step runs */
	__u64 audit_regs[HF_NREGS];
	__u64 sigcontext[34];
};

_Static_assert(sizeof(struct hf_walk) <= 32768, "a CPU holds a walk");
_Static_assert(sizeof(struct hf_walk) + sizeof(struct hf_cache) + sizeof(struct hf_counters) <=
		   HF_CPU_BYTES,
	       "what user space counts for a CPU is enough");

#if defined(__BPF__)
#if defined(__TARGET_ARCH_arm64)
#define HF_IS_ARM64(w) 1
#else
#define HF_IS_ARM64(w) 0
#endif
#define hf_barrier(x) asm volatile("" : "+r"(x))
#else
#define HF_IS_ARM64(w) ((w)->arm64)
#define hf_barrier(x) ((void)(x))
#endif

/* Registers that callees need not save: rax, rcx, rdx, rsi, rdi, r8 to r11; x0 to x18. */
#define HF_SCRATCH_REGS(w) (HF_IS_ARM64(w) ? 0x7ffffULL : 0xf37ULL)

#define HF_REG_FP(w) (HF_IS_ARM64(w) ? HF_ARM64_FP : HF_X86_RBP)
#define HF_REG_SP(w) (HF_IS_ARM64(w) ? HF_ARM64_SP : HF_X86_RSP)
#define HF_REG_PC(w) (HF_IS_ARM64(w) ? HF_ARM64_PC : HF_X86_PC)

/* What few steps come to is a function of its own: the path that all take stays short, and
 * is fetched into cold caches at each sample. In BPF they are global: the verifier looks
 * at each once, on its own, and their arguments may be anything to it. */
#if defined(__BPF__)
#define HF_RARE __noinline
#else
#define HF_RARE static
#endif

#define HF_HASH_SEED 0x9e3779b97f4a7c15ULL

static __always_inline __u64 hf_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0xff51afd7ed558ccdULL;
	return hash ^ (hash >> 32);
}

static __always_inline __u64 hf_word(__u64 kind, __u64 flags, __u64 payload)
{
	return kind << HF_FRAME_KIND_SHIFT | flags << HF_FRAME_FLAGS_SHIFT |
	       (payload & HF_FRAME_PAYLOAD_MASK);
}

static __always_inline int hf_cut(struct hf_walk *w, __u8 cut)
{
	w->cut = cut;
	w->cut_pc = w->pc;
	return 1;
}

static __always_inline int hf_miss(struct hf_walk *w, __u8 missing, __u64 pc)
{
	w->missing = missing;
	w->missing_pc = pc;
	return 1;
}

/* Appends a word; 0 if it had room. */
static __always_inline int hf_push(struct hf_walk *w, __u64 word)
{
	__u32 n = w->n_words;

	hf_barrier(n);
	if (n >= HF_MAX_WORDS)
		return 1;
	w->words[n] = word;
	w->n_words = n + 1;
	w->hash = hf_mix(w->hash, word);
	return 0;
}

/* Fills the window from addr to the end of its page: one long read costs a fraction of
 * many short ones. */
HF_RARE int hf_fill_window(struct hf_walk *w, __u64 addr)
{
	__u32 len = HF_WINDOW_BYTES - (addr & (HF_WINDOW_BYTES - 1));

	hf_barrier(len);
	if (!w || len > HF_WINDOW_BYTES)
		return 1;
	w->window_bytes = 0;
	if (hf_read_user(w, w->window, len, addr))
		return 1;
	w->window_addr = addr;
	w->window_bytes = len;
	return 0;
}

/* Reads a word of the stack by way of the window. */
static __always_inline int hf_stack_u64(struct hf_walk *w, __u64 addr, __u64 *value)
{
	__u64 at = addr - w->window_addr;

	if (addr & 7)
		return hf_read_user(w, value, 8, addr);
	if (at >= w->window_bytes) {
		if (hf_fill_window(w, addr))
			return 1;
		at = 0;
	}
	at &= HF_WINDOW_BYTES - 8;
	hf_barrier(at);
	*value = *(__u64 *)(w->window + (at & (HF_WINDOW_BYTES - 8)));
	return 0;
}

static __always_inline void hf_copy_mapping(struct hf_mapping *to, const struct hf_mapping *from)
{
	to->start = from->start;
	to->end = from->end;
	to->image = from->image;
	to->file_id = from->file_id;
	to->file_off = from->file_off;
	to->runtime_off = from->runtime_off;
}

/* Finds the mapping of pc, which is not the last one, into w->last. */
HF_RARE int hf_change_mapping(struct hf_walk *w, __u64 pc)
{
	const struct hf_mapping *mapping;
	struct hf_mapping found;
	__u32 base, n, at = 0;
	int i;

	if (!w)
		return 1;
	if (pc >= w->before.start && pc < w->before.end) {
		hf_copy_mapping(&found, &w->before);
		hf_copy_mapping(&w->before, &w->last);
		hf_copy_mapping(&w->last, &found);
		return 0;
	}
	base = w->blob_off + sizeof(struct hf_blob);
	n = w->n_mappings;
	if (n == 0 || n > HF_MAX_MAPPINGS)
		return 1;
	for (i = 0; i < 14; i++) { /* 2^13 = HF_MAX_MAPPINGS */
		__u32 half = n >> 1;

		if (n <= 1)
			break;
		mapping = hf_mem(base + (at + half) * sizeof(*mapping), sizeof(*mapping));
		if (!mapping)
			return 1;
#if defined(__BPF__) && !defined(HF_ARENA)
		{
			/* In an array value the verifier follows each outcome of a
			 * branch on its own: select by arithmetic. Addresses of
			 * user space are below 2^63. */
			__u64 take = 1 ^ ((pc - mapping->start) >> 63);

			hf_barrier(take);
			at += half * (__u32)take;
		}
#else
		if (mapping->start <= pc)
			at += half;
#endif
		n -= half;
	}
	mapping = hf_mem(base + at * sizeof(*mapping), sizeof(*mapping));
	if (!mapping || pc < mapping->start || pc >= mapping->end)
		return 1;
	hf_copy_mapping(&w->before, &w->last);
	hf_copy_mapping(&w->last, mapping);
	return 0;
}

/* Finds the mapping of pc into w->last; 0 if there is one. */
static __always_inline int hf_find_mapping(struct hf_walk *w, __u64 pc)
{
	return (pc >= w->last.start && pc < w->last.end) ? 0 : hf_change_mapping(w, pc);
}

/* Finds the row of image offset addr in the file of w->last, into w->row and,
 * where the row says so, w->rule. Returns enum hf_missing. */
HF_RARE int hf_find_row(struct hf_walk *w, __u32 addr)
{
	const struct hf_file *file;
	const struct hf_block *block;
	const struct hf_row *row;
	const struct hf_rule *rule;
	const __u32 *slot;
	const __u16 *index;
	__u32 number = addr >> HF_BLOCK_SHIFT;
	__u32 at_pc = addr & (HF_BLOCK_BYTES - 1);
	__u32 bucket = at_pc >> HF_BUCKET_SHIFT;
	__u32 block_off, rows_off, base, end, n, n_rows, rule_at;
	int i;

	if (!w)
		return HF_MISSING_ROWS;
	file = hf_mem(w->last.file_off, sizeof(*file));
	w->row.pc = 0;
	w->row.kind = HF_RULE_NONE;
	w->row.fp = 0;
	w->row.cfa = 0;
	w->fn_start = 0;
	if (!file || file->file_id != w->last.file_id)
		return HF_MISSING_ROWS;
	if (number >= file->n_blocks || number >= HF_MAX_BLOCKS)
		return HF_MISSING_NONE;
	slot = hf_mem(w->last.file_off + sizeof(*file) + number * 4, 4);
	if (!slot)
		return HF_MISSING_ROWS;
	block_off = *slot;
	if (block_off == 0)
		return HF_MISSING_ROWS;
	block = hf_mem(block_off, sizeof(*block));
	if (!block || block->file_id != w->last.file_id)
		return HF_MISSING_ROWS;
	n_rows = block->n_rows;
	rows_off = block_off + sizeof(*block);
	index = hf_mem(block_off + __builtin_offsetof(struct hf_block, index) + bucket * 2, 2);
	if (!index || n_rows == 0 || n_rows > HF_MAX_ROWS_PER_BLOCK)
		return HF_MISSING_NONE;
	base = *index;
	end = n_rows - 1;
	if (bucket < HF_BUCKETS_PER_BLOCK - 1) {
		index = hf_mem(
		    block_off + __builtin_offsetof(struct hf_block, index) + (bucket + 1) * 2, 2);
		if (index)
			end = *index;
	}
	/* A bucket has at most one row a byte, and the one before it. */
	n = end - base + 1;
	if (end < base || n > (1U << HF_BUCKET_SHIFT) + 1)
		return HF_MISSING_NONE;
	for (i = 0; i < 10; i++) {
		__u32 half = n >> 1;

		if (n <= 1)
			break;
		row = hf_mem(rows_off + (base + half) * sizeof(*row), sizeof(*row));
		if (!row)
			return HF_MISSING_NONE;
#if defined(__BPF__) && !defined(HF_ARENA)
		{
			__u64 take = 1 ^ (((__u64)at_pc - row->pc) >> 63);

			hf_barrier(take);
			base += half * (__u32)take;
		}
#else
		if (row->pc <= at_pc)
			base += half;
#endif
		n -= half;
	}
	row = hf_mem(rows_off + base * sizeof(*row), sizeof(*row));
	if (!row)
		return HF_MISSING_NONE;
	w->row.pc = row->pc;
	w->row.kind = row->kind;
	w->row.fp = row->fp;
	w->row.cfa = row->cfa;
	if ((w->row.kind & HF_RULE_KIND_MASK) == HF_RULE_NONE && w->row.cfa == 1)
		w->fn_start = w->last.image + (addr & ~(HF_BLOCK_BYTES - 1)) + w->row.pc;
	if ((w->row.kind & HF_RULE_KIND_MASK) == HF_RULE_SIDE) {
		rule_at = w->row.cfa;
		if (rule_at >= block->n_rules)
			return HF_MISSING_NONE;
		rule = hf_mem(block->rules_off + rule_at * sizeof(*rule), sizeof(*rule));
		if (!rule)
			return HF_MISSING_NONE;
		w->rule.cfa_op = rule->cfa_op;
		w->rule.cfa_reg = rule->cfa_reg;
		w->rule.fp_op = rule->fp_op;
		w->rule.fp_reg = rule->fp_reg;
		w->rule.ra_op = rule->ra_op;
		w->rule.ra_reg = rule->ra_reg;
		w->rule.cfa_off = rule->cfa_off;
		w->rule.cfa_off2 = rule->cfa_off2;
		w->rule.cfa_mid = rule->cfa_mid;
		w->rule.fp_off = rule->fp_off;
		w->rule.fp_off2 = rule->fp_off2;
		w->rule.ra_off = rule->ra_off;
		w->rule.ra_off2 = rule->ra_off2;
	}
	return HF_MISSING_NONE;
}

/* The value of a register by DWARF number; 0 if it is known. */
static __always_inline int hf_reg(struct hf_walk *w, __u32 reg, __u64 *value)
{
	if (reg == HF_REG_SP(w)) {
		*value = w->sp;
		return 0;
	}
	if (reg == HF_REG_FP(w)) {
		*value = w->fp;
		return 0;
	}
	hf_barrier(reg);
	if (reg >= HF_NREGS)
		return 1;
	/* Who finds its CFA by a register that callees may change, across a call, says that
	 * this callee leaves it alone (OpenSSL's AES-GCM: rax). */
	if (!w->regs_valid && !(w->called_leaf && HF_SCRATCH_REGS(w) >> reg & 1))
		return 1;
	*value = w->regs[reg];
	return 0;
}

/* Moves to the caller: checks that hold for every rule. */
static __always_inline int hf_to_caller(struct hf_walk *w, __u64 cfa, __u64 ra, __u64 fp)
{
	if (HF_IS_ARM64(w))
		ra &= 0x0000ffffffffffffULL; /* pointer authentication, tags */
	if (ra == 0)
		return hf_cut(w, HF_CUT_ZERO_RA);
	if (ra < 4096 || ra >> 47)
		return hf_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
	/* Stacks grow down, and a call on x86-64 takes eight bytes. A runtime that
	 * keeps stacks of its own may have changed from one above the other. */
	if (w->row.kind & HF_RULE_NEW_STACK)
		;
	else if (cfa < w->sp || (cfa == w->sp && !w->regs_valid))
		return hf_cut(w, HF_CUT_BAD_UNWIND_INFO);
	w->sp = cfa;
	w->fp = fp;
	w->pc = ra;
	w->pc_is_return = 1;
	w->called_leaf = w->regs_valid;
	w->regs_valid = 0;
	return 0;
}

/* Moves to the caller that a row gives. A function that others are called from and that would
 * itself return to 0 was not called: who makes a coroutine's stack puts 0 there (Ruby, Crystal and
 * D for their fibers), or leaves what fresh memory holds. A leaf says nothing by that: code that
 * changes stacks has rows that do not hold at each of its instructions (glibc's swapcontext). Nor
 * does what a guess led to. Where the row itself was made of the function's instructions, it was no
 * function as they are called in C: GHC's has its stack in rbp, and nothing tells of it. */
static __always_inline int hf_by_row(struct hf_walk *w, __u64 cfa, __u64 ra, __u64 fp)
{
	if (ra == 0 && w->pc_is_return && !(w->sample.flags & HF_SAMPLE_HEURISTIC))
		return hf_cut(w, HF_CUT_NONE);
	if (ra == 0 && (w->row.kind & HF_RULE_HEURISTIC))
		return hf_cut(w, HF_CUT_NO_UNWIND_INFO);
	return hf_to_caller(w, cfa, ra, fp);
}

HF_RARE int hf_apply_signal(struct hf_walk *w)
{
	__u64 at;
	int i;

	if (!w)
		return 1;
	at = w->sp + (__s64)w->row.cfa;
	if (HF_IS_ARM64(w)) {
		/* struct sigcontext: fault_address, regs[31], sp, pc
		 * (arch/arm64/include/uapi/asm/sigcontext.h @ v6.12) */
		if (hf_read_user(w, w->sigcontext, 34 * 8, at))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		for (i = 0; i < HF_NREGS; i++)
			w->regs[i] = w->sigcontext[i + 1];
	} else {
		/* struct sigcontext: r8..r15, di, si, bp, bx, dx, ax, cx, sp, ip
		 * (arch/x86/include/uapi/asm/sigcontext.h @ v6.12) */
		if (hf_read_user(w, w->sigcontext, 17 * 8, at))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		for (i = 0; i < 8; i++)
			w->regs[8 + i] = w->sigcontext[i];
		w->regs[5] = w->sigcontext[8];
		w->regs[4] = w->sigcontext[9];
		w->regs[6] = w->sigcontext[10];
		w->regs[3] = w->sigcontext[11];
		w->regs[1] = w->sigcontext[12];
		w->regs[0] = w->sigcontext[13];
		w->regs[2] = w->sigcontext[14];
		w->regs[7] = w->sigcontext[15];
		w->regs[16] = w->sigcontext[16];
	}
	w->pc = w->regs[HF_REG_PC(w)];
	w->sp = w->regs[HF_REG_SP(w)];
	w->fp = w->regs[HF_REG_FP(w)];
	w->pc_is_return = 0;
	w->regs_valid = 1;
	if (w->pc == 0)
		return hf_cut(w, HF_CUT_ZERO_RA);
	return 0;
}

/* Goes on behind runtime.morestack on the stack of the goroutine that has its stack copied. Where
 * struct g has m and what it notes is the same in all versions of Go (runtime2.go, 1.5 to 1.26). */
#define HF_GO_G_M 48
#define HF_GO_G_SCHED_SP 56
HF_RARE int hf_grown(struct hf_walk *w)
{
	__u64 g = 0, m = 0, g0 = 0, curg = 0, of = 0, fp = 0, at[2] = {};
	__u32 n;

	if (!w)
		return 1;
	n = w->n_words;
	hf_barrier(n);
	if (n < 2 || n > HF_MAX_WORDS)
		return hf_cut(w, HF_CUT_NONE);
	/* Not in newstack, or it goes on to let another goroutine run. */
	if (((w->words[n - 2] ^ w->words[n - 1]) & HF_FRAME_PAYLOAD_MASK) >> HF_FRAME_FILE_SHIFT ||
	    (__u32)w->words[n - 2] != (__u32)w->rule.ra_off)
		return hf_cut(w, HF_CUT_NONE);
	/* It runs by now, and has noted other places since. */
	if (w->late)
		return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	if (hf_read_user(w, &g, 8, w->tp + (__s64)w->rule.cfa_off) ||
	    hf_read_user(w, &m, 8, g + HF_GO_G_M) || hf_read_user(w, &g0, 8, m) || g0 != g ||
	    hf_read_user(w, &curg, 8, m + (__s64)w->rule.cfa_off2) ||
	    hf_read_user(w, &of, 8, curg + HF_GO_G_M) || of != m ||
	    hf_read_user(w, at, sizeof(at), curg + HF_GO_G_SCHED_SP) ||
	    hf_read_user(w, &fp, 8, curg + (__s64)w->rule.fp_off))
		return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	if (at[1] < 4096 || at[1] >> 47)
		return hf_cut(w, HF_CUT_BAD_RETURN_ADDRESS);
	w->sp = at[0];
	w->pc = at[1];
	w->fp = fp;
	w->pc_is_return = 1;
	w->called_leaf = 0;
	w->regs_valid = 0;
	return 0;
}

/* Does a call end at ra, and could it have called the current function? Looks
 * at the eight bytes before ra. Sets w->last to ra's mapping. */
static __always_inline int hf_behind_call(struct hf_walk *w, __u64 ra);

/* The stack that was left for another (by Go and OCaml to call C, by C to align its own) is found
 * by a register that callees save, of which only the leaf's values are known: mostly the leaf, if
 * it was called from here, has no need of that register. Where the functions between say where
 * they saved it (HF_OP_KEPT) it is what was found there. 0: a call ends where it leads to, as
 * nothing does that the leaf would have there, and guess_cfa is its value. */
HF_RARE int hf_left_alone(struct hf_walk *w)
{
	__u64 value, ra;
	__u32 reg;

	if (!w)
		return 1;
	reg = w->rule.cfa_reg;
	if (!(w->row.kind & HF_RULE_NEW_STACK) ||
	    (w->rule.cfa_op != HF_OP_KEPT && (!w->called_leaf || w->rule.cfa_op != HF_OP_REG)))
		return 1;
	hf_barrier(reg);
	if (reg >= HF_NREGS)
		return 1;
	value = w->regs[reg];
	if ((value & 7) || hf_stack_u64(w, value + (__s64)w->rule.cfa_off - 8, &ra))
		return 1;
	if (!hf_behind_call(w, ra) && !w->code_is_direct)
		return 1;
	w->guess_cfa = value;
	/* Of what called on the stack that is left now it says nothing any more. */
	w->regs[reg] = 0;
	w->heuristic_next = 1;
	w->sample.flags |= HF_SAMPLE_HEURISTIC;
	return 0;
}

HF_RARE int hf_apply_side(struct hf_walk *w)
{
	__u64 cfa, ra, fp;
	__u32 kept;

	if (!w)
		return 1;
	if (w->rule.cfa_op == HF_OP_GREW)
		return hf_grown(w);
	fp = w->fp;
	if (hf_reg(w, w->rule.cfa_reg, &cfa)) {
		if (hf_left_alone(w))
			return hf_cut(w, HF_CUT_NO_UNWIND_INFO);
		cfa = w->guess_cfa;
	}
	cfa += (__s64)w->rule.cfa_off;
	if (w->rule.cfa_op == HF_OP_REG) {
		kept = (__u32)w->rule.cfa_mid;
		hf_barrier(kept);
		if (kept && kept < HF_NREGS &&
		    hf_stack_u64(w, cfa + (__s64)w->rule.cfa_off2, &w->regs[kept]))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	} else if (w->rule.cfa_op != HF_OP_KEPT) {
		if (hf_stack_u64(w, cfa, &cfa))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		if (w->rule.cfa_op == HF_OP_DEREF_TWICE) {
			cfa += (__s64)w->rule.cfa_mid;
			if (hf_stack_u64(w, cfa, &cfa))
				return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		}
		cfa += (__s64)w->rule.cfa_off2;
	}
	switch (w->rule.ra_op) {
	case HF_OP_UNDEFINED:
		return hf_cut(w, HF_CUT_NONE);
	case HF_OP_CFA_DEREF:
		if (hf_stack_u64(w, cfa + (__s64)w->rule.ra_off, &ra))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		break;
	case HF_OP_CFA:
		ra = cfa + (__s64)w->rule.ra_off;
		break;
	case HF_OP_REG:
	case HF_OP_DEREF:
		if (hf_reg(w, w->rule.ra_reg, &ra))
			return hf_cut(w, HF_CUT_NO_UNWIND_INFO);
		ra += (__s64)w->rule.ra_off;
		if (w->rule.ra_op == HF_OP_DEREF) {
			if (hf_stack_u64(w, ra, &ra))
				return hf_cut(w, HF_CUT_STACK_UNREADABLE);
			ra += (__s64)w->rule.ra_off2;
		}
		break;
	default: /* unchanged: the link register of a leaf */
		if (hf_reg(w, HF_ARM64_LR, &ra))
			return hf_cut(w, HF_CUT_BAD_UNWIND_INFO);
	}
	switch (w->rule.fp_op) {
	case HF_OP_CFA_DEREF:
		if (hf_stack_u64(w, cfa + (__s64)w->rule.fp_off, &fp))
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		break;
	case HF_OP_REG:
	case HF_OP_DEREF:
		if (hf_reg(w, w->rule.fp_reg, &fp)) {
			fp = 0;
			break;
		}
		fp += (__s64)w->rule.fp_off;
		if (w->rule.fp_op == HF_OP_DEREF) {
			if (hf_stack_u64(w, fp, &fp))
				return hf_cut(w, HF_CUT_STACK_UNREADABLE);
			fp += (__s64)w->rule.fp_off2;
		}
		break;
	case HF_OP_CFA:
		fp = cfa + (__s64)w->rule.fp_off;
		break;
	case HF_OP_UNDEFINED:
		fp = 0;
		break;
	case HF_OP_BARE:
		w->bare_sp = cfa;
		break;
	}
	return hf_by_row(w, cfa, ra, fp);
}

/* Does a call end at ra, and could it have called the current function? Looks
 * at the eight bytes before ra. Sets w->last to ra's mapping. */
static __always_inline int hf_behind_call(struct hf_walk *w, __u64 ra)
{
	__u32 code, target;
	__u64 to;

	w->code_is_direct = 0;
	if (ra < 4096 || ra >> 47 || hf_find_mapping(w, ra - 1))
		return 0;
	if (hf_read_user(w, w->code, 8, ra - 8))
		return 0;
	if (HF_IS_ARM64(w)) {
		code = *(__u32 *)(w->code + 4);
		if ((code & 0xfffffc1f) == 0xd63f0000) /* blr */
			return 1;
		if ((code & 0xfc000000) != 0x94000000) /* bl */
			return 0;
		return !w->fn_start || ra - 4 + ((__s64)((__s32)(code << 6)) >> 4) == w->fn_start;
	}
	if (w->code[3] == 0xe8) { /* call rel32 */
		target = *(__u32 *)(w->code + 4);
		to = ra + (__s64)(__s32)target;
		w->code_is_direct = 1;
		if (w->fn_start)
			return to == w->fn_start;
		/* Nothing says where the function begins: shortly before pc. */
		return to <= w->pc && w->pc - to < HF_NEAR_CALL_BYTES;
	}
	/* ff /2: call r/m64, two to seven bytes (SDM vol. 2, "CALL") */
	if (w->code[6] == 0xff && (w->code[7] & 0xf8) == 0xd0)
		return 1; /* register */
	if (w->code[6] == 0xff && (w->code[7] & 0x38) == 0x10 && (w->code[7] & 0xc0) == 0 &&
	    (w->code[7] & 7) != 4 && (w->code[7] & 7) != 5)
		return 1; /* [register] */
	if (w->code[5] == 0xff && (w->code[6] & 0xf8) == 0x50 && (w->code[6] & 7) != 4)
		return 1; /* [register + disp8] */
	if (w->code[5] == 0xff && w->code[6] == 0x14)
		return 1; /* [sib] */
	if (w->code[4] == 0xff && w->code[5] == 0x54)
		return 1; /* [sib + disp8] */
	if (w->code[2] == 0xff && (w->code[3] & 0xf8) == 0x90 && (w->code[3] & 7) != 4)
		return 1; /* [register + disp32] */
	if (w->code[2] == 0xff && w->code[3] == 0x15)
		return 1; /* [rip + disp32] */
	if (w->code[1] == 0xff && (w->code[2] == 0x94 || w->code[2] == 0x14))
		return 1; /* [sib + disp32] */
	return 0;
}

/* mov r12, imm64; call rel32? BaselineCompiler::Prologue (src/baseline/baseline-compiler.cc @ V8
 * 11.3): the bytecode, and what makes the frame. */
static __always_inline int hf_calls_for_frame(const __u8 *at)
{
	return at[0] == 0x49 && at[1] == 0xbc && at[10] == 0xe8;
}

/* sub rsp, n; call r; add rsp, n; ret? A function that only calls another: Python/asm_trampoline.S
 * @ CPython 3.12, without a frame pointer. The two sums being one, the callee leaves the stack as
 * it was. */
static __always_inline int hf_is_trampoline(const __u8 *at)
{
	return at[0] == 0x48 && at[1] == 0x83 && at[2] == 0xec && at[3] < 0x80 && at[4] == 0xff &&
	       (at[5] & 0xf8) == 0xd0 && at[6] == 0x48 && at[7] == 0x83 && at[8] == 0xc4 &&
	       at[9] == at[3] && at[10] == 0xc3;
}

/* Generated code that was interrupted before its frame stands, or after it is gone: where its
 * return address is then, 0 if nothing says so. The frame pointer is the caller's there, and would
 * lead past it. The signs: push rbp; mov rbp, rsp ahead (V8 checks a few things before it: 110
 * bytes in its interpreter's entry, version 11.3) or half done, or a call ahead for the frame
 * (behind mov r32, imm32 or xor ebx, ebx); a ret here, a leave or mov rsp, rbp; pop rbp just
 * behind. */
HF_RARE __u64 hf_edge_slot(struct hf_walk *w)
{
	const int back = HF_EDGE_BACK, ahead = 112;
	__u64 here, other, ahead_is = 0, behind_is = 0;
	__u32 at;
	int i;

	if (!w)
		return 0;
	if (HF_IS_ARM64(w) || !w->regs_valid || w->pc_is_return)
		return 0;
	if (hf_read_user(w, w->scratch, back + ahead + 4, w->pc - back)) {
		w->scratch[back] = 0;
		return 0;
	}
	at = *(__u32 *)(w->scratch + back);
	if (hf_is_trampoline(w->scratch + back) ||
	    (at == 0xfa1e0ff3 && hf_is_trampoline(w->scratch + back + 4))) /* endbr64 */
		return w->sp;
	if (hf_is_trampoline(w->scratch + back - 4))
		return w->sp + w->scratch[back - 1];
	if (w->scratch[back - 1] == 0x55 &&
	    ((at & 0xffffff) == 0xe58948 || (at & 0xffffff) == 0xec8b48))
		return w->sp + 8;
	/* Without branches: the verifier would follow each. x | -x is negative unless x is 0. */
	for (i = 0; i < ahead; i++) {
		here = *(__u32 *)(w->scratch + back + i) ^ 0xe5894855;
		other = *(__u32 *)(w->scratch + back + i) ^ 0xec8b4855;
		ahead_is |= ~((here | -here) & (other | -other)) >> 63;
	}
	for (i = 0; i <= back - 4; i++) {
		here = *(__u32 *)(w->scratch + i) ^ 0x5de58b48;
		other = *(__u32 *)(w->scratch + i) ^ 0x5dec8948;
		behind_is |= ~((here | -here) & (other | -other)) >> 63;
	}
	hf_barrier(ahead_is);
	hf_barrier(behind_is);
	if ((at & 0xff) == 0xc3 || (at & 0xff) == 0xc2 || ahead_is || behind_is ||
	    w->scratch[back - 1] == 0xc9)
		return w->sp;
	if (hf_calls_for_frame(w->scratch + back) || hf_calls_for_frame(w->scratch + back - 10) ||
	    ((at & 0xf8) == 0xb8 && hf_calls_for_frame(w->scratch + back + 5)) ||
	    ((at & 0xfffd) == 0xdb31 && hf_calls_for_frame(w->scratch + back + 2)))
		return w->sp;
	return 0;
}

/* pop r8..r15; lea rsp; push of the same; ret? */
static __always_inline int hf_drops_arguments(const __u8 *at)
{
	return at[0] == 0x41 && (at[1] & 0xf8) == 0x58 && (at[2] & 0xfd) == 0x48 && at[3] == 0x8d &&
	       at[4] == 0x24 && at[6] == 0x41 && at[7] == (at[1] ^ 8) && at[8] == 0xc3;
}

/* Generated code that drops its arguments on its way out: the frame is gone, and between the pop
 * and the push the return address is in one of r8 to r15 alone: its number. 16: it is still on top
 * of the stack; 0: nothing of that. MacroAssembler::DropArguments
 * (src/codegen/x64/macro-assembler-x64.cc @ V8 11.3), also far behind the leave. To be called after
 * hf_edge_slot, which read the code. */
static __always_inline __u32 hf_popped_register(struct hf_walk *w)
{
	const __u8 *pc = w->scratch + HF_EDGE_BACK;

	if (HF_IS_ARM64(w) || !w->regs_valid || w->pc_is_return)
		return 0;
	if (hf_drops_arguments(pc))
		return 16;
	if (hf_drops_arguments(pc - 2))
		return 8 + (pc[-1] & 7);
	if (hf_drops_arguments(pc - 6))
		return 8 + (pc[-5] & 7);
	return 0;
}

/* One instruction of an epilogue, at w->code_at: what it makes of the stack pointer, in guess_cfa,
 * and of the frame pointer, in guess_fp. 0: it was followed; 1: it is the ret; 2: it is none of
 * these. */
HF_RARE int hf_epilogue_insn(struct hf_walk *w)
{
	__u64 at, sp;
	__u32 code;

	if (!w)
		return 2;
	at = w->code_at;
	if (at >= w->code_end)
		return 2;
	hf_barrier(at);
	at &= 31;
	code = *(__u32 *)(w->scratch + at);
	sp = w->guess_cfa;
	if ((code & 0xff) == 0xc3)
		return 1;
	if ((code & 0xffffff) == 0xc48348 && !(code >> 31)) { /* add rsp, imm8 */
		w->guess_cfa = sp + (code >> 24);
		at += 4;
	} else if ((code & 0xffffff) == 0xc48148) { /* add rsp, imm32 */
		code = *(__u32 *)(w->scratch + at + 3);
		if (code >= HF_FP_MAX_DISTANCE)
			return 2;
		w->guess_cfa = sp + code;
		at += 7;
	} else if ((code & 0xff) == 0x5d) { /* pop rbp */
		if (hf_stack_u64(w, sp, &w->guess_fp))
			return 2;
		w->guess_cfa = sp + 8;
		at += 1;
	} else if ((code & 0xf8) == 0x58 && (code & 7) != 4) { /* pop, but of rsp */
		w->guess_cfa = sp + 8;
		at += 1;
	} else if ((code & 0xf8ff) == 0x5841) { /* pop r8 to r15 */
		w->guess_cfa = sp + 8;
		at += 2;
	} else if ((code & 0xff) == 0xc9) { /* leave */
		sp = w->guess_fp;
		if ((sp & 7) || sp < w->guess_cfa || sp - w->guess_cfa >= HF_FP_MAX_DISTANCE ||
		    hf_stack_u64(w, sp, &w->guess_fp))
			return 2;
		w->guess_cfa = sp + 8;
		at += 1;
	} else {
		return 2;
	}
	w->code_at = at;
	return 0;
}

/* Generated code of which nothing but the epilogue is left from pc on: it says itself where its
 * return address is, whether it has a frame pointer or not. Only if every instruction up to the ret
 * is known, and what it would return to is behind a call: pc may have been found by a guess. 1:
 * guess_cfa, guess_ra and guess_fp are the caller's. To be called after hf_edge_slot, which read
 * the code if pc was interrupted. */
HF_RARE int hf_epilogue(struct hf_walk *w)
{
	__u64 ra;
	int i, is = 0;

	if (!w)
		return 0;
	if (HF_IS_ARM64(w) || !(w->pc_is_return || w->regs_valid))
		return 0;
	w->code_at = w->pc_is_return ? 0 : HF_EDGE_BACK;
	w->code_end = w->code_at + HF_EPILOGUE_BYTES;
	if (w->pc_is_return && hf_read_user(w, w->scratch, HF_EPILOGUE_BYTES, w->pc)) {
		/* The last page of a mapping may end behind the ret. */
		w->code_end = 8;
		if (hf_read_user(w, w->scratch, 8, w->pc))
			return 0;
	}
	w->guess_cfa = w->sp;
	w->guess_fp = w->fp;
	for (i = 0; i < HF_EPILOGUE_INSNS && !is; i++)
		is = hf_epilogue_insn(w);
	if (is == 1 && !hf_stack_u64(w, w->guess_cfa, &ra) && ra >= 4096 && !(ra >> 47) &&
	    /* Of what is not mapped yet, user space is asked when it is the pc. */
	    (hf_find_mapping(w, ra - 1) || hf_behind_call(w, ra) || w->code_is_direct)) {
		w->guess_cfa += 8;
		w->guess_ra = ra;
		return 1;
	}
	w->guess_cfa = 0;
	return 0;
}

/* Does the frame pointer lead to a return address that no known mapping has? A
 * JIT makes memory executable after it was mapped, of which no event tells. */
HF_RARE int hf_caller_is_unmapped(struct hf_walk *w)
{
	__u64 fp, next_fp, ra;

	if (!w)
		return 1;
	fp = w->fp;
	if ((fp & 7) || fp < w->sp || fp - w->sp >= HF_FP_MAX_DISTANCE ||
	    hf_stack_u64(w, fp, &next_fp) || hf_stack_u64(w, fp + 8, &ra))
		return 0;
	/* A JIT may use the register for anything: only a chain is worth asking
	 * user space about. */
	if ((next_fp & 7) || next_fp <= fp || next_fp - fp >= HF_FP_MAX_DISTANCE)
		return 0;
	if (ra < 4096 || ra >> 47 || !hf_find_mapping(w, ra - 1))
		return 0;
	return hf_miss(w, HF_MISSING_MAPPING, ra - 1);
}

/* No rows: try the frame pointer, else begin a scan. */
HF_RARE int hf_guess(struct hf_walk *w)
{
	__u64 fp, next_fp, ra, edge = 0;

	if (!w)
		return 1;
	fp = w->fp;
	w->cut_pc = w->pc;
	w->guess_cfa = 0;
	w->at_edge = 0;
	if (w->anonymous) {
		__u32 popped;

		edge = hf_edge_slot(w);
		popped = hf_popped_register(w);
		if (popped == 16 || w->bare_sp == w->sp)
			edge = w->sp;
		hf_barrier(popped);
		popped &= 15;
		ra = w->regs[popped];
		if (popped && (hf_behind_call(w, ra) || w->code_is_direct)) {
			w->heuristic_next = 1;
			w->sample.flags |= HF_SAMPLE_HEURISTIC;
			return hf_to_caller(w, w->sp + 8, ra, fp);
		}
		if (w->bare_sp != w->sp && hf_epilogue(w))
			return hf_to_caller(w, w->guess_cfa, w->guess_ra, w->guess_fp);
	}
	if (!(fp & 7) && fp >= w->sp && fp - w->sp < HF_FP_MAX_DISTANCE &&
	    !hf_stack_u64(w, fp, &next_fp) && !hf_stack_u64(w, fp + 8, &ra)) {
		int found = hf_behind_call(w, ra);

		/* A direct call elsewhere in this file called another function:
		 * the frame pointer is still that of a caller. Calls from other
		 * files go through a stub, whose target says nothing. */
		if (!found && w->code_is_direct)
			found = !w->fn_start || w->pc < w->last.start || w->pc >= w->last.end;
		if (found && !edge) {
			w->heuristic_next = 1;
			w->sample.flags |= HF_SAMPLE_HEURISTIC;
			return hf_to_caller(w, fp + 16, ra, next_fp);
		}
		/* The chain of frame pointers ends in 0 (System V ABI 3.4.1), and
		 * what would be returned to is generated code that nobody calls:
		 * where a green thread ends (BEAM's processes). */
		if (!found && !edge && w->anonymous && !next_fp && !w->code_is_direct &&
		    ra - 1 >= w->last.start && ra - 1 < w->last.end && !w->last.file_off)
			return hf_cut(w, HF_CUT_NONE);
		/* Either this function has no frame yet, and the pointer is its
		 * caller's, or the callee passed on to it by a jump (V8's
		 * builtins do). In the first case a call of this very function
		 * left its mark below the frame. */
		if (found || w->code_is_direct) {
			w->guess_cfa = fp + 16;
			w->guess_ra = ra;
			w->guess_fp = next_fp;
		}
	}
	if (edge) {
		w->at_edge = 1;
		w->scan_at = edge;
		w->scan_end = edge + 8;
		return 0;
	}
	/* In a JIT's code a scan would take whatever an earlier call left: the
	 * functions are not known, so that no call can be told from another. */
	if (w->anonymous)
		return hf_cut(w, HF_CUT_NO_UNWIND_INFO);
	w->scan_at = (w->sp + 7) & ~7ULL;
	w->scan_end = w->scan_at + HF_SCAN_WORDS * 8;
	if (w->guess_cfa && fp < w->scan_end)
		w->scan_end = fp;
	return 0;
}

HF_RARE int hf_scan(struct hf_walk *w)
{
	__u64 at, ra;

	if (!w)
		return 1;
	at = w->scan_at;
	if (at >= w->scan_end) {
		w->scan_at = 0;
		if (!w->guess_cfa)
			return hf_cut(w, HF_CUT_NO_UNWIND_INFO);
		w->heuristic_next = 1;
		w->sample.flags |= HF_SAMPLE_HEURISTIC;
		return hf_to_caller(w, w->guess_cfa, w->guess_ra, w->guess_fp);
	}
	w->scan_at = at + 8;
	if (hf_stack_u64(w, at, &ra)) {
		w->scan_at = 0;
		return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	}
	if (!hf_behind_call(w, ra)) {
		/* Of generated code it is not known where functions begin. */
		if (!w->at_edge || !w->code_is_direct)
			return 0;
	} else if (w->guess_cfa && !w->code_is_direct && !w->at_edge) {
		return 0;
	}
	w->scan_at = 0;
	w->heuristic_next = 1;
	w->sample.flags |= HF_SAMPLE_HEURISTIC;
	/* The frame pointer may or may not have been changed: it is kept, and
	 * checked by whoever uses it next. */
	return hf_to_caller(w, at + 8, ra, w->fp);
}

/* The row of the native frame at the walk's pc, as hf_find_row finds it, for a step that asks
 * before the native rules do. What was found before is not touched: they find it there again, in
 * its order. */
static __always_inline int hf_find_own_row(struct hf_walk *w)
{
	__u32 addr = (__u32)(w->pc - w->pc_is_return - w->last.image), at = w->trail_at;
	__u64 key = (__u64)w->last.file_id << HF_FRAME_FILE_SHIFT | addr;
	struct hf_cache *cache = hf_my_cache();
	struct hf_cached *entry;

	if (!cache)
		return hf_find_row(w, addr);
	hf_barrier(at);
	entry = &cache->trail[at & (HF_TRAIL_ENTRIES - 1)];
	if (entry->key != key)
		entry = &cache->entries[key * HF_HASH_SEED >> 48 & (HF_CACHE_ENTRIES - 1)];
	if (entry->key != key)
		return hf_find_row(w, addr);
	w->row.kind = entry->kind;
	w->row.fp = entry->fp;
	w->row.cfa = entry->cfa;
	return HF_MISSING_NONE;
}

#include "hf/runtime.h"

/* Finds the row of image offset addr in the file of w->last, as hf_find_row does,
 * in what was found before if it can. Rows that need more than themselves are not
 * kept. */
static __always_inline int hf_find_known_row(struct hf_walk *w, struct hf_cache *cache, __u64 key)
{
	struct hf_cached *entry, *next;
	__u32 at = w->trail_at, kind;
	__u64 end;
	int missing;

	hf_barrier(at);
	entry = &cache->trail[at & (HF_TRAIL_ENTRIES - 1)];
	end = cache->trail_end;
	if (entry->key != key) {
		entry = &cache->entries[key * HF_HASH_SEED >> 48 & (HF_CACHE_ENTRIES - 1)];
		if (entry->key != key) {
			missing = hf_find_row(w, (__u32)key);
			if (missing)
				return missing;
			kind = w->row.kind & HF_RULE_KIND_MASK;
			if (kind == HF_RULE_NONE || kind == HF_RULE_SIDE)
				return HF_MISSING_NONE;
			entry->key = key;
			entry->kind = w->row.kind;
			entry->fp = w->row.fp;
			entry->cfa = w->row.cfa;
		} else {
			at = entry->trail;
		}
		entry->trail = (__u16)end;
	}
	w->row.kind = entry->kind;
	w->row.fp = entry->fp;
	w->row.cfa = entry->cfa;
	w->trail_at = at + 1;
	cache->trail_end = end + 1;
	at = (__u32)end;
	hf_barrier(at);
	next = &cache->trail[at & (HF_TRAIL_ENTRIES - 1)];
	next->key = key;
	next->kind = entry->kind;
	next->fp = entry->fp;
	next->cfa = entry->cfa;
	return HF_MISSING_NONE;
}

/* One step: emits the frame at w->pc and moves to its caller, or tries one
 * word of a scan. Returns 1 when the walk has ended. */
static __always_inline int hf_step(struct hf_walk *w, struct hf_cache *cache)
{
	__u64 lookup, word, cfa, ra, fp, flags, key;
	int missing, runtime, rule;

	if (!(w->n_steps++ & 31) && hf_now_ns() > w->deadline_ns)
		return hf_cut(w, HF_CUT_TIME);
	if (w->scan_at)
		return hf_scan(w);
	if (w->n_frames >= w->max_frames)
		return hf_cut(w, HF_CUT_TOO_DEEP);
	/* A step adds a frame of a runtime and a native one. */
	if (w->n_words > HF_MAX_WORDS - HF_MAX_DATA_WORDS - 2) {
		if ((w->n_parts + 2) * HF_MAX_WORDS > HF_MAX_STACK_WORDS)
			return hf_cut(w, HF_CUT_TOO_DEEP);
		/* The ring is full: the rest has no room. */
		if (hf_send_part(w))
			return hf_cut(w, HF_CUT_BUDGET);
		w->n_parts++;
		w->n_words = 0;
	}

	lookup = w->pc - w->pc_is_return;
	flags = (w->pc_is_return ? HF_FRAME_RETURN_ADDR : 0) |
		(w->heuristic_next ? HF_FRAME_HEURISTIC : 0);
	if (hf_find_mapping(w, lookup))
		return hf_miss(w, HF_MISSING_MAPPING, lookup);
	if (w->last.runtime_off) {
		w->runtime_off = w->last.runtime_off;
		runtime = hf_step_runtime(w);
		if (runtime != HF_STEP_NATIVE)
			return runtime == HF_STEP_ENDED;
		flags |= HF_FRAME_RUNS_RUNTIME;
		/* It may have looked at other mappings. */
		if (hf_find_mapping(w, lookup))
			return hf_miss(w, HF_MISSING_MAPPING, lookup);
	}
	w->anonymous = w->last.file_off == 0;
	if (w->anonymous) {
		if (hf_caller_is_unmapped(w))
			return 1;
		w->row.kind = HF_RULE_NONE;
		w->row.fp = 0;
		w->row.cfa = 0;
		w->fn_start = 0;
		word = hf_word(HF_FRAME_USER_PC, flags, w->pc);
	} else {
		key =
		    (__u64)w->last.file_id << HF_FRAME_FILE_SHIFT | (__u32)(lookup - w->last.image);
		missing = hf_find_known_row(w, cache, key);
		if (missing)
			return hf_miss(w, missing, lookup);
		/* Where no call stands before the pc, the pc is the code that the frame is in: what
		 * lies before it is other code, or none. */
		rule = w->row.kind & HF_RULE_KIND_MASK;
		if (rule == HF_RULE_SIGNAL || (rule == HF_RULE_END && w->row.cfa))
			flags &= ~HF_FRAME_RETURN_ADDR;
		word = hf_word(HF_FRAME_NATIVE, flags,
			       (key & ~0xffffffffULL) | (__u32)(key + w->pc_is_return));
	}
	if (hf_push(w, word))
		return hf_cut(w, HF_CUT_TOO_DEEP);
	w->n_frames++;
	w->heuristic_next = 0;
	if (w->row.kind & HF_RULE_HEURISTIC) {
		w->heuristic_next = 1;
		w->sample.flags |= HF_SAMPLE_HEURISTIC;
	}

	switch (w->row.kind & HF_RULE_KIND_MASK) {
	case HF_RULE_SP:
		cfa = w->sp + (__s64)w->row.cfa;
		break;
	case HF_RULE_FP:
		cfa = w->fp + (__s64)w->row.cfa;
		break;
	case HF_RULE_PLT:
		cfa = w->sp + 8 + ((w->pc & 15) >= (__u32)w->row.cfa ? 8 : 0);
		break;
	case HF_RULE_CALLS_BACK:
		/* Before it goes over, and when it is back, both are one frame. */
		cfa = w->sp + (__s64)w->row.cfa;
		if (cfa != w->fp + 16)
			w->left_at = cfa;
		cfa = w->fp + 16;
		break;
	case HF_RULE_CALLS_OUT:
		cfa = w->row.cfa ? w->sp + (__s64)w->row.cfa : w->fp + 16;
		if (w->left_at)
			cfa = w->left_at;
		w->left_at = 0;
		break;
	case HF_RULE_END:
		return hf_cut(w, HF_CUT_NONE);
	case HF_RULE_SIGNAL:
		return hf_apply_signal(w);
	case HF_RULE_SIDE:
		return hf_apply_side(w);
	case HF_RULE_BAD:
		return hf_cut(w, HF_CUT_BAD_UNWIND_INFO);
	default:
		return hf_guess(w);
	}
	fp = w->fp;
	if (w->row.fp == HF_FP_UNDEFINED)
		fp = 0;
	else if (w->row.fp && hf_stack_u64(w, cfa + 8 * (__s64)w->row.fp, &fp))
		return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	if (HF_IS_ARM64(w)) {
		if (w->row.kind & HF_RULE_RA_IN_LR) {
			if (!w->regs_valid)
				return hf_cut(w, HF_CUT_BAD_UNWIND_INFO);
			ra = w->regs[HF_ARM64_LR];
		} else if (hf_stack_u64(w, cfa + 8 * (__s64)w->row.fp + 8, &ra)) {
			return hf_cut(w, HF_CUT_STACK_UNREADABLE);
		}
	} else if (hf_stack_u64(w, cfa - 8, &ra)) {
		return hf_cut(w, HF_CUT_STACK_UNREADABLE);
	}
	return hf_by_row(w, cfa, ra, fp);
}

/* Begins a walk from w->regs in the blob at w->blob_off. */
static __always_inline void hf_begin(struct hf_walk *w)
{
	int i;

	w->pc = w->regs[HF_REG_PC(w)];
	w->sp = w->regs[HF_REG_SP(w)];
	w->fp = w->regs[HF_REG_FP(w)];
	w->window_addr = 0;
	w->window_bytes = 0;
	w->n_words = 0;
	w->n_parts = 0;
	w->n_frames = 0;
	w->n_steps = 0;
	w->trail_at = 0;
	w->hash = HF_HASH_SEED;
	w->last.start = 0;
	w->last.end = 0;
	w->before.start = 0;
	w->before.end = 0;
	w->scan_at = 0;
	w->at_edge = 0;
	w->bare_sp = 0;
	w->left_at = 0;
	w->missing = HF_MISSING_NONE;
	w->missing_pc = 0;
	w->cut = HF_CUT_NONE;
	w->cut_pc = 0;
	w->regs_valid = 1;
	w->called_leaf = 0;
	w->pc_is_return = 0;
	w->heuristic_next = 0;
	w->tp = 0;
	for (i = 0; i < HF_RUNTIME_STATE_WORDS; i++)
		w->runtime_state[i] = 0;
	w->told_reads = 0;
}

#endif /* HF_WALK_H */
