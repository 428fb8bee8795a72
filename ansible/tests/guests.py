#!/usr/bin/env python3
"""The playbooks against running systems with Debian 13. Most of it in two containers that systemd boots (systemd-nspawn); what needs a kernel
of its own, lights and the hardware watchdog, in a machine of QEMU. As root.  guests.py containers|machine [PART …]

PARTs leave out the others, but for the installation that they need."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time

from guest import Container, Machine, network
from harness import CACHE, TOP, UNTOLD, WORK, Failed, Play, Report, differences, run
from people import logged_in

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
    def __init__(self, report, systems):
        self.check, self.must, self.fresh, self.told = report.check, report.must, {}, {}
        self.inventory = WORK / f"{systems[0].name}.yml"
        self.inventory.write_text("pibox:\n  hosts:\n" + "".join(system.inventory_entry() for system in systems))

    def play(self, book, *options, box=None, **variables):
        limit = ["--limit", box.name] if box else []
        return Play(book, self.inventory, *limit, *options, pibox_health_timeout=30, **variables)

    def tells(self, one):
        fresh = one.manifest()
        play = self.play("install.yml", "--check", "--diff", box=one, pibox_domains=["family.example"])
        self.check("check mode on a fresh machine", play.code == 0, play.why())
        self.check("it changes nothing", (d := differences(fresh, one.manifest())) == [], "\n".join(d[:20]))
        self.told[one.name] = play.touched(one.name)

    def install(self, one):
        self.fresh[one.name] = one.manifest()
        self.wanted = {"pibox_domains": ["family.example"]}
        if isinstance(one, Machine): # a container has no lights of its own
            light = self.light(one)
            self.wanted |= {"pibox_lights": [light], "pibox_config": f'[health]\nstatus_led = "{light}"\npower_led = "none"'}
        play = self.play("install.yml", box=one, **self.wanted)
        self.must(f"{one.name}: install", play.code == 0, play.why())
        status = one.status()
        self.check(f"{one.name}: it serves the domain that was asked for", status["state"] == "well" and status["domains"] == ["family.example"], str(status))
        if told := self.told.get(one.name):
            done = play.touched(one.name)
            self.check("what check mode told is what was done", told == done - UNTOLD, str(told ^ done))

    def again(self, one):
        status, installed = one.status(), one.manifest()
        play = self.play("install.yml", box=one, pibox_domains=["family.example"])
        self.check("a second run changes nothing", play.code == 0 and play.changed == 0, play.why())
        play = self.play("install.yml", "--check", "--diff", box=one, pibox_domains=["family.example"])
        self.check("check mode finds nothing to do", play.code == 0 and play.changed == 0, play.why())
        quiet = [line for line in differences(installed, one.manifest()) if "./var/lib/pibox" not in line]
        self.check("no file differs after both", quiet == [], "\n".join(quiet[:20]))
        self.check("it was not restarted", one.status()["pid"] == status["pid"])
        play = self.play("install.yml", box=one, pibox_config="domains = 7")
        self.check("a wrong configuration is refused, and the box serves on", play.code != 0 and "failed to validate" in play.text and one.status()["pid"] == status["pid"], play.why())
        play = self.play("install.yml", "--check", "--diff", box=one, pibox_domains=["family.example"], pibox_config='language = "de"')
        self.check("check mode tells that it would write another configuration and start it anew", play.code == 0 and
                   play.touched(one.name) >= {"Write the configuration"} and one.status()["pid"] == status["pid"], play.why())
        play = self.play("install.yml", box=one, pibox_dist_dir=TOP / "dist", pibox_sha256={"amd64": "0" * 64})
        self.check("a build with another checksum is refused", play.code != 0 and "Nothing was changed" in play.text, play.why())

    def watchdog(self, one):
        self.check("the hardware watchdog is armed", one.ssh("cat /sys/class/watchdog/watchdog0/state /sys/class/watchdog/watchdog0/timeout").split() == ["active", "14"],
                   one.ssh("grep . /sys/class/watchdog/watchdog0/* 2>/dev/null || true"))

    def hardening(self, one):
        self.check("the journal is bounded", "SystemMaxUse=64M" in one.ssh("systemd-analyze cat-config systemd/journald.conf"))
        self.check("no unit failed", one.ssh("systemctl --failed --plain --no-legend") == "")
        effective = one.ssh("sed -n 's/^CapEff:[[:space:]]*//p' /proc/$(systemctl show -P MainPID pibox)/status")
        self.check("the service has no capability", int(effective, 16) == 0, effective)

    def lights(self, one):
        light = self.light(one)
        owners = one.ssh(f"stat -Lc '%G %a' /sys/class/leds/{light}/brightness /sys/class/leds/{light}/trigger")
        self.check("the files of a light by its name are the group's", owners.split("\n") == ["pibox 664", "pibox 664"], owners)
        seen = one.ssh(f"for i in $(seq 400); do cat /sys/class/leds/{light}/brightness; done | sort -u; sed 's/.*\\[//; s/].*//' /sys/class/leds/{light}/trigger")
        self.check("under the hardened unit the daemon took it over and lit it", seen.split("\n")[-1] == "none" and "1" in seen.split("\n")[:-1], seen)
        one.ssh("mkdir -p /run/systemd/system/pibox.service.d && printf '[Service]\\nRestart=no\\n' >/run/systemd/system/pibox.service.d/no.conf && systemctl daemon-reload")
        one.ssh("systemctl kill --kill-whom=main --signal=KILL pibox")
        one.wait("systemctl show -P ActiveState pibox | grep -qx failed", 60, "killed")
        one.ssh("rm -r /run/systemd/system/pibox.service.d && systemctl daemon-reload")
        self.check("after it was killed the kernel has it", "[heartbeat]" in (got := one.ssh(f"cat /sys/class/leds/{light}/trigger")), got)
        one.ssh("systemctl start pibox")

    def light(self, one):
        return one.ssh("ls /sys/class/leds | grep capslock | head -n 1")

    def second(self, one):
        play = self.play("install.yml", box=one, **self.wanted)
        self.check("a second run changes nothing", play.code == 0 and play.changed == 0, play.why())

    def reboot(self, one):
        one.reboot()
        one.wait("pibox status", 60, "healthy")
        light = self.light(one)
        self.check("after a start of the machine: serving, watchdog armed, lights the group's",
                   one.ssh("cat /sys/class/watchdog/watchdog0/state") == "active" and one.ssh(f"stat -Lc %G /sys/class/leds/{light}/trigger") == "pibox")

    def stuck(self, one):
        pid = one.status()["pid"]
        one.ssh(f"kill -STOP {pid}")
        one.wait(f"test $(systemctl show -P MainPID pibox) != {pid} && pibox status", 300, "a stuck daemon was replaced by systemd's watchdog")
        self.check("a stuck daemon is replaced", "watchdog" in one.ssh("journalctl -u pibox -o cat --no-pager | grep -i watchdog | head -n 3").lower())

    def update(self, one):
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
        program = bytearray((TOP / "dist/pibox-linux-amd64").read_bytes())
        program[18] = 243 # e_machine of RISC-V. What this machine emulates would run in a container, too.
        play = self.play("update.yml", box=one, pibox_dist_dir=dist("foreign", bytes(program)))
        self.check("a program of another processor is not even tried: the box serves on", play.code != 0 and "Exec format error" in play.text and one.status()["pid"] == pid, play.why())
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

    def backup(self, one, two):
        folder = WORK / "backups"
        shutil.rmtree(folder, ignore_errors=True)
        play = self.play("backup.yml", box=one, pibox_backup_dir=folder)
        self.check("a backup that nothing would encrypt is refused", play.code != 0 and not list(folder.glob("*")), play.why())
        users = one.users()
        play = self.play("backup.yml", box=one, pibox_backup_passphrase=PHRASE, pibox_backup_dir=folder)
        files = list(folder.glob("*.age"))
        self.must("backup", play.code == 0 and len(files) == 1, play.why())
        self.check("it is encrypted, for its owner alone", files[0].read_bytes().startswith(b"age-encryption.org/v1") and
                   files[0].stat().st_mode & 0o777 == 0o600 and PHRASE not in play.text, play.why())
        self.check("nothing is left of it on the box", (left := one.ssh("ls /var/tmp | grep ^pibox || true")) == "", left)
        one.ssh("pibox user remove romeo --yes")
        pid = one.status()["pid"]
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE)
        self.check("a box that is there is not overwritten", play.code != 0 and "has a box already" in play.text and one.status()["pid"] == pid, play.why())
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase="not the right one", pibox_restore_replace=True)
        self.check("with a wrong pass phrase it serves on", play.code != 0 and "Nothing was changed" in play.text and one.status()["pid"] == pid, play.why())
        damaged = WORK / "damaged.age"
        whole = files[0].read_bytes()
        damaged.write_bytes(whole[:-2000] + bytes(1000) + whole[-1000:])
        play = self.play("restore.yml", box=one, pibox_restore_file=damaged, pibox_restore_passphrase=PHRASE, pibox_restore_replace=True)
        self.check("with a damaged backup it serves on", play.code != 0 and "Nothing was changed" in play.text and one.status()["pid"] == pid, play.why())
        play = self.play("restore.yml", box=one, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE, pibox_restore_replace=True,
                         pibox_restore_old_is_gone=True)
        self.check("restore with --replace", play.code == 0 and one.users() == users and not one.status().get("held"), play.why())
        play = self.play("restore.yml", box=two, pibox_restore_file=files[0], pibox_restore_passphrase=PHRASE)
        self.check("restore on a fresh machine installs, and waits for a word about the old box",
                   play.code == 0 and two.users() == users and two.status().get("held"), play.why())
        play = self.play("uninstall.yml", box=two, pibox_uninstall_data=True)
        self.check("and is taken away again", play.code == 0, play.why())

    def move(self, one, two):
        passwords = {"juliet": "wherefore art thou", "romeo": "a rose by any other name"}
        for name, password in passwords.items():
            one.ssh(f"pibox user add {name} --generate; echo '{password}' | pibox user passwd {name} --password-stdin")
        self.family = passwords, WORK / "authority.pem"
        self.family[1].write_text(one.ssh("pibox authority") + "\n")

        play = self.moving(one, two, pibox_move_address="198.51.100.9")
        self.check("a move that does not get through leaves the old box serving", play.code != 0 and "From box to box" in play.text and self.serves(one), play.why())
        asyncio.run(self.moved(one, two, "transfer", pibox_move_address=one.host))
        one.ssh("systemctl start pibox", check=False)
        self.check("the old box, started by mistake, does not serve", one.status().get("state") == "failing" and not self.serves(one), str(one.status()))
        one.ssh("systemctl stop pibox")
        play = self.moving(two, one, pibox_move_address=two.host)
        self.check("a move onto a box that is there is refused", play.code != 0 and "has a box already" in play.text and self.serves(two), play.why())
        by_backup = {"pibox_move_by": "backup", "pibox_move_replace": True}
        one.ssh("mount -t tmpfs -o size=64k,mode=700 tmpfs /var/lib/pibox && chown pibox: /var/lib/pibox")
        play = self.moving(two, one, **by_backup)
        self.check("a move onto a card that is full leaves the old box serving", play.code != 0 and "was not moved" in play.text and self.serves(two) and
                   two.ssh("systemctl is-enabled pibox") == "enabled", play.why())
        one.ssh("umount /var/lib/pibox")
        asyncio.run(self.moved(two, one, "backup", **by_backup))
        left = [two.ssh(f"test ! -e /run/systemd/system/pibox.service.d/pibox-move.conf; echo $?; ls /var/tmp | grep -c ^pibox; systemctl show -P PrivateNetwork pibox", check=False)]
        self.check("nothing is left of the journey", left == ["0\n0\nno"], str(left))

    def moving(self, old, new, **how):
        return self.play("move.yml", pibox_move_from=old.name, pibox_move_to=new.name, **how)

    def serves(self, box):
        """Whether people can log in."""
        async def login():
            async with logged_in(box.host, *reversed(self.family), "juliet", "romeo") as (juliet, romeo):
                await juliet.say(romeo, "are you there?")
        try:
            asyncio.run(login())
        except Failed:
            return False
        return True

    async def moved(self, old, new, way, **how):
        """Moves the family while people are logged in, and looks whether they have everything afterwards."""
        passwords, authority = self.family
        users = old.users()
        async with logged_in(old.host, authority, passwords, "juliet", "romeo") as (juliet, romeo):
            await juliet.befriend(romeo)
            await juliet.say(romeo, f"before the move by {way}")
            friends = juliet.friends()
            await romeo.log_out()
            await juliet.leave_word(romeo, f"to read after the move by {way}")
            play = await asyncio.to_thread(self.moving, old, new, **how)
            self.must(f"move by {way}", play.code == 0, play.why())
            self.check("who was logged in was sent away by the old box", not juliet.there)
        async with logged_in(new.host, authority, passwords, "juliet", "romeo") as (juliet, romeo):
            self.check("they log in at the new one, with the same passwords and certificate", True)
            await romeo.until(lambda: f"to read after the move by {way}" in romeo.heard, "to have what was said while he was away")
            await juliet.say(romeo, f"after the move by {way}")
            said = await juliet.archive()
            wanted = [f"{when} the move by {way}" for when in ("before", "to read after", "after")]
            self.check("they have their contacts, what was said before, and what was said meanwhile",
                       juliet.friends() == friends and [text for text in said if text in wanted] == wanted, f"{juliet.friends()} {friends} {said}")
        self.check("nobody is lost, and nothing has to be confirmed", new.users() == users and new.status()["state"] == "well" and not new.status().get("held"),
                   str(new.status()))
        self.check("the old box is stopped for good", old.ssh("systemctl is-active pibox; systemctl is-enabled pibox", check=False).split() == ["inactive", "disabled"]
                   and not await asyncio.to_thread(self.serves, old))

    def firewall(self, one, two):
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_firewall=True)
        self.check("the firewall lets Ansible and pibox through, and is kept", play.code == 0 and "policy drop" in one.ssh("nft list table inet pibox") and
                   one.ssh("systemctl is-enabled pibox-firewall; systemctl is-active pibox-firewall-undo.timer || true").split() == ["enabled", "inactive"], play.why())
        reach = f"timeout 5 bash -c '</dev/tcp/{one.host}/%d' 2>/dev/null && echo open || echo closed"
        one.ssh("systemd-run --unit=other systemd-socket-activate --listen=8080 --accept --inetd /bin/cat")
        self.check("to another machine pibox is open and the rest closed", [two.ssh(reach % 5222), two.ssh(reach % 8080)] == ["open", "closed"])
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_firewall=True)
        self.check("a second run with it changes nothing", play.code == 0 and play.changed == 0, play.why())
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_firewall=True, pibox_firewall_ports=[8080])
        self.check("another port is opened", play.code == 0 and [two.ssh(reach % 8080), two.ssh(reach % 8081)] == ["open", "closed"], play.why())
        self.shut_out(one, two, reach)
        play = self.play("install.yml", box=one, pibox_domains=["family.example"])
        left = one.ssh("ls -d /etc/*pibox-firewall* /etc/systemd/system/*pibox-firewall* 2>/dev/null; nft list tables", check=False)
        self.check("without it everything is open again, and nothing is left", play.code == 0 and two.ssh(reach % 8080) == "open" and left == "", left + play.why())

    def shut_out(self, one, two, reach):
        """A rule that a hand put before ours closes ssh as soon as the firewall is applied: as a mistake in ours would."""
        one.ssh("mkdir -p /etc/systemd/system/pibox-firewall.service.d && printf '[Service]\nExecStart=/usr/sbin/nft insert rule inet pibox input tcp dport 22 drop\n' "
                ">/etc/systemd/system/pibox-firewall.service.d/mistake.conf && systemctl daemon-reload")
        began = time.monotonic()
        play = self.play("install.yml", box=one, pibox_domains=["family.example"], pibox_firewall=True)
        self.check("a firewall that shuts Ansible out is a failure", play.code != 0 and ("timed out waiting for ping" in play.text or "opened by itself" in play.text),
                   play.why())
        one.wait("systemctl show -P ActiveState pibox-firewall | grep -qx inactive", 200, "open again")
        self.check("and opens by itself after a minute", two.ssh(reach % 8081) == "closed" and one.status()["state"] == "well", f"{time.monotonic() - began:.0f} s")
        one.ssh("rm -r /etc/systemd/system/pibox-firewall.service.d && systemctl daemon-reload")

    def leave(self, one):
        users = one.users()
        play = self.play("uninstall.yml", box=one)
        left = one.ssh("find / -xdev -name '*pibox*' ! -path '/var/lib/pibox*' ! -path '/etc/pibox*' ! -path '/var/log/*' ! -path '/tmp/*' ! -path '/var/tmp/*' "
                       "! -path '/var/lib/systemd/*' ! -path '/home/pi/*'")
        self.check("uninstall leaves the data and no more", play.code == 0 and left == "" and one.ssh("ls /var/lib/pibox/pibox.db"), play.why() + left)
        play = self.play("install.yml", box=one)
        self.check("installed again it is the same box", play.code == 0 and one.users() == users, play.why())
        play = self.play("uninstall.yml", box=one, pibox_uninstall_data=True)
        self.check("uninstall with the data leaves nothing", play.code == 0 and (d := differences(self.fresh[one.name], one.manifest())) == [],
                   play.why() if play.code else "\n".join(d[:20]))

    def disarm(self, one):
        play = self.play("uninstall.yml")
        self.check("after uninstall the hardware watchdog sleeps", play.code == 0 and one.ssh("cat /sys/class/watchdog/watchdog0/state") == "inactive",
                   play.why())

    def frozen(self, one):
        """systemd itself crashes, and from then on does nothing: what the hardware watchdog is for."""
        boot = one.ssh("cat /proc/sys/kernel/random/boot_id")
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.ssh("kill -ABRT 1", check=False, timeout=30)
        one.wait(f"! grep -qx {boot} /proc/sys/kernel/random/boot_id && pibox status", 600, "started anew by the hardware watchdog")
        self.check("a machine that hangs is started anew by the hardware watchdog, and serves", True)


def containers(t, one, two):
    """What is played one after the other; the first two at the same time."""
    return [[(t.tells, one), (t.install, one), (t.again, one), (t.update, one)],
            [(t.install, two), (t.hardening, two), (t.firewall, two, one), (t.stuck, two), (t.leave, two)]], [(t.backup, one, two), (t.move, one, two)]


def machine(t, one):
    return [], [(t.install, one), (t.hardening, one), (t.watchdog, one), (t.lights, one), (t.second, one), (t.reboot, one),
                (t.frozen, one), (t.disarm, one)]


def try_parts(parts):
    for part, *boxes in parts:
        part(*boxes)


def chosen(parts, always):
    """What the command line names of these, and the installation that it needs."""
    if len(sys.argv) < 3:
        return parts
    named = {part for part, *_ in parts if part.__name__ in sys.argv[2:]}
    return [(part, *boxes) for part, *boxes in parts if part in named or (part.__name__ == "install" and (named or always))]


def try_systems(report, kind):
    systems = [Machine()] if kind == "machine" else [Container(1), Container(2)]
    t = Tests(report, systems)
    pool = concurrent.futures.ThreadPoolExecutor()
    try:
        for system in systems:
            system.start()
        for system in systems:
            system.booted(600)
        report.check(f"{kind}: started", True)
        apart, together = machine(t, *systems) if kind == "machine" else containers(t, *systems)
        for done in [pool.submit(try_parts, chosen(parts, parts is apart[0])) for parts in apart]:
            done.result()
        try_parts(chosen(together, True))
    finally:
        # What still plays fails as soon as its systems are gone.
        pool.shutdown(wait=False, cancel_futures=True)
        for system in systems:
            system.stop()


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    report = Report()
    kind = sys.argv[1]
    try:
        run("sh", TOP / "ansible/tests/tree.sh", CACHE, "guest" if kind == "machine" else "box", "amd64", "trixie")
        with network() if kind == "containers" else contextlib.nullcontext():
            try_systems(report, kind)
    except Failed as why:
        report.check("all parts", False, str(why))
    report.end()


if __name__ == "__main__":
    main()
