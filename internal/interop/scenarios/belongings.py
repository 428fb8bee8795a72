"""What a member owns beside his contacts: a profile, published items, private data, messages. All of it moves along."""

from xml.sax.saxutils import escape

from light import Light
from steps import NS

NODES = "urn:xmpp:bookmarks:1", "http://jabber.org/protocol/nick"
DIARY = "urn:example:interop:diary"
NOTES = "storage:rosternotes"  # private data, of a name that a client knows to ask for (XEP-0145)
ARCHIVE = "urn:xmpp:mam:2"
LETTERS = 3


async def give(client: Light, friend: str) -> None:
    own = escape(f"of {client.account} ♥ <&>")
    await client.ask("set", f"<vCard xmlns='vcard-temp'><FN>{own}</FN></vCard>")
    for node in NODES:
        await client.ask("set", f"<pubsub xmlns='{NS['pubsub']}'><publish node='{node}'><item id='one'>"
                                f"<own xmlns='{DIARY}'>{own}</own></item></publish></pubsub>")
    await client.ask("set", f"<query xmlns='jabber:iq:private'><storage xmlns='{NOTES}'>{own}</storage></query>")
    for number in range(LETTERS):
        client.tell(f"<message to='{friend}' type='chat'><body>letter {number} {own}</body></message>")
    await client.settle()


async def lost(client: Light, old: str, letters: bool) -> list[str]:
    """What the account does not have of what the old address had. `letters`: those should have come, too."""
    own, faults = f"of {old} ♥ <&>", []
    asked = [("profile", "<vCard xmlns='vcard-temp'/>"), ("private data", f"<query xmlns='jabber:iq:private'><storage xmlns='{NOTES}'/></query>")]
    asked += [(f"node {node}", f"<pubsub xmlns='{NS['pubsub']}'><items node='{node}'/></pubsub>") for node in NODES]
    for what, question in asked:
        reply = await client.ask("get", question, refused=True)
        if own not in "".join(reply.itertext()):
            faults.append(f"{client.account} lost the {what}")
    if letters:
        before = len(client.messages)
        await client.ask("set", f"<query xmlns='{ARCHIVE}' queryid='all'/>")
        bodies = ["".join(message.itertext()) for message in client.messages[before:]]
        found = sum(any(f"letter {number} {own}" in body for body in bodies) for number in range(LETTERS))
        if found != LETTERS:
            faults.append(f"{client.account} has {found} of {LETTERS} messages in the archive")
    return faults
