"""Runs a program of pyperformance for ever: `forever.py FOLDER ARGUMENT...`, of which `run_benchmark.py` is
run.

The program measures itself by way of pyperf; this stands in its place, and calls what was to be measured
again and again. Prints `ready` behind the first call, which what does not run here does not come to. Needs nothing but the standard library.
"""

import os
import sys
import types


class Runner:
    def __init__(self, *args, **kwargs):
        import argparse

        self.argparser = argparse.ArgumentParser()
        self.args = None
        self.metadata = {}

    def parse_args(self, args=None):
        self.args = self.argparser.parse_args(sys.argv[1:])
        return self.args

    def bench_func(self, name, function, *args, **kwargs):
        function(*args)
        print("ready", flush=True)
        while True:
            function(*args)

    def bench_time_func(self, name, function, *args, **kwargs):
        function(1, *args)
        print("ready", flush=True)
        while True:
            function(1, *args)

    def bench_async_func(self, name, function, *args, **kwargs):
        import asyncio

        # asyncio.run came with 3.7.
        run = getattr(asyncio, "run", asyncio.get_event_loop_policy().new_event_loop().run_until_complete)
        run(function(*args))
        print("ready", flush=True)
        while True:
            run(function(*args))


def main():
    folder = sys.argv[1]
    pyperf = types.ModuleType("pyperf")
    pyperf.Runner = Runner
    pyperf.perf_counter = __import__("time").perf_counter
    pyperf.python_implementation = lambda: "cpython"
    sys.modules["pyperf"] = pyperf
    program = os.path.join(folder, "run_benchmark.py")
    sys.path.insert(0, folder)
    sys.argv = [program] + sys.argv[2:]
    with open(program) as source:
        code = compile(source.read(), program, "exec")
    exec(code, {"__name__": "__main__", "__file__": program})


main()
