"""HTTP/1.1 as it comes in, with limits that the parser doesn't have: how large a head may be, and how long it may take.

A body is the endpoint's to bound, since only it knows what it reads. Before there is one, whoever sends a byte a
second, or headers without end, would hold a connection, and memory, for nothing.
"""

import asyncio
from typing import Any, Final, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from amends.ports.forks import keep_from_children
from amends.server.problems import MEDIA_TYPE, Problem

HEAD_BYTES_MAX: Final = 64 << 10
"""The first line and all headers of a request."""

HEAD_SECONDS: Final = 20.0
"""How long they may take to arrive."""

CONNECTIONS_MAX: Final = 8_192
"""Connections that are open at a time."""


class _HeadTooLarge(Exception):
    """Ends the parsing of a request whose head is beyond its limit."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; `guarded` sets them."""

    head_bytes_max: int = HEAD_BYTES_MAX
    head_seconds: float = HEAD_SECONDS
    connections_max: int = CONNECTIONS_MAX

    _in_head = False
    _head_bytes = 0
    _chunk_bytes = 0
    _refused = False
    _patience: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))  # of a connection, they are
        keep_from_children(self, _descriptor)
        if len(self.connections) > self.connections_max:
            self._refuse(
                Problem(
                    503,
                    "overloaded",
                    "Too many connections",
                    f"{self.connections_max} connections are open.",
                    headers={"Retry-After": "1"},
                )
            )
            return
        self._wait_for_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_in_head = self._in_head
        self._chunk_bytes = len(data)
        super().data_received(data)
        if was_in_head and self._in_head:  # a chunk that holds nothing but a part of the head
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._refuse(_too_large(self.head_bytes_max))

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._patience is None:
            self._wait_for_head()

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_came()
        if self._head_bytes + self._chunk_bytes > self.head_bytes_max:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.head_bytes_max:
                self._refuse(_too_large(self.head_bytes_max))
                raise _HeadTooLarge
        super().on_headers_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            detail = "What came is no HTTP/1.1 request."
            self._refuse(Problem(400, "bad-request", "The request isn't as this API takes it", detail))

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(self.head_seconds, self._too_late)

    def _head_came(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_late(self) -> None:
        self._patience = None
        if not self._in_head:
            self.transport.close()  # nothing came at all
            return
        detail = f"The head of the request didn't arrive within {self.head_seconds:g} s."
        self._refuse(Problem(408, "request-timeout", "The request took too long", detail))

    def _refuse(self, problem: Problem) -> None:
        """Answer by ourselves and close: what follows can't be told apart from this request any more."""
        self._refused = True
        self._head_came()
        response = problem.response()
        head = [
            STATUS_LINE[problem.status],
            b"content-type: ",
            MEDIA_TYPE.encode(),
            b"\r\ncontent-length: %d\r\nconnection: close\r\n" % len(response.body),
            *(f"{name}: {value}\r\n".encode() for name, value in problem.headers.items()),
            b"\r\n",
        ]
        if not self.transport.is_closing():
            self.transport.write(b"".join(head) + bytes(response.body))
            self.transport.close()


def guarded(*, head_bytes: int, head_seconds: float, connections: int) -> type[GuardedProtocol]:
    """The protocol with these limits: uvicorn makes one per connection, and hands it none of its own."""
    limits: dict[str, Any] = {
        "head_bytes_max": head_bytes,
        "head_seconds": head_seconds,
        "connections_max": connections,
    }
    return type("LimitedProtocol", (GuardedProtocol,), limits)


def _too_large(limit: int) -> Problem:
    return Problem(431, "too-large", "More than the limit", f"The head of the request has more than {limit} bytes.")


def _descriptor(protocol: GuardedProtocol) -> int:
    """The connection's, for `keep_from_children`."""
    transport = protocol.transport
    if transport is None or transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison] - it is none before it is connected
        return -1
    number: int = transport.get_extra_info("socket").fileno()
    return number
