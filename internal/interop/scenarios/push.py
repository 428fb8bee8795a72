"""Push notifications (XEP-0357): a push service on another server, an external component (XEP-0114), wakes Romeo's phone.

Only pibox puts together what comes while the service has not answered, and lets the service end a registration by a notice.
"""

import asyncio
import xml.etree.ElementTree as ET

from slixmpp import ComponentXMPP
from slixmpp.xmlstream import tostring
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from steps import NS, WAIT, Failed, World, check, run, stanza, step

NODE = "pubsub:pubsub/pubsub:publish[@node='{}']"
SUMMARY = "pubsub:pubsub/pubsub:publish/pubsub:item/push:notification/data:x/data:field"
OPTIONS = "pubsub:pubsub/pubsub:publish-options/data:x/data:field[@var='secret']/data:value"

BODY = "It is the east"


class Service(ComponentXMPP):
    """A push service that answers nothing by itself."""

    def __init__(self, given: dict, host: str):
        super().__init__(given["jid"], given["secret"], host, given["port"])
        self._told: asyncio.Queue[ET.Element] = asyncio.Queue()
        self.register_handler(Callback("publication", MatchXPath(f"{{{self.default_ns}}}iq"),
                                       lambda iq: self._told.put_nowait(iq.xml)))

    async def start(self) -> "Service":
        started = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: started.done() or started.set_result(None))
        self.connect()
        await asyncio.wait_for(started, WAIT)
        return self

    async def told(self, node: str, count: int) -> ET.Element:
        try:
            iq = await asyncio.wait_for(self._told.get(), WAIT)
        except TimeoutError:
            raise Failed(f"the push service should be told of {node}: nothing within {WAIT} s") from None
        text = tostring(iq)
        check(iq.find(NODE.format(node), NS) is not None, f"it should be told of {node}, not {text}")
        fields = {field.get("var"): field.findtext("data:value", namespaces=NS) for field in iq.findall(SUMMARY, NS)}
        check(fields["message-count"] == str(count), f"it should be told of {count} messages, not {text}")
        check("juliet" not in text and BODY not in text, f"it should not be told who wrote what: {text}")
        return iq

    def answer(self, iq: ET.Element, error: str | None = None) -> None:
        kind, content = "result", ""
        if error:
            kind, content = "error", f"<error type='cancel'><{error} xmlns='{NS['e']}'/></error>"
        self.send_raw(f"<iq type='{kind}' id='{iq.get('id')}' from='{iq.get('to')}' to='{iq.get('from')}'>{content}</iq>")

    def quiet(self) -> None:
        check(self._told.empty(), "the push service should not be told this")


async def play(world: World) -> None:
    given = world.settings["component"]
    service = await Service(given, world.settings["roles"]["service"]["host"]).start()
    pibox = world.kind("romeo") == "pibox"
    juliet, romeo = await world.log_in("juliet"), await phone(world)
    await romeo.befriend(juliet)

    step("Romeo's account offers push; his phone enables it")
    reply = await romeo.ask("get", romeo.account, f"<query xmlns='{NS['disco']}'/>")
    check(reply.find("disco:query/disco:feature[@var='urn:xmpp:push:0']", NS) is not None, "the account should offer it")
    await enable(romeo, given["jid"], "first")
    step("While it is connected nobody is told; when it is gone the service learns that something came, and no more")
    await write(juliet, romeo, "connected")
    await read(romeo, juliet, "connected")
    await leave(romeo, juliet)
    service.quiet()
    await write(juliet, romeo)
    iq = await service.told("first", 1)
    check(iq.get("from") == romeo.boundjid.host, "the server should publish")
    check(iq.findtext(OPTIONS, namespaces=NS) == "s3cret", "the publish options should be passed on")
    if pibox:
        step("What comes before the service answered is told together")
        for text in "two", "three":
            await write(juliet, romeo, text)
        service.quiet()
        service.answer(iq)
        iq = await service.told("first", 3)
    step("The service says that it does not know the node: that registration ends, another one goes on")
    service.answer(iq, error="item-not-found")
    romeo = await phone(world)
    await enable(romeo, given["jid"], "second")
    await leave(romeo, juliet)
    await write(juliet, romeo)
    service.answer(await service.told("second", 1))
    await connection_lost(world, service, juliet)
    if pibox:
        await revoked(world, service, juliet)
    service.quiet()
    await service.disconnect()


async def connection_lost(world: World, service: Service, juliet) -> None:
    step("The phone loses its connection without a word, and may resume its session: the service is told")
    romeo = await phone(world, stream_management=True)
    await enable(romeo, service.boundjid.full, "second")
    await romeo.settle()
    romeo.abort()
    await write(juliet, romeo, "in the tunnel")
    service.answer(await service.told("second", 1))
    romeo = await phone(world)
    await read(romeo, juliet, "in the tunnel")
    await leave(romeo, juliet)


async def revoked(world: World, service: Service, juliet) -> None:
    step("The service takes the right to publish back")
    romeo = await phone(world)
    await enable(romeo, service.boundjid.full, "third")
    service.send_raw(f"<message from='{service.boundjid}' to='{romeo.account}'><pubsub xmlns='{NS['pubsub']}' node='second'>"
                     f"<affiliation jid='{romeo.account}' affiliation='none'/></pubsub></message>"
                     f"<message from='{service.boundjid}' to='{romeo.account}'><body>done</body></message>")
    await romeo.expect("the next message", stanza("message", str(service.boundjid), has="c:body", text="done"))
    romeo.none_of("the notice", stanza("message", has="pubsub:pubsub"))
    await leave(romeo, juliet)
    await write(juliet, romeo)
    service.answer(await service.told("third", 1))


async def phone(world: World, stream_management: bool = False):
    romeo = world.client("romeo")
    if stream_management:
        romeo.register_plugin("xep_0198")
    return await romeo.log_in()


async def enable(romeo, jid: str, node: str) -> None:
    done = await romeo.ask("set", None, f"<enable xmlns='{NS['push']}' jid='{jid}' node='{node}'><x xmlns='jabber:x:data' "
                           "type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value>"
                           "</field><field var='secret'><value>s3cret</value></field></x></enable>")
    check(done.get("type") == "result", "the service should be enabled")


async def leave(romeo, juliet) -> None:
    await romeo.log_out()
    await juliet.expect("that he is gone", stanza("presence", romeo.boundjid.full, type="unavailable"))


async def write(juliet, romeo, text: str = "") -> None:
    juliet.send_message(mto=romeo.account, mbody=f"{BODY} {text}", mtype="chat")
    await juliet.settle()


async def read(romeo, juliet, text: str) -> None:
    await romeo.expect("it", stanza("message", juliet.account, has="c:body", text=f"{BODY} {text}"))


run(play)
