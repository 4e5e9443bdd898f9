"""Commands against a stage, and their texts with times, ports and names of workers put aside."""

import asyncio
import re
from pathlib import Path
from typing import Final

from tests.fast.cli.commands import Told, amends
from tests.fast.cli.place_order import Stage

_ASIDE: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d "), ""),
    (re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d)\b"), "N s"),
    (re.compile(r"(owner +)[\w-]+"), r"\1WORKER"),
    (re.compile(r"(digest )[0-9a-f]{4}"), r"\1HASH"),
    (re.compile(r"input \d+ bytes"), "input N bytes"),
    (re.compile(r" {2,}"), "  "),
)


def aside(text: str) -> str:
    """The text without what differs from run to run; columns are two spaces apart."""
    for pattern, kept in _ASIDE:
        text = pattern.sub(kept, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def expected(text: str) -> str:
    """A text of the documentation, in the same form."""
    return aside(text.strip("\n"))


async def told(stage: Stage, folder: Path, *arguments: str) -> Told:
    """A command asked of the stage's server."""
    return await asyncio.to_thread(amends, folder, *arguments, "--server", stage.url)


async def told_by_log(stage: Stage, folder: Path, *arguments: str) -> Told:
    """The same, asked of the log behind it."""
    return await asyncio.to_thread(amends, folder, *arguments, "--log", stage.log)
