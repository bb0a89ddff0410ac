/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hoard PROCESSES: so many processes, one after the other, that touch 64,000 small pages each and
 * end: for a while each of them has no memory left but what the kernel frees.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define PAGES 64000L

int main(int argc, char **argv)
{
	long processes = argc > 1 ? atol(argv[1]) : 10;

	for (long i = 0; i < processes; i++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			char *pages = mmap(NULL, PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (pages == MAP_FAILED)
				_exit(1);
			madvise(pages, PAGES * PAGE_BYTES, MADV_NOHUGEPAGE);
			for (long at = 0; at < PAGES; at++)
				pages[at * PAGE_BYTES] = 1;
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	return 0;
}
