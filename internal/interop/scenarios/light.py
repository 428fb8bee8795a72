"""A client that keeps a roster and little else: whole families of them log in within a second or two.

Direct TLS, SCRAM-SHA-1, no resumption. Nothing is answered but what `approves` names, and roster pushes.
"""

import asyncio
import base64
import collections
import dataclasses
import hashlib
import hmac
import itertools
import secrets
import ssl
import xml.etree.ElementTree as ET
from xml.sax.saxutils import quoteattr

from steps import NS, WAIT, Failed, bare, check

STREAM = "{http://etherx.jabber.org/streams}stream"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


@dataclasses.dataclass(frozen=True)
class Item:
    """A roster item: what RFC 6121 §2.1.2 knows of a contact."""

    sub: str = "none"
    out: bool = False
    approved: bool = False
    name: str | None = None
    groups: frozenset[str] = frozenset()

    @classmethod
    def read(cls, xml: ET.Element) -> "Item":
        groups = frozenset(group.text or "" for group in xml.findall("roster:group", NS))
        return cls(xml.get("subscription", "none"), xml.get("ask") == "subscribe", xml.get("approved") in ("true", "1"),
                   xml.get("name") or None, groups)


class Light:
    """One connection of one account. `items` follows the roster, `requests` holds the subscription requests that came."""

    def __init__(self, role: dict):
        self.role, self.account, self.kind = role, role["jid"], role["server"]
        self.items: dict[str, Item] = {}
        self.requests: dict[str, ET.Element] = {}
        self.messages: list[ET.Element] = []
        self.asked: collections.Counter[str] = collections.Counter()  # how often a request came, by its sender
        self.approves: set[str] = set()
        self.insists = False  # sends its requests and answers again where they come back: a server was not there yet
        self._sent: dict[str, dict[str, None]] = collections.defaultdict(dict)
        self._back: set[str] = set()
        self._replies: dict[str, asyncio.Future] = {}
        self._ids = (f"i{number}" for number in itertools.count())
        self._changed = asyncio.Event()
        self.available, self._ended = False, False

    async def log_in(self, presence: bool = False) -> "Light":
        """With presence it is available, and gets the requests and messages that waited for it."""
        async with asyncio.timeout(WAIT):
            await self._connect()
        self._task = asyncio.create_task(self._read())
        await self.ask("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")
        await self.ask("get", f"<query xmlns='{NS['roster']}'/>")
        if presence:
            await self.come()
        return self

    async def come(self) -> None:
        self.available = True
        self.tell("<presence/>")
        await self.settle()

    async def log_out(self) -> None:
        if not self._ended:
            self._ended = True
            self.tell("</stream:stream>")
            try:  # the server's own end says that it has heard all
                await asyncio.wait_for(self._task, WAIT)
            except TimeoutError:
                raise Failed(f"{self.account}'s server should end the stream") from None
            self._writer.close()

    def cut(self) -> None:
        """His server has gone."""
        self._ended = True
        self._writer.close()

    def tell(self, text: str) -> None:
        self._writer.write(text.encode())

    def presence(self, kind: str, to: str, children: str = "") -> None:
        text = f"<presence type='{kind}' to={quoteattr(to)}>{children}</presence>"
        self._sent[to][text] = None
        self.tell(text)
        if kind in ("subscribed", "unsubscribed"):
            self.requests.pop(to, None)  # answered

    async def ask(self, kind: str, payload: str, to: str = "", refused: bool = False) -> ET.Element:
        """The result; an error fails the scenario, where it may not be `refused`."""
        ident = next(self._ids)
        reply = self._replies[ident] = asyncio.get_running_loop().create_future()
        self.tell(f"<iq type='{kind}' id='{ident}'{f' to={quoteattr(to)}' if to else ''}>{payload}</iq>")
        try:
            async with asyncio.timeout(WAIT):
                xml = await reply
        except TimeoutError:
            raise Failed(f"{self.account} gets no reply to {payload}") from None
        check(refused or xml.get("type") == "result", f"{self.account} asks {payload} and gets {ET.tostring(xml, 'unicode')}")
        return xml

    async def settle(self) -> None:
        """Returns when all that his server sent so far has come."""
        await self.ask("get", "<ping xmlns='urn:xmpp:ping'/>", self.account.partition("@")[2])

    async def put(self, jid: str, name: str, group: str) -> None:
        await self.ask("set", f"<query xmlns='{NS['roster']}'><item jid={quoteattr(jid)} name={quoteattr(name)}>"
                              f"<group>{group}</group></item></query>")

    async def block(self, jid: str) -> None:
        await self.ask("set", f"<block xmlns='{NS['block']}'><item jid={quoteattr(jid)}/></block>")

    async def blocked(self) -> set[str]:
        reply = await self.ask("get", f"<blocklist xmlns='{NS['block']}'/>")
        return {item.get("jid") for item in reply.iterfind("block:blocklist/block:item", NS)}

    def told(self, sender: str, *words: str) -> int:
        """How many messages of an address say all these words."""
        return sum(bare(message.get("from", "")) == sender and all(word in message.findtext("c:body", "", NS) for word in words)
                   for message in self.messages)

    async def until(self, holds, limit: float = WAIT) -> bool:
        """Whether it came to hold within so many seconds."""
        try:
            async with asyncio.timeout(limit):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _connect(self) -> None:
        domain = self.account.partition("@")[2]
        features = await self._reach(domain)
        offered = {mechanism.text for mechanism in features.iter(f"{{{SASL}}}mechanism")}
        check("SCRAM-SHA-1" in offered, f"{domain} should offer SCRAM-SHA-1 beside {offered}")
        await self._authenticate()
        self._open_stream(domain)
        await self._next()

    async def _reach(self, domain: str) -> ET.Element:
        """Opens a stream, and returns what it offers."""
        context = ssl.create_default_context(cafile=self.role["authority"])
        context.set_alpn_protocols(["xmpp-client"])
        self._reader, self._writer = await asyncio.open_connection(
            self.role["host"], self.role["direct_tls"], ssl=context, server_hostname=domain)
        self._open_stream(domain)
        return await self._next()

    def _open_stream(self, domain: str) -> None:
        self._parser, self._root, self._depth = ET.XMLPullParser(("start", "end")), None, 0
        self.tell(f"<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client' "
                  "xmlns:stream='http://etherx.jabber.org/streams'>")

    async def _authenticate(self) -> None:
        """RFC 5802, without channel binding."""
        first = f"n={self.account.partition('@')[0]},r={secrets.token_hex(12)}"
        self.tell(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{_base64('n,,' + first)}</auth>")
        challenge = base64.b64decode((await self._next()).text or "").decode()
        values = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha1", self.role["password"].encode(), base64.b64decode(values["s"]), int(values["i"]))
        last = f"c=biws,r={values['r']}"
        key = hmac.digest(salted, b"Client Key", "sha1")
        signature = hmac.digest(hashlib.sha1(key).digest(), f"{first},{challenge},{last}".encode(), "sha1")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.tell(f"<response xmlns='{SASL}'>{_base64(f'{last},p={base64.b64encode(proof).decode()}')}</response>")
        answer = await self._next()
        check(answer.tag == f"{{{SASL}}}success", f"{self.account} logs in and gets {ET.tostring(answer, 'unicode')}")

    async def _next(self) -> ET.Element | None:
        """The next child of the stream; None at its end."""
        while True:
            for event, xml in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "start" and self._depth == 1:
                    self._root = xml
                elif event == "end" and self._depth == 1:
                    self._root.remove(xml)
                    return xml
                elif event == "end" and self._depth == 0:
                    return None
            data = await self._reader.read(65536)
            if not data:
                return None
            self._parser.feed(data)

    async def _read(self) -> None:
        try:
            while (xml := await self._next()) is not None:
                self._take(xml)
                self._changed.set()
        except (ConnectionError, ssl.SSLError):
            pass  # his server has ended
        self._ended = True

    def _take(self, xml: ET.Element) -> None:
        kind, sender = xml.get("type"), xml.get("from", self.account)
        if xml.tag == "{jabber:client}presence" and kind == "subscribe":
            self.requests[bare(sender)] = xml
            self.asked[bare(sender)] += 1
            if bare(sender) in self.approves:
                self.presence("subscribed", bare(sender))
        elif xml.tag == "{jabber:client}presence" and kind == "unsubscribe":
            self.requests.pop(bare(sender), None)
        elif xml.tag == "{jabber:client}presence" and kind == "error" and self.insists:
            if sender not in self._back:  # one of each comes for each that was sent
                self._back.add(sender)
                asyncio.get_running_loop().call_later(1, self._again, sender)
        elif xml.tag == "{jabber:client}message":
            self.messages.append(xml)
        elif xml.tag == "{jabber:client}iq" and kind in ("result", "error"):
            # Here and not where the reply is awaited: by then a push that stood behind it may have been taken.
            for item in xml.iterfind("roster:query/roster:item", NS):
                self.items[item.get("jid")] = Item.read(item)
            reply = self._replies.pop(xml.get("id"), None)
            if reply is not None and not reply.done():
                reply.set_result(xml)
        elif xml.tag == "{jabber:client}iq":
            self._asked(xml)

    def _again(self, to: str) -> None:
        self._back.discard(to)
        if not self._ended:
            self.tell("".join(self._sent[to]))

    def _asked(self, xml: ET.Element) -> None:
        item = xml.find("roster:query/roster:item", NS)
        kind, text = "result", ""
        if item is None and xml.find("block:*", NS) is None:
            kind, text = "error", "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        elif item is not None and item.get("subscription") == "remove":
            self.items.pop(item.get("jid"), None)
        elif item is not None:
            self.items[item.get("jid")] = Item.read(item)
        to = f" to={quoteattr(xml.get('from'))}" if xml.get("from") else ""
        self.tell(f"<iq type='{kind}' id={quoteattr(xml.get('id'))}{to}>{text}</iq>")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
