#!/bin/bash
# Runs clang-format, with the given options, over all C of the kernel half.
set -euo pipefail

# vmlinux.h is dumped from a kernel, not written.
mapfile -t sources < <(git ls-files --cached --others --exclude-standard \
	'kernel/*.c' 'kernel/*.h' 'runtimes/*/bpf/*.c' 'runtimes/*/bpf/*.h' | grep -v 'vmlinux')
[ ${#sources[@]} -gt 0 ] || exit 0
exec clang-format "$@" "${sources[@]}"
