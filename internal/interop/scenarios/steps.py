"""What the scenarios share: people with slixmpp clients, steps in plain words, and the transcript when one fails.

A scenario is `async def play(world)` given to `run`. It waits for stanzas, never for time to pass: what must not
come is looked for after a later stanza that can not overtake it has arrived.
"""

import asyncio
import collections
import json
import logging
import socket
import sys
import traceback
import xml.etree.ElementTree as ET
from pathlib import Path

from slixmpp import ClientXMPP
from slixmpp.xmlstream import tostring

WAIT = 20  # seconds for any one stanza: more than a busy machine needs, less than a verifier's 30 s limit
TRANSCRIPT = 40  # last stanzas shown of each person

NS = {
    "c": "jabber:client", "roster": "jabber:iq:roster", "moved": "urn:xmpp:moved:1",
    "pubsub": "http://jabber.org/protocol/pubsub", "event": "http://jabber.org/protocol/pubsub#event",
    "disco": "http://jabber.org/protocol/disco#info", "delay": "urn:xmpp:delay", "vcard": "vcard-temp",
    "data": "jabber:x:data", "push": "urn:xmpp:push:0", "block": "urn:xmpp:blocking", "e": "urn:ietf:params:xml:ns:xmpp-stanzas", "nick": "http://jabber.org/protocol/nick",
}
for prefix, uri in NS.items():
    ET.register_namespace("" if prefix == "c" else prefix, uri)


class Failed(Exception):
    """A server did not do what it should; the text says what was awaited."""


def settings() -> dict:
    """What the driver says of this run: the file named on the command line."""
    return json.loads(Path(sys.argv[1]).read_text())


def step(text: str) -> None:
    print("-", text, flush=True)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def bare(jid: str) -> str:
    return jid.partition("/")[0]


def stanza(name: str, sender: str | None = None, has: str | None = None, text: str | None = None, **attributes: str):
    """A predicate. `sender` without resource stands for any resource; `has` is a path with NS's prefixes, and
    `text` what the element there says. An attribute given as "" must be absent."""

    def matches(xml: ET.Element) -> bool:
        came_from = xml.get("from", "")
        if xml.tag != f"{{jabber:client}}{name}":
            return False
        if sender is not None and sender != came_from and ("/" in sender or sender != bare(came_from)):
            return False
        if any(xml.get(key, "") != value for key, value in attributes.items()):
            return False
        if has is None:
            return True
        found = xml.findall(has, NS)
        return any(text is None or element.text == text for element in found)

    return matches


def push(jid: str, subscription: str | None = None, **attributes: str):
    """A predicate: a roster push of one item. An attribute given as "" must be absent."""

    def matches(xml: ET.Element) -> bool:
        item = xml.find("roster:query/roster:item", NS)
        if xml.get("type") != "set" or item is None or item.get("jid") != jid:
            return False
        if subscription is not None and item.get("subscription") != subscription:
            return False
        return all(item.get(key, "") == value for key, value in attributes.items())

    return matches


