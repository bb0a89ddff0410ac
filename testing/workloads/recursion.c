/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recursion DEPTH: main → even → odd → even … → floor_of_it, DEPTH calls
 * deep, which runs until stopped. Built without frame pointers: odd's frame is
 * found from the stack pointer alone, while even, whose size is known only at
 * run time, keeps its own base in rbp. `stripped` is the same without symbols.
 */
#include <stdlib.h>
#include "spin.h"

NOINLINE static void floor_of_it(void)
{
	SPIN_FOREVER();
}

NOINLINE static void odd(int depth);

NOINLINE static void even(int depth)
{
	volatile char room[depth % 5 * 40 + 8];

	room[0] = 0;
	if (depth > 1)
		CALL((odd(depth - 1), 0));
	else
		CALL((floor_of_it(), 0));
	(void)room[0];
}

NOINLINE static void odd(int depth)
{
	volatile long room[5] = {depth};

	if (depth > 1)
		CALL((even(depth - 1), 0));
	else
		CALL((floor_of_it(), 0));
	(void)room[0];
}

int main(int argc, char **argv)
{
	CALL((even(argc > 1 ? atoi(argv[1]) : 300), 0));
	return 0;
}
