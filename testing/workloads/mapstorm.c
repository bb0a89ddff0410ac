/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapstorm: main → storm maps a page of itself as code and unmaps it as fast as
 * it can, until stopped: more side-band records than any buffer holds.
 */
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include "spin.h"

NOINLINE static void storm(int self)
{
	for (;;) {
		void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, self, 0);

		if (page != MAP_FAILED)
			munmap(page, 4096);
	}
}

int main(void)
{
	int self = open("/proc/self/exe", O_RDONLY);

	if (self < 0)
		return 1;
	CALL((storm(self), 0));
	return 0;
}
