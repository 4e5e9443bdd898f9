"""Whether this process is well, whether it can take requests, and which workers are on this log."""

import asyncio
import logging
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amends.core.words.errors import LogUnavailable
from amends.server.access import Caller
from amends.server.context import Context
from amends.views.run import WorkersView

_LOGGER = logging.getLogger("amends.server")

READY_SECONDS: Final = 2.0
"""How long the log may take to answer when a caller asks whether this process is ready."""


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
    """`GET /readyz`: 503 while the log can't be reached, the lease isn't held, or this process is stopping.

    The answer needs no token, so it names no database and quotes no error; the log of this process does.
    """
    reasons, detail = await _against(context)
    if detail != context.not_ready:
        context.not_ready = detail
        if detail:
            _LOGGER.warning("not ready: %s", detail)
    return _json(ReadyView("not ready" if reasons else "ready", reasons), 503 if reasons else 200)


async def workers(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /v1/workers`: the processes that drive runs of this log, with their leases."""
    return _json(WorkersView(await context.workers(caller)), 200)


async def _against(context: Context) -> tuple[list[str], str]:
    """What every caller may be told, and what the log of this process is."""
    if context.stopping.is_set():
        return ["this process is stopping"], ""
    if context.engine.broken.is_set():
        return ["the log can't be written any more by this process"], ""
    if context.engine.trouble is not None:
        return ["this process can't drive runs now; its log says why"], context.engine.trouble
    try:
        async with asyncio.timeout(READY_SECONDS):
            await context.engine.log.next_due()  # of any saga: that is a look at one entry of an index
    except TimeoutError:
        slow = f"the log doesn't answer within {READY_SECONDS:g} s"
        return [slow], slow
    except LogUnavailable as error:
        return ["the log can't be reached; the log of this process says why"], f"the log can't be reached: {error}"
    return [], ""


def _json(view: msgspec.Struct, status: int) -> Response:
    return Response(msgspec.json.encode(view), status, media_type="application/json")
