"""Raw servers that end with their test."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.raw_server import RawServer, Serve, Talk


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
