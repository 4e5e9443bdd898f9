"""Worlds on SQLite: the real log with its files, threads and locks."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from amends.core.words.errors import LogUnavailable
from amends.logs.sqlite.log import SqliteLog
from amends.logs.sqlite.writer import SqliteWriter
from amends.ports.log import TransactionLog
from amends.testing.simulation.logs import Work
from amends.testing.simulation.weather import WeatherFault

R = TypeVar("R")

MEMORY_DISK: Final = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
"""For files that needn't outlive the machine: no machine loses its power here, so a real disk would only be slower."""


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

    def fail(self, log: TransactionLog, work: Work[R], fault: WeatherFault, *, late: bool) -> R:
        """Have this transaction's COMMIT fail."""
        assert isinstance(log, SqliteLog)
        code = sqlite3.SQLITE_FULL if fault is WeatherFault.FULL_DISK else sqlite3.SQLITE_IOERR_FSYNC

        def arm(writer: SqliteWriter) -> None:
            writer.connection = cast("Any", _Failing(writer, code, late=late))

        self.do(lambda: log.write(arm))
        try:
            self.do(work)
        finally:
            self.do(lambda: log.write(_disarm))
        msg = f"the disk was to fail ({fault.value}), and a transaction went through: this fault didn't fire"
        raise AssertionError(msg)

    def leave(self, log: TransactionLog) -> None:
        """The kernel closes the file and lets go of the lock; no goodbye is said in the log."""
        assert isinstance(log, SqliteLog)

        def gag(writer: SqliteWriter) -> None:
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

    def __init__(self, writer: SqliteWriter, code: int, *, late: bool) -> None:
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


def _disarm(writer: SqliteWriter) -> None:
    failing: object = writer.connection
    if isinstance(failing, _Failing):
        writer.connection = failing.real
