"""Taking over runs that need a worker.

At the start, when they are due, when slots get free, when a notification says so, and every now and then. Forever,
never only at start-up: what is heard is for speed, the truth is what is found by looking.

A run that was taken over before, from an owner that was gone, may be what its owners die of. Such suspects are claimed
one at a time, so that one of them doesn't take the others along; and one that was taken over five times in a row is
left to a person, as is one whose history can't be read. A suspect ceases to be the current one when it makes progress,
leaves memory, or was held for a while. A death after that may be the next suspect's work: from the moment that the next
one is claimed, the former is exonerated, so that such deaths don't add up against it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from amends.core.run.definition import Definition
from amends.core.words.errors import LogBroken, LogDamaged, LogUnavailable, LogUnclear
from amends.core.words.reasons import StuckReason
from amends.core.words.retry import MICROSECONDS
from amends.engine.group_commit import GroupCommit
from amends.engine.lease import BEATS
from amends.engine.load import asked_for, record_of
from amends.engine.quarantine import CLAIMS_MAX, SUSPECT_CLAIMS, Quarantine
from amends.engine.repeated_warning import Complaint
from amends.engine.worker import Changed, Worker
from amends.ports.clock import LOOP_TIMERS, Timers, TimeSource, timeout
from amends.ports.events import EventCodec
from amends.ports.log import Exonerating, SagaKey, StoredRun, TransactionLog
from amends.system.interrupts import contained

POLL_SECONDS: Final = 1.0
SLICE_MAX: Final = 200

CLEARED_SECONDS: Final = 10.0
"""A suspect that was held so long without harm no longer keeps the next one waiting."""

_LOGGER = logging.getLogger("amends.engine")


class Claims:
    """Claims runs for one worker, up to `runs_max` in memory."""

    def __init__(  # noqa: PLR0917 - what it takes to take over
        self,
        log: TransactionLog,
        worker: Worker,
        writer: GroupCommit,
        definitions: Mapping[SagaKey, Definition],
        events: EventCodec,
        clock: TimeSource,
        changed: Changed,
        runs_max: int,
        timers: Timers = LOOP_TIMERS,
        poll_seconds: float = POLL_SECONDS,
        tenure: Callable[[], int | None] = lambda: 0,
    ) -> None:
        """`tenure`: which of the workers that this process was it is now; `None`: none."""
        self._log = log
        self._worker = worker
        self._writer = writer
        self._definitions = definitions
        self._events = events
        self._clock = clock
        self._runs_max = runs_max
        self._timers = timers
        lease = log.lease
        self._lease = lease
        self._poll_seconds = poll_seconds if lease is None else min(poll_seconds, lease.seconds / BEATS)
        self._quarantine = Quarantine(writer, events, clock, changed)
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._more = False
        self._visited = False
        self._visits_due = 0.0
        self._strays_due = 0.0
        self._suspect: tuple[str, int, float] | None = None
        self._cleared: dict[str, int] = {}
        self._tenure = tenure
        self._complaint = Complaint(_LOGGER, "runs are claimed again", clock.monotonic)
        self.unreadable: dict[str, str] = {}

    def start(self) -> None:
        """Begin to claim."""
        if self._lease is not None:
            self._lease.listen(self.visited)
            self._strays_due = self._clock.monotonic() + self._lease.seconds
        self._task = asyncio.create_task(self._run(), name="amends-claims")

    async def close(self) -> None:
        """Claim no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def visited(self) -> None:
        """A visitor wrote: a worker must look, perhaps this one, which may have claimed the run in between."""
        self._visited = True
        self._look.set()

    def stray(self) -> None:
        """Runs may be ours by the log that this process doesn't drive: let go of them now."""
        self._strays_due = 0.0
        self._look.set()

    def look(self) -> None:
        """A run needs a worker now."""
        self._look.set()

    def moved(self, run: str) -> None:
        """A run made progress or left memory. If it was a suspect, its owners didn't die of it."""
        self._cleared.pop(run, None)
        if self._suspect is not None and self._suspect[0] == run:
            self._suspect = None
            self._look.set()

    def freed(self) -> None:
        """A slot got free; look, if more is waiting than the slots could hold.

        A worker that hardly polls also has to look when the run that left may be due before the next poll.
        """
        if self._suspect is not None and self._suspect[0] not in self._worker.runs:
            self.moved(self._suspect[0])
        for run in [each for each in self._cleared if each not in self._worker.runs]:
            del self._cleared[run]
        if self._more or self._poll_seconds > POLL_SECONDS:
            self._look.set()

    async def _run(self) -> None:
        while True:
            self._look.clear()
            try:
                with contained():
                    again = await self.sweep()
                    due = None if again else await self._log.next_due(list(self._definitions))
                wait = self._poll_seconds
                self._complaint.fine()
            except LogBroken:
                return  # nothing can be written any more; whoever writes says so
            except LogUnavailable as error:
                self._complaint.wrong(f"runs can't be claimed: {error}")
                again, due, wait = False, None, POLL_SECONDS
                if isinstance(error, LogUnclear):
                    self._strays_due = 0.0  # perhaps it was a claim, and its answer is what was lost
            except Exception:  # a bug here must not leave every waiting run to itself
                _LOGGER.exception("runs can't be claimed")
                again, due, wait = False, None, POLL_SECONDS
            if again:
                continue
            if due is not None and not self._more:
                wait = min(wait, max(0.01, (due - self._clock.now()) / MICROSECONDS))
            await self._wait(wait if self._suspect is None else min(wait, CLEARED_SECONDS))

    async def _wait(self, seconds: float) -> None:
        try:
            async with timeout(self._timers, seconds):
                await self._look.wait()
        except TimeoutError:
            pass

    async def sweep(self) -> bool:
        """Claim what there are slots for; whether there may be more for slots that are still free."""
        tenure = self._tenure()
        if tenure is None:
            return False
        await self._look_for_strays()
        await self._tell_visits()
        free = min(self._runs_max - len(self._worker.runs) - self._worker.expected, SLICE_MAX)
        if free <= 0:
            self._more = True
            return False
        self._worker.expected += free
        try:
            known = list(self._definitions)
            claimed = await self._log.claim(known, self._clock.now(), free, suspects=self._suspects_wanted())
        finally:
            self._worker.expected -= free
        self._more = len(claimed) >= free
        if self._cleared and any(each.claims >= SUSPECT_CLAIMS for each in claimed):
            await self._exonerate()
        if self._tenure() != tenure:  # claimed for the worker that was declared gone meanwhile
            self.stray()
            return False
        for stored in claimed:
            self._take(stored)
        return self._more and len(self._worker.runs) + self._worker.expected < self._runs_max

    def _suspects_wanted(self) -> int:
        if self._suspect is not None and self._clock.monotonic() - self._suspect[2] > CLEARED_SECONDS:
            run, epoch, _ = self._suspect
            self._cleared[run] = epoch
            self._suspect = None
        return 1 if self._suspect is None else 0

    async def _exonerate(self) -> None:
        """Before another suspect is driven beside them: those that were held for a while without harm."""
        cleared, self._cleared = self._cleared, {}
        if not isinstance(self._log, Exonerating):
            return
        for run, epoch in cleared.items():
            if run not in self._worker.runs:
                continue
            try:
                await self._log.exonerate(run, epoch)
            except LogUnavailable as error:  # what was claimed must be driven all the same
                _LOGGER.info("%s stays as suspected as it was: %s", run, error)

    def _take(self, stored: StoredRun) -> None:
        definition = self._definitions[SagaKey(stored.saga, stored.saga_version, stored.digest)]
        try:
            record = record_of(stored, self._events)
        except LogDamaged as error:
            self.unreadable[stored.run] = str(error)
            _LOGGER.exception("%s can't be driven", stored.run)
            self._quarantine.unread(stored, definition, StuckReason.UNREADABLE)
            return
        if stored.claims >= CLAIMS_MAX and record.ended is None:
            _LOGGER.error("%s was left by %d owners in a row that were gone: nobody drives it", stored.run, CLAIMS_MAX)
            self._quarantine.read(stored, definition, record, StuckReason.CRASH_LOOP)
            return
        if stored.claims >= SUSPECT_CLAIMS:
            self._suspect = (stored.run, stored.epoch, self._clock.monotonic())
        self._worker.adopt(definition, record, stored.epoch, asked_for(stored, self._events))

    async def _tell_visits(self) -> None:
        """A run that was claimed while a visitor decided on it doesn't know what he wrote; nor do runs that visitors of
        other processes wrote to.
        """
        now = self._clock.monotonic()
        if not self._visited and (self._lease is None or now < self._visits_due):
            return
        self._visited = False
        self._visits_due = now + self._poll_seconds
        for run, version in await self._log.nudged(self._clock.now()):
            self._worker.look_again(run, version)

    def _held(self) -> set[str]:
        """The runs that this process has, or is about to have."""
        return self._writer.runs.union(self._worker.runs)

    async def _look_for_strays(self) -> None:
        """Runs that the log takes for ours and that we know nothing of: the answer to their claim was lost."""
        if self._lease is None or self._clock.monotonic() < self._strays_due:
            return
        self._strays_due = self._clock.monotonic() + self._lease.seconds
        for run in await self._lease.let_go_of_strays(self._held, self._clock.now()):
            _LOGGER.warning("%s was ours without our knowing: let go of", run)
