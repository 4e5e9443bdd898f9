"""Time-outs for calls that nearly all end in time.

`asyncio.timeout` sets a timer of the loop for each and takes it back: more than a tenth of what a call costs. Here the
calls with the same time-out stand in a queue, in the order in which they run out, and one timer looks at its head.
"""

import asyncio
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Limit:
    """One call's. `expired`: its task was cancelled because the time was over."""

    task: "asyncio.Task[object]"
    until: float
    cancelling: int
    expired: bool = False

    def is_why(self) -> bool:
        """Asked in a task that got a `CancelledError`: whether that was the time-out, and no other wish."""
        return self.expired and self.task.uncancel() <= self.cancelling


class CallTimeouts:
    """The calls of one event loop that may take so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Limit:
        """The current task's time begins."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "a time-out needs a task that it can cancel"
        limit = Limit(task, self._loop.time() + self._seconds, task.cancelling())
        self._waiting[limit] = None
        if self._timer is None:
            self._timer = self._loop.call_at(limit.until, self._ring)
        return limit

    def end(self, limit: Limit) -> None:
        """It was in time, or is over anyhow."""
        self._waiting.pop(limit, None)

    def close(self) -> None:
        """No call comes any more. Calls that still wait keep the limit."""
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for limit in list(self._waiting):
            if limit.until > now:
                self._timer = self._loop.call_at(limit.until, self._ring)
                return
            del self._waiting[limit]
            limit.expired = True
            limit.task.cancel()
