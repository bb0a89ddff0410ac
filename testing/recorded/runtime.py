#!/usr/bin/env python3
"""Records cases of a runtime: `runtime.py RECORDER OUT_DIR PID WANTED [TRIES]`.

Stops the running process PID with gdb, now and again, until the frames of one of its threads, as
RECORDER (an example of the runtime's crate, built) renders them, match the regular expression WANTED,
which may span lines. The stack must be whole, and every frame of the runtime named. The process goes
on afterwards.

    java -Xmx16m -cp DIR Truth inline &
    cargo build -p hotframe-hotspot --example record_hotspot
    testing/recorded/runtime.py target/debug/examples/record_hotspot \\
        testing/recorded/hotspot/jdk17-inlined PID '^Truth.Inline.d .* inlined'

Needs gdb with Python, and root. What a case is and what an independent tool says of it goes into its
about.md by hand.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

DUMP = r"""
import os
import subprocess
import time

import gdb

NAMES = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()


def busy(pid):
    # Threads that run: the others wait in the kernel, and their stacks are all alike.
    out = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        out.append((int(fields[11]) + int(fields[12]), int(tid)))
    return out


pid = int(os.environ["PID"])
before = dict((tid, ticks) for ticks, tid in busy(pid))
time.sleep(0.3)
ran = [(ticks - before.get(tid, 0), tid) for ticks, tid in busy(pid)]
wanted = [tid for ticks, tid in sorted(ran, reverse=True)[:2] if ticks > 0]
gdb.execute(f"attach {pid}", to_string=True)
for thread in gdb.selected_inferior().threads():
    if thread.ptid[1] not in wanted:
        continue
    thread.switch()
    spec = os.environ["SPEC"] + "." + str(thread.ptid[1])
    with open(spec, "w") as out:
        print("pid", pid, file=out)
        for number, name in enumerate(NAMES):
            value = int(gdb.parse_and_eval("(unsigned long)$" + name)) & (1 << 64) - 1
            print("reg", number, hex(value), file=out)
        tp = int(gdb.parse_and_eval("(unsigned long)$fs_base")) & (1 << 64) - 1
        print("tp", hex(tp), file=out)
    command = [os.environ["RECORDER"], spec, spec + ".d"]
    with open(spec + ".out", "w") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.STDOUT)
"""


def main():
    recorder, out_dir, pid, wanted = sys.argv[1:5]
    tries = int(sys.argv[5]) if len(sys.argv) > 5 else 40
    with tempfile.TemporaryDirectory() as scratch:
        script = os.path.join(scratch, "dump.py")
        with open(script, "w") as file:
            file.write(DUMP)
        environment = dict(os.environ, PID=pid, RECORDER=recorder)
        texts = []
        for number in range(tries):
            environment["SPEC"] = os.path.join(scratch, str(number))
            # The process's signals are its own affair: gdb only stops it.
            command = ["gdb", "-q", "-nx", "-batch", "-iex", "set auto-solib-add off"]
            command += ["-iex", "set debuginfod enabled off", "-ex", f"source {script}"]
            subprocess.run(command, env=environment, capture_output=True, timeout=120)
            for name in os.listdir(scratch):
                if not name.startswith(f"{number}.") or not name.endswith(".out"):
                    continue
                with open(os.path.join(scratch, name)) as file:
                    text = file.read()
                texts.append(text)
                is_whole = "\nwhole" in text and "unnamed" not in text and "lost" not in text
                if is_whole and re.search(wanted, text, re.MULTILINE):
                    made = os.path.join(scratch, name.removesuffix(".out") + ".d")
                    os.makedirs(out_dir, exist_ok=True)
                    for file in ["process.bin", "expected.txt"]:
                        shutil.copy(os.path.join(made, file), os.path.join(out_dir, file))
                    size = os.path.getsize(os.path.join(out_dir, "process.bin"))
                    print(f"{out_dir}: {size} bytes\n{text}")
                    return
        sys.exit(f"{out_dir}: none of {len(texts)} stacks; the last:\n" + "\n".join(texts[-1:]))


main()
