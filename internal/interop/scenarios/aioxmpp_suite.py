"""aioxmpp's own end-to-end tests, unchanged. A test of what the box does not do (rooms, a pubsub service, upload, commands) skips itself by service
discovery: these may be skipped, and two that can not be run where there is stream management, but no others. Some want people who know each other,
because to strangers a resource is not there (RFC 6121 §8.5.3.1); the others, accounts that nobody used before."""

import asyncio
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from steps import Person, push, settings, step

MAY_SKIP = "/adhoc/", "/httpupload/", "/muc/", "/pubsub/", "this test breaks with SM"
FRIENDS = ("adhoc", "ibb", "mdr", "ping", "version")
TIMEOUT = 10  # seconds for one test
# It counts how often an unknown capabilities hash is asked for; our server, which filters notifications by it, is one who asks (XEP-0163 §4.3.2).
NOT_RUN = "test_caps115_are_cached"

CONFIG = """[global]
provisioner={provisioner}
timeout={timeout}

[{provisioner}]
host={host}
port={port}
domain={domain}
accounts={accounts}
no_verify=true
quirks=[]
"""


async def befriend(roles: list[dict]) -> None:
    people = [await Person(role["jid"], role, "before", direct_tls=False).log_in() for role in roles]
    for one, other in itertools.permutations(people, 2):  # pre-approved, so that the request needs no answer
        one.tell(f"<presence type='subscribed' to='{other.account}'/>")
        await one.settle()
    for one, other in itertools.permutations(people, 2):
        one.tell(f"<presence type='subscribe' to='{other.account}'/>")
    for one, other in itertools.permutations(people, 2):
        await one.expect(f"that he and {other.account} know each other", push(other.account, "both"))
    for one in people:
        await one.log_out()


def run(tests: Path, files: list[Path], provisioner: str, roles: list[dict]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "e2etest.ini"
        config.write_text(CONFIG.format(
            provisioner=provisioner, timeout=TIMEOUT, host=roles[0]["host"], port=roles[0]["starttls"], domain=roles[0]["jid"].partition("@")[2],
            accounts=[(role["jid"].partition("@")[0], role["password"]) for role in roles]))
        config.chmod(0o600)
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-p", "aioxmpp.e2etest", "-p", "no:cacheprovider", "--e2etest-config", str(config),
             "--rootdir", str(tests), "--import-mode=importlib", "-v", "-rs", "--tb=short", "-W", "ignore", "-k", f"not {NOT_RUN}",
             *map(str, files)],
            cwd=folder, env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED") and not any(part in line for part in MAY_SKIP)]
    for line in skipped:
        print("must not be skipped:", line)
    return done.returncode == 0 and not skipped


def main() -> int:
    world = settings()
    tests = Path(world["suites"]) / "aioxmpp"
    files = sorted(tests.rglob("test_e2e.py"))
    among_friends = [path for path in files if path.parent.name in FRIENDS]
    roles = list(world["roles"].values())
    friends, fresh = roles[:4], roles[4:]
    asyncio.run(befriend(friends))
    step("tests of people who know each other")
    good = run(tests, among_friends, "aioxmpp.e2etest.provision.StaticPasswordProvisioner", friends)
    step("tests with fresh accounts")
    good = run(tests, [path for path in files if path not in among_friends], "aioxmpp_accounts.Fresh", fresh) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
