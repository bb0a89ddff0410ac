/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twostacks: main → run_on_fiber → on_fiber, on another stack, which lies below; on_fiber → call_c
 * → in_c → deeper, on the thread's; on_fiber → call_leaf → leaf, on the thread's; until stopped.
 */
#include "spin.h"

void run_on_fiber(void (*function)(void));
void call_c(void (*function)(void));
void call_leaf(void (*function)(void));

NOINLINE static void deeper(void)
{
	SPIN(100000);
}

NOINLINE static void in_c(void)
{
	CALL((deeper(), 0));
}

NOINLINE static void leaf(void)
{
	SPIN(100000);
}

NOINLINE static void on_fiber(void)
{
	CALL((call_c(in_c), 0));
	CALL((call_leaf(leaf), 0));
	SPIN(100000);
}

int main(void)
{
	for (;;)
		CALL((run_on_fiber(on_fiber), 0));
}
