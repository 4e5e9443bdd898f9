"""Loops that work for as long as the process does: an exception that no one foresaw is logged, and they go on."""

import asyncio
import logging
import socket
from contextlib import suppress

import pytest
from typing_extensions import override

from amends import Orchestrator
from amends.engine.lanes import Standing
from amends.logs.memory import MemoryLog
from amends.observers.alerts import AlertLinks
from amends.observers.deliveries import Webhook
from amends.server import notifications, retention
from amends.server.connections import Acceptor, ListenerConnections
from amends.server.notifications import Observing
from amends.server.retention import Keeping
from tests.fast.server.processes import SECONDS
from tests.fast.server.sagas import quick

PLANTED = "planted, and nobody's kind of error"


class Broken(MemoryLog):
    """Its first purge fails as nothing is expected to."""

    def __init__(self) -> None:
        super().__init__()
        self.purges = 0
        self.purged = asyncio.Event()

    @override
    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        self.purges += 1
        if self.purges == 1:
            raise RuntimeError(PLANTED)
        self.purged.set()
        return await super().purge(ended_before, limit, state)


async def test_retention_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(retention, "LOOK_SECONDS", 0.0)
    log = Broken()
    async with Orchestrator([quick], log=log), Keeping(log, {"completed": 3_600.0}):
        async with asyncio.timeout(SECONDS):
            await log.purged.wait()
    assert PLANTED in caplog.text, "the fault fired, and was logged with its traceback"


async def test_looks_for_alerts_go_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.0)
    looks, twice = 0, asyncio.Event()

    def stands(_: Observing, each: Standing) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError(PLANTED)
        twice.set()

    monkeypatch.setattr(Observing, "_stands", stands)
    one = Standing("inventory", "memory:", 0, 0, 0, None, "", 1)
    async with Orchestrator([quick], log="memory:") as runs:
        monkeypatch.setattr(runs.engine, "participants", lambda: [one])
        async with Observing(runs.engine, list[Webhook](), AlertLinks()), asyncio.timeout(SECONDS):
            await twice.wait()
    assert PLANTED in caplog.text


async def test_accepting_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    made, second = 0, asyncio.Event()

    def make() -> asyncio.Protocol:
        nonlocal made
        made += 1
        if made == 1:
            raise ValueError(PLANTED)
        second.set()
        return asyncio.Protocol()

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        connections = ListenerConnections(10)
        accepting = asyncio.create_task(Acceptor(listening, make, connections).run())
        writers: list[asyncio.StreamWriter] = []
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                writers.append(writer)
            async with asyncio.timeout(SECONDS):
                await second.wait()
        assert PLANTED in caplog.text
        assert connections.taken == 1, "the place of the first was given back"
        accepting.cancel()
        with suppress(asyncio.CancelledError):
            await accepting
        for writer in writers:
            writer.close()
