"""Forgetting: the histories of runs that ended long ago go, where the settings say how long they are kept.

A little at a time, so that nobody else waits for long. What keeps an id from being used twice stays, and a run that
hasn't ended is never forgotten, however old it is.
"""

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from amends.core.errors import LogBroken, LogUnavailable
from amends.core.retry import MICROSECONDS
from amends.ports.clock import Clock, SystemClock
from amends.ports.log import TransactionLog

SLICE: Final = 200
"""Runs forgotten in one go."""

LOOK_SECONDS: Final = 60.0
"""How often it is looked for more."""

_LOGGER = logging.getLogger("amends.server")


class Keeping:
    """Forgets runs of one log, while it is entered, that ended in a state longer ago than `keep` says for it (in
    seconds); what ended in another state is kept.
    """

    def __init__(self, log: TransactionLog, keep: Mapping[str, float], clock: Clock | None = None) -> None:
        self._log = log
        self._keep = {state: round(seconds * MICROSECONDS) for state, seconds in keep.items()}
        self._clock = clock or SystemClock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._keep:
            self._task = asyncio.create_task(self._run(), name="amends-keeping")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            more = False
            try:
                for state, keep in self._keep.items():
                    more |= await self._log.purge(self._clock.now() - keep, SLICE, state) == SLICE
            except LogBroken:
                return  # whoever writes says so
            except LogUnavailable as error:
                _LOGGER.warning("what ended long ago can't be forgotten now: %s", error)
            await asyncio.sleep(0 if more else LOOK_SECONDS)
