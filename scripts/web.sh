#!/bin/bash
# Builds the page, or, with --check, type-checks and tests it and fails when the committed build
# is not what the sources give. Only the page needs Node: the Rust build uses the committed files.
#
#   scripts/web.sh [--check]
set -euo pipefail

cd "$(dirname "$0")/../web"
if [ ! -e package.json ]; then
	echo 'web: no page in this checkout'
	exit 0
fi
if ! command -v npm >/dev/null; then
	if [ "${1:-}" = --check ]; then
		echo 'web: SKIPPED: Node is not installed, so the built page is not compared with its source'
		exit 0
	fi
	echo 'web: building the page needs Node and npm (Debian: nodejs npm)' >&2
	exit 1
fi
# The lock file is the truth; node_modules is brought up to it only when it differs.
if ! cmp -s package-lock.json node_modules/.hotframe-lock; then
	npm ci --no-audit --no-fund --loglevel=error
	cp package-lock.json node_modules/.hotframe-lock
fi
if [ "${1:-}" != --check ]; then
	exec npm run --silent build
fi
npm run --silent check
committed=$(mktemp -d)
trap 'rm -rf "$committed"' EXIT
cp -r dist/. "$committed"
npm run --silent build
if ! diff -r "$committed" dist; then
	echo 'web/dist was not what web/src gives; it is now: commit it' >&2
	exit 1
fi
