"""The transaction log in one SQLite file: for one process, durable, without a server.

One connection writes, and a whole batch is one transaction, one fsync. It is used where the batch is handed over, on
the event loop, for as long as the disk is quick, and on a thread of its own else (`pace`). Two threads read, on
connections that can't write, one for lists and one for all else: a long list holds up neither a commit nor a claim.
What an append has acknowledged, a later read sees. A lock beside the file keeps other processes out and is the lease of
the one worker: while it is held, every other worker is gone.
"""

import asyncio
import os
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from amends.core.words.errors import LogBroken, LogUnavailable
from amends.logs.sqlite.lane import SqliteThread
from amends.logs.sqlite.lock import LockFile
from amends.logs.sqlite.opening import connect, open_for_reading
from amends.logs.sqlite.pace import Pace
from amends.logs.sqlite.reader import Reader
from amends.logs.sqlite.writer import FileHeld, SqliteWriter
from amends.ports.log import (
    Append,
    Find,
    LiveRuns,
    LogReader,
    SagaKey,
    Start,
    StoredEvent,
    StoredRun,
    StuckRuns,
    WorkerLease,
    WorkerRow,
    Written,
)

R = TypeVar("R")

CHECKPOINT_ENTRIES: Final = 500
"""Appends between two checkpoints that are asked for: some 600 pages, before SQLite makes one of its own in a commit
(`CHECKPOINT_PAGES`). From the first on, the write-ahead log is written over and no longer grows, and to sync a file
that doesn't grow takes less than half the time (measured: 120 us, 280 us while it grows).
"""


LIST_SECONDS: Final = 5.0
"""After that a list is given up: it keeps other lists waiting, though nothing else."""


class ReadingThread:
    """A `LogReader`: one reading connection on a thread of its own."""

    def __init__(
        self, path: Path, connecting: Callable[[Path], sqlite3.Connection], *, seconds: float | None = None
    ) -> None:
        """`seconds`: after that a question is given up."""
        self._path = path
        self._connecting = connecting
        self._seconds = seconds
        self._lane: SqliteThread | None = None
        self._reader: Reader | None = None

    @property
    def lease(self) -> WorkerLease | None:
        """None: a reader owns nothing."""
        return None

    async def start(self) -> None:
        lane = SqliteThread("amends-log-reader")
        try:
            self._reader = await lane.call(lambda: Reader(self._path, self._connecting(self._path), self._seconds))
        except BaseException:
            lane.stop()
            raise
        self._lane = lane

    async def stop(self) -> None:
        lane, reader = self._lane, self._reader
        self._lane = self._reader = None
        if lane is not None and reader is not None:
            try:
                await lane.call(reader.connection.close)
            finally:
                lane.stop()

    async def call(self, question: Callable[[Reader], R]) -> R:
        if self._lane is None or self._reader is None:
            raise LogUnavailable(f"{self._path} isn't open.")
        return await self._lane.call(partial(question, self._reader))

    async def read(self, run: str) -> StoredRun | None:
        return await self.call(lambda reader: reader.read(run))

    async def read_row(self, run: str) -> StoredRun | None:
        return await self.call(lambda reader: reader.read_row(run))

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        return await self.call(lambda reader: reader.read_events(run, after))

    async def find(self, question: Find) -> Sequence[StoredRun]:
        return await self.call(lambda reader: reader.find(question))

    async def count(self) -> Mapping[str, int]:
        return await self.call(lambda reader: reader.count())

    async def live(self) -> Sequence[LiveRuns]:
        return await self.call(lambda reader: reader.live())

    async def due(self, now: int) -> int:
        return await self.call(lambda reader: reader.due(now))

    async def stuck(self) -> Sequence[StuckRuns]:
        return await self.call(lambda reader: reader.stuck())

    async def late(self, now: int) -> Mapping[str, int]:
        return await self.call(lambda reader: reader.late(now))

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return await self.call(lambda reader: reader.standing(runs))

    async def workers(self) -> Sequence[WorkerRow]:
        return await self.call(lambda reader: reader.workers())

    async def graph(self, saga: SagaKey) -> bytes | None:
        return await self.call(lambda reader: reader.graph(saga))


@asynccontextmanager
async def open_readonly(path: str | Path) -> AsyncGenerator[LogReader]:
    """Look into a log that another process may have open: without its lock, and unable to write."""
    thread = ReadingThread(Path(path), open_for_reading)
    await thread.start()
    try:
        yield thread
    finally:
        await thread.stop()


