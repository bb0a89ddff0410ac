/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contexts: coroutines of makecontext take turns, each with a stack of its own: first → first_work,
 * which is where nearly all time goes by, and second → (raise, a signal frame) → on_signal →
 * second_work. `first` has a context to go on with when it returns (which it does not), `second`
 * none. Linked statically, so that it has the C library's symbols.
 */
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>
#include "spin.h"

#define STACK_BYTES 65536

static ucontext_t start, contexts[2];

NOINLINE static void first_work(void)
{
	SPIN(10000000);
}

NOINLINE static void second_work(void)
{
	SPIN(5000000);
}

static void on_signal(int number)
{
	(void)number;
	CALL((second_work(), 0));
}

static void first(void)
{
	for (;;) {
		CALL((first_work(), 0));
		swapcontext(&contexts[0], &contexts[1]);
	}
}

static void second(void)
{
	for (;;) {
		CALL(raise(SIGUSR1));
		swapcontext(&contexts[1], &contexts[0]);
	}
}

int main(void)
{
	int i;

	signal(SIGUSR1, on_signal);
	for (i = 0; i < 2; i++) {
		getcontext(&contexts[i]);
		contexts[i].uc_stack.ss_sp = malloc(STACK_BYTES);
		contexts[i].uc_stack.ss_size = STACK_BYTES;
		contexts[i].uc_link = i ? NULL : &start;
	}
	makecontext(&contexts[0], first, 0);
	makecontext(&contexts[1], second, 0);
	return swapcontext(&start, &contexts[0]);
}
