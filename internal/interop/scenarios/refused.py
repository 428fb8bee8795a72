"""A server that shows a certificate of its own making, and for which the configuration makes no exception."""

from steps import World, run, stanza, step


async def play(world: World) -> None:
    here, there = await world.log_in("here"), await world.log_in("there")
    # Prosody trusts the box, and would take its messages: it is the box that must not hand them to a stranger.
    for one, other in (here, there), (there, here):
        step(f"{one.account} writes to {other.account}, and gets it back")
        one.tell(f"<message to='{other.account}' type='chat' id='refused'><body>secret</body>"
                 "<no-store xmlns='urn:xmpp:hints'/></message>")  # what is stored waits for days for a better certificate
        error = await one.expect("an error", stanza("message", other.account, type="error", id="refused"))
        condition = error.find("c:error/*", namespaces={"c": "jabber:client"}).tag.partition("}")[2]
        step(f"the error is {condition}")
        await other.settle()
        other.none_of("the message", stanza("message", one.account, has="c:body"))


run(play)
