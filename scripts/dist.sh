#!/bin/bash
# Builds dist/hotframe: one static binary with libelf and zlib inside, that runs alone in an empty
# root directory. crt-static on glibc needs no Rust target but the machine's own.
set -euo pipefail

machine=$(uname -m)
target=$machine-unknown-linux-gnu
limit_bytes=$((20 * 1024 * 1024))

# Naming the target keeps crt-static away from build scripts and procedural macros.
RUSTFLAGS='-C target-feature=+crt-static' ${CARGO:-cargo} build --locked --profile dist \
	--target "$target" -p hotframe --features static
mkdir -p dist
install -m 755 "${CARGO_TARGET_DIR:-target}/$target/dist/hotframe" dist/hotframe

# A program header of type INTERP or a NEEDED entry would mean that a library is looked for.
if readelf -ld dist/hotframe | grep -E 'INTERP|NEEDED'; then
	echo 'dist/hotframe is not static' >&2
	exit 1
fi
bytes=$(stat -c %s dist/hotframe)
if [ "$bytes" -gt $limit_bytes ]; then
	echo "dist/hotframe has $bytes bytes, more than the $limit_bytes it may have" >&2
	exit 1
fi
echo "$PWD/dist/hotframe: static, $bytes bytes"
