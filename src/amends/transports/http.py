"""Calls over HTTP/1.1: connections, TLS and parsing by aiohttp, one pool per participant; nothing behind one's back.

Its session is left out. Redirects, cookies, proxies from the environment, decompression and second tries would all
have to be turned off, and what then remains, one write and one read, costs little more than half as much CPU without
it. That also makes plain what `NotSent` rests on: it is said only while no connection was handed to the request. As
soon as one was, also a kept-alive one that turns out to be dead, a byte may have left: `Lost`.

One time-out covers everything from connecting to the last byte. A connection is used again only after a whole answer to
a whole request; whatever else happened, it is closed.
"""

import asyncio
import math
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientRequest,
    ClientSSLError,
    ClientTimeout,
    StreamReader,
    TCPConnector,
)
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from amends.core.answers import OUTCOME_HEADER, Answered, Cause, Lost, NotSent
from amends.core.errors import NoRoute
from amends.core.limits import REPLY_BYTES_MAX
from amends.core.operation import AT_ONCE_DEFAULT, Tls
from amends.ports.transport import Outgoing
from amends.ports.wire import CALL_HEADERS, call_head
from amends.transports.limits import Limits

KEEP_ALIVE_SECONDS: Final = 4.0
"""Below the 5 s after which uvicorn and Node close idle connections: the server shouldn't be the first to close."""

_NO_REPEATS: Final[frozenset[str]] = frozenset()
_REPEATED: Final = frozenset({OUTCOME_HEADER})
_ALWAYS: Final = {"user-agent": "amends", "accept": "application/json", "accept-encoding": "identity"}
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_UNTIMED: Final = ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None, ceil_threshold=math.inf)
"""The call's own time-out covers connecting too."""


class HttpTransport:
    """`ports.transport.Transport` for a participant at a base URL. Opens its pool of connections at the first call.

    `headers` is read for every request, so a mapping can hold a token that is renewed; the contract's own headers win
    over it. `NoRoute` if the URL isn't one.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        at_once: int = AT_ONCE_DEFAULT,
        tls: Tls | None = None,
    ) -> None:
        base = URL(url)
        if base.scheme not in {"http", "https"} or not base.host:
            msg = f"{url!r} is no address of a participant: expected http://host:port/path or https://..."
            raise NoRoute(msg)
        self._base = base.with_query(None).with_fragment(None).with_user(None)
        self._always = {"host": self._base.host_port_subcomponent or "", **_authorization(base), **_ALWAYS}
        self._given: Mapping[str, str] = {} if headers is None else headers
        self._checked: dict[str, str] | None = None
        self._ready = ""
        self._at_once = at_once
        self._tls = tls
        self._context = None if base.scheme == "http" else tls_context(tls)
        self._places: dict[str, tuple[str, str]] = {}
        self._pool: _Pool | None = None

    async def send(self, call: Outgoing) -> Answered | NotSent | Lost:
        line, shown = self._place(call.operation)
        try:
            request = self._request(line, call)
        except Exception as error:  # noqa: BLE001 - a mapping that fetches a token runs its author's code
            return NotSent(f"the headers of the route to {call.participant} can't be had: {_why(error)}")
        connection: Connection | None = None
        pool = self._opened()
        limits = pool.limits(call.timeout_seconds)
        limit = limits.begin()
        try:
            connection = pool.idle() or await pool.connect()
            answered = await _exchange(connection, request, shown)
            pool.release(connection)
        except asyncio.CancelledError:
            if not limit.is_why():
                raise
            if connection is None:
                return NotSent(f"no connection to {shown} within {call.timeout_seconds:g} s")
            return Lost(Cause.TIMED_OUT, f"no answer from {shown} within {call.timeout_seconds:g} s")
        except (ClientError, HttpProcessingError, OSError, ValueError, RuntimeError) as error:
            # aiohttp says ValueError of some answers it can't read, RuntimeError of a pool that was closed.
            if connection is None:
                return NotSent(f"no connection to {shown}: {_why(error)}")
            return Lost(Cause.LOST, f"no answer from {shown}: {_why(error)}")
        else:
            return answered
        finally:
            limits.end(limit)
            if connection is not None and not pool.has(connection):
                connection.close()

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _place(self, operation: str) -> tuple[str, str]:
        """Where an operation is: the first line of its requests, and as it is shown, without a password."""
        try:
            return self._places[operation]
        except KeyError:
            url = self._base / operation
            made = self._places[operation] = (f"POST {url.raw_path} HTTP/1.1\r\n", str(url))
            return made

    def _request(self, line: str, call: Outgoing) -> bytes:
        head = f"{line}{self._own_headers()}{call_head(call)}content-length: {len(call.body)}\r\n\r\n"
        return head.encode() + call.body

    def _own_headers(self) -> str:
        """What is the same in every request, until the route's mapping says something else."""
        given = dict(self._given)
        if given != self._checked:
            for name, value in given.items():
                if _TOKEN.fullmatch(name) is None or not value.isprintable() or name.lower() in _FRAMING:
                    msg = f"{name!r} holds characters that no header may hold, or isn't the route's to say"
                    raise ValueError(msg)
            lower = {name.lower(): value for name, value in given.items() if name.lower() not in CALL_HEADERS}
            self._ready = "".join(f"{name}: {value}\r\n" for name, value in {**self._always, **lower}.items())
            self._checked = given
        return self._ready

    def _opened(self) -> "_Pool":
        if self._pool is None:
            self._pool = _Pool(self._base, self._at_once, self._context)
        return self._pool

    def reload(self) -> None:
        """Read the certificates again, for new connections; `NoRoute` leaves them as they are."""
        if self._context is not None:
            load_certificates(tls_context(self._tls), self._tls)  # all of it is read before anything is changed
            load_certificates(self._context, self._tls)


