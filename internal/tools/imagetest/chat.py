"""People with slixmpp clients on the box that imagetest boots: they log in and write to each other."""

import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "interop" / "scenarios"))

from steps import World, check, run, stanza, step  # noqa: E402


async def log_in(world: World, role: str, resource: str, direct_tls: bool):
    person = world.client(role, resource, direct_tls)
    # As an app that was shown the box's certificate: imagetest has compared it with the one in pibox-status.txt.
    person.ssl_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    await person.log_in()
    check(person.mechanism().startswith("SCRAM-"), "the mechanism should be SCRAM")
    step(f"{person.account} logs in, {'TLS' if direct_tls else 'STARTTLS'}, {person.tls()}, {person.mechanism()}")
    return person


async def play(world: World) -> None:
    names = list(world.settings["roles"])
    one = await log_in(world, names[0], "phone", False)
    other = await log_in(world, names[-1], "tablet", True)
    for number in range(10):
        for sender, reader in (one, other), (other, one):
            text = f"{number} from {sender.boundjid.full} ♥"
            sender.send_message(mto=reader.boundjid, mbody=text, mtype="chat")
            await reader.expect("the message", stanza("message", sender.boundjid.full, has="c:body", text=text))
    step("they write ten messages each")


run(play)
