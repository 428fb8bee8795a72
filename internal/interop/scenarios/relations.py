"""How two people stand to each other, and the rule book of a move: what each roster has to be afterwards.

All from RFC 6121 §2.1.2 and §3, and from docs/moved.md. A relation is told from the side of the member who moves.
"""

import dataclasses

from light import Item


@dataclasses.dataclass(frozen=True)
class Side:
    """What one account has of another: a roster item without its name, and a request that waits for an answer."""

    sub: str = "none"
    out: bool = False
    waits: bool = False  # a request of the other one awaits an answer
    approved: bool = False

    @classmethod
    def of(cls, item: Item | None, waits: bool, tells_approved: bool = True) -> "Side":
        """`tells_approved`: ejabberd and Prosody keep it to themselves, or have nothing of the kind."""
        item = item or Item()
        # A pre-approval that was used means nothing any more, whether it is kept or not (RFC 6121 §3.4.2).
        approved = item.approved and tells_approved and item.sub not in ("from", "both")
        return cls(item.sub, item.out, waits, approved)

    @property
    def sees(self) -> bool:
        return self.sub in ("to", "both")

    @property
    def shows(self) -> bool:
        return self.sub in ("from", "both")

    def with_sub(self, sees: bool, shows: bool) -> "Side":
        """Both directions as told. Who shows himself needs no pre-approval any more (RFC 6121 §3.4.2)."""
        sub = {(False, False): "none", (True, False): "to", (False, True): "from", (True, True): "both"}[sees, shows]
        return dataclasses.replace(self, sub=sub, approved=self.approved and not shows)

    def __str__(self) -> str:
        flags = ("+out" if self.out else "") + ("+in" if self.waits else "") + ("+appr" if self.approved else "")
        return self.sub + flags


@dataclasses.dataclass(frozen=True)
class Relation:
    """`block`: "member" blocks the contact, or the contact blocks the "old" or the "new" address. `welcome`: the contact
    pre-approved the new address. `item` False: there is none, as with who has only asked (RFC 6121 §3.1.3)."""

    sub: str = "none"
    out: bool = False
    waits: bool = False
    approved: bool = False
    item: bool = True
    block: str | None = None
    welcome: bool = False

    @property
    def member(self) -> Side:
        return Side(self.sub, self.out, self.waits, self.approved)

    @property
    def contact(self) -> Side:
        member = self.member
        return Side("none", out=self.waits, waits=self.out).with_sub(member.shows, member.sees)

    def __str__(self) -> str:
        return str(self.member) + (f", {self.block} blocked" if self.block else "") + (", new appr" if self.welcome else "")


RELATIONS = [
    Relation("both"), Relation("to"), Relation("from"), Relation("none"),
    Relation("none", waits=True, item=False), Relation("none", out=True), Relation("none", approved=True),
    Relation("none", out=True, waits=True), Relation("to", waits=True), Relation("to", approved=True),
    Relation("from", out=True), Relation("both", block="member"), Relation("both", block="old"),
    Relation("both", block="new"), Relation("both", welcome=True),
]


@dataclasses.dataclass
class Outcome:
    """`old` and `new`: what the contact has of the two addresses. `left` and `moved`: what the member has of the contact
    in the old and in the new account. `asked`: the contact sees a request; `told`: a message from the old address."""

    old: Side
    new: Side
    left: Side
    moved: Side
    how: str
    asked: bool = False
    told: bool = False


def expected(relation: Relation, verifies: bool, refused: bool = False) -> Outcome:
    """What is there when the servers have done all that they do by themselves. `verifies`: the contact's server does;
    `refused`: it takes no request at all."""
    was, theirs = relation.member, relation.contact
    # Nothing but what the contact makes it: RFC 6121 §3, moved.md "imported roster".
    begun = Side("none", out=was.sees or was.out, waits=was.waits, approved=was.shows)
    nothing = Outcome(theirs, Side(), was, begun, "nothing to follow", told=was.shows and not was.sees)
    if relation.block == "member":
        return dataclasses.replace(nothing, moved=Side(waits=was.waits), how="is blocked", told=False)
    if relation.block == "new":
        return dataclasses.replace(nothing, how="blocks")
    if not begun.out:
        return dataclasses.replace(nothing, how="is told" if nothing.told else nothing.how)
    if refused:
        return dataclasses.replace(nothing, moved=dataclasses.replace(begun, out=False), how="refuses")
    if was.sees and verifies and relation.block != "old":
        return Outcome(
            old=theirs.with_sub(theirs.sees, False), new=Side().with_sub(theirs.sees, True),
            left=was.with_sub(False, was.shows),
            moved=dataclasses.replace(begun, out=False).with_sub(True, was.shows),
            how="by itself")
    return dataclasses.replace(nothing, new=Side(waits=True), how="must approve", asked=True)


def answered(relation: Relation, outcome: Outcome, approves: bool) -> Outcome:
    """After the contact has answered the request by hand, and asked back where he saw the old address."""
    asks_back = approves and relation.contact.sees
    moved = dataclasses.replace(outcome.moved, out=False)
    if approves:
        moved = moved.with_sub(True, asks_back)
    new = Side().with_sub(asks_back, True) if approves else Side()
    return dataclasses.replace(outcome, new=new, moved=moved, how=f"must approve: {'does' if approves else 'declines'}")
