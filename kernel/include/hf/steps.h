/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Generated from the folders runtimes/NAME by scripts/generate.sh: `make generate`. */
#ifndef HF_STEPS_H
#define HF_STEPS_H

/* clang-format off */
#include "cpython/bpf/step.h"
#include "hotspot/bpf/step.h"

#define HF_STEPS(STEP) \
	STEP(CPYTHON, cpython) \
	STEP(HOTSPOT, hotspot)

/* Of these, what knows something that is gone later: hf_NAME_moment. */
#define HF_MOMENTS(STEP) \
	STEP(HOTSPOT, hotspot)
/* clang-format on */

#endif /* HF_STEPS_H */
