#!/bin/bash
# Runs clang-format, with the given options, over all C: the kernel half and the workloads.
set -euo pipefail

mapfile -t sources < <(git ls-files --cached --others --exclude-standard \
	'kernel/*.c' 'kernel/*.h' 'runtimes/*/bpf/*.c' 'runtimes/*/bpf/*.h' \
	'testing/workloads/*.c' 'testing/workloads/*.h' 'testing/workloads/*.cc')
[ ${#sources[@]} -gt 0 ] || exit 0
exec clang-format "$@" "${sources[@]}"
