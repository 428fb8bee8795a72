"""What the tests of trees and of guests have in common."""

import json
import os
import pathlib
import re
import signal
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

# What check mode can not tell beforehand: the user is made from a file, the unit enabled and started by one, that are not there yet.
UNTOLD = {"Make the user", "Let it start with the machine", "Start it"}


class Failed(Exception):
    pass


class Report:
    """Counts what was checked."""

    def __init__(self):
        self.passed, self.failed, self.began = 0, 0, time.monotonic()
        # Ended from outside it still unmounts and stops what it began.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
        signal.signal(signal.SIGINT, lambda *_: sys.exit("ended"))

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
    """One run of a playbook, on one host or several."""

    def __init__(self, book, inventory, *options, **variables):
        env = dict(os.environ, ANSIBLE_CONFIG=str(ANSIBLE / "ansible.cfg"), ANSIBLE_NOCOLOR="1", ANSIBLE_HOST_KEY_CHECKING="False",
                   ANSIBLE_LOCALHOST_WARNING="False", ANSIBLE_HOME=str(WORK / "home"), ANSIBLE_TIMEOUT="60", ANSIBLE_CALLBACKS_ENABLED="ansible.posix.profile_tasks")
        argv = [WORK.parent / "ansible-test-venv/bin/ansible-playbook", "-i", inventory, ANSIBLE / book, *options]
        argv += ["-e", json.dumps(variables, default=str)]
        began = time.monotonic()
        done = subprocess.run([str(a) for a in argv], cwd=ANSIBLE, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL)
        self.code, self.text = done.returncode, done.stdout
        with open(WORK / "plays.log", "a") as log:
            log.write(f"\n##### {book} {options} {sorted(variables)}: {done.returncode} after {time.monotonic() - began:.0f} s\n{done.stdout}")
        self.changed = sum(int(n) for n in re.findall(r"changed=(\d+)", done.stdout))

    def touched(self, host):
        """The names of the tasks that changed something on the host, or would have."""
        parts = re.split(r"^(TASK|RUNNING HANDLER) \[(?:\w+ : )?(.*)\] \*+$", self.text, flags=re.M)
        return {name for kind, name, said in zip(parts[1::3], parts[2::3], parts[3::3])
                if kind == "TASK" and re.search(rf"^changed: \[{re.escape(host)}( ->.*)?\]", said, re.M)}

    def why(self):
        return self.text.split("\nTASKS RECAP")[0][-2500:]


def differences(before, after):
    """The lines that only one of two file lists has."""
    a, b = set(before.splitlines()), set(after.splitlines())
    return [f"- {line}" for line in sorted(a - b)] + [f"+ {line}" for line in sorted(b - a)]
