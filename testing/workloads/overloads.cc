// SPDX-License-Identifier: Apache-2.0
// main → shapes::Circle<int>::area(double) const → (anonymous namespace)::integrate(double),
// until stopped: names that must come out demangled.
#include "spin.h"

namespace
{
volatile double sink;

NOINLINE void integrate(double step)
{
	for (;;)
		sink = sink + step;
}
} // namespace

namespace shapes
{
template <typename T> struct Circle {
	T radius;
	NOINLINE void area(double step) const
	{
		CALL((integrate(step * radius), 0));
	}
};
} // namespace shapes

int main()
{
	shapes::Circle<int> circle{2};
	CALL((circle.area(0.5), 0));
}
