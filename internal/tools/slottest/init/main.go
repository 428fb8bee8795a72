// Command init is the whole user space of slottest's cards: it tells which slot it came with, and ends the machine.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	_ = os.MkdirAll("/proc", 0o755)
	_ = syscall.Mount("proc", "/proc", "proc", 0, "")
	label, err := os.ReadFile("/label")
	if err != nil {
		label = []byte(err.Error())
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		cmdline = []byte(err.Error())
	}
	// The serial line ends a line with \r\n and may lose what the kernel writes between.
	fmt.Printf("\nSLOTTEST initrd=%s cmdline=%s\nSLOTTEST END\n", strings.TrimSpace(string(label)), strings.TrimSpace(string(cmdline)))
	end := syscall.LINUX_REBOOT_CMD_POWER_OFF
	if strings.Contains(string(cmdline), "slottest.fails="+strings.TrimSpace(string(label))) {
		end = syscall.LINUX_REBOOT_CMD_RESTART // as a system does that never becomes healthy
	}
	_ = syscall.Reboot(end)
	select {}
}
