"""The order of events in a workshop: one call at a time, in the order in which they were sent.

A call's real work (a service, its database, its threads) is done in one piece; then its answer is handed to the engine,
and the next call's work begins only when the engine has come to rest over it. So the order of everything is a function
of the test alone, not of threads and disks. Rest is when none of the engine's ways out (log, calls, starting again) is
in use and the event loop has nothing more to pass around; `settle` waits for that.

Calls outlive their callers, as requests on a wire do: one whose caller was killed or gave up still arrives. What was on
its way in a crash, and second copies, come when nothing else is left to do at that moment, which is the worst time.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Final

from amends.core.run.answers import Came, Cause, Lost
from amends.core.words.error_texts import told
from amends.ports.transport import Outgoing, Transport

PATIENCE_SECONDS: Final = 60.0
"""Real seconds that real work may take: virtual time stands meanwhile, so a call's own time-out can't be meant."""

STALL_SECONDS: Final = 2.0
"""Real seconds after which the next call doesn't wait for this one any more: perhaps this one waits for that one."""

SETTLE_SECONDS: Final = 30.0
"""Real seconds after which a test is told what doesn't come to an end."""

SPINS: Final = 12
"""Rounds of the event loop without anything new: the engine's longest way from one of its ports to another is four."""


_CLOSED: Final = Lost(Cause.LOST, "the workshop was closed")


class Unsettled(AssertionError):
    """Something real has been under way for too long, so time can't pass."""


class Activity:
    """What the engine has under way in the real world."""

    def __init__(self) -> None:
        self.begun = 0
        self._busy: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def busy(self, what: str) -> Generator[None, None, None]:
        """Something is under way."""
        self.begun += 1
        self._busy[what] += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.begun += 1
            self._busy -= Counter({what: 1})
            if not self._busy:
                self._idle.set()

    def touch(self) -> None:
        """Something was begun that will show only later: a caller that waits for rest starts over."""
        self.begun += 1

    @property
    def under_way(self) -> list[str]:
        """By name."""
        return sorted(self._busy)

    async def rest(self) -> None:
        """Wait until nothing is under way, and nothing follows from what was."""
        while True:
            await self._idle.wait()
            seen = self.begun
            for _ in range(SPINS):
                await asyncio.sleep(0)
                if self.begun != seen or self._busy:  # busy again, perhaps, before the wait above came back
                    break
            else:
                return


@dataclass(eq=False, slots=True, kw_only=True)
class CallInTransit:
    """A call on its way. `arrived` is told what came, and gives what the caller gets: nothing, where it is lost."""

    call: Outgoing
    through: Transport
    context: Context
    in_process: bool
    arrived: Callable[[Came], Came | None]
    answer: asyncio.Future[Came] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def say(self, came: Came) -> None:
        """Answer the caller, if he still waits."""
        if not self.answer.done():
            self.answer.set_result(came)


class Conductor:
    """Has calls done, one after the other."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._queue: deque[CallInTransit] = deque()
        self._late: deque[CallInTransit] = deque()
        self._working: dict[asyncio.Task[Came], CallInTransit] = {}
        self._waiting: set[CallInTransit] = set()
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="amends-workshop")

    def expect(self, delivery: CallInTransit) -> None:
        """A caller waits for this one's answer."""
        if self._task.done():
            delivery.say(_CLOSED)
            return
        self._waiting.add(delivery)
        delivery.answer.add_done_callback(lambda _: self._waiting.discard(delivery))

    def carry(self, delivery: CallInTransit) -> None:
        """Have it done when its turn comes."""
        self._queue.append(delivery)
        self._stir()

    def carry_late(self, delivery: CallInTransit) -> None:
        """Have it done when nothing else is left to do."""
        self._late.append(delivery)
        self._stir()

    def crash(self) -> None:
        """The process that sent all this is gone: work in it stops, requests that have left arrive late."""
        for each in self._queue:
            if not each.in_process:
                self._late.append(each)
        self._queue.clear()
        for task, each in self._working.items():
            if each.in_process:
                task.cancel()
        self._stir()

    async def settle(self) -> None:
        """Wait until nothing is under way and everything that was sent has been done; `Unsettled` says what isn't."""
        self._activity.touch()
        self._quiet.clear()
        self._wake.set()
        quiet = asyncio.ensure_future(self._quiet.wait())
        try:
            await asyncio.wait({quiet, self._task}, timeout=SETTLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
            if not quiet.done():
                calls = [f"{each.call.key} at {each.call.participant}" for each in self._working.values()]
                what = ", ".join([*calls, *self._activity.under_way]) or "the event loop"
                msg = f"after {SETTLE_SECONDS:g} real seconds still at work, so time can't pass: {what}"
                raise Unsettled(msg)
        finally:
            quiet.cancel()

    async def close(self) -> None:
        """Do nothing more; callers that still wait for an answer get none."""
        self._task.cancel()
        working = list(self._working)
        for task in working:
            task.cancel()
        await asyncio.gather(self._task, *working, return_exceptions=True)
        for each in list(self._waiting):
            each.say(_CLOSED)

    def _stir(self) -> None:
        self._activity.touch()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._activity.rest()
            if self._queue:
                await self._deliver(self._queue.popleft())
            elif self._late:
                await self._deliver(self._late.popleft())
            else:
                if not self._working:
                    self._quiet.set()
                await self._wake.wait()
                self._wake.clear()

    async def _deliver(self, delivery: CallInTransit) -> None:
        call = replace(delivery.call, timeout_seconds=PATIENCE_SECONDS)
        work = delivery.through.send(call)
        task: asyncio.Task[Came] = asyncio.get_running_loop().create_task(_done(work), context=delivery.context)
        self._working[task] = delivery
        task.add_done_callback(self._came)
        await asyncio.wait({task}, timeout=STALL_SECONDS)

    def _came(self, task: asyncio.Task[Came]) -> None:
        delivery = self._working.pop(task)
        self._stir()
        if task.cancelled():
            return
        error = task.exception()
        came = Lost(Cause.LOST, f"the transport failed: {told(error)}") if error is not None else task.result()
        given = delivery.arrived(came)
        if given is not None:
            delivery.say(given)


async def _done(work: Awaitable[Came]) -> Came:
    return await work
