#!/usr/bin/env python3
"""The role against trees of Debian whose programs are emulated: what it puts where, that a second run and check mode change nothing, and
what is left after it. Nothing runs in a tree; guests.py shows that. As root."""

import contextlib
import os
import subprocess
import sys

from harness import CACHE, MANIFEST, TOP, WORK, Failed, Play, Report, differences, run

# A Pi 4 with Raspberry Pi OS 64 bit, and one with 32 bit of the release before. A Pi Zero has a system that is called armhf, too, and a
# processor that runs no program of Debian's armhf: there only what it says of itself is played.
KINDS = {
    "arm64": ("trixie", "cortex-a72", "arm64"),
    "armhf": ("bookworm", "cortex-a7", "armv7"),
}


@contextlib.contextmanager
def tree(kind):
    """A fresh tree with the kernel's file systems, unpacked from what tree.sh made."""
    root = WORK / kind
    run("rm", "-rf", "--one-file-system", root)
    root.mkdir(parents=True)
    run("tar", "-C", root, "-xf", CACHE / f"{kind}.tar")
    try:
        run("mount", "--bind", "/dev", root / "dev")
        run("mount", "-t", "proc", "proc", root / "proc")
        run("mount", "-t", "sysfs", "-o", "ro", "sysfs", root / "sys")
        yield root
    finally:
        for name in ("sys", "proc", "dev"):
            subprocess.run(["umount", root / name], check=False)
    run("rm", "-rf", "--one-file-system", root)


def manifest(root):
    return run("sh", "-c", MANIFEST, cwd=root)


def built(root, build):
    return (root / "usr/bin/pibox").read_bytes() == (TOP / f"dist/pibox-linux-{build}").read_bytes()


def try_tree(report, kind):
    suite, processor, build = KINDS[kind]
    os.environ["QEMU_CPU"] = processor
    with tree(kind) as root:
        inventory = WORK / f"{kind}.yml"
        inventory.write_text(f"pibox:\n  hosts:\n    {kind}:\n      ansible_host: {root}\n      ansible_connection: community.general.chroot\n"
                             "      ansible_python_interpreter: /usr/bin/python3\n      ansible_become: false\n")
        fresh = manifest(root)

        play = Play("install.yml", inventory, "--check", "--diff")
        report.check(f"{kind} ({suite}, {processor}): check mode on a fresh tree tells what it would do", play.code == 0 and play.changed > 5, play.why())
        report.check(f"{kind}: and changes nothing", (d := differences(fresh, manifest(root))) == [], "\n".join(d[:20]))

        play = Play("install.yml", inventory)
        report.must(f"{kind}: install", play.code == 0, play.why())
        report.check(f"{kind}: the build is {build}", built(root, build))
        report.check(f"{kind}: it will start with the machine", (root / "etc/systemd/system/multi-user.target.wants/pibox.service").is_symlink())
        installed = manifest(root)

        play = Play("install.yml", inventory)
        report.check(f"{kind}: a second run changes nothing", play.code == 0 and play.changed == 0, play.why())
        play = Play("install.yml", inventory, "--check", "--diff")
        report.check(f"{kind}: check mode on an installed tree finds nothing to do", play.code == 0 and play.changed == 0, play.why())
        report.check(f"{kind}: no file differs after both", (d := differences(installed, manifest(root))) == [], "\n".join(d[:20]))

        play = Play("install.yml", inventory, pibox_sha256={build: "0" * 64})
        report.check(f"{kind}: a build with another checksum is refused", play.code != 0 and "Nothing was changed" in play.text, play.why())

        if kind == "armhf":
            play = Play("install.yml", inventory, pibox_machine="armv6l")
            report.check("armhf on a Pi Zero: the build is armv6", play.code == 0 and built(root, "armv6"), play.why())

        play = Play("uninstall.yml", inventory)
        report.check(f"{kind}: uninstall leaves no trace", play.code == 0 and (d := differences(fresh, manifest(root))) == [],
                     play.why() if play.code else "\n".join(d[:20]))

        play = Play("install.yml", inventory, pibox_config="language = \"de\"", pibox_domains=["family.example"])
        data = root / "var/lib/pibox"
        report.check(f"{kind}: install with a configuration", play.code == 0, play.why())
        data.mkdir(mode=0o700)
        (data / "pibox.db").write_text("the family's")
        play = Play("uninstall.yml", inventory)
        left = differences(fresh, manifest(root))
        names = {line.split(" ")[5] for line in left if line.startswith("+") and line.count(" ") > 4 and line.split(" ")[1] in "fdl"}
        wanted = {"./etc/pibox", "./etc/pibox/pibox.toml", "./var/lib/pibox", "./var/lib/pibox/pibox.db"}
        users = {f"./etc/{name}" for name in ("passwd", "group", "shadow", "gshadow")}
        sums = {line.split("  ")[1] for line in left if "  ./etc/" in line}
        report.check(f"{kind}: uninstall leaves data and their user", play.code == 0 and names <= wanted | {"./var/lib"} and wanted <= names and
                     sums == users | {"./etc/pibox/pibox.toml"}, "\n".join(left[:20]) + play.why())
        play = Play("uninstall.yml", inventory, pibox_uninstall_data=True)
        report.check(f"{kind}: uninstall with the data leaves nothing", play.code == 0 and (d := differences(fresh, manifest(root))) == [],
                     play.why() if play.code else "\n".join(d[:20]))


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    report = Report()
    for kind in sys.argv[1:] or KINDS:
        try:
            run("sh", TOP / "ansible/tests/tree.sh", CACHE, kind, KINDS[kind][0])
            try_tree(report, kind)
        except Failed as why:
            report.check(kind, False, str(why))
    report.end()


if __name__ == "__main__":
    main()
