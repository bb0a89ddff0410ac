/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_0 … work_63, each with tables of its own, so that all are met for the first time one after
 * the other. TURNS says how long one runs; ALL(NAME) are their names.
 */
#ifndef WORKS_H
#define WORKS_H

#include "spin.h"

#define WORK(n)                                                                                    \
	__attribute__((noinline, noclone, aligned(65536))) static void work_##n(void)              \
	{                                                                                          \
		SPIN(TURNS);                                                                       \
	}
#define EIGHT(of, n) of(n##0) of(n##1) of(n##2) of(n##3) of(n##4) of(n##5) of(n##6) of(n##7)
#define ALL(of)                                                                                    \
	EIGHT(of, 0)                                                                               \
	EIGHT(of, 1) EIGHT(of, 2) EIGHT(of, 3) EIGHT(of, 4) EIGHT(of, 5) EIGHT(of, 6) EIGHT(of, 7)
#define NAME(n) work_##n,

ALL(WORK)

#endif
