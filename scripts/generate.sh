#!/bin/bash
# Writes the Rust twins of the C headers that both halves share, or, with --check, fails when a
# committed twin is not what its header gives.
#
#   scripts/generate.sh [--check]
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

stale=0
twin() { # header, Rust file
	local fresh=$scratch/${2//\//_}
	${CARGO:-cargo} run --quiet --locked -p abigen -- "$1" >"$fresh"
	rustfmt --edition 2024 --config-path rustfmt.toml "$fresh"
	if [ "${check:-}" = 1 ]; then
		if ! diff -u "$2" "$fresh" >"$scratch/diff"; then
			echo "$2 is not what $1 gives: run \`make generate\`" >&2
			head -n 40 "$scratch/diff" >&2
			stale=1
		fi
	else
		cmp -s "$fresh" "$2" || cp "$fresh" "$2"
	fi
}

[ "${1:-}" != --check ] || check=1
twin kernel/include/hf/abi.h crates/abi/src/abi.rs
twin kernel/native/abi.h crates/core/src/native_abi.rs
for header in runtimes/*/bpf/abi.h; do
	[ ! -e "$header" ] || twin "$header" "${header%/bpf/abi.h}/src/abi.rs"
done
exit $stale
