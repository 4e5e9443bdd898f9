# ruff: noqa: D102 - the methods of a log are documented once, by its port
"""A log as one simulated process has it: work takes time, and is done by the world, not by the process.

So what was handed over is done though its process stands still meanwhile; it isn't if the process died before. The
process may die right before the log takes something, or right after, with the answer on its lips.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from amends.core.words.errors import LogBroken, LogUnavailable
from amends.ports.log import (
    Append,
    Exonerating,
    Find,
    LiveRuns,
    SagaKey,
    Start,
    StoredEvent,
    StoredRun,
    StuckRuns,
    TransactionLog,
    WorkerLease,
    WorkerRow,
    Written,
)
from amends.testing.broken import BrokenPromise
from amends.testing.simulation.books import SimulatedBooks
from amends.testing.simulation.logs import Logs, Work
from amends.testing.simulation.processes import SimulatedProcess, Timeline
from amends.testing.simulation.weather import WRITES, Weather, WeatherFault

R = TypeVar("R")

WRITE_MICROS: Final = (200, 3_000)
"""A write on a good day."""

SLOW_MICROS: Final = (50_000, 8_000_000)
"""A write on a disk that is busy with something else."""

FULL_MICROS: Final = 20_000_000
"""The longest time for which a disk stays full."""


NOTHING: Final[frozenset[WeatherFault]] = frozenset()
"""Opening and closing: what fails there is tried in the log's own tests."""

ANY_WRITE: Final = frozenset({WeatherFault.FULL_DISK, WeatherFault.IO_ERROR})
ANY_APPEND: Final = ANY_WRITE | {WeatherFault.COMMIT_UNKNOWN}


def ignore(_: object) -> None:
    """It needs no report."""


class Machine(Protocol):
    """What a disk may do to the process that stands on it."""

    def crash(self, process: SimulatedProcess) -> None:
        """Kill it now."""
        ...

    def ruined(self, process: SimulatedProcess) -> None:
        """Its log is of no use any more: it must be started anew."""
        ...


class Storage:
    """The disk under one world's log: slow, full or failing, whichever process writes."""

    def __init__(self, timeline: Timeline, weather: Weather, logs: Logs, books: SimulatedBooks) -> None:
        self.timeline = timeline
        self.weather = weather
        self.logs = logs
        self.books = books
        self.may_append = ANY_WRITE if logs.alone else ANY_APPEND
        """Where no other process writes, a commit whose answer is lost is a failing disk: `IO_ERROR`."""
        self.slow_until = 0
        self.full_until = 0

    def write_takes(self) -> int:
        """How long the next write takes."""
        low, high = WRITE_MICROS
        if self.timeline.now() < self.slow_until:
            self.weather.fire(WeatherFault.SLOW_DISK)
            low, high = SLOW_MICROS
        return low + int((high - low) * self.weather.dice.random())

    def fault(self, may: frozenset[WeatherFault]) -> WeatherFault | None:
        """What becomes of a write that is about to be done, of what may."""
        weather, now = self.weather, self.timeline.now()
        if may and now < self.full_until:
            return WeatherFault.FULL_DISK
        if not weather.has_ticks:
            return None
        for fault in WRITES:
            if fault in may and weather.strikes(fault):
                if fault is WeatherFault.FULL_DISK:
                    self.full_until = now + int(FULL_MICROS * weather.dice.random())
                return fault
        return None


