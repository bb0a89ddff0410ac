/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What crosses the boundary between the kernel half and user space: records in
 * the ring, tables in shared memory, frame words, unwind rules, reasons.
 *
 * Rust twin: crates/abi/src/abi.rs, generated from this file by tools/abigen
 * (make generate) and checked for freshness by make check.
 *
 * All integers are little-endian native; every structure is free of padding.
 */
#ifndef HF_ABI_H
#define HF_ABI_H

#ifdef __BPF__
#include "vmlinux.h"
#else
#include <linux/types.h>
#endif

/* The Rust twin's generator does not see what follows a structure's head. */
#ifdef HF_ABI_GENERATING
#define HF_TAIL(type, name)
#else
#define HF_TAIL(type, name) type name[];
#endif

/* ------------------------------------------------------------ frame words */

/*
 * A frame is one 64-bit word, or, for HF_FRAME_DYNAMIC, a head word and the
 * data words that its length states.
 *
 *   63..60 kind   59..56 flags   55..0 payload by kind:
 *   NATIVE   55..32 file id, 31..0 image offset
 *            (ELF virtual address minus the image base: the first PT_LOAD's
 *            address rounded down to its page)
 *   USER_PC  55..0 the program counter itself, in no known mapping
 *   KERNEL   55..0 low bits of the address; the upper 8 bits are ones
 *   NOTE     7..0 enum hf_note: a frame that stands for code not unwound
 *   DYNAMIC  55..48 runtime (enum hf_runtime), 47..40 number of data words
 *            that follow (at most HF_MAX_DATA_WORDS), 39..0 the runtime's own
 */
enum hf_frame_kind {
	HF_FRAME_NONE = 0,
	HF_FRAME_NATIVE = 1,
	HF_FRAME_USER_PC = 2,
	HF_FRAME_DYNAMIC = 3,
	HF_FRAME_NOTE = 4,
	HF_FRAME_KERNEL = 15,
};

/* The address is a return address: its call stands one byte before it. */
#define HF_FRAME_RETURN_ADDR 1
/* The frame was found by a heuristic (frame pointer or scan). */
#define HF_FRAME_HEURISTIC 2
/* The code runs frames of a runtime, which stand before it: it is shown without
 * what was inlined into it. */
#define HF_FRAME_RUNS_RUNTIME 4

#define HF_FRAME_KIND_SHIFT 60
#define HF_FRAME_FLAGS_SHIFT 56
#define HF_FRAME_FILE_SHIFT 32
#define HF_FRAME_PAYLOAD_MASK 0x00ffffffffffffffULL
/* File ids are never reused while hotframe runs: 16 million is room enough. */
#define HF_FILE_ID_MAX 0x00ffffffU

#define HF_FRAME_RUNTIME_SHIFT 48
#define HF_FRAME_N_DATA_SHIFT 40
#define HF_MAX_DATA_WORDS 3

/* Runtimes whose frames the kernel half knows: a folder of runtimes/ each. Ids
 * are never reused. */
enum hf_runtime {
	HF_RUNTIME_NONE = 0,
	HF_RUNTIME_CPYTHON = 1,
	HF_RUNTIME_HOTSPOT = 2,
	HF_RUNTIME_COUNT = 3,
};

enum hf_note {
	HF_NOTE_NONE = 0,
	HF_NOTE_TASK_32BIT = 1, /* a 32-bit task: its user stack is not unwound */
};

/* ---------------------------------------------------------------- reasons */

/* Why a stack ends. Whole stacks have HF_CUT_NONE. The list is closed: its
 * names, lower case, are keys of --stats. */
enum hf_cut {
	HF_CUT_NONE = 0,
	HF_CUT_NO_UNWIND_INFO = 1,
	HF_CUT_BAD_UNWIND_INFO = 2,
	HF_CUT_UNKNOWN_MAPPING = 3,
	HF_CUT_STALE_MAP = 4,
	HF_CUT_STACK_UNREADABLE = 5,
	HF_CUT_BAD_RETURN_ADDRESS = 6,
	HF_CUT_ZERO_RA = 7,
	HF_CUT_TOO_DEEP = 8,
	HF_CUT_TIME = 9,
	HF_CUT_BUDGET = 10,
	HF_CUT_PROCESS_GONE = 11,
	HF_CUT_COUNT = 12,
};

