"""A phone that loses its connection goes on where it was (XEP-0198), with aioxmpp, which resumes by itself."""

import asyncio
import contextlib
import datetime
import socket

import aioxmpp
from aioxmpp import presence

from aioxmpp_client import SERVICES, Events, make_client, run, subscribe
from steps import WAIT, check, step

MESSAGES = 30


def chat(to, text: str) -> aioxmpp.Message:
    message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=to)
    message.body[None] = text
    return message


async def received(inbox: asyncio.Queue, number: int) -> list[str]:
    got = []
    with contextlib.suppress(TimeoutError):
        while len(got) < number:
            got.append((await asyncio.wait_for(inbox.get(), WAIT)).body.any())
    return got


async def play(world: dict, stack: contextlib.AsyncExitStack) -> None:
    romeo, juliet = (make_client(world["roles"][name], "phone") for name in ("romeo", "juliet"))
    inboxes = {}
    for client in romeo, juliet:
        client.backoff_start = datetime.timedelta(milliseconds=100)
        for service in SERVICES:
            client.summon(service)
        inboxes[client] = asyncio.Queue()
        dispatcher = client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        dispatcher.register_callback(aioxmpp.MessageType.CHAT, None, inboxes[client].put_nowait)
        await stack.enter_async_context(client.connected())
    await subscribe(romeo, juliet)
    step("Romeo's phone does stream management")
    check(romeo.stream.sm_enabled and romeo.stream.sm_resumable, "the session should be resumable")
    gone = []
    juliet.summon(presence.PresenceClient).on_unavailable.connect(lambda who, _: gone.append(who) and None)
    broken = Events(romeo.on_stream_destroyed)
    for round_, how in enumerate(("in the middle of messages", "again", "once more")):
        step(f"and loses its connection {how}; both write on")
        resumed = Events(romeo.on_stream_resumed)
        mine = [romeo.enqueue(chat(juliet.local_jid.bare(), f"{round_} {number}")) for number in range(MESSAGES)]
        for number in range(MESSAGES):
            juliet.enqueue(chat(romeo.local_jid.bare(), f"{round_} {number}"))
        await mine[0]  # acknowledged; the others are on their way
        romeo.stream._xmlstream.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await resumed.next("the resumption")
        expected = [f"{round_} {number}" for number in range(MESSAGES)]
        for client in romeo, juliet:
            got = await received(inboxes[client], MESSAGES)
            check(got == expected, f"each message should arrive once and in order, not {got}")
    await aioxmpp.ping.ping(romeo, juliet.local_jid)
    check(all(inbox.empty() for inbox in inboxes.values()), "nothing should arrive twice")
    check(not gone, "nobody should see him leave")
    check(broken._queue.empty(), "no state should be lost")


run(play)
