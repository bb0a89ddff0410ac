/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What crosses the border to the natively compiled walk (walk.c). Rust twin:
 * crates/core/src/native_abi.rs (make generate).
 */
#ifndef HF_NATIVE_ABI_H
#define HF_NATIVE_ABI_H

#include "hf/abi.h"

/* What is read of the process. */
#define HF_READ_STACK 0
#define HF_READ_LASTING 1 /* it outlives calls: code, and what a runtime knows of it */
#define HF_READ_SIGNAL 2 /* on the stack, what a signal interrupted: the next may be on another */

/* In and out of one call of hf_walk_native. */
struct hf_native_call {
	__u64 regs[HF_NREGS];
	__u64 missing_pc;
	__u64 cut_pc;
	__u64 stack_hash;
	__u32 blob_off;
	__u32 max_frames;
	__u32 n_words; /* in: words that words[] holds already; out: all */
	__u32 n_frames; /* of user space among them */
	__u8 arm64;
	__u8 regs_valid;
	__u8 pc_is_return;
	__u8 missing;
	__u8 cut;
	__u8 heuristic; /* some frame was found by a heuristic, of those before too */
	__u8 late; /* in: struct hf_walk */
	__u8 lost_runtime; /* struct hf_sample, of what was walked before too */
	__u8 lost_why;
	__u8 is_bare; /* struct hf_slice */
	__u8 reserved[6];
	__u64 tp;
	__u64 left_at;
	__u64 runtime_state[HF_RUNTIME_STATE_WORDS];
	__u64 words[HF_MAX_STACK_WORDS];
};

#endif /* HF_NATIVE_ABI_H */
