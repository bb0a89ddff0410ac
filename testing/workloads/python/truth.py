"""Python stacks whose truth the program itself prints: `truth.py TRUTH SCENARIO...`.

Runs each scenario first under the interpreter's own profiler hook and writes down, as JSON to the file
TRUTH, what called what, from which line, and through which C function. Prints `ready`, and then runs the
scenarios, unobserved, in turn until it is killed. Every stack that anybody samples from then on has to be a
path of what was written down.

Runs on CPython 3.6 and later, and needs nothing but the standard library.
"""

import dis
import functools
import gc
import hashlib
import json
import os
import re
import sys
import threading
import time
import zlib


def spin(n):
    total = 0
    for i in range(n):
        total += i & 3
    return total


# Two paths of one shape, at 80 and 20.
def eighty():
    return shape_of_eighty()


def shape_of_eighty():
    return spin(16000)


def twenty():
    return shape_of_twenty()


def shape_of_twenty():
    return spin(4000)


def paths():
    eighty()
    twenty()


# A statement over many lines calls from several of them.
def first_of_many(n):
    return spin(n)


def second_of_many(n):
    return spin(n)


def multiline():
    values = [
        first_of_many(
            1500
        ),
        [
            second_of_many(1500),
            spin(
                1500
            ),
        ],
    ]
    return (
        len(values)
        + first_of_many(1500)
        + second_of_many(
            1500)
    )


# Python called from C called from Python.
def sort_key(value):
    return spin(60) - value


def tiny_key(value):
    return -value


def sorting():
    sorted(range(60), key=sort_key)
    sorted(range(600), key=tiny_key)


PATTERN = re.compile("b+")
TEXT = "abbabbbab" * 20


def replacement(match):
    return str(spin(100))


def substituting():
    PATTERN.sub(replacement, TEXT)


def reducing():
    functools.reduce(combine, range(60))


def combine(a, b):
    return a + spin(80)


# Generators, each resumed from several places, and through C.
def inner_generator(n):
    for i in range(n):
        yield spin(80)


def outer_generator(n):
    yield from inner_generator(n)
    for value in inner_generator(n):
        yield value + spin(40)


def generators():
    for _ in outer_generator(30):
        spin(20)
    sum(inner_generator(30))
    list(outer_generator(10))


# Thrown into a generator that others wait for.
def thrown_into(n):
    for _ in range(n):
        try:
            yield
        except ValueError:
            spin(4000)


def waiting(n):
    yield from thrown_into(n)


def waiting_for_waiting(n):
    yield from waiting(n)


def throwing():
    generator = waiting_for_waiting(20)
    # On the line that resumes it: hooks hear nothing of those that wait.
    for _ in generator: generator.throw(ValueError)


class Ready:
    def __await__(self):
        spin(100)
        yield
        return spin(100)


async def inner_coroutine():
    spin(100)
    await Ready()
    return spin(100)


async def outer_coroutine():
    first = await inner_coroutine()
    return first + await inner_coroutine()


def coroutines():
    for _ in range(8):
        coroutine = outer_coroutine()
        try:
            while True:
                coroutine.send(None)
        except StopIteration:
            pass


def comprehensions():
    listed = [spin(50) for _ in range(20)]
    mapped = {n: spin(50) for n in range(20)}
    total = sum(spin(50) for _ in range(20))
    nested = [[spin(20) for _ in range(5)] for _ in range(5)]
    return listed, mapped, total, nested


# Methods, properties, operators, descriptors, decorators, closures.
def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        spin(50)
        return function(*args)

    return wrapper


class Base:
    def __init__(self):
        self.value = spin(100)

    @property
    def computed(self):
        return spin(100)

    @classmethod
    def made(cls):
        spin(100)
        return cls()

    @staticmethod
    def static(n):
        return spin(n)

    def __add__(self, other):
        return spin(100)

    def __lt__(self, other):
        return spin(60) < 0

    def __getattr__(self, name):
        return spin(100)

    def __call__(self):
        return spin(100)


class Derived(Base):
    def __init__(self):
        super().__init__()
        spin(100)

    @decorated
    def method(self):
        return spin(100)


def methods():
    one = Derived.made()
    one.computed
    one.missing
    one.static(100)
    one + one
    one()
    one.method()
    sorted([one, one, one])
    max(one, one)


# Classes called: from 3.12 on the interpreter puts a frame of its own before that of __init__.
class Made:
    def __init__(self, n):
        self.value = spin(n)


def making():
    for _ in range(20):
        Made(200)


# Code made at run time, with names in every width of text, and collected again.
SOURCE = """
def f_{n}(depth):
    return g_{n}(depth) + 1

def g_{n}(depth):
    return spin(400)

f_{n}({n})
"""


def executed():
    for n in range(4):
        exec(compile(SOURCE.format(n=n), "made-%d.py" % n, "exec"), {"spin": spin})
    gc.collect()


