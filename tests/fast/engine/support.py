"""What the engine's tests stand on: time that passes only when nothing else is left to do, participants that answer as
they are told, and logs in memory that take their time.

Nothing here waits for a real clock: `virtually` runs a test on a loop whose time jumps to the next timer, and `Clock`
reads that loop. A week is over in a moment, and a delay is exact.
"""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
import selectors
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar
from unittest import mock

from typing_extensions import override

from amends import orchestrator as compose
from amends.codecs.json import JsonCodec
from amends.core.run.answers import CallResponse, Came, Cause, Lost, NotSent
from amends.core.run.definition import Definition
from amends.core.saga.operation import AT_ONCE_DEFAULT, Call, Participant, Rest, Route, operation
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.keys import Phase
from amends.core.words.retry import MICROSECONDS, Policy, Retry
from amends.logs.memory import MemoryLog, MemoryStore
from amends.orchestrator import Orchestrator
from amends.ports.log import Append, Start, TransactionLog, Written
from amends.ports.transport import Outgoing

R = TypeVar("R")

EPOCH: Final = 1_700_000_000
SHORT: Final = timedelta(seconds=1)


# -- time


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting, lets the time pass that there was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing will ever happen again"
            self.passed += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on which nobody waits."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    @override
    def time(self) -> float:
        return self._jumping.passed


