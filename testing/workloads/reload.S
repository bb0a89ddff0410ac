/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload: main → caller_N → leaf_N for N = 0…47 in turn, until stopped. Each
 * leaf is 16,000 bytes of pushes and pops, and each of them has a row of its
 * own in the unwind tables: 6 MiB of rows, of which a leaf's are wanted for
 * some milliseconds, then not for a long while. A row of another leaf, or one of the
 * same at another place, leads to a wrong stack or to none.
 */
#if defined(__x86_64__)
	.text

	.macro one n
	.type	leaf_\n, @function
leaf_\n:
	.cfi_startproc
	.set	depth, 8
	.rept	8000
	pushq	%rax
	.set	depth, depth + 8
	.cfi_def_cfa_offset depth
	.endr
	.rept	8000
	popq	%rax
	.set	depth, depth - 8
	.cfi_def_cfa_offset depth
	.endr
	ret
	.cfi_endproc
	.size	leaf_\n, . - leaf_\n

	.type	caller_\n, @function
caller_\n:
	.cfi_startproc
	pushq	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	movl	$100, %ebx
1:	call	leaf_\n
	decl	%ebx
	jnz	1b
	popq	%rbx
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size	caller_\n, . - caller_\n
	.endm

	.altmacro
	.set	number, 0
	.rept	48
	one	%number
	.set	number, number + 1
	.endr

	.globl	main
	.type	main, @function
main:
	.cfi_startproc
	subq	$8, %rsp
	.cfi_def_cfa_offset 16
2:
	.macro	call_one n
	call	caller_\n
	.endm
	.set	number, 0
	.rept	48
	call_one %number
	.set	number, number + 1
	.endr
	jmp	2b
	.cfi_endproc
	.size	main, . - main
#else
#error "written for x86-64"
#endif
	.section .note.GNU-stack, "", @progbits
