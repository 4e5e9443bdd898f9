"""`amends purge`: forget runs that ended long ago. What keeps ids from being used twice stays."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, tell
from amends.cli.source_log import LogToOpen, log_meant
from amends.core.words.errors import AmendsError, LogInUse

if TYPE_CHECKING:
    from amends.ports.log import TransactionLog

SLICE: Final = 1_000
"""Runs forgotten at a time, so that other statements don't wait for long."""

ENDED: Final = ("completed", "compensated", "abandoned")
UNITS: Final = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def purge(
    *,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="How long ago they ended: 90d, 12h, 30m.")],
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Only those that ended so.")] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Not possible: a server forgets by its settings.")
    ] = None,
    log: LogToOpen = None,
    keep_short: Annotated[
        bool, typer.Option("--keep-short", help="Confirm that AGE is meant where it is less than an hour.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and do nothing.")] = False,
    json: Json = False,
) -> None:
    """Forget the histories of runs that ended long ago. Their ids stay taken; stuck runs are never purged."""
    if server is not None:
        msg = (
            f"--server {server}: a server can't be told to forget, so that no token can empty its log. "
            'It forgets by its settings, while it runs: [privacy] keep = "90d". '
            "On PostgreSQL --log works beside it; on SQLite stop it first."
        )
        raise BadUsage(msg)
    if state is not None and state not in ENDED:
        msg = f"--state {state}: only what has ended is forgotten: {', '.join(ENDED)}."
        raise BadUsage(msg)
    ended_ago = age(older_than)
    if timedelta() < ended_ago < timedelta(hours=1) and not (keep_short or dry_run):  # 0s says plainly: all of them
        msg = f"--older-than {older_than} is less than an hour. If that is meant, add --keep-short."
        raise BadUsage(msg)
    before = datetime.now(UTC) - ended_ago
    count = asyncio.run(_purged(log_meant(log), before, state, dry_run=dry_run))
    if json:
        as_json({"purged": 0 if dry_run else count, "matched": count, "ended_before": before})
    else:
        word = "would be forgotten" if dry_run else "forgotten"
        tell(f"{count} {'run' if count == 1 else 'runs'} {word} that ended before {before:%Y-%m-%d %H:%M:%S} UTC")


def age(text: str) -> timedelta:
    """`90d`, `12h`, `30m`, `10s`."""
    found = re.fullmatch(r"([0-9]{1,6})([dhms])", text)
    if found is None:
        msg = f"--older-than {text}: expected a number and a unit, as 90d, 12h, 30m or 10s."
        raise BadUsage(msg)
    return timedelta(**{UNITS[found[2]]: int(found[1])})


async def _purged(url: str, before: datetime, state: str | None, *, dry_run: bool) -> int:
    micros = round(before.timestamp() * 1_000_000)
    log = _log(url)
    try:
        await log.open()
    except LogInUse as error:
        msg = f"{error}\nIts server purges by itself: [privacy] keep in its settings."
        raise LogInUse(msg) from error
    try:
        if dry_run:
            return await _count(log, micros, ENDED if state is None else (state,))
        count = 0
        while forgotten := await log.purge(micros, SLICE, state):
            count += forgotten
        return count
    finally:
        await log.close()


async def _count(log: "TransactionLog", micros: int, states: Sequence[str]) -> int:
    from amends.ports.log import Find

    count, after = 0, None
    while True:
        page = await log.find(Find(states=states, limit=SLICE, after=after))
        count += sum(1 for row in page if row.ended_at is not None and row.ended_at < micros and row.steps != b"[]")
        if len(page) < SLICE:
            return count
        after = (page[-1].created_at, page[-1].run)


def _log(url: str) -> "TransactionLog":
    from amends.orchestrator import open_log

    try:
        return open_log(url)
    except AmendsError as error:
        msg = f"--log {error}"
        raise BadUsage(msg) from error
