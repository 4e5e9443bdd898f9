"""The shop's services on real loopback sockets, and calls to them as an orchestrator would send them."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import msgspec
import uvicorn
from typing_extensions import override

from amends.core.saga.operation import Call, RequestCall
from amends.shop.app import application
from amends.shop.catalogue import Catalogue
from amends.shop.connections import OpenConnections
from amends.shop.database import Database
from amends.shop.faults import Plan

Json: TypeAlias = Any
"""Whatever a service answered."""

SMALL = Catalogue(skus=2, stock=10, scarce=1, customers=2, balance=100_000, capacity=2, ferry=1, days=2)
SINCE = datetime(2030, 1, 1, tzinfo=UTC).isoformat()
PATIENCE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    outcome: str | None
    body: bytes

    @property
    def json(self) -> Json:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str | None:
        code: str | None = self.json.get("code")
        return code


@dataclass(frozen=True, slots=True)
class Opened:
    """A service that answers."""

    url: str
    http: aiohttp.ClientSession

    async def act(
        self,
        call: Call[Any],
        key: str,
        *,
        attempt: int = 1,
        kind: str = "compensable",
        within: float = PATIENCE_SECONDS,
    ) -> Answer:
        asks = call.what
        assert isinstance(asks, RequestCall)
        body = msgspec.json.encode(asks.request)
        return await self.send(asks.operation.name, body, f"{key}:action", attempt=attempt, kind=kind, within=within)

    async def undo(
        self, call: Call[Any], key: str, reply: Json = None, *, attempt: int = 1, within: float = PATIENCE_SECONDS
    ) -> Answer:
        asks = call.what
        assert isinstance(asks, RequestCall)
        name = asks.operation.compensation
        assert isinstance(name, str)
        said = {"request": asks.request, "reply": reply, "reply_known": reply is not None, "reason": "a test"}
        return await self.send(
            name, msgspec.json.encode(said), f"{key}:compensation", attempt=attempt, kind="compensable", within=within
        )

    async def send(self, name: str, body: bytes, key: str, *, attempt: int, kind: str, within: float) -> Answer:
        run, step, phase = key.split(":")
        headers = {
            "Idempotency-Key": f'"{key}"',
            "Saga-Id": run,
            "Saga-Step": step,
            "Saga-Phase": phase,
            "Saga-Kind": kind,
            "Saga-Attempt": str(attempt),
            "Saga-Epoch": "1",
            "Saga-Since": SINCE,
            "Content-Type": "application/json",
        }
        total = aiohttp.ClientTimeout(total=within)
        async with self.http.post(f"{self.url}/saga/{name}", data=body, headers=headers, timeout=total) as answer:
            return Answer(answer.status, answer.headers.get("Saga-Outcome"), await answer.read())

    async def rows(self, table: str, **filters: str | int) -> Json:
        async with self.http.get(f"{self.url}/{table}", params=filters) as answer:
            assert answer.status == 200, await answer.text()
            return msgspec.json.decode(await answer.read())


class Signalling(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving(
    name: str, folder: Path, *, catalogue: Catalogue = SMALL, plan: Plan | None = None, work_ms: int = 0
) -> AsyncGenerator[Opened]:
    """Serve until left; leaving waits for every call that is still worked on."""
    connections = OpenConnections()
    app = application(
        name,
        Database(url_of(name, folder)),
        catalogue,
        plan=plan,
        work_ms=work_ms,
        break_connection=connections.break_off,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(app, http=connections.protocol(), lifespan="on", log_level="warning")
        server = Signalling(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
        assert server.listening.is_set(), "the server ended before it listened"
        try:
            # A client that reuses connections repeats a request by itself when one breaks: not what is tried here.
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
                yield Opened(f"http://127.0.0.1:{listener.getsockname()[1]}", http)
        finally:
            server.should_exit = True
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running


@dataclass(frozen=True, slots=True)
class Shop:
    inventory: Opened
    payment: Opened
    shipping: Opened


@asynccontextmanager
async def open_shop(folder: Path, *, catalogue: Catalogue = SMALL) -> AsyncGenerator[Shop]:
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(serving(name, folder, catalogue=catalogue))
            for name in ("inventory", "payment", "shipping")
        ]
        yield Shop(*opened)


def url_of(name: str, folder: Path) -> str:
    return f"sqlite:///{folder}/{name}.db"
