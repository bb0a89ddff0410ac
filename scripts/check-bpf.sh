#!/bin/bash
# Compiles every BPF C file for x86-64 and for arm64, warnings as errors. The Rust build compiles
# them for its own machine only.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.bpf.c')
if [ ${#sources[@]} = 0 ]; then
	echo 'bpf: no BPF C in this checkout'
	exit 0
fi

# libbpf's headers are those of the libbpf that we link: the one inside libbpf-sys.
manifest=$(${CARGO:-cargo} metadata --locked --format-version 1 |
	grep -o '"manifest_path":"[^"]*/libbpf-sys-[^"]*"' | head -n 1 | cut -d '"' -f 4)
[ -n "$manifest" ] || { echo 'bpf: libbpf-sys is not among the dependencies' >&2; exit 1; }
ln -s "$(dirname "$manifest")/libbpf/src" "$scratch/bpf"

for arch in x86:x86_64 arm64:aarch64; do
	for source in "${sources[@]}"; do
		clang -target bpf "-D__TARGET_ARCH_${arch%:*}" -mcpu=v3 -g -O2 -std=gnu11 \
			-Wall -Wextra -Wno-unused-parameter -Wno-missing-declarations -Wno-unknown-attributes -Werror \
			-Ikernel -Ikernel/include "-Ikernel/include/${arch#*:}" "-I$scratch" \
			-c "$source" -o "$scratch/out.o"
	done
	echo "bpf: ${#sources[@]} file(s) compile for ${arch#*:}"
done