/* Why a tick that ran the program gave no sample. */
enum hf_filtered {
	HF_FILTERED_IDLE = 0, /* the idle task */
	HF_FILTERED_PID = 1,
	HF_FILTERED_CGROUP = 2,
	HF_FILTERED_COMM = 3,
	HF_FILTERED_NAMESPACE = 4, /* not visible in our pid namespace */
	HF_FILTERED_COUNT = 5,
};

/* Why a sample that was taken did not reach user space. */
enum hf_lost {
	HF_LOST_RING_FULL = 0,
	HF_LOST_NO_SCRATCH = 1, /* another sample was being walked on this CPU */
	HF_LOST_TAIL_CALL = 2,
	HF_LOST_COUNT = 3,
};

/* What of the tables is missing: why a slice was sent. */
enum hf_missing {
	HF_MISSING_NONE = 0,
	HF_MISSING_SPACE = 1, /* nothing is known of the address space */
	HF_MISSING_MAPPING = 2, /* the pc lies in no known mapping */
	HF_MISSING_ROWS = 3, /* the file's rows for this text are not loaded */
	HF_MISSING_STEP = 4, /* the walk is being loaded anew with the runtime's step */
};

/* ------------------------------------------------------ tables in memory */

/*
 * "Memory" is one region shared by the kernel half and user space: an arena
 * where the kernel has one, else 1 MiB values of an array map. Offsets are
 * bytes from its start; 0 means none. No structure crosses a 1 MiB boundary.
 *
 * Every structure that may be freed begins with an id that is never reused.
 * A reader compares it: a stale offset is thereby found out, so that nobody
 * counts references. User space clears the id, waits for an RCU grace period,
 * and only then reuses the bytes.
 */
/* Where user space maps the arena: a 4 GiB boundary, so that an offset is the
 * low half of an address. */
#define HF_ARENA_ADDR 0x100000000000ULL
#define HF_MEM_CHUNK_SHIFT 20
#define HF_MEM_CHUNK_BYTES (1U << HF_MEM_CHUNK_SHIFT)

/* Mailbox in which user space publishes the blob of an address space. Direct
 * mapped by space id; overwritten letters are sent again on the next slice. */
#define HF_MAILBOX_SLOTS 4096
#define HF_MAILBOX_OFF 65536U
/* What user space may allocate begins here. */
#define HF_HEAP_OFF (2 * 65536U)
struct hf_letter {
	__u32 space_id;
	__u32 blob_off;
	__u32 blob_id;
	__u32 reserved;
};

/* Kernel map value: what an mm is known by. The key is the mm's address;
 * fork and exec replace the entry, so that a reused address is never stale. */
struct hf_space {
	__u32 space_id; /* never reused */
	__u32 blob_off;
	__u32 blob_id;
	__u32 reserved;
	/* The mm's start_stack: an exec has its mm before it tells anybody, so
	 * that an address that was used before is found out by this. */
	__u64 start_stack;
};

/* One executable mapping of an address space, or the part of one that belongs
 * to a runtime. */
struct hf_mapping {
	__u64 start;
	__u64 end; /* exclusive */
	__u64 image; /* process address of image offset 0 */
	__u32 file_id; /* 0: anonymous executable memory */
	__u32 file_off; /* memory offset of its struct hf_file; 0: none */
	__u32 runtime_off; /* memory offset of its runtime's table; 0: none */
	__u32 reserved;
};

/* What a runtime's table begins with (struct hf_NAME_proc of
 * runtimes/NAME/bpf/abi.h). It lives as long as the blobs that name it. */
