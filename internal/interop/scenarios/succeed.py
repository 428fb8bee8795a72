"""A box takes the place of another server, with what that exports (XEP-0227): its people log in with their passwords and find everything that
the file can carry; their contacts, who live elsewhere, notice nothing."""

import json
from pathlib import Path

from snikket import CIRCLE, circle_at_home
from steps import NS, World, check, run, stanza, step

NS.update({"mam": "urn:xmpp:mam:2", "forward": "urn:xmpp:forward:0", "bookmarks": "urn:xmpp:bookmarks:1", "private": "jabber:iq:private",
           "notes": "urn:example:notes", "vcard4": "urn:ietf:params:xml:ns:vcard-4.0"})
OPTIONS = """<publish-options><x xmlns='jabber:x:data' type='submit'>
 <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>
 <field var='pubsub#persist_items'><value>true</value></field><field var='pubsub#access_model'><value>whitelist</value></field>
</x></publish-options>"""


async def play(world: World) -> None:
    kind = world.kind("juliet")
    if kind == "snikket":
        await circle_at_home(world, "juliet", "nurse")
    before = await live(world, kind)
    domain = world.jid("juliet").partition("@")[2]
    step(f"A box takes the place of {world.kind('juliet')}, with what it exports")
    world.control(f"succeed {domain}")
    report(world, domain, kind)
    juliet = world.client("juliet", "new phone")
    await juliet.log_in(presence=False)
    step(f"Juliet logs in with her password, by {juliet.mechanism()}")
    await found(world, juliet, before, kind)
    await goes_on(world, juliet, before, kind)


async def live(world: World, kind: str):
    romeo, paris, juliet = await world.log_in("romeo"), await world.log_in("paris"), await world.log_in("juliet")
    step("Juliet has a friend, one whom she only sees, one whom she asked; a card, notes, bookmarks, and one whom she blocks")
    await juliet.befriend(romeo)
    await juliet.subscribe(paris)
    await juliet.ask("set", None, "<query xmlns='jabber:iq:roster'>"
                     f"<item jid='{romeo.account}' name='My &lt;love&gt; ♥'><group>Montagues</group><group>a &amp; b</group></item></query>")
    juliet.tell(f"<presence type='subscribe' to='{world.jid('tybalt')}'/>")
    await juliet.ask("set", None, "<vCard xmlns='vcard-temp'><FN>Juliet &amp; ♥</FN></vCard>")
    await juliet.ask("set", None, "<query xmlns='jabber:iq:private'><note xmlns='urn:example:notes'>buy poison</note></query>")
    for room in "orchard", "crypt":
        reply = await juliet.ask("set", None, f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='{room}@rooms.example'>"
                                 f"<conference xmlns='urn:xmpp:bookmarks:1' name='{room}'/></item></publish>{many(kind)}</pubsub>")
        check(reply.get("type") == "result", f"the bookmark of the {room} should be published")
    await juliet.ask("set", None, f"<block xmlns='urn:xmpp:blocking'><item jid='evil.example'/></block>")
    step("They talk; what Romeo says last, and Tybalt's request, come when she is gone")
    for number in range(4):
        one, other = (romeo, juliet) if number % 2 else (juliet, romeo)
        one.send_message(mto=other.account, mbody=f"line {number} ♥ <&>", mtype="chat")
        await other.expect("it", stanza("message", one.account, has="c:body", text=f"line {number} ♥ <&>"))
    await juliet.settle()
    await juliet.log_out()
    await romeo.expect("her absence", stanza("presence", juliet.account, type="unavailable"))
    romeo.send_message(mto=juliet.account, mbody="line 4", mtype="chat")
    tybalt = await world.log_in("tybalt")
    tybalt.tell(f"<presence type='subscribe' to='{juliet.account}'><status>answer!</status></presence>")
    nurse = await world.log_in("nurse")  # what came for Juliet is stored when the nurse got what came later
    for person in romeo, tybalt:
        person.send_message(mto=nurse.account, mbody="is it there?", mtype="chat")
        await nurse.expect("the question", stanza("message", person.account, has="c:body", text="is it there?"))
    await nurse.log_out()
    return {"romeo": romeo, "paris": paris, "tybalt": tybalt}


def many(kind: str) -> str:
    """Options of a node with several items; ejabberd 23.01 does not know that one."""
    return OPTIONS if kind == "ejabberd" else OPTIONS.replace("</x>", "<field var='pubsub#max_items'><value>max</value></field></x>")


def report(world: World, domain: str, kind: str) -> None:
    reports = json.loads((Path(world.settings["folder"]) / f"{domain}.imported.json").read_text())
    accounts = {one["address"]: one for each in reports for one in each["accounts"]}
    check(set(accounts) >= {world.jid("juliet"), world.jid("nurse")}, f"both should be imported: {accounts}")
    juliet = accounts[world.jid("juliet")]
    step("The report: " + ", ".join(f"{juliet[what]} {what}" for what in ("contacts", "requests", "archived", "waiting", "items", "private", "blocked")))
    for loss in juliet["losses"]:
        print(f"    lost: {loss['count']} x {loss['what']}: {loss['why']}", flush=True)
    if kind == "snikket":
        step("The file has no passwords: the administrator hands out new ones, once")
        for role in "juliet", "nurse":
            world.settings["roles"][role]["password"] = accounts[world.jid(role)]["password"]
        # The nurse is of her circle. Snikket keeps no private XML, and gives neither archive nor block list out.
        check(juliet["contacts"] == 4 and juliet["requests"] == 1 and juliet["items"] >= 3, f"something is missing: {juliet}")
        return
    check("password" not in juliet, "her password should be known from the file")
    check(juliet["contacts"] == 3 and juliet["requests"] == 1 and juliet["private"] == 1, f"something is missing: {juliet}")
    # Prosody 0.12 exports neither block lists nor what waits, ejabberd no archives.
    check(juliet["archived"] >= 5 if kind == "prosody" else juliet["waiting"] == 1 and juliet["blocked"] == 1 and juliet.get("vcard"), f"something is missing: {juliet}")


