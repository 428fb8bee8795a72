#!/bin/sh
# Makes debian.tar: Debian for arm64, as its packages leave it, from the repository that fetch.sh laid out. Runs as root or, where
# newuidmap and /etc/subuid allow it, as any user; the arm64 programs run emulated (binfmt). By far the longest step: what it makes is
# kept as long as the lock is the same.
. "$(dirname "$0")/lib.sh"

need mmdebstrap mmdebstrap qemu-aarch64 qemu-user
arch-test "$arch" >/dev/null 2>&1 || fail "this machine does not run programs for $arch: as root, image/setup.sh"

key="$(cat "$image/packages.lock" "$image/excluded.dpkg" "$image"/initramfs/* "$image/initrd.sh" "$0" | sha256sum) $debian_epoch"
if [ -e "$work/debian.tar" ] && [ "$(cat "$work/debian.key" 2>/dev/null)" = "$key" ]; then
	say "debian.tar is there"
	exit 0
fi
rm -f "$work/debian.tar" "$work/debian.key"

# The repository holds one version of each.
include=$(grep '^card ' "$image/packages.lock" | awk '{ print $3 }' | sed 's:.*/::; s/_.*//; s/%2b/+/g' | paste -sd, -)
# The initrd is made once, by initrd.sh, instead of by each package that would like a new one.
INITRD=No
SOURCE_DATE_EPOCH=$debian_epoch
export INITRD SOURCE_DATE_EPOCH
mmdebstrap --quiet --variant=essential --architectures="$arch" --include="$include" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt="$image/excluded.dpkg" \
	--customize-hook="$image/initrd.sh"' "$1"' \
	"$suite" "$work/debian.tar" "deb [trusted=yes] copy:$repo ./"

wanted=$(grep -c '^card ' "$image/packages.lock")
got=$(tar -xOf "$work/debian.tar" ./var/lib/dpkg/status | grep -c '^Status: install ok installed')
[ "$wanted" = "$got" ] || fail "$got packages are installed, $wanted are in the lock"
echo "$key" >"$work/debian.key"
