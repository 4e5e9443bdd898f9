"""`amends rekey`: which key reads how much of a log, and so when a former one can go.

Nothing is encrypted anew, and it says why: a history that is never changed is what everything else rests on, and the
former key goes on reading what it wrote (docs/decisions/0015).
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from amends.cli.errors import BadUsage
from amends.cli.output import Json, as_json, say
from amends.cli.source_log import LogToOpen, log_meant, settings_here
from amends.cli.texts.tables import aligned, counted

PAGE: Final = 200
"""Runs looked at between two words on how far it got."""

PLAIN: Final = "-"
"""How the key is called of what isn't encrypted."""

WHY: Final = (
    "Nothing is written anew: what is in the log is never changed, and a former key goes on reading what it wrote.",
    "It can go once it reads nothing more: what it wrote goes with its runs ([privacy] keep, or amends purge).",
)


def rekey(
    *,
    log: LogToOpen = None,
    json: Json = False,
) -> None:
    """Say how much of the log each key still reads, and which can go. Nothing is encrypted anew."""
    names = _names()
    events, runs, live = asyncio.run(_counted(log_meant(log)))
    rows = [(key, where, events[key], runs[key], live[key]) for key, where in names.items()]
    rows += [
        (key, "not encrypted" if key == PLAIN else "MISSING", events[key], runs[key], live[key])
        for key in sorted(set(events) - set(names))
    ]
    if json:
        titles = ("key", "setting", "events", "runs", "live_runs")
        as_json({"keys": [dict(zip(titles, row, strict=True)) for row in rows], "written_anew": 0})
        return
    cells = [("KEY", "SETTING", "EVENTS", "RUNS", "NOT ENDED"), *(tuple(map(str, row)) for row in rows)]
    say([*aligned(cells), "", *_advice(rows), *WHY])


def _advice(rows: Sequence[tuple[str, str, int, int, int]]) -> Sequence[str]:
    lines: list[str] = []
    for key, where, events, runs, _ in rows:
        if where == "MISSING":
            lines.append(f"{key} wrote {counted(events, 'event')} and isn't here: add it to privacy.decrypt.")
        elif where.startswith("privacy.decrypt"):
            keeps = f"still reads {counted(events, 'event')} of {counted(runs, 'run')}: keep it."
            lines.append(f"{key} {keeps if events else f'reads nothing more: take it out of {where}.'}")
    return [*lines, ""] if lines else []


def _names() -> dict[str, str]:
    """Every key that is set, by the name it has in what it wrote, with the setting it stands in."""
    privacy = settings_here().privacy
    keys = [] if privacy.encrypt is None else [("privacy.encrypt", privacy.encrypt)]
    keys += [(f"privacy.decrypt[{index}]", each) for index, each in enumerate(privacy.decrypt)]
    if not keys:
        return {}
    try:
        from amends.codecs.encrypted import key_name
    except ModuleNotFoundError as error:
        msg = "privacy.encrypt requires the 'crypto' extra: pip install \"amends[crypto]\""
        raise BadUsage(msg) from error
    return {key_name(secret.look_up()): where for where, secret in keys}


async def _counted(url: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Events, runs, and runs that haven't ended, by the key that encrypted something of them."""
    from amends.codecs.seals import sealed_by
    from amends.orchestrator import open_reader
    from amends.ports.log import Find

    events, runs, live = Counter[str](), Counter[str](), Counter[str]()
    after, looked_at = None, 0
    async with open_reader(url) as reader:
        while True:
            page = await reader.find(Find(limit=PAGE, after=after))
            for row in page:
                read = await reader.read_events(row.run, 0)
                found = Counter(sealed_by(each.body) or PLAIN for each in read)
                events.update(found)
                runs.update(set(found))
                if row.ended_at is None:
                    live.update(set(found))
            looked_at += len(page)
            if len(page) < PAGE:
                return events, runs, live
            if sys.stderr.isatty():
                print(f"{looked_at} runs ...", end="\r", file=sys.stderr, flush=True)
            after = (page[-1].created_at, page[-1].run)
