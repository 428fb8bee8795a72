#!/bin/sh
# Makes fat.img, the first partition, which every computer can read: the Pi's firmware, u-boot with its script, and what a household
# reads and writes. The device trees are for the firmware; Linux gets those of its slot.
. "$(dirname "$0")/lib.sh"

need mformat mtools mkimage u-boot-tools dpkg-deb dpkg
tree=$work/fat
unpacked=$work/boot
rm -rf "$tree" "$unpacked"
mkdir -p "$tree" "$unpacked"
for name in raspi-firmware u-boot-rpi u-boot-qemu; do
	dpkg-deb -x "$debs/$(basename "$(grep -o "[^ ]*/${name}_[^ ]*" "$image/packages.lock")")" "$unpacked"
done

# Pi 3 and Zero 2 W read bootcode.bin and start.elf, Pi 4 and 400 start4.elf; the small ones (_cd) are for who sets gpu_mem=16.
firmware=$unpacked/usr/lib/raspi-firmware
for file in bootcode.bin start.elf fixup.dat start_cd.elf fixup_cd.dat start4.elf fixup4.dat start4cd.elf fixup4cd.dat LICENCE.broadcom; do
	[ ! -e "$firmware/$file" ] || cp "$firmware/$file" "$tree/"
done
[ -e "$tree/start4cd.elf" ] && [ -e "$tree/start_cd.elf" ] || fail "raspi-firmware lies elsewhere than in $firmware"
cp "$unpacked/usr/lib/u-boot/rpi_arm64/u-boot.bin" "$tree/"
# For the emulated board, which has no firmware that would look for it here.
cp "$unpacked/usr/lib/u-boot/qemu_arm64/u-boot.bin" "$work/u-boot-virt.bin"
cp "$work"/root/boot/dtb/broadcom/*.dtb "$tree/"
[ ! -d "$firmware/overlays" ] || cp -r "$firmware/overlays" "$tree/"
cp "$image/config.txt" "$tree/"
mkimage -A arm64 -O linux -T script -C none -n pibox -d "$image/boot.cmd" "$tree/boot.scr" >/dev/null
"$pibox" card lay "$tree"

find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rm -f "$work/fat.img"
truncate -s $((fat_sectors * 512)) "$work/fat.img"
mformat -i "$work/fat.img" -F -v PIBOX -N "$disk_id" -h 255 -s 63 -T "$fat_sectors" -H "$fat_start" ::
# Sorted, since the order on the partition is that of copying; -m keeps the times.
(cd "$tree" && find . -mindepth 1 -maxdepth 1 | sort | sed 's:^\./::') | while read -r entry; do
	mcopy -i "$work/fat.img" -m -s -Q "$tree/$entry" ::
done
rm -rf "$unpacked"
