"""The same household with aioxmpp, a client library that is strict about what it reads."""

import asyncio
import contextlib
import logging
import sys
import traceback

import aiosasl
import aioxmpp
import aioxmpp.connector
import aioxmpp.security_layer
import aioxmpp.xso
import lxml.etree
from aioxmpp import blocking, disco, entitycaps, pep, ping, presence, pubsub, roster, vcard

from steps import WAIT, Failed, check, settings, step

SERVICES = (
    roster.RosterClient, pep.PEPClient, blocking.BlockingClient, vcard.VCardService, disco.DiscoClient,
    ping.PingService, disco.DiscoServer, entitycaps.EntityCapsService, presence.PresenceClient,
    aioxmpp.dispatcher.SimpleMessageDispatcher,
)
NICK = "http://jabber.org/protocol/nick"


@pubsub.xso.as_payload_class
class Nick(aioxmpp.xso.XSO):
    """XEP-0172, as an example of what people publish about themselves."""

    TAG = NICK, "nick"
    text = aioxmpp.xso.Text(default=None)

    def __init__(self, text=None):
        super().__init__()
        self.text = text


class Events:
    """Turns an aioxmpp signal into something to wait for; what arrives meanwhile is kept."""

    def __init__(self, signal):
        self._queue = asyncio.Queue()
        signal.connect(lambda *arguments, **_: self._queue.put_nowait(arguments) and None)

    async def next(self, what: str, matches=lambda *_: True):
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    arguments = await self._queue.get()
                    if matches(*arguments):
                        return arguments
        except TimeoutError:
            raise Failed(f"{what}: nothing within {WAIT} s") from None


def tls_context(authority: str):
    context = aioxmpp.security_layer.default_ssl_context()
    context.load_verify_locations(authority)
    return context


def make_client(role: dict, resource: str, direct_tls: bool = False, password: str | None = None):
    layer = aioxmpp.make_security_layer(
        password or role["password"], ssl_context_factory=lambda: tls_context(role["authority"]),
    )
    connector = aioxmpp.connector.XMPPOverTLSConnector() if direct_tls else aioxmpp.connector.STARTTLSConnector()
    port = role["direct_tls" if direct_tls else "starttls"]
    return aioxmpp.PresenceManagedClient(
        aioxmpp.JID.fromstr(role["jid"]).replace(resource=resource), layer,
        override_peer=[(role["host"], port, connector)], max_initial_attempts=1,
    )


async def play(world: dict, stack: contextlib.AsyncExitStack) -> None:
    roles = world["roles"]
    romeo = make_client(roles["romeo"], "phone")
    tablet = make_client(roles["romeo"], "tablet", direct_tls=True)
    juliet = make_client(roles["juliet"], "phone")
    thief = make_client(roles["romeo"], "thief", password="wrong")
    step("A wrong password is refused")
    try:
        async with thief.connected():
            raise Failed("a wrong password opened the door")
    except aiosasl.AuthenticationFailure:
        pass  # it asks for another password after not-authorized, and there is none
    step("Romeo logs in with STARTTLS, and on a tablet with direct TLS; Juliet too")
    for client in romeo, tablet, juliet:
        for service in SERVICES:
            client.summon(service)
    nicknames = juliet.summon(pep.PEPClient).claim_pep_node(NICK, notify=True)
    published = Events(nicknames.on_item_publish)
    for client in romeo, tablet, juliet:
        await stack.enter_async_context(client.connected())
    await manage_roster(romeo, tablet, aioxmpp.JID.fromstr(roles["benvolio"]["jid"]))
    await subscribe(romeo, juliet)
    await chat(romeo, tablet, juliet)
    await publish(romeo, juliet, published)
    await queries(romeo, juliet)
    await block(romeo, juliet)


async def manage_roster(romeo, tablet, friend) -> None:
    mine, other = romeo.summon(roster.RosterClient), tablet.summon(roster.RosterClient)
    added, renamed, removed = (Events(signal) for signal in (
        other.on_entry_added, other.on_entry_name_changed, other.on_entry_removed))
    step("Romeo adds a contact; the tablet is told")
    await mine.set_entry(friend, name="Benvolio", add_to_groups={"Friends"})
    entry, = await added.next("the push", lambda item: item.jid == friend)
    check((entry.name, entry.groups) == ("Benvolio", {"Friends"}), f"name and group should be kept: {entry}")
    step("renames him")
    await mine.set_entry(friend, name="Cousin Ben", remove_from_groups={"Friends"})
    entry, = await renamed.next("the push", lambda item: item.jid == friend)
    check(entry.name == "Cousin Ben", "the name should be the new one")
    step("and removes him")
    await mine.remove_entry(friend)
    await removed.next("the push", lambda item: item.jid == friend)


