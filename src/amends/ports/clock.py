"""Time as the engine sees it. Passed in, so that tests own it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

_ELAPSING: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

elapsed: Final = partial(time.clock_gettime, _ELAPSING)
"""Seconds since some moment, counting those in which the machine slept (macOS counts them anyway); never goes back.
Read ten times a run, so that it is no function of Python's.
"""


class TimeSource(Protocol):
    """Wall time for what is logged, and a monotonic one for waiting."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1_000

    monotonic = staticmethod(elapsed)


class Timer(Protocol):
    """Something that rings later."""

    def cancel(self) -> None:
        """Don't ring; nothing happens where it has rung."""
        ...


class Timers(Protocol):
    """What the engine waits by: its alarm, its pauses, its looks into the log. A call's time-out is its transport's."""

    def call_later(self, seconds: float, ring: Callable[[], None], /) -> Timer:
        """Call back after so many seconds, on the event loop."""
        ...


class LoopTimers:
    """The running event loop's own timers."""

    def call_later(self, seconds: float, ring: Callable[[], None], /) -> Timer:
        """Call back after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, ring)


LOOP_TIMERS: Final = LoopTimers()


@asynccontextmanager
async def timeout(timers: Timers, seconds: float) -> AsyncGenerator[None]:
    """`asyncio.timeout`, by these timers."""
    async with asyncio.timeout(None) as scope:
        timer = timers.call_later(seconds, partial(scope.reschedule, 0.0))
        try:
            yield
        finally:
            timer.cancel()


async def pause(timers: Timers, seconds: float) -> None:
    """`asyncio.sleep`, by these timers."""
    over = asyncio.Event()
    timer = timers.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()
