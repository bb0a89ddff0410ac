/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle PROCESSES MAPPINGS: that many sleeping processes with that many
 * executable mappings each, until stopped. It prints a line when all are there.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long processes = argc > 1 ? atol(argv[1]) : 2000, mappings = argc > 2 ? atol(argv[2]) : 300;
	int self = open("/proc/self/exe", O_RDONLY);
	char *room = mmap(NULL, 8192 * mappings, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (self < 0 || room == MAP_FAILED)
		return 1;
	/* A hole behind each mapping, or the kernel would make one of them. */
	for (long i = 0; i < mappings; i++)
		if (mmap(room + 8192 * i, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED,
			 self, 0) == MAP_FAILED)
			return 1;
	for (long i = 1; i < processes; i++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
