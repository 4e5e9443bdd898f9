"""Runs over HTTP: start one, look at one, wait for one.

The input goes to the engine as the bytes that came, so that what is stored, printed for identity and given to
builders is what was sent.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.definition import EPOCH_START
from amends.core.errors import DefinitionNotHere, InputInvalid, NoSuchSaga
from amends.core.retry import MICROSECONDS, micros
from amends.engine.driven import Driven
from amends.engine.engine import Engine
from amends.server.context import Context
from amends.server.problems import bad_request
from amends.server.requests import read_body, wait_seconds
from amends.server.views import RunView

BY: Final = "http"
"""Who started a run, until callers have names."""

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


_START: Final = msgspec.json.Decoder(StartRequest)
_ENCODER: Final = msgspec.json.Encoder()


async def start(context: Context, request: Request) -> Response:
    """`POST /v1/runs`: 201 for a new run, 200 for the same request again; the body is the run's."""
    wait = wait_seconds(request)
    asked = _decoded(await read_body(request))
    engine = context.engine
    definition = engine.latest(asked.saga, asked.version)
    if definition is None:
        raise _no_such_saga(engine, asked)
    try:
        started = await engine.start(
            definition,
            bytes(asked.input),
            run=asked.id,
            deadline=_deadline(context, asked.deadline),
            tags=asked.tags,
            by=BY,
        )
    except DefinitionNotHere:
        # It was started before, under a version that only another process has loaded: still the same run.
        assert asked.id is not None
        return await _shown(context, asked.id, 200)
    if wait:
        await _settled(context, request, started.run, wait, started.driven)
    if started.is_new and started.driven is not None and (not wait or started.driven.is_current):
        version, view = await context.driven(started.driven, asked.tags or {})
        return _response(version, view, 201)
    return await _shown(context, started.run, 201 if started.is_new else 200)


async def show(context: Context, request: Request) -> Response:
    """`GET /v1/runs/{id}`: the run as it stands, or, with `wait`, once it has ended or is stuck."""
    run: str = request.path_params["id"]
    wait = wait_seconds(request)
    if wait:
        with suppress(DefinitionNotHere):  # shown all the same, as the log has it
            await _settled(context, request, run, wait, None)
    return await _shown(context, run, 200)


async def _shown(context: Context, run: str, status: int) -> Response:
    row, view = await context.stored(run)
    return _response(row.version, view, status)


def _response(version: int, view: RunView, status: int) -> Response:
    headers = {"ETag": f'"{version}"'}
    if status == 201:
        headers["Location"] = f"/v1/runs/{view.id}"
    return Response(_ENCODER.encode(view), status, headers, "application/json")


async def _settled(context: Context, request: Request, run: str, seconds: float, driven: Driven | None) -> None:
    """Wait until the run has ended or is stuck, the time is over, the caller is gone, or this server stops."""
    settled = asyncio.ensure_future(context.engine.settled(run, seconds, driven))
    others = [asyncio.ensure_future(context.stopping.wait()), asyncio.ensure_future(_gone(request))]
    try:
        await asyncio.wait([settled, *others], return_when=asyncio.FIRST_COMPLETED)
        if settled.done():
            settled.result()
    finally:
        for each in (settled, *others):
            each.cancel()
        await asyncio.gather(settled, *others, return_exceptions=True)


async def _gone(request: Request) -> None:
    """The caller hung up; nothing else can come once the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _decoded(body: bytes) -> StartRequest:
    try:
        return _START.decode(body)
    except msgspec.ValidationError as error:
        detail, _, place = str(error).partition(" - at ")
        raise bad_request(
            f"{detail}.",
            where=place.strip("`") or "$",
            remedy="A start takes saga and input, and may take id, version, deadline and tags.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"{error}.", remedy="Send one JSON object.") from error
    except RecursionError as error:
        raise bad_request("The JSON is nested too deeply.") from error


def _deadline(context: Context, deadline: str | float | None) -> int | None:
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
        msg = f"{deadline!r} is no deadline: expected RFC 3339 with its offset (2026-03-02T10:00:00Z), or seconds"
        raise InputInvalid(msg, path="deadline")
    return micros(moment - EPOCH_START)


def _no_such_saga(engine: Engine, asked: StartRequest) -> NoSuchSaga:
    wanted = asked.saga if asked.version is None else f"{asked.saga} v{asked.version}"
    loaded = ", ".join(f"{each.saga} v{each.version}" for each in engine.definitions.values())
    return NoSuchSaga(f"no saga {wanted} is loaded here, only {loaded or 'none'}.")
