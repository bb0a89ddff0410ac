/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → read_zeros → read → kernel, until stopped: /dev/zero clears memory in
 * the kernel, so that nearly all samples are there.
 */
#include <fcntl.h>
#include <unistd.h>
#include "spin.h"

static char buffer[1 << 20];

NOINLINE static void read_zeros(int zero)
{
	while (read(zero, buffer, sizeof(buffer)) > 0)
		;
}

int main(void)
{
	int zero = open("/dev/zero", O_RDONLY);

	if (zero < 0)
		return 1;
	CALL((read_zeros(zero), 0));
	return 0;
}
