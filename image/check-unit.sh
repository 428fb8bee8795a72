#!/bin/sh
# Checks image/pibox.service by systemd's own judgement: no mistake in it, and an exposure of at most 2.0.
# Installs nothing and needs no running systemd.
set -eu

cd "$(dirname "$0")"
unit=pibox.service
limit=20 # systemd-analyze counts in tenths

if ! command -v systemd-analyze >/dev/null; then
	echo "check-unit: systemd-analyze is missing; install it with: apt-get install systemd" >&2
	exit 1
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# verify wants the program to exist, which is not so where it is built; and a systemd before 254 does not know the two
# keys that space restarts, and ignores them.
sed 's|^ExecStart=/usr/bin/pibox|ExecStart=/bin/true|' "$unit" >"$tmp/$unit"
if ! systemd-analyze verify --man=no "$tmp/$unit" >"$tmp/verify" 2>&1; then
	failed=1
fi
grep "$unit" "$tmp/verify" >"$tmp/mine" || true
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "$version" -lt 254 ]; then
	grep -v "Unknown key.*'\(RestartSteps\|RestartMaxDelaySec\)'" "$tmp/mine" >"$tmp/rest" || true
	mv "$tmp/rest" "$tmp/mine"
fi
if [ -n "${failed:-}" ] || [ -s "$tmp/mine" ]; then
	cat "$tmp/verify" >&2
	echo "check-unit: systemd-analyze verify found mistakes in image/$unit" >&2
	exit 1
fi

if ! systemd-analyze security --no-pager --offline=true --threshold=$limit "$unit" >"$tmp/security" 2>&1; then
	cat "$tmp/security" >&2
	echo "check-unit: image/$unit is more exposed than 2.0" >&2
	exit 1
fi
tail -n 1 "$tmp/security"
