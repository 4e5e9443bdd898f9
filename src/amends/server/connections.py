"""The connections of one listener: how many there may be, which of them are idle, and accepting new ones.

Every connection costs a descriptor, and descriptors that clients use up are missing where the log, the participants and
the health checks need them. Rules of this file:

* Fewer connections are accepted than the process may have descriptors; the rest is the server's own.
* A connection counts from the moment it is accepted, TLS handshakes included.
* When all places are taken, the connection that has been idle longest is closed for the new one. Idle is whatever no
  request is being answered on: kept alive, a head or body that doesn't come, nothing sent at all. Only if a request is
  being answered on every connection, a new one is refused.
* Accepting never ends with an error: where descriptors are short in spite of all, it makes room and goes on.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

CONNECTIONS_MAX: Final = 8_192
"""Connections that are open at a time."""

OWN_DESCRIPTORS: Final = 512
"""Kept for the log, calls to participants and files; half of all where there are fewer than twice as many."""

HANDSHAKE_SECONDS: Final = 10.0
"""How long a TLS handshake may take."""

PAUSE_SECONDS: Final = 0.05
"""Before the next try to accept, where the machine has no room for a connection."""

REFUSING_MAX: Final = 32
"""Connections without a place that are told why at a time; more are closed at once."""

REFUSING_SECONDS: Final = 1.0
"""How long a client may take to read why it was refused."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_LOGGER = logging.getLogger("amends.server")


class Closable(Protocol):
    """A connection, as far as this file knows it."""

    def make_room(self) -> None:
        """Close at once: its place is needed."""
        ...


class ListenerConnections:
    """The places of one listener."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self.evicted = 0
        self._idle: dict[Closable, None] = {}

    def idle(self, connection: Closable) -> None:
        """No request is being answered on it any more, or yet."""
        self._idle.pop(connection, None)
        self._idle[connection] = None  # at the end: the first has been idle longest

    def busy(self, connection: Closable) -> None:
        """A request is being answered on it; or it is closed."""
        self._idle.pop(connection, None)

    def make_room(self) -> bool:
        """Close the connection that has been idle longest; false if none is idle."""
        for connection in self._idle:
            del self._idle[connection]
            self.evicted += 1
            connection.make_room()
            return True
        return False


@dataclass(frozen=True, eq=False)
class _Handshake:
    """A connection that isn't one yet; it is idle, so that handshakes that never end keep no other client out."""

    task: "asyncio.Task[None]"

    def make_room(self) -> None:
        self.task.cancel()


class Acceptor:
    """Accepts connections on a listening socket until it is cancelled."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        connections: ListenerConnections,
        tls: ssl.SSLContext | None = None,
        refusal: bytes = b"",
    ) -> None:
        self._listening = listening
        self._make = make
        self._connections = connections
        self._tls = tls
        self._refusal = refusal
        self._handshakes: set[asyncio.Task[None]] = set()
        self._refusing: set[asyncio.Task[None]] = set()
        self._warned = False

    def renew(self, tls: ssl.SSLContext) -> None:
        """Take this context for new connections; handshakes under the one before end."""
        self._tls = tls
        for each in list(self._handshakes):
            each.cancel()

    async def run(self) -> None:
        """Accept for ever. Connections that are open stay open when it is cancelled; handshakes end."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._listening)
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        continue  # it was gone before it was accepted
                    await self._exhausted(error)
                    continue
                try:
                    await self._take(accepted)
                except Exception:  # a bug here must cost one connection, not all later ones
                    _LOGGER.exception("a connection can't be taken")
                    accepted.close()
        finally:
            for each in (*self._handshakes, *self._refusing):
                each.cancel()

    async def _take(self, accepted: socket.socket) -> None:
        connections = self._connections
        if connections.taken >= connections.most and not connections.make_room():
            self._refuse(accepted)
            return
        connections.taken += 1
        if self._tls is None:
            await self._welcome(accepted)
            return
        handshake = _Handshake(asyncio.create_task(self._welcome(accepted)))
        connections.idle(handshake)
        self._handshakes.add(handshake.task)
        handshake.task.add_done_callback(lambda _: self._shaken(handshake))

    def _shaken(self, handshake: "_Handshake") -> None:
        self._handshakes.discard(handshake.task)
        self._connections.busy(handshake)

    def _refuse(self, accepted: socket.socket) -> None:
        """Say why, and close once the client has read it: closed with its request unread, it would see a reset."""
        if self._tls is not None or len(self._refusing) >= REFUSING_MAX:
            accepted.close()
            return
        task = asyncio.create_task(self._say_no(accepted))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    async def _say_no(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with accepted, suppress(OSError, TimeoutError):
            async with asyncio.timeout(REFUSING_SECONDS):
                await loop.sock_sendall(accepted, self._refusal)
                accepted.shutdown(socket.SHUT_WR)
                while await loop.sock_recv(accepted, 65_536):
                    pass

    async def _welcome(self, accepted: socket.socket) -> None:
        """The protocol takes its place along when it is made: it gives the place back when the connection is lost."""
        limit = None if self._tls is None else HANDSHAKE_SECONDS
        made: asyncio.Protocol | None = None
        try:
            accepted.setblocking(False)  # noqa: FBT003 - takes no keyword
            _, made = await asyncio.get_running_loop().connect_accepted_socket(
                self._make, accepted, ssl=self._tls, ssl_handshake_timeout=limit
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError, RuntimeError) as error:
            _LOGGER.debug("a connection ended before it was one: %s", error)
            accepted.close()
        finally:
            if made is None:
                self._connections.taken -= 1

    async def _exhausted(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _LOGGER.warning(
                "no room for another connection: %s. Idle connections are closed. Raise the limit of open files "
                "(ulimit -n), or lower server.connections_max (now %d).",
                error.strerror,
                self._connections.most,
            )
        self._connections.make_room()
        await asyncio.sleep(PAUSE_SECONDS)


def places(wanted: int) -> int:
    """How many connections may be open at a time: as many as are wanted, if the process may have the descriptors.

    Raises the process's own limit of open files to the most that it may set.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed and soft != hard:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # refused where a container says so: what there is must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    found = max(1, soft - min(OWN_DESCRIPTORS, soft // 2))
    _LOGGER.warning(
        "server.connections_max is %d, but this process may have %d open files: %d connections are taken at a time. "
        "Raise the limit of open files (ulimit -n) to %d.",
        wanted,
        soft,
        found,
        needed,
    )
    return found
