/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → outer → middle → leaf, which runs until stopped. Built without unwind tables, frame
 * pointers and symbols. In outer and middle an instruction ends with the byte of a return, at a
 * multiple of 16, where functions begin; zeros stand between the functions.
 */
#include "spin.h"

/* mov %rax, %rbx, behind 13 bytes of nothing */
#define LOOKS_LIKE_AN_END                                                                          \
	__asm__ volatile(".p2align 4; .rept 13; cld; .endr; .byte 0x48, 0x89, 0xc3" ::: "rbx")
/* In front of the next function of this text. */
#define ZEROS __asm__(".text; .p2align 4, 0")

static volatile unsigned sink;

NOINLINE static void leaf(unsigned n)
{
	unsigned sum = n;

	for (;;) {
		sum = sum * 31 + n;
		__asm__ volatile("" : "+r"(sum));
	}
}

ZEROS;
NOINLINE static void middle(unsigned n)
{
	volatile unsigned room[25];

	room[n] = n;
	LOOKS_LIKE_AN_END;
	CALL((leaf(n + 1), 0));
	sink = room[n];
}

ZEROS;
NOINLINE static void outer(unsigned n)
{
	volatile unsigned room[50];

	room[n] = n;
	CALL((middle(n + 1), 0));
	LOOKS_LIKE_AN_END;
	sink = room[n];
}

ZEROS;
int main(void)
{
	CALL((outer(1), 0));
	return 0;
}
