#!/usr/bin/env python3
"""The playbooks against running systems with Debian 13. Most of it in two containers that systemd boots (systemd-nspawn); what needs a kernel
of its own, lights and the hardware watchdog, in a machine of QEMU. As root.  guests.py [containers|machine [PART …]]"""

import contextlib
import hashlib
import os
import shutil
import sys

from guest import Container, Machine, network
from harness import CACHE, TOP, WORK, Failed, Play, Report, differences, run

PHRASE = "four words are enough"

# Programs that are no good update. All but the last know their version; only the real one knows the rest.
BROKEN = """#!/bin/sh
case "$1" in
version) echo '{"version": "broken"}' ;;
config) ;;
serve) %s ;;
*) exec /usr/lib/pibox/pibox.old "$@" ;;
esac
"""
CRASHES = BROKEN % "exit 1"
DEAF = BROKEN % r"exec systemd-notify --ready --exec \; sleep 1000"
DAMAGES = BROKEN % "head -c 65536 /dev/urandom | dd of=/var/lib/pibox/pibox.db conv=notrunc 2>/dev/null; exit 1"


def dist(name, program):
    """A folder as `make cross` leaves it, with another program."""
    folder = WORK / f"dist-{name}"
    folder.mkdir(exist_ok=True)
    path = folder / "pibox-linux-amd64"
    path.write_bytes(program)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(program).hexdigest()}  pibox-linux-amd64\n")
    return folder


def next_version():
    folder = WORK / "dist-next"
    folder.mkdir(exist_ok=True)
    run("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=next", "-o", folder / "pibox-linux-amd64", "./cmd/pibox",
        cwd=TOP, env=dict(os.environ, CGO_ENABLED="0", GOOS="linux", GOARCH="amd64"))
    return dist("next", (folder / "pibox-linux-amd64").read_bytes())


