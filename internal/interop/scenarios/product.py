"""The product's own commands."""

import asyncio
import json

from families import Family
from steps import check


async def pibox(family: Family, domain: str, *arguments: str, typed: str = "") -> dict:
    """One command at the box that serves this domain; what it answers as JSON."""
    command = [*family.world.settings["servers"][domain]["command"], *arguments, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    printed, complaint = await process.communicate(typed.encode())
    check(process.returncode == 0, f"pibox {' '.join(arguments)}: {(complaint or printed).decode()}")
    return json.loads(printed)