struct hf_runtime_table {
	__u32 runtime; /* enum hf_runtime */
	__u32 reserved;
};
#define HF_RUNTIME_TABLE_MAX_BYTES 61440

/* The executable mappings of an address space, sorted by start. */
#define HF_MAX_MAPPINGS 8192
struct hf_blob {
	__u32 blob_id;
	__u32 n_mappings;
	/* Memory offset of the table of the runtime that is asked before a slice is sent; 0: none.
	 */
	__u32 moment_off;
	__u32 reserved;
	HF_TAIL(struct hf_mapping, mappings)
};

/* A file's directory of blocks of rows; a block covers 64 KiB of image. */
#define HF_BLOCK_SHIFT 16
#define HF_BLOCK_BYTES (1U << HF_BLOCK_SHIFT)
#define HF_MAX_BLOCKS 65536
struct hf_file {
	__u32 file_id;
	__u32 n_blocks;
	/* memory offset of a struct hf_block; 0: not loaded */
	HF_TAIL(__u32, blocks)
};

/* Rows of one block, sorted by pc; rows[0].pc is 0. */
#define HF_BUCKET_SHIFT 8
#define HF_BUCKETS_PER_BLOCK (1U << (HF_BLOCK_SHIFT - HF_BUCKET_SHIFT))
#define HF_MAX_ROWS_PER_BLOCK 65535
struct hf_row {
	__u16 pc; /* first byte of the block to which the rule applies */
	__u8 kind; /* enum hf_rule_kind | HF_RULE_* flags */
	/* Where the caller's frame pointer is: CFA + 8 * fp; 0: unchanged. */
	__s8 fp;
	__s32 cfa; /* meaning by kind */
};

struct hf_block {
	__u32 file_id;
	__u32 n_rows;
	__u32 rules_off; /* memory offset of struct hf_rule[n_rules]; 0: none */
	__u32 n_rules;
	/* index[i]: the last row at or before byte 256 * i of the block */
	__u16 index[HF_BUCKETS_PER_BLOCK];
	HF_TAIL(struct hf_row, rows)
};

/*
 * x86-64: the return address is at CFA - 8 unless a HF_RULE_SIDE row says
 * otherwise. arm64: it is beside the frame pointer (at CFA + 8 * fp + 8), or
 * in the link register where HF_RULE_RA_IN_LR is set.
 */
enum hf_rule_kind {
	/* No unwind information. cfa is 1 where the row's pc is the start of a
	 * function. Heuristics may go on. */
	HF_RULE_NONE = 0,
	HF_RULE_SP = 1, /* CFA = sp + cfa */
	HF_RULE_FP = 2, /* CFA = fp + cfa */
	/* Outermost function: the return address is undefined, or the function
	 * is a known entry. cfa is 1 where the stack was made to return there, with
	 * no call before the pc. */
	HF_RULE_END = 3,
	HF_RULE_SIDE = 4, /* rules[cfa] of the block */
	HF_RULE_SIGNAL = 5, /* struct sigcontext at sp + cfa holds all registers */
	/* CFA = sp + 8 + ((pc & 15) >= cfa ? 8 : 0) */
	HF_RULE_PLT = 6,
	HF_RULE_BAD = 7, /* the unwind information here could not be read */
	/* Called by C, it calls Go on a goroutine's stack, where it has opened a second frame.
	 * CFA = fp + 16; the second frame ends at sp + cfa. */
	HF_RULE_CALLS_BACK = 8,
	/* Called by Go, it calls C on the thread's stack. CFA = the end of the second frame of the
	 * last HF_RULE_CALLS_BACK, which is below the frame that this one has on the goroutine's
	 * stack; if there was none, fp + 16, or, where cfa is not 0, sp + cfa. */
	HF_RULE_CALLS_OUT = 9,
	HF_RULE_KIND_COUNT = 10,
};
#define HF_RULE_KIND_MASK 0x0f
#define HF_RULE_HEURISTIC 0x80 /* the row was synthesised */
#define HF_RULE_RA_IN_LR 0x40 /* arm64 */
#define HF_RULE_NEW_STACK 0x20 /* the caller's frame may be on another stack */
/* fp: the caller's value is not recoverable (DW_CFA_undefined). */
#define HF_FP_UNDEFINED 127

