"""People with an XMPP client, slixmpp. Each checks the certificate of the family's authority for the domain, and logs in by SCRAM."""

import asyncio
import contextlib
import pathlib

from slixmpp import ClientXMPP

from harness import Failed

WAIT = 30


class Person(ClientXMPP):
    """One device of one account."""

    def __init__(self, name, password, authority):
        super().__init__(f"{name}@family.example/phone", password)
        self.ca_certs = pathlib.Path(authority)
        self.ssl_context.check_hostname = True
        self.enable_direct_tls, self.enable_plaintext = False, False
        self.register_plugin("xep_0199")
        self.register_plugin("xep_0313")
        self.heard, self.changed, self.there, self.why = [], asyncio.Event(), False, ""
        self.add_event_handler("message", self.hear)
        self.add_event_handler("roster_update", lambda _: self.changed.set())
        self.add_event_handler("session_start", lambda _: self.note(True, ""))
        for event in "failed_all_auth", "connection_failed", "ssl_invalid_chain", "stream_error", "disconnected":
            self.add_event_handler(event, lambda reason, event=event: self.note(False, f"{event} {reason or ''}"))

    def note(self, there, why):
        self.there, self.why = there, self.why or why
        self.changed.set()

    def hear(self, message):
        if message["body"]:
            self.heard.append(message["body"])
            self.changed.set()

    async def until(self, holds, what):
        end = asyncio.get_running_loop().time() + WAIT
        while not holds():
            self.changed.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self.changed.wait()
            except TimeoutError:
                raise Failed(f"{self.boundjid}: {what}: not within {WAIT} s ({self.why})") from None

    async def log_in(self, host, port=5222):
        self.connect(host, port)
        await self.until(lambda: self.there or self.why, "to be logged in")
        if not self.there:
            self.abort()
            raise Failed(f"{self.boundjid} can not log in at {host}: {self.why}")
        await self.get_roster()
        self.send_presence()
        await self.settled()
        return self

    async def settled(self):
        """When this has returned the server has taken what was sent before."""
        await self["xep_0199"].send_ping(self.boundjid.domain, timeout=WAIT)

    async def log_out(self):
        if self.there:
            self.disconnect()
            await self.until(lambda: not self.there, "to be logged out")

    async def befriend(self, other):
        self.send_presence_subscription(pto=other.boundjid.bare)
        await self.until(lambda: self.friends().get(other.boundjid.bare) == "both", f"to have {other.boundjid.bare} as a contact")

    def friends(self):
        return {jid: self.client_roster[jid]["subscription"] for jid in self.client_roster.keys() if self.client_roster[jid]["subscription"] != "none"}

    async def say(self, other, text):
        self.send_message(mto=other.boundjid.bare, mbody=text, mtype="chat")
        await other.until(lambda: text in other.heard, f"to hear {text!r}")

    async def leave_word(self, other, text):
        """Returns when the server has it in its archive: it may be lost no more."""
        self.send_message(mto=other.boundjid.bare, mbody=text, mtype="chat")
        async with asyncio.timeout(WAIT):
            while text not in await self.archive():
                await asyncio.sleep(0.2)

    async def archive(self):
        answer = await self["xep_0313"].retrieve(rsm={"max": "50"})
        return [found["mam_result"]["forwarded"]["stanza"]["body"] for found in answer["mam"]["results"]]


@contextlib.asynccontextmanager
async def logged_in(host, authority, passwords, *names):
    """These people, logged in at the host."""
    people = []
    try:
        for name in names:
            people.append(await Person(name, passwords[name], authority).log_in(host))
        yield people
    finally:
        for person in people:
            await person.log_out()
