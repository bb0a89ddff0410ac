/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_entry → plugin_work, which runs until stopped: loaded by dlopen_main.c. */
#include "spin.h"

NOINLINE static void plugin_work(void)
{
	SPIN_FOREVER();
}

void plugin_entry(void)
{
	CALL((plugin_work(), 0));
}
