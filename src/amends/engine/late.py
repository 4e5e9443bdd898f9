"""Answers that come back to a process that has lost their run: offered to the log as a visitor's.

The worker that has the run now sends the same keys, and hears from a barrier what it said before. What was sent once
and can't be sent again is heard by no other worker: without its answer an operator would have to find out. Only what is
definite is offered, a yes or a no; that an answer didn't come says nothing, for the owner waits for its own. What the
core makes of it is the core's: most often nothing, since the owner knows by then.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from amends.core.run.answers import SaidNo, Succeeded
from amends.core.run.commands import Reply
from amends.core.words.errors import AmendsError, LogBroken, LogUnavailable, Overloaded
from amends.ports.clock import Timers, pause
from amends.system.interrupts import contained

AGAIN_SECONDS: Final = 1.0
"""How long is waited before an answer is offered again, while the log can't be asked or the run keeps changing."""

_LOGGER = logging.getLogger("amends.engine")

Offer = Callable[[str, Reply], Awaitable[None]]


class LateAnswers:
    """Offers one after the other: the owner's own appends come first."""

    def __init__(self, offer: Offer, timers: Timers) -> None:
        self._offer = offer
        self._timers = timers
        self._waiting: deque[tuple[str, Reply]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, run: str, reply: Reply) -> None:
        """An answer to a call of a run that isn't ours (any more)."""
        if self._closed or not isinstance(reply.outcome, Succeeded | SaidNo):
            return
        self._waiting.append((run, reply))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="amends-late-answers")

    async def close(self) -> None:
        """Offer no more. What waits is lost, as in a crash."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            run, reply = self._waiting[0]
            try:
                with contained():
                    await self._offer(run, reply)
            except LogBroken:
                return
            except (LogUnavailable, Overloaded) as error:
                _LOGGER.info("%s: a late answer waits: %s", run, error)
                await pause(self._timers, AGAIN_SECONDS)
                continue
            except AmendsError as error:
                _LOGGER.warning("%s: a late answer can't be offered: %s", run, error)
            except Exception:  # a bug here must cost one answer, not all that wait
                _LOGGER.exception("%s: a late answer can't be offered", run)
            self._waiting.popleft()
