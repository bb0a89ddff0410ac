#!/bin/bash
# Writes the Rust twins of the C headers that both halves share, and the list of runtimes' steps, or,
# with --check, fails when what is committed is not what is given by the headers and folders.
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
	keep "$1" "$2" "$fresh"
}
keep() { # what it is made from, the committed file, the fresh one
	local fresh=$3
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

# C cannot include what a macro lists: a runtime has a step if its folder has one, and a moment if that
# says what to do in it.
steps() {
	cat <<-'end'
		/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
		/* Generated from the folders runtimes/NAME by scripts/generate.sh: `make generate`. */
		#ifndef HF_STEPS_H
		#define HF_STEPS_H

		/* clang-format off */
	end
	local name list= moments=
	for name in runtimes/*/bpf/step.h; do
		echo "#include \"${name#runtimes/}\""
		name=${name#runtimes/} name=${name%/bpf/step.h}
		list+=" \\"$'\n\t'"STEP(${name^^}, $name)"
		! grep -q "int hf_${name}_moment\|void hf_${name}_moment" "runtimes/$name"/bpf/*.h ||
			moments+=" \\"$'\n\t'"STEP(${name^^}, $name)"
	done
	printf '\n#define HF_STEPS(STEP)%s\n\n' "$list"
	printf '/* Of these, what knows something that is gone later: hf_NAME_moment. */\n'
	printf '#define HF_MOMENTS(STEP)%s\n/* clang-format on */\n\n#endif /* HF_STEPS_H */\n' "$moments"
}

[ "${1:-}" != --check ] || check=1
steps >"$scratch/steps.h"
keep 'runtimes/*/bpf' kernel/include/hf/steps.h "$scratch/steps.h"
twin kernel/include/hf/abi.h crates/abi/src/abi.rs
twin kernel/native/abi.h crates/core/src/native_abi.rs
for header in runtimes/*/bpf/abi.h; do
	[ ! -e "$header" ] || twin "$header" "${header%/bpf/abi.h}/src/abi.rs"
done
exit $stale
