#!/bin/bash
# Makes sure that the programs for a purpose are there.
#
#   scripts/tools.sh build|check
#
# On Debian and its descendants what is missing is installed by apt, each command printed first
# and run under sudo only if we are not root; NO_INSTALL=1 only prints. Elsewhere one line says
# what to install. Silent when nothing is missing.
set -euo pipefail

purpose=${1:?usage: tools.sh build|check}

# Can a C program that includes these headers be compiled and linked?
has_library() { # headers, linker flags
	local source=''
	for header in $1; do source+="#include <$header>"$'\n'; done
	# shellcheck disable=SC2086
	printf '%sint main(void) { return 0; }\n' "$source" | gcc -x c - -o /dev/null $2 2>/dev/null
}
has_program() { command -v "$1" >/dev/null; }
# libclang.so is loaded by bindgen at run time; its directory depends on LLVM's version.
has_libclang() {
	[ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
		ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so'
}

missing=()
need() { # Debian package, then the test
	local package=$1
	shift
	"$@" || missing+=("$package")
}

need gcc has_program gcc
need clang has_program clang
need make has_program make
need pkg-config has_program pkg-config
if has_program gcc; then
	need libc6-dev has_library stdio.h ''
	need libelf-dev has_library 'libelf.h gelf.h' -lelf
	need zlib1g-dev has_library zlib.h -lz
else
	missing+=(libc6-dev libelf-dev zlib1g-dev)
fi
if [ "$purpose" = check ]; then
	need clang-format has_program clang-format
	need libclang-dev has_libclang
fi

if [ ${#missing[@]} -gt 0 ]; then
	if has_program apt-get; then
		sudo=()
		[ "$(id -u)" = 0 ] || sudo=(sudo)
		commands=("${sudo[*]} apt-get update" "${sudo[*]} apt-get install --yes --no-install-recommends ${missing[*]}")
		if [ "${NO_INSTALL:-}" = 1 ]; then
			echo "hotframe needs: ${missing[*]}. NO_INSTALL=1, so run this yourself:" >&2
			printf '  %s\n' "${commands[@]# }" >&2
			exit 1
		fi
		for command in "${commands[@]# }"; do
			echo "+ $command" >&2
			DEBIAN_FRONTEND=noninteractive $command >&2
		done
	else
		echo "hotframe needs, by Debian's names: ${missing[*]}. Install your distribution's packages of these." >&2
		exit 1
	fi
fi

if ! has_program "${CARGO:-cargo}"; then
	echo "hotframe needs Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml): install it from https://rustup.rs" >&2
	exit 1
fi
