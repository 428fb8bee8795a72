#!/bin/sh
# Checks the units here by systemd's own judgement: no mistake in them, and for each at most the exposure that is written below.
# Installs nothing and needs no running systemd.
set -eu

cd "$(dirname "$0")"

if ! command -v systemd-analyze >/dev/null; then
	echo "check-unit: systemd-analyze is missing; install it with: apt-get install systemd" >&2
	exit 1
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')

# verify wants the programs to exist, which is not so where they are built; and a systemd before 254 does not know the two
# keys that space restarts, and ignores them.
for unit in *.service *.path *.timer; do
	sed 's|^ExecStart=/usr/[a-z/_]*|ExecStart=/bin/true|' "$unit" >"$tmp/$unit"
done
failed=
for unit in *.service *.path *.timer; do
	name=$unit
	case $unit in *@.*) # an instance of it
		name=$(echo "$unit" | sed 's/@/@wlan0/')
		ln -s "$unit" "$tmp/$name" ;;
	esac
	systemd-analyze verify --man=no "$tmp/$name" >"$tmp/verify" 2>&1 || failed=1
	grep -F -e "$unit" -e "$name" "$tmp/verify" >"$tmp/mine" || true
	if [ "$version" -lt 254 ]; then
		grep -v "Unknown key.*'\(RestartSteps\|RestartMaxDelaySec\)'" "$tmp/mine" >"$tmp/rest" || true
		mv "$tmp/rest" "$tmp/mine"
	fi
	if [ -n "$failed" ] || [ -s "$tmp/mine" ]; then
		cat "$tmp/verify" >&2
		echo "check-unit: systemd-analyze verify found mistakes in image/$unit" >&2
		exit 1
	fi
done

# Tenths: what systemd-analyze counts in. The helpers of the card are root, because they mount.
limit() {
	case $1 in
	pibox.service) echo 20 ;;
	pibox-wifi@.service) echo 34 ;;
	*) echo 28 ;;
	esac
}
for unit in *.service; do
	if ! systemd-analyze security --no-pager --offline=true --threshold="$(limit "$unit")" "$unit" >"$tmp/security" 2>&1; then
		cat "$tmp/security" >&2
		echo "check-unit: image/$unit is more exposed than $(limit "$unit") tenths" >&2
		exit 1
	fi
	tail -n 1 "$tmp/security"
done
