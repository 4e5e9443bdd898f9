"""The SQLAlchemy inboxes on a real PostgreSQL, under the suite that every inbox passes."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from typing_extensions import override

from amends.inboxes.sqlalchemy import BlockingSqlAlchemyInbox, SqlAlchemyInbox
from amends.testing.contracts.bench import PATIENCE_SECONDS, Bench
from amends.testing.contracts.inbox import InboxContract
from tests.fast.inboxes.test_contract import CREATE, DROP, PUT, TAKE
from tests.support.postgres import Databases


class Other:
    """Somebody else who looks into the service's database, over a connection that is kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def rows(self) -> list[str]:
        return [str(name) for (name,) in self._connection.execute("select name from thing order by name")]

    def drop(self) -> None:
        self._connection.execute(DROP)

    def empty(self) -> None:
        self._connection.execute("drop schema public cascade")
        self._connection.execute("create schema public")
        self._connection.execute(CREATE)

    def close(self) -> None:
        self._connection.close()


class PostgresBench(Bench[AsyncSession]):
    def __init__(self, engine: AsyncEngine, other: Other) -> None:
        self._other = other
        self.sqlalchemy = SqlAlchemyInbox(async_sessionmaker(engine), lock_wait_seconds=PATIENCE_SECONDS)
        self.inbox = self.sqlalchemy

    @override
    async def put(self, tx: AsyncSession, name: str) -> None:
        await tx.execute(text(PUT), {"name": name})

    @override
    async def take(self, tx: AsyncSession, name: str) -> None:
        await tx.execute(text(TAKE), {"name": name})

    @override
    async def rows(self) -> list[str]:
        return self._other.rows()

    @override
    async def end(self, tx: AsyncSession, how: str) -> None:
        await getattr(tx, how)()

    @override
    async def drop(self) -> None:
        self._other.drop()


class BlockingPostgresBench(Bench[Session]):
    def __init__(self, engine: Engine, other: Other) -> None:
        self._other = other
        self.sqlalchemy = BlockingSqlAlchemyInbox(sessionmaker(engine), lock_wait_seconds=PATIENCE_SECONDS)
        self.inbox = self.sqlalchemy

    @override
    async def put(self, tx: Session, name: str) -> None:
        tx.execute(text(PUT), {"name": name})

    @override
    async def take(self, tx: Session, name: str) -> None:
        tx.execute(text(TAKE), {"name": name})

    @override
    async def rows(self) -> list[str]:
        return self._other.rows()

    @override
    async def end(self, tx: Session, how: str) -> None:
        getattr(tx, how)()

    @override
    async def drop(self) -> None:
        self._other.drop()


@pytest.fixture(scope="session")
def somebody(databases: Databases) -> Iterator[Other]:
    """For one service's database."""
    other = Other(databases.new())
    yield other
    other.close()


@pytest.fixture
def emptied(somebody: Other) -> Other:
    """A service's database with nothing in it but its own table."""
    somebody.empty()
    return somebody


def through(driver: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


class TestSqlAlchemyOnPostgres(InboxContract[AsyncSession]):
    """Awaited, through asyncpg."""

    driver = "asyncpg"

    @pytest.fixture
    async def bench(self, emptied: Other) -> AsyncIterator[Bench[AsyncSession]]:
        engine = create_async_engine(through(self.driver, emptied.url))
        bench = PostgresBench(engine, emptied)
        await bench.sqlalchemy.create()
        yield bench
        await engine.dispose()


class TestSqlAlchemyOnPostgresThroughPsycopg(TestSqlAlchemyOnPostgres):
    """Awaited, through psycopg: its errors have other names, and mean the same."""

    driver = "psycopg"


class TestBlockingSqlAlchemyOnPostgres(InboxContract[Session]):
    """For handlers that block, through psycopg."""

    @pytest.fixture
    def bench(self, emptied: Other) -> Iterator[Bench[Session]]:
        engine = create_engine(through("psycopg", emptied.url))
        bench = BlockingPostgresBench(engine, emptied)
        bench.sqlalchemy.create()
        yield bench
        engine.dispose()
