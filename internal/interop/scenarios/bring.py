"""Juliet's old account is on a server where she is nobody in particular: her address and password are all that is needed to bring it to the box, with
`pibox move bring`. Romeo's server verifies the move, and he follows with his devices off."""

import asyncio
import json

from bring_steps import CARD, NOTES, OMEMO, PUBLISH, READ, ROOM, pibox
from snikket import circle_at_home, circle_follows, circle_moved
from steps import NS, WAIT, World, check, run, stanza, step

WORDS = 250


async def furnish(world: World) -> None:
    if "nurse" in world.settings["roles"]:
        await circle_at_home(world, "old", "nurse")
    juliet, romeo, paris = await world.log_in("old"), await world.log_in("romeo"), await world.log_in("paris")
    notes = [NOTES.format("<note jid='nurse@x.example'>snores</note>")] if keeps_notes(world) else []
    step(f"Juliet at {juliet.boundjid.host} has a contact, a profile, a bookmark, an avatar,{' notes,' * len(notes)} a block, keys of OMEMO")
    await juliet.befriend(romeo)
    await juliet.update_roster(romeo.account, name="Romeo <&> ♥", groups=["Verona", "Friends"])
    for payload in (
        CARD, PUBLISH.format("urn:xmpp:bookmarks:1", "orchard@rooms.example", ROOM),
        PUBLISH.format("urn:xmpp:avatar:data", "abc", "<data xmlns='urn:xmpp:avatar:data'>QUJD</data>"),
        PUBLISH.format(OMEMO, "current", "<list xmlns='eu.siacs.conversations.axolotl'/>"),
        *notes, "<block xmlns='urn:xmpp:blocking'><item jid='tybalt@x.example'/></block>",
    ):
        reply = await juliet.ask("set", None, payload)
        check(reply.get("type") == "result", f"{payload} should be taken")
    step(f"{WORDS} words in the archive, as far as her server keeps one; three more, and Paris's request, wait for her")
    for n in range(WORDS):
        romeo.send_message(mto=juliet.account, mbody=f"word {n}", mtype="chat")
    await juliet.expect("the last word", stanza("message", romeo.account, has="c:body", text=f"word {WORDS - 1}"))
    await juliet.log_out()
    paris.tell(f"<presence type='subscribe' to='{juliet.account}'/>")
    for n in range(3):
        romeo.send_message(mto=juliet.account, mbody=f"waiting {n}", mtype="chat")
    for person in romeo, paris:
        reply = await person.ask("get", juliet.account.partition("@")[2], "<ping xmlns='urn:xmpp:ping'/>")
        check(reply.get("type") == "result", "her server should answer a ping")
        await person.log_out()


def keeps_notes(world: World) -> bool:
    """Snikket keeps no private XML but bookmarks, of which it makes a published item."""
    return world.kind("old") != "snikket"


async def play(world: World) -> None:
    await furnish(world)
    old, new = world.settings["roles"]["old"], world.jid("new")
    step("A wrong password is refused in words, and nothing happens")
    code, said = await pibox(world, "new", "move", "bring", old["jid"], new, password="wrong")
    check(code == 1 and "does not accept this password" in said["error"]["message"], f"the password should be refused: {said}")
    step(f"The box brings it with her password, as {new}")
    code, said = await pibox(world, "new", "move", "bring", old["jid"], new, password=old["password"])
    check(code == 0 and said["migration"]["state"] == "done", f"it should be here: {said}")
    counts = said["migration"]["counts"]
    step(f"{json.dumps(counts)}")
    archived = WORDS + 3 if old["server"] in ("prosody", "snikket") else 0
    check(counts["archived"] == archived, f"{archived} messages should have come from the archive")
    # What a server has in the archive it hands out from there.
    check(counts["waiting"] == (0 if archived else 3), "what waited should have come")
    juliet = await here(world)
    await moved(world, juliet)
    if "nurse" in world.settings["roles"]:
        await circle_moved(world, juliet, "nurse")
        await circle_follows(world, juliet, "nurse", "nurse-new")


async def here(world: World):
    step("Everything is here")
    juliet = await world.log_in("new")
    for kind, payload, expected in (
        ("profile", "<vCard xmlns='vcard-temp'/>", "Juliet Capulet"), ("bookmark", READ.format("urn:xmpp:bookmarks:1"), "Orchard"),
        ("avatar", READ.format("urn:xmpp:avatar:data"), "QUJD"), ("note", NOTES.format(""), "snores" if keeps_notes(world) else ""),
        ("block", "<blocklist xmlns='urn:xmpp:blocking'/>", "tybalt@x.example"),
    ):
        reply = await juliet.ask("get", None, payload)
        text = "".join(reply.itertext()) + " ".join(v for e in reply.iter() for v in e.attrib.values())
        check(expected in text, f"the {kind} should be here: {text}")
    keys = await juliet.ask("get", None, READ.format(OMEMO))
    check(keys.find(".//pubsub:item", NS) is None, "keys of OMEMO should stay behind")
    await juliet.expect("Paris's request", stanza("presence", world.jid("paris"), type="subscribe"))
    return juliet


async def moved(world: World, juliet) -> None:
    step("Her old server says where she went, and Romeo's server has let the new address in")
    old, romeo = await world.log_in("old"), world.jid("romeo")
    said = await old.ask("get", None, READ.format("urn:xmpp:moved:1"))
    check(said.findtext(".//moved:new-jid", namespaces=NS) == world.jid("new"), "the statement should be published")
    async with asyncio.timeout(WAIT):
        while (item := (await juliet.roster_items()).get(romeo)) is None or item.get("subscription") != "both":
            await asyncio.sleep(0.2)
    check(item.get("name") == "Romeo <&> ♥", "his name should have come along")
    check({g.text for g in item.findall("roster:group", NS)} == {"Verona", "Friends"}, "and his groups")
    here = (await (await world.log_in("romeo")).roster_items()).get(world.jid("new"))
    check(here is not None and here.get("subscription") == "both", "he should hold the new address")


run(play)
