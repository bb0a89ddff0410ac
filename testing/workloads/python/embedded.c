/* A program that is no python and runs it: two interpreters, one after the other in one thread,
 * each in functions of its own. */
#include <Python.h>

static const char first[] = "def spin(n):\n"
			    "    total = 0\n"
			    "    for i in range(n):\n"
			    "        total += i & 3\n"
			    "    return total\n"
			    "def first():\n"
			    "    return spin(200000)\n"
			    "first()\n";
static const char second[] = "def spin(n):\n"
			     "    total = 0\n"
			     "    for i in range(n):\n"
			     "        total += i & 3\n"
			     "    return total\n"
			     "def second():\n"
			     "    return spin(200000)\n"
			     "second()\n";

int main(void)
{
	PyThreadState *own, *other;

	Py_Initialize();
	own = PyThreadState_Get();
	other = Py_NewInterpreter();
	if (!other)
		return 1;
	for (;;) {
		PyThreadState_Swap(own);
		if (PyRun_SimpleString(first))
			return 1;
		PyThreadState_Swap(other);
		if (PyRun_SimpleString(second))
			return 1;
	}
}
