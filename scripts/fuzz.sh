#!/bin/bash
# Runs each fuzz target for a bounded time (`make fuzz`). Needs a nightly Rust and cargo-fuzz.
#
#   scripts/fuzz.sh SECONDS [TARGET…]
set -euo pipefail

seconds=${1:?usage: fuzz.sh SECONDS [TARGET…]}
shift
cd "$(dirname "$0")/../fuzz"
if ! cargo +nightly --version >/dev/null 2>&1; then
	echo 'fuzz: needs a nightly Rust: rustup toolchain install nightly' >&2
	exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
	echo '+ cargo install --locked cargo-fuzz' >&2
	[ "${NO_INSTALL:-}" != 1 ] || exit 1
	cargo install --locked cargo-fuzz
fi
# Small programs of each kind: with and without symbols, DWARF, unwind information; 32 bits.
programs() {
	local to=${CARGO_TARGET_DIR:-../target}/fuzz-programs program
	mkdir -p "$to"
	to=$(realpath "$to")
	for program in recursion debuggable stripped framepointers asmleaf inlines plugin.so task32; do
		make -s -C ../testing/workloads OUT="$to" "$program" >&2 || true
	done
	rm -f "$to"/*.o
	echo "$to"
}

# Edits of recorded cases: one takes 16 bytes, to which mutations of nothing do not come.
edits() {
	local to=${CARGO_TARGET_DIR:-../target}/fuzz-edits case at seed=1 bytes
	mkdir -p "$to"
	for case in {0..63}; do
		bytes=$(printf '\\x%02x' "$case")
		for ((at = 0; at < 64; at++)); do
			seed=$(((seed * 1103515245 + 12345) & 0x7fffffff))
			bytes+=$(printf '\\x%02x' $((seed >> 16 & 255)))
		done
		printf '%b' "$bytes" >"$to/$case"
	done
	echo "$to"
}

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${targets[@]}"; do
	echo "fuzz: $target for $seconds s"
	# 512 MiB: an input that makes a reader allocate beyond its bounds is a finding.
	mkdir -p "corpus/$target"
	seeds=("corpus/$target")
	[ ! -d "seeds/$target" ] || seeds+=("seeds/$target")
	case $target in
	# What the writers make is where mutations begin.
	read_*) seeds+=(../crates/formats/tests/golden) ;;
	# Nor does chance make an ELF file.
	elf | rows | symbols | registered) seeds+=("$(programs)") ;;
	recorded) seeds+=("$(edits)") ;;
	esac
	cargo +nightly fuzz run "$target" "${seeds[@]}" -- -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -print_final_stats=1
done
