"""Messages to another server, while that server is frozen, killed and restarted, and the box is killed too: each arrives, once, in order."""

import itertools

from steps import NS, Person, World, check, run, stanza, step

numbers = itertools.count(1)


async def play(world: World) -> None:
    box, other = (world.jid(role).partition("@")[2] for role in ("here", "there"))
    here, there = await world.log_in("here"), await world.log_in("there")
    step("Five messages, to begin with")
    await received(there, here, await sent(here, there, 5))

    step(f"{other} is frozen for a while")
    world.control(f"freeze {other}")
    tell = await sent(here, there, 20)
    world.control(f"thaw {other}")
    await received(there, here, tell)

    step(f"{other} is frozen and then killed with what it did not read")
    world.control(f"freeze {other}")
    tell = await sent(here, there, 20)
    forget(world, there)
    world.control(f"kill {other}", f"start {other}")
    there = await world.log_in("there")
    await received(there, here, tell)

    step(f"{other} is not there, and the box is killed with what it owes")
    forget(world, there)
    world.control(f"kill {other}")
    tell = await sent(here, there, 20)
    forget(world, here)
    world.control(f"kill {box}", f"start {box}")
    here = await world.log_in("here")
    tell += await sent(here, there, 5)
    world.control(f"start {other}")
    there = await world.log_in("there")
    await received(there, here, tell)

    step(f"{other} is not there, and the box is restarted in order")
    forget(world, there)
    world.control(f"kill {other}")
    tell = await sent(here, there, 5)
    forget(world, here)
    world.control(f"stop {box}", f"start {other}", f"start {box}")
    here, there = await world.log_in("here"), await world.log_in("there")
    await received(there, here, tell)


async def sent(here: Person, there: Person, count: int) -> list[str]:
    """Sends messages; when it returns the box has taken them."""
    bodies = [f"message {next(numbers)}" for _ in range(count)]
    for body in bodies:
        here.tell(f"<message to='{there.account}' type='chat' id='{body.replace(' ', '-')}'><body>{body}</body></message>")
    await here.settle()
    return bodies


async def received(there: Person, here: Person, bodies: list[str]) -> None:
    for body in bodies:
        message = await there.expect(body, stanza("message", here.account, has="c:body"))
        check(message.get("type") != "error", f"{body} should not come back")
        have = message.findtext("c:body", namespaces=NS)
        check(have == body, f"{body} should come next, not {have}")
    there.none_of("anything twice", stanza("message", here.account, has="c:body"))
    here.none_of("an error", stanza("message", type="error"))


def forget(world: World, person: Person) -> None:
    """His stream ends, and that is no fault."""
    world.people.remove(person)
    person.abort()


run(play)
