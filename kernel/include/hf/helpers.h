/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the walk asks of its surroundings, for BPF; natively: native/walk.c. */
#ifndef HF_HELPERS_H
#define HF_HELPERS_H

#define hf_read_user(w, dst, bytes, addr) bpf_probe_read_user(dst, bytes, (const void *)(addr))
#define hf_read_lasting(w, dst, bytes, addr) hf_read_user(w, dst, bytes, addr)
#define hf_hold(w, addr) ((void)0)
#define hf_now_ns() bpf_ktime_get_ns()

#endif /* HF_HELPERS_H */
