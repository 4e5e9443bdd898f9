"""Connections with TLS end with their call, whatever the other end does about it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from amends.core.run.answers import CallResponse, Cause, Lost, NotSent
from amends.core.saga.operation import Tls
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport
from tests.fast.server.certificates import Authority
from tests.support.raw_server import OK, RawServer, Talk

ServeTls = Callable[[Talk], Awaitable[tuple[RawServer, HttpTransport]]]


@pytest.fixture
async def serve_tls(tmp_path: Path) -> AsyncIterator[ServeTls]:
    """A server with a certificate, and a transport that knows its authority."""
    authority = Authority(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("server"))
    async with AsyncExitStack() as stack:

        async def start(talk: Talk) -> tuple[RawServer, HttpTransport]:
            raw = RawServer(talk)
            server = await stack.enter_async_context(await asyncio.start_server(raw.meet, "127.0.0.1", 0, ssl=context))
            raw.port = server.sockets[0].getsockname()[1]
            http = HttpTransport(f"https://127.0.0.1:{raw.port}/saga", tls=Tls(ca=str(authority.ca)))
            stack.push_async_callback(http.close)
            return raw, http

        yield start


def sockets_to(port: int) -> int:
    """Of this process, those that are connected to this port."""
    wanted = f":{port:04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{fields[9]}]" for fields in table if fields[2].endswith(wanted)}
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(each.readlink()) in inodes
    return found


async def none_left(port: int) -> None:
    """Soon, and not when the other end has said good-bye: it never does."""
    async with asyncio.timeout(10):
        while sockets_to(port):  # noqa: ASYNC110 - the system's list: nobody says that it changed
            await asyncio.sleep(0.01)


needs_proc = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="open sockets are counted as Linux lists them"
)


class Deaf:
    """Says this to its first request, and reads no more: it never hears that it was left, nor says good-bye."""

    def __init__(self, said: bytes) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()
        self.raw: RawServer | None = None
        self._said = said

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.raw is not None
        await self.raw.read(reader)
        writer.write(self._said)
        cast("asyncio.Transport", writer.transport).pause_reading()
        self.arrived.set()
        await self.released.wait()
        writer.transport.abort()


async def deaf(serve_tls: ServeTls, said: bytes) -> tuple[Deaf, RawServer, HttpTransport]:
    server = Deaf(said)
    server.raw, http = await serve_tls(server.talk)
    return server, server.raw, http


@needs_proc
async def test_a_call_that_timed_out_keeps_no_socket(serve_tls: ServeTls) -> None:
    server, raw, http = await deaf(serve_tls, b"")
    came = await http.send(replace(CALL, timeout_seconds=1.0))
    assert isinstance(came, Lost)
    assert came.cause is Cause.TIMED_OUT
    assert server.arrived.is_set()
    await none_left(raw.port)
    server.released.set()


@needs_proc
async def test_a_closed_transport_keeps_no_socket(serve_tls: ServeTls) -> None:
    server, raw, http = await deaf(serve_tls, OK)
    assert isinstance(await http.send(CALL), CallResponse)
    assert sockets_to(raw.port) == 1, "kept for the next call"
    await http.close()
    await none_left(raw.port)
    server.released.set()


async def test_a_call_under_way_hears_at_once_that_its_transport_was_closed(serve_tls: ServeTls) -> None:
    server, _, http = await deaf(serve_tls, b"")
    calling = asyncio.create_task(http.send(replace(CALL, timeout_seconds=60)))
    await asyncio.wait_for(server.arrived.wait(), 10)
    await http.close()
    came = await asyncio.wait_for(calling, 10)
    assert isinstance(came, Lost)
    assert "closed" in came.detail
    server.released.set()


async def test_the_other_end_is_told_that_it_was_left(serve_tls: ServeTls) -> None:
    left: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)
        left.set_result(await reader.read())  # a connection that just breaks off would be an error here

    raw, http = await serve_tls(talk)
    assert isinstance(await http.send(CALL), CallResponse)
    await http.close()
    assert await asyncio.wait_for(left, 10) == b""


@needs_proc
async def test_a_call_that_connects_while_its_transport_is_closed_still_ends_in_time() -> None:
    """The other end takes the connection and says nothing, so that TLS is never agreed on."""
    met, released = asyncio.Event(), asyncio.Event()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        met.set()
        await released.wait()
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http = HttpTransport(f"https://127.0.0.1:{port}/saga")
    calling = asyncio.create_task(http.send(replace(CALL, timeout_seconds=1.0)))
    await asyncio.wait_for(met.wait(), 10)
    await http.close()
    came = await asyncio.wait_for(calling, 10)
    assert isinstance(came, NotSent)
    await none_left(port)
    released.set()
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=["asyncio"])  # it asks Python's resolver, which can be replaced
async def test_a_name_with_its_final_dot_is_asked_for_as_it_stands_in_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "authority").sign("server"))
    context.sni_callback = lambda _socket, name, _context: named.set_result(name)
    raw = RawServer(lambda _reader, _writer: asyncio.sleep(0))
    async with await asyncio.start_server(raw.meet, "127.0.0.1", 0, ssl=context) as server:
        where = server.sockets[0].getsockname()
        found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]

        def resolve(*_given: object, **_named: object) -> object:
            return found

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        http = HttpTransport(f"https://inventory.example.:{where[1]}/saga")
        assert isinstance(await http.send(CALL), NotSent), "nobody we know signed it"
        assert await named == "inventory.example"
        await http.close()
