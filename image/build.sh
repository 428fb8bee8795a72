#!/bin/sh
# Builds the card image, step by step; docs/image.md tells of them. As root, or as a user who may use several ids (newuidmap).
. "$(dirname "$0")/lib.sh"

mkdir -p "$work"
as_root=
[ "$(id -u)" = 0 ] || as_root='mmdebstrap --unshare-helper'

run() {
	began=$(date +%s)
	"$@"
	say "$(basename "$(eval echo "\$$#")" .sh): $(($(date +%s) - began)) s"
}
run "$image/fetch.sh"
run "$image/debian.sh"
run "$image/keys.sh"
run $as_root "$image/system.sh"
run $as_root "$image/ext4.sh"
run "$image/fat.sh"
run "$image/card.sh"
run "$image/update.sh"
[ -n "${PIBOX_IMAGE_CARD_ONLY:-}" ] || run "$image/pack.sh"
