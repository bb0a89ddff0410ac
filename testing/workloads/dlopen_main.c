/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late PLUGIN: main → before_loading until SIGUSR1, then dlopen and
 * main → after_loading → plugin_entry → plugin_work until stopped.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include "spin.h"

static volatile sig_atomic_t load;

static void on_signal(int number)
{
	(void)number;
	load = 1;
}

NOINLINE static void before_loading(void)
{
	while (!load)
		SPIN(1000);
}

NOINLINE static int after_loading(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW);
	void (*entry)(void) = plugin ? (void (*)(void))dlsym(plugin, "plugin_entry") : NULL;

	if (!entry) {
		fprintf(stderr, "late: %s\n", dlerror());
		return 1;
	}
	CALL((entry(), 0));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	signal(SIGUSR1, on_signal);
	before_loading();
	CALL(after_loading(argv[1]));
	return 1;
}
