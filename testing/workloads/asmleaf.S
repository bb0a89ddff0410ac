/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves without unwind information: see asmleaf_main.c. No .cfi directive
 * stands here, so that the assembler writes no .eh_frame.
 */
	.intel_syntax noprefix
	.text

/* The decoys are return addresses of this call: real ones, of another callee. */
	.type	decoy_callee, @function
decoy_callee:
	ret
	.size	decoy_callee, . - decoy_callee
	.type	decoy_caller, @function
decoy_caller:
	call	decoy_callee
.Ldecoy:
	ret
	.size	decoy_caller, . - decoy_caller

	.macro	fill_with_decoys words
	lea	rax, [rip + .Ldecoy]
	.set	.Lword, 0
	.rept	\words
	mov	[rsp + 8 * .Lword], rax
	.set	.Lword, .Lword + 1
	.endr
	.endm

	.macro	spin
	mov	ebp, 1
1:	sub	rdi, rbp
	jnz	1b
	.endm

/* Its symbol has a size: pushes and subtractions can be followed. */
	.globl	asm_sized
	.type	asm_sized, @function
	.p2align 4
asm_sized:
	push	rbx
	push	rbp
	push	r12
	sub	rsp, 64
	fill_with_decoys 8
	spin
	add	rsp, 64
	pop	r12
	pop	rbp
	pop	rbx
	ret
	.size	asm_sized, . - asm_sized

/* A bare label, as much hand-written assembly has. */
	.globl	asm_unsized
	.p2align 4
asm_unsized:
	push	rbp
	sub	rsp, 32
	fill_with_decoys 4
	spin
	add	rsp, 32
	pop	rbp
	ret

/* The stack pointer is aligned by a value known only at run time: nothing can
 * be followed, and only a return address behind a call to here gives the caller. */
	.globl	asm_scan
	.type	asm_scan, @function
	.p2align 4
asm_scan:
	push	rbp
	mov	r11, rsp
	and	rsp, -64
	sub	rsp, 64
	fill_with_decoys 8
	spin
	mov	rsp, r11
	pop	rbp
	ret
	.size	asm_scan, . - asm_scan

	.section .note.GNU-stack, "", @progbits
