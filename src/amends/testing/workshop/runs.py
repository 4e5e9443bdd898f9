"""`Runs` for a test: the orchestrator's own verbs, on whichever orchestrator lives, and outcomes that let time pass."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from amends.core.saga.outcomes import Outcome
from amends.core.saga.saga import Saga
from amends.core.saga.steps import Step
from amends.core.words.errors import AmendsError
from amends.engine.engine import new_run_id
from amends.orchestrator import Orchestrator
from amends.ports.runs import Run
from amends.testing.workshop.clock import Clock
from amends.testing.workshop.host import Host

I = TypeVar("I")  # noqa: E741 - the field's letter for a saga's input
R = TypeVar("R")


class WorkshopRun:
    """One run in a workshop."""

    def __init__(self, host: Host, clock: Clock, run: str, started: Run | None = None, *, is_new: bool = False) -> None:
        self._host = host
        self._clock = clock
        self._started = started
        self.id = run
        self.is_new = is_new

    @property
    def version(self) -> int:
        """The version of the saga it runs under; known where the run was started by this handle."""
        if self._started is None:
            msg = f"{self.id} was not started by this handle: its version is known from its outcome"
            raise AmendsError(msg)
        return self._started.version

    async def outcome(self, *, wait: timedelta | None = None) -> Outcome:
        """How it ended, or why it is stuck. Time passes as far as that takes, but no further than `wait`: `Unfinished`.

        `NothingIsDue` if no passing of time will settle the run.
        """
        waiting = asyncio.ensure_future(self._host.ask(lambda runs: runs.get(self.id).outcome()))
        try:
            if await self._clock.pass_until(waiting.done, wait, f"{self.id} isn't settled"):
                return waiting.result()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return await self._host.ask(lambda runs: runs.get(self.id).outcome(wait=timedelta(0)))


class WorkshopRuns:
    """Starts and steers runs. Handles stay good when the orchestrator is killed."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock

    async def start(
        self,
        saga: Saga[I],
        input: I,
        *,
        id: str | None = None,
        deadline: timedelta | datetime | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> WorkshopRun:
        """Begin a run, as `Orchestrator.start`. A `timedelta` deadline counts from now on the workshop's clock.

        Without an id every run gets another one, since services may outlive a test; waits between attempts are
        jittered by id, so give one where a test looks at moments.
        """
        run = new_run_id(self._host.time.now()) if id is None else id
        until = self._clock.now + deadline if isinstance(deadline, timedelta) else deadline
        asked = 0

        async def start(runs: Orchestrator) -> Run:
            nonlocal asked
            asked += 1
            return await runs.start(saga, input, id=run, deadline=until, tags=tags)

        started = await self._host.ask(start)
        # An orchestrator that died over the question may have started it: its caller still is the first.
        return WorkshopRun(self._host, self._clock, run, started, is_new=started.is_new or asked > 1)

    def get(self, id: str) -> WorkshopRun:
        """A run by its id."""
        return WorkshopRun(self._host, self._clock, id)

    async def cancel(self, id: str, *, reason: str) -> None:
        """Turn a run back; `PastPivot` where that is no longer possible."""
        await self._steer(lambda runs: runs.cancel(id, reason=reason))

    async def compensate(self, id: str, *, reason: str) -> None:
        """Turn a run back, and stop waiting for a person where a barrier lets us undo without knowing."""
        await self._steer(lambda runs: runs.compensate(id, reason=reason))

    async def retry(self, id: str, *, reason: str, step: Step[Any, Any] | None = None, item: str | None = None) -> None:
        """Try a step again, or everything that is stuck."""
        await self._steer(lambda runs: runs.retry(id, reason=reason, step=step, item=item))

    async def resolve(
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
        await self._steer(lambda runs: runs.resolve(id, step, outcome, reason=reason, reply=reply, item=item))

    async def skip(self, id: str, step: Step[Any, Any], *, reason: str, item: str | None = None) -> None:
        """Leave a step as it is."""
        await self._steer(lambda runs: runs.skip(id, step, reason=reason, item=item))

    async def abandon(self, id: str, *, reason: str) -> None:
        """End a stuck run as it is."""
        await self._steer(lambda runs: runs.abandon(id, reason=reason))

    async def answer(self, id: str, step: Step[Any, R], reply: R) -> None:
        """Answer a question that a step asked."""
        await self._steer(lambda runs: runs.answer(id, step, reply))

    async def decline(self, id: str, step: Step[Any, Any], reason: str) -> None:
        """Decline a question that a step asked: the step is rejected."""
        await self._steer(lambda runs: runs.decline(id, step, reason))

    async def _steer(self, verb: Callable[[Orchestrator], Awaitable[None]]) -> None:
        await self._host.ask(verb)
