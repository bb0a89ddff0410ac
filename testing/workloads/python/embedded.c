/* A program that is no python and runs it: two interpreters, each in functions of its own, in turns
 * in one thread, and one within the other. */
#include <Python.h>

static const char spin[] = "def spin(n):\n"
			   "    total = 0\n"
			   "    for i in range(n):\n"
			   "        total += i & 3\n"
			   "    return total\n";
static const char first[] = "def first():\n"
			    "    return spin(200000)\n"
			    "first()\n";
static const char second[] = "def second():\n"
			     "    return spin(200000)\n"
			     "second()\n";
static const char nested[] = "import host\n"
			     "def outer():\n"
			     "    host.call()\n"
			     "outer()\n";
static const char within[] = "def inner():\n"
			     "    return spin(200000)\n"
			     "inner()\n";

struct interpreter {
	PyThreadState *state;
	PyObject *globals;
};
static struct interpreter own, other;
static PyObject *first_code, *second_code, *nested_code, *within_code;

/* Code is compiled once, so that it has its names when they are asked. */
static PyObject *run(struct interpreter *in, PyObject *code)
{
	return PyEval_EvalCode(code, in->globals, in->globals);
}

static PyObject *call_other(PyObject *self, PyObject *args)
{
	PyThreadState *caller = PyThreadState_Swap(other.state);
	PyObject *result = run(&other, within_code);

	if (!result)
		PyErr_Print();
	Py_XDECREF(result);
	PyThreadState_Swap(caller);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"call", call_other, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef host = {PyModuleDef_HEAD_INIT, "host", NULL, -1, methods};

static PyObject *create_host(void)
{
	return PyModule_Create(&host);
}

static int begin(struct interpreter *in)
{
	in->globals = PyModule_GetDict(PyImport_AddModule("__main__"));
	return PyRun_SimpleString(spin);
}

static PyObject *compile(const char *source)
{
	return Py_CompileString(source, "<string>", Py_file_input);
}

int main(void)
{
	PyImport_AppendInittab("host", create_host);
	Py_Initialize();
	own.state = PyThreadState_Get();
	first_code = compile(first);
	nested_code = compile(nested);
	if (begin(&own) || !first_code || !nested_code)
		return 1;
	other.state = Py_NewInterpreter();
	if (!other.state)
		return 1;
	second_code = compile(second);
	within_code = compile(within);
	if (begin(&other) || !second_code || !within_code)
		return 1;
	for (;;) {
		PyThreadState_Swap(own.state);
		Py_XDECREF(run(&own, first_code));
		Py_XDECREF(run(&own, nested_code));
		PyThreadState_Swap(other.state);
		Py_XDECREF(run(&other, second_code));
	}
}
