"""What is Snikket's own: accounts by invitation, circles, and an account in a file that its user gets and gives over HTTP."""

import asyncio
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

from bring_steps import pibox
from light import Light
from steps import NS, WAIT, World, check, stanza, step

CIRCLE = "Family"


async def join(role: dict) -> None:
    """Makes an account as an invited newcomer does (XEP-0445); without an invitation there is none."""
    step(f"{role['jid']} is made, by invitation")
    refused = await _Newcomer(role).register()
    check(refused.get("type") == "error", f"nobody should get an account without an invitation: {ET.tostring(refused, 'unicode')}")
    token = urllib.request.urlopen(f"{role['portal']}/invite", timeout=WAIT).read().decode()
    made = await _Newcomer(role).register(token)
    check(made.get("type") == "result", f"the account should be made: {ET.tostring(made, 'unicode')}")


class _Newcomer(Light):
    async def register(self, token: str = "") -> ET.Element:
        name, _, domain = self.account.partition("@")
        await self._reach(domain)
        if token:
            self.tell(f"<iq type='set' id='invitation' to='{domain}'><preauth xmlns='urn:xmpp:pars:0' token='{token}'/></iq>")
            await self._next()
        self.tell(f"<iq type='set' id='account' to='{domain}'><query xmlns='jabber:iq:register'><username>{name}</username>"
                  f"<password>{self.role['password']}</password></query></iq>")
        answer = await self._next()
        self._writer.close()
        return answer


async def take_in(world: World, account: str, role: str) -> None:
    """Gives an account's export to the new one, as the web page after an invitation offers. Snikket believes the subscriptions in it."""
    box, new = account.partition("@")[2], world.settings["roles"][role]
    step(f"{new['jid']} is given what the box exports of {account}")
    file = Path(world.settings["folder"]) / f"{account}.xml"
    process = await asyncio.create_subprocess_exec(*world.settings["servers"][box]["command"], "export", account, "--to", str(file))
    check(await process.wait() == 0, "the box should export the account")
    request = urllib.request.Request(f"{new['portal']}/import/{new['jid'].partition('@')[0]}", file.read_bytes(), method="PUT")
    with urllib.request.urlopen(request, timeout=WAIT) as answer:
        check(answer.status == 200, f"the file should be taken: {answer.status}")


async def circle_at_home(world: World, one: str, other: str) -> None:
    step("Who is in one circle is on each other's list, without having asked")
    people = [await world.log_in(role) for role in (one, other)]
    for person, peer in zip(people, reversed(people)):
        item = (await person.roster_items())[peer.account]
        check(item.get("subscription") == "both" and [g.text for g in item] == [CIRCLE], f"{ET.tostring(item, 'unicode')}")
        await person.log_out()


async def circle_moved(world: World, juliet, role: str) -> None:
    step("Her circle came along as contacts and as a group; its server verifies no moves, so the nurse is asked, and goes on being in the circle")
    nurse = await world.log_in(role)
    mine = (await juliet.roster_items())[nurse.account]
    check([g.text for g in mine] == [CIRCLE], f"the nurse should be in the group of the circle: {ET.tostring(mine, 'unicode')}")
    await nurse.expect("the request", stanza("presence", juliet.account, type="subscribe"))
    nurse.tell(f"<presence type='subscribed' to='{juliet.account}'/><presence type='subscribe' to='{juliet.account}'/>")
    await nurse.expect("her approval", stanza("presence", juliet.account, type="subscribed"))
    await nurse.settle()
    mine = (await juliet.roster_items())[nurse.account]
    check(mine.get("subscription") == "both", f"both should see each other: {ET.tostring(mine, 'unicode')}")
    await nurse.log_out()
    items = await (await world.log_in(role, "tablet")).roster_items()
    old = world.jid("old")
    check(items[juliet.account].get("subscription") == items[old].get("subscription") == "both", "her circle should be what it was, and Juliet beside it")


async def circle_follows(world: World, juliet, role: str, new: str) -> None:
    step("The nurse is brought, too: who shared a circle is each other's contact at the new addresses, and nobody was asked")
    code, said = await pibox(world, new, "move", "bring", world.jid(role), world.jid(new), password=world.settings["roles"][role]["password"])
    check(code == 0 and said["migration"]["state"] == "done", f"she should be here: {said}")
    nurse = await world.log_in(new)
    for person, peer in (juliet, nurse), (nurse, juliet):
        async with asyncio.timeout(WAIT):
            while (item := (await person.roster_items()).get(peer.account)) is None or item.get("subscription") != "both":
                await asyncio.sleep(0.2)
        check(person is nurse or [g.text for g in item] == [CIRCLE], f"she should be in the group of the circle: {ET.tostring(item, 'unicode')}")
    juliet.none_of("a request", stanza("presence", nurse.account, type="subscribe"))