/* A rule that does not fit a row. Registers have their DWARF numbers. */
enum hf_op {
	HF_OP_SAME = 0, /* the register keeps its value (not for the CFA) */
	HF_OP_UNDEFINED = 1,
	HF_OP_REG = 2, /* reg + off */
	HF_OP_DEREF = 3, /* *(reg + off) + off2 */
	HF_OP_CFA_DEREF = 4, /* *(CFA + off) */
	HF_OP_CFA = 5, /* CFA + off */
	/* Of the frame pointer: it keeps its value, and the caller, which is to have its frame
	 * made by this function, has none yet. */
	HF_OP_BARE = 6,
	/* Of the CFA: runtime.morestack of Go, on the stack of the thread's own goroutine. g is at
	 * cfa_off in thread-local storage. If it called from where newstack, the next frame further
	 * in, returns to at image offset ra_off, the goroutine m.curg, which is at cfa_off2 of m,
	 * is the caller, and has noted where; the frame pointer is at fp_off of it. Else the stack
	 * ends. */
	HF_OP_GREW = 7,
	HF_OP_DEREF_TWICE = 8, /* *(*(reg + off) + cfa_mid) + off2, of the CFA alone */
	/* Of the CFA: reg + off, as HF_OP_REG, of a function that calls on another stack; what
	 * its callees in the same file say of reg is where they saved it (cfa_mid). */
	HF_OP_KEPT = 9,
};
struct hf_rule {
	__u8 cfa_op; /* HF_OP_REG, HF_OP_DEREF, HF_OP_DEREF_TWICE, HF_OP_KEPT */
	__u8 cfa_reg;
	__u8 fp_op;
	__u8 fp_reg;
	__u8 ra_op;
	__u8 ra_reg;
	/* HF_OP_DEREF_TWICE. Of HF_OP_REG: a register that callees save, whose value of the
	 * caller's is at CFA + cfa_off2; 0: none. */
	__s16 cfa_mid;
	__s32 cfa_off;
	__s32 cfa_off2;
	__s32 fp_off;
	__s32 fp_off2;
	__s32 ra_off;
	__s32 ra_off2;
};

/* Registers by DWARF number; the last one is the pc. x86-64: 0..15 general
 * (6 rbp, 7 rsp), 16 rip. arm64: 0..30 x0..x30, 31 sp, 32 pc. */
#define HF_NREGS 33
#define HF_X86_RBP 6
#define HF_X86_RSP 7
#define HF_X86_PC 16
#define HF_ARM64_FP 29
#define HF_ARM64_LR 30
#define HF_ARM64_SP 31
#define HF_ARM64_PC 32

/* ----------------------------------------------------- records in the ring */

enum hf_record_type {
	HF_RECORD_SAMPLE = 1,
	HF_RECORD_SLICE = 2,
	HF_RECORD_SPACE = 3,
	HF_RECORD_STACK = 4,
	/* Words of a stack that do not fit its sample's record, which comes behind:
	 * the sample as it stands, its first n_words words. */
	HF_RECORD_PART = 5,
	HF_RECORD_TOLD = 6,
};

enum hf_origin {
	HF_ORIGIN_CPU = 0, /* the sampling clock */
	HF_ORIGIN_COUNT = 1,
};

#define HF_SAMPLE_HEURISTIC 1 /* some frame was found by a heuristic */
#define HF_SAMPLE_KTHREAD 2
#define HF_SAMPLE_IN_KERNEL 4 /* the tick hit kernel code */
/* A sample: its walk is whole, and a slice for comparison came before. A slice:
 * it is that one. */
#define HF_SAMPLE_AUDIT 8
/* The walk goes on in user space: the slice came just before. */
#define HF_SAMPLE_SLICED 16
/* The tick hit the kernel inside of execve: the registers may be those of the
 * image before, of which nothing is mapped any more. */
