#!/bin/sh
# Installs what `make interop` needs from Debian's own packages and starts nothing.
# Quick when everything is there. Needs root, or sudo, only when something is missing.
set -eu

packages='prosody prosody-modules lua-event lua-unbound ejabberd
	python3-slixmpp python3-slixmpp-lib python3-aioxmpp python3-dnspython libnss-wrapper
	python3-pytest python3-pip python3-venv'

# A virtual package (lua-event) is there when an installed one provides it.
present=$(dpkg-query -W -f='${db:Status-Status}, ${Package}, ${Provides}\n' |
	sed -n 's/ ([^)]*)//g; s/^installed, //p' | tr -s ', ' '\n')
missing=''
for package in $packages; do
	echo "$present" | grep -qxF "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	exit 0
fi
echo "interop: installing$missing"

as_root=''
if [ "$(id -u)" -ne 0 ]; then
	as_root='sudo'
fi

# Debian starts a daemon as it installs it; policy-rc.d answering 101 is how an administrator
# says no (/usr/share/doc/init-system-helpers/README.policy-rc.d.gz). A policy of the machine's own is put back.
policy=/usr/sbin/policy-rc.d
kept="$policy.before-pibox-interop"
restore() {
	$as_root rm -f "$policy"
	if [ -e "$kept" ]; then
		$as_root mv "$kept" "$policy"
	fi
}
if [ -e "$policy" ]; then
	$as_root mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
$as_root chmod 755 "$policy"

# shellcheck disable=SC2086 # one word per package
install_missing() {
	$as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends $missing
}
install_missing || { $as_root apt-get update -qq && install_missing; }

# Nor at the next boot: this machine wanted the programs, not the services.
for unit in prosody ejabberd; do
	case " $missing " in *" $unit "*)
		$as_root systemctl disable "$unit" 2>/dev/null || true ;;
	esac
done
