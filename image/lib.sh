# What the steps of the image's build have in common. Each step is a script of its own that begins with
#   . "$(dirname "$0")/lib.sh"
# and finds its input and leaves its output in $work; build.sh runs them in order.
# shellcheck shell=sh disable=SC2034 # used by the scripts that read this file

set -eu
export LC_ALL=C TZ=UTC
umask 022

image=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$image")
work=${PIBOX_IMAGE_WORK:-$top/dist/image}
debs=$work/debs         # downloaded packages, kept between builds
repo=$work/repo         # the same as a repository for mmdebstrap
version=${VERSION:-development}
pibox=$work/pibox       # the program, for this machine
test_key=$top/dist/update-test.key

# The one time that everything in the image bears: that of the commit, so that a build depends on the sources alone.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || stat -c %Y "$image/packages.lock")}
export SOURCE_DATE_EPOCH
# That of what debian.sh keeps between builds: it depends on the lock alone.
debian_epoch=$(git -C "$top" log -1 --format=%at -- image/packages.lock 2>/dev/null | grep . || echo "$SOURCE_DATE_EPOCH")

suite=trixie
arch=arm64

# The card, in sectors of 512 bytes (docs/image.md). Where a card is already in use these can not change: an update
# writes into the partitions that are there.
disk_id=70696278        # "pibx"; partitions are named by it (PARTUUID=70696278-02)
fat_start=8192          # 4 MiB: the erase blocks of cards are at most that large
fat_sectors=524288      # 256 MiB
root_sectors=1572864    # 768 MiB, each of two
data_sectors=262144     # 128 MiB; grown to the card at first boot
slot_a_start=$((fat_start + fat_sectors))
slot_b_start=$((slot_a_start + root_sectors))
data_start=$((slot_b_start + root_sectors))
card_sectors=$((data_start + data_sectors))

# The numeric user and group of pibox in the image: the same in every release, since they own what is on the data partition.
pibox_id=880

step=$(basename "$0" .sh)
say() { echo "image: $*"; }
fail() {
	echo "image: $step: $*" >&2
	exit 1
}

need() { # PROGRAM PACKAGE …
	while [ $# -gt 1 ]; do
		command -v "$1" >/dev/null || missing="${missing:-}$2 "
		shift 2
	done
	[ -z "${missing:-}" ] || fail "programs are missing: apt-get install $missing"
}

# The mirrors are those of this machine's apt; none is named here.
mirror_of() { # LABEL: prints the URI of an archive, by the label in its Release file
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" | head -n 1 | sed 's:/*$:/:'
}
find_mirrors() {
	# Where apt has no lists yet, it knows no labels.
	[ -n "$(mirror_of Debian)" ] || [ "$(id -u)" != 0 ] || apt-get -qq update
	mirror_debian=${PIBOX_MIRROR:-$(mirror_of Debian)}
	mirror_security=${PIBOX_MIRROR_SECURITY:-$(mirror_of Debian-Security)}
	[ -n "$mirror_debian" ] && [ -n "$mirror_security" ] ||
		fail "apt knows no mirror of Debian and its security archive: add them to /etc/apt and run apt-get update, or set PIBOX_MIRROR and PIBOX_MIRROR_SECURITY"
}
