"""HTTP/1.1 as it comes in, with limits that the parser doesn't have: how large a head may be, how long head and body
may take to arrive, how long an answer may go unread, and how many requests may wait behind one another.

How large a body may be is the endpoint's to bound, since only the endpoint knows what it reads. Without the other
limits a client that sends a byte a second, or reads nothing, would hold a connection, and memory, for nothing.

This file extends a private class of uvicorn; `tests/fast/server/test_protocol.py` holds what it relies upon, and
`pyproject.toml` bounds the version.
"""

import asyncio
from typing import Any, Final, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from amends.server.connections import CONNECTIONS_MAX, ListenerConnections
from amends.server.problems import MEDIA_TYPE, Problem
from amends.system.forks import keep_from_children

HEAD_BYTES_MAX: Final = 64 << 10
"""The first line and all headers of a request."""

HEAD_SECONDS: Final = 20.0
"""How long they may take to arrive."""

BODY_SECONDS: Final = 30.0
"""How long a body may take to arrive."""

WRITE_SECONDS: Final = 30.0
"""How long a client may leave an answer unread before the connection is given up."""

UNREAD_BYTES_MAX: Final = 64 << 20
"""Bytes of answers that all clients together leave unread; the connection that is over it is given up at once."""

GRACE_SECONDS: Final = 0.5
"""An endpoint that waits for the body answers first; then the connection is closed."""

PIPELINED_MAX: Final = 64
"""Requests that wait on a connection for the answer of the one before."""


class _NoMore(Exception):
    """Ends the parsing of what a connection sends: it was refused."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; `guarded` sets them."""

    head_bytes_max: int = HEAD_BYTES_MAX
    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    write_seconds: float = WRITE_SECONDS
    places: ListenerConnections = ListenerConnections(CONNECTIONS_MAX)
    unread: "dict[GuardedProtocol, int]"
    """Connections whose answers aren't read, and how many bytes they hold: shared by all of a listener."""

    _in_head = False
    _in_body = False
    _head_bytes = 0
    _chunk_bytes = 0
    _refused = False
    _patience: asyncio.TimerHandle | None = None
    _body_patience: asyncio.TimerHandle | None = None
    _write_patience: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))  # of a connection, they are
        keep_from_children(self, _descriptor)
        self.places.idle(self)
        self._wait_for_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._body_came()
        self._written()
        self.places.busy(self)
        self.places.taken -= 1
        super().connection_lost(exc)

    def make_room(self) -> None:
        """Close at once: this connection is idle, and its place is needed."""
        self._refused = True
        self.transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        was_in_head = self._in_head
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._in_body and self._body_patience is None:
            # It didn't come with the head. It may take its time, also where the answer didn't wait for it.
            self._body_patience = self.loop.call_later(self.body_seconds + GRACE_SECONDS, self._body_too_late)
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
        self._in_head, self._in_body = False, True
        self._head_came()
        self.places.busy(self)
        if len(self.pipeline) >= PIPELINED_MAX:
            self._refused = True
            self.transport.close()
            raise _NoMore
        if self._head_bytes + self._chunk_bytes > self.head_bytes_max:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.head_bytes_max:
                self._refuse(_too_large(self.head_bytes_max))
                raise _NoMore
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_body = False
        self._body_came()
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if not waiting and not self.transport.is_closing():
            self.places.idle(self)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread[self] = self.transport.get_write_buffer_size()
        if sum(self.unread.values()) > UNREAD_BYTES_MAX:
            self.transport.abort()
        elif self._write_patience is None:
            self._write_patience = self.loop.call_later(self.write_seconds, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        self._written()
        super().resume_writing()

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

    def _body_came(self) -> None:
        if self._body_patience is not None:
            self._body_patience.cancel()
            self._body_patience = None

    def _body_too_late(self) -> None:
        """Its endpoint has answered long ago, with 408 if it waited for the body."""
        self._refused = True
        self.transport.close()

    def _written(self) -> None:
        self.unread.pop(self, None)
        if self._write_patience is not None:
            self._write_patience.cancel()
            self._write_patience = None

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
        if not self.transport.is_closing():
            self.transport.write(answered(problem))
            self.transport.close()


def guarded(
    connections: ListenerConnections,
    *,
    head_bytes: int = HEAD_BYTES_MAX,
    head_seconds: float = HEAD_SECONDS,
    body_seconds: float = BODY_SECONDS,
    write_seconds: float = WRITE_SECONDS,
) -> type[GuardedProtocol]:
    """The protocol with these limits: uvicorn makes one per connection, and hands it none of its own."""
    limits: dict[str, Any] = {
        "places": connections,
        "unread": {},
        "head_bytes_max": head_bytes,
        "head_seconds": head_seconds,
        "body_seconds": body_seconds,
        "write_seconds": write_seconds,
    }
    return type("LimitedProtocol", (GuardedProtocol,), limits)


def too_many_connections(most: int) -> bytes:
    """The whole answer to a connection for which there is no place."""
    detail = f"{most} connections are open, and a request is being answered on each."
    return answered(Problem(503, "overloaded", "Too many connections", detail, headers={"Retry-After": "1"}))


def answered(problem: Problem) -> bytes:
    """A problem as a whole HTTP/1.1 answer that closes the connection."""
    response = problem.response()
    head = [
        STATUS_LINE[problem.status],
        b"content-type: ",
        MEDIA_TYPE.encode(),
        b"\r\ncontent-length: %d\r\nconnection: close\r\n" % len(response.body),
        *(f"{name}: {value}\r\n".encode() for name, value in problem.headers.items()),
        b"\r\n",
    ]
    return b"".join(head) + bytes(response.body)


def _too_large(limit: int) -> Problem:
    return Problem(431, "too-large", "More than the limit", f"The head of the request has more than {limit} bytes.")


def _descriptor(protocol: GuardedProtocol) -> int:
    """The connection's, for `keep_from_children`."""
    transport = protocol.transport
    if transport is None or transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison] - it is none before it is connected
        return -1
    number: int = transport.get_extra_info("socket").fileno()
    return number
