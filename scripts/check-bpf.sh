#!/bin/bash
# Compiles every BPF C file for x86-64 and for arm64, in both forms of its shared memory, warnings
# as errors. The Rust build compiles them for its own machine only.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.bpf.c')

# libbpf's headers are those of the libbpf that we link: the one inside libbpf-sys.
manifest=$(${CARGO:-cargo} metadata --locked --format-version 1 |
	grep -o '"manifest_path":"[^"]*/libbpf-sys-[^"]*"' | head -n 1 | cut -d '"' -f 4)
[ -n "$manifest" ] || { echo 'bpf: libbpf-sys is not among the dependencies' >&2; exit 1; }
ln -s "$(dirname "$manifest")/libbpf/src" "$scratch/bpf"

for arch in x86 arm64; do
	for memory in HF_ARENA HF_ARRAY; do
		for source in "${sources[@]}"; do
			"${CLANG:-clang}" -g -O2 -target bpf -mcpu=v3 -D__BPF__ "-D$memory" "-D__TARGET_ARCH_$arch" \
				-Wall -Werror -Wno-unused-function \
				-Ikernel/include -Iruntimes "-I$scratch" -c "$source" -o "$scratch/out.o"
		done
	done
	echo "bpf: compiled for $arch: ${sources[*]}"
done
