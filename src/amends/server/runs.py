"""Runs over HTTP: start one, look at one, wait for one, list them.

The input goes to the engine as the bytes that came, so that what is stored, printed for identity and given to
builders is what was sent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.run.decide import BuilderFailed
from amends.core.run.definition import EPOCH_START, Definition
from amends.core.run.record import RunState
from amends.core.saga.unknown_fields import UnknownField, unknown_fields
from amends.core.words.errors import DefinitionNotHere, InputInvalid, LogDamaged, NoSuchSaga, RunExists
from amends.core.words.keys import RUN_ID
from amends.core.words.retry import MICROSECONDS, micros
from amends.engine.active_run import Driven
from amends.engine.engine import Engine
from amends.ports.log import StoredRun
from amends.server.access import Caller, Role
from amends.server.context import Context
from amends.server.problems import bad_request, too_much
from amends.server.rate_limit import too_many
from amends.server.requests import (
    PAGE_DEFAULT,
    PAGE_MAX,
    cursor,
    cursor_of,
    decoded,
    decoder_of,
    flag,
    read_body,
    run_id,
    tags,
    wait_seconds,
    whole,
)
from amends.views.run import RunsView, RunView, WarningView, row_view
from amends.views.run_filter import BadWhere, Where, WhereTooMuch, check_tags, find_rows, parse
from amends.views.stored import no_such_run

UNSETTLED: Final = frozenset({RunState.RUNNING.value, RunState.COMPENSATING.value})
LOOK_SECONDS: Final = 1.0
"""How often the row is looked at of a run that this process can't follow."""

DEADLINE_SECONDS_MAX: Final = 100 * 366 * 86_400
"""A hundred years: a deadline further off is a slip, and some are beyond the calendar."""


class StartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a start. `deadline`: RFC 3339, or seconds from now."""

    saga: str
    input: msgspec.Raw
    id: str | None = None
    version: int | None = None
    deadline: str | float | None = None
    tags: dict[str, str] | None = None


_START: Final = decoder_of(StartRequest)
_ENCODER: Final = msgspec.json.Encoder()
_TAKES: Final = "A start takes saga and input, and may take id, version, deadline and tags."


async def start(context: Context, request: Request, caller: Caller) -> Response:
    """`POST /v1/runs`: 201 for a new run, 200 for the same request again; the body is the run's."""
    wait, decodes = wait_seconds(request), _decodes(request, caller)
    asked = decoded(await read_body(request, context.limits), _START, _TAKES)
    run = _named(request, asked.id)
    engine = context.engine
    definition = engine.latest(asked.saga, asked.version) if caller.sees(asked.saga) else None
    if definition is None:
        raise _no_such_saga(engine, caller, asked)
    unknown = _unknown(definition, bytes(asked.input))
    if unknown and flag(request, "strict"):
        raise InputInvalid(unknown[0].told, path=unknown[0].path)
    guarded = run if context.graphs.known(definition).input.hides else None
    if guarded is not None and (left := context.guesses.wait(guarded)):
        raise too_many(f"{guarded} is taken, and was started with other inputs too often.", left)
    warnings = [WarningView(each.path, each.told) for each in unknown]
    try:
        started = await engine.start(
            definition,
            bytes(asked.input),
            run=run,
            deadline=_deadline(context, asked),
            tags=asked.tags,
            by=caller.name,
        )
    except InputInvalid as error:
        if not unknown:
            raise
        # What is missing is probably what was written otherwise.
        raise InputInvalid(f"{error.detail}. At {unknown[0].path}: {unknown[0].told}", path=error.path) from error
    except BuilderFailed as error:
        # What a builder did wrong is told with what it built, which may hold what the input hides.
        told = context.graphs.known(definition).input_mask(bytes(asked.input)).text(str(error))
        raise BuilderFailed(told) from None
    except RunExists as error:
        row = await engine.log.read_row(run or "")
        if row is None or not caller.sees(row.saga):
            raise RunExists(f"{run} is the id of another run.") from None  # of which this caller may know nothing
        if guarded is not None:
            context.guesses.take(guarded)  # the answer tells a guess at a hidden value from the right one
        raise error from None
    except DefinitionNotHere:
        # It was started before, under a version that only another process has loaded: still the same run.
        assert run is not None
        return await shown(context, run, 200, warnings, decodes=decodes)
    if wait:
        await _settled(context, request, started.run, wait, started.driven)
    if started.is_new and started.driven is not None and (not wait or started.driven.is_current):
        version, view = context.driven(started.driven, asked.tags or {}, whole=decodes)
        return _response(version, view, 201, warnings)
    return await shown(context, started.run, 201 if started.is_new else 200, warnings, decodes=decodes)


