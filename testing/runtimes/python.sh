#!/bin/bash
# CPython's part of `make test-runtimes`: which interpreters there are, which can be fetched, and the
# live suite over them. Prints a line of the matrix for each version, `runtime version: what became of
# it`, and fails if any of them failed.
#
#   testing/runtimes/python.sh [FOLDER]     what is fetched is kept in FOLDER (target/runtimes)
#
# There are those of pyenv, in PATH, and in HOTFRAME_PYTHONS. Fetched are
#   - CPython 3.14 as python-build-standalone makes it (clang, one function an instruction, stripped),
#     from the Go module github.com/kluctl/go-embed-python, which carries it; needs go;
#   - CPython 3.14 and 3.15 of Debian's unstable release (gcc, frame pointers, stripped, with a JIT that
#     PYTHON_JIT=1 turns on), which run in a tree of their own (scripts/debian-root.sh); needs apt;
#   - CPython 3.14 without the lock (`--disable-gil`), built from its source, which Ubuntu's archive
#     keeps, in some two minutes; needs curl and a C compiler;
#   - pyperformance's programs, from PyPI; needs pip;
#   - py-spy, from PyPI, whose shares of functions are compared with ours;
#   - uWSGI, from PyPI, which is built around the python3 that is in PATH; needs a C compiler and
#     Python's headers.
# Without them, or with NO_INSTALL=1, their tests are skipped, and that is said.
set -euo pipefail

root=$(realpath "$(dirname "$0")/../..")
folder=$(realpath -m "${1:-${CARGO_TARGET_DIR:-$root/target}/runtimes}")
module=github.com/kluctl/go-embed-python
module_version=v0.0.0-3.14.6-20260610-1
pyperformance=1.14.0
uwsgi=2.0.31
source=http://archive.ubuntu.com/ubuntu/pool/main/p/python3.14/python3.14_3.14.4.orig.tar.xz
source_checksum=d923c51303e38e249136fc1bdf3568d56ecb03214efdef48516176d3d7faaef8
mkdir -p "$folder"

fetch_interpreter() {
	local to=$folder/python-3.14
	[ ! -x "$to/bin/python3.14" ] || return 0
	[ "${NO_INSTALL:-}" != 1 ] && command -v go >/dev/null || return 1
	local scratch
	scratch=$(mktemp -d)
	cat >"$scratch/main.go" <<-'GO'
		package main

		import (
			"os"

			"github.com/kluctl/go-embed-python/python"
		)

		func main() {
			if _, err := python.NewEmbeddedPythonWithTmpDir(os.Args[1], false); err != nil {
				panic(err)
			}
		}
	GO
	(
		cd "$scratch"
		go mod init fetch
		go get "$module@$module_version"
		go mod tidy
		go run . "$to"
	) >"$scratch/log" 2>&1 || { tail -n 3 "$scratch/log" >&2; rm -rf "$scratch" "$to"; return 1; }
	rm -rf "$scratch"
}

fetch_free_threaded() {
	local to=$folder/python-3.14t scratch
	[ ! -x "$to/bin/python3.14t" ] || return 0
	[ "${NO_INSTALL:-}" != 1 ] && command -v curl >/dev/null && command -v cc >/dev/null || return 1
	scratch=$(mktemp -d)
	if curl --silent --show-error --fail --max-time 300 -o "$scratch/source.tar.xz" "$source" >&2 &&
		echo "$source_checksum  $scratch/source.tar.xz" | sha256sum --check --quiet >&2 &&
		tar -xf "$scratch/source.tar.xz" -C "$scratch" --strip-components=1 &&
		(cd "$scratch" && ./configure --disable-gil --prefix="$to" && make -j"$(nproc)" &&
			make install ENSUREPIP=no) >"$scratch/log" 2>&1; then
		rm -rf "$scratch"
		return 0
	fi
	tail -n 3 "$scratch/log" >&2 || true
	rm -rf "$scratch" "$to"
	return 1
}

