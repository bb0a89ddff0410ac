#!/bin/bash
# Other people's readers agree with hotframe on one profile (crates/formats/tests/oracles.rs): go tool
# pprof, opentelemetry-proto, the Firefox Profiler's and speedscope's loaders. As root the profile
# is a recording made now; the made-up ones are read always.
#
#   scripts/oracles.sh [--install]    --install gets the readers into testing/oracles first
set -euo pipefail

cd "$(dirname "$0")/.."
tools=$PWD/testing/oracles
if [ "${1:-}" = --install ]; then
	[ "${NO_INSTALL:-}" != 1 ] || { echo 'oracles: not installed: NO_INSTALL=1' >&2; exit 1; }
	(cd "$tools" && npm ci --no-audit --no-fund --loglevel=error)
	python3 -m venv "$tools/.venv"
	"$tools/.venv/bin/pip" install --quiet --requirement "$tools/requirements.txt"
fi
if [ -x "$tools/.venv/bin/python" ] && [ -d "$tools/node_modules/speedscope" ]; then
	export HOTFRAME_PYTHON=$tools/.venv/bin/python HOTFRAME_NODE_MODULES=$tools/node_modules
else
	echo 'other readers of our formats: SKIPPED, but for go tool pprof: make oracles installs them'
fi
hotframe=${CARGO_TARGET_DIR:-target}/release/hotframe
if [ "$(id -u)" = 0 ] && [ -x "$hotframe" ]; then
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
	export HOTFRAME_PROFILE=$folder/recorded.html
	"$hotframe" record --quiet -F 999 -o "$HOTFRAME_PROFILE" -- \
		sh -c 'for file in testing/workloads/*s.c; do cc -O2 -g -c -o /dev/null "$file"; done'
else
	echo 'other readers of a recording: SKIPPED: it needs root and a release build'
fi
# Of the workspace, as in test.sh: built once for both.
${CARGO:-cargo} test --locked --workspace --exclude hotframe-live --test oracles -- --nocapture
