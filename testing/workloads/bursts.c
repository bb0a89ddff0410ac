/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bursts: main → burst for 3 ms, then asleep for 5 ms, 500 times; its CPU is idle in between.
 * Prints the processor time it used, in nanoseconds, by getrusage.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include "spin.h"

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

NOINLINE static void burst(void)
{
	long long until = now_ns() + 3000000;

	while (now_ns() < until)
		SPIN(1000);
}

int main(void)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	struct rusage usage;
	int i;

	for (i = 0; i < 500; i++) {
		CALL((burst(), 0));
		nanosleep(&pause, NULL);
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("%lld\n", (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
			     (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL);
	return 0;
}
