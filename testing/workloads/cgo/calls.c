/* SPDX-License-Identifier: Apache-2.0 */

#include <pthread.h>

void calledByC(int grows);

static volatile int not_a_tail_call;

__attribute__((noinline)) void called_by_go(int grows)
{
	calledByC(grows);
	not_a_tail_call++;
}

__attribute__((noinline)) static void calls_go(void)
{
	calledByC(0);
	not_a_tail_call++;
}

__attribute__((noinline)) static void *thread_of_c(void *unused)
{
	calls_go();
	return unused;
}

void start_thread_of_c(void)
{
	pthread_t thread;

	if (!pthread_create(&thread, 0, thread_of_c, 0))
		pthread_join(thread, 0);
}