class Tests:
    def __init__(self, report, *systems):
        self.report, self.check, self.must = report, report.check, report.must
        self.one, self.two = systems[0], systems[-1]
        self.inventory = WORK / "guests.yml"
        self.inventory.write_text("pibox:\n  hosts:\n" + "".join(system.inventory_entry() for system in systems))

    def play(self, book, *options, box=None, **variables):
        limit = ["--limit", box.name] if box else []
        return Play(book, self.inventory, *limit, *options, pibox_health_timeout=30, **variables)

    def install(self):
        one = self.one
        fresh = one.manifest()
        play = self.play("install.yml", "--check", "--diff", box=one)
        self.check("check mode on a fresh machine tells what it would do", play.code == 0 and play.changed > 5, play.why())
        self.check("and changes nothing", (d := differences(fresh, one.manifest())) == [], "\n".join(d[:20]))
        play = self.play("install.yml", box=one, pibox_domains=["family.example"])
        self.must("install", play.code == 0, play.why())
        status = one.status()
        self.check("it serves the domain that was asked for", status["state"] == "well" and status["domains"] == ["family.example"], str(status))
        installed = one.manifest()
        play = self.play("install.yml", box=one, pibox_domains=["family.example"])
        self.check("a second run changes nothing", play.code == 0 and play.changed == 0, play.why())
        play = self.play("install.yml", "--check", "--diff", box=one, pibox_domains=["family.example"])
        self.check("check mode finds nothing to do", play.code == 0 and play.changed == 0, play.why())
        quiet = [line for line in differences(installed, one.manifest()) if "./var/lib/pibox" not in line]
        self.check("no file differs after both", quiet == [], "\n".join(quiet[:20]))
        self.check("it was not restarted", one.status()["pid"] == status["pid"])
        play = self.play("install.yml", box=one, pibox_config="domains = 7")
        self.check("a wrong configuration is refused, and the box serves on", play.code != 0 and one.status()["pid"] == status["pid"], play.why())

    def watchdog(self):
        one = self.one
        self.check("the hardware watchdog is armed", one.ssh("cat /sys/class/watchdog/watchdog0/state /sys/class/watchdog/watchdog0/timeout").split() == ["active", "14"],
                   one.ssh("grep . /sys/class/watchdog/watchdog0/* 2>/dev/null || true"))

    def hardening(self):
        one = self.one
        self.check("the journal is bounded", "SystemMaxUse=64M" in one.ssh("systemd-analyze cat-config systemd/journald.conf"))
        self.check("no unit failed", one.ssh("systemctl --failed --plain --no-legend") == "")
        effective = one.ssh("sed -n 's/^CapEff:[[:space:]]*//p' /proc/$(systemctl show -P MainPID pibox)/status")
        self.check("the service has no capability", int(effective, 16) == 0, effective)

    def lights(self):
        one = self.one
        light = one.ssh("ls /sys/class/leds | grep capslock | head -n 1")
        before = one.ssh(f"stat -Lc '%G %a' /sys/class/leds/{light}/brightness")
        config = f'[health]\nstatus_led = "{light}"\npower_led = "none"'
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_lights=[light], pibox_config=config)
        self.must("a light by its name", play.code == 0, play.why())
        after = one.ssh(f"stat -Lc '%G %a' /sys/class/leds/{light}/brightness /sys/class/leds/{light}/trigger")
        self.check("its files are the group's", before.startswith("root") and after.split("\n") == ["pibox 664", "pibox 664"], f"{before} {after}")
        seen = one.ssh(f"for i in $(seq 400); do cat /sys/class/leds/{light}/brightness; done | sort -u; sed 's/.*\\[//; s/].*//' /sys/class/leds/{light}/trigger")
        self.check("under the hardened unit the daemon took it over and lit it", seen.split("\n")[-1] == "none" and "1" in seen.split("\n")[:-1], seen)
        one.ssh("systemctl stop pibox")
        self.check("after it the kernel has it", "[heartbeat]" in (got := one.ssh(f"cat /sys/class/leds/{light}/trigger")), got)
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_lights=[light], pibox_config=config)
        self.check("a stopped service is started", play.code == 0 and one.status()["state"] == "well", play.why())

    def reboot(self):
        one = self.one
        one.reboot()
        one.wait("pibox status", 60, "healthy")
        light = one.ssh("ls /sys/class/leds | grep capslock | head -n 1")
        self.check("after a start of the machine: serving, watchdog armed, lights the group's",
                   one.ssh("cat /sys/class/watchdog/watchdog0/state") == "active" and one.ssh(f"stat -Lc %G /sys/class/leds/{light}/trigger") == "pibox")

    def stuck(self):
        one = self.one
        pid = one.status()["pid"]
        one.ssh(f"kill -STOP {pid}")
        one.wait(f"test $(systemctl show -P MainPID pibox) != {pid} && pibox status", 170, "a stuck daemon was replaced by systemd's watchdog")
        self.check("a stuck daemon is replaced", "watchdog" in one.ssh("journalctl -u pibox -o cat --no-pager | grep -i watchdog | head -n 3").lower())

    def update(self):
        one = self.one
        one.ssh("pibox user add juliet --generate && pibox user add romeo --generate")
        users = one.users()
        new = next_version()
        play = self.play("update.yml", "--check", box=one, pibox_dist_dir=new)
        self.check("check mode of an update changes nothing", play.code == 0 and one.status()["version"] != "next", play.why())
        backups = WORK / "before-update"
        shutil.rmtree(backups, ignore_errors=True)
        play = self.play("update.yml", box=one, pibox_dist_dir=new, pibox_backup_passphrase=PHRASE, pibox_backup_dir=backups)
        self.must("update", play.code == 0 and one.status()["version"] == "next", play.why())
        self.check("with a backup brought here before", len(list(backups.glob("*.age"))) == 1)
        self.check("nobody is lost", one.users() == users)
        play = self.play("update.yml", box=one, pibox_dist_dir=new)
        self.check("the same update again changes nothing", play.code == 0 and play.changed == 0, play.why())
        clean = one.manifest()
        pid = one.status()["pid"]
        play = self.play("update.yml", box=one, pibox_dist_dir=dist("foreign", (TOP / "dist/pibox-linux-arm64").read_bytes()))
        self.check("a program of another processor is not even tried: the box serves on", play.code != 0 and one.status()["pid"] == pid, play.why())
        for name, program in (("crashes", CRASHES), ("never answers", DEAF), ("damages the database", DAMAGES)):
            play = self.play("update.yml", box=one, pibox_dist_dir=dist("broken", program.encode()))
            status = one.status()
            self.check(f"an update that {name} is taken back", play.code != 0 and "The update was taken back" in play.text and status["state"] == "well"
                       and status["version"] == "next" and one.users() == users, f"{status}\n{play.why()}")
        left = [line for line in differences(clean, one.manifest()) if "./var/lib/pibox/pibox.db " not in line and line.startswith("+")]
        self.check("nothing is left of them but the damaged database", all("failed-update" in line or "/var/lib/pibox" in line for line in left) and
                   one.ssh("test ! -e /usr/lib/pibox && ls /var/lib/pibox").split().count("pibox.db.failed-update") == 1, "\n".join(left))
        play = self.play("update.yml", box=one)
        self.check("and back to the first version", play.code == 0 and one.status()["version"] != "next", play.why())

    def backup(self):
        one, two = self.one, self.two
        folder = WORK / "backups"
        shutil.rmtree(folder, ignore_errors=True)
        play = self.play("backup.yml", box=one, pibox_backup_dir=folder)
        self.check("a backup that nothing would encrypt is refused", play.code != 0 and not list(folder.glob("*")), play.why())
        users = one.users()
        play = self.play("backup.yml", box=one, pibox_backup_passphrase=PHRASE, pibox_backup_dir=folder)
        files = list(folder.glob("*.age"))
        self.must("backup", play.code == 0 and len(files) == 1, play.why())
        self.check("it is encrypted, for its owner alone, and nothing is left on the box",
                   files[0].read_bytes().startswith(b"age-encryption.org/v1") and files[0].stat().st_mode & 0o777 == 0o600 and
                   one.ssh("ls /var/tmp | grep pibox || true") == "" and PHRASE not in play.text)
        one.ssh("pibox user remove romeo --yes")
        pid = one.status()["pid"]
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE)
        self.check("a box that is there is not overwritten", play.code != 0 and "has a box already" in play.text and one.status()["pid"] == pid, play.why())
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase="not the right one", pibox_restore_replace=True)
        self.check("with a wrong pass phrase it serves on", play.code != 0 and one.status()["pid"] == pid, play.why())
        damaged = WORK / "damaged.age"
        whole = files[0].read_bytes()
        damaged.write_bytes(whole[:-2000] + bytes(1000) + whole[-1000:])
        play = self.play("restore.yml", box=one, pibox_restore_file=damaged, pibox_restore_passphrase=PHRASE, pibox_restore_replace=True)
        self.check("with a damaged backup it serves on", play.code != 0 and one.status()["pid"] == pid, play.why())
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE, pibox_restore_replace=True,
                         pibox_restore_old_is_gone=True)
        self.check("restore with --replace", play.code == 0 and one.users() == users and not one.status().get("held"), play.why())
        fresh = two.manifest()
        play = self.play("restore.yml", box=two, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE)
        self.check("restore on a fresh machine installs, and waits for a word about the old box",
                   play.code == 0 and two.users() == users and two.status().get("held"), play.why())
        play = self.play("uninstall.yml", box=two, pibox_uninstall_data=True)
        self.check("uninstall with the data leaves nothing", play.code == 0 and (d := differences(fresh, two.manifest())) == [],
                   play.why() if play.code else "\n".join(d[:20]))

    def move(self):
        one, two = self.one, self.two
        users, authority = one.users(), one.ssh("pibox authority")
        between = {"pibox_move_from": one.name, "pibox_move_to": two.name}
        play = self.play("move.yml", **between, pibox_move_address="198.51.100.9")
        self.check("a move that does not get through leaves the old box serving", play.code != 0 and one.status()["state"] == "well" and
                   one.users() == users, play.why())
        play = self.play("move.yml", **between, pibox_move_address=one.host)
        self.must("move", play.code == 0, play.why())
        self.check("the new box is the old one", two.users() == users and two.status()["state"] == "well" and two.ssh("pibox authority") == authority)
        self.check("the old one is stopped for good", one.ssh("systemctl is-active pibox; systemctl is-enabled pibox", check=False).split() == ["inactive", "disabled"])
        one.ssh("systemctl start pibox", check=False)
        self.check("and started by mistake, does not serve", one.status().get("state") == "failing", str(one.status()))
        play = self.play("move.yml", pibox_move_from=two.name, pibox_move_to=one.name, pibox_move_address=two.host)
        self.check("a move onto a box that is there is refused", play.code != 0 and "has a box already" in play.text and two.status()["state"] == "well", play.why())

    def firewall(self):
        two = self.two
        play = self.play("install.yml", box=two, pibox_firewall=True)
        self.check("the firewall lets Ansible and pibox through, and is kept", play.code == 0 and "policy drop" in two.ssh("nft list table inet pibox") and
                   two.ssh("systemctl is-enabled pibox-firewall; systemctl is-active pibox-firewall-undo.timer || true").split() == ["enabled", "inactive"], play.why())
        reach = "timeout 5 bash -c '</dev/tcp/198.51.100.2/%d' 2>/dev/null && echo open || echo closed"
        two.ssh("systemd-run --unit=other systemd-socket-activate --listen=8080 --inetd /bin/cat")
        self.check("to another machine pibox is open and the rest closed", [self.one.ssh(reach % 5222), self.one.ssh(reach % 8080)] == ["open", "closed"])
        play = self.play("install.yml", box=two, pibox_firewall=True)
        self.check("a second run with it changes nothing", play.code == 0 and play.changed == 0, play.why())
        play = self.play("install.yml", box=two)
        self.check("without it everything is open again", play.code == 0 and self.one.ssh(reach % 8080) == "open", play.why())

    def leave(self):
        two = self.two
        users = two.users()
        play = self.play("uninstall.yml", box=two)
        left = two.ssh("find / -xdev -name '*pibox*' ! -path '/var/lib/pibox*' ! -path '/etc/pibox*' ! -path '/var/log/*' ! -path '/tmp/*' ! -path '/var/tmp/*' "
                       "! -path '/var/lib/systemd/*' ! -path '/home/pi/*'")
        self.check("uninstall leaves the data and no more", play.code == 0 and left == "" and two.ssh("ls /var/lib/pibox/pibox.db"), play.why() + left)
        play = self.play("install.yml", box=two)
        self.check("installed again it is the same box", play.code == 0 and two.users() == users, play.why())


    def disarm(self):
        play = self.play("uninstall.yml")
        self.check("after uninstall the hardware watchdog sleeps", play.code == 0 and self.one.ssh("cat /sys/class/watchdog/watchdog0/state") == "inactive",
                   play.why())

    def containers(self):
        return self.install, self.update, self.backup, self.move, self.hardening, self.firewall, self.stuck, self.leave

    def machine(self):
        return self.install, self.hardening, self.watchdog, self.lights, self.reboot, self.disarm


def try_systems(report, kind):
    systems = [Machine()] if kind == "machine" else [Container(1), Container(2)]
    t = Tests(report, *systems)
    try:
        for system in systems:
            system.start()
        for system in systems:
            system.booted(600)
        report.check(f"{kind}: started", True)
        for part in getattr(t, kind)():
            if len(sys.argv) < 3 or part.__name__ in sys.argv[2:]:
                part()
    finally:
        for system in systems:
            system.stop()


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    report = Report()
    try:
        run("sh", TOP / "ansible/tests/tree.sh", CACHE, "guest", "amd64", "trixie")
        for kind in sys.argv[1:2] or ["containers", "machine"]:
            with network() if kind == "containers" else contextlib.nullcontext():
                try_systems(report, kind)
    except Failed as why:
        report.check("all parts", False, str(why))
    report.end()


if __name__ == "__main__":
    main()