#define HF_SAMPLE_IN_EXEC 32
/* What its frames point at may be gone within milliseconds: the reader is woken. */
#define HF_SAMPLE_URGENT 128

#define HF_COMM_BYTES 16
/* 900 calls of Python 3.6 take 3,600 frames and 4,500 words. */
#define HF_MAX_FRAMES 4096
#define HF_MAX_FRAMES_BY_TAIL_CALLS 512 /* on kernels without bpf_loop */
#define HF_MAX_STEPS 8192
#define HF_MAX_KERNEL_FRAMES 127
/* Frames of runtimes take up to four words. What a CPU holds of a walk may take
 * 32 KiB (PCPU_MIN_UNIT_SIZE, include/linux/percpu.h @ v6.12): a longer stack is
 * sent in parts of so many words. */
#define HF_MAX_WORDS 3072
/* Words of a stack in all. */
#define HF_MAX_STACK_WORDS 12288

/* What --memory has for each CPU that may come online: struct hf_walk, hf_cache and hf_counters. */
#define HF_CPU_BYTES 57344

/* A sample, followed by n_words frame words: kernel frames first, leaf first. */
struct hf_sample {
	__u8 type; /* enum hf_record_type */
	__u8 origin;
	__u8 cut; /* enum hf_cut */
	__u8 flags;
	__u16 n_words;
	__u16 n_kernel; /* of n_words */
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 stack_hash; /* of all words and the cut reason */
	__u32 tgid; /* in hotframe's pid namespace */
	__u32 tid;
	__u64 start_ns; /* the process's start, CLOCK_BOOTTIME: with tgid and
			 * exec_id, its incarnation */
	__u32 exec_id;
	__u16 cpu; /* below 8192, the most that a kernel is made for (NR_CPUS) */
	/* Frames of this runtime are missing, and the first reason, which is one of its own
	 * (HF_CPYTHON_LOST_*); 0: none are. */
	__u8 lost_runtime;
	__u8 lost_why;
	__u32 space_id;
	__u32 blob_id; /* the mapping generation the walk used */
	__u32 label_set;
	__u32 weight; /* ticks this sample stands for */
	__u64 cut_pc; /* process address at which the stack was cut */
	__u8 comm[HF_COMM_BYTES];
};

/* What runtimes' steps remember from one of their calls to the next in a walk. Each word is one
 * runtime's: CPython has 0, 1 and 3 (HF_CPYTHON_STATE and what follows it), HotSpot 2. */
#define HF_RUNTIME_STATE_WORDS 8

/* What user space needs to finish a walk that could not go on: the registers
 * where it stopped. The stack came before, in the HF_RECORD_STACK record of
 * the same number; the sample itself follows, with the words so far. */
struct hf_slice {
	struct hf_sample sample;
	__u64 regs[HF_NREGS];
	__u64 stack_seq; /* 0: no stack could be sent */
	__u64 missing_pc;
	__u8 missing; /* enum hf_missing */
	__u8 regs_valid; /* all registers hold (leaf or signal frame) */
	__u8 pc_is_return; /* pc is a return address */
	__u8 is_bare; /* the function at pc has no frame of its own yet (HF_OP_BARE) */
	__u8 reserved[4];
	__u64 tp; /* the thread pointer */
	__u64 left_at; /* of struct hf_walk */
	__u64 runtime_state[HF_RUNTIME_STATE_WORDS]; /* of struct hf_walk */
};

/* What a runtime's step tells its user half beside its frames; what follows is
 * the runtime's own. It comes before the sample that it belongs to. */
struct hf_told {
	__u8 type; /* HF_RECORD_TOLD */
	__u8 runtime; /* HF_RUNTIME_* */
	__u16 reserved;
	__u32 tgid;
	__u32 exec_id;
	__u32 reserved2;
	__u64 start_ns;
	/* The frames that it names: what of their words says so is the runtime's to know. */
	__u64 key[2];
};

