#!/bin/sh
# Writes packages.lock anew: what the names in `packages` mean today, with all dependencies. apt decides, for an empty arm64
# system, from this machine's mirrors and with this machine's keys of Debian; the signatures are checked here, and the
# checksums in the lock carry that to every later build. Each line: section, archive, path in it, SHA-256.
. "$(dirname "$0")/lib.sh"

need apt-get apt awk mawk
find_mirrors
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keys" ] || fail "Debian's keys are missing: apt-get install debian-archive-keyring"

apt=$work/apt
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/preferences.d" "$apt/sources.list.d"
: >"$apt/status"
cat >"$apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: $mirror_debian
Suites: $suite $suite-updates
Components: main non-free-firmware
Signed-By: $keys

Types: deb
URIs: $mirror_security
Suites: $suite-security
Components: main non-free-firmware
Signed-By: $keys
END
cat >"$apt/apt.conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Dir::Cache "$apt/cache";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/preferences.d";
Dir::Etc::trustedparts "$apt/preferences.d";
END
export APT_CONFIG="$apt/apt.conf"

section() { sed -n "/^\[$1\]/,/^\[/{/^[[#]/d;/^\$/d;p}" "$image/packages"; }

# One line of --print-uris is 'URI' name size SHA256:sum.
lines() { # SECTION
	tr -d "'" | awk -v section="$1" -v debian="$mirror_debian" -v security="$mirror_security" '
		$4 !~ /^SHA256:/ { next }
		index($1, security) == 1 { print section, "security", substr($1, length(security) + 1), substr($4, 8); next }
		index($1, debian) == 1 { print section, "debian", substr($1, length(debian) + 1), substr($4, 8); next }
		{ print "lock: of no known archive: " $1 >"/dev/stderr"; exit 1 }'
}

apt-get -qq update
# shellcheck disable=SC2046 # a word for each package
{
	apt-get install -qq --print-uris '?and(?essential,?not(?name(^apt$)))' $(section card) | lines card
	apt-get download -qq --print-uris $(section build) | lines build
} >"$apt/lock"
sort "$apt/lock" >"$apt/sorted"
[ "$(grep -c ^card "$apt/sorted")" -gt 80 ] && [ "$(grep -c ^build "$apt/sorted")" -eq "$(section build | wc -l)" ] ||
	fail "apt did not name all packages"
mv "$apt/sorted" "$image/packages.lock"
say "packages.lock: $(grep -c ^card "$image/packages.lock") packages for the card, $(grep -c ^build "$image/packages.lock") to build with"
