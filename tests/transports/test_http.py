"""HTTP over real sockets: what is provably not sent, what may have been, and that nothing is done behind one's back."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from amends.core.answers import Answered, Cause, Lost, NotSent
from amends.core.errors import NoRoute
from amends.core.keys import Phase
from amends.core.limits import REPLY_BYTES_MAX
from amends.core.retry import Guard, Kind
from amends.ports.transport import Outgoing
from amends.transports.http import HttpTransport

CALL = Outgoing(
    key="order-42:reserve:action",
    run="order-42",
    step="reserve",
    item="",
    phase=Phase.ACTION,
    participant="inventory",
    operation="reserve",
    guard=Guard.BARRIER,
    kind=Kind.COMPENSABLE,
    body=b'{"sku":"sku-1"}',
    attempt=1,
    epoch=12,
    since=1_772_420_400_000_250,
    timeout_seconds=5.0,
)
OK = b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server that says exactly what a test wants, byte by byte."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/saga"

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._talk(reader, writer)
        finally:
            writer.close()


Serve = Callable[[Talk], Awaitable[RawServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    started: list[asyncio.Server] = []

    async def start(talk: Talk) -> RawServer:
        raw = RawServer(talk)
        server = await asyncio.start_server(raw.meet, "127.0.0.1", 0)
        raw.port = server.sockets[0].getsockname()[1]
        started.append(server)
        return raw

    yield start
    for server in started:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def transport(url: str, headers: Mapping[str, str] | None = None) -> AsyncGenerator[HttpTransport]:
    made = HttpTransport(url, headers)
    try:
        yield made
    finally:
        await made.close()


async def answer_with(serve: Serve, *pieces: bytes, close: bool = True) -> tuple[object, RawServer]:
    """Send one call to a server that says these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if not close:
            await reader.read()

    raw = await serve(talk)
    async with transport(raw.url) as http:
        came = await http.send(CALL)
    assert len(raw.requests) == 1, "the request arrived, once"
    return came, raw


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
    assert isinstance(came, Answered)
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
    assert isinstance(came, Answered)
    assert came.body == b'{"a":1}'


async def test_a_word_that_came_twice_is_named(serve: Serve) -> None:
    twice = b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nsaga-outcome: succeeded\r\nContent-Length: 0\r\n\r\n"
    came, _ = await answer_with(serve, twice)
    assert isinstance(came, Answered)
    assert came.repeated == {"saga-outcome"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(serve: Serve, status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    came, raw = await answer_with(serve, answer.encode())
    assert isinstance(came, Answered)
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
    assert isinstance(came, Answered)


async def test_what_was_packed_is_not_unpacked(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    came, _ = await answer_with(serve, head + b"\x1f\x8b\x08")
    assert isinstance(came, Answered)
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
    assert isinstance(came, Answered)
    assert len(came.body) == REPLY_BYTES_MAX + 1
    assert REPLY_BYTES_MAX < written < 32 * REPLY_BYTES_MAX


async def test_an_answer_at_the_limit_is_whole(serve: Serve) -> None:
    body = b"1" * REPLY_BYTES_MAX
    came, _ = await answer_with(serve, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert isinstance(came, Answered)
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
        assert isinstance(came, Answered)
        assert seen == [body]
    finally:
        await runner.cleanup()


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
        assert isinstance(await http.send(CALL), Answered)
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
            assert isinstance(await http.send(replace(CALL, body=b"x" * (32 << 20))), Answered)
        assert raw.connections == 2
        released.set()


async def test_a_route_may_name_the_host(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    async with transport(raw.url, {"Host": "inventory.example"}) as http:
        assert isinstance(await http.send(CALL), Answered)
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
        assert isinstance(await http.send(CALL), Answered)
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
        assert isinstance(await http.send(CALL), Answered)
        await http.close()
    await http.close()


async def test_a_password_in_the_address_is_sent_and_never_shown(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await raw.read(reader)
        writer.write(OK)

    raw = await serve(talk)
    async with transport(f"http://me:secret@127.0.0.1:{raw.port}/saga") as http:
        came = await http.send(CALL)
    assert isinstance(came, Answered)
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