async def subscribe(romeo, juliet) -> None:
    step("Romeo and Juliet subscribe to each other")
    for one, other in (romeo, juliet), (juliet, romeo):
        asks, answers = one.summon(roster.RosterClient), other.summon(roster.RosterClient)
        request, approved = Events(answers.on_subscribe), Events(asks.on_subscribed)
        there = Events(one.summon(presence.PresenceClient).on_available)
        asks.subscribe(other.local_jid.bare())
        await request.next("the request", lambda stanza: stanza.from_.bare() == one.local_jid.bare())
        answers.approve(one.local_jid.bare())
        await approved.next("the approval", lambda stanza: stanza.from_.bare() == other.local_jid.bare())
        await there.next("the presence", lambda who, _: who == other.local_jid)


async def chat(romeo, tablet, juliet) -> None:
    step("They chat, to one device and to two")
    inboxes = {}
    for client in romeo, tablet, juliet:
        dispatcher = client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        inboxes[client] = asyncio.Queue()
        dispatcher.register_callback(aioxmpp.MessageType.CHAT, None, inboxes[client].put_nowait)
    for sender, to, text, receivers in (
        (romeo, juliet.local_jid, "But soft!", [juliet]),
        (juliet, romeo.local_jid.bare(), "Ay me 🌙", [romeo, tablet]),
    ):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=to)
        message.body[None] = text
        await sender.send(message)
        for receiver in receivers:
            got = await asyncio.wait_for(inboxes[receiver].get(), WAIT)
            check((got.from_, got.body.any()) == (sender.local_jid, text), f"the message should be whole: {got}")
    for client in inboxes:
        client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher).unregister_callback(aioxmpp.MessageType.CHAT, None)


async def publish(romeo, juliet, events: Events) -> None:
    step("Juliet's client wants nicknames (+notify); Romeo publishes one, she gets it, and reads it")
    await romeo.summon(pep.PEPClient).publish(NICK, Nick("Montague"), id_="current")
    _, _, item, *_ = await events.next("the event", lambda who, *_: who == romeo.local_jid.bare())
    check(item.registered_payload.text == "Montague", "the event should hold the nickname")
    read = await juliet.summon(pubsub.PubSubClient).get_items_by_id(romeo.local_jid.bare(), NICK, ["current"])
    check(read.payload.items[0].registered_payload.text == "Montague", "the item should be readable")


async def queries(romeo, juliet) -> None:
    step("Ping, service discovery, and a vCard that Juliet reads")
    await ping.ping(romeo, romeo.local_jid.replace(localpart=None, resource=None))
    await ping.ping(romeo, juliet.local_jid)
    found = await romeo.summon(disco.DiscoClient).query_info(romeo.local_jid.replace(localpart=None, resource=None))
    check(("server", "im") in {(i.category, i.type_) for i in found.identities}, "the server should say that it is one")
    card = aioxmpp.vcard.xso.VCard()
    card.elements.append(lxml.etree.fromstring("<FN xmlns='vcard-temp'>Romeo Montague</FN>"))
    await romeo.summon(vcard.VCardService).set_vcard(card)
    seen = await juliet.summon(vcard.VCardService).get_vcard(romeo.local_jid.bare())
    check("Romeo Montague" in [element.text for element in seen.elements], "the vCard should be his")


async def block(romeo, juliet) -> None:
    step("Juliet blocks Romeo, he sees her leave; she takes it back, he sees her again")
    watched = romeo.summon(presence.PresenceClient)
    gone, back = Events(watched.on_bare_unavailable), Events(watched.on_bare_available)
    blocks = juliet.summon(blocking.BlockingClient)
    await blocks.block_jids([romeo.local_jid.bare()])
    await gone.next("unavailable", lambda stanza: stanza.from_.bare() == juliet.local_jid.bare())
    await blocks.unblock_jids([romeo.local_jid.bare()])
    await back.next("available", lambda stanza: stanza.from_ == juliet.local_jid)


def run(play) -> None:
    """Plays the scenario against the world named on the command line; exits 1 when it fails."""

    async def main() -> None:
        world = settings()
        async with asyncio.timeout(world["limit"]), contextlib.AsyncExitStack() as stack:
            await play(world, stack)

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(main())
    except Exception as error:
        print(f"FAILED: {error or type(error).__name__}")
        if not isinstance(error, Failed):
            traceback.print_exc(file=sys.stdout)
        sys.exit(1)


if __name__ == "__main__":
    run(play)
