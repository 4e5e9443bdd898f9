"""A storm: worker processes are killed, stopped for longer than their lease and woken, and the server is crashed, while
orders come in; afterwards every order has ended, and every effect happened once or was undone.

What happens is drawn from a seed, which a failure names.
"""

import asyncio
import contextlib
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from amends.core.words.errors import AmendsError
from amends.logs.postgres import schema
from amends.orchestrator import Orchestrator
from amends.ports.runs import Run
from amends.testing.postgres_server import PostgresServer, Stop, ask
from tests.real.postgres.support import until
from tests.real.postgres.worker_process import Bank, Stock, is_refused, make_tables, storm

ROOT = Path(__file__).parents[3]
LEASE_SECONDS = 2.0
"""A heartbeat has a third of it: on a machine that is busy with other tests even that is little."""

PATIENCE_SECONDS = 90.0
ASLEEP_SECONDS = 2.8
"""Longer than the lease: the others have declared it dead when it wakes."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How much of what."""

    seed: int
    kills: int
    stops: int
    crashes: int
    workers: int = 3
    orders_at_once: int = 24
    between_orders: int = 30
    """Orders that end between one blow and the next, at most."""


@dataclass(slots=True)
class Told:
    """What came of it."""

    orders: int = 0
    ended: int = 0
    happened: Counter[str] = field(default_factory=Counter[str])


class Workers:
    """Worker processes; one that dies is replaced, as a supervisor would."""

    def __init__(self, log: str, shop: str, count: int) -> None:
        self._arguments = (log, shop)
        self._count = count
        self.processes: list[asyncio.subprocess.Process] = []
        self._opened: dict[int, asyncio.Task[bytes]] = {}

    async def start(self) -> None:
        self.processes = list(await asyncio.gather(*(self._spawn() for _ in range(self._count))))

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.real.postgres.worker_process", *self._arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        self._opened[process.pid] = asyncio.create_task(process.stdout.readline())
        return process

    async def one_at_work(self, place: int) -> asyncio.subprocess.Process:
        """The process at this place, once it has said that it works; where it ended instead, the one after it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                process = self.processes[place]
                if await asyncio.shield(self._opened[process.pid]) and process.returncode is None:
                    return process
                await asyncio.sleep(0.05)

    async def mind(self) -> None:
        """Start again whoever ended by itself, as on a server that wasn't there yet."""
        while True:
            await asyncio.sleep(0.1)
            for place, process in enumerate(self.processes):
                if process.returncode is not None:
                    self.processes[place] = await self._spawn()

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
        for process in self.processes:
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def weather_through(weather: Weather, server: PostgresServer) -> Told:
    """All of it; `AssertionError` names the seed."""
    log, shop = server.create("orders"), server.create("shop")
    await schema.apply(log)
    await make_tables(shop)
    told = Told()
    try:
        await _rage(weather, server, f"{log}?lease_seconds={LEASE_SECONDS}", shop, told)
        _judge(log, shop, told)
    except AssertionError as error:
        error.add_note(f"seed {weather.seed}, {dict(told.happened)}")
        raise
    return told


async def _rage(weather: Weather, server: PostgresServer, log: str, shop: str, told: Told) -> None:
    workers = Workers(log, shop, weather.workers)
    await workers.start()
    minding = asyncio.create_task(workers.mind())
    over = asyncio.Event()
    try:
        async with _front(log) as front:
            customers = [
                asyncio.create_task(_customer(front, place, weather.orders_at_once, over, told))
                for place in range(weather.orders_at_once)
            ]
            await _blows(weather, server, log.partition("?")[0], workers, told)
            over.set()
            await asyncio.gather(*customers)
            unfinished = "select count(*) from amends.runs where ended_at is null"
            await until(
                lambda: ask(log.partition("?")[0], unfinished) == "0", "every order ends", seconds=PATIENCE_SECONDS
            )
    finally:
        minding.cancel()
        await asyncio.gather(minding, return_exceptions=True)
        await workers.stop()


