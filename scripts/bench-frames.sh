#!/bin/bash
# The frame store's policies, all on the same streams (`make bench-frames`).
#
#   STREAM=FILE   a captured stream instead of the generated ones; or the name of one of those
#   JSON=1        figures as JSON, a line each
set -euo pipefail

arguments=()
[ "${JSON:-}" != 1 ] || arguments+=(--json)
[ -z "${STREAM:-}" ] || arguments+=("$STREAM")
exec "${CARGO:-cargo}" run --quiet --release --locked -p hotframe-bench-frames -- "${arguments[@]}"
