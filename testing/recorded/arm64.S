/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text and CFI of the arm64 case (record.sh): _start → outer → middle → inner → leaf. Never run:
 * the registers and the stack are written down as these prologues would leave them.
 */
	.text
	.globl _start, after_outer, after_middle, after_inner, after_leaf, in_leaf

_start:
	.cfi_startproc
	.cfi_undefined x30
	bl	outer
after_outer:
	brk	#0
	.cfi_endproc

/* A frame pointer, and the CFA stands on it. */
outer:
	.cfi_startproc
	stp	x29, x30, [sp, #-32]!
	.cfi_def_cfa_offset 32
	.cfi_offset x29, -32
	.cfi_offset x30, -24
	mov	x29, sp
	.cfi_def_cfa x29, 32
	bl	middle
after_middle:
	ldp	x29, x30, [sp], #32
	ret
	.cfi_endproc

/* A signed return address, saved without the frame pointer. */
middle:
	.cfi_startproc
	hint	#25 /* paciasp */
	.cfi_negate_ra_state
	str	x30, [sp, #-16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x30, -16
	bl	inner
after_inner:
	ldr	x30, [sp], #16
	hint	#29 /* autiasp */
	ret
	.cfi_endproc

/* Both saved at the top of a frame that stands on the stack pointer. */
inner:
	.cfi_startproc
	sub	sp, sp, #48
	.cfi_def_cfa_offset 48
	stp	x29, x30, [sp, #32]
	.cfi_offset x29, -16
	.cfi_offset x30, -8
	bl	leaf
after_leaf:
	ldp	x29, x30, [sp, #32]
	add	sp, sp, #48
	ret
	.cfi_endproc

/* No frame: the return address is in the link register. */
leaf:
	.cfi_startproc
	nop
in_leaf:
	ret
	.cfi_endproc
