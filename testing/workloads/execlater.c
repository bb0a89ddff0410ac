/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For LD_PRELOAD: when the file EXEC_WHEN is there, the process becomes the program EXEC_LATER,
 * with the argument 6, whatever its other threads are in the middle of.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static char *program;
static const char *sign;

static void *later(void *unused)
{
	char *const argv[] = {program, "6", NULL};

	while (access(sign, F_OK))
		usleep(2000);
	execv(program, argv);
	_exit(127);
	return unused;
}

__attribute__((constructor)) static void start(void)
{
	pthread_t thread;

	program = getenv("EXEC_LATER");
	sign = getenv("EXEC_WHEN");
	if (!program || !sign)
		return;
	/* The next program is not to become another one. */
	unsetenv("LD_PRELOAD");
	if (!pthread_create(&thread, NULL, later, NULL))
		pthread_detach(thread);
}
