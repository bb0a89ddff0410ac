#!/bin/bash
# Runs clang-format, with the given options, over all C of the kernel half.
set -euo pipefail

mapfile -t sources < <(git ls-files --cached --others --exclude-standard \
	'kernel/*.c' 'kernel/*.h' 'runtimes/*/bpf/*.c' 'runtimes/*/bpf/*.h')
[ ${#sources[@]} -gt 0 ] || exit 0
exec clang-format "$@" "${sources[@]}"
