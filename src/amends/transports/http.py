"""Calls over HTTP/1.1, by aiohttp: one session per participant, and nothing done behind the engine's back.

No redirects, no cookies, no proxies from the environment, no decompression, no second try of its own. One time-out
covers everything from connecting to the last byte. `NotSent` is said only while no connection was handed to the
request: as soon as one was, also a kept-alive one that turns out to be dead, a byte may have left: `Lost`.
"""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from io import BytesIO
from typing import Final

from aiohttp import (
    ClientError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from amends.core.answers import OUTCOME_HEADER, Answered, Cause, Lost, NotSent
from amends.core.errors import NoRoute
from amends.core.limits import REPLY_BYTES_MAX
from amends.core.operation import AT_ONCE_DEFAULT
from amends.ports.transport import Outgoing
from amends.ports.wire import call_headers

KEEP_ALIVE_SECONDS: Final = 4.0
"""Below the 5 s after which uvicorn and Node close idle connections: the server shouldn't be the first to close."""

LARGE_BODY_BYTES: Final = 1 << 20
"""From here on a body is written in pieces, so that the loop breathes (aiohttp warns at the same size)."""

_NO_REPEATS: Final[frozenset[str]] = frozenset()
_REPEATED: Final = frozenset({OUTCOME_HEADER})
_ALWAYS: Final = {"user-agent": "amends", "accept": "application/json", "accept-encoding": "identity"}


class HttpTransport:
    """`ports.transport.Transport` for a participant at a base URL. Opens its session at the first call.

    `headers` is read for every request, so a mapping can hold a token that is renewed; the contract's own headers win
    over it. `NoRoute` if the URL isn't one.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, *, at_once: int = AT_ONCE_DEFAULT) -> None:
        base = URL(url)
        if base.scheme not in {"http", "https"} or not base.host:
            msg = f"{url!r} is no address of a participant: expected http://host:port/path or https://..."
            raise NoRoute(msg)
        self._base = base.with_query(None).with_fragment(None)
        self._given: Mapping[str, str] = {} if headers is None else headers
        self._checked: dict[str, str] = {}
        self._ready: dict[str, str] = _ALWAYS
        self._at_once = at_once
        self._urls: dict[str, tuple[URL, str]] = {}
        self._session: ClientSession | None = None

    async def send(self, call: Outgoing) -> Answered | NotSent | Lost:
        url, shown = self._url(call.operation)
        try:
            headers = {**self._own_headers(), **call_headers(call)}
        except Exception as error:  # noqa: BLE001 - a mapping that fetches a token runs its author's code
            return NotSent(f"the headers of the route to {call.participant} can't be had: {_why(error)}")
        connected: list[bool] = []
        token = _CONNECTED.set(connected)
        try:
            body = call.body if len(call.body) <= LARGE_BODY_BYTES else BytesIO(call.body)
            async with self._opened().post(
                url, data=body, headers=headers, allow_redirects=False, timeout=_total(call.timeout_seconds)
            ) as response:
                return await _answered(response, shown)
        except TimeoutError:
            if not connected:
                return NotSent(f"no connection to {shown} within {call.timeout_seconds:g} s")
            return Lost(Cause.TIMED_OUT, f"no answer from {shown} within {call.timeout_seconds:g} s")
        except (ClientError, OSError, ValueError, RuntimeError) as error:
            # aiohttp says ValueError of some answers it can't read, RuntimeError of a session that was closed.
            if not connected:
                return NotSent(f"no connection to {shown}: {_why(error)}")
            return Lost(Cause.LOST, f"no answer from {shown}: {_why(error)}")
        finally:
            _CONNECTED.reset(token)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _url(self, operation: str) -> tuple[URL, str]:
        """Where an operation is, as it is called and as it is shown: without a password."""
        try:
            return self._urls[operation]
        except KeyError:
            url = self._base / operation
            made = self._urls[operation] = (url, str(url.with_user(None)))
            return made

    def _own_headers(self) -> dict[str, str]:
        given = dict(self._given)
        if given != self._checked:
            for name, value in given.items():
                if not f"{name}{value}".isprintable():
                    msg = f"{name!r} holds characters that no header may hold"
                    raise ValueError(msg)
            self._ready = {**_ALWAYS, **{name.lower(): value for name, value in given.items()}}
            self._checked = given
        return self._ready

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=_Connector(limit=self._at_once, keepalive_timeout=KEEP_ALIVE_SECONDS),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


_CONNECTED: ContextVar[list[bool]] = ContextVar("amends_http_connected")
"""Filled as soon as the request being sent has a connection: from then on bytes may leave."""


class _Connector(TCPConnector):
    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _CONNECTED.get().append(True)
        return connection


@lru_cache(maxsize=256)
def _total(seconds: float) -> ClientTimeout:
    """The client's own timer, and not rounded up to whole seconds as it is by default above five."""
    return ClientTimeout(total=seconds, connect=None, sock_read=None, sock_connect=None, ceil_threshold=math.inf)


async def _answered(response: ClientResponse, shown: str) -> Answered:
    """The whole answer; of a body over the limit one byte more than that, by which readers know."""
    length = response.content_length
    if length is not None and length <= REPLY_BYTES_MAX:
        body = await response.read()
    else:
        body = await _bounded(response)
    headers = response.headers
    repeated = _REPEATED if len(headers.getall(OUTCOME_HEADER, ())) > 1 else _NO_REPEATS
    return Answered(response.status, headers, body, shown, repeated)


async def _bounded(response: ClientResponse) -> bytes:
    pieces = bytearray()
    async for piece in response.content.iter_any():
        pieces += piece
        if len(pieces) > REPLY_BYTES_MAX:
            response.close()  # the rest isn't wanted: the connection can't be used again
            break
    return bytes(pieces[: REPLY_BYTES_MAX + 1])


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
