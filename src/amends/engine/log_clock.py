"""The engine's clock: read once, and carried forward by a clock that can't be set.

A wait is measured in time that passes, so a clock that an operator or a time service sets back must not prolong it. A
process with a log of its own reads the time of day when it opens the log. Workers that share a log follow the log's
time, which they ask for at each heartbeat, so that they agree on what is due although their machines' clocks differ.
"""

import logging
from collections.abc import Callable
from typing import Final

from amends.core.words.retry import MICROSECONDS
from amends.ports.clock import TimeSource

STEP: Final = 5 * MICROSECONDS
"""From here on a difference is a clock that was set, and no longer drift or a slow answer of the log."""

_LOGGER = logging.getLogger("amends.engine")


class LogClock:
    """`ports.clock.Clock`. Until it is first set it is this machine's own."""

    def __init__(self, own: TimeSource, elapsed: Callable[[], float]) -> None:
        """`elapsed`: seconds since some moment, on a clock that goes on while the machine sleeps."""
        self._own = own
        self._elapsed = elapsed
        self._ahead: int | None = None
        self._kept = 0

    def now(self) -> int:
        """Microseconds since 1970, UTC, as the log has it."""
        if self._ahead is None:
            return self._own.now()
        return self._ahead + int(self._elapsed() * MICROSECONDS)

    def monotonic(self) -> float:
        """Seconds on this machine."""
        return self._own.monotonic()

    def begin(self) -> None:
        """Go on from this machine's time of day."""
        self.set(self._own.now(), self._elapsed())

    def set(self, now: int, elapsed: float) -> None:
        """It was `now` in the log when `elapsed` was what this machine's clock said.

        Where the log's time was set back, this clock goes on from where it was, and keeps the difference until the
        log's time is set forward again.
        """
        told = now - int(elapsed * MICROSECONDS)
        if self._ahead is not None:
            step = told + self._kept - self._ahead
            if step < -STEP:
                self._kept -= step
                _LOGGER.warning("the log's clock went back by %.1f s; no wait gets longer", -step / MICROSECONDS)
            elif step > STEP:
                self._kept = max(0, self._kept - step)
        self._ahead = told + self._kept
