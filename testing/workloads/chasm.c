/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → enters → chasm → work_0 … work_63, and main → others → other between any two: amid chasm's
 * frame there are pages that nobody has touched, each work has tables of its own, which are loaded
 * when it is first seen, and by then others has written over the frame of enters, but not over what
 * chasm called.
 */
#include <stdint.h>
#include <sys/mman.h>

#define TURNS 1500000UL /* 0.7 ms or so */
#include "works.h"

#define PAGE 4096UL

NOINLINE static void chasm(void (*work)(void))
{
	volatile char frame[40 << 10];

	__asm__ volatile("" ::"r"(frame));
	CALL((work(), 0));
}

NOINLINE static void enters(void (*work)(void))
{
	CALL((chasm(work), 0));
}

NOINLINE static void other(void)
{
	SPIN(16 * TURNS);
}

/* Its frame is as large as that of enters. */
NOINLINE static void others(void (*work)(void))
{
	CALL((work(), 0));
}

int main(void)
{
	static void (*const all[])(void) = {ALL(NAME)};
	uintptr_t here = (uintptr_t)__builtin_frame_address(0) & ~(PAGE - 1);

	for (unsigned long i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (madvise((void *)(here - 16 * PAGE), 15 * PAGE, MADV_DONTNEED))
			return 1;
		CALL((enters(all[i]), 0));
		CALL((others(other), 0));
	}
	return 0;
}
