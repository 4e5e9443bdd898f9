"""One timer for all runs: a heap of moments, and one call of the clock for the earliest."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from amends.core.words.retry import MICROSECONDS
from amends.engine.active_run import Driven
from amends.ports.clock import LOOP_TIMERS, Timer, Timers, TimeSource

TIDY_FROM: Final = 64
"""Moments in the heap before those that no longer matter are looked for."""


class Alarm:
    """Rings for a run when its moment has come. A run has one moment; setting another forgets the earlier one."""

    def __init__(self, clock: TimeSource, ring: Callable[[Driven], None], timers: Timers = LOOP_TIMERS) -> None:
        self._clock = clock
        self._timers = timers
        self._ring = ring
        self._heap: list[tuple[int, int, int, Driven]] = []
        self._order = count()
        self._timer: Timer | None = None
        self._set_for: int | None = None
        self._tidy_at = TIDY_FROM

    def set(self, driven: Driven, when: int | None) -> None:
        """Ring for this run at `when` (microseconds UTC of the run's own time), or not at all."""
        if driven.wake == when:
            return
        driven.wake = when
        if when is None:
            return
        now = self._clock.now()
        heappush(self._heap, (when - (driven.time(now) - now), next(self._order), when, driven))
        if len(self._heap) > self._tidy_at:
            self._tidy()
        self._aim()

    def close(self) -> None:
        """Ring no more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tidy(self) -> None:
        """Forget moments that were replaced and runs that left, which a far deadline would keep in memory till then."""
        self._heap = [each for each in self._heap if each[3].wake == each[2] and not each[3].dropped]
        heapify(self._heap)
        self._tidy_at = max(TIDY_FROM, 2 * len(self._heap))

    def _aim(self) -> None:
        while self._heap and (self._heap[0][3].dropped or self._heap[0][3].wake != self._heap[0][2]):
            heappop(self._heap)
        if not self._heap:
            return
        earliest = self._heap[0][0]
        if self._timer is not None:
            if self._set_for is not None and self._set_for <= earliest:
                return
            self._timer.cancel()
        self._set_for = earliest
        delay = max(0.0, (earliest - self._clock.now()) / MICROSECONDS)
        self._timer = self._timers.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            _, _, when, driven = heappop(self._heap)
            if driven.wake == when and not driven.dropped:
                driven.wake = None
                driven.reached = when
                self._ring(driven)
        self._aim()
