"""One verb for many runs: after an outage, a wrong route, a bad deploy.

A dry run counts; doing it takes that count back as `expected`, so that no operator moves more runs than the dry run
showed. Each run is decided by itself: one that is refused says why and holds up no other.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run import commands as c
from amends.core.run.events import Who
from amends.core.words.errors import InputInvalid, NoSuchRun, Refused
from amends.core.words.keys import STEP_NAME
from amends.core.words.limits import REASON_CHARACTERS_MAX
from amends.engine.visits import Ask
from amends.ports.log import StoredRun
from amends.ports.rows import WHOLE_RUN
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.problems import Problem, ProblemRaised, bad_request, problem_of
from amends.server.requests import decoded, decoder_of, read_body
from amends.server.runs import parsed
from amends.server.verbs import who
from amends.views.run import is_past_pivot, marks_of
from amends.views.run_filter import Where, find_rows

BULK_MAX: Final = 10_000
"""Runs that one request may move."""

AT_ONCE_MAX: Final = 64
"""Verbs that are decided at a time."""

SHOWN_MAX: Final = 100
"""Runs, and refusals, that an answer names."""

BulkVerb = Literal["retry", "cancel", "compensate"]


class BulkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs (`saga=place-order step=ship phase=action`) and why. `expected` is the count of the dry run."""

    where: str
    reason: str
    by: str | None = None
    dry_run: bool = False
    expected: int | None = None


class RefusalView(msgspec.Struct, frozen=True):
    """A run that was asked and refused."""

    run: str
    problem: str
    detail: str


class BulkView(msgspec.Struct, frozen=True):
    """`matched` runs are meant, `past_pivot` of them can only go forward. Of those `asked` none is asked by a dry run;
    `runs` and `refusals` name the first hundred.
    """

    verb: str
    dry_run: bool
    matched: int
    past_pivot: int
    asked: int
    refused: int
    problems: Mapping[str, int]
    runs: list[str]
    refusals: list[RefusalView]


_BULK: Final = decoder_of(BulkRequest)
_TAKES: Final = "It takes where and reason, and may take by, dry_run and expected."
_LIVE: Final = ("running", "compensating", "stuck")
_MOVABLE: Final[Mapping[BulkVerb, tuple[str, ...]]] = {"retry": ("stuck",), "cancel": _LIVE, "compensate": _LIVE}
"""The states in which a verb can do anything: others aren't meant unless they are named."""


async def retry(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs:retry`: try again what is stuck, in every run that is meant; only at the step that is named."""
    return await _bulk(context, request, caller, "retry")


async def cancel(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs:cancel`: turn every run back that is meant."""
    return await _bulk(context, request, caller, "cancel")


async def compensate(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs:compensate`: the same, without waiting for a person where a barrier allows it."""
    return await _bulk(context, request, caller, "compensate")


async def _bulk(context: Context, request: Request, caller: Caller, verb: BulkVerb) -> Response:
    asked = decoded(await read_body(request, context.limits), _BULK, _TAKES)
    where = _where(asked.where, verb, caller)
    signed = who(caller, asked.reason, asked.by)
    _check(asked)
    rows = await _meant(context, where)
    done: list[Exception | None] = []
    if not asked.dry_run:
        if asked.expected != len(rows):
            raise ProblemRaised(_count_changed(asked.expected, len(rows)))
        done = await _each(context, rows, where, verb, signed)
    told = [RefusalView(row.run, *_problem(error)) for row, error in zip(rows, done, strict=False) if error is not None]
    view = BulkView(
        verb=verb,
        dry_run=asked.dry_run,
        matched=len(rows),
        past_pivot=sum(is_past_pivot(row) for row in rows),
        asked=len(done),
        refused=len(told),
        problems=Counter(each.problem for each in told),
        runs=[row.run for row in rows[:SHOWN_MAX]],
        refusals=told[:SHOWN_MAX],
    )
    return Response(msgspec.json.encode(view), 200, media_type="application/json")


def _where(text: str, verb: BulkVerb, caller: Caller) -> Where:
    where = parsed(text)
    if where == Where():
        raise bad_request(
            "An empty where means every run.", where="where", remedy="Name them, as state=stuck or saga=place-order."
        )
    step = where.find.step
    if step is not None and STEP_NAME.fullmatch(step) is None:
        raise bad_request(f"step={step[:80]}: a step's name is expected, without an item.", where="where")
    states = where.find.states or _MOVABLE[verb]
    return replace(where, find=replace(where.find, states=states), sagas=caller.sagas)


def _check(asked: BulkRequest) -> None:
    if not 1 <= len(asked.reason) <= REASON_CHARACTERS_MAX:
        msg = f"a reason has 1 to {REASON_CHARACTERS_MAX} characters; this one has {len(asked.reason)}"
        raise InputInvalid(msg, path="reason")
    if not asked.dry_run and asked.expected is None:
        raise bad_request(
            "How many runs are meant isn't said.",
            where="expected",
            remedy='Ask with "dry_run": true first, then send its `matched` as `expected`.',
        )


async def _meant(context: Context, where: Where) -> list[StoredRun]:
    rows: list[StoredRun] = []
    async for row in find_rows(context.engine.log, where):
        if len(rows) == BULK_MAX:
            raise bad_request(
                f"More than {BULK_MAX} runs are meant.",
                where="where",
                remedy="Take them in parts: by saga, step or tag.",
            )
        rows.append(row)
    return rows


async def _each(
    context: Context, rows: list[StoredRun], where: Where, verb: BulkVerb, signed: Who
) -> list[Exception | None]:
    slots = asyncio.Semaphore(AT_ONCE_MAX)

    async def one(row: StoredRun) -> Exception | None:
        async with slots:
            try:
                for ask in _asks(row, where, verb, signed):
                    await context.engine.steer(row.run, ask)
            except Exception as error:  # noqa: BLE001 - told of this run, so that it holds up no other
                return error
            return None

    return await asyncio.gather(*(one(row) for row in rows))


def _asks(row: StoredRun, where: Where, verb: BulkVerb, signed: Who) -> list[Ask]:
    """What is asked of one run: for `retry` at the steps and items that are meant, if any are named."""
    match verb:
        case "cancel":
            return [lambda at, epoch: c.Cancel(at, epoch, signed)]
        case "compensate":
            return [lambda at, epoch: c.Cancel(at, epoch, signed, "compensate")]
        case "retry":
            names = dict.fromkeys(mark.step for mark in marks_of(row) if where.means(mark))
            return [_retry(name, signed) for name in names] or [lambda at, epoch: c.RetryStep(at, epoch, signed)]


def _retry(name: str, signed: Who) -> Ask:
    if name == WHOLE_RUN:
        return lambda at, epoch: c.RetryStep(at, epoch, signed)
    step, _, item = name.partition("/")
    return lambda at, epoch: c.RetryStep(at, epoch, signed, step, item or None)


def _problem(error: Exception) -> tuple[str, str]:
    match error:
        case Refused(problem=problem, detail=detail):
            return problem, detail
        case NoSuchRun():
            return "no-such-run", str(error)
        case _:
            told = problem_of(error)
            return told.name, told.detail


def _count_changed(expected: int | None, matched: int) -> Problem:
    return Problem(
        409,
        "count-changed",
        "Other runs are meant by now",
        f"{matched} runs are meant, {expected} were expected. Nothing was done.",
        "expected",
        "Look again with a dry run, then send its `matched` as `expected`.",
    )
