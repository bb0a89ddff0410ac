/* SPDX-License-Identifier: Apache-2.0 */
/*
 * split [SECONDS]: main → heavy and main → light in turn, in the ratio 4 : 1
 * of the same instructions. Until stopped, or until SECONDS of processor time
 * are used; then it prints what it used, in nanoseconds, by getrusage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "spin.h"

NOINLINE static void heavy(void)
{
	SPIN(4000000);
}

NOINLINE static void light(void)
{
	SPIN(1000000);
}

static long long used_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

int main(int argc, char **argv)
{
	long long limit_ns = argc > 1 ? (long long)(atof(argv[1]) * 1e9) : 0;

	while (!limit_ns || used_ns() < limit_ns) {
		CALL((heavy(), 0));
		CALL((light(), 0));
	}
	printf("%lld\n", used_ns());
	return 0;
}
