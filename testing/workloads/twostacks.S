/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What calls C on the thread's stack from a fiber's, as OCaml 5's runtime does (runtime/amd64.S):
 * where the caller's stack is, only what sp leads to says, or a register that callees save.
 */
	.bss
	.balign 16
fiber:	.skip 65536
fiber_end:
thread:	.skip 8
	.text

/* run_on_fiber(function): the thread's sp stands where `thread` is, whose address is on the fiber. */
	.globl run_on_fiber
	.type run_on_fiber, @function
run_on_fiber:
	.cfi_startproc
	lea thread(%rip), %rax
	mov %rsp, (%rax)
	lea fiber_end-16(%rip), %rsp
	mov %rax, 8(%rsp)
	.cfi_remember_state
	/* def_cfa_expression: rsp + 8; deref; + 0; deref; + 8 */
	.cfi_escape 0x0f, 8, 0x77, 8, 0x06, 0x23, 0, 0x06, 0x23, 8
	call *%rdi
	mov 8(%rsp), %rax
	mov (%rax), %rsp
	.cfi_restore_state
	ret
	.cfi_endproc
	.size run_on_fiber, .-run_on_fiber

/* call_c(function): sp of the fiber is in a slot of the thread's stack. */
	.globl call_c
	.type call_c, @function
call_c:
	.cfi_startproc
	mov thread(%rip), %r11
	sub $24, %r11
	mov %rsp, 8(%r11)
	mov %r11, %rsp
	.cfi_remember_state
	/* def_cfa_expression: rsp + 8; deref; + 8 */
	.cfi_escape 0x0f, 5, 0x77, 8, 0x06, 0x23, 8
	call *%rdi
	mov 8(%rsp), %rsp
	.cfi_restore_state
	ret
	.cfi_endproc
	.size call_c, .-call_c

/* call_leaf(function): sp of the fiber is in rbx. */
	.globl call_leaf
	.type call_leaf, @function
call_leaf:
	.cfi_startproc
	push %rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov %rsp, %rbx
	.cfi_def_cfa_register %rbx
	mov thread(%rip), %rsp
	sub $8, %rsp
	call *%rdi
	mov %rbx, %rsp
	.cfi_def_cfa_register %rsp
	pop %rbx
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size call_leaf, .-call_leaf

	.section .note.GNU-stack, "", @progbits
