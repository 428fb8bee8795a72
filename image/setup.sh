#!/bin/sh
# Installs what `make image` and `make image-test` need, on Debian 12 or later, as root. On Debian 12 QEMU comes from its backports: its
# emulation is five times faster. Lets this machine run arm64 programs (binfmt). Quick when everything is there.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || fail "run me as root"
export DEBIAN_FRONTEND=noninteractive
install='apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends'

if ! dpkg -s mmdebstrap mtools dosfstools u-boot-tools arch-test fdisk uidmap zstd python3-slixmpp qemu-system-arm qemu-user qemu-user-binfmt >/dev/null 2>&1; then
	. /etc/os-release
	list=/etc/apt/sources.list.d/pibox-backports.sources
	find_mirrors
	if [ "$VERSION_CODENAME" = bookworm ]; then
		from='-t bookworm-backports'
		apt-get indextargets --format '$(SUITE) $(RELEASE)' 'Created-By: Packages' | grep -q -e bookworm-backports -e oldstable-backports ||
			printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror_debian" >"$list"
	fi
	apt-get -qq update
	$install mmdebstrap mtools dosfstools u-boot-tools arch-test fdisk uidmap zstd python3-slixmpp
	# shellcheck disable=SC2086 # words
	$install ${from:-} qemu-system-arm qemu-user qemu-user-binfmt
fi
# With systemd this has been done by the package; a container's host may have to do it.
if [ ! -e /proc/sys/fs/binfmt_misc/status ]; then
	mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
fi
# A later QEMU brings no format for update-binfmts any more, only systemd's line.
if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
	cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
fi
arch-test "$arch" >/dev/null || fail "this machine does not run programs for $arch"
