#!/usr/bin/python3 -B
"""Starts the world (names, certificates, servers), plays the scenarios against it and prints a table.

`--box prosody` puts Prosody in the place of pibox: the harness proves itself on a server that is known to work.
Debian's python3 runs this, because Debian's slixmpp and aioxmpp are what is tried.
"""

import argparse
import dataclasses
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.authority import Authority
from harness.nameserver import NameServer
from harness.servers import Ejabberd, Pibox, Prosody, Server

HERE = Path(__file__).resolve().parent
BOX, SECOND, EJABBERD = "montague.example", "capulet.example", "ejabberd.example"
PROSODY, BIDI, SELF_SIGNED, UNTRUSTED = "prosody.example", "bidi.example", "selfsigned.example", "untrusted.example"
DOMAINS = BOX, SECOND, PROSODY, BIDI, SELF_SIGNED, UNTRUSTED, EJABBERD
UNREACHABLE = "silent.example"  # announced, and nobody listens there


@dataclasses.dataclass
class Scenario:
    """A script, and for each of its roles the domain that the account lives on."""

    name: str
    script: str
    roles: dict[str, str]
    limit: float = 60  # seconds
    options: dict = dataclasses.field(default_factory=dict)


SCENARIOS = [
    Scenario("slixmpp", "slixmpp_client.py", {"romeo": BOX, "juliet": BOX, "benvolio": BOX}),
    Scenario("aioxmpp", "aioxmpp_client.py", {"romeo": BOX, "juliet": BOX, "benvolio": BOX}),
    Scenario("prosody", "two_servers.py", {"here": BOX, "there": PROSODY, "away": PROSODY}, options={"proof": "certificate"}),
    Scenario("prosody-dialback", "two_servers.py", {"here": BOX, "there": SELF_SIGNED, "away": SELF_SIGNED}, options={"proof": "dialback"}),
    Scenario("prosody-untrusted", "refused.py", {"here": SECOND, "there": UNTRUSTED}),
    Scenario("prosody-bidi", "two_servers.py", {"here": BOX, "there": BIDI, "away": BIDI}),
    Scenario("ejabberd", "two_servers.py", {"here": BOX, "there": EJABBERD, "away": EJABBERD}),
    Scenario("box-to-box", "two_servers.py", {"here": BOX, "there": SECOND, "away": SECOND}),
]


def main() -> int:
    arguments = parse_arguments()
    chosen = [s for s in SCENARIOS if not arguments.scenarios or s.name in arguments.scenarios]
    unknown = set(arguments.scenarios) - {s.name for s in SCENARIOS}
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in SCENARIOS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="pibox-interop-"))
    kept = arguments.keep
    world = World(folder, arguments, chosen)
    try:
        started = time.monotonic()
        world.start()
        print(f"{len(world.servers)} servers ready in {time.monotonic() - started:.1f} s, logs in {folder}\n", flush=True)
        results = [world.play(scenario) for scenario in chosen]
    except BaseException:
        kept = True
        raise
    finally:
        world.stop()
        if kept:
            print(f"\nkept: {folder}")
    failed = print_table(results)
    if not kept and not failed:
        shutil.rmtree(folder)
    elif failed:
        print(f"\nconfigurations and logs: {folder}")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--box", choices=["pibox", "prosody"], default="pibox", help="what is tried")
    parser.add_argument("--pibox", type=Path, help="the program (default: pibox on the PATH)", default=Path("pibox"))
    parser.add_argument("--keep", action="store_true", help="keep configurations and logs also on success")
    parser.add_argument("scenarios", nargs="*", help="only these")
    return parser.parse_args()


