/* SPDX-License-Identifier: Apache-2.0 */
/*
 * borrowed: main → g_switch → greenlet::UserGreenlet::inner_bootstrap → greenlet_work, as in the
 * extension module of greenlet, where others write over what inner_bootstrap would return to as
 * soon as they have their turn. Here it does so itself.
 */
#include "spin.h"

struct _greenlet;
struct _object;

NOINLINE static void greenlet_work()
{
	SPIN_FOREVER();
}

namespace greenlet
{
struct UserGreenlet {
	NOINLINE void inner_bootstrap(_greenlet *, _object *);
};

void UserGreenlet::inner_bootstrap(_greenlet *, _object *)
{
	/* The return address stands just below the frame's canonical address. */
	static_cast<unsigned long *>(__builtin_dwarf_cfa())[-1] = 0x1234;
	CALL((greenlet_work(), 0));
}
} // namespace greenlet

NOINLINE static void g_switch()
{
	greenlet::UserGreenlet self;

	CALL((self.inner_bootstrap(nullptr, nullptr), 0));
}

int main()
{
	CALL((g_switch(), 0));
	return 0;
}
