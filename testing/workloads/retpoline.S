/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retpoline: main → outer → the thunk by which compilers call through a register where branches must not
 * be speculated on (LLVM's, without call frame information) → leaf, which returns at once.
 */
	.text
	.p2align 4
	.type thunk, @function
thunk:
	call 2f
1:	pause
	lfence
	jmp 1b
	.p2align 4, 0xcc
2:	mov %r11, (%rsp)
	ret
	.size thunk, . - thunk

	.p2align 4
	.type before_leaf, @function
before_leaf:
	.cfi_startproc
	ud2
	.fill 14, 1, 0xcc
	.cfi_endproc
	.size before_leaf, . - before_leaf

	.type leaf, @function
leaf:
	.cfi_startproc
	ret
	.cfi_endproc
	.size leaf, . - leaf

	.p2align 4
	.type outer, @function
outer:
	.cfi_startproc
	push %rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	mov $1000000, %ebx
1:	lea leaf(%rip), %r11
	call thunk
	dec %ebx
	jnz 1b
	pop %rbx
	.cfi_def_cfa_offset 8
	ret
	.cfi_endproc
	.size outer, . - outer

	.p2align 4
	.globl main
	.type main, @function
main:
	.cfi_startproc
	sub $8, %rsp
	.cfi_def_cfa_offset 16
1:	call outer
	jmp 1b
	.cfi_endproc
	.size main, . - main
	.section .note.GNU-stack, "", @progbits
