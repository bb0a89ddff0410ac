/* SPDX-License-Identifier: Apache-2.0 */
/* main → tell_time → clock_gettime → the vDSO, until stopped. */
#include <time.h>
#include "spin.h"

NOINLINE static void tell_time(void)
{
	struct timespec now;

	for (;;)
		clock_gettime(CLOCK_MONOTONIC, &now);
}

int main(void)
{
	CALL((tell_time(), 0));
	return 0;
}
