"""Servers that say exactly what a test wants, byte by byte, and calls to them over the real transport."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from amends.testing.contracts.transport import CALL
from amends.transports.http import HttpTransport

OK = b"HTTP/1.1 200 OK\r\nSaga-Outcome: succeeded\r\nContent-Length: 2\r\n\r\n{}"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """One of them, and what it was asked."""

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
