"""Reading requests: whatever a caller may send is bounded and named before anything is done with it."""

import math
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request

from amends.core.limits import REQUEST_BYTES_MAX
from amends.server.problems import Faulty, Problem, bad_request

BODY_BYTES_MAX: Final = REQUEST_BYTES_MAX + (64 << 10)
"""A run's input, which has its own limit, and what is said around it."""

WAIT_SECONDS_MAX: Final = 60
"""How long a request may wait for a run: less than proxies and clients wait for an answer."""


async def read_body(request: Request) -> bytes:
    """The JSON body; refused while it is read once it is too large."""
    _check_media_type(request)
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdecimal() and int(announced) > BODY_BYTES_MAX:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def wait_seconds(request: Request) -> float:
    """`?wait=` in seconds, 0 where it isn't said; any other parameter is named and refused."""
    if not request.scope["query_string"]:
        return 0.0
    for name in request.query_params:
        if name != "wait":
            raise bad_request(f"{name} is no parameter of this path.", where=name, remedy="It takes ?wait=SECONDS.")
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= WAIT_SECONDS_MAX:
        raise bad_request(
            f"wait={text}: expected seconds, from 0 to {WAIT_SECONDS_MAX}.",
            where="wait",
            remedy="To wait longer, ask again.",
        )
    return seconds


def check_host(request: Request) -> None:
    """Refuse requests for other names: a web page may make its own name lead here, and would act for its reader."""
    host = request.headers.get("host", "")
    if host and not names_loopback(host):
        raise Faulty(
            Problem(
                421,
                "misdirected",
                "This server answers to loopback names only",
                f"The request is for {host}, but this server listens on loopback only.",
                "Host",
                "Ask for http://127.0.0.1 or http://localhost, and let a proxy do the same.",
            )
        )


@lru_cache(maxsize=64)
def names_loopback(host: str) -> bool:
    """Whether a Host header, or any other HOST[:PORT], means this machine and nothing else."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _check_media_type(request: Request) -> None:
    """Only JSON: a form or plain text can be sent by any web page without asking first, JSON can't."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise Faulty(
            Problem(
                415,
                "unsupported-media-type",
                "The body must be JSON",
                f"Content-Type is {given or 'missing'}.",
                "Content-Type",
                "Send Content-Type: application/json.",
            )
        )


def _too_large() -> Faulty:
    return Faulty(
        Problem(
            413,
            "too-large",
            "More than the limit",
            f"The body has more than {BODY_BYTES_MAX} bytes.",
            remedy="Send a reference instead of the data.",
        )
    )
