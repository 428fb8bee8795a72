package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The way in. systemd takes credentials from the firmware's configuration (fw_cfg), which only a virtual machine has and whoever runs it
// fills: one makes a unit, the other a rule of udev that starts it when the virtual port is there. So the image under test is the one that is
// shipped: nothing in it knows of this. The port opens once only: for both ways. QEMU allows 55 characters for a name, hence the unit's.
const (
	shellUnit = `[Unit]
DefaultDependencies=no
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'exec /bin/sh <>/dev/virtio-ports/imagetest >&0 2>&1'
Restart=always
RestartSec=2
`
	shellUnitName = "opt/io.systemd.credentials/systemd.extra-unit.t.service"
	shellRule     = `SUBSYSTEM=="virtio-ports", ATTR{name}=="imagetest", TAG+="systemd", ENV{SYSTEMD_WANTS}+="t.service"` + "\n"
	shellRuleName = "opt/io.systemd.credentials/udev.rules.t"
)

// ports are those of the box that a boot forwards to loopback.
var ports = [...]int{5222, 5223, 5269, 5270}

// vm is a running emulated board with a card in it.
type vm struct {
	cmd     *exec.Cmd
	dir     string
	console string // file: what the serial line said
	began   time.Time
	forward map[int]string // by port of the box
	ended   chan error
	shell   net.Conn // to the way in
}

// hardware of a boot.
type hardware struct {
	name    string
	machine []string
	network []string // before the netdev's id is named "lan"
	shell   bool     // has the way in
	icount  string   // QEMU's -icount
}

func (t *tester) virt(card string) hardware {
	return hardware{name: "virt", shell: true, icount: t.icount,
		// 512 MiB: the Zero 2 W.
		machine: []string{"-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-bios", t.uboot,
			"-drive", "if=none,id=card,format=raw,file=" + card, "-device", "virtio-blk-pci,drive=card",
			"-device", "i6300esb", "-device", "virtio-keyboard-pci", "-device", "virtio-rng-pci"},
		network: []string{"-device", "virtio-net-pci,netdev=lan"}}
}

// sealed has no way in.
func (h hardware) sealed() hardware {
	h.shell = false
	return h
}

func raspi3b(uboot, dtb, card string) hardware {
	return hardware{name: "raspi3b",
		machine: []string{"-M", "raspi3b", "-kernel", uboot, "-dtb", dtb, "-drive", "if=sd,format=raw,file=" + card},
		network: []string{"-device", "usb-net,netdev=lan"}}
}

// boot starts a board. dir keeps its console and sockets.
func boot(ctx context.Context, h hardware, dir string) (*vm, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &vm{dir: dir, console: filepath.Join(dir, "console.log"), began: time.Now(), forward: map[int]string{}, ended: make(chan error, 1)}
	// restrict: the guest reaches nothing outside; the box has to do without time, names and other servers.
	lan := "user,id=lan,restrict=on"
	for _, p := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		m.forward[p] = l.Addr().String()
		lan += fmt.Sprintf(",hostfwd=tcp:%s-:%d", m.forward[p], p)
		_ = l.Close()
	}
	args := append([]string{"-display", "none", "-monitor", "none", "-serial", "file:" + m.console, "-netdev", lan}, h.machine...)
	args = append(args, h.network...)
	if h.icount != "" {
		args = append(args, "-icount", h.icount)
	}
	if h.name == "raspi3b" { // Linux's console is on the second line
		args = append(args, "-serial", "file:"+filepath.Join(dir, "console2.log"))
	}
	if h.shell {
		for name, text := range map[string]string{shellUnitName: shellUnit, shellRuleName: shellRule} {
			file := filepath.Join(dir, filepath.Base(name))
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return nil, err
			}
			args = append(args, "-fw_cfg", "name="+name+",file="+file)
		}
		args = append(args, "-device", "virtio-serial-pci", "-chardev", "socket,id=sh,server=on,wait=off,path="+m.socket(),
			"-device", "virtserialport,chardev=sh,name=imagetest")
	}
	m.cmd = exec.CommandContext(ctx, "qemu-system-aarch64", args...)
	// QEMU warns of each packet that comes before the guest's network is up.
	said, err := os.Create(filepath.Join(dir, "qemu.log"))
	if err != nil {
		return nil, err
	}
	defer said.Close()
	m.cmd.Stderr = said
	// It ends with the harness, however that ends.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { m.ended <- m.cmd.Wait() }()
	if h.shell { // before the shell starts: without anybody at the other end it would read an end
		err := retry(ctx, func() (err error) {
			m.shell, err = net.Dial("unix", m.socket())
			return errors.Join(err, m.runs())
		})
		if err != nil {
			m.cut()
			return nil, err
		}
	}
	return m, nil
}

func (m *vm) socket() string { return filepath.Join(m.dir, "shell") }

// runs tells whether QEMU still does.
func (m *vm) runs() error {
	select {
	case err := <-m.ended:
		m.ended <- err
		return fmt.Errorf("%w: %w", errEnded, err)
	default:
		return nil
	}
}

var errEnded = errors.New("QEMU ended")

// cut takes the power away.
func (m *vm) cut() {
	_ = m.cmd.Process.Kill()
	err := <-m.ended
	m.ended <- err
}

// off waits until the box has shut itself down.
func (m *vm) off(ctx context.Context) error {
	select {
	case err := <-m.ended:
		m.ended <- err
		return err
	case <-ctx.Done():
		return errors.New("the box did not shut down")
	}
}
