"""The SQLAlchemy inboxes on a real PostgreSQL, under the suite that every inbox passes."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from typing_extensions import override

from amends.inboxes.sqlalchemy import BlockingSqlAlchemyInbox, SqlAlchemyInbox
from amends.testing.contracts.bench import PATIENCE_SECONDS, Bench
from amends.testing.contracts.inbox import InboxContract
from amends.testing.postgres_server import ask
from tests.inboxes.test_contract import CREATE, DROP, PUT, TAKE
from tests.support.postgres import Databases


class PostgresBench(Bench[AsyncSession]):
    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self._url = url
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
        return ask(self._url, "select name from thing order by name").split()

    @override
    async def end(self, tx: AsyncSession, how: str) -> None:
        await getattr(tx, how)()

    @override
    async def drop(self) -> None:
        ask(self._url, DROP)


class BlockingPostgresBench(Bench[Session]):
    def __init__(self, engine: Engine, url: str) -> None:
        self._url = url
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
        return ask(self._url, "select name from thing order by name").split()

    @override
    async def end(self, tx: Session, how: str) -> None:
        getattr(tx, how)()

    @override
    async def drop(self) -> None:
        ask(self._url, DROP)


@pytest.fixture(scope="session")
def service_database(databases: Databases) -> str:
    return databases.new()


@pytest.fixture
def emptied(service_database: str) -> str:
    """A service's database with nothing in it but its own table."""
    ask(service_database, f"drop schema public cascade; create schema public; {CREATE}")
    return service_database


def through(driver: str, url: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


class TestSqlAlchemyOnPostgres(InboxContract[AsyncSession]):
    """Awaited, through asyncpg."""

    driver = "asyncpg"

    @pytest.fixture
    async def bench(self, emptied: str) -> AsyncIterator[Bench[AsyncSession]]:
        engine = create_async_engine(through(self.driver, emptied))
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
    def bench(self, emptied: str) -> Iterator[Bench[Session]]:
        engine = create_engine(through("psycopg", emptied))
        bench = BlockingPostgresBench(engine, emptied)
        bench.sqlalchemy.create()
        yield bench
        engine.dispose()
