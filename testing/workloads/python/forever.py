"""Runs a program of pyperformance for ever: `forever.py FOLDER`, of which `run_benchmark.py` is run.

The program measures itself by way of pyperf; this stands in its place, and calls what was to be measured
again and again. Prints `ready` before the first call. Needs nothing but the standard library.
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
        self.args = self.argparser.parse_args([])
        return self.args

    def bench_func(self, name, function, *args, **kwargs):
        print("ready", flush=True)
        while True:
            function(*args)

    def bench_time_func(self, name, function, *args, **kwargs):
        print("ready", flush=True)
        while True:
            function(1, *args)

    def bench_async_func(self, name, function, *args, **kwargs):
        import asyncio

        print("ready", flush=True)
        while True:
            asyncio.run(function(*args))


def main():
    folder = sys.argv[1]
    pyperf = types.ModuleType("pyperf")
    pyperf.Runner = Runner
    pyperf.perf_counter = __import__("time").perf_counter
    pyperf.python_implementation = lambda: "cpython"
    sys.modules["pyperf"] = pyperf
    program = os.path.join(folder, "run_benchmark.py")
    sys.path.insert(0, folder)
    sys.argv = [program]
    with open(program) as source:
        code = compile(source.read(), program, "exec")
    exec(code, {"__name__": "__main__", "__file__": program})


main()
