/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → real_function → inlined_one → inlined_two → inlined_three, the last
 * three inlined into real_function; runs until stopped. Built with -g -O2.
 */
#include "spin.h"

#define INLINE static inline __attribute__((always_inline))

static volatile unsigned long sink;

INLINE void inlined_three(void)
{
	for (;;)
		sink++;
}

INLINE void inlined_two(void)
{
	sink += 2;
	inlined_three();
}

INLINE void inlined_one(void)
{
	sink += 1;
	inlined_two();
}

NOINLINE static void real_function(void)
{
	inlined_one();
}

int main(void)
{
	CALL((real_function(), 0));
	return 0;
}
