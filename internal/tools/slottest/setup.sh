#!/bin/sh
# Puts what `make slot-test` boots into a folder of its own: u-boot and the kernel of Debian 13 (trixie), unpacked, from the
# mirror that this machine's apt uses. Quick when everything is there. Needs no root but for missing programs.
set -eu

dir=$1
missing=''
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need qemu-system-aarch64 qemu-system-arm
need mkimage u-boot-tools
need mformat mtools
need mke2fs e2fsprogs
need dpkg-deb dpkg
if [ -n "$missing" ]; then
	echo "slot-test: missing programs; install them with: apt-get install$missing" >&2
	exit 1
fi
if [ -e "$dir/complete" ]; then
	exit 0
fi
echo "slot-test: fetching Debian 13's u-boot and kernel into $dir"

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
	echo 'slot-test: apt knows no mirror of Debian: add one to /etc/apt, and run apt-get update' >&2
	exit 1
fi
rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/debs" "$dir/root"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$dir/apt/sources.list"
: >"$dir/apt/status"
apt() {
	"$@" -qq -o Dir::Etc::sourcelist="$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State="$dir/apt" -o Dir::State::lists="$dir/apt/lists" -o Dir::State::status="$dir/apt/status" \
		-o Dir::Cache="$dir/apt/cache" -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
		-o APT::Sandbox::User= -o Acquire::Languages=none
}
apt apt-get update
kernel=$(apt apt-cache depends linux-image-arm64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$dir/debs" && apt apt-get download u-boot-qemu u-boot-rpi "$kernel")
for deb in "$dir"/debs/*.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/root" --wildcards --exclude='*/lib/modules/*' \
		'./usr/lib/u-boot/*' './boot/vmlinuz-*' './usr/lib/linux-image-*/broadcom/*' 2>/dev/null || true
done
rm -rf "$dir/apt" "$dir/debs"
ls "$dir"/root/boot/vmlinuz-* "$dir"/root/usr/lib/u-boot/qemu_arm64/u-boot.bin "$dir"/root/usr/lib/u-boot/rpi_arm64/u-boot.bin
touch "$dir/complete"
