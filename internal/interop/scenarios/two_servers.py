"""Two people on two servers: all that passes between them, both ways, and how the servers proved who they are."""

import re

from steps import NS, World, check, push, run, stanza, step

NICK = NS["nick"]
# What Prosody 0.12 logs when a stream is authenticated, by its direction.
PROSODY_PROOF = {
    "certificate": (r"Accepting SASL EXTERNAL identity from {box}", r"SASL EXTERNAL with {box} succeeded"),
    # What Prosody asks of the box is its certificate; what it can offer is dialback.
    "dialback": (r"connection {box}->{own} complete", r"(?s)sent dialback key.*connection {own}->{box} complete"),
}


async def play(world: World) -> None:
    here, there = await world.log_in("here"), await world.log_in("there")
    # The box opens the first stream in one half, the other server in the other.
    for one, other in (here, there), (there, here):
        step(f"{one.name} greets a stranger at {other.boundjid.host}")
        one.send_message(mto=other.account, mbody=f"Hello from {one.boundjid.host} ♥ <&>", mtype="chat")
        await other.expect("the greeting", stanza(
            "message", one.boundjid.full, has="c:body", text=f"Hello from {one.boundjid.host} ♥ <&>", type="chat"))
    await subscriptions(here, there)
    await conversation(here, there)
    await queries(here, there)
    await pep(here, there)
    await offline(world, here)
    await unreachable(world, here)
    await ending(here, there)
    proof(world)


async def subscriptions(here, there) -> None:
    step("They subscribe to each other, and see each other's presence")
    await there.subscribe(here)
    await here.subscribe(there)
    await here.expect("the push", push(there.account, "both"))
    await there.expect("the push", push(here.account, "both"))
    for one, other in (here, there), (there, here):
        one.send_presence(pshow="dnd", pstatus="on the balcony")
        seen = await other.expect("the change", stanza("presence", one.boundjid.full, has="c:show", text="dnd"))
        check(seen.findtext("c:status", namespaces=NS) == "on the balcony", "the status text should arrive")


async def conversation(here, there) -> None:
    step("Twenty messages each way, at once, arrive in order")
    for number in range(20):
        for one, other in (here, there), (there, here):
            one.send_message(mto=other.boundjid, mbody=str(number), mtype="chat")
    for one, other in (here, there), (there, here):
        for number in range(20):
            message = await other.expect(f"number {number}", stanza("message", one.boundjid.full, has="c:body"))
            body = message.findtext("c:body", namespaces=NS)
            check(body == str(number), f"{other.name} should get {number} next, not {body}")


async def queries(here, there) -> None:
    step("Ping of server and device, disco, both ways; nobody there says so")
    for one, other in (here, there), (there, here):
        for target in other.boundjid.host, other.boundjid.full:
            reply = await one.ask("get", target, "<ping xmlns='urn:xmpp:ping'/>")
            check(reply.get("type") == "result", f"{target} should answer a ping")
        reply = await one.ask("get", other.boundjid.host, f"<query xmlns='{NS['disco']}'/>")
        check(reply.find("disco:query/disco:identity[@category='server']", NS) is not None, "a server should say so")
        nobody = f"nobody@{other.boundjid.host}"
        reply = await one.ask("get", nobody, f"<query xmlns='{NS['disco']}'/>")
        check(reply.get("type") == "error", "an account that is not there should give an error")


async def pep(here, there) -> None:
    for one, other in (here, there), (there, here):
        step(f"{other.name} wants nicknames; {one.name} publishes one, which is told and can be read")
        other["xep_0163"].add_interest(NICK)
        await other["xep_0115"].update_caps()
        await one.expect("the capabilities", stanza("presence", other.account, has="{http://jabber.org/protocol/caps}c"))
        done = await one.ask("set", None, f"<pubsub xmlns='{NS['pubsub']}'><publish node='{NICK}'>"
                             f"<item id='current'><nick xmlns='{NICK}'>{one.name}</nick></item></publish></pubsub>")
        check(done.get("type") == "result", "the publication should be taken")
        await other.expect("the event", stanza(
            "message", one.account, has="event:event/event:items/event:item/nick:nick", text=one.name))
        read = await other.ask("get", one.account, f"<pubsub xmlns='{NS['pubsub']}'><items node='{NICK}'/></pubsub>")
        check(read.findtext("pubsub:pubsub/pubsub:items/pubsub:item/nick:nick", namespaces=NS) == one.name,
              "the item should be readable")


async def offline(world: World, here) -> None:
    step("A message to somebody who is offline elsewhere is kept")
    away = world.jid("away")
    here.send_message(mto=away, mbody="See you tomorrow", mtype="chat")
    await here.ask("get", away, "<ping xmlns='urn:xmpp:ping'/>")  # to the same address: nothing else keeps behind the message
    back = await world.log_in("away")
    await back.expect("it", stanza("message", here.account, has="c:body", text="See you tomorrow"))


async def unreachable(world: World, here) -> None:
    away = world.settings["unreachable"]  # what is to be read waits for days for one that exists
    for domain, hint in ("nowhere.example", ""), (away, "<no-store xmlns='urn:xmpp:hints'/>"):
        step(f"A message to {domain} comes back")
        here.tell(f"<message to='romeo@{domain}' type='chat' id='{domain}'><body>?</body>{hint}</message>")
        error = await here.expect("the error", stanza("message", f"romeo@{domain}", type="error", id=domain))
        condition = error.find("c:error/*", NS).tag.partition("}")[2]
        check(condition in ("remote-server-not-found", "remote-server-timeout"), f"it should name the cause, not {condition}")


async def ending(here, there) -> None:
    step("One leaves, the other sees it; one removes the other, both rosters follow")
    here.tell("<presence type='unavailable'/>")
    await there.expect("unavailable", stanza("presence", here.boundjid.full, type="unavailable"))
    here.tell("<presence/>")
    await there.expect("available", stanza("presence", here.boundjid.full, type="", ))
    await here.del_roster_item(there.account)
    await here.expect("the push", push(there.account, "remove"))
    await there.expect("the push", push(here.account, "none"))


def proof(world: World) -> None:
    """Prosody's own log says on what ground it trusted the box, and was trusted."""
    kind = world.settings.get("proof")
    if kind is None:
        return
    box, own = (re.escape(world.jid(role).partition("@")[2]) for role in ("here", "there"))
    log = world.log_since_start(world.jid("there").partition("@")[2])
    for who, line in zip(("Prosody trusts the box", "the box trusts Prosody"), PROSODY_PROOF[kind]):
        found = re.search(line.format(box=box, own=own), log)
        check(found is not None, f"{who} by {kind}: Prosody's log does not say so")
        step(f"{who} by {kind}, its log says: {found.group().splitlines()[-1]}")


run(play)
