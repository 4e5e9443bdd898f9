"""When a connection serves another call, and when it never may again."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from amends.core.run.answers import CallResponse, Cause, Lost
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport
from amends.transports.http_connection import HttpConnection
from tests.support.raw_server import OK, RawServer, Serve, transport


async def connections_for_two_calls(serve: Serve, said: bytes) -> tuple[list[object], RawServer]:
    """Two calls one after the other, each answered with these bytes; connections are closed by us alone."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await raw.read(reader)
            writer.write(said)
            await writer.drain()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came: list[object] = []
        for _ in range(2):
            came.append(await http.send(CALL))
            await asyncio.sleep(0)  # what came behind the answer is there by now, too
    return came, raw


FREE = {
    "a length": OK,
    "chunks": b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\nSaga-Outcome: succeeded\r\n\r\n",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "HTTP/1.0 that keeps": OK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
        b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"
    ),
}


@pytest.mark.parametrize("said", FREE.values(), ids=FREE.keys())
async def test_after_a_whole_answer_the_connection_is_used_again(serve: Serve, said: bytes) -> None:
    came, raw = await connections_for_two_calls(serve, said)
    assert all(isinstance(each, CallResponse) for each in came), came
    assert raw.connections == 1


SPENT = {
    "it says so": OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "HTTP/1.0": OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another answer follows": OK + OK,
    "something else follows": OK + b"\r\nnot an answer",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("said", SPENT.values(), ids=SPENT.keys())
async def test_after_anything_else_it_never_is(serve: Serve, said: bytes) -> None:
    came, raw = await connections_for_two_calls(serve, said)
    assert all(isinstance(each, CallResponse) for each in came), came
    assert raw.connections == 2


async def test_an_answer_may_end_with_its_connection(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\n\r\n{"a":')
        await writer.drain()
        writer.write(b"1}")

    raw = await serve(talk)
    async with transport(raw.url) as http:
        for _ in range(2):
            came = await http.send(CALL)
            assert isinstance(came, CallResponse)
            assert came.body == b'{"a":1}'
    assert raw.connections == 2


async def test_an_answer_may_come_byte_by_byte(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await raw.read(reader)
            for each in OK:
                writer.write(bytes([each]))
                await writer.drain()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        for _ in range(2):
            came = await http.send(CALL)
            assert isinstance(came, CallResponse)
            assert (came.headers["saga-outcome"], came.body) == ("succeeded", b"{}")
    assert raw.connections == 1


async def test_what_is_said_unasked_ends_the_connection(serve: Serve) -> None:
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)
        await writer.drain()
        await answered.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert await reader.read() == b"", "nothing more is sent on it"
        gone.set()

    answered = asyncio.Event()
    raw = await serve(talk)
    async with transport(raw.url) as http:
        assert isinstance(await http.send(CALL), CallResponse)
        answered.set()
        await gone.wait()
        gone.clear()
        came = await http.send(CALL)
        assert isinstance(came, CallResponse)
        assert came.status == 200, "and not what was said before it was asked"
    assert raw.connections == 2


async def test_a_head_without_end_is_given_up(serve: Serve) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await raw.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1_000):
            writer.write(b"".join(b"x-%d-%d: y\r\n" % (number, each) for each in range(1_000)))
            await writer.drain()
            sent = number

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(replace(CALL, timeout_seconds=60))
    assert isinstance(came, Lost)
    assert came.cause is Cause.LOST
    assert "65536 bytes" in came.detail
    assert sent < 999


async def test_a_call_under_way_hears_that_its_transport_was_closed(serve: Serve) -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        arrived.set()
        await reader.read()

    raw = await serve(talk)
    http = HttpTransport(raw.url)
    calling = asyncio.create_task(http.send(CALL))
    await arrived.wait()
    await http.close()
    came = await calling
    assert isinstance(came, Lost)
    assert "closed" in came.detail


async def test_a_name_with_several_addresses_is_reached_by_the_one_that_answers(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)  # on 127.0.0.1 alone, while `localhost` may be ::1 first
    async with transport(f"http://localhost:{raw.port}/saga") as http:
        assert isinstance(await http.send(CALL), CallResponse)


class Listening(HttpConnection):
    """Says whether it was free when it had just heard that the other end won't say more."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def eof_received(self) -> None:
        super().eof_received()
        self.heard.set_result(self.is_free)


async def test_a_connection_that_the_other_end_closed_is_not_used_again(serve: Serve) -> None:
    """From the very moment at which it is heard of, before the loop has taken the connection away."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    _, connection = await asyncio.get_running_loop().create_connection(Listening, "127.0.0.1", raw.port)
    await connection.exchange(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", raw.url)
    assert await asyncio.wait_for(connection.heard, 10) is False


async def test_a_spent_connection_needs_no_garbage_collector(serve: Serve) -> None:
    """Its last answer may be a megabyte, and `amends serve` looks for cycles but seldom."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    raw = await serve(talk)
    gc.disable()
    try:
        _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, "127.0.0.1", raw.port)
        weakref.finalize(connection, gone.set_result, None)
        await connection.exchange(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", raw.url)
        connection.close()
        del connection, _
        await asyncio.wait_for(gone, 10)
    finally:
        gc.enable()
