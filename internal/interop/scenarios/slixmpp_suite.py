"""slixmpp's own integration tests, unchanged, those of what the box does, with the slixmpp they belong to. Ours is only how their clients find the
server, and that the two people of the tests know each other: to strangers a resource is not there (RFC 6121 §8.5.3.1)."""

import asyncio
import importlib.util
import json
import os
import sys
import unittest
from pathlib import Path

from slixmpp import ClientXMPP
from slixmpp.test.integration import SlixIntegration

# Left out is what the box does not do yet: rooms (muc, moderate, selfping), upload, XEP-0153; and tls_check, which wants servers with bad certificates.
MODULES = [
    "basic_connect_and_message", "blocking", "bob", "chatmarkers", "disco", "ibb", "last_activity", "mam", "pep", "ping", "privatestorage",
    "quickresponse", "reactions", "reconnect", "retract", "slow_filters", "user_avatar", "vcard", "version",
]
WAIT = 20  # seconds


class Client(ClientXMPP):
    """A client that knows where its server is, and whom to trust."""

    roles: dict[str, dict] = {}

    def __init__(self, jid, password):
        super().__init__(jid, password)
        self.role = self.roles[str(jid)]
        self.ca_certs = Path(self.role["authority"])
        self.enable_direct_tls = False

    async def get_dns_records(self, domain, port=None):
        return [("starttls", domain, self.role["host"], self.role["starttls"])]


async def befriend(*roles: dict) -> None:
    """Both approve each other, as slixmpp does by itself, and both have seen that."""
    clients = [Client(role["jid"], role["password"]) for role in roles]
    for client in clients:
        started = client.wait_until("session_start", timeout=WAIT)
        client.connect()
        await started
        client.send_presence()
        await client.get_roster()
    for client, other in zip(clients, reversed(clients)):
        client.send_presence_subscription(pto=other.boundjid.bare)
    async with asyncio.timeout(WAIT):
        while any(c.client_roster[o.boundjid.bare]["subscription"] != "both" for c, o in zip(clients, reversed(clients))):
            await asyncio.sleep(0.05)
    for client in clients:
        await client.disconnect()


def main() -> int:
    run = json.loads(Path(sys.argv[1]).read_text())
    for number, role in enumerate(run["roles"].values(), start=1):
        os.environ[f"CI_ACCOUNT{number}"] = role["jid"]
        os.environ[f"CI_ACCOUNT{number}_PASSWORD"] = role["password"]
        Client.roles[role["jid"]] = role
    asyncio.run(befriend(*run["roles"].values()))
    SlixIntegration.add_client = lambda self, jid, password: self.clients.append(Client(jid, password))
    suite = unittest.TestSuite()
    for name in MODULES:
        spec = importlib.util.spec_from_file_location(name, Path(run["suites"]) / "slixmpp" / f"test_{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and not result.skipped else 1


if __name__ == "__main__":
    sys.exit(main())
