"""Connections at their limits: what isn't read, what is sent on ahead, handshakes, and a process without descriptors.

And what the protocol relies upon in uvicorn's class, which is private: a new version must be read before it is allowed.
"""

import asyncio
import errno
import inspect
import logging
import resource
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.lifespan.off import LifespanOff
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState

from amends.server import connections as module
from amends.server import protocol as protocols
from amends.server.connections import OWN_DESCRIPTORS, Acceptor, ListenerConnections, places
from amends.server.protocol import PIPELINED_MAX, GuardedProtocol, guarded, too_many_connections
from tests.fast.server.certificates import Authority
from tests.fast.server.processes import SECONDS, until

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Listening:
    address: tuple[str, int]
    connections: ListenerConnections
    kind: type[GuardedProtocol]
    clients: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])

    async def connect(self, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "127.0.0.1" if tls else None
        reader, writer = await asyncio.open_connection(*self.address, ssl=tls, server_hostname=name)
        self.clients.append(writer)
        return reader, writer

    async def close(self) -> None:
        for each in self.clients:
            each.transport.abort()
            with suppress(OSError):
                await each.wait_closed()

    async def ask(self, tls: ssl.SSLContext | None = None) -> bytes:
        reader, writer = await self.connect(tls)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return await reader.read()


async def hello(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def listening(
    app: App = hello, most: int = 4, tls: ssl.SSLContext | None = None, write_seconds: float = 30.0
) -> AsyncGenerator[Listening]:
    connections = ListenerConnections(most)
    kind = guarded(connections, write_seconds=write_seconds)
    config = uvicorn.Config(app, http=kind, lifespan="off", log_config=None, ws="none")
    config.load()
    state = ServerState()

    def make() -> asyncio.Protocol:
        return kind(config=config, server_state=state, app_state=LifespanOff(config).state)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host, port = listener.getsockname()
        accepting = asyncio.create_task(Acceptor(listener, make, connections, tls, too_many_connections(most)).run())
        server = Listening((host, port), connections, kind)
        try:
            async with asyncio.timeout(SECONDS):
                yield server
        finally:
            await server.close()
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            for each in list(state.connections):
                each.transport.abort()
            await until(lambda: not state.connections)


# -- what isn't read


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    ended = asyncio.Event()

    async def endless(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive_now(receive)) is None:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        ended.set()

    async with listening(endless, write_seconds=0.05) as server:
        _, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined] # the reader's side of it
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await ended.wait()
        assert server.kind.unread == {}


async def receive_now(receive: Any) -> object | None:  # noqa: ANN401 - ASGI
    """What has come by now, `None` where nothing has."""
    task = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        return None
    message: dict[str, object] = task.result()
    return message if message["type"] == "http.disconnect" else None


async def test_what_all_leave_unread_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "UNREAD_BYTES_MAX", 8 << 20)

    async def large(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (16 << 20)})

    async with listening(large) as server:
        _, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined] # the reader's side of it
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: server.connections.taken == 1)
        await until(lambda: server.connections.taken == 0)


@pytest.mark.parametrize(("sent", "answered"), [(PIPELINED_MAX, True), (PIPELINED_MAX + 2, False)])
async def test_only_so_many_requests_wait_behind_one_another(sent: int, answered: bool) -> None:
    gate = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await gate.wait()
        await hello(scope, receive, send)

    async with listening(waits) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * sent)
        if not answered:
            assert await reader.read() == b""
        gate.set()
        if answered:
            for _ in range(sent):
                await reader.readuntil(b"hello")


# -- places


async def test_the_connection_that_was_idle_longest_makes_room() -> None:
    async with listening(most=2) as server:
        (first, _), (_, two) = await server.connect(), await server.connect()
        await until(lambda: server.connections.taken == 2)
        two.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")  # and idle again: the first was idle for longer
        assert b" 200 " in await server.ask()
        assert await first.read() == b""
        assert server.connections.evicted == 1


async def test_handshakes_that_never_end_keep_nobody_out(tmp_path: Path) -> None:
    made = Authority(tmp_path, "here")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*made.sign("server"))
    trusting = ssl.create_default_context(cafile=str(made.ca))
    async with listening(most=3, tls=context) as server:
        for _ in range(7):
            # The handshake isn't begun: a plain connection that says nothing.
            await server.connect()
        assert b" 200 " in await server.ask(trusting)
        assert server.connections.taken <= 3


async def test_every_place_is_given_back() -> None:
    async with listening(most=3) as server:
        for _ in range(5):
            assert b" 200 " in await server.ask()
            _, writer = await server.connect()
            writer.write(b"no HTTP at all\r\n\r\n")
            writer.transport.abort()
        await until(lambda: server.connections.taken == 0)


async def test_a_machine_without_descriptors_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    async with listening() as server:
        reader, _ = await server.connect()
        await until(lambda: server.connections.taken == 1)
        loop = asyncio.get_running_loop()
        accept, failed = loop.sock_accept, 0

        async def fails(sock: socket.socket) -> Any:  # noqa: ANN401 - as the loop has it
            nonlocal failed
            failed += 1
            if failed == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(sock)

        with caplog.at_level(logging.WARNING):
            first = asyncio.create_task(server.ask())  # the accept under way takes this one
            monkeypatch.setattr(loop, "sock_accept", fails)
            assert b" 200 " in await first
            assert b" 200 " in await server.ask()
        assert failed > 1
        assert await reader.read() == b"", "what was idle made room"
        assert caplog.text.count("no room for another connection") == 1


@pytest.mark.parametrize(
    ("limits", "found", "raised"),
    [
        ((1_024, 1_024), 512, None),
        ((256, 256), 128, None),
        ((1_024, 1_048_576), 8_192, 8_192 + OWN_DESCRIPTORS),
        ((1_024, 4_096), 4_096 - OWN_DESCRIPTORS, 4_096),
        ((65_536, 65_536), 8_192, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 8_192, None),
        ((1_024, resource.RLIM_INFINITY), 8_192, 8_192 + OWN_DESCRIPTORS),
    ],
)
def test_there_are_no_more_places_than_descriptors(
    limits: tuple[int, int], found: int, raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [limits]

    def getrlimit(_: int) -> tuple[int, int]:
        return now[-1]

    def setrlimit(_: int, new: tuple[int, int]) -> None:
        now.append(new)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert places(8_192) == found
    assert now == [limits] if raised is None else [limits, (raised, limits[1])]


# -- what stands below


def test_the_class_below_is_the_one_that_was_read() -> None:
    """`GuardedProtocol` overrides methods of a private class. Read what changed in `uvicorn/protocols/http/
    httptools_impl.py`, check `server/protocol.py` and `_Server` against it, then write the new digest here.
    """
    known = {
        "0.54.0": "bbcd1b24008c3106",
    }
    source = inspect.getsource(httptools_impl.HttpToolsProtocol) + inspect.getsource(uvicorn.Server)
    assert known.get(uvicorn.__version__) == sha256(source.encode()).hexdigest()[:16]
