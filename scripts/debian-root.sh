#!/bin/bash
# Programs of another Debian release than this machine's: unpacks packages and what they need into a
# folder, by apt with lists of its own, and makes a launcher for each program. Nothing of this system
# changes. Needs apt and, to run what was made, root.
#
#   scripts/debian-root.sh FOLDER RELEASE PACKAGES PROGRAM[=LAUNCHER]…
#
#   FOLDER     what is made: root/, and launchers, bin/NAME of a program unless LAUNCHER says where
#   RELEASE    a suite of the archive, such as trixie or sid
#   PACKAGES   with blanks between
#   PROGRAM    its path in the other system
#
# A launcher is the program with the other system as its root, in a mount namespace of its own, where
# /proc, /dev, /sys, the folder for temporary files and this checkout lie as they do here. It begins in
# /, and keeps the process's number. With NO_INSTALL=1 nothing is fetched.
set -euo pipefail

if [ $# -lt 4 ]; then
	echo 'debian-root: usage: debian-root.sh FOLDER RELEASE PACKAGES PROGRAM[=LAUNCHER]…' >&2
	exit 2
fi
folder=$(realpath -m "$1") release=$2 packages=$3
shift 3
checkout=$(realpath "$(dirname "$0")/..")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if ! command -v apt-get >/dev/null || [ ! -e "$keyring" ]; then
	echo "debian-root: it needs apt and $keyring (package debian-archive-keyring)" >&2
	exit 1
fi
# The archive that this system uses, if it is a Debian.
site=$(apt-get indextargets --format '$(REPO_URI) $(LABEL) $(COMPONENT)' |
	awk '$2 == "Debian" && $3 == "main" { print $1; exit }')
site=${site:-http://deb.debian.org/debian}

# What was fetched for other packages does not do.
wanted="$release: $packages"
if [ "$(cat "$folder/done" 2>/dev/null)" != "$wanted" ]; then
	if [ "${NO_INSTALL:-}" = 1 ]; then
		echo "debian-root: $folder has not been fetched (NO_INSTALL=1)" >&2
		exit 1
	fi
	rm -rf "$folder"
	mkdir -p "$folder"/{root,apt/lists/partial,apt/cache/archives/partial}
	echo "deb [signed-by=$keyring] $site $release main" >"$folder/apt/sources.list"
	: >"$folder/apt/status"
	apt=(apt-get -qq
		-o "Dir::Etc::SourceList=$folder/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o "Dir::State::Lists=$folder/apt/lists" -o "Dir::State::Status=$folder/apt/status"
		-o "Dir::Cache=$folder/apt/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=1)
	"${apt[@]}" update
	# shellcheck disable=SC2086 # they are words
	"${apt[@]}" install --yes --download-only --no-install-recommends base-files $packages >"$folder/apt/log"
	# /lib and its like are links of base-files: what comes after goes through them.
	for package in "$folder"/apt/cache/archives/{base-files_*,*}.deb; do
		dpkg-deb --extract "$package" "$folder/root"
	done
	rm -rf "$folder/apt"
	echo "$wanted" >"$folder/done"
fi

for program in "$@"; do
	path=${program%%=*} launcher=$folder/bin/$(basename "${program%%=*}")
	[ "$program" = "$path" ] || launcher=$folder/${program#*=}
	mkdir -p "$(dirname "$launcher")"
	cat >"$launcher" <<-LAUNCHER
		#!/bin/sh
		# Made by scripts/debian-root.sh.
		exec unshare --mount sh -c '
			set -e
			root=\$1
			shift
			for at in /proc /dev /sys "\${TMPDIR:-/tmp}" "$checkout"; do
				mkdir -p "\$root\$at"
				mount --rbind "\$at" "\$root\$at"
			done
			exec chroot "\$root" "\$@"' launcher "$folder/root" "$path" "\$@"
	LAUNCHER
	chmod +x "$launcher"
done
