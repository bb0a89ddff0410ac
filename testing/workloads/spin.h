/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the workloads are made of. SPIN burns processor time in the function
 * that contains it, calling nothing, so that this function is the leaf of
 * every sample. CALL keeps a call from becoming a jump, so that the caller
 * stays on the stack.
 */
#ifndef SPIN_H
#define SPIN_H

#define NOINLINE __attribute__((noinline, noclone))

#define SPIN(turns)                                                                                \
	do {                                                                                       \
		for (unsigned long spin_ = (turns); spin_; spin_--)                                \
			__asm__ volatile("" : "+r"(spin_));                                        \
	} while (0)

#define SPIN_FOREVER()                                                                             \
	do {                                                                                       \
		for (;;)                                                                           \
			__asm__ volatile("");                                                      \
	} while (0)

#define CALL(expression)                                                                           \
	do {                                                                                       \
		(void)(expression);                                                                \
		__asm__ volatile("" ::: "memory");                                                 \
	} while (0)

#endif
