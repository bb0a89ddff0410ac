#!/bin/bash
# Builds dist/hotframe: one static binary with libelf and zlib inside, that runs alone in an empty
# root directory. crt-static on glibc needs no Rust target but the machine's own.
#
#   PROFILE=release   without link-time optimisation, of what `cargo build --release` has built already
set -euo pipefail

profile=${PROFILE:-dist}
limit_bytes=$((20 * 1024 * 1024))

# rustc looks for static libraries only where it is told to; gcc knows where they are.
libelf=$(gcc -print-file-name=libelf.a)
LIBBPF_SYS_LIBRARY_PATH=$(dirname "$(realpath "$libelf")")
export LIBBPF_SYS_LIBRARY_PATH
flags=(-C target-feature=+crt-static -C strip=symbols)
# elfutils from 0.189 on reads sections compressed by zstd, where it was built so.
if nm "$libelf" 2>/dev/null | grep -q ' U ZSTD_'; then
	flags+=(-C link-arg=-lzstd)
fi

# Only what is linked in the end has to know: libraries, build scripts and procedural macros are built as ever.
${CARGO:-cargo} rustc --locked --profile "$profile" -p hotframe --bin hotframe --features static -- "${flags[@]}"
mkdir -p dist
install -m 755 "${CARGO_TARGET_DIR:-target}/$profile/hotframe" dist/hotframe

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
