#!/bin/sh
# Builds the image again in another folder and compares what comes out, part by part.
. "$(dirname "$0")/lib.sh"

again=$(mktemp -d "$top/dist/again.XXXX")
trap 'rm -rf "$again"' EXIT
cp -al "$debs" "$again/debs"
PIBOX_IMAGE_WORK=$again PIBOX_IMAGE_CARD_ONLY=yes "$image/build.sh"
for part in root.ext4 data.ext4 fat.img card.img update; do
	if cmp "$work/$part" "$again/$part"; then
		say "byte-identical: $part"
	else
		different="${different:-}$part "
	fi
done
[ -z "${different:-}" ] || fail "different: $different"
