#!/bin/sh
# Fetches what packages.lock names and is not there yet, checks all of it, and lays the card's packages out as a
# repository that mmdebstrap can read without the network.
. "$(dirname "$0")/lib.sh"

need apt-get apt dpkg-deb dpkg sha256sum coreutils
mkdir -p "$debs"

wanted=$work/wanted
rm -f "$wanted"
while read -r _ archive path sum; do
	file=$debs/$(basename "$path")
	if [ ! -e "$file" ]; then
		[ -n "${mirror_debian:-}" ] || find_mirrors
		[ "$archive" = security ] && uri=$mirror_security || uri=$mirror_debian
		printf '%s\n%s\n%s\n' "$uri$path" "$file" "SHA256:$sum" >>"$wanted"
	fi
done <"$image/packages.lock"

if [ -s "$wanted" ]; then
	say "fetching $(($(wc -l <"$wanted") / 3)) packages"
	# apt's own downloader: it knows this machine's proxies, and checks the sums. Whatever is gone is looked for below.
	xargs -n 30 /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file <"$wanted" || true
fi
while read -r _ _ path sum; do
	file=$debs/$(basename "$path")
	[ -e "$file" ] || { echo "image: fetch: the mirror has no $(basename "$path") any more" >&2; gone=1; continue; }
	echo "$sum  $file"
done <"$image/packages.lock" >"$work/sums"
[ -z "${gone:-}" ] || fail "renew the versions with 'make image-lock', look at what changed in image/packages.lock, and commit it"
sha256sum --quiet -c "$work/sums" || fail "remove these files and try again"

rm -rf "$repo"
mkdir -p "$repo"
grep '^card ' "$image/packages.lock" | while read -r _ _ path sum; do
	file=$debs/$(basename "$path")
	ln "$file" "$repo/" 2>/dev/null || cp "$file" "$repo/"
	dpkg-deb -f "$file"
	printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$(basename "$path")" "$(stat -c %s "$file")" "$sum"
done >"$repo/Packages"
cat >"$repo/Release" <<END
Origin: pibox
Suite: $suite
Codename: $suite
Architectures: $arch all
SHA256:
 $(sha256sum "$repo/Packages" | cut -d' ' -f1) $(stat -c %s "$repo/Packages") Packages
END
