"""Raw servers that end with their test, and both event loops: that of Python, which programs that embed an orchestrator
have, and that of `amends serve`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.support.raw_server import RawServer, Serve, Talk


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What does its own work on sockets is tried on each of them."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_http"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


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
