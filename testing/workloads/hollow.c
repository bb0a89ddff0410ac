/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → large, until stopped: a frame of 48 KiB that is used at neither end, so that the stack
 * pointer, and eleven pages from there up, are memory that nobody has touched.
 */
#include "spin.h"

NOINLINE static void large(void)
{
	volatile char frame[48 << 10];

	__asm__ volatile("" ::"r"(frame));
	SPIN_FOREVER();
}

int main(void)
{
	CALL((large(), 0));
	return 0;
}
