/* SPDX-License-Identifier: Apache-2.0 */
/*
 * begins: stacks that begin without a word about it in any table. main → turn_over → a fiber's
 * stack, on which fiber → fiber_work takes as long as main → main_work; where fiber would return to
 * stands 0 (Ruby's coroutine_initialize). A thread is made as musl makes them, without call frame
 * information: new_thread → thread → thread_work.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include "spin.h"

#define STACK_BYTES 65536

/* coroutine/amd64/Context.S @ Ruby 3.1: keeps what callees save, and changes to the other stack. */
void turn_over(uintptr_t **from, uintptr_t **to);
__asm__(".text\n"
	".globl turn_over\n"
	".type turn_over, @function\n"
	"turn_over:\n"
	".cfi_startproc\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	".cfi_adjust_cfa_offset 48\n"
	"	mov %rsp, (%rdi)\n"
	"	mov (%rsi), %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	".cfi_adjust_cfa_offset -48\n"
	"	ret\n"
	".cfi_endproc\n"
	".size turn_over, .-turn_over\n");

/* src/thread/x86_64/clone.s @ musl 1.2.3, less the words for thread-local storage and ids. */
long new_thread(void (*function)(void *), void *stack, unsigned long flags, void *argument);
__asm__(".text\n"
	".globl new_thread\n"
	".type new_thread, @function\n"
	"new_thread:\n"
	"	xor %eax, %eax\n"
	"	mov $56, %al\n"
	"	mov %rdi, %r9\n"
	"	mov %rdx, %rdi\n"
	"	and $-16, %rsi\n"
	"	sub $8, %rsi\n"
	"	mov %rcx, (%rsi)\n"
	"	syscall\n"
	"	test %eax, %eax\n"
	"	jne 1f\n"
	"	xor %ebp, %ebp\n"
	"	pop %rdi\n"
	"	call *%r9\n"
	"	mov %eax, %edi\n"
	"	xor %eax, %eax\n"
	"	mov $60, %al\n"
	"	syscall\n"
	"	hlt\n"
	"1:	ret\n"
	".size new_thread, .-new_thread\n");

static uintptr_t *main_stack, *fiber_stack;

NOINLINE static void fiber_work(void)
{
	SPIN(30000000);
}

NOINLINE static void main_work(void)
{
	SPIN(30000000);
}

NOINLINE static void thread_work(void)
{
	SPIN(30000000);
}

static void fiber(void)
{
	for (;;) {
		CALL((fiber_work(), 0));
		turn_over(&fiber_stack, &main_stack);
	}
}

static void thread(void *argument)
{
	(void)argument;
	for (;;)
		CALL((thread_work(), 0));
}

static uintptr_t *new_stack(void)
{
	uintptr_t *stack = aligned_alloc(16, STACK_BYTES);

	return stack ? stack + STACK_BYTES / sizeof(*stack) : NULL;
}

int main(void)
{
	uintptr_t *stack = new_stack(), *other = new_stack();
	int i;

	if (!stack || !other)
		return 1;
	new_thread(thread, other,
		   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
		   NULL);
	*--stack = 0;
	*--stack = (uintptr_t)fiber;
	for (i = 0; i < 6; i++)
		*--stack = 1;
	fiber_stack = stack;
	for (;;) {
		CALL((main_work(), 0));
		turn_over(&main_stack, &fiber_stack);
	}
}
