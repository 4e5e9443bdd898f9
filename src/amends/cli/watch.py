"""`--watch`: the same lines again and again. A terminal is painted over; into a pipe goes what is new."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from amends.cli.output import on_terminal, paint, say

EVERY_SECONDS: Final = 1.0
HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"

Look = Callable[[], Awaitable[Sequence[str]]]
Over = Callable[[], bool]


async def watch_lines(look: Look, *, table: bool, over: Over, every: float = EVERY_SECONDS) -> None:
    """Show it until it is over, or the person has seen enough."""
    before: Sequence[str] | None = None
    try:
        while True:
            lines = await look()
            if lines != before and lines:
                if on_terminal():
                    _paint(lines)
                else:
                    say(lines, table=table)
            before = lines
            if over():
                return
            await asyncio.sleep(every)
    except asyncio.CancelledError:  # Ctrl-C: asyncio cancels what runs
        return


def _paint(lines: Sequence[str]) -> None:
    size = shutil.get_terminal_size()
    paint(HOME_AND_CLEAR, lines, rows=size.lines - 1, columns=size.columns, end="\n")