class SqliteLog:
    """The log in the file at `path`, which is made if it isn't there; its directory must be."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = LockFile(self._path)
        self._has_lock = False
        self._reading = ReadingThread(self._path, partial(connect, mode="ro"))
        self._lists = ReadingThread(self._path, partial(connect, mode="ro"), seconds=LIST_SECONDS)
        self._lane: SqliteThread | None = None
        self._writer: SqliteWriter | None = None
        self._worker = ""
        self._pace = Pace()
        self._uncarried = 0
        self._known: Sequence[SagaKey] = ()

    @property
    def lease(self) -> WorkerLease | None:
        return None

    @property
    def is_elsewhere(self) -> bool:
        return False

    async def open(self) -> None:
        assert self._lane is None, "it is open already"
        lane = SqliteThread("amends-log-writer")
        try:
            await lane.call(self._take)
            await self._reading.start()
            await self._lists.start()
        except BaseException:
            await self._leave(lane)
            raise
        self._lane = lane

    async def close(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            await self._leave(lane)

    async def _leave(self, lane: SqliteThread) -> None:
        try:
            try:
                await self._lists.stop()
            finally:
                await self._reading.stop()
        finally:
            try:
                await lane.call(self._let_go)
            finally:
                lane.stop()

    # Both happen on the writing thread, one after the other, also where the caller that opens or closes is cancelled:
    # the lock is never let go while the file is open.

    def _take(self) -> None:
        check_place(self._path)
        self._lock.take()
        self._has_lock = True
        self._worker = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._writer = SqliteWriter(self._path, self._worker)

    def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
        finally:
            if self._has_lock:
                self._has_lock = False
                self._lock.drop()

    def keep_out(self) -> Callable[[], None]:
        self._lock.keep()
        return self._lock.drop

    async def write(self, work: Callable[[SqliteWriter], R]) -> R:
        """Have it done on the writing thread."""
        if self._lane is None or self._writer is None:
            raise LogUnavailable(f"{self._path} isn't open.")
        return await self._lane.call(partial(work, self._writer))

    async def _read(self, question: Callable[[Reader], R], thread: ReadingThread | None = None) -> R:
        if self._writer is not None and self._writer.broken is not None:
            raise LogBroken(self._writer.broken)
        return await (thread or self._reading).call(question)

    async def define(self, saga: SagaKey, graph: bytes, *, beside: bool = False) -> bytes | None:
        return await self.write(lambda writer: writer.define(saga, graph, beside=beside))

    async def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        self._uncarried += len(batch)
        if self._uncarried >= CHECKPOINT_ENTRIES:
            self._uncarried = 0
            await self.write(SqliteWriter.checkpoint)  # on the thread: it takes the time of a hundred commits
        lane, writer = self._lane, self._writer
        if lane is not None and writer is not None and lane.is_idle and self._pace.is_quick():
            try:
                verdicts = writer.append(batch, waits=False)
            except FileHeld:
                pass
            else:
                self._pace.took(writer.commit_seconds)
                await asyncio.sleep(0)  # a caller that writes on and on lets others have their turn, as with the thread
                return verdicts
        return await self.write(lambda writer: writer.append(batch))

    async def announce(self, known: Sequence[SagaKey]) -> None:
        self._known = tuple(known)

    async def claim(
        self, known: Sequence[SagaKey], now: int, limit: int, *, suspects: int | None = None
    ) -> Sequence[StoredRun]:
        return await self.write(lambda writer: writer.claim(known, now, limit, suspects))

    async def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        return await self.write(lambda writer: writer.release(run, epoch, version, due_at))

    async def exonerate(self, run: str, epoch: int) -> None:
        await self.write(lambda writer: writer.exonerate(run, epoch))

    async def setting(self, name: str, value: bytes) -> bytes:
        return await self.write(lambda writer: writer.setting(name, value))

    async def purge(self, ended_before: int, limit: int, state: str | None = None) -> int:
        return await self.write(lambda writer: writer.purge(ended_before, limit, state))

    async def read(self, run: str) -> StoredRun | None:
        return await self._read(lambda reader: reader.read(run))

    async def read_row(self, run: str) -> StoredRun | None:
        return await self._read(lambda reader: reader.read_row(run))

    async def read_events(self, run: str, after: int) -> Sequence[StoredEvent]:
        return await self._read(lambda reader: reader.read_events(run, after))

    async def nudged(self, now: int) -> Sequence[tuple[str, int]]:
        return await self._read(lambda reader: reader.nudged(self._worker, now))

    async def next_due(self, known: Sequence[SagaKey] | None = None) -> int | None:
        return await self._read(lambda reader: reader.next_due(known))

    async def find(self, question: Find) -> Sequence[StoredRun]:
        return await self._read(lambda reader: reader.find(question), self._lists)

    async def count(self) -> Mapping[str, int]:
        return await self._read(lambda reader: reader.count())

    async def live(self) -> Sequence[LiveRuns]:
        return await self._read(lambda reader: reader.live())

    async def due(self, now: int) -> int:
        return await self._read(lambda reader: reader.due(now))

    async def stuck(self) -> Sequence[StuckRuns]:
        return await self._read(lambda reader: reader.stuck())

    async def late(self, now: int) -> Mapping[str, int]:
        return await self._read(lambda reader: reader.late(now))

    async def standing(self, runs: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        return await self._read(lambda reader: reader.standing(runs))

    async def workers(self) -> Sequence[WorkerRow]:
        rows = await self._read(lambda reader: reader.workers())
        return [replace(each, sagas=self._known) if each.id == self._worker else each for each in rows]

    async def graph(self, saga: SagaKey) -> bytes | None:
        return await self._read(lambda reader: reader.graph(saga))


def check_place(path: Path) -> None:
    """Say plainly what is wrong with the place, before SQLite says that it can't open it."""
    directory = path.resolve().parent
    if path.is_dir():
        raise LogUnavailable(f"{path} is a directory. Name a file in it: sqlite:///{path}/amends.db")
    if not directory.is_dir():
        raise LogUnavailable(f"{path}: there is no directory {directory}. Make it, or name another file.")
    # The lock and the write-ahead log are made beside the file, so a writable file alone isn't enough.
    if not may(directory, os.W_OK | os.X_OK):
        raise LogUnavailable(
            f"{path}: the directory {directory} can't be written by this user. Its owner must allow it."
        )
    if path.exists() and not may(path, os.R_OK | os.W_OK):
        raise LogUnavailable(f"{path} can't be read and written by this user. Its owner must allow it.")


def may(path: Path, what: int) -> bool:
    """Whether the process's user is allowed to."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)
