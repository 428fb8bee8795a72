#!/bin/sh
# Makes the update file of the root slot, signed by the secret key in the file $PIBOX_UPDATE_KEY, or by that for tests (keys.sh).
. "$(dirname "$0")/lib.sh"

rm -f "$work/update"
key=${PIBOX_UPDATE_KEY:-}
[ -n "$key" ] || [ -e "$image/update-keys" ] || key=$test_key
if [ -z "$key" ]; then
	say "no update file: PIBOX_UPDATE_KEY names no secret key"
	exit 0
fi
"$pibox" update make --key "$key" --release "$SOURCE_DATE_EPOCH" --version-name "$version" "$work/root.ext4" "$work/update"
