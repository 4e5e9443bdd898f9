"""The API as an ASGI application: one table of paths, one place where errors become problems."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amends.server import health, runs
from amends.server.context import Context
from amends.server.problems import Problem, method_not_allowed, not_found, problem_of
from amends.server.requests import check_host

Endpoint = Callable[[Context, Request], Awaitable[Response]]

ROUTES: Final[Mapping[str, Mapping[str, Endpoint]]] = {
    "/v1/runs": {"POST": runs.start},
    "/v1/runs/{id}": {"GET": runs.show},
    "/healthz": {"GET": health.healthz},
}
"""What is served: path, method, endpoint."""


def application(context: Context) -> Starlette:
    """The API of this engine."""
    app = Starlette(
        routes=[
            Route(path, _dispatch(context, endpoints), methods=list(endpoints)) for path, endpoints in ROUTES.items()
        ],
        exception_handlers={HTTPException: _routing_problem},
    )
    app.router.redirect_slashes = False
    return app


def _dispatch(context: Context, endpoints: Mapping[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    table = {**endpoints, **({"HEAD": endpoints["GET"]} if "GET" in endpoints else {})}

    async def answer(request: Request) -> Response:
        try:
            check_host(request)
            return await table[request.method](context, request)
        except Exception as error:  # noqa: BLE001 - the one place where whatever happened becomes an answer
            return problem_of(error).response()

    return answer


def _routing_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return not_found(request).response()
        case 405:
            return method_not_allowed(request, error.headers or {}).response()
        case status:
            return Problem(status, "bad-request", "The request isn't as this API takes it", error.detail).response()
