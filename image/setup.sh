#!/bin/sh
# Installs what `make image` and `make image-test` need, on Debian 12 or later, as root. On Debian 12 QEMU comes from its backports: its
# emulation is five times faster. Lets this machine run arm64 programs (binfmt). Quick when everything is there.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || fail "run me as root"
export DEBIAN_FRONTEND=noninteractive
install='apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends'

. /etc/os-release
if [ "$VERSION_CODENAME" = bookworm ]; then
	list=/etc/apt/sources.list.d/pibox-backports.sources
	if ! apt-get indextargets --format '$(SUITE)' 'Created-By: Packages' | grep -q bookworm-backports; then
		find_mirrors
		printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror_debian" >"$list"
		apt-get -qq update
	fi
	from='-t bookworm-backports'
fi
if ! dpkg -s mmdebstrap mtools u-boot-tools arch-test fdisk qemu-system-arm qemu-user-binfmt >/dev/null 2>&1; then
	apt-get -qq update
	$install mmdebstrap mtools dosfstools u-boot-tools arch-test fdisk uidmap binfmt-support
	# shellcheck disable=SC2086 # words
	$install ${from:-} qemu-system-arm qemu-user qemu-user-binfmt
fi
# With systemd this has been done by the package; a container's host may have to do it.
if [ ! -e /proc/sys/fs/binfmt_misc/status ]; then
	mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
fi
if ! arch-test "$arch" >/dev/null 2>&1; then
	if [ -e /usr/lib/binfmt.d/qemu-aarch64.conf ]; then
		cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
	else
		update-binfmts --enable qemu-aarch64
	fi
fi
