#!/bin/bash
# All tests: those of every crate, then the live suite, which records real programs with the
# release binary and so needs root.
set -euo pipefail

cargo=${CARGO:-cargo}
$cargo test --locked --workspace --exclude hotframe-live

if [ "$(id -u)" = 0 ]; then
	$cargo build --release --locked -p hotframe
	HOTFRAME_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/release/hotframe") \
		$cargo test --locked -p hotframe-live -- --test-threads=1
else
	echo 'live suite: SKIPPED: it needs root (sudo -E make test)'
fi
