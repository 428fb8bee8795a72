#!/bin/sh
# Installs what `make ansible-test` needs, on Debian 12 or later, as root, and lets this machine run arm64 and armhf programs (binfmt).
# Quick when everything is there. On Debian 12 QEMU comes from its backports: its emulation is five times faster.
set -eu

[ "$(id -u)" = 0 ] || { echo 'ansible-test: run me as root' >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
install='apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends'

. /etc/os-release
if [ "$VERSION_CODENAME" = bookworm ] && ! apt-get indextargets --format '$(SUITE)' 'Created-By: Packages' | grep -q bookworm-backports; then
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
	printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" \
		>/etc/apt/sources.list.d/pibox-backports.sources
	apt-get -qq update
fi
[ "$VERSION_CODENAME" = bookworm ] && from='-t bookworm-backports'
if ! dpkg -s mmdebstrap arch-test binfmt-support openssh-client e2fsprogs systemd-container iproute2 qemu-system-x86 qemu-utils qemu-user-binfmt >/dev/null 2>&1; then
	apt-get -qq update
	$install mmdebstrap arch-test binfmt-support openssh-client e2fsprogs systemd-container iproute2
	# shellcheck disable=SC2086 # words
	$install ${from:-} qemu-system-x86 qemu-utils qemu-user qemu-user-binfmt
fi
if [ ! -e /proc/sys/fs/binfmt_misc/status ]; then
	mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
fi
for kind in aarch64 arm; do
	if [ ! -e /proc/sys/fs/binfmt_misc/qemu-$kind ]; then
		cat /usr/lib/binfmt.d/qemu-$kind.conf >/proc/sys/fs/binfmt_misc/register
	fi
done
