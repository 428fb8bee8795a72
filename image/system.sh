#!/bin/sh
# Makes pibox's system, the folder root, of debian.tar. Needs root, or to be run by `mmdebstrap --unshare-helper`.
. "$(dirname "$0")/lib.sh"

[ -x "$top/dist/pibox-linux-$arch" ] || fail "dist/pibox-linux-$arch is missing: make cross"
root=$work/root
rm -rf "$root"
mkdir -p "$root"
# The kernel makes the devices.
tar -xf "$work/debian.tar" -C "$root" --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*'
# systemctl says each time that /proc is not there; it needs none for this.
units() {
	in_root systemctl --quiet "$@" 2>"$work/systemctl.log" && return
	cat "$work/systemctl.log" >&2
	fail "systemctl $*"
}
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
put() { # MODE FILE PATH: a file of ours
	install -D -m "$1" "$2" "$root$3"
}

# Files that are in the image as they lie in image/rootfs.
(cd "$image/rootfs" && find . -type f | sort) | while read -r file; do put 644 "$image/rootfs/$file" "/${file#./}"; done

# The program and its units.
put 755 "$top/dist/pibox-linux-$arch" /usr/bin/pibox
sed "s/^u pibox -/u pibox $pibox_id/" "$image/pibox.sysusers" >"$root/usr/lib/sysusers.d/pibox.conf"
in_root systemd-sysusers pibox.conf
[ "$(in_root id -u pibox):$(in_root id -g pibox)" = "$pibox_id:$pibox_id" ] || fail "pibox has another id than $pibox_id"
put 644 "$work/update-keys" /usr/lib/pibox/update-keys
put 644 "$image/60-pibox-leds.rules" /usr/lib/udev/rules.d/60-pibox-leds.rules
put 644 "$image/90-pibox.rules" /usr/lib/udev/rules.d/90-pibox.rules
put 644 "$image/pibox-card.conf" /usr/lib/systemd/system/pibox.service.d/card.conf
for unit in "$image"/*.service "$image"/*.path "$image"/*.timer; do
	name=$(basename "$unit")
	put 644 "$unit" "/usr/lib/systemd/system/$name"
	# The others are started by a rule of udev or by another unit.
	! grep -q '^\[Install\]' "$unit" || units enable "$name"
done

# Where the data partition appears late, or is plugged in, the server starts then.
ln -s /usr/lib/systemd/system/pibox.service "$root/etc/systemd/system/data.mount.wants/pibox.service"

# Nobody logs in: no account has a password, and nothing asks for one.
units mask getty@.service serial-getty@.service console-getty.service autovt@.service \
	systemd-networkd-wait-online.service
# /var is in memory: what explains log messages would be made anew there at each start.
units mask systemd-journal-catalog-update.service
# Wi-Fi is pibox-wifi@.service's, and the radio's state is not kept.
units disable wpa_supplicant.service
units mask wpa_supplicant.service systemd-rfkill.service systemd-rfkill.socket
awk -F: '$2 !~ /^[*!]/ { print $1; bad = 1 } END { exit bad }' "$root/etc/shadow" || fail "these accounts have a password"
units enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service
# A card is written as a whole, and trimmed by nobody knows how good a firmware; dpkg's database does not change.
units disable fstrim.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service getty@tty1.service

echo pibox >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n' >"$root/etc/hosts"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# Set by pibox-card.service; without one the box shows its times in UTC.
ln -sfn /data/etc/localtime "$root/etc/localtime"
rm -f "$root/etc/timezone"
# Filled in by the initrd (initramfs/card); an empty one lets systemd choose one for this run.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
printf 'IMAGE_ID=pibox\nIMAGE_VERSION=%s\nPIBOX_RELEASE=%s\n' "$version" "$SOURCE_DATE_EPOCH" >>"$root/usr/lib/os-release"
# systemd sets the clock at least to this file's time.
: >"$root/usr/lib/clock-epoch"
mkdir -p "$root/data" "$root/boot/pibox"
ln -s /data/etc/pibox "$root/etc/pibox"
grep -q "gid=$pibox_id," "$root/etc/fstab" || fail "fstab gives the first partition to another group than pibox"

# The web's certificate authorities.
unpacked=$work/ca
rm -rf "$unpacked"
dpkg-deb -x "$debs/$(grep -o 'ca-certificates_[^ ]*' "$image/packages.lock")" "$unpacked"
mkdir -p "$root/etc/ssl/certs"
cat "$unpacked"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$unpacked"

# Kernel, initrd and device trees under names that never change, for u-boot.
kernel=$(basename "$root"/boot/vmlinuz-*)
kernel=${kernel#vmlinuz-}
mv "$root/boot/vmlinuz-$kernel" "$root/boot/vmlinuz"
mkdir "$root/boot/dtb"
mv "$root/usr/lib/linux-image-$kernel/broadcom" "$root/boot/dtb/"
# The kernel's command line besides what boot.cmd says. quiet: a serial line is slow, and the screen shows the status.
echo 'args=rootwait panic=10 fsck.repair=yes quiet loglevel=3' >"$root/boot/slot.env"
find "$root/boot/dtb" -name '*.dtb' ! -name 'bcm27*' ! -name 'bcm283*' -delete
rm -rf "$root"/boot/config-* "$root"/boot/System.map-* "$root"/vmlinuz* "$root"/initrd.img* "$root/usr/lib/linux-image-$kernel"

# What differs from build to build, or belongs to a system that installs packages.
rm -rf "$root"/etc/apt "$root"/var/lib/apt "$root"/var/cache/* "$root"/var/log/* "$root"/var/lib/dpkg/*-old "$root"/etc/*- "$root"/var/lib/systemd/catalog/database \
	"$root"/var/tmp/* "$root"/tmp/* "$root"/run/* "$root"/etc/.pwd.lock
# /var is in memory when the box runs; what is known of the packages moves to where it can be read.
mkdir -p "$root/usr/lib/pibox"
cp "$root/var/lib/dpkg/status" "$work/dpkg-status"
in_root du -sxm /usr /boot | awk '{ print "image: rootfs:", $2, $1, "MiB" }'

# A time of the build's own would differ from build to build.
find "$root" -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
