"""Where a commit is waited for: on the event loop while the disk is quick, on a thread while it isn't.

A thread has to wait for the interpreter's lock before it begins and again when it is done, up to the switch interval
(5 ms) each time while the loop is busy, and both wake each other's processor. A commit of a third of a millisecond is
dearer handed over than waited for: measured, a run of three steps costs a third less CPU. A disk that takes its time is
another matter: nothing else would go on meanwhile.
"""

import sqlite3
from typing import Final

QUICK_SECONDS: Final = 0.002
"""Commits up to here are waited for on the loop: about what handing one over takes."""

LOOK_AGAIN_EVERY: Final = 64
"""While the disk is slow, one commit in so many is waited for on the loop, to see whether it still is."""

SERIALIZED: Final = 3
"""SQLite lets a connection be used by one thread after the other (`sqlite3.threadsafety`)."""


class Pace:
    """Remembers how long commits on the loop took: an average in which the last ones count most."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._elsewhere = 0

    def is_quick(self) -> bool:
        """Whether to wait for the next commit on the loop."""
        if sqlite3.threadsafety != SERIALIZED:
            return False
        if self._seconds <= QUICK_SECONDS:
            return True
        self._elsewhere = (self._elsewhere + 1) % LOOK_AGAIN_EVERY
        return self._elsewhere == 0

    def took(self, seconds: float) -> None:
        """So long did one take. A single pause of the machine changes little; one quick look at a slow disk ends it."""
        was_quick = self._seconds <= QUICK_SECONDS
        self._seconds = self._seconds + (seconds - self._seconds) / 4 if was_quick else seconds
