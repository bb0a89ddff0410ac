/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remapped: main → outer → middle → leaf, which spins, in memory without a file: the program has
 * put a copy of its text where that was, as those do that want it in huge pages. With an argument
 * it then says anew how that memory is protected, which the kernel tells of as of new memory, and
 * ends after so many calls.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "spin.h"

NOINLINE static void leaf(void)
{
	SPIN(100000000);
}

NOINLINE static void middle(void)
{
	CALL((leaf(), 0));
}

NOINLINE static void outer(void)
{
	CALL((middle(), 0));
}

static int remap(int again)
{
	unsigned long start, end, here = (unsigned long)outer;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[4352];
	size_t bytes;
	void *copy;

	if (!maps)
		return 1;
	do {
		if (!fgets(line, sizeof(line), maps) || sscanf(line, "%lx-%lx", &start, &end) != 2)
			return 1;
	} while (here < start || here >= end);
	fclose(maps);
	bytes = end - start;
	copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return 1;
	memcpy(copy, (void *)start, bytes);
	if (mprotect(copy, bytes, PROT_READ | PROT_EXEC) ||
	    mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED)
		return 1;
	return again && (mprotect((void *)start, bytes, PROT_READ | PROT_WRITE | PROT_EXEC) ||
			 mprotect((void *)start, bytes, PROT_READ | PROT_EXEC));
}

int main(int argc, char **argv)
{
	long calls = argc > 1 ? atol(argv[1]) : -1;

	if (remap(argc > 1))
		return 1;
	while (calls--)
		CALL((outer(), 0));
	return 0;
}
