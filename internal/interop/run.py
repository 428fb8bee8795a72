#!/usr/bin/python3 -B
"""Starts the world (names, certificates, servers), plays the scenarios against it and prints a table.

`--box prosody` puts Prosody in the place of pibox: the harness proves itself on a server that is known to work,
with the scenarios that need no server that verifies moves.
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
from harness.control import Control
from harness.nameserver import NameServer
from harness.servers import Ejabberd, Pibox, Prosody, Server, Snikket

HERE = Path(__file__).resolve().parent
SUITES = HERE.parent.parent / "bin" / "interop-suites"  # filled by suites.py
BOX, SECOND, EJABBERD = "montague.example", "capulet.example", "ejabberd.example"
PROSODY, BIDI, SELF_SIGNED, UNTRUSTED = "prosody.example", "bidi.example", "selfsigned.example", "untrusted.example"
PROSODY_BEFORE, EJABBERD_BEFORE = "prosody-before.example", "ejabberd-before.example"  # a box takes their place
THIRD, OUTAGE = "escalus.example", "mercutio.example"  # boxes of contacts; the latter is down while a family moves
SNIKKET, SNIKKET_BEFORE = "snikket.example", "snikket-before.example"
DOMAINS = (BOX, SECOND, THIRD, OUTAGE, PROSODY, BIDI, SELF_SIGNED, UNTRUSTED, EJABBERD, PROSODY_BEFORE, EJABBERD_BEFORE, SNIKKET, SNIKKET_BEFORE)
BOXES = BOX, SECOND, THIRD, OUTAGE
VERONA, MANTUA = "verona.example", "mantua.example"  # a family's domains
BESIDE = {VERONA: BOX, MANTUA: BOX}  # further domains, by the server that serves them
PUSH = f"push.{PROSODY}"  # an external component that a scenario plays
UNREACHABLE = "silent.example"  # announced, and nobody listens there

LOG_LINES = 30  # shown of each box when a scenario failed


@dataclasses.dataclass
class Scenario:
    """A script, and for each of its roles the domain that the account lives on."""

    name: str
    script: str
    roles: dict[str, str]
    limit: float = 60  # seconds
    by_prosody: bool = True  # whether Prosody in the box's place can pass it
    python: Path = Path(sys.executable)
    options: dict = dataclasses.field(default_factory=dict)
    refuses: dict[str, str] = dataclasses.field(default_factory=dict)  # role: the domain whose requests its server turns away
    circle: tuple[str, ...] = ()  # roles whom Snikket makes each other's contacts
    invited: tuple[str, ...] = ()  # roles whose accounts the scenario makes


def two_servers(name: str, there: str, **options) -> Scenario:
    return Scenario(name, "two_servers.py", {"here": BOX, "there": there, "away": there}, options=options)


def owed(name: str, there: str) -> Scenario:
    # Not to ejabberd: what it gets just before a login it stores after it, and hands over at the next one.
    return Scenario(name, "owed.py", {"here": BOX, "there": there}, limit=120, by_prosody=False)


def move(name: str, old: str, new: str, **more: str) -> Scenario:
    return Scenario(name, "move.py", {"romeo": BOX, "old": old, "new": new, **more}, by_prosody=False)


def succeed(name: str, before: str, **more) -> Scenario:
    roles = {"juliet": before, "nurse": before, "romeo": BOX, "paris": BOX, "tybalt": BOX}
    return Scenario(name, "succeed.py", roles, limit=120, by_prosody=False, **more)


def ordinary(name: str, old: str, **options) -> Scenario:
    roles = {"romeo": BOX, "old": old, "new": PROSODY}
    return Scenario(name, "ordinary.py", roles, by_prosody="late" not in options, options=options)


def bring(name: str, old: str, **more) -> Scenario:
    roles = {"old": old, "new": BOX, "romeo": SECOND, "paris": SECOND}
    if "circle" in more:
        roles |= {"nurse": old, "nurse-new": BOX}
    return Scenario(name, "bring.py", roles, limit=120, by_prosody=False, **more)


def leave(name: str, new: str, **more) -> Scenario:
    return Scenario(name, "leave.py", {"old": BOX, "new": new, "romeo": SECOND, "paris": SECOND}, by_prosody=False, **more)


def family(name: str, way: str, old: str, new: str, made: bool = False) -> Scenario:
    """Five members and forty contacts. `way`: how they move; `made`: the new accounts are there before."""
    prosody = BIDI if PROSODY in (old, new) else PROSODY
    near, left = (BOX, SECOND) if new in BESIDE else (new, old)
    contacts = {"third": (THIRD, 8), "near": (near, 6), "left": (left, 6), "outage": (OUTAGE, 4),
                "prosody": (prosody, 7), "hermit": (prosody, 1), "ejabberd": (EJABBERD, 8)}
    trouble = way != "by-client"  # a client does not try again
    return movers(name, contacts, 5, made, {
        "way": way, "old": old, "new": new, "outage": OUTAGE if trouble else None, "refuses": trouble})


def popular(name: str) -> Scenario:
    """One member with many contacts on few servers: more than a server would verify of a stranger."""
    return movers(name, {"third": (THIRD, 24), "near": (BOX, 24)}, 1, False, {
        "way": "start", "old": BOX, "new": MANTUA, "outage": None, "refuses": False, "relations": ["both"]})


def undone(name: str) -> Scenario:
    contacts = {"third": (THIRD, 4), "near": (BOX, 4), "outage": (OUTAGE, 4), "prosody": (PROSODY, 4), "ejabberd": (EJABBERD, 4)}
    return movers(name, contacts, 5, False, {
        "way": "start", "old": BOX, "new": MANTUA, "outage": OUTAGE, "refuses": False, "welcomed": False}, script="family_undone.py")


def movers(name: str, contacts: dict[str, tuple[str, int]], members: int, made: bool, options: dict, script: str = "family.py") -> Scenario:
    old, new = options["old"], options["new"]
    roles = {f"{group}{n}": domain for group, (domain, size) in contacts.items() for n in range(1, size + 1)}
    roles |= {f"member{n}": old for n in range(1, members + 1)}
    if made:
        roles |= {f"new{n}": new for n in range(1, members + 1)}
    refuses = {"hermit1": new} if options["refuses"] else {}
    return Scenario(f"family-{name}", script, roles, limit=300, by_prosody=False, refuses=refuses, options=options)


SCENARIOS = [
    Scenario("slixmpp", "slixmpp_client.py", {"romeo": BOX, "juliet": BOX, "benvolio": BOX}),
    Scenario("aioxmpp", "aioxmpp_client.py", {"romeo": BOX, "juliet": BOX, "benvolio": BOX}),
    Scenario("inactive", "inactive.py", {"romeo": BOX, "juliet": BOX}, by_prosody=False),
    Scenario("slixmpp-resume", "slixmpp_resume.py", {"romeo": BOX, "juliet": BOX}),
    Scenario("aioxmpp-resume", "aioxmpp_resume.py", {"romeo": BOX, "juliet": BOX}),
    Scenario("slixmpp-suite", "slixmpp_suite.py", {"one": BOX, "two": BOX}, limit=150, python=SUITES / "environment/bin/python3"),
    Scenario("aioxmpp-suite", "aioxmpp_suite.py", {f"a{n}": BOX for n in range(100)}, limit=150),
    Scenario("archive", "archive.py", {"romeo": BOX, "juliet": BOX}),
    Scenario("push", "push.py", {"romeo": BOX, "juliet": BOX, "service": PROSODY}),
    two_servers("prosody", PROSODY, proof="certificate"),
    two_servers("prosody-dialback", SELF_SIGNED, proof="dialback"),
    Scenario("prosody-untrusted", "refused.py", {"here": SECOND, "there": UNTRUSTED}),
    two_servers("prosody-bidi", BIDI),
    two_servers("ejabberd", EJABBERD),
    two_servers("box-to-box", SECOND),
    owed("owed-to-prosody", PROSODY),
    owed("owed-to-prosody-bidi", BIDI),
    owed("owed-to-prosody-dialback", SELF_SIGNED),
    owed("owed-to-box", SECOND),
    move("move-prosody-to-box", PROSODY, BOX),
    move("move-prosody-to-other-box", PROSODY, SECOND),
    move("move-box-to-prosody", BOX, PROSODY, benvolio=BOX),
    move("move-other-box-to-prosody", SECOND, PROSODY, benvolio=BOX),
    move("move-box-to-other-box", BOX, SECOND),
    move("move-other-box-to-box", SECOND, BOX, benvolio=BOX),
    move("move-within-box", BOX, BOX),
    move("move-ejabberd-to-box", EJABBERD, BOX),
    bring("bring-prosody", PROSODY),
    bring("bring-ejabberd", EJABBERD),
    leave("leave-to-prosody", PROSODY),
    leave("leave-to-ejabberd", EJABBERD),
    bring("bring-snikket", SNIKKET, circle=("old", "nurse")),
    leave("leave-to-snikket", SNIKKET, invited=("new",)),
    leave("leave-to-snikket-by-file", SNIKKET, invited=("new",), options={"file": True}),
    Scenario("verifying-client", "verifying_client.py", {
        "romeo": PROSODY, "benvolio": PROSODY, "paris": PROSODY, "old": BOX, "new": SECOND},
        by_prosody=False),
    succeed("import-prosody", PROSODY_BEFORE),
    succeed("import-ejabberd", EJABBERD_BEFORE),
    succeed("import-snikket", SNIKKET_BEFORE, circle=("juliet", "nurse")),
    family("domain-to-domain", "domain", VERONA, MANTUA),
    family("box-to-box", "file", BOX, SECOND),
    family("prosody-to-box", "password", PROSODY, BOX),
    family("box-to-prosody", "leaving", BOX, PROSODY, made=True),
    family("one-by-one", "start", BOX, MANTUA),
    popular("popular"),
    undone("undone"),
    family("by-client", "by-client", BOX, SECOND, made=True),
    family("by-client-from-prosody", "by-client", PROSODY, SECOND, made=True),
    family("by-client-to-prosody", "by-client", BOX, PROSODY, made=True),
    ordinary("forged-no-statement", PROSODY, known=True, late=True),
    ordinary("forged-other-name", PROSODY, known=True, statement="other"),
    ordinary("forged-by-stranger", PROSODY, known=False, statement="right"),
    ordinary("unproven-by-dialback", SELF_SIGNED, known=True, statement="right"),
]

def main() -> int:
    arguments = parse_arguments()
    chosen = [s for s in SCENARIOS if s.name in arguments.scenarios or not arguments.scenarios
              and (s.by_prosody or arguments.box == "pibox")]
    unknown = set(arguments.scenarios) - {s.name for s in SCENARIOS}
    if unknown:
        sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in SCENARIOS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="pibox-interop-"))
    world, results = World(folder, arguments, chosen), []
    try:
        started = time.monotonic()
        world.start()
        print(f"{len(world.servers)} servers ready in {time.monotonic() - started:.1f} s\n", flush=True)
        for scenario in chosen:
            results.append(world.play(scenario))
    finally:
        world.stop()
        good = len(results) == len(chosen) and all(result[1] for result in results)
        if good and not arguments.keep:
            shutil.rmtree(folder)
        else:
            print(f"configurations and logs: {folder}\n")
    print_table(results)
    return 0 if good else 1


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
        self.secret = secrets.token_hex(12)  # of the component
        kinds = dict.fromkeys(DOMAINS, Prosody) | {EJABBERD: Ejabberd, EJABBERD_BEFORE: Ejabberd, SNIKKET: Snikket, SNIKKET_BEFORE: Snikket}
        self.program = arguments.pibox.resolve()
        self.configured: dict[str, dict] = {}
        if arguments.box == "pibox":
            kinds |= dict.fromkeys(BOXES, lambda *place: Pibox(*place, program=self.program))
        self.refusals = {f"{account_name(s, role)}@{s.roles[role]}": domain for s in chosen for role, domain in s.refuses.items()}
        self.invited = {f"{account_name(s, role)}@{s.roles[role]}" for s in chosen for role in s.invited}
        self.circles = [[f"{account_name(s, role)}@{s.roles[role]}" for role in s.circle] for s in chosen if s.circle]
        # What a scenario names without an account there, a move makes.
        named = {domain for s in chosen for domain in [*s.roles.values(), s.options.get("old"), s.options.get("new")]}
        self.beside = {domain: home for domain, home in BESIDE.items() if domain in named}
        for number, domain in enumerate(DOMAINS, start=2):
            if domain in named or domain in self.beside.values():
                self.servers[domain] = kinds[domain](domain, f"{self.network}.{number}", folder / domain)

    def start(self) -> None:
        self.authority = Authority(self.folder / "authority")
        self.names.add_server(UNREACHABLE, f"{self.network}.99", 5269, None)
        for domain, server in self.servers.items():
            # One way announced for some peers, so that STARTTLS and direct TLS are both gone through.
            starttls = None if domain == EJABBERD else server.s2s
            direct = None if domain == PROSODY else server.s2s_direct
            self.names.add_server(domain, server.address, starttls, direct)
            self.names.add_clients(domain, server.starttls if starttls else None, server.direct_tls if direct else None)
            self.trusted[domain] = self.authority.path
        for domain, home in self.beside.items():
            self.names.add_server(domain, self.servers[home].address, Server.s2s, Server.s2s_direct)
            self.trusted[domain] = self.authority.path
        if PROSODY in self.servers:
            self.names.add_server(PUSH, self.servers[PROSODY].address, Server.s2s, None)
            self.authority.issue(PUSH)  # Prosody finds it beside its own
        for domain in {SELF_SIGNED, UNTRUSTED} & set(self.servers):
            self.trusted[domain] = self.authority.self_signed(domain)
        for domain, server in self.servers.items():
            certificate = self.trusted[domain]
            if certificate == self.authority.path:
                certificate = self.authority.issue(domain)
            beside = [name for name, home in self.beside.items() if home == domain]
            self.configured[domain] = {
                "beside": {name: self.authority.issue(name) for name in beside},
                "refusals": {jid: stranger for jid, stranger in self.refusals.items() if jid.endswith("@" + domain)},
                "circles": [names for names in (_at(domain, circle) for circle in self.circles) if names],
                "dns_address": self.names.address, "dns_port": str(self.names.port), "hosts": self.names.hosts,
                "certificates": str(certificate.parent), "certificate": str(certificate),
                "key": str(certificate.with_suffix(".key")), "both": str(certificate.with_suffix(".pem")),
                "authority": str(self.authority.path),
                # One box makes do with dialback where a certificate proves nothing, the other does not.
                "insecure": [SELF_SIGNED] if domain == BOX else [],
                "components": {PUSH: self.secret} if domain == PROSODY else {},
                "bidi": domain not in (PROSODY, SELF_SIGNED),  # without it each direction proves itself
            }
            server.configure(self.configured[domain], self.made(domain))
            server.start()
        for domain, server in self.servers.items():
            server.wait_ready()
            for name in (domain, *self.beside):
                if self.home(name) is server:
                    server.create_accounts(name, self.made(name))
        self.control = Control(self.folder / "control", self.servers, self.succeed)

    def made(self, domain: str) -> dict[str, str]:
        """The accounts that are there before a scenario begins."""
        return {localpart: password for localpart, password in self.accounts[domain].items() if f"{localpart}@{domain}" not in self.invited}

    def succeed(self, domain: str) -> None:
        """A box takes the place of a server, with its domain, its address, and the accounts that it exports."""
        before = self.servers[domain]
        files = before.export()
        box = Pibox(domain, before.address, self.folder / f"{domain}-box", program=self.program)
        box.configure(self.configured[domain], {})
        box.start()
        self.servers[domain] = box
        box.wait_ready()
        reports = [box.import_file(path) for path in files]
        (self.folder / f"{domain}.imported.json").write_text(json.dumps(reports, indent=1))

    def home(self, domain: str) -> Server:
        return self.servers[self.beside.get(domain, domain)]

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
        command = [str(scenario.python), "-B", str(HERE / "scenarios" / scenario.script), str(settings)]
        try:
            good = subprocess.run(command, timeout=scenario.limit + 10).returncode == 0
        except subprocess.TimeoutExpired:
            print("FAILED: does not end")
            good = False
        for server in self.servers.values():
            if not server.alive():
                print(f"FAILED: {server.domain} has ended:\n{server.words()}")
                good = False
                server.restart()  # for the next scenario
        if not good:
            self._show_logs(json.loads(settings.read_text())["servers"])
        print(flush=True)
        return scenario.name, good, time.monotonic() - started

    def _show_logs(self, logs: dict) -> None:
        """The end of what the boxes logged during the scenario."""
        for domain, server in self.servers.items():
            if isinstance(server, Pibox):
                with open(server.log, errors="replace") as log:
                    if logs[domain]["log"] == str(server.log):
                        log.seek(logs[domain]["offset"])
                    print(f"\nlog of {domain}\n" + "".join("  " + line for line in log.readlines()[-LOG_LINES:]))

    def _settings(self, scenario: Scenario) -> dict:
        roles, servers = {}, {}
        for domain in (*self.servers, *self.beside):
            server = self.home(domain)
            servers[domain] = {
                "server": type(server).__name__.lower(), "host": server.address, "authority": str(self.trusted[domain]),
                "starttls": server.starttls, "direct_tls": server.direct_tls,
                "command": server.own_command(), "portal": server.url if isinstance(server, Snikket) else None, "log": str(server.log), "offset": server.log.stat().st_size,
            }
        for role, domain in scenario.roles.items():
            localpart = account_name(scenario, role)
            roles[role] = {"jid": f"{localpart}@{domain}", "password": self.accounts[domain][localpart], **servers[domain]}
        return {"limit": scenario.limit, "roles": roles, "servers": servers,
                "component": {"jid": PUSH, "secret": self.secret, "port": Prosody.component},
                "program": str(self.program), "admin": {d: str(s.admin) for d, s in self.servers.items() if isinstance(s, Pibox)},
                "unreachable": UNREACHABLE, "control": str(self.control.path), "folder": str(self.folder), "suites": str(SUITES), **scenario.options}


def _at(domain: str, addresses: list[str]) -> list[str]:
    """The localparts of those of this domain."""
    return [localpart for localpart, _, host in (address.partition("@") for address in addresses) if host == domain]


def account_name(scenario: Scenario, role: str) -> str:
    """Every scenario has its own people, so that none depends on what another left behind."""
    return f"{role}.{scenario.name}"


def make_accounts(scenarios: list[Scenario]) -> dict[str, dict[str, str]]:
    accounts: dict[str, dict[str, str]] = {
        domain: {} for domain in (*DOMAINS, *BESIDE)
    }
    for scenario in scenarios:
        for role, domain in scenario.roles.items():
            accounts[domain][account_name(scenario, role)] = secrets.token_hex(12)
    return accounts


def print_table(results: list[tuple[str, bool, float]]) -> None:
    width = max(len(name) for name, _, _ in results)
    print(f"{'scenario':{width}}  result  seconds")
    for name, good, seconds in results:
        print(f"{name:{width}}  {'ok' if good else 'FAILED':6}  {seconds:7.1f}")
    failed = sum(not good for _, good, _ in results)
    summary = f"{failed} failed" if failed else "all ok"
    print(f"{summary:{width}}          {sum(seconds for _, _, seconds in results):7.1f}")


if __name__ == "__main__":
    sys.exit(main())
