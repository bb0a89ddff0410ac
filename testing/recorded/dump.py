# Run by gdb (record.sh): writes what record_process needs of the selected inferior.
import os

import gdb

NAMES = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
with open(os.environ["SPEC"], "w") as out:
    print("pid", gdb.selected_inferior().pid, file=out)
    frame = gdb.newest_frame()
    for number, name in enumerate(NAMES):
        value = int(frame.read_register(name)) & (1 << 64) - 1
        print("reg", number, hex(value), file=out)
    while frame and os.environ["CHECK"] == "1":
        print("frame", hex(frame.pc()), file=out)
        frame = frame.older()
