/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bpf/instructions.h makes of instructions, natively: reads 16 bytes of code for each, says how
 * long it is, what, by how much it moves the stack pointer, and from where it takes r13 (-1: it does not).
 */
#include <stdio.h>
#include "../../../kernel/native/walk.c"

int main(void)
{
	struct hf_walk *w = &hf_native_walk;
	struct hf_hotspot_scratch *s = HF_HOTSPOT_SCRATCH(w);
	__u8 code[16];
	__u32 bytes;

	while (fread(code, sizeof(code), 1, stdin) == 1) {
		memset(s->code, 0, sizeof(s->code));
		memcpy(s->code, code, sizeof(code));
		s->n = 0;
		s->sum = 0;
		s->r13_at = -1;
		bytes = hf_hotspot_instruction(w);
		if (printf("%u %u %d %d\n", bytes, s->kind, s->up, s->r13_at) < 0)
			return 1;
	}
	return 0;
}
