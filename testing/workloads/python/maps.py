"""A JIT, as one of the ways in which it may leave its names: `maps.py WAY SECONDS`.

Two functions are made in anonymous memory: `first` runs in the first half of the time, `second` in the
other. In between the names change or come. Runs on x86-64, and needs nothing but the standard library.
"""

import ctypes
import mmap
import os
import struct
import sys
import time

way, seconds = sys.argv[1], float(sys.argv[2])
# push rbp; mov rbp, rsp; mov rcx, 770560; dec rcx; jnz; pop rbp; ret
CODE = bytes.fromhex("55 4889e5 48c7c100c20b00 48ffc9 75fb 5d c3")
SECOND = 2048
memory = mmap.mmap(
    -1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
)
memory[: len(CODE)] = CODE
memory[SECOND : SECOND + len(CODE)] = CODE
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
addresses = {"first": start, "second": start + SECOND}
path = f"/tmp/perf-{os.getpid()}.map"
kept = []


def write_map(prefix):
    with open(path, "w") as out:
        for name, address in addresses.items():
            out.write(f"{address:x} {len(CODE):x} {prefix}_{name}\n")


def write_dump(prefix, offset=0):
    """tools/perf/Documentation/jitdump-specification.txt"""
    name = f"jit-{os.getpid()}.dump"
    out = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    now = time.monotonic_ns()
    # The machine is not said, as by CPython 3.13.
    os.write(out, struct.pack("<IIIIIIQQ", 0x4A695444, 1, 40, 0, 0, os.getpid(), now, 0))
    for number, (function, address) in enumerate(addresses.items()):
        where = address + offset
        body = struct.pack("<IIQQQQ", os.getpid(), os.getpid(), where, where, len(CODE), number)
        body += f"{prefix}_{function}".encode() + b"\0" + CODE
        os.write(out, struct.pack("<IIQ", 0, 16 + len(body), now) + body)
    kept.append(mmap.mmap(out, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))


def run(name):
    function = ctypes.CFUNCTYPE(None)(addresses[name])
    until = time.monotonic() + seconds / 2
    while time.monotonic() < until:
        function()


if way in ("rewritten", "recreated"):
    write_map("old")
elif way == "map_after_dump":
    write_dump("elsewhere", offset=1 << 20)
elif way == "dump_after_map":
    with open(path, "w") as out:
        out.write("1000 10 elsewhere\n")
elif way == "too_large":
    with open(path, "w") as out:
        out.write("1000 10 elsewhere")
        out.truncate(256 << 20)
        out.seek(0, os.SEEK_END)
        out.write(f"\n{start:x} 1000 beyond\n")
# A file's time has steps of some milliseconds, and what comes within one could be on either side.
time.sleep(0.1)
run("first")
time.sleep(0.1)
if way == "rewritten":
    write_map("new")
elif way == "recreated":
    os.unlink(path)
    write_map("new")
elif way == "map_after_dump":
    write_map("late")
elif way == "dump_after_map":
    write_dump("late")
time.sleep(0.1)
run("second")
