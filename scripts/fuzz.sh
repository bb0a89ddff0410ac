#!/bin/bash
# Runs each fuzz target for a bounded time (`make fuzz`). Needs a nightly Rust and cargo-fuzz.
#
#   scripts/fuzz.sh SECONDS [TARGET…]
set -euo pipefail

seconds=${1:?usage: fuzz.sh SECONDS [TARGET…]}
shift
cd "$(dirname "$0")/../fuzz"
if ! cargo +nightly --version >/dev/null 2>&1; then
	echo 'fuzz: needs a nightly Rust: rustup toolchain install nightly' >&2
	exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
	echo '+ cargo install --locked cargo-fuzz' >&2
	[ "${NO_INSTALL:-}" != 1 ] || exit 1
	cargo install --locked cargo-fuzz
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${targets[@]}"; do
	echo "fuzz: $target for $seconds s"
	# 512 MiB: an input that makes a reader allocate beyond its bounds is a finding.
	seeds=()
	case $target in
	# What the writers make is where mutations begin.
	read_*) seeds=("corpus/$target" ../crates/formats/tests/golden) && mkdir -p "corpus/$target" ;;
	esac
	cargo +nightly fuzz run "$target" "${seeds[@]}" -- -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -print_final_stats=1
done
