/* SPDX-License-Identifier: Apache-2.0 */
/*
 * asmleaf sized|unsized|scan: main → call_leaf → asm_… (asmleaf.S), until
 * stopped. The leaves have no unwind tables, use rbp as a plain register and
 * hold decoys: words on the stack that are return addresses of other calls.
 */
#include <stdio.h>
#include <string.h>
#include "spin.h"

void asm_sized(unsigned long turns);
void asm_unsized(unsigned long turns);
void asm_scan(unsigned long turns);

NOINLINE static void call_leaf(const char *which)
{
	for (;;) {
		if (strcmp(which, "sized") == 0)
			CALL((asm_sized(400000000), 0));
		else if (strcmp(which, "unsized") == 0)
			CALL((asm_unsized(400000000), 0));
		else
			CALL((asm_scan(400000000), 0));
	}
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: asmleaf sized|unsized|scan\n");
		return 2;
	}
	CALL((call_leaf(argv[1]), 0));
	return 0;
}
