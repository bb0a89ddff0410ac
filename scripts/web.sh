#!/bin/bash
# Builds the page, or, with --check, type-checks and tests it and fails when the committed build
# is not what the sources give. Only the page needs Node: the Rust build uses the committed files.
#
#   scripts/web.sh [--check]
set -euo pipefail

cd "$(dirname "$0")/../web"
if ! command -v npm >/dev/null; then
	if [ "${1:-}" = --check ]; then
		echo 'web: SKIPPED: Node is not installed, so the built page is not compared with its source'
		exit 0
	fi
	echo 'web: building the page needs Node and npm (Debian: nodejs npm)' >&2
	exit 1
fi
# The lock file is the truth; node_modules is brought up to it only when it differs.
if ! cmp -s package-lock.json node_modules/.installed-lock; then
	npm ci --no-audit --no-fund --loglevel=error
	cp package-lock.json node_modules/.installed-lock
fi
if [ "${1:-}" = --check ]; then
	npm run --silent check
else
	npm run --silent build
fi
