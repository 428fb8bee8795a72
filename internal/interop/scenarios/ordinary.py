"""A claim to have moved that nothing proves: an ordinary request, shown to Romeo as it came.

Options: `known`, Romeo lets the old address see him; `statement`, what the old address says: nothing, `other`
(somebody else's name) or `right`; `late`, the right statement comes after all, and the request is repeated.
"""

import re

from movers import check_item, notify, publish_statement, request_from
from steps import World, check, push, run, stanza, step


async def play(world: World) -> None:
    options = world.settings
    romeo, old, new = await world.log_in("romeo"), await world.log_in("old"), await world.log_in("new")
    before = "both" if options["known"] else "to"
    step(f"Romeo's roster has {old.account} as {before}; he switches everything off")
    await romeo.subscribe(old)
    if options["known"]:
        await old.subscribe(romeo)
    await romeo.log_out()

    statement = options.get("statement")
    step(f"{new.account} claims to be her, and she says: {statement or 'nothing'}")
    if statement:
        await publish_statement(old, new.account if statement == "right" else f"somebody@{new.boundjid.host}")
    notify(new, romeo.account, old.account)

    romeo = await world.log_in("romeo")
    await romeo.expect("the request, with the claim in it", request_from(new.account, old.account))
    step("Romeo is asked, with the claim in the request; nothing has changed")
    items = await romeo.roster_items()
    check_item(items, old.account, before)
    check_item(items, new.account, None)
    await new.ask("get", romeo.boundjid.host, "<ping xmlns='urn:xmpp:ping'/>")
    new.none_of("an approval", stanza("presence", romeo.account, type="subscribed"))
    await old.settle()
    old.none_of("a revocation", stanza("presence", romeo.account, type="unsubscribed"))
    if not options["known"]:
        not_asked(world, romeo.account, old.account)
    if options.get("late"):
        await late(romeo, old, new)


def not_asked(world: World, romeo: str, old: str) -> None:
    step("and no query left the box: her server did not see one")
    log = world.log_since_start(old.partition("@")[2])
    check(re.search(rf"s2sin[^\n]*<iq [^\n>]*to='{re.escape(old)}'", log) is None, "a stranger made the box ask a third party")
    check("s2sin" in log, "the log should show what came from the box at all")


async def late(romeo, old, new) -> None:
    step("She publishes the statement after all and asks again: now it is proven, with Romeo online")
    await publish_statement(old, new.account)
    notify(new, romeo.account, old.account)
    await new.expect("Romeo's approval", stanza("presence", romeo.account, type="subscribed"))
    await romeo.expect("the push of the new address", push(new.account, "from"))
    await romeo.expect("the push of the old address", push(old.account, "to"))
    await romeo.expect("the push of his own request", push(new.account, "from", ask="subscribe"))
    await romeo.settle()
    romeo.none_of("a second question", request_from(new.account))
    await old.expect("Romeo's revocation", stanza("presence", romeo.account, type="unsubscribed"))
    await new.expect("Romeo's own request", request_from(romeo.account))


run(play)
