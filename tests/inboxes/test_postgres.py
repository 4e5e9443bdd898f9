"""The SQLAlchemy inboxes on a real PostgreSQL, under the suite that every inbox passes."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from typing_extensions import override

from amends.inboxes.sqlalchemy import SqlAlchemyInbox
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


@pytest.fixture(scope="session")
def service_database(databases: Databases) -> str:
    return databases.new()


class TestSqlAlchemyOnPostgres(InboxContract[AsyncSession]):
    @pytest.fixture
    async def bench(self, service_database: str) -> AsyncIterator[Bench[AsyncSession]]:
        url = service_database
        ask(url, f"drop schema public cascade; create schema public; {CREATE}")
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        bench = PostgresBench(engine, url)
        await bench.sqlalchemy.create()
        yield bench
        await engine.dispose()