async def found(world: World, juliet, before, kind: str) -> None:
    step("Her contacts are what they were")
    items = await juliet.roster_items()
    romeo, paris, tybalt = items[before["romeo"].account], items[before["paris"].account], items[before["tybalt"].account]
    check(romeo.get("subscription") == "both" and romeo.get("name") == "My <love> ♥", f"Romeo: {romeo.attrib}")
    check({group.text for group in romeo} == {"Montagues", "a & b"}, "Romeo's groups")
    check(paris.get("subscription") == "to", f"Paris: {paris.attrib}")
    check(tybalt.get("subscription") == "none" and tybalt.get("ask") == "subscribe", f"Tybalt: {tybalt.attrib}")
    step("Her card, her notes and her bookmarks are there; the bookmarks are hers alone")
    if kind != "ejabberd":  # they keep the card in its newer form
        card = await juliet.ask("get", None, "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:vcard4'/></pubsub>")
        check(card.findtext(".//vcard4:fn/vcard4:text", namespaces=NS) == "Juliet & ♥", "her card")
    else:
        card = await juliet.ask("get", None, "<vCard xmlns='vcard-temp'/>")
        check(card.findtext("vcard:vCard/vcard:FN", namespaces=NS) == "Juliet & ♥", "her card")
    note = await juliet.ask("get", None, "<query xmlns='jabber:iq:private'><note xmlns='urn:example:notes'/></query>")
    check((note.findtext("private:query/notes:note", namespaces=NS) or "") == ("" if kind == "snikket" else "buy poison"), "her notes")
    marks = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub>"
    reply = await juliet.ask("get", None, marks)
    rooms = [item.get("id") for item in reply.findall("pubsub:pubsub/pubsub:items/pubsub:item", NS)]
    check(rooms == ([] if kind == "ejabberd" else ["orchard@rooms.example", "crypt@rooms.example"]), f"her bookmarks: {rooms}")
    reply = await before["romeo"].ask("get", juliet.account, marks)
    check(reply.get("type") == "error", "Romeo should not see her bookmarks")
    blocked = await juliet.ask("get", None, "<blocklist xmlns='urn:xmpp:blocking'/>")
    names = [item.get("jid") for item in blocked.findall("block:blocklist/block:item", NS)]
    check(names == (["evil.example"] if kind == "ejabberd" else []), f"her block list: {names}")
    if kind == "snikket":
        step("The nurse is her contact, in the group of the circle, and each sees the other")
        nurse = items[world.jid("nurse")]
        check(nurse.get("subscription") == "both" and [group.text for group in nurse] == [CIRCLE], f"the nurse: {nurse.attrib}")
    if kind == "prosody":
        step("Her archive is what it was, in its order")
        await juliet.ask("set", None, "<query xmlns='urn:xmpp:mam:2' queryid='q'><set xmlns='http://jabber.org/protocol/rsm'><max>50</max></set></query>")
        results = juliet.all_of(lambda xml: xml.find("mam:result", NS) is not None)
        said = [xml.findtext("mam:result/forward:forwarded/c:message/c:body", namespaces=NS) for xml in results]
        said = [text for text in said if text]
        check(said == [f"line {number} ♥ <&>" for number in range(4)] + ["line 4"], f"her archive: {said}")


async def goes_on(world: World, juliet, before, kind: str) -> None:
    step("She comes online: Romeo sees her, as before, and she him; Tybalt's request is shown to her")
    romeo = before["romeo"]
    juliet.tell("<presence/>")
    await romeo.expect("her presence", stanza("presence", juliet.boundjid.full, type=""))
    await juliet.expect("his presence", stanza("presence", romeo.boundjid.full, type=""))
    await juliet.expect("the request", stanza("presence", before["tybalt"].account, type="subscribe"))
    if kind == "ejabberd":
        step("What waited for her is delivered")
        await juliet.expect("the last line", stanza("message", romeo.account, has="c:body", text="line 4"))
    romeo.send_message(mto=juliet.account, mbody="still there?", mtype="chat")
    await juliet.expect("his question", stanza("message", romeo.account, has="c:body", text="still there?"))
    juliet.send_message(mto=romeo.account, mbody="as ever", mtype="chat")
    await romeo.expect("her answer", stanza("message", juliet.account, has="c:body", text="as ever"))
    step("The nurse logs in, too")
    nurse = await world.log_in("nurse", "elsewhere")
    await nurse.settle()
    if kind == "snikket":
        await juliet.expect("her presence", stanza("presence", nurse.boundjid.full, type=""))


run(play)
