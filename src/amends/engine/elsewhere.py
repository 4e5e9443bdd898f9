"""Poll the log for runs that other processes drive, for callers that wait here.

There is no notification: one query reads all their rows, as long as a caller waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from amends.core.words.errors import LogUnavailable
from amends.ports.clock import Timers, pause
from amends.ports.log import LogReader
from amends.system.interrupts import contained

LOOK_SECONDS: Final = 0.25
"""How often is looked: what a caller at another process waits beyond the end of his run."""

GOES_ON: Final = frozenset({"running", "compensating"})

_LOGGER = logging.getLogger("amends.engine")


class Elsewhere:
    """Looks at the runs that `watched` names, and tells of each that is settled."""

    def __init__(
        self,
        log: LogReader,
        watched: Callable[[], Sequence[str]],
        settled: Callable[[str], Awaitable[None]],
        timers: Timers,
    ) -> None:
        self._log = log
        self._watched = watched
        self._settled = settled
        self._timers = timers
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="amends-elsewhere")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await pause(self._timers, LOOK_SECONDS)
            runs = self._watched()
            if not runs:
                continue
            try:
                with contained():
                    for run, (_, state) in (await self._log.standing(runs)).items():
                        if state not in GOES_ON:
                            await self._settled(run)
            except LogUnavailable as error:
                _LOGGER.info("runs of other processes can't be looked at: %s", error)
            except Exception:  # a bug here must not leave all callers waiting
                _LOGGER.exception("runs of other processes can't be looked at")
