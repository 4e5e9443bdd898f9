"""The API as an ASGI application: one table of paths, one place where errors become problems.

What holds for every request is done here, in this order: the address it came for, how much is going on, the caller, how
often they may, what they may say in the query. Only then its endpoint is asked.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amends.server.access import Caller, rights_changed
from amends.server.context import Context
from amends.server.endpoints import Endpoint
from amends.server.openapi import document
from amends.server.pages import Page
from amends.server.paths import ENDPOINTS
from amends.server.problems import Problem, method_not_allowed, not_found, overloaded, problem_of
from amends.server.process_log import log_request
from amends.server.rate_limit import too_many
from amends.server.requests import check_host
from amends.system.interrupts import contained

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
"""What every answer says to browsers. Pages say more of their own, and everything else that nothing may be loaded."""

_NO_PAGE: Final = (
    *SECURITY_HEADERS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def application(context: Context) -> Starlette:
    """The API of this engine."""
    context.document = _document
    app = Starlette(
        routes=[
            Route(path, _dispatch(context, path, endpoints), methods=list(endpoints))
            for path, endpoints in ENDPOINTS.items()
        ],
        exception_handlers={HTTPException: _routing_problem},
    )
    app.router.redirect_slashes = False
    return app


@cache
def _document() -> bytes:
    return document(ENDPOINTS)


def _dispatch(
    context: Context, path: str, endpoints: Mapping[str, Endpoint]
) -> Callable[[Request], Awaitable[Response]]:
    table = {**endpoints, **({"HEAD": endpoints["GET"]} if "GET" in endpoints else {})}

    async def answer(request: Request) -> Response:
        context.requests += 1
        began = time.monotonic()
        endpoint = table[request.method]
        caller: Caller | None = None
        try:
            caller = _admitted(context, endpoint, request)
            access = context.access
            with contained(), context.requests_of.held(caller.name):
                response = await endpoint.handler(context, request, caller)
            if context.access is not access and request.method != "POST":
                _check_rights(context, endpoint, request, caller)
        except asyncio.CancelledError:
            if not context.stopping.is_set():
                raise
            response = _stopping().response()
        except Exception as error:  # noqa: BLE001 - the one place where whatever happened becomes an answer
            response = problem_of(error).response()
            if caller is None and request.method == "POST":
                response.headers["Connection"] = "close"  # its body wasn't read, and won't be
        finally:
            context.requests -= 1
        context.metrics.answered(request.method, path, response.status_code)
        name = None if caller is None else caller.name
        log_request(request, path, response.status_code, time.monotonic() - began, name)
        return _secured(response)

    return answer


def _stopping() -> Problem:
    return Problem(
        503,
        "stopping",
        "This process is stopping",
        "The request could not be answered before the process has to end.",
        remedy="Send the same request again, with the same id.",
        headers={"Retry-After": "1", "Connection": "close"},
    )


def _admitted(context: Context, endpoint: Endpoint, request: Request) -> Caller:
    """The caller, if this request may be answered at all."""
    if context.access.is_open:
        check_host(request)
    if context.requests > context.limits.requests and endpoint.role is not None:
        raise overloaded(f"{context.requests - 1} requests are being answered")
    caller = context.access.caller(request, endpoint.role, context.failures)
    if endpoint.role is not None and context.requests_of.full(caller.name):
        raise overloaded(f"{caller.name} has as many requests under way as one token may")
    buckets = None if context.access.is_open else context.buckets
    if buckets is not None and endpoint.role is not None:
        wait = buckets.wait(caller.name)
        if wait:
            raise too_many(f"{caller.name} asks more often than {context.limits.per_second:g} times a second.", wait)
        buckets.take(caller.name)
    endpoint.check_query(request)
    return caller


def _check_rights(context: Context, endpoint: Endpoint, request: Request, caller: Caller) -> None:
    """A request that waited while tokens were read again is answered to a caller with the same rights only."""
    if not context.access.holds(request, caller):
        context.access.caller(request, endpoint.role, context.failures)
        raise rights_changed()


def _secured(response: Response) -> Response:
    response.raw_headers.extend(SECURITY_HEADERS if isinstance(response, Page) else _NO_PAGE)
    return response


def _routing_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            found = not_found(request)
        case 405:
            found = method_not_allowed(request, error.headers or {})
        case status:
            found = Problem(status, "bad-request", "The request isn't as this API takes it", error.detail)
    return _secured(found.response())
