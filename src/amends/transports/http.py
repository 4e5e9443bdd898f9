"""Calls over HTTP/1.1: connections and TLS by asyncio, one pool per participant; nothing behind one's back.

No client library stands in between. Redirects, cookies, proxies from the environment, decompression and second tries
would all have to be turned off, and what then remains is one write and one read. That also makes plain what `NotSent`
rests on: it is said only while no connection was handed to the request. As soon as one was, also a kept-alive one that
turns out to be dead, a byte may have left: `Lost`.

One time-out covers everything from connecting to the last byte. A connection is used again only after a whole answer to
a whole request; whatever else happened, it is closed.
"""

import asyncio
import os
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType] - bare tuples in its alias
from yarl import URL

from amends.core.run.answers import CallResponse, Cause, Lost, NoRoom, NotSent
from amends.core.saga.operation import Tls
from amends.core.words.error_texts import told
from amends.core.words.errors import NoRoute
from amends.core.words.urls import BadUrl, http_url, shown_url
from amends.ports.transport import Outgoing
from amends.system.forks import keep_from_children
from amends.transports.http_connection import ExchangeFailed, HttpConnection
from amends.transports.limits import CallTimeouts
from amends.transports.room import not_sent
from amends.wire.call import CALL_HEADERS, call_head

KEEP_ALIVE_SECONDS: Final = 4.0
"""Below the 5 s after which uvicorn and Node close idle connections: the server shouldn't be the first to close."""

_ALWAYS: Final = {"user-agent": "amends", "accept": "application/json", "accept-encoding": "identity"}
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_FAILURES: Final = (ExchangeFailed, OSError, ValueError, RuntimeError, MemoryError)
"""`ValueError`: a name that can't be one; `RuntimeError`: what uvloop says of a socket that was closed meanwhile."""

EYEBALLS_SECONDS: Final = 0.25
"""How long one address of a name has before the next is tried beside it (RFC 8305, section 8)."""


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
        tls: Tls | None = None,
    ) -> None:
        try:
            address = http_url(url)
        except BadUrl as error:
            msg = f"{shown_url(url)!r} is no address of a participant: {error}. Expected http://host:port/path or https://..."
            raise NoRoute(msg) from None
        if address.has_query:
            msg = (
                f"{shown_url(url)!r}: a participant's address has no query or fragment; operations are paths below it."
            )
            raise NoRoute(msg)
        base = URL(url)
        self._base = base.with_user(None)
        self._always = {"host": self._base.host_port_subcomponent or "", **_authorization(base), **_ALWAYS}
        self._given: Mapping[str, str] = {} if headers is None else headers
        self._checked: dict[str, str] | None = None
        self._ready = ""
        self._tls = tls
        self._context = None if base.scheme == "http" else tls_context(tls)
        self._places: dict[str, tuple[str, str]] = {}
        self._pool: _Pool | None = None

    async def send(self, call: Outgoing) -> CallResponse | NotSent | NoRoom | Lost:
        line, shown = self._place(call.operation)
        try:
            request = self._request(line, call)
        except Exception as error:  # noqa: BLE001 - a mapping that fetches a token runs its author's code
            return not_sent(f"the headers of the route to {call.participant} can't be had: {_why(error)}", error)
        connection: HttpConnection | None = None
        pool = self._opened()
        limits = pool.limits(call.timeout_seconds)
        limit = limits.begin()
        try:
            connection = pool.idle() or await pool.connect()
            return await connection.exchange(request, shown)
        except asyncio.CancelledError:
            if not limit.is_why():
                raise
            if connection is None:
                return NotSent(f"no connection to {shown} within {call.timeout_seconds:g} s")
            return Lost(Cause.TIMED_OUT, f"no answer from {shown} within {call.timeout_seconds:g} s")
        except _FAILURES as error:
            if connection is None:
                return not_sent(f"no connection to {shown}: {_why(error)}", error)
            return Lost(Cause.LOST, f"no answer from {shown}: {_why(error)}")
        finally:
            limits.end(limit)
            if connection is not None:
                pool.give_back(connection)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

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
            self._pool = _Pool(self._base, self._context)
        return self._pool

    def reload(self) -> None:
        """Read the certificates again; `NoRoute` leaves them as they are.

        A new context takes over, since authorities can only be added to one. Connections under the old one end: idle
        ones now, the others after their answer.
        """
        if self._context is not None:
            self._context = tls_context(self._tls)
            if self._pool is not None:
                self._pool.renew(self._context)


class _Pool:
    """Connections to one place, kept in between, the last used first."""

    def __init__(self, base: URL, context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._host, self._port = base.raw_host or "", base.port or 0
        self._context = context
        self._busy: set[HttpConnection] = set()
        self._outdated: set[HttpConnection] = set()
        self._idle: dict[HttpConnection, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._limits: dict[float, CallTimeouts] = {}
        self._closed = False

    def limits(self, seconds: float) -> CallTimeouts:
        """The queue of the calls with this time-out."""
        found = self._limits.get(seconds)
        if found is None:
            found = self._limits[seconds] = CallTimeouts(seconds)
        return found

    async def connect(self) -> HttpConnection:
        """A new connection, with TLS where the address says so."""
        context = self._context
        found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        delay = EYEBALLS_SECONDS if len(found) > 1 else None
        connected = await start_connection(found, happy_eyeballs_delay=delay)
        keep_from_children(connected, socket.socket.fileno)
        try:
            name = None if context is None else self._host.removesuffix(".")  # no certificate has the dot
            _, connection = await self._loop.create_connection(
                HttpConnection, sock=connected, ssl=context, server_hostname=name
            )
        except BaseException:
            connected.close()
            raise
        if self._closed:
            connection.close()
            msg = "the transport was closed"
            raise ExchangeFailed(msg)
        self._busy.add(connection)
        if context is not self._context:
            self._outdated.add(connection)
        return connection

    def idle(self) -> HttpConnection | None:
        """One that can be used again, if there is one."""
        while self._idle:
            connection, since = self._idle.popitem()
            if connection.is_free and self._loop.time() - since < KEEP_ALIVE_SECONDS:
                self._busy.add(connection)
                return connection
            connection.close()
        return None

    def renew(self, context: ssl.SSLContext) -> None:
        """Other certificates and authorities from now on."""
        self._context = context
        self._outdated = set(self._busy)
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def give_back(self, connection: HttpConnection) -> None:
        """A call is over: keep its connection for the next one, if it can be used again."""
        self._busy.discard(connection)
        outdated = connection in self._outdated
        self._outdated.discard(connection)
        if self._closed or outdated or not connection.is_free:
            connection.close()
            return
        self._idle[connection] = self._loop.time()
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def close(self) -> None:
        """Close every connection. A call that is under way on one hears that it was closed."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for limits in self._limits.values():
            limits.close()
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    def _sweep(self) -> None:
        """Close what wasn't used for so long that the other end may be about to."""
        self._sweeping = None
        before = self._loop.time() - KEEP_ALIVE_SECONDS
        for connection in [each for each, since in self._idle.items() if since <= before]:
            del self._idle[connection]
            connection.close()
        if self._idle:
            self._sweeping = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)


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
    if isinstance(error, ExchangeFailed):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        # What the system said; the rest of the text repeats the address.
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        if said:
            return said
    return told(error)
