#!/bin/sh
# Makes /boot/initrd.img in the folder $1, a fresh Debian; mmdebstrap calls it (debian.sh). Minutes of emulation, so it is kept with that.
. "$(dirname "$0")/lib.sh"

root=$1
install -D -m 644 "$image/initramfs/pibox.conf" "$root/etc/initramfs-tools/conf.d/pibox"
install -D -m 755 "$image/initramfs/modules" "$root/etc/initramfs-tools/hooks/pibox"
install -D -m 755 "$image/initramfs/card" "$root/etc/initramfs-tools/scripts/init-bottom/pibox"
kernel=$(basename "$root"/boot/vmlinuz-*)
chroot "$root" env LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin mkinitramfs -o /boot/initrd.img "${kernel#vmlinuz-}"