class Person(ClientXMPP):
    """One client of one account. Nothing is answered or approved but what the scenario says, and roster pushes."""

    def __init__(self, name: str, role: dict, resource: str, direct_tls: bool, tls_version=None):
        super().__init__(f"{role['jid']}/{resource}", role["password"])
        self.name, self.role, self.account = name, role, role["jid"]
        self.auto_authorize, self.auto_subscribe = None, False
        self.ca_certs = Path(role["authority"])
        self.ssl_context.check_hostname = True
        if tls_version:
            self.ssl_context.maximum_version = tls_version
        self.direct_tls = direct_tls
        if direct_tls:
            self.ssl_context.set_alpn_protocols(["xmpp-client"])  # XEP-0368 §4
        for plugin in "xep_0030", "xep_0054", "xep_0115", "xep_0163", "xep_0191", "xep_0199", "xep_0203", "xep_0352":
            self.register_plugin(plugin)
        mechanisms = self["feature_mechanisms"]
        mechanisms.sasl_callback = self._sound_binding(mechanisms.sasl_callback)
        self._inbox: list[ET.Element] = []
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self.transcript: collections.deque[str] = collections.deque(maxlen=TRANSCRIPT)
        for event in "failed_all_auth", "stream_error", "connection_failed", "ssl_invalid_chain", "disconnected":
            self.add_event_handler(event, lambda reason, event=event: self._end(f"{event} {reason or ''}"))

    def _sound_binding(self, credentials):
        """Debian's slixmpp 1.8.3 binds to tls-unique on TLS 1.3 too, where it is undefined (RFC 9266 §3), and then
        insists on having been able to: no server with tls-exporter lets it in. 1.8.5 does what is done here."""

        def sound(required: set, optional: set) -> dict:
            values = credentials(required, optional)
            if self.tls() == "TLSv1.3":
                values.pop("channel_binding", None)
            return values

        return sound

    async def get_dns_records(self, domain, port=None):
        return [(self.role["jid"].partition("@")[2], self.role["host"],
                 self.role["direct_tls" if self.direct_tls else "starttls"])]

    async def log_in(self, presence: bool = True, interested: bool = True) -> "Person":
        started = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: started.done() or started.set_result(None))
        self.connect(use_ssl=self.direct_tls)
        await self._until(started.done, f"{self.name}'s login")
        self.transcript.clear()  # a login that failed is shown, one that worked is not
        if interested:
            await self.roster_items()
        if presence:
            self.tell("<presence/>")
            await self.expect("his own presence", stanza("presence", self.boundjid.full))
        return self

    def mechanism(self) -> str:
        return self["feature_mechanisms"].mech.name

    def tls(self) -> str:
        return self.transport.get_extra_info("ssl_object").version()

    async def log_out(self) -> None:
        """Returns when the server has closed its half too: its unavailable presence is then on the way."""
        if self._ended is None:
            self._ended = "logged out"
            gone = asyncio.get_running_loop().create_future()
            self.add_event_handler("disconnected", lambda _: gone.done() or gone.set_result(None))
            self.disconnect(wait=WAIT)
            await asyncio.wait_for(gone, WAIT)

    def tell(self, text: str) -> None:
        self.send(text)  # not send_raw: it would overtake what send_message has queued

    async def ask(self, kind: str, to: str | None, payload: str) -> ET.Element:
        """Sends an IQ and returns the reply, an error too. Only a reply from the address that was asked counts."""
        ident = self.new_id()
        address = f" to='{to}'" if to else ""
        self.tell(f"<iq type='{kind}' id='{ident}'{address}>{payload}</iq>")

        def replies(xml):
            came_from = xml.get("from", self.account)
            right = came_from == to if to else bare(came_from) == self.account
            return xml.tag == "{jabber:client}iq" and xml.get("id") == ident and right \
                and xml.get("type") in ("result", "error")

        return await self.expect(f"the reply of {to or 'his server'}", replies)

    async def roster_items(self) -> dict[str, ET.Element]:
        reply = await self.ask("get", None, "<query xmlns='jabber:iq:roster'/>")
        return {item.get("jid"): item for item in reply.findall("roster:query/roster:item", NS)}

    async def expect(self, what: str, matches) -> ET.Element:
        """Takes the first stanza that matches out of the inbox, waiting for it where it has not come yet."""
        found: list[ET.Element] = []

        def take() -> bool:
            for index, xml in enumerate(self._inbox):
                if matches(xml):
                    found.append(self._inbox.pop(index))
                    return True
            return False

        await self._until(take, f"{self.name} should receive {what}")
        return found[0]

    def all_of(self, matches) -> list[ET.Element]:
        """Takes all that match out of the inbox, as far as they have come."""
        found = [xml for xml in self._inbox if matches(xml)]
        self._inbox = [xml for xml in self._inbox if xml not in found]
        return found

    def none_of(self, what: str, matches) -> None:
        """Call after something that would have come later has come."""
        wrong = next(filter(matches, self._inbox), None)
        check(wrong is None, f"{self.name} should not receive {what}" + ("" if wrong is None else f": {tostring(wrong)}"))

    async def settle(self) -> None:
        """Returns when all that the server has sent to this client so far is in the inbox."""
        await self.ask("get", self.account.partition("@")[2], "<ping xmlns='urn:xmpp:ping'/>")

    async def subscribe(self, other: "Person") -> None:
        """Asks to see the other one, who approves; both stay online. RFC 6121 §3.1."""
        self.tell(f"<presence type='subscribe' to='{other.account}'/>")
        await other.expect("the request", stanza("presence", self.account, type="subscribe"))
        other.tell(f"<presence type='subscribed' to='{self.account}'/>")
        await self.expect("the approval", stanza("presence", other.account, type="subscribed"))
        await self.expect("the presence", stanza("presence", other.boundjid.full, type=""))

    async def befriend(self, other: "Person") -> None:
        await self.subscribe(other)
        await other.subscribe(self)

    async def _until(self, holds, what: str) -> None:
        try:
            async with asyncio.timeout(WAIT):
                while not holds():
                    check(self._ended is None, f"{what}; but the stream ended: {self._ended}")
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise Failed(f"{what}: nothing within {WAIT} s") from None

    def _end(self, why: str) -> None:
        self._ended = self._ended or why.strip()
        self.cancel_connection_attempt()
        self._arrived.set()

    def event(self, name, data={}):
        super().event(name, data)
        if name == "session_start":
            self._arrived.set()

    def incoming_filter(self, xml):
        self.transcript.append(f"<- {tostring(xml)}")
        self._inbox.append(xml)
        self._arrived.set()
        return xml

    def send_raw(self, data):
        text = data if isinstance(data, str) else data.decode()
        if "urn:ietf:params:xml:ns:xmpp-sasl" not in text:
            self.transcript.append(f"-> {text}")
        super().send_raw(data)


