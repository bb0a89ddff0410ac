/* SPDX-License-Identifier: Apache-2.0 */
/* What `registered` loads: built as an object file, without frame pointers, never linked. */
#include "spin.h"

#ifndef ROOM
#define ROOM 7
#endif

NOINLINE static void jit_leaf(unsigned long turns)
{
	SPIN(turns);
}

NOINLINE static void jit_middle(int depth, unsigned long turns)
{
	volatile long room[ROOM] = {depth};

	if (depth > 1)
		CALL((jit_middle(depth - 1, turns), 0));
	else
		CALL((jit_leaf(turns), 0));
	(void)room[0];
}

/* Calls back into the program that loaded it. */
void jit_entry(void (*callback)(unsigned long), unsigned long turns)
{
	volatile char room[turns % 7 * 16 + 8];

	room[0] = 0;
	CALL((jit_middle(3, turns), 0));
	CALL((callback(turns), 0));
	(void)room[0];
}
