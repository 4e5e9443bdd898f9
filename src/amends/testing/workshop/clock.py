"""Time in a workshop: it stands still while anything is being done, and jumps from one due moment to the next.

`VirtualTime` is the engine's clock and the engine's timers, nothing more: the event loop, threads and databases of the
services under test keep the machine's time, so a workshop works on whatever loop a test runs on. Before time moves,
everything real that is under way is waited for (`Conductor.settle`); so what a test sees doesn't depend on how quick
the machine was.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Final

from amends.core.words.retry import MICROSECONDS, micros

MOMENTS_MAX: Final = 100_000
"""Due moments that one jump, or one wait for an outcome, may pass: beyond it something repeats for ever."""

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


class NothingIsDue(AssertionError):
    """A test waits for something that no passing of time will bring."""


class _Ringing:
    """A `ports.clock.Timer` in virtual time."""

    __slots__ = ("ring",)

    def __init__(self, ring: Callable[[], None] | None) -> None:
        self.ring = ring

    def cancel(self) -> None:
        self.ring = None


class VirtualTime:
    """`ports.clock.Clock` and `ports.clock.Timers`; `pass_to` is the only thing that moves it."""

    def __init__(self, starts: datetime) -> None:
        self._start = self._now = micros(starts.astimezone(UTC) - _START)
        self._heap: list[tuple[int, int, _Ringing]] = []
        self._order = count()

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the workshop was opened."""
        return (self._now - self._start) / MICROSECONDS

    def call_later(self, seconds: float, ring: Callable[[], None], /) -> _Ringing:
        """Ring when that much time has passed; for infinity: never."""
        timer = _Ringing(ring)
        if math.isfinite(seconds):
            # Moments in the log are whole microseconds: a timer for one must not ring a fraction too early.
            moment = self._now + max(0, round(seconds * MICROSECONDS))
            heappush(self._heap, (moment, next(self._order), timer))
        return timer

    def next_moment(self) -> int | None:
        """When the next timer rings."""
        while self._heap and self._heap[0][2].ring is None:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pass_to(self, moment: int) -> None:
        """Let it be this moment, and ring what is due by then, in order."""
        self._now = max(self._now, moment)
        while self._heap and self._heap[0][0] <= moment:
            timer = heappop(self._heap)[2]
            ring, timer.ring = timer.ring, None
            if ring is not None:
                ring()


class Clock:
    """A workshop's clock, as a test sees it."""

    def __init__(self, time: VirtualTime, settle: Callable[[], Awaitable[None]]) -> None:
        self._time = time
        self._settle = settle
        self._turn = asyncio.Lock()

    @property
    def now(self) -> datetime:
        """What time it is in the workshop."""
        return _START + timedelta(microseconds=self._time.now())

    async def jump(self, duration: timedelta, /) -> None:
        """Let this much time pass, from due moment to due moment; all that falls due meanwhile is done when it returns.

        `timedelta(0)` lets everything settle that is under way now. `Unsettled` if something real never comes to an
        end.
        """
        if duration < timedelta(0):
            msg = f"time doesn't go back: {duration}"
            raise ValueError(msg)
        until = self._time.now() + micros(duration)
        for _ in range(MOMENTS_MAX):
            if await self._step(until):
                return
        raise self._endless()

    async def pass_until(self, done: Callable[[], bool], within: timedelta | None, waits_for: str) -> bool:
        """Let time pass until something is so; false if it isn't `within` that time. `NothingIsDue` if it can't be."""
        until = None if within is None else self._time.now() + micros(within)
        for _ in range(MOMENTS_MAX):
            over = await self._step(until, done)
            if done():
                return True
            if over and until is not None:
                return False
            if over:
                msg = f"{waits_for}, but nothing is under way and nothing will ever be due"
                raise NothingIsDue(msg)
        raise self._endless()

    async def _step(self, until: int | None, done: Callable[[], bool] | None = None) -> bool:
        """Settle, then go to the next due moment; true if there is none before `until`."""
        async with self._turn:  # two tests' tasks that let time pass together take turns
            await self._settle()
            if done is not None and done():
                return False
            moment = self._time.next_moment()
            if moment is None or (until is not None and moment > until):
                if until is not None:
                    self._time.pass_to(until)
                return True
            self._time.pass_to(moment)
            return False

    def _endless(self) -> NothingIsDue:
        return NothingIsDue(f"{MOMENTS_MAX} moments have passed, it is {self.now}, and there is always another one")
