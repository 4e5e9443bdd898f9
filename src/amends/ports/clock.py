"""Time as the engine sees it. Passed in, so that tests own it."""

import time
from typing import Protocol


class Clock(Protocol):
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

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()
