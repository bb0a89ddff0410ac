/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Differences among kernels, each with the version, the commit and what is
 * done without it.
 *
 *   arena             >= 6.9 (317460317a02): else 1 MiB array values (mem.h)
 *   bpf_loop          >= 5.17 (e6f2dd0f8067): else tail calls, 512 frames
 *   bpf_task_pt_regs  >= 5.15 (dd6e10fbd9fb): the oldest kernel supported
 *   self_exec_id      u32 before 5.7 (d1e7fd6462ca): never seen here
 */
#ifndef HF_COMPAT_H
#define HF_COMPAT_H

/* include/linux/sched.h @ v6.12; PF_IO_WORKER and PF_USER_WORKER tasks have an
 * mm and never run user code */
#define PF_EXITING 0x00000004
#define PF_IO_WORKER 0x00000010
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD 0x00200000

/* arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h */
#if defined(__TARGET_ARCH_x86)
#define HF_NR_EXECVE 59
#define HF_NR_EXECVEAT 322
#else
#define HF_NR_EXECVE 221
#define HF_NR_EXECVEAT 281
#endif

#endif /* HF_COMPAT_H */
