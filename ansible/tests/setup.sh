#!/bin/sh
# Installs what `make ansible-test` needs, or, as `setup.sh emulation`, `make ansible-guest-test`: on Debian 12 or later, as root. Quick when
# everything is there. On Debian 12 QEMU comes from its backports: its emulation is five times faster.
set -eu

[ "$(id -u)" = 0 ] || { echo 'ansible-test: run me as root' >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
install='apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends'
. "$(dirname "$0")/mirror.sh"

packages='mmdebstrap openssh-client e2fsprogs systemd-container iproute2'
if ! dpkg -s $packages >/dev/null 2>&1; then
	apt-get -qq update
	# shellcheck disable=SC2086 # words
	$install $packages >/dev/null
fi
[ "${1:-}" = emulation ] || exit 0

packages='qemu-system-x86 qemu-utils qemu-user qemu-user-binfmt arch-test binfmt-support'
if ! dpkg -s $packages >/dev/null 2>&1; then
	apt-get -qq update
	. /etc/os-release
	if [ "$VERSION_CODENAME" = bookworm ]; then
		from='-t bookworm-backports'
		if ! apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' | grep -q bookworm-backports; then
			uri=$(mirror)
			printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$uri" \
				>/etc/apt/sources.list.d/pibox-backports.sources
			apt-get -qq update
		fi
	fi
	# shellcheck disable=SC2086 # words
	$install ${from:-} $packages >/dev/null
fi
# This machine runs arm64 and armhf programs.
if [ ! -e /proc/sys/fs/binfmt_misc/status ]; then
	mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
fi
for kind in aarch64 arm; do
	if [ ! -e /proc/sys/fs/binfmt_misc/qemu-$kind ]; then
		cat /usr/lib/binfmt.d/qemu-$kind.conf >/proc/sys/fs/binfmt_misc/register
	fi
done
