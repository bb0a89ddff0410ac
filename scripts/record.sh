#!/bin/bash
# Builds hotframe and records the whole machine for some seconds into hotframe.html and
# hotframe.pb.gz of the current directory (`make record`).
#
#   scripts/record.sh SECONDS
set -euo pipefail

seconds=${1:?usage: record.sh SECONDS}
binary=${CARGO_TARGET_DIR:-target}/release/hotframe

${CARGO:-cargo} build --release --locked -p hotframe

command=("$binary" record -d "$seconds" -o hotframe.html -o hotframe.pb.gz)
if [ "$(id -u)" != 0 ]; then
	command=(sudo "${command[@]}")
	if [ "${NO_INSTALL:-}" = 1 ]; then
		echo "NO_INSTALL=1, so run this yourself: ${command[*]}"
		exit 0
	fi
fi
echo "+ ${command[*]}"
"${command[@]}"
echo "flame graph:  $PWD/hotframe.html   (open it in a browser)"
echo "pprof:        $PWD/hotframe.pb.gz  (go tool pprof hotframe.pb.gz)"
