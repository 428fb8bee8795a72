"""Juliet's mover, as a client plays it until the box does it by itself: XEP-0283 §4.1 and §4.2."""

import xml.etree.ElementTree as ET

from steps import NS, Person, check, stanza

MOVED = NS["moved"]
PRESENCE_ONLY = (
    "<publish-options><x xmlns='jabber:x:data' type='submit'>"
    "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
    "<field var='pubsub#access_model'><value>presence</value></field></x></publish-options>"
)


async def publish_statement(old: Person, new_jid: str, options: str = "") -> None:
    reply = await old.ask("set", None, (
        f"<pubsub xmlns='{NS['pubsub']}'><publish node='{MOVED}'><item id='current'>"
        f"<moved xmlns='{MOVED}'><new-jid>{new_jid}</new-jid></moved></item></publish>{options}</pubsub>"))
    check(reply.get("type") == "result", f"the old home should take the statement: {ET.tostring(reply, 'unicode')}")


def notify(new: Person, contact: str, old_jid: str) -> None:
    new.tell(f"<presence type='subscribe' to='{contact}'>"
             f"<moved xmlns='{MOVED}'><old-jid>{old_jid}</old-jid></moved>"
             f"<status>This is my new address, I was {old_jid}</status></presence>")


async def read_statement(reader: Person, old_jid: str) -> ET.Element:
    """The reply, whatever it is."""
    return await reader.ask("get", old_jid, (
        f"<pubsub xmlns='{NS['pubsub']}'><items node='{MOVED}'><item id='current'/></items></pubsub>"))


def stated(reply: ET.Element) -> str | None:
    return reply.findtext("pubsub:pubsub/pubsub:items/pubsub:item/moved:moved/moved:new-jid", namespaces=NS)


def request_from(new_jid: str, old_jid: str | None = None):
    """A predicate: the contact's client sees the request, with the <moved/> that was in it."""
    if old_jid is None:
        return stanza("presence", new_jid, type="subscribe")
    return stanza("presence", new_jid, type="subscribe", has="moved:moved/moved:old-jid", text=old_jid)


def check_item(items: dict[str, ET.Element], jid: str, subscription: str | None, name: str | None = None,
               groups: frozenset[str] | set[str] = frozenset(), ask: str | None = None) -> None:
    """`subscription` None: no item at all, or one that means as little."""
    item = items.get(jid)
    if subscription is None:
        check(item is None or (item.get("subscription"), item.get("ask")) == ("none", None),
              f"{jid} should not be a contact: {show(item)}")
        return
    check(item is not None, f"{jid} should be in the roster, which holds {', '.join(items) or 'nothing'}")
    seen = item.get("subscription"), item.get("name"), {g.text for g in item.findall("roster:group", NS)}, item.get("ask")
    check(seen == (subscription, name, set(groups), ask),
          f"{jid} should have {(subscription, name, set(groups), ask)}: {show(item)}")


def show(item: ET.Element | None) -> str:
    return "none" if item is None else ET.tostring(item, "unicode")
