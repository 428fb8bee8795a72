"""What a family's move came to: waited for, and looked at from all sides."""

import time

from belongings import lost
from families import GROUP, Family, Member, Row, befriend, log_in, log_out, name_of, print_table, stands
from light import Item, Light
from relations import expected
from steps import NS, World, check, step
from ways import Way

LATE = "NOT IN TIME"
MOVE = 40  # seconds that the servers may take, the outage's retries included


async def begin(world: World) -> tuple[Family, list[Row], float]:
    """The family, its relations with what is to come of them, and when that began."""
    family, began = Family(world), time.monotonic()
    await befriend(family)
    rows = []
    for member, contact in family.pairs():
        relation = family.relation(member, contact)
        refused = contact.refuses and world.settings["refuses"]
        rows.append(Row(member, contact, relation, expected(relation, contact.verifies, refused)))
    step(f"{len(family.members)} members and {len(family.contacts)} contacts stand to each other in {len(rows)} ways: "
         f"{time.monotonic() - began:.1f} s")
    return family, rows, began


async def others_come(family: Family, clients: dict[str, Light]) -> None:
    """Everybody is online now."""
    clients |= await log_in([contact.role for contact in family.contacts if contact.jid not in clients])
    for client in clients.values():
        if not client.available:
            await client.come()


def report(rows: list[Row], faults: list[str], began: float) -> None:
    step(f"{time.monotonic() - began:.1f} s in all\n")
    print_table(rows)
    wrong = sum(bool(row.wrong) for row in rows)
    if wrong:
        faults.append(f"{wrong} of {len(rows)} are not what they should be")
    check(not faults, "\n".join(dict.fromkeys(faults)))  # each once


async def settle(rows: list[Row], clients: dict[str, Light]) -> None:
    """Waits as long as the members' rosters do not show what is expected; what still differs then is told by the table."""
    deadline = time.monotonic() + MOVE
    for row in rows:
        if LATE in row.wrong:
            continue  # waited for before
        for role, shows in (row.member.new, row.moved), (row.member.old, row.left):
            if not await clients[role["jid"]].until(lambda: shows(clients), max(deadline - time.monotonic(), 0.01)):
                row.wrong.append(LATE)
                break


async def hear(rows: list[Row], clients: dict[str, Light]) -> None:
    """Waits for the messages of the old addresses: those to a server that was down are repeated, where another server than a box sends them."""
    deadline = time.monotonic() + MOVE
    for row in rows:
        theirs, names = clients[row.contact.jid], (row.member.old["jid"], row.member.new["jid"])
        if row.expected.told:
            await theirs.until(lambda: theirs.told(*names), max(deadline - time.monotonic(), 0.01))


def look(rows: list[Row], clients: dict[str, Light]) -> None:
    """What people are shown."""
    for row in rows:
        theirs, new, old = clients[row.contact.jid], row.member.new["jid"], row.member.old["jid"]
        request = theirs.requests.get(new)
        text = (request.findtext("c:status", "", NS) if request is not None else "").strip()
        if row.expected.new.waits and old not in text:
            row.wrong.append(f"NO TEXT {text!r}")
        if theirs.told(old, new) != row.expected.told:
            row.wrong.append("NOT TOLD" if row.expected.told else "TOLD")
        if row.expected.how == "by itself" and theirs.told(row.contact.domain, old, new) != 1:
            row.wrong.append("NO NOTICE")
        names(row, clients)


def names(row: Row, clients: dict[str, Light]) -> None:
    """Both keep the name and the group that they gave the other one, under the new address too."""
    mine = clients[row.member.new["jid"]].items.get(row.contact.jid, Item())
    if row.item and (mine.name, mine.groups) != (name_of(row.contact), {GROUP}):
        row.wrong.append(f"NAMED {mine.name} {set(mine.groups)}")
    theirs = clients[row.contact.jid].items.get(row.member.new["jid"], Item())
    if row.expected.how == "by itself" and (theirs.name, theirs.groups) != (name_of(row.member), {GROUP}):
        row.wrong.append(f"IS NAMED {theirs.name} {set(theirs.groups)}")


async def finish(family: Family, way: Way | None, rows: list[Row], clients: dict[str, Light]) -> list[str]:
    """Everybody logs in anew: what counts is what the servers keep. `way` None: they did not move in the end."""
    for client in clients.values():
        await client.settle()
    for row in rows:
        if clients[row.contact.jid].asked[row.member.new["jid"]] != row.expected.asked:
            row.wrong.append(f"ASKED {clients[row.contact.jid].asked[row.member.new['jid']]} TIMES")
    await log_out(clients)
    clients = await log_in(family.accounts + [contact.role for contact in family.contacts], presence=True)
    for row in rows:
        row.look(clients)
    faults = []
    for member in family.members if way else ():
        faults += await family_faults(family, way, member, clients)
    await log_out(clients)
    return faults


async def family_faults(family: Family, way: Way, member: Member, clients: dict[str, Light]) -> list[str]:
    """What a member lacks at the new address: his belongings, whom he blocks, and his family."""
    mine = clients[member.new["jid"]]
    faults = [] if way.keeps is None else await lost(mine, member.old["jid"], way.keeps)
    blocked = {contact.jid for contact in family.contacts if family.relation(member, contact).block == "member"}
    faults += [f"{member.name} does not block {jid} at the new address" for jid in blocked - await mine.blocked()]
    for other in family.members:
        has, wanted = stands(mine, other.new["jid"]), family.between(member, other)
        if other is member or wanted.sub != "both" and not way.together:
            continue
        if has != wanted:
            faults.append(f"{member.name} has {has} for {other.name} at the new address, not {wanted}")
        elif mine.items[other.new["jid"]].name != name_of(other):
            faults.append(f"{member.name} lost the name of {other.name}")
    return faults