class Disk:
    """`ports.log.TransactionLog` for one process, on the log that it has opened."""

    def __init__(self, storage: Storage, machine: Machine, process: SimulatedProcess) -> None:
        self.inner: TransactionLog = storage.logs.open()
        self._storage = storage
        self._machine = machine
        self._process = process
        self._ruined: LogBroken | None = None

    @property
    def lease(self) -> WorkerLease | None:
        return self.inner.lease

    @property
    def is_elsewhere(self) -> bool:
        """Where several processes write, it is as if a server did."""
        return not self._storage.logs.alone

    # -- writes

    async def open(self) -> None:
        await self._write(self.inner.open, may=NOTHING)

    async def close(self) -> None:
        await self._write(self.inner.close, may=NOTHING)

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        def taken(verdicts: Sequence[Written]) -> None:
            for entry, verdict in zip(batch, verdicts, strict=True):
                if verdict is Written.ACCEPTED:
                    books = self._storage.books
                    books.taken(self._storage.timeline.now(), self._process.number, entry)

        return await self._write(lambda: self.inner.append(batch), heard=taken, may=self._storage.may_append)

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        return await self._write(lambda: self.inner.define(saga, graph, beside=beside))

    async def announce(self, known: Sequence[SagaKey]) -> None:
        await self._write(lambda: self.inner.announce(known))

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        def found(rows: Sequence[StoredRun]) -> None:
            for row in rows:
                self._found(row)

        return await self._write(lambda: self.inner.claim(known, now, limit, suspects=suspects), heard=found)

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        return await self._write(lambda: self.inner.release(run, epoch, version, due_at))

    async def exonerate(self, run: str, epoch: int) -> None:
        inner = self.inner
        if isinstance(inner, Exonerating):
            await self._write(lambda: inner.exonerate(run, epoch))

    async def setting(self, name: str, value: bytes) -> bytes:
        return await self._write(lambda: self.inner.setting(name, value))

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        return await self._write(lambda: self.inner.purge(ended_before, limit, state))

    # -- questions

    async def read(self, run: str) -> StoredRun | None:
        row = await self._ask(lambda: self.inner.read(run))
        if row is not None and row.events:
            self._found(row)
        return row

    async def read_row(self, run: str) -> StoredRun | None:
        return await self._ask(lambda: self.inner.read_row(run))

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        return await self._ask(lambda: self.inner.read_events(run, after))

    async def find(self, question: Find) -> Sequence[StoredRun]:
        return await self._ask(lambda: self.inner.find(question))

    async def count(self) -> Mapping[str, int]:
        return await self._ask(self.inner.count)

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return await self._ask(lambda: self.inner.standing(runs))

    async def workers(self) -> Sequence[WorkerRow]:
        return await self._ask(self.inner.workers)

    async def live(self) -> Sequence[LiveRuns]:
        return await self._ask(self.inner.live)

    async def due(self, now: int) -> int:
        return await self._ask(lambda: self.inner.due(now))

    async def stuck(self) -> Sequence[StuckRuns]:
        return await self._ask(self.inner.stuck)

    async def late(self, now: int) -> Mapping[str, int]:
        return await self._ask(lambda: self.inner.late(now))

    async def graph(self, saga: SagaKey) -> bytes | None:
        return await self._ask(lambda: self.inner.graph(saga))

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        return await self._ask(lambda: self.inner.nudged(now))

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        return await self._ask(lambda: self.inner.next_due(known))

    # -- how they are done

    def _found(self, row: StoredRun) -> None:
        self._storage.books.found(self._storage.timeline.now(), self._process.number, row)

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        self._process.ensure_alive()
        answer: asyncio.Future[R] = self._process.create_future()
        self._storage.timeline.after(0, self._answer, answer, work)
        return await answer

    async def _write(
        self, work: Work[R], *, heard: Callable[[R], None] = ignore, may: frozenset[WeatherFault] = ANY_WRITE
    ) -> R:
        """Have it written. `heard` is told of what was done, whether the process is or not; `may`: what can fail."""
        self._process.ensure_alive()
        answer: asyncio.Future[R] = self._process.create_future()
        takes = self._storage.write_takes()
        self._storage.timeline.after(takes, self._do, answer, work, heard, may)
        return await answer

    def _answer(self, answer: "asyncio.Future[R]", work: Work[R]) -> None:
        if self._process.is_dead or answer.done():
            return
        try:
            if self._ruined is not None:
                raise self._ruined  # noqa: TRY301 - as the log itself would
            answer.set_result(self._storage.logs.do(work))
        except Exception as error:  # noqa: BLE001 - whatever a log raises is for its engine to hear
            answer.set_exception(error)

    def _do(
        self, answer: "asyncio.Future[R]", work: Work[R], heard: Callable[[R], None], may: frozenset[WeatherFault]
    ) -> None:
        if self._process.is_dead or (may and self._strikes(WeatherFault.CRASH_BEFORE_WRITE)):
            return
        try:
            result = self._done(work, heard, may)
        except BrokenPromise:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if not answer.done():
                answer.set_exception(error)
            return
        if may and self._strikes(WeatherFault.CRASH_AFTER_WRITE):
            return
        if not answer.done():
            answer.set_result(result)

    def _done(self, work: Work[R], heard: Callable[[R], None], may: frozenset[WeatherFault]) -> R:
        """Do it, on a disk that may fail."""
        storage = self._storage
        if self._ruined is not None and may:
            raise self._ruined
        fault = storage.fault(may)
        if fault is None:
            result = storage.logs.do(work)
            heard(result)
            return result

        async def whole() -> R:
            result = await work()
            heard(result)
            return result

        storage.weather.fire(fault)
        storage.books.note(storage.timeline.now(), fault.value, self._process.number)
        late = fault is not WeatherFault.FULL_DISK and storage.weather.dice.random() < 0.5
        try:
            return storage.logs.fail(self.inner, whole, fault, late=late)
        except LogUnavailable as error:
            if fault is WeatherFault.IO_ERROR:
                self._ruined = error if isinstance(error, LogBroken) else None  # else it says so by itself from now on
                self._machine.ruined(self._process)
            raise

    def _strikes(self, crash: WeatherFault) -> bool:
        if not self._storage.weather.strikes(crash):
            return False
        self._storage.weather.fire(crash)
        self._machine.crash(self._process)
        return True
