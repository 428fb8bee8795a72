#!/usr/bin/env python3
"""The role against trees of Debian whose programs are emulated: what it puts where, that a second run and check mode change nothing, and
what is left after it. Nothing serves in a tree; guests.py shows that. As root."""

import contextlib
import json
import subprocess
import sys

from harness import CACHE, MANIFEST, TOP, UNTOLD, WORK, Failed, Play, Report, differences, run

# A Pi 4 with 64 bit, a Pi 2 with 32 bit and the release before, and a Pi Zero, on whose processor Debian's armhf does not run and armel does.
KINDS = {
    "arm64": ("trixie", "cortex-a72", "arm64"),
    "armhf": ("bookworm", "cortex-a7", "armv7"),
    "armel": ("bookworm", "arm1176", "armv6"),
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


class Tree:
    """A tree, entered as the processor of its kind."""

    def __init__(self, kind, root):
        self.kind, self.root = kind, root
        _, self.processor, self.build = KINDS[kind]
        self.enter = WORK / f"chroot-{kind}"
        self.enter.write_text(f"#!/bin/sh\nQEMU_CPU={self.processor} exec chroot \"$@\"\n")
        self.enter.chmod(0o755)
        self.fresh = self.manifest()

    def entry(self):
        return {"ansible_host": str(self.root), "ansible_connection": "community.general.chroot", "ansible_chroot_exe": str(self.enter),
                "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False}

    def manifest(self):
        return run("sh", "-c", MANIFEST, cwd=self.root)

    def traces(self):
        return differences(self.fresh, self.manifest())

    def has(self, build):
        return (self.root / "usr/bin/pibox").read_bytes() == (TOP / f"dist/pibox-linux-{build}").read_bytes()


def kept(left):
    """The files that are there more than before, and those of /etc that differ."""
    names = {line.split(" ")[5] for line in left if line.startswith("+") and line.count(" ") > 4 and line.split(" ")[1] in "fdl"}
    return names - {"./var/lib"}, {line.split("  ")[1] for line in left if "  ./etc/" in line}


class Tests:
    def __init__(self, report, trees):
        self.report, self.check, self.must, self.trees = report, report.check, report.must, trees
        self.inventory = WORK / "trees.json"
        self.inventory.write_text(json.dumps({"pibox": {"hosts": {t.kind: t.entry() for t in trees}}}))

    def each(self, what, good, play):
        """Checks what has to hold for each tree. good(tree) gives what is wrong, or nothing."""
        for t in self.trees:
            wrong = good(t)
            self.check(f"{t.kind}: {what}", not wrong, f"{wrong}\n{play.why()}")

    def install(self):
        told = Play("install.yml", self.inventory, "--check", "--diff")
        self.must("check mode on fresh trees", told.code == 0, told.why())
        self.each("it changes nothing", lambda t: "\n".join(t.traces()[:20]), told)
        play = Play("install.yml", self.inventory)
        self.must("install", play.code == 0, play.why())
        self.each("what check mode told is what was done", lambda t: str(told.touched(t.kind) ^ play.touched(t.kind)) if
                  told.touched(t.kind) != play.touched(t.kind) - UNTOLD else "", told)
        self.each("the build is the one for this processor", lambda t: "" if t.has(t.build) else run("file", t.root / "usr/bin/pibox"), play)
        self.each("it will start with the machine", lambda t: "" if (t.root / "etc/systemd/system/multi-user.target.wants/pibox.service").is_symlink() else "no", play)

    def again(self):
        installed = {t: t.manifest() for t in self.trees}
        for what, options in (("a second run", []), ("check mode of it", ["--check", "--diff"])):
            play = Play("install.yml", self.inventory, *options)
            self.check(f"{what} changes nothing", play.code == 0 and play.changed == 0, play.why())
        self.each("no file differs after both", lambda t: "\n".join(differences(installed[t], t.manifest())[:20]), play)

    def zero(self):
        """What Raspberry Pi OS says on a Pi 1 or Zero: armhf, like any other, and a processor that Debian's armhf does not run on."""
        pi = next((t for t in self.trees if t.kind == "armhf"), None)
        if not pi:
            return
        play = Play("install.yml", self.inventory, "--limit", "armhf", pibox_machine="armv6l")
        self.check("armhf on a Pi Zero: the build is armv6", play.code == 0 and pi.has("armv6"), play.why())
        runs = {build: subprocess.run(["qemu-arm", "-cpu", "arm1176", TOP / f"dist/pibox-linux-{build}", "version"], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, check=False).returncode == 0 for build in ("armv6", "armv7")}
        self.check("that runs on its processor, and the one for armv7 would not", runs == {"armv6": True, "armv7": False}, str(runs))

    def leave(self):
        """In one tree a family has lived, in the others nobody has."""
        family = self.trees[0]
        play = Play("install.yml", self.inventory, "--limit", family.kind, pibox_config='language = "de"', pibox_domains=["family.example"])
        self.check(f"{family.kind}: install with a configuration", play.code == 0, play.why())
        data = family.root / "var/lib/pibox"
        data.mkdir(mode=0o700)
        (data / "pibox.db").write_text("the family's")
        play = Play("uninstall.yml", self.inventory)
        self.must("uninstall", play.code == 0, play.why())
        for t in self.trees[1:]:
            self.check(f"{t.kind}: it leaves no trace", not (left := t.traces()), "\n".join(left[:20]))
        names, sums = kept(left := family.traces())
        wanted = {"./etc/pibox", "./etc/pibox/pibox.toml", "./var/lib/pibox", "./var/lib/pibox/pibox.db"}
        users = {f"./etc/{name}" for name in ("passwd", "group", "shadow", "gshadow")}
        self.check(f"{family.kind}: but data and their user", names == wanted and sums == users | {"./etc/pibox/pibox.toml"}, "\n".join(left[:20]) + play.why())
        play = Play("uninstall.yml", self.inventory, "--limit", family.kind, pibox_uninstall_data=True)
        self.check(f"{family.kind}: uninstall with the data leaves nothing", play.code == 0 and not family.traces(), "\n".join(family.traces()[:20]) + play.why())


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    report = Report()
    kinds = sys.argv[1:] or list(KINDS)
    try:
        for kind in kinds:
            run("sh", TOP / "ansible/tests/tree.sh", CACHE, kind, KINDS[kind][0])
        with contextlib.ExitStack() as stack:
            roots = [stack.enter_context(tree(kind)) for kind in kinds]
            t = Tests(report, [Tree(kind, root) for kind, root in zip(kinds, roots)])
            for part in t.install, t.again, t.zero, t.leave:
                part()
    except Failed as why:
        report.check("all parts", False, str(why))
    report.end()


if __name__ == "__main__":
    main()
