"""A family thinks better of it: those who have followed stay, from everybody else the move is taken back.

One server is down from before the move until after it was taken back: its people are never asked.
"""

import dataclasses

from checks import begin, finish, look, others_come, report, settle
from families import Family, Row, log_in
from product import pibox
from relations import Side
from steps import World, run, step
from ways import WAYS


async def play(world: World) -> None:
    family, rows, began = await begin(world)
    clients = await log_in([c.role for c in family.contacts if c.online], presence=True)
    step(f"{family.outage} is down")
    world.control(f"stop {family.outage}")
    await WAYS[world.settings["way"]].move(family)
    clients |= await log_in(family.accounts)
    await settle([row for row in rows if row.contact.group != "outage"], clients)
    await undo(family)
    for row in rows:
        if row.contact.group == "outage" or row.expected.how != "by itself":
            taken_back(row)
    world.control(f"start {family.outage}")
    step(f"{family.outage} is back")
    await settle(rows, clients)
    await others_come(family, clients)
    look(rows, clients)
    report(rows, await finish(family, None, rows, clients), began)


async def undo(family: Family) -> None:
    for member in family.members:
        step(f"pibox move undo {member.new['jid']}")
        await pibox(family, family.domains[1], "move", "undo", member.new["jid"], "--yes")


def taken_back(row: Row) -> None:
    """Everything is as it was, and the new account has nothing of the contact. Who was online has seen what he has seen."""
    seen = row.contact.online and row.contact.group != "outage"
    row.expected = dataclasses.replace(
        row.expected, old=row.relation.contact, new=Side(), left=row.relation.member, moved=Side(),
        how="taken back", asked=row.expected.asked and seen, told=row.expected.told)
    row.item = False


run(play)
