"""Running systems with Debian, systemd and ssh, like the Raspberry Pi OS of somebody who has used it for a while."""

import contextlib
import json
import os
import shlex
import subprocess
import time

from harness import CACHE, MANIFEST, WORK, Failed, run

BRIDGE = "pibox-test"


class System:
    """A running Debian that ssh gets into."""

    def __init__(self, name, host, port):
        self.name, self.host, self.port, self.process = name, host, port, None

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def ssh(self, command, check=True, timeout=200):
        """Runs a command as root, and gives what it printed."""
        done = subprocess.run(
            ["ssh", "-i", CACHE / "key", "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", f"pi@{self.host}", "sudo sh -c " + shlex.quote(command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failed(f"{self.name}: {command}: {done.returncode}\n{done.stdout}")
        return done.stdout.strip()

    def wait(self, command, seconds, what):
        """Until the command succeeds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.ssh(f"{command} && echo yes-it-does", check=False, timeout=40).endswith("yes-it-does"):
                    return
            except subprocess.TimeoutExpired:
                pass
            time.sleep(1)
        raise Failed(f"{self.name}: {what} not within {seconds} s")

    def reboot(self, seconds=300):
        since = "systemctl show -P UserspaceTimestampMonotonic"
        before = self.ssh(since)
        self.ssh("systemctl reboot", check=False)
        self.wait(f"test $({since}) != {before}", seconds, "started anew")
        self.booted(seconds)

    def booted(self, seconds=300):
        self.wait("systemctl is-system-running | grep -qx 'running\\|degraded'", seconds, "started")

    def manifest(self):
        return self.ssh("cd / && " + MANIFEST)

    def status(self):
        return json.loads(self.ssh("pibox status --json", check=False))

    def users(self):
        return sorted(u["address"] for u in json.loads(self.ssh("pibox user list --json"))["users"])

    def inventory_entry(self):
        return (f"    {self.name}:\n      ansible_host: {self.host}\n      ansible_port: {self.port}\n      ansible_user: pi\n"
                f"      ansible_ssh_private_key_file: {CACHE / 'key'}\n      ansible_ssh_common_args: -o UserKnownHostsFile=/dev/null\n")


class Container(System):
    """Number 1 or 2, side by side on a network that leads to this machine and nowhere else. A system that really runs, as fast as this machine;
    its kernel is this machine's, so it has neither lights nor a hardware watchdog."""

    def __init__(self, number):
        super().__init__(f"box{number}", f"198.51.100.{number}", 22)
        self.root = WORK / self.name
        run("rm", "-rf", "--one-file-system", self.root)
        self.root.mkdir(parents=True)
        run("tar", "-C", self.root, "--numeric-owner", "-xf", CACHE / "box.tar")
        (self.root / "etc/systemd/network/20-host0.network").write_text(f"[Match]\nName=host0\n[Network]\nAddress={self.host}/24\n")
        (self.root / "etc/hostname").write_text(f"{self.name}\n")

    def start(self):
        # The host's own systemd, where it has one, and its kind of control groups do not matter.
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", f"--machine=pibox-{self.name}", f"--directory={self.root}",
             f"--network-bridge={BRIDGE}", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"],
            env=dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1"),
            stdin=subprocess.DEVNULL, stdout=open(WORK / f"{self.name}.console", "wb"), stderr=subprocess.STDOUT)


@contextlib.contextmanager
def network():
    """The containers' network."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        run("ip", "address", "add", "198.51.100.254/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        yield
    finally:
        run("ip", "link", "delete", BRIDGE)


class Machine(System):
    """A whole machine, emulated: an own kernel, with lights (those of its keyboard) and a hardware watchdog. Its network leads nowhere."""

    def __init__(self):
        super().__init__("machine", "127.0.0.1", 22601)
        self.disk = WORK / f"{self.name}.qcow2"
        self.disk.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", CACHE / "guest.ext4", self.disk)

    def start(self):
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "1",
             "-kernel", CACHE / "vmlinuz", "-initrd", CACHE / "initrd.img", "-append", "root=/dev/vda rw console=ttyS0 panic=10",
             "-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe",
             "-netdev", f"user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net,netdev=host",
             "-device", "i6300esb", "-action", "watchdog=reset", "-display", "none", "-monitor", "none", "-serial", f"file:{WORK / self.name}.console"],
            stdin=subprocess.DEVNULL, stdout=open(WORK / f"{self.name}.qemu", "wb"), stderr=subprocess.STDOUT)
