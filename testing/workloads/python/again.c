/* A program that is no python and begins an interpreter again and again: `again MODE SECONDS`. Each
 * time Python runs other functions for so many seconds, in its first thread and in one that is not
 * Python's, with the interpreter's lock and without it; then the interpreter is finalised. The
 * modes:
 *
 *   plain     nothing happens in between
 *   keyed     in between another's thread-specific key takes the number that Python's had, and
 * holds what is no thread's state: words that lead to themselves unloaded  the library is unloaded
 * in between and loaded again moved     and lies elsewhere then
 *
 * For the last two, built with -DPHASE it is a library, and with -DLOADER the program that loads
 * it: `loader MODE SECONDS LIBRARY`. */
#ifndef LOADER
#include <Python.h>
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

int phase(int n, double seconds);

#ifndef LOADER
static const char source[] = "def spin_%1$c(n):\n"
			     "    total = 0\n"
			     "    for i in range(n):\n"
			     "        total += i & 3\n"
			     "    return total\n"
			     "def released_%1$c():\n"
			     "    host.burn()\n"
			     "def work_%1$c():\n"
			     "    while not host.is_over():\n"
			     "        spin_%1$c(20000)\n"
			     "        released_%1$c()\n"
			     "def thread_%1$c():\n"
			     "    while not host.is_over():\n"
			     "        released_%1$c()\n"
			     "import host\n";
static double until;
static char letter;

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

/* Work for which the lock is released. */
__attribute__((noinline)) static unsigned burn_without_lock(void)
{
	volatile unsigned sum = 0;
	unsigned i;

	for (i = 0; i < 400000; i++)
		sum += i;
	return sum;
}

static PyObject *burn(PyObject *self, PyObject *args)
{
	Py_BEGIN_ALLOW_THREADS;
	burn_without_lock();
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}

static PyObject *is_over(PyObject *self, PyObject *args)
{
	return PyBool_FromLong(now() > until);
}

static PyMethodDef methods[] = {
    {"burn", burn, METH_NOARGS, ""}, {"is_over", is_over, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef host = {PyModuleDef_HEAD_INIT, "host", NULL, -1, methods};

static PyObject *create_host(void)
{
	return PyModule_Create(&host);
}

static void call(const char *function)
{
	char text[32];

	snprintf(text, sizeof(text), "%s_%c()\n", function, letter);
	if (PyRun_SimpleString(text))
		exit(1);
}

/* Whoever looks at a stack from outside knows by these which functions were Python's. */
#define IN_PHASE(letter)                                                                           \
	__attribute__((noinline)) static void main_##letter(void)                                  \
	{                                                                                          \
		call("work");                                                                      \
		__asm__ volatile("");                                                              \
	}                                                                                          \
	__attribute__((noinline)) static void *thread_##letter(void *nothing)                      \
	{                                                                                          \
		PyGILState_STATE state = PyGILState_Ensure();                                      \
                                                                                                   \
		call("thread");                                                                    \
		PyGILState_Release(state);                                                         \
		return nothing;                                                                    \
	}
IN_PHASE(a)
IN_PHASE(b)
IN_PHASE(c)
static void (*const mains[])(void) = {main_a, main_b, main_c};
static void *(*const threads[])(void *) = {thread_a, thread_b, thread_c};

int phase(int n, double seconds)
{
	static int is_known;
	char text[sizeof(source)];
	pthread_t thread;

	letter = "abc"[n % 3];
	snprintf(text, sizeof(text), source, letter);
	if (!is_known)
		PyImport_AppendInittab("host", create_host);
	is_known = 1;
	Py_Initialize();
#if PY_VERSION_HEX < 0x03070000
	PyEval_InitThreads();
#endif
	until = now() + seconds;
	if (PyRun_SimpleString(text))
		return 1;
	if (pthread_create(&thread, NULL, threads[n % 3], NULL))
		return 1;
	mains[n % 3]();
	Py_BEGIN_ALLOW_THREADS;
	pthread_join(thread, NULL);
	Py_END_ALLOW_THREADS;
	return Py_FinalizeEx() < 0;
}
#endif

#ifndef PHASE
/* Takes the number that is free, and holds words that lead to themselves. */
static int take_key(void)
{
	void **words = malloc(4096);
	pthread_key_t key;
	unsigned i;

	for (i = 0; words && i < 512; i++)
		words[i] = words;
	return !words || pthread_key_create(&key, NULL) || pthread_setspecific(key, words);
}

static int loaded_phase(const char *library, int n, double seconds)
{
#ifdef LOADER
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	int (*run)(int, double);
	int result;

	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	run = (int (*)(int, double))dlsym(handle, "phase");
	result = !run || run(n, seconds);
	return dlclose(handle) || result;
#else
	return phase(n, seconds);
#endif
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "plain";
	double seconds = argc > 2 ? atof(argv[2]) : 3;
	const char *library = argc > 3 ? argv[3] : "";
	int n, i;

	for (n = 0;; n++) {
		if (loaded_phase(library, n, seconds))
			return 1;
		if (!strcmp(mode, "keyed") && take_key())
			return 1;
		/* What is free where the library was is taken. */
		for (i = 0; !strcmp(mode, "moved") && i < 64; i++)
			mmap(NULL, 1 << 18, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
}
#endif
