"""Juliet moves while Romeo's devices are all off: his server verifies it, and his roster follows."""

from movers import check_item, notify, publish_statement, request_from
from steps import NS, World, check, push, run, stanza, step

NAME, GROUPS = "Juliet ♥ <&>", ["Family", "Verona"]


async def play(world: World) -> None:
    romeo, old = await world.log_in("romeo"), await world.log_in("old")
    step(f"Romeo at {romeo.boundjid.host} knows Juliet at {old.boundjid.host} by a name, in groups")
    await romeo.befriend(old)
    await romeo.update_roster(old.account, name=NAME, groups=GROUPS)
    benvolio = await one_sided(world, old)
    step("He switches everything off")
    await romeo.log_out()

    new = await world.log_in("new")
    step(f"Juliet says at {old.boundjid.host} that she moves to {new.account}, and tells him from there")
    await publish_statement(old, new.account)
    notify(new, romeo.account, old.account)
    await followed(romeo.account, old, new)
    step("Asked again, nothing happens twice")
    notify(new, romeo.account, old.account)
    await new.ask("get", romeo.boundjid.host, "<ping xmlns='urn:xmpp:ping'/>")
    await new.settle()
    new.none_of("a second request", request_from(romeo.account))
    await home_again(world, old, new)
    if benvolio:
        await one_sided_follows(world, benvolio, old, new)


async def followed(romeo: str, old, new) -> None:
    """What both Juliets see of row 8."""
    await new.expect("Romeo's approval", stanza("presence", romeo, type="subscribed"))
    await new.expect("the push", push(romeo, "to"))
    step("Romeo's server let her in, takes her old address out, and asks to see her at the new one")
    await old.expect("Romeo's revocation", stanza("presence", romeo, type="unsubscribed"))
    await old.expect("the push", push(romeo, "from"))
    request = await new.expect("Romeo's own request", request_from(romeo))
    check(request.find("moved:moved", NS) is None, "Romeo's request should not claim that he moved")
    new.tell(f"<presence type='subscribed' to='{romeo}'/>")
    await new.expect("the push", push(romeo, "both"))


async def home_again(world: World, old, new) -> None:
    step("Romeo comes home: the new address has the old one's name and groups")
    romeo = await world.log_in("romeo")
    items = await romeo.roster_items()
    check_item(items, new.account, "both", NAME, set(GROUPS))
    check_item(items, old.account, "to", NAME, set(GROUPS))
    await romeo.expect("Juliet's presence", stanza("presence", new.boundjid.full, type=""))
    await romeo.settle()
    romeo.none_of("a question", request_from(new.account))
    if world.kind("romeo") == "pibox":
        notice = await romeo.expect("a notice of his server", stanza("message", romeo.boundjid.host, has="c:body"))
        text = notice.findtext("c:body", namespaces=NS)
        step(f"His server tells him: {text}")
        check(old.account in text and new.account in text, "the notice should name both addresses")
        romeo.none_of("a second notice", stanza("message", romeo.boundjid.host, has="c:body"))
    step("They write to each other")
    await new.expect("his presence", stanza("presence", romeo.boundjid.full, type=""))
    for one, other in (romeo, new), (new, romeo):
        one.send_message(mto=other.account, mbody="at last", mtype="chat")
        await other.expect("it", stanza("message", one.boundjid.full, has="c:body", text="at last"))


async def one_sided(world: World, old):
    """Benvolio lets Juliet see him and does not see her: not her presence subscriber, and yet he may verify."""
    if "benvolio" not in world.settings["roles"]:
        return None
    benvolio = await world.log_in("benvolio")
    step("Benvolio lets her see him, and never asked to see her")
    await old.subscribe(benvolio)
    await benvolio.log_out()
    return benvolio


async def one_sided_follows(world: World, benvolio, old, new) -> None:
    step("She tells Benvolio: he lets her new address see him, and asks for nothing")
    notify(new, benvolio.account, old.account)
    await new.expect("Benvolio's approval", stanza("presence", benvolio.account, type="subscribed"))
    await old.expect("Benvolio's revocation", stanza("presence", benvolio.account, type="unsubscribed"))
    benvolio = await world.log_in("benvolio")
    items = await benvolio.roster_items()
    check_item(items, new.account, "from")
    check_item(items, old.account, None)
    await benvolio.settle()
    benvolio.none_of("a question", request_from(new.account))
    await new.settle()
    new.none_of("Benvolio's request", request_from(benvolio.account))


run(play)
