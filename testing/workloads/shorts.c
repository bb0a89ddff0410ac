/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shorts COUNT JOBS: COUNT processes, JOBS at a time, each a new image of this
 * program that uses some 40 ms of processor time in main → short_work. At the
 * end it prints what they used together, in nanoseconds, by getrusage, and
 * the wall-clock time, in nanoseconds. COUNT 0: until SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "spin.h"

static volatile sig_atomic_t stopped;

static void on_term(int number)
{
	(void)number;
	stopped = 1;
}

NOINLINE static void short_work(void)
{
	struct timespec now;

	do {
		SPIN(2000000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	} while (now.tv_sec == 0 && now.tv_nsec < 40000000);
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	struct rusage usage;

	if (argc == 2 && strcmp(argv[1], "child") == 0) {
		CALL((short_work(), 0));
		return 0;
	}
	long count = argc > 1 ? atol(argv[1]) : 0, jobs = argc > 2 ? atol(argv[2]) : 1;
	struct sigaction action = {.sa_handler = on_term};

	sigaction(SIGTERM, &action, NULL);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (long started = 0, running = 0; running || !(stopped || (count && started == count));) {
		if (running < jobs && !stopped && !(count && started == count)) {
			pid_t child = vfork();

			if (child == 0) {
				EXEC_SELF("child");
				_exit(1);
			}
			started++;
			running++;
		} else if (wait(NULL) > 0) {
			running--;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	getrusage(RUSAGE_CHILDREN, &usage);
	printf("%lld %lld\n",
	       (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
		   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL,
	       (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
	return 0;
}
