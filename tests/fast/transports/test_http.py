"""HTTP over real sockets: what is sent, what comes back, and that nothing is done behind one's back."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from amends.core.run.answers import CallResponse, NotSent
from amends.core.words.limits import REPLY_BYTES_MAX
from amends.testing.contracts.transport import CALL
from tests.support.raw_server import OK, Serve, answer_with, transport

# -- what is sent


async def test_the_request_is_what_the_contract_says(serve: Serve) -> None:
    _, raw = await answer_with(serve, OK)
    head, _, body = raw.requests[0].partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = dict(each.split(": ", 1) for each in rest)
    assert line == "POST /saga/reserve HTTP/1.1"
    assert body == CALL.body
    assert {name.lower(): value for name, value in headers.items()} == {
        "host": f"127.0.0.1:{raw.port}",
        "idempotency-key": '"order-42:reserve:action"',
        "saga-id": "order-42",
        "saga-step": "reserve",
        "saga-phase": "action",
        "saga-kind": "compensable",
        "saga-attempt": "1",
        "saga-epoch": "12",
        "saga-since": "2026-03-02T03:00:00.000250Z",
        "content-type": "application/json",
        "content-length": "15",
        "user-agent": "amends",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


async def test_what_only_some_calls_have_is_sent_by_those(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    call = replace(
        CALL,
        item="sku%2F1",
        deadline=datetime(2026, 3, 2, 4, tzinfo=UTC),
        callback="https://o.example/v1/callbacks/t",
        seal="undone",
    )
    async with transport(raw.url) as http:
        await http.send(call)
    sent = raw.requests[0].decode()
    assert "saga-step: reserve/sku%2F1\r\n" in sent
    assert "saga-deadline: 2026-03-02T04:00:00.000000Z\r\n" in sent
    assert "saga-callback: https://o.example/v1/callbacks/t\r\n" in sent
    assert "saga-seal: undone\r\n" in sent


class Renewed(Mapping[str, str]):
    """A token that is another one at every reading."""

    def __init__(self) -> None:
        self.count = 0

    def __getitem__(self, name: str) -> str:
        self.count += 1
        return f"Bearer {self.count}"

    def __iter__(self) -> Iterator[str]:
        return iter(["Authorization"])

    def __len__(self) -> int:
        return 1


async def test_a_routes_headers_are_read_for_every_call_and_never_beat_the_contracts(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await raw.read(reader)
            writer.write(OK)

    raw = await serve(talk)
    async with transport(raw.url, Renewed()) as http:
        await http.send(CALL)
        await http.send(CALL)
    assert b"authorization: Bearer 1\r\n" in raw.requests[0]
    assert b"authorization: Bearer 2\r\n" in raw.requests[1]
    assert raw.connections == 1, "a connection is kept"
    async with transport(raw.url, {"Idempotency-Key": "mine", "X-Own": "yes"}) as http:
        await http.send(CALL)
    assert b"mine" not in raw.requests[2]
    assert b"x-own: yes" in raw.requests[2]


class Broken(Renewed):
    def __getitem__(self, name: str) -> str:
        raise ConnectionError("the vault is sealed")


@pytest.mark.parametrize(
    "headers",
    [
        Broken(),
        {"x": "a\r\nb: c"},
        {"x\n": "a"},
        {"x": "\x00"},
        {"x y": "a"},
        {"x:": "a"},
        {"": "a"},
        {"Content-Length": "3"},
        {"transfer-encoding": "chunked"},
    ],
)
async def test_headers_that_cannot_be_had_or_sent_are_not_sent(serve: Serve, headers: Mapping[str, str]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    raw = await serve(talk)
    async with transport(raw.url, headers) as http:
        assert isinstance(await http.send(CALL), NotSent)
    assert raw.connections == 0


# -- what comes back


async def test_an_answer_comes_whole(serve: Serve) -> None:
    came, raw = await answer_with(serve, OK[:30], OK[30:])
    assert isinstance(came, CallResponse)
    assert (came.status, came.body, came.headers["saga-outcome"]) == (200, b"{}", "succeeded")
    assert came.url == f"{raw.url}/reserve"
    assert not came.repeated


async def test_chunks_are_put_together_and_interim_answers_passed_over(serve: Serve) -> None:
    came, _ = await answer_with(
        serve,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nsaga-outcome: succeeded\r\n\r\n",
        b'4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n',
    )
    assert isinstance(came, CallResponse)
    assert came.body == b'{"a":1}'


async def test_a_word_that_came_twice_is_named(serve: Serve) -> None:
    twice = b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nsaga-outcome: succeeded\r\nContent-Length: 0\r\n\r\n"
    came, _ = await answer_with(serve, twice)
    assert isinstance(came, CallResponse)
    assert came.repeated == {"saga-outcome"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(serve: Serve, status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    came, raw = await answer_with(serve, answer.encode())
    assert isinstance(came, CallResponse)
    assert came.status == status
    assert raw.connections == 1


async def test_cookies_are_forgotten(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await raw.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")

    raw = await serve(talk)
    async with transport(raw.url) as http:
        await http.send(CALL)
        await http.send(CALL)
    assert b"cookie" not in raw.requests[1].lower()


async def test_proxies_of_the_environment_are_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    came, _ = await answer_with(serve, OK)
    assert isinstance(came, CallResponse)


async def test_what_was_packed_is_not_unpacked(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    came, _ = await answer_with(serve, head + b"\x1f\x8b\x08")
    assert isinstance(came, CallResponse)
    assert came.body == b"\x1f\x8b\x08"


@pytest.mark.parametrize("how", ["length", "chunked", "until-closed"])
async def test_a_huge_answer_is_read_no_further_than_the_limit(serve: Serve, how: str) -> None:
    written = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await raw.read(reader)
        size = 64 * REPLY_BYTES_MAX
        head = {"length": f"Content-Length: {size}", "chunked": "Transfer-Encoding: chunked", "until-closed": "X: y"}
        writer.write(f"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\n{head[how]}\r\n\r\n".encode())
        piece = b"x" * 65_536
        for _ in range(size // len(piece)):
            writer.write(b"10000\r\n" + piece + b"\r\n" if how == "chunked" else piece)
            await writer.drain()
            written += len(piece)

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(CALL)
    assert isinstance(came, CallResponse)
    assert len(came.body) == REPLY_BYTES_MAX + 1
    assert REPLY_BYTES_MAX < written < 32 * REPLY_BYTES_MAX


async def test_an_answer_at_the_limit_is_whole(serve: Serve) -> None:
    body = b"1" * REPLY_BYTES_MAX
    came, _ = await answer_with(serve, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert isinstance(came, CallResponse)
    assert came.body == body


async def test_a_large_request_arrives_whole() -> None:
    seen: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response()

    app = web.Application(client_max_size=1 << 23)
    app.router.add_post("/saga/reserve", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        (_, port), *_ = runner.addresses
        body = b"x" * (3 << 20)
        async with transport(f"http://127.0.0.1:{port}/saga/") as http:
            came = await http.send(replace(CALL, body=body))
        assert isinstance(came, CallResponse)
        assert seen == [body]
    finally:
        await runner.cleanup()
