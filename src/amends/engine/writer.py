"""Group commit: everything that waited while the last commit was in flight goes into the next one.

One batch is in flight at a time. Whoever put an entry in is called back once its verdict is durable; nothing of a run leaves before.
While the log can't be written, appends wait and are sent again as they are (same `append_id`, so an unclear commit is settled by the
log itself), and starts are given back: nobody was told yet that they happened.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from amends.core.errors import LogBroken, LogUnavailable
from amends.ports.log import Append, Start, TransactionLog, Written

BATCH_MAX: Final = 1_000
BACKOFF_FIRST_SECONDS: Final = 0.05
BACKOFF_CAP_SECONDS: Final = 5.0

Done = Callable[[Written | LogUnavailable], None]

_LOGGER = logging.getLogger("amends.engine")


class Writer:
    """Gathers appends for one log; `broken` is told when it can't be written any more by this process."""

    def __init__(self, log: TransactionLog, broken: Callable[[LogBroken], None]) -> None:
        self._log = log
        self._broken = broken
        self._waiting: list[tuple[Start | Append, Done]] = []
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """Entries that aren't in flight yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="amends-writer")

    async def close(self) -> None:
        """Write what waits, then stop. What can't be written now is dropped: nobody was told that it is durable."""
        self._closing = True
        self._wake()
        if self._task is not None:
            await self._task

    def put(self, entry: Start | Append, done: Done) -> None:
        """Write this with the next batch, and call `done` with the verdict."""
        self._waiting.append((entry, done))
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _run(self) -> None:
        pause = BACKOFF_FIRST_SECONDS
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
                self._idle = None
                continue
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            try:
                verdicts = await self._log.append([entry for entry, _ in batch])
            except LogUnavailable as error:
                final = self._closing or isinstance(error, LogBroken)
                self._give_back(batch, error, final=final)
                if isinstance(error, LogBroken) and not self._closing:
                    self._broken(error)
                if final:
                    return
                _LOGGER.warning("the log can't be written, %d appends wait: %s", len(self._waiting), error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, BACKOFF_CAP_SECONDS)
                continue
            pause = BACKOFF_FIRST_SECONDS
            for (_, done), verdict in zip(batch, verdicts, strict=True):
                done(verdict)

    def _give_back(self, batch: list[tuple[Start | Append, Done]], error: LogUnavailable, *, final: bool) -> None:
        again: list[tuple[Start | Append, Done]] = []
        if final:
            batch, self._waiting = batch + self._waiting, []
        for entry, done in batch:
            if isinstance(entry, Start) or final:
                done(error)
            else:
                again.append((entry, done))
        self._waiting = again + self._waiting
