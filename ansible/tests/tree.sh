#!/bin/sh
# Makes a tree of Debian that is like Raspberry Pi OS in what counts here, in the folder $1, once; no image of a registry is
# needed, only the mirror that this machine's apt uses. As root.
#   tree.sh FOLDER ARCH SUITE           FOLDER/ARCH.tar: a system in which nothing runs
#   tree.sh FOLDER box ARCH SUITE       FOLDER/box.tar and key: one that a container boots, and that lets ssh in by that key
#   tree.sh FOLDER guest ARCH SUITE     FOLDER/guest.ext4, vmlinuz, initrd.img and key: the same for an emulated machine
set -eu

folder=$1 kind=$2
. "$(dirname "$0")/mirror.sh"
packages=systemd-sysv,udev,dbus,python3,sudo
mkdir -p "$folder"

bootstrap() { # ARCH SUITE TARGET PACKAGES
	echo "ansible-test: making a $kind of $2 for $1" >&2
	uri=$(mirror)
	mmdebstrap --quiet --mode=root --variant=minbase --architectures="$1" --include="$4" --dpkgopt=force-unsafe-io \
		--aptopt='APT::Install-Recommends "false"' "$2" "$3" "$uri"
}

make_lived_in() { # ROOT: somebody has set it up, and comes in by ssh
	root=$1
	[ -e "$folder/key" ] || ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
	echo box >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 box box1 box2\n::1 localhost\n' >"$root/etc/hosts"
	chroot "$root" useradd --create-home --shell /bin/sh pi
	echo 'pi ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/pi"
	install -D -m 600 "$folder/key.pub" "$root/home/pi/.ssh/authorized_keys"
	chroot "$root" chown -R pi: /home/pi/.ssh
	# The network leads to this machine. A container's has a fixed address, which is written when it is unpacked.
	printf '[Match]\nName=en*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-host.network"
	chroot "$root" systemctl --quiet enable systemd-networkd.service
	chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service
	# Nothing happens by itself while file lists are compared.
	chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer 2>/dev/null || true
	# The first start has nothing to do that takes long where it is emulated.
	touch "$root/etc/.updated" "$root/var/.updated"
	rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists/*
}

case $kind in
box)
	[ ! -e "$folder/box.tar" ] || exit 0
	rm -rf "$folder/box"
	bootstrap "$3" "$4" "$folder/box" "$packages,openssh-server,nftables"
	make_lived_in "$folder/box"
	tar -C "$folder/box" --numeric-owner -cf "$folder/box.part.tar" .
	rm -rf "$folder/box"
	mv "$folder/box.part.tar" "$folder/box.tar"
	;;
guest)
	[ ! -e "$folder/guest.ext4" ] || exit 0
	rm -rf "$folder/guest"
	INITRD=Yes bootstrap "$3" "$4" "$folder/guest" "$packages,openssh-server,nftables,linux-image-$3,initramfs-tools"
	make_lived_in "$folder/guest"
	echo '/dev/vda / ext4 rw,noatime 0 1' >"$folder/guest/etc/fstab"
	cp "$folder"/guest/boot/vmlinuz-* "$folder/vmlinuz"
	cp "$folder"/guest/boot/initrd.img-* "$folder/initrd.img"
	truncate -s 3G "$folder/guest.part"
	mke2fs -q -t ext4 -d "$folder/guest" "$folder/guest.part"
	rm -rf "$folder/guest"
	mv "$folder/guest.part" "$folder/guest.ext4"
	;;
*)
	[ ! -e "$folder/$kind.tar" ] || exit 0
	bootstrap "$kind" "$3" "$folder/$kind.part.tar" "$packages"
	mv "$folder/$kind.part.tar" "$folder/$kind.tar"
	;;
esac
