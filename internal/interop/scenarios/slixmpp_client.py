"""Two people of one server with slixmpp: everything a family does on an ordinary day."""

import ssl

from slixmpp.exceptions import IqError

from steps import Failed, NS, World, check, push, run, stanza, step

TUNE = "http://jabber.org/protocol/tune"


async def play(world: World) -> None:
    romeo, tablet = await logins(world)
    await roster(romeo, tablet, world.jid("benvolio"))
    juliet = await world.log_in("juliet")
    await presence(romeo, juliet)
    await chat(romeo, tablet, juliet)
    juliet = await offline(world, romeo, juliet)
    await pep(romeo, juliet)
    await queries(romeo, juliet)
    await blocking(romeo, juliet)
    step("Romeo logs out on his phone, and Juliet sees it")
    await romeo.log_out()
    await juliet.expect("unavailable", stanza("presence", romeo.boundjid.full, type="unavailable"))


async def logins(world: World):
    romeo = await world.log_in("romeo")
    step(f"Romeo logs in with STARTTLS, {romeo.tls()}, {romeo.mechanism()}")
    check(romeo.mechanism().startswith("SCRAM-"), "the mechanism should be SCRAM")
    tablet = await world.log_in("romeo", "tablet", direct_tls=True)
    step(f"and on a tablet with direct TLS, {tablet.tls()}, {tablet.mechanism()}")
    check(tablet.mechanism().startswith("SCRAM-"), "the mechanism should be SCRAM")
    old = await world.client("romeo", "old", tls_version=ssl.TLSVersion.TLSv1_2).log_in(presence=False)
    step(f"and with {old.tls()}, {old.mechanism()}")
    await old.log_out()
    for user in world.jid("romeo").partition("@")[0], "nobody":
        thief = world.client("romeo", "thief")
        thief.credentials = {"username": user, "password": "wrong"}
        step(f"{user} with a wrong password is refused")
        try:
            await thief.log_in()
        except Failed:
            check(any("not-authorized" in line for line in thief.transcript), "the refusal should be not-authorized")
            continue
        raise Failed("a wrong password opened the door")
    return romeo, tablet


async def roster(romeo, tablet, friend: str) -> None:
    step("Romeo adds a contact; the tablet is told")
    await romeo.update_roster(friend, name="Benvolio", groups=["Friends", "Verona"])
    added = await tablet.expect("the push", push(friend, "none", name="Benvolio"))
    groups = {group.text for group in added.iter(f"{{{NS['roster']}}}group")}
    check(groups == {"Friends", "Verona"}, f"the groups should be kept, not {groups}")
    step("renames him")
    await romeo.update_roster(friend, name="Cousin Ben ♥ <&>", groups=[])
    renamed = await tablet.expect("the push", push(friend, "none", name="Cousin Ben ♥ <&>"))
    check(renamed.find(".//roster:group", NS) is None, "the groups should be gone")
    step("and removes him")
    await romeo.del_roster_item(friend)
    await tablet.expect("the push", push(friend, "remove"))
    check(friend not in await romeo.roster_items(), "the contact should be gone")


async def presence(romeo, juliet) -> None:
    step("Romeo and Juliet subscribe to each other")
    await romeo.befriend(juliet)
    await romeo.expect("the push", push(juliet.account, "both"))
    romeo.send_presence(pshow="away", pstatus="at the ball")
    away = await juliet.expect("away", stanza("presence", romeo.boundjid.full, has="c:show", text="away"))
    check(away.findtext("c:status", namespaces=NS) == "at the ball", "the status text should arrive")


async def chat(romeo, tablet, juliet) -> None:
    step("They chat: to the full address, to the bare one, to two devices")
    romeo.send_message(mto=juliet.boundjid, mbody="But soft!", mtype="chat")
    await juliet.expect("it", stanza("message", romeo.boundjid.full, has="c:body", text="But soft!", type="chat"))
    juliet.send_message(mto=romeo.account, mbody="Ay me 🌙", mtype="chat")
    for device in romeo, tablet:
        await device.expect("it", stanza("message", juliet.boundjid.full, has="c:body", text="Ay me 🌙"))


