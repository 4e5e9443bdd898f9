"""One case, measured once: so many runs, so many of them in flight, and the proof that they did what they claim.

A closed loop: each of the workers in flight begins its next run when its last one has ended. Before the clock starts,
every worker has done a run, so that connections are open and definitions loaded. After it stopped, the log's own count
and the participant's are held against the number of runs: a case that did less, or more, is an error, not a number.
"""

import asyncio
import gc
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amends import Compensated, Completed, Orchestrator, Saga
from amends.logs.postgres import schema
from amends.orchestrator import open_log
from amends.ports.log import TransactionLog
from amends.testing.postgres_server import PostgresServer, ask
from bench.bare import BareClient
from bench.participant import ParticipantProcess
from bench.sagas import TRIP, Agency, Trip, full_trip, nothing, trip

Once = Callable[[], Awaitable[None]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True, slots=True)
class Work:
    """What a run does: its saga, the requests it makes, and the state it must end in."""

    name: str
    saga: Saga[Trip]
    calls: tuple[str, ...]
    state: str
    undone: tuple[str, ...] = ()


ACCEPTED = Work("accepted", trip, ("book-flight", "book-hotel", "book-car"), "completed")
REFUSED = Work(
    "refused",
    full_trip,
    ("book-flight", "book-hotel", "book-last-car", "undo-hotel", "undo-flight"),
    "compensated",
    ("first_flight", "first_hotel"),
)
LOCAL = Work("local", nothing, (), "completed")


@dataclass(frozen=True, slots=True)
class Case:
    """`accepted/sqlite/32`: what is done, by whom, how many at a time."""

    work: Work
    by: str
    in_flight: int

    @property
    def name(self) -> str:
        return f"{self.work.name}/{self.by}/{self.in_flight}"


BARE = "bare"
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
"""Of the PostgreSQL server that is measured; every commit is on the disk before it is acknowledged."""

LOGS = ("memory", "sqlite")
SERVED = "postgres"
"""A log that needs a server, which is started for it; measured when it is asked for."""


def all_cases(in_flight: tuple[int, ...], *, served: bool = False) -> list[Case]:
    """Every case, those that are compared beside each other; with `served` also PostgreSQL."""
    logs = (*LOGS, SERVED) if served else LOGS
    return [
        Case(work, by, each)
        for each in in_flight
        for work in (ACCEPTED, REFUSED, LOCAL)
        for by in ((BARE, *logs) if work.calls else logs)
    ]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement. Times in seconds; `cpu_seconds` is this process's, the participant's own isn't in it.

    `ended` is the log's count after the measured runs and those that warmed up; empty for the bare client, who has no
    log. `called` is what the participant counted.
    """

    runs: int
    warm_runs: int
    seconds: float
    cpu_seconds: float
    p50_seconds: float
    p99_seconds: float
    load: float
    ended: dict[str, int]
    called: dict[str, int]


class DidNothingLikeIt(AssertionError):
    """The runs weren't made as claimed: the measurement is void."""


def measure(
    case: Case,
    runs: int,
    participant: ParticipantProcess,
    *,
    loop: LoopFactory | None = None,
    folder: str | None = None,
) -> Measured:
    """Measure a case on a fresh loop, a fresh log and fresh connections."""
    participant.counted()
    ended: dict[str, int] = {}
    gc.collect()

    async def main() -> tuple[list[float], float, float]:
        async with _doing(case, participant.url, ended, folder) as once:
            await _closed_loop(once, case.in_flight, case.in_flight)
            cpu, wall = time.process_time(), time.perf_counter()
            took = await _closed_loop(once, runs, case.in_flight)
            return took, time.perf_counter() - wall, time.process_time() - cpu

    with asyncio.Runner(loop_factory=loop) as runner:
        took, seconds, cpu_seconds = runner.run(main())
    measured = Measured(
        runs=runs,
        warm_runs=case.in_flight,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        p50_seconds=percentile(took, 0.50),
        p99_seconds=percentile(took, 0.99),
        load=os.getloadavg()[0],
        ended=ended,
        called=participant.counted(),
    )
    check(case, measured)
    return measured


def check(case: Case, measured: Measured) -> None:
    """Every run ended as it should, and exactly the right requests were made."""
    runs = measured.runs + measured.warm_runs
    ended = {} if case.by == BARE else {case.work.state: runs}
    called = dict.fromkeys(case.work.calls, runs)
    if measured.ended != ended or measured.called != called:
        msg = f"{case.name}: expected {ended} and {called}, the log has {measured.ended}, called was {measured.called}"
        raise DidNothingLikeIt(msg)


async def _closed_loop(once: Once, runs: int, in_flight: int) -> list[float]:
    numbers = iter(range(runs))
    took: list[float] = []

    async def worker() -> None:
        clock = time.perf_counter
        for _ in numbers:
            began = clock()
            await once()
            took.append(clock() - began)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return took


@asynccontextmanager
async def _doing(case: Case, url: str, ended: dict[str, int], folder: str | None) -> AsyncGenerator[Once]:
    """What does one run of this case; when it is left, `ended` is what the log counts."""
    if case.by == BARE:
        async with BareClient(url, case.in_flight, refused=case.work is REFUSED) as bare:
            yield bare.once
        return
    with _log(case.by, folder) as log:
        routes = [Agency.at(url, at_once=case.in_flight)]
        async with Orchestrator([case.work.saga], log=log, routes=routes) as runs:
            yield _once(runs, case.work)
            ended.update({state: count for state, count in (await log.count()).items() if count})


def _once(runs: Orchestrator, work: Work) -> Once:
    saga, undone = work.saga, work.undone

    async def once() -> None:
        outcome: Any = await (await runs.start(saga, TRIP)).outcome()
        match outcome:
            case Completed() if not undone:
                pass
            case Compensated(undone=found) if found == undone:
                pass
            case _:
                raise DidNothingLikeIt(str(outcome))

    return once


@contextmanager
def _log(by: str, folder: str | None) -> Generator[TransactionLog]:
    if by == "memory":
        yield open_log("memory:")
        return
    where = Path(tempfile.mkdtemp(prefix="amends-bench-", dir=folder))
    if by == SERVED:
        with PostgresServer(where, settings=SETTINGS) as server:
            url = server.create("log")
            ask(url, schema.script())
            yield open_log(url)
        shutil.rmtree(where)
        return
    try:
        yield open_log(f"sqlite:///{where}/log.db")
    finally:
        shutil.rmtree(where)


def percentile(values: list[float], part: float) -> float:
    """The smallest value that at least this part of them doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(part * 100) // 100) - 1)]
