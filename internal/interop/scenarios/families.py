"""A family, its contacts on every kind of server, and how they stand to each other: set up, looked at, compared."""

import asyncio
import dataclasses
import itertools

from belongings import give
from light import Light
from relations import RELATIONS, Outcome, Relation, Side
from steps import WAIT, Failed, World, check

GROUP = "Verona"
AT_ONCE = 16  # logins


@dataclasses.dataclass
class Contact:
    """Somebody whom every member knows, each in another way."""

    role: dict
    group: str
    number: int

    @property
    def jid(self) -> str:
        return self.role["jid"]

    @property
    def domain(self) -> str:
        return self.jid.partition("@")[2]

    @property
    def verifies(self) -> bool:
        return self.role["server"] == "pibox"

    @property
    def online(self) -> bool:
        """While the family moves. Of those whose servers verify, nobody is."""
        return not self.verifies and self.number % 2 == 0

    @property
    def refuses(self) -> bool:
        """His server does."""
        return self.group == "hermit"

    @property
    def declines(self) -> bool:
        return self.number % 4 == 3

    @property
    def name(self) -> str:
        return f"{self.group}{self.number}"


@dataclasses.dataclass
class Member:
    old: dict
    new: dict
    number: int

    @property
    def name(self) -> str:
        return f"member{self.number}"


class Family:
    def __init__(self, world: World):
        roles, options = world.settings["roles"], world.settings
        self.world, self.outage, self.domains = world, options["outage"], (options["old"], options["new"])
        self.members, self.contacts = [], []
        # Where a move is taken back: a request that is under way comes before its withdrawal, and uses a pre-approval up.
        self.welcomed = options.get("welcomed", True)
        self.relations = [relation for relation in RELATIONS if str(relation) in options.get("relations", [str(relation)])]
        groups = itertools.groupby((r for r in roles if not r.startswith(("member", "new"))), lambda r: r.rstrip("0123456789"))
        for group, names in groups:
            self.contacts += [Contact(roles[name], group, number) for number, name in enumerate(names, start=1)]
        self.groups = list(dict.fromkeys(contact.group for contact in self.contacts))
        for number in itertools.count(1):
            old = roles.get(f"member{number}")
            if old is None:
                break
            self.members.append(Member(old, roles.get(f"new{number}") or self._not_made(old, options["new"]), number))

    def _not_made(self, old: dict, domain: str) -> dict:
        """A new account that the move makes: the same name, and the old password."""
        server = self.world.settings["servers"][domain]
        return {**server, "jid": f"{old['jid'].partition('@')[0]}@{domain}", "password": old["password"]}

    def pairs(self):
        return itertools.product(self.members, self.contacts)

    @property
    def accounts(self) -> list[dict]:
        """The members', old and new."""
        return [role for member in self.members for role in (member.old, member.new)]

    def kin(self):
        """All members in front of all others."""
        return itertools.permutations(self.members, 2)

    def sees(self, one: Member, other: Member) -> bool:
        return (one.number, other.number) != (2, 1)

    def between(self, one: Member, other: Member) -> Side:
        """Members see each other; but the second has not asked to see the first."""
        return Side().with_sub(self.sees(one, other), self.sees(other, one))

    def relation(self, member: Member, contact: Contact) -> Relation:
        # Four contacts of five members have them all, and every member has all sorts.
        place = 4 * contact.number + 3 * self.groups.index(contact.group) + member.number
        relation = self.relations[place % len(self.relations)]
        if relation.welcome and not (contact.verifies and self.welcomed):
            return RELATIONS[0]  # ejabberd has no pre-approval, and Prosody 0.12 forgets to act on it
        return relation


