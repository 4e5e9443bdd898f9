# ruff: noqa: D102 - the methods of a log are documented once, by its port
"""A log as one orchestrator of a workshop sees it: what it does is watched, and ends with the orchestrator's life.

An orchestrator that was killed gets no answer any more and writes nothing any more, whatever its tasks still try
before they are cancelled. What the log had taken before is there for the next one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from amends.codecs.events import JsonEventCodec
from amends.core.run import events as e
from amends.core.words.errors import LogUnavailable
from amends.core.words.keys import Phase
from amends.logs.memory import MemoryLog
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
from amends.testing.workshop.conductor import Activity

R = TypeVar("R")

Point = tuple[str, str, Phase, str]
"""Step, item, phase, and `requested` or `logged`."""

_EVENTS: Final = JsonEventCodec()
_TELLING: Final = frozenset(
    each.__name__
    for each in (
        e.ActionRequested,
        e.CompensationRequested,
        e.ActionSucceeded,
        e.ActionRejected,
        e.CompensationSucceeded,
    )
)


class Mortal:
    """The life of one orchestrator."""

    def __init__(self) -> None:
        self.dead = False


class WatchedLog:
    """`ports.log.TransactionLog` around another; `reached` is told of every point in a run's life that is durable."""

    def __init__(
        self, inner: TransactionLog, life: Mortal, activity: Activity, reached: Callable[[Point], None]
    ) -> None:
        self._inner = inner
        self._life = life
        self._activity = activity
        self._reached = reached

    @property
    def lease(self) -> WorkerLease | None:
        return self._inner.lease

    @property
    def is_elsewhere(self) -> bool:
        return self._inner.is_elsewhere

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        if not (self._life.dead and isinstance(self._inner, MemoryLog)):  # which holds nothing that must be let go of
            await self._inner.close()

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts = await self._ask(lambda: self._inner.append(batch))
        for entry, verdict in zip(batch, verdicts, strict=True):
            if verdict is Written.ACCEPTED:
                for event in entry.events:
                    for point in _points(event):
                        self._reached(point)
        self._ensure_alive()
        return verdicts

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        return await self._ask(lambda: self._inner.define(saga, graph, beside=beside))

    async def announce(self, known: Sequence[SagaKey]) -> None:
        await self._ask(lambda: self._inner.announce(known))

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        return await self._ask(lambda: self._inner.claim(known, now, limit, suspects=suspects))

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        return await self._ask(lambda: self._inner.release(run, epoch, version, due_at))

    async def exonerate(self, run: str, epoch: int) -> None:
        inner = self._inner
        if isinstance(inner, Exonerating):
            await self._ask(lambda: inner.exonerate(run, epoch))

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        return await self._ask(lambda: self._inner.nudged(now))

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        return await self._ask(lambda: self._inner.next_due(known))

    async def setting(self, name: str, value: bytes) -> bytes:
        return await self._ask(lambda: self._inner.setting(name, value))

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        return await self._ask(lambda: self._inner.purge(ended_before, limit, state))

    async def read(self, run: str) -> StoredRun | None:
        return await self._ask(lambda: self._inner.read(run))

    async def read_row(self, run: str) -> StoredRun | None:
        return await self._ask(lambda: self._inner.read_row(run))

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        return await self._ask(lambda: self._inner.read_events(run, after))

    async def find(self, question: Find) -> Sequence[StoredRun]:
        return await self._ask(lambda: self._inner.find(question))

    async def count(self) -> Mapping[str, int]:
        return await self._ask(self._inner.count)

    async def live(self) -> Sequence[LiveRuns]:
        return await self._ask(self._inner.live)

    async def due(self, now: int) -> int:
        return await self._ask(lambda: self._inner.due(now))

    async def stuck(self) -> Sequence[StuckRuns]:
        return await self._ask(self._inner.stuck)

    async def late(self, now: int) -> Mapping[str, int]:
        return await self._ask(lambda: self._inner.late(now))

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return await self._ask(lambda: self._inner.standing(runs))

    async def workers(self) -> Sequence[WorkerRow]:
        return await self._ask(self._inner.workers)

    async def graph(self, saga: SagaKey) -> bytes | None:
        return await self._ask(lambda: self._inner.graph(saga))

    async def _ask(self, question: Callable[[], Awaitable[R]]) -> R:
        self._ensure_alive()
        with self._activity.busy("the log"):
            answer = await question()
        self._ensure_alive()
        return answer

    def _ensure_alive(self) -> None:
        if self._life.dead:
            msg = "this orchestrator was killed by its test"
            raise LogUnavailable(msg)


def _points(event: StoredEvent) -> list[Point]:
    if event.kind not in _TELLING:
        return []
    match _EVENTS.decode(event.kind, event.body, event.at, event.epoch):
        case e.ActionRequested(step=step, requests=requests):
            return [(step, each.item, Phase.ACTION, "requested") for each in requests]
        case e.CompensationRequested(step=step, item=item):
            return [(step, item, Phase.COMPENSATION, "requested")]
        case e.ActionSucceeded(step=step, item=item) | e.ActionRejected(step=step, item=item):
            return [(step, item, Phase.ACTION, "logged")]
        case e.CompensationSucceeded(step=step, item=item):
            return [(step, item, Phase.COMPENSATION, "logged")]
        case _:
            return []
