"""Which logs a world may stand on. A kind of log is opened anew for every process of a world, on what outlives it.

Another log joins by another `Logs`: where many processes may write at once, `alone` is false, and a process that
stands still for long has its runs taken over while it lives.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from amends.core.words.errors import LogBroken, LogUnavailable
from amends.logs.memory import MemoryLog, MemoryStore
from amends.ports.log import TransactionLog
from amends.testing.simulation.weather import WeatherFault

R = TypeVar("R")

Work = Callable[[], Coroutine[Any, Any, R]]


class Logs(Protocol):
    """The logs of one world after the other. `alone`: a second process is kept out while a first one lives."""

    alone: bool

    def begin(self) -> None:
        """A new world, with nothing in its log."""
        ...

    def open(self) -> TransactionLog:
        """The log as a new process gets it, not opened yet."""
        ...

    def do(self, work: Work[R]) -> R:
        """Do this with a log, now; the world's time stands still meanwhile."""
        ...

    def fail(self, log: TransactionLog, work: Work[R], fault: WeatherFault, *, late: bool) -> R:
        """Do this, and have it fail this way. `late`: what was written is there all the same."""
        ...

    def leave(self, log: TransactionLog) -> None:
        """The process that had this log is gone without a word."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class MemoryLogs:
    """Logs in memory: the reference, and quick. What a disk would do is done to it by the callers."""

    alone = False

    def __init__(self) -> None:
        self._store = MemoryStore()

    def begin(self) -> None:
        """A new world."""
        self._store = MemoryStore()

    def open(self) -> TransactionLog:
        """Another worker on the same store."""
        return MemoryLog(self._store)

    def do(self, work: Work[R]) -> R:
        """The log in memory never waits, so its work is done in one go."""
        try:
            work().send(None)
        except StopIteration as over:
            result: R = over.value
            return result
        msg = "the log in memory waited for something"
        raise AssertionError(msg)

    def fail(self, log: TransactionLog, work: Work[R], fault: WeatherFault, *, late: bool) -> R:
        """As a log that is durable would say it."""
        if late:
            self.do(work)
        if fault is WeatherFault.IO_ERROR:
            raise LogBroken("the simulated disk failed, and nobody knows what is on it")
        raise LogUnavailable(f"the simulated disk: {fault.value}")

    def leave(self, log: TransactionLog) -> None:
        """What the next one finds is in the store."""

    def close(self) -> None:
        """Nothing to let go of."""
