/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execchain [N]: main → image_work for some 30 ms of processor time, then the
 * process becomes the same program with N + 1, for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "spin.h"

NOINLINE static void image_work(void)
{
	SPIN(60000000);
}

int main(int argc, char **argv)
{
	char next[16];

	CALL((image_work(), 0));
	snprintf(next, sizeof(next), "%d", (argc > 1 ? atoi(argv[1]) : 0) + 1);
	EXEC_SELF(next);
	return 1;
}
