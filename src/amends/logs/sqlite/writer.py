"""Writing the log: what the one writing connection does, each call one transaction, one thread at a time.

An append is a conditional update of the run's row; one that finds nothing to update is refused, and the row then says
why.

When the disk is full, or another process holds the file, the transaction is rolled back and the log goes on. After any
other failure of the file it isn't known what is on the disk, and a second try might be told that all is well, because
the system forgets the pages it couldn't write: so nothing is written any more until the log is opened anew.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from time import monotonic, perf_counter, time_ns
from typing import TypeVar

from amends.core.words.errors import LogBroken, LogUnavailable
from amends.engine.repeated_warning import Complaint
from amends.logs.sqlite.opening import BUSY_SECONDS, open_for_writing
from amends.logs.sqlite.reader import Reader, as_json, code_of, keys_as_json, kind_of
from amends.logs.sqlite.statements import SQL, chunks, repeated
from amends.ports.log import Append, RunRow, SagaKey, Start, StoredRun, Written

R = TypeVar("R")

_LOGGER = logging.getLogger("amends.logs.sqlite")

TAG = SQL["tag"]
START = repeated(
    SQL["start"],
    "/* starts */",
    "(?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
APPEND_ALL_OWNED = repeated(SQL["append_all_owned"], "/* entries */", f"({', '.join('?' * 14)})")
ADD_EVENTS = repeated(SQL["add_events"], "/* events */", f"({', '.join('?' * 7)})")
TOGETHER = sqlite3.sqlite_version_info >= (3, 33)
"""From there on SQLite knows `UPDATE ... FROM`."""

EventValues = tuple[str, int, str, str, int, bytearray, int]
APPEND_OWNED, APPEND_VISITED = SQL["append_owned"], SQL["append_visited"]

PASSING = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
}
"""Errors after which the file is as it was before the transaction, for certain. `SQLITE_CANTOPEN`: the process has no
free descriptor for a temporary file.
"""

MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)
"""What SQLite says of values it can't take: not the file's trouble, but its caller's."""


class FileHeld(Exception):
    """Another process holds the file, and nothing was begun."""


class _OneByOne(Exception):
    """An entry of a batch was refused: roll back, and find out which."""


def event_values(entry: Start | Append) -> list[EventValues]:
    """An entry's events as rows."""
    before = 0 if isinstance(entry, Start) else entry.expected
    run, append_id = entry.run, bytearray(entry.append_id)
    return [
        (run, version, event.kind, event.body.decode(), event.epoch, append_id, event.at)
        for version, event in enumerate(entry.events, before + 1)
    ]


def texts(row: RunRow) -> tuple[str, str, str]:
    """What the row says of its steps."""
    return row.current.decode(), row.steps.decode(), row.stuck.decode()


