/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registers rax|rbx: main → call_by → by_rax → leaf_of_rax, or main → call_by → by_rbx → resolve →
 * look_up (registers.S), until stopped. Both frames in between align the stack, so that only the
 * register says where they began.
 */
#include <string.h>
#include "spin.h"

void by_rax(unsigned long turns);
void by_rbx(unsigned long turns);
unsigned long resolve(unsigned long turns);

NOINLINE static unsigned long look_up(unsigned long turns)
{
	SPIN(turns);
	return turns;
}

/* What it holds across the call stands in rbx, among others. */
NOINLINE unsigned long resolve(unsigned long turns)
{
	unsigned long sum = turns;

	__asm__ volatile("" : "+b"(sum));
	sum += look_up(turns);
	__asm__ volatile("" : "+b"(sum));
	return sum;
}

NOINLINE static void call_by(const char *which)
{
	for (;;) {
		if (strcmp(which, "rax") == 0)
			CALL((by_rax(400000000), 0));
		else
			CALL((by_rbx(400000000), 0));
	}
}

int main(int argc, char **argv)
{
	CALL((call_by(argc > 1 ? argv[1] : "rax"), 0));
	return 0;
}
