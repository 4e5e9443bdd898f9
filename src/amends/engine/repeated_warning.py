"""Saying that something doesn't work, so that people can read it: when it begins, now and then while it lasts, and when
it is over. What is tried again every second isn't told every second.
"""

import logging
from collections.abc import Callable
from typing import Final

AGAIN_SECONDS: Final = 30.0
"""How often it is said that the same thing still doesn't work."""


class Complaint:
    """About one thing that is tried again and again. `seconds` is a clock that never goes back."""

    def __init__(self, logger: logging.Logger, over: str, seconds: Callable[[], float]) -> None:
        """`over` is what is said when it works again."""
        self._logger = logger
        self._over = over
        self._seconds = seconds
        self._since: float | None = None
        self._said_at = 0.0
        self._said: str | None = None

    def wrong(self, reason: str) -> None:
        """It didn't work, once more. Another reason than the last is said at once."""
        now = self._seconds()
        if self._since is None:
            self._since = now
        elif reason == self._said and now - self._said_at < AGAIN_SECONDS:
            return
        lasts = now - self._since
        self._said, self._said_at = reason, now
        self._logger.warning("%s%s", reason, f" (for {lasts:.0f} s now)" if lasts >= AGAIN_SECONDS else "")

    def fine(self) -> None:
        """It worked."""
        if self._since is None:
            return
        self._logger.warning("%s, after %.1f s", self._over, self._seconds() - self._since)
        self._since = self._said = None