class World:
    """The servers, accounts and logs of this run, from the JSON file that the driver wrote."""

    def __init__(self, given: dict):
        self.settings = given
        self.people: list[Person] = []

    def client(self, role: str, resource: str = "phone", direct_tls: bool = False, **more) -> Person:
        person = Person(f"{role}/{resource}", self.settings["roles"][role], resource, direct_tls, **more)
        self.people.append(person)
        return person

    async def log_in(self, role: str, resource: str = "phone", direct_tls: bool = False) -> Person:
        return await self.client(role, resource, direct_tls).log_in()

    def jid(self, role: str) -> str:
        return self.settings["roles"][role]["jid"]

    def kind(self, role: str) -> str:
        """What serves this role: prosody, ejabberd, pibox."""
        return self.settings["roles"][role]["server"]

    def control(self, *commands: str) -> None:
        """Has the driver do something to servers: "freeze", "thaw", "kill", "stop" or "start", and a domain."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(WAIT)
            link.connect(self.settings["control"])
            with link.makefile("rw") as lines:
                for command in commands:
                    lines.write(command + "\n")
                    lines.flush()
                    answer = lines.readline().strip()
                    check(answer == "ok", f"{command}: {answer}")

    def log_since_start(self, domain: str) -> str:
        """What the server of this domain logged while this scenario ran."""
        log = self.settings["servers"][domain]
        with open(log["log"], errors="replace") as file:
            file.seek(log["offset"])
            return file.read()


async def _perform(play, world: World, limit: float) -> None:
    async with asyncio.timeout(limit):
        await play(world)
        await asyncio.gather(*(person.log_out() for person in world.people))


def run(play) -> None:
    """Plays the scenario against the world named on the command line; exits 1 with the transcript when it fails."""
    logging.disable(logging.CRITICAL)  # slixmpp tells of refusals that are awaited
    world = World(settings())
    try:
        asyncio.run(_perform(play, world, world.settings["limit"]))
    except Exception as error:
        print(f"FAILED: {error or type(error).__name__}")
        if not isinstance(error, Failed):
            traceback.print_exc(file=sys.stdout)
        for person in world.people:
            print(f"\n{person.name} {person.account}")
            print("\n".join("  " + line for line in person.transcript))
        sys.exit(1)
