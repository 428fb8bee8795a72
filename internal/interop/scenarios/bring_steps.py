"""What the scenarios of bringing and leaving share: what an account holds, and the command."""

import asyncio
import json

from steps import World

PUBLISH = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{}'><item id='{}'>{}</item></publish></pubsub>"
READ = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{}'/></pubsub>"
CARD = "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN></vCard>"
ROOM = "<conference xmlns='urn:xmpp:bookmarks:1' name='Orchard' autojoin='true'/>"
NOTES = "<query xmlns='jabber:iq:private'><storage xmlns='storage:rosternotes'>{}</storage></query>"
OMEMO = "eu.siacs.conversations.axolotl.devicelist"


async def pibox(world: World, role: str, *command: str, password: str) -> tuple[int, dict]:
    """Runs a command at the box where that role lives."""
    box = world.jid(role).partition("@")[2]
    process = await asyncio.create_subprocess_exec(
        world.settings["program"], *command, "--socket", world.settings["admin"][box], "--password-stdin", "--json",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate(password.encode() + b"\n")
    return process.returncode, json.loads(out or err)
