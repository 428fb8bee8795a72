"""The archive with slixmpp (XEP-0313, XEP-0441): a new device finds everything that was said, in pages of its own size, from both ends, by every
filter; and nothing of anybody else's."""

from datetime import timedelta

from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0082 import parse as parse_time

from steps import NS, Failed, World, check, run, stanza, step

MAM = "urn:xmpp:mam:2"
NS.update({"mam": MAM, "rsm": "http://jabber.org/protocol/rsm", "forward": "urn:xmpp:forward:0", "sid": "urn:xmpp:sid:0"})
LINES = 23  # three pages of ten
NEVER = "mercutio"  # whom Romeo wants nothing kept of


async def play(world: World) -> None:
    romeo, juliet = await world.log_in("romeo"), await world.log_in("juliet")
    said, received = await talk(world, romeo, juliet)
    step("On a new device he finds all of it: he logs in there for the first time")
    device = world.client("romeo", "new")
    for plugin in "xep_0059", "xep_0313", "xep_0441":
        device.register_plugin(plugin)
    await device.log_in()
    await features(device)
    found = await everything(device, said)
    await filters(device, juliet, said, found)
    await errors(device)
    step("What the archive calls a message is what it was told as when it came (XEP-0359)")
    for text, ident in received.items():
        check(found[text][0] == ident, f"{text!r} came as {ident} and is kept as {found[text][0]}")
    await others(world, device, juliet)
    await preferences(device, juliet, found)


async def talk(world: World, romeo, juliet) -> tuple[list[str], dict[str, str]]:
    """Returns what is in Romeo's archive, and the ids of what he received."""
    step(f"Romeo and Juliet say {LINES} lines; the last ones while she is offline")
    said, received = [], {}
    for number in range(LINES - 3):
        one, other = (romeo, juliet) if number % 3 else (juliet, romeo)
        text = f"line {number} ♥ <&>"
        one.send_message(mto=other.account, mbody=text, mtype="chat")
        message = await other.expect(text, stanza("message", one.account, has="c:body", text=text))
        said.append(text)
        if other is romeo:
            ident = message.find(f"sid:stanza-id[@by='{romeo.account}']", NS)
            check(ident is not None, f"{text!r} should come with its id in Romeo's archive")
            received[text] = ident.get("id")
    await juliet.log_out()
    for number in range(LINES - 3, LINES):
        romeo.send_message(mto=juliet.account, mbody=f"line {number}", mtype="chat")
        said.append(f"line {number}")
    await romeo.settle()
    await juliet_again(world)
    return said, received


async def juliet_again(world: World) -> None:
    juliet = await world.log_in("juliet", "tablet")
    await juliet.expect("the last line", stanza("message", has="c:body", text=f"line {LINES - 1}"))
    await juliet.log_out()


async def features(device) -> None:
    step("His account says that it has an archive, with the extended features, and what can be asked for")
    info = await device["xep_0030"].get_info(device.account)
    for feature in MAM, MAM + "#extended":
        check(feature in info["disco_info"]["features"], f"the account should announce {feature}")
    form = await device["xep_0313"].get_fields(device.account)
    for name in "with", "start", "end", "before-id", "after-id", "ids":
        check(name in form.get_fields(), f"the form should offer {name}")


def told(result) -> tuple[str, tuple[str, str]]:
    """Text, and id with time, of a result."""
    forwarded = result.xml.find(f"{{{MAM}}}result/forward:forwarded", NS)
    ident = result.xml.find(f"{{{MAM}}}result").get("id")
    return forwarded.findtext("c:message/c:body", namespaces=NS), (ident, forwarded.find("delay:delay", NS).get("stamp"))


async def collect(pages) -> list[tuple[str, tuple[str, str]]]:
    return [told(result) async for result in pages]


async def everything(device, said: list[str]) -> dict[str, tuple[str, str]]:
    step("He reads it forward in pages of ten, and of seven, and backward")
    mam = device["xep_0313"]
    forward = await collect(mam.iterate())
    check([text for text, _ in forward] == said, f"all should be there once and in order: {forward}")
    if device.role["server"] == "pibox":  # Prosody's have no address
        named = await collect(mam.iterate(device.account))
        check(named == forward, "the results should come from the account's address")
    sevens = await collect(mam.iterate(rsm={"max": 7}))
    check(sevens == forward, "pages of seven should hold the same")
    backward = await collect(mam.iterate(reverse=True))
    check(backward == forward[::-1], f"backward it should be the same in reverse: {backward}")
    metadata = await mam.get_archive_metadata(device.account)
    ends = [metadata["mam_metadata"][end]["id"] for end in ("start", "end")]
    check(ends == [forward[0][1][0], forward[-1][1][0]], f"the metadata should name both ends, not {ends}")
    return dict(forward)


