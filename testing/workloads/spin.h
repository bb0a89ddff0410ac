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

/* Becomes this program again, with one argument. By its path, since the name
 * of a thread that runs /proc/self/exe would be `exe`. */
#define EXEC_SELF(argument)                                                                        \
	do {                                                                                       \
		char self_[4096] = {0};                                                            \
		if (readlink("/proc/self/exe", self_, sizeof(self_) - 1) > 0)                      \
			execl(self_, self_, argument, (char *)NULL);                               \
	} while (0)

#endif
