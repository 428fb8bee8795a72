"""A phone that nobody looks at (XEP-0352), with slixmpp."""

from steps import NS, World, check, run, stanza, step


async def play(world: World) -> None:
    romeo, juliet = await world.log_in("romeo"), await world.log_in("juliet")
    await romeo.befriend(juliet)
    step("Juliet puts her phone away: of what Romeo does meanwhile she gets the last, with his message")
    check(juliet["xep_0352"].enabled, "client state should be offered")
    juliet["xep_0352"].send_inactive()
    await juliet.settle()
    for show in "away", "xa", "dnd":
        romeo.send_presence(pshow=show)
    romeo.send_message(mto=juliet.boundjid, mbody="Look!", mtype="chat")
    await juliet.expect("it", stanza("message", romeo.boundjid.full, has="c:body", text="Look!"))
    shows = [xml.findtext("c:show", namespaces=NS) for xml in juliet.all_of(stanza("presence", romeo.boundjid.full))]
    check(shows == ["dnd"], f"she should have got the last presence alone, not {shows}")
    step("She takes it up again, and gets all at once")
    romeo.send_presence(pshow="chat")
    await romeo.expect("his own", stanza("presence", romeo.boundjid.full, has="c:show", text="chat"))
    juliet["xep_0352"].send_active()
    await juliet.expect("what waited", stanza("presence", romeo.boundjid.full, has="c:show", text="chat"))
    for show in "away", "xa":
        romeo.send_presence(pshow=show)
        await juliet.expect("it", stanza("presence", romeo.boundjid.full, has="c:show", text=show))


run(play)