class World:
    def __init__(self, folder: Path, arguments: argparse.Namespace, chosen: list[Scenario]):
        self.folder = folder
        # A network of its own under 127/8: two runs on one machine do not meet, and every server has the usual ports.
        self.network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        self.accounts = make_accounts(chosen)
        self.names = NameServer(f"{self.network}.1")
        self.trusted: dict[str, Path] = {}  # what a client of this domain verifies its server by
        self.servers: dict[str, Server] = {}
        kinds = dict.fromkeys(DOMAINS, Prosody) | {EJABBERD: Ejabberd}
        if arguments.box == "pibox":
            kinds[BOX] = kinds[SECOND] = lambda *place: Pibox(*place, program=arguments.pibox.resolve())
        for number, domain in enumerate(DOMAINS, start=2):
            needed = any(domain in scenario.roles.values() for scenario in chosen)
            if needed:
                self.servers[domain] = kinds[domain](domain, f"{self.network}.{number}", folder / domain)

    def start(self) -> None:
        self.authority = Authority(self.folder / "authority")
        self.names.add_server(UNREACHABLE, f"{self.network}.99", 5269, None)
        for domain, server in self.servers.items():
            # One way announced for some peers, so that STARTTLS and direct TLS are both gone through.
            starttls = None if domain == EJABBERD else server.s2s
            direct = None if domain == PROSODY else server.s2s_direct
            self.names.add_server(domain, server.address, starttls, direct)
            self.trusted[domain] = self.authority.path
        for domain in {SELF_SIGNED, UNTRUSTED} & set(self.servers):
            self.trusted[domain] = self.authority.self_signed(domain)
        for domain, server in self.servers.items():
            certificate = self.trusted[domain]
            if certificate == self.authority.path:
                certificate = self.authority.issue(domain)
            server.configure({
                "dns_address": self.names.address, "dns_port": str(self.names.port), "hosts": self.names.hosts,
                "certificates": str(certificate.parent), "certificate": str(certificate),
                "key": str(certificate.with_suffix(".key")), "both": str(certificate.with_suffix(".pem")),
                "authority": str(self.authority.path), # One box makes do with dialback where a certificate proves nothing, the other does not.
                "insecure": [SELF_SIGNED] if domain == BOX else [],
                "bidi": domain not in (PROSODY, SELF_SIGNED),  # without it each direction proves itself
            }, self.accounts[domain])
            server.start()
        for domain, server in self.servers.items():
            server.wait_ready()
            server.create_accounts(self.accounts[domain])

    def stop(self) -> None:
        for server in self.servers.values():
            server.stop()
        (self.folder / "names-asked").write_text("\n".join(self.names.asked) + "\n")

    def play(self, scenario: Scenario) -> tuple[str, bool, float]:
        """Runs the script in a process of its own: a hung one is ended from outside."""
        print(f"== {scenario.name}", flush=True)
        settings = self.folder / f"{scenario.name}.json"
        settings.write_text(json.dumps(self._settings(scenario), indent=1))
        settings.chmod(0o600)
        started = time.monotonic()
        command = [sys.executable, "-B", str(HERE / "scenarios" / scenario.script), str(settings)]
        try:
            good = subprocess.run(command, timeout=scenario.limit + 10).returncode == 0
        except subprocess.TimeoutExpired:
            print("FAILED: does not end")
            good = False
        for server in self.servers.values():
            if not server.alive():
                print(f"FAILED: {server.domain} has ended:\n{server.words()}")
                good = False
        print(flush=True)
        return scenario.name, good, time.monotonic() - started

    def _settings(self, scenario: Scenario) -> dict:
        roles = {}
        for role, domain in scenario.roles.items():
            server = self.servers[domain]
            localpart = account_name(scenario, role)
            roles[role] = {
                "jid": f"{localpart}@{domain}", "password": self.accounts[domain][localpart],
                "server": type(server).__name__.lower(), "authority": str(self.trusted[domain]), "host": server.address,
                "starttls": server.starttls, "direct_tls": server.direct_tls,
            }
        logs = {domain: {"log": str(server.log), "offset": server.log.stat().st_size}
                for domain, server in self.servers.items()}
        return {"limit": scenario.limit, "roles": roles, "servers": logs,
                "unreachable": UNREACHABLE, **scenario.options}


def account_name(scenario: Scenario, role: str) -> str:
    """Every scenario has its own people, so that none depends on what another left behind."""
    return f"{role}.{scenario.name}"


def make_accounts(scenarios: list[Scenario]) -> dict[str, dict[str, str]]:
    accounts: dict[str, dict[str, str]] = {
        domain: {} for domain in DOMAINS
    }
    for scenario in scenarios:
        for role, domain in scenario.roles.items():
            accounts[domain][account_name(scenario, role)] = secrets.token_hex(12)
    return accounts


def print_table(results: list[tuple[str, bool, float]]) -> int:
    width = max(len(name) for name, _, _ in results)
    print(f"{'scenario':{width}}  result  seconds")
    for name, good, seconds in results:
        print(f"{name:{width}}  {'ok' if good else 'FAILED':6}  {seconds:7.1f}")
    print(f"{'all':{width}}          {sum(seconds for _, _, seconds in results):7.1f}")
    return sum(not good for _, good, _ in results)


if __name__ == "__main__":
    sys.exit(main())
