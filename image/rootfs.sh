#!/bin/sh
# Makes rootfs.tar: Debian for arm64 from the repository that fetch.sh laid out, with what configure.sh makes of it. Runs as root or,
# where newuidmap and /etc/subuid allow it, as any user; the arm64 programs run emulated (binfmt).
. "$(dirname "$0")/lib.sh"

need mmdebstrap mmdebstrap qemu-aarch64 qemu-user
[ -x "$top/dist/pibox-linux-$arch" ] || fail "dist/pibox-linux-$arch is missing: make cross"
if ! arch-test "$arch" >/dev/null 2>&1; then
	fail "this machine does not run programs for $arch: as root, image/setup.sh"
fi

# The repository holds one version of each.
include=$(grep '^card ' "$image/packages.lock" | awk '{ print $3 }' | sed 's:.*/::; s/_.*//; s/%2b/+/g' | paste -sd, -)

# The initrd is made once, by configure.sh, instead of by each package that would like a new one.
INITRD=No
export INITRD PIBOX_VERSION="$version"
rm -f "$work/rootfs.tar"
mmdebstrap --verbose --variant=essential --architectures="$arch" --include="$include" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt=force-confold \
	--dpkgopt="$image/excluded.dpkg" \
	--customize-hook="$image/configure.sh"' "$1"' \
	"$suite" "$work/rootfs.tar" "deb [trusted=yes] copy:$repo ./"
say "rootfs.tar: $(($(stat -c %s "$work/rootfs.tar") / 1048576)) MiB"
