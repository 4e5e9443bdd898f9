"""HTTP over real sockets that fail: what may have been sent, and what provably was not."""

import asyncio
import socket
from dataclasses import replace

import pytest

from amends.core.run.answers import CallResponse, Cause, Lost, NotSent
from amends.core.words.errors import NoRoute
from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport
from tests.support.raw_server import OK, Serve, answer_with, transport

# -- what is lost

BROKEN = {
    "closed at once": b"",
    "cut in the head": b"HTTP/1.1 200 OK\r\nSaga-Outcome: succ",
    "cut in the body": b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nContent-Length: 10\r\n\r\n{}",
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "no HTTP": b"220 mail.example ESMTP\r\n\r\n",
    "garbage": bytes(range(256)),
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_does_not_arrive_whole_is_lost(serve: Serve, said: bytes) -> None:
    came, raw = await answer_with(serve, said)
    assert isinstance(came, Lost)
    assert came.cause is Cause.LOST
    assert f"{raw.url}/reserve" in came.detail


async def test_a_reset_is_lost(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(CALL)
    assert isinstance(came, Lost)
    assert len(raw.requests) == 1


async def test_a_dead_kept_alive_connection_is_lost_and_nothing_is_sent_again(serve: Serve) -> None:
    second = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)
        await raw.read(reader)  # acts, and dies before the answer
        second.set()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        assert isinstance(await http.send(CALL), CallResponse)
        came = await http.send(CALL)
    assert second.is_set()
    assert isinstance(came, Lost)
    assert raw.connections == 1
    assert len(raw.requests) == 2


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nContent-Length: 9\r\n\r\n{"])
async def test_a_slow_answer_is_given_up_in_time(serve: Serve, said: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(said)
        await reader.read()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(replace(CALL, timeout_seconds=0.1))
    assert isinstance(came, Lost)
    assert came.cause is Cause.TIMED_OUT
    assert "0.1 s" in came.detail
    assert len(raw.requests) == 1


async def test_a_connection_answered_before_it_was_listened_to_is_not_used_again(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")  # and never the body
        writer.write(OK)
        await released.wait()

    released = asyncio.Event()
    raw = await serve(talk)
    async with transport(raw.url) as http:
        for _ in range(2):
            assert isinstance(await http.send(replace(CALL, body=b"x" * (32 << 20))), CallResponse)
        assert raw.connections == 2
        released.set()


async def test_a_route_may_name_the_host(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    async with transport(raw.url, {"Host": "inventory.example"}) as http:
        assert isinstance(await http.send(CALL), CallResponse)
    assert raw.requests[0].lower().count(b"host:") == 1
    assert b"host: inventory.example\r\n" in raw.requests[0]


async def test_a_cancelled_call_leaves_a_transport_that_works(serve: Serve) -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        if len(raw.requests) == 1:
            arrived.set()
            await reader.read()
        writer.write(OK)

    raw = await serve(talk)
    async with transport(raw.url) as http:
        task = asyncio.create_task(http.send(CALL))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await http.send(CALL), CallResponse)
    assert raw.connections == 2, "the abandoned connection isn't used again"


# -- what is provably not sent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_refused_connection_is_not_sent() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with transport(url) as http:
        came = await http.send(CALL)
    assert isinstance(came, NotSent)
    assert came.detail.startswith(f"no connection to {url}")
    assert came.detail.endswith(": Connection refused"), "as the system says it, and no names of Python classes"


async def test_a_name_nobody_knows_is_not_sent() -> None:
    async with transport("http://nowhere.invalid") as http:
        came = await http.send(CALL)
    assert isinstance(came, NotSent)
    assert "nowhere.invalid" in came.detail


async def test_a_loop_that_says_it_in_another_way_has_not_sent_either(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_given: object, **_named: object) -> socket.socket:
        raise RuntimeError("the handler is closed")  # uvloop, of a socket that went away meanwhile

    monkeypatch.setattr("amends.transports.http.start_connection", fail)
    async with transport("http://127.0.0.1:9") as http:
        came = await http.send(CALL)
    assert isinstance(came, NotSent)
    assert "the handler is closed" in came.detail


async def test_tls_that_fails_is_not_sent(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Plain\r\n\r\n")

    raw = await serve(talk)
    async with transport(raw.url.replace("http:", "https:")) as http:
        assert isinstance(await http.send(CALL), NotSent)
    assert raw.connections == 1


async def test_a_connection_that_takes_too_long_is_not_sent(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # takes the TLS hello and never says anything

    raw = await serve(talk)
    async with transport(raw.url.replace("http:", "https:")) as http:
        came = await http.send(replace(CALL, timeout_seconds=0.2))
    assert isinstance(came, NotSent)
    assert raw.connections == 1


async def test_a_closed_transport_opens_anew(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    http = HttpTransport(raw.url)
    for _ in range(2):
        assert isinstance(await http.send(CALL), CallResponse)
        await http.close()
    await http.close()


async def test_a_password_in_the_address_is_sent_and_never_shown(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    async with transport(f"http://me:secret@127.0.0.1:{raw.port}/saga") as http:
        came = await http.send(CALL)
    assert isinstance(came, CallResponse)
    assert came.url == f"{raw.url}/reserve"
    assert b"authorization: basic" in raw.requests[0].lower()
    async with transport(f"http://me:secret@127.0.0.1:{free_port()}/saga") as http:
        refused = await http.send(CALL)
    assert isinstance(refused, NotSent)
    assert "secret" not in refused.detail


@pytest.mark.parametrize("url", ["", "inventory:8000", "ftp://x/", "http://", "/saga"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(NoRoute):
        HttpTransport(url)