def virtually(test: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a test on time that jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(test())


class Clock:
    """The running loop's time as a clock of the engine."""

    def now(self) -> int:
        return int((EPOCH + asyncio.get_running_loop().time()) * MICROSECONDS)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- participants


def yes(reply: bytes = b'"done"') -> CallResponse:
    return CallResponse(200, {"saga-outcome": "succeeded"}, reply, "pretend")


def no(code: str = "sold-out") -> CallResponse:
    body = f'{{"type":"urn:amends:rejected","code":"{code}","detail":"no"}}'.encode()
    return CallResponse(409, {"saga-outcome": "rejected"}, body, "pretend")


def busy(retry_after: str | None = None) -> CallResponse:
    return CallResponse(503, {} if retry_after is None else {"retry-after": retry_after}, b"", "pretend")


LOST: Final = Lost(Cause.TIMED_OUT, "no answer")
UNREACHED: Final = NotSent("nobody there")

Does: TypeAlias = Callable[[Outgoing], Awaitable[Came] | Came]


@dataclass(frozen=True, slots=True)
class Sent:
    key: str
    attempt: int
    at: float
    body: bytes
    epoch: int


class Pretend:
    """A transport to nowhere: notes every call and answers as it is told, by default yes."""

    def __init__(self, does: Does | None = None, *, journal: list[str] | None = None) -> None:
        self.does = does
        self.sent: list[Sent] = []
        self.in_flight = 0
        self.most = 0
        self.closed = 0
        self.journal: list[str] = [] if journal is None else journal

    async def send(self, call: Outgoing) -> Came:
        self.sent.append(Sent(call.key, call.attempt, seconds(), call.body, call.epoch))
        self.journal.append(f"send {call.key}")
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            if self.does is None:
                return yes()
            came = self.does(call)
            return await came if isinstance(came, Awaitable) else came
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self.closed += 1

    @property
    def keys(self) -> list[str]:
        return [each.key for each in self.sent]

    def times(self, key: str) -> list[float]:
        return [each.at for each in self.sent if each.key == key]

    def counts(self) -> Counter[str]:
        return Counter(self.keys)


class Script:
    """Answers by `step:phase`, one after the other; the last one for ever. What isn't listed is a yes."""

    def __init__(self, **answers: Sequence[Came] | Came) -> None:
        self._answers = {name: list(came) if isinstance(came, Sequence) else [came] for name, came in answers.items()}

    def __call__(self, call: Outgoing) -> Came:
        name = call.step if call.phase is Phase.ACTION else f"{call.step}_{call.phase.value}"
        known = self._answers.get(name)
        if known is None:
            return yes()
        return known.pop(0) if len(known) > 1 else known[0]


# -- sagas


@dataclass(frozen=True, slots=True)
class Ask:
    what: str


class Shop(Participant):
    act = operation(Ask, str, compensation="undo")
    tell = operation(Ask)


class Plain(Participant):
    """Knows a key, knows no barrier."""

    act = operation(Ask, str, compensation="undo", rest=Rest("PUT /act"))
    undo = operation(Ask, rest=Rest("PUT /undo"))


class Once(Participant):
    """Must be called once."""

    act = operation(Ask, str, compensation="undo", rest=Rest("POST /act"))
    undo = operation(Ask, rest=Rest("POST /undo"))


QUICK: Final = Policy(retry=Retry(first=SHORT, cap=SHORT))


def order_saga(name: str = "order", *, policy: Policy | None = None) -> Saga[str]:
    """`reserve`, then the pivot `pay`, then `ship`."""
    saga = Saga(name, str)

    @saga.compensable(policy=policy)
    def reserve(what: str) -> Call[str]:
        return Shop.act(what)

    @saga.pivot(reserve, policy=policy)
    def pay(what: str, reserved: str) -> Call[str]:
        return Shop.act(what)

    @saga.retriable(after=[pay], policy=policy)
    def ship(what: str) -> Call[str]:
        return Shop.act(what)

    return saga


def wide_saga(
    act: Callable[[str], Call[str]] = Shop.act, *, names: Iterable[str] = ("a", "b", "c"), policy: Policy | None = None
) -> Saga[str]:
    """Independent steps, and a pivot that waits for all of them."""
    saga = Saga("wide", str)

    def add(name: str) -> Step[str, str]:
        def build(what: str) -> Call[str]:
            return act(what)

        build.__name__ = build.__qualname__ = name
        made: Step[str, str] = saga.compensable(policy=policy)(build)
        return made

    steps = [add(name) for name in names]

    @saga.pivot(after=steps, policy=policy)
    def pay(what: str) -> Call[str]:
        return Shop.act(what)

    return saga


# -- logs


class SlowLog(MemoryLog):
    """Takes its time over an append, and notes what became durable before it says so."""

    def __init__(
        self, store: MemoryStore | None = None, *, append_seconds: float = 0.01, journal: list[str] | None = None
    ) -> None:
        super().__init__(store)
        self.append_seconds = append_seconds
        self.release_seconds = 0.0
        self.batches: list[list[Start | Append]] = []
        self.journal: list[str] = [] if journal is None else journal
        self.appending = 0

    @override
    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        assert not self.appending, "one batch at a time"
        self.appending += 1
        try:
            self.batches.append(list(batch))
            await asyncio.sleep(self.append_seconds)
            verdicts = await super().append(batch)
            for entry, verdict in zip(batch, verdicts, strict=True):
                if verdict is Written.ACCEPTED:
                    self.journal += [f"durable {entry.run} {event.kind}" for event in entry.events]
            return verdicts
        finally:
            self.appending -= 1

    @override
    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        await asyncio.sleep(self.release_seconds)
        return await super().release(run, epoch, version, due_at)

    def kinds(self, run: str) -> list[str]:
        return [event.kind for event in self.store.runs[run].events]

    def state(self, run: str) -> str:
        return self.store.runs[run].row.state


# -- orchestrators


def where_it_is(route: Route) -> object:
    """A transport is its own way there."""
    return route.where


@asynccontextmanager
async def opened(
    sagas: Iterable[Saga[Any]],
    log: str | TransactionLog = "memory:",
    *,
    runs_max: int = 1_000,
    at_once: int = AT_ONCE_DEFAULT,
    **transports: Pretend,
) -> AsyncGenerator[Orchestrator]:
    """An open orchestrator whose participants (by their names) are pretended."""
    routes = [Route(name.replace("_", "-"), transport, None, at_once) for name, transport in transports.items()]
    sagas = list(sagas)
    with mock.patch.object(compose, "open_route", where_it_is), contextlib.ExitStack() as unchecked:
        if transports.keys() & {"plain", "once"}:  # which can be decided on, but not be reached yet
            loaded = [Definition(each, JsonCodec()) for each in sagas]
            unchecked.enter_context(mock.patch.object(compose, "load_definitions", return_value=loaded))
        async with Orchestrator(sagas, log=log, routes=routes, runs_max=runs_max, clock=Clock()) as runs:
            yield runs


async def until(true: Callable[[], bool], *, within: float = 3_600.0) -> None:
    """Let time pass until something is true."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - nobody says so, and to wait costs nothing here
            await asyncio.sleep(0.005)


def assert_empty(runs: Orchestrator) -> None:
    """Nothing is kept of runs that are over or wait in the log."""
    engine = runs.engine
    assert not engine.worker.runs
    assert not engine.worker.expected
    assert not engine.worker._tasks
    assert not engine.audience.awaited
    assert not engine._writer.waiting
    assert len(engine.worker._alarm._heap) <= 64
    lanes = runs._lanes
    assert lanes is not None
    for lane in (*lanes._lanes.values(), *lanes._local.values()):
        assert (lane.in_flight, lane.waiting) == (0, 0), lane.participant
