#!/bin/sh
# Puts the servers that `make bench` compares with into a folder of their own: Prosody 13 and ejabberd 24.12 of Debian 13
# (trixie), from the mirror that this machine's apt uses. Starts nothing. Quick when everything is there. Needs root, or sudo.
set -eu

root=${1:-/var/cache/pibox-bench/trixie}
packages='prosody lua-event lua-unbound lua-lsqlite3 ejabberd'

if [ -e "$root/etc/pibox-bench" ]; then
	exit 0
fi
echo "bench: installing Debian 13's Prosody and ejabberd into $root"

as_root=''
if [ "$(id -u)" -ne 0 ]; then
	as_root='sudo'
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
	echo 'bench: apt knows no mirror of Debian: add one to /etc/apt, and run apt-get update' >&2
	exit 1
fi
if ! command -v debootstrap >/dev/null; then
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends debootstrap
fi

# What an earlier attempt left behind is made anew.
$as_root rm -rf "$root"
$as_root mkdir -p "$root"
$as_root debootstrap --variant=minbase trixie "$root" "$mirror" >"${TMPDIR:-/tmp}/pibox-bench-setup.log" ||
	{ tail -n 5 "${TMPDIR:-/tmp}/pibox-bench-setup.log" >&2; exit 1; }

# Debian starts a daemon as it installs it; policy-rc.d answering 101 is how an administrator says no.
printf '#!/bin/sh\nexit 101\n' | $as_root tee "$root/usr/sbin/policy-rc.d" >/dev/null
$as_root chmod 755 "$root/usr/sbin/policy-rc.d"
# The way to the mirror is this machine's.
apt-config dump | grep -i '^Acquire::[^:]*::Proxy' | $as_root tee "$root/etc/apt/apt.conf.d/90proxy" >/dev/null || true

# shellcheck disable=SC2086 # one word per package
in_root() { $as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" "$@"; }
in_root apt-get update -qq
# shellcheck disable=SC2086 # one word per package
in_root apt-get install -qq -y --no-install-recommends $packages >>"${TMPDIR:-/tmp}/pibox-bench-setup.log" 2>&1 ||
	{ tail -n 5 "${TMPDIR:-/tmp}/pibox-bench-setup.log" >&2; exit 1; }
in_root apt-get clean
in_root dpkg-query -W -f '${Package} ${Version}\n' prosody ejabberd | $as_root tee "$root/etc/pibox-bench"