class SqliteWriter:
    """The owner of the file's one writing connection. `commit_seconds`: how long the last commit took."""

    def __init__(self, path: Path, worker: str) -> None:
        self._path = path
        self._worker = worker
        self.connection = open_for_writing(path)
        self._cursor = self.connection.cursor()
        self._reader = Reader(path, self.connection)
        self._complaint = Complaint(_LOGGER, f"{path}: checkpoints are made again", monotonic)
        self.commit_seconds = 0.0
        self.broken: str | None = None
        """Why nothing is written any more."""
        try:
            self.transact(self._begin_work)
        except BaseException:
            self._cursor.close()
            self.connection.close()
            raise

    def _begin_work(self) -> None:
        self.connection.execute(SQL["bury_workers"])
        self.connection.execute(SQL["clock_set_back"], {"now": time_ns() // 1_000})
        self.connection.execute(SQL["forget_workers"])
        self.connection.execute(SQL["begin_work"], (self._worker,))

    def _end_work(self) -> None:
        self.connection.execute(SQL["hand_over"], (self._worker,))
        self.connection.execute(SQL["end_work"], (self._worker,))

    def close(self) -> None:
        """Say goodbye, if the file can still be written."""
        try:
            if self.broken is None:
                self.transact(self._end_work)
        except LogUnavailable:
            pass  # the next opening counts this worker as gone whether it said so or not
        finally:
            self._cursor.close()  # a statement still held would keep the file open, and its write-ahead log unemptied
            self.connection.close()

    # -- appends

    def append(self, batch: Sequence[Start | Append], *, waits: bool = True) -> Sequence[Written]:
        """Write a batch. `waits`: for other processes that hold the file, for a while; else `FileHeld` is raised at
        once.
        """
        assert len({entry.run for entry in batch}) == len(batch), "a run stands in a batch once"
        if len(batch) > 1 and TOGETHER:
            try:
                return self.transact(lambda: self._append_together(batch), waits=waits)
            except _OneByOne:
                pass
        return self.transact(lambda: self._append_one_by_one(batch), waits=waits)

    def checkpoint(self) -> None:
        """Carry what the write-ahead log holds over into the file, as far as readers let it; the rest can wait.

        Where the disk has no room for that, the rest waits for the next checkpoint: every commit is on the disk in the
        write-ahead log, and stays there until a checkpoint has succeeded.
        """
        if self.broken is None:
            try:
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                if kind_of(error) not in PASSING and code_of(error) != sqlite3.SQLITE_IOERR_WRITE:
                    self._break(error)
                    return
                self._complaint.wrong(f"{self._path}: no checkpoint was made, the next is tried later: {error}.")
            else:
                self._complaint.fine()

    def _append_together(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        """The owners' appends as one statement, their events as another; `_OneByOne` if any entry is refused.

        Each statement gives the interpreter's lock up once and takes it back once. One by one that happens for every
        row, and each time this thread and the event loop wait for each other.
        """
        starts: list[Start] = []
        owned: list[Append] = []
        for entry in batch:
            if isinstance(entry, Start):
                starts.append(entry)
            elif entry.epoch is not None:
                owned.append(entry)
            elif not self._append_visited(entry):
                raise _OneByOne
        for begin, size in chunks(len(starts)):
            if self._start(starts[begin : begin + size]) != size:
                raise _OneByOne
        rows = [self._owned_values(entry) for entry in owned]
        for begin, size in chunks(len(rows)):
            values = list(chain.from_iterable(rows[begin : begin + size]))
            values.append(self._worker)
            if self._cursor.execute(APPEND_ALL_OWNED[size], values).rowcount != size:
                raise _OneByOne
        self._add_events(list(chain.from_iterable(map(event_values, batch))))
        return [Written.ACCEPTED] * len(batch)

    def _owned_values(self, entry: Append) -> tuple[object, ...]:
        row = entry.row
        current, steps, stuck = texts(row)
        version = entry.expected + len(entry.events)
        owner = None if entry.release else self._worker
        return (
            entry.run,
            entry.expected,
            entry.epoch,
            version,
            row.state,
            int(row.by_hand),
            owner,
            row.due_at,
            current,
            steps,
            stuck,
            entry.at,
            row.ended_at,
            int(not entry.progress),
        )

    def _append_one_by_one(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts: list[Written] = []
        events: list[EventValues] = []
        for entry in batch:
            assert entry.events
            if self._append_singly(entry):
                verdicts.append(Written.ACCEPTED)
                events.extend(event_values(entry))
            else:
                verdicts.append(self._why_not(entry))
        self._add_events(events)
        return verdicts

    def _append_singly(self, entry: Start | Append) -> bool:
        if isinstance(entry, Start):
            return self._start([entry]) == 1
        return self._append_owned(entry, entry.epoch) if entry.epoch is not None else self._append_visited(entry)

    def _add_events(self, events: Sequence[EventValues]) -> None:
        for begin, size in chunks(len(events)):
            self._cursor.execute(ADD_EVENTS[size], list(chain.from_iterable(events[begin : begin + size])))

    def _start(self, entries: Sequence[Start]) -> int:
        """How many of these were new; the size of a chunk at the most."""
        values = list(chain.from_iterable(map(self._start_values, entries)))
        started = self._cursor.execute(START[len(entries)], values).rowcount
        tags = [(name, value, entry.at, entry.run) for entry in entries for name, value in entry.tags.items()]
        if started == len(entries) and tags:
            self._cursor.executemany(TAG, tags)
        return started

    def _start_values(self, entry: Start) -> tuple[object, ...]:
        row = entry.row
        return (
            *(entry.run, entry.saga, entry.saga_version, entry.digest, row.state, int(row.by_hand), len(entry.events)),
            *(self._worker if entry.owned else None, row.due_at, bytearray(entry.start_print), *texts(row)),
            *(entry.deadline, as_json(dict(entry.tags)) if entry.tags else "{}"),
            *(entry.at, entry.at, row.ended_at),
        )

    def _append_owned(self, entry: Append, epoch: int) -> bool:
        row = entry.row
        version = entry.expected + len(entry.events)
        owner = None if entry.release else self._worker
        updated = self._cursor.execute(
            APPEND_OWNED,
            (
                *(
                    version,
                    row.state,
                    row.by_hand,
                    owner,
                    row.due_at,
                    int(not entry.progress),
                    *texts(row),
                    entry.at,
                    row.ended_at,
                ),
                *(entry.run, entry.expected, self._worker, epoch),
            ),
        )
        return updated.rowcount == 1

    def _append_visited(self, entry: Append) -> bool:
        row = entry.row
        version = entry.expected + len(entry.events)
        due_at = entry.at if row.due_at is None else min(entry.at, row.due_at)
        updated = self._cursor.execute(
            APPEND_VISITED,
            (
                *(version, row.state, row.by_hand, row.ended_at, row.due_at, due_at, due_at, int(not entry.progress)),
                *(*texts(row), entry.at, row.ended_at, entry.run, entry.expected),
            ),
        )
        return updated.rowcount == 1

    def _why_not(self, entry: Start | Append) -> Written:
        if isinstance(entry, Start):
            started_by = self._reader.value(SQL["started_by"], (entry.run,))
            return Written.ACCEPTED if started_by == entry.append_id else Written.EXISTS
        row: tuple[str | None, int, int, bytes | None] | None
        row = self.connection.execute(SQL["refused"], (entry.expected + 1, entry.run)).fetchone()
        if row is None:
            return Written.NO_SUCH_RUN
        owner, epoch, is_kept, append_id = row
        if not is_kept:
            return Written.NO_SUCH_RUN
        if append_id == entry.append_id:
            return Written.ACCEPTED
        ours = entry.epoch is None or (owner, epoch) == (self._worker, entry.epoch)
        return Written.MOVED_ON if ours else Written.NOT_YOURS

    # -- owning

    def claim(self, known: Sequence[SagaKey], now: int, limit: int, suspects: int | None) -> Sequence[StoredRun]:
        return self.transact(lambda: self._claim(known, now, limit, -1 if suspects is None else suspects))

    def _claim(self, known: Sequence[SagaKey], now: int, limit: int, suspects: int) -> Sequence[StoredRun]:
        keys = keys_as_json(known)
        asked = {"known": keys, "now": now, "me": self._worker, "limit": limit, "suspects": suspects}
        ids: list[tuple[str]] = self.connection.execute(SQL["claimable"], asked).fetchall()
        self._cursor.executemany(SQL["claim"], [(self._worker, run) for (run,) in ids])
        return [claimed for (run,) in ids if (claimed := self._reader.whole_run(run)) is not None]

    def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        released = (due_at, run, self._worker, epoch, version)
        return self.transact(lambda: self.connection.execute(SQL["release"], released).rowcount == 1)

    def exonerate(self, run: str, epoch: int) -> None:
        self.transact(lambda: self.connection.execute(SQL["exonerate"], (run, self._worker, epoch)))

    # -- what is kept once

    def define(self, saga: SagaKey, graph: bytes, *, beside: bool) -> bytes | None:
        return self.transact(lambda: self._define(saga, graph, beside=beside))

    def _define(self, saga: SagaKey, graph: bytes, *, beside: bool) -> bytes | None:
        if self._reader.value(SQL["graph"], (saga.name, saga.version, saga.digest)) is not None:
            return None
        other = self._reader.value(SQL["other_graph"], (saga.name, saga.version))
        if other is not None and not beside:
            return other
        self.connection.execute(SQL["keep_graph"], (saga.name, saga.version, saga.digest, graph))
        return None

    def setting(self, name: str, value: bytes) -> bytes:
        return self.transact(lambda: self._setting(name, value))

    def _setting(self, name: str, value: bytes) -> bytes:
        self.connection.execute(SQL["keep_setting"], (name, value))
        kept = self._reader.value(SQL["setting"], (name,))
        assert kept is not None
        return kept

    def purge(self, ended_before: int, limit: int, state: str | None) -> int:
        return self.transact(lambda: self._purge(ended_before, limit, state))

    def _purge(self, ended_before: int, limit: int, state: str | None) -> int:
        wanted = (ended_before, state, state, limit)
        ids: list[tuple[str]] = self.connection.execute(SQL["purgeable"], wanted).fetchall()
        self.connection.executemany(SQL["purge_events"], ids)
        self.connection.executemany(SQL["purge_tags"], [(run, run) for (run,) in ids])
        damaged = self.connection.execute(SQL["damaged_tags"], (as_json([run for (run,) in ids]),)).fetchall()
        self.connection.executemany(SQL["purge_damaged_tags"], damaged)
        self.connection.executemany(SQL["purge_row"], ids)
        return len(ids)

    # -- transactions

    def transact(self, work: Callable[[], R], *, waits: bool = True) -> R:
        """Do it in one transaction, or nothing of it."""
        if self.broken is not None:
            raise LogBroken(self.broken)
        try:
            self._begin(waits=waits)
            result = work()
            began = perf_counter()
            self.connection.execute("COMMIT")
            self.commit_seconds = perf_counter() - began
        except MISTAKES:
            self._roll_back()
            raise
        except sqlite3.Error as error:
            self._roll_back()
            if self.broken is None and kind_of(error) not in PASSING:
                self._break(error)
            raise LogUnavailable(self.broken or passing(self._path, error)) from error
        except BaseException:
            self._roll_back()
            raise
        return result

    def _begin(self, *, waits: bool) -> None:
        try:
            self._cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if kind_of(error) != sqlite3.SQLITE_BUSY:
                raise
            if not waits:
                raise FileHeld from error
            self._cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1_000:.0f}")
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
            finally:
                self._cursor.execute("PRAGMA busy_timeout = 0")

    def _roll_back(self) -> None:
        """Undo what was begun; some failures have done so already."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._break(error)

    def _break(self, error: sqlite3.Error) -> None:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        self.broken = (
            f"{self._path}: {error} ({name}). It isn't known what is on the disk, so nothing is written any more. "
            "Mend the disk and start the process again: what was acknowledged is there."
        )


def passing(path: Path, error: sqlite3.Error) -> str:
    """The message where the log goes on."""
    is_full = kind_of(error) == sqlite3.SQLITE_FULL
    remedy = "Make room on the disk; the log goes on by itself." if is_full else "Try again."
    return f"{path}: {error}. Nothing of this was written. {remedy}"
