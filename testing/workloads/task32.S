/* SPDX-License-Identifier: Apache-2.0 */
/* A static i386 program without libc: _start → outer → inner, until stopped. */
	.intel_syntax noprefix
	.text
	.globl	_start
	.type	_start, @function
_start:
	call	outer
	.size	_start, . - _start
	.type	outer, @function
outer:
	call	inner
	ret
	.size	outer, . - outer
	.type	inner, @function
inner:
1:	inc	eax
	jmp	1b
	.size	inner, . - inner
	.section .note.GNU-stack, "", @progbits
