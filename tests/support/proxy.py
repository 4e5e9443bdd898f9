"""A way to a server that can be cut, at a moment of one's choosing: everything through it is seen going by."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

CHUNK = 65_536


class Cut(Enum):
    """When the connection goes: the request never arrives, or it arrives and is done, and its answer doesn't."""

    BEFORE = "before"
    AFTER = "after"


class Proxy:
    """Forwards to `host:port`. `cuts` counts how often it did what it was told."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._marker: bytes | None = None
        self._how = Cut.BEFORE
        self._server: asyncio.Server | None = None
        self.is_deaf = False
        self.cuts = 0

    async def start(self) -> str:
        """`host:port` to connect to."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut_when(self, marker: bytes, how: Cut) -> None:
        """Cut the connection on which these bytes go to the server, once."""
        self._marker, self._how = marker, how

    def cut(self) -> None:
        """Cut every connection now."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.is_deaf:
            writer.transport.abort()
            return
        try:
            there, to_there = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(to_there)
        back = asyncio.get_running_loop().create_task(self._answers(there, writer))
        try:
            while data := await reader.read(CHUNK):
                if self._marker is not None and self._marker in data:
                    self._marker = None
                    self.cuts += 1
                    if self._how is Cut.AFTER:
                        back.cancel()
                        to_there.write(data)
                        await there.read(CHUNK)  # it is done by now: this is its answer, which nobody will hear
                    return
                to_there.write(data)
                await to_there.drain()
        except OSError:
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for each in (writer, to_there):
                each.transport.abort()
                self._writers.discard(each)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await there.read(CHUNK):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy in front of the server of a URL, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    address = await proxy.start()
    user = f"{parts.username}@" if parts.username else ""
    try:
        yield proxy, parts._replace(netloc=f"{user}{address}").geturl()
    finally:
        await proxy.close()