/* Whole pages of a stack, from the page of the stack pointer up. */
#define HF_STACK_PAGE_SHIFT 12
#define HF_STACK_PAGE_BYTES (1U << HF_STACK_PAGE_SHIFT)
#define HF_STACK_MAX_PAGES 16
/* Of the outer end of the thread's own stack, which follows under the same number where the pages
 * from the stack pointer up do not reach it. A frame may be larger than all of them (that of rustc
 * 1.95's run_compiler takes 527 KiB), and then its callers are few: the program's or the thread's
 * start. They lie below the thread's local variables, of which rustc has 26 KiB. Or the program is
 * on another stack (a signal's, a coroutine's), and what called it is there. */
#define HF_STACK_OUTER_PAGES 16
_Static_assert(HF_STACK_MAX_PAGES <= 16 && HF_STACK_OUTER_PAGES <= 16, "a bit of holes each");
/* A stack pointer further below a stack's end is on another one. */
#define HF_STACK_MAX_BYTES (64ULL << 20)
struct hf_stack {
	__u8 type; /* HF_RECORD_STACK */
	__u8 reserved;
	/* Bit n: page n of them could not be read (nobody has touched it so far) and is zeros. */
	__u16 holes;
	__u32 n_bytes; /* that follow, up to the last page that could be read */
	__u64 seq;
	__u64 addr; /* process address of the first byte */
	HF_TAIL(__u8, bytes)
};

/* Where a task is: inodes of its cgroups in the unified hierarchy and in that of the memory
 * controller, which is the same one or an older; 0: there is none. */
struct hf_cgroup_ids {
	__u64 unified;
	__u64 memory;
};

/* A process replaced its address space by exec. */
struct hf_space_record {
	__u8 type; /* HF_RECORD_SPACE */
	__u8 reserved[3];
	__u32 tgid; /* in hotframe's pid namespace */
	__u64 time_ns;
	__u32 space_id;
	__u32 reserved2;
	struct hf_cgroup_ids cgroup;
};

/* ---------------------------------------------------------- configuration */

#define HF_MAX_COMMS 16
/* Processes that the filter holds at a time, and cgroups. */
#define HF_MAX_PIDS 16384
#define HF_MAX_CGROUPS 64
/* Read-only to the kernel half, written once before it is loaded. */
struct hf_config {
	__u32 ns_inum; /* inode of hotframe's pid namespace; 0: the initial one */
	__u32 n_comms; /* thread names to record; 0: all */
	__u8 filter_pids; /* only processes in hf_pids */
	__u8 filter_cgroups; /* only tasks below a cgroup in hf_cgroups */
	__u8 cgroup_v1; /* look at the hierarchy of cgroup_subsys */
	__u8 cgroup_subsys;
	/* Bits 1 << enum hf_runtime of the steps that may be called. */
	__u32 runtimes;
	__u32 reserved;
	__u32 max_frames; /* <= HF_MAX_FRAMES */
	__u64 time_cap_ns; /* of one walk */
	__u64 slice_bytes_per_s; /* per CPU */
	__u32 audits; /* samples that each CPU sends for audit */
	__u32 mem_bytes; /* size of memory */
	__u8 comms[HF_MAX_COMMS][HF_COMM_BYTES];
};

/* ----------------------------------------------------- names of the kernel */

/* One batch of kernel addresses and their names (kernel/ksyms.bpf.c). A symbol
 * has at most 511 characters (KSYM_NAME_LEN, include/linux/kallsyms.h @ v6.12);
 * what is longer is cut. */
#define HF_KSYMS 256
#define HF_KSYM_BYTES 192
struct hf_ksyms {
	__u32 n;
	__u32 reserved;
	__u64 addrs[HF_KSYMS];
	__u8 names[HF_KSYMS][HF_KSYM_BYTES]; /* each ends with a NUL */
};

/* --------------------------------------------------------------- counters */

