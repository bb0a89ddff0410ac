/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two threads until stopped: `worker-red` in start_red → red_work and
 * `worker-blue` in start_blue → blue_work. The main thread sleeps.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>
#include "spin.h"

NOINLINE static void red_work(void)
{
	SPIN_FOREVER();
}

NOINLINE static void blue_work(void)
{
	SPIN_FOREVER();
}

static void *start_red(void *unused)
{
	pthread_setname_np(pthread_self(), "worker-red");
	CALL((red_work(), 0));
	return unused;
}

static void *start_blue(void *unused)
{
	pthread_setname_np(pthread_self(), "worker-blue");
	CALL((blue_work(), 0));
	return unused;
}

int main(void)
{
	pthread_t red, blue;

	if (pthread_create(&red, NULL, start_red, NULL) ||
	    pthread_create(&blue, NULL, start_blue, NULL))
		return 1;
	for (;;)
		pause();
}
