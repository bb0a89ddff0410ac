/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaps: main → sets → descends → leaps → longjmp, which goes on in sets; until stopped.
 * Nearly all time goes by in the C library.
 */
#include <setjmp.h>
#include "spin.h"

static jmp_buf back;

/* The compiler must not know that it always does. */
static volatile int is_time = 1;

NOINLINE static void leaps(void)
{
	if (is_time)
		longjmp(back, 1);
}

NOINLINE static void descends(void)
{
	CALL((leaps(), 0));
}

NOINLINE static void sets(void)
{
	if (setjmp(back) == 0)
		descends();
}

int main(void)
{
	for (;;)
		CALL((sets(), 0));
}
