"""A thread that owns a connection, and the one hop to it and back.

Work is handed over through a queue and done in order; its end wakes the caller's loop once. A caller that is cancelled
stops waiting, but what it handed over is done all the same: a commit can't be called back.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

R = TypeVar("R")


class SqliteThread:
    """The thread runs from the beginning, as a daemon: a log that wasn't closed doesn't keep a process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._given = 0  # counted by the callers' thread alone, as `_done` is by the lane's own
        self._done = 0
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Nothing is done on the thread or waits for it: what it owns may be used elsewhere until the next call."""
        return self._given == self._done

    async def call(self, work: Callable[[], R]) -> R:
        """Have it done on the lane's thread; gives or raises what it gave or raised."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._given += 1
        self._jobs.put(partial(self._perform, work, loop, answer))
        return await answer

    def stop(self) -> None:
        """End the thread after what was handed over."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _perform(self, work: Callable[[], R], loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[R]") -> None:
        """Do it and take the answer home."""
        settle: Callable[[], None]
        try:
            settle = partial(answer.set_result, work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            settle = partial(answer.set_exception, error)
        self._done += 1
        try:
            loop.call_soon_threadsafe(unless_done, answer, settle)
        except RuntimeError:
            assert loop.is_closed()  # no caller is waiting any more


def unless_done(answer: "asyncio.Future[R]", settle: Callable[[], None]) -> None:
    """A cancelled caller has gone."""
    if not answer.done():
        settle()
