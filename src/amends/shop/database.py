"""One service's database, SQLite or PostgreSQL, named by a plain URL."""

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

BUSY_SECONDS: Final = 5
"""How long SQLite waits for its one write lock before it gives up."""

POOL: Final = 8
"""Connections. SQLite has one writer anyway; more of them only wait for each other."""


class Database:
    """Sessions on one database. `sqlite:///path` and `postgresql://...` are enough; the async driver is chosen here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_async_engine(driver_url(url), pool_size=POOL, max_overflow=0, connect_args=_arguments(url))
        if url.startswith("sqlite"):
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
        self.sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(self.engine, expire_on_commit=False)

    async def prepare(self, base: type[DeclarativeBase], stock_up: Callable[[], Iterable[object]]) -> None:
        """Make the tables, and fill them once: a database that has seen a start before keeps what it has."""
        async with self.engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        async with self.sessions.begin() as session:
            rows = list(stock_up())
            if rows and not await session.scalar(select(func.count()).select_from(type(rows[0]))):
                session.add_all(rows)

    async def close(self) -> None:
        """Let go of every connection."""
        await self.engine.dispose()


def driver_url(url: str) -> str:
    """The URL with the async driver named."""
    scheme, colon, rest = url.partition(":")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    return drivers.get(scheme, scheme) + colon + rest


def _arguments(url: str) -> dict[str, Any]:
    return {"timeout": BUSY_SECONDS} if url.startswith("sqlite") else {}


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def close(self) -> object: ...


class _Connection(Protocol):
    def cursor(self) -> _Cursor: ...


def _prepare_sqlite(connection: _Connection, _record: object) -> None:
    """Readers don't wait for the writer; what is committed survives a power failure (the default,
    `synchronous=FULL`).
    """
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode = wal")
    cursor.close()
