#!/bin/bash
# Every version of every runtime that can be had (`make test-runtimes`): each script of
# testing/runtimes fetches what is not installed, runs the live suite over all of it, and prints what
# became of each version. Needs root, and the package registries for what is not installed.
#
#   scripts/test-runtimes.sh [RUNTIME…]     hotspot, python; default: all
#
# What was fetched is kept in target/runtimes. NO_INSTALL=1 fetches nothing.
set -euo pipefail

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
if [ "$(id -u)" != 0 ]; then
	echo 'test-runtimes: it needs root (sudo -E make test-runtimes)' >&2
	exit 1
fi
${CARGO:-cargo} build --release --locked -p hotframe
HOTFRAME_BIN=$(realpath "$target/release/hotframe")
export HOTFRAME_BIN
runtimes=("$@")
if [ ${#runtimes[@]} = 0 ]; then
	for script in testing/runtimes/*.sh; do
		runtimes+=("$(basename "$script" .sh)")
	done
fi
matrix=$(mktemp)
trap 'rm -f "$matrix"' EXIT
failed=0
for runtime in "${runtimes[@]}"; do
	echo "+ testing/runtimes/$runtime.sh" >&2
	"testing/runtimes/$runtime.sh" "$target/runtimes" | tee -a "$matrix" >&2 || failed=1
done
echo
sort -V "$matrix"
exit "$failed"
