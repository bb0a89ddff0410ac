#!/bin/bash
# Loads every variant of the kernel half and prints what the verifier made of each program: its
# instructions, the instructions verified, the time (`make verify`). The counts are kept in
# benches/verifier.txt, by kernel, to compare with; UPDATE=1 writes this kernel's.
set -euo pipefail

kept=benches/verifier.txt
# The version without what a distribution or a builder appends to it.
kernel=$(uname -r | grep -o '^[0-9.]*[0-9]')

${CARGO:-cargo} build --release --locked -p hotframe-bpf --example verify
command=("${CARGO_TARGET_DIR:-target}/release/examples/verify")
[ "$(id -u)" = 0 ] || command=(sudo "${command[@]}")
echo "+ ${command[*]}" >&2
table=$("${command[@]}")
echo "$table"

# Times differ from run to run; what is kept is the table without its last column.
counts=$(sed -e 's/ *load ms$//' -e '2,$s/ *[^ ]*$//' <<<"$table")
of_kernel() { # the section of this kernel
	[ -e $kept ] && awk -v kernel="$kernel" '/^## / { on = $2 == kernel; next } on' $kept
}
if [ "${UPDATE:-}" = 1 ]; then
	others=$([ ! -e $kept ] || awk -v kernel="$kernel" '/^## / { on = $2 != kernel } on' $kept)
	{
		[ -z "$others" ] || printf '%s\n' "$others"
		printf '## %s %s\n%s\n' "$kernel" "$(uname -m)" "$counts"
	} >$kept.new
	mv $kept.new $kept
elif before=$(of_kernel) && [ -n "$before" ]; then
	diff -u --label "kept for $kernel" --label now <(printf '%s\n' "$before") <(printf '%s\n' "$counts") ||
		echo 'the counts differ from those kept: UPDATE=1 make verify keeps these'
fi
