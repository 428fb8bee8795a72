"""A guest of QEMU with Debian, systemd and ssh, like the Raspberry Pi OS of somebody who has used it for a while."""

import json
import shlex
import subprocess
import time

from harness import CACHE, MANIFEST, WORK, Failed, run


class Guest:
    """Number 1 or 2. Its disk begins as tree.sh made it; the network reaches the other guest and nothing else."""

    def __init__(self, number):
        self.number, self.name = number, f"box{number}"
        self.port, self.address = 22600 + number, f"192.0.2.{number}"
        self.disk = WORK / f"{self.name}.qcow2"
        self.process = None
        self.disk.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", CACHE / "guest.ext4", self.disk)

    def start(self):
        n = self.number
        link = f"socket,id=link,{'listen' if n == 1 else 'connect'}=127.0.0.1:22600"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "1",
             "-kernel", CACHE / "vmlinuz", "-initrd", CACHE / "initrd.img", "-append", "root=/dev/vda rw console=ttyS0 quiet panic=10",
             "-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe",
             "-netdev", f"user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", f"virtio-net,netdev=host,mac=52:54:00:00:00:0{n}",
             "-netdev", link, "-device", f"virtio-net,netdev=link,mac=52:54:00:00:01:0{n}",
             "-device", "i6300esb", "-action", "watchdog=reset", "-display", "none", "-monitor", "none",
             "-serial", f"file:{WORK / self.name}.console"],
            stdin=subprocess.DEVNULL, stdout=open(WORK / f"{self.name}.qemu", "wb"), stderr=subprocess.STDOUT)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def ssh(self, command, check=True, timeout=200):
        """Runs a command as root, and gives what it printed."""
        done = subprocess.run(
            ["ssh", "-i", CACHE / "key", "-p", str(self.port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", "ConnectTimeout=5", "-o", "BatchMode=yes", "pi@127.0.0.1", "sudo sh -c " + shlex.quote(command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failed(f"{self.name}: {command}: {done.returncode}\n{done.stdout}")
        return done.stdout.strip()

    def wait(self, command, seconds, what):
        """Until the command succeeds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.ssh(f"{command} && echo yes-it-does", check=False, timeout=20).endswith("yes-it-does"):
                    return
            except subprocess.TimeoutExpired:
                pass
            time.sleep(1)
        raise Failed(f"{self.name}: {what} not within {seconds} s")

    def booted(self, seconds=300):
        self.wait("systemctl is-system-running | grep -qx 'running\\|degraded'", seconds, "started")

    def manifest(self):
        return self.ssh("cd / && " + MANIFEST)

    def status(self):
        return json.loads(self.ssh("pibox status --json", check=False))

    def users(self):
        return sorted(u["address"] for u in json.loads(self.ssh("pibox user list --json"))["users"])

    def inventory_entry(self):
        return (f"    {self.name}:\n      ansible_host: 127.0.0.1\n      ansible_port: {self.port}\n      ansible_user: pi\n"
                f"      ansible_ssh_private_key_file: {CACHE / 'key'}\n      ansible_ssh_common_args: -o UserKnownHostsFile=/dev/null\n")
