#!/bin/sh
# Makes root.ext4, what a root slot holds, of the folder root, and data.ext4. mke2fs is the image's own, emulated, so that the bytes do not
# depend on the build host's. Needs root for the files' owners, or to be run by `mmdebstrap --unshare-helper` (build.sh does).
. "$(dirname "$0")/lib.sh"

root=$work/root
data=$work/data
rm -rf "$data"
install -d -m 755 "$data" "$data/etc" "$data/etc/pibox" "$data/timesync"
install -d -m 700 -o $pibox_id -g $pibox_id "$data/pibox"
find "$data" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

# mke2fs 1.47.1 and later take no time after SOURCE_DATE_EPOCH.
emulated() { E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH qemu-aarch64 -L "$root" "$root/usr/sbin/$@"; }

make_ext4() { # FILE SECTORS LABEL UUID FOLDER OPTION …
	file=$1 sectors=$2 label=$3 uuid=$4 folder=$5
	shift 5
	rm -f "$file"
	truncate -s $((sectors * 512)) "$file"
	emulated mke2fs -q -F -t ext4 -b 4096 -L "$label" -U "$uuid" -d "$folder" "$@" "$file"
	emulated e2fsck -fn "$file" >"$work/fsck.log" 2>&1 || { cat "$work/fsck.log" >&2; fail "e2fsck finds mistakes in $file"; }
}

# Read-only, so without a journal; and with what every u-boot can read.
make_ext4 "$work/root.ext4" $root_sectors pibox-root 1b0a5c1e-7069-4278-8000-000000000001 "$root" -m 0 \
	-O '^has_journal,^metadata_csum,^metadata_csum_seed,^64bit,^orphan_file,^resize_inode' \
	-E hash_seed=1b0a5c1e-7069-4278-8000-000000000003
# Grows a hundredfold at first boot. No fast_commit: it loses what was synced (shared/storage.md).
make_ext4 "$work/data.ext4" $data_sectors pibox-data 1b0a5c1e-7069-4278-8000-000000000002 "$data" -m 1 -T default \
	-J size=32 -O '^orphan_file,^fast_commit' -E hash_seed=1b0a5c1e-7069-4278-8000-000000000004,resize=134217728

used=$(emulated dumpe2fs -h "$work/root.ext4" 2>/dev/null | awk '/^Block count/ { n = $3 } /^Free blocks/ { print int((n - $3) / 256) }')
say "root.ext4: $used of $((root_sectors / 2048)) MiB used"
[ "$used" -lt $((root_sectors / 2048 * 9 / 10)) ] || fail "the root slot is nearly full: the next release would not fit"
