"""The log's own time: what timers and deadlines go by where several processes share a log.

It is asked for at each heartbeat and carried forward in between by a clock of this machine, so that workers whose
clocks differ agree on what is due.
"""

from collections.abc import Callable

from amends.core.retry import MICROSECONDS
from amends.ports.clock import Clock


class LogClock:
    """`ports.clock.Clock`. Until it is first set it is this machine's own."""

    def __init__(self, own: Clock, elapsed: Callable[[], float]) -> None:
        """`elapsed`: seconds since some moment, on a clock that goes on while the machine sleeps."""
        self._own = own
        self._elapsed = elapsed
        self._ahead: int | None = None

    def now(self) -> int:
        """Microseconds since 1970, UTC, as the log has it."""
        if self._ahead is None:
            return self._own.now()
        return self._ahead + int(self._elapsed() * MICROSECONDS)

    def monotonic(self) -> float:
        """Seconds on this machine."""
        return self._own.monotonic()

    def set(self, now: int, elapsed: float) -> None:
        """It was `now` in the log when `elapsed` was what this machine's clock said."""
        self._ahead = now - int(elapsed * MICROSECONDS)
