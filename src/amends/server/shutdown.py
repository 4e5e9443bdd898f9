"""The end of a serving process must not depend on the code of steps.

A thread can't be stopped, a coroutine may swallow its cancellation, and one that blocks holds up the event loop itself.
So the process is ended from outside of all of them, by a thread that waits, where it doesn't end by itself in time. By
then the log is closed and the runs are handed over; where even that wasn't possible, it is a crash to the log, which
bears one at any moment.
"""

import logging
import os
import sys
from collections.abc import Callable
from threading import Thread
from time import sleep
from typing import Final

AFTER_SECONDS: Final = 1.0
"""How long the process may take to end once the log is closed."""

BEYOND_SECONDS: Final = 10.0
"""How long beside the grace of its calls the process may take, from being told to stop, before it is ended in any case.
Answers on their way have 5 s of these, webhooks 2 s. A supervisor waits for longer.
"""

_LOGGER: Final = logging.getLogger("amends.server")


class Ending:
    """`at_work` gives the calls that are at work; `leave` ends the process."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self._leave = leave
        self.at_work: Callable[[], list[str]] = list
        self.failed = False

    def within(self, seconds: float) -> None:
        """End the process after this time, if it hasn't ended by then."""
        Thread(target=self._wait, args=(seconds,), name="amends-ending", daemon=True).start()

    def crash(self, code: object) -> None:
        """End the process at once. A task that code of a step began raised `SystemExit` in the event loop. To hand the
        runs over in good order would hide which of them its owners die of.
        """
        _LOGGER.error("a task that code of a step began raised SystemExit (%s): the process ends as in a crash", code)
        self._end(code if isinstance(code, int) else 1)

    def _wait(self, seconds: float) -> None:
        sleep(seconds)
        work = ", ".join(self.at_work()) or "code of a step, or of a library"
        _LOGGER.error("the process is ended while this is still at work: %s", work)
        self._end(int(self.failed))

    def _end(self, code: int) -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        self._leave(code)
