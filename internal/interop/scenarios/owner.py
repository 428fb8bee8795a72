"""What the box tells its owner of a family's move, before and after, beside what really comes of it."""

import asyncio

from families import Family, Row
from product import pibox

PATIENCE = 10  # seconds

# What `pibox move status` calls a contact, by what comes of him.
STATES = {
    "by itself": "followed", "must approve": "asked", "must approve: does": "followed", "must approve: declines": "refused",
    "refuses": "failed", "is told": "told", "nothing to follow": "kept", "is blocked": "kept", "blocks": "asked",
}


def prospect(row: Row, down: bool) -> str:
    """What a plan can know: nobody tells whom he blocks, or that he will refuse."""
    relation = row.relation
    if relation.block == "member" or not (relation.member.sees or relation.member.shows or relation.out):
        return "kept"
    if down:
        return "unreachable"
    if relation.out:
        return "approves"
    if relation.member.sees:
        return "follows" if row.contact.verifies else "approves"
    return "adds"


async def plan_faults(family: Family, rows: list[Row], *command: str) -> list[str]:
    """`command` shows the plan: how it differs from what will be."""
    plans = (await pibox(family, family.domains[1], *command))["plans"]
    said = {(plan["new"], contact["address"]): contact for plan in plans for contact in plan["contacts"]}
    faults = []
    for row in rows:
        contact = said.get((row.member.new["jid"], row.contact.jid))
        wanted = prospect(row, row.contact.group == "outage")
        if contact is None or contact["prospect"] != wanted:
            faults.append(f"plan: {row.member.name} is told of {row.contact.name} ({row.relation}): {contact}, not {wanted}")
    return faults


async def status_faults(family: Family, rows: list[Row], waiting: str = "") -> list[str]:
    """How `pibox move status` differs from what is, when servers have acknowledged. `waiting`: a group that can not be reached."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while (faults := await _status_faults(family, rows, waiting)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    return faults


async def _status_faults(family: Family, rows: list[Row], waiting: str) -> list[str]:
    moves = (await pibox(family, family.domains[1], "move", "status", "--all"))["moves"]
    said = {(move["new"], contact["address"]): contact for move in moves for contact in move["contacts"]}
    faults = []
    for row in rows:
        contact = said.get((row.member.new["jid"], row.contact.jid), {})
        wanted = {STATES[row.expected.how]}
        if row.contact.group == waiting and wanted != {"kept"}:
            # Who is told gets a message: the old home waits with it, or gives it back where it is no box.
            wanted = {"told", "to tell"} if wanted == {"told"} else {"sending", "unreachable"}
        if contact.get("state") not in wanted:
            said_of = f"{contact.get('state')} ({contact.get('detail')})"
            faults.append(f"status: {row.contact.name} of {row.member.name} ({row.relation}) is {' or '.join(wanted)}, not {said_of}")
    return faults
