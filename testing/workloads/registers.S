/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames whose CFA is in a register across a call, as hand-written code has them: see
 * registers_main.c.
 */
	.intel_syntax noprefix
	.text

/* Like aesni_gcm_encrypt of OpenSSL: rax holds the stack pointer at entry, and the callee,
 * which needs no frame, leaves it alone. */
	.type	leaf_of_rax, @function
	.p2align 4
leaf_of_rax:
	.cfi_startproc
1:	sub	rdi, 1
	jnz	1b
	ret
	.cfi_endproc
	.size	leaf_of_rax, . - leaf_of_rax

	.globl	by_rax
	.type	by_rax, @function
	.p2align 4
by_rax:
	.cfi_startproc
	mov	rax, rsp
	.cfi_def_cfa rax, 8
	push	rbx
	.cfi_offset rbx, -16
	and	rsp, -128
	sub	rsp, 256
	call	leaf_of_rax
	mov	rbx, [rax - 8]
	.cfi_restore rbx
	mov	rsp, rax
	.cfi_def_cfa rsp, 8
	ret
	.cfi_endproc
	.size	by_rax, . - by_rax

/* Like _dl_runtime_resolve of glibc: rbx holds it, and the callee, which is compiled, saves rbx
 * and calls on. */
	.globl	by_rbx
	.type	by_rbx, @function
	.p2align 4
by_rbx:
	.cfi_startproc
	push	rbx
	.cfi_def_cfa_offset 16
	.cfi_offset rbx, -16
	mov	rbx, rsp
	.cfi_def_cfa rbx, 16
	and	rsp, -64
	sub	rsp, 640
	call	resolve
	mov	rsp, rbx
	.cfi_def_cfa rsp, 16
	pop	rbx
	.cfi_def_cfa_offset 8
	.cfi_restore rbx
	ret
	.cfi_endproc
	.size	by_rbx, . - by_rbx
	.section .note.GNU-stack, "", @progbits
