#!/bin/sh
# Lets the last partition reach to the end of the card: at the first boot, and on a card that was copied to a larger one. Writes one sector,
# the partition table, and only if there is something to gain. The file system follows when it is mounted (x-systemd.growfs).
set -eu

data=$(basename "$(readlink -f /dev/pibox/data)")
disk=$(basename "$(readlink -f /dev/pibox/card)")
number=$(cat "/sys/class/block/$data/partition")
end=$(($(cat "/sys/class/block/$data/start") + $(cat "/sys/class/block/$data/size")))
# 1 MiB is not worth a write; sfdisk rounds to that.
[ "$(cat "/sys/class/block/$disk/size")" -gt $((end + 4096)) ] || exit 0

# sfdisk itself tells the kernel of the new size. Not partx: it would remove the partition for a moment, and systemd would take its mounts away.
echo ', +' | sfdisk --quiet --no-reread -N "$number" "/dev/$disk"
