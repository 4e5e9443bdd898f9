"""Forgetting: the histories of runs that ended long ago go, where the settings say how long they are kept.

A little at a time, so that other statements don't wait for long. What keeps an id from being used twice stays, and a
run that hasn't ended is never forgotten, however old it is.
"""

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from amends.config.values import Seconds
from amends.core.words.errors import LogBroken, LogUnavailable
from amends.core.words.retry import MICROSECONDS
from amends.ports.clock import SystemClock, TimeSource
from amends.ports.log import Find, TransactionLog

SLICE: Final = 200
"""Runs forgotten in one go."""

COUNTED_MAX: Final = 10_000
"""Runs that are looked at to say at the start how many are deleted; a start must not take minutes."""

PAGE: Final = 1_000

LOOK_SECONDS: Final = 60.0
"""How often it is looked for more."""

_LOGGER = logging.getLogger("amends.server")


class Keeping:
    """Forgets runs of one log, while it is entered, that ended in a state longer ago than `keep` says for it (in
    seconds); what ended in another state is kept.
    """

    def __init__(self, log: TransactionLog, keep: Mapping[str, float], clock: TimeSource | None = None) -> None:
        self._log = log
        self._keep = {state: round(seconds * MICROSECONDS) for state, seconds in keep.items()}
        self._clock = clock or SystemClock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._keep:
            await self._tell()
            self._task = asyncio.create_task(self._run(), name="amends-keeping")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self) -> None:
        """Say what is deleted, before the first of it is."""
        kept = ", ".join(f"{state} {Seconds(micros / MICROSECONDS)}" for state, micros in self._keep.items())
        try:
            due, all_counted = await self._due()
        except LogUnavailable as error:
            _LOGGER.warning("ended runs are purged after: %s; those due now can't be counted: %s", kept, error)
            return
        _LOGGER.warning(
            "ended runs are purged after: %s; %d runs are due now%s",
            kept,
            due,
            "" if all_counted else f" among the newest {COUNTED_MAX}",
        )

    async def _due(self) -> tuple[int, bool]:
        now, due, counted, after = self._clock.now(), 0, 0, None
        while counted < COUNTED_MAX:
            page = await self._log.find(Find(states=tuple(self._keep), limit=PAGE, after=after))
            for row in page:
                keep = self._keep.get(row.state)
                if keep is not None and row.ended_at is not None and row.ended_at < now - keep and row.steps != b"[]":
                    due += 1
            counted += len(page)
            if len(page) < PAGE:
                return due, True
            after = page[-1].created_at, page[-1].run
        return due, False

    async def _run(self) -> None:
        while True:
            more = False
            try:
                for state, keep in self._keep.items():
                    more |= await self._log.purge(self._clock.now() - keep, SLICE, state) == SLICE
            except LogBroken:
                return  # the writer reports it
            except LogUnavailable as error:
                _LOGGER.warning("what ended long ago can't be forgotten now: %s", error)
            except Exception:  # a bug here must not end the retention for good, without a word
                _LOGGER.exception("what ended long ago can't be forgotten now")
                more = False
            await asyncio.sleep(0 if more else LOOK_SECONDS)
