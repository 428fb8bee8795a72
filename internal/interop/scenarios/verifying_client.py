"""Romeo's server knows nothing of moves: his own client verifies Juliet's, at the box that she leaves."""

from movers import PRESENCE_ONLY, check_item, notify, publish_statement, read_statement, request_from, stated
from steps import World, check, push, run, stanza, step


async def play(world: World) -> None:
    romeo, benvolio, paris = [await world.log_in(role) for role in ("romeo", "benvolio", "paris")]
    old, new = await world.log_in("old"), await world.log_in("new")
    step(f"Romeo at {romeo.boundjid.host} and Juliet at {old.boundjid.host} know each other; Benvolio lets her see him")
    await romeo.befriend(old)
    await old.subscribe(benvolio)
    step(f"She moves to {new.account}")
    await publish_statement(old, new.account, PRESENCE_ONLY)
    notify(new, romeo.account, old.account)
    await romeo.expect("the request, with the claim in it", request_from(new.account, old.account))
    check_item(await romeo.roster_items(), old.account, "both")

    step("Romeo's client asks her old address, which says so; Benvolio's too, though he never saw her presence")
    for contact in romeo, benvolio:
        reply = await read_statement(contact, old.account)
        check(stated(reply) == new.account, f"{contact.name} should read {new.account}")
    step("Paris, whom she does not know, is told nothing")
    reply = await read_statement(paris, old.account)
    check(reply.get("type") == "error" and new.account not in "".join(paris.transcript), "a stranger should not learn it")

    step("Romeo approves, asks to see her there, and takes the old address out")
    romeo.tell(f"<presence type='subscribed' to='{new.account}'/>")
    await new.expect("the approval", stanza("presence", romeo.account, type="subscribed"))
    romeo.tell(f"<presence type='subscribe' to='{new.account}'/>")
    await new.expect("the request", request_from(romeo.account))
    new.tell(f"<presence type='subscribed' to='{romeo.account}'/>")
    await romeo.expect("the push", push(new.account, "both"))
    romeo.tell(f"<presence type='unsubscribed' to='{old.account}'/>")
    romeo.tell(f"<presence type='unsubscribe' to='{old.account}'/>")
    await old.expect("the revocation", stanza("presence", romeo.account, type="unsubscribed"))
    await romeo.expect("the push", push(old.account, "none"))
    await old.expect("the push", push(romeo.account, "none"))
    step("Another of his devices may still verify: the readers are those of the day she moved")
    check(stated(await read_statement(romeo, old.account)) == new.account, "a revocation should not hide the statement")


run(play)
