"""Writing the log: what the one writing thread does, each call one transaction.

An append is a conditional update of the run's row; one that finds nothing to update is refused, and the row then says
why.

When the disk is full, or somebody else holds the file, the transaction is rolled back and that is that. After any other
failure of the file it isn't known what is on the disk, and asking the system a second time might only hear that all is
well (the pages it couldn't write are forgotten): so nothing is written any more until the log is opened anew.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from amends.core.errors import LogBroken, LogUnavailable
from amends.logs.sqlite.opening import kind_of, open_for_writing
from amends.logs.sqlite.reader import Reader, as_json, keys_as_json
from amends.logs.sqlite.statements import SQL
from amends.ports.log import Append, SagaKey, Start, StoredRun, Written

R = TypeVar("R")

START, TAG, ADD_EVENT = SQL["start"], SQL["tag"], SQL["add_event"]
APPEND_OWNED, APPEND_VISITED = SQL["append_owned"], SQL["append_visited"]

PASSING = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
}
"""Errors after which the file is as it was before the transaction, for certain."""

MISTAKES = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)
"""What SQLite says of values it can't take: not the file's trouble, but its caller's."""


class Writer:
    """The owner of the file's one writing connection; lives on one thread."""

    def __init__(self, path: Path, worker: str) -> None:
        self._path = path
        self._worker = worker
        self.connection = open_for_writing(path)
        self._cursor = self.connection.cursor()
        self._reader = Reader(path, self.connection)
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
        self.connection.execute(SQL["forget_workers"])
        self.connection.execute(SQL["begin_work"], (self._worker,))

    def close(self) -> None:
        """Say goodbye, if the file can still be written."""
        try:
            if self.broken is None:
                self.transact(lambda: self.connection.execute(SQL["end_work"], (self._worker,)))
        except LogUnavailable:
            pass  # the next opening counts this worker as gone whether it said so or not
        finally:
            self._cursor.close()  # a statement still held would keep the file open, and its write-ahead log unemptied
            self.connection.close()

    # -- appends

    def append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        assert len({entry.run for entry in batch}) == len(batch), "a run stands in a batch once"
        return self.transact(lambda: self._append(batch))

    def _append(self, batch: Sequence[Start | Append]) -> Sequence[Written]:
        verdicts: list[Written] = []
        events: list[tuple[str, int, str, bytes, int, bytes, int]] = []
        for entry in batch:
            assert entry.events
            if isinstance(entry, Start):
                version, accepted = 0, self._start(entry)
            else:
                version = entry.expected
                accepted = (
                    self._append_owned(entry, entry.epoch) if entry.epoch is not None else self._append_visited(entry)
                )
            if not accepted:
                verdicts.append(self._why_not(entry))
                continue
            verdicts.append(Written.ACCEPTED)
            for event in entry.events:
                version += 1
                events.append((entry.run, version, event.kind, event.body, event.epoch, entry.append_id, event.at))
        self._cursor.executemany(ADD_EVENT, events)
        return verdicts

    def _start(self, entry: Start) -> bool:
        row = entry.row
        started = self._cursor.execute(
            START,
            (
                *(entry.run, entry.saga, entry.saga_version, entry.digest, row.state, row.by_hand, len(entry.events)),
                *(self._worker if entry.owned else None, row.due_at, entry.start_print),
                *(row.current, row.steps, row.stuck, entry.deadline, as_json(dict(entry.tags)) if entry.tags else "{}"),
                *(entry.at, entry.at, row.ended_at),
            ),
        ).rowcount
        if started and entry.tags:
            self._cursor.executemany(TAG, [(name, value, entry.at, entry.run) for name, value in entry.tags.items()])
        return started == 1

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
                    row.current,
                    row.steps,
                    row.stuck,
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
                *(version, row.state, row.by_hand, row.ended_at, row.due_at, due_at, due_at),
                *(row.current, row.steps, row.stuck, entry.at, row.ended_at, entry.run, entry.expected),
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

    def claim(self, known: Sequence[SagaKey], now: int, limit: int) -> Sequence[StoredRun]:
        return self.transact(lambda: self._claim(known, now, limit))

    def _claim(self, known: Sequence[SagaKey], now: int, limit: int) -> Sequence[StoredRun]:
        keys = keys_as_json(known)
        asked = {"known": keys, "now": now, "me": self._worker, "limit": limit}
        ids: list[tuple[str]] = self.connection.execute(SQL["claimable"], asked).fetchall()
        self._cursor.executemany(SQL["claim"], [(self._worker, run) for (run,) in ids])
        return [claimed for (run,) in ids if (claimed := self._reader.whole_run(run)) is not None]

    def release(self, run: str, epoch: int, version: int, due_at: int | None) -> bool:
        released = (due_at, run, self._worker, epoch, version)
        return self.transact(lambda: self.connection.execute(SQL["release"], released).rowcount == 1)

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

    def purge(self, ended_before: int, limit: int) -> int:
        return self.transact(lambda: self._purge(ended_before, limit))

    def _purge(self, ended_before: int, limit: int) -> int:
        ids: list[tuple[str]] = self.connection.execute(SQL["purgeable"], (ended_before, limit)).fetchall()
        self.connection.executemany(SQL["purge_events"], ids)
        self.connection.executemany(SQL["purge_tags"], [(run, run) for (run,) in ids])
        self.connection.executemany(SQL["purge_row"], ids)
        return len(ids)

    # -- transactions

    def transact(self, work: Callable[[], R]) -> R:
        """Do it in one transaction, or nothing of it."""
        if self.broken is not None:
            raise LogBroken(self.broken)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = work()
            self.connection.execute("COMMIT")
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
