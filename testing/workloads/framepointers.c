/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main → alpha → beta → gamma_ray, which runs until stopped. Built with frame
 * pointers and without unwind tables: `readelf -wf` shows no FDE over them.
 */
#include "spin.h"

NOINLINE static void gamma_ray(void)
{
	SPIN_FOREVER();
}

NOINLINE static void beta(void)
{
	CALL((gamma_ray(), 0));
}

NOINLINE static void alpha(void)
{
	CALL((beta(), 0));
}

int main(void)
{
	CALL((alpha(), 0));
	return 0;
}
