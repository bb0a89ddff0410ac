#!/bin/bash
# A profiler that knows one runtime, for tests and benchmarks to compare with: fetched once, by version and
# checksum. Prints where its program or library is.
#
#   scripts/fetch-peer.sh async-profiler FOLDER     from Maven Central; needs mvn
#   scripts/fetch-peer.sh py-spy FOLDER             from PyPI; needs pip
#
# With NO_INSTALL=1 nothing is fetched: what is not in FOLDER is missing.
set -euo pipefail

name=$1 folder=$2
case $name in
async-profiler)
	version=4.1 checksum=5535baa56133628cfffe2f05ca9bfef1fae3d5abe49835447262b1c6da4a9582
	file=linux-x64/libasyncProfiler.so
	;;
py-spy)
	version=0.4.3 checksum=8a4277225f470d394a85cca0cdd944bef87f0097b6f20150a6dd3ac2e92806b8
	file=bin/py-spy
	;;
*)
	echo "fetch-peer: $name is none of async-profiler, py-spy" >&2
	exit 2
	;;
esac
to=$folder/$name-$version
if [ ! -e "$to/$file" ]; then
	if [ "${NO_INSTALL:-}" = 1 ]; then
		echo "$name $version is not there and NO_INSTALL=1" >&2
		exit 1
	fi
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	if [ "$name" = async-profiler ]; then
		mvn --quiet --batch-mode dependency:copy -Dartifact="tools.profiler:$name:$version" \
			-DoutputDirectory="$scratch" >&2
		echo "$checksum  $scratch/$name-$version.jar" | sha256sum --check --quiet >&2
		python3 -m zipfile -e "$scratch/$name-$version.jar" "$to"
	else
		echo "$name==$version --hash=sha256:$checksum" >"$scratch/requirements"
		python3 -m pip install --quiet --no-deps --target "$to" --require-hashes \
			--requirement "$scratch/requirements" >&2
	fi
fi
echo "$to/$file"
