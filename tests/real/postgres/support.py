"""What the tests on many workers stand on: raw connections whose order is forced, and workers that come and go."""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from amends.engine.engine import RUNS_MAX
from amends.logs.postgres.batches import arrays
from amends.logs.postgres.connections import Connection, DatabaseAddress
from amends.logs.postgres.log import PostgresLog
from amends.logs.postgres.rows import key_columns
from amends.logs.postgres.statements import SQL
from amends.orchestrator import Orchestrator
from amends.ports.log import Append, SagaKey, Start
from amends.testing.contracts.log_entries import ORDERS
from tests.real.postgres.shop import Shop, order

DEADLINE_SECONDS = 20.0


async def until(true: Callable[[], Awaitable[bool] | bool], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Look again and again until something is true; a test that waits in vain says for what."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = true()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"in vain: {what}") from None


# -- connections


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Connection]:
    """A session as the log's own."""
    connection = await DatabaseAddress(url).connect()
    try:
        yield connection
    finally:
        connection.terminate()


async def is_waiting(watcher: Connection, count: int = 1) -> bool:
    """Whether so many sessions wait for a lock that another one holds."""
    waiting = await watcher.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(waiting) >= count


async def claim_by_hand(
    connection: Connection, worker: str, *, sagas: Iterable[SagaKey] = (ORDERS,), now: int = 9_000_000, limit: int = 10
) -> dict[str, int]:
    """The log's own claim, in a transaction that the test holds; epochs by run."""
    values = (worker, now, *key_columns(list(sagas)), limit, limit)
    return {row["id"]: row["epoch"] for row in await connection.fetch(SQL["claim"], *values)}


async def append_by_hand(connection: Connection, worker: str, *batch: Start | Append) -> set[str]:
    """The log's own writing statement, in a transaction that the test holds; the runs it took."""
    return {run for (run,) in await connection.fetch(SQL["write"], worker, *arrays(batch))}


@asynccontextmanager
async def workers(url: str, count: int) -> AsyncGenerator[list[PostgresLog]]:
    """So many workers on one log, without engines."""
    async with contextlib.AsyncExitStack() as stack:
        logs = [PostgresLog(url) for _ in range(count)]
        for log in logs:
            await log.open()
            stack.push_async_callback(log.close)
        yield logs


# -- whole workers


def worker_of(shop: Shop, url: str, *, lease: float = 600.0, runs_max: int = RUNS_MAX) -> Orchestrator:
    """A worker in this process, on the shop's saga. With the lease as it is, nothing is found by looking in time."""
    log = f"{url}?lease_seconds={lease}"
    return Orchestrator([order], log=log, routes=shop.routes, around=shop.around, runs_max=runs_max)


async def vanish(runs: Orchestrator) -> None:
    """End a worker as `kill -9` would: nothing is said, nothing more is done."""
    engine = runs.engine
    log = engine.log
    assert isinstance(log, PostgresLog)
    assert engine._lease is not None
    engine.worker.halt()
    await engine._lease.close()
    await engine._claims.close()
    await engine._elsewhere.close()
    if engine._writer._task is not None:
        engine._writer._task.cancel()
        await asyncio.gather(engine._writer._task, return_exceptions=True)
    await engine._late.close()
    engine.worker.forget()
    await log._writing.close()
    await log._lease._link.close()
    await log.stop()
    runs._engine = None
