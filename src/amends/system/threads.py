"""Threads for work that blocks, which don't keep the process from ending.

`concurrent.futures` waits for its threads when the interpreter exits. A step that blocks for an hour would hold up a
process for that long that was asked to end, while its answer is not waited for any more.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, TypeVar

R = TypeVar("R")


class Threads(Generic[R]):
    """Up to `at_once` daemon threads, begun when they are needed. All methods are for one thread, the loop's."""

    def __init__(self, at_once: int, name: str) -> None:
        self._at_once = at_once
        self._name = name
        self._jobs: SimpleQueue[tuple[Future[R], Callable[[], R]] | None] = SimpleQueue()
        self._idle = Semaphore(0)
        self._begun = 0

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Have it done on one of the threads; until one begins with it, it can be cancelled.

        Raises what the system says where it gives no more threads and none has begun with the work by then.
        """
        job: Future[R] = Future()
        self._jobs.put((job, work))
        if not self._idle.acquire(blocking=False) and self._begun < self._at_once:
            try:
                Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()
            except (RuntimeError, MemoryError):
                if job.cancel():  # else a thread that got free has begun with it
                    raise
            else:
                self._begun += 1
        return job

    def close(self) -> None:
        """Cancel what no thread has begun with. The threads end with what they do; they are not waited for."""
        with suppress(Empty):
            while True:
                waiting = self._jobs.get_nowait()
                if waiting is not None:
                    waiting[0].cancel()
        for _ in range(self._begun):
            self._jobs.put(None)

    def _work(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, work = given
            settle = _do(job, work) if job.set_running_or_notify_cancel() else None
            # Before the answer: a caller that then submits more finds this thread.
            self._idle.release()
            if settle is not None:
                settle()
            del given, job, work, settle


def _do(job: Future[R], work: Callable[[], R]) -> Callable[[], None]:
    try:
        return partial(job.set_result, work())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for the caller that waits for the job
        return partial(job.set_exception, error)
