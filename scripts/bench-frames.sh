#!/bin/bash
# The frame store's policies, all on the same streams (`make bench-frames`).
#
#   STREAM=FILE   a captured stream instead of the generated ones
#   JSON=1        figures as JSON
set -euo pipefail

arguments=()
[ -z "${STREAM:-}" ] || arguments+=(--stream "$(realpath "$STREAM")")
[ "${JSON:-}" != 1 ] || arguments+=(--json)
exec "${CARGO:-cargo}" run --quiet --release --locked -p hotframe-frames --example bench-frames -- "${arguments[@]}"