class _Pool:
    """Connections to one place: made by aiohttp's connector, kept here in between, the last used first."""

    def __init__(self, base: URL, at_once: int, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        trusted = True if context is None else context
        self._connector = TCPConnector(limit=at_once, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=trusted)
        # What a connector reads of a request (host, port, TLS, no proxy) is the same for all of ours.
        self._place = ClientRequest("POST", base, loop=self._loop)
        self._idle: dict[Connection, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._limits: dict[float, Limits] = {}

    def limits(self, seconds: float) -> Limits:
        """The queue of the calls with this time-out."""
        found = self._limits.get(seconds)
        if found is None:
            found = self._limits[seconds] = Limits(seconds)
        return found

    async def connect(self) -> Connection:
        """A new connection."""
        return await self._connector.connect(self._place, [], _UNTIMED)

    def idle(self) -> Connection | None:
        """One that can be used again, if there is one."""
        while self._idle:
            connection, since = self._idle.popitem()
            protocol = connection.protocol
            is_open = protocol is not None and protocol.is_connected() and not protocol.should_close
            if is_open and self._loop.time() - since < KEEP_ALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def release(self, connection: Connection) -> None:
        """Keep it for the next call; whether it can be used again is looked at then."""
        if connection.protocol is None:
            return
        self._idle[connection] = self._loop.time()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def has(self, connection: Connection) -> bool:
        """Whether it was kept."""
        return connection in self._idle

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for limits in self._limits.values():
            limits.close()
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await self._connector.close()

    def _sweep(self) -> None:
        """Close what wasn't used for so long that the other end may be about to."""
        self._sweeping = None
        before = self._loop.time() - KEEP_ALIVE_SECONDS
        for connection in [each for each, since in self._idle.items() if since <= before]:
            del self._idle[connection]
            connection.close()
        if self._idle:
            self._sweeping = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)


async def _exchange(connection: Connection, request: bytes, shown: str) -> Answered:
    """Write the request and read the whole answer; of a body over the limit one byte more, by which readers know."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        msg = "the connection was closed"
        raise ClientConnectionError(msg)
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    transport.write(request)
    message, payload = await protocol.read()
    while message.code < 200 and message.code != 101:
        message, payload = await protocol.read()
    body = payload.read_nowait() if payload.is_eof() else await _bounded(payload)
    if len(body) > REPLY_BYTES_MAX or transport.get_write_buffer_size():
        connection.close()  # the rest isn't wanted, or wasn't waited for; it is over for whoever would keep it, too
    headers = message.headers
    repeated = _REPEATED if len(headers.getall(OUTCOME_HEADER, ())) > 1 else _NO_REPEATS
    return Answered(message.code, headers, body[: REPLY_BYTES_MAX + 1], shown, repeated)


async def _bounded(payload: StreamReader) -> bytes:
    pieces = bytearray()
    async for piece in payload.iter_any():
        pieces += piece
        if len(pieces) > REPLY_BYTES_MAX:
            break
    return bytes(pieces)


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """What checks a participant's certificate and shows it ours; `NoRoute` where the files can't be used."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None and tls.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # that authority and no other
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificates(context, tls)
    return context


def load_certificates(context: ssl.SSLContext, tls: Tls | None) -> None:
    """Read the files; `NoRoute` names the one that can't be used."""
    if tls is None:
        return
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:  # an `SSLError` is one
        named = ", ".join(each for each in (tls.ca, tls.cert, tls.key) if each is not None)
        msg = f"certificates can't be read ({named}): {error.strerror or error}."
        raise NoRoute(msg) from error


def _authorization(url: URL) -> dict[str, str]:
    """A name and password in the address, as a header."""
    if url.user is None and url.password is None:
        return {}
    pair = f"{url.user or ''}:{url.password or ''}".encode()
    return {"authorization": f"Basic {b64encode(pair).decode()}"}


def _why(error: Exception) -> str:
    if isinstance(error, ClientConnectorError) and not isinstance(error, ClientSSLError):
        reason = error.os_error  # what the system said; the rest of the text repeats the address
        said = os.strerror(reason.errno) if reason.errno and reason.errno > 0 else reason.strerror
        if said:
            return said
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
