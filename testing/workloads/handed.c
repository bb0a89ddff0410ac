/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handed: main → sends → (a system call, and the handler of the signal that it sends); until
 * stopped. The handler begins where another function ends that never returns and has a frame.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "spin.h"

void handles(int number);
__asm__(".text\n"
	".globl never_runs\n"
	".type never_runs, @function\n"
	"never_runs:\n"
	"	.cfi_startproc\n"
	"	sub $120, %rsp\n"
	"	.cfi_def_cfa_offset 128\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size never_runs, .-never_runs\n"
	".globl handles\n"
	".type handles, @function\n"
	"handles:\n"
	"	.cfi_startproc\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size handles, .-handles\n");

NOINLINE static void sends(long self)
{
	CALL((syscall(SYS_tkill, self, SIGUSR1), 0));
}

int main(void)
{
	struct sigaction action = {.sa_handler = handles};
	long self = syscall(SYS_gettid);

	if (sigaction(SIGUSR1, &action, NULL))
		return 1;
	for (;;)
		sends(self);
}