@asynccontextmanager
async def _front(log: str) -> AsyncGenerator[Orchestrator]:
    """Takes orders and drives none of them."""
    nowhere = "http://127.0.0.1:9"
    async with Orchestrator([storm], log=log, routes=[Stock.at(nowhere), Bank.at(nowhere)], runs_max=0) as front:
        yield front


async def _customer(front: Orchestrator, place: int, of: int, over: asyncio.Event, told: Told) -> None:
    """Places one order after the other; one that isn't acknowledged is placed again, under the same id."""
    number = place
    while not over.is_set():
        run = f"o-{number}"
        started = await _placed(front, run)
        told.orders += 1
        number += of
        with contextlib.suppress(AmendsError, TimeoutError):
            async with asyncio.timeout(2.0):
                await started.outcome()
                told.ended += 1


async def _placed(front: Orchestrator, run: str) -> Run:
    while True:
        try:
            return await front.start(storm, run, id=run)
        except AmendsError:
            await asyncio.sleep(0.05)


async def _blows(weather: Weather, server: PostgresServer, log: str, workers: Workers, told: Told) -> None:
    chance = random.Random(weather.seed)
    blows = ["kill"] * weather.kills + ["stop"] * weather.stops + ["crash"] * weather.crashes
    chance.shuffle(blows)
    asleep: set[asyncio.Task[None]] = set()
    for blow in blows:
        await _progress(told, chance.randrange(weather.between_orders))
        process = await workers.one_at_work(chance.randrange(len(workers.processes)))
        if blow != "crash":
            await _has_work(log, process)
        match blow:
            case "crash":
                await asyncio.to_thread(server.restart, Stop.IMMEDIATE)
            case "kill":
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            case _:
                asleep.add(asyncio.create_task(_sleep(process)))
        told.happened[blow] += 1
    await asyncio.gather(*asleep)


async def _has_work(log: str, process: asyncio.subprocess.Process) -> None:
    """Until this process drives a run: a blow on one that is idle takes nothing from anybody."""
    owned = "SELECT EXISTS (SELECT FROM amends.runs WHERE owner LIKE $1)"
    async with asyncio.timeout(PATIENCE_SECONDS):
        connection = await asyncpg.connect(log)
        try:
            while process.returncode is None:
                if await connection.fetchval(owned, f"{process.pid}-%"):
                    return
                await asyncio.sleep(0.001)
        finally:
            await connection.close()


async def _progress(told: Told, orders: int) -> None:
    """Until so many more orders have ended: blows fall on work, however slow the machine is."""
    enough = told.ended + orders
    await until(lambda: told.ended >= enough, f"{orders} more orders end", seconds=PATIENCE_SECONDS)


async def _sleep(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(ASLEEP_SECONDS)
        process.send_signal(signal.SIGCONT)


def _judge(log: str, shop: str, told: Told) -> None:
    """Every acknowledged order ended as it should; each effect, and each undo, happened once."""
    ended = dict(line.split("|") for line in ask(log, "select id, state from amends.runs").splitlines())
    assert len(ended) == told.orders, "every acknowledged order is there, and no other"
    for run, state in ended.items():
        assert state == ("compensated" if is_refused(run) else "completed"), (run, state)
    assert ask(log, "select count(*) from amends.runs where owner is not null") == "0"
    twice = ask(shop, "select what, change, count(*) from effect group by what, change having count(*) > 1")
    assert not twice, f"happened twice: {twice}"
    left = Counter(
        {
            what: int(count)
            for what, count in (
                line.split("|") for line in ask(shop, "select what, sum(change) from effect group by what").splitlines()
            )
        }
    )
    for run in ended:
        fine = 0 if is_refused(run) else 1
        for step in ("reserve", "hold", "capture", "send"):
            assert left[f"{run} {step}"] == fine, (run, step, left[f"{run} {step}"])
    epochs = ask(log, "select count(*) from amends.runs where epoch > 2")
    told.happened["taken over"] = int(epochs)
