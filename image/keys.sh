#!/bin/sh
# Builds pibox for this machine, which lays the card's files and makes the update file, and finds the keys of updates: the image trusts those of
# image/update-keys. Without that file it is an image for tests and developers: it trusts a key that is made here, once, and kept in dist/.
. "$(dirname "$0")/lib.sh"

(cd "$top" && CGO_ENABLED=0 ${GO:-go} build -trimpath -o "$pibox" ./cmd/pibox)
if [ -e "$image/update-keys" ]; then
	cp "$image/update-keys" "$work/update-keys"
	exit 0
fi
if [ ! -e "$test_key" ] || [ ! -e "$test_key.pub" ]; then
	rm -f "$test_key"
	"$pibox" update key "$test_key" >"$test_key.pub"
fi
cp "$test_key.pub" "$work/update-keys"
say "no image/update-keys: the image trusts updates that are signed by $(basename "$test_key"), for tests"