def _unknown(definition: Definition, body: bytes) -> Sequence[UnknownField]:
    """Fields of the input that its type doesn't have. What is no value of the type is said when it is started."""
    try:
        return unknown_fields(definition.input_schema, msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


async def show(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/runs/{id}`: the run as it stands, or, with `wait`, once it has ended or is stuck."""
    run = run_id(request)
    await check_sees(context, caller, run)
    wait = wait_seconds(request)
    if wait:
        await _settled(context, request, run, wait, None)
    return await shown(context, run, 200, decodes=_decodes(request, caller))


async def find(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/runs`: runs by state, saga, version, tag and step, newest first, page by page."""
    limit = whole(request, "limit", least=1, most=PAGE_MAX) or PAGE_DEFAULT
    where = asked_where(request, caller)
    rows: list[StoredRun] = []
    more = False
    async for row in find_rows(context.engine.log, where, after=cursor(request)):
        if len(rows) == limit:
            more = True
            break
        rows.append(row)
    following = cursor_of((rows[-1].created_at, rows[-1].run)) if more else None
    view = RunsView([row_view(each) for each in rows], following)
    return Response(_ENCODER.encode(view), 200, media_type="application/json")


def asked_where(request: Request, caller: Caller) -> Where:
    """Which runs a query means, of those that the caller sees."""
    parameters = request.query_params
    text = parameters.get("where")
    where = Where() if text is None else parsed(text)
    states = list(dict.fromkeys(parameters.getlist("state")))
    known = [each.value for each in RunState]
    for state in states:
        if state not in known:
            raise bad_request(f"state={state[:40]}: expected one of {', '.join(known)}.", where="state")
    version = whole(request, "version", least=0, most=1 << 31)
    asked = where.find
    tagged = {**asked.tags, **tags(request)}
    try:
        check_tags(tagged)
    except WhereTooMuch as error:
        raise too_much(str(error), where="tag") from error
    question = replace(
        asked,
        states=tuple(states) or asked.states,
        saga=parameters.get("saga", asked.saga),
        saga_version=asked.saga_version if version is None else version,
        tags=tagged,
        step=parameters.get("step", asked.step),
    )
    return replace(where, find=question, sagas=caller.sagas)


def parsed(text: str) -> Where:
    """The conditions of a request, or what is wrong with them."""
    try:
        return parse(text)
    except WhereTooMuch as error:
        raise too_much(str(error), where="where") from error
    except BadWhere as error:
        raise bad_request(str(error), where="where") from error


def _decodes(request: Request, caller: Caller) -> bool:
    """Whether replies are given as they are: to a caller that may start runs, and doesn't ask for what may be shown."""
    return caller.role.includes(Role.CLIENT) and not flag(request, "redacted")


async def check_sees(context: Context, caller: Caller, run: str) -> None:
    """For a caller that doesn't see all sagas, the runs of the others aren't there."""
    if caller.sagas is None:
        return
    row = await context.engine.log.read_row(run)
    if row is None or not caller.sees(row.saga):
        raise no_such_run(run)


async def shown(
    context: Context, run: str, status: int, warnings: Sequence[WarningView] = (), *, decodes: bool = False
) -> Response:
    """The answer that shows a run as the log has it; with its replies as they are for a program that `decodes` them."""
    row, view = await context.stored(run, whole=decodes)
    return _response(row.version, view, status, warnings)


def _response(version: int, view: RunView, status: int, warnings: Sequence[WarningView]) -> Response:
    if warnings:
        view = msgspec.structs.replace(view, warnings=warnings)
    headers = {"ETag": f'"{version}"'}
    if status == 201:
        headers["Location"] = f"/v1/runs/{view.id}"
    return Response(_ENCODER.encode(view), status, headers, "application/json")


async def _settled(context: Context, request: Request, run: str, seconds: float, driven: Driven | None) -> None:
    """Wait until the run has ended or is stuck, the time is over, the caller is gone, or this server stops."""
    settled = asyncio.ensure_future(_until_settled(context, run, seconds, driven))
    others = [asyncio.ensure_future(context.stopping.wait()), asyncio.ensure_future(_gone(request))]
    try:
        await asyncio.wait([settled, *others], return_when=asyncio.FIRST_COMPLETED)
        if settled.done():
            settled.result()
    finally:
        for each in (settled, *others):
            each.cancel()
        await asyncio.gather(settled, *others, return_exceptions=True)


async def _until_settled(context: Context, run: str, seconds: float, driven: Driven | None) -> None:
    """By its record; by its row where its saga isn't loaded here or its history can't be read here.

    Such a run is shown all the same, as the log has it; answered at once, a client that waits would ask without pause.
    """
    clock = asyncio.get_running_loop()
    until = clock.time() + seconds
    try:
        await context.engine.settled(run, seconds, driven)
    except (DefinitionNotHere, LogDamaged):
        while (left := until - clock.time()) > 0:
            _, state = (await context.engine.log.standing([run])).get(run, (0, ""))
            if state not in UNSETTLED:
                return
            await asyncio.sleep(min(LOOK_SECONDS, left))


async def _gone(request: Request) -> None:
    """The caller hung up; nothing else can come once the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _named(request: Request, id: str | None) -> str | None:
    """The run's id: the body's, or the `Idempotency-Key`, for clients whose libraries send one with every request."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return id
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if RUN_ID.fullmatch(key) is None:
        raise bad_request(
            f"Idempotency-Key: {given[:160]}: expected what may be a run's id.",
            where="Idempotency-Key",
            remedy=f"It becomes the run's id: {RUN_ID.pattern}, bare or in quotes.",
        )
    if id is not None and id != key:
        raise bad_request(
            "The Idempotency-Key and the id in the body differ.",
            where="Idempotency-Key",
            remedy="One of them is enough.",
        )
    return key


def _deadline(context: Context, asked: StartRequest) -> int | None:
    """The moment that was asked for; else what the settings say of this saga."""
    deadline = asked.deadline
    if deadline is None:
        known = context.sagas.get(asked.saga)
        deadline = None if known is None else known.deadline
    if deadline is None:
        return None
    if not isinstance(deadline, str):
        if not 0 < deadline <= DEADLINE_SECONDS_MAX:
            msg = f"a deadline in {deadline:g} s: expected more than 0, and a hundred years at the most"
            raise InputInvalid(msg, path="deadline")
        return context.clock.now() + round(deadline * MICROSECONDS)
    try:
        moment = datetime.fromisoformat(deadline)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        msg = f"{deadline[:80]!r} is no deadline: expected RFC 3339 with its offset (2026-03-02T10:00:00Z), or seconds"
        raise InputInvalid(msg, path="deadline")
    return micros(moment - EPOCH_START)


def _no_such_saga(engine: Engine, caller: Caller, asked: StartRequest) -> NoSuchSaga:
    wanted = asked.saga[:80] if asked.version is None else f"{asked.saga[:80]} v{asked.version}"
    loaded = ", ".join(f"{each.saga} v{each.version}" for each in engine.definitions.values() if caller.sees(each.saga))
    return NoSuchSaga(f"no saga {wanted} is loaded here{f', only {loaded}' if loaded else ', nor any other'}.")
