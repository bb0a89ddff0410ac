#!/bin/bash
# All tests: those of every crate and of the page, then the live suite, which records real programs
# and so needs root: once as this kernel runs it, with the static program that is given away, and once
# more for each fallback that older kernels get, with the program as it is built to be looked into,
# whose sums are checked and which is not static.
#
#   FALLBACKS=all   the whole live suite for each fallback, not only what walks (an hour and more)
set -euo pipefail

cargo=${CARGO:-cargo}
# Always of the whole workspace: cargo builds what packages share with the features that the chosen ones
# ask for, and another choice is another build of most of it.
tests=($cargo test --locked --workspace)
"${tests[@]}" --exclude hotframe-live --no-run
# Whether it stands alone does not depend on how much time went into making it fast.
build() {
	PROFILE=release scripts/dist.sh
}
# While these run, which leaves a CPU idle most of the time, what the live suite needs is built.
if [ "$(id -u)" = 0 ]; then
	said=$(mktemp)
	set -m # a group of its own, so that what it started ends with it
	build >"$said" 2>&1 &
	built=$!
	set +m
	trap 'kill -- -$built 2>/dev/null || true; rm -f "$said"' EXIT
fi
"${tests[@]}" --exclude hotframe-live

if [ -e web/node_modules ] && command -v chromium >/dev/null; then
	(cd web && npm run --silent check:browser)
else
	echo 'page in a browser: SKIPPED: it needs chromium, and the page built here (make web)'
fi

if [ "$(id -u)" != 0 ]; then
	scripts/oracles.sh
	echo 'live suite: SKIPPED: it needs root (sudo -E make test)'
	exit 0
fi
code=0
wait $built || code=$?
trap - EXIT
cat "$said"
rm "$said"
[ $code = 0 ] || exit $code
scripts/oracles.sh
HOTFRAME_DIST=$(realpath dist/hotframe)
export HOTFRAME_DIST
# It records a live machine, where a build or a backup may get in the way: a test that fails is run
# once more, loudly; what fails twice has failed.
live() { # what to say, arguments of cargo test, -- and names of tests
	echo "live suite$1"
	shift
	local said names
	said=$(mktemp)
	local -a chosen=() filters=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		chosen+=("$1")
		shift
	done
	[ $# = 0 ] || filters=("${@:2}")
	if "${tests[@]}" "${chosen[@]}" -- --test-threads=2 "${filters[@]}" 2>&1 | tee "$said"; then
		rm "$said"
		return
	fi
	# The list at the end of each program's failures: four spaces and a name. A program that ended
	# without a result has none, and nothing else may hide that.
	names=$(awk '/^ +(Running|Doc-tests) / { began++ }
		/^test result: / { ended++; f = 0 }
		/^failures:$/ { f = 1; next }
		f && /^    [A-Za-z0-9_:]+$/ { print $1 }
		END { if (began != ended) print "?" }' "$said" | sort -u)
	rm "$said"
	case $names in
	'' | *\?*)
		echo 'live suite: FAILED without a result'
		return 1
		;;
	esac
	echo "live suite: FAILED, and is run once more:" $names
	# shellcheck disable=SC2086
	"${tests[@]}" "${chosen[@]}" -- --test-threads=1 --exact $names
}
# The fallbacks differ in the walk and its tables: that is what is run again for each, and one test of
# each way in which runtimes' steps go.
all=()
for file in testing/live/tests/*.rs testing/live/tests/*/main.rs; do
	name=${file#testing/live/tests/}
	name=${name%/main.rs}
	all+=(--test "${name%.rs}")
done
HOTFRAME_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/debug/hotframe")
export HOTFRAME_BIN
for force in tailcalls no-arena; do
	export HOTFRAME_FORCE=$force
	if [ "${FALLBACKS:-}" = all ]; then
		live " with HOTFRAME_FORCE=$force" --no-fail-fast "${all[@]}"
	else
		live " with HOTFRAME_FORCE=$force" --test unwinding
	fi
done
export HOTFRAME_FORCE=tailcalls,no-arena
steps=(interpreted stubs_without_a_frame equal_shapes)
if [ "${FALLBACKS:-}" != all ]; then
	live " of runtimes with HOTFRAME_FORCE=$HOTFRAME_FORCE" --no-fail-fast --test cpython --test java -- "${steps[@]}"
fi
unset HOTFRAME_FORCE
HOTFRAME_BIN=$HOTFRAME_DIST
live '' --no-fail-fast "${all[@]}"
