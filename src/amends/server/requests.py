"""Reading requests: whatever a caller may send is bounded and named before anything is done with it."""

import asyncio
import base64
import binascii
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from amends.core.words.keys import RUN_ID
from amends.server.context import ServerLimits
from amends.server.problems import Problem, ProblemRaised, bad_request
from amends.views.stored import no_such_run

T = TypeVar("T")

WAIT_SECONDS_MAX: Final = 60
"""How long a request may wait for a run: less than proxies and clients wait for an answer."""

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
"""Runs, or events, on a page."""

_ETAG: Final = re.compile(r'"(\d{1,18})"')
_BOOLEANS: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


async def read_body(request: Request, limits: ServerLimits) -> bytes:
    """The JSON body; refused while it is read once it is too large or takes too long."""
    _check_media_type(request)
    return await read_bytes(request, limits)


async def read_bytes(request: Request, limits: ServerLimits) -> bytes:
    """A body of any type."""
    announced = request.headers.get("content-length")
    if announced is not None and announced.isdecimal() and int(announced) > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read(request, limits)
    except TimeoutError as error:
        raise ProblemRaised(
            Problem(
                408,
                "request-timeout",
                "The body took too long",
                f"The body didn't arrive within {limits.body_seconds:g} s.",
                remedy="Nothing was done. Send the same request again.",
                headers={"Connection": "close"},
            )
        ) from error
    except ClientDisconnect as error:
        raise bad_request("The connection was closed before the body was there.") from error


async def _read(request: Request, limits: ServerLimits) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.body_bytes:
            raise _too_large(limits)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decoded(body: bytes, decoder: msgspec.json.Decoder[T], remedy: str) -> T:
    """The body as its type; where it isn't one, what is wrong with it and where."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        detail, _, place = str(error).partition(" - at ")
        raise bad_request(f"{detail}.", where=place.strip("`") or "$", remedy=remedy) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"{error}.", remedy="Send one JSON object.") from error
    except RecursionError as error:
        raise bad_request("The JSON is nested too deeply.") from error


def wait_seconds(request: Request) -> float:
    """`?wait=` in seconds, 0 where it isn't said."""
    if not request.scope["query_string"]:
        return 0.0
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= WAIT_SECONDS_MAX:
        raise bad_request(
            f"wait={text[:40]}: expected seconds, from 0 to {WAIT_SECONDS_MAX}.",
            where="wait",
            remedy="To wait longer, ask again.",
        )
    return seconds


def run_id(request: Request) -> str:
    """The run in the path; what can't be an id is no run."""
    run: str = request.path_params["id"]
    if RUN_ID.fullmatch(run) is None:
        raise no_such_run(repr(run[:128]))
    return run


def flag(request: Request, name: str) -> bool:
    """A boolean parameter, false where it isn't said."""
    text = request.query_params.get(name, "false")
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise bad_request(f"{name}={text[:40]}: expected true or false.", where=name) from None


def whole(request: Request, name: str, *, least: int, most: int) -> int | None:
    """A whole number, `None` where it isn't said."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise bad_request(f"{name}={text[:40]}: expected a whole number from {least} to {most}.", where=name)
    return int(text)


def tags(request: Request) -> dict[str, str]:
    """`?tag=NAME=VALUE`, as often as it is said."""
    found: dict[str, str] = {}
    for each in request.query_params.getlist("tag"):
        name, equals, value = each.partition("=")
        if not name or not equals or not value:
            raise bad_request(f"tag={each[:40]}: expected NAME=VALUE.", where="tag")
        if found.setdefault(name, value) != value:
            raise bad_request(f"tag {name[:40]} is asked to be two things.", where="tag")
    return found


def if_match(request: Request) -> int | None:
    """The version that a request is meant for; `None` for whatever it is at."""
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    found = _ETAG.fullmatch(given.strip())
    if found is None:
        raise bad_request(
            f"If-Match: {given[:40]}: expected one version in quotes.",
            where="If-Match",
            remedy='Send the ETag of GET /v1/runs/{id}, as "7".',
        )
    return int(found[1])


def cursor_of(position: tuple[int, str]) -> str:
    """Where a page ends, in a form that means nothing outside this server."""
    return base64.urlsafe_b64encode(f"{position[0]}:{position[1]}".encode()).rstrip(b"=").decode()


def cursor(request: Request) -> tuple[int, str] | None:
    """Where the page asked for begins."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
    except (binascii.Error, UnicodeError):
        raw = ""
    created, _, run = raw.partition(":")
    if not created.isdecimal() or len(created) > 18 or RUN_ID.fullmatch(run) is None:
        raise bad_request(
            "The cursor isn't one of this API.", where="cursor", remedy="Send `next` of the page before, as it is."
        )
    return int(created), run


def check_host(request: Request) -> None:
    """Refuse requests for other names: a web page may make its own name lead here, and would act for its reader."""
    host = request.headers.get("host", "")
    if host and not names_loopback(host):
        raise ProblemRaised(
            Problem(
                421,
                "misdirected",
                "This server answers to loopback names only",
                f"The request is for {host[:255]}, but this server listens on loopback only.",
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


def decoder_of(type_: type[T]) -> msgspec.json.Decoder[T]:
    """What reads bodies of a type."""
    made: msgspec.json.Decoder[Any] = msgspec.json.Decoder(type_)
    return made


def _check_media_type(request: Request) -> None:
    """Only JSON: a form or plain text can be sent by any web page without asking first, JSON can't."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise ProblemRaised(
            Problem(
                415,
                "unsupported-media-type",
                "The body must be JSON",
                f"Content-Type is {given[:100] or 'missing'}.",
                "Content-Type",
                "Send Content-Type: application/json.",
            )
        )


def _too_large(limits: ServerLimits) -> ProblemRaised:
    return ProblemRaised(
        Problem(
            413,
            "too-large",
            "More than the limit",
            f"The body has more than {limits.body_bytes} bytes.",
            remedy="Send a reference instead of the data.",
            headers={"Connection": "close"},
        )
    )
