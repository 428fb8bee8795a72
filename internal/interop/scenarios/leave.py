"""Juliet leaves the box for another server, where it is only a client: `pibox move leave`. Romeo's server verifies the move, and he follows."""

from bring_steps import CARD, PUBLISH, READ, ROOM, pibox
from snikket import join, take_in
from steps import NS, World, check, run, stanza, step

MANY = ("<publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>"
        "<value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
        "<field var='pubsub#max_items'><value>max</value></field></x></publish-options></pubsub>")


async def play(world: World) -> None:
    juliet, romeo, paris = [await world.log_in(role) for role in ("old", "romeo", "paris")]
    step(f"Juliet at {juliet.boundjid.host} has a contact, and one who only sees her, a profile, a picture and two bookmarks")
    await juliet.befriend(romeo)
    await paris.subscribe(juliet)
    await juliet.update_roster(romeo.account, name="Romeo <&> ♥", groups=["Verona"])
    rooms = [PUBLISH.format("urn:xmpp:bookmarks:1", f"{room}@rooms.example", ROOM).replace("</pubsub>", MANY) for room in ("orchard", "tomb")]
    # Snikket's limit for a client, 10 KiB a second, makes this one take its time.
    picture = PUBLISH.format("urn:xmpp:avatar:data", "abc", f"<data xmlns='urn:xmpp:avatar:data'>{'QUJD' * 15_000}</data>")
    for payload in CARD, picture, *rooms:
        reply = await juliet.ask("set", None, payload)
        check(reply.get("type") == "result", f"{payload} should be taken")
    await romeo.log_out()
    new = world.settings["roles"]["new"]
    if new["server"] == "snikket":
        await join(new)
    if world.settings.get("file"):
        await take_in(world, juliet.account, "new")
    step(f"The box builds up {new['jid']} with its password, and tells him from there")
    code, said = await pibox(world, "old", "move", "leave", juliet.account, new["jid"], "--wait", "20s", password=new["password"])
    check(code == 0 and said["migration"]["counts"]["told"] == 2, f"both should be told: {said}")
    lost = [loss for loss in said["migration"]["losses"] if "published" in loss["what"]]
    check(not lost, f"what is published should come along: {lost}")
    step("Everything is there, and Romeo holds the new address")
    there = await world.log_in("new")
    for payload, expected in ("<vCard xmlns='vcard-temp'/>", "Juliet Capulet"), (READ.format("urn:xmpp:avatar:data"), "QUJD" * 15_000), *((READ.format("urn:xmpp:bookmarks:1"), f"{room}@") for room in ("orchard", "tomb")):
        reply = await there.ask("get", None, payload)
        text = "".join(reply.itertext()) + " ".join(v for e in reply.iter() for v in e.attrib.values())
        check(expected in text, f"{expected} should be there: {text}")
    item = (await there.roster_items()).get(romeo.account)
    check(item is not None and item.get("name") == "Romeo <&> ♥", "he should be on the new list, with his name")
    check(item.get("subscription") == "both", f"and see her, and be seen: {item.get('subscription')}")
    here = await (await world.log_in("romeo", "tablet")).roster_items()
    check(here[there.account].get("subscription") == "both", "he should hold the new address")
    check(here[juliet.account].get("subscription") == "to", "and have let the old one go")
    step("Paris, who was never seen, has it from the old address")
    told = await paris.expect("the message", stanza("message", juliet.account, has="c:body"))
    check(there.account in told.findtext("c:body", namespaces=NS), "it should name the new address")
    await juliet.expect("his revocation", stanza("presence", romeo.account, type="unsubscribed"))
    said = await juliet.ask("get", None, READ.format("urn:xmpp:moved:1"))
    check(said.findtext(".//moved:new-jid", namespaces=NS) == there.account, "the statement should be published")


run(play)