fetch_programs() {
	local to=$folder/pyperformance-$pyperformance
	[ ! -d "$to/pyperformance" ] || return 0
	[ "${NO_INSTALL:-}" != 1 ] || return 1
	python3 -m pip install --quiet --no-deps --target "$to" "pyperformance==$pyperformance" >&2
}

fetch_uwsgi() {
	local to=$folder/uwsgi-$uwsgi
	[ ! -x "$to/bin/uwsgi" ] || return 0
	[ "${NO_INSTALL:-}" != 1 ] || return 1
	python3 -m pip install --quiet --no-deps --target "$to" "uwsgi==$uwsgi" >&2
}

if fetch_interpreter; then
	export HOTFRAME_PYTHONS=${HOTFRAME_PYTHONS:+$HOTFRAME_PYTHONS:}$folder/python-3.14/bin/python3.14
fi
if fetch_free_threaded; then
	export HOTFRAME_PYTHONS=${HOTFRAME_PYTHONS:+$HOTFRAME_PYTHONS:}$folder/python-3.14t/bin/python3.14t
else
	echo "cpython 3.14 without the lock: skipped: it could not be fetched and built"
fi
debian=$folder/debian-python
if "$root/scripts/debian-root.sh" "$debian" sid 'python3.14 python3.15' /usr/bin/python3.14 /usr/bin/python3.15 >&2; then
	export HOTFRAME_PYTHONS=${HOTFRAME_PYTHONS:+$HOTFRAME_PYTHONS:}$debian/bin/python3.14:$debian/bin/python3.15
else
	echo "cpython 3.15: skipped: Debian's packages could not be fetched"
fi
if fetch_programs; then
	export HOTFRAME_PYPERFORMANCE=$folder/pyperformance-$pyperformance/pyperformance/data-files/benchmarks
fi
if program=$("$root/scripts/fetch-peer.sh" py-spy "$folder"); then
	export HOTFRAME_PYSPY=$program
fi
if fetch_uwsgi; then
	export HOTFRAME_UWSGI=$folder/uwsgi-$uwsgi/bin/uwsgi
fi

cd "$root"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
${CARGO:-cargo} test --locked --workspace --test cpython -- --test-threads=1 --nocapture >"$log" 2>&1 || failed=1
# `test NAME ... ok`, with what the test said in between; each program and each comparison has a line.
awk '
	/^test / { name = $2; sub(/^test [^ ]+ \.\.\. /, "") }
	/SKIPPED:/ { sub(/.*SKIPPED: /, ""); skipped[name] = skipped[name] (skipped[name] == "" ? "" : "; ") $0; next }
	/^3\.[0-9]+ (bm_|py-spy:)/ || /^3\.[0-9]+: .* of the first/ { print "cpython " $0; ran[name] = 1; next }
	/^uWSGI: / { print "cpython, " $0; ran[name] = 1; next }
	/samples with Python/ { said[name] = said[name] (said[name] == "" ? "" : "; ") $0 }
	/(^| )(ok|FAILED)$/ && name != "" {
		shown = name
		if (name ~ /^python_3_/) { sub(/^python_3_/, "cpython 3.", shown) } else { shown = "cpython, " shown }
		gsub(/_/, " ", shown)
		what = $NF == "ok" ? "passed" : "FAILED"
		if (name in said) what = what ": " said[name]
		if (name in skipped && (name in ran || name in said)) what = what "; without: " skipped[name]
		else if (name in skipped && what == "passed") what = "skipped: " skipped[name]
		print shown ": " what
		name = ""
	}
' "$log"
if [ "$failed" = 1 ]; then
	# What failed and why: the words of a panic stand between its place and its backtrace.
	awk '/ panicked at / { said = 1 } /^stack backtrace:/ { said = 0 } said
		/^failures:/ { list = 1 } list' "$log" >&2
fi
exit "$failed"
