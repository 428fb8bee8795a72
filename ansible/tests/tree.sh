#!/bin/sh
# Makes trees of Debian that are like Raspberry Pi OS in what counts here, in the folder $1, once; no image of a registry is
# needed, only the mirror that this machine's apt uses. As root.
#   tree.sh FOLDER ARCH SUITE           FOLDER/ARCH.tar: a system without a kernel
#   tree.sh FOLDER guest amd64 SUITE    FOLDER/guest.tar and guest.ext4, vmlinuz, initrd.img, key: one that boots, and lets ssh in by that key
set -eu

folder=$1 kind=$2
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
packages=systemd-sysv,udev,dbus,python3,sudo
mkdir -p "$folder"

bootstrap() { # ARCH SUITE TARGET PACKAGES [OPTION …]
	arch=$1 suite=$2 target=$3 include=$4
	shift 4
	mmdebstrap --quiet --mode=root --variant=minbase --architectures="$arch" --include="$include" --dpkgopt=force-unsafe-io \
		--aptopt='APT::Install-Recommends "false"' "$@" "$suite" "$target" "$mirror"
}

if [ "$kind" != guest ]; then
	[ -e "$folder/$kind.tar" ] && exit 0
	echo "ansible-test: making a tree of $3 for $kind"
	bootstrap "$kind" "$3" "$folder/$kind.part.tar" "$packages"
	mv "$folder/$kind.part.tar" "$folder/$kind.tar"
	exit 0
fi

arch=$3 suite=$4
[ -e "$folder/guest.ext4" ] && exit 0
echo "ansible-test: making a guest of $suite for $arch"
rm -rf "$folder/guest" "$folder/key" "$folder/key.pub"
ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
INITRD=Yes bootstrap "$arch" "$suite" "$folder/guest" "$packages,linux-image-$arch,initramfs-tools,openssh-server,nftables,systemd-resolved"

root=$folder/guest
echo box >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 box box1 box2\n::1 localhost\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 rw,noatime 0 1' >"$root/etc/fstab"
chroot "$root" useradd --create-home --shell /bin/sh pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/pi"
install -D -m 600 "$folder/key.pub" "$root/home/pi/.ssh/authorized_keys"
chroot "$root" chown -R pi: /home/pi/.ssh
# The network leads to this machine, which comes in by ssh. A container's has a fixed address, which is written when it is unpacked.
printf '[Match]\nName=en*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-host.network"
chroot "$root" systemctl --quiet enable systemd-networkd.service
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service
# Nothing happens by itself while file lists are compared.
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer 2>/dev/null || true
# The first start has nothing to do that takes long where it is emulated.
touch "$root/etc/.updated" "$root/var/.updated"
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd.img"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists/*
tar -C "$root" --numeric-owner -cf "$folder/guest.tar" .
truncate -s 3G "$folder/guest.part"
mke2fs -q -t ext4 -d "$root" "$folder/guest.part"
rm -rf "$root"
mv "$folder/guest.part" "$folder/guest.ext4"
