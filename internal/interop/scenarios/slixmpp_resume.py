"""A phone that loses its connection goes on where it was (XEP-0198), with slixmpp."""

import asyncio

from steps import WAIT, World, check, run, stanza, step

MESSAGES = 30


class Phone:
    """Somebody's client with stream management."""

    def __init__(self, person):
        self.person = person
        person.register_plugin("xep_0198")

    def event(self, name: str) -> asyncio.Future:
        happened = asyncio.get_running_loop().create_future()
        self.person.add_event_handler(name, lambda data: happened.done() or happened.set_result(data), disposable=True)
        return happened

    async def enable(self) -> None:
        enabled = self.event("sm_enabled")
        await self.person.log_in()
        answer = await asyncio.wait_for(enabled, WAIT)
        check(answer["resume"] and answer["id"], "the session should be resumable")

    async def lose(self) -> None:
        gone = self.event("disconnected")
        self.person.abort()
        await asyncio.wait_for(gone, WAIT)
        self.person._ended = None

    async def count(self) -> int:
        """What the server handled. slixmpp asks now and then by itself: what it was told before does not count."""
        await self.person.settle()
        self.person._inbox[:] = [xml for xml in self.person._inbox if xml.tag != "{urn:xmpp:sm:3}a"]
        self.person["xep_0198"].request_ack()
        answer = await self.person.expect("the count", lambda xml: xml.tag == "{urn:xmpp:sm:3}a")
        return int(answer.get("h"))

    async def resume(self) -> None:
        resumed = self.event("session_resumed")
        self.person.connect(use_ssl=self.person.direct_tls)
        await asyncio.wait_for(resumed, WAIT)


async def play(world: World) -> None:
    romeo, juliet = Phone(world.client("romeo")), await world.log_in("juliet")
    await romeo.enable()
    step("Romeo's phone enables stream management")
    await romeo.person.befriend(juliet)
    for round_, how in enumerate(("in the middle of messages", "again", "once more")):
        step(f"and loses its connection {how}; Juliet writes on")
        for number in range(MESSAGES):
            if number == MESSAGES // 2:
                await romeo.lose()
            juliet.send_message(mto=romeo.person.account, mbody=f"{round_} {number}", mtype="chat")
        await juliet.ask("get", romeo.person.account, "<ping xmlns='urn:xmpp:ping'/>")  # keeps behind what she wrote him
        juliet.none_of("his leaving", stanza("presence", romeo.person.boundjid.full, type="unavailable"))
        await romeo.resume()
        await romeo.person.settle()
        got = [text for xml in romeo.person._inbox if (text := xml.findtext("{jabber:client}body"))]
        check(got == [f"{round_} {number}" for number in range(MESSAGES)], f"each message should arrive once and in order, not {got}")
        romeo.person._inbox.clear()
    step("What it sends is acknowledged")
    before = await romeo.count()
    romeo.person.send_message(mto=juliet.account, mbody="here I am", mtype="chat")
    await juliet.expect("it", stanza("message", romeo.person.boundjid.full, has="c:body", text="here I am"))
    check(await romeo.count() == before + 2, "the count should be two more: the message, and asking for it")
    step("A phone that logs out is gone")
    await romeo.person.log_out()
    await juliet.expect("unavailable", stanza("presence", romeo.person.boundjid.full, type="unavailable"))


run(play)
