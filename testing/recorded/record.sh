#!/bin/sh
# Records the cases of native/: `testing/recorded/record.sh [CASE…]`. Needs gdb with Python, gcc,
# clang and rust-lld. A case is kept only if gdb sees the frames that we see.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
bin=${CARGO_TARGET_DIR:-$root/target}
work=$bin/workloads
export SPEC="$bin/recorded.spec" CHECK=1
cargo build --manifest-path "$root/Cargo.toml" -p hotframe-core --example record_process
wanted=" $* "

# record NAME WORKLOAD ARGS -- GDB COMMANDS: stops the workload by the commands and records it.
record() {
	name=$1 workload=$2 args=$3
	shift 3
	case $wanted in "  " | *" $name "*) ;; *) return 0 ;; esac
	make -s -C "$root/testing/workloads" OUT="$work" "$work/$workload"
	set -- "$@" "source $here/dump.py" \
		"shell $bin/debug/examples/record_process $SPEC $here/native/$name >$SPEC.out 2>&1 || touch $SPEC.failed"
	rm -f "$SPEC.failed"
	commands=$SPEC.gdb
	printf '%s\n' "set pagination off" "set debuginfod enabled off" "set confirm off" \
		"set backtrace past-main on" "set backtrace past-entry off" "set breakpoint pending on" \
		"handle SIGALRM nostop noprint pass" "$@" "kill" >"$commands"
	timeout 60 gdb -q -nx -batch -x "$commands" --args "$work/$workload" $args >"$SPEC.log" 2>&1 || true
	if [ ! -e "$SPEC.out" ] || [ -e "$SPEC.failed" ]; then
		echo "$name: not recorded"
		tail -5 "$SPEC.log" "$SPEC.out" || true
	else
		echo "$name: $(wc -l <"$SPEC.out") lines, $(wc -c <"$here/native/$name/process.bin") bytes"
	fi
	rm -f "$SPEC.out"
}

record cxx-o2 overloads "" "rbreak integrate" "run"
record recursion-300 recursion 300 "break floor_of_it" "run"
record signal-frame signals "" "break handler_work" "run"
record signal-frame-altstack signals altstack "break handler_work" "run"
record plt-first vdso "" "break tell_time" "run" "break *'clock_gettime@plt'" "continue"
record plt-lazy vdso "" "break tell_time" "run" "break *'clock_gettime@plt'" "continue" "stepi 3"
record vdso vdso "" "break __vdso_clock_gettime" "run" "stepi 8"
record vfork-child forkserver vfork "set follow-fork-mode child" "break execve" "run"
record cfa-in-scratch-register registers rax "break by_rax" "run" "stepi 40"
record cfa-in-saved-register registers rbx "break look_up" "run" "stepi 4"
record no-cfi-frame-pointers framepointers "" "break gamma_ray" "run"
# gdb is misled by the decoys: what is true stands in asmleaf.S.
CHECK=0
record asm-sized-decoys asmleaf sized "break asm_sized" "run" "stepi 40"
record asm-unsized-decoys asmleaf unsized "break asm_unsized" "run" "stepi 40"
record asm-scan-decoys asmleaf scan "break asm_scan" "run" "stepi 40"

# An arm64 process written down by hand: text and CFI are arm64.S, assembled and linked; the stack
# is what its prologues leave. The words reach the end of their page, as the walk reads whole ones.
record_arm64() {
	name=arm64-by-hand
	case $wanted in "  " | *" $name "*) ;; *) return 0 ;; esac
	lld=$(find "$(rustc --print sysroot)" -path '*gcc-ld/ld.lld' | head -1)
	elf=$work/arm64
	clang --target=aarch64-linux-gnu -c -o "$elf.o" "$here/arm64.S"
	"$lld" --image-base=0x400000 --eh-frame-hdr -o "$elf" "$elf.o"
	at() { printf '0x%x' $((0x$(nm "$elf" | awk -v name="$1" '$3 == name { print $1 }') + ${2:-0})); }
	text=$(readelf -lW "$elf" | awk '$1 == "LOAD" && / R E / { print $2, $3, $6 }')
	set -- $text
	start=$(($2 & ~4095)) offset=$(($1 & ~4095))
	sp=0x7fffff98
	{
		echo arm64
		printf 'map 0x%x 0x%x 0x%x %s\n' $start $((start + 4096)) $offset "$elf"
		echo "reg 29 $(printf '0x%x' $((sp + 64)))"
		echo "reg 30 $(at after_leaf)"
		echo "reg 31 $sp"
		echo "reg 32 $(at in_leaf)"
		for word in 0 8 16 24 56 80 88 96; do
			printf 'word 0x%x 0xdeadbeef\n' $((sp + word))
		done
		printf 'word 0x%x 0x%x\n' $((sp + 32)) $((sp + 64)) # inner: x29 of outer
		printf 'word 0x%x %s\n' $((sp + 40)) "$(at after_inner)"
		printf 'word 0x%x %s\n' $((sp + 48)) "$(at after_middle 0x2b000000000000)" # signed
		printf 'word 0x%x 0x0\n' $((sp + 64))
		printf 'word 0x%x %s\n' $((sp + 72)) "$(at after_outer)"
		for frame in in_leaf after_leaf after_inner after_middle after_outer; do
			echo "frame $(at $frame)"
		done
	} >"$SPEC"
	"$bin/debug/examples/record_process" "$SPEC" "$here/native/$name"
}
record_arm64