async def query(device, form: str = "", rsm: str = "", more: str = "", ident: str = "") -> object:
    """A query by hand, for what slixmpp's plugin can not say."""
    fields = f"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{MAM}</value></field>{form}</x>"
    return await device.ask("set", device.account, f"<query xmlns='{MAM}' queryid='{ident}'>{fields}"
                            f"<set xmlns='{NS['rsm']}'>{rsm}</set>{more}</query>")


async def page(device, form: str = "", rsm: str = "", more: str = "") -> tuple[list[str], object]:
    """The texts of one page in the order they came, and the fin."""
    ident = device.new_id()
    reply = await query(device, form, rsm, more, ident)
    check(reply.get("type") == "result", "the query should not fail")
    results = device.all_of(stanza("message", has=f"mam:result[@queryid='{ident}']"))
    texts = [result.findtext("mam:result/forward:forwarded/c:message/c:body", namespaces=NS) for result in results]
    return texts, reply.find("mam:fin", NS)


def field(name: str, *values: str) -> str:
    return f"<field var='{name}'>" + "".join(f"<value>{value}</value>" for value in values) + "</field>"


async def filters(device, juliet, said: list[str], found: dict[str, tuple[str, str]]) -> None:
    mam = device["xep_0313"]
    step("By whom, by device, by time, by ids; and a page whose order is flipped")
    check([text for text, _ in await collect(mam.iterate(with_jid=juliet.account))] == said, "with Juliet is all of it")
    check(not await collect(mam.iterate(with_jid="nurse@" + juliet.boundjid.host)), "with the nurse there is nothing")
    hers = [text for index, text in enumerate(said[:LINES - 3]) if index % 3 == 0]
    if device.role["server"] == "pibox":  # Prosody knows the other side by its bare address only
        check([text for text, _ in await collect(mam.iterate(with_jid=juliet.boundjid.full))] == hers, "her phone said these")
    middle = parse_time(found[said[9]][1])
    later = [text for text, _ in await collect(mam.iterate(start=middle))]
    check(later == said[-len(later):] and said[9] in later, f"from then on it should be the rest, not {later}")
    earlier = [text for text, _ in await collect(mam.iterate(end=middle - timedelta(microseconds=1)))]
    check(earlier + later == said, f"and before it what came before: {earlier}")
    ident = {text: found[text][0] for text in said}
    texts, fin = await page(device, field("ids", ident[said[5]], ident[said[2]]))
    check(texts == [said[2], said[5]] and fin.get("complete") == "true", f"these two were asked for, not {texts}")
    texts, _ = await page(device, field("after-id", ident[said[3]]) + field("before-id", ident[said[7]]))
    check(texts == said[4:7], f"between two it should be those between, not {texts}")
    texts, fin = await page(device, rsm="<max>4</max><before/>", more="<flip-page/>")
    check(texts == said[:-5:-1] and fin.get("complete") != "true", f"flipped, the last page should come last first: {texts}")
    texts, _ = await page(device, rsm=f"<max>4</max><before>{ident[said[4]]}</before>")
    check(texts == said[:4], f"before the fifth there are four: {texts}")
    texts, fin = await page(device, rsm="<max>0</max>")
    check(not texts and fin.findtext("rsm:set/rsm:count", namespaces=NS) == str(LINES), "the count should be told")


async def errors(device) -> None:
    step("What can not be asked for is refused as the XEP says")
    for what, form, rsm, condition in (
        ("an unknown field", field("full-text", "love"), "", "feature-not-implemented"),
        ("an unknown id", field("ids", "no-such-id"), "", "item-not-found"),
        ("an unknown page", "", "<after>no-such-id</after>", "item-not-found"),
    ):
        if form and device.role["server"] != "pibox":
            continue  # Prosody 0.12 ignores both
        reply = await query(device, form, rsm)
        check(reply.find(f"c:error/e:{condition}", NS) is not None, f"{what} should be {condition}")


async def others(world: World, device, juliet) -> None:
    step("Juliet's archive has the same words, and is not Romeo's to read")
    try:
        await device["xep_0313"].retrieve(juliet.account)
        raise Failed("Juliet's archive should be hers alone")
    except IqError as error:
        check(error.condition in ("forbidden", "service-unavailable"), f"it should be forbidden, not {error.condition}")


async def preferences(device, juliet, found: dict[str, tuple[str, str]]) -> None:
    step("He wants nothing kept of Mercutio; to himself and to Juliet it goes on")
    mercutio = f"{NEVER}@{juliet.boundjid.host}"
    await device["xep_0441"].set_preferences(default="always", never=[mercutio])
    default, always, never = await device["xep_0441"].get_preferences()
    check((default, set(always), {str(jid) for jid in never}) == ("always", set(), {mercutio}), "what he wants should be told")
    for to, text in (mercutio, "not this"), (juliet.account, "but this"):
        device.send_message(mto=to, mbody=text, mtype="chat")
    await device.settle()
    now = [text for text, _ in await collect(device["xep_0313"].iterate())]
    check(now == [*found, "but this"], f"only what he wants should be kept: {now[-2:]}")


run(play)
