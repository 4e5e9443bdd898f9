"""The API's description for programs and people: `openapi.json`, and a page that shows it, offline and without a CDN.

The page is three files of our own: its script reads `openapi.json` from the same place and puts text into elements,
never markup, so that its policy can forbid everything else.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from amends.server.access import Caller
from amends.server.context import Context
from amends.server.endpoints import HTML, JSON, SCRIPT, STYLE

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page of this server may load: itself."""


async def openapi(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /openapi.json`: this API as OpenAPI 3.1, made of the types that it reads and writes."""
    return Response(context.document(), 200, media_type=JSON)


async def docs(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /docs`: a page to read it in."""
    return _page("docs.html", HTML)


async def script(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /docs/docs.js`: the page's script."""
    return _page("docs.js", SCRIPT)


async def style(context: Context, request: Request, caller: Caller) -> Response:
    """`GET /docs/docs.css`: how the page looks."""
    return _page("docs.css", STYLE)


class Page(Response):
    """An answer for browsers, which says itself what it may load."""


def _page(name: str, media: str) -> Response:
    return Page(_read(name), 200, {"Content-Security-Policy": POLICY}, media)


@cache
def _read(name: str) -> bytes:
    return (files("amends.server") / "static" / name).read_bytes()
