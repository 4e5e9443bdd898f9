"""Exceptions outside `Exception` that the code of authors raises: which are the process's, and which are only theirs.

`SystemExit` from a library, `GeneratorExit`, a `KeyboardInterrupt` raised on a worker thread, or the `CancelledError`
of something that the code awaited: to the run they are failures like any other exception. Left to pass, they would end
tasks, threads and loops that aren't the author's. A real Ctrl-C, and the cancellation of the task itself, must pass.
"""

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

from amends.core.words.error_texts import told


class Interrupted(Exception):
    """The author's code raised what isn't an `Exception`; `__cause__` has it. A failure like any other."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(told(error))


def is_key_press(error: BaseException) -> bool:
    """Whether Python raised this because Ctrl-C was pressed. Where another handler takes the signal, as in
    `asyncio.run`, some code raised it.
    """
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def ends_the_caller(error: BaseException) -> bool:
    """Whether this must pass: a Ctrl-C that Python turned into an exception here, or this task's own cancellation."""
    if isinstance(error, KeyboardInterrupt):
        return is_key_press(error)
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs on this thread: nothing can have been cancelled
            return False
        return task is not None and task.cancelling() > 0
    return False


@contextmanager
def contained_work() -> Generator[None]:
    """Run an author's code: what isn't an `Exception` and isn't for the caller leaves as `Interrupted`."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if ends_the_caller(error):
            raise
        raise Interrupted(error) from error


@contextmanager
def contained() -> Generator[None]:
    """The same around code of ours that awaits. `GeneratorExit` passes: the coroutine is being closed, and a coroutine
    that goes on then would act in a process that takes itself for ended.
    """
    try:
        with contained_work():
            yield
    except Interrupted as error:
        if isinstance(error.__cause__, GeneratorExit):
            raise error.__cause__ from None
        raise
