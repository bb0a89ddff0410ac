/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → roomy → work_0 … work_63, and main → over between any two: roomy's frame is larger than
 * what is copied of a stack, each work has tables of its own, which are loaded when it is first
 * seen, and what lies on the stack then is soon overwritten.
 */

#define TURNS 1500000UL /* 0.7 ms or so */
#include "works.h"

NOINLINE static void roomy(void (*work)(void))
{
	volatile char frame[600 << 10];

	__asm__ volatile("" ::"r"(frame));
	CALL((work(), 0));
}

NOINLINE static void over(void)
{
	volatile char frame[700 << 10];

	for (unsigned long i = 0; i < sizeof(frame); i += sizeof(long))
		*(volatile unsigned long *)&frame[i] = i;
	SPIN(TURNS);
}

int main(void)
{
	static void (*const all[])(void) = {ALL(NAME)};

	for (int turn = 0; turn < 10; turn++)
		for (unsigned long i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
			CALL((roomy(all[i]), 0));
			CALL((over(), 0));
		}
	return 0;
}
