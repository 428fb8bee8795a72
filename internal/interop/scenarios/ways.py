"""How a family gets from its old addresses to its new ones: a function each, which returns when everything is under way."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

from families import GROUP, Family, Member, log_in, log_out, name_of
from light import Light
from movers import PRESENCE_ONLY
from product import pibox
from steps import NS, step

MOVED = NS["moved"]
TRANSFERS = 4  # at a time, by one box


async def by_client(family: Family) -> None:
    """Clients that support moving do the new home's part, as XEP-0283 §4.1 and §4.2 have it."""
    step("Five clients publish the statements, and tell the contacts from the new accounts")
    clients = await log_in([role for member in family.members for role in (member.old, member.new)])
    await asyncio.gather(*(_by_client(family, member, clients) for member in family.members))
    await log_out(clients)


async def _by_client(family: Family, member: Member, clients: dict[str, Light]) -> None:
    old, new = clients[member.old["jid"]], clients[member.new["jid"]]
    await _publish(family, old, new.account)
    for contact in family.contacts:
        relation = family.relation(member, contact)
        if relation.item:
            await new.put(contact.jid, name_of(contact), GROUP)
        if relation.block == "member":
            await new.block(contact.jid)
            continue
        if relation.member.shows:
            new.presence("subscribed", contact.jid)
        claim = f"<moved xmlns='{MOVED}'><old-jid>{old.account}</old-jid></moved>" if relation.member.sees else ""
        if relation.member.sees or relation.out:
            new.presence("subscribe", contact.jid, f"{claim}<status>This is my new address, I was {old.account}</status>")
        if relation.member.shows and not relation.member.sees:
            old.tell(f"<message to='{contact.jid}'><body>My new address is {new.account}</body></message>")
    for other in family.members:
        if other is member:
            continue
        await new.put(other.new["jid"], name_of(other), GROUP)
        if family.sees(other, member):
            new.presence("subscribed", other.new["jid"])
        if family.sees(member, other):
            new.presence("subscribe", other.new["jid"])
    await asyncio.gather(old.settle(), new.settle())


async def _publish(family: Family, old: Light, new: str) -> None:
    """A box lets all contacts read the statement. Elsewhere `presence` would keep those out who only let the member see them."""
    options, pubsub = "", NS["pubsub"]
    if old.kind != "pibox":
        options = PRESENCE_ONLY.replace("presence</value>", "whitelist</value>")
    await old.ask("set", f"<pubsub xmlns='{pubsub}'><publish node='{MOVED}'><item id='current'>"
                         f"<moved xmlns='{MOVED}'><new-jid>{new}</new-jid></moved></item></publish>{options}</pubsub>")
    if options:
        readers = "".join(f"<affiliation jid='{contact.jid}' affiliation='member'/>" for contact in family.contacts)
        await old.ask("set", f"<pubsub xmlns='{pubsub}#owner'><affiliations node='{MOVED}'>{readers}</affiliations></pubsub>")


async def by_domain(family: Family) -> None:
    """Everybody of one domain of a box to another one, in one command."""
    old, new = family.domains
    step(f"pibox move family {old} {new}")
    await pibox(family, new, "move", "family", old, new)


async def by_start(family: Family) -> None:
    """One account of a box after the other, to another address of the same box."""
    for member in family.members:
        step(f"pibox move start {member.old['jid']} {member.new['jid']}")
        await pibox(family, family.domains[1], "move", "start", member.old["jid"], member.new["jid"])


async def by_file(family: Family) -> None:
    """From box to box: an export is imported under new addresses, and both boxes do their part."""
    old, new = family.domains
    path = str(Path(family.world.settings["control"]).with_name("family.xml"))
    step(f"pibox export at {old}, pibox import at {new}")
    await pibox(family, old, "export", *(member.old["jid"] for member in family.members), "--to", path)
    await pibox(family, new, "import", path, "--to-domain", new)
    step("pibox move leave there, pibox move start here")
    for member in family.members:
        await pibox(family, old, "move", "leave", member.old["jid"], member.new["jid"])
    for member in family.members:
        await pibox(family, new, "move", "start", member.old["jid"], member.new["jid"])


async def by_password(family: Family) -> None:
    """To a box, with nothing but the old addresses and passwords."""
    step("pibox move bring, five times")
    gate = asyncio.Semaphore(TRANSFERS)
    await asyncio.gather(*(_bring(family, member, gate) for member in family.members))


async def _bring(family: Family, member: Member, gate: asyncio.Semaphore) -> None:
    async with gate:
        done = await pibox(family, family.domains[1], "move", "bring", member.old["jid"], member.new["jid"], "--password-stdin",
                           typed=member.old["password"] + "\n")
    member.new["password"] = done["migration"]["password"]


async def by_leaving(family: Family) -> None:
    """From a box to any other server, where new accounts wait."""
    step("pibox move leave --build, five times")
    gate = asyncio.Semaphore(TRANSFERS)
    await asyncio.gather(*(_leave(family, member, gate) for member in family.members))


async def _leave(family: Family, member: Member, gate: asyncio.Semaphore) -> None:
    async with gate:
        await pibox(family, family.domains[0], "move", "leave", member.old["jid"], member.new["jid"], "--build", "--password-stdin",
                    typed=member.new["password"] + "\n")


@dataclasses.dataclass
class Way:
    """`move` begins it. `plan` is the command that shows what it would do, where there is one; `status`: the new home's box has a job."""

    move: Callable[[Family], Awaitable[None]]
    status: bool = False
    client: bool = False  # the new home's part is done by one: it can not hand over requests that wait, and its server minds no refusal
    plan: Callable[[Family], list[str]] | None = None
    together: bool = False  # in one move; else a member who only sees another one is told of his move as any such contact is
    keeps: bool | None = None  # whether what members own moves along, and if so, whether the archive does


WAYS = {
    "by-client": Way(by_client, client=True, together=True),
    "start": Way(by_start, status=True, keeps=True),
    "file": Way(by_file, status=True, keeps=True),
    "password": Way(by_password, status=True, keeps=True),
    "leaving": Way(by_leaving, client=True, together=True, keeps=False),
    "domain": Way(by_domain, status=True, plan=lambda family: ["move", "family", *family.domains, "--dry-run"], together=True, keeps=True),
}
