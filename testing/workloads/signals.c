/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals [altstack]: a timer interrupts main → interrupted_work; nearly all
 * time goes by in its handler: main → interrupted_work → (signal frame) →
 * on_alarm → handler_work. With `altstack` the handler has its own stack.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include "spin.h"

NOINLINE static void handler_work(void)
{
	SPIN(100000000);
}

static void on_alarm(int number)
{
	(void)number;
	CALL((handler_work(), 0));
}

NOINLINE static void interrupted_work(void)
{
	SPIN_FOREVER();
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 2000}, {0, 2000}};

	if (argc > 1 && strcmp(argv[1], "altstack") == 0) {
		stack_t stack = {.ss_size = 65536};

		stack.ss_sp = malloc(stack.ss_size);
		if (!stack.ss_sp || sigaltstack(&stack, NULL))
			return 1;
		action.sa_flags |= SA_ONSTACK;
	}
	if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL))
		return 1;
	CALL((interrupted_work(), 0));
	return 0;
}
