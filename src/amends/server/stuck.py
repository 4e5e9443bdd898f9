"""What is stuck, by cause: what a person looks at first, since forty runs with one cause are one thing to repair."""

from collections.abc import AsyncIterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.ports.log import LogReader, StoredRun
from amends.ports.rows import RUN_PHASE, WHOLE_RUN
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.runs import asked_where
from amends.views.run import StuckRow, StuckView, marks_of, moment
from amends.views.run_filter import Where, find_rows
from amends.views.stored import Graphs, stored_view

CAUSES_MAX: Final = 1_000
"""Causes told apart; beyond them a step's items or reasons are chaos, and the first thousand say so."""

STUCK: Final = ("stuck",)


class CauseView(msgspec.Struct, frozen=True):
    """Runs that are stuck for one reason. `first` is the one that has waited longest, since `oldest`; `detail` is what
    was said about it. Of runs that were set aside as a whole `step` is empty and `phase` is `run`.
    """

    saga: str
    step: str
    phase: str
    reason: str
    code: str | None
    detail: str | None
    count: int
    oldest: datetime
    first: str


class CausesView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The causes, that with the most runs first; `runs` need a person. At most 1,000 causes are listed: `unlisted` runs
    have others, which a narrower question finds (`where=saga=...`).
    """

    runs: int
    causes: list[CauseView]
    unlisted: int = 0


@dataclass(slots=True)
class _Cause:
    count: int
    oldest: datetime
    first: str


_Key = tuple[str, str, str, str, str | None]


async def stuck(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/stuck`: what needs a person, by cause: saga, step, phase, reason, how many, since when."""
    where = asked_where(request, caller)
    view = await causes(context.engine.log, where, context.graphs)
    return Response(msgspec.json.encode(view), 200, media_type="application/json")


async def causes(log: LogReader, where: Where, graphs: Graphs | None = None) -> CausesView:
    """The causes of the stuck runs that are meant; with what was said about the first run of each."""
    meant = replace(where, find=replace(where.find, states=STUCK))
    found, runs, unlisted = await _grouped(log, find_rows(log, meant), meant)
    ordered = sorted(found.items(), key=lambda each: (-each[1].count, each[1].oldest))
    return CausesView(
        runs,
        [
            CauseView(*key[:-1], *await _said(log, key, cause, graphs), cause.count, cause.oldest, cause.first)
            for key, cause in ordered
        ],
        unlisted,
    )


async def _grouped(log: LogReader, rows: AsyncIterable[StoredRun], where: Where) -> tuple[dict[_Key, _Cause], int, int]:
    """The causes, how many runs there are, and how many of them have a cause that found no place."""
    found: dict[_Key, _Cause] = {}
    runs = unlisted = 0
    async for row in rows:
        runs += 1
        marks = marks_of(row)
        keys = {_key(row, mark): mark.since for mark in marks if where.means(mark)}
        if not marks:
            keys = {await _whole(log, row): moment(row.updated_at)}
        unlisted += len(found) >= CAUSES_MAX and found.keys().isdisjoint(keys)
        for key, since in keys.items():
            known = found.get(key)
            if known is None:
                if len(found) < CAUSES_MAX:
                    found[key] = _Cause(1, since, row.run)
                continue
            known.count += 1
            if since < known.oldest:
                known.oldest, known.first = since, row.run
    return found, runs, unlisted


def _key(row: StoredRun, mark: StuckRow) -> _Key:
    """Calls of one step that makes many are one cause."""
    return row.saga, mark.step.partition("/")[0], mark.phase, mark.reason, mark.code


async def _whole(log: LogReader, row: StoredRun) -> _Key:
    """A run that is stuck as a whole says why in its history alone."""
    _, view = await stored_view(log, row.run)
    reason = next((each.reason for each in view.stuck), "quarantined")
    return row.saga, WHOLE_RUN, RUN_PHASE, reason, None


async def _said(log: LogReader, key: _Key, cause: _Cause, graphs: Graphs | None) -> tuple[str | None, str | None]:
    """Code and detail of the first run's mark, as its view shows them; the row has the code as it came."""
    _, view = await stored_view(log, cause.first, graphs)
    _, step, phase, reason, code = key

    def is_it(each: StuckView) -> bool:
        named = (each.step.partition("/")[0], each.phase, each.reason, each.code is None)
        return named == (step, phase, reason, code is None)

    found = [each for each in view.stuck if is_it(each)]
    exactly = [each for each in found if each.code == code]
    return next(((each.code, each.detail) for each in exactly or found), (code, None))
