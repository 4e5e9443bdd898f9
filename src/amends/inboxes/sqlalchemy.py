"""The barrier's rows through SQLAlchemy, in the session that the handler works with: PostgreSQL or SQLite.

The statements are constant text, compiled once per dialect and kept; nothing is reflected. The blocking transaction
is the only one written: the awaited one runs it in the session's greenlet.

PostgreSQL: the engine's isolation level should be READ COMMITTED, its default. Under stricter ones a twin costs a
whole run. SQLite: `begin immediate` is sent here, whatever the engine's settings; `sqlite_settings(engine)` turns
on the write-ahead log and full synchronisation, which a service that answers for its rows wants.

While a handler runs, `session.commit()` is refused before it does anything. A rollback can't be refused, but is seen.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TextClause,
    event,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from amends.inboxes.statements import POSTGRES, SQLITE, Statements, row_of, values_of
from amends.ports.inbox import (
    BARRIER_TABLE,
    LOCK_WAIT_SECONDS,
    PURGED_TABLE,
    Busy,
    NotSerializable,
    Row,
    TableMissing,
)

T = TypeVar("T")

_SQLITE_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED
_SQLITE_PRIMARY: Final = 0xFF
_POSTGRES_BUSY: Final = {"55P03": "waited too long for a lock", "40P01": "lost a deadlock"}
_POSTGRES_NOT_SERIALIZABLE: Final = "40001"
_POSTGRES_NO_TABLE: Final = "42P01"
_POSTGRES_NO_SAVEPOINT: Final = frozenset({"3B001", "25P01"})
_PATIENCE: Final = "amends_busy_timeout"  # in the `info` that stays with a pooled connection


# -- the tables


def barrier_table(metadata: MetaData, /) -> Table:
    """Add the barrier's tables to the metadata, so that migrations see them; gives the main one."""
    moment = DateTime(timezone=True).with_variant(BigInteger(), "sqlite")
    number = BigInteger().with_variant(Integer(), "sqlite")
    Table(PURGED_TABLE, metadata, Column("through", moment, nullable=False))
    return Table(
        BARRIER_TABLE,
        metadata,
        Column("run", Text, nullable=False),
        Column("step", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("kind", Text),
        Column("operation", Text),
        Column("request_print", LargeBinary),
        Column("reply_status", Integer),
        Column("reply_type", Text),
        Column("reply", LargeBinary),
        Column("compensation_print", LargeBinary),
        Column("compensation_reply", LargeBinary),
        Column("epoch", number, nullable=False, server_default="0"),
        Column("holder", Text),
        Column("lease_until", moment),
        Column("created_at", moment, nullable=False),
        Column("touched_at", moment, nullable=False),
        PrimaryKeyConstraint("run", "step"),
    )


_TABLES: Final = MetaData()
barrier_table(_TABLES)


class _DbapiCursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def close(self) -> object: ...


class _DbapiConnection(Protocol):
    def cursor(self) -> _DbapiCursor: ...


def sqlite_settings(engine: Engine | AsyncEngine, /) -> None:
    """Give every new connection of a SQLite engine a write-ahead log, full synchronisation and our patience."""

    def prepare(connection: _DbapiConnection, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode = wal", "synchronous = full", f"busy_timeout = {LOCK_WAIT_SECONDS * 1000}"):
            cursor.execute(f"pragma {pragma}")
        cursor.close()

    event.listen(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "connect", prepare)


# -- the inboxes


class BlockingSqlAlchemyInbox:
    """An inbox for handlers that block; they are given a `Session`."""

    def __init__(self, sessions: sessionmaker[Session], /, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS) -> None:
        self._sessions = sessions
        self._patience = round(lock_wait_seconds * 1000)

    def create(self) -> None:
        """Make the barrier's tables where they are missing."""
        with self._sessions.begin() as session:
            _TABLES.create_all(session.connection())

    @contextmanager
    def open(self) -> Generator["SqlAlchemyTransaction", None, None]:
        with self._sessions() as session:
            tx = SqlAlchemyTransaction(session)
            tx.begin(self._patience)
            try:
                yield tx
            finally:
                tx.end()

    @contextmanager
    def transaction(self) -> Generator[Session, None, None]:
        """A transaction for the service's own use: committed at the end, rolled back if an exception leaves it."""
        with self.open() as tx:
            yield tx.handle
            tx.commit()

    def join(self, handle: Session, /) -> "SqlAlchemyTransaction":
        return SqlAlchemyTransaction(handle)

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        return _classify(error)


class SqlAlchemyInbox:
    """An inbox for handlers that are awaited; they are given an `AsyncSession`."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], /, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> None:
        self._sessions = sessions
        self._patience = round(lock_wait_seconds * 1000)

    async def create(self) -> None:
        """Make the barrier's tables where they are missing."""
        async with self._sessions.begin() as session:
            await session.run_sync(lambda blocking: _TABLES.create_all(blocking.connection()))

    @asynccontextmanager
    async def open_async(self) -> AsyncGenerator["AsyncSqlAlchemyTransaction", None]:
        async with self._sessions() as session:
            tx = AsyncSqlAlchemyTransaction(session)
            await tx.begin(self._patience)
            try:
                yield tx
            finally:
                tx.end()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession, None]:
        """A transaction for the service's own use: committed at the end, rolled back if an exception leaves it."""
        async with self.open_async() as tx:
            yield tx.handle
            await tx.commit()

    def join_async(self, handle: AsyncSession, /) -> "AsyncSqlAlchemyTransaction":
        return AsyncSqlAlchemyTransaction(handle)

    def classify(self, error: Exception, /) -> Busy | NotSerializable | TableMissing | None:
        return _classify(error)


# -- the transactions


class _Dialect:
    """The statements of one database as SQLAlchemy takes them; what inserts and deletes is asked for its rows."""

    def __init__(self, sql: Statements) -> None:
        self.insert: TextClause = text(f"{sql.insert} returning 1")
        self.lock: TextClause = text(sql.lock)
        self.read: TextClause = text(sql.read)
        self.update: TextClause = text(sql.update)
        self.delete: TextClause = text(sql.delete)
        self.purged_through: TextClause = text(sql.purged_through)
        self.ago: TextClause = text(sql.ago)
        self.move_mark: TextClause = text(f"{sql.move_mark} returning 1")
        self.first_mark: TextClause = text(sql.first_mark)
        self.delete_older: TextClause = text(f"{sql.delete_older} returning 1")


_DIALECTS: Final = {
    "postgresql": _Dialect(POSTGRES),
    "sqlite": _Dialect(SQLITE),
}


class SqlAlchemyTransaction:
    """The open transaction of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection: Connection | None = None
        self._savepoint: SessionTransaction | None = None
        self._handler_runs = False
        self._tampered = False

    @property
    def handle(self) -> Session:
        return self._session

    @property
    def tampered(self) -> bool:
        return self._tampered

    def begin(self, patience_milliseconds: int) -> None:
        """Begin as the barrier wants it: patience limited, and on SQLite the write lock before anything is read."""
        connection = self._connected()
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"set local lock_timeout = {patience_milliseconds}")
        if connection.dialect.name == "sqlite":
            if connection.info.get(_PATIENCE) != patience_milliseconds:
                connection.exec_driver_sql(f"pragma busy_timeout = {patience_milliseconds}")
                connection.info[_PATIENCE] = patience_milliseconds
            # An engine may have its own way to begin; then our insert comes first in it, which does as well.
            if not getattr(connection.connection.driver_connection, "in_transaction", False):
                connection.exec_driver_sql("begin immediate")
        event.listen(self._session, "before_commit", self._before_commit)

    def end(self) -> None:
        """Stop watching the session."""
        self._handler_runs = False
        event.remove(self._session, "before_commit", self._before_commit)

    def insert(self, row: Row) -> bool:
        connection = self._connected()
        return connection.execute(_dialect(connection).insert, values_of(row)).first() is not None

    def lock(self, run: str, step: str) -> Row | None:
        connection = self._connected()
        found = connection.execute(_dialect(connection).lock, {"run": run, "step": step}).first()
        return None if found is None else row_of(found)

    def read(self, run: str, step: str) -> Row | None:
        connection = self._connected()
        found = connection.execute(_dialect(connection).read, {"run": run, "step": step}).first()
        return None if found is None else row_of(found)

    def update(self, row: Row) -> None:
        connection = self._connected()
        connection.execute(_dialect(connection).update, values_of(row))

    def delete(self, run: str, step: str) -> None:
        connection = self._connected()
        connection.execute(_dialect(connection).delete, {"run": run, "step": step})

    def purged_through(self) -> int:
        connection = self._connected()
        return int(connection.execute(_dialect(connection).purged_through).scalar_one())

    def purge(self, age: int, limit: int) -> int:
        connection = self._connected()
        sql = _dialect(connection)
        through = {"through": connection.execute(sql.ago, {"age": age}).scalar_one()}
        if connection.execute(sql.move_mark, through).first() is None:
            connection.execute(sql.first_mark, through)
        return len(connection.execute(sql.delete_older, {**through, "limit": limit}).all())

    def savepoint(self) -> None:
        self._savepoint = self._session.begin_nested()
        self._handler_runs = True

    def release(self) -> bool:
        return self._end_savepoint(SessionTransaction.commit)

    def roll_back(self) -> bool:
        return self._end_savepoint(SessionTransaction.rollback)

    def commit(self) -> None:
        self._handler_runs = False
        self._session.commit()

    def _end_savepoint(self, how: Callable[[SessionTransaction], object]) -> bool:
        self._handler_runs = False
        savepoint = self._savepoint
        if self._tampered or savepoint is None or not self._is_open(savepoint):
            self._tampered = True
            return False
        try:
            how(savepoint)
        except DBAPIError as error:
            if not _says_no_savepoint(error):
                raise
            self._tampered = True
            return False
        return True

    def _is_open(self, savepoint: SessionTransaction) -> bool:
        """Whether the savepoint is still one of the session's; the handler may have set others inside of it."""
        current = self._session.get_nested_transaction()
        while current is not None and current is not savepoint:
            current = current.parent
        return current is savepoint

    def _before_commit(self, session: Session) -> None:
        # Savepoints of the handler's own pass: they end inside of ours.
        if self._handler_runs and session.get_nested_transaction() is self._savepoint:
            self._tampered = True
            msg = "the barrier commits this session, together with its row; remove this commit"
            raise RuntimeError(msg)

    def _connected(self) -> Connection:
        # Asked for each time: a session that was rolled back has another connection.
        return self._session.connection()


class AsyncSqlAlchemyTransaction:
    """The open transaction of an `AsyncSession`: the blocking one, run in the session's greenlet."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._inner = SqlAlchemyTransaction(session.sync_session)

    @property
    def handle(self) -> AsyncSession:
        return self._session

    @property
    def tampered(self) -> bool:
        return self._inner.tampered

    async def begin(self, patience_milliseconds: int) -> None:
        await self._do(lambda: self._inner.begin(patience_milliseconds))

    def end(self) -> None:
        self._inner.end()

    async def insert(self, row: Row) -> bool:
        return await self._do(lambda: self._inner.insert(row))

    async def lock(self, run: str, step: str) -> Row | None:
        return await self._do(lambda: self._inner.lock(run, step))

    async def read(self, run: str, step: str) -> Row | None:
        return await self._do(lambda: self._inner.read(run, step))

    async def update(self, row: Row) -> None:
        await self._do(lambda: self._inner.update(row))

    async def delete(self, run: str, step: str) -> None:
        await self._do(lambda: self._inner.delete(run, step))

    async def purged_through(self) -> int:
        return await self._do(self._inner.purged_through)

    async def purge(self, age: int, limit: int) -> int:
        return await self._do(lambda: self._inner.purge(age, limit))

    async def savepoint(self) -> None:
        await self._do(self._inner.savepoint)

    async def release(self) -> bool:
        return await self._do(self._inner.release)

    async def roll_back(self) -> bool:
        return await self._do(self._inner.roll_back)

    async def commit(self) -> None:
        await self._do(self._inner.commit)

    async def _do(self, what: Callable[[], T]) -> T:
        return await self._session.run_sync(lambda _: what())


def _dialect(connection: Connection) -> _Dialect:
    try:
        return _DIALECTS[connection.dialect.name]
    except KeyError:
        msg = f"the barrier knows no {connection.dialect.name}: use PostgreSQL or SQLite"
        raise NotImplementedError(msg) from None


# -- what errors mean


def _classify(error: Exception) -> Busy | NotSerializable | TableMissing | None:
    if not isinstance(error, DBAPIError):
        return None
    state = _sqlstate(error)
    if state in _POSTGRES_BUSY:
        return Busy(_POSTGRES_BUSY[state])
    if state == _POSTGRES_NOT_SERIALIZABLE:
        return NotSerializable(str(error.orig))
    if _sqlite_code(error) in _SQLITE_BUSY:
        return Busy(f"the database is busy: {error.orig}")
    said = str(error.orig)
    if BARRIER_TABLE in said and (state == _POSTGRES_NO_TABLE or "no such table" in said):
        dialect = "sqlite" if state is None else "postgresql"
        return TableMissing(
            f"table {BARRIER_TABLE} does not exist. Run: amends schema show --barrier {dialect}, or add "
            f"barrier_table(metadata) and migrate."
        )
    return None


def _says_no_savepoint(error: DBAPIError) -> bool:
    return _sqlstate(error) in _POSTGRES_NO_SAVEPOINT or "no such savepoint" in str(error.orig)


def _sqlstate(error: DBAPIError) -> str | None:
    """What psycopg calls `sqlstate` and SQLAlchemy's shell around asyncpg also `pgcode`."""
    return cast("str | None", getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None))


def _sqlite_code(error: DBAPIError) -> int | None:
    code = cast("int | None", getattr(error.orig, "sqlite_errorcode", None))
    return None if code is None else code & _SQLITE_PRIMARY