/* What a tick that took a sample cost, by what had to be done. */
enum hf_cost {
	HF_COST_USER = 0, /* it hit user code: the user stack alone */
	HF_COST_KERNEL = 1, /* it hit the kernel: both stacks */
	HF_COST_NO_USER = 2, /* there was no user stack to walk */
	HF_COST_SLICE = 3, /* part of the stack was sent, for user space to go on */
	HF_COST_COUNT = 4,
};

/* One per CPU. */
struct hf_counters {
	__u64 runs; /* entries of the sampling program */
	__u64 due_ns; /* when the last tick was due */
	__u64 idle_switches; /* from the CPU's idle task, until then */
	__u64 passed_over; /* ticks due in between that a late one passed over (hf_passed_over) */
	__u64 run_ns; /* of all programs, by our own clock */
	__u64 taken;
	__u64 emitted;
	__u64 slices;
	__u64 slices_refused; /* over the byte rate, or the ring had no room */
	__u64 filtered[HF_FILTERED_COUNT];
	__u64 lost[HF_LOST_COUNT];
	__u64 space_records_lost;
	__u64
	    spaces_refused; /* address spaces of forks and execs that found no room in hf_spaces */
	__u64 pids_refused; /* children to be recorded that found no room in hf_pids */
	__u64 hook_runs;
	__u64 frames;
	__u64 audits;
	__u64 told; /* struct hf_told that were sent */
	__u64 told_refused; /* too many at a time, or the ring was full */
	__u64 told_window_ns;
	__u64 told_window;
	__u64 stack_seq;
	__u64 slice_window_ns;
	__u64 slice_window_bytes;
	/* By enum hf_cost. */
	__u64 cost_samples[HF_COST_COUNT];
	__u64 cost_ns[HF_COST_COUNT];
	__u64 cost_frames[HF_COST_COUNT]; /* of user space */
	__u64 cost_kernel_frames[HF_COST_COUNT];
};

/* ------------------------------------------------- relations among bounds */

#ifndef HF_ABI_GENERATING
_Static_assert(HF_MAX_STEPS >= HF_MAX_FRAMES, "every frame that fits can be reached");
_Static_assert(HF_MAX_WORDS >= HF_MAX_KERNEL_FRAMES, "kernel frames fit one record");
_Static_assert(HF_MAX_STACK_WORDS >= HF_MAX_FRAMES + HF_MAX_KERNEL_FRAMES,
	       "native stacks of that many frames fit");
_Static_assert(HF_MAX_STACK_WORDS <= 0xffff, "hf_sample.n_words can say it");
_Static_assert(sizeof(struct hf_row) == 8, "a row is 8 bytes");
_Static_assert(sizeof(struct hf_rule) == 32, "a rule is 32 bytes");
_Static_assert(sizeof(struct hf_mapping) == 40, "a mapping is 40 bytes");
_Static_assert(HF_RUNTIME_TABLE_MAX_BYTES < HF_MEM_CHUNK_BYTES, "a runtime's table fits one chunk");
_Static_assert(HF_RUNTIME_COUNT <= 32, "a bit each in hf_config.runtimes");
_Static_assert(sizeof(struct hf_blob) + HF_MAX_MAPPINGS * sizeof(struct hf_mapping) <=
		   HF_MEM_CHUNK_BYTES,
	       "a blob fits one chunk");
_Static_assert(sizeof(struct hf_block) + HF_MAX_ROWS_PER_BLOCK * sizeof(struct hf_row) <=
		   HF_MEM_CHUNK_BYTES,
	       "a block fits one chunk");
_Static_assert(sizeof(struct hf_file) + HF_MAX_BLOCKS * sizeof(__u32) <= HF_MEM_CHUNK_BYTES,
	       "a directory fits one chunk");
_Static_assert(HF_MAILBOX_OFF + HF_MAILBOX_SLOTS * sizeof(struct hf_letter) <= HF_HEAP_OFF,
	       "the mailbox ends before the heap");
#endif

#endif /* HF_ABI_H */
