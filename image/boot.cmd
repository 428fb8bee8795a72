# u-boot's script (boot.scr on the FAT partition): which of the two root slots boots. docs/updates.md tells of the state
# sector; internal/slot is its other reader and writer. The same for Raspberry Pi and QEMU: u-boot tells the rest by
# devtype, devnum, fdtfile and the addresses. internal/tools/slottest runs it.
#
# Numbers are hexadecimal. Sector 0x40: 0 magic PIBOXSL1, 8 good, c trial, 10 tries, 14 generation, 18 CRC-32 of 0..17.
setenv sector 40

# u-boot's own places leave a Pi's kernel 36 MiB, which is too little with what it clears behind itself.
setexpr fdt_addr_r ${kernel_addr_r} + 4000000
setexpr s ${kernel_addr_r} + 4100000
setexpr ramdisk_addr_r ${kernel_addr_r} + 4200000

setexpr s_more ${s} + 4
setexpr s_good ${s} + 8
setexpr s_trial ${s} + c
setexpr s_tries ${s} + 10
setexpr s_generation ${s} + 14
setexpr s_crc ${s} + 18
setexpr again ${s} + 1000

# crc32 writes the most significant byte first; the sector has it last.
setexpr big ${s} + 2000
setexpr big1 ${s} + 2001
setexpr big2 ${s} + 2002
setexpr big3 ${s} + 2003
setexpr crc ${s} + 2010
setexpr crc1 ${s} + 2011
setexpr crc2 ${s} + 2012
setexpr crc3 ${s} + 2013
setenv sum 'crc32 ${s} 18 ${big}; cp.b ${big3} ${crc} 1; cp.b ${big2} ${crc1} 1; cp.b ${big1} ${crc2} 1; cp.b ${big} ${crc3} 1'

setenv slot a
setenv trial 0
setenv candidate
mw.b ${s} 0 200
${devtype} dev ${devnum}
if ${devtype} read ${s} ${sector} 1; then
	run sum
	if itest.l *${s} == 4f424950 && itest.l *${s_more} == 314c5358 && itest.l *${s_crc} == *${crc}; then
		if itest.l *${s_good} == 1; then setenv slot b; fi
		if itest.l *${s_tries} > 0; then
			if itest.l *${s_trial} == 0; then setenv candidate a; fi
			if itest.l *${s_trial} == 1; then setenv candidate b; fi
		fi
	else
		echo "pibox: no slot state, or a damaged one"
	fi
fi

# A try counts before it begins. A worn-out card may take the write and forget it: then there is no trial, which would
# never end.
if test -n "${candidate}"; then
	setexpr.l n *${s_tries} - 1
	mw.l ${s_tries} ${n}
	setexpr.l n *${s_generation} + 1
	mw.l ${s_generation} ${n}
	run sum
	cp.b ${crc} ${s_crc} 4
	mw.b ${again} 0 200
	if ${devtype} write ${s} ${sector} 1 && ${devtype} read ${again} ${sector} 1 && cmp.b ${s} ${again} 200; then
		setenv slot ${candidate}
		setenv trial 1
	else
		echo "pibox: the slot state can not be written, so nothing is tried"
	fi
fi

# The FAT partition may add words to the kernel's command line: extra=... in extra.env.
setenv extra
if load ${devtype} ${devnum}:1 ${again} extra.env; then env import -t ${again} ${filesize} extra; fi

if test -z "${fdt_addr}"; then setenv fdt_addr ${fdtcontroladdr}; fi
setenv order "a b"
if test ${slot} = b; then setenv order "b a"; fi
for one in ${order}; do
	setenv part 2
	if test ${one} = b; then setenv part 3; fi
	echo "pibox: slot ${one}, trial ${trial}"
	setenv args
	if load ${devtype} ${devnum}:${part} ${again} /boot/slot.env; then env import -t ${again} ${filesize} args; fi
	setenv fdt ${fdt_addr}
	if test -n "${fdtfile}" && load ${devtype} ${devnum}:${part} ${fdt_addr_r} /boot/dtb/${fdtfile}; then setenv fdt ${fdt_addr_r}; fi
	if part uuid ${devtype} ${devnum}:${part} partuuid && load ${devtype} ${devnum}:${part} ${kernel_addr_r} /boot/vmlinuz && load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} /boot/initrd.img; then
		setenv bootargs "root=PARTUUID=${partuuid} ro pibox.slot=${one} pibox.trial=${trial} ${args} ${extra}"
		booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt}
	fi
	echo "pibox: slot ${one} can not be booted"
	setenv trial 0
done
sleep 5
reset
