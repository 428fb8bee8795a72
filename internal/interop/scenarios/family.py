"""A family of five moves, and forty people on all kinds of servers know each of them in another way.

Nobody whose server verifies moves is online. One server is down for a while, one refuses, some people decline. In the
end every roster on every server is what the rule book (`relations.py`) says. Option `way`: how they move (`ways.py`).
"""

import dataclasses

from checks import begin, finish, hear, look, others_come, report, settle
from families import Family, Row, log_in
from light import Light
from owner import plan_faults, status_faults
from relations import answered
from steps import World, run, step
from ways import WAYS


async def play(world: World) -> None:
    family, rows, began = await begin(world)
    way, faults = WAYS[world.settings["way"]], []
    for row in rows if way.client else ():
        row.expected.moved = dataclasses.replace(
            row.expected.moved, waits=False, out=row.expected.moved.out or row.expected.how == "refuses")
    online = await log_in([c.role for c in family.contacts if c.online], presence=True)
    step(f"{len(online)} contacts are online, none of them where moves are verified")
    if family.outage:
        step(f"{family.outage} is down")
        world.control(f"stop {family.outage}")
    if way.plan:
        step(f"pibox {' '.join(way.plan(family))} tells what will be")
        faults += await plan_faults(family, rows, *way.plan(family))
    await way.move(family)

    clients = online | await log_in(family.accounts)
    step("Every contact whose server is there has followed, or is asked")
    if family.outage:
        faults += await outage(world, family, rows, clients)
    await settle(rows, clients)
    await others_come(family, clients)
    await hear(rows, clients)
    for row in rows:
        row.look(clients)
    look(rows, clients)
    if way.status:
        faults += await status_faults(family, rows)
    await by_hand(rows, clients)
    if way.status:
        faults += await status_faults(family, rows)
    faults += await finish(family, way, rows, clients)
    report(rows, faults, began)


async def outage(world: World, family: Family, rows: list[Row], clients: dict[str, Light]) -> list[str]:
    await settle([row for row in rows if row.contact.group != "outage"], clients)
    faults = await status_faults(family, rows, waiting="outage") if WAYS[world.settings["way"]].status else []
    step(f"{family.outage} is back, and its people follow too")
    world.control(f"start {family.outage}")
    return faults


async def by_hand(rows: list[Row], clients: dict[str, Light]) -> None:
    asked = [row for row in rows if row.expected.asked]
    step(f"{len(asked)} requests are answered by hand")
    for row in asked:
        theirs, new = clients[row.contact.jid], row.member.new["jid"]
        theirs.presence("unsubscribed" if row.contact.declines else "subscribed", new)
        row.expected = answered(row.relation, row.expected, not row.contact.declines)
        if row.expected.new.sees:
            theirs.presence("subscribe", new)
    await settle(asked, clients)


run(play)
