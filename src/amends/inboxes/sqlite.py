"""The barrier's rows in a SQLite file, beside the service's own tables. Handlers are given the `sqlite3.Connection`.

One connection does all of it, behind a lock: SQLite has one writer anyway, waiting for a lock is fair and takes no
polling, and a single writing connection keeps clear of the faults of SQLite's write-ahead log under several. Other
processes wait in `BEGIN IMMEDIATE`, which comes before anything is read; a deferred transaction that has read can't
wait.

A handler that commits would part its effect from the row. SQLite asks an authorizer about every statement it
prepares, so while a handler runs COMMIT, ROLLBACK and BEGIN are refused there, and what was written stays in the
transaction.
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Final

from amends.inboxes.statements import SQLITE, SQLITE_SCHEMA, row_of, values_of
from amends.ports.inbox import BARRIER_TABLE, LOCK_WAIT_SECONDS, Busy, NotSerializable, Row, TableMissing

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PRIMARY: Final = 0xFF  # an extended error code is the primary one with more above it


class SqliteInbox:
    """An inbox in the SQLite database at `path`; blocks, so its handlers are plain functions. Needs SQLite 3.24.

    The barrier's tables are made when they are missing. Every commit reaches the disk (`synchronous=FULL`).
    """

    def __init__(
        self, path: str | PathLike[str], /, *, create: bool = True, lock_wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> None:
        self._lock_wait_seconds = lock_wait_seconds
        self._lock = threading.Lock()
        self._handler_runs = False
        self._refused = False
        self._connection = sqlite3.connect(
            fspath(path), timeout=lock_wait_seconds, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        if create:
            self.create()
        self._connection.set_authorizer(self._authorize)

    def create(self) -> None:
        """Make the barrier's tables where they are missing."""
        with self._lock:
            for statement in SQLITE_SCHEMA:
                self._connection.execute(statement)

    def close(self) -> None:
        """Close the connection, after the transaction that is open now."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def open(self) -> Generator["SqliteTransaction", None, None]:
        connection = self._begin()
        self._refused = False
        try:
            yield SqliteTransaction(connection, self)
        finally:
            self._handler_runs = False
            try:
                if connection.in_transaction:
                    connection.rollback()
            finally:
                self._lock.release()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction for the service's own use: committed at the end, rolled back if an exception leaves it."""
        with self.open() as tx:
            yield tx.handle
            tx.commit()

    def join(self, handle: sqlite3.Connection, /) -> "SqliteTransaction":
        return SqliteTransaction(handle, self if handle is self._connection else None)

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        if not isinstance(error, sqlite3.OperationalError):
            return None
        # An error that the module itself raises has no code.
        if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _BUSY:
            return Busy(f"the database is busy: {error}")
        if f"no such table: {BARRIER_TABLE}" in str(error) or f"no such table: main.{BARRIER_TABLE}" in str(error):
            return TableMissing(f"table {BARRIER_TABLE} does not exist. Call create() on the inbox.")
        return None

    def _begin(self) -> sqlite3.Connection:
        if not self._lock.acquire(timeout=self._lock_wait_seconds):
            msg = "another call has the database"
            raise Busy(msg)
        try:
            self._connection.execute("begin immediate")
        except BaseException:
            self._lock.release()
            raise
        return self._connection

    def _authorize(self, operation: int, *_: object) -> int:
        if operation != sqlite3.SQLITE_TRANSACTION or not self._handler_runs:
            return sqlite3.SQLITE_OK
        self._refused = True
        return sqlite3.SQLITE_DENY

    def guard(self, *, handler_runs: bool) -> None:
        """Say whether what is prepared now is a handler's."""
        self._handler_runs = handler_runs

    @property
    def refused(self) -> bool:
        """Since the transaction began, a handler tried to end it."""
        return self._refused


class SqliteTransaction:
    """An open transaction; `inbox` is None where the connection isn't the inbox's own, and nothing guards it."""

    def __init__(self, connection: sqlite3.Connection, inbox: SqliteInbox | None) -> None:
        self._connection = connection
        self._inbox = inbox
        self._cursor = connection.cursor()
        self._cursor.row_factory = None  # whatever rows the service wants for itself

    @property
    def handle(self) -> sqlite3.Connection:
        return self._connection

    @property
    def tampered(self) -> bool:
        return self._inbox is not None and self._inbox.refused

    def insert(self, row: Row) -> bool:
        return self._cursor.execute(SQLITE.insert, values_of(row)).rowcount == 1

    def lock(self, run: str, step: str) -> Row | None:
        found = self._cursor.execute(SQLITE.read, {"run": run, "step": step}).fetchone()
        return None if found is None else row_of(found)

    def read(self, run: str, step: str) -> Row | None:
        return self.lock(run, step)  # a transaction here is the only one

    def update(self, row: Row) -> None:
        self._cursor.execute(SQLITE.update, values_of(row))

    def delete(self, run: str, step: str) -> None:
        self._cursor.execute(SQLITE.delete, {"run": run, "step": step})

    def purged_through(self) -> int:
        return int(self._cursor.execute(SQLITE.purged_through).fetchone()[0])

    def purge(self, age: int, limit: int) -> int:
        through = {"through": self._cursor.execute(SQLITE.ago, {"age": age}).fetchone()[0]}
        if self._cursor.execute(SQLITE.move_mark, through).rowcount == 0:
            self._cursor.execute(SQLITE.first_mark, through)
        return self._cursor.execute(SQLITE.delete_older, {**through, "limit": limit}).rowcount

    def savepoint(self) -> None:
        self._cursor.execute("savepoint amends_handler")
        self._guard(handler_runs=True)

    def release(self) -> bool:
        return self._end_savepoint("release amends_handler")

    def roll_back(self) -> bool:
        return self._end_savepoint("rollback to amends_handler") and self._end_savepoint("release amends_handler")

    def commit(self) -> None:
        self._guard(handler_runs=False)
        # Not execute("commit"): that statement would be kept prepared, and the authorizer isn't asked about it again.
        self._connection.commit()

    def _end_savepoint(self, statement: str) -> bool:
        self._guard(handler_runs=False)
        if self.tampered:
            return False
        try:
            self._cursor.execute(statement)
        except sqlite3.OperationalError as error:
            if "no such savepoint" in str(error):
                return False
            raise
        return True

    def _guard(self, *, handler_runs: bool) -> None:
        if self._inbox is not None:
            self._inbox.guard(handler_runs=handler_runs)
