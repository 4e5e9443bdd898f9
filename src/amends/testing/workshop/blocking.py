"""A workshop for tests that can't await: the same, on an event loop of its own that runs only while it is asked."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

from amends.core.saga.operation import Operation, Route
from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.testing.workshop.faults import Faults
from amends.testing.workshop.runs import WorkshopRun
from amends.testing.workshop.sent import Sent
from amends.testing.workshop.workshop import Workshop, WorkshopContext, workshop

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
Q = TypeVar("Q")
R = TypeVar("R")


class BlockingRun:
    """One run in a blocking workshop."""

    def __init__(self, runner: asyncio.Runner, inner: WorkshopRun) -> None:
        self._runner = runner
        self._inner = inner
        self.id = inner.id
        self.is_new = inner.is_new

    def outcome(self, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck; time passes as far as that takes, with `wait` no further."""
        return self._runner.run(self._inner.outcome(wait=wait))


class BlockingRuns:
    """Starts and steers runs."""

    def __init__(self, runner: asyncio.Runner, shop: Workshop) -> None:
        self._runner = runner
        self._runs = shop.runs

    def start(
        self,
        saga: Saga[I],
        input: I,
        *,
        id: str | None = None,
        deadline: timedelta | datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> BlockingRun:
        """Begin a run."""
        started = self._run(self._runs.start(saga, input, id=id, deadline=deadline, tags=tags))
        return BlockingRun(self._runner, started)

    def get(self, id: str) -> BlockingRun:
        """A run by its id."""
        return BlockingRun(self._runner, self._runs.get(id))

    def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        self._run(self._runs.cancel(id, reason=reason))

    def compensate(self, id: str, *, reason: str) -> None:
        """Turn a run back, and stop waiting for a person where a barrier lets us undo without knowing."""
        self._run(self._runs.compensate(id, reason=reason))

    def retry(self, id: str, *, reason: str, step: Step[Any, Any] | None = None, item: str | None = None) -> None:
        """Try a step again, or everything that is stuck."""
        self._run(self._runs.retry(id, reason=reason, step=step, item=item))

    def resolve(
        self,
        id: str,
        step: Step[Any, R],
        outcome: Literal["succeeded", "rejected", "undone"],
        *,
        reason: str,
        reply: R | None = None,
        item: str | None = None,
    ) -> None:
        """Vouch for what became of a step: `succeeded` (with its reply), `rejected` or `undone`."""
        self._run(self._runs.resolve(id, step, outcome, reason=reason, reply=reply, item=item))

    def skip(self, id: str, step: Step[Any, Any], *, reason: str, item: str | None = None) -> None:
        """Leave a step as it is."""
        self._run(self._runs.skip(id, step, reason=reason, item=item))

    def abandon(self, id: str, *, reason: str) -> None:
        """End a stuck run as it is."""
        self._run(self._runs.abandon(id, reason=reason))

    def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked."""
        self._run(self._runs.answer(id, step, reply))

    def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        self._run(self._runs.decline(id, step, reason))

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        return self._runner.run(work)


class BlockingClock:
    """A workshop's clock."""

    def __init__(self, runner: asyncio.Runner, shop: Workshop) -> None:
        self._runner = runner
        self._clock = shop.clock

    @property
    def now(self) -> datetime:
        """What time it is in the workshop."""
        return self._clock.now

    def jump(self, duration: timedelta, /) -> None:
        """Let this much time pass; all that falls due meanwhile is done when it returns."""
        self._runner.run(self._clock.jump(duration))


class BlockingWorkshop:
    """What a test works with. `calls` is everything that was sent, in order."""

    def __init__(self, runner: asyncio.Runner, shop: Workshop) -> None:
        self.runs = BlockingRuns(runner, shop)
        self.clock = BlockingClock(runner, shop)
        self.faults: Faults = shop.faults
        self.calls: Sequence[Sent] = shop.calls
        self._shop = shop

    def sent(self, operation: Operation[..., Q, Any], /) -> list[Q]:
        """The requests of every action call of this operation, repeats too, in order."""
        return self._shop.sent(operation)


class BlockingWorkshopContext(AbstractContextManager[BlockingWorkshop]):
    """A blocking workshop that isn't open yet; `blocking_workshop` makes one."""

    def __init__(self, inner: WorkshopContext) -> None:
        self._inner = inner
        self._runner = asyncio.Runner()

    def __enter__(self) -> BlockingWorkshop:
        """Open it; `RuntimeError` inside a running event loop, where `async with workshop(...)` is meant."""
        try:
            return BlockingWorkshop(self._runner, _run(self._runner, self._inner.__aenter__()))
        except BaseException:
            self._runner.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, and see that every fault fired."""
        try:
            _run(self._runner, self._inner.__aexit__(kind, error, trace))
        finally:
            self._runner.close()


def blocking_workshop(
    sagas: Iterable[Saga[Any]],
    routes: Iterable[Route] = (),
    *,
    log: str = "memory:",
    starts: datetime | None = None,
    faults_must_fire: bool = True,
) -> BlockingWorkshopContext:
    """Like `workshop`, for tests that can't await: entered with `with`, and nothing in it is awaited."""
    return BlockingWorkshopContext(workshop(sagas, routes, log=log, starts=starts, faults_must_fire=faults_must_fire))


def _run(runner: asyncio.Runner, work: Coroutine[Any, Any, R]) -> R:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return runner.run(work)
    work.close()
    msg = "blocking_workshop can't be used inside a running event loop; there: `async with workshop(...) as shop:`"
    raise RuntimeError(msg)


class OpenBlockingWorkshop(Protocol):
    """The type of the fixture `blocking_saga_workshop`."""

    def __call__(
        self,
        sagas: Iterable[Saga[Any]],
        routes: Iterable[Route] = (),
        *,
        log: str = "memory:",
        starts: datetime | None = None,
        faults_must_fire: bool = True,
    ) -> BlockingWorkshop:
        """Open a workshop until the test's end; takes what `workshop` takes."""
        ...
