"""Which logs a world may stand on. A kind of log is opened anew for every process of a world, on what outlives it.

Another log joins by another `Logs`: where many processes may write at once, `alone` is false, and a process that
stands still for long has its runs taken over while it lives.
"""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

from amends.core.errors import AmendsError, LogBroken, LogUnavailable
from amends.logs.memory import MemoryLog, MemoryStore
from amends.logs.sqlite.log import SqliteLog
from amends.logs.sqlite.writer import Writer
from amends.ports.log import TransactionLog
from amends.testing.simulation.weather import Fault

R = TypeVar("R")

MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
"""For files that needn't outlive the machine: nobody here loses its power, so a real disk would only be slower."""

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

    def fail(self, log: TransactionLog, work: Work[R], fault: Fault, *, late: bool) -> R:
        """Do this, and have it fail this way. `late`: what was written is there all the same."""
        ...

    def leave(self, log: TransactionLog) -> None:
        """The process that had this log is gone without a word."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class MemoryLogs:
    """Logs in memory: the reference, and quick. What a disk would do is done to it by those who call."""

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

    def fail(self, log: TransactionLog, work: Work[R], fault: Fault, *, late: bool) -> R:
        """As a log that is durable would say it."""
        if late:
            self.do(work)
        if fault is Fault.IO_ERROR:
            raise LogBroken("the simulated disk failed, and nobody knows what is on it")
        raise LogUnavailable(f"the simulated disk: {fault.value}")

    def leave(self, log: TransactionLog) -> None:
        """What the next one finds is in the store."""

    def close(self) -> None:
        """Nothing to let go of."""


class SqliteLogs:
    """Logs in a SQLite file, with their threads, locks and transactions: only the disk is made to fail.

    A failing disk is a connection whose COMMIT fails as SQLite says it: before anything is written (full), or after an
    unknown part of it (an I/O error).
    """

    alone = True

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None and MEMORY_DISK.is_dir() and os.access(MEMORY_DISK, os.W_OK):
            folder = MEMORY_DISK
        self._folder = Path(tempfile.mkdtemp(prefix="amends-simulate-", dir=folder))
        self._loop = asyncio.new_event_loop()
        self._worlds = 0

    def begin(self) -> None:
        """A new file; the last one goes."""
        for old in self._folder.iterdir():
            old.unlink()
        self._worlds += 1

    def open(self) -> TransactionLog:
        """The log in the file of this world."""
        return SqliteLog(self._folder / f"{self._worlds}.db")

    def do(self, work: Work[R]) -> R:
        """Wait until the log's threads have done it."""
        return self._loop.run_until_complete(work())

    def fail(self, log: TransactionLog, work: Work[R], fault: Fault, *, late: bool) -> R:
        """Have this transaction's COMMIT fail."""
        assert isinstance(log, SqliteLog)
        code = sqlite3.SQLITE_FULL if fault is Fault.FULL_DISK else sqlite3.SQLITE_IOERR_FSYNC

        def arm(writer: Writer) -> None:
            writer.connection = cast("Any", _Failing(writer, code, late=late))

        self.do(lambda: log.write(arm))
        try:
            return self.do(work)
        finally:
            self.do(lambda: log.write(_disarm))

    def leave(self, log: TransactionLog) -> None:
        """The kernel closes the file and lets go of the lock; nobody says goodbye in the log."""
        assert isinstance(log, SqliteLog)

        def gag(writer: Writer) -> None:
            _disarm(writer)
            writer.broken = "this process was killed"

        try:
            self.do(lambda: log.write(gag))
        except LogUnavailable:
            return  # it was closed, or never opened
        self.do(log.close)

    def close(self) -> None:
        """The files go."""
        self._loop.close()
        shutil.rmtree(self._folder)


class _Failing:
    """A connection whose next COMMIT fails."""

    def __init__(self, writer: Writer, code: int, *, late: bool) -> None:
        self.real = writer.connection
        self._code = code
        self._late = late

    def execute(self, sql: str, *values: Any) -> object:  # noqa: ANN401 - what `sqlite3` takes
        if sql != "COMMIT":
            return self.real.execute(sql, *values)
        if self._late:
            self.real.execute(sql)
        error = sqlite3.OperationalError(
            "database or disk is full" if self._code == sqlite3.SQLITE_FULL else "disk I/O error"
        )
        error.sqlite_errorcode = self._code
        error.sqlite_errorname = "SQLITE_FULL" if self._code == sqlite3.SQLITE_FULL else "SQLITE_IOERR_FSYNC"
        raise error

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def _disarm(writer: Writer) -> None:
    failing: object = writer.connection
    if isinstance(failing, _Failing):
        writer.connection = failing.real


KINDS: Final[dict[str, Callable[[], Logs]]] = {"memory": MemoryLogs, "sqlite": SqliteLogs}


def logs_by_name(name: str) -> Logs:
    """The logs that are called so: `memory` or `sqlite`."""
    made = KINDS.get(name.removesuffix(":"))
    if made is None:
        msg = f"a simulation on {name!r}: known are {', '.join(KINDS)}."
        raise AmendsError(msg)
    return made()
