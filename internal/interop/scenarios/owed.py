"""Messages to another server, while that server is frozen, killed and restarted, and the box is killed too: each arrives, once, in order."""

import asyncio
import itertools

from steps import NS, Person, World, check, run, stanza, step

SM = "urn:xmpp:sm:3"
numbers = itertools.count(1)


async def play(world: World) -> None:
    box, other = (world.jid(role).partition("@")[2] for role in ("here", "there"))
    here, there = await Counting.log_in(world, "here"), await world.log_in("there")
    step("Five messages, to begin with")
    await received(there, here.person, await here.sends(there, 5))

    step(f"{other} is frozen for a while")
    world.control(f"freeze {other}")
    tell = await here.sends(there, 20)
    world.control(f"thaw {other}")
    await received(there, here.person, tell)

    step(f"{other} is frozen and then killed with what it did not read")
    await leaves(world, there)
    world.control(f"freeze {other}")
    tell = await here.sends(there, 20)
    world.control(f"kill {other}", f"start {other}")
    there = await world.log_in("there")
    await received(there, here.person, tell)

    step(f"{other} is not there, and the box is killed with what it owes")
    await leaves(world, there)
    world.control(f"kill {other}")
    tell = await here.sends(there, 20)
    forget(world, here.person)
    world.control(f"kill {box}", f"start {box}")
    here = await Counting.log_in(world, "here")
    tell += await here.sends(there, 5)
    world.control(f"start {other}")
    there = await world.log_in("there")
    await received(there, here.person, tell)

    step(f"{other} is not there, and the box is restarted in order")
    await leaves(world, there)
    world.control(f"kill {other}")
    tell = await here.sends(there, 5)
    forget(world, here.person)
    world.control(f"stop {box}", f"start {other}", f"start {box}")
    here, there = await Counting.log_in(world, "here"), await world.log_in("there")
    await received(there, here.person, tell)


class Counting:
    """Somebody whose server acknowledges what it stored (XEP-0198): by hand, because slixmpp counts only what it made itself."""

    def __init__(self, person: Person):
        self.person, self._sent = person, 0

    @classmethod
    async def log_in(cls, world: World, role: str) -> "Counting":
        one = cls(await world.log_in(role))
        one.person.tell(f"<enable xmlns='{SM}'/>")
        await one.person.expect("stream management", lambda xml: xml.tag == f"{{{SM}}}enabled")
        return one

    async def sends(self, to: Person, count: int) -> list[str]:
        """When it returns, his server has taken over the responsibility for the messages."""
        bodies = [f"message {next(numbers)}" for _ in range(count)]
        for body in bodies:
            self.person.tell(f"<message to='{to.account}' type='chat' id='{body.replace(' ', '-')}'><body>{body}</body></message>")
        self._sent += count
        self.person.tell(f"<r xmlns='{SM}'/>")
        await self.person.expect("its acknowledgement", lambda xml: xml.tag == f"{{{SM}}}a" and int(xml.get("h")) == self._sent)
        return bodies


async def received(there: Person, here: Person, bodies: list[str]) -> None:
    for body in bodies:
        message = await there.expect(body, stanza("message", here.account, has="c:body"))
        check(message.get("type") != "error", f"{body} should not come back")
        have = message.findtext("c:body", namespaces=NS)
        check(have == body, f"{body} should come next, not {have}")
    there.none_of("anything twice", stanza("message", here.account, has="c:body"))
    here.none_of("an error", stanza("message", type="error"))


async def leaves(world: World, person: Person) -> None:
    """He logs out; when it returns, his server has stored what he got, if it is a box, because it stores in order."""
    await person.log_out()
    again = await world.client("there").log_in(presence=False)
    await again.ask("set", None, "<query xmlns='jabber:iq:private'><seen xmlns='urn:example:interop'/></query>")
    world.people.remove(person)
    forget(world, again)
    # Nor does the box know yet what the other server has, where that does not acknowledge but answers a ping: killed now, it would get it again.
    await asyncio.sleep(1)


def forget(world: World, person: Person) -> None:
    """His stream ends, and that is no fault."""
    world.people.remove(person)
    person.abort()


run(play)
