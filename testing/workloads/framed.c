/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → step_00 → … → step_0f → work, which runs until stopped, half of the time in
 * little, a function without a frame. Built as browsers are: with frame pointers, without unwind
 * tables and symbols. Loops are aligned behind a jump into their middle, as clang lays them out,
 * and so begin where functions might; there is more of them than one block of rows holds.
 */
#include "spin.h"

typedef void step(unsigned at);
static step *const steps[];
static volatile unsigned sink;

NOINLINE __attribute__((optimize("omit-frame-pointer"))) static unsigned little(unsigned n)
{
	unsigned sum = 0;

	while (n--) {
		sum = sum * 31 + n;
		__asm__ volatile("" : "+r"(sum));
	}
	return sum;
}

NOINLINE static void work(unsigned at)
{
	unsigned i, sum = at;

	for (;;) {
		for (i = 0; i < 2000; i++) {
			sum = sum * 17 + i;
			__asm__ volatile("" : "+r"(sum));
		}
		sink = sum + little(2000);
	}
}

#define LOOP(n)                                                                                    \
	__asm__ volatile("jmp 2f; .p2align 4; 1: nopl 64(%%rax); nopl 64(%%rax); nopl 64(%%rax); " \
			 "dec %0; 2: test %0, %0; jne 1b"                                          \
			 : "+r"(n)                                                                 \
			 :                                                                         \
			 : "cc")
#define FOUR(what) what what what what
#define LOOPS FOUR(FOUR(FOUR(FOUR(LOOP(n);))))
/* None returns, as those that wait for events do not: so nothing contradicts a start in its middle.
 */
#define STEP(name)                                                                                 \
	NOINLINE static void step_##name(unsigned at)                                              \
	{                                                                                          \
		unsigned n = 3;                                                                    \
                                                                                                   \
		for (;;) {                                                                         \
			LOOPS LOOPS CALL((steps[at + 1](at + 1), 0));                              \
			LOOPS                                                                      \
			sink = n;                                                                  \
		}                                                                                  \
	}
#define NAME(name) step_##name,
#define SIXTEEN(each, high)                                                                        \
	each(high##0) each(high##1) each(high##2) each(high##3) each(high##4) each(high##5)        \
	    each(high##6) each(high##7) each(high##8) each(high##9) each(high##a) each(high##b)    \
		each(high##c) each(high##d) each(high##e) each(high##f)
#define ALL(each) SIXTEEN(each, 0)

ALL(STEP)

static step *const steps[] = {ALL(NAME) work};

int main(void)
{
	CALL((steps[0](0), 0));
	return 0;
}
