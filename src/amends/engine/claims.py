"""Taking over runs that need somebody.

At the start, when they are due, when slots get free. Forever, never only at start-up.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from amends.core.definition import Definition
from amends.core.errors import LogBroken, LogDamaged, LogUnavailable
from amends.core.retry import MICROSECONDS
from amends.engine.reading import record_of
from amends.engine.worker import Worker
from amends.ports.clock import LOOP_TIMERS, Clock, Timers, timeout
from amends.ports.events import EventCodec
from amends.ports.log import SagaKey, TransactionLog

POLL_SECONDS: Final = 1.0
SLICE_MAX: Final = 200

_LOGGER = logging.getLogger("amends.engine")


class Claims:
    """Claims runs for one worker, up to `runs_max` in memory."""

    def __init__(  # noqa: PLR0917 - what it takes to take over
        self,
        log: TransactionLog,
        worker: Worker,
        definitions: Mapping[SagaKey, Definition],
        events: EventCodec,
        clock: Clock,
        runs_max: int,
        timers: Timers = LOOP_TIMERS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._log = log
        self._worker = worker
        self._definitions = definitions
        self._events = events
        self._clock = clock
        self._runs_max = runs_max
        self._timers = timers
        self._poll_seconds = poll_seconds
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._more = False
        self._visited = False
        self.unreadable: dict[str, str] = {}

    def start(self) -> None:
        """Begin to claim."""
        self._task = asyncio.create_task(self._run(), name="amends-claims")

    async def close(self) -> None:
        """Claim no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def visited(self) -> None:
        """A visitor wrote: somebody must look, perhaps this worker, which may have claimed the run in between."""
        self._visited = True
        self._look.set()

    def look(self) -> None:
        """Something needs somebody now."""
        self._look.set()

    def freed(self) -> None:
        """A slot got free; look, if more is waiting than the slots could hold.

        Who hardly polls also has to look when the run that left may be due before the next poll.
        """
        if self._more or self._poll_seconds > POLL_SECONDS:
            self._look.set()

    async def _run(self) -> None:
        while True:
            self._look.clear()
            try:
                again = await self.sweep()
                due = None if again else await self._log.next_due(list(self._definitions))
                wait = self._poll_seconds
            except LogBroken:
                return  # nothing can be written any more; whoever writes says so
            except LogUnavailable as error:
                _LOGGER.warning("runs can't be claimed: %s", error)
                again, due, wait = False, None, POLL_SECONDS
            except Exception:  # a bug here must not leave every waiting run to itself
                _LOGGER.exception("runs can't be claimed")
                again, due, wait = False, None, POLL_SECONDS
            if again:
                continue
            if due is not None and not self._more:
                wait = min(wait, max(0.01, (due - self._clock.now()) / MICROSECONDS))
            await self._wait(wait)

    async def _wait(self, seconds: float) -> None:
        try:
            async with timeout(self._timers, seconds):
                await self._look.wait()
        except TimeoutError:
            pass

    async def sweep(self) -> bool:
        """Claim what there are slots for; whether there may be more for slots that are still free."""
        await self._tell_visits()
        free = min(self._runs_max - len(self._worker.runs) - self._worker.expected, SLICE_MAX)
        if free <= 0:
            self._more = True
            return False
        self._worker.expected += free
        try:
            claimed = await self._log.claim(list(self._definitions), self._clock.now(), free)
        finally:
            self._worker.expected -= free
        self._more = len(claimed) >= free
        for stored in claimed:
            definition = self._definitions[SagaKey(stored.saga, stored.saga_version, stored.digest)]
            try:
                record = record_of(stored, self._events)
            except LogDamaged as error:
                self.unreadable[stored.run] = str(error)
                _LOGGER.exception("%s can't be driven", stored.run)
                continue
            self._worker.adopt(definition, record, stored.epoch)
        return self._more and len(self._worker.runs) + self._worker.expected < self._runs_max

    async def _tell_visits(self) -> None:
        """A run that was claimed while a visitor decided on it doesn't know what he wrote."""
        if not self._visited:
            return
        self._visited = False
        for run, version in await self._log.nudged(self._clock.now()):
            self._worker.look_again(run, version)