def naïve(n):
    return 日本語(n)


def 日本語(n):
    return 𝒻𝓊𝓃(n)


def 𝒻𝓊𝓃(n):
    return spin(n)


def widths():
    naïve(1000)


# The interpreter lock released: hashing and compressing in C.
BLOB = os.urandom(1 << 15) * 8


def hashing():
    for _ in range(4):
        hashlib.sha256(BLOB).digest()


def compressing():
    zlib.compress(BLOB[:65536], 6)


def in_thread(target):
    target()


def threads():
    started = [
        threading.Thread(target=in_thread, args=(target,)) for target in (hashing, compressing, paths)
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


# Deep, with and without C in between.
def deep(n):
    if n == 0:
        return spin(20000)
    return deep(n - 1)


def recursion():
    deep(900)


def deep_through_c(n):
    if n == 0:
        return spin(10000)
    return max([n], key=functools.partial(deeper_through_c, n))


def deeper_through_c(n, value):
    return deep_through_c(n - 1)


def callbacks():
    deep_through_c(60)


# Children by fork, each a short while at work.
def in_child():
    spin(300000)


def forking():
    pid = os.fork()
    if pid == 0:
        in_child()
        os._exit(0)
    os.waitpid(pid, 0)


def handling():
    for _ in range(20):
        try:
            raising(3)
        except ValueError:
            spin(100)
        finally:
            spin(50)


def raising(n):
    if n == 0:
        spin(100)
        raise ValueError(n)
    raising(n - 1)


class Truth:
    """What called what, as the interpreter tells it."""

    def __init__(self):
        self.edges = set()
        self.codes = set()
        self.in_c = threading.local()

    def key(self, code):
        self.codes.add(code)
        return getattr(code, "co_qualname", code.co_name)

    def hook(self, frame, event, argument):
        calls = self.in_c.__dict__.get("calls")
        if calls is None:
            calls = self.in_c.calls = []
            self.below(frame)
        if event == "c_call":
            calls.append(getattr(argument, "__name__", str(argument)))
        elif event in ("c_return", "c_exception"):
            if calls:
                calls.pop()
        elif event == "call":
            via = calls[-1] if calls else None
            caller = frame.f_back
            if caller is not None:
                self.edges.add((self.key(caller.f_code), caller.f_lineno, self.key(frame.f_code), via))
            calls.append(None)
        elif event == "return":
            if calls:
                calls.pop()

    def below(self, frame):
        """What was called before anybody looked."""
        while frame.f_back is not None:
            caller = frame.f_back
            self.edges.add((self.key(caller.f_code), caller.f_lineno, self.key(frame.f_code), None))
            frame = caller

    def observe_child(self):
        """What children do, in the parent: nobody is forked."""
        fork, leave, wait = os.fork, os._exit, os.waitpid
        os.fork, os._exit, os.waitpid = (lambda: 0), (lambda _: None), (lambda *_: None)
        self.observe(forking)
        os.fork, os._exit, os.waitpid = fork, leave, wait

    def observe(self, function):
        self.below(sys._getframe())
        threading.setprofile(self.hook)
        sys.setprofile(self.hook)
        function()
        sys.setprofile(None)
        threading.setprofile(None)

    def write(self, path):
        functions = {}
        for code in self.codes:
            name = getattr(code, "co_qualname", code.co_name)
            lines = {line for _, line in dis.findlinestarts(code) if line}
            entry = functions.setdefault(name, {"files": set(), "firsts": set(), "lines": set()})
            entry["files"].add(code.co_filename)
            entry["firsts"].add(code.co_firstlineno)
            entry["lines"] |= lines | {code.co_firstlineno}
        facts = {
            "version": list(sys.version_info[:3]),
            "edges": sorted(self.edges, key=str),
            "functions": {
                name: {key: sorted(values) for key, values in entry.items()}
                for name, entry in functions.items()
            },
        }
        with open(path + ".new", "w") as out:
            json.dump(facts, out)
        os.rename(path + ".new", path)


def run(scenarios):
    for scenario in scenarios:
        scenario()


def main():
    path, names = sys.argv[1], sys.argv[2:]
    scenarios = [globals()[name] for name in names]
    sys.setrecursionlimit(5000)
    truth = Truth()
    # Twice: what is made once (caches of imports and of patterns) is made then.
    for _ in range(2):
        truth.observe(lambda: run(scenarios))
    if forking in scenarios:
        truth.observe_child()
    if getattr(sys, "is_stack_trampoline_active", bool)():
        # What is told of trampolines waits in a buffer for more of them: theirs for these.
        for _ in range(300):
            exec("def more(): pass\nmore()", {})
    # As it is called from here on.
    this = sys._getframe()
    line = this.f_lineno + 4
    truth.edges.add((truth.key(this.f_code), line, truth.key(run.__code__), None))
    truth.write(path)
    print("ready", os.getpid(), flush=True)
    while True: run(scenarios)


main()
