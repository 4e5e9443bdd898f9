"""Whether this process is well, whether it can take requests, and who works on this log."""

import asyncio
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.errors import LogUnavailable
from amends.server.access import Caller
from amends.server.context import Context
from amends.server.views import WorkersView

READY_SECONDS: Final = 2.0
"""How long the log may take to answer when somebody asks whether this process is ready."""


class HealthView(msgspec.Struct, frozen=True):
    """`ok`, or `broken` once the log can't be written any more by this process."""

    status: str


class ReadyView(msgspec.Struct, frozen=True):
    """`ready`, or what speaks against it."""

    status: str
    reasons: list[str]


async def healthz(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /healthz`: 503 once the log broke, for this process will end and must be started anew."""
    if context.engine.broken.is_set():
        return _json(HealthView("broken"), 503)
    return _json(HealthView("ok"), 200)


async def readyz(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /readyz`: 503 while the log can't be reached, the lease isn't held, or this process is stopping."""
    reasons = await _against(context)
    return _json(ReadyView("not ready" if reasons else "ready", reasons), 503 if reasons else 200)


async def workers(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/workers`: the processes that drive runs of this log, with their leases."""
    return _json(WorkersView(await context.workers(caller)), 200)


async def _against(context: Context) -> list[str]:
    if context.stopping.is_set():
        return ["this process is stopping"]
    if context.engine.broken.is_set():
        return ["the log can't be written any more by this process"]
    if context.engine.trouble is not None:
        return [context.engine.trouble]
    try:
        async with asyncio.timeout(READY_SECONDS):
            await context.engine.log.next_due()  # of any saga: that is a look at one entry of an index
    except TimeoutError:
        return [f"the log doesn't answer within {READY_SECONDS:g} s"]
    except LogUnavailable as error:
        return [f"the log can't be reached: {error}"]
    return []


def _json(view: msgspec.Struct, status: int) -> Response:
    return Response(msgspec.json.encode(view), status, media_type="application/json")
