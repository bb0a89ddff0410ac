"""Interpreters that a thread runs within each other, three deep: `nested.py TRUTH`, CPython 3.12 and later.

Writes down to the file TRUTH what its threads run, a path a line: functions from the outermost to the
innermost, of all interpreters. Prints `ready`, and then does that until it is killed. The Python frames of every
stack are the beginning of a path.
"""

import _thread
import os
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

INNER = """
def spin_in_inner(n):
    total = 0
    for i in range(n):
        total += i & 3
    return total

def inner():
    for _ in range(4):
        spin_in_inner(20000)
"""

MIDDLE = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def spin_in_middle(n):
    total = 0
    for i in range(n):
        total += i & 3
    return total

def middle():
    spin_in_middle(20000)
    max([0], key=middle_through_c)
    spin_in_middle(20000)

def middle_through_c(value):
    interpreters.run_string(within, "inner()")
    return value

within = interpreters.create()
interpreters.run_string(within, INNER)
"""


def middle_interpreter():
    made = interpreters.create()
    interpreters.run_string(made, "INNER = " + repr(INNER) + MIDDLE)
    return made


def spin_in_outer(n):
    total = 0
    for i in range(n):
        total += i & 3
    return total


def descend(n):
    if n > 0:
        descend(n - 1)
        return
    max([0], key=outer_through_c)


def outer_through_c(value):
    interpreters.run_string(FIRST, "middle()")
    return value


def outer():
    while True:
        spin_in_outer(20000)
        descend(30)


def in_thread():
    while True:
        interpreters.run_string(SECOND, "middle()")
        interpreters.run_string(THIRD, "inner()")


# Of these the thread runs one after the other: what it left in one is not the other's.
FIRST = middle_interpreter()
SECOND = middle_interpreter()
THIRD = interpreters.create()
interpreters.run_string(THIRD, INNER)

IN_MIDDLE = ["<module>", "middle", "spin_in_middle"]
IN_INNER = ["<module>", "middle", "middle_through_c", "<module>", "inner", "spin_in_inner"]
DEEP = ["<module>", "outer"] + ["descend"] * 31 + ["outer_through_c"]
PATHS = [
    ["<module>", "outer", "spin_in_outer"],
    DEEP + IN_MIDDLE,
    DEEP + IN_INNER,
    ["in_thread"] + IN_MIDDLE,
    ["in_thread"] + IN_INNER,
    ["in_thread", "<module>", "inner", "spin_in_inner"],
]
with open(sys.argv[1] + ".new", "w") as out:
    for path in PATHS:
        out.write(" ".join(path) + "\n")
os.rename(sys.argv[1] + ".new", sys.argv[1])
_thread.start_new_thread(in_thread, ())
print("ready", os.getpid(), flush=True)
outer()