async def log_in(roles: list[dict], presence: bool = False) -> dict[str, Light]:
    """Clients by their addresses."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(role: dict) -> Light:
        async with gate:
            return await Light(role).log_in(presence)

    clients = await asyncio.gather(*(one(role) for role in roles))
    return {client.account: client for client in clients}


async def log_out(clients: dict[str, Light]) -> None:
    await asyncio.gather(*(client.log_out() for client in clients.values()))


async def befriend(family: Family) -> None:
    """Everybody comes online, and with requests and answers all relations are made, and seen on both sides."""
    old = {m.number: m.old["jid"] for m in family.members}
    clients = await log_in([m.old for m in family.members] + [c.role for c in family.contacts], presence=True)
    for client in clients.values():
        client.insists = True
    for member, contact in family.pairs():
        relation = family.relation(member, contact)
        mine, theirs = clients[old[member.number]], clients[contact.jid]
        if relation.member.sees:
            theirs.approves.add(mine.account)
        if relation.member.shows:
            mine.approves.add(theirs.account)
    await asyncio.gather(*(_name(family, *pair, clients) for pair in family.pairs()),
                         *(clients[one.old["jid"]].put(other.old["jid"], name_of(other), GROUP) for one, other in family.kin()))
    for member, contact in family.pairs():
        relation = family.relation(member, contact)
        mine, theirs = clients[old[member.number]], clients[contact.jid]
        if relation.approved:
            mine.presence("subscribed", theirs.account)
        if relation.member.sees or relation.out:
            mine.presence("subscribe", theirs.account)
        if relation.member.shows or relation.waits:
            theirs.presence("subscribe", mine.account)
    for one, other in family.kin():
        if family.sees(one, other):
            clients[other.old["jid"]].approves.add(one.old["jid"])
            clients[one.old["jid"]].presence("subscribe", other.old["jid"])
    await _all_stand(family, clients)
    await asyncio.gather(*(_block(family.relation(*pair), *pair, clients) for pair in family.pairs()))
    await asyncio.gather(*(give(clients[m.old["jid"]], family.contacts[0].jid) for m in family.members))
    await log_out(clients)


async def _name(family: Family, member: Member, contact: Contact, clients: dict[str, Light]) -> None:
    """Both have a name for the other one where they have an item at all."""
    relation = family.relation(member, contact)
    if relation.item:
        await clients[member.old["jid"]].put(contact.jid, name_of(contact), GROUP)
    if relation.contact.sub != "none":
        await clients[contact.jid].put(member.old["jid"], name_of(member), GROUP)


def name_of(person: Member | Contact) -> str:
    return f"{person.name} ♥ <&>"


async def _block(relation: Relation, member: Member, contact: Contact, clients: dict[str, Light]) -> None:
    if relation.block == "member":
        await clients[member.old["jid"]].block(contact.jid)
    elif relation.block:
        await clients[contact.jid].block(member.old["jid"] if relation.block == "old" else member.new["jid"])
    if relation.welcome:
        clients[contact.jid].presence("subscribed", member.new["jid"])
        await clients[contact.jid].settle()


async def _all_stand(family: Family, clients: dict[str, Light]) -> None:
    for member, contact in family.pairs():
        relation = family.relation(member, contact)
        mine, theirs = clients[member.old["jid"]], clients[contact.jid]
        for one, other, side in (mine, theirs, relation.member), (theirs, mine, relation.contact):
            if not await one.until(lambda: stands(one, other.account) == told(one, side)):
                raise Failed(f"{one.account} should have {side} for {other.account}, not {stands(one, other.account)}")
    for one, other in family.kin():
        mine, theirs = clients[one.old["jid"]], other.old["jid"]
        check(await mine.until(lambda: stands(mine, theirs) == family.between(one, other)), f"{one.name} should have {other.name}")


def stands(client: Light, other: str) -> Side:
    return told(client, Side.of(client.items.get(other), other in client.requests))


def told(client: Light, side: Side) -> Side:
    """Only a box tells its clients of pre-approvals."""
    return side if client.kind == "pibox" else dataclasses.replace(side, approved=False)


@dataclasses.dataclass
class Row:
    """One relation: what was, what should be, what is."""

    member: Member
    contact: Contact
    relation: Relation
    expected: Outcome
    found: tuple[Side, Side, Side, Side] | None = None
    wrong: list[str] = dataclasses.field(default_factory=list)
    item: bool = True  # the new account has one of the contact

    def __post_init__(self):
        self.item = self.relation.item

    def look(self, clients: dict[str, Light]) -> None:
        """Reads the four sides that the clients show, and notes what differs."""
        old, new = self.member.old["jid"], self.member.new["jid"]
        theirs = clients[self.contact.jid]
        self.found = (stands(theirs, old), stands(theirs, new), stands(clients[old], self.contact.jid),
                      stands(clients[new], self.contact.jid))
        if not self.as_expected(clients):
            self.wrong.append("WRONG")

    def as_expected(self, clients: dict[str, Light]) -> bool:
        """Whether what was looked at is what should be."""
        wanted = self.expected
        theirs, old, new = (clients[jid] for jid in (self.contact.jid, self.member.old["jid"], self.member.new["jid"]))
        sides = told(theirs, wanted.old), told(theirs, wanted.new), told(old, wanted.left), told(new, wanted.moved)
        return self.found == sides

    def left(self, clients: dict[str, Light]) -> bool:
        """The member's old roster shows what is expected."""
        return stands(clients[self.member.old["jid"]], self.contact.jid).sub == self.expected.left.sub

    def moved(self, clients: dict[str, Light]) -> bool:
        """The new one does. Requests that wait are seen only by who is available."""
        has, wanted = stands(clients[self.member.new["jid"]], self.contact.jid), self.expected.moved
        return (has.sub, has.out) == (wanted.sub, wanted.out)


def _cell(sides) -> str:
    old, new, left, moved = sides
    return f"{old} / {new} | {left} / {moved}"


def print_table(rows: list[Row]) -> None:
    """`a / b | c / d`: what the contact has of the old and the new address, and what the member has of him in the old and the new account."""
    heads = "contact", "server", "there", "member", "had", "expected", "after", "followed"
    lines = [heads]
    for row in sorted(rows, key=lambda row: (row.contact.group, row.contact.number, row.member.number)):
        wanted = row.expected
        lines.append((
            row.contact.name, row.contact.role["server"], "online" if row.contact.online else "-", row.member.name, str(row.relation),
            _cell((wanted.old, wanted.new, wanted.left, wanted.moved)),
            "; ".join([_cell(row.found) if row.found else "?", *row.wrong]), wanted.how))
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
