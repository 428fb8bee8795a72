"""What the tests of trees and of guests have in common."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

ANSIBLE = pathlib.Path(__file__).resolve().parent.parent
TOP = ANSIBLE.parent
WORK = TOP / "bin" / "ansible-test"
CACHE = pathlib.Path(os.environ.get("PIBOX_ANSIBLE_CACHE", "/var/cache/pibox-ansible-test"))

# What a system is made of, for comparing two moments: files of /etc by their contents, others by size and time. Left out is what a
# running Debian writes by itself, and what Ansible keeps of itself.
MANIFEST = r"""
set -e
pruned=$(printf -- '-path ./%s -o ' proc sys dev run tmp var/tmp var/log var/cache var/lib/systemd var/lib/apt root/.ansible home/pi/.ansible \
  boot lost+found etc/.pwd.lock 'etc/*-' var/lib/dbus etc/machine-id etc/.updated var/.updated)
set -f
find . -xdev \( $pruned -false \) -prune -o -path './etc/*' -type f -printf '%y %m %U %G %p\n' -o -type f -printf '%y %m %U %G %p %s %T@\n' \
  -o -printf '%y %m %U %G %p %l\n' | sort
find ./etc -xdev \( $pruned -false \) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
"""


class Failed(Exception):
    pass


class Report:
    """Counts what was checked."""

    def __init__(self):
        self.passed, self.failed, self.began = 0, 0, time.monotonic()

    def check(self, what, good, why=""):
        at = f"{time.monotonic() - self.began:6.0f} s"
        if good:
            self.passed += 1
            print(f"{at}  ok      {what}", flush=True)
        else:
            self.failed += 1
            print(f"{at}  FAILED  {what}\n{why}", flush=True)

    def must(self, what, good, why=""):
        """check, where nothing after it makes sense without it."""
        self.check(what, good, why)
        if not good:
            raise Failed(what)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def run(*argv, **more):
    """Runs a program to its end, and gives what it said; a failure is an exception with that."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise Failed(f"{argv}: {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


class Play:
    """One run of a playbook."""

    def __init__(self, book, inventory, *options, **variables):
        env = dict(os.environ, ANSIBLE_CONFIG=str(ANSIBLE / "ansible.cfg"), ANSIBLE_NOCOLOR="1", ANSIBLE_HOST_KEY_CHECKING="False",
                   ANSIBLE_LOCALHOST_WARNING="False", ANSIBLE_HOME=str(WORK / "home"))
        argv = [WORK.parent / "ansible-test-venv/bin/ansible-playbook", "-i", inventory, ANSIBLE / book, *options]
        argv += ["-e", json.dumps(variables, default=str)]
        done = subprocess.run([str(a) for a in argv], cwd=ANSIBLE, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL)
        self.code, self.text = done.returncode, done.stdout
        with open(WORK / "plays.log", "a") as log:
            log.write(f"\n##### {book} {options} {sorted(variables)}: {done.returncode}\n{done.stdout}")
        self.changed = sum(int(n) for n in re.findall(r"changed=(\d+)", done.stdout))

    def why(self):
        return self.text[-2500:]


def differences(before, after):
    """The lines that only one of two file lists has."""
    a, b = set(before.splitlines()), set(after.splitlines())
    return [f"- {line}" for line in sorted(a - b)] + [f"+ {line}" for line in sorted(b - a)]