async def offline(world: World, romeo, juliet):
    step("Juliet is offline, Romeo writes three times; she finds all in order with a delay stamp")
    await juliet.log_out()
    await romeo.expect("unavailable", stanza("presence", juliet.boundjid.full, type="unavailable"))
    for line in "one", "two", "three":
        romeo.send_message(mto=juliet.account, mbody=line, mtype="chat")
    await romeo.settle()
    juliet = await world.log_in("juliet")
    got = [await juliet.expect("a stored message", stanza("message", romeo.account, has="delay:delay")) for _ in range(3)]
    lines = [message.findtext("c:body", namespaces=NS) for message in got]
    check(lines == ["one", "two", "three"], f"the order should be kept, not {lines}")
    return juliet


async def pep(romeo, juliet) -> None:
    step("Juliet's client wants tunes (+notify); Romeo publishes one, she gets it, and reads it")
    juliet["xep_0163"].add_interest(TUNE)
    await juliet["xep_0115"].update_caps()
    await romeo.expect("her capabilities", stanza("presence", juliet.account, has="{http://jabber.org/protocol/caps}c"))
    await romeo.ask("set", None, f"<pubsub xmlns='{NS['pubsub']}'><publish node='{TUNE}'><item id='current'>"
                    f"<tune xmlns='{TUNE}'><title>Dido</title></tune></item></publish></pubsub>")
    title = f"event:event/event:items/event:item/{{{TUNE}}}tune/{{{TUNE}}}title"
    await juliet.expect("the event", stanza("message", romeo.account, has=title, text="Dido"))
    item = await juliet["xep_0060"].get_item(romeo.account, TUNE, "current")
    check("Dido" in str(item), "the item should be readable")
    step("Romeo retracts it, and she is told")
    await romeo["xep_0060"].retract(None, TUNE, "current", notify=True)
    await juliet.expect("the retraction", stanza("message", romeo.account, has="event:event/event:items/event:retract"))


async def queries(romeo, juliet) -> None:
    step("Ping, service discovery, and a vCard that Juliet reads")
    await romeo["xep_0199"].send_ping(romeo.boundjid.host)
    await romeo["xep_0199"].send_ping(juliet.boundjid)
    server = await romeo["xep_0030"].get_info(romeo.boundjid.host)
    check(any(kind == "im" and category == "server" for category, kind, *_ in server["disco_info"]["identities"]),
          "the server should say that it is one")
    own = await romeo["xep_0030"].get_info(romeo.account)
    check(any(category == "pubsub" and kind == "pep" for category, kind, *_ in own["disco_info"]["identities"]),
          "the account should offer PEP")
    card = romeo["xep_0054"].make_vcard()
    card["FN"] = "Romeo Montague"
    await romeo["xep_0054"].publish_vcard(card)
    seen = await juliet["xep_0054"].get_vcard(romeo.account)
    check(seen["vcard_temp"]["FN"] == "Romeo Montague", "the vCard should be his")


async def blocking(romeo, juliet) -> None:
    step("Juliet blocks Romeo: his message comes back; she takes it back: it arrives")
    await juliet["xep_0191"].block(romeo.account)
    await romeo.expect("unavailable", stanza("presence", juliet.boundjid.full, type="unavailable"))
    romeo.send_message(mto=juliet.account, mbody="blocked", mtype="chat")
    await romeo.expect("service-unavailable", stanza(
        "message", juliet.account, type="error", has="c:error/e:service-unavailable"))
    listed = await juliet["xep_0191"].get_blocked()
    check(romeo.account in {str(jid) for jid in listed["blocklist"]["items"]}, "the block should be listed")
    try:
        await juliet["xep_0199"].send_ping(romeo.boundjid)
        raise Failed("Juliet's own stanza to him should be refused")
    except IqError as error:
        check(error.condition == "not-acceptable", f"XEP-0191 §3.2 wants not-acceptable, not {error.condition}")
    await juliet["xep_0191"].unblock(romeo.account)
    await romeo.expect("available", stanza("presence", juliet.boundjid.full, type=""))
    romeo.send_message(mto=juliet.account, mbody="free", mtype="chat")
    await juliet.expect("it", stanza("message", romeo.account, has="c:body", text="free"))
    juliet.none_of("a blocked message", stanza("message", romeo.account, has="c:body", text="blocked"))


run(play)
