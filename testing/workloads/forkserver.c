/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forkserver fork|vfork, until stopped: one child after the other, each some
 * 40 ms of processor time. `fork`: the child goes on in serve → child_work of
 * the same image. `vfork`: it becomes a new one, main → exec_work.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "spin.h"

NOINLINE static void child_work(void)
{
	SPIN(80000000);
}

NOINLINE static void exec_work(void)
{
	SPIN(80000000);
}

NOINLINE static void serve(int by_vfork)
{
	for (;;) {
		pid_t child = by_vfork ? vfork() : fork();

		if (child == 0) {
			if (by_vfork) {
				EXEC_SELF("child");
				_exit(1);
			}
			CALL((child_work(), 0));
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "child") == 0) {
		CALL((exec_work(), 0));
		return 0;
	}
	CALL((serve(argc > 1 && strcmp(argv[1], "vfork") == 0), 0));
	return 0;
}
