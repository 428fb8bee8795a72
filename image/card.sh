#!/bin/sh
# Puts card.img together: MBR, FAT, root slot A, an empty slot B, data. Sector 64 holds no slot state yet: u-boot then takes slot A.
. "$(dirname "$0")/lib.sh"

need sfdisk fdisk
card=$work/card.img
rm -f "$card"
truncate -s $((card_sectors * 512)) "$card"
sfdisk --quiet "$card" <<END
label: dos
label-id: 0x$disk_id
unit: sectors
start=$fat_start, size=$fat_sectors, type=c, bootable
start=$slot_a_start, size=$root_sectors, type=83
start=$slot_b_start, size=$root_sectors, type=83
start=$data_start, size=$data_sectors, type=83
END
lay() { # FILE SECTOR
	dd if="$work/$1" of="$card" bs=1M seek="$2" oflag=seek_bytes conv=notrunc,sparse status=none
}
lay fat.img $((fat_start * 512))
lay root.ext4 $((slot_a_start * 512))
lay data.ext4 $((data_start * 512))
