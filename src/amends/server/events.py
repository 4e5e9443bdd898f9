"""A run's history over HTTP: as JSON, or live as server-sent events that can be resumed where they broke off.

Both are read from the log, never from memory: what is sent is durable, and another process's writes are seen too. A
stream wakes up when this process writes something of the run, and looks by itself every second for what others wrote.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from amends.core.run.events import Event
from amends.core.run.evolve import apply
from amends.core.run.record import RunRecord
from amends.core.words.errors import LogDamaged, LogUnavailable
from amends.engine.load import decoded, is_purged, record_of
from amends.ports.log import StoredRun
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.endpoints import EVENT_STREAM
from amends.server.problems import bad_request, overloaded
from amends.server.requests import PAGE_DEFAULT, PAGE_MAX, run_id, whole
from amends.server.runs import check_sees
from amends.views.event import EventsView, EventView, EventViews, bare_views, end_of_stream
from amends.views.graph import Graph
from amends.views.stored import no_such_run

EVENTS_MAX: Final = 1 << 40
LOOK_SECONDS: Final = 1.0
"""How often a stream looks for what other processes wrote."""

ALIVE_SECONDS: Final = 15.0
"""After so long without an event a comment is sent, so that no proxy takes the stream for dead."""

LAST_EVENT_ID: Final = "last-event-id"

_ENCODER: Final = msgspec.json.Encoder()


async def history(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/runs/{id}/events`: what happened to it; live with `Accept: text/event-stream`.

    A live stream is resumed by `Last-Event-ID`. It ends when the run has ended or the server stops; asked again after
    the last event of an ended run it is 204, so that browsers stop asking. Where the history was purged, or can't be
    read, the stream is one event (`HistoryPurged`, `HistoryUnreadable`) that says how the run stands.
    """
    run = run_id(request)
    await check_sees(context, caller, run)
    after = _after(request)
    row = await context.engine.log.read(run)
    if row is None:
        raise no_such_run(run)
    readable = await _readable(context, row)
    if EVENT_STREAM in request.headers.get("accept", ""):
        if (row.ended_at is not None or isinstance(readable, str)) and after >= row.version:
            return Response(status_code=204)
        if isinstance(readable, str):
            told = b": " + row.run.encode() + b"\n\n" + _sse(end_of_stream(row, readable))
            return Response(told, 200, {"X-Accel-Buffering": "no"}, EVENT_STREAM)
        if context.streams >= context.limits.streams:
            raise overloaded(f"{context.streams} streams are open")
        if context.streams_of.full(caller.name):
            raise overloaded(f"{caller.name} has as many streams open as one token may")
        return StreamingResponse(
            _stream(context, row, readable[0], after, _Right(context, request, caller)),
            media_type=EVENT_STREAM,
            headers={"X-Accel-Buffering": "no"},
        )
    limit = whole(request, "limit", least=1, most=PAGE_MAX) or PAGE_DEFAULT
    stored = row.events[after : after + limit]
    following = after + limit if after + limit < len(row.events) else None
    if isinstance(readable, str):
        view = EventsView(run, bare_views(stored, after + 1), following, readable)
    else:
        events = decoded(context.graphs.events, run, after, stored)
        view = EventsView(run, EventViews(*readable).views(events, after + 1), following)
    return Response(_ENCODER.encode(view), 200, {"ETag": f'"{row.version}"'}, "application/json")


def _after(request: Request) -> int:
    """The version that the caller has seen: what a browser says when it comes back wins over the address."""
    given = request.headers.get(LAST_EVENT_ID)
    if given is None:
        return whole(request, "after", least=0, most=EVENTS_MAX) or 0
    if not given.isascii() or not given.isdecimal() or len(given) > 12:
        raise bad_request(f"Last-Event-ID: {given[:40]}: expected the id of an event.", where="Last-Event-ID")
    return int(given)


async def _readable(context: Context, row: StoredRun) -> tuple[Graph, RunRecord] | Literal["purged", "unreadable"]:
    """What it takes to show a run's events; or why they can't be shown."""
    if is_purged(row):
        return "purged"
    try:
        return await context.graphs.of_run(row), record_of(row, context.graphs.events)
    except LogDamaged:
        return "unreadable"


class _Right:
    """Whether a stream's caller may still see its run: the token, its role and its sagas are as they were."""

    def __init__(self, context: Context, request: Request, caller: Caller) -> None:
        self._context, self._request, self._caller = context, request, caller
        self._access, self._certificates = context.access, context.certificates

    @property
    def caller(self) -> str:
        """The caller's name."""
        return self._caller.name

    def holds(self) -> bool:
        context = self._context
        if context.certificates != self._certificates:
            return False
        if context.access is not self._access:
            if not context.access.holds(self._request, self._caller):
                return False
            self._access = context.access
        return True


async def _stream(context: Context, row: StoredRun, graph: Graph, after: int, right: _Right) -> AsyncGenerator[bytes]:
    """Events as they come, until the run has ended, the server stops or the caller's right was taken away. A log that
    can't be read ends the stream: the reader comes back and continues after the last event.
    """
    context.streams += 1
    stopping = asyncio.create_task(context.stopping.wait())
    try:
        with context.streams_of.held(right.caller), context.engine.audience.following(row.run) as changed:
            yield b": " + row.run.encode() + b"\n\n"
            seen, record, silent = after, None, 0.0
            while not stopping.done():
                changed.clear()
                record, fresh = await _news(context, row.run, record)
                if not right.holds():
                    return
                events = [each for each in fresh if each[0] > seen]
                if events:
                    views = EventViews(graph, record)
                    for version, event in events:
                        (view,) = views.views([event], version)
                        yield _sse(view)
                    seen, silent = events[-1][0], 0.0
                if record.ended is not None:
                    return
                if not await _wait(changed, stopping):
                    silent += LOOK_SECONDS
                if silent >= ALIVE_SECONDS:
                    yield b":\n\n"
                    silent = 0.0
    except (LogUnavailable, LogDamaged):
        return
    finally:
        stopping.cancel()
        context.streams -= 1


async def _news(context: Context, run: str, record: RunRecord | None) -> tuple[RunRecord, list[tuple[int, Event]]]:
    """The record as it is by now, and the events that are new in it, with their versions."""
    log, codec = context.engine.log, context.graphs.events
    if record is None:
        row = await log.read(run)
        if row is None or not row.events:
            raise LogUnavailable(f"{run} has no history any more")
        record = record_of(row, codec)
        events = decoded(codec, run, 0, row.events)
        return record, list(enumerate(events, 1))
    stored = await log.read_events(run, record.length)
    if not stored:
        return record, []
    first = record.length + 1
    record = record.copy()
    events = decoded(codec, run, first - 1, stored)
    for each in events:
        apply(record, each)
    return record, list(enumerate(events, first))


async def _wait(changed: asyncio.Event, stopping: "asyncio.Task[Literal[True]]") -> bool:
    """Until something changed or the server stops; false when it is time to look anyway."""
    change = asyncio.create_task(changed.wait())
    try:
        done, _ = await asyncio.wait([change, stopping], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        change.cancel()


def _sse(view: EventView) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (view.version, view.kind.encode(), _ENCODER.encode(view))
