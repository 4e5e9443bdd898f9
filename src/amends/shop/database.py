"""One service's database, SQLite or PostgreSQL, named by a plain URL."""

from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from amends.inboxes.sqlalchemy import sqlite_settings

POOL: Final = 8
"""Connections to PostgreSQL."""

READERS: Final = 2
"""Connections to SQLite for reading."""


class Database:
    """Sessions on one database. `sqlite:///path` and `postgresql://...` are enough; the async driver is chosen here.

    `sessions` are for what writes. SQLite has one writer, and waiting for its lock is neither fair nor quick; so there
    is one writing connection, and calls queue for it here. `reading` never waits for writers.
    """

    def __init__(self, url: str) -> None:
        sqlite = url.startswith("sqlite")
        self.engine = create_async_engine(driver_url(url), pool_size=1 if sqlite else POOL, max_overflow=0)
        self._readers = create_async_engine(driver_url(url), pool_size=READERS) if sqlite else self.engine
        if sqlite:
            sqlite_settings(self.engine)
        self.sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(self.engine, expire_on_commit=False)
        self.reading: async_sessionmaker[AsyncSession] = async_sessionmaker(self._readers)

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
        await self._readers.dispose()
        await self.engine.dispose()


def driver_url(url: str) -> str:
    """The URL with the async driver named."""
    scheme, colon, rest = url.partition(":")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    return drivers.get(scheme, scheme) + colon + rest
