"""Whether this process is well."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from amends.server.context import Context


async def healthz(context: Context, request: Request) -> Response:  # noqa: ARG001 - as every endpoint is called
    """`GET /healthz`: 503 once the log broke, for this process will end and must be started anew."""
    if context.engine.broken.is_set():
        return JSONResponse({"status": "broken"}, 503)
    return JSONResponse({"status": "ok"})
